"""Pages with their truth, and how a batch of them becomes tensors.

Both tasks of a page stand in one sequence behind one picture: the mask hides each task from the
other and the positions start anew, so that the picture is encoded once and every task sees exactly
what it sees when it is asked alone.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from kosmos_loader import markup
from kosmos_loader.document import Line
from kosmos_loader.errors import EmptyFile, SourceError, SourceNotFound, UsageError, require
from kosmos_loader.geometry import Box
from kosmos_loader.testing.drawn import CLOSE, HEIGHT, LEVELS, WIDTH, Glyph, Level, draw_page

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

TASKS = {"ocr": markup.OCR_PROMPT, "md": markup.MD_PROMPT}

IGNORED = -100
"""The label of a place where nothing is to be predicted."""


@dataclass(frozen=True, eq=False)
class Example:
    """A page to learn from; a task whose truth is None is not trained on it."""

    pixels: NDArray[np.uint8] = field(repr=False)
    """[height, width, 3], RGB."""

    lines: tuple[Line, ...] | None
    markdown: str | None
    glyphs: tuple[Glyph, ...] = field(default=(), repr=False)
    """Where each character stands, for drawn pages only."""


class Examples(Protocol):
    """Where training takes its pages from."""

    levels: int
    """How many levels of difficulty there are."""

    def batch(self, step: int, size: int, *, level: int) -> list[Example]:
        """The `size` pages of training step `step`: the same for the same arguments."""
        ...


class DrawnExamples:
    """Endless drawn pages of `seed`; `levels` of the curriculum are used, the easiest first.

    `close` is the share of the pages of the last of them that are drawn from `CLOSE` instead: a
    reader that is good at all else learns most from these.
    """

    def __init__(self, seed: int, *, levels: int = 3, close: float = 0.0) -> None:
        if not 1 <= levels <= len(LEVELS):
            raise UsageError(f"levels is {levels}; there are 1 to {len(LEVELS)}")
        if not 0 <= close <= 1:
            raise UsageError(f"close is {close}; it is a share of the pages, from 0 to 1")
        self.seed = seed
        self.levels = levels
        self.close = close

    def batch(self, step: int, size: int, *, level: int) -> list[Example]:
        """Pages that no other step has."""
        numbers = range(step * size, (step + 1) * size)
        pages = (draw_page(self.seed, n, level=self._level(n, level)) for n in numbers)
        return [Example(page.pixels, page.lines, page.markdown, page.glyphs) for page in pages]

    def _level(self, number: int, level: int) -> Level:
        if level != self.levels - 1:
            return LEVELS[level]
        chance = np.random.default_rng((self.seed, number, 2))
        return CLOSE if chance.random() < self.close else LEVELS[level]


class FolderExamples:
    """Own pages: the images of `folder` with their truth, in an order shuffled by `seed`.

    The truth stands in files `*.json` or `*.jsonl` in the same folder, one object a page and line,
    as `kosmos-loader read --format json` writes it; so a reading that was corrected by hand is a
    training page. The image of an object is its `source`, or the file of that name in `folder`.
    Objects that carry an error, or neither lines nor markdown, are left out. `SourceNotFound` for
    an image that is not there, `EmptyFile` where no page is left, `UsageError` for broken truth.
    An image that cannot be opened is found out when its turn comes; a warning tells of it, and the
    page after it comes twice.
    """

    levels = 1

    def __init__(self, folder: str | Path, *, seed: int = 0) -> None:
        self.folder = Path(folder)
        self.seed = seed
        self._truths = list(_truths(self.folder))
        if not self._truths:
            raise EmptyFile(
                f"{self.folder} holds no page with truth; write some with: kosmos-loader read "
                f"{self.folder} --format json -o {self.folder / 'truth.jsonl'}"
            )

    def __len__(self) -> int:
        return len(self._truths)

    def batch(self, step: int, size: int, *, level: int = 0) -> list[Example]:
        """The next `size` pages; each page comes once before any comes again."""
        _ = level
        places = range(step * size, (step + 1) * size)
        return [self._example(*divmod(place, len(self))) for place in places]

    def _example(self, epoch: int, place: int) -> Example:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self))
        for number in np.roll(order, -place):
            try:
                return self.page(int(number))
            except (SourceError, UsageError) as error:
                log.warning("another page is learnt instead: %s", error)
        raise EmptyFile(f"no page of {self.folder} can be opened; the log says why")

    def page(self, place: int) -> Example:
        """The page at `place` in the order of the files.

        `SourceError` where it cannot be opened, `UsageError` where the file has no such page.
        """
        from kosmos_loader.pages import open_pages

        truth = self._truths[place]
        page = next(open_pages(truth.image, pages=truth.page))
        if page.error is not None:
            raise SourceError(
                f"page {truth.page} of {truth.image} cannot be used: {page.error.message}"
            )
        return Example(page.pixels, truth.lines, truth.markdown)


class _Truth(NamedTuple):
    """What stands on a page of own pages."""

    image: Path
    page: int
    lines: tuple[Line, ...] | None
    markdown: str | None


def _truths(folder: Path) -> Iterator[_Truth]:
    """All that the files of `folder` hold, read before training begins."""
    if not folder.is_dir():
        raise SourceNotFound(f"{folder} is no folder; give one with images and their truth")
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.jsonl")]):
        # no splitlines(), which would split at the line separators that a text may hold
        for number, written in enumerate(path.read_bytes().split(b"\n"), 1):
            if not written.strip():
                continue
            try:
                truth = _truth(json.loads(written))
            except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
                raise UsageError(
                    f"{path}, line {number} is no page as kosmos-loader read --format json "
                    f"writes it ({type(error).__name__}: {error})"
                ) from error
            if truth is None:
                log.warning("%s, line %d holds no truth and is left out", path, number)
                continue
            beside = folder / truth.image.name
            image = truth.image if truth.image.is_file() else beside
            if not image.is_file():
                raise SourceNotFound(
                    f"{path}, line {number} names {truth.image}, which is not there"
                )
            yield truth._replace(image=image)


def _truth(written: dict[str, Any]) -> _Truth | None:
    """What `kosmos-loader read --format json` wrote of a page; None where it holds no text."""
    image = Path(written["source"])
    told = [line for line in written.get("lines") or () if line["text"] != ""]  # deleted by hand
    lines = tuple(Line(line["text"], _box(line["box"])) for line in told)
    markdown, page = written.get("markdown") or None, written.get("page", 1)
    texts = (markdown or "", *(line.text for line in lines))
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("text and markdown are no text")
    for text in texts:
        text.encode()  # half of a surrogate pair has no tokens
    if type(page) is not int or page < 1:
        raise ValueError(f"page is {page}")
    if markdown is not None and not markdown.strip():
        markdown = None
    if written.get("error") or not (lines or markdown):
        return None
    return _Truth(image, page, lines or None, markdown)


def _box(sides: Sequence[Any]) -> Box:
    """A box in fractions of the page. Raises `ValueError` for pixels."""
    if not all(isinstance(side, int | float) and not isinstance(side, bool) for side in sides):
        raise TypeError(f"the box {sides} is not made of numbers")
    box = Box(*sides)
    if any(abs(side - 0.5) > 0.5 + _BEYOND for side in sides):
        raise ValueError(
            f"the box {list(sides)} lies beside the page; give fractions of it, 0 to 1"
        )
    return box.clipped()


_BEYOND = 0.05
"""Of the page, by which a box may leave it."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Pages as tensors; B pages, S tokens, P patches."""

    patches: Any
    """[B, P, 770] float32: row, column (from 1, 0 is padding), pixels."""

    ids: Any
    """[B, S]"""

    positions: Any
    """[B, S]; each task goes on where the picture ends."""

    picture: Any
    """[B, S] `image_embeds_position_mask`: 1 where a picture token stands, -1 around them."""

    visible: Any
    """[B, 1, S, S] bool: what each token sees."""

    labels: Any
    """[B, S]: the token that follows, `IGNORED` where none is to be predicted."""

    tasks: Any
    """[B, S]: 0 for picture and padding, 1 for "ocr", 2 for "md"."""

    glyphs: Any | None
    """[B, P]: class of the character on each patch of a full grid (0 for none), where all pages say
    so; a page of fewer columns leaves the ends of its rows empty."""

    def to(self, device: Any) -> Batch:
        """The batch on `device`."""
        tensors = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Batch(**{n: t if t is None else t.to(device) for n, t in tensors.items()})


def prompt_prefix(processor: Any) -> tuple[list[int], list[int]]:
    """Token ids before the task token, and their `image_embeds_position_mask`."""
    tokenizer = processor.tokenizer
    count = processor.num_image_tokens
    image, begin, end = tokenizer.convert_tokens_to_ids(
        [tokenizer.image_token, tokenizer.boi_token, tokenizer.eoi_token]
    )
    ids = [tokenizer.bos_token_id, begin, *[image] * count, end]
    return ids, [0, -1, *[1] * count, -1]


def picture_of(processor: Any, pixels: NDArray[np.uint8], *, max_patches: int) -> Any:
    """What the image processor makes of a page: flattened_patches, width, height, rows, cols."""
    image = require("PIL.Image", extra="kosmos").fromarray(pixels)
    return processor.image_processor(images=image, max_patches=max_patches, return_tensors="pt")


def pack(examples: Sequence[Example], processor: Any, *, max_patches: int, context: int) -> Batch:
    """`examples` as one batch; a task that is longer than the context leaves is cut off."""
    torch = require("torch", extra="kosmos")
    prefix, mask = prompt_prefix(processor)
    pictures = [picture_of(processor, e.pixels, max_patches=max_patches) for e in examples]
    rows = [
        _sequence(example, processor, prefix, context, size=_size(picture))
        for example, picture in zip(examples, pictures, strict=True)
    ]
    length = max(len(row[0]) for row in rows)
    fills = (processor.tokenizer.pad_token_id, IGNORED, 0, 0)
    ids, labels, tasks, places = (
        torch.tensor([row[i] + [fill] * (length - len(row[i])) for row in rows])
        for i, fill in enumerate(fills)
    )
    pad = processor.tokenizer.pad_token_id
    picture = torch.tensor(mask + [0] * (length - len(mask))).expand(len(rows), -1).contiguous()
    in_prefix = torch.arange(length) < len(prefix)
    same = tasks[:, :, None] == tasks[:, None, :]
    visible = (same | in_prefix) & torch.ones(length, length, dtype=torch.bool).tril()
    return Batch(
        patches=torch.cat([picture["flattened_patches"] for picture in pictures]),
        ids=ids,
        # the table of positions begins behind that of the padding token
        positions=places + pad + 1,
        picture=picture,
        visible=visible[:, None],
        labels=labels,
        tasks=tasks,
        glyphs=_glyph_classes(examples, pictures),
    )


def _size(picture: Any) -> tuple[int, int]:
    return int(picture["width"][0]), int(picture["height"][0])


def _sequence(
    example: Example, processor: Any, prefix: list[int], context: int, *, size: tuple[int, int]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Token ids, labels, tasks and places of a page, each a list of the same length."""
    width, height = size
    texts = {
        "ocr": None
        if example.lines is None
        else markup.format_ocr(example.lines, width=width, height=height),
        "md": example.markdown,
    }
    tokenizer = processor.tokenizer
    ids, labels = list(prefix), [IGNORED] * len(prefix)
    tasks, places = [0] * len(prefix), list(range(len(prefix)))
    for task, (name, prompt) in enumerate(TASKS.items(), 1):
        text = texts[name]
        if text is None:
            continue
        asked = tokenizer.convert_tokens_to_ids(prompt)
        body = tokenizer.encode(text, add_special_tokens=False)
        tokens = [asked, *body, tokenizer.eos_token_id][: max(0, context - len(prefix) + 1)]
        ids += tokens[:-1]
        labels += tokens[1:]
        tasks += [task] * (len(tokens) - 1)
        places += range(len(prefix), len(prefix) + len(tokens) - 1)
    return ids, labels, tasks, places


GLYPH_CLASSES = 2 * 96
"""Printable ASCII, plain and strong; class 0, the space, is an empty patch."""


def _glyph_classes(examples: Sequence[Example], pictures: Sequence[Any]) -> Any | None:
    """[B, P], or None where a page does not say where its characters stand.

    Picture tokens look for their rows and columns, and not for the patches that come in their turn:
    on a page of 15 columns, where 16 are the rule, every sixteenth place has nothing to find.
    """
    torch = require("torch", extra="kosmos")
    if not all(example.glyphs for example in examples):
        return None
    patches = pictures[0]["flattened_patches"].shape[1]
    # columns of a drawn page of the ordinary shape, counted as the image processor does
    full = math.floor(math.sqrt(patches * WIDTH / HEIGHT))
    classes = torch.zeros(len(examples), patches, dtype=torch.long)
    for page, (example, picture) in enumerate(zip(examples, pictures, strict=True)):
        height, width = example.pixels.shape[:2]
        rows, columns = int(picture["rows"][0]), int(picture["cols"][0])
        for glyph in example.glyphs:
            row, column = int(glyph.y * rows / height), int(glyph.x * columns / width)
            place = row * full + column
            if 0 <= row < rows and 0 <= column < min(columns, full) and place < patches:
                classes[page, place] = ord(glyph.character) - 32 + 96 * glyph.strong
    return classes
