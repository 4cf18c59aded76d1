"""Which character of the lines each character of the markdown is.

Both are streams of folded characters. Passages that both hold once are found first, wherever they
stand, and chained to islands where they run on side by side; the largest islands are believed
first, and no character of a line belongs to two. Cells and lines of the same text are paired next.
What lies between two neighbours that follow one another in both is then aligned character by
character, and what is left is sought, line by line, in what is left. Made-up text finds nothing,
since true text has taken what it could resemble.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein, Opcode

from kosmos_loader.align.islands import GRAM, REACH, Run, islands
from kosmos_loader.align.stream import Indices, Stream, stretches

ISLAND = 12
"""Characters that an island must share, unless it fills a line."""

ALIKE = 0.9
"""Share of the same characters of two stretches that are one and the same, but for slips."""

SIMILAR = 0.5
"""Share of two stretches that may be the same; random English aligned as well as can be shares a
third."""

ADOPTED = 3
"""Characters of a word that take the line of their neighbours."""

MOST_CELLS = 10**9
"""Of a table of two stretches that are aligned as a whole: about 50 ms."""

SHORTEST = 3
"""Characters of a piece of a line that is sought by itself."""

SLACK = 4
"""Characters by which a piece may be longer or shorter in the other reading."""

MOST_PLACES = 40
"""Where three characters are looked up, at most."""

WEAK = 0.45
"""Share of the same characters around one below which nothing is believed."""

WINDOW = 7
"""Characters before and behind one that are around it."""


_NO_WORD = re.compile(r"[^\w]")


def match(written: Stream, read: Stream) -> Indices:
    """For each character of `written` the index of its character in `read`, -1 where it has none.

    Each character of `read` is given once at most.
    """
    claims = _Claims(written, read)
    for island in islands(written, read):
        claims.take_island(island)
    claims.fill_gaps(ALIKE)
    claims.place_units()
    claims.fill_gaps(SIMILAR)
    claims.finish_lines()
    claims.place_rest()
    claims.fill_gaps(SIMILAR)
    claims.drop_weak()
    return claims.of_written


class _Claims:
    """Who has what: grows while characters are given to one another."""

    def __init__(self, written: Stream, read: Stream) -> None:
        self.written, self.read = written, read
        self.of_written = np.full(len(written), -1, np.int64)
        self.of_read = np.full(len(read), -1, np.int64)

    def claim(self, written: int, read: int, size: int) -> None:
        """Give `size` characters in a row to one another."""
        self.of_written[written : written + size] = np.arange(read, read + size)
        self.of_read[read : read + size] = np.arange(written, written + size)

    def take_island(self, island: list[Run]) -> None:
        """Claim what is free of an island, if that is worth it."""
        free = [part for run in island for part in self._free(self._trimmed(run))]
        same = sum(run.same for run in free)
        if same >= ISLAND or (same >= GRAM and self._fills_line(free)):
            for run in free:
                if self._is_free(run):  # runs of an island may overlap by a few characters
                    self.claim(run.written, run.read, run.size)

    def _trimmed(self, run: Run) -> Run:
        """`run` without the few characters at its ends that belong to another line.

        Another line may start or end alike and not be there; if it is, filling the gaps gives it
        back.
        """
        borders, owners = self.read.borders, self.read.owners
        head = int(borders[owners[run.read] + 1]) - run.read
        if head < min(GRAM, run.size):
            run = run.cut(head, run.size)
        tail = run.read + run.size - int(borders[owners[run.read + run.size - 1]])
        if tail < min(GRAM, run.size):
            run = run.cut(0, run.size - tail)
        return run

    def _free(self, run: Run) -> list[Run]:
        """The longest part of `run` that nobody has."""
        if self._is_free(run):
            return [run]
        taken = (self.of_written[run.written : run.written + run.size] >= 0) | (
            self.of_read[run.read : run.read + run.size] >= 0
        )
        start, end = max(stretches(~taken), key=lambda s: s[1] - s[0], default=(0, 0))
        if end - start < GRAM:
            return []
        return [run.cut(start, end)]

    def _is_free(self, run: Run) -> bool:
        return not (
            (self.of_written[run.written : run.written + run.size] >= 0).any()
            or (self.of_read[run.read : run.read + run.size] >= 0).any()
        )

    def _fills_line(self, runs: list[Run]) -> bool:
        line = self.read.owners[runs[0].read]
        size = self.read.borders[line + 1] - self.read.borders[line]
        return bool(sum(run.same for run in runs) >= 0.6 * size)

    def fill_gaps(self, least: float) -> None:
        """Align what lies between two neighbours with what lies between them in the lines.

        `least` is the share of the same characters from which on that is believed.
        """
        for start, end in stretches(self.of_written < 0):
            before = int(self.of_written[start - 1]) if start else -1
            after = int(self.of_written[end]) if end < len(self.written) else len(self.read)
            is_between = before < after and bool((self.of_read[before + 1 : after] < 0).all())
            if is_between:
                self._fill(start, end, before + 1, after, least)

    def finish_lines(self) -> None:
        """Give the rest of a line, at both ends, to what stands beside the part that is known."""
        for start, end in stretches(self.of_written < 0):
            reached = start
            if start:
                reached = self._extend(start, end, int(self.of_written[start - 1]) + 1)
            if end < len(self.written):
                self._extend_back(reached, end, int(self.of_written[end]))

    def _fill(self, start: int, end: int, first: int, last: int, least: float) -> None:
        """Align both stretches as a whole, where they are not too different for that."""
        most = max(end - start, last - first)
        if abs((end - start) - (last - first)) > SLACK + 0.25 * most:
            return
        if (end - start) * (last - first) > MOST_CELLS:
            shared = self._shared(start, end, first, last)
            self.claim(start, first, shared)
            start, first = start + shared, first + shared
            if (end - start) * (last - first) > MOST_CELLS:
                return
        written, read = self.written.text[start:end], self.read.text[first:last]
        ops = Levenshtein.opcodes(written, read)
        same = sum(op.src_end - op.src_start for op in ops if op.tag == "equal")
        if (
            same >= least * most
            or self._is_inside_line(first, last)
            or _NO_WORD.sub("", written) == _NO_WORD.sub("", read)
        ):
            self._take_pairs(ops, start, first)

    def _shared(self, start: int, end: int, first: int, last: int) -> int:
        """How many characters both stretches begin with alike."""
        size = min(end - start, last - first)
        written = self.written.codes[start : start + size]
        [other] = np.nonzero(written != self.read.codes[first : first + size])
        return int(other[0]) if other.size else size

    def _is_inside_line(self, first: int, last: int) -> bool:
        """Whether a line holds all from the character before `first` to that at `last`."""
        owners = self.read.owners
        return first > 0 and last < len(owners) and bool(owners[first - 1] == owners[last])

    def _take_pairs(self, ops: Iterable[Opcode], start: int, first: int) -> None:
        """Claim what is the same and what was read otherwise, counted from `start` and `first`."""
        for op in ops:
            if op.tag in ("equal", "replace"):
                self.claim(start + op.src_start, first + op.dest_start, op.src_end - op.src_start)

    def _extend(self, start: int, end: int, first: int) -> int:
        """Give the rest of a line to what follows its beginning; where that ends."""
        if first >= len(self.read) or self.of_read[first] >= 0 or not first:
            return start
        line = self.read.owners[first - 1]
        stop = int(self.read.borders[line + 1])
        taken = np.nonzero(self.of_read[first:stop] >= 0)[0]
        stop = first + int(taken[0]) if taken.size else stop
        if stop <= first:
            return start
        tail = self.read.text[first:stop]
        room = self.written.text[start : min(end, start + len(tail) + 2)]
        return start + self._take_alike(room, tail, start, first)

    def _extend_back(self, start: int, end: int, last: int) -> None:
        """Give the beginning of a line to what stands before the rest of it."""
        if last <= 0 or last >= len(self.read) or self.of_read[last - 1] >= 0:
            return
        line = self.read.owners[last]
        first = int(self.read.borders[line])
        taken = np.nonzero(self.of_read[first:last] >= 0)[0]
        first = first + int(taken[-1]) + 1 if taken.size else first
        if first >= last:
            return
        head = self.read.text[first:last]
        begin = max(start, end - len(head) - 2)
        room = self.written.text[begin:end]
        self._take_alike(room, head, begin, first)

    def _take_alike(self, written: str, read: str, start: int, first: int) -> int:
        """Claim what two short texts share, if that is most of `read`; how far it reaches."""
        ops = [op for op in Levenshtein.opcodes(written, read) if op.tag in ("equal", "replace")]
        same = sum(op.src_end - op.src_start for op in ops if op.tag == "equal")
        if not same or 2 * same < len(read):
            return 0
        self._take_pairs(ops, start, first)
        return ops[-1].src_end

    def place_units(self) -> None:
        """Give cells, items and lines of the markdown to lines of the same text, in order."""
        lines: dict[str, list[int]] = defaultdict(list)
        items: dict[str, list[int]] = defaultdict(list)  # without the mark they start with
        for first, last in _within(self.of_read < 0, self.read.borders, whole=True):
            text = self.read.text[first:last]
            lines[text].append(first)
            if text[0] in "-*+":
                items[text[1:]].append(first + 1)
        if not lines:
            return
        for start, end in _within(self.of_written < 0, self.written.borders, whole=True):
            text = self.written.text[start:end]
            places = lines.get(text) or items.get(text)
            if places:
                near = places.pop(_nearest(places, self._expected(start)))
                if self.of_read[near] < 0:
                    self.claim(start, near, end - start)

    def _expected(self, start: int) -> int:
        """Where `start` would be read if it followed what stands before it."""
        begin = max(0, start - REACH)
        [known] = np.nonzero(self.of_written[begin:start] >= 0)
        return int(self.of_written[begin + int(known[-1])]) + 1 if known.size else 0

    def place_rest(self) -> None:
        """Seek what is left of each line in what is left of the markdown."""
        pieces = [
            (first, last)
            for first, last in _within(self.of_read < 0, self.read.borders)
            if last - first >= SHORTEST
        ]
        rooms = [s for s in stretches(self.of_written < 0) if s[1] - s[0] >= SHORTEST]
        if not pieces or not rooms:
            return
        index: dict[str, list[int]] = defaultdict(list)
        for start, end in rooms:
            for at in range(start, end - SHORTEST + 1):
                index[self.written.text[at : at + SHORTEST]].append(at)
        for first, last in pieces:
            self._place(first, last, index)

    def _place(self, first: int, last: int, index: Mapping[str, Sequence[int]]) -> None:
        piece = self.read.text[first:last]
        votes: dict[int, int] = defaultdict(int)
        for offset in range(len(piece) - SHORTEST + 1):
            for at in index.get(piece[offset : offset + SHORTEST], ())[:MOST_PLACES]:
                votes[(at - offset) // SLACK] += 1
        for bucket in sorted(votes, key=votes.__getitem__, reverse=True)[:3]:
            start = max(0, bucket * SLACK - SLACK)
            end = min(len(self.written), start + len(piece) + 3 * SLACK)
            for begin, stop in stretches(self.of_written[start:end] < 0):
                if stop - begin < 0.6 * len(piece):
                    continue
                room = self.written.text[start + begin : start + stop]
                if self._place_in(room, start + begin, piece, first):
                    return

    def _place_in(self, room: str, start: int, piece: str, first: int) -> bool:
        ops = Levenshtein.opcodes(room, piece)
        same = [op for op in ops if op.tag == "equal"]
        if not same or sum(op.src_end - op.src_start for op in same) < 0.65 * len(piece):
            return False
        reach = same[-1].src_end - same[0].src_start
        if reach > len(piece) + SLACK:
            return False
        self._take_pairs(ops, start, first)
        return True

    def drop_weak(self) -> None:
        """Take back what was aligned for want of anything better."""
        claimed = self.of_written >= 0
        same = np.zeros(len(self.written), bool)
        same[claimed] = self.written.codes[claimed] == self.read.codes[self.of_written[claimed]]
        weak = claimed & (_around(same) < WEAK * _around(claimed))
        self.of_read[self.of_written[weak]] = -1
        self.of_written[weak] = -1


def lines_of(matched: Indices, written: Stream, read: Stream) -> Indices:
    """For each character of `written` the line it stands in, -1 where none is known.

    A word of which a line holds one part holds the rest of it too, where that is no more than a
    few characters: they were read otherwise, or not at all.
    """
    lines = np.full(len(written), -1, np.int64)
    known = matched >= 0
    lines[known] = read.owners[matched[known]]
    words = written.words
    for start, end in stretches(~known):
        if end - start > ADOPTED:
            continue
        for at in range(start, end):
            if at and words[at - 1] == words[at] and lines[at - 1] >= 0:
                lines[at] = lines[at - 1]
        for at in range(end - 1, start - 1, -1):
            if lines[at] < 0 and at + 1 < len(lines) and words[at + 1] == words[at]:
                lines[at] = lines[at + 1]
    return lines


def _nearest(places: Sequence[int], to: int) -> int:
    """The index of the one of the sorted `places` that is nearest, the later one if two are."""
    after = bisect_left(places, to)
    if after == len(places) or (after and to - places[after - 1] < places[after] - to):
        return after - 1
    return after


def _around(flags: NDArray[np.bool_]) -> Indices:
    """How many flags are set up to `WINDOW` before and behind each."""
    before = np.concatenate(([0], np.cumsum(flags)))
    places = np.arange(len(flags))
    ends = np.minimum(places + WINDOW + 1, len(flags))
    around: Indices = before[ends] - before[np.maximum(places - WINDOW, 0)]
    return around


def _within(
    flags: NDArray[np.bool_], borders: Indices, *, whole: bool = False
) -> list[tuple[int, int]]:
    """The stretches of set flags inside the parts that `borders` make; `whole` for full parts."""
    found: list[tuple[int, int]] = []
    parts = borders.tolist()
    for start, end in stretches(flags):
        at = bisect_left(parts, start + 1) - 1
        while at < len(parts) - 1 and parts[at] < end:
            first, last = max(start, parts[at]), min(end, parts[at + 1])
            if first < last and (not whole or (first, last) == (parts[at], parts[at + 1])):
                found.append((first, last))
            at += 1
    return found
