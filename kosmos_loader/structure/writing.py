"""Markdown that grows piece by piece and keeps the box of each piece."""

from __future__ import annotations

from collections.abc import Sequence

from kosmos_loader.document import Line, Span
from kosmos_loader.structure.layout import Row
from kosmos_loader.structure.marks import HYPHENS, UNSPACED


class Writer:
    """Markdown that grows piece by piece and keeps the box of each piece."""

    def __init__(self, page: int) -> None:
        self.page = page
        self.pieces: list[str] = []
        self.spans: list[Span] = []
        self.weights: list[tuple[float, int]] = []
        self.length = 0

    def mark(self, text: str) -> None:
        """Characters that stand nowhere on the page."""
        self.pieces.append(text)
        self.length += len(text)

    def piece(self, text: str, line: Line) -> None:
        """Characters that `line` holds."""
        if not text:
            return
        self.spans.append(Span(self.length, self.length + len(text), self.page, line.box))
        if line.confidence is not None:
            self.weights.append((line.confidence, len(text)))
        self.mark(text)

    def drop_hyphen(self) -> None:
        """Takes back the last character, a hyphen at the end of a line."""
        last = self.spans.pop()
        self.spans.append(Span(last.start, last.end - 1, last.page, last.box))
        self.pieces[-1] = self.pieces[-1][:-1]
        self.length -= 1

    @property
    def text(self) -> str:
        """The markdown so far."""
        return "".join(self.pieces)

    @property
    def confidence(self) -> float | None:
        """Mean confidence by characters, None where no line has one."""
        letters = sum(weight for _, weight in self.weights)
        return sum(c * weight for c, weight in self.weights) / letters if letters else None


_MARKS = ("#", ">", "+ ", "~~~", "```")


def escape(line: str) -> str:
    """What stands before a line, or it would be a heading, a quotation, an item or code."""
    return "\\" if line.startswith(_MARKS) else ""


def write_row(writer: Writer, row: Row) -> None:
    """The items of a row, parted by spaces."""
    for index, item in enumerate(row.items):
        if index:
            writer.mark(" ")
        writer.piece(item.line.text, item.line)


def write_rows(writer: Writer, rows: Sequence[Row], joints: Sequence[str]) -> None:
    """Rows joined by `joints`; a word broken by a hyphen at a line's end is joined again."""
    for index, row in enumerate(rows):
        if index:
            if _is_broken_word(writer.pieces[-1], row.text):
                writer.drop_hyphen()
            elif joints[index - 1] != " " or not _is_unspaced(writer.pieces[-1], row.text):
                writer.mark(joints[index - 1])
                if joints[index - 1] == "\n":
                    writer.mark(escape(row.text))
        write_row(writer, row)


def _is_unspaced(before: str, after: str) -> bool:
    """Chinese and Japanese run on over a line end without a space."""
    return bool(UNSPACED.match(before[-1:]) and UNSPACED.match(after[:1]))


def _is_broken_word(before: str, after: str) -> bool:
    return (
        len(before) > 1
        and before[-1] in HYPHENS
        and before[-2].isalpha()
        and bool(after)
        and after[0].islower()
    )
