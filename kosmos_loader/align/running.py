"""Which lines run along the edges of a page."""

from __future__ import annotations

from kosmos_loader.document import Reading
from kosmos_loader.geometry import Box, rotated

EDGE = 0.15
"""Share of the page's height at either end in which running lines stand."""


def running_lines(reading: Reading, left: set[int]) -> dict[int, str]:
    """Which of the lines `left` stand above ("header") or below ("footer") all others.

    They are counted from 0, and count at an edge of the page only, as it lies when its text is
    upright.
    """
    middles = {
        number: _upright(reading, line.box).center[1]
        for number, line in enumerate(reading.lines)
        if line.text.strip()
    }
    kept = [middle for number, middle in middles.items() if number not in left]
    if not kept:
        return {}
    page = _upright(reading, Box(0, 0, 1, 1))
    edge = EDGE * page.height
    first, last = min(*kept, page.y0 + edge), max(*kept, page.y1 - edge)
    return {
        number: "header" if middles[number] < first else "footer"
        for number in left
        if not first <= middles[number] <= last
    }


def _upright(reading: Reading, box: Box) -> Box:
    """`box` on the page turned back by its angle, in widths of the page."""
    width, height = max(1, reading.page.width), max(1, reading.page.height)
    tall = height / width
    corners = [(x, y * tall) for x in (box.x0, box.x1) for y in (box.y0, box.y1)]
    return Box.around(rotated(corners, -reading.angle, about=(0.5, tall / 2)))
