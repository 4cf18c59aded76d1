"""A reader in several processes, for readers that keep one core busy and leave the others idle."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Self

from kosmos_loader.document import Failure, Page, Reading
from kosmos_loader.errors import ReadingError, UsageError
from kosmos_loader.readers.base import PageReader


class ReaderPool:
    """Reads pages as `reader` does, in `workers` processes, and yields the readings in order.

    Each process gets its own copy of `reader`, which must pickle. At most two pages a process are
    under way. A page that ends its process (out of memory, a crash in a library) becomes a reading
    with an error, and the others are read all the same. Use it as a context manager, or `close` it:
    processes live until then. Processes are spawned, so a script that uses it needs the usual
    `if __name__ == "__main__"`.
    """

    def __init__(self, reader: PageReader, *, workers: int) -> None:
        if workers < 1:
            raise UsageError(f"{workers} workers read nothing; give 1 or more")
        self.name, self.version = reader.name, reader.version
        self._reader = reader
        self._workers = workers
        self._processes = self._spawned()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; what is under way is finished, what waits is dropped."""
        self._processes.shutdown(cancel_futures=True)

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """Readings of `pages`, one each, in order."""
        under_way: deque[tuple[Page, Future[Reading]]] = deque()
        for page in pages:
            under_way.append((page, self._submitted(page)))
            if len(under_way) >= 2 * self._workers:
                yield self._first(under_way)
        while under_way:
            yield self._first(under_way)

    def _first(self, under_way: deque[tuple[Page, Future[Reading]]]) -> Reading:
        page, future = under_way.popleft()
        try:
            return future.result()
        except BrokenProcessPool:
            # Any page under way may have ended the process. One at a time, the one that does it
            # does it alone.
            reading = self._alone(page)
            for place, (other, _) in enumerate(under_way):
                done: Future[Reading] = Future()
                done.set_result(self._alone(other))
                under_way[place] = (other, done)
            return reading

    def _alone(self, page: Page) -> Reading:
        try:
            return self._submitted(page).result()
        except BrokenProcessPool:
            error = ReadingError(
                f"the process that read page {page.number} of {page.source} ended before it was "
                "done; if memory was short, read with fewer workers"
            )
            return Reading.failed(page, self.name, self.version, Failure.of(error))

    def _submitted(self, page: Page) -> Future[Reading]:
        try:
            return self._processes.submit(_read_page, page)
        except BrokenProcessPool:
            self._processes.shutdown(wait=False)
            self._processes = self._spawned()
            return self._processes.submit(_read_page, page)

    def _spawned(self) -> ProcessPoolExecutor:
        # Not forked: neither onnxruntime nor torch survives a fork with their threads running.
        return ProcessPoolExecutor(
            self._workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_keep_reader,
            initargs=(self._reader,),
        )


_kept: list[PageReader] = []
"""The reader of this process."""


def _keep_reader(reader: PageReader) -> None:
    _kept[:] = [reader]


def _read_page(page: Page) -> Reading:
    [reading] = _kept[0].read([page])
    return reading
