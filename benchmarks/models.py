"""The models that the engine is measured on, each with pages for it.

`nano` is the small checkpoint of `tests/assets`, which reads the drawn pages of
`kosmos_loader.testing.drawn`. `full` has the released geometry and `tiny` next to no weights; both
are random, and are made to write traces (`traces.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import traces

from kosmos_loader.errors import require
from kosmos_loader.readers.checkpoint import (
    TASKS,
    prompt_of,
    quiet_transformers,
    room_behind,
)
from kosmos_loader.readers.kosmos import DTYPES, KosmosPageReader
from kosmos_loader.readers.reference import ReferenceEngine
from kosmos_loader.testing import nano_kosmos
from kosmos_loader.testing.drawn import HELD_OUT, LEVELS, draw_page

TRACED = ("tiny", "full")
"""Models of random weights."""

COORDINATES = {"tiny": 512, "full": 4096}
TOKENS = {"tiny": 120, "full": 1050}
"""Tokens of `<ocr>` on a page in the mean."""


def reference_of(name: str, *, device: str, dtype: str, limit: int) -> ReferenceEngine:
    """Model and processor of `name`, as transformers has them, for at most `limit` tokens a task.

    `dtype` "auto" is bf16 on CUDA and fp32 elsewhere.
    """
    if name == "nano":
        reader = KosmosPageReader(
            nano_kosmos(), engine="reference", device=device, dtype=dtype, max_new_tokens=limit
        )
        reference: ReferenceEngine = reader.engine
        return reference
    torch = require("torch", extra="kosmos")
    if dtype == "auto":
        dtype = "bf16" if device == "cuda" else "fp32"
    tokenizer = traces.word_tokenizer(coordinates=COORDINATES[name])
    config = {"tiny": tiny_config, "full": released_config}[name]()
    model = random_model(config, tokenizer, device=device, dtype=getattr(torch, DTYPES[dtype]))
    processor = processor_of(config, tokenizer)
    prompts = {task: prompt_of(processor, text) for task, text in TASKS.items()}
    return ReferenceEngine(
        model,
        processor,
        prompts=prompts,
        limit=min(limit, room_behind(model, prompts)),
        max_patches=config.vision_config.max_num_patches,
        batch_size=1,
    )


def released_config() -> Any:
    """The geometry of the released model: 1.37 billion weights."""
    return require("transformers", extra="kosmos").Kosmos2_5Config()


def tiny_config() -> Any:
    """The same architecture with next to no weights, for the vocabulary of the traces."""
    transformers = require("transformers", extra="kosmos")
    text = transformers.Kosmos2_5TextConfig(
        vocab_size=8192,
        max_position_embeddings=1024,
        embed_dim=64,
        ffn_dim=128,
        layers=2,
        attention_heads=4,
        dropout=0.0,
    )
    vision = transformers.Kosmos2_5VisionConfig(
        hidden_size=64,
        intermediate_size=128,
        head_dim=16,
        num_attention_heads=4,
        num_hidden_layers=2,
        max_num_patches=256,
    )
    return transformers.Kosmos2_5Config(
        text_config=text.to_dict(), vision_config=vision.to_dict(), latent_query_num=32
    )


def random_model(config: Any, tokenizer: Any, *, device: str, dtype: Any) -> Any:
    """A model of `config` with random weights, made on `device` in `dtype` from the start."""
    torch = require("torch", extra="kosmos")
    transformers = require("transformers", extra="kosmos")
    torch.manual_seed(0)
    with quiet_transformers(), _default_dtype(dtype), torch.device(device):
        model = transformers.Kosmos2_5ForConditionalGeneration(config).eval()
    model.generation_config = transformers.GenerationConfig(
        do_sample=False,
        num_beams=1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    # as `checkpoint.load` does: row and column numbers stay float32, which bf16 cannot hold
    model.vision_model.embeddings.patch_projection.register_forward_pre_hook(
        lambda module, arguments: (arguments[0].to(module.weight.dtype), *arguments[1:])
    )
    return model


def processor_of(config: Any, tokenizer: Any) -> Any:
    """The processor of transformers for a model of `config`."""
    require("transformers", extra="kosmos")
    from transformers.models.kosmos2_5.image_processing_pil_kosmos2_5 import (
        Kosmos2_5ImageProcessorPil,
    )
    from transformers.models.kosmos2_5.processing_kosmos2_5 import Kosmos2_5Processor

    pictures = Kosmos2_5ImageProcessorPil(max_patches=config.vision_config.max_num_patches)
    return Kosmos2_5Processor(pictures, tokenizer, num_image_tokens=config.latent_query_num)


@contextmanager
def _default_dtype(dtype: Any) -> Iterator[None]:
    torch = require("torch", extra="kosmos")
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


Cases = Callable[[float, bool], list[traces.Case]]
"""The pages, with a share of the words of `<md>` changed, with or without a text layer."""


def cases_of(
    name: str,
    reference: ReferenceEngine,
    *,
    pages: int,
    seed: int,
    level: int,
    tokens: int | None = None,
) -> Cases:
    """The pages for a model; `level` is that of drawn pages, `tokens` those of a trace."""
    if name not in TRACED:
        drawn = [
            draw_page(HELD_OUT + seed, number, level=LEVELS[level - 1]) for number in range(pages)
        ]
        plain = [page.page(number=number) for number, page in enumerate(drawn, start=1)]
        layered = [
            replace(page, text_layer=truth.lines) for page, truth in zip(plain, drawn, strict=True)
        ]
        return lambda _, layer: [traces.Case(page) for page in (layered if layer else plain)]
    tokens = tokens or TOKENS[name]
    tokenizer = reference.processor.tokenizer
    sheets = traces.sheets(pages, tokens=tokens, tokenizer=tokenizer, seed=seed)
    longest = round(tokens * traces.SPREAD[1])
    return lambda words_changed, layer: [
        traces.case_of(
            sheet,
            tokenizer,
            max_patches=reference.max_patches,
            limit=min(reference.limit, longest),
            words_changed=words_changed,
            layer=layer,
        )
        for sheet in sheets
    ]
