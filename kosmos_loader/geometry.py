"""Boxes on a page, and what can be done with them.

One convention holds everywhere in this package: a box is `(x0, y0, x1, y1)` in **fractions of the
page (0..1), origin top left, of the page as a person sees it** (after EXIF orientation and
/Rotate). Pixels, PDF points and model coordinates are converted at the edge, by readers and by
drawing, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

Point = tuple[float, float]
"""x and y, in page fractions unless a function says pixels."""

Quad = tuple[Point, Point, Point, Point]
"""Four corners of a (possibly slanted) line: text start top, text end top, text end bottom, text
start bottom."""


SLANTED = 0.5
"""Degrees from which on a line is given its four corners."""

SIDEWAYS = (5, 6, 7, 8)
"""Orientations, in the numbers of EXIF (2.3, 4.6.4), that swap width and height."""


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """An upright rectangle in page fractions, origin top left.

    An inverted box (`x1 < x0` or `y1 < y0`) and one with a side that is NaN or infinite are refused
    with `ValueError`; a box without area is allowed, since readers do return them.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        if not (self.x0 <= self.x1 and self.y0 <= self.y1):
            raise ValueError(f"inverted box {self.as_tuple()}: want x0 <= x1 and y0 <= y1")
        if not math.isfinite(self.width + self.height):
            raise ValueError(f"endless box {self.as_tuple()}: want fractions of the page")

    @property
    def width(self) -> float:
        """Share of the page's width, 0..1."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Share of the page's height, 0..1."""
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        """Share of the page's area, 0..1."""
        return self.width * self.height

    @property
    def center(self) -> Point:
        """Middle of the box."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def as_tuple(self) -> tuple[float, float, float, float]:
        """`(x0, y0, x1, y1)`."""
        return self.x0, self.y0, self.x1, self.y1

    def rounded(self, digits: int = 5) -> Box:
        """The box with each side rounded; 5 digits are 0.05 pixels on a page of 5,000."""
        return Box(*(round(side, digits) for side in self.as_tuple()))

    def clipped(self) -> Box:
        """The part of the box that lies on the page; a box beside the page becomes its edge."""
        return Box(*map(on_page, self.as_tuple()))

    def scaled(self, width: float, height: float) -> tuple[float, float, float, float]:
        """The sides in the unit of `width` and `height`: pixels of an image, points of a PDF."""
        return self.x0 * width, self.y0 * height, self.x1 * width, self.y1 * height

    @classmethod
    def from_pixels(
        cls, x0: float, y0: float, x1: float, y1: float, *, width: float, height: float
    ) -> Box:
        """The box of a pixel rectangle on an image of `width` x `height`, clipped to the page."""
        return cls(x0 / width, y0 / height, x1 / width, y1 / height).clipped()

    @classmethod
    def around(cls, points: Iterable[Point]) -> Box:
        """The smallest box that holds all `points`; at least one is needed."""
        xs, ys = zip(*points, strict=True)
        return cls(min(xs), min(ys), max(xs), max(ys))


def on_page(fraction: float) -> float:
    """The nearest fraction that lies on the page, 0..1."""
    return min(1.0, max(0.0, fraction))


def union(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds all `boxes`; at least one is needed."""
    x0, y0, x1, y1 = zip(*(box.as_tuple() for box in boxes), strict=True)
    return Box(min(x0), min(y0), max(x1), max(y1))


def intersection(a: Box, b: Box) -> Box | None:
    """The rectangle that `a` and `b` share, None where they share no area."""
    x0, y0 = max(a.x0, b.x0), max(a.y0, b.y0)
    x1, y1 = min(a.x1, b.x1), min(a.y1, b.y1)
    if x0 >= x1 or y0 >= y1:
        return None
    return Box(x0, y0, x1, y1)


def iou(a: Box, b: Box) -> float:
    """Intersection over union, 0..1."""
    shared = intersection(a, b)
    if shared is None:
        return 0.0
    return shared.area / (a.area + b.area - shared.area)


def overlap(a0: float, a1: float, b0: float, b1: float) -> float:
    """Length that the intervals `a` and `b` share; negative is the gap between them."""
    return min(a1, b1) - max(a0, b0)


def turned_point(point: Point, quarters: int) -> Point:
    """Where `point` lies after its page is turned clockwise by `quarters` quarter turns."""
    x, y = point
    match quarters % 4:
        case 0:
            return x, y
        case 1:
            return 1 - y, x
        case 2:
            return 1 - x, 1 - y
        case _:
            return y, 1 - x


def turned(box: Box, quarters: int) -> Box:
    """Where `box` lies after its page is turned clockwise by `quarters` quarter turns."""
    corners = ((box.x0, box.y0), (box.x1, box.y1))
    return Box.around(turned_point(corner, quarters) for corner in corners)


def rotated(points: Iterable[Point], degrees: float, *, about: Point) -> list[Point]:
    """`points` turned clockwise (as seen, y grows downwards) by `degrees` around `about`.

    The points must be in a unit that is the same along both axes (pixels, not page fractions of a
    page that is not square).
    """
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    cx, cy = about
    return [
        (cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos)
        for x, y in points
    ]


def distinct(boxes: Iterable[Box]) -> list[Box]:
    """Each box once, in the order of first appearance: what one draws for a run of spans."""
    return list(dict.fromkeys(boxes))
