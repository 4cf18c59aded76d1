"""The engine: pages in, tokens out, as many at a time as there is room for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from kosmos_loader.engine.request import Request, Step
from kosmos_loader.engine.runner import Runner
from kosmos_loader.engine.scheduler import Scheduler

log = logging.getLogger(__name__)


class Engine:
    """Reads pages to the end of all their sequences, token for token as `generate` does.

    Pages come out as they end, which is not the order in which they came in. Where the device has
    no room for the pages in hand, half as many are held from then on and nothing is lost; a page
    that fails by itself comes out with its `failure`, and the others go on.
    """

    def __init__(self, scheduler: Scheduler, runner: Runner) -> None:
        self.scheduler = scheduler
        self.runner = runner
        self.in_flight: list[tuple[Step, Any]] = []
        """The step that is launched and not read back: one at most."""

        self.make_room: Callable[[], bool] = lambda: False
        """Asked before a page fails by itself: whether it is worth another try."""

        self._ample = scheduler.slots
        self._suspects: set[Request] = set()
        """Pages that were in hand when slots were given up, and may be why."""

    def step(self) -> list[Request]:
        """One forward pass for all pages in hand; the pages that ended with it."""
        self.begin()
        return self.finish()

    def begin(self) -> None:
        """The first half of a step: what the device is to do is launched."""
        step = self.scheduler.schedule()
        self.runner.move(step.moves)
        self.runner.admit(step.admitted)
        self.in_flight.append((step, self.runner.launch(step.feeds)))

    def finish(self) -> list[Request]:
        """The second half: what came of it is read back."""
        step, launched = self.in_flight.pop()
        predictions = self.runner.read_back(launched)
        kept = self.scheduler.postprocess(step, predictions)
        self.runner.keep(step.feeds, kept)
        return self.scheduler.collect()

    @property
    def has_work(self) -> bool:
        """Whether any page waits or runs."""
        return self.scheduler.has_work

    @property
    def room(self) -> int:
        """Pages that it would begin at once, were they added; below 0 where some wait already."""
        return self.scheduler.slots - self.scheduler.in_hand

    @property
    def is_full(self) -> bool:
        """Whether another page would have to wait.

        A page whose turn it is not is better not added: its patches would take up memory, and it
        would begin no earlier, since the slot of a page that ends is free for whatever is added
        before the next step.
        """
        return self.room <= 0

    def add(self, request: Request) -> None:
        """Takes a page."""
        self.scheduler.add(request)

    def advance(self) -> list[Request]:
        """A step, where there is anything to do; the pages that ended, by success or failure."""
        return self.attempt(self.step) if self.has_work else []

    def read(self, requests: Iterable[Request]) -> Iterator[Request]:
        """`requests` as they end."""
        for request in requests:
            self.add(request)
            while self.is_full:
                yield from self.advance()
        while self.has_work:
            yield from self.advance()

    def attempt(self, part: Callable[[], list[Request] | None]) -> list[Request]:
        """`part` of a step, with a way on where it fails; the pages that ended."""
        failure = None
        try:
            ended = part() or []
        except Exception as error:  # whatever a page fails with, the others go on
            log.debug("a step failed", exc_info=error)
            failure = without_traceback(error)
            ended = self.scheduler.collect()
        self._suspects.difference_update(ended)
        return ended if failure is None else ended + self._recover(failure)

    def _recover(self, error: Exception) -> list[Request]:
        """Goes on with half the pages, or where there is one, without it; the pages that failed.

        A page that fails by itself was the cause, so the others get back the room they had.
        """
        failed: list[Request] = []
        self._suspects.update(self.scheduler.running.values())
        if not self.scheduler.shrink():
            if self.make_room():
                self.scheduler.give_back()
            else:
                failed = self.scheduler.fail(error)
                self.scheduler.slots = self._ample
                self._suspects.clear()
        log.warning(
            "the engine goes on with %d pages at a time (%s: %s)",
            self.scheduler.slots,
            type(error).__name__,
            error,
        )
        self.runner.resize(self.scheduler.slots)
        return failed

    def suspend(self) -> None:
        """Frees the cache; the pages begin anew with the next step, and nothing is lost."""
        self._land()
        self.scheduler.give_back()
        self.runner.resize(self.scheduler.slots)

    def close(self) -> None:
        """Leaves a runner that does nothing any more, for another engine.

        It has all its slots where a page may yet have been why some were given up.
        """
        self._land()
        if self._suspects:
            self.runner.resize(self._ample)

    def _land(self) -> None:
        """Waits for what is in flight and forgets it."""
        while self.in_flight:
            _, launched = self.in_flight.pop()
            with suppress(Exception):  # it would have failed the step, which nobody needs any more
                self.runner.read_back(launched)


def without_traceback(error: Exception) -> Exception:
    """`error` with none of the frames it came through, which hold the tensors of the attempt."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
