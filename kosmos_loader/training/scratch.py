"""A small KOSMOS-2.5 to train from nothing: sizes, tokenizer, processor and starting weights.

Plain random weights did not get off the ground in the time that these took to read: what matters
is that the resampler begins as a map from each latent query to the patches it stands for, and that
near coordinates have near embeddings. All classes are those of transformers, unchanged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kosmos_loader.errors import UsageError, require

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a model; the default is what `tests/assets/kosmos-2.5-nano` began with.

    It sees a page of `rows` x `columns` patches of 16 x 16 pixels and holds `per_latent` of them,
    side by side in a row, in each latent query.
    """

    rows: int = 10
    columns: int = 16
    per_latent: int = 2
    width: int = 128
    """Of the vision tower and the decoder alike."""

    heads: int = 4
    layers: int = 4
    feed_forward: int = 512
    vision_layers: int = 3
    vision_feed_forward: int = 256
    coordinates: int = 256
    """Tags `<x_i>` and `<y_i>`, and with them the pixels of the resized page that they reach."""

    context: int = 640

    def __post_init__(self) -> None:
        if self.columns % self.per_latent or self.heads % self.per_latent:
            raise UsageError("columns and heads must be multiples of per_latent")
        if self.rows + self.columns > self.width // self.heads:
            raise UsageError("a head must be at least as wide as rows and columns together")

    @property
    def patches(self) -> int:
        """Patches that the model sees of a page."""
        return self.rows * self.columns

    @property
    def latents(self) -> int:
        """Picture tokens in the prompt."""
        return self.patches // self.per_latent


SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
"""Tokens 0 to 3, as in the released tokenizer."""


def byte_tokenizer(*, coordinates: int) -> Any:
    """A tokenizer of single bytes with the released special tokens and both coordinate families.

    It writes any text without loss. Ids 0 to 3 are those of the released one, the others not.
    """
    tokenizers = require("tokenizers", extra="kosmos")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *alphabet])}
    core = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>")  # noqa: S106 - no secret
    )
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = tokenizers.decoders.ByteLevel()
    return with_tags(core, coordinates=coordinates)


def with_tags(core: Any, *, coordinates: int) -> Any:
    """The `tokenizers.Tokenizer` `core` with the released special tokens and coordinate tags."""
    transformers = require("transformers", extra="kosmos")
    core.add_special_tokens([*SPECIALS, "<ocr>", "<image>", "</image>", "</chunk>", "<md>"])
    sides = [f"<{axis}_{i}>" for i in range(coordinates) for axis in "xy"]
    core.add_tokens(["<bbox>", "</bbox>", *sides])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",  # noqa: S106 - no secret
        eos_token="</s>",  # noqa: S106 - no secret
        pad_token="<pad>",  # noqa: S106 - no secret
        unk_token="<unk>",  # noqa: S106 - no secret
        extra_special_tokens={
            "image_token": "<s>",
            "boi_token": "<image>",
            "eoi_token": "</image>",
        },
        padding_side="right",
    )


def new_processor(sizes: Sizes) -> Any:
    """The processor of a model of `sizes`, with its tokenizer."""
    require("transformers", extra="kosmos")
    from transformers.models.kosmos2_5.image_processing_pil_kosmos2_5 import (
        Kosmos2_5ImageProcessorPil,
    )
    from transformers.models.kosmos2_5.processing_kosmos2_5 import Kosmos2_5Processor

    pictures = Kosmos2_5ImageProcessorPil(max_patches=sizes.patches)
    tokenizer = byte_tokenizer(coordinates=sizes.coordinates)
    return Kosmos2_5Processor(pictures, tokenizer, num_image_tokens=sizes.latents)


def new_model(sizes: Sizes, tokenizer: Any, *, seed: int) -> Any:
    """A model of `sizes` with starting weights that depend on `seed` alone."""
    torch = require("torch", extra="kosmos")
    transformers = require("transformers", extra="kosmos")
    text = transformers.Kosmos2_5TextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=sizes.context,
        embed_dim=sizes.width,
        ffn_dim=sizes.feed_forward,
        layers=sizes.layers,
        attention_heads=sizes.heads,
        dropout=0.0,
    )
    vision = transformers.Kosmos2_5VisionConfig(
        hidden_size=sizes.width,
        intermediate_size=sizes.vision_feed_forward,
        head_dim=sizes.width // sizes.heads,
        num_attention_heads=sizes.heads,
        num_hidden_layers=sizes.vision_layers,
        max_num_patches=sizes.patches,
    )
    config = transformers.Kosmos2_5Config(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        latent_query_num=sizes.latents,
    )
    model = transformers.Kosmos2_5ForConditionalGeneration(config)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        _spread(model, sizes, chance)
        _place_patches(model, sizes, chance)
        _place_coordinates(model, tokenizer, sizes)
    return model


# Standard deviations of the matrices, by the end of their name; the first that fits holds. Those
# that write into the residual stream are small, so that what stands there is seen through.
_SPREADS = (
    ("patch_projection.weight", 0.01),
    ("attention.output.weight", 0.02),
    ("wo.weight", 0.02),
    ("out_proj.weight", 0.03),
    ("fc2.weight", 0.015),
    ("segment_emb.weight", 0.1),
    ("weight", 0.088),
)


def _spread(model: Any, sizes: Sizes, chance: torch.Generator) -> None:
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            spread = next((spread for end, spread in _SPREADS if name.endswith(end)), 1.0)
            weight.normal_(0.0, spread * math.sqrt(128 / sizes.width), generator=chance)
    tokens = model.text_model.model.embed_tokens
    tokens.weight[tokens.padding_idx] = 0.0


def _place_patches(model: Any, sizes: Sizes, chance: torch.Generator) -> None:
    """Row and column codes, and latent queries that look for those of their own patches.

    Within each head of the resampler all codes are orthonormal, and the heads share the patches of
    a latent out among them: with two patches, the first half of the heads sees the left one. So the
    picture tokens begin as the features of their patches, side by side and in order.
    """
    torch = require("torch", extra="kosmos")
    head = sizes.width // sizes.heads
    codes = torch.cat(
        [_orthonormal(head, chance)[: sizes.rows + sizes.columns] for _ in range(sizes.heads)],
        dim=1,
    )
    rows, columns = codes[: sizes.rows], codes[sizes.rows :]
    vision = model.vision_model.embeddings
    # about twice as long as what the pixels of a glyph add, so that a glyph hides no place
    vision.row_embedder.weight[1 : sizes.rows + 1] = 4.0 * rows
    vision.column_embedder.weight[1 : sizes.columns + 1] = 4.0 * columns

    resampler = model.image_to_text_projection
    queries = torch.zeros(sizes.rows, sizes.columns // sizes.per_latent, sizes.width)
    share = sizes.width // sizes.per_latent
    for part in range(sizes.per_latent):
        place = slice(part * share, (part + 1) * share)
        queries[..., place] = rows[:, None, place] + columns[None, part :: sizes.per_latent, place]
    resampler.latent_query.copy_(queries.flatten(0, 1))
    # The gains make the score of a patch's own place some 12, of its neighbours in the row 6, and
    # keep the queries, which are keys as well, below 2.
    same = torch.eye(sizes.width)
    resampler.dense.weight.copy_(20.0 * same)
    resampler.x_attn.q_proj.weight.copy_(5.5 * same)
    resampler.x_attn.k_proj.weight.copy_(same)
    resampler.x_attn.v_proj.weight.copy_(same / 20.0)
    resampler.x_attn.out_proj.weight.copy_(1.5 * same)
    for name, bias in resampler.named_parameters():
        if name.endswith("bias"):
            bias.zero_()


def _orthonormal(size: int, chance: torch.Generator) -> Any:
    torch = require("torch", extra="kosmos")
    return torch.linalg.qr(torch.randn(size, size, generator=chance))[0]


def _place_coordinates(model: Any, tokenizer: Any, sizes: Sizes) -> None:
    """Embeddings of `<x_i>` and `<y_i>` that are waves of i, with a random direction an axis."""
    torch = require("torch", extra="kosmos")
    embedding = model.text_model.model.embed_tokens.weight
    half = sizes.width // 2
    lengths = torch.exp(torch.linspace(math.log(4.0), math.log(4.0 * sizes.coordinates), half))
    angles = 2 * math.pi * torch.arange(sizes.coordinates)[:, None] / lengths
    waves = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1) / math.sqrt(half)
    for axis in "xy":
        ids = tokenizer.convert_tokens_to_ids([f"<{axis}_{i}>" for i in range(sizes.coordinates)])
        # the rows hold independent noise by now; the first of them becomes the axis
        direction = embedding[ids[0]].clone()
        embedding[ids] = (0.8 * waves + 0.6 * direction).to(embedding.dtype)
