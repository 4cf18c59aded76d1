"""A reading as what OCR files are made of: regions, lines and words in whole pixels.

A reading knows the places of lines, and the formats want those of words too. They are estimated:
a line is divided among its characters by how wide they usually are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from kosmos_loader.compose import compose
from kosmos_loader.document import Line, Reading
from kosmos_loader.geometry import SLANTED, Box, Point, Quad
from kosmos_loader.ocr_files.model import slant, stripped

PixelBox = tuple[int, int, int, int]
"""x0, y0, x1, y1 in whole pixels of the page as seen."""

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow, not even as a reference (production 2)."""

HYPHENS = "-\u00ad\u2010\u00ac"
"""Characters that break a word at the end of a line."""

_NARROW = frozenset("iljtfrI.,:;'|!()[]`´‘’·")
_BROAD = frozenset("mwMW@%—…")


class Word(NamedTuple):
    """A word and its estimated place on its line."""

    text: str
    start: float
    """Share of the line's length before the word."""

    end: float


@dataclass(frozen=True, slots=True)
class WrittenWord:
    """A word in pixels."""

    text: str
    box: PixelBox


@dataclass(frozen=True, slots=True)
class WrittenLine:
    """A line in pixels."""

    words: tuple[WrittenWord, ...]
    box: PixelBox
    corners: tuple[tuple[int, int], ...]
    """As in a `Quad`; those of the box where the line is not slanted."""

    angle: float
    """Degrees clockwise, 0 where the line is not slanted."""

    confidence: float | None
    broken: str = ""
    """The whole word whose first half stands, with a hyphen, at the end of the line."""

    continued: str = ""
    """The whole word whose second half begins the line."""

    @property
    def text(self) -> str:
        """The words with a space between each two."""
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True, slots=True)
class Region:
    """Lines of one block."""

    kind: str
    """As `Block.kind`."""

    lines: tuple[WrittenLine, ...]

    @property
    def box(self) -> PixelBox:
        """The smallest that holds all lines."""
        x0, y0, x1, y1 = zip(*(line.box for line in self.lines), strict=True)
        return min(x0), min(y0), max(x1), max(y1)


def allowed(text: str) -> str:
    """`text` without what XML cannot hold, and with one space for each run of its white space.

    XML 1.0 has no way to write control characters other than tab and line ends, halves of surrogate
    pairs, and U+FFFE and U+FFFF; they stand for nothing on paper.
    """
    return stripped(_FORBIDDEN.sub("", text))


def escaped(text: str) -> str:
    """`text` between tags."""
    return escape(allowed(text))


def attribute(text: str) -> str:
    """`text` as the value of an attribute, with its quotes."""
    return quoteattr(allowed(text))


def words(text: str) -> list[Word]:
    """The words of a line, and between which shares of its length each stands."""
    widths = [_width(character) for character in text]
    total = sum(widths) or 1.0
    starts = [0.0]
    for width in widths:
        starts.append(starts[-1] + width)
    return [
        Word(match[0], starts[match.start()] / total, starts[match.end()] / total)
        for match in re.finditer(r"[^ ]+", text)
    ]


def _width(character: str) -> float:
    """Of a character in proportional type, in ems: means of common text faces."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    if character == " " or character in _NARROW:
        return 0.3
    if character in _BROAD:
        return 0.85
    return 0.65 if character.isupper() else 0.5


def part(corners: Sequence[Point], start: float, end: float) -> Quad:
    """The part of a line's `corners` from `start` to `end`, shares of its length."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners

    def along(a: Point, b: Point, share: float) -> Point:
        return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share

    top, bottom = ((ax, ay), (bx, by)), ((dx, dy), (cx, cy))
    return (along(*top, start), along(*top, end), along(*bottom, end), along(*bottom, start))


def corners_of(line: Line, reading: Reading) -> tuple[list[Point], float]:
    """Corners of a line in pixels, and its slant; where it has none, those of its box, and 0."""
    page = reading.page
    angle = slant(line, page)
    quad = line.quad
    if quad is None or abs(angle) <= SLANTED:
        x0, y0, x1, y1 = line.box.as_tuple()
        quad, angle = ((x0, y0), (x1, y0), (x1, y1), (x0, y1)), 0.0
    return [(x * page.width, y * page.height) for x, y in quad], angle


def regions(reading: Reading) -> list[Region]:
    """The lines of `reading` that hold text, in its order, by the blocks they belong to."""
    kinds = {
        span.box: (block.order, block.kind) for block in compose(reading) for span in block.spans
    }
    written = [
        (kinds.get(line.box, (-1, "paragraph")), text, line)
        for line in reading.lines
        if (text := allowed(line.text))
    ]
    return [
        Region(kind, tuple(_hyphenated([_written(text, line, reading) for _, text, line in group])))
        for (_, kind), group in groupby(written, key=lambda entry: entry[0])
    ]


def _written(text: str, line: Line, reading: Reading) -> WrittenLine:
    corners, angle = corners_of(line, reading)
    return WrittenLine(
        words=tuple(
            WrittenWord(word.text, _whole(Box.around(part(corners, word.start, word.end))))
            for word in words(text)
        ),
        box=_whole(Box.around(corners)),
        corners=tuple((round(x), round(y)) for x, y in corners),
        angle=angle,
        confidence=line.confidence,
    )


def _whole(box: Box) -> PixelBox:
    x0, y0, x1, y1 = (round(side) for side in box.as_tuple())
    return x0, y0, x1, y1


def _hyphenated(lines: Sequence[WrittenLine]) -> Iterable[WrittenLine]:
    """`lines` with the words that run over their ends."""
    marked = list(lines)
    for place, (line, after) in enumerate(pairwise(lines)):
        half, rest = line.words[-1].text, after.words[0].text
        if half[-1] in HYPHENS and half[-2:-1].isalpha() and rest[0].islower():
            whole = half[:-1] + rest
            marked[place] = replace(marked[place], broken=whole)
            marked[place + 1] = replace(marked[place + 1], continued=whole)
    return marked
