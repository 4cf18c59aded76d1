"""A block cut into pieces: where it may be cut, and what every piece repeats."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from kosmos_loader.chunking.measuring import Limits
from kosmos_loader.chunking.prose import sentence_ends
from kosmos_loader.chunking.tables import Frame, cell_ends, frames_of, line_ends, with_rows
from kosmos_loader.chunking.text import Text
from kosmos_loader.document import Block

BREAK = "\n\n"
"""Between two blocks of a chunk."""

HYPHENS = "-\u00ad\u2010\u00ac"
"""What stands at the end of a line in the middle of a word."""

Fits = Callable[[Text], bool]


@dataclass(frozen=True, slots=True)
class Division:
    """Where a block may be cut."""

    borders: tuple[Sequence[int], ...]
    """Offsets, the last of them its end; the best kind of border first."""

    finer: tuple[Sequence[int], ...] = ()
    """Borders inside a row of a table, for a row that is larger than a chunk by itself."""

    closing: str = ""
    """After every piece but the last."""


class Left:
    """What is left of a block to be put into chunks; it may go on with a block of the next page."""

    def __init__(self, block: Block, limits: Limits) -> None:
        self.kind = block.kind
        self._limits = limits
        self._strip = "\r\n" if block.kind == "code" else None
        self._content = Text(block.markdown, block.spans).stripped(self._strip)
        self._frames = _frames(block, self._content)
        self._blocks = [(0, block)]
        self._start = 0
        self._is_begun = self._is_inside_row = False
        self._is_framed = True

    def __bool__(self) -> bool:
        return self._start < self.end

    @property
    def end(self) -> int:
        """Where it ends: the offset to cut at for all of it."""
        return len(self._content)

    @property
    def page(self) -> int:
        """The number of the page on which the next piece starts."""
        return self.origins(self.end)[0][0].page.number

    @property
    def is_begun(self) -> bool:
        """Whether a piece was taken."""
        return self._is_begun

    @property
    def character(self) -> str:
        """The first one of what is left."""
        return self._content.text[self._start : self._start + 1]

    @property
    def joiner(self) -> str:
        """What stands between the last piece and this one."""
        return self._gap if self._is_begun else BREAK

    @property
    def _gap(self) -> str:
        before = self._content.text[max(0, self._start - 100) : self._start]
        return before[len(before.rstrip()) :]

    def piece(self, end: int) -> Text:
        """What is left up to `end`, with what every piece of the block opens and closes with."""
        start, opening = self._start, Text()
        frame = self._frame if self._is_framed else None
        if frame is not None and end > frame.body:
            start, opening = max(start, frame.body), frame.opening
        piece = self._content.between(start, end).stripped(self._strip)
        if opening.text:
            piece = opening + piece
        closing = self._division.closing if self._is_framed and end < self.end else ""
        return piece + Text(closing) if closing else piece

    def origins(self, end: int) -> list[tuple[Block, int]]:
        """The blocks that what is left up to `end` comes from, and how many characters of each.

        Last, with none, comes the block whose header is repeated above it.
        """
        stops = [*(start for start, _ in self._blocks[1:]), self.end]
        lengths = [
            min(stop, end) - max(start, self._start)
            for (start, _), stop in zip(self._blocks, stops, strict=True)
        ]
        origins = [
            (block, length)
            for (_, block), length in zip(self._blocks, lengths, strict=True)
            if length > 0
        ]
        frame = self._frame if self._is_framed else None
        if frame is not None and frame.opening.spans:
            origins.append((frame.block, 0))
        return origins

    def drop_until(self, end: int) -> None:
        """Leave what stands after `end`."""
        self._start = end
        self._is_begun = True
        ends = self._division.borders[-1]
        self._is_inside_row = self.kind == "table" and ends[bisect_right(ends, end) - 1] != end
        self._is_framed = not self._is_inside_row

    def drop_frame(self) -> None:
        """Make the next piece without what is repeated in every piece."""
        self._is_framed = False

    def extend(self, block: Block) -> None:
        """Go on with `block`, which opens the next page.

        A word that is broken by a hyphen is put together again, without the hyphen. What was taken
        already is forgotten, so that a table over a thousand pages is never held as a whole.
        """
        taken = self._start - len(self._gap)
        stops = [*(start for start, _ in self._blocks[1:]), self.end]
        self._blocks = [
            (max(0, start - taken), of)
            for (start, of), stop in zip(self._blocks, stops, strict=True)
            if stop > taken
        ]
        current = [frame for frame in self._frames if frame.start <= self._start][-1:]
        later = [frame for frame in self._frames if frame.start > self._start]
        frames = [
            replace(frame, start=max(0, frame.start - taken), body=max(0, frame.body - taken))
            for frame in (*current, *later)
        ]
        content = self._content.between(taken, self.end)
        more = Text(block.markdown, block.spans).stripped()
        joiner = "\n" if block.kind in ("list", "table") else " "
        if is_broken_word(content, more):
            content, joiner = content.between(0, len(content) - 1), ""
        self._blocks.append((len(content) + len(joiner), block))
        if block.kind == "table":
            self._content, self._frames = with_rows(content, frames, more, block)
        else:
            self._content = content + Text(joiner) + more
        self._start -= taken
        vars(self).pop("_division", None)

    def fits_whole(self, fits: Fits) -> bool:
        """Whether all that is left fits."""
        if self._is_inside_row and self._borders[0][0] < self.end:
            return False
        return self._fits_until(self.end, fits)

    def cut(self, fits: Fits, *, least: float = 0.25) -> int:
        """The end of the best piece that fits, 0 where there is none.

        A good border that leaves less than `least` of a chunk before it is worse than white space.
        """
        best = 0
        for borders in self._borders:
            end = self._furthest(borders, fits)
            if end == self.end or (end and self._share(end) >= least):
                return end
            best = max(best, end)
        is_solid = self.kind == "table" and self._is_framed
        if best or is_solid:
            return best
        for borders in self._division.finer:
            if end := self._furthest(borders, fits):
                return end
        return self._before_mark(self._furthest(range(1, self.end + 1), fits))

    def cut_one(self, fits: Fits) -> int:
        """The end of the next sentence, item or row, or of the best piece of it that fits."""
        if self.kind == "code":
            return self.end if self.fits_whole(fits) else self.cut(fits)
        borders = self._borders[0]
        end = borders[bisect_right(borders, self._start)]
        return end if self._fits_until(end, fits) else self.cut(fits)

    @property
    def _frame(self) -> Frame | None:
        """What a piece that starts here repeats."""
        return next((f for f in reversed(self._frames) if f.start <= self._start), None)

    @property
    def _borders(self) -> Sequence[Sequence[int]]:
        if not self._is_inside_row:
            return self._division.borders
        ends = self._division.borders[-1]
        return [[ends[bisect_right(ends, self._start)]]]

    @cached_property
    def _division(self) -> Division:
        text = self._content.text
        match self.kind:
            case "table":
                return _rows(text, self._frames)
            case "code":
                return _code_lines(text)
            case "list":
                return _items(text)
            case _:
                return _sentences(text)

    def _share(self, end: int) -> float:
        return self._limits.measure(self.piece(end).text) / self._limits.size

    def _furthest(self, borders: Sequence[int], fits: Fits) -> int:
        """The last of `borders` up to which the piece fits, 0 where there is none.

        Steps double until a piece is too large, so that nothing much larger than a chunk is ever
        measured; halving decides the rest.
        """
        low = reach = bisect_right(borders, self._start)
        step, best = 1, 0
        while reach < len(borders) and self._fits_until(borders[reach], fits):
            best = borders[reach]
            low, reach, step = reach + 1, reach + step, step * 2
        high = min(reach, len(borders))
        while low < high:
            middle = (low + high) // 2
            if self._fits_until(borders[middle], fits):
                best, low = borders[middle], middle + 1
            else:
                high = middle
        return best

    def _fits_until(self, end: int, fits: Fits) -> bool:
        """Whether what is left up to `end` fits; of a text far too long, little is measured.

        A token is rarely longer than eight characters. Where it is, all of the text is measured.
        """
        near = self._start + 8 * self._limits.size
        return (end <= near or fits(self.piece(near))) and fits(self.piece(end))

    def _before_mark(self, end: int) -> int:
        """`end`, or a little before it where it would part a letter from its accent."""
        text, at = self._content.text, end
        while self._start + 1 < at < len(text) and unicodedata.combining(text[at]):
            at -= 1
        return at if at > self._start + 1 else end


def is_broken_word(before: Text, after: Text) -> bool:
    """Whether a hyphen at the end of `before` breaks a word that `after` goes on with."""
    text = before.text
    if not (text[-1:] in HYPHENS and text[-2:-1].isalpha() and after.text[:1].islower()):
        return False
    # a box that holds nothing but the hyphen would be lost with it
    return not before.spans or before.spans[-1].start < len(text) - 1


_ITEM = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,4}[.)])[ \t]", re.MULTILINE)
_FENCE = re.compile(r"(?P<marks>`{3,}|~{3,})[^\n]*\n")


def _frames(block: Block, content: Text) -> list[Frame]:
    if block.kind == "table":
        return frames_of(content, block)
    fence = _FENCE.match(content.text) if block.kind == "code" else None
    return [Frame(0, Text(fence.group()), fence.end(), block)] if fence else []


def _sentences(text: str) -> Division:
    return Division((_ended(sentence_ends(text), text), line_ends(text), _words(text)))


def _items(text: str) -> Division:
    items = [match.start() for match in _ITEM.finditer(text) if match.start()]
    return Division((_ended(items, text), *_sentences(text).borders))


def _code_lines(text: str) -> Division:
    fence = _FENCE.match(text)
    return Division((line_ends(text), _words(text)), closing="\n" + fence["marks"] if fence else "")


def _rows(text: str, frames: Sequence[Frame]) -> Division:
    """Between rows; below a header only where no row fits beside it."""
    ends = line_ends(text)
    bodies = {frame.body for frame in frames}
    below = frames[0].body if frames and not frames[0].start else 0
    rows = [end for end in ends if end > below and end not in bodies] or ends[-1:]
    return Division((rows, [end for end in ends if end >= below]), (cell_ends(text), _words(text)))


def word_starts(text: str) -> list[int]:
    """Where each word but the first starts."""
    return [match.end() for match in re.finditer(r"\s+", text)]


def _words(text: str) -> list[int]:
    return _ended(word_starts(text), text)


def _ended(borders: list[int], text: str) -> list[int]:
    return borders if borders and borders[-1] == len(text) else [*borders, len(text)]
