"""Does what the scheduler decided: pages into the cache, tokens through the model.

The seam between policy and tensors: the engine knows a `Runner` by its six methods, and tests put a
scripted one in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from kosmos_loader.engine.cache import Cache, RowShape, slots_that_fit
from kosmos_loader.engine.memory import free, free_memory
from kosmos_loader.engine.request import Feed, Request
from kosmos_loader.engine.steps import Batch, Steps, steps_on

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kosmos_loader.engine.model import Kosmos

PATCHES_TOGETHER = 16_384
"""Patches that go through the vision tower at once: four full pages of the released model. Of pages
with fewer patches than a prefix has tokens, as many tokens go through the decoder."""


class OutOfMemory(Exception):
    """The device has no room for the step; with fewer pages at a time it may have."""


class Runner(Protocol):
    """Runs steps. `OutOfMemory` where the device has no room: nothing of the step counts then."""

    slots: int

    def admit(self, requests: Sequence[Request]) -> None:
        """Encodes pages and puts their prefixes into their slots."""

    def move(self, moves: Sequence[tuple[int, int]]) -> None:
        """Puts what is in one slot into another."""

    def launch(self, feeds: Sequence[Feed]) -> Any:
        """Starts the forward pass of `feeds`; what `read_back` is to be given. Need not wait."""

    def read_back(self, launched: Any) -> list[list[int]]:
        """What the model predicts after each token of each feed of a pass that was launched."""

    def keep(self, feeds: Sequence[Feed], kept: Sequence[int]) -> None:
        """Keeps the first tokens of each feed in the cache, as many as `kept` says."""

    def resize(self, slots: int) -> None:
        """Drops all that is in the cache and makes one of `slots` slots."""


class Launched:
    """Predictions of a pass, [N], on their way to the host; its feeds have `sizes` tokens.

    On CUDA a copy of them is queued behind the pass: before the next pass of the same graph writes
    over them, and so that waiting for it is waiting for nothing that is launched later.
    """

    def __init__(self, predicted: Tensor, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self._predicted = predicted
        self._copied: Any = None
        if predicted.is_cuda:
            self._predicted = torch.empty_like(predicted, device="cpu", pin_memory=True)
            self._predicted.copy_(predicted, non_blocking=True)
            self._copied = torch.cuda.current_stream(predicted.device).record_event()

    def predictions(self) -> list[int]:
        """The N predictions; waits until they are there."""
        if self._copied is not None:
            self._copied.synchronize()
        found: list[int] = self._predicted.tolist()
        return found


class ModelRunner:
    """The runner on the weights of a KOSMOS-2.5.

    `sequences` are the tasks of a page; they share a row if `together`, else each has its own.
    `limit` tokens fit behind each prompt. `slots` pages are held at once, at most as many as the
    free memory of the device holds; None for as many as are of use. `steps` makes what runs steps
    on a cache.
    """

    def __init__(
        self,
        model: Kosmos,
        *,
        prefix_ids: Sequence[int],
        sequences: int,
        together: bool,
        limit: int,
        slots: int | None = None,
        steps: Callable[[Kosmos, Cache], Steps] = steps_on,
    ) -> None:
        self.model = model
        self.device = model.tokens.device
        self.dtype = model.tokens.dtype
        self.prefix_ids = torch.tensor(list(prefix_ids), device=self.device)
        self.rows_per_slot = 1 if together else sequences
        in_row = sequences if together else 1
        self.shape = RowShape(
            layers=len(model.layers),
            heads=model.heads,
            head_size=model.head_size,
            capacity=model.prefix + in_row * limit,
            itemsize=self.dtype.itemsize,
        )
        free(self.device)
        self.slots = slots_that_fit(
            free_memory(self.device),
            self.shape.bytes * self.rows_per_slot,
            device=self.device.type,
            wanted=slots,
        )
        self.steps_on = steps
        self.cache: Cache | None = None
        self.steps: Steps | None = None

    def resize(self, slots: int) -> None:
        """Drops all that is in the cache and makes one of `slots` slots at the next page."""
        self.slots = slots
        self.cache = self.steps = None
        free(self.device)

    def _cache(self) -> Cache:
        if self.cache is None:
            rows = self.slots * self.rows_per_slot
            self.cache = Cache(self.shape, rows, dtype=self.dtype, device=self.device)
        return self.cache

    def _steps(self) -> Steps:
        if self.steps is None:
            self.steps = self.steps_on(self.model, self._cache())
        return self.steps

    def admit(self, requests: Sequence[Request]) -> None:
        """Encodes pages, those with equally many patches together, and fills their slots."""
        with memory_guarded():
            for group in alike(requests, self.model.prefix):
                self._admit_together(group)

    def _admit_together(self, requests: Sequence[Request]) -> None:
        cache, model = self._cache(), self.model
        latents = model.encode([request.patches for request in requests])

        def keep(layer: int, key: Tensor, value: Tensor) -> None:
            for place, request in enumerate(requests):
                for row in self._rows(request.slot):
                    cache.fill(row, layer, key[place], value[place])

        model.prefill(latents, self.prefix_ids, keep)
        for request in requests:
            for row in self._rows(request.slot):
                cache.open(row, model.prefix)

    def _rows(self, slot: int) -> range:
        return range(slot * self.rows_per_slot, (slot + 1) * self.rows_per_slot)

    def move(self, moves: Sequence[tuple[int, int]]) -> None:
        """Copies the rows of slots to those of others."""
        with memory_guarded():
            for source, target in moves:
                for old, new in zip(self._rows(source), self._rows(target), strict=True):
                    self._cache().move(old, new)

    def launch(self, feeds: Sequence[Feed]) -> Launched:
        """Starts the pass of `feeds`, which come in order of rows; a graph is not waited for."""
        with memory_guarded():
            predicted = self._steps().predictions(self._batch(feeds))
            return Launched(predicted, [len(feed.tokens) for feed in feeds])

    def read_back(self, launched: Launched) -> list[list[int]]:
        """What the model predicts after each token of each feed."""
        with memory_guarded():
            return split(launched.predictions(), launched.sizes)

    def logits(self, feeds: Sequence[Feed]) -> Tensor:
        """[N, vocabulary] for the tokens of `feeds`, one feed after the other."""
        return self._steps().logits(self._batch(feeds))

    def _batch(self, feeds: Sequence[Feed]) -> Batch:
        rows, counts = token_counts(feeds)
        sizes = np.array([len(feed.tokens) for feed in feeds])
        # counted from the beginning of the prompt
        first = np.array([feed.place for feed in feeds]) + self.model.prefix
        before = np.cumsum(sizes) - sizes
        return Batch(
            rows,
            counts,
            ids=np.array([token for feed in feeds for token in feed.tokens]),
            positions=np.repeat(first - before, sizes) + np.arange(sizes.sum()),
            tags=np.repeat(np.array([feed.tag for feed in feeds], np.int32), sizes),
        )

    def keep(self, feeds: Sequence[Feed], kept: Sequence[int]) -> None:
        """Drops the drafts that were wrong from the cache."""
        if not feeds:
            return
        rows, counts = token_counts(feeds)
        flags = np.concatenate(
            [np.arange(len(feed.tokens)) < count for feed, count in zip(feeds, kept, strict=True)]
        ).astype(np.int64)
        with memory_guarded():
            self._cache().keep(rows, counts, flags)


@contextmanager
def memory_guarded() -> Iterator[None]:
    """Inference mode, in which a lack of memory is raised as `OutOfMemory`."""
    try:
        with torch.inference_mode():
            yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(str(error).partition("\n")[0] or "out of memory") from error
    except RuntimeError as error:
        # the allocator of the CPU raises no type of its own
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise OutOfMemory(str(error).partition("\n")[0]) from error


def token_counts(feeds: Sequence[Feed]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows that `feeds`, in order of rows, go to, each once, and how many tokens each gets."""
    sums = [
        (row, sum(len(feed.tokens) for feed in group))
        for row, group in groupby(feeds, key=lambda feed: feed.row)
    ]
    rows, counts = zip(*sums, strict=True)
    return np.array(rows, np.int64), np.array(counts, np.int64)


def split(items: Sequence[int], sizes: Iterable[int]) -> list[list[int]]:
    """`items` in parts of `sizes`."""
    parts, done = [], 0
    for size in sizes:
        parts.append(list(items[done : done + size]))
        done += size
    return parts


def alike(requests: Sequence[Request], prefix: int) -> list[list[Request]]:
    """`requests` in groups with equally many patches, none too large to be run at once.

    `prefix` is how many tokens each page has in the decoder.
    """

    def patches(request: Request) -> tuple[int, int]:
        return request.patches.pixels.shape[0], request.patches.padding

    groups = []
    for (count, _), same in groupby(sorted(requests, key=patches), key=patches):
        members = list(same)
        most = max(1, PATCHES_TOGETHER // max(count, prefix))
        groups += [members[i : i + most] for i in range(0, len(members), most)]
    return groups
