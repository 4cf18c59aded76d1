"""Reading what a page already has: OCR in a file beside it, or the text layer of a PDF.

What is there is taken where it is good enough, and what is not is read by another reader. Which of
the two it was, each reading says by its `reader`, and both enter the key under which it is kept.
"""

from __future__ import annotations

import hashlib
import logging
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from kosmos_loader.checks import check_number
from kosmos_loader.document import Failure, Line, Page, PageInfo, Reading
from kosmos_loader.errors import KosmosLoaderError, ReadingError, UsageError
from kosmos_loader.ocr_files import found_beside, ocr_files_of, placed, text_angle
from kosmos_loader.ocr_files.turning import orientation_for
from kosmos_loader.readers.base import (
    PageReader,
    checked_reader,
    identity_of,
    one_each,
    read_as_completed,
)
from kosmos_loader.readers.blank import is_blank
from kosmos_loader.readers.plausible import coverage, plausibility

log = logging.getLogger("kosmos_loader")

ALGORITHM = 1
"""Raised whenever this module or `ocr_files` would make another reading of the same OCR."""

FLOOR = 0.8
"""Quality from which existing OCR is taken. Where it has no confidence: text layers of good pages
and transcribed receipts had 0.89 or more (a page of long addresses 0.79), OCR of handwriting 0.47;
docs/existing-ocr.md has the figures."""

LEAST_COVERED = 0.3
"""Share of the ink that existing OCR covers at least. Measured: pages with pictures 0.33 or more, a
page of which only the frame was text 0.27, a text layer of a few words over a scan 0.06."""

AHEAD = 64
"""Taken readings that wait, at most, for a page before them that is still being read."""

_ReadBy = Callable[[PageReader, Iterable[Page]], Iterator[tuple[int, Reading]]]
"""A way to have pages read by a reader: readings, and their places among the pages."""


class ExistingOcr:
    """Takes the OCR that pages already have, and reads only the others.

    Looked at are hOCR, ALTO and PAGE XML beside the file (`ocr_files_of` says where), then the text
    layer of a PDF, born-digital or from OCR. With a `reader`, a page is read by it where it has
    nothing, where its OCR file is damaged (which is logged), where the quality of what it has is
    below `floor` (the mean confidence by characters, or `plausibility` where there is none), and
    where what it has covers less than `LEAST_COVERED` of the ink. What was there is handed on as
    `Page.text_layer`. Without a reader, what is there is taken, flagged "low_confidence" below
    `floor`; pages without any are readings with an error.

    Readings that were taken have the `reader` "existing" and a version that changes with what was
    found for the page; the others are those of `reader`. It is pickled with its reader.
    """

    def __init__(self, reader: PageReader | None = None, *, floor: float = FLOOR) -> None:
        check_number(floor, "floor")
        if reader is not None:
            checked_reader(reader)
        if not 0 <= floor <= 1:
            raise UsageError(f"floor is {floor}; give the least confidence, 0 to 1")
        self._reader = reader
        self._floor = floor
        self.name = "existing" if reader is None else f"existing-or-{reader.name}"
        own = f"{ALGORITHM}-{floor:g}"
        self.version = own if reader is None else f"{own}-{reader.version}"
        self._last: tuple[weakref.ref[Page], _Choice] | None = None

    @property
    def reader(self) -> PageReader | None:
        """What reads the pages that have no OCR."""
        return self._reader

    def around(self, reader: PageReader | None) -> ExistingOcr:
        """The same with another `reader`, which should have the name and version of the first."""
        return type(self)(reader, floor=self._floor)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}

    def identity(self, page: Page) -> tuple[str, str]:
        """`reader` and `reader_version` that the reading of `page` will have.

        The version holds a digest of the lines that were found, so that a reading that is kept is
        not served when they have changed.
        """
        choice = self._choice(page)
        if choice.taken is not None:
            return choice.taken.reader, choice.taken.reader_version
        if self._reader is not None:
            return identity_of(self._reader, choice.page)
        return self.name, self.version

    def companions(self, source: str) -> list[Path]:
        """The files beside `source` that are or may be the OCR of its pages."""
        return [file.path for file in ocr_files_of(source)]

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """Readings of `pages`, one each, in order."""
        early: dict[int, Reading] = {}
        following = 0
        for place, reading in self._read(pages, _in_order):
            early[place] = reading
            while following in early:
                yield early.pop(following)
                following += 1

    def read_as_completed(self, pages: Iterable[Page]) -> Iterator[tuple[int, Reading]]:
        """Readings of `pages` and their places among them (from 0), as early as the reader has
        them.
        """
        return self._read(pages, read_as_completed)

    def _read(self, pages: Iterable[Page], read_by: _ReadBy) -> Iterator[tuple[int, Reading]]:
        rest = enumerate(pages)
        for place, page in rest:
            choice = self._choice(page)
            if choice.taken is not None:
                yield place, choice.taken
            elif self._reader is not None:
                first = place, choice.page
                yield from self._read_on(partial(read_by, self._reader), first, rest)

    def _read_on(
        self,
        read: Callable[[Iterable[Page]], Iterator[tuple[int, Reading]]],
        first: tuple[int, Page],
        rest: Iterator[tuple[int, Page]],
    ) -> Iterator[tuple[int, Reading]]:
        """Reads from `first` on, through pages that are taken as long as others are under way."""
        taken: deque[tuple[int, Reading]] = deque()
        in_hand: dict[int, int] = {}  # places, by those among the pages that are read

        def unread() -> Iterator[Page]:
            numbers = count()
            in_hand[next(numbers)], page = first
            yield page
            for place, page in rest:
                choice = self._choice(page)
                if choice.taken is None:
                    in_hand[next(numbers)] = place
                    yield choice.page
                    continue
                taken.append((place, choice.taken))
                if not in_hand or place - min(in_hand.values()) > AHEAD:
                    return

        for number, reading in read(unread()):
            yield in_hand.pop(number), reading
            while taken:
                yield taken.popleft()
        yield from taken

    def _choice(self, page: Page) -> _Choice:
        """What becomes of `page`; kept for the last one, which is asked for key and reading."""
        if self._last is None or self._last[0]() is not page:
            self._last = weakref.ref(page), self._chosen(page)
        return self._last[1]

    def _chosen(self, page: Page) -> _Choice:
        if page.error is not None:
            return _Choice(page, self._failed(page, page.error))
        try:
            existing = _existing(page)
        except KosmosLoaderError as error:
            if self._reader is None:
                return _Choice(page, self._failed(page, Failure.of(error)))
            log.warning("page %d of %s is read again: %s", page.number, page.source, error)
            return _Choice(page)
        if self._reader is None:
            return _Choice(page, self._as_it_is(page, existing))
        if existing is None:
            return _Choice(page)
        reason = existing.why_not(page, self._floor)
        if reason is None:
            return _Choice(page, existing.reading(page))
        log.debug("page %d of %s is read again: %s", page.number, page.source, reason)
        return _Choice(replace(page, text_layer=existing.lines))

    def _as_it_is(self, page: Page, existing: _Existing | None) -> Reading:
        if existing is None:
            error = ReadingError(
                f"page {page.number} of {page.source} has no OCR, neither in the file nor beside "
                "it; read it with --ocr auto, in Python with ExistingOcr(reader)"
            )
            return self._failed(page, Failure.of(error))
        reading = existing.reading(page)
        if not existing.lines or existing.quality >= self._floor:
            return reading
        return replace(reading, flags=("low_confidence",))

    def _failed(self, page: Page, failure: Failure) -> Reading:
        return Reading.failed(page, self.name, self.version, failure)


def _in_order(reader: PageReader, pages: Iterable[Page]) -> Iterator[tuple[int, Reading]]:
    return enumerate(one_each(reader, pages))


@dataclass(frozen=True, slots=True)
class _Choice:
    page: Page
    """The page, with what was found as its text layer where it has to be read."""

    taken: Reading | None = None
    """The reading of a page that need not be read; None for one that must be."""


@dataclass(frozen=True, slots=True)
class _Existing:
    """What a page already has."""

    lines: tuple[Line, ...]
    origin: str
    """The format of the file beside it, or "pdf"."""

    rejected: int = 0

    @property
    def quality(self) -> float:
        """Mean confidence by characters, where lines have any; else how plausible they are."""
        weighed = [
            (line.confidence, len(line.text)) for line in self.lines if line.confidence is not None
        ]
        total = sum(weight for _, weight in weighed)
        if total:
            return sum(confidence * weight for confidence, weight in weighed) / total
        return plausibility(line.text for line in self.lines)

    def why_not(self, page: Page, floor: float) -> str | None:
        """Why it is not good enough, None where it is."""
        if not self.lines:
            return None if is_blank(page.image) else "its OCR is empty, and the page is not"
        if self.quality < floor:
            return f"its OCR has a quality of {self.quality:.2f}"
        covered = coverage(page, self.lines)
        if covered < LEAST_COVERED:
            return f"its OCR covers {covered:.0%} of the ink"
        return None

    def reading(self, page: PageInfo) -> Reading:
        """It as a reading."""
        return Reading(
            page=page.info if isinstance(page, Page) else page,
            reader="existing",
            reader_version=f"{ALGORITHM}-{self.origin}-{_digest(self.lines)}",
            lines=self.lines,
            angle=text_angle(self.lines, page),
            flags=() if self.lines else ("blank",),
            rejected=self.rejected,
        )


def _existing(page: Page) -> _Existing | None:
    """Of a file beside the page, else of the page's own text layer. Raises `SourceError`."""
    found = found_beside(page)
    if found is not None:
        orientation = orientation_for(found, page)
        lines = placed(found, page, orientation=orientation)
        return _Existing(lines, found.format, found.rejected)
    return _Existing(page.text_layer, "pdf") if page.text_layer else None


def _digest(lines: Sequence[Line]) -> str:
    """64 bits of all that a reading is made of."""
    digest = hashlib.blake2b(digest_size=8)
    for line in lines:
        digest.update(repr(line).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
