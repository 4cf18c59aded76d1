"""KOSMOS-2.5 run by transformers' own `generate`: slow, and what all else is measured by."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from kosmos_loader.document import Page
from kosmos_loader.errors import require
from kosmos_loader.readers.checkpoint import quiet_transformers
from kosmos_loader.readers.outputs import Outcome, Output, Written


class ReferenceEngine:
    """Reads batches of pages, one task after the other.

    `prompts` are those of the tasks as `checkpoint.prompt_of` makes them; at most `limit` tokens
    are written for each, and `batch_size` pages are read together.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        prompts: Mapping[str, Mapping[str, Any]],
        limit: int,
        max_patches: int,
        batch_size: int,
    ) -> None:
        self.model = model
        self.processor = processor
        self.prompts = prompts
        self.limit = limit
        self.max_patches = max_patches
        self.batch_size = batch_size

    def session(self) -> ReferenceSession:
        """A new one, of no pages."""
        return ReferenceSession(self)

    def close(self) -> None:
        """Frees nothing, since nothing is kept between sessions."""

    def write(self, pages: Sequence[Page]) -> list[Written]:
        """What the model writes for `pages`, read together."""
        torch = require("torch", extra="kosmos")
        pictures = [self.patches(page) for page in pages]
        patches = torch.stack([patches for patches, _ in pictures]).to(self.model.device)
        outputs = {task: self._generate(patches, prompt) for task, prompt in self.prompts.items()}
        return [
            Written({task: written[place] for task, written in outputs.items()}, size)
            for place, (_, size) in enumerate(pictures)
        ]

    def patches(self, page: Page) -> tuple[Any, tuple[int, int]]:
        """[max_patches, 770] float32, and width and height of the resized page in pixels.

        Each page is prepared by itself, since width and height differ from page to page.
        """
        torch = require("torch", extra="kosmos")
        budget = patch_budget(page, self.max_patches, self.model.config)
        pictures = self.processor.image_processor
        found = pictures(images=page.image, max_patches=budget, return_tensors="pt")
        patches = found["flattened_patches"][0]
        missing = self.max_patches - patches.shape[0]
        padded = torch.nn.functional.pad(patches, (0, 0, 0, missing))
        return padded, (int(found["width"][0]), int(found["height"][0]))

    def _generate(self, patches: Any, prompt: Mapping[str, Any]) -> list[Output]:
        """What the model writes for each picture of `patches`, [batch, max_patches, 770]."""
        return [self._output(row) for row in self.tokens(patches, prompt)]

    def tokens(self, patches: Any, prompt: Mapping[str, Any]) -> list[list[int]]:
        """The tokens behind `prompt` for each picture, as `generate` gives them."""
        torch = require("torch", extra="kosmos")
        inputs = {
            name: row.to(patches.device).expand(patches.shape[0], -1)
            for name, row in prompt.items()
        }
        with torch.inference_mode(), quiet_transformers():
            written = self.model.generate(
                **inputs, flattened_patches=patches, max_new_tokens=self.limit
            )
        rows: list[list[int]] = written[:, inputs["input_ids"].shape[1] :].tolist()
        return rows

    def _output(self, ids: list[int]) -> Output:
        tokenizer = self.processor.tokenizer
        ended = tokenizer.eos_token_id in ids
        kept = ids[: ids.index(tokenizer.eos_token_id)] if ended else ids
        return Output(text_of(tokenizer, kept), ended)


class ReferenceSession:
    """Gathers a batch, then reads it."""

    def __init__(self, engine: ReferenceEngine) -> None:
        self.engine = engine
        self._gathered: list[tuple[Hashable, Page]] = []

    @property
    def is_full(self) -> bool:
        """Whether a batch is complete."""
        return len(self._gathered) >= self.engine.batch_size

    def add(self, key: Hashable, page: Page) -> None:
        """Takes a page with pixels."""
        self._gathered.append((key, page))

    def advance(self) -> list[Outcome]:
        """Reads what was gathered."""
        keys = [key for key, _ in self._gathered]
        pages = [page for _, page in self._gathered]
        self._gathered = []
        return list(zip(keys, in_parts(pages, self.engine.write), strict=True))

    def close(self) -> None:
        """Forgets what was gathered."""
        self._gathered = []


def in_parts(
    pages: Sequence[Page], write: Callable[[Sequence[Page]], list[Written]]
) -> list[Written | Exception]:
    """`write(pages)`, in ever smaller parts where it fails, so that no page costs another.

    What a batch fails with is mostly too little memory on the device; for a page that fails by
    itself, its error comes.
    """
    if not pages:
        return []
    try:
        return [*write(pages)]
    except Exception as error:  # noqa: BLE001 - whatever a page fails with, the others go on
        if len(pages) == 1:
            return [error]
    # outside the handler, whose traceback holds the tensors of the attempt
    _free_memory()
    half = len(pages) // 2
    return in_parts(pages[:half], write) + in_parts(pages[half:], write)


def _free_memory() -> None:
    torch = require("torch", extra="kosmos")
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def patch_budget(page: Page, max_patches: int, config: Any) -> int:
    """Patches for `page`; the last row number has no embedding, and only a strip reaches it."""
    places: int = config.vision_config.max_num_patches
    strip = max(page.width, page.height) >= places * min(page.width, page.height)
    return min(max_patches, places - 1) if strip else max_patches


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """`ids` decoded with their tags and every blank."""
    text: str = tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return text
