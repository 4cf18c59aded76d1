"""Pages of our own making, and what a model of random weights is made to write for them.

Random weights take the time of trained ones, but never write an end token and never what was
drafted. So each page brings its trace: the tokens that a model which reads would write. Whatever is
measured computes everything, and then takes the trace's next token for the predicted one.

The text is that of the example archive (`examples/archive/truth`), its paragraphs, headings, lists
and tables drawn anew for each page; no passage stands twice on one. Tokens come from a stand-in for
the released tokenizer: it cuts text as that does and knows word pieces of at most seven characters.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import truth
from PIL import Image, ImageDraw, ImageFont

from kosmos_loader.document import Line, Page, document_id, pixel_digest
from kosmos_loader.engine.patches import patch_grid
from kosmos_loader.errors import require
from kosmos_loader.geometry import Box
from kosmos_loader.markup import format_ocr
from kosmos_loader.training.scratch import SPECIALS, with_tags

DPI = 150.0
PAPER = (1240, 1754)
"""Pixels of A4 at `DPI`."""

MARGIN, LEADING, GAP = 70, 24, 10
TYPE = {"heading": 30, "text": 19, "item": 19, "table": 19}
"""Pixels: nine points for text, which sets about 120 characters in a line."""

SPREAD = (0.4, 1.6)
"""Shortest and longest page, as shares of the tokens asked for."""

JITTER = 0.4
"""Share of the sides of boxes that the model has one pixel off the drawing."""

LAYER_OFFSET = (1, -2, 1, 3)
"""Pixels by which boxes of a text layer are off: fonts state their height, not that of the ink."""

CUT = 7
"""Characters of a word piece at most."""

# How the released tokenizer cuts text into words (see `kosmos_loader.engine.drafting.base`), for
# the regular expressions of the tokenizers library, whose \w lacks no letter and has the underscore
WORDS = (
    r"'(?:[sdmtSDMT]|ll|LL|ve|VE|re|RE)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)


@dataclass(frozen=True)
class Passage:
    """A block of markdown, and what is printed for it."""

    kind: str
    """"heading", "text", "item" or "table"."""

    markdown: str
    cells: tuple[tuple[str, ...], ...]
    """Rows of what is printed: one cell, or those of a table."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A page, its lines and its markdown."""

    page: Page
    lines: tuple[Line, ...]
    markdown: str = field(repr=False)


@dataclass(frozen=True, eq=False)
class Case:
    """A page to be read, and what is to be written for it where the model cannot read."""

    page: Page
    trace: Mapping[str, tuple[int, ...]] | None = None
    """By task, the end token included."""

    def cut(self, most: int) -> Case:
        """The same page with at most `most` tokens for each task."""
        if self.trace is None:
            return self
        short = {
            task: tokens if len(tokens) <= most else (*tokens[: most - 1], tokens[-1])
            for task, tokens in self.trace.items()
        }
        return replace(self, trace=short)


# --- text


@cache
def passages() -> tuple[Passage, ...]:
    """All that the example archive says, each passage once."""
    found: dict[str, Passage] = {}
    for path in sorted((truth.ARCHIVE / "truth").glob("*.json")):
        for page in json.loads(path.read_text("utf-8"))["pages"]:
            for block in re.split(r"\n\n+", page["markdown"] or ""):
                for passage in _passages(block):
                    found.setdefault(passage.markdown, passage)
    return tuple(found.values())


def _passages(block: str) -> Iterator[Passage]:
    rows = block.strip().split("\n")
    if rows == [""]:
        return
    if rows[0].startswith("|"):
        # the first rows stand for all, since a ledger would be a page of nothing but boxes
        yield _table(rows[:6])
    elif rows[0].startswith("#"):
        yield Passage("heading", block, ((rows[0].lstrip("# "),),))
    elif re.match(r"- |\d+\. ", rows[0]):
        yield Passage("item", block, tuple((_printed(row),) for row in rows))
    else:
        yield Passage("text", block, tuple((_printed(row),) for row in rows))


def _table(rows: Sequence[str]) -> Passage:
    cells = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]
    return Passage("table", "\n".join(rows), (cells[0], *cells[2:]))


def _printed(text: str) -> str:
    """`text` without marks of emphasis and of tasks."""
    return re.sub(r"\*\*|\[[x ]\] ", "", text)


def changed(text: str, share: float, *, seed: int) -> str:
    """`text` with `share` of its words replaced by others from the archive."""
    chance = random.Random(seed)
    words = _vocabulary()

    def other(found: re.Match[str]) -> str:
        return chance.choice(words) if chance.random() < share else found[0]

    return re.sub(r"[A-Za-z]{2,}", other, text)


@cache
def _vocabulary() -> tuple[str, ...]:
    text = " ".join(passage.markdown for passage in passages())
    return tuple(sorted(set(re.findall(r"[A-Za-z]{2,}", text))))


# --- pages


def sheets(count: int, *, tokens: int, tokenizer: Any, seed: int = 0) -> list[Sheet]:
    """`count` pages of about `tokens` tokens of `<ocr>` in the mean, as unlike as `SPREAD` says.

    Lengths follow the golden ratio, so that the first pages of many have their mean.
    """
    shortest, longest = SPREAD
    lengths = (
        shortest + (longest - shortest) * ((0.5 + 0.618034 * number) % 1) for number in range(count)
    )
    return [
        _sheet(number, round(length * tokens), tokenizer, seed)
        for number, length in enumerate(lengths)
    ]


def _sheet(number: int, tokens: int, tokenizer: Any, seed: int) -> Sheet:
    chance = random.Random(f"{seed} {number}")
    setter = _Setter()
    blocks: list[Passage] = []
    room = tokens
    for passage in _in_order(chance):
        rows = setter.rows(passage)
        size = _tokens_in(rows, tokenizer)
        if blocks and (room < size / 2 or not setter.has_room(passage, rows)):
            break
        setter.add(passage, rows)
        blocks.append(passage)
        room -= size
    pixels = np.asarray(setter.image)
    name = f"trace-{seed}-{number + 1}"
    page = Page(
        name,
        document_id(name),
        number + 1,
        number + 1,
        *PAPER,
        DPI,
        pixel_digest(pixels),
        pixels=pixels,
    )
    markdown = "\n\n".join(block.markdown for block in blocks)
    return Sheet(page, tuple(setter.lines), markdown)


def _tokens_in(rows: Sequence[Row], tokenizer: Any) -> int:
    """Tokens of `<ocr>` for `rows`: six for a box and one for the line end, besides the text."""
    printed = [text for row in rows for _, text in row if text]
    return sum(7 + len(ids) for ids in tokenizer(printed)["input_ids"])


def _in_order(chance: random.Random) -> Iterator[Passage]:
    """All passages at random: mostly prose, at most one table, a heading before every few."""
    by_kind: dict[str, list[Passage]] = {}
    for passage in passages():
        # short lines are addresses and signatures, of which a page has few
        kind = "short" if passage.kind == "text" and len(passage.markdown) < 90 else passage.kind
        by_kind.setdefault(kind, []).append(passage)
    for group in by_kind.values():
        chance.shuffle(group)
    yield by_kind["heading"].pop()
    kinds = ["text"] * 20 + ["item"] * 2 + ["short"] + ["heading"] * 2 + ["table"]
    while any(by_kind[kind] for kind in kinds):
        kind = chance.choice(kinds)
        if by_kind[kind]:
            yield by_kind[kind].pop()
        if kind == "table":
            by_kind[kind].clear()


Row = Sequence[tuple[int, str]]
"""Texts side by side, each with the pixel that it begins at."""


class _Setter:
    """Sets passages on a page, from the top."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", PAPER, "white")
        self.lines: list[Line] = []
        self._draw = ImageDraw.Draw(self.image)
        self._top = MARGIN

    def rows(self, passage: Passage) -> list[Row]:
        """How `passage` is set: the cells of a table row side by side, all else wrapped."""
        width = PAPER[0] - 2 * MARGIN
        if passage.kind == "table":
            columns = len(passage.cells[0])
            lefts = [MARGIN + width * column // columns for column in range(columns)]
            return [tuple(zip(lefts, cells, strict=False)) for cells in passage.cells]
        font = _font(TYPE[passage.kind])
        return [
            ((MARGIN, line),) for (text,) in passage.cells for line in _wrapped(text, font, width)
        ]

    def has_room(self, passage: Passage, rows: Sequence[Row]) -> bool:
        """Whether `rows` of `passage` stand on the page."""
        return self._top + len(rows) * _pitch(passage) <= PAPER[1] - MARGIN

    def add(self, passage: Passage, rows: Sequence[Row]) -> None:
        """Sets `rows` of `passage` below what is set."""
        font = _font(TYPE[passage.kind])
        for row in rows:
            for left, text in row:
                if text:
                    self._set(left, text, font)
            self._top += _pitch(passage)
        self._top += GAP

    def _set(self, left: int, text: str, font: Any) -> None:
        self._draw.text((left, self._top), text, fill="black", font=font)
        sides = self._draw.textbbox((left, self._top), text, font=font)
        width, height = PAPER
        self.lines.append(Line(text, Box.from_pixels(*sides, width=width, height=height).clipped()))


def _pitch(passage: Passage) -> int:
    """Pixels from line to line."""
    return LEADING * TYPE[passage.kind] // TYPE["text"]


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _wrapped(text: str, font: Any, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


# --- tokens


def word_tokenizer(*, coordinates: int) -> Any:
    """A stand-in for the released tokenizer, with `coordinates` tags `<x_i>` and `<y_i>` each.

    It cuts text into words as that does, and each word into pieces of at most `CUT` characters; a
    piece that the archive does not hold is written in bytes.
    """
    tokenizers = require("tokenizers", extra="kosmos")
    parts = tokenizers.pre_tokenizers
    cut = parts.Sequence(
        [
            parts.Split(tokenizers.Regex(WORDS), "isolated"),
            parts.Split(tokenizers.Regex(rf"[\s\S]{{1,{CUT}}}"), "isolated"),
            parts.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pieces = dict.fromkeys(piece for text in _spelled() for piece, _ in cut.pre_tokenize_str(text))
    alphabet = sorted(parts.ByteLevel.alphabet())
    tokens = dict.fromkeys([*SPECIALS, *alphabet, *pieces])
    core = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab={token: i for i, token in enumerate(tokens)},
            merges=[],
            unk_token="<unk>",  # noqa: S106 - no secret
            ignore_merges=True,
        )
    )
    core.pre_tokenizer = cut
    core.decoder = tokenizers.decoders.ByteLevel()
    return with_tags(core, coordinates=coordinates)


def _spelled() -> Iterator[str]:
    """Texts whose pieces the stand-in is to know, each a word or two."""
    text = "\n".join(passage.markdown for passage in passages())
    for word in re.findall(r"[^\W\d_]+", text):
        yield word
        yield f" {word}"
    yield from re.findall(r"[^\w\s][^\W\d_]+", text)
    for mark in re.findall(r" ?[^\w\s]+", text):
        for end in ("", "\n", "\n\n"):
            yield mark.strip() + end
            yield f" {mark.strip()}{end}"
    yield from ("\n", "\n\n", " ", "  ", " the")
    yield from map(str, range(1000))


def case_of(
    sheet: Sheet,
    tokenizer: Any,
    *,
    max_patches: int,
    limit: int,
    words_changed: float = 0.0,
    layer: bool = False,
) -> Case:
    """The case of `sheet` for a model that sees `max_patches` patches.

    `words_changed` is the share of words that `<md>` has otherwise than `<ocr>`. With `layer` the
    page carries its lines as a PDF does, boxes off a little and as many words other ones. Traces
    are cut to `limit` tokens.
    """
    page = sheet.page
    size = size_of(page, max_patches)
    chance = random.Random(page.source)
    read = [_moved(line, size, [_jitter(chance) for _ in range(4)]) for line in sheet.lines]
    texts = {
        "ocr": format_ocr(read, width=size[0], height=size[1]),
        "md": changed(sheet.markdown, words_changed, seed=page.number),
    }
    trace = {
        task: (*tokenizer(text)["input_ids"][: limit - 1], tokenizer.eos_token_id)
        for task, text in texts.items()
    }
    if layer:
        carried = []
        for place, line in enumerate(sheet.lines):
            offsets = [offset + _jitter(chance) for offset in LAYER_OFFSET]
            text = changed(line.text, words_changed, seed=page.number * 1000 + place)
            carried.append(_moved(replace(line, text=text), size, offsets))
        page = replace(page, text_layer=tuple(carried))
    return Case(page, trace)


def size_of(page: Page, max_patches: int) -> tuple[int, int]:
    """Width and height in pixels of `page` as a model sees it."""
    rows, columns = patch_grid(page.height, page.width, max_patches=max_patches, patch_size=16)
    return columns * 16, rows * 16


def _jitter(chance: random.Random) -> int:
    return chance.choice((-1, 1)) if chance.random() < JITTER else 0


def _moved(line: Line, size: tuple[int, int], offsets: Sequence[int]) -> Line:
    """`line` with the sides of its box moved by pixels of a page of `size`."""
    width, height = size
    x0, y0, x1, y1 = (
        side * scale + offset
        for side, scale, offset in zip(
            line.box.as_tuple(), (width, height, width, height), offsets, strict=True
        )
    )
    box = Box.from_pixels(x0, y0, max(x0, x1), max(y0, y1), width=width, height=height)
    return replace(line, box=box.clipped())
