"""What the formats have in common: pages of placed lines, in the measure of their file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from kosmos_loader.document import Line, PageInfo
from kosmos_loader.geometry import SIDEWAYS, SLANTED, Box, Point, Quad, on_page, rotated

PER_INCH = {"mm10": 254.0, "inch1200": 1200.0}
"""Units of an inch, by the measurement units of ALTO that are no pixels."""

_SPACE = " \t\r\n"
"""White space of XML (1.0, production 3). Other spaces are characters of the text."""

OURS = "kosmos-loader"
"""Name of this software in the files that it writes."""


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A line in the measure of its file, origin top left."""

    text: str
    points: tuple[Point, ...]
    """What bounds the line: two corners or more, in any order."""

    confidence: float | None = None
    angle: float | None = None
    """Degrees clockwise from left to right in which the line runs, None where it is not said."""

    corners: bool = False
    """Whether `points` are the four corners of a `Quad`, in its order."""


@dataclass(frozen=True, slots=True)
class FoundPage:
    """A page of an OCR file."""

    lines: tuple[FoundLine, ...]
    """In reading order."""

    width: float | None = None
    """Of the page, in the measure of the file; None where it does not say."""

    height: float | None = None
    unit: str = "pixel"
    number: int | None = None
    """The page's place in what was scanned, from 1, where the file says it."""

    format: str = ""
    software: str = ""
    rejected: int = 0
    """Lines with text that the file gives no place."""


def placed(found: FoundPage, page: PageInfo, *, orientation: int = 1) -> tuple[Line, ...]:
    """The lines of `found` in fractions of `page` as seen.

    `orientation` is how the picture that was read has to be turned to be upright (EXIF 2.3, 4.6.4:
    1 for as it is, 6 for a quarter clockwise). What lies beside the page becomes its edge.
    """
    width, height = measured_size(found, page, orientation=orientation)
    # of the page as the file has it; angles are measured in pixels, which are square
    sideways = orientation in SIDEWAYS
    across, down = (page.height, page.width) if sideways else (page.width, page.height)
    return tuple(
        _placed(line, (width, height), (across, down), orientation) for line in found.lines
    )


SMALLEST_SIDE = 1e-3
"""Of a page, in any measure: less is a mistake, and too little to divide by."""


def measured_size(found: FoundPage, page: PageInfo, *, orientation: int = 1) -> tuple[float, float]:
    """Width and height of the page that was read, in the measure of its file.

    Where the file gives no size, or one that its own lines overrun by far (pixels beside lines in
    millimetres), the size is that of the page's pixels or paper.
    """
    xs = [x for line in found.lines for x, _ in line.points]
    ys = [y for line in found.lines for _, y in line.points]
    if found.width and found.height and _is_size(found.width) and _is_size(found.height):
        fits = (
            max(xs, default=0.0) <= 1.1 * found.width and max(ys, default=0.0) <= 1.1 * found.height
        )
        if fits or found.unit == "pixel":
            return found.width, found.height
    width, height = float(page.width), float(page.height)
    if orientation in SIDEWAYS:
        width, height = height, width
    scale = PER_INCH.get(found.unit, page.dpi) / page.dpi if page.dpi else 1.0
    return width * scale, height * scale


def _is_size(side: float) -> bool:
    return SMALLEST_SIDE <= side < math.inf


def _placed(
    line: FoundLine, size: tuple[float, float], pixels: tuple[float, float], orientation: int
) -> Line:
    fractions = [(on_page(x / size[0]), on_page(y / size[1])) for x, y in line.points]
    quad = _quad(line, fractions, pixels)
    box = Box.around(oriented(point, orientation) for point in fractions)
    return Line(
        line.text,
        box,
        line.confidence,
        quad=_four(oriented(point, orientation) for point in quad) if quad else None,
        flags=() if box.area else ("degenerate",),
    )


def _quad(line: FoundLine, fractions: Sequence[Point], pixels: tuple[float, float]) -> Quad | None:
    """Corners of a slanted line, in fractions."""
    if line.corners:
        return _four(fractions)
    if line.angle is None or abs(line.angle) <= SLANTED:
        return None
    scaled = [(x * pixels[0], y * pixels[1]) for x, y in fractions]
    if len(scaled) == 2:
        box = Box.around(scaled)
        within = corners_within(box, line.angle)
        if within is None:
            return None
        corners = within
    else:
        level = Box.around(rotated(scaled, -line.angle, about=(0.0, 0.0)))
        x0, y0, x1, y1 = level.as_tuple()
        corners = rotated([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], line.angle, about=(0.0, 0.0))
    return _four((on_page(x / pixels[0]), on_page(y / pixels[1])) for x, y in corners)


def corners_within(box: Box, angle: float) -> list[Point] | None:
    """Corners of the slanted rectangle that `box`, in pixels, is the smallest upright one around.

    Of a rectangle of l x t that is turned by a, width and height are l |cos a| + t |sin a| and
    l |sin a| + t |cos a|. None where no rectangle solves that, or where the slant is too near to 45
    degrees for the box to tell.
    """
    cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    width, height = box.width, box.height
    even = cos * cos - sin * sin
    if abs(even) < 0.1:
        return None
    length, thickness = (width * cos - height * sin) / even, (height * cos - width * sin) / even
    if length <= 0 or thickness < 0:
        return None
    (cx, cy), dx, dy = box.center, length / 2, thickness / 2
    level = [(cx - dx, cy - dy), (cx + dx, cy - dy), (cx + dx, cy + dy), (cx - dx, cy + dy)]
    return rotated(level, angle, about=(cx, cy))


def oriented(point: Point, orientation: int) -> Point:
    """Where `point` of a stored picture lies once it is upright (EXIF 2.3, 4.6.4)."""
    x, y = point
    match orientation:
        case 2:
            return 1 - x, y
        case 3:
            return 1 - x, 1 - y
        case 4:
            return x, 1 - y
        case 5:
            return y, x
        case 6:
            return 1 - y, x
        case 7:
            return 1 - y, 1 - x
        case 8:
            return y, 1 - x
        case _:
            return x, y


class Sized(Protocol):
    """What has a width and a height in one unit: a page, a sheet of paper."""

    @property
    def width(self) -> float: ...  # noqa: D102  as the name says

    @property
    def height(self) -> float: ...  # noqa: D102  as the name says


def slant(line: Line, page: Sized) -> float:
    """Degrees clockwise in which `line` runs on `page`, 0 where it is not slanted."""
    if line.quad is None:
        return 0.0
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = line.quad
    # the middle line is steadier than an edge
    x, y = (bx + cx - ax - dx) * page.width, (by + cy - ay - dy) * page.height
    return math.degrees(math.atan2(y, x)) if x or y else 0.0


def text_angle(lines: Iterable[Line], page: Sized) -> float:
    """Degrees by which the text of most lines is turned clockwise, as in `Reading.angle`."""
    slants = [slant(line, page) for line in lines for _ in range(len(line.text))]
    if not slants:
        return 0.0
    # around the commonest quarter, since -180 and 180 are one direction
    quarters = [round(one / 90) % 4 for one in slants]
    main = max(range(4), key=quarters.count) * 90.0
    return main + median((one - main + 180) % 360 - 180 for one in slants)


def _four(points: Iterable[Point]) -> Quad:
    a, b, c, d = points
    return a, b, c, d


def number(text: str) -> float | None:
    """The finite number that `text` is, None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def numbers(text: str) -> list[float]:
    """The numbers in `text`, whatever stands between them."""
    found = (number(part) for part in re.findall(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", text))
    return [value for value in found if value is not None]


def points(text: str) -> list[Point]:
    """The points of "x,y x,y ..." or "x y x y ..."."""
    values = numbers(text)
    return list(zip(values[::2], values[1::2], strict=False))


def share(value: float | None, whole: float = 1.0) -> float | None:
    """`value` as a share of `whole`, 0..1; None for what lies outside."""
    if value is None or not 0 <= value <= whole:
        return None
    return round(value / whole, 4)


def mean_confidence(weighed: Iterable[tuple[float | None, int]]) -> float | None:
    """Mean by characters over those that have a confidence."""
    known = [(value, max(1, weight)) for value, weight in weighed if value is not None]
    total = sum(weight for _, weight in known)
    return round(sum(value * weight for value, weight in known) / total, 4) if total else None


def stripped(text: str) -> str:
    """`text` without XML's white space at its ends, and one space for each run of it inside."""
    return re.sub(f"[{_SPACE}]+", " ", text).strip(" ")


def direction(start: Point, end: Point) -> float | None:
    """Degrees clockwise of the way from `start` to `end`; None where they are one point."""
    x, y = end[0] - start[0], end[1] - start[1]
    return math.degrees(math.atan2(y, x)) if x or y else None
