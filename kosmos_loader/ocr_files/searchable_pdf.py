"""Searchable PDF: the picture of each page with its text under it, invisible and in its place.

The text is set word by word in text render mode 3 (ISO 32000-1, table 106) in a font whose every
character is a box: of the line's height, and as wide as the word needs it, so that what a viewer
selects covers what is on paper. A page of a PDF is taken over as it is and its old invisible text
replaced; a JPEG is taken over byte by byte; other pictures are packed without loss.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pypdf
from pypdf.generic import (
    ArrayObject,
    ContentStream,
    DictionaryObject,
    NameObject,
)

from kosmos_loader.document import Line, Page, Reading
from kosmos_loader.geometry import SLANTED, Box, Point, intersection, turned_point
from kosmos_loader.ocr_files.bidi import visual_order
from kosmos_loader.ocr_files.invisible_font import Codes, font_objects
from kosmos_loader.ocr_files.model import OURS, corners_within, oriented, slant
from kosmos_loader.ocr_files.pdf_objects import (
    added,
    dictionary,
    file_bytes,
    jpeg_picture,
    packed_picture,
    stream,
)
from kosmos_loader.ocr_files.writing import Word, allowed, words
from kosmos_loader.pages import open_pages

log = logging.getLogger("kosmos_loader")

INVISIBLE = 3
"""Text render mode (ISO 32000-1, table 106)."""

SMALLEST = 0.1
"""Points that a line is high and wide at least, so that it can be found: a third of a pixel at 200
dots per inch."""

WIDEST_SPACE = 1.0
"""Line heights that a space between words takes at most. What is wider is taken for the gap between
columns by programs that read PDF, ours among them."""

DEEPEST_FORM = 5
"""Nesting of form XObjects in which old invisible text is looked for."""

_ENDS = "\n\n"

_END_SIZE = 1.0
"""Points that line ends are high; pdfium passes over much smaller type."""

_FONT = "/KosmosLoaderText"

_SHOWS_TEXT = (b"Tj", b"TJ", b"'", b'"')


class _Sheet(NamedTuple):
    """From page fractions as seen to points of the PDF's own coordinates."""

    left: float
    bottom: float
    width: float
    """Points, before /Rotate."""

    height: float
    quarters: int = 0
    """Clockwise quarter turns by /Rotate."""

    def point(self, seen: Point) -> Point:
        """Where a point as seen lies."""
        x, y = turned_point(seen, -self.quarters)
        return self.left + x * self.width, self.bottom + (1 - y) * self.height

    @property
    def seen_size(self) -> tuple[float, float]:
        """Width and height as seen, in points."""
        size = self.width, self.height
        return size if self.quarters % 2 == 0 else size[::-1]


class _Course(NamedTuple):
    """How a line runs over the PDF's own coordinates, in points."""

    start: Point
    """Where its baseline begins."""

    length: float
    height: float
    angle: float
    """Radians counter-clockwise."""


class _Placed(NamedTuple):
    """A line as it is to be set."""

    line: Line
    text: str
    """In visual order."""

    is_reordered: bool
    """Whether that is not the order in which it is read: it holds right-to-left text."""

    course: _Course

    @property
    def is_lone(self) -> bool:
        """Whether pdfium cannot tell which way it goes, having but one character to begin with."""
        single = [len(word) == 1 for word in self.text.split()]
        return all(single) or (any(single) and self.is_reordered)


class SearchablePdf:
    """A PDF of scans and their text; `add` its pages, then `write` it.

    `password` opens encrypted PDF files that pages are taken from; the new one is not encrypted. It
    takes the memory of the file that it becomes.
    """

    def __init__(self, *, password: str | None = None) -> None:
        self._password = password
        self._writer = pypdf.PdfWriter()
        self._codes = Codes()
        self._fonts: list[DictionaryObject] = []
        self._open: tuple[str, pypdf.PdfReader] | None = None

    def add(self, page: Page, reading: Reading) -> None:
        """Add `page` with the text of `reading`; without any where either of them failed.

        A page that has neither pixels nor a PDF to take it from is left out. Text that a page of a
        PDF shows is not set again.
        """
        taken = self._taken_over(page)
        if taken is not None:
            self._set_text_under(taken, page, reading)
        elif page.error is None:
            self._add_picture(page, reading)

    @property
    def page_count(self) -> int:
        """Pages so far."""
        return len(self._writer.pages)

    def write(self, stream: BinaryIO) -> None:
        """Write the file. Nothing can be added afterwards."""
        font = added(self._writer, font_objects(self._writer, self._codes))
        for fonts in self._fonts:
            fonts[NameObject(_FONT)] = font
        self._writer.add_metadata({"/Producer": f"{OURS} {version('kosmos-loader')}"})
        self._writer.write(stream)

    def _add_picture(self, page: Page, reading: Reading) -> None:
        dpi = page.dpi or 72.0  # of a page that knows none, a pixel is a point
        width, height = (72 * side / dpi for side in (page.width, page.height))
        sheet = _Sheet(0.0, 0.0, width, height)
        picture, orientation = _picture(page)
        matrix = _numbers(*_placement(orientation, sheet))
        leaf = self._writer.add_blank_page(width, height)
        pictures = dictionary(Scan=added(self._writer, picture))
        leaf[NameObject("/Resources")] = dictionary(XObject=pictures, Font=self._font_entry())
        content = f"q {matrix} cm /Scan Do Q\n{self._text(reading.lines, sheet)}"
        leaf[NameObject("/Contents")] = added(
            self._writer, stream(content.encode("ascii"), packed=True)
        )

    def _taken_over(self, page: Page) -> Any:
        """The page of the PDF that it comes from, in this one; None where it cannot be had."""
        if page.number < 1 or b"%PDF-" not in file_bytes(page.source):
            return None
        try:
            return self._writer.add_page(self._reader(page.source).pages[page.number - 1])
        except Exception as error:  # noqa: BLE001  a damaged file makes pypdf raise any type
            log.debug("page %d of %s is drawn anew (%s)", page.number, page.source, error)
            return None

    def _reader(self, source: str) -> pypdf.PdfReader:
        if self._open is None or self._open[0] != source:
            reader = pypdf.PdfReader(Path(source))
            if reader.is_encrypted:
                reader.decrypt(self._password or "")
            self._open = source, reader
        return self._open[1]

    def _set_text_under(self, leaf: Any, page: Page, reading: Reading) -> None:
        lines: Sequence[Line] = reading.lines
        if not lines or lines == page.text_layer:
            return  # as it is, it is the best that there is
        dropped = _drop_invisible_text(self._writer, leaf)
        shown = _text_of(leaf) if dropped else page.text_layer
        lines = [line for line in lines if not _is_shown(line, shown)]
        text = f"\nQ\n{self._text(lines, _sheet(leaf))}"
        old = leaf.get("/Contents")
        old = old.get_object() if old is not None else ArrayObject()
        parts = old if isinstance(old, ArrayObject) else [leaf.raw_get("/Contents")]
        # whatever the page's own content does to the coordinates ends with it
        before = added(self._writer, stream(b"q\n"))
        after = added(self._writer, stream(text.encode("ascii"), packed=True))
        leaf[NameObject("/Contents")] = ArrayObject([before, *parts, after])
        resources = DictionaryObject(_dictionary_in(leaf, "/Resources"))
        fonts = self._font_entry()
        fonts.update(_dictionary_in(resources, "/Font"))
        resources[NameObject("/Font")] = fonts
        leaf[NameObject("/Resources")] = resources

    def _font_entry(self) -> DictionaryObject:
        """Fonts of a page; the font is put in when all its characters are known."""
        fonts = DictionaryObject()
        self._fonts.append(fonts)
        return fonts

    def _text(self, lines: Sequence[Line], sheet: _Sheet) -> str:
        """Text operators for `lines`."""
        written = [placed for line in lines if (placed := _written(line, sheet)) is not None]
        lone = [placed.is_lone for placed in written]
        shown = []
        for number, placed in enumerate(written):
            shown.append(self._line(placed))
            if any(lone[number : number + 2]):
                shown.append(self._far_end(placed, sheet))
            elif not placed.is_reordered:
                # among right-to-left text it would be taken along when that is turned round
                shown.append(f"{self._shown(chr(10), 1.0)}\n")
        if any(lone):
            shown.append(self._direction(sheet))
        return f"BT {INVISIBLE} Tr\n{''.join(shown)}ET\n" if shown else ""

    def _line(self, placed: _Placed) -> str:
        text = placed.text
        start, length, height, angle = placed.course
        size = max(height, SMALLEST)
        shown = [self._at(start, angle, size)]
        # pdfium puts the words of a line that stands on its head in another order
        is_upright = math.cos(angle) > -0.1
        pieces = _pieces(text, size / max(length, SMALLEST)) if is_upright else [(text, 1.0)]
        for piece, share in pieces:
            scale = 100 * share * max(length, SMALLEST) / (size * len(piece))
            shown.append(self._shown(piece, scale))
        return "\n".join([*shown, ""])

    def _far_end(self, placed: _Placed, sheet: _Sheet) -> str:
        """Line ends at the edge of the page that is farther away.

        pdfium takes two texts for parts of one line where they are less far from each other than
        half a character is wide.
        """
        x, y = placed.line.box.center
        start = sheet.point((x, 0.0 if y > 0.5 else 1.0))
        return f"{self._at(start, placed.course.angle, _END_SIZE)}\n{self._shown(_ENDS, 1.0)}\n"

    def _direction(self, sheet: _Sheet) -> str:
        """Line ends as wide as the page, which tell pdfium which way lines go.

        It cannot tell from a lone character, and asks the page; where little stands on it, the page
        does not know either, and words come back in another order.
        """
        start, length, _, angle = _course(Line("", Box(0.0, 1.0, 1.0, 1.0)), sheet)
        shown = self._shown(_ENDS, 100 * length / (_END_SIZE * len(_ENDS)))
        return f"{self._at(start, angle, _END_SIZE)}\n{shown}\n"

    def _at(self, start: Point, angle: float, size: float) -> str:
        """Sets what follows from `start` on, in type of `size` points."""
        cos, sin = math.cos(angle), math.sin(angle)
        return f"{_FONT} {_numbers(size)} Tf {_numbers(cos, sin, -sin, cos, *start)} Tm"

    def _shown(self, text: str, scale: float) -> str:
        """`text`, each character `scale` per cent of its size wide."""
        return f"{_numbers(scale)} Tz <{self._codes.encoded(text)}> Tj"


def _written(line: Line, sheet: _Sheet) -> _Placed | None:
    """`line` as it is to be set; None where nothing of it, but for soft hyphens and marks, is."""
    logical = " ".join(allowed(line.text).split())
    text = visual_order(logical)
    if not any(_extent(word) for word in words(text)):
        return None
    return _Placed(line, text, text != logical, _course(line, sheet))


def _pieces(text: str, height: float) -> Iterator[tuple[str, float]]:
    """Words and the spaces between them, and the share of the line that each takes.

    `height` is that of the line, as a share of its length.
    """
    placed = words(text)
    gaps = [after.start - before.end for before, after in pairwise(placed)]
    widest = WIDEST_SPACE * height
    lost = sum(max(0.0, gap - widest) for gap in gaps)
    grown = 1 + lost / sum(word.end - word.start for word in placed)
    for word, gap in zip(placed, [*gaps, None], strict=True):
        yield word.text, _extent(word) * grown
        if gap is not None:
            yield " ", min(gap, widest)


def _extent(word: Word) -> float:
    return word.end - word.start


def _course(line: Line, sheet: _Sheet) -> _Course:
    """How `line` runs."""
    corners = [sheet.point(corner) for corner in _corners(line, sheet)]
    (ax, ay), _, (cx, cy), (dx, dy) = corners
    length, height = math.hypot(cx - dx, cy - dy), math.hypot(ax - dx, ay - dy)
    if length:
        angle = math.atan2(cy - dy, cx - dx)
    else:
        angle = math.atan2(ay - dy, ax - dx) - math.pi / 2 if height else 0.0
    return _Course((dx, dy), length, height, angle)


def _corners(line: Line, sheet: _Sheet) -> list[Point]:
    """Corners of `line` as seen: of a slanted one those of a rectangle that its box is around."""
    width, height = sheet.seen_size
    x0, y0, x1, y1 = line.box.as_tuple()
    angle = slant(line, _Seen(width, height))
    if line.quad is None or abs(angle) <= SLANTED:
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    within = corners_within(Box(*line.box.scaled(width, height)), angle)
    if within is None:
        return list(line.quad)
    return [(x / width, y / height) for x, y in within]


class _Seen(NamedTuple):
    width: float
    height: float


def _sheet(leaf: Any) -> _Sheet:
    """As pdfium measures a page: the part of the CropBox that is on the MediaBox."""
    media, crop = (_sides(box) for box in (leaf.mediabox, leaf.cropbox))
    left, bottom = max(media[0], crop[0]), max(media[1], crop[1])
    right, top = min(media[2], crop[2]), min(media[3], crop[3])
    if left >= right or bottom >= top:
        left, bottom, right, top = media
    return _Sheet(left, bottom, right - left, top - bottom, leaf.rotation // 90 % 4)


def _sides(box: Any) -> tuple[float, float, float, float]:
    xs, ys = sorted((float(box[0]), float(box[2]))), sorted((float(box[1]), float(box[3])))
    return xs[0], ys[0], xs[1], ys[1]


def _text_of(leaf: Any) -> tuple[Line, ...]:
    """The text layer of a page as it is now."""
    if not _shows_text(leaf, leaf.get_contents(), DEEPEST_FORM):
        return ()
    alone = pypdf.PdfWriter()
    alone.add_page(leaf)
    content = BytesIO()
    alone.write(content)
    page = next(open_pages(content.getvalue(), max_pixels=10_000))  # it is not looked at
    return page.text_layer


def _shows_text(parent: Any, content: Any, depth: int) -> bool:
    """Whether a page or form holds operators that show text, or bytes that look like them."""
    if content is not None and re.search(rb"T[jJ]\b|['\"]", content.get_data()):
        return True
    forms = _forms(parent) if depth else ()
    return any(_shows_text(drawn[name], drawn[name], depth - 1) for drawn, name in forms)


def _is_shown(line: Line, layer: Sequence[Line]) -> bool:
    """Whether text of the page itself covers half of the line."""
    shared = (intersection(line.box, own.box) for own in layer)
    return sum(part.area for part in shared if part is not None) > 0.5 * line.box.area


def _picture(page: Page) -> tuple[Any, int]:
    """The picture of a page, and the EXIF orientation that it still needs."""
    if file_bytes(page.source).startswith(b"\xff\xd8\xff"):
        try:
            taken = jpeg_picture(Path(page.source).read_bytes())
        except Exception as error:  # noqa: BLE001  a damaged file makes Pillow raise any type
            log.debug("%s is packed anew (%s)", page.source, error)
            taken = None
        if taken is not None:
            return taken
    return packed_picture(page.pixels), 1


def _placement(orientation: int, sheet: _Sheet) -> tuple[float, ...]:
    """The matrix that lays a stored picture upright onto the page."""
    # the unit square of PDF has its origin bottom left
    (x0, y0), (x1, y1), (x2, y2) = (
        sheet.point(oriented(corner, orientation)) for corner in ((0, 1), (1, 1), (0, 0))
    )
    return x1 - x0, y1 - y0, x2 - x0, y2 - y0, x0, y0


def _numbers(*values: float) -> str:
    """As PDF writes numbers, without exponents."""
    return " ".join(f"{value:.5f}".rstrip("0").rstrip(".") for value in values)


def _dictionary_in(parent: Any, key: str) -> Any:
    found = parent.get(key)
    found = found.get_object() if found is not None else None
    return found if isinstance(found, DictionaryObject) else DictionaryObject()


def _drop_invisible_text(writer: pypdf.PdfWriter, leaf: Any) -> bool:
    """Take the invisible text off a page; whether there was any."""
    try:
        content = leaf.get_contents()
        dropped = content is not None and _without_invisible(content, writer)
        if dropped:
            leaf[NameObject("/Contents")] = added(writer, dropped)
        return _drop_in_forms(writer, leaf, DEEPEST_FORM) or bool(dropped)
    except Exception as error:  # noqa: BLE001  damaged content makes pypdf raise any type
        log.debug("invisible text stays (%s)", error)
        return False


def _forms(parent: Any) -> Iterator[tuple[Any, str]]:
    """The form XObjects of a page or form: what holds each, and its name there."""
    drawn = _dictionary_in(_dictionary_in(parent, "/Resources"), "/XObject")
    for name in list(drawn):  # one may be put in the place of another meanwhile
        if drawn[name].get("/Subtype") == "/Form":
            yield drawn, name


def _drop_in_forms(writer: pypdf.PdfWriter, parent: Any, depth: int) -> bool:
    dropped = False
    for drawn, name in _forms(parent) if depth else ():
        form = drawn[name]
        dropped |= _drop_in_forms(writer, form, depth - 1)
        rest = _without_invisible(form, writer)
        if rest:
            kept = {
                k: v for k, v in form.items() if k not in ("/Filter", "/DecodeParms", "/Length")
            }
            rest.update(kept)
            drawn[NameObject(name)] = added(writer, rest)
            dropped = True
    return dropped


def _without_invisible(content: Any, writer: pypdf.PdfWriter) -> Any:
    """The content without the operators that show invisible text; None where there are none."""
    if not re.search(rb"\b3\s+Tr\b", content.get_data()):
        return None
    parsed = ContentStream(content, writer)
    kept, modes, mode = [], list[int](), 0
    for operands, operator in parsed.operations:
        if operator == b"q":
            modes.append(mode)
        elif operator == b"Q" and modes:
            mode = modes.pop()
        elif operator == b"Tr":
            mode = int(operands[0])
        if operator in _SHOWS_TEXT and mode == INVISIBLE:
            continue
        kept.append((operands, operator))
    if len(kept) == len(parsed.operations):
        return None
    parsed.operations = kept
    return stream(parsed.get_data(), packed=True)
