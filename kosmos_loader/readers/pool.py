"""A reader in several processes, for readers that keep one core busy and leave the others idle.

The pool is not `concurrent.futures`': there a process that dies takes all that is under way along
and does not tell what it was at, and one that hangs cannot be ended. Here every process has a pipe
of its own and answers page by page, so that the first page unanswered is what it died of or hangs
at.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self, cast

from kosmos_loader.checks import check_number, check_whole
from kosmos_loader.document import Failure, Page, Reading
from kosmos_loader.errors import (
    KosmosLoaderError,
    PageTimeout,
    ProcessDied,
    ReadingError,
    SourceError,
    UsageError,
)
from kosmos_loader.readers.base import PageReader, checked_reader, one_each
from kosmos_loader.shared_pixels import receive_page, send_page
from kosmos_loader.spawning import start

TRIES = 2
"""How often a page is given to a process: one that ended two is not given to a third."""

QUEUE = 2
"""Pages that a process is given at once: the second is there when the first is done."""

_LOOKING = 3600.0
"""Seconds after which it is looked again whether a page has taken too long: the system waits for no
longer than some weeks, and a time may be infinite."""

_STOPPED_ON_PURPOSE = ("timeout", "process_died")
"""Kinds of failures of pages that are not given to a process again unless somebody asks for it."""


def is_left_alone(failure: Failure) -> bool:
    """Whether the page took its process along or had to be cut off: reading it again costs more
    than a page, and is left to those who ask for it.
    """
    return failure.type in _STOPPED_ON_PURPOSE


class ReaderPool:
    """Reads pages as `reader` does, in `workers` processes.

    Each process gets its own copy of `reader`, which must pickle. Fewer than two pages a process
    are under way (two where there is one process), those counted that are read and wait for an
    earlier one: so a page that takes long holds up the others in `read`, and not in
    `read_as_completed`. A page at which its process ends (out of memory, a crash in a library) is
    given to another, and if that ends too, it becomes a reading with a `ProcessDied`. A page that
    takes longer than `page_timeout` seconds becomes one with a `PageTimeout`, and its process is
    ended. Either way the others are read all the same. Use it as a context manager, or `close` it:
    processes live until then. They are spawned, so a script that uses it needs the usual
    `if __name__ == "__main__"`.
    """

    def __init__(
        self, reader: PageReader, *, workers: int, page_timeout: float | None = None
    ) -> None:
        checked_reader(reader)
        check_whole(workers, "workers")
        if page_timeout is not None:
            check_number(page_timeout, "page_timeout")
        if workers < 1:
            raise UsageError(f"{workers} workers read nothing; give 1 or more")
        if page_timeout is not None and page_timeout <= 0:
            raise UsageError(f"no page is read in {page_timeout} seconds; give more, or None")
        self.name, self.version = reader.name, reader.version
        self._reader = reader
        self._most_workers = workers
        self._timeout = page_timeout
        self._workers: list[_Worker] = []
        self._any_ready = False

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
        """End the processes; what is under way is dropped."""
        while self._workers:
            self._workers.pop().end()

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """Readings of `pages`, one each, in order."""
        with closing(self._read(pages, _first_if_read)) as read:
            for _, reading in read:
                yield reading

    def read_as_completed(self, pages: Iterable[Page]) -> Iterator[tuple[int, Reading]]:
        """Readings of `pages` and their places among them (from 0), each as soon as it is there."""
        return self._read(pages, _whichever_is_read)

    def _read(
        self,
        pages: Iterable[Page],
        taken_from: Callable[[deque[_Task]], tuple[int, Reading] | None],
    ) -> Generator[tuple[int, Reading]]:
        line: deque[_Task] = deque()
        waiting: deque[_Task] = deque()
        # Readings that nobody has got yet are lost if this process is killed.
        most = max(2, 2 * self._most_workers - 1)
        rest = enumerate(pages)
        has_more = True
        try:
            while True:
                while has_more and len(line) < most:
                    place, page = next(rest, (0, None))
                    if page is None:
                        has_more = False
                        break
                    task = _Task(place, page)
                    line.append(task)
                    if page.error is None:
                        waiting.append(task)
                    else:
                        task.reading = self._failed(page, page.error)
                    self._hand_out(waiting)
                if not line:
                    return
                self._hand_out(waiting)
                read = taken_from(line)
                if read is None:
                    self._collect(waiting)
                else:
                    yield read
        finally:
            self._drop_unanswered()

    def _failed(self, page: Page, failure: Failure) -> Reading:
        return Reading.failed(page, self.name, self.version, failure)

    def _hand_out(self, waiting: deque[_Task]) -> None:
        while waiting and (worker := self._free_worker()) is not None:
            task = waiting.popleft()
            try:
                worker.give(task)
            except OSError:
                waiting.appendleft(task)
                self._bury(worker, waiting)

    def _free_worker(self) -> _Worker | None:
        """The one with the fewest pages; a new one where all have some.

        Of several, the one that has been at its page for longest: it is likely to be done first.
        """
        if all(w.tasks for w in self._workers) and len(self._workers) < self._most_workers:
            self._workers.append(_spawned(self._reader))
            return self._workers[-1]
        able = [worker for worker in self._workers if len(worker.tasks) < QUEUE]
        return min(able, key=lambda w: (len(w.tasks), w.begun or math.inf), default=None)

    def _collect(self, waiting: deque[_Task]) -> None:
        """Waits until a page is read, a process ends, or one has taken too long."""
        busy = {worker.pipe: worker for worker in self._workers if worker.tasks}
        if not busy:  # it would be waited for ever
            raise UsageError(
                "the processes that read these pages were ended meanwhile; take all readings "
                "before the pool is closed, and those of one call before the next"
            )
        ready = connection.wait(list(busy), self._patience(busy.values()))
        for pipe in ready:
            worker = busy[cast("connection.Connection", pipe)]
            try:
                while worker.tasks and worker.pipe.poll():
                    self._take_in(worker)
            except (EOFError, OSError):
                self._bury(worker, waiting)
        # also where others are ready: they may be so each time, if what is read is taken slowly
        self._cut_off(waiting)

    def _patience(self, busy: Iterable[_Worker]) -> float | None:
        """Seconds until the first page has taken too long, None where none can."""
        if self._timeout is None:
            return None
        begun = [worker.begun for worker in busy if worker.begun is not None]
        # a process that is starting has no page in hand, and is looked at again
        left = min(begun, default=time.monotonic()) + self._timeout - time.monotonic()
        return min(max(0.0, left), _LOOKING)

    def _take_in(self, worker: _Worker) -> None:
        what, answer = worker.pipe.recv()
        if what == "ready":
            self._any_ready = worker.is_ready = True
            worker.begun = time.monotonic()
            return
        if what == "error":
            raise cast("KosmosLoaderError", answer)
        worker.answered(cast("Reading", answer))

    def _cut_off(self, waiting: deque[_Task]) -> None:
        """Ends the processes whose page has taken too long."""
        if self._timeout is None:
            return
        late = time.monotonic() - self._timeout
        for worker in [w for w in self._workers if w.begun is not None and w.begun <= late]:
            task = worker.tasks.popleft()
            error = PageTimeout(
                f"page {task.page.number} of {task.page.source} was not read within "
                f"{self._timeout:g} seconds and was given up; give it longer with --page-timeout"
            )
            task.reading = self._failed(task.page, Failure.of(error))
            self._remove(worker, waiting)

    def _bury(self, worker: _Worker, waiting: deque[_Task]) -> None:
        """The page a dead process was at is tried once more; the others were not begun."""
        worker.process.join(timeout=1)  # so that it tells its own end, and not that it was ended
        code = worker.process.exitcode or 0
        never_began = code >= 0 and not self._any_ready  # by itself: none that was killed
        if worker.tasks and not never_began:
            task = worker.tasks[0]
            task.tries += 1
            if task.tries >= TRIES:
                worker.tasks.popleft()
                end = f"signal {-code}" if code < 0 else f"exit code {code}"
                error = ProcessDied(
                    f"page {task.page.number} of {task.page.source} was tried {TRIES} times, and "
                    f"the process that read it ended each time ({end}); if memory was short, read "
                    "with fewer workers"
                )
                task.reading = self._failed(task.page, Failure.of(error))
        self._remove(worker, waiting)
        if never_began:
            raise UsageError(
                "a process that should read pages ended as it started; call this below "
                "if __name__ == '__main__', since the script is run anew in each process"
            )

    def _remove(self, worker: _Worker, waiting: deque[_Task]) -> None:
        waiting.extendleft(reversed(worker.tasks))
        self._workers.remove(worker)
        worker.end()

    def _drop_unanswered(self) -> None:
        """Ends the processes that are at pages nobody waits for any more."""
        for worker in [worker for worker in self._workers if worker.tasks]:
            self._workers.remove(worker)
            worker.end()


@dataclass(eq=False)
class _Task:
    place: int
    """Among the pages that are read, from 0."""

    page: Page
    reading: Reading | None = None
    tries: int = 0


def _first_if_read(line: deque[_Task]) -> tuple[int, Reading] | None:
    task = line[0]
    if task.reading is None:
        return None
    line.popleft()
    return task.place, task.reading


def _whichever_is_read(line: deque[_Task]) -> tuple[int, Reading] | None:
    for task in line:
        if task.reading is not None:
            line.remove(task)
            return task.place, task.reading
    return None


@dataclass(eq=False)
class _Worker:
    """A process that reads pages, seen from outside."""

    process: SpawnProcess
    pipe: connection.Connection
    tasks: deque[_Task] = field(default_factory=deque)
    """The pages it was given and has not answered, in order."""

    begun: float | None = None
    """When it began with the first of them; None while it starts or has none."""

    is_ready: bool = False

    def give(self, task: _Task) -> None:
        """Raises `OSError` where the process has ended."""
        send_page(self.pipe, task.page)
        self.tasks.append(task)
        if self.is_ready and len(self.tasks) == 1:
            self.begun = time.monotonic()

    def answered(self, reading: Reading) -> None:
        self.tasks.popleft().reading = reading
        self.begun = time.monotonic() if self.tasks else None

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()
        self.process.close()


def _spawned(reader: PageReader) -> _Worker:
    # not forked: neither onnxruntime nor torch survives a fork with their threads running
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, reader), daemon=True)
    start(process)
    theirs.close()  # so that reading from ours ends when the process does
    return _Worker(process, ours)


# In the process


def _work(pipe: connection.Connection, reader: PageReader) -> None:
    """Reads what comes out of `pipe` until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other side's to handle
    # Taken in beside the reading, so that the other side need not wait until a page is done to send
    # the next one: each could wait for the other to take what it sends.
    arrived: queue.SimpleQueue[Page] = queue.SimpleQueue()
    threading.Thread(target=_take, args=(pipe, arrived), daemon=True).start()
    with suppress(BrokenPipeError, ConnectionResetError):
        pipe.send(("ready", None))
        while True:
            pipe.send(_answer(reader, arrived.get()))


def _take(pipe: connection.Connection, arrived: queue.SimpleQueue[Page]) -> None:
    with suppress(EOFError, OSError):
        while True:
            arrived.put(receive_page(pipe))
    # nobody is there any more to take a reading, or to cut off a page that hangs
    os._exit(0)


def _answer(reader: PageReader, page: Page) -> tuple[str, Reading | KosmosLoaderError]:
    try:
        [reading] = one_each(reader, [page])
    except (ReadingError, SourceError) as error:
        return "reading", Reading.failed(page, reader.name, reader.version, Failure.of(error))
    except KosmosLoaderError as error:
        return "error", error
    except Exception as error:  # noqa: BLE001  whatever it is, it must not cost the other pages
        told = ReadingError(
            f"page {page.number} of {page.source} could not be read: "
            f"{type(error).__name__}: {error}"
        )
        failure = Failure.of(told)
        return "reading", Reading.failed(page, reader.name, reader.version, failure)
    return "reading", reading
