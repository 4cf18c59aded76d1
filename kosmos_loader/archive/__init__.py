"""Files into a store: the whole line, one file after another, one page at a time.

What was done stays done: readings are kept by the picture of the page as soon as they exist, and a
journal tells which files need not be looked at; so a second run reads nothing twice. A bad file
costs that file only; an interrupted run leaves a store that is sound and that the next run
completes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from kosmos_loader.archive.kinds import Report, Step
from kosmos_loader.archive.planning import Planner, vanished
from kosmos_loader.archive.run import Run, Source
from kosmos_loader.errors import SourceNotFound, UsageError
from kosmos_loader.loading import each
from kosmos_loader.pages import Wanted, find_files
from kosmos_loader.readers.base import PageReader
from kosmos_loader.sources import absolute
from kosmos_loader.store import Store
from kosmos_loader.store.filters import encodable

__all__ = ["Report", "Step", "ingest", "retry_failed"]

ON_ERROR = ("skip", "stop")


def ingest(
    sources: str | Path | Iterable[str | Path],
    store: Store,
    reader: PageReader,
    *,
    on_error: Literal["skip", "stop"] = "skip",
    chunk_size: int = 1000,
    pages: str | None = None,
    password: str | None = None,
    force: bool = False,
    drawing: int = 0,
    progress: Callable[[Step], None] | None = None,
    stopping: Callable[[], bool] | None = None,
) -> Report:
    """Read all files of `sources` into `store` and say what came of it.

    A file that has not changed (by size and time, and where they differ by its digest) since all
    that is asked for was read by this reader and cut at this `chunk_size` is passed over; for
    another size, its chunks are made again from readings that are kept. `force` draws its pages
    again and looks whether there is a reading of what they show. Pages that took their process
    along or were cut off are left to `retry_failed`, and to `force`; other failures are tried again
    every time.

    Chunks that a file no longer gives are deleted once its new ones are in; those of pages that
    were not read this time (failed, or not among `pages`) stay. Of a file that has vanished from a
    folder among `sources`, they are deleted too: where the folder that held it is still there, can
    be listed and holds something else (it might be a disk that is not mounted).

    Failures are entered into the store's ledger; with "stop", the first is raised when what was
    read before it is in the store. `drawing` processes draw pages ahead of the reader; 0 draws them
    here. `progress` is called after every page; once `stopping` says so, no further page is begun,
    and what is in hand is finished and kept.

    Raises `SourceNotFound` where there is no file at all, `UsageError` for settings that cannot be
    meant, and `StoreError`.
    """
    _check(on_error, drawing)
    given = list(each(sources))
    files = list(dict.fromkeys(find_files(sources)))
    if not files:
        raise SourceNotFound("no file was given; name files, folders or patterns")
    ranges = Wanted.of(pages, password=password, max_pixels=1).ranges
    planner = Planner(store, reader, chunk_size=chunk_size, ranges=ranges, force=force)
    run = Run(
        *(store, reader, planner, Source(pages, password, drawing)),
        chunk_size=chunk_size,
        progress=progress,
        stopping=stopping or _never,
        stops_at_error=on_error == "stop",
    )
    run.take_all(files, planner.plan)
    if not run.report.interrupted:
        folders = [path for path in map(_absolute, given) if path.is_dir()]
        found = {encodable(str(path)) for path in files}
        for source in vanished(folders, store.journal.sources(), found):
            run.forget(source)
    return run.report


def retry_failed(
    store: Store,
    reader: PageReader,
    *,
    sources: Iterable[str | Path] = (),
    on_error: Literal["skip", "stop"] = "skip",
    chunk_size: int = 1000,
    password: str | None = None,
    progress: Callable[[Step], None] | None = None,
    stopping: Callable[[], bool] | None = None,
) -> Report:
    """Try what stands in the error ledger of `store` again, and nothing else.

    `sources` are the files and folders to which that is confined, if there are any. `reader` may be
    another one: what was read of a file stays as it is. A file that has changed since, or could not
    be opened at all, is taken up as a whole. The counts are those of the files that are taken up;
    all else is as in `ingest`. Give the `chunk_size` that the files were indexed with.
    """
    _check(on_error, 0)
    within = [_absolute(source) for source in sources]
    failed = dict.fromkeys(Path(entry.source) for entry in store.ledger())
    files = [
        path
        for path in failed
        if not within or any(path == one or one in path.parents for one in within)
    ]
    ranges = Wanted.of(None, password=password, max_pixels=1).ranges
    planner = Planner(store, reader, chunk_size=chunk_size, ranges=ranges)
    run = Run(
        *(store, reader, planner, Source(password=password)),
        chunk_size=chunk_size,
        progress=progress,
        stopping=stopping or _never,
        stops_at_error=on_error == "stop",
    )
    run.take_all(files, planner.plan_again)
    return run.report


def _check(on_error: str, drawing: int) -> None:
    if on_error not in ON_ERROR:
        raise UsageError(f"on_error cannot be {on_error!r}; choose one of {', '.join(ON_ERROR)}")
    if drawing < 0:
        raise UsageError(f"{drawing} processes draw nothing; give 0 or more")


def _never() -> bool:
    return False


def _absolute(source: object) -> Path:
    return absolute(str(source))
