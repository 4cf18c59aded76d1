"""One engine process a device, all on one queue of pages.

To a reader this is an engine like the others: its sessions take pages and tell what was written.
Behind it each device has a process, which builds a reader of its own and streams pages through its
engine; it is given a few more than it reads side by side, so that no slot waits for the next page.

A process that dies may have died of any page that it held. Each of these is read once more, alone
in its process, so that one which kills again is known and costs nothing but itself.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Hashable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from threading import Thread
from typing import Any, NoReturn, cast

from kosmos_loader.document import Page
from kosmos_loader.errors import KosmosLoaderError, ModelError, ReadingError, require
from kosmos_loader.readers.outputs import Outcome, Written
from kosmos_loader.shared_pixels import receive_page, send_page
from kosmos_loader.spawning import start

log = logging.getLogger(__name__)

AHEAD = 8
"""Pages that may wait in a process for a slot, if it has as many slots."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the reader in a process says of itself once the model is loaded."""

    version: str
    batch_size: int
    max_new_tokens: int
    max_patches: int


@dataclass(eq=False, slots=True)
class _Job:
    """A page to be read, and for whom."""

    session: DeviceSession
    key: Hashable
    page: Page
    is_suspect: bool = False
    """Whether a process has died that held it."""


@dataclass(eq=False, slots=True)
class _Worker:
    """A process, seen from outside."""

    process: SpawnProcess
    pipe: Connection
    room: int = 0
    """Pages that it may hold; 0 until it is ready."""

    held: dict[int, _Job] = field(default_factory=dict)
    """By number, those that it was given and has not answered."""

    def may_take(self, job: _Job) -> bool:
        """Whether it has room for `job`; a suspect is read alone."""
        alone = job.is_suspect or any(held.is_suspect for held in self.held.values())
        return len(self.held) < min(self.room, 1 if alone else self.room)

    def end(self, *, patience: float) -> str:
        """How the process ended; after `patience` seconds it is made to."""
        self.process.join(timeout=patience)
        self.pipe.close()
        self.process.kill()
        self.process.join()
        code = self.process.exitcode or 0
        self.process.close()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


class DeviceEngines:
    """An engine on each of `devices`, torch's names for them, of which one may be there twice.

    `options` are those of a `KosmosPageReader`. All processes are there when this is, or an error
    is raised. One that ends later is replaced; where that fails, the others go on without it.
    """

    def __init__(self, devices: Sequence[str], **options: Any) -> None:
        self._devices = dict(enumerate(devices))
        self._options = options
        torch = require("torch", extra="kosmos")
        self._threads = max(1, torch.get_num_threads() // len(devices))
        self._workers: dict[int, _Worker] = {}
        self._queue: deque[_Job] = deque()
        self._numbers = itertools.count()
        self._lost: list[Exception] = []
        self.facts: Facts | None = None
        with ExitStack() as failing:
            failing.callback(self.close)
            self._start()
            while not all(worker.room for worker in self._workers.values()):
                self._collect()
                if self._lost:
                    raise self._lost[0]
            failing.pop_all()

    def session(self) -> DeviceSession:
        """A new one, of no pages. Sessions side by side share the processes."""
        return DeviceSession(self)

    def close(self) -> None:
        """Ends the processes; pages that are read afterwards start them anew."""
        for place in list(self._workers):
            self._bury(place, is_blamed=False)

    @property
    def is_full(self) -> bool:
        """Whether another page would wait for a process."""
        workers = self._workers.values()
        return bool(self._queue) or (
            bool(workers) and all(len(worker.held) >= worker.room for worker in workers)
        )

    def add(self, job: _Job) -> None:
        """Gives a page to a process as soon as one may take it."""
        self._queue.append(job)
        self.go_on(timeout=0)

    def go_on(self, *, timeout: float | None = None) -> None:
        """Takes in what the processes say and gives them what they may take."""
        self._hand_out()
        self._collect(timeout=timeout)
        self._hand_out()

    def drop(self, session: DeviceSession) -> None:
        """Forgets the pages of `session`, and ends the processes that read them."""
        self._queue = deque(job for job in self._queue if job.session is not session)
        for place, worker in list(self._workers.items()):
            kept = {n: job for n, job in worker.held.items() if job.session is not session}
            if len(kept) < len(worker.held):
                worker.held = kept
                self._bury(place, is_blamed=False)

    def _start(self) -> None:
        """Starts the processes that are missing."""
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        for place, device in self._devices.items():
            if place not in self._workers:
                ours, theirs = context.Pipe()
                arguments = theirs, device, self._threads, self._options
                process = context.Process(target=_work, args=arguments, daemon=True)
                start(process)
                theirs.close()  # so that reading from ours ends when the process does
                self._workers[place] = _Worker(process, ours)

    def _hand_out(self) -> None:
        while self._queue:
            self._start()
            if not self._workers:
                raise self._lost[-1]
            job = self._queue[0]
            able = [place for place, worker in self._workers.items() if worker.may_take(job)]
            if not able:
                return
            place = min(able, key=lambda place: len(self._workers[place].held))
            self._give(place, self._queue.popleft())

    def _give(self, place: int, job: _Job) -> None:
        worker, number = self._workers[place], next(self._numbers)
        worker.held[number] = job
        try:
            send_page(worker.pipe, job.page)
            worker.pipe.send(number)
        except OSError:
            self._read(place)
            if self._workers.get(place) is worker:
                self._bury(place)
        except Exception as error:  # noqa: BLE001 - what a page carries may not pickle
            del worker.held[number]
            job.session.done.append((job.key, error))

    def _collect(self, *, timeout: float | None = None) -> None:
        """Takes in what the processes say; waits for it as long as one has anything to say."""
        places = {w.pipe: place for place, w in self._workers.items() if w.held or not w.room}
        for pipe in wait(list(places), timeout) if places else ():
            self._read(places[cast("Connection", pipe)])

    def _read(self, place: int) -> None:
        """Takes in what a process has said, to the last word if it has ended."""
        worker = self._workers[place]
        try:
            while worker.pipe.poll():
                number, answer = worker.pipe.recv()
                if number is not None:
                    job = worker.held.pop(number)
                    job.session.done.append((job.key, answer))
                elif isinstance(answer, Facts):
                    self.facts = answer
                    worker.room = answer.batch_size + min(answer.batch_size, AHEAD)
                else:
                    self._bury(place, error=answer)
                    return
        except (EOFError, OSError):
            self._bury(place)

    def _bury(self, place: int, *, is_blamed: bool = True, error: Exception | None = None) -> None:
        """Ends a process, if it has not; its pages are given out again, but for what killed it."""
        worker = self._workers.pop(place)
        end = worker.end(patience=1 if is_blamed else 0)
        if is_blamed and not worker.room:
            self._lose(place, error or _stillborn(self._devices[place], end))
        for job in reversed(worker.held.values()):
            if is_blamed and job.is_suspect:
                reason = ReadingError(f"two processes ended as they read it, the last by {end}")
                job.session.done.append((job.key, reason))
            else:
                job.is_suspect |= is_blamed
                self._queue.appendleft(job)

    def _lose(self, place: int, error: Exception) -> None:
        log.warning("no process for %s: %s", self._devices.pop(place), error)
        self._lost.append(error)


def _stillborn(device: str, end: str) -> ModelError:
    return ModelError(
        f"the process for {device} ended as it started ({end}); free memory, and in a script make "
        "the reader below if __name__ == '__main__', since it is run anew in each process"
    )


class DeviceSession:
    """Pages on their way through the processes."""

    def __init__(self, engines: DeviceEngines) -> None:
        self.engines = engines
        self.done: list[Outcome] = []
        """What came of pages and was not told yet."""

    @property
    def is_full(self) -> bool:
        """Whether another page would wait for a process, or something is to be told of one."""
        return bool(self.done) or self.engines.is_full

    def add(self, key: Hashable, page: Page) -> None:
        """Takes a page with pixels, which is kept until it is read: its process may die."""
        self.engines.add(_Job(self, key, page))

    def advance(self) -> list[Outcome]:
        """What came of pages, in any order; waits for it, at least for other news."""
        if not self.done:
            self.engines.go_on()
        done, self.done = self.done, []
        return done

    def close(self) -> None:
        """Ends the processes that still read its pages."""
        self.engines.drop(self)


# In the process


def _work(pipe: Connection, device: str, threads: int, options: dict[str, Any]) -> None:
    """Reads pages that come out of `pipe` until it is closed."""
    from kosmos_loader.readers.kosmos import KosmosPageReader

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other side's to handle
    pages: SimpleQueue[tuple[int, Page]] = SimpleQueue()
    Thread(target=_receive, args=(pipe, pages), daemon=True).start()
    with suppress(OSError):  # the other side has ended
        try:
            own = KosmosPageReader(device=device, **options)
        except Exception as error:  # noqa: BLE001 - it is raised on the other side
            pipe.send((None, _portable(error)))
            return
        require("torch", extra="kosmos").set_num_threads(threads)
        facts = Facts(own.version, own.batch_size, own.max_new_tokens, own.max_patches)
        pipe.send((None, facts))
        session = own.engine.session()
        under_way = 0
        while True:
            while not session.is_full and not (under_way and pages.empty()):
                session.add(*pages.get())
                under_way += 1
            for number, outcome in session.advance():
                pipe.send((number, _portable(outcome)))
                under_way -= 1


def _receive(pipe: Connection, pages: SimpleQueue[tuple[int, Page]]) -> NoReturn:
    """Takes pages in as they come, so that the other side never waits for the engine.

    Where that has ended the process ends at once, whatever it is at: nobody waits for it.
    """
    try:
        while True:
            page = receive_page(pipe)
            pages.put((pipe.recv(), page))
    finally:
        os._exit(0)


def _portable(outcome: Written | Exception) -> Written | Exception:
    """`outcome` as it can be sent: an error of a library is told in words."""
    if not isinstance(outcome, Exception) or isinstance(outcome, KosmosLoaderError):
        return outcome
    if type(outcome).__module__ == "builtins" and all(isinstance(a, str) for a in outcome.args):
        return outcome
    return ReadingError(f"{type(outcome).__name__}: {outcome}")
