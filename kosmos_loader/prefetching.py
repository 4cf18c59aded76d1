"""Pages made in other processes, ahead of whoever reads them.

Drawing a page takes a core some 10 to 70 ms, which a GPU would wait for. `open_pages_in_processes`
gives the pages that `open_pages` gives, made by several processes while their reader is busy.

The pool is not `concurrent.futures`': there a process that dies takes all that is under way along
and does not tell what it was at. Here every worker has a pipe and a queue of its own; it answers
task by task, so that the first one unanswered is what it died of.

Pixels come over as `shared_pixels` hands them over.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import cast

from kosmos_loader.checks import check_whole
from kosmos_loader.document import Page
from kosmos_loader.errors import KosmosLoaderError, SourceError, UsageError
from kosmos_loader.pages import Document, Wanted, files_in_order
from kosmos_loader.shared_pixels import receive_page, send_page
from kosmos_loader.sources import File, Source, is_one_file
from kosmos_loader.spawning import start

QUEUE = 16
"""Tasks that a worker is given at once: enough to keep it busy while nobody asks for a page, few
enough to fit into its pipe."""


def open_pages_in_processes(
    source: Source | Iterable[Source | File],
    *,
    workers: int = 2,
    pages: str | int | Iterable[int] | None = None,
    password: str | None = None,
    max_pixels: int = 50_000_000,
    ahead: int | None = None,
) -> Iterator[Page]:
    """The pages that `open_pages` gives for the same arguments, made by `workers` processes.

    They come in the same order, with the same errors, and fail in the same places. At most `ahead`
    pages (four a worker, unless told) are made before they are asked for. All workers draw from the
    same file where it has several pages; an iterable of sources is asked for the next one early.

    A worker that dies (short memory, a crash in a library) makes the page it was at a failed page,
    and another takes its place; if it was opening the only file, that is a `SourceError`. Workers
    start with the first page and end with the iterator, be it closed or run out.

    Processes are spawned, so a script that uses it needs the usual `if __name__ == "__main__"`;
    where that is missing, `UsageError` is raised at the first page.
    """
    check_whole(workers, "workers")
    if workers < 1:
        raise UsageError(f"{workers} workers make no pages; give 1 or more")
    ahead = 4 * workers if ahead is None else ahead
    check_whole(ahead, "ahead")
    if ahead < 1:
        raise UsageError(f"ahead is {ahead}; give 1 or more")
    wanted = Wanted.of(pages, password=password, max_pixels=max_pixels)
    return _Prefetch(
        files_in_order(source),
        wanted,
        workers=workers,
        ahead=ahead,
        alone=is_one_file(source),
    ).pages()


@dataclass(eq=False)
class _Turn:
    """A file in its turn: what is known of it, and how far its pages are."""

    file: File
    key: int = field(default_factory=itertools.count().__next__)
    numbers: Sequence[int] | None = None
    """Of the pages asked for; None until a worker has opened the file."""

    count: int = 0
    """Pages in the file."""

    begun: int = 0
    """Pages that workers were given."""

    passed_on: int = 0
    """Pages that were yielded."""

    made: dict[int, Page] = field(default_factory=dict)
    """Pages to be yielded, by their place among `numbers`."""

    again: deque[int] = field(default_factory=deque)
    """Places of pages that a worker died before it came to."""

    error: Exception | None = None
    """To be raised in the file's turn."""

    @property
    def is_over(self) -> bool:
        return self.numbers is not None and self.passed_on == len(self.numbers)

    @property
    def has_more(self) -> bool:
        """Whether there are pages that no worker was given."""
        known = 1 if self.numbers is None else len(self.numbers)
        return self.error is None and self.begun < known

    @property
    def held(self) -> int:
        """Pages made or being made."""
        return self.begun - self.passed_on

    def next_place(self) -> int:
        if self.again:
            return self.again.popleft()
        self.begun += 1
        return self.begun - 1

    def next_page(self) -> Page:
        self.passed_on += 1
        return self.made.pop(self.passed_on - 1)

    def settle(self, page: Page) -> None:
        """Makes `page` all that comes of the file."""
        self.numbers, self.begun, self.made = (page.number,), 1, {0: page}


@dataclass(eq=False)
class _Worker:
    """A process that draws pages, seen from outside."""

    process: SpawnProcess
    pipe: connection.Connection
    tasks: deque[tuple[_Turn, int]] = field(default_factory=deque)
    """Files and places of the pages it was given and has not answered, in order."""

    files: set[_Turn] = field(default_factory=set)
    """The files it was told of."""

    def may_take(self, turn: _Turn) -> bool:
        """Whether a task can be sent without waiting for the worker to read it.

        The bytes of a file do not fit into the pipe. A worker with nothing to do reads on; one at
        work may itself wait until its answer is read.
        """
        if turn not in self.files and isinstance(turn.file.content, bytes):
            return not self.tasks
        return len(self.tasks) < QUEUE

    def give(self, turn: _Turn, place: int) -> None:
        """Raises `OSError` where the process has died."""
        if turn not in self.files:
            self.pipe.send(("file", turn.key, turn.file))
            self.files.add(turn)
        number = turn.numbers[place] if turn.numbers else None
        self.pipe.send(("page", turn.key, number))
        self.tasks.append((turn, place))

    def forget(self, turn: _Turn) -> None:
        if turn in self.files:
            self.files.remove(turn)
            with suppress(OSError):  # that it is dead shows when it is given the next page
                self.pipe.send(("done", turn.key, None))

    def end(self) -> int:
        """Ends the process and gives its exit code; below 0, it is a signal's number."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()
        code = self.process.exitcode or 0
        self.process.close()
        return code


class _Prefetch:
    """Files in line, and the workers that draw their pages."""

    def __init__(
        self,
        files: Iterator[File | Page],
        wanted: Wanted,
        *,
        workers: int,
        ahead: int,
        alone: bool,
    ) -> None:
        self._files = files
        self._wanted = wanted
        self._most_workers = workers
        self._ahead = ahead
        self._alone = alone
        self._line: deque[_Turn] = deque()
        self._workers: list[_Worker] = []
        self._any_started = False

    def pages(self) -> Iterator[Page]:
        try:
            while True:
                self._collect(timeout=0)
                self._hand_out()
                if not self._line:
                    return
                first = self._line[0]
                if first.error is not None:
                    raise first.error
                if first.is_over:
                    self._line.popleft()
                    for worker in self._workers:
                        worker.forget(first)
                elif first.passed_on in first.made:
                    page = first.next_page()
                    self._hand_out()
                    yield page
                else:
                    self._collect(timeout=None)
        finally:
            for worker in self._workers:
                worker.end()

    def _hand_out(self) -> None:
        """Gives the workers as many pages as they may begin."""
        while (turn := self._next_turn()) is not None:
            worker = self._worker_for(turn)
            if worker is None:
                return
            place = turn.next_place()
            try:
                worker.give(turn, place)
            except OSError:
                turn.again.appendleft(place)
                self._read(worker)
                if worker in self._workers:
                    self._bury(worker)

    def _next_turn(self) -> _Turn | None:
        """The first file in line with a page to draw, unless enough pages are held.

        A file that nobody has opened yet may have many pages, which come before those of the files
        behind it. Some of these are begun all the same, but fewer than would take all the room.
        """
        held = sum(turn.held for turn in self._line)
        room = self._ahead
        for turn in self._line:
            if turn.again:
                return turn
            if held >= room:
                return None
            if turn.has_more:
                return turn
            if turn.numbers is None:
                room = min(self._ahead, max(self._most_workers, self._ahead - self._most_workers))
        while held < room and (following := self._following()) is not None:
            self._line.append(following)
            if following.has_more:
                return following
            held += following.held
        return None

    def _following(self) -> _Turn | None:
        """The next file, None where there is none."""
        if self._line and self._line[-1].error is not None:
            return None
        try:
            found = next(self._files, None)
        except Exception as error:  # noqa: BLE001  raised when the pages before it have come
            return _Turn(File("", b""), error=error)
        if found is None:
            return None
        if isinstance(found, File):
            return _Turn(found)
        turn = _Turn(File(found.source, b""))
        turn.settle(found)
        return turn

    def _worker_for(self, turn: _Turn) -> _Worker | None:
        able = [worker for worker in self._workers if worker.may_take(turn)]
        everyone_works = all(worker.tasks for worker in able)
        if everyone_works and len(self._workers) < self._most_workers:
            self._workers.append(_spawned(self._wanted))
            return self._workers[-1]
        return min(able, key=lambda w: (len(w.tasks), turn not in w.files), default=None)

    def _collect(self, *, timeout: float | None) -> None:
        """Takes in what workers have made; waits for it, unless `timeout` is 0."""
        busy = {worker.pipe: worker for worker in self._workers if worker.tasks}
        for pipe in connection.wait(list(busy), timeout):
            self._read(busy[cast("connection.Connection", pipe)])

    def _read(self, worker: _Worker) -> None:
        """Takes in what the worker has answered, to the last word if it has died."""
        try:
            while worker.tasks and worker.pipe.poll():
                self._take_in(worker)
        except (EOFError, OSError):
            self._bury(worker)

    def _take_in(self, worker: _Worker) -> None:
        what, *answer = worker.pipe.recv()
        turn, place = worker.tasks[0]
        if what == "started":
            self._any_started = True
        elif what == "opened":
            turn.numbers, turn.count = answer
        elif what == "failed":
            worker.tasks.popleft()
            self._failed(turn, place, *answer)
        else:
            page = receive_page(worker.pipe)
            worker.tasks.popleft()
            turn.made[place] = page

    def _failed(self, turn: _Turn, place: int, error: KosmosLoaderError) -> None:
        if turn.numbers is not None:
            number = turn.numbers[place]
            turn.made[place] = turn.file.failed(error, number, turn.count)
        elif self._alone:
            turn.error = error
        else:
            turn.settle(turn.file.failed(error))

    def _bury(self, worker: _Worker) -> None:
        """What a dead worker was at has failed; what it had not come to is given to others."""
        self._workers.remove(worker)
        worker.process.join(timeout=1)  # so that it tells its own end, and not that it was ended
        code = worker.end()
        if code > 0 and not self._any_started:
            raise UsageError(
                "a process that should draw pages ended as it started; call this below "
                "if __name__ == '__main__', since the script is run anew in each process, or use "
                "open_pages"
            )
        for turn, place in list(worker.tasks)[:0:-1]:
            turn.again.appendleft(place)
        if worker.tasks:
            turn, place = worker.tasks[0]
            number = f"page {turn.numbers[place]} of " if turn.numbers else ""
            end = f"signal {-code}" if code < 0 else f"exit code {code}"
            reason = SourceError(
                f"the process that drew {number}{turn.file.source} ended before it was done "
                f"({end}); if memory was short, use fewer workers or a smaller max_pixels"
            )
            self._failed(turn, place, reason)


def _spawned(wanted: Wanted) -> _Worker:
    # not forked: neither torch nor CUDA survives a fork
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, wanted), daemon=True)
    start(process)
    theirs.close()  # so that reading from ours ends when the process does
    return _Worker(process, ours)


# In the worker


def _work(pipe: connection.Connection, wanted: Wanted) -> None:
    """Answers what comes out of `pipe` until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other side's to handle
    files: dict[int, File] = {}
    documents: dict[int, Document] = {}
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send(("started",))
        while True:
            what, key, content = pipe.recv()
            if what == "file":
                files[key] = content
            elif what == "page":
                _answer(pipe, key, content, files, documents, wanted)
            else:
                del files[key]
                if document := documents.pop(key, None):
                    document.close()


def _answer(
    pipe: connection.Connection,
    key: int,
    number: int | None,
    files: dict[int, File],
    documents: dict[int, Document],
    wanted: Wanted,
) -> None:
    if key not in documents:
        try:
            documents[key] = Document(files[key], wanted)
        except (SourceError, UsageError) as error:
            pipe.send(("failed", error))
            return
        pipe.send(("opened", documents[key].numbers, documents[key].count))
    document = documents[key]
    page = document.page(number or document.numbers[0])
    pipe.send(("page",))
    send_page(pipe, page)
