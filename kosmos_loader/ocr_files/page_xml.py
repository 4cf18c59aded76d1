"""PAGE XML 2010 to 2019 (https://github.com/PRImA-Research-Lab/PAGE-XML), read; 2019 written.

The format of OCR-D, Transkribus and eScriptorium. One file holds one page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from kosmos_loader.document import Reading
from kosmos_loader.geometry import Point
from kosmos_loader.ocr_files.markup_tree import Node, pages_of
from kosmos_loader.ocr_files.model import (
    OURS,
    FoundLine,
    FoundPage,
    direction,
    mean_confidence,
    number,
    points,
    share,
    stripped,
)
from kosmos_loader.ocr_files.writing import Region, WrittenLine, attribute, escaped, regions

REGION = re.compile(r"\w*(Region|TableCell)")
"""Elements that hold lines, or others that do."""


def read_page_xml(content: bytes) -> list[FoundPage]:
    """The page of a PAGE XML file. Raises `CorruptFile`, also for one without a page."""
    return pages_of(content, _page)


def _page(node: Node, root: Node) -> FoundPage:
    lines: list[FoundLine] = []
    rejected = 0
    for element in _lines(node, _reading_order(node)):
        line = _line(element)
        if line is None:
            rejected += bool(_text(element))
        else:
            lines.append(line)
    return FoundPage(
        tuple(lines),
        number(node.get("imageWidth")),
        number(node.get("imageHeight")),
        format="page",
        software=" ".join(n.text.strip() for n in root.walk() if n.name == "Creator"),
        rejected=rejected,
    )


def _reading_order(page: Node) -> dict[str, int]:
    """Places of regions by id; groups of groups are followed, by `index` where there is one."""
    order = next((node for node in page.elements("ReadingOrder")), None)
    named = _named(order) if order else []
    return {name: place for place, name in reversed([*enumerate(named)])}


def _named(group: Node) -> list[str]:
    members = group.elements()
    members.sort(key=lambda member: number(member.get("index")) or 0.0)
    return [
        name
        for member in members
        for name in [*filter(None, [member.get("regionRef")]), *_named(member)]
    ]


def _lines(node: Node, order: dict[str, int]) -> Iterator[Node]:
    """The lines of a page or region in reading order; a region with text alone as its own line.

    Regions that the order leaves out come after the others, as the file has them.
    """
    within = [part for part in node.elements() if REGION.fullmatch(part.name)]
    # an order that names regions within regions orders these too; a region goes with its first
    within.sort(key=lambda region: _place(region, order))
    lines = node.elements("TextLine")
    yield from lines
    for region in within:
        inner = list(_lines(region, order))
        if inner:
            yield from inner
        elif _text(region):
            yield region


def _place(region: Node, order: dict[str, int]) -> int:
    names = [region.get("id"), *(inner.get("id") for inner in region.walk())]
    return min((order[name] for name in names if name in order), default=len(order))


def _line(node: Node) -> FoundLine | None:
    """None for a line without text or place."""
    text = _text(node)
    bounds = _outline(node) or [p for word in node.elements("Word") for p in _outline(word)]
    if not text or len(bounds) < 2:
        return None
    course = next((points(b.get("points")) for b in node.elements("Baseline")), [])
    angle = direction(course[0], course[-1]) if len(course) > 1 else None
    top = direction(bounds[0], bounds[1])
    is_quad = len(bounds) == 4 and top is not None
    # four corners are one's own only if they begin where the text does
    along = angle if angle is not None else 0.0
    limit = 45.0 if angle is None else 5.0
    fits = is_quad and top is not None and abs((top - along + 180) % 360 - 180) <= limit
    is_level = top == 0.0 and not angle
    return FoundLine(text, tuple(bounds), _confidence(node), angle, corners=fits and not is_level)


def _text(node: Node) -> str:
    """The text of a line, as it was transcribed or corrected; else of its words."""
    whole = _equivalent(node)
    if whole is not None and _unicode(whole):
        return _unicode(whole)
    words = node.elements("Word")
    if words:
        return stripped(" ".join(filter(None, map(_text, words))))
    return stripped("".join(map(_text, node.elements("Glyph"))))


def _equivalent(node: Node) -> Node | None:
    """The first of the alternative texts, by `index`."""
    texts = node.elements("TextEquiv")
    return min(texts, key=lambda text: number(text.get("index")) or 0.0, default=None)


def _unicode(equivalent: Node) -> str:
    written = equivalent.elements("Unicode") or equivalent.elements("PlainText")
    return stripped(written[0].text) if written else ""


def _confidence(node: Node) -> float | None:
    whole = _equivalent(node)
    sure = share(number(whole.get("conf"))) if whole else None
    if sure is not None:
        return sure
    words = node.elements("Word")
    return mean_confidence((_confidence(word), len(_text(word))) for word in words)


def _outline(node: Node) -> list[Point]:
    """The polygon around a line; PAGE 2010 writes each point as an element."""
    for outline in node.elements("Coords"):
        listed = points(outline.get("points"))
        if not listed:
            pairs = [(number(p.get("x")), number(p.get("y"))) for p in outline.elements("Point")]
            listed = [(x, y) for x, y in pairs if x is not None and y is not None]
        return listed
    return []


# --- written -------------------------------------------------------------------------------------


def page_xml(reading: Reading) -> str:
    """The PAGE XML 2019-07-15 document of one page; a page that failed comes without any text.

    Points are in pixels of the page as seen, rounded to whole ones.
    """
    return "".join(f"{line}\n" for line in _document(reading))


_NAMESPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"


def _document(reading: Reading) -> Iterator[str]:
    page = reading.page
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = list(enumerate(regions(reading), start=1))
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f'<PcGts xmlns="{_NAMESPACE}"'
    yield '       xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    yield f'       xsi:schemaLocation="{_NAMESPACE} {_NAMESPACE}/pagecontent.xsd">'
    yield " <Metadata>"
    yield f"  <Creator>{OURS} {version('kosmos-loader')}</Creator>"
    yield f"  <Created>{now}</Created>"
    yield f"  <LastChange>{now}</LastChange>"
    yield " </Metadata>"
    yield (
        f" <Page imageFilename={attribute(Path(page.source).name)} "
        f'imageWidth="{page.width}" imageHeight="{page.height}">'
    )
    if parts:
        yield "  <ReadingOrder>"
        yield '   <OrderedGroup id="order">'
        for order, _ in parts:
            yield f'    <RegionRefIndexed index="{order - 1}" regionRef="region_{order}"/>'
        yield "   </OrderedGroup>"
        yield "  </ReadingOrder>"
    for order, region in parts:
        yield from _written_region(region, str(order))
    yield " </Page>"
    yield "</PcGts>"


_TYPES = {"heading": "heading", "header": "header", "footer": "footer"}
"""Types of text regions by kinds of blocks; all others are paragraphs."""


def _written_region(region: Region, name: str) -> Iterator[str]:
    kind = _TYPES.get(region.kind, "paragraph")
    yield f'  <TextRegion id="region_{name}" type="{kind}">'
    x0, y0, x1, y1 = region.box
    yield f"   {_coords(((x0, y0), (x1, y0), (x1, y1), (x0, y1)))}"
    for order, line in enumerate(region.lines, start=1):
        yield from _written_line(line, f"{name}_{order}")
    text = _written_text(region)
    yield f"   <TextEquiv><Unicode>{text}</Unicode></TextEquiv>"
    yield "  </TextRegion>"


def _written_text(region: Region) -> str:
    """The text of a region, a line each."""
    return "\n".join(escaped(line.text) for line in region.lines)


def _written_line(line: WrittenLine, name: str) -> Iterator[str]:
    sure = "" if line.confidence is None else f' conf="{line.confidence:.4f}"'
    yield f'   <TextLine id="line_{name}">'
    yield f"    {_coords(line.corners)}"
    end, start = line.corners[2:]
    if start != end:
        yield f'    <Baseline points="{_points((start, end))}"/>'
    for order, word in enumerate(line.words, start=1):
        x0, y0, x1, y1 = word.box
        yield f'    <Word id="word_{name}_{order}">'
        yield f"     {_coords(((x0, y0), (x1, y0), (x1, y1), (x0, y1)))}"
        yield f"     <TextEquiv{sure}><Unicode>{escaped(word.text)}</Unicode></TextEquiv>"
        yield "    </Word>"
    yield f"    <TextEquiv{sure}><Unicode>{escaped(line.text)}</Unicode></TextEquiv>"
    yield "   </TextLine>"


def _coords(corners: Iterable[tuple[int, int]]) -> str:
    return f'<Coords points="{_points(corners)}"/>'


def _points(corners: Iterable[tuple[int, int]]) -> str:
    return " ".join(f"{x},{y}" for x, y in corners)
