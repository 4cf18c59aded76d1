"""What a schedule must read and compute, and how long that takes at least.

Decoding is bound by reading: with every pass the weights of the decoder, and the keys and values of
every token that is attended to, once for all that attend to them together. Encoding a page is bound
by arithmetic. What a way of running the model reads or computes beyond that is its own affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of a KOSMOS-2.5 that decide what it reads and computes."""

    weight_bytes: int
    """Of the decoder and its output layer: what a pass reads."""

    token_bytes: int
    """Of the keys and values of one token."""

    prefix: int
    """Tokens before the task token."""

    vision_weights: int
    """Weights that every patch is multiplied with."""

    vision_width: int
    vision_layers: int
    latents: int
    width: int
    layers: int
    decoder_weights: int
    """Without the output layer: what every token of the prefix is multiplied with."""

    def encode_flops(self, patches: int) -> float:
        """Operations from the patches of a page to the keys and values of its prefix."""
        vision = 2 * patches * self.vision_weights
        vision += 4 * patches**2 * self.vision_width * self.vision_layers
        # a dense layer for the patches; query and output for the latents, key and value for all
        seen = patches + self.latents
        resampler = 2 * patches * self.vision_width * self.width
        resampler += 2 * (2 * self.latents + 2 * seen) * self.width**2
        resampler += 4 * self.latents * seen * self.width
        prefill = 2 * self.prefix * self.decoder_weights
        prefill += 2 * self.prefix**2 * self.width * self.layers  # causal: half of all pairs
        return float(vision + resampler + prefill)

    def decode_bytes(self, passes: int, attended: int) -> float:
        """Bytes read by `passes` passes that attend to `attended` tokens in all."""
        return float(passes * self.weight_bytes + attended * self.token_bytes)


def geometry_of(model: Any) -> Geometry:
    """The geometry of a `Kosmos2_5ForConditionalGeneration`."""
    config = model.config
    vision, text = config.vision_config, config.text_config
    decoder = _weights(model.text_model.model.layers)
    head = model.text_model.lm_head.weight
    size = head.element_size()
    tower = _weights(model.vision_model.encoder)
    return Geometry(
        weight_bytes=(decoder + head.numel()) * size,
        token_bytes=2 * text.layers * text.embed_dim * size,
        prefix=config.latent_query_num + 3,
        vision_weights=tower + _weights(model.vision_model.embeddings.patch_projection),
        vision_width=vision.num_attention_heads * vision.head_dim,
        vision_layers=vision.num_hidden_layers,
        latents=config.latent_query_num,
        width=text.embed_dim,
        layers=text.layers,
        decoder_weights=decoder,
    )


def _weights(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


@dataclass(frozen=True, slots=True)
class Device:
    """What a device does at best."""

    bandwidth: float
    """Bytes a second."""

    flops: float
    """Operations a second."""

    def seconds(self, read: float, computed: float) -> float:
        """The least time for bytes read in decoding and operations computed in encoding."""
        return read / self.bandwidth + computed / self.flops
