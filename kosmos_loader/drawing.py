"""Boxes drawn on the page image: what a reader saw, what blocks became, what a citation points at.

Every function takes page fractions and gives a Pillow image (RGB) no wider than `max_width` pixels.
A box beside the page is drawn at its edge. `UsageError` for a page that could not be opened.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain

from PIL import Image, ImageChops, ImageDraw, ImageFont

from kosmos_loader.checks import check_whole
from kosmos_loader.document import Block, Citation, Line, Page
from kosmos_loader.errors import UsageError
from kosmos_loader.geometry import Box, Point

MAX_WIDTH = 1600
"""Pixels; wide enough to read a letter page, small enough to send by mail."""

Colour = tuple[int, int, int]

LINE: Colour = (30, 100, 200)
UNSURE: Colour = (215, 70, 20)
UNSURE_BELOW = 0.6
"""Lines with less confidence than this are drawn in `UNSURE`."""

MARKER: Colour = (255, 236, 90)
MARKER_EDGE: Colour = (214, 140, 0)
INK: Colour = (25, 25, 25)
BETWEEN: Colour = (120, 120, 120)
GAP = 12
"""Pixels between two pages that are drawn side by side, and fewer between many."""

BLOCK_COLOURS: dict[str, Colour] = {
    "heading": (200, 40, 40),
    "paragraph": (30, 100, 200),
    "list": (20, 140, 70),
    "table": (140, 60, 190),
    "code": (0, 130, 140),
    "header": (120, 120, 120),
    "footer": (120, 120, 120),
    "other": (190, 110, 20),
}


def draw_lines(page: Page, lines: Iterable[Line], *, max_width: int = MAX_WIDTH) -> Image.Image:
    """The page with an outline and a number for each line, in the order given.

    A slanted line is outlined along its slant. Lines of low confidence stand out in orange.
    """
    picture = _scaled(page, max_width)
    draw = ImageDraw.Draw(picture)
    stroke = _stroke(picture)
    for number, line in enumerate(lines):
        unsure = line.confidence is not None and line.confidence < UNSURE_BELOW
        colour = UNSURE if unsure else LINE
        box = line.box.clipped()
        corners = line.quad or _corners(box)
        draw.polygon([_pixel(point, picture) for point in corners], outline=colour, width=stroke)
        beside = (box.x0, (box.y0 + box.y1) / 2)
        _flag(draw, str(number), beside, colour, anchor="rm", picture=picture)
    return picture


def draw_blocks(page: Page, blocks: Iterable[Block], *, max_width: int = MAX_WIDTH) -> Image.Image:
    """The page with each block's boxes tinted in the colour of its kind.

    Beside each stand its place in the reading order, its kind, and the level of a heading.
    """
    picture = _scaled(page, max_width)
    placed = [
        (block, [box.clipped() for number, box in block.regions if number == page.number])
        for block in blocks
    ]
    for block, boxes in placed:
        colour = _colour_of(block)
        _mark(picture, boxes, fill=_pale(colour), edge=colour)
    draw = ImageDraw.Draw(picture)
    for block, boxes in placed:
        if not boxes:
            continue
        corner = (min(box.x0 for box in boxes), min(box.y0 for box in boxes))
        name = f"{block.order} {block.kind}" + (f" {block.level}" if block.level else "")
        _flag(draw, name, corner, _colour_of(block), anchor="ld", picture=picture)
    return picture


def _colour_of(block: Block) -> Colour:
    return BLOCK_COLOURS.get(block.kind, BLOCK_COLOURS["other"])


def draw_regions(
    page: Page, boxes: Iterable[Box], caption: str | None = None, *, max_width: int = MAX_WIDTH
) -> Image.Image:
    """The page with `boxes` marked as by a highlighter, above them a strip with the caption."""
    picture = _scaled(page, max_width)
    _mark(picture, boxes, fill=MARKER, edge=MARKER_EDGE)
    return _captioned(picture, caption) if caption else picture


def draw_citations(
    pages: Iterable[Page],
    citations: Iterable[Citation],
    caption: str | None = None,
    *,
    max_width: int = MAX_WIDTH,
) -> Image.Image:
    """`pages` side by side with the lines of `citations` marked, above them the caption.

    A quote that runs over two pages is marked on both. Several citations have their numbers beside
    them, from 1, as in the text of an answer; what stands on none of the pages is not drawn.

    `UsageError` where there is no page.
    """
    cited, shown = list(citations), list(pages)
    if not shown:
        raise UsageError("no page to draw on; open those that the citations name")
    _check_width(max_width)
    gap = min(GAP, max_width // (2 * len(shown)))
    width = (max_width - gap * (len(shown) - 1)) // len(shown)
    pictures = [_cited(page, cited, max(1, width)) for page in shown]
    picture = pictures[0] if len(pictures) == 1 else _side_by_side(pictures, gap)
    return _captioned(picture, caption) if caption else picture


def pages_together(citations: Iterable[Citation]) -> list[tuple[str, tuple[int, ...]]]:
    """What to open for `draw_citations`: a file and its pages for each picture.

    Pages that one quote runs over are in one picture, every page is in one only, and they come in
    the order in which they are cited. A citation whose place is unknown needs none.
    """
    pictures: list[tuple[str, set[int]]] = []
    for citation in citations:
        pages = {page for page, _ in citation.regions}
        met = [shown for shown in pictures if shown[0] == citation.source and shown[1] & pages]
        if met:
            met[0][1].update(pages, *(shown for _, shown in met[1:]))
            pictures = [shown for shown in pictures if not any(shown is of for of in met[1:])]
        elif pages:
            pictures.append((citation.source, pages))
    return [(source, tuple(sorted(pages))) for source, pages in pictures]


def _cited(page: Page, citations: Sequence[Citation], width: int) -> Image.Image:
    here = {
        number: [box.clipped() for on, box in citation.regions if on == page.number]
        for number, citation in enumerate(citations, start=1)
        if citation.source == page.source
    }
    picture = draw_regions(page, [box for boxes in here.values() for box in boxes], max_width=width)
    if len(citations) == 1:
        return picture
    draw = ImageDraw.Draw(picture)
    for number, boxes in here.items():
        if boxes:
            beside = (min(box.x0 for box in boxes), (boxes[0].y0 + boxes[0].y1) / 2)
            _flag(draw, str(number), beside, MARKER_EDGE, anchor="rm", picture=picture)
    return picture


def _side_by_side(pictures: Sequence[Image.Image], gap: int) -> Image.Image:
    """The pictures on grey, their upper edges level, `gap` pixels apart."""
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    together = Image.new("RGB", (width, max(picture.height for picture in pictures)), BETWEEN)
    x = 0
    for picture in pictures:
        together.paste(picture, (x, 0))
        x += picture.width + gap
    return together


def _check_width(width: int) -> None:
    check_whole(width, "max_width")
    if width < 1:
        raise UsageError(f"max_width is {width}; give at least 1")


def _scaled(page: Page, width: int) -> Image.Image:
    _check_width(width)
    if page.error is not None:
        raise UsageError(f"{page.source} has no picture to draw on: {page.error.message}")
    picture = page.image
    if picture.width <= width:
        return picture
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _mark(picture: Image.Image, boxes: Iterable[Box], *, fill: Colour, edge: Colour) -> None:
    """Tint `boxes` as a highlighter does: ink stays dark, boxes that meet have one outline."""
    # a highlighter runs a little over the letters, and a box without area must still be seen
    margin = _stroke(picture)
    inner = [
        (round(x0) - margin, round(y0) - margin, round(x1) + margin, round(y1) + margin)
        for x0, y0, x1, y1 in (box.clipped().scaled(*picture.size) for box in boxes)
    ]
    if not inner:
        return
    outer = [(x0 - margin, y0 - margin, x1 + margin, y1 + margin) for x0, y0, x1, y1 in inner]
    left, top = (max(0, min(side)) for side in list(zip(*outer, strict=True))[:2])
    right, bottom = (max(side) + 1 for side in list(zip(*outer, strict=True))[2:])
    area = (left, top, min(picture.width, right), min(picture.height, bottom))
    part = picture.crop(area)
    tint, outline = Image.new("RGB", part.size, (255, 255, 255)), Image.new("L", part.size)
    paint, trace = ImageDraw.Draw(tint), ImageDraw.Draw(outline)
    for x0, y0, x1, y1 in outer:
        trace.rectangle((x0 - left, y0 - top, x1 - left, y1 - top), fill=255)
    for x0, y0, x1, y1 in inner:
        trace.rectangle((x0 - left, y0 - top, x1 - left, y1 - top), fill=0)
        paint.rectangle((x0 - left, y0 - top, x1 - left, y1 - top), fill=fill)
    part = ImageChops.multiply(part, tint)
    part.paste(edge, (0, 0, *part.size), outline)
    picture.paste(part, area)


def _pale(colour: Colour) -> Colour:
    red, green, blue = (255 - (255 - part) // 5 for part in colour)
    return red, green, blue


def _captioned(picture: Image.Image, caption: str) -> Image.Image:
    font = _font(max(14, picture.width // 60))
    pad = round(font.size / 2)
    lines = _wrapped(_drawable(caption), font, picture.width - 2 * pad)
    height = round(font.size * 1.35)
    strip = len(lines) * height + 2 * pad
    framed = Image.new("RGB", (picture.width, picture.height + strip), (255, 250, 225))
    framed.paste(picture, (0, strip))
    draw = ImageDraw.Draw(framed)
    for number, line in enumerate(lines):
        draw.text((pad, pad + number * height), line, fill=INK, font=font)
    return framed


_PLAIN = str.maketrans(
    {**dict.fromkeys("‐‑‒–—―−", "-"), "×": "x", "£": "GBP ", "€": "EUR ", "ß": "ss"}
)


def _drawable(text: str) -> str:
    """`text` in letters that the font of Pillow has, as far as they have such a form."""
    apart = unicodedata.normalize("NFKD", text.translate(_PLAIN).replace("…", "..."))
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines = [""]
    for word in chain.from_iterable(_pieces(one, font, width) for one in text.split()):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _pieces(word: str, font: ImageFont.FreeTypeFont, width: float) -> Iterator[str]:
    """`word`, cut where it is longer than a line."""
    while len(word) > 1 and font.getlength(word) > width:
        lengths = range(1, len(word))
        fits = max(1, bisect_right(lengths, width, key=lambda n: font.getlength(word[:n])))
        yield word[:fits]
        word = word[fits:]
    yield word


def _flag(
    draw: ImageDraw.ImageDraw,
    text: str,
    point: Point,
    colour: Colour,
    *,
    anchor: str,
    picture: Image.Image,
) -> None:
    """White `text` on `colour` with its `anchor` (Pillow's names) at `point`, kept inside."""
    font = _font(max(10, picture.width // 100))
    x, y = _pixel(point, picture)
    left, top, right, bottom = draw.textbbox((x, y), text, font=font, anchor=anchor)
    pad = 2
    dx = max(0, pad - left) - max(0, right + pad - picture.width)
    dy = max(0, pad - top) - max(0, bottom + pad - picture.height)
    frame = (left + dx - pad, top + dy - pad, right + dx + pad, bottom + dy + pad)
    draw.rectangle(frame, fill=colour)
    draw.text((x + dx, y + dy), text, fill=(255, 255, 255), font=font, anchor=anchor)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("this Pillow was built without FreeType, and cannot draw text of a size")
    return font


def _stroke(picture: Image.Image) -> int:
    return max(1, picture.width // 500)


def _pixel(point: Point, picture: Image.Image) -> Point:
    return point[0] * picture.width, point[1] * picture.height


def _corners(box: Box) -> tuple[Point, Point, Point, Point]:
    return (box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)
