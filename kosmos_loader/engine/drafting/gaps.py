"""What stands between two lines of a page in its markdown."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import NamedTuple

from kosmos_loader.engine.drafting.lines import Boxed
from kosmos_loader.structure.marks import BULLET, HYPHENS, NUMBERED

OUTSIDE, FIRST_ROW, BODY = range(3)
"""Where in a table."""


class Gap(NamedTuple):
    """What is known of the place between two lines; equal ones are likely to be filled alike."""

    relation: str
    """How the lower line stands to the upper one: "first", "beside", "below" or "apart"; "end"
    behind the last line, "broken" inside a hyphenated word."""

    table: int = OUTSIDE
    """Whether the upper line is part of a table."""

    columns: int = 0
    """Cells above, in the first row of a table."""

    mark: str = ""
    """Of the lower line: "", "bullet" or "number"."""

    mark_above: str = ""
    stands: str = ""
    """The lower line: "row" with others beside it, "alone" with room above and below like a title,
    "sentence" where it has that and is none: it ends in a full stop, or other lines are bigger."""

    size: int = 0
    """Of the lower line against the page's type: 0 the same, -1 smaller, 1 to 3 bigger."""

    @property
    def usual(self) -> str:
        """What markdown has there where nothing is known of a model's habits."""
        match self.relation:
            case "end":
                return "|" if self.table else ""
            case "beside":
                return "|" if self.table else " "
            case "broken":
                return ""
            case "first":
                return self._opening("# ")
        if self.table and self.stands == "row" and self.relation == "below":
            ruled = "|\n|" + "---|" * self.columns + "\n|"
            return ruled if self.table == FIRST_ROW else "|\n|"
        if self.table or self.relation == "apart":
            return ("|" if self.table else "") + "\n\n" + self._opening("## ")
        if self.mark:
            return ("\n" if self.mark_above else "\n\n") + self._opening("")
        return "\n\n|" if self.stands == "row" else " "

    def _opening(self, heading: str) -> str:
        if self.mark:
            return "- " if self.mark == "bullet" else ""
        if self.stands == "row":
            return "|"
        if self.size > 0:
            return ("", "### ", "## ", "# ")[self.size]
        return heading if self.stands == "alone" else ""


def table_behind(gap: str, table: int) -> int:
    """Where in a table the text behind `gap` stands; `table` is where that before it stood."""
    if not gap.endswith("|"):
        return OUTSIDE if "\n" in gap else table
    if "\n" not in gap:
        return table or FIRST_ROW
    return BODY if table or "---" in gap else FIRST_ROW


class Habits:
    """What a model wrote in gaps of each kind, the latest counting most.

    Drafters that share one profit from the pages before. What they propose then depends on the
    order of the pages; what the model writes never does.
    """

    KEPT = 6
    """Answers remembered a question."""

    LONGEST = 60
    """Characters; what is longer was no gap."""

    def __init__(self) -> None:
        self._weights: dict[object, dict[str, float]] = {}
        self._ranked: dict[object, list[str]] = {}

    def of(self, question: object) -> Sequence[str]:
        """What was written so far, the most frequent of late first."""
        return self._ranked.get(question, ())

    def note(self, question: object, written: str) -> None:
        """Learns what was written."""
        if len(written) > self.LONGEST:
            return
        weights = self._weights.setdefault(question, {})
        for other in weights:
            weights[other] *= 0.9
        weights[written] = weights.get(written, 0.0) + 1.0
        if len(weights) > self.KEPT:
            del weights[min(weights, key=weights.__getitem__)]
        self._ranked[question] = sorted(weights, key=weights.__getitem__, reverse=True)


class Piece(NamedTuple):
    """A line of the page as its markdown will hold it."""

    text: str
    """Without its bullet."""

    relation: str
    mark: str
    column: int
    """Place in its row, from 0."""

    height: int
    """Pixels."""


class Sheet:
    """The finished lines of a page in their order: text to copy from, and what parts it."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.starts: list[int] = []
        """Where each piece starts in `words`."""

        self.words = ""
        """All texts, parted by spaces."""

        self.has_ended = False
        self._last: Boxed | None = None
        self._bottom = 0
        """Of the row of `_last`."""

        self._rooms: list[int] = []
        """Pixels between rows, sorted."""

        self._heights: list[int] = []
        """Of all lines, sorted."""

    def add(self, line: Boxed) -> None:
        """Takes in the next line."""
        mark, text = "", line.text
        if bullet := BULLET.match(text):
            mark, text = "bullet", text[bullet.end() :]
        elif NUMBERED.match(text):
            mark = "number"
        relation = self._relation(line)
        column = self.pieces[-1].column + 1 if relation == "beside" else 0
        if self.pieces:
            self.words += " "
        self.starts.append(len(self.words))
        self.words += text
        self.pieces.append(Piece(text, relation, mark, column, line.height))
        insort(self._heights, line.height)

    def _relation(self, line: Boxed) -> str:
        last, self._last = self._last, line
        if last is None:
            self._bottom = line.y1
            return "first"
        high = min(line.height, last.height)
        centres = abs(line.y0 + line.y1 - last.y0 - last.y1) / 2
        if centres <= 0.5 * high and line.x0 >= last.x1 - 0.2 * high:
            self._bottom = max(self._bottom, line.y1)
            return "beside"
        room = line.y0 - self._bottom
        self._bottom = line.y1
        if -high < room < 1.6 * high:
            insort(self._rooms, room)
        # the thresholds of structure.prose: the smaller third is the leading
        leading = self._rooms[len(self._rooms) // 3] if len(self._rooms) > 2 else 0.3 * high
        is_apart = not -high < room <= leading + 0.5 * high
        return "apart" if is_apart or max(line.height, last.height) > 1.35 * high else "below"

    def gap(self, index: int, table: int) -> Gap:
        """What is known of the place before piece `index`, with `table` holding before it."""
        pieces = self.pieces
        if index >= len(pieces):
            return Gap("end", table)
        piece = pieces[index]
        if piece.relation == "beside":
            return Gap("beside", table)
        above = pieces[index - 1] if index else None
        if above and above.text[-1] in HYPHENS and piece.text[0].islower() and not table:
            return Gap("broken")
        return Gap(
            piece.relation,
            table,
            above.column + 1 if above and table == FIRST_ROW else 0,
            piece.mark,
            above.mark if above else "",
            self._stands(index),
            self._size(piece),
        )

    def _stands(self, index: int) -> str:
        pieces = self.pieces
        below = pieces[index + 1].relation if index + 1 < len(pieces) else ""
        if below == "beside":
            return "row"
        if below != "apart" or pieces[index].relation == "below":
            return ""
        piece, heights = pieces[index], self._heights
        outsized = heights[-1] > 1.25 * max(piece.height, heights[len(heights) // 2])
        return "sentence" if outsized or piece.text.endswith((".", ",", ";")) else "alone"

    def _size(self, piece: Piece) -> int:
        ratio = piece.height / self._heights[len(self._heights) // 2]
        return -1 if ratio < 0.75 else sum(ratio > border for border in (1.25, 1.5, 1.9))
