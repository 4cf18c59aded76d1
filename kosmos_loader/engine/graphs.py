"""Steps of a few shapes, each launched at once: CUDA graphs for buckets of rows and tokens.

A decoding step is some 400 small kernels, which take the host longer to launch than the device to
run. A graph launches them together, but only with the shapes and the memory that they were captured
with. So a step is padded to a bucket and copied into the bucket's own memory; all else that changes
from step to step lies in the cache, which stays where it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kosmos_loader.engine.kernels import QUERIES, Tokens, queries_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kosmos_loader.engine.cache import Cache
    from kosmos_loader.engine.model import Kosmos
    from kosmos_loader.engine.steps import Batch

log = logging.getLogger(__name__)

Run = Callable[[], Tensor]
Capture = Callable[[Run], Run]
"""Of a function that always reads and writes the same memory, what repeats it."""

Attention = Callable[[Tokens, int, Tensor, Tensor, Tensor], Tensor]
"""(tokens, layer, query, key, value) to [T, width], as `split_kv.SplitAttention`."""

TOKENS_OF_A_GROUP = 8
"""On average, above which a step is not captured: its matrix products take longer than the
launches, and such steps are rare."""

TOKENS_OF_A_PAGE = 64
"""With all its drafts: captured, however few the groups."""


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """The shape of a padded step."""

    groups: int
    tokens: int
    queries: int
    """Tokens of a group at most."""


def bounds_of(counts: NDArray[np.int64], queries: int) -> NDArray[np.int64]:
    """[G + 1]: where the groups of at most `queries` tokens of a row begin, and where they end."""
    groups = -(-counts // queries)
    number = np.arange(groups.sum()) - np.repeat(np.cumsum(groups) - groups, groups)
    first = np.repeat(np.cumsum(counts) - counts, groups)
    return np.append(first + number * queries, counts.sum())


def bucket_for(counts: NDArray[np.int64]) -> Bucket:
    """The smallest bucket for a step that feeds `counts` tokens to its rows."""
    queries = queries_for(int(counts.max()))
    groups = int((-(-counts // queries)).sum())
    return Bucket(_next_power(groups), _next_power(int(counts.sum())), queries)


def buckets(rows: int) -> list[Bucket]:
    """Those worth a graph where at most `rows` rows are fed, each of them one group."""
    found = []
    for queries, narrower in zip(QUERIES, (0, *QUERIES), strict=False):
        for groups in _powers(1, _next_power(rows)):
            most = max(TOKENS_OF_A_PAGE, TOKENS_OF_A_GROUP * groups)
            # one row has more tokens than narrower groups hold
            fewest = max(groups, _next_power(narrower + 1))
            found += [
                Bucket(groups, tokens, queries)
                for tokens in _powers(fewest, min(most, groups * queries))
            ]
    return found


def _next_power(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _powers(first: int, last: int) -> Iterator[int]:
    while first <= last:
        yield first
        first *= 2


class Frame:
    """The memory of a bucket, on the device and on the host. A step comes over in one copy."""

    ARRAYS = 5

    def __init__(self, bucket: Bucket, device: torch.device) -> None:
        self.bucket = bucket
        # arrays begin at 16 bytes, so that a kernel is compiled once for all buckets
        self._stride = max(4, bucket.tokens)
        size = self.ARRAYS * self._stride + bucket.groups + 1
        on_cuda = device.type == "cuda"
        self._host = torch.zeros(size, dtype=torch.int32, pin_memory=on_cuda)
        self._memory = torch.zeros(size, dtype=torch.int32, device=device)
        ids, positions, row, place, tag, bounds = self._parts(self._memory)
        self.ids: Tensor = ids
        self.positions: Tensor = positions
        self.tokens = Tokens(row, place, tag, bounds, bucket.queries)
        self.was_run = False
        self.replay: Run | None = None

    def _parts(self, memory: Any) -> list[Any]:
        starts = [array * self._stride for array in range(self.ARRAYS)]
        parts = [memory[start : start + self.bucket.tokens] for start in starts]
        return [*parts, memory[self.ARRAYS * self._stride :]]

    def load(self, batch: Batch, lengths: NDArray[np.int64]) -> None:
        """Puts a step here that is fed to rows of `lengths`.

        The host's side may be written as soon as the step before has been read back, which the
        copy to the device came before.
        """
        count = len(batch.ids)
        column = np.arange(count) - np.repeat(np.cumsum(batch.counts) - batch.counts, batch.counts)
        *parts, bounds = self._parts(self._host.numpy())
        for part, values, padding in zip(
            parts,
            (
                batch.ids,
                batch.positions,
                np.repeat(batch.rows, batch.counts),
                np.repeat(lengths[batch.rows], batch.counts) + column,
                batch.tags,
            ),
            (0, 0, -1, 0, 0),
            strict=True,
        ):
            part[:count] = values
            part[count:] = padding
        bounds[:] = count
        starts = bounds_of(batch.counts, self.bucket.queries)
        bounds[: len(starts)] = starts
        self._memory.copy_(self._host, non_blocking=True)


class GraphedSteps:
    """Steps padded to buckets, captured when a bucket is met for the second time.

    The first time is plain, with the same code and the same shapes: that is its warm-up, and spares
    a shape that comes once its graph. Where a capture fails, all steps go on plainly.
    """

    def __init__(
        self, model: Kosmos, cache: Cache, *, attention: Attention, capture: Capture
    ) -> None:
        self.model = model
        self.cache = cache
        self.attention = attention
        self.capture: Capture | None = capture
        self.buckets = frozenset(buckets(cache.rows))
        self.frames: dict[Bucket, Frame] = {}

    def logits(self, batch: Batch) -> Tensor:
        """[N, vocabulary], without a graph: its memory would be the next one's too."""
        with current(self.cache.device):
            return self._logits(self._loaded(batch))[: len(batch.ids)]

    def predictions(self, batch: Batch) -> Tensor:
        """[N]; the next step writes over it."""
        with current(self.cache.device):
            frame = self._loaded(batch)
            run = frame.replay or self._captured(frame)
            return run()[: len(batch.ids)]

    def _loaded(self, batch: Batch) -> Frame:
        bucket = bucket_for(batch.counts)
        frame = self.frames.get(bucket)
        if frame is None:
            frame = self.frames[bucket] = Frame(bucket, self.cache.device)
        frame.load(batch, self.cache.lengths)
        return frame

    def _logits(self, frame: Frame) -> Tensor:
        return self.model.logits(
            frame.ids.long(),
            frame.positions.long(),
            lambda *states: self.attention(frame.tokens, *states),
        )

    def _captured(self, frame: Frame) -> Run:
        """The step as a graph, or as it is where there is none (yet)."""

        def run() -> Tensor:
            return self._logits(frame).argmax(-1)

        if self.capture and frame.was_run and frame.bucket in self.buckets:
            try:
                frame.replay = self.capture(run)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                log.warning("steps are not captured, which makes them slower (%s)", error)
                self.capture = None
        frame.was_run = True
        return frame.replay or run


class CudaGraphs:
    """Captures CUDA graphs that share their memory, so that no two may run at a time."""

    def __init__(self, device: torch.device) -> None:
        with current(device):
            self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Run) -> Run:
        """A replay of `run`, whose result is the same tensor each time."""
        graph = torch.cuda.CUDAGraph()
        # a thread that prepares pages goes on with what would be an error in this one
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            result = run()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


def current(device: torch.device) -> AbstractContextManager[object]:
    """`device` as the current one, which is where triton launches whatever its tensors are on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
