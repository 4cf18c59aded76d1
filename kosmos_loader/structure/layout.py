"""Lines in the upright frame, their rows and columns, in reading order.

Columns are found as gutters (a vertical strip that few lines cross, with prose on both sides), read
one after the other, and cut by the lines that cross them. What is narrow on one side (prices,
amounts, form values) is no column: receipts and forms are read row by row.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from kosmos_loader.document import Line
from kosmos_loader.geometry import Box, overlap, rotated
from kosmos_loader.structure.marks import list_mark


@dataclass(frozen=True, slots=True)
class Item:
    """A line in the upright frame, in pixels."""

    line: Line
    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        """Along the text."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Across the text."""
        return self.y1 - self.y0

    @property
    def middle(self) -> float:
        """Vertical centre."""
        return (self.y0 + self.y1) / 2


@dataclass(frozen=True, slots=True)
class Row:
    """Items that stand side by side, from left to right."""

    items: tuple[Item, ...]

    @property
    def x0(self) -> float:
        """Left end."""
        return self.items[0].x0

    @property
    def x1(self) -> float:
        """Right end."""
        return max(item.x1 for item in self.items)

    @property
    def y0(self) -> float:
        """Upper edge."""
        return min(item.y0 for item in self.items)

    @property
    def y1(self) -> float:
        """Lower edge."""
        return max(item.y1 for item in self.items)

    @property
    def height(self) -> float:
        """Usual height of an item."""
        return median(item.height for item in self.items)

    @property
    def text(self) -> str:
        """The texts of the items, joined by spaces."""
        return " ".join(item.line.text for item in self.items)


def layout(lines: Iterable[Line], width: int, height: int, angle: float) -> list[list[Row]]:
    """The rows of each region (a column, or what runs across the page), in reading order."""
    items = [_upright(line, width, height, angle) for line in lines]
    if not items:
        return []
    em = _em(items)
    # Text that stands on its side in the margin of an upright page belongs to no row.
    standing = [i for i in items if i.height > 1.5 * i.width and i.height > 3 * em]
    flowing = [i for i in items if i not in standing]
    regions = [_fields(_rows(r), em) for r in _regions(flowing, em)] if flowing else []
    return [*regions, *([Row((item,))] for item in standing)]


def _upright(line: Line, width: int, height: int, angle: float) -> Item:
    x0, y0, x1, y1 = line.box.as_tuple()
    corners = line.quad or ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    points = [(x * width, y * height) for x, y in corners]
    box = Box.around(rotated(points, -angle, about=(width / 2, height / 2)))
    # readers do give boxes without extent; a pixel each way lets heights be compared
    x0, y0, x1, y1 = box.as_tuple()
    return Item(line, x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))


def _em(items: Sequence[Item]) -> float:
    return max(1.0, median(item.height for item in items))


def _regions(items: list[Item], em: float) -> list[list[Item]]:
    """`items` cut into columns and what runs across them, in reading order."""
    gutter = _gutter(items, em)
    if gutter is None:
        return [items]
    regions: list[list[Item]] = []
    across: list[Item] = []
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

    left: list[Item] = field(default_factory=list)
    right: list[Item] = field(default_factory=list)
    below: list[Item] = field(default_factory=list)
    """The crossing line that ends the band."""

    is_columns: bool = False

    def support(self) -> int:
        return min(len(self.left), len(self.right))

    def hand_up_masthead(self, em: float) -> list[Item]:
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


def _gutter(items: list[Item], em: float) -> _Gutter | None:
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


def _bands(items: list[Item], left: list[Item], right: list[Item], em: float) -> list[_Band]:
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


def _is_prose(items: list[Item], em: float) -> bool:
    """Running text fills its column; the cells of a table and the values of a form do not.

    Two thirds of the lines are at least 8 ems wide, and half of them at least half as wide as the
    widest (all but the widest tenth, which may be something else).
    """
    widths = sorted(item.width for item in items)
    full = widths[-1 - len(widths) // 10]
    return widths[len(widths) // 3] >= 8 * em and median(widths) >= max(10 * em, 0.5 * full)


def _rows(items: Iterable[Item]) -> list[Row]:
    """`items` gathered into rows from top to bottom: centres less than half a height apart."""
    rows: list[list[Item]] = []
    for item in sorted(items, key=lambda i: (i.middle, i.x0)):
        if rows and _beside(rows[-1], item):
            rows[-1].append(item)
        else:
            rows.append([item])
    return [Row(tuple(sorted(row, key=lambda i: i.x0))) for row in rows]


def _beside(row: list[Item], item: Item) -> bool:
    nearest = min(row, key=lambda i: abs(i.x0 - item.x0))
    if not 0.6 < nearest.height / item.height < 1.7:
        return False
    apart = abs(nearest.middle - item.middle)
    if apart > 0.5 * min(nearest.height, item.height):
        return False
    # Two boxes that cover the same place are two lines, however near their centres.
    return all(overlap(i.x0, i.x1, item.x0, item.x1) < 0.5 * min(i.width, item.width) for i in row)


def _fields(rows: list[Row], em: float) -> list[Row]:
    """`rows` with labels joined to the values that a form has below them: "Surname: Trevose"."""
    joined: list[Row] = []
    index = 0
    while index < len(rows):
        pairs = _labelled(rows[index], rows[index + 1], em) if index + 1 < len(rows) else None
        joined += pairs or [rows[index]]
        index += 2 if pairs else 1
    return joined


def _labelled(labels: Row, values: Row, em: float) -> list[Row] | None:
    """A row for each label with its value, None where the rows are no labels and values."""
    if values.y0 - labels.y1 > 1.5 * em or any(_is_label(item) for item in values.items):
        return None
    if not all(_is_label(item) and len(item.line.text) <= 40 for item in labels.items):
        return None
    starts = [label.x0 for label in labels.items]
    below: dict[int, Item] = {}
    for value in values.items:
        column = sum(start <= value.x0 + em for start in starts) - 1
        if column < 0 or column in below or value.x0 - starts[column] > 3 * em:
            return None
        below[column] = value
    # Under a single label a value is short; what is longer is the text that the label introduces.
    if len(starts) == 1 and (len(values.text) > 60 or list_mark(values.text, letters=False)):
        return None
    return [
        Row((label, below[column]) if column in below else (label,))
        for column, label in enumerate(labels.items)
    ]


def _is_label(item: Item) -> bool:
    return item.line.text.rstrip().endswith(":")
