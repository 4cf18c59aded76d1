"""RapidOCR on the CPU: the reader that needs no GPU, no network and no weights to fetch.

The PP-OCR models lie inside the `rapidocr` wheel; they read Latin and Chinese scripts. A page is
read as the file shows it; where that says that the page lies on its side, stands on its head or is
skewed, it is read once more upright, and boxes are mapped back to the page as the file shows it.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from kosmos_loader.document import Failure, Line, Page, Reading
from kosmos_loader.errors import KosmosLoaderError, ReadingError, require
from kosmos_loader.geometry import Box, Point, Quad, on_page, rotated, turned_point
from kosmos_loader.structure import reading_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger("kosmos_loader")

ALGORITHM = 1
"""Raised whenever this module would read the same pixels differently."""

CERTAIN = 0.85
"""Mean score of the right way up. Measured: 0.93 to 0.99 on upright pages, 0.62 to 0.74 on the
same pages upside down; what the recogniser has no letters for (Arabic, Hebrew) stays below too."""

LEGIBLE = 0.5
"""A line under this score is a stain or a picture; the default of RapidOCR."""

DOUBTFUL = 0.75
"""Score under which a line is more guessed than read."""

TILE = 2000
"""Pixels of height that are read at once; more are scaled down to it by the engine."""

OVERLAP = 120
"""Pixels by which tiles reach beyond their core: two lines of large type."""

STRAIGHT = 4.0
"""Degrees of skew up to which a page is read as it is: at 3 degrees straightening it gained 0.004
word F1 for twice the time, at 8 degrees up to 0.03, and 0.2 of the order of two columns."""

MAX_SKEW = 15.0
"""Degrees beyond which slanted lines are decoration and not a crooked scan."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A detected line in pixels of the picture that was read."""

    text: str
    score: float
    corners: tuple[Point, Point, Point, Point]

    @property
    def length(self) -> float:
        """Along the text, in pixels."""
        (x0, y0), (x1, y1) = self.corners[:2]
        return math.hypot(x1 - x0, y1 - y0)

    @property
    def middle(self) -> float:
        """Vertical centre, in pixels."""
        return sum(y for _, y in self.corners) / 4

    def lowered(self, by: float) -> _Found:
        """The line in a picture that has `by` more pixels above it."""
        return _Found(self.text, self.score, _quad((x, y + by) for x, y in self.corners))

    @property
    def slant(self) -> float:
        """Degrees clockwise from horizontal."""
        (x0, y0), (x1, y1) = self.corners[:2]
        return math.degrees(math.atan2(y1 - y0, x1 - x0))

    @property
    def is_tall(self) -> bool:
        box = Box.around(self.corners)
        return box.height > 1.5 * box.width

    @property
    def is_wide(self) -> bool:
        box = Box.around(self.corners)
        return box.width > 1.5 * box.height


class RapidOCRPageReader:
    """Reads pages with RapidOCR.

    `threads` is the number of CPU threads (default: all cores, at most 4, beyond which nothing was
    gained). Lines come in reading order with confidences; `Reading.angle` says how the page lies.
    Flags: "blank" (nothing found), "low_confidence" (a script the models do not know, or a page
    too poor to trust). Raises `MissingExtra` where rapidocr or onnxruntime is not installed.
    """

    name = "rapidocr"

    def __init__(self, *, threads: int | None = None) -> None:
        self._threads = threads or min(4, os.cpu_count() or 1)
        self._engine = _load_engine(self._threads)
        self.version = f"{importlib.metadata.version('rapidocr')}-{ALGORITHM}"

    def __reduce__(self) -> tuple[Any, ...]:
        # a session of onnxruntime does not pickle; another process loads its own
        return partial(type(self), threads=self._threads), ()

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """Readings of `pages`, one each, in order; a page that fails becomes one with `error`."""
        for page in pages:
            yield self._reading(page)

    def _reading(self, page: Page) -> Reading:
        if page.error is not None:
            return Reading.failed(page, self.name, self.version, page.error)
        try:
            found, turn, skew = self._upright_lines(page.pixels)
        except KosmosLoaderError as error:
            return Reading.failed(page, self.name, self.version, Failure.of(error))
        legible = [line for line in found if line.score >= LEGIBLE]
        width, height, angle = page.width, page.height, 90.0 * turn + skew
        lines = [_as_line(line, turn, width=width, height=height) for line in legible]
        return Reading(
            page=page.info,
            reader=self.name,
            reader_version=self.version,
            lines=tuple(reading_order(lines, width=width, height=height, angle=angle)),
            angle=angle,
            flags=_flags(found, legible),
            rejected=len(found) - len(legible),
        )

    def _upright_lines(self, pixels: NDArray[np.uint8]) -> tuple[list[_Found], int, float]:
        """Lines in pixels of the upright picture, and how the text lies on the page.

        That is the quarter turns clockwise, and the degrees of skew clockwise beyond them.
        """
        found = self._detect(pixels)
        turn = 0
        if not _looks_upright(found):
            found, turn = self._best_turn(pixels, found)
        skew = _skew(found)
        if abs(skew) > STRAIGHT:
            found = self._straightened(pixels, turn, skew, found)
        return found, turn, skew

    def _best_turn(
        self, pixels: NDArray[np.uint8], as_shown: list[_Found]
    ) -> tuple[list[_Found], int]:
        """The reading with the best score over the turns that the page may have."""
        readings: dict[int, list[_Found]] = {}
        for turn in _possible_turns(as_shown):
            readings[turn] = self._detect(np.rot90(pixels, turn)) if turn else as_shown
            if _looks_upright(readings[turn]):
                break
        best = max(readings, key=lambda turn: _quality(readings[turn]))
        return readings[best], best

    def _straightened(
        self, pixels: NDArray[np.uint8], turn: int, skew: float, crooked: list[_Found]
    ) -> list[_Found]:
        """Lines read on the straightened picture, in pixels of the crooked one."""
        picture = Image.fromarray(np.ascontiguousarray(np.rot90(pixels, turn)))
        # Pillow turns counter-clockwise, which undoes a clockwise skew.
        straight = picture.rotate(
            skew, Image.Resampling.BICUBIC, expand=True, fillcolor=_paper(pixels)
        )
        found = self._detect(np.asarray(straight))
        if _quality(found) < _quality(crooked):
            return crooked
        middle = (straight.width / 2, straight.height / 2)
        dx, dy = picture.width / 2 - middle[0], picture.height / 2 - middle[1]
        return [
            _Found(
                line.text,
                line.score,
                _quad((x + dx, y + dy) for x, y in rotated(line.corners, skew, about=middle)),
            )
            for line in found
        ]

    def _detect(self, pixels: NDArray[np.uint8]) -> list[_Found]:
        """Lines of a picture; a strip (a long receipt) is read in tiles.

        The engine scales what it is given to 2000 pixels, at which the type of a strip is lost.
        Tiles overlap, and a line belongs to the one in whose core its middle lies.
        """
        height, width = pixels.shape[:2]
        # under 100 pixels there is no text, and the engine would blow the tiles up
        if width < 100 or height < 1.25 * TILE or height < 2.5 * width:
            return self._detect_tile(pixels)
        found = []
        cores = np.linspace(0, height, math.ceil(height / (TILE - 2 * OVERLAP)) + 1)
        for top, bottom in pairwise(int(core) for core in cores):
            start = max(0, top - OVERLAP)
            tile = self._detect_tile(pixels[start : bottom + OVERLAP])
            found += [line.lowered(start) for line in tile if top <= line.middle + start < bottom]
        return found

    def _detect_tile(self, pixels: NDArray[np.uint8]) -> list[_Found]:
        # The library takes BGR. Its line classifier stays off: it would hide that a page is
        # upside down, which the scores then tell (`_looks_upright`).
        try:
            output = self._engine(np.ascontiguousarray(pixels[:, :, ::-1]), use_cls=False)
        except Exception as error:  # the library raises whatever cv2, numpy and onnxruntime raise
            raise ReadingError(
                f"RapidOCR failed on this page ({type(error).__name__}: {error}); read it with "
                "another reader or at another resolution"
            ) from error
        if output.boxes is None:
            return []
        return [
            _Found(text.strip(), float(score), _quad((float(x), float(y)) for x, y in corners))
            for text, score, corners in zip(output.txts, output.scores, output.boxes, strict=True)
            if text.strip()
        ]


def _load_engine(threads: int) -> Any:
    require("onnxruntime", extra="cpu")
    rapidocr = require("rapidocr", extra="cpu")
    return rapidocr.RapidOCR(
        params={
            "Global.log_level": "error",
            # our own thresholds decide, so that what is dropped is counted
            "Global.text_score": 0.0,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )


def _quad(points: Iterable[Point]) -> Quad:
    a, b, c, d = points
    return a, b, c, d


def _mean_score(found: Sequence[_Found]) -> float:
    """Mean score by length of the lines, 0 where nothing was found."""
    length = sum(line.length for line in found)
    return sum(line.score * line.length for line in found) / length if length else 0.0


def _quality(found: Sequence[_Found]) -> float:
    """Letters that are certainly read: what the right way up has most of."""
    return sum(len(line.text) * max(0.0, line.score - LEGIBLE) for line in found)


def _looks_upright(found: Sequence[_Found]) -> bool:
    if not found:
        return True
    return not _stands_on_side(found) and _mean_score(found) >= CERTAIN


def _stands_on_side(found: Sequence[_Found]) -> bool:
    tall = sum(line.length for line in found if line.is_tall)
    return tall > sum(line.length for line in found if line.is_wide)


def _possible_turns(found: Sequence[_Found]) -> tuple[int, ...]:
    """Quarter turns counter-clockwise that may make the picture upright, the likeliest first.

    The recogniser turns tall crops by a quarter counter-clockwise, so tall lines that it reads
    well say how the page lies.
    """
    if not _stands_on_side(found):
        return 0, 2
    return (1, 3) if _mean_score(found) >= CERTAIN else (3, 1)


def _skew(found: Sequence[_Found]) -> float:
    """Degrees by which the lines run clockwise downhill, by the median of the longer half."""
    wide = sorted((line for line in found if line.is_wide), key=lambda line: -line.length)
    if len(wide) < 3:
        return 0.0
    slants = [line.slant for line in wide[: max(3, len(wide) // 2)]]
    skew = median(slants)
    steady = median(abs(slant - skew) for slant in slants)
    return skew if abs(skew) <= MAX_SKEW and steady < 1.0 else 0.0


def _paper(pixels: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Colour of the paper, so that the corners of a straightened page are no edges."""
    red, green, blue = (int(v) for v in np.median(pixels[::16, ::16].reshape(-1, 3), axis=0))
    return red, green, blue


def _as_line(found: _Found, turn: int, *, width: int, height: int) -> Line:
    """The line on a page of `width` x `height` that was turned back by `turn` to be read."""
    upright_width, upright_height = (height, width) if turn % 2 else (width, height)
    points = (turned_point((x / upright_width, y / upright_height), turn) for x, y in found.corners)
    corners = _quad((on_page(x), on_page(y)) for x, y in points)
    return Line(found.text, Box.around(corners), round(found.score, 4), corners)


def _flags(found: Sequence[_Found], legible: Sequence[_Found]) -> tuple[str, ...]:
    """Blank where nothing was found, low_confidence where much of it is guessed."""
    if not found:
        return ("blank",)
    length = sum(line.length for line in found)
    doubtful = sum(line.length for line in found if line.score < DOUBTFUL)
    if not legible or _mean_score(found) < CERTAIN or doubtful > 0.25 * length:
        return ("low_confidence",)
    return ()
