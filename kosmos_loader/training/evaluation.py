"""Reading held-out pages with the model that is being trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kosmos_loader.document import Page, Reading, document_id
from kosmos_loader.errors import require
from kosmos_loader.readers.checkpoint import quiet_transformers
from kosmos_loader.readers.outputs import Output, Written, reading_from
from kosmos_loader.training.examples import TASKS, Example, picture_of, prompt_prefix
from kosmos_loader.training.scores import Scores, Truth, score


def evaluate(
    model: Any, processor: Any, examples: Sequence[Example], *, max_patches: int, batch: int = 16
) -> Scores:
    """The scores of what `model` writes for `examples`, by greedy `generate`."""
    readings = [
        reading
        for start in range(0, len(examples), batch)
        for reading in _read(model, processor, examples[start : start + batch], max_patches)
    ]
    truths = [
        Truth(e.lines, e.markdown, width=e.pixels.shape[1], height=e.pixels.shape[0])
        for e in examples
    ]
    return score(truths, readings)


def _read(
    model: Any, processor: Any, examples: Sequence[Example], max_patches: int
) -> list[Reading]:
    torch = require("torch", extra="kosmos")
    pictures = [picture_of(processor, e.pixels, max_patches=max_patches) for e in examples]
    patches = torch.cat([picture["flattened_patches"] for picture in pictures]).to(model.device)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), quiet_transformers():
            outputs = {
                name: _generate(model, processor, patches, prompt) for name, prompt in TASKS.items()
            }
    finally:
        model.train(was_training)
    return [
        reading_from(
            _page(example),
            Written(
                {name: written[place] for name, written in outputs.items()},
                (int(picture["width"][0]), int(picture["height"][0])),
            ),
            reader="training",
            version="0",
        )
        for place, (example, picture) in enumerate(zip(examples, pictures, strict=True))
    ]


def _generate(model: Any, processor: Any, patches: Any, prompt: str) -> list[Output]:
    torch = require("torch", extra="kosmos")
    tokenizer = processor.tokenizer
    prefix, mask = prompt_prefix(processor)
    ids = torch.tensor([[*prefix, tokenizer.convert_tokens_to_ids(prompt)]], device=model.device)
    picture = torch.tensor([[*mask, 0]], device=model.device)
    count = len(patches)
    written = model.generate(
        input_ids=ids.expand(count, -1),
        attention_mask=torch.ones_like(ids).expand(count, -1),
        image_embeds_position_mask=picture.expand(count, -1),
        flattened_patches=patches,
        max_new_tokens=model.config.text_config.max_position_embeddings - ids.shape[1],
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return [_output(tokenizer, row) for row in written[:, ids.shape[1] :].tolist()]


def _output(tokenizer: Any, ids: list[int]) -> Output:
    ended = tokenizer.eos_token_id in ids
    kept = ids[: ids.index(tokenizer.eos_token_id)] if ended else ids
    text = tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return Output(text, ended)


def _page(example: Example) -> Page:
    height, width = example.pixels.shape[:2]
    return Page("page", document_id("page"), 1, 1, width, height, 72.0, pixels=example.pixels)
