"""The engine: pages in, tokens out, as many at a time as there is room for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from kosmos_loader.engine.request import Request
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
        self.steps = 0
        self._ample = scheduler.slots

    def step(self) -> list[Request]:
        """One forward pass for all pages in hand; the pages that ended with it."""
        step = self.scheduler.schedule()
        self.runner.move(step.moves)
        self.runner.admit(step.admitted)
        predictions = self.runner.run(step.feeds)
        kept = self.scheduler.postprocess(step, predictions)
        self.runner.keep(step.feeds, kept)
        return self.scheduler.collect()

    @property
    def is_full(self) -> bool:
        """Whether as many pages wait as there are slots."""
        return len(self.scheduler.waiting) >= self.scheduler.slots

    def add(self, request: Request) -> None:
        """Takes a page."""
        self.scheduler.add(request)

    def advance(self) -> list[Request]:
        """A step, where there is anything to do; the pages that ended, by success or failure."""
        return self._guarded_step() if self.scheduler.has_work else []

    def read(self, requests: Iterable[Request]) -> Iterator[Request]:
        """`requests` as they end."""
        for request in requests:
            self.add(request)
            while self.is_full:
                yield from self.advance()
        while self.scheduler.has_work:
            yield from self.advance()

    def _guarded_step(self) -> list[Request]:
        self.steps += 1
        try:
            return self.step()
        except Exception as error:  # whatever a page fails with, the others go on
            log.debug("a step failed", exc_info=error)
            failure = without_traceback(error)
        return self.scheduler.collect() + self._recover(failure)

    def _recover(self, error: Exception) -> list[Request]:
        """Goes on with half the pages, or where there is one, without it; the pages that failed.

        A page that fails by itself was the cause, so the others get back the room they had.
        """
        failed: list[Request] = []
        if not self.scheduler.shrink():
            failed = self.scheduler.fail(error)
            self.scheduler.slots = self._ample
        log.warning(
            "the engine goes on with %d pages at a time (%s: %s)",
            self.scheduler.slots,
            type(error).__name__,
            error,
        )
        self.runner.resize(self.scheduler.slots)
        return failed


def without_traceback(error: Exception) -> Exception:
    """`error` with none of the frames it came through, which hold the tensors of the attempt."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
