"""Endless drawn pages whose truth is known from the drawing, for training and for tests.

`draw_page(seed, number)` is the same page on every call: lines with their boxes, the markdown and
the picture come from one random layout, so the truth never rests on a reader. A `Level` says how
hard the pages are; `LEVELS` is the curriculum that the small model in `tests/assets` was trained
on, from two short lines on the patch grid to free offsets, three typefaces and noise on pages of
several shapes.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from kosmos_loader.document import Line, Page, document_id, pixel_digest
from kosmos_loader.errors import MissingExtra
from kosmos_loader.geometry import Box, Point, rotated

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH, HEIGHT = 256, 160
"""Pixels of a page: 16 x 10 patches of 16 pixels, which the processor leaves as they are."""

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"
"""With ".,:-*", spaces and the rules of tables, all that a page can hold."""

_ALPHABET = LETTERS + DIGITS

TYPEFACES = {
    "mono": ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"),
    "sans": ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    "serif": ("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf"),
}
"""Files of the regular and the bold face; "sans" and "serif" are proportional."""

STRONG = ("bold", "red")
"""The two ways of emphasis; a blue word is an ordinary one."""

COLOURS = {"red": (205, 20, 20), "blue": (20, 20, 205)}

_ENGLISH = """
the and for with from that this have page line table list paid sent received letter invoice total
amount date order number account balance office street house ship port cargo north south east west
spring summer autumn winter January March May July August October monday friday water coal iron wood
paper cloth sugar coffee tea salt grain oil wool glass stone captain clerk doctor teacher farmer
miller baker John Mary Anna Peter Smith Brown Jones Hill old new first last open closed small large
good per ton box bag crate day week month year
"""

WORDS = tuple(_ENGLISH.split())
"""What real words are drawn from; the others are random letters, which nothing can guess."""


HELD_OUT = 2**32
"""Added to a seed, it gives pages that no training on a seed below it has seen."""


@dataclass(frozen=True, slots=True)
class Level:
    """How hard pages are: each page draws from these ranges (lowest, highest)."""

    lines: tuple[int, int]
    characters: tuple[int, int]
    """In a line, spaces and list marks included."""

    pitch: tuple[int, int] = (16, 16)
    """Pixels from glyph to glyph; proportional typefaces go by their own widths."""

    height: tuple[int, int] = (16, 16)
    """Pixels of a line's box; the type size is seven eighths of it."""

    shapes: tuple[tuple[int, int], ...] = ((WIDTH, HEIGHT),)
    """Width and height of the pages in pixels."""

    offset: int = 0
    """Pixels by which the text may be moved off the corner, in both directions."""

    typefaces: tuple[str, ...] = ("mono",)
    proportional: float = 0.0
    """Share of pages whose glyphs stand as close as their own widths."""

    real_words: float = 0.0
    """Share of words that are English."""

    ink: tuple[int, int] = (0, 0)
    """Grey of the ink, 0 is black."""

    paper: tuple[int, int] = (255, 255)
    noise: float = 0.0
    """Highest standard deviation of the noise, in grey levels."""

    blur: float = 0.0
    """Highest radius of the blur in pixels."""

    skew: float = 0.0
    """Highest angle in degrees, both ways."""


_GRID = Level(lines=(4, 8), characters=(6, 15))
_PRINTED = replace(_GRID, real_words=0.3, ink=(0, 90), paper=(190, 255), noise=8.0, blur=0.4)
_SHAPES = ((WIDTH, HEIGHT), (WIDTH, HEIGHT), (240, 160), (224, 160), (256, 144))
"""All of whole patches, which the processor of a model for 160 of them leaves unscaled."""

_FREE = replace(_PRINTED, offset=15, shapes=_SHAPES, blur=0.5)
_NARROW = replace(
    _FREE,
    lines=(4, 9),
    characters=(6, 18),
    pitch=(13, 16),
    height=(15, 17),
    typefaces=("mono", "sans"),
)
_SMALL = replace(
    _NARROW,
    lines=(4, 10),
    characters=(6, 24),
    pitch=(10, 16),
    height=(14, 18),
    typefaces=("mono", "sans", "serif"),
    proportional=0.2,
)
_MIXED = replace(
    _SMALL,
    lines=(4, 12),
    characters=(6, 30),
    pitch=(7, 16),
    height=(13, 18),
    offset=40,
    proportional=0.3,
)

LEVELS = (
    replace(_GRID, lines=(2, 3), characters=(3, 8)),
    replace(_GRID, lines=(3, 5), characters=(4, 12)),
    _GRID,
    _PRINTED,
    replace(_PRINTED, offset=1),
    replace(_PRINTED, offset=3),
    replace(_PRINTED, offset=7),
    _FREE,
    _NARROW,
    _SMALL,
    _MIXED,
    replace(_MIXED, blur=0.7, skew=0.7),
)
"""From the easiest to the hardest. The first three keep each glyph inside a patch of its own, the
eighth lets it stand anywhere, the eleventh has all but skew."""

CLOSE = replace(_MIXED, pitch=(7, 10), height=(13, 17), proportional=0.75)
"""Of the pages of the eleventh level those that are hardest to read: type that stands close."""


@dataclass(frozen=True, slots=True)
class Glyph:
    """A drawn character and the pixel its middle stands on."""

    character: str
    strong: bool
    """Bold or red."""

    x: float
    y: float


@dataclass(frozen=True, eq=False)
class DrawnPage:
    """A picture and what stands on it."""

    pixels: NDArray[np.uint8] = field(repr=False)
    """[height, width, 3], RGB."""

    lines: tuple[Line, ...]
    """In reading order; the cells of a table row are a line each."""

    markdown: str
    glyphs: tuple[Glyph, ...] = field(repr=False)

    def page(self, *, source: str = "drawn", number: int = 1) -> Page:
        """The picture as a reader takes it."""
        height, width = self.pixels.shape[:2]
        return Page(
            source=source,
            doc_id=document_id(source),
            number=number,
            count=number,
            width=width,
            height=height,
            dpi=72.0,
            digest=pixel_digest(self.pixels),
            pixels=self.pixels,
        )


def drawn_pages(seed: int, *, level: Level = LEVELS[2], start: int = 0) -> Iterator[DrawnPage]:
    """Pages `start`, `start + 1`, ... of `seed`, without end."""
    number = start
    while True:
        yield draw_page(seed, number, level=level)
        number += 1


def draw_page(seed: int, number: int, *, level: Level = LEVELS[2]) -> DrawnPage:
    """The page `number` of `seed`: the same on every call, whatever was drawn before.

    `MissingExtra` where the typefaces, which matplotlib brings, are not there.
    """
    chance = np.random.default_rng((seed, number))
    setting = _setting(chance, level)
    blocks = _blocks(chance, level, setting)
    runs, markdown = _set(chance, blocks, setting)
    return _drawn(chance, level, setting, runs, markdown)


@dataclass(frozen=True, slots=True)
class _Setting:
    """How the type of one page is set, in pixels."""

    typeface: str
    pitch: int | None
    """None goes by the widths of the typeface."""

    height: int
    x: int
    y: int
    sheet: tuple[int, int]
    """Width and height of the page."""

    @property
    def columns(self) -> int:
        """Glyphs that fit beside each other; a proportional one is seldom as wide as it is high."""
        return (self.sheet[0] - self.x) // (self.pitch or self.height)

    @property
    def rows(self) -> int:
        return (self.sheet[1] - self.y) // self.height


def _setting(chance: np.random.Generator, level: Level) -> _Setting:
    typeface = str(chance.choice(level.typefaces))
    proportional = typeface != "mono" and chance.random() < level.proportional
    return _Setting(
        typeface,
        None if proportional else _between(chance, level.pitch),
        _between(chance, level.height),
        _between(chance, (0, level.offset)),
        _between(chance, (0, level.offset)),
        level.shapes[int(chance.integers(len(level.shapes)))],
    )


def _between(chance: np.random.Generator, bounds: tuple[int, int]) -> int:
    return int(chance.integers(bounds[0], bounds[1] + 1))


@dataclass(frozen=True, slots=True)
class _Block:
    kind: str
    """heading, paragraph, bullets, numbers or table"""

    rows: tuple[tuple[str, ...], ...]
    """The words of each line; of a table, its cells."""


def _blocks(chance: np.random.Generator, level: Level, setting: _Setting) -> list[_Block]:
    """Blocks that fit on the page with an empty row between each two."""
    left = min(_between(chance, level.lines), setting.rows)
    spare = setting.rows - left
    blocks: list[_Block] = []
    while left:
        last = len(blocks) == min(3, spare)
        kind = _kind(chance, left, last, blocks)
        count = 1 if kind == "heading" else left if last else _between(chance, (1, min(4, left)))
        if kind == "table":
            count = max(2, count)
        blocks.append(_Block(kind, _rows(chance, kind, count, level, setting)))
        left -= count
    return blocks


def _kind(chance: np.random.Generator, left: int, last: bool, before: Sequence[_Block]) -> str:
    kinds = ["paragraph", "bullets", "numbers"]
    if left > 1:
        kinds.append("table")
    # a heading wants something under it, and two lists or tables in a row would be one
    if not last and left > 1:
        kinds += ["heading"] * (3 if not before else 1)
    above = before[-1].kind if before else None
    return str(chance.choice([kind for kind in kinds if kind == "paragraph" or kind != above]))


def _rows(
    chance: np.random.Generator, kind: str, count: int, level: Level, setting: _Setting
) -> tuple[tuple[str, ...], ...]:
    def budget(taken: int) -> int:
        most = min(level.characters[1], setting.columns)
        return max(1, _between(chance, (min(level.characters[0], most), most)) - taken)

    match kind:
        case "table":
            # one glyph's room for the rule between the columns
            half = max(1, (budget(1)) // 2)
            return tuple(
                tuple(_word(chance, _between(chance, (1, half)), level) for _ in range(2))
                for _ in range(count)
            )
        case "bullets":
            return tuple(("*", *_words(chance, budget(2), level)) for _ in range(count))
        case "numbers":
            return tuple(
                (f"{i}.", *_words(chance, budget(len(f"{i}. ")), level))
                for i in range(1, count + 1)
            )
        case _:
            return tuple(_words(chance, budget(0), level) for _ in range(count))


def _words(chance: np.random.Generator, budget: int, level: Level) -> tuple[str, ...]:
    """Words that fill `budget` characters with a space between each two."""
    words: list[str] = []
    while budget > 0:
        word = _word(chance, min(budget, _between(chance, (2, 8))), level)
        words.append(word)
        budget -= len(word) + 1
    return tuple(words)


def _word(chance: np.random.Generator, length: int, level: Level) -> str:
    """At most `length` characters, a letter or digit first; no number that a list could start."""
    if chance.random() < level.real_words:
        fitting = [word for word in WORDS if len(word) <= length]
        if fitting:
            return fitting[int(chance.integers(len(fitting)))]
    if length > 1 and chance.random() < 0.2:
        return "".join(DIGITS[i] for i in chance.integers(len(DIGITS), size=length))
    word = [_ALPHABET[i] for i in chance.integers(len(_ALPHABET), size=length)]
    if length > 2 and chance.random() < 0.2:
        word[_between(chance, (1, length - 2))] = "-"
    if length > 1 and word[-2] in LETTERS and chance.random() < 0.25:
        word[-1] = ".,:"[int(chance.integers(3))]
    return "".join(word)


@dataclass(frozen=True, slots=True)
class _Run:
    """Words on one line, from the pixel `x`, `y` on."""

    words: tuple[str, ...]
    marks: tuple[str, ...]
    """How each word is set: "plain", "bold", "red" or "blue"."""

    x: int
    y: int
    rule: bool = False
    """The rule of a table: drawn, and no line of text."""


def _set(
    chance: np.random.Generator, blocks: Sequence[_Block], setting: _Setting
) -> tuple[list[_Run], str]:
    """Where each line of `blocks` stands, and the markdown of the page."""
    runs: list[_Run] = []
    markdown: list[str] = []
    used = sum(len(block.rows) for block in blocks) + len(blocks) - 1
    row = _between(chance, (0, setting.rows - used))
    for block in blocks:
        tops = [setting.y + (row + i) * setting.height for i in range(len(block.rows))]
        marks = _marks(chance, block)
        if block.kind == "table":
            runs.extend(_set_table(block, tops, setting))
        else:
            runs.extend(
                _Run(words, marked, setting.x, top)
                for words, marked, top in zip(block.rows, marks, tops, strict=True)
            )
        markdown.append(_markdown(block, marks, first=not markdown))
        row += len(block.rows) + 1
    return runs, "\n\n".join(markdown)


def _marks(chance: np.random.Generator, block: _Block) -> list[tuple[str, ...]]:
    """How each word is set: a heading bold, in half of the paragraphs one word bold or red.

    Red is emphasis and blue is none, so that a reader that swaps the two colours is found out.
    """
    marks = [["bold" if block.kind == "heading" else "plain"] * len(row) for row in block.rows]
    places = [(i, j) for i, row in enumerate(block.rows) for j in range(len(row))]
    if block.kind == "paragraph" and len(places) > 1:
        strong, other = chance.permutation(len(places))[:2]
        if chance.random() < 0.5:
            i, j = places[int(strong)]
            marks[i][j] = str(chance.choice(["bold", "red"]))
        if chance.random() < 0.25:
            i, j = places[int(other)]
            marks[i][j] = "blue"
    return [tuple(row) for row in marks]


def _set_table(block: _Block, tops: Sequence[int], setting: _Setting) -> list[_Run]:
    gap = setting.pitch or setting.height
    inner = max(_width(row[0], setting) for row in block.rows)
    return [
        run
        for row, top in zip(block.rows, tops, strict=True)
        for run in (
            _Run((row[0],), ("plain",), setting.x, top),
            _Run(("|",), ("plain",), setting.x + inner, top, rule=True),
            _Run((row[1],), ("plain",), setting.x + inner + gap, top),
        )
    ]


def _markdown(block: _Block, marks: Sequence[tuple[str, ...]], *, first: bool) -> str:
    texts = [
        " ".join(
            f"**{word}**" if mark in STRONG and block.kind == "paragraph" else word
            for word, mark in zip(words, marked, strict=True)
        )
        for words, marked in zip(block.rows, marks, strict=True)
    ]
    match block.kind:
        case "heading":
            return ("# " if first else "## ") + texts[0]
        case "bullets":
            return "\n".join("-" + text[1:] for text in texts)
        case "numbers":
            return "\n".join(texts)
        case "table":
            head, *body = (f"|{'|'.join(row)}|" for row in block.rows)
            return "\n".join([head, "|---|---|", *body])
        case _:
            return " ".join(texts)


def _width(text: str, setting: _Setting) -> int:
    return sum(_advance(character, False, setting) for character in text)


def _advance(character: str, bold: bool, setting: _Setting) -> int:
    return setting.pitch or _shape(setting.typeface, bold, setting.height, None, character).shape[1]


@cache
def _shape(
    typeface: str, bold: bool, height: int, pitch: int | None, character: str
) -> NDArray[np.float32]:
    """The ink of a glyph, 0..1, [height, pixels to the next glyph]."""
    font = _font(typeface, bold, max(6, height * 7 // 8))
    natural = font.getlength(character)
    width = pitch or max(2, round(natural))
    # a glyph wider than its cell is set narrower, since half a letter cannot be read
    drawn = max(width, math.ceil(natural))
    cell = Image.new("L", (drawn, height))
    place = ((drawn - natural) / 2, round(height * 0.77))
    ImageDraw.Draw(cell).text(place, character, fill=255, font=font, anchor="ls")
    if drawn > width:
        cell = cell.resize((width, height), Image.Resampling.BOX)
    return np.asarray(cell, np.float32) / np.float32(255)


@cache
def _font(typeface: str, bold: bool, size: int) -> ImageFont.FreeTypeFont:
    # found and not imported: matplotlib is slow to load, and only its folder is wanted
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise MissingExtra(
            "drawn pages are set in the DejaVu typefaces that matplotlib brings; install it with: "
            "pip install matplotlib"
        )
    fonts = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / TYPEFACES[typeface][bold]), size)


def _drawn(
    chance: np.random.Generator,
    level: Level,
    setting: _Setting,
    runs: Sequence[_Run],
    markdown: str,
) -> DrawnPage:
    width, height = setting.sheet
    ink = np.zeros((height, width), np.float32)
    tint = np.full((height, width, 3), _between(chance, level.ink), np.float32)
    glyphs: list[Glyph] = []
    corners: list[tuple[str, list[Point]]] = []
    for run in runs:
        end = _ink_run(ink, tint, glyphs, run, setting)
        if not run.rule:
            x0, y0, x1, y1 = run.x, run.y, end, run.y + setting.height
            corners.append((" ".join(run.words), [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]))
    angle = float(chance.uniform(-level.skew, level.skew)) if level.skew else 0.0
    if angle:
        middle = (width / 2, height / 2)
        corners = [(text, rotated(points, angle, about=middle)) for text, points in corners]
        glyphs = [
            Glyph(g.character, g.strong, *rotated([(g.x, g.y)], angle, about=middle)[0])
            for g in glyphs
        ]
    lines = tuple(
        Line(text, Box.around((x / width, y / height) for x, y in points).clipped())
        for text, points in corners
    )
    pixels = _printed(chance, level, ink, tint, angle)
    return DrawnPage(pixels, lines, markdown, tuple(glyphs))


def _ink_run(
    ink: NDArray[np.float32],
    tint: NDArray[np.float32],
    glyphs: list[Glyph],
    run: _Run,
    setting: _Setting,
) -> int:
    """Sets `run` into `ink` and its colours into `tint`, adds its glyphs, gives its end."""
    x = run.x
    rows = slice(run.y, run.y + setting.height)
    for i, (word, mark) in enumerate(zip(run.words, run.marks, strict=True)):
        if i:
            x += _advance(" ", False, setting)
        start = x
        for character in word:
            shape = _shape(
                setting.typeface, mark == "bold", setting.height, setting.pitch, character
            )
            width = shape.shape[1]
            room = ink[rows, x : x + width]
            np.maximum(room, shape[: room.shape[0], : room.shape[1]], out=room)
            place = (x + width / 2, run.y + setting.height / 2)
            glyphs.append(Glyph(character, mark in STRONG, *place))
            x += width
        if mark in COLOURS:
            tint[rows, start:x] = COLOURS[mark]
    return x


def _printed(
    chance: np.random.Generator,
    level: Level,
    ink: NDArray[np.float32],
    tint: NDArray[np.float32],
    angle: float,
) -> NDArray[np.uint8]:
    """[height, width, 3]: `ink` in the colours of `tint` on paper, turned clockwise by `angle`."""
    paper = _between(chance, level.paper) - chance.uniform(0, level.noise, 3)
    pixels = paper + ink[:, :, None] * (tint - paper)
    blur = float(chance.uniform(0, level.blur)) if level.blur else 0.0
    if angle or blur:
        sheet = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        if angle:
            fill = tuple(int(side) for side in paper)
            sheet = sheet.rotate(-angle, Image.Resampling.BICUBIC, fillcolor=fill)
        if blur:
            sheet = sheet.filter(ImageFilter.GaussianBlur(blur))
        pixels = np.asarray(sheet, np.float32)
    if level.noise:
        pixels = pixels + chance.normal(0, chance.uniform(0, level.noise), ink.shape)[:, :, None]
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)
