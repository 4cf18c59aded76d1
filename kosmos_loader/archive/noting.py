"""How far a run is, noted in the store as it goes: `status` tells of it, after a kill too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from kosmos_loader.archive.counting import FilesDone
from kosmos_loader.archive.kinds import Step
from kosmos_loader.store import LastRun, Store

EVERY = 1.0
"""Seconds between two notes."""


class Noting:
    """Passes the steps of a run on to `progress`, and notes in the journal how far it is."""

    def __init__(
        self,
        store: Store,
        files: int,
        progress: Callable[[Step], None] | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._progress = progress
        self._clock = clock
        self._run = LastRun(begun=clock(), seen=0.0, files=files)
        self._done = FilesDone()

    def __call__(self, step: Step) -> None:
        """A page is done."""
        run = self._run
        self._done.take(step)
        self._run = replace(
            run,
            reached=min(self._done.whole, run.files),
            read=run.read + (step.failure is None and not step.reused),
            failed=run.failed + (step.failure is not None),
            flagged=run.flagged + bool(step.flags),
        )
        if abs(self._clock() - run.seen) >= EVERY:  # a clock may be set back
            self._note()
        if self._progress is not None:
            self._progress(step)

    def end(self, *, ended: bool) -> None:
        """The run is over, at the end of its files or before."""
        # of a file in which nothing is asked for, no page is told of
        reached = self._run.files if ended else self._run.reached
        self._run = replace(self._run, ended=ended, reached=reached)
        self._note()

    def _note(self) -> None:
        self._run = replace(self._run, seen=self._clock())
        self._store.journal.note_run(self._run)
