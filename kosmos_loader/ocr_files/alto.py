"""ALTO 2 to 4 (https://www.loc.gov/standards/alto/), read with or without namespace; 4 written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from kosmos_loader.ocr_files.writing import (
    HYPHENS,
    PixelBox,
    Region,
    WrittenLine,
    attribute,
    escaped,
    regions,
)

_SPACES = ("TopMargin", "LeftMargin", "PrintSpace", "RightMargin", "BottomMargin")
"""The parts of a page in the order in which they are read; a file lists the margins first."""


def read_alto(content: bytes) -> list[FoundPage]:
    """The pages of an ALTO file. Raises `CorruptFile`, also for one without a page."""
    return pages_of(content, _page)


def _page(node: Node, root: Node) -> FoundPage:
    unit = next((n.text.strip() for n in root.walk() if n.name == "MeasurementUnit"), "pixel")
    whole = share(number(node.get("PC")))
    lines: list[FoundLine] = []
    rejected = 0
    for block, element in _lines(node, _reading_order(root)):
        line = _line(element, block, whole)
        if line is None:
            rejected += any(s.get("CONTENT").strip() for s in element.elements("String"))
        else:
            lines.append(line)
    place = number(node.get("PHYSICAL_IMG_NR"))
    return FoundPage(
        tuple(lines),
        number(node.get("WIDTH")),
        number(node.get("HEIGHT")),
        unit="pixel" if unit not in ("mm10", "inch1200") else unit,
        number=None if place is None or place < 1 else int(place),
        format="alto",
        software=" ".join(n.text for n in root.walk() if n.name == "softwareName"),
        rejected=rejected,
    )


def _reading_order(root: Node) -> dict[str, int]:
    """Places of blocks by id, where the file orders them (ALTO 4.3, ReadingOrder)."""
    order = next((node for node in root.walk() if node.name == "ReadingOrder"), None)
    named = [n.get("REF") for n in order.walk() if n.name == "ElementRef"] if order else []
    return {name: place for place, name in enumerate(named)}


def _lines(page: Node, order: dict[str, int]) -> Iterator[tuple[Node, Node]]:
    """Each TextLine with its TextBlock, in reading order."""
    parts = sorted(
        (part for part in page.elements() if part.name in _SPACES),
        key=lambda part: _SPACES.index(part.name),
    )
    blocks = [b for part in parts or [page] for b in part.walk() if b.name == "TextBlock"]
    blocks.sort(key=lambda block: order.get(block.get("ID"), len(order)))
    for block in blocks:
        yield from ((block, line) for line in block.elements("TextLine"))


def _line(node: Node, block: Node, whole: float | None) -> FoundLine | None:
    """None for a line without text or place."""
    strings = [s for s in node.elements("String") if s.get("CONTENT").strip()]
    text = _text(node)
    bounds = _outline(node) or [p for s in strings for p in _bounds(s)] or _bounds(block)
    if not text or not bounds:
        return None
    sure = mean_confidence((_confidence(s), len(s.get("CONTENT"))) for s in strings)
    course = points(node.get("BASELINE"))
    return FoundLine(
        text,
        tuple(bounds),
        whole if sure is None else sure,
        direction(course[0], course[-1]) if len(course) > 1 else None,
        corners=len(course) > 1 and len(bounds) == 4,
    )


def _text(line: Node) -> str:
    """Strings with a space between them; where the line marks spaces, only there."""
    has_spaces = bool(line.elements("SP"))
    text = ""
    pending = False
    for piece in line.elements("String", "SP", "HYP"):
        if piece.name == "SP":
            pending = True
            continue
        if piece.name == "HYP":
            text = _hyphen(text, piece.get("CONTENT"))
            continue
        if text and (pending or not has_spaces):
            text += " "
        pending = False
        text += piece.get("CONTENT")
        if piece.get("SUBS_TYPE") == "HypPart1" and piece is line.elements("String")[-1]:
            text = _hyphen(text, "") if not line.elements("HYP") else text
    return stripped(text)


def _hyphen(text: str, mark: str) -> str:
    """`text` with the hyphen that breaks its last word; what stands in its place is "-" here."""
    if text[-1:] in HYPHENS and text:
        return text
    return text + (mark.strip() or "-")


def _confidence(string: Node) -> float | None:
    """WC, 0 to 1; else from CC, where each character has a digit, 0 (sure) to 9."""
    sure = share(number(string.get("WC")))
    if sure is not None:
        return sure
    doubts = [int(digit) for digit in string.get("CC") if digit.isdecimal()]
    return mean_confidence((1 - doubt / 9, 1) for doubt in doubts)


def _bounds(node: Node) -> list[Point]:
    sides = [number(node.get(name)) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT")]
    known = [side for side in sides if side is not None]
    if len(known) != 4 or min(known[2:]) < 0:
        return []
    left, top, width, height = known
    return [(left, top), (left + width, top + height)]


def _outline(line: Node) -> list[Point]:
    """The polygon of the line, else its box."""
    for shape in line.elements("Shape"):
        for polygon in shape.elements("Polygon"):
            corners = points(polygon.get("POINTS"))
            if len(corners) >= 3:
                return corners
    return _bounds(line)


# --- written -------------------------------------------------------------------------------------


def alto(reading: Reading) -> str:
    """The ALTO 4 document of one page; a page that failed comes without any text.

    Boxes are in pixels of the page as seen, rounded to whole ones. A word that is broken at the end
    of a line is named whole at both halves (SUBS_CONTENT).
    """
    return "".join(f"{line}\n" for line in _document(reading))


def _document(reading: Reading) -> Iterator[str]:
    page = reading.page
    size = f'WIDTH="{page.width}" HEIGHT="{page.height}"'
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield '<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#"'
    yield '      xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    yield '      xsi:schemaLocation="http://www.loc.gov/standards/alto/ns-v4#'
    yield '                          http://www.loc.gov/standards/alto/v4/alto-4-4.xsd">'
    yield " <Description>"
    yield "  <MeasurementUnit>pixel</MeasurementUnit>"
    yield "  <sourceImageInformation>"
    yield f"   <fileName>{escaped(Path(page.source).name)}</fileName>"
    yield "  </sourceImageInformation>"
    yield '  <Processing ID="OCR_1">'
    yield f"   <processingStepSettings>{escaped(_settings(reading))}</processingStepSettings>"
    yield "   <processingSoftware>"
    yield f"    <softwareName>{OURS}</softwareName>"
    yield f"    <softwareVersion>{version('kosmos-loader')}</softwareVersion>"
    yield "   </processingSoftware>"
    yield "  </Processing>"
    yield " </Description>"
    yield " <Layout>"
    yield f'  <Page ID="page_{page.number}" PHYSICAL_IMG_NR="{page.number}" {size}>'
    yield f'   <PrintSpace HPOS="0" VPOS="0" {size}>'
    for order, region in enumerate(regions(reading), start=1):
        yield from _written_block(region, str(order))
    yield "   </PrintSpace>"
    yield "  </Page>"
    yield " </Layout>"
    yield "</alto>"


def _settings(reading: Reading) -> str:
    return f"{reading.reader} {reading.reader_version}"


def _written_block(region: Region, name: str) -> Iterator[str]:
    yield f'    <TextBlock ID="block_{name}" {_place(region.box)}>'
    for order, line in enumerate(region.lines, start=1):
        yield from _written_line(line, f"{name}_{order}")
    yield "    </TextBlock>"


def _written_line(line: WrittenLine, name: str) -> Iterator[str]:
    baseline = ""
    if line.angle:
        end, start = line.corners[2:]
        baseline = f' BASELINE="{_points((start, end))}"'
    yield f'     <TextLine ID="line_{name}" {_place(line.box)}{baseline}>'
    if line.angle:
        yield f'      <Shape><Polygon POINTS="{_points(line.corners)}"/></Shape>'
    for order, word in enumerate(line.words):
        is_last = order == len(line.words) - 1
        if order:
            yield f"      {_space(line.words[order - 1].box, word.box)}"
        text = word.text[:-1] if line.broken and is_last else word.text
        halves = ""
        if line.broken and is_last:
            halves = f' SUBS_TYPE="HypPart1" SUBS_CONTENT={attribute(line.broken)}'
        elif line.continued and not order:
            halves = f' SUBS_TYPE="HypPart2" SUBS_CONTENT={attribute(line.continued)}'
        sure = "" if line.confidence is None else f' WC="{line.confidence:.4f}"'
        yield (
            f'      <String ID="word_{name}_{order + 1}" {_place(word.box)}{sure}'
            f"{halves} CONTENT={attribute(text)}/>"
        )
    if line.broken:
        yield f"      <HYP CONTENT={attribute(line.words[-1].text[-1])}/>"
    yield "     </TextLine>"


def _space(before: PixelBox, after: PixelBox) -> str:
    """The gap between two words of a line."""
    left, right = sorted((before[2], after[0]))
    return f'<SP HPOS="{left}" VPOS="{after[1]}" WIDTH="{right - left}"/>'


def _place(box: PixelBox) -> str:
    x0, y0, x1, y1 = box
    return f'HPOS="{x0}" VPOS="{y0}" WIDTH="{x1 - x0}" HEIGHT="{y1 - y0}"'


def _points(corners: Iterable[tuple[int, int]]) -> str:
    return " ".join(f"{x},{y}" for x, y in corners)
