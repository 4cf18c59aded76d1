"""The text that a PDF page carries, as lines with boxes.

pdfium lists the characters of a page in the order in which they are meant to be read (right-to-left
runs put in logical order, spaces and line ends guessed) and tells where each stands. They are
grouped here into lines: a line ends where the writing direction changes, where the next character
stands above or below, at a gap wider than `WIDEST_GAP`, so that columns and table cells come out as
lines of their own, and where pdfium ends it, unless the next character follows so closely that it
must belong to it (pdfium ends lines after superscripts).
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import closing
from ctypes import c_double
from typing import Any, NamedTuple

from pypdfium2 import raw as pdfium

from kosmos_loader.document import Line
from kosmos_loader.geometry import (
    SLANTED,
    Box,
    Point,
    Quad,
    intersection,
    on_page,
    overlap,
    rotated,
    turned,
    union,
)

WIDEST_GAP = 2.0
"""Line heights between two characters of one line: more than any space between words, less than
what separates columns."""

CLOSE = 0.5
"""Line heights between neighbouring characters at most, with or without a space between them."""

NEXT_IN_LINE = 0.3
"""Share of the smaller character's height that a character has in common with the one before it:
letters of the next line share less, superscripts more."""

BACK_IN_LINE = 0.5
"""The same for a character that stands over or under an earlier part of the line: right-to-left
text among left-to-right does, and shares nearly all; a tightly set next line shares less."""

PAGE = Box(0.0, 0.0, 1.0, 1.0)

Rect = tuple[float, float, float, float]
"""left, bottom, right, top in PDF points, before /Rotate, y upwards."""


class _Glyph(NamedTuple):
    text: str
    ink: Rect
    """What is drawn."""

    room: Rect
    """What the font reserves, from the lowest descender to the highest ascender."""

    angle: float
    """Degrees clockwise by which the writing direction differs from left to right."""

    @property
    def upright(self) -> bool:
        """Whether the text runs rather along x than along y."""
        return round(self.angle / 90) % 2 == 0

    @property
    def along(self) -> tuple[float, float]:
        left, bottom, right, top = self.room
        return (left, right) if self.upright else (bottom, top)

    @property
    def across(self) -> tuple[float, float]:
        left, bottom, right, top = self.room
        return (bottom, top) if self.upright else (left, right)

    @property
    def height(self) -> float:
        return self.across[1] - self.across[0]


def text_lines(page: Any) -> tuple[Line, ...]:
    """The lines of a pdfium page in the file's own order; boxes as seen after /Rotate and CropBox.

    Invisible text (the OCR layer of a scan) counts. Left out is text that lies beside the page by
    more than half, text without extent, and text that is nothing but control, replacement or
    private-use characters, which is what fonts without a mapping to Unicode yield. Raises
    `pypdfium2.PdfiumError`.
    """
    sheet = _Sheet(page.get_bbox(), page.get_rotation() // 90)
    if not _area(sheet.bbox):
        return ()
    with closing(page.get_textpage()) as text:
        glyphs = list(_glyphs(text))
    return tuple(filter(None, (_line(group, sheet) for group in _grouped(glyphs))))


def _glyphs(text: Any) -> Iterator[_Glyph]:
    left, bottom, right, top = c_double(), c_double(), c_double(), c_double()
    loose, matrix = pdfium.FS_RECTF(), pdfium.FS_MATRIX()
    for index in range(text.count_chars()):
        pdfium.FPDFText_GetCharBox(text, index, left, right, bottom, top)
        pdfium.FPDFText_GetLooseCharBox(text, index, loose)
        ink = (left.value, bottom.value, right.value, top.value)
        room = (loose.left, loose.bottom, loose.right, loose.top)
        # the hyphen at a line end that joins the halves of a word has a code of pdfium's own
        hyphen = pdfium.FPDFText_IsHyphen(text, index) == 1
        character = "-" if hyphen else chr(pdfium.FPDFText_GetUnicode(text, index))
        # not by FPDFText_GetCharAngle, which takes a slant for steeper where text is set narrow
        pdfium.FPDFText_GetMatrix(text, index, matrix)
        angle = math.degrees(math.atan2(-matrix.b, matrix.a))
        yield _Glyph(character, ink, room if _area(room) else ink, angle)


def _area(rect: Rect) -> float:
    left, bottom, right, top = rect
    return max(0.0, right - left) * max(0.0, top - bottom)


def _grouped(glyphs: Iterable[_Glyph]) -> Iterator[list[_Glyph]]:
    """Glyphs of one line each. White space stays in, and has no say in where a line ends."""
    line: list[_Glyph] = []
    last: _Glyph | None = None
    start = end = 0.0
    ended = False
    for glyph in glyphs:
        if glyph.text.isspace():
            line.append(glyph)
            ended = ended or glyph.text in "\r\n"
            continue
        if not _area(glyph.room) or unicodedata.category(glyph.text) == "Cc":
            continue
        first, final = glyph.along
        if last is not None and _continues(last, glyph, start, end, ended=ended):
            start, end = min(start, first), max(end, final)
        else:
            yield line
            line, start, end = [], first, final
        line.append(glyph)
        last, ended = glyph, False
    yield line


def _continues(last: _Glyph, glyph: _Glyph, start: float, end: float, *, ended: bool) -> bool:
    """Whether `glyph` stands on the line that runs from `start` to `end`, its last letter `last`.

    `ended` says that pdfium ends the line between the two.
    """
    turn = abs(glyph.angle - last.angle) % 360
    if min(turn, 360 - turn) > 10:
        return False
    height = max(last.height, glyph.height)
    gap = -overlap(start, end, *glyph.along)
    back = start < sum(glyph.along) / 2 < end - CLOSE * height
    shared = overlap(*last.across, *glyph.across) / min(last.height, glyph.height)
    if shared < (BACK_IN_LINE if back else NEXT_IN_LINE):
        return False
    return -0.1 * height <= gap <= CLOSE * height if ended else gap <= WIDEST_GAP * height


class _Sheet(NamedTuple):
    """From PDF points to page fractions as seen."""

    bbox: Rect
    quarters: int
    """Clockwise quarter turns by /Rotate."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points, as seen."""
        left, bottom, right, top = self.bbox
        size = right - left, top - bottom
        return size if self.quarters % 2 == 0 else size[::-1]

    def box(self, rect: Rect) -> Box:
        left, bottom, right, top = self.bbox
        width, height = right - left, top - bottom
        x0, y0 = (rect[0] - left) / width, (top - rect[3]) / height
        x1, y1 = (rect[2] - left) / width, (top - rect[1]) / height
        return turned(Box(x0, y0, x1, y1), self.quarters)


def _line(glyphs: list[_Glyph], sheet: _Sheet) -> Line | None:
    text = " ".join("".join(glyph.text for glyph in glyphs).split())
    # characters beyond U+FFFF may come in halves
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if all(c.isspace() or c == "\ufffd" or unicodedata.category(c)[0] == "C" for c in text):
        return None
    inked = [glyph for glyph in glyphs if not glyph.text.isspace()]
    rects = [glyph.ink if _area(glyph.ink) else glyph.room for glyph in inked]
    boxes = [sheet.box(rect) for rect in rects]
    whole = union(boxes)
    box = intersection(whole, PAGE)
    if box is None or box.area < 0.5 * whole.area:
        return None
    angle = (90 * sheet.quarters + inked[0].angle + 180) % 360 - 180
    return Line(text, box, quad=_quad(boxes, angle, sheet) if abs(angle) > SLANTED else None)


def _quad(boxes: list[Box], angle: float, sheet: _Sheet) -> Quad:
    """Corners of the line of `boxes` that runs `angle` degrees clockwise from left to right."""
    width, height = sheet.size
    corners: list[Point] = []
    for box in boxes:
        x0, y0, x1, y1 = box.scaled(width, height)
        corners += [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    level = Box.around(rotated(corners, -angle, about=(0.0, 0.0)))
    x0, y0, x1, y1 = level.as_tuple()
    slanted = rotated([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], angle, about=(0.0, 0.0))
    a, b, c, d = ((on_page(x / width), on_page(y / height)) for x, y in slanted)
    return a, b, c, d
