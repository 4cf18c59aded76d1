"""Pages through the engine: what surrounds it is pages and text, what is inside is tokens."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import torch

from kosmos_loader.document import Page
from kosmos_loader.engine.alternating import Alternating, halves
from kosmos_loader.engine.drafting import MarkdownDrafter, OcrDrafter, Vocabulary
from kosmos_loader.engine.engine import Engine, without_traceback
from kosmos_loader.engine.model import Kosmos
from kosmos_loader.engine.patches import Patches, extract_patches
from kosmos_loader.engine.request import END, Request, Sequence
from kosmos_loader.engine.runner import ModelRunner
from kosmos_loader.engine.scheduler import MODES, Scheduler
from kosmos_loader.engine.speculation import Following, Speculation
from kosmos_loader.engine.steps import are_graphed
from kosmos_loader.errors import ModelError
from kosmos_loader.readers.outputs import Outcome, Output, Written
from kosmos_loader.readers.reference import patch_budget, text_of

log = logging.getLogger(__name__)


class FastEngine:
    """Our engine on a loaded model.

    `prompts` are those of the tasks as `checkpoint.prompt_of` makes them: one prefix, and behind it
    a token that asks for the task (`ModelError` where they are not). `slots` pages are held at
    once, None for as many as the memory has room for; `engines`, 1 or 2, share them in turn, None
    for what suits the device (`alternating.halves`). `mode` is one of `scheduler.MODES`.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        prompts: Mapping[str, Mapping[str, Any]],
        limit: int,
        max_patches: int,
        slots: int | None = None,
        engines: int | None = None,
        mode: str = "joint",
    ) -> None:
        self.kosmos = Kosmos.of(model)
        self.config = model.config
        self.tokenizer = processor.tokenizer
        self.limit = limit
        self.max_patches = max_patches
        self.mode = MODES[mode]
        ids = {task: prompt["input_ids"][0].tolist() for task, prompt in prompts.items()}
        self.tasks = {task: row[-1] for task, row in ids.items()}
        self.prefix_ids = next(iter(ids.values()))[:-1]
        if any(row[:-1] != self.prefix_ids for row in ids.values()) or (
            len(self.prefix_ids) != self.kosmos.prefix
        ):
            raise ModelError(
                "the processor makes prompts that the fast engine does not know; read with "
                "engine='reference'"
            )
        self.vocabulary = Vocabulary.of(self.tokenizer)
        self._engines = engines
        runners = self._runners(slots)
        self._idle = [runners]
        self.slots = sum(runner.slots for runner in runners)

    def _runners(self, slots: int | None) -> list[ModelRunner]:
        """One for each engine of a session, with `slots` in all."""
        first = self._runner(slots)
        own, *others = halves(first.slots, self._engines, ahead=are_graphed(self.kosmos))
        first.resize(own)
        return [first, *map(self._runner, others)]

    def _runner(self, slots: int | None) -> ModelRunner:
        return ModelRunner(
            self.kosmos,
            prefix_ids=self.prefix_ids,
            sequences=len(self.tasks),
            together=self.mode.together,
            limit=self.limit,
            slots=slots,
        )

    def session(self) -> FastSession:
        """A new one, of no pages. Sessions side by side have caches of their own."""
        return FastSession(self, self._idle.pop() if self._idle else self._runners(self.slots))

    def scheduler(self, slots: int) -> Scheduler:
        """A new one, of no pages."""
        return Scheduler(
            slots=slots,
            end=self.tokenizer.eos_token_id,
            mode=self.mode,
            decode=lambda ids: text_of(self.tokenizer, ids),
        )

    def take_back(self, runners: list[ModelRunner]) -> None:
        """Keeps the runners of a session that has ended for the next one."""
        self._idle.append(runners)

    def close(self) -> None:
        """Frees the memory of caches that no session uses; the next one takes it anew."""
        for runner in chain.from_iterable(self._idle):
            runner.resize(runner.slots)

    def patches(self, page: Page, *, device: Any = None) -> Patches:
        """What the model sees of `page`, made on `device` (None for the model's)."""
        own = self.kosmos.tokens.device
        budget = patch_budget(page, self.max_patches, self.config)
        patches = extract_patches(page.pixels, max_patches=budget, device=device or own)
        return replace(
            patches,
            pixels=patches.pixels.to(own),
            rows=patches.rows.to(own),
            columns=patches.columns.to(own),
            # what a strip is not given is padding as well
            padding=patches.padding + self.max_patches - budget,
        )

    def request(self, key: Hashable, page: Page, patches: Patches) -> Request:
        """What is asked of `page`, with drafts where the mode has any."""
        sequences = {task: Sequence(task, token, self.limit) for task, token in self.tasks.items()}
        if self.mode.drafts:
            width, height = patches.size
            if "ocr" in sequences:
                leader = sequences["ocr"]
                leader.speculation = Speculation(self._ocr_drafter(page, width, height))
            if "md" in sequences and "ocr" in sequences:
                drafter = MarkdownDrafter(self.vocabulary)
                sequences["md"].speculation = Following(drafter, leader)
        return Request(key, patches, tuple(sequences.values()))

    def _ocr_drafter(self, page: Page, width: int, height: int) -> OcrDrafter:
        try:
            lines = page.text_layer
            return OcrDrafter(self.vocabulary, width=width, height=height, lines=lines)
        except Exception as error:  # noqa: BLE001 - lines that cannot be used cost drafts only
            log.warning("lines of page %d are of no use (%s)", page.number, error)
            return OcrDrafter(self.vocabulary, width=width, height=height)

    def written(self, request: Request) -> Written:
        """The text of what was written for a page."""
        return Written(
            {
                sequence.task: Output(
                    text_of(self.tokenizer, sequence.tokens), sequence.finish == END
                )
                for sequence in request.sequences
            },
            request.patches.size,
        )


class FastSession:
    """Pages on their way through the engine."""

    def __init__(self, fast: FastEngine, runners: list[ModelRunner]) -> None:
        self.fast = fast
        self.runners = runners
        self.engines = [Engine(fast.scheduler(runner.slots), runner) for runner in runners]
        """One, or two that take turns."""

        self.engine = self.engines[0] if len(runners) == 1 else Alternating(*self.engines)
        self._failed: list[Outcome] = []
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether another page would have to wait, or something is to be told of one."""
        return bool(self._failed) or self.engine.is_full

    def add(self, key: Hashable, page: Page) -> None:
        """Takes a page with pixels; what remains of it are its patches."""
        try:
            patches = self._patches(page)
        except Exception as error:  # noqa: BLE001 - whatever a page fails with, the others go on
            self._failed.append((key, without_traceback(error)))
            return
        self.engine.add(self.fast.request(key, page, patches))

    def _patches(self, page: Page) -> Patches:
        try:
            return self.fast.patches(page)
        except torch.OutOfMemoryError:
            log.debug("no room on the device for the pixels of page %d", page.number)
        # outside the handler, whose traceback holds the tensors of the attempt
        return self.fast.patches(page, device="cpu")

    def advance(self) -> list[Outcome]:
        """One step for all pages in hand."""
        outcomes, self._failed = self._failed, []
        for request in self.engine.advance():
            outcomes.append((request.key, request.failure or self.fast.written(request)))
        return outcomes

    def close(self) -> None:
        """Leaves the caches to the next session; once closed, it stays so."""
        if not self._is_closed:
            self._is_closed = True
            self.engine.close()
            self.fast.take_back(self.runners)
