"""The lines of a chunk: what a citation can name, and what one of them shows."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from operator import attrgetter

from kosmos_loader.chunking import cells_of, is_separator, plain, plain_inline, sentence_ends
from kosmos_loader.document import Chunk, Citation, Region, Span
from kosmos_loader.geometry import Box, overlap


@dataclass(frozen=True)
class Passage:
    """Characters `start..end` of a chunk."""

    chunk: Chunk
    start: int
    end: int

    @cached_property
    def text(self) -> str:
        """The words, without markdown marks."""
        text = self.chunk.text
        first, _, others = text[self.start : self.end].partition("\n")
        begins = self.start == 0 or text[self.start - 1] == "\n"
        words = plain(first) if begins else plain_inline(first)
        return " ".join(filter(None, [words, plain(others)]))

    @cached_property
    def regions(self) -> list[Region]:
        """Where they stand on paper: (page, box), each once."""
        return self.chunk.boxes(self.start, self.end)

    @property
    def page(self) -> int:
        """The page on which they start."""
        return self.regions[0][0] if self.regions else self.chunk.page

    @property
    def citation(self) -> Citation:
        """The passage as what an answer rests on."""
        return Citation(
            quote=self.text,
            source=self.chunk.source,
            page=self.page,
            regions=tuple(self.regions),
            chunk_id=self.chunk.chunk_id,
            start=self.start,
            end=self.end,
        )

    @property
    def shown(self) -> str:
        """The words as one reads them best: a table row with the names of its columns."""
        text = self.chunk.text
        at, stop = text.rfind("\n", 0, self.start) + 1, text.find("\n", self.end)
        row = text[at : stop if stop >= 0 else len(text)]
        if not _is_row(row):
            return self.text
        cells, names = cells_of(row), _column_names(text[:at])
        if len(cells) != len(names) or not all(_is_name(name) for name in names):
            return "  ".join(cell for cell in cells if cell)
        return "; ".join(f"{name}: {cell}" for name, cell in zip(names, cells, strict=True) if cell)

    def says_the_same_as(self, other: Passage) -> bool:
        """Whether both quote one place, in one chunk or in two that overlap."""
        same_chunk = self.chunk.chunk_id == other.chunk.chunk_id
        if same_chunk and self.start < other.end and other.start < self.end:
            return True
        same_document = self.chunk.doc_id == other.chunk.doc_id
        return same_document and bool(self.regions) and set(self.regions) <= set(other.regions)


@dataclass(frozen=True)
class Line(Passage):
    """What stands in one row of a page, or in one row of a table."""

    paragraph: tuple[int, int]
    """The characters of the markdown line that it is part of."""

    is_row: bool = False
    """Whether it is a row of a table."""

    head: Line | None = None
    """The row with the names of the columns, of a row below it."""

    is_head: bool = False
    is_turned: bool = False
    """Whether the lines of the page run down it, on a page that lies on its side."""

    @property
    def is_heading(self) -> bool:
        """Whether it is the heading of a section."""
        return self.chunk.text.startswith("#", self.paragraph[0])

    @property
    def written(self) -> str:
        """The words in one line of text; cells of a table stay apart."""
        if not self.is_row:
            return self.text
        return " | ".join(cells_of(self.chunk.text[slice(*self.paragraph)]))

    @cached_property
    def extents(self) -> dict[int, Extent]:
        """How far down each page the line reaches: its upper and its lower edge as one reads."""
        extents: dict[int, Extent] = {}
        for page, box in self.regions:
            top, bottom = _extent(box, is_turned=self.is_turned)
            before = extents.get(page, (top, bottom))
            extents[page] = (min(top, before[0]), max(bottom, before[1]))
        return extents

    def is_beside(self, other: Line) -> bool:
        """Whether both share a row of a page, as a label and its value do."""
        pages = self.extents.keys() & other.extents.keys()
        return any(_share_row(self.extents[page], other.extents[page]) for page in pages)


Extent = tuple[float, float]
"""Upper and lower edge of a line in fractions of the page; where the lines of the page run down it,
its left and right edge."""


_MARKDOWN_LINE = re.compile(r"[^\n]+")
_FENCE = re.compile(r"\s*(?:```|~~~)")


def lines_of(chunk: Chunk) -> list[Line]:
    """The lines of `chunk` that hold words, in order."""
    lines: list[Line] = []
    head: Line | None = None
    is_turned = _is_turned(chunk)
    for match in _MARKDOWN_LINE.finditer(chunk.text):
        text, (start, end) = match.group(), match.span()
        if is_separator(text):
            head = _as_head(lines)
        elif _is_row(text):
            row = Line(chunk, *trimmed(chunk.text, start, end), (start, end), True, head)
            lines.append(replace(row, is_turned=is_turned))
        elif text.strip() and not _FENCE.match(text):
            head = None
            lines += [
                Line(chunk, *trimmed(chunk.text, a, b), (start, end), is_turned=is_turned)
                for a, b in pairwise([start, *_row_starts(chunk, start, end, is_turned), end])
            ]
    return [line for line in lines if line.text]


def _as_head(lines: list[Line]) -> Line | None:
    """The last of `lines` made the head of a table, where it holds names and no data."""
    if not lines or not lines[-1].is_row:
        return None
    cells = cells_of(lines[-1].chunk.text[slice(*lines[-1].paragraph)])
    if not any(cells) or not all(_is_name(cell) for cell in cells if cell):
        return None
    lines[-1] = replace(lines[-1], is_head=True)
    return lines[-1]


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """`start..end` without the white space and the pipes of a table at its ends."""
    piece = text[start:end]
    bare = piece.strip(" \t\r\n|")
    start += piece.index(bare)
    return start, start + len(bare)


def _is_row(markdown: str) -> bool:
    return markdown.lstrip().startswith("|")


def _row_starts(chunk: Chunk, start: int, end: int, is_turned: bool) -> list[int]:
    """Where a new row of the page starts inside characters `start..end` of the chunk.

    Text without spans is taken by sentences.
    """
    first = bisect_right(chunk.spans, start, key=attrgetter("end"))
    last = bisect_left(chunk.spans, end, key=attrgetter("start"))
    spans = chunk.spans[first:last]
    if not spans:
        return [start + at for at in sentence_ends(chunk.text[start:end])]

    def extents(*spans: Span) -> list[Extent]:
        return [_extent(span.box, is_turned=is_turned) for span in spans]

    return [
        span.start
        for before, span in pairwise(spans)
        if not is_label(chunk.text[before.start : before.end])
        and not (before.page == span.page and _share_row(*extents(before, span)))
    ]


def is_label(text: str) -> bool:
    """Whether `text` is the name of a field, whose value follows or stands below it."""
    return text.rstrip().endswith(":") and len(text) <= 40


def _is_turned(chunk: Chunk) -> bool:
    """Whether most lines of some length are higher than wide."""
    shapes = [
        box.height * chunk.page_height > box.width * chunk.page_width
        for box in (span.box for span in chunk.spans if span.end - span.start >= 5)
    ]
    return 2 * sum(shapes) > len(shapes)


def _extent(box: Box, *, is_turned: bool) -> Extent:
    return (box.x0, box.x1) if is_turned else (box.y0, box.y1)


def _share_row(a: Extent, b: Extent) -> bool:
    return overlap(*a, *b) > 0.5 * min(a[1] - a[0], b[1] - b[0])


def _is_name(cell: str) -> bool:
    """Whether `cell` can be the name of a column; one with a number that is no year holds data."""
    is_year = len(cell) == 4 and cell.isdecimal()
    return is_year or (bool(cell) and not any(character.isdecimal() for character in cell))


def _column_names(before: str) -> list[str]:
    """The cells of the head of the table that goes on after `before`."""
    lines = before.rstrip("\n").split("\n")
    for above, line in zip(reversed(lines[:-1]), reversed(lines), strict=False):
        if is_separator(line):
            return cells_of(above)
        if not _is_row(line):
            break
    return []
