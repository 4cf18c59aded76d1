"""Keys and values of the pages in hand: preallocated rows, and what each token may see of them.

A row holds the prefix of one page and, behind it, the tokens of its sequences in the order in which
they were fed; a tag says whose each is (0 is the prefix, which all see). So all that the sequences
of a page have in common lies in memory once and is read once for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_SLOTS = {"cuda": 64, "cpu": 16}
"""More would make no page faster: at 64 pages the time goes into reading keys and values, of which
each page has its own; on the CPU, into matrix products that are large enough at 16."""

SHARE = 0.9
"""Of the memory that is free after the weights are loaded; the rest is for a step's own tensors."""


@dataclass(frozen=True, slots=True)
class RowShape:
    """What decides how large a row is."""

    layers: int
    heads: int
    head_size: int
    capacity: int
    """Tokens: the prefix, and its sequences at their longest."""

    itemsize: int

    @property
    def bytes(self) -> int:
        """Of keys and values together."""
        return 2 * self.layers * self.heads * self.head_size * self.capacity * self.itemsize


def slots_that_fit(free: int, slot_bytes: int, *, device: str, wanted: int | None = None) -> int:
    """Pages to hold at once, at least 1: what `free` bytes hold, at most `wanted`."""
    most = wanted or MOST_SLOTS.get(device, MOST_SLOTS["cpu"])
    return max(1, min(most, int(free * SHARE) // slot_bytes))


class Cache:
    """Keys and values, [layers, rows, heads, capacity, head size] each.

    Rows beyond `lengths` hold drafts that were wrong, which no mask lets through.
    """

    def __init__(self, shape: RowShape, rows: int, *, dtype: torch.dtype, device: Any) -> None:
        size = (shape.layers, rows, shape.heads, shape.capacity, shape.head_size)
        # zeros, since a mask does not hide a NaN that uninitialised memory may hold
        self.keys: Tensor = torch.zeros(size, dtype=dtype, device=device)
        self.values: Tensor = torch.zeros(size, dtype=dtype, device=device)
        self.tags: Tensor = torch.zeros(rows, shape.capacity, dtype=torch.int32, device=device)
        self.lengths: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.device = device

    @property
    def rows(self) -> int:
        """How many pages or sequences fit."""
        return len(self.lengths)

    def fill(self, row: int, layer: int, key: Tensor, value: Tensor) -> None:
        """Puts the prefix, [P, heads, head size], of a page into a row."""
        self.keys[layer, row, :, : key.shape[0]] = key.transpose(0, 1)
        self.values[layer, row, :, : value.shape[0]] = value.transpose(0, 1)

    def open(self, row: int, length: int) -> None:
        """Says that a row holds a prefix of `length` tokens and nothing else."""
        self.tags[row, :length] = 0
        self._end(row, length)

    def move(self, source: int, target: int) -> None:
        """Copies a row over another."""
        length = int(self.lengths[source])
        for part in (self.keys, self.values):
            part[:, target, :, :length] = part[:, source, :, :length]
        self.tags[target, :length] = self.tags[source, :length]
        self._end(target, length)

    def _end(self, row: int, length: int) -> None:
        # a page whose numbers overflowed leaves NaN behind, which no mask would hide from this one
        self.keys[:, row, :, length:] = 0
        self.values[:, row, :, length:] = 0
        self.lengths[row] = length

    def keep(self, rows: NDArray[np.int64], counts: NDArray[np.int64], kept: Any) -> None:
        """Ends a step: of each row's new tokens those that `kept` (bool, in order of rows) says.

        `rows` are the rows fed, each once, and `counts` their tokens.
        """
        starts = np.repeat(self.lengths[rows], counts)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        source = starts + np.arange(len(first)) - first
        before = np.cumsum(kept) - kept
        target = starts + before - before[first]
        of_row = np.repeat(rows, counts)
        self.lengths[rows] += np.add.reduceat(kept, np.cumsum(counts) - counts)
        moved = kept.astype(bool) & (source != target)
        if not moved.any():
            return
        row, old, new = _queued(np.stack([of_row, source, target])[:, moved], self.device)
        for states in (self.keys, self.values):
            states[:, row, :, new] = states[:, row, :, old]
        self.tags[row, new] = self.tags[row, old]


def _queued(array: NDArray[np.int64], device: Any) -> Tensor:
    """`array` on `device`; on CUDA the copy waits for its turn there, and the host for nothing."""
    on_host = torch.from_numpy(array)
    if device.type != "cuda":
        return on_host.to(device)
    return on_host.pin_memory().to(device, non_blocking=True)
