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

    Rows beyond `lengths` hold what earlier pages left there, which no mask lets through.
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
        self.lengths[row] = length

    def move(self, source: int, target: int) -> None:
        """Copies a row over another."""
        length = int(self.lengths[source])
        for part in (self.keys, self.values):
            part[:, target, :, :length] = part[:, source, :, :length]
        self.tags[target, :length] = self.tags[source, :length]
        self.lengths[target] = length

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
        row, old, new = (
            torch.from_numpy(part[moved]).to(self.device) for part in (of_row, source, target)
        )
        for states in (self.keys, self.values):
            states[:, row, :, new] = states[:, row, :, old]
        self.tags[row, new] = self.tags[row, old]


NARROW = 5
"""Tokens of a row that are cheap to pad to on the CPU: one, and a draft of the next box's left."""


@dataclass(frozen=True, eq=False)
class Group:
    """Rows that are attended to together: R rows, at most Q tokens each, L places."""

    rows: slice | Tensor
    """A slice, which takes no copy, or [R] row numbers."""

    tokens: Tensor
    """[n]: which of the step's tokens are in it."""

    row: Tensor
    """[n]: the row of each, by its number in the group."""

    column: Tensor
    """[n]: place among the tokens of its row, below Q."""

    bias: Tensor
    """[R, 1, Q, L]: 0 where a token sees, minus infinity where it does not."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the N tokens of a step stand in the cache, and how attention goes over them."""

    row: Tensor
    """[N]"""

    place: Tensor
    """[N]: place in the row."""

    groups: tuple[Group, ...]


class MaskedAttention:
    """Attention over rows with a mask, in plain tensor operations: any device.

    The keys of a page are read once for all its tokens, whichever of its sequences they belong to:
    those of the other sequence are masked out, which costs arithmetic and no memory traffic. Rows
    are padded to the one with most tokens; on the CPU, where arithmetic is what is short, the few
    rows with many tokens are taken out and make a group of their own.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.narrow = NARROW if cache.device.type == "cpu" else None

    def layout(
        self, rows: NDArray[np.int64], counts: NDArray[np.int64], tags: NDArray[np.int32]
    ) -> Layout:
        """The layout of a step that feeds `counts` tokens to each of `rows`, tagged `tags` [N]."""
        first = np.repeat(np.cumsum(counts) - counts, counts)
        column = np.arange(len(tags)) - first
        row = np.repeat(rows, counts)
        place = np.repeat(self.cache.lengths[rows], counts) + column
        row_, place_ = self._tensor(row), self._tensor(place)
        self.cache.tags[row_, place_] = self._tensor(tags)
        wide = counts > (self.narrow or counts.max())
        up_to_narrow = np.arange(rows[~wide].max(initial=-1) + 1)
        groups = []
        for members, chosen in ((up_to_narrow, ~wide), (rows[wide], wide)):
            if chosen.any():
                tokens = np.flatnonzero(np.repeat(chosen, counts))
                groups.append(self._group(members, tokens, row, column, place, tags))
        return Layout(row_, place_, tuple(groups))

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.cache.device)

    def _group(
        self,
        rows: NDArray[np.int64],
        tokens: NDArray[np.int64],
        row: NDArray[np.int64],
        column: NDArray[np.int64],
        place: NDArray[np.int64],
        tags: NDArray[np.int32],
    ) -> Group:
        """The group of `rows` and, of the tokens at `row`, `column` and `place`, of `tokens`."""
        seen = int(place[tokens].max()) + 1
        shape = len(rows), int(column[tokens].max()) + 1
        # what no token stands on sees the first key, so that its softmax is not empty
        last = np.zeros(shape, np.int64)
        own = np.zeros(shape, np.int32)
        at = np.searchsorted(rows, row[tokens]), column[tokens]
        last[at], own[at] = place[tokens], tags[tokens]
        among: slice | Tensor = self._tensor(rows)
        if len(rows) == rows[-1] + 1:
            among = slice(0, len(rows))
        keys = self.cache.tags[among, None, :seen]
        visible = (keys == 0) | (keys == self._tensor(own)[:, :, None])
        visible &= torch.arange(seen, device=keys.device) <= self._tensor(last)[:, :, None]
        bias = torch.zeros(visible.shape, dtype=self.cache.keys.dtype, device=keys.device)
        bias.masked_fill_(~visible, -torch.inf)
        return Group(
            among, self._tensor(tokens), self._tensor(at[0]), self._tensor(at[1]), bias[:, None]
        )

    def __call__(
        self, layout: Layout, layer: int, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """[N, width]: what the tokens find, their own keys and values written beforehand."""
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        keys[layout.row, :, layout.place] = key
        values[layout.row, :, layout.place] = value
        query = query * query.shape[-1] ** -0.5
        found = query.new_empty(query.shape)
        for group in layout.groups:
            seen = group.bias.shape[-1]
            found[group.tokens] = attend(
                group, query, keys[group.rows, :, :seen], values[group.rows, :, :seen]
            )
        return found.flatten(1)


def attend(group: Group, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """[n, heads, head size] for the n tokens of a group, of the scaled queries of all.

    `keys` and `values` are [R, heads, L, head size].
    """
    rows, _, columns, _ = group.bias.shape
    padded = query.new_zeros(rows, columns, *query.shape[1:])
    padded[group.row, group.column] = query[group.tokens]
    scores = padded.transpose(1, 2) @ keys.transpose(2, 3)
    weights = scores.add_(group.bias).softmax(dim=-1)
    return (weights @ values).transpose(1, 2)[group.row, group.column]
