"""Rows to paragraphs, headings and lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from kosmos_loader.document import Line
from kosmos_loader.structure.layout import Item, Row
from kosmos_loader.structure.marks import LETTER_BULLET, NUMBERED, SECTION, SENTENCE_END, list_mark
from kosmos_loader.structure.writing import Writer, escape, write_rows


@dataclass(frozen=True, slots=True)
class Measures:
    """What is usual on a page or in a region, in pixels."""

    em: float
    leading: float
    """Usual gap between two rows of a paragraph: the smaller third, since tables are set wider."""

    left: float
    right: float
    caps: bool
    """Whether capitals are the rule, so that they mean nothing."""

    @property
    def width(self) -> float:
        """Of the region's text."""
        return max(1.0, self.right - self.left)

    def fills(self, row: Row) -> bool:
        """The row runs to the right edge, so the sentence may go on below."""
        return row.x1 >= self.right - 0.2 * self.width


def measure(rows: Sequence[Row], body: float, *, caps: bool) -> Measures:
    """What is usual in the region that `rows` make; `body` is the height of the page's text."""
    gaps = [b.y0 - a.y1 for a, b in pairwise(rows)]
    usual = [gap for gap in gaps if -body < gap < 1.6 * body]  # double spacing is a leading too
    ends = sorted(row.x1 for row in rows)
    return Measures(
        em=body,
        leading=sorted(usual)[len(usual) // 3] if usual else 0.3 * body,
        left=sorted(row.x0 for row in rows)[len(rows) // 10],
        right=ends[-1 - len(ends) // 10],
        caps=caps,
    )


@dataclass(frozen=True, slots=True)
class Heading:
    """Why a piece is a heading."""

    size: float
    """Height over that of the body text; 0 where size says nothing."""

    depth: int
    """Of its section number ("2.1" has 2), 0 where it has none."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A block before the levels of the page's headings are known."""

    kind: str
    writer: Writer
    heading: Heading | None = None


def prose(
    rows: list[Row], measures: Measures, page: int, *, table: list[Row] | None = None
) -> list[Piece]:
    """Blocks of rows that are no table; `table` is what stands below the last of them."""
    letter_bullets = sum(bool(LETTER_BULLET.match(row.text)) for row in rows) >= 2
    groups: list[list[Row]] = []
    for row in rows:
        if groups and not _breaks(groups[-1], row, measures, letters=letter_bullets):
            groups[-1].append(row)
        else:
            groups.append([row])
    built: list[Piece] = []
    items: list[list[Row]] = []
    for index, group in enumerate(groups):
        mark = list_mark(group[0].text, letters=letter_bullets)
        following = groups[index + 1] if index + 1 < len(groups) else table
        before = groups[index - 1] if index else None
        heading = _as_heading(group, before, following, measures)
        if mark and not heading:
            items.append(group)
            continue
        if items:
            built.append(Piece("list", _write_list(items, page, letters=letter_bullets)))
            items = []
        if heading:
            built.append(Piece("heading", _write_heading(group, page), heading))
        else:
            built.append(Piece("paragraph", _write_paragraph(group, measures, page)))
    if items:
        built.append(Piece("list", _write_list(items, page, letters=letter_bullets)))
    return built


def _breaks(group: list[Row], row: Row, measures: Measures, *, letters: bool) -> bool:
    """Whether `row` starts something new below `group`."""
    last = group[-1]
    em = measures.em
    if row.y0 - last.y1 > measures.leading + 0.5 * em:
        return True
    if _differ_in_size(row, last):
        return True
    if list_mark(row.text, letters=letters) or _is_subsection(row, measures):
        return True
    ended = last.text.rstrip().endswith(SENTENCE_END)
    if list_mark(group[0].text, letters=letters):
        # a list item goes on indented, or after a full line
        indented = row.x0 > group[0].x0 + 0.8 * em
        return not indented and (ended or not measures.fills(last))
    short = not measures.fills(last)
    indented = row.x0 > measures.left + 0.8 * em and row.x0 > last.x0 + 0.6 * em
    if (indented and ended) or (short and ended and measures.fills(row)):
        return True
    if len(group) == 1 and _is_title_like(last, measures, below=row) and measures.fills(row):
        return True
    # a sentence that ended short, with a full line before it, was a paragraph's last
    return short and ended and len(group) > 1 and measures.fills(group[-2])


def _is_subsection(row: Row, measures: Measures) -> bool:
    """A title behind a number with a dot inside ("3.2 Tenders"), which no sentence starts with."""
    section = SECTION.match(row.text)
    return section is not None and "." in section[1] and _is_title_like(row, measures)


def _differ_in_size(a: Row, b: Row) -> bool:
    """Type of another size; the boxes of short rows say little (no ascenders, no descenders)."""
    allowed = 1.35 if min(len(a.text), len(b.text)) >= 25 else 1.5
    return not 1 / allowed < a.height / b.height < allowed


def _is_title_like(row: Row, measures: Measures, *, below: Row | None = None) -> bool:
    """One item with a capital or number first and no full stop or comma last, that ends early.

    Early is under three quarters of the column, or where the first word of the row `below` would
    still have fitted: running text does not leave such room.
    """
    text = row.text.strip()
    if len(row.items) > 1 or not text or text[-1] in ".,;:!?-":
        return False
    if not (text[0].isupper() or text[0].isdigit()):
        return False
    if sum(c.isalpha() for c in text) < max(3, 0.5 * len(text)):
        return False
    if row.x1 - row.x0 < 0.75 * measures.width:
        return True
    if below is None:
        return False
    word = len(below.text.split(maxsplit=1)[0]) + 2
    return word * (below.x1 - below.x0) / len(below.text) < measures.right - row.x1


def _as_heading(
    group: list[Row], before: list[Row] | None, following: list[Row] | None, measures: Measures
) -> Heading | None:
    """What makes `group` a heading; None where it is not."""
    text = " ".join(row.text for row in group).strip()
    if len(group) > 3 or len(text) > 160 or sum(c.isalpha() for c in text) < 2:
        return None
    section = SECTION.match(text)
    depth = section[1].count(".") + 1 if section else 0
    size = median(row.height for row in group) / measures.em
    listed = depth == 0 and list_mark(text, letters=False) is not None
    if size >= (1.6 if listed else 1.25) and len(group[0].items) == 1:
        return Heading(size, depth)
    if listed or len(group) > 1 or following is None:
        return None
    if not _is_title_like(group[0], measures, below=following[0]):
        return None
    gap = group[0].y0 - before[-1].y1 if before else 2 * measures.em
    if depth > 1:
        return Heading(0, depth)
    if gap <= measures.leading + 0.3 * measures.em:
        return None
    if depth:
        # "1. Rope" above "2. Tar" is a list, above "1.1 Hemp" a heading
        item = NUMBERED.match(following[0].text)
        return None if item else Heading(0, depth)
    introduces = (
        len(following) > 1
        and (len(following[0].items) > 1 or any(map(measures.fills, following[:2])))
    ) or list_mark(following[0].text, letters=False)
    capitals = text.isupper() and not measures.caps and len(text) > 3
    return Heading(0, 0) if introduces or capitals else None


def _write_paragraph(rows: list[Row], measures: Measures, page: int) -> Writer:
    """Full lines flow on; short ones (addresses, receipts) keep their line ends."""
    writer = Writer(page)
    writer.mark(escape(rows[0].text))
    flows = len(rows) > 1 and sum(map(measures.fills, rows[:-1])) >= 0.6 * (len(rows) - 1)
    joints = [
        " " if (flows or measures.fills(a)) and len(a.items) == len(b.items) == 1 else "\n"
        for a, b in pairwise(rows)
    ]
    write_rows(writer, rows, joints)
    return writer


def _write_heading(rows: list[Row], page: int) -> Writer:
    writer = Writer(page)
    write_rows(writer, rows, [" "] * len(rows))
    return writer


def _write_list(items: list[list[Row]], page: int, *, letters: bool) -> Writer:
    writer = Writer(page)
    left = min(rows[0].x0 for rows in items)
    for index, rows in enumerate(items):
        if index:
            writer.mark("\n")
        # two ems further right is a list inside a list
        writer.mark("  " * min(3, int((rows[0].x0 - left) / (2 * rows[0].height))))
        mark = list_mark(rows[0].text, letters=letters)
        first = rows[0].items[0].line
        if mark and NUMBERED.match(rows[0].text):
            write_rows(writer, rows, [" "] * len(rows))
            continue
        writer.mark("- ")
        rest = first.text[mark.end() :] if mark else first.text
        stripped = Line(rest, first.box, first.confidence)
        others = rows[0].items[1:]
        head = Item(stripped, rows[0].x0, rows[0].y0, rows[0].x1, rows[0].y1)
        lead = Row((head, *others)) if rest else Row(others or (head,))
        write_rows(writer, [lead, *rows[1:]], [" "] * len(rows))
    return writer
