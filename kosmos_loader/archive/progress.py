"""How far a run is, shown where it is watched: in a notebook, on a terminal, or in a log."""

from __future__ import annotations

import html
import importlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kosmos_loader.archive.counting import FilesDone
from kosmos_loader.archive.kinds import Step

log = logging.getLogger("kosmos_loader")

Progress = Callable[[Step], None]
"""What is called after every page."""

LOG_EVERY = 30.0
"""Seconds between lines of progress where there is nothing to show a bar in."""

_DRAW_EVERY = 0.2
"""Seconds between two pictures of a bar in a notebook."""


def progress_bar() -> AbstractContextManager[Progress]:
    """A bar with files, pages a second, time left, failures and flags, for `ingest(progress=...)`.

    ```
    with progress_bar() as bar:
        ingest("scans/", store, reader, progress=bar)
    ```
    In a notebook it stands below the cell and stays there when the run is over; on a terminal it
    stands on stderr until then. Where there is neither, a line with the same is logged every 30
    seconds, on the level of information.
    """
    display = notebook_display()
    if display is not None:
        return notebook_bar(display)
    return _terminal_bar() if has_terminal() else nullcontext(log_progress())


def has_terminal() -> bool:
    """Whether stderr is a terminal that can move its cursor."""
    is_terminal = sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()
    return is_terminal and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


class Pace:
    """How far a run is and how fast it goes, from its steps.

    Pages that were read before cost next to nothing, so they count neither for the pace nor for the
    time that is left.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._read = self._failed = self._flagged = 0
        self._worked = 0.0
        self._files = FilesDone()
        self.done = 0.0
        """Files that are done, with the shares of those at hand."""

    def take(self, step: Step) -> str:
        """Where the run is after `step`."""
        self._files.take(step)
        done = min(self._files.with_shares, float(step.files))
        if not step.reused:
            self._read += 1
            self._worked += max(0.0, done - self.done)
        self.done = done
        self._failed += step.failure is not None
        self._flagged += bool(step.flags)
        return ", ".join(self._parts(step))

    def _parts(self, step: Step) -> Iterator[str]:
        yield f"file {step.file}/{step.files}"
        yield f"page {step.page}/{step.count}"
        passed = self._clock() - self._start
        if self._read and passed > 0:
            yield f"{self._read / passed:.1f} pages/s"
        if self._worked > 0:
            yield f"{_duration(passed * (step.files - self.done) / self._worked)} left"
        if self._failed:
            yield f"{self._failed} failed"
        if self._flagged:
            yield f"{self._flagged} flagged"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def log_progress(every: float = LOG_EVERY, clock: Callable[[], float] = time.monotonic) -> Progress:
    """What logs a line at most every so many seconds, to be called after every page."""
    pace, last = Pace(clock), clock()

    def step(done: Step) -> None:
        nonlocal last
        told = pace.take(done)
        if clock() - last >= every:
            last = clock()
            log.info("%s", told)

    return step


@contextmanager
def _terminal_bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    pace = Pace()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def step(done: Step) -> None:
            told = f"{pace.take(done)}, {_name(done)}"
            bar.update(task, total=done.files, completed=pace.done, description=told)

        yield step


def _name(step: Step) -> str:
    """Of the file, as any terminal and page can show it."""
    name = Path(step.source).name
    return "".join(letter if letter.isprintable() else "?" for letter in name)


# In a notebook


def notebook_display() -> Callable[..., Any] | None:
    """What shows a value below the cell that runs, None where no notebook runs this."""
    python = sys.modules.get("IPython")
    if python is None or getattr(python.get_ipython(), "kernel", None) is None:
        return None  # a terminal's IPython has no kernel
    display: Callable[..., Any] = importlib.import_module("IPython.display").display
    return display


@contextmanager
def notebook_bar(
    display: Callable[..., Any], clock: Callable[[], float] = time.monotonic
) -> Iterator[Progress]:
    """A bar that `display`, IPython's, shows and shows anew; it needs no widgets."""
    pace, drawn = Pace(clock), clock()
    bar = _Bar("looking for pages", 0.0, 0)
    shown = display(bar, display_id=True)

    def step(done: Step) -> None:
        nonlocal bar, drawn
        bar = _Bar(f"{pace.take(done)}, {_name(done)}", pace.done, done.files)
        if clock() - drawn >= _DRAW_EVERY:
            drawn = clock()
            shown.update(bar)

    try:
        yield step
    finally:
        shown.update(bar)


@dataclass(frozen=True)
class _Bar:
    """A bar as a notebook shows it; as text where it cannot show HTML."""

    told: str
    done: float
    files: int

    def __repr__(self) -> str:
        return self.told

    def _repr_html_(self) -> str:
        value = f' value="{self.done:.3f}" max="{self.files}"' if self.files else ""
        return f'<progress style="width: 20em"{value}></progress> {html.escape(self.told)}'
