"""Passages that markdown and lines share, chained where they run on side by side.

Sources: unique common passages as in patience diff (B. Cohen); chains of matches as in Li,
"Minimap2: pairwise alignment for nucleotide sequences", Bioinformatics 34 (2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.align.stream import Indices, Stream

GRAM = 6
"""Characters of the shortest passage that is believed to be the same in both, if it is unique."""

REACH = 200
"""Characters between two passages of one island, at most: two or three lines."""

LOOK_BACK = 16
"""Runs before a run that may come before it in its chain."""


@dataclass(frozen=True, slots=True)
class Run:
    """`size` characters of both streams side by side, most of them the same."""

    written: int
    read: int
    size: int
    same: int

    def cut(self, start: int, end: int) -> Run:
        """The part of the run from `start` to `end`."""
        missing = self.size - (end - start)
        return Run(self.written + start, self.read + start, end - start, self.same - missing)


def islands(written: Stream, read: Stream) -> Iterator[list[Run]]:
    """Chains of runs, those that share most first."""
    runs = _runs(written.codes, read.codes)
    scores, before = _chained(runs)
    used = [False] * len(runs)
    for end in sorted(range(len(runs)), key=scores.__getitem__, reverse=True):
        chain: list[Run] = []
        at = end
        while at >= 0 and not used[at]:
            used[at] = True
            chain.append(runs[at])
            at = before[at]
        if chain:
            yield chain[::-1]


def _runs(written: NDArray[np.uint32], read: NDArray[np.uint32]) -> list[Run]:
    """Runs that both streams hold once, in the order of `written`."""
    if min(len(written), len(read)) < GRAM:
        return []
    known_written, places_written = _unique(_grams(written))
    known_read, places_read = _unique(_grams(read))
    _, a, b = np.intersect1d(known_written, known_read, assume_unique=True, return_indices=True)
    if not a.size:
        return []
    a, b = places_written[a], places_read[b]
    order = np.argsort(a)
    a, b = a[order], b[order]
    # runs on one diagonal are one, with what a reader took for something else between them
    is_break = (np.diff(b - a) != 0) | (np.diff(a) > 4 * GRAM)
    for at in np.nonzero(~is_break & (np.diff(a) > GRAM + 1))[0].tolist():
        between = written[a[at] + GRAM : a[at + 1]] == read[b[at] + GRAM : b[at + 1]]
        is_break[at] = 2 * np.count_nonzero(between) < between.size
    breaks = np.nonzero(is_break)[0] + 1
    firsts = np.concatenate(([0], breaks))
    lasts = np.concatenate((breaks, [a.size])) - 1
    sizes = a[lasts] - a[firsts] + GRAM
    return [
        Run(i, j, n, int(np.count_nonzero(written[i : i + n] == read[j : j + n])))
        for i, j, n in zip(a[firsts].tolist(), b[firsts].tolist(), sizes.tolist(), strict=True)
    ]


def _grams(codes: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """A hash of each `GRAM` characters in a row, 64 bits."""
    count = len(codes) - GRAM + 1
    hashed = np.zeros(count, np.uint64)
    for offset in range(GRAM):
        hashed = hashed * np.uint64(0x9E3779B97F4A7C15) + codes[offset : offset + count]
    return hashed


def _unique(values: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], Indices]:
    """The values that occur once, sorted, and their places."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    changes = np.concatenate(([True], ordered[1:] != ordered[:-1], [True]))
    single = changes[1:] & changes[:-1]
    return ordered[single], order[single]


def _chained(runs: list[Run]) -> tuple[list[float], list[int]]:
    """For each run the score of the best chain that ends with it, and the run before it, or -1."""
    scores: list[float] = []
    before: list[int] = []
    for index, run in enumerate(runs):
        best, chosen = 0.0, -1
        for other in range(index - 1, max(-1, index - 1 - LOOK_BACK), -1):
            last = runs[other]
            skipped = run.written - last.written - last.size
            missed = run.read - last.read - last.size
            if skipped > REACH or missed > REACH or min(skipped, missed) < -GRAM:
                continue
            score = scores[other] - 0.1 * abs(skipped - missed) + min(skipped, missed, 0)
            if score > best:
                best, chosen = score, other
        scores.append(best + run.same)
        before.append(chosen)
    return scores, before
