"""Typesetting that keeps the truth: what is drawn on a sheet is also noted, line by line.

A `Sheet` is a clean page as it leaves the typewriter or the press. Places are millimetres from the
top left corner and type is sized in points, so that a page can be laid out with a ruler in hand.
Everything written with `put` is remembered with the box of its ink; everything that belongs to the
running text is remembered as markdown too. A `Flow` fills columns with paragraphs, headings and
list items.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]
Sides = tuple[float, float, float, float]

INCH = 25.4
POINT = INCH / 72
A4 = (210.0, 297.0)
A4_LANDSCAPE = (297.0, 210.0)
A5 = (148.0, 210.0)
B5 = (182.0, 257.0)
LETTER = (215.9, 279.4)

SHY = "~"
"""Marks in a text where a word may be broken; it is never drawn."""


class Face(NamedTuple):
    """A typeface that matplotlib ships, at a size in points."""

    name: str
    size: float

    def at(self, size: float) -> Face:
        """The same typeface at another size."""
        return Face(self.name, size)


@dataclass(frozen=True)
class Line:
    """A line that was drawn: its text and the corners of its ink, in pixels.

    The corners go round the line from the start of its top edge, so that they still say where the
    line begins after the page has been turned.
    """

    text: str
    corners: tuple[Point, Point, Point, Point]
    role: str
    """"text", "heading", "item", "cell", or "running" for what stands in the page's margins."""


@dataclass(frozen=True)
class Column:
    """A column of a table: its width in millimetres and on which side its text stands."""

    width: float
    align: str = "left"


class Sheet:
    """A clean page, the lines drawn on it in reading order, and the same as markdown blocks."""

    def __init__(self, size: tuple[float, float], *, dpi: float, kind: str) -> None:
        self.dpi = dpi
        self.kind = kind
        self.size = size
        self.image = Image.new("L", (round(self._px(size[0])), round(self._px(size[1]))), 255)
        self.lines: list[Line] = []
        self.blocks: list[str] = []
        self._draw = ImageDraw.Draw(self.image)

    @property
    def markdown(self) -> str:
        """The running text: blocks with an empty line between them."""
        return "\n\n".join(self.blocks)

    def width_of(self, text: str, face: Face) -> float:
        """Millimetres that `text` takes on a line."""
        return self._font(face).getlength(text) * INCH / self.dpi

    def put(
        self, x: float, y: float, text: str, face: Face, *, anchor: str = "ls", role: str = "text"
    ) -> None:
        """Draws one line with its baseline at `y`; `anchor` as Pillow has it (ls, ms, rs)."""
        self._note(text, [self._write(x, y, text, face, anchor)], role)

    def put_justified(self, x: float, y: float, text: str, face: Face, *, width: float) -> None:
        """Draws one line whose words are spread over `width`."""
        words = text.split()
        gap = (width - sum(self.width_of(word, face) for word in words)) / max(1, len(words) - 1)
        boxes = []
        for word in words:
            boxes.append(self._write(x, y, word, face))
            x += self.width_of(word, face) + gap
        self._note(text, boxes, "text")

    def put_by_hand(self, x: float, y: float, text: str, face: Face, *, role: str = "text") -> None:
        """Draws one line letter by letter on a baseline that is not quite straight."""
        hand = random.Random(text)
        boxes = []
        for letter in text:
            lift = hand.uniform(-0.02, 0.02) * face.size * POINT
            shaped = face.at(face.size * hand.uniform(0.96, 1.05))
            if letter != " ":
                boxes.append(self._write(x, y + lift, letter, shaped))
            x += self.width_of(letter, face) * hand.uniform(0.97, 1.06)
        self._note(text, boxes, role)

    def running(self, x: float, y: float, text: str, face: Face, *, anchor: str = "ls") -> None:
        """Draws a running header, footer or page number: a line, but not part of the markdown."""
        self.put(x, y, text, face, anchor=anchor, role="running")

    def title(
        self, x: float, y: float, text: str, face: Face, *, level: int = 1, anchor: str = "ls"
    ) -> None:
        """Draws a heading of one line."""
        self.put(x, y, text, face, anchor=anchor, role="heading")
        self.blocks.append(f"{'#' * level} {text}")

    def stack(
        self,
        x: float,
        y: float,
        texts: Sequence[str],
        face: Face,
        *,
        step: float,
        anchor: str = "ls",
    ) -> float:
        """Draws lines that stay lines, as in an address, and returns the last baseline."""
        for row, text in enumerate(texts):
            self.put(x, y + row * step, text, face, anchor=anchor)
        self.blocks.append("\n".join(texts))
        return y + (len(texts) - 1) * step

    def rule(self, x0: float, y0: float, x1: float, y1: float, *, width: float = 0.25) -> None:
        """Draws a straight line `width` millimetres thick."""
        ends = [self._px(side) for side in (x0, y0, x1, y1)]
        self._draw.line(ends, 0, max(1, round(self._px(width))))

    def frame(self, x0: float, y0: float, x1: float, y1: float, *, width: float = 0.25) -> None:
        """Draws an empty box."""
        sides = [self._px(side) for side in (x0, y0, x1, y1)]
        self._draw.rectangle(sides, outline=0, width=max(1, round(self._px(width))))

    def squiggle(self, x: float, y: float, width: float, *, seed: str) -> None:
        """Draws a signature that nobody can read; it is not text."""
        hand = random.Random(seed)
        points = [
            (x + width * step / 24, y + hand.uniform(-3.2, 2.2) * (1.1 - step / 30))
            for step in range(25)
        ]
        smooth = [
            point
            for four in zip(*(points[i:] for i in range(4)), strict=False)
            for point in _curve(*four)
        ]
        self._draw.line([(self._px(a), self._px(b)) for a, b in smooth], 40, 2, joint="curve")

    def table(
        self,
        x: float,
        y: float,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str]],
        *,
        face: Face,
        head: Face,
        step: float,
        upright_rules: bool = True,
    ) -> float:
        """Draws a ruled table whose first row is its header, and returns its lower edge."""
        edges = [x]
        for column in columns:
            edges.append(edges[-1] + column.width)
        bottom = y + step * len(rows)
        for number, row in enumerate(rows):
            self.rule(edges[0], y + step * number, edges[-1], y + step * number)
            baseline = y + step * (number + 0.5) + face.size * POINT * 0.35
            for column, left, text in zip(columns, edges, row, strict=False):
                if text:
                    self._cell(left, baseline, column, text, face if number else head)
        self.rule(edges[0], bottom, edges[-1], bottom)
        for edge in edges if upright_rules else []:
            self.rule(edge, y, edge, bottom)
        self.blocks.append(pipe_table(rows))
        return bottom

    def _cell(self, left: float, y: float, column: Column, text: str, face: Face) -> None:
        if column.align == "right":
            self.put(left + column.width - 1.6, y, text, face, anchor="rs", role="cell")
        else:
            self.put(left + 1.6, y, text, face, role="cell")

    def _write(self, x: float, y: float, text: str, face: Face, anchor: str = "ls") -> Sides:
        """Draws `text` and returns the sides of its ink; Pillow's textbbox has the advance too."""
        left, top = self._px(x), self._px(y)
        font = self._font(face)
        self._draw.text((left, top), text, 0, font=font, anchor=anchor)
        mask, offset = font.getmask2(text, anchor=anchor)
        x0, y0, x1, y1 = mask.getbbox()
        left, top = left + offset[0], top + offset[1]
        return left + x0, top + y0, left + x1, top + y1

    def _note(self, text: str, boxes: Iterable[Sides], role: str) -> None:
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        x0, y0, x1, y1 = min(lefts), min(tops), max(rights), max(bottoms)
        self.lines.append(Line(text, ((x0, y0), (x1, y0), (x1, y1), (x0, y1)), role))

    def _px(self, millimetres: float) -> float:
        return millimetres * self.dpi / INCH

    def _font(self, face: Face) -> ImageFont.FreeTypeFont:
        return _font(face.name, face.size * self.dpi / 72)


@dataclass
class Frame:
    """A column of running text on a sheet, filled from `y` down to `bottom`."""

    sheet: Sheet
    x: float
    y: float
    width: float
    bottom: float


@dataclass
class Flow:
    """Running text that fills frames one after the other, over columns and pages."""

    frames: list[Frame]
    face: Face
    leading: float = 1.3
    justified: bool = False
    _at: int = field(default=0, init=False)

    @property
    def frame(self) -> Frame:
        """The frame that is being filled."""
        return self.frames[self._at]

    @property
    def step(self) -> float:
        """From one baseline to the next, in millimetres."""
        return self.face.size * POINT * self.leading

    def space(self, lines: float = 0.5) -> None:
        """Leaves some lines empty."""
        self.frame.y += lines * self.step

    def heading(self, text: str, face: Face, *, level: int = 2) -> None:
        """Sets a heading of one line, never as the last line of a frame."""
        self._make_room(3.5)
        self.frame.y += face.size * POINT * self.leading
        self.frame.sheet.title(self.frame.x, self.frame.y, text, face, level=level)
        self.space(0.25)

    def paragraph(self, text: str) -> None:
        """Sets a paragraph; where it runs on to another sheet, each sheet has its part of it."""
        for sheet, part in self._set(text):
            sheet.blocks.append(part)
        self.space()

    def stack(self, *texts: str) -> None:
        """Sets lines that stay lines."""
        self.frame.y = self.frame.sheet.stack(
            self.frame.x, self.frame.y + self.step, texts, self.face, step=self.step
        )
        self.space()

    def items(self, *texts: str, marks: Sequence[str] = ("•",)) -> None:
        """Sets a list; `marks` are drawn before the items in turn ("1.", "2.", ... or one dot)."""
        rows: dict[Sheet, list[str]] = {}
        for number, text in enumerate(texts):
            mark = marks[number % len(marks)]
            hang = self.frame.sheet.width_of(f"{mark} ", self.face)
            for sheet, part in self._set(f"{mark} {text}", hang=hang, role="item"):
                rows.setdefault(sheet, []).append(part.replace("•", "-", 1))
        for sheet, parts in rows.items():
            sheet.blocks.append("\n".join(parts))
        self.space()

    def _set(self, text: str, *, hang: float = 0.0, role: str = "text") -> list[tuple[Sheet, str]]:
        parts: list[tuple[Sheet, str]] = []
        lines = wrapped(text, self._fits(hang))
        for number, (shown, running) in enumerate(lines):
            self._make_room(1)
            frame = self.frame
            frame.y += self.step
            indent = hang if number else 0.0
            if self.justified and role == "text" and number < len(lines) - 1:
                frame.sheet.put_justified(frame.x, frame.y, shown, self.face, width=frame.width)
            else:
                frame.sheet.put(frame.x + indent, frame.y, shown, self.face, role=role)
            if not parts or parts[-1][0] is not frame.sheet:
                parts.append((frame.sheet, ""))
            parts[-1] = (frame.sheet, parts[-1][1] + running)
        return [(sheet, part.rstrip()) for sheet, part in parts]

    def _fits(self, hang: float) -> Callable[[str], bool]:
        frame = self.frame
        return lambda line: frame.sheet.width_of(line, self.face) <= frame.width - hang

    def _make_room(self, lines: float) -> None:
        if self.frame.y + lines * self.step > self.frame.bottom:
            self._at += 1


def wrapped(text: str, fits: Callable[[str], bool]) -> list[tuple[str, str]]:
    """`text` broken into lines that fit: each as it is drawn, and as it reads in running text.

    A word may be broken at `SHY`: it is drawn with a hyphen there, and reads without one.
    """
    lines: list[tuple[str, str]] = []
    line = ""
    for word in text.split():
        whole = word.replace(SHY, "")
        if fits(f"{line} {whole}".strip()):
            line = f"{line} {whole}".strip()
            continue
        pieces = word.split(SHY)
        starts = ["".join(pieces[:count]) for count in range(1, len(pieces))]
        start = max((s for s in starts if fits(f"{line} {s}-")), key=len, default="")
        if start:
            lines.append((f"{line} {start}-", f"{line} {start}"))
            line = whole.removeprefix(start)
        else:
            lines.append((line, f"{line} "))
            line = whole
    lines.append((line, line))
    return lines


def pipe_table(rows: Sequence[Sequence[str]]) -> str:
    """`rows` as a markdown table; the first row is its header."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def _curve(a: Point, b: Point, c: Point, d: Point) -> list[Point]:
    """Eight points of the Catmull-Rom spline from `b` to `c`."""
    along = [step / 8 for step in range(8)]
    xs, ys = ([_spline(*sides, t) for t in along] for sides in zip(a, b, c, d, strict=True))
    return list(zip(xs, ys, strict=True))


def _spline(p: float, q: float, r: float, s: float, t: float) -> float:
    slope, bend, twist = r - p, 2 * p - 5 * q + 4 * r - s, 3 * q - p - 3 * r + s
    return q + (slope * t + bend * t**2 + twist * t**3) / 2


@cache
def _font(name: str, pixels: float) -> ImageFont.FreeTypeFont:
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    # the basic layout engine is in every build of Pillow, so the pixels do not depend on it
    return ImageFont.truetype(str(path), pixels, layout_engine=ImageFont.Layout.BASIC)
