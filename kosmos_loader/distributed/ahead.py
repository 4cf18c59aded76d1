"""Files planned while others are read already."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from kosmos_loader.archive.planning import Plan
from kosmos_loader.distributed.files import FileUnderWay

PLANNING = 20.0
"""Seconds for which files are planned before the first is drawn."""


class PlannedAhead:
    """Plans come in batches, so that workers need not wait until all files are planned.

    Workers are started for each batch, so there are to be few: each takes twice as long to plan as
    the one before, but most of that passes while that one is read.
    """

    def __init__(
        self,
        plans: Iterator[Plan],
        stopping: Callable[[], bool],
        *,
        seconds: float = PLANNING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plans = plans
        self._stopping = stopping
        self._clock = clock
        self._enough = seconds
        self._spent = 0.0
        self._begun = clock()
        self._to_draw: dict[str, FileUnderWay] = {}
        self._is_at_end = False

    def plan_a_batch(self) -> Iterator[Plan]:
        """Plan until there is a batch; yields files of which nothing is to be drawn."""
        while self._goes_on and (self._spent < self._enough or not self._to_draw):
            yield from self._next()

    def plan_beside(self) -> Iterator[Plan]:
        """The same for half of the time since the last batch, the other half being its own."""
        while self._goes_on and self._spent < (self._clock() - self._begun) / 2:
            yield from self._next()

    def batch(self) -> dict[str, FileUnderWay]:
        """What is to be drawn, by source; the next batch begins."""
        batch, self._to_draw = self._to_draw, {}
        self._enough *= 2
        self._spent = 0.0
        self._begun = self._clock()
        return batch

    @property
    def _goes_on(self) -> bool:
        return not self._is_at_end and not self._stopping()

    def _next(self) -> Iterator[Plan]:
        begun = self._clock()
        plan = next(self._plans, None)
        self._spent += self._clock() - begun
        if plan is None:
            self._is_at_end = True
        elif plan.seen is not None and plan.to_draw:
            self._to_draw[plan.source] = FileUnderWay(plan)
        else:
            yield plan
