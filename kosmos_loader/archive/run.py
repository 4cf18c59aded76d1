"""One run over many files: pages drawn, read, made into chunks and written, in one stream.

Everything is pulled from the end: a page is drawn when the reader asks for it, and a reader asks
when its reading is wanted. What waits is bounded, whatever the length of a file and the number of
files.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import cast

from kosmos_loader.archive.elsewhere import Elsewhere, Work
from kosmos_loader.archive.kinds import Report, Step
from kosmos_loader.archive.planning import ANEW, Plan, Planner, is_within, looked_at
from kosmos_loader.chunking import id_on_copy
from kosmos_loader.document import Chunk, Failure, Page, PageInfo, Reading
from kosmos_loader.errors import ReadingError
from kosmos_loader.loading import chunks, error_of
from kosmos_loader.pages import Range, none_left, open_pages
from kosmos_loader.prefetching import open_pages_in_processes
from kosmos_loader.readers.base import (
    PageReader,
    page_key,
    passed_over,
    read_as_completed,
    reading_key,
)
from kosmos_loader.sources import File
from kosmos_loader.store import FailedPage, Store

log = logging.getLogger("kosmos_loader")

AHEAD = 64
"""Readings and files that wait, at most, for a page before them that is still being read."""

PLANNED = 500
"""Files that need not be drawn and wait, at most, while the next one that does is looked for."""


@dataclass(frozen=True, slots=True)
class Source:
    """How pages are drawn."""

    pages: str | None = None
    password: str | None = None
    processes: int = 0
    """Processes that draw; 0 for this one."""

    def opened(self, files: Iterable[File]) -> Generator[Page]:
        """The pages of `files`, drawn when they are asked for, or a few ahead of that."""
        if not self.processes:
            yield from open_pages(files, pages=self.pages, password=self.password)
            return
        yield from open_pages_in_processes(
            files, workers=self.processes, pages=self.pages, password=self.password
        )


class _End:
    """Where the readings of a file end."""


@dataclass(eq=False, slots=True)
class _Read:
    """A page that is being read; then, its reading."""

    page: PageInfo
    reading: Reading | None = None


@dataclass(eq=False, slots=True)
class _Like:
    """A page that shows the picture of one that is being read, and is not read itself.

    Should that one fail, so does this: what a reader cannot make of a picture now, it cannot make
    of it a moment later, and a page that takes its process along would take another.
    """

    page: PageInfo
    of: _Read


_Slot = Plan | _End | Reading


def _is_unread(slot: _Slot | _Read | _Like) -> bool:
    return isinstance(slot, _Read) and slot.reading is None


def _likewise(failure: Failure, page: PageInfo, other: PageInfo) -> Failure:
    """The failure of `page`, which shows the picture of `other`."""
    return replace(
        failure,
        message=f"page {page.number} of {page.source} shows the same picture as page "
        f"{other.number} of {other.source}, which came to nothing: {failure.message}",
    )


class Run:
    """One run over many files, and the counts of what came of it."""

    def __init__(
        self,
        store: Store,
        reader: PageReader,
        planner: Planner,
        drawing: Source,
        *,
        chunk_size: int,
        progress: Callable[[Step], None] | None,
        stopping: Callable[[], bool],
        stops_at_error: bool,
    ) -> None:
        self._store = store
        self._reader = reader
        self._planner = planner
        self._drawing = drawing
        self._chunk_size = chunk_size
        self._progress = progress
        self._stopping = stopping
        self._stops = stops_at_error
        self._all_files = 0
        self._files = self._pages = self._chunks = self._reused = self._unchanged = 0
        self._failed: list[FailedPage] = []
        self._flagged: list[tuple[str, int, tuple[str, ...]]] = []
        self._vanished: list[str] = []
        self._interrupted = False
        self._again: set[tuple[str, int]] = set()

    @property
    def report(self) -> Report:
        """The counts so far."""
        return Report(
            files=self._files,
            pages=self._pages,
            chunks=self._chunks,
            reused=self._reused,
            failed=tuple(self._failed),
            flagged=tuple(self._flagged),
            unchanged=self._unchanged,
            vanished=tuple(self._vanished),
            interrupted=self._interrupted,
        )

    def take_all(
        self,
        files: Collection[Path],
        planned: Callable[[Path, int], Plan],
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Bring the chunks of all files up to date; `elsewhere` is where their pages are read."""
        self._all_files = len(files)
        plans: Iterator[Plan] = (planned(path, n) for n, path in enumerate(files, start=1))
        if elsewhere is not None:
            plans = elsewhere.read(plans, self._work())
        # whatever it ends with, no process that draws is left behind
        with closing(_Plans(plans, self._drawing, self._stopping)) as to_do:
            stream = self._readings(to_do)
            for item in stream:
                if isinstance(item, Plan):
                    self._take(item, stream)
        if elsewhere is not None:
            for _ in plans:  # where the run was stopped, what is in hand there is kept
                pass
        self._interrupted = self._interrupted or self._stopping()

    def _work(self) -> Work:
        return Work(
            *(self._store, self._reader, self._all_files, self._stopping),
            password=self._drawing.password,
            progress=self._progress,
        )

    def forget(self, source: str) -> None:
        """Take out of the store what it holds of a file that is gone."""
        self._store.delete(source=source)
        self._store.clear_failures(source)
        self._store.journal.forget(source)
        self._vanished.append(source)

    # From files to readings

    def _readings(self, plans: _Plans) -> Iterator[_Slot]:
        """A plan, the readings of its file in order, and an end; then the next one.

        Readings wait while pages before them are read, so that a reader that reads ahead does so
        over kept ones and over the borders of files, and need not wait for a page that takes long.
        """
        slots = self._slots(plans)
        for slot in slots:
            if isinstance(slot, Page):
                yield from self._read_on(slot, slots)
            else:
                yield slot

    def _read_on(self, first: Page, rest: Iterator[Page | _Slot]) -> Iterator[_Slot]:
        line: deque[_Slot | _Read | _Like] = deque()
        in_hand: dict[str, _Read] = {}
        keys: dict[int, str] = {}

        def unread() -> Iterator[Page]:
            places = count()
            for slot in chain([first], rest):
                if not isinstance(slot, Page):
                    line.append(slot)
                elif (key := page_key(self._reader, slot)) in in_hand:
                    line.append(_Like(slot.info, in_hand[key]))
                else:
                    keys[next(places)] = key
                    in_hand[key] = _Read(slot.info)
                    line.append(in_hand[key])
                    yield slot
                if len(line) > AHEAD or (line and not in_hand):
                    return

        for place, reading in read_as_completed(self._reader, unread()):
            if place not in keys:
                raise ReadingError(
                    f"reader {self._reader.name} gave a reading that was not asked for, or twice"
                )
            in_hand.pop(keys.pop(place)).reading = reading
            # before its turn too: it is not lost then, whatever becomes of this process
            if reading.error is None:
                self._store.journal.keep(reading_key(self._reader, reading), reading, is_new=True)
            while line and not _is_unread(line[0]):
                yield self._waited(line.popleft())
        for one in line:
            if isinstance(one, _Read) and one.reading is None:
                if not self._stopping():
                    yield passed_over(self._reader, one.page)
            else:
                yield self._waited(one)

    def _waited(self, slot: _Slot | _Read | _Like) -> _Slot:
        """What waited for a page before it, now that this is read."""
        if isinstance(slot, _Read):
            return cast("Reading", slot.reading)
        if not isinstance(slot, _Like):
            return slot
        if slot.of.reading is None:
            reason = "the page before it that looks the same was not read; index the file again"
            return self._unread(slot.page, Failure("reading", reason))
        again = replace(slot.of.reading, page=slot.page)
        if again.error is not None:
            return replace(again, error=_likewise(again.error, slot.page, slot.of.reading.page))
        self._store.journal.keep(reading_key(self._reader, again), again, is_new=False)
        self._again.add((slot.page.source, slot.page.number))
        return again

    def _slots(self, plans: _Plans) -> Iterator[Page | _Slot]:
        for plan in plans:
            yield plan
            if plan.holds and plan.numbers == []:
                yield self._unread(plan.page(0), Failure.of(none_left(plan.source, plan.count)))
            elif not plan.is_done:
                if plan.seen is not None:
                    self._store.journal.begin(plan.seen, anew=not plan.holds)
                if plan.numbers is None and 0 in plan.left:
                    yield self._given_up(plan, 0)
                elif plan.numbers is None or not plan.holds:
                    yield from (self._kept_or_drawn(page, plan) for page in plans.drawn(plan))
                else:
                    yield from self._known_and_drawn(plan, plans)
            if self._stopping():
                return
            yield _End()

    def _known_and_drawn(self, plan: Plan, plans: _Plans) -> Iterator[Page | Reading]:
        """The pages of a file in order, of which only those are drawn that are not known."""
        drawn: Iterator[Page] | None = None
        for number in plan.numbers or []:
            if self._stopping():
                return
            if number in plan.left:
                yield self._given_up(plan, number)
            elif number in plan.known:
                kept = self._known(plan, number)
                if kept is None:
                    yield from (self._kept_or_drawn(page, plan) for page in plans.one(plan, number))
                else:
                    yield kept
            elif 0 in plan.left:  # another machine could not open the file
                yield self._given_up(plan, 0)
                return
            else:
                drawn = drawn or plans.drawn(plan)
                page = next(drawn, None)
                if page is None:  # the file has gone meanwhile, and that was told
                    return
                yield self._kept_or_drawn(page, plan)

    def _given_up(self, plan: Plan, number: int) -> Reading:
        return self._unread(plan.page(number), plan.left[number])

    def _unread(self, info: PageInfo, failure: Failure) -> Reading:
        return Reading.failed(info, self._reader.name, self._reader.version, failure)

    def _known(self, plan: Plan, number: int) -> Reading | None:
        kept = self._store.kept_reading(plan.known[number])
        info = self._store.journal.page(plan.source, number)
        if kept is None or info is None:
            return None
        if number not in plan.fresh:
            self._again.add((plan.source, number))
        return replace(kept, page=info)

    def _kept_or_drawn(self, page: Page, plan: Plan) -> Page | Reading:
        """The reading of `page` where it is kept, or where it cannot be read; else the page."""
        if page.error is not None:
            return self._unread(page.info, page.error)
        key = page_key(self._reader, page)
        kept = self._store.kept_reading(key)
        if kept is not None:
            kept = replace(kept, page=page.info)
            self._store.journal.keep(key, kept, is_new=False)
            self._again.add((page.source, page.number))
            return kept
        if key in plan.left_pictures:
            return self._unread(page.info, plan.left_pictures[key])
        return page

    # From readings to chunks

    def _take(self, plan: Plan, stream: Iterator[_Slot]) -> None:
        """Bring the chunks of one file up to date."""
        self._files += 1
        if plan.is_done:
            self._pass_over(plan)
            return
        failed_before = len(self._failed)  # of other files

        def stops() -> bool:
            return self._stops and len(self._failed) > failed_before

        source, taken = plan.source, _Taken(self._store, plan)

        def watched() -> Iterator[Reading]:
            for item in stream:
                if not isinstance(item, Reading):
                    taken.is_whole = True
                    return
                yield item
                self._done(item, taken)
                if stops():
                    return

        noting = partial(self._note_failure, plan)
        made = chunks(watched(), size=self._chunk_size, failed=noting)
        self._store.add(taken.noted(made))
        self._chunks += len(taken.new)
        self._store.delete(list(taken.outdated()))
        if stops():
            raise error_of(*self._failed[failed_before])
        if not taken.is_whole:
            self._interrupted = True
            return
        self._store.clear_failures(source, taken.no_longer_there())
        self._finish(plan, taken)

    def _finish(self, plan: Plan, taken: _Taken) -> None:
        """Enter into the journal that the file is done, unless it has changed meanwhile."""
        if plan.seen is None or not taken.count or 0 in taken.tried:
            return
        try:
            size, mtime = looked_at(plan.path)
        except OSError:
            return
        if size != plan.seen.size or plan.seen.mtime_ns not in (ANEW, mtime):
            return
        journal = self._store.journal
        made = self._planner.made(n for n in taken.tried if n)
        journal.finish(replace(plan.seen, made=made, chunks=journal.chunks(plan.source)))

    def _pass_over(self, plan: Plan) -> None:
        self._unchanged += 1
        self._chunks += self._store.journal.chunks(plan.source)
        flags = {page.number: page.flags for page in self._store.journal.pages(plan.source)}
        for number in plan.numbers or ():
            failure = plan.left.get(number)
            if failure is None:
                self._pages += 1
                self._reused += 1
                if flags[number]:
                    self._flagged.append((plan.source, number, flags[number]))
            else:
                self._failed.append(FailedPage(plan.source, number, failure))
            page = plan.page(number)
            self._tell(plan, page, failure, flags.get(number, ()), reused=failure is None)

    def _done(self, reading: Reading, taken: _Taken) -> None:
        page = reading.page
        is_reused = (page.source, page.number) in self._again
        self._again.discard((page.source, page.number))
        taken.tried.append(page.number)
        taken.count = max(taken.count, page.count)
        if reading.error is None:
            self._pages += 1
            self._reused += is_reused
            taken.read.add(page.number)
            if page.number in taken.failed_before:
                self._store.clear_failures(page.source, [page.number])
        if reading.flags:
            self._flagged.append((page.source, page.number, reading.flags))
        if page.number not in taken.plan.fresh:
            self._tell(taken.plan, page, reading.error, reading.flags, reused=is_reused)

    def _tell(
        self,
        plan: Plan,
        page: PageInfo,
        failure: Failure | None,
        flags: tuple[str, ...],
        *,
        reused: bool,
    ) -> None:
        if self._progress is not None:
            place = page.number, page.count, plan.place, self._all_files
            left_out = plan.left_out(page.count)
            self._progress(Step(plan.source, *place, reused, failure, flags, left_out))

    def _note_failure(self, plan: Plan, reading: Reading) -> None:
        failure = reading.error or Failure("reading", "no reason is known")
        page = reading.page
        self._failed.append(FailedPage(page.source, page.number, failure))
        if page.number in plan.left:  # it stands in the ledger with its time and its picture
            return
        key = reading_key(self._reader, reading) if page.digest else ""
        self._store.record_failure(page.source, page.number, failure, key=key)


class _Taken:
    """What came of one file."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store = store
        self.plan = plan
        self.before = store.ids(source=plan.source)
        self.failed_before = {entry.page for entry in store.ledger(plan.source)}
        self.new: set[str] = set()
        self.read: set[int] = set()
        self.tried: list[int] = []
        self.count = 0
        self.is_whole = False

    def noted(self, made: Iterable[Chunk]) -> Iterator[Chunk]:
        """`made`, under ids of their own."""
        for chunk in made:
            apart = self._told_apart(chunk)
            yield apart
            self.new.add(apart.chunk_id)

    def _told_apart(self, chunk: Chunk) -> Chunk:
        """`chunk`, under another id where its own is that of a like page which is not read now.

        Like pages are told apart by how many of them stand before; of pages that are left out, none
        are counted.
        """
        name = chunk.chunk_id
        while name in self.new or (
            name in self.before and self._is_left_out(name, chunk.page_count)
        ):
            name = id_on_copy(name)
        return chunk if name == chunk.chunk_id else replace(chunk, chunk_id=name)

    def _is_left_out(self, chunk_id: str, count: int) -> bool:
        """Whether `chunk_id` stands on a page of the file that is not asked for."""
        return any(
            chunk.page <= count and not is_within(chunk.page, self.plan.ranges)
            for chunk in self._store.get([chunk_id])
        )

    def outdated(self) -> Iterator[str]:
        """Chunks of before that stand on pages which were read, or are no longer there.

        What no reader made is not the file's: others may keep entries under its name.
        """
        rest = iter(self.before - self.new if self.read else ())
        while some := list(islice(rest, AHEAD)):
            for chunk in self._store.get(some):
                if chunk.reader and all(
                    number in self.read or number > self.count
                    for number in range(chunk.page, chunk.page_end + 1)
                ):
                    yield chunk.chunk_id

    def no_longer_there(self) -> list[int]:
        """Pages in the ledger that the file no longer has: 0 for the file itself."""
        if not self.count:  # it could not be opened
            return [page for page in self.failed_before if page]
        gone = {page for page in self.failed_before if not 1 <= page <= self.count}
        return sorted(gone.difference(self.tried))


def _nothing() -> Generator[Page]:
    yield from ()


class _Plans:
    """The plans of all files in order, and those pages of them that have to be drawn.

    Whoever draws ahead asks for files before their turn has come; their plans wait here.
    """

    def __init__(
        self, plans: Iterator[Plan], drawing: Source, stopping: Callable[[], bool]
    ) -> None:
        self._plans = plans
        self._drawing = drawing
        self._stopping = stopping
        self._planned: deque[Plan] = deque()
        self._to_draw: deque[File] = deque()
        self._pages: Generator[Page] = _nothing()

    def close(self) -> None:
        """Draw no more."""
        self._pages.close()

    def __iter__(self) -> Iterator[Plan]:
        while not self._stopping():
            plan = self._planned.popleft() if self._planned else self._next()
            if plan is None:
                return
            yield plan

    def _next(self) -> Plan | None:
        plan = next(self._plans, None)
        if plan is not None and (ranges := plan.to_draw):
            self._to_draw.append(replace(plan.file, pages=tuple(ranges)))
        return plan

    def drawn(self, plan: Plan) -> Iterator[Page]:
        """The pages of a file that have to be drawn."""
        ranges = plan.to_draw
        while not self._stopping():
            page = next(self._pages, None)
            if page is None and self._to_draw and self._to_draw[0].source == plan.source:
                self._pages = self._drawing.opened(self._files())
                continue
            if page is None:
                return
            yield page
            if page.number in (0, _last(ranges, page.count)):
                return

    def one(self, plan: Plan, number: int) -> Iterator[Page]:
        """A page that was taken for known, and is not."""
        return open_pages([plan.file], pages=number, password=self._drawing.password)

    def _files(self) -> Iterator[File]:
        """Files to draw, until so many that need not be drawn wait that the next one is far off."""
        while True:
            while not self._to_draw:
                if self._stopping() or len(self._planned) >= PLANNED:
                    return
                plan = self._next()
                if plan is None:
                    return
                self._planned.append(plan)
            yield self._to_draw.popleft()


def _last(ranges: Sequence[Range], count: int) -> int:
    """The last page within `ranges` of a file of so many."""
    return next((n for n in range(count, 0, -1) if is_within(n, ranges)), 0)
