"""What the tokens of a step find in the cache, in plain tensor operations: any device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kosmos_loader.engine.cache import Cache

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS = 4
"""Rows of a block on the CPU: few enough to be of like length and to stay in its caches."""

NARROW = 4
"""Tokens of a row that are cheap to pad to on the CPU; a row with more is a block of its own."""


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring rows that are attended to together: R rows, at most Q tokens each, L places."""

    rows: slice
    padded: slice
    """Its R * Q places among the padded tokens of the step."""

    seen: int
    """L"""

    bias: Tensor | None
    """[R, 1, Q, L]: 0 where a token sees, minus infinity where not; None where all see all."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the N tokens of a step stand in the cache, and how attention goes over them."""

    write: Tensor
    """[N * heads]: where keys and values go, in a layer of the cache seen as [-1, head size]."""

    gather: Tensor
    """[M]: the token that stands at each padded place; some token where none does."""

    back: Tensor
    """[N]: the padded place of each token."""

    blocks: tuple[Block, ...]


class MaskedAttention:
    """Attention over rows with a mask.

    The keys of a page are read once for all its tokens, whichever of its sequences they belong to:
    those of the other sequence are masked out, which costs arithmetic and no memory traffic. Rows
    are padded to the longest of their block. On the CPU, where arithmetic is what is short, blocks
    are small; elsewhere, where calls are, a block is as many rows as lie side by side.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        on_cpu = cache.device.type == "cpu"
        self.most_rows = ROWS if on_cpu else cache.rows
        self.narrow = NARROW if on_cpu else cache.keys.shape[3]

    def layout(
        self, rows: NDArray[np.int64], counts: NDArray[np.int64], tags: NDArray[np.int32]
    ) -> Layout:
        """The layout of a step that feeds `counts` tokens to each of `rows`, tagged `tags` [N]."""
        cache = self.cache
        ends = np.cumsum(counts)
        row = np.repeat(rows, counts)
        column = np.arange(len(tags)) - np.repeat(ends - counts, counts)
        place = np.repeat(cache.lengths[rows], counts) + column
        cache.tags[self._tensor(row), self._tensor(place)] = self._tensor(tags)
        known = cache.tags.cpu().numpy()
        blocks, gather = [], []
        back = np.empty(len(tags), np.int64)
        size = 0
        for first, last in self._spans(rows, counts):
            tokens = slice(int(ends[first] - counts[first]), int(ends[last]))
            at = row[tokens] - rows[first], column[tokens]
            shape = last - first + 1, int(counts[first : last + 1].max())
            seen = int(place[tokens].max()) + 1
            # a place without a token sees the first key, so that its softmax is not empty
            standing, own, until = (np.zeros(shape, np.int64) for _ in range(3))
            standing[at] = np.arange(tokens.start, tokens.stop)
            own[at], until[at] = tags[tokens], place[tokens]
            among = slice(int(rows[first]), int(rows[last]) + 1)
            keys = known[among, None, :seen]
            visible = (keys == 0) | (keys == own[:, :, None])
            visible &= np.arange(seen) <= until[:, :, None]
            padded = slice(size, size + standing.size)
            back[tokens] = size + at[0] * shape[1] + at[1]
            size = padded.stop
            gather.append(standing.ravel())
            blocks.append(Block(among, padded, seen, self._bias(visible)))
        heads, capacity = cache.keys.shape[2:4]
        write = (row[:, None] * heads + np.arange(heads)) * capacity + place[:, None]
        return Layout(
            self._tensor(write.ravel()),
            self._tensor(np.concatenate(gather)),
            self._tensor(back),
            tuple(blocks),
        )

    def _spans(
        self, rows: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> Iterator[tuple[int, int]]:
        """First and last of the rows of each block, counted among `rows`."""
        first = 0
        for next_ in range(1, len(rows) + 1):
            goes_on = (
                next_ < len(rows)
                and next_ - first < self.most_rows
                and rows[next_] == rows[next_ - 1] + 1
                and max(counts[first], counts[next_]) <= self.narrow
            )
            if not goes_on:
                yield first, next_ - 1
                first = next_

    def _bias(self, visible: NDArray[np.bool_]) -> Tensor | None:
        if visible.all():
            return None
        bias = np.where(visible, np.float32(0), np.float32(-np.inf))[:, None]
        return self._tensor(bias).to(self.cache.keys.dtype)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.cache.device)

    def __call__(
        self, layout: Layout, layer: int, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """[N, width]: what the tokens find, their own keys and values written beforehand."""
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        heads, head_size = query.shape[1:]
        for states, new in ((keys, key), (values, value)):
            states.view(-1, head_size).index_copy_(0, layout.write, new.reshape(-1, head_size))
        query = (query * head_size**-0.5).index_select(0, layout.gather)
        found = torch.empty_like(query)
        for block in layout.blocks:
            shape = block.rows.stop - block.rows.start, -1, heads, head_size
            asked = query[block.padded].view(shape).transpose(1, 2)
            scores = asked @ keys[block.rows, :, : block.seen].transpose(2, 3)
            if block.bias is not None:
                scores += block.bias
            answered = scores.softmax(dim=-1) @ values[block.rows, :, : block.seen]
            found[block.padded].view(shape).copy_(answered.transpose(1, 2))
        return found.index_select(0, layout.back).flatten(1)
