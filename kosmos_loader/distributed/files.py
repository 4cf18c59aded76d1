"""What the driver knows of the files whose pages are on their way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kosmos_loader.archive.elsewhere import Work
from kosmos_loader.archive.kinds import Step
from kosmos_loader.archive.planning import Plan
from kosmos_loader.distributed.desk import Key
from kosmos_loader.document import Failure, PageInfo, Reading
from kosmos_loader.errors import ReadingError
from kosmos_loader.loading import error_class
from kosmos_loader.pages import Range
from kosmos_loader.readers.base import reading_key


def raise_fatal(told: Mapping[str, Any]) -> None:
    """Raise what a worker says ends the run."""
    if "fatal" in told:
        failure = Failure.from_dict(told["fatal"])
        raise error_class(failure)(failure.message)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a page."""

    page: PageInfo
    reading: Reading | None = None
    """None where there is one already, or where the run was to stop."""

    kept: str = ""
    """The key of the reading that is there already."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Outcome:
        """From what a worker tells."""
        page = PageInfo.from_dict(told["page"])
        reading = Reading.from_dict(told["reading"]) if "reading" in told else None
        return cls(page, reading, told.get("kept", ""))

    @property
    def key(self) -> Key:
        """The page, as the desk knows it."""
        return self.page.source, self.page.number


@dataclass(eq=False)
class FileUnderWay:
    """A file whose pages are on their way."""

    origin: Plan
    known: dict[int, str] = field(default_factory=dict)
    left: dict[int, Failure] = field(default_factory=dict)
    fresh: set[int] = field(default_factory=set)
    missing: set[int] | None = None
    """Pages that have not come; None until it is known how many there are."""

    count: int = 0
    is_begun: bool = False

    def __post_init__(self) -> None:
        if self.origin.holds:
            self.known |= self.origin.known
            self.left |= self.origin.left
            self._count(self.origin.count)

    def _count(self, count: int) -> None:
        if self.missing is None and count:
            self.count = count
            self.missing = set(self.plan().missing or ())

    @property
    def is_complete(self) -> bool:
        """Whether something came of each page."""
        return self.missing is not None and not self.missing

    def job(self) -> dict[str, Any]:
        """What a worker is told: which pages to draw, and which pictures are given up."""
        pictures = self.origin.left_pictures.items()
        return {
            "path": self.origin.source,
            "pages": _spec(self.plan().to_draw),
            "left": {key: failure.to_dict() for key, failure in pictures},
        }

    def take(self, outcome: Outcome, work: Work) -> None:
        """Keep what came of a page."""
        page, reading = outcome.page, outcome.reading
        if not outcome.kept and reading is None:  # it was not read, since the run is to stop
            return
        self._begin(work)
        self._count(page.count)
        if outcome.kept:
            self._take_kept(outcome, work)
        elif reading is not None and reading.error is not None:
            key = reading_key(work.reader, reading) if page.digest else ""
            work.store.record_failure(page.source, page.number, reading.error, key=key)
            self._settle(page.number, reading.error)
            self._tell(reading, work)
        elif reading is not None:
            key = reading_key(work.reader, reading)
            work.store.journal.keep(key, reading, is_new=True)
            self._settle(page.number, key)
            self._tell(reading, work)

    def _begin(self, work: Work) -> None:
        if not self.is_begun and self.origin.seen is not None:
            work.store.journal.begin(self.origin.seen, anew=not self.origin.holds)
        self.is_begun = True

    def _take_kept(self, outcome: Outcome, work: Work) -> None:
        reading = work.store.kept_reading(outcome.kept)
        if reading is not None:
            work.store.journal.keep(outcome.kept, replace(reading, page=outcome.page), is_new=False)
            self._settle(outcome.page.number, outcome.kept)

    def _settle(self, number: int, what: str | Failure) -> None:
        if isinstance(what, str):
            self.known[number] = what
        else:
            self.left[number] = what
        if number == 0:
            self.missing = set()  # the file cannot be opened, so no further page will come
        elif self.missing is not None:
            self.missing.discard(number)

    def _tell(self, reading: Reading, work: Work) -> None:
        page = reading.page
        if page.number == 0 or page.number in self.fresh:
            return  # that the file failed is told last, behind the pages that were known of it
        self.fresh.add(page.number)
        if work.progress is not None:
            place = page.number, page.count, self.origin.place, work.files
            step = Step(page.source, *place, failure=reading.error, flags=reading.flags)
            work.progress(replace(step, left_out=self.origin.left_out(page.count)))

    def give_up(self, work: Work) -> None:
        """Pages that no worker told anything of have failed."""
        error = ReadingError(f"no worker told what came of {self.origin.source}; index it again")
        for number in sorted(self.missing or {0}):
            page = self.plan().page(number)
            failed = Reading.failed(page, work.reader.name, work.reader.version, Failure.of(error))
            self.take(Outcome(page, failed), work)

    def plan(self) -> Plan:
        """What is left to be done of the file: no drawing, once it is complete."""
        return replace(
            self.origin,
            count=self.count,
            known=self.known,
            left=self.left,
            fresh=frozenset(self.fresh),
            holds=True,
        )


def _spec(ranges: Iterable[Range]) -> str:
    """`ranges` as `open_pages` takes them."""
    return ",".join(f"{int(a)}-" if math.isinf(b) else f"{a}-{b}" for a, b in ranges)
