"""A KOSMOS-2.5 of 300,000 random weights, in the layout of the released one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kosmos_loader.errors import require
from kosmos_loader.readers.checkpoint import quiet_transformers

LATENT_QUERIES = 16
COORDINATES = 128

# Standard deviations of the weights, by the end of their name; the first that fits holds. With the
# default of 0.02 and an output layer tied to the embedding, every picture would give one and the
# same token over and over, and a test that compares outputs could not fail.
_SPREADS = (
    ("lm_head.weight", 1.0),
    ("q_proj.weight", 0.35),
    ("k_proj.weight", 0.35),
    ("attention.query.weight", 0.35),
    ("attention.key.weight", 0.35),
    ("patch_projection.weight", 0.1),
    ("segment_emb.weight", 0.5),
    ("embed_tokens.weight", 0.15),
    ("row_embedder.weight", 0.5),
    ("column_embedder.weight", 0.5),
    ("image_to_text_projection.dense.weight", 1.0),
    ("latent_query", 1.0),
    ("weight", 0.2),
)


def tiny_kosmos(folder: str | Path, *, seed: int = 0, max_patches: int = 64) -> Path:
    """The folder with a random KOSMOS-2.5, its tokenizer and its processor, as the hub holds them.

    All classes are the real ones and nothing is downloaded. It writes rubbish, but rubbish that
    depends on the page and on `seed`, so that two ways of running it can be compared token by
    token. It sees at most `max_patches` patches of a page (the released model: 4,096), its tags
    reach from 0 to 127, and its context holds 512 tokens, 20 of which are the prompt. Unlike the
    released one its output layer is not tied to the embedding. `MissingExtra` where torch or
    transformers are not installed.
    """
    from kosmos_loader.training.scratch import byte_tokenizer

    folder = Path(folder)
    with quiet_transformers():
        tokenizer = byte_tokenizer(coordinates=COORDINATES)
        _model(tokenizer, seed=seed, max_patches=max_patches).save_pretrained(folder)
        _processor(tokenizer, max_patches=max_patches).save_pretrained(folder)
    return folder


def _processor(tokenizer: Any, *, max_patches: int) -> Any:
    from transformers.models.kosmos2_5.image_processing_pil_kosmos2_5 import (
        Kosmos2_5ImageProcessorPil,
    )
    from transformers.models.kosmos2_5.processing_kosmos2_5 import Kosmos2_5Processor

    pictures = Kosmos2_5ImageProcessorPil(max_patches=max_patches)
    return Kosmos2_5Processor(pictures, tokenizer, num_image_tokens=LATENT_QUERIES)


def _model(tokenizer: Any, *, seed: int, max_patches: int) -> Any:
    transformers = require("transformers", extra="kosmos")
    text = transformers.Kosmos2_5TextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        embed_dim=64,
        ffn_dim=128,
        layers=2,
        attention_heads=4,
        dropout=0.0,
        tie_word_embeddings=False,
    )
    vision = transformers.Kosmos2_5VisionConfig(
        hidden_size=64,
        intermediate_size=128,
        head_dim=16,
        num_attention_heads=4,
        num_hidden_layers=2,
        max_num_patches=max_patches,
    )
    config = transformers.Kosmos2_5Config(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        latent_query_num=LATENT_QUERIES,
        tie_word_embeddings=False,
    )
    model = transformers.Kosmos2_5ForConditionalGeneration(config)
    _draw_weights(model, seed)
    return model


def _draw_weights(model: Any, seed: int) -> None:
    """Random weights that depend on `seed` alone; norms and biases stay as they are."""
    torch = require("torch", extra="kosmos")
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                continue
            spread = next(spread for end, spread in _SPREADS if name.endswith(end))
            weight.normal_(0.0, spread, generator=chance)
