"""Pipe tables: their header, what they repeat, and whether one goes on in another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from kosmos_loader.chunking.headings import PIPE, plain_inline
from kosmos_loader.chunking.text import Text
from kosmos_loader.document import Block

ALIKE = 90.0
"""Likeness (0..100) from which on two headers are one that was read twice: a misread letter or two
leave more."""

_SEPARATOR = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_YEAR = re.compile(r"(?:1[5-9]|20)\d\d")


def is_separator(line: str) -> bool:
    """Whether `line` is the row of dashes between the head of a pipe table and its body."""
    return "-" in line and _SEPARATOR.fullmatch(line.rstrip("\r\n")) is not None


@dataclass(frozen=True, slots=True)
class Table:
    """A pipe table in its parts."""

    header: Text
    """The row above the separator, and its line end."""

    separator: str
    """The row of dashes, and its line end."""

    rows: Text
    """What stands below the separator."""

    @classmethod
    def of(cls, content: Text) -> Table | None:
        """The parts of `content`; None where no separator is its first or second row."""
        ends = line_ends(content.text)
        starts = [0, *ends]
        for start, end in zip(starts[:2], ends[:2], strict=False):
            if is_separator(content.text[start:end]):
                header, rows = content.between(0, start), content.between(end, len(content))
                return cls(header, content.text[start:end], rows)
        return None

    @property
    def opening(self) -> Text:
        """What stands above the rows."""
        return self.header + Text(self.separator)

    @property
    def names(self) -> list[str]:
        """The cells of the header, without marks."""
        return cells_of(self.header.text)

    @property
    def columns(self) -> int:
        """How many there are."""
        return len(cells_of(self.separator))

    @property
    def has_names(self) -> bool:
        """Whether the header says anything: markdown has no table without one, scans have."""
        return any(self.names)

    @property
    def is_headed_by_data(self) -> bool:
        """Whether a number that is no year stands in the header: it is a row like the others."""
        return any(_is_number(name) for name in self.names)

    def has_header_of(self, other: Table) -> bool:
        """Whether the same header stands above `other`, but for letters that were misread."""
        if not self.has_names or len(self.names) != len(other.names):
            return False
        mine, theirs = ("|".join(table.names).casefold() for table in (self, other))
        return fuzz.ratio(mine, theirs) >= ALIKE

    def goes_on_in(self, other: Table) -> bool:
        """Whether `other` can be the rest of this table: as many columns, and no new header."""
        if self.columns < 2 or self.columns != other.columns:
            return False
        return not other.has_names or other.is_headed_by_data or self.has_header_of(other)


@dataclass(frozen=True, slots=True)
class Frame:
    """What pieces of a block repeat that start at `start` or after it."""

    start: int
    opening: Text
    """Stands above such a piece."""

    body: int
    """Where what is not part of the opening begins."""

    block: Block
    """Which the opening is taken from."""


def frames_of(content: Text, block: Block) -> list[Frame]:
    """The header of the table that `block` is, and its separator, if there is one."""
    table = Table.of(content)
    return [Frame(0, table.opening, len(table.opening), block)] if table else []


def with_rows(
    content: Text, frames: Sequence[Frame], more: Text, block: Block
) -> tuple[Text, list[Frame]]:
    """A table that goes on with `more`, the rows of `block`, and its frames; the last of `frames`
    is that of its end.

    A header that `more` repeats stays, as a row, since it stands on that page too; the pieces that
    start there repeat it and no longer the one of the page before.
    """
    first, second = Table.of(frames[-1].opening), Table.of(more)
    if first is None or second is None:
        return content + Text("\n") + more, list(frames)
    content += Text("\n")
    at = len(content)
    if not second.has_names:
        return content + second.rows, list(frames)
    content += second.header
    frame = Frame(at, second.opening, len(content), block)
    is_repeated = first.has_header_of(second)
    return content + second.rows, [*frames, frame] if is_repeated else list(frames)


def line_ends(text: str) -> list[int]:
    """Where each line ends, its line end included."""
    ends = [match.end() for match in re.finditer(r"\n+", text)]
    return ends if ends and ends[-1] == len(text) else [*ends, len(text)]


def cell_ends(text: str) -> list[int]:
    """Where each cell ends, its pipe included."""
    return [match.end() for match in PIPE.finditer(text)]


def cells_of(row: str) -> list[str]:
    """The cells of a row of a pipe table, without marks."""
    inner = row.strip().removeprefix("|")
    if inner.endswith("|") and not inner.endswith("\\|"):
        inner = inner[:-1]
    return [plain_inline(cell) for cell in PIPE.split(inner)]


def _is_number(cell: str) -> bool:
    """An amount, a date or the like: as many digits as letters at least; a year may be a name."""
    digits = sum(character.isdigit() for character in cell)
    letters = sum(character.isalpha() for character in cell)
    return digits > 0 and digits >= letters and not _YEAR.fullmatch(cell)
