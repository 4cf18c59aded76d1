"""hOCR 1.2 (http://kba.github.io/hocr-spec/1.2/), read and written.

hOCR is HTML: what is well-formed is read as XML, anything else as the tag soup that it is. One file
holds any number of pages.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from kosmos_loader.document import PageInfo, Reading
from kosmos_loader.errors import CorruptFile
from kosmos_loader.geometry import Point
from kosmos_loader.ocr_files.markup_tree import Node, Tree, parse_html, parse_xml
from kosmos_loader.ocr_files.model import (
    OURS,
    FoundLine,
    FoundPage,
    mean_confidence,
    number,
    numbers,
    points,
    share,
    stripped,
)
from kosmos_loader.ocr_files.writing import (
    PixelBox,
    Region,
    WrittenLine,
    attribute,
    escaped,
    regions,
)

LINES = frozenset(
    ("ocr_line", "ocrx_line", "ocr_header", "ocr_footer", "ocr_caption", "ocr_textfloat")
)
"""Classes of lines: those of the specification, and those that Tesseract writes for some kinds."""

WORDS = frozenset(("ocrx_word", "ocr_word"))

BLOCKS = frozenset(("ocr_par", "ocr_carea", "ocrx_block", "ocr_photo"))
"""What holds lines; taken for a line where it holds text without any."""

_PROPERTY = re.compile(r"""([A-Za-z_]\w*)((?:\s+(?:"[^"]*"|'[^']*'|[^\s;"']+))*)""")


def read_hocr(content: bytes) -> list[FoundPage]:
    """The pages of an hOCR file. Raises `CorruptFile`, also for one without a page."""
    try:
        pages = _pages(content, parse_xml)
    except CorruptFile:
        if b"<!ENTITY" in content:
            raise
        pages = _pages(content, parse_html)
    if not pages:
        raise CorruptFile("it holds no element of class ocr_page")
    return pages


def _pages(content: bytes, parse: Callable[[bytes, Tree], None]) -> list[FoundPage]:
    pages: list[FoundPage] = []
    tree = Tree(
        lambda node: "ocr_page" in _classes(node),
        lambda node: pages.append(_page(node, software=_software(tree.root))),
    )
    parse(content, tree)
    return pages


def _classes(node: Node) -> frozenset[str]:
    return frozenset(node.get("class").split())


def _properties(node: Node) -> dict[str, str]:
    """The properties in the `title` of an element: "bbox 0 0 10 10; x_wconf 96"."""
    return {name: value.strip() for name, value in _PROPERTY.findall(node.get("title"))}


def _software(root: Node | None) -> str:
    for node in root.walk() if root else ():
        if node.name == "meta" and node.get("name") == "ocr-system":
            return node.get("content")
    return ""


def _page(node: Node, *, software: str) -> FoundPage:
    told = _properties(node)
    bounds = _bounds(told)
    width, height = bounds[-1] if len(bounds) == 2 and min(bounds[0]) == 0 else (None, None)
    place = number(told.get("ppageno", ""))
    lines: list[FoundLine] = []
    rejected = 0
    for element in _lines(node):
        line = _line(element)
        if line is None:
            rejected += bool(_text(element))
        else:
            lines.append(line)
    return FoundPage(
        tuple(lines),
        width,
        height,
        number=None if place is None else int(place) + 1,
        format="hocr",
        software=software,
        rejected=rejected,
    )


def _lines(node: Node) -> Iterator[Node]:
    """The elements below `node` that are lines, in order; blocks and words where there are none."""
    for child in node.elements():
        classes = _classes(child)
        if classes & WORDS:
            yield child
            continue
        within = list(_lines(child))
        holds_lines = any(not _classes(inner) & WORDS for inner in within)
        if (classes & LINES and not holds_lines) or (
            classes & BLOCKS and not within and _text(child)
        ):
            yield child
        else:
            yield from within


def _line(node: Node) -> FoundLine | None:
    """None for a line without text or place."""
    words = [word for word in node.walk() if _classes(word) & WORDS and _text(word)]
    text = stripped(" ".join(map(_text, words))) if words else _text(node)
    told = _properties(node)
    bounds = _outline(told) or [p for word in words for p in _bounds(_properties(word))]
    if not text or not bounds:
        return None
    return FoundLine(
        text,
        tuple(bounds),
        _confidence(told, "x_conf")
        if not words
        else mean_confidence(
            (_confidence(_properties(word), "x_wconf"), len(_text(word))) for word in words
        ),
        _angle(told),
        corners="poly" in told and len(bounds) == 4,
    )


def _text(node: Node) -> str:
    """The text of a word or line; boxed characters (ocrx_cinfo) stand on lines of their own."""
    characters = [inner for inner in node.walk() if "ocrx_cinfo" in _classes(inner)]
    if characters and _classes(node) & WORDS:
        return "".join(stripped(character.text) for character in characters)
    return stripped(node.text)


def _bounds(told: dict[str, str]) -> list[Point]:
    box = numbers(told.get("bbox", ""))
    if len(box) != 4 or box[0] > box[2] or box[1] > box[3]:
        return []
    return [(box[0], box[1]), (box[2], box[3])]


def _outline(told: dict[str, str]) -> list[Point]:
    """The corners of a slanted line (property `poly`), else of its box."""
    corners = points(told.get("poly", ""))
    return corners if len(corners) >= 3 else _bounds(told)


def _angle(told: dict[str, str]) -> float | None:
    """Degrees clockwise; `textangle` counts the other way, `baseline` begins with a slope."""
    turned = number(told.get("textangle", ""))
    slope = numbers(told.get("baseline", ""))
    if turned is None and not slope:
        return None
    degrees = (math.degrees(math.atan(slope[0])) if slope else 0.0) - (turned or 0.0)
    return (degrees + 180) % 360 - 180


def _confidence(told: dict[str, str], name: str) -> float | None:
    """`x_wconf` is one number, `x_conf` one for each character; both up to 100."""
    known = [share(value, 100.0) for value in numbers(told.get(name, ""))]
    return mean_confidence((value, 1) for value in known)


# --- written -------------------------------------------------------------------------------------


def hocr(readings: Iterable[Reading]) -> Iterator[str]:
    """One hOCR document of all `readings`, piece by piece; pages that failed are left out.

    Nothing at all where there is no other page.

    Boxes are in pixels of the page as seen, rounded to whole ones. `ppageno` is the page's place in
    its file, from 0.
    """
    place = 0
    for reading in readings:
        if reading.error is not None:
            continue
        if not place:
            yield _HEAD.format(system=attribute(f"{OURS} {version('kosmos-loader')}"))
        place += 1
        yield from (f"{line}\n" for line in _written_page(reading, place))
    if place:
        yield " </body>\n</html>\n"


_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
    "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title></title>
  <meta http-equiv="Content-Type" content="text/html; charset=utf-8"/>
  <meta name="ocr-system" content={system}/>
  <meta name="ocr-capabilities" content="ocr_page ocr_carea ocr_par ocr_line ocrx_word"/>
 </head>
 <body>
"""


def _written_page(reading: Reading, place: int) -> Iterator[str]:
    page = reading.page
    name = Path(page.source).name.replace('"', "")
    title = (
        f'image "{name}"; bbox 0 0 {page.width} {page.height}; ppageno {page.number - 1}'
        f"{_resolution(page)}"
    )
    yield f'  <div class="ocr_page" id="page_{place}" title={attribute(title)}>'
    for order, region in enumerate(regions(reading), start=1):
        yield from _written_region(region, f"{place}_{order}")
    yield "  </div>"


def _resolution(page: PageInfo) -> str:
    dpi = round(page.dpi)
    return f"; scan_res {dpi} {dpi}" if dpi else ""


def _written_region(region: Region, name: str) -> Iterator[str]:
    title = _box(region.box)
    yield f'   <div class="ocr_carea" id="block_{name}" title="{title}">'
    yield f'    <p class="ocr_par" id="par_{name}" title="{title}">'
    for order, line in enumerate(region.lines, start=1):
        yield from _written_line(line, f"{name}_{order}", kind=_LINE_KINDS.get(region.kind))
    yield "    </p>"
    yield "   </div>"


_LINE_KINDS = {"heading": "ocr_header"}
"""As Tesseract calls lines of a kind; readers of hOCR know these classes."""


def _written_line(line: WrittenLine, name: str, *, kind: str | None) -> Iterator[str]:
    title = _box(line.box)
    if line.angle:
        corners = " ".join(f"{x} {y}" for x, y in line.corners)
        title += f"; poly {corners}; textangle {-line.angle:.2f}"
    yield f'     <span class="{kind or "ocr_line"}" id="line_{name}" title="{title}">'
    for order, word in enumerate(line.words, start=1):
        sure = "" if line.confidence is None else f"; x_wconf {round(100 * line.confidence)}"
        yield (
            f'      <span class="ocrx_word" id="word_{name}_{order}" '
            f'title="{_box(word.box)}{sure}">{escaped(word.text)}</span>'
        )
    yield "     </span>"


def _box(box: PixelBox) -> str:
    return "bbox {} {} {} {}".format(*box)
