"""Files into a store: the whole line, one file after another, one page at a time.

What was done stays done: readings are kept by the picture of the page, so a second run reads
nothing twice; a bad file costs that file only; an interrupted run leaves a store that is sound and
that the next run completes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

from kosmos_loader.chunking import id_on_copy
from kosmos_loader.document import Chunk, Failure, Page, PageInfo, Reading
from kosmos_loader.errors import SourceNotFound, UsageError
from kosmos_loader.loading import chunks, error_in
from kosmos_loader.pages import Range, Wanted, find_files, open_pages
from kosmos_loader.readers.base import PageReader, page_key, reading_key
from kosmos_loader.store import FailedPage, Store

ON_ERROR = ("skip", "stop")


@dataclass(frozen=True, slots=True)
class Step:
    """A page that is done, for those who watch."""

    source: str
    page: int
    """From 1; 0 for a file that could not be opened."""

    count: int
    """Pages in the file."""

    file: int
    """Place of the file among all, from 1."""

    files: int


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run."""

    files: int
    """Files that were taken up, those that failed too."""

    pages: int
    """Pages that are read, now or in an earlier run."""

    chunks: int
    """Chunks that these pages gave."""

    reused: int = 0
    """Pages out of `pages` whose reading was kept from an earlier run."""

    failed: tuple[FailedPage, ...] = ()
    """(source, page, failure); page 0 is a file as a whole."""

    flagged: tuple[tuple[str, int, tuple[str, ...]], ...] = ()
    """(source, page, flags) of pages that were read with a warning."""


def ingest(
    sources: str | Path | Iterable[str | Path],
    store: Store,
    reader: PageReader,
    *,
    on_error: Literal["skip", "stop"] = "skip",
    chunk_size: int = 1000,
    pages: str | None = None,
    password: str | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Report:
    """Read all files of `sources` into `store` and say what came of it.

    Chunks that a file no longer gives are deleted once its new ones are in; those of pages that
    were not read this time (failed, or not among `pages`) stay. Failures are entered into the
    store's ledger in place of the file's earlier ones; with "stop", the first is raised when what
    was read before it is in the store. `progress` is called after every page.

    Raises `SourceNotFound` where there is no file at all, `UsageError` for settings that cannot be
    meant, and `StoreError`.
    """
    if on_error not in ON_ERROR:
        raise UsageError(f"on_error cannot be {on_error!r}; choose one of {', '.join(ON_ERROR)}")
    files = list(dict.fromkeys(find_files(sources)))
    if not files:
        raise SourceNotFound("no file was given; name files, folders or patterns")
    ranges = Wanted.of(pages, password=password, max_pixels=1).ranges
    run = _Run(store, reader, chunk_size, progress, ranges, stops=on_error == "stop")
    # One stream over all files, so that a reader that reads ahead does so over their borders.
    readings = run.readings(open_pages(files, pages=pages, password=password))
    for place, (source, of_file) in enumerate(groupby(readings, _source), start=1):
        run.take(source, of_file, place=place, files=len(files))
    return run.report


class _Run:
    """One run over many files, and the counts of what came of it."""

    def __init__(
        self,
        store: Store,
        reader: PageReader,
        chunk_size: int,
        progress: Callable[[Step], None] | None,
        ranges: Sequence[Range],
        *,
        stops: bool,
    ) -> None:
        self._store = store
        self._reader = reader
        self._chunk_size = chunk_size
        self._progress = progress
        self._ranges = ranges
        self._stops = stops
        self._files = self._pages = self._chunks = self._reused = 0
        self._failed: list[Reading] = []
        self._flagged: list[Reading] = []

    def take(self, source: str, readings: Iterator[Reading], *, place: int, files: int) -> None:
        """Bring the chunks of one file up to date."""
        self._files += 1
        before, new = self._store.ids(source=source), set[str]()
        earlier = [failed for failed in self._store.failures() if failed.source == source]
        tried: set[int] = set()
        read: list[PageInfo] = []

        def watched() -> Iterator[Reading]:
            for reading in readings:
                tried.add(reading.page.number)
                yield reading
                self._done(reading, read, place=place, files=files)
                if self._stops and self._failed:
                    return

        def noted(made: Iterable[Chunk]) -> Iterator[Chunk]:
            for chunk in made:
                apart = self._told_apart(chunk, before, new)
                yield apart
                new.add(apart.chunk_id)

        self._store.clear_failures(source)
        made = chunks(watched(), size=self._chunk_size, failed=self._note_failure)
        self._store.add(noted(made))
        self._chunks += len(new)
        self._delete(before - new, read)
        self._restore(earlier, tried, read)
        if self._stops and self._failed:
            raise error_in(self._failed[0])

    def _told_apart(self, chunk: Chunk, before: set[str], new: set[str]) -> Chunk:
        """`chunk`, under another id where its own is that of a like page which is not read now.

        Like pages are told apart by how many of them stand before; of pages that are left out, none
        are counted.
        """
        name = chunk.chunk_id
        while name in new or (name in before and self._is_left_out(name, chunk.page_count)):
            name = id_on_copy(name)
        return chunk if name == chunk.chunk_id else replace(chunk, chunk_id=name)

    def _is_left_out(self, chunk_id: str, count: int) -> bool:
        """Whether `chunk_id` stands on a page of the file that is not asked for."""
        return any(
            chunk.page <= count and not any(a <= chunk.page <= b for a, b in self._ranges)
            for chunk in self._store.get([chunk_id])
        )

    @property
    def report(self) -> Report:
        """The counts so far."""
        return Report(
            files=self._files,
            pages=self._pages,
            chunks=self._chunks,
            reused=self._reused,
            failed=tuple(map(_entry, self._failed)),
            flagged=tuple((r.page.source, r.page.number, r.flags) for r in self._flagged),
        )

    def readings(self, pages: Iterator[Page]) -> Iterator[Reading]:
        """Readings of `pages` in order: kept ones where there are any, and new ones are kept."""
        for page in pages:
            kept = self._kept(page)
            if kept is not None:
                yield kept
            else:
                yield from self._read_on(page, pages)

    def _read_on(self, first: Page, rest: Iterator[Page]) -> Iterator[Reading]:
        """Reads from `first` up to a page whose reading is kept, which comes last."""
        last: list[Reading] = []

        def unread() -> Iterator[Page]:
            yield first
            for page in rest:
                kept = self._kept(page)
                if kept is not None:
                    last.append(kept)
                    return
                yield page

        for reading in self._reader.read(unread()):
            self._keep(reading)
            yield reading
        yield from last

    def _kept(self, page: Page) -> Reading | None:
        if page.error is not None:
            return None
        kept = self._store.kept_reading(page_key(self._reader, page))
        if kept is None:
            return None
        self._reused += 1
        return replace(kept, page=page.info)

    def _keep(self, reading: Reading) -> None:
        if reading.error is None:
            self._store.keep_reading(reading_key(self._reader, reading), reading)

    def _done(self, reading: Reading, read: list[PageInfo], *, place: int, files: int) -> None:
        page = reading.page
        if reading.error is None:
            read.append(page)
            self._pages += 1
        if reading.flags:
            self._flagged.append(reading)
        if self._progress is not None:
            self._progress(Step(page.source, page.number, page.count, place, files))

    def _note_failure(self, reading: Reading) -> None:
        self._failed.append(reading)
        self._store.record_failure(*_entry(reading))

    def _restore(
        self, earlier: Iterable[FailedPage], tried: set[int], read: Sequence[PageInfo]
    ) -> None:
        """Enters the failures of pages again that were not tried this time and are still there."""
        count = read[-1].count if read else 0
        for failed in earlier:
            if 0 < failed.page <= count and failed.page not in tried:
                self._store.record_failure(*failed)

    def _delete(self, old: set[str], read: Sequence[PageInfo]) -> None:
        """Delete the chunks `old` that stand on pages which were read, or are no longer there."""
        if not read:
            return
        numbers, count = {page.number for page in read}, read[-1].count
        self._store.delete(
            chunk.chunk_id
            for chunk in self._store.get(old)
            if all(n in numbers or n > count for n in range(chunk.page, chunk.page_end + 1))
        )


def _source(reading: Reading) -> str:
    return reading.page.source


def _entry(reading: Reading) -> FailedPage:
    failure = reading.error or Failure("reading", "no reason is known")
    return FailedPage(reading.page.source, reading.page.number, failure)
