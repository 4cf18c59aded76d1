"""What a run tells: while it goes on, and at its end."""

from __future__ import annotations

from dataclasses import dataclass

from kosmos_loader.document import Failure
from kosmos_loader.store import FailedPage


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

    reused: bool = False
    """Whether its reading was kept from an earlier run, or from a page like it."""

    failure: Failure | None = None
    """Why it could not be read."""

    flags: tuple[str, ...] = ()
    """What to be wary of in what was read."""

    left_out: int = 0
    """Pages of the file that are not asked for."""


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

    unchanged: int = 0
    """Files out of `files` that were passed over: nothing of them has changed."""

    vanished: tuple[str, ...] = ()
    """Files whose chunks were deleted because they are no longer there."""

    interrupted: bool = False
    """Whether the run was stopped before its end; the next one goes on where it was."""
