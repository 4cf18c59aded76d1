"""KOSMOS-2.5 as functions on its weights: encode a page, run its prefix, run a step.

The weights are those of transformers' `Kosmos2_5ForConditionalGeneration`, whose code is the
reference for every line here; tests compare the two number by number. What differs is how it is
computed, never what: query, key and value come out of one matrix product, attention is
`scaled_dot_product_attention` throughout (the library's vision tower always materialises the
scores), of the padding rows of a page one stands for all, and of the prefix's last layer only keys
and values are computed, since no token is predicted there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from kosmos_loader.errors import ModelError

if TYPE_CHECKING:
    from kosmos_loader.engine.patches import Patches

Attend = Callable[[int, Any, Any, Any], Any]
"""(layer, query, key, value), each [N, heads, head size], to [N, width]: writes keys and values
into the cache and attends to what each token may see."""

Keep = Callable[[int, Any, Any], None]
"""(layer, key, value), each [B, P, heads, head size]: puts them into the cache."""


@dataclass(frozen=True, eq=False, slots=True)
class Linear:
    """`x @ weight.T + bias`; weight [out, in]."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """[..., out] of [..., in]."""
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True, eq=False, slots=True)
class LayerNorm:
    """Layer normalisation with bias."""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """`x` normalised along its last side."""
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True, eq=False, slots=True)
class RMSNorm:
    """Root-mean-square normalisation as in T5: no mean, no bias."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """`x` normalised along its last side."""
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True, eq=False, slots=True)
class VisionLayer:
    """A layer of the vision tower: attention and a gated feed-forward, normalised before each."""

    attention_norm: RMSNorm
    query_key_value: Linear
    output: Linear
    mlp_norm: RMSNorm
    gate_and_value: Linear
    down: Linear


@dataclass(frozen=True, eq=False, slots=True)
class DecoderLayer:
    """A layer of the decoder."""

    attention_norm: LayerNorm
    query_key_value: Linear
    output: Linear
    mlp_norm: LayerNorm
    up: Linear
    inner_norm: LayerNorm
    down: Linear


@dataclass(frozen=True, eq=False)
class Kosmos:
    """The weights, and the functions on them. Shapes: B pages, P prefix tokens, N step tokens."""

    vision_heads: int
    heads: int
    patch_projection: Linear
    rows: Tensor
    columns: Tensor
    vision_layers: tuple[VisionLayer, ...]
    vision_norm: RMSNorm
    dense: Linear
    latents: Tensor
    resampler_query: Linear
    resampler_key_value: Linear
    resampler_output: Linear
    tokens: Tensor
    positions: Tensor
    segments: Tensor
    scale: float
    padding: int
    """The padding token, and the row of `positions` that it has wherever it stands; prompts begin
    at the row behind."""

    layers: tuple[DecoderLayer, ...]
    norm: LayerNorm
    head: Tensor

    @classmethod
    def of(cls, model: Any) -> Kosmos:
        """The weights of a loaded `Kosmos2_5ForConditionalGeneration`, fused where that is faster.

        `ModelError` where they are not laid out as this module knows them.
        """
        try:
            return _weights(model)
        except (AttributeError, KeyError, RuntimeError) as error:
            raise ModelError(
                f"the weights are not laid out as the fast engine knows them ({error}); read with "
                "engine='reference', and install a version of transformers named in constraints.txt"
            ) from error

    @property
    def width(self) -> int:
        """Of the decoder."""
        return int(self.tokens.shape[1])

    @property
    def head_size(self) -> int:
        """Of the decoder."""
        return self.width // self.heads

    @property
    def prefix(self) -> int:
        """Tokens before the task token: one to begin, the picture, and its two brackets."""
        return int(self.latents.shape[0]) + 3

    def encode(self, pages: Sequence[Patches]) -> Tensor:
        """[B, latents, width]: what the decoder sees of pages with equally many patches."""
        device, dtype = self.tokens.device, self.tokens.dtype
        hidden = torch.stack([page.pixels for page in pages]).to(device, dtype)
        rows = torch.stack([page.rows for page in pages]).to(device)
        columns = torch.stack([page.columns for page in pages]).to(device)
        hidden = self.patch_projection(hidden) + self.rows[rows] + self.columns[columns]
        seen = hidden.shape[1]
        padding = pages[0].padding
        if padding:
            # all padding rows are alike: no pixels, row and column 0
            pad = torch.zeros(1, 1, self.patch_projection.weight.shape[1], dtype=dtype)
            blank = self.patch_projection(pad.to(device)) + self.rows[0] + self.columns[0]
            hidden = torch.cat([hidden, blank.expand(hidden.shape[0], -1, -1)], dim=1)
        for layer in self.vision_layers:
            hidden = self._vision_layer(layer, hidden, seen)
        return self._resample(hidden, padding)

    def _vision_layer(self, layer: VisionLayer, hidden: Tensor, seen: int) -> Tensor:
        """Padding is not seen and does see: [B, n, width] of which the first `seen` are keys."""
        query, key, value = _heads(
            layer.query_key_value(layer.attention_norm(hidden)), 3, self.vision_heads
        )
        found = functional.scaled_dot_product_attention(query, key[:, :, :seen], value[:, :, :seen])
        hidden = layer.output(found.transpose(1, 2).flatten(2)) + hidden
        gate, up = layer.gate_and_value(layer.mlp_norm(hidden)).chunk(2, dim=-1)
        gated = functional.gelu(gate, approximate="tanh") * up
        return layer.down(gated) + hidden

    def _resample(self, features: Tensor, padding: int) -> Tensor:
        """[B, latents, width]. The one padding row counts as often as it would stand there.

        The library hides no padding from the resampler: n equal keys with one score s weigh as
        much as one with s + log n.
        """
        features = self.dense(functional.normalize(self.vision_norm(features), dim=-1))
        pages, seen = features.shape[:2]
        latents = self.latents.expand(pages, -1, -1)
        key, value = _heads(
            self.resampler_key_value(torch.cat([features, latents], dim=1)), 2, self.heads
        )
        (query,) = _heads(self.resampler_query(latents), 1, self.heads)
        bias = None
        if padding:
            bias = torch.zeros(1, 1, 1, key.shape[2], dtype=features.dtype, device=features.device)
            bias[..., seen - 1] = math.log(padding)
            # expanded, since not every kernel broadcasts over queries
            bias = bias.expand(pages, self.heads, query.shape[2], -1)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.resampler_output(found.transpose(1, 2).flatten(2))

    def prefill(self, latents: Tensor, ids: Tensor, keep: Keep) -> None:
        """Gives `keep` keys and values of the prefix of B pages, a layer at a time.

        `latents` is what `encode` gives, `ids` [P] the prefix with any token in the picture's
        places. No layer is held while the next is computed: all of them are as large as the cache.
        """
        pages, count = latents.shape[:2]
        embedded = self.tokens[ids].expand(pages, -1, -1).clone()
        embedded[:, 2 : 2 + count] = latents
        first = self.padding + 1
        positions = self.positions[first : first + self.prefix].clone()
        positions[0] += self.segments[0]
        positions[1:] += self.segments[1]
        hidden = embedded * self.scale + positions
        for number, layer in enumerate(self.layers):
            query, key, value = layer_input(layer, hidden, self.heads)
            keep(number, key, value)
            if layer is self.layers[-1]:
                return
            found = functional.scaled_dot_product_attention(
                query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), is_causal=True
            )
            hidden = layer_output(layer, hidden, found.transpose(1, 2).flatten(2))
            del query, key, value, found

    def logits(self, ids: Tensor, places: Tensor, attend: Attend) -> Tensor:
        """[N, vocabulary]: how likely the model finds each token after each of N tokens.

        `ids` [N], `places` [N] count from the beginning of the prompt; `attend` knows the cache.
        """
        embedded = functional.embedding(ids, self.tokens) * self.scale
        # the library gives a padding token no position, even one that the model wrote
        rows = torch.where(ids == self.padding, self.padding, places + self.padding + 1)
        hidden = embedded + self.positions[rows] + self.segments[0]
        for number, layer in enumerate(self.layers):
            query, key, value = layer_input(layer, hidden, self.heads)
            hidden = layer_output(layer, hidden, attend(number, query, key, value))
        return functional.linear(self.norm(hidden), self.head)


def layer_input(layer: DecoderLayer, hidden: Tensor, heads: int) -> tuple[Tensor, ...]:
    """Query, key and value, [..., heads, head size] each."""
    states = layer.query_key_value(layer.attention_norm(hidden))
    return states.view(*hidden.shape[:-1], 3, heads, -1).unbind(-3)


def layer_output(layer: DecoderLayer, hidden: Tensor, found: Tensor) -> Tensor:
    """The hidden states behind the layer, from those before it and what attention found."""
    hidden = hidden + layer.output(found)
    inner = functional.gelu(layer.up(layer.mlp_norm(hidden)))
    return hidden + layer.down(layer.inner_norm(inner))


def _heads(states: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """[B, n, parts * width] as `parts` tensors [B, heads, n, head size]."""
    apart = states.view(*states.shape[:-1], parts, heads, -1)
    return apart.permute(2, 0, 3, 1, 4).unbind(0)


def _weights(model: Any) -> Kosmos:
    config = model.config.text_config
    vision, resampler, text = model.vision_model, model.image_to_text_projection, model.text_model
    decoder = text.model
    positions = decoder.embed_positions.weights
    embedding = decoder.embed_tokens.weight
    with torch.no_grad():
        return Kosmos(
            vision_heads=model.config.vision_config.num_attention_heads,
            heads=config.attention_heads,
            patch_projection=_linear(vision.embeddings.patch_projection),
            rows=vision.embeddings.row_embedder.weight.detach(),
            columns=vision.embeddings.column_embedder.weight.detach(),
            vision_layers=tuple(_vision_layer(layer) for layer in vision.encoder.layer),
            vision_norm=_rms_norm(vision.layernorm),
            dense=_linear(resampler.dense),
            latents=resampler.latent_query.detach(),
            resampler_query=_linear(resampler.x_attn.q_proj),
            resampler_key_value=_linear(resampler.x_attn.k_proj, resampler.x_attn.v_proj),
            resampler_output=_linear(resampler.x_attn.out_proj),
            tokens=embedding.detach(),
            positions=positions.to(embedding.device, embedding.dtype),
            segments=decoder.segment_emb.weight.detach(),
            scale=decoder.embed_scale,
            padding=config.pad_token_id,
            layers=tuple(_decoder_layer(layer) for layer in decoder.layers),
            norm=_layer_norm(decoder.layer_norm),
            head=text.lm_head.weight.detach(),
        )


def _vision_layer(layer: Any) -> VisionLayer:
    attention, mlp = layer.attention, layer.mlp
    return VisionLayer(
        _rms_norm(layer.pre_attention_layer_norm),
        _linear(attention.query, attention.key, attention.value),
        _linear(attention.output),
        _rms_norm(layer.pre_mlp_layer_norm),
        _linear(mlp.wi_0, mlp.wi_1),
        _linear(mlp.wo),
    )


def _decoder_layer(layer: Any) -> DecoderLayer:
    attention, feed_forward = layer.self_attn, layer.ffn
    return DecoderLayer(
        _layer_norm(layer.self_attn_layer_norm),
        _linear(attention.q_proj, attention.k_proj, attention.v_proj),
        _linear(attention.out_proj),
        _layer_norm(layer.final_layer_norm),
        _linear(feed_forward.fc1),
        _layer_norm(feed_forward.ffn_layernorm),
        _linear(feed_forward.fc2),
    )


def _linear(*parts: Any) -> Linear:
    """One product in place of several on the same input."""
    if len(parts) == 1:
        bias = parts[0].bias
        return Linear(parts[0].weight.detach(), None if bias is None else bias.detach())
    weight = torch.cat([part.weight.detach() for part in parts])
    if parts[0].bias is None:
        return Linear(weight)
    return Linear(weight, torch.cat([part.bias.detach() for part in parts]))


def _layer_norm(norm: Any) -> LayerNorm:
    return LayerNorm(norm.weight.detach(), norm.bias.detach(), norm.eps)


def _rms_norm(norm: Any) -> RMSNorm:
    return RMSNorm(norm.weight.detach(), norm.variance_epsilon)
