"""From boxed lines to reading order and markdown blocks, for readers that give lines only.

Everything is measured in the *upright frame*: pixel coordinates of the page turned back by the
reading's angle, so that text runs from left to right; and in ems, the median height of the page's
lines. Nothing here looks at pixels or knows a language; the thresholds are stated beside their use.

Columns are found as gutters (a vertical strip that few lines cross, with prose on both sides), read
one after the other, and cut by the lines that cross them. What is narrow on one side (prices,
amounts, form values) is no column: receipts and forms are read row by row.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from kosmos_loader.document import Block, Line, Reading, Span
from kosmos_loader.geometry import Box, overlap, rotated

PAGE_NUMBER = re.compile(
    r"(?:page|seite|p\.?)?\s*[-–—(]?\s*(?:\d{1,4}|[ivxlc]{1,7})\s*"
    r"(?:[-–—)]|(?:of|/|von)\s*\d{1,4})?",
    re.IGNORECASE,
)
"""A line that is a page number and nothing else."""

BULLET = re.compile(r"(?:[•·●▪■□◦‣∙]\s*|[-–—*]\s+)(?=\S)")
LETTER_BULLET = re.compile(r"[oO0]\s+(?=[A-Z])")
"""A bullet that the reader took for an o or a zero; believed only where several lines have it."""

NUMBERED = re.compile(r"(?:\(?(?:\d{1,2}|[a-z])[.)]|\((?:\d{1,2}|[a-z]|[ivx]{1,4})\))\s+(?=\S)")
SECTION = re.compile(r"(\d{1,2}(?:\.\d{1,2})*)\.?\s+(?=[A-Z])")
"""Section numbering: "3 Methods", "2.1 Area"."""

UNSPACED = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60]")
"""Han characters, kana and full-width punctuation."""

YEAR = re.compile(r"(?:1[5-9]|20)\d\d")

SENTENCE_END = (".", "!", "?", ":", ".”", ".)", '."', "!”", "?”", '?"', '!"')
HYPHENS = "-\u00ad\u2010\u00ac"


@dataclass(frozen=True, slots=True)
class _Item:
    """A line in the upright frame, in pixels."""

    line: Line
    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    @property
    def middle(self) -> float:
        return (self.y0 + self.y1) / 2


@dataclass(frozen=True, slots=True)
class _Row:
    """Items that stand side by side, from left to right."""

    items: tuple[_Item, ...]

    @property
    def x0(self) -> float:
        return self.items[0].x0

    @property
    def x1(self) -> float:
        return max(item.x1 for item in self.items)

    @property
    def y0(self) -> float:
        return min(item.y0 for item in self.items)

    @property
    def y1(self) -> float:
        return max(item.y1 for item in self.items)

    @property
    def height(self) -> float:
        return median(item.height for item in self.items)

    @property
    def text(self) -> str:
        return " ".join(item.line.text for item in self.items)


# --- reading order ---------------------------------------------------------------------------


def reading_order(
    lines: Iterable[Line], *, width: int, height: int, angle: float = 0.0
) -> list[Line]:
    """`lines` in the order in which a person reads them.

    `width` and `height` are the page's pixels, `angle` the degrees by which its text is turned
    clockwise (as in `Reading.angle`). No line is lost or added.
    """
    rows = [row for rows in _layout(lines, width, height, angle) for row in rows]
    return [item.line for row in rows for item in row.items]


def _layout(lines: Iterable[Line], width: int, height: int, angle: float) -> list[list[_Row]]:
    """The rows of each region (a column, or what runs across the page), in reading order."""
    items = [_upright(line, width, height, angle) for line in lines]
    if not items:
        return []
    em = _em(items)
    # Text that stands on its side in the margin of an upright page belongs to no row.
    standing = [i for i in items if i.height > 1.5 * i.width and i.height > 3 * em]
    flowing = [i for i in items if i not in standing]
    regions = [_fields(_rows(r), em) for r in _regions(flowing, em)] if flowing else []
    return [*regions, *([_Row((item,))] for item in standing)]


def _upright(line: Line, width: int, height: int, angle: float) -> _Item:
    x0, y0, x1, y1 = line.box.as_tuple()
    corners = line.quad or ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    points = [(x * width, y * height) for x, y in corners]
    box = Box.around(rotated(points, -angle, about=(width / 2, height / 2)))
    return _Item(line, *box.as_tuple())


def _em(items: Sequence[_Item]) -> float:
    return max(1.0, median(item.height for item in items))


def _regions(items: list[_Item], em: float) -> list[list[_Item]]:
    """`items` cut into columns and what runs across them, in reading order."""
    gutter = _gutter(items, em)
    if gutter is None:
        return [items]
    regions: list[list[_Item]] = []
    across: list[_Item] = []
    for band in gutter.bands:
        if not band.is_columns:
            across += [*band.left, *band.right]
        else:
            across += band.hand_up_masthead(em)
            band.hand_down_heading(em)
            regions += _regions(across, em) if across else []
            across = []
            regions += [*_regions(band.left, em), *_regions(band.right, em)]
        across += band.below
    return [*regions, *(_regions(across, em) if across else [])]


@dataclass(slots=True)
class _Band:
    """What lies left and right of a gutter between two lines that cross it."""

    left: list[_Item] = field(default_factory=list)
    right: list[_Item] = field(default_factory=list)
    below: list[_Item] = field(default_factory=list)
    """The crossing line that ends the band."""

    is_columns: bool = False

    def support(self) -> int:
        return min(len(self.left), len(self.right))

    def hand_up_masthead(self, em: float) -> list[_Item]:
        """Takes out the row above both columns that stands apart from them, as in a masthead."""
        tops = [sorted(column, key=lambda i: i.y0)[:2] for column in (self.left, self.right)]
        if any(len(top) < 2 or top[1].y0 - top[0].y1 < em for top in tops):
            return []
        (a, _), (b, _) = tops
        if abs(a.middle - b.middle) > 0.5 * em:
            return []
        self.left.remove(a)
        self.right.remove(b)
        return [a, b]

    def hand_down_heading(self, em: float) -> None:
        """Moves a short line under the columns to what follows them, which it heads."""
        if not self.below:
            return
        for column, other in ((self.left, self.right), (self.right, self.left)):
            last = max(column, key=lambda i: i.y1)
            above = max((i.y1 for i in (*column, *other) if i is not last), default=last.y0)
            near = min(i.y0 for i in self.below) - last.y1
            if last.y0 - above > max(0.5 * em, near) and len(column) > 1:
                column.remove(last)
                self.below.append(last)


@dataclass(frozen=True, slots=True)
class _Gutter:
    bands: list[_Band]

    @property
    def support(self) -> int:
        """Lines of the shorter column, over all bands with columns."""
        return sum(band.support() for band in self.bands if band.is_columns)


def _gutter(items: list[_Item], em: float) -> _Gutter | None:
    """The gutter with most lines on both sides; None where the items are one column."""
    best: tuple[int, int] = (0, 0)
    found = None
    slack = 0.3 * em  # boxes of neighbouring columns may touch by a hair
    for x in sorted({round(item.x0) for item in items}):
        left = [i for i in items if i.x1 <= x + slack]
        right = [i for i in items if i.x0 >= x - slack and i.x1 > x + slack]
        crossing = len(items) - len(left) - len(right)
        if min(len(left), len(right)) < 4 or min(len(left), len(right)) < best[0]:
            continue
        gutter = _Gutter(_bands(items, left, right, em))
        # A gutter shows in at least four lines of both columns.
        if gutter.support >= 4 and (gutter.support, -crossing) > best:
            best, found = (gutter.support, -crossing), gutter
    return found


def _bands(items: list[_Item], left: list[_Item], right: list[_Item], em: float) -> list[_Band]:
    sided = {id(item) for item in (*left, *right)}
    crossing = sorted((i for i in items if id(i) not in sided), key=lambda i: i.middle)
    levels = [item.middle for item in crossing]
    bands = [_Band() for _ in range(len(crossing) + 1)]
    for item in left:
        bands[bisect_left(levels, item.middle)].left.append(item)
    for item in right:
        bands[bisect_left(levels, item.middle)].right.append(item)
    for band, item in zip(bands, crossing, strict=False):
        band.below.append(item)
    for band in bands:
        band.is_columns = min(len(band.left), len(band.right)) >= 3 and _side_by_side(band, em)
    established = any(band.is_columns and band.support() >= 6 for band in bands)
    for band in bands:
        # Under a gutter that is plain to see, a short rest of two columns is columns too.
        if established and band.left and band.right and not band.is_columns:
            band.is_columns = _side_by_side(band, em)
    return bands


def _side_by_side(band: _Band, em: float) -> bool:
    shared = overlap(
        min(i.y0 for i in band.left),
        max(i.y1 for i in band.left),
        min(i.y0 for i in band.right),
        max(i.y1 for i in band.right),
    )
    return shared > 0 and _is_prose(band.left, em) and _is_prose(band.right, em)


def _is_prose(items: list[_Item], em: float) -> bool:
    """Running text fills its column; the cells of a table and the values of a form do not.

    Two thirds of the lines are at least 8 ems wide, and half of them at least half as wide as the
    widest (all but the widest tenth, which may be something else).
    """
    widths = sorted(item.width for item in items)
    full = widths[-1 - len(widths) // 10]
    return widths[len(widths) // 3] >= 8 * em and median(widths) >= max(10 * em, 0.5 * full)


def _rows(items: Iterable[_Item]) -> list[_Row]:
    """`items` gathered into rows from top to bottom: centres less than half a height apart."""
    rows: list[list[_Item]] = []
    for item in sorted(items, key=lambda i: (i.middle, i.x0)):
        if rows and _beside(rows[-1], item):
            rows[-1].append(item)
        else:
            rows.append([item])
    return [_Row(tuple(sorted(row, key=lambda i: i.x0))) for row in rows]


def _beside(row: list[_Item], item: _Item) -> bool:
    nearest = min(row, key=lambda i: abs(i.x0 - item.x0))
    if not 0.6 < nearest.height / item.height < 1.7:
        return False
    apart = abs(nearest.middle - item.middle)
    if apart > 0.5 * min(nearest.height, item.height):
        return False
    # Two boxes that cover the same place are two lines, however near their centres.
    return all(overlap(i.x0, i.x1, item.x0, item.x1) < 0.5 * min(i.width, item.width) for i in row)


def _fields(rows: list[_Row], em: float) -> list[_Row]:
    """`rows` with labels joined to the values that a form has below them: "Surname: Trevose"."""
    joined: list[_Row] = []
    index = 0
    while index < len(rows):
        pairs = _labelled(rows[index], rows[index + 1], em) if index + 1 < len(rows) else None
        joined += pairs or [rows[index]]
        index += 2 if pairs else 1
    return joined


def _labelled(labels: _Row, values: _Row, em: float) -> list[_Row] | None:
    """A row for each label with its value, None where the rows are no labels and values."""
    if values.y0 - labels.y1 > 1.5 * em or any(_is_label(item) for item in values.items):
        return None
    if not all(_is_label(item) and len(item.line.text) <= 40 for item in labels.items):
        return None
    starts = [label.x0 for label in labels.items]
    below: dict[int, _Item] = {}
    for value in values.items:
        column = sum(start <= value.x0 + em for start in starts) - 1
        if column < 0 or column in below or value.x0 - starts[column] > 3 * em:
            return None
        below[column] = value
    # Under a single label a value is short; what is longer is the text that the label introduces.
    if len(starts) == 1 and (len(values.text) > 60 or _list_mark(values.text, letters=False)):
        return None
    return [
        _Row((label, below[column]) if column in below else (label,))
        for column, label in enumerate(labels.items)
    ]


def _is_label(item: _Item) -> bool:
    return item.line.text.rstrip().endswith(":")


# --- blocks ----------------------------------------------------------------------------------


class _Writer:
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
        return "".join(self.pieces)

    @property
    def confidence(self) -> float | None:
        letters = sum(weight for _, weight in self.weights)
        return sum(c * weight for c, weight in self.weights) / letters if letters else None


@dataclass(frozen=True, slots=True)
class _Measures:
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
        return max(1.0, self.right - self.left)

    def fills(self, row: _Row) -> bool:
        """The row runs to the right edge, so the sentence may go on below."""
        return row.x1 >= self.right - 0.2 * self.width


def blocks(reading: Reading) -> list[Block]:
    """Headings, paragraphs, lists, tables, running headers and footers of a reading's lines.

    Every line is in exactly one block; blocks come in reading order and carry the boxes of their
    lines (of their cells, in a table) as spans.
    """
    page = reading.page
    regions = _layout(reading.lines, page.width, page.height, reading.angle)
    if not regions:
        return []
    rows = [row for region in regions for row in region]
    body = _body_height(rows)
    edges = _running_lines(rows, body)
    caps = _mostly_capitals(rows)
    pieces: list[_Piece] = []
    for region in regions:
        inner = [row for row in region if id(row) not in edges]
        pieces += [_Piece(edges[id(r)], _running(r, page.number)) for r in region if id(r) in edges]
        if inner:
            pieces += _flow(inner, _measure(inner, body, caps=caps), page.number)
    # running headers come first and footers last, wherever a column put them
    rank = {"header": 0, "footer": 2}
    pieces.sort(key=lambda piece: rank.get(piece.kind, 1))
    levels = _heading_levels([piece.heading for piece in pieces if piece.heading])
    return [
        _as_block(piece, levels, reading=reading, order=order) for order, piece in enumerate(pieces)
    ]


@dataclass(frozen=True, slots=True)
class _Heading:
    """Why a piece is a heading."""

    size: float
    """Height over that of the body text; 0 where size says nothing."""

    depth: int
    """Of its section number ("2.1" has 2), 0 where it has none."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A block before the levels of the page's headings are known."""

    kind: str
    writer: _Writer
    heading: _Heading | None = None


def _heading_levels(headings: Sequence[_Heading]) -> dict[_Heading, int]:
    """1..6: by section number, else by size (a sixth smaller is a level lower), else below."""
    sizes: list[float] = []
    for size in sorted({h.size for h in headings if h.size and not h.depth}, reverse=True):
        if not sizes or size < 0.85 * sizes[-1]:
            sizes.append(size)
    levels = {}
    for heading in headings:
        if heading.depth:
            level = heading.depth + 1
        elif heading.size:
            level = 1 + sum(heading.size < 0.85 * size for size in sizes)
        else:
            level = max(2, len(sizes) + 1)
        levels[heading] = min(6, level)
    return levels


def _as_block(piece: _Piece, levels: dict[_Heading, int], *, reading: Reading, order: int) -> Block:
    writer = piece.writer
    level = levels[piece.heading] if piece.heading else 0
    mark = "#" * level + " " if level else ""
    return Block(
        page=reading.page,
        kind=piece.kind,
        markdown=mark + writer.text,
        spans=tuple(span.shifted(len(mark)) for span in writer.spans),
        level=level,
        order=order,
        confidence=writer.confidence,
        reader=reading.reader,
        reader_version=reading.reader_version,
        flags=reading.flags,
    )


def _body_height(rows: Sequence[_Row]) -> float:
    """Height of most of the text: the median over characters, not over rows."""
    heights = sorted((i.height, len(i.line.text)) for row in rows for i in row.items)
    half, seen = sum(n for _, n in heights) / 2, 0
    for height, letters in heights:
        seen += letters
        if seen >= half:
            return max(1.0, height)
    return max(1.0, heights[-1][0])


def _mostly_capitals(rows: Sequence[_Row]) -> bool:
    return sum(row.text.isupper() for row in rows) > 0.3 * len(rows)


def _measure(rows: Sequence[_Row], body: float, *, caps: bool) -> _Measures:
    gaps = [b.y0 - a.y1 for a, b in pairwise(rows)]
    usual = [gap for gap in gaps if -body < gap < 1.6 * body]  # double spacing is a leading too
    ends = sorted(row.x1 for row in rows)
    return _Measures(
        em=body,
        leading=sorted(usual)[len(usual) // 3] if usual else 0.3 * body,
        left=sorted(row.x0 for row in rows)[len(rows) // 10],
        right=ends[-1 - len(ends) // 10],
        caps=caps,
    )


# --- running headers and footers -------------------------------------------------------------


def _running_lines(rows: Sequence[_Row], body: float) -> dict[int, str]:
    """id(row) -> "header" or "footer" for the outermost rows that look like running lines."""
    if len(rows) < 5:
        return {}
    ordered = sorted(rows, key=lambda r: r.y0)
    found = {}
    if _is_running(ordered[0], ordered[1].y0 - ordered[0].y1, body):
        found[id(ordered[0])] = "header"
    last = max(rows, key=lambda r: r.y1)
    above = max((r.y1 for r in rows if r is not last and r.y1 <= last.y0 + 0.5 * body), default=0.0)
    if id(last) not in found and _is_running(last, last.y0 - above, body):
        found[id(last)] = "footer"
    return found


def _is_running(row: _Row, gap: float, body: float) -> bool:
    if PAGE_NUMBER.fullmatch(row.text.strip()):
        return True
    apart = gap > 1.5 * body
    words = row.text.split()
    numbered = any(PAGE_NUMBER.fullmatch(end) for end in (words[0], words[-1], *_tails(row)))
    small = row.height < 0.9 * body
    # a title at one end and a date at the other
    ends = len(row.items) > 1 and row.items[-1].x0 - row.items[0].x1 > 10 * body
    # a running line is one short row, not larger than the text, set off from it
    return (
        apart and row.height < 1.15 * body and len(row.text) < 100 and (numbered or small or ends)
    )


def _tails(row: _Row) -> list[str]:
    """Texts at the outer ends of a row, where page numbers stand."""
    return [
        row.items[0].line.text,
        row.items[-1].line.text,
        " ".join(row.text.split()[-2:]),
        " ".join(row.text.split()[-4:]),
    ]


def _running(row: _Row, page: int) -> _Writer:
    writer = _Writer(page)
    _write_row(writer, row)
    return writer


# --- paragraphs, headings, lists -------------------------------------------------------------


def _flow(rows: list[_Row], measures: _Measures, page: int) -> list[_Piece]:
    """Blocks of one region, from top to bottom."""
    built: list[_Piece] = []
    start = 0
    for table in _tables(rows, measures):
        built += _prose(rows[start : table.first], measures, page, table=rows[table.first :])
        built.append(_Piece("table", _write_table(table, page)))
        start = table.last + 1
    return [*built, *_prose(rows[start:], measures, page)]


def _prose(
    rows: list[_Row], measures: _Measures, page: int, *, table: list[_Row] | None = None
) -> list[_Piece]:
    """Blocks of rows that are no table; `table` is what stands below the last of them."""
    letter_bullets = sum(bool(LETTER_BULLET.match(row.text)) for row in rows) >= 2
    groups: list[list[_Row]] = []
    for row in rows:
        if groups and not _breaks(groups[-1], row, measures, letters=letter_bullets):
            groups[-1].append(row)
        else:
            groups.append([row])
    built: list[_Piece] = []
    items: list[list[_Row]] = []
    for index, group in enumerate(groups):
        mark = _list_mark(group[0].text, letters=letter_bullets)
        following = groups[index + 1] if index + 1 < len(groups) else table
        before = groups[index - 1] if index else None
        heading = _as_heading(group, before, following, measures)
        if mark and not heading:
            items.append(group)
            continue
        if items:
            built.append(_Piece("list", _write_list(items, page, letters=letter_bullets)))
            items = []
        if heading:
            built.append(_Piece("heading", _write_heading(group, page), heading))
        else:
            built.append(_Piece("paragraph", _write_paragraph(group, measures, page)))
    if items:
        built.append(_Piece("list", _write_list(items, page, letters=letter_bullets)))
    return built


def _list_mark(text: str, *, letters: bool) -> re.Match[str] | None:
    return (
        BULLET.match(text)
        or NUMBERED.match(text)
        or (LETTER_BULLET.match(text) if letters else None)
    )


def _breaks(group: list[_Row], row: _Row, measures: _Measures, *, letters: bool) -> bool:
    """Whether `row` starts something new below `group`."""
    last = group[-1]
    em = measures.em
    if row.y0 - last.y1 > measures.leading + 0.5 * em:
        return True
    if _differ_in_size(row, last):
        return True
    if _list_mark(row.text, letters=letters) or _is_subsection(row, measures):
        return True
    ended = last.text.rstrip().endswith(SENTENCE_END)
    if _list_mark(group[0].text, letters=letters):
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


def _is_subsection(row: _Row, measures: _Measures) -> bool:
    """A title behind a number with a dot inside ("3.2 Tenders"), which no sentence starts with."""
    section = SECTION.match(row.text)
    return section is not None and "." in section[1] and _is_title_like(row, measures)


def _differ_in_size(a: _Row, b: _Row) -> bool:
    """Type of another size; the boxes of short rows say little (no ascenders, no descenders)."""
    allowed = 1.35 if min(len(a.text), len(b.text)) >= 25 else 1.5
    return not 1 / allowed < a.height / b.height < allowed


def _is_title_like(row: _Row, measures: _Measures, *, below: _Row | None = None) -> bool:
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
    group: list[_Row], before: list[_Row] | None, following: list[_Row] | None, measures: _Measures
) -> _Heading | None:
    """What makes `group` a heading; None where it is not."""
    text = " ".join(row.text for row in group).strip()
    if len(group) > 3 or len(text) > 160 or sum(c.isalpha() for c in text) < 2:
        return None
    section = SECTION.match(text)
    depth = section[1].count(".") + 1 if section else 0
    size = median(row.height for row in group) / measures.em
    listed = depth == 0 and _list_mark(text, letters=False) is not None
    if size >= (1.6 if listed else 1.25) and len(group[0].items) == 1:
        return _Heading(size, depth)
    if listed or len(group) > 1 or following is None:
        return None
    if not _is_title_like(group[0], measures, below=following[0]):
        return None
    gap = group[0].y0 - before[-1].y1 if before else 2 * measures.em
    if depth > 1:
        return _Heading(0, depth)
    if gap <= measures.leading + 0.3 * measures.em:
        return None
    if depth:
        # "1. Rope" above "2. Tar" is a list, above "1.1 Hemp" a heading
        item = NUMBERED.match(following[0].text)
        return None if item else _Heading(0, depth)
    introduces = (
        len(following) > 1
        and (len(following[0].items) > 1 or any(map(measures.fills, following[:2])))
    ) or _list_mark(following[0].text, letters=False)
    capitals = text.isupper() and not measures.caps and len(text) > 3
    return _Heading(0, 0) if introduces or capitals else None


def _write_row(writer: _Writer, row: _Row) -> None:
    for index, item in enumerate(row.items):
        if index:
            writer.mark(" ")
        writer.piece(item.line.text, item.line)


def _write_rows(writer: _Writer, rows: Sequence[_Row], joints: Sequence[str]) -> None:
    """Rows joined by `joints`; a word broken by a hyphen at a line's end is joined again."""
    for index, row in enumerate(rows):
        if index:
            if _is_broken_word(writer.pieces[-1], row.text):
                writer.drop_hyphen()
            elif joints[index - 1] != " " or not _is_unspaced(writer.pieces[-1], row.text):
                writer.mark(joints[index - 1])
        _write_row(writer, row)


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


def _write_paragraph(rows: list[_Row], measures: _Measures, page: int) -> _Writer:
    """Full lines flow on; short ones (addresses, receipts) keep their line ends."""
    writer = _Writer(page)
    if rows[0].text.startswith(("#", ">", "+ ")):
        writer.mark("\\")  # or it would be a heading or quotation in markdown
    flows = len(rows) > 1 and sum(map(measures.fills, rows[:-1])) >= 0.6 * (len(rows) - 1)
    joints = [
        " " if (flows or measures.fills(a)) and len(a.items) == len(b.items) == 1 else "\n"
        for a, b in pairwise(rows)
    ]
    _write_rows(writer, rows, joints)
    return writer


def _write_heading(rows: list[_Row], page: int) -> _Writer:
    writer = _Writer(page)
    _write_rows(writer, rows, [" "] * len(rows))
    return writer


def _write_list(items: list[list[_Row]], page: int, *, letters: bool) -> _Writer:
    writer = _Writer(page)
    left = min(rows[0].x0 for rows in items)
    for index, rows in enumerate(items):
        if index:
            writer.mark("\n")
        # two ems further right is a list inside a list
        writer.mark("  " * min(3, int((rows[0].x0 - left) / (2 * rows[0].height))))
        mark = _list_mark(rows[0].text, letters=letters)
        first = rows[0].items[0].line
        if mark and NUMBERED.match(rows[0].text):
            _write_rows(writer, rows, [" "] * len(rows))
            continue
        writer.mark("- ")
        rest = first.text[mark.end() :] if mark else first.text
        stripped = Line(rest, first.box, first.confidence)
        others = rows[0].items[1:]
        head = _Item(stripped, rows[0].x0, rows[0].y0, rows[0].x1, rows[0].y1)
        lead = _Row((head, *others)) if rest else _Row(others or (head,))
        _write_rows(writer, [lead, *rows[1:]], [" "] * len(rows))
    return writer


# --- tables ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    first: int
    """Index of the table's first row in its region."""

    last: int
    cells: list[list[list[_Item]]]
    """[row][column] -> items."""

    has_header: bool


def _tables(rows: list[_Row], measures: _Measures) -> list[_Table]:
    """Runs of rows whose items stand in columns."""
    tables = []
    index = 0
    while index < len(rows):
        run = _run_of_cells(rows, index, measures)
        table = _as_table(rows, index, run, measures) if run - index >= 3 else None
        if table is None:
            index += 1
        else:
            tables.append(table)
            index = table.last + 1
    return tables


def _run_of_cells(rows: list[_Row], start: int, measures: _Measures) -> int:
    """End (exclusive) of the run of rows with several items that starts at `start`."""
    if len(rows[start].items) < 2:
        return start
    end = last = start
    while end < len(rows) and end - last <= 2:
        gap = rows[end].y0 - rows[end - 1].y1 if end > start else 0.0
        if gap > 3 * measures.em:
            break
        if len(rows[end].items) >= 2:
            last = end
        end += 1
    return last + 1


def _as_table(rows: list[_Row], start: int, end: int, measures: _Measures) -> _Table | None:
    """The table that the rows from `start` to `end` make, shortened from below until it is one."""
    while end - start >= 3:
        columns = _columns(rows[start:end], measures.em)
        cells = [_cells(row, columns) for row in rows[start:end]] if columns else []
        if cells and _is_table(cells):
            merged = _with_wrapped_cells(rows[start:end], cells, measures.em)
            return _Table(start, end - 1, merged, _has_header(merged))
        end -= 1
    return None


def _columns(rows: Sequence[_Row], em: float) -> list[tuple[float, float]]:
    """Horizontal extents of the columns: what the items of most rows leave free is between them."""
    several = [row for row in rows if len(row.items) >= 2]
    merged: list[list[float]] = []
    for x0, x1 in sorted((item.x0, item.x1) for row in several for item in row.items):
        if merged and x0 < merged[-1][1] - 0.2 * em:
            merged[-1][1] = max(merged[-1][1], x1)
        else:
            merged.append([x0, x1])
    return [(x0, x1) for x0, x1 in merged]


def _cells(row: _Row, columns: Sequence[tuple[float, float]]) -> list[list[_Item]]:
    cells: list[list[_Item]] = [[] for _ in columns]
    for item in row.items:
        shares = [overlap(item.x0, item.x1, x0, x1) for x0, x1 in columns]
        cells[shares.index(max(shares))].append(item)
    return cells


def _is_table(cells: list[list[list[_Item]]]) -> bool:
    """Three columns filled in most rows, or two with names above them and numbers in the last.

    A form's "label: value" rows, a receipt's totals and a letter's tabulated lines stay text,
    which is how they are asked for and quoted.
    """
    columns = len(cells[0])
    filled = [sum(bool(cell) for cell in row) for row in cells]
    if columns < 2 or median(filled) < 2 or len(cells) < 3:
        return False
    # a cell with several items means that columns were thrown together
    crowded = sum(len(cell) > 1 for row in cells for cell in row)
    if crowded > 0.15 * sum(filled):
        return False
    if columns >= 3:
        return median(filled) >= 3 and sum(n >= 3 for n in filled) >= max(3, 0.5 * len(cells))
    numbers = [_is_number(row[-1][0].line.text) for row in cells[1:] if row[-1]]
    labels = [row[0][-1].line.text.rstrip().endswith(":") for row in cells if row[0]]
    named = all(row and not _is_number(row[0].line.text) for row in cells[0])
    return (
        len(cells) >= 4
        and named
        and len(numbers) >= 3
        and sum(numbers) >= 0.7 * len(numbers)
        and sum(labels) < 0.5 * len(labels)
    )


def _is_number(text: str) -> bool:
    digits = sum(c.isdigit() for c in text)
    return digits > 0 and digits >= sum(c.isalpha() for c in text)


def _has_header(cells: list[list[list[_Item]]]) -> bool:
    """The first row names the columns: no number but a year stands above a column of numbers."""
    for column in range(len(cells[0])):
        below = [_is_number(row[column][0].line.text) for row in cells[1:] if row[column]]
        head = cells[0][column]
        if not head or not below or YEAR.fullmatch(head[0].line.text.strip()):
            continue
        if sum(below) > 0.5 * len(below) and _is_number(head[0].line.text):
            return False
    return True


def _with_wrapped_cells(
    rows: Sequence[_Row], cells: list[list[list[_Item]]], em: float
) -> list[list[list[_Item]]]:
    """Rows of one cell that stand close under their row are its second line."""
    pitches = [b.y0 - a.y0 for a, b in pairwise(rows)]
    usual = median(pitches)
    merged = [cells[0]]
    for pitch, row in zip(pitches, cells[1:], strict=True):
        filled = [column for column, cell in enumerate(row) if cell]
        wraps = len(filled) == 1 and merged[-1][filled[0]] and pitch <= max(usual, 1.5 * em)
        if wraps and len(merged) > 1 and not _is_number(row[filled[0]][0].line.text):
            above = merged[-1]
            merged[-1] = [[*a, *b] for a, b in zip(above, row, strict=True)]
        else:
            merged.append(row)
    return merged


def _write_table(table: _Table, page: int) -> _Writer:
    """A pipe table; where no row names the columns, the header is empty."""
    writer = _Writer(page)
    columns = len(table.cells[0])
    if table.has_header:
        _write_cells(writer, table.cells[0])
    else:
        writer.mark("|" + "  |" * columns)
    writer.mark("\n|" + " --- |" * columns)
    for row in table.cells[1 if table.has_header else 0 :]:
        writer.mark("\n")
        _write_cells(writer, row)
    return writer


def _write_cells(writer: _Writer, row: list[list[_Item]]) -> None:
    writer.mark("|")
    for cell in row:
        for item in cell:
            writer.mark(" ")
            writer.piece(item.line.text.replace("|", "\\|"), item.line)
        writer.mark(" |" if cell else "  |")
