"""Files into a store: the whole line, one file after another, one page at a time.

What was done stays done: readings are kept by the picture of the page as soon as they exist, and a
journal tells which files need not be looked at; so a second run reads nothing twice. A bad file
costs that file only; an interrupted run leaves a store that is sound and that the next run
completes.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from kosmos_loader.archive.elsewhere import Elsewhere
from kosmos_loader.archive.kinds import Report, Step
from kosmos_loader.archive.noting import Noting
from kosmos_loader.archive.planning import Planner, is_folder, listed_again, path_of, vanished
from kosmos_loader.archive.progress import Progress, progress_bar
from kosmos_loader.archive.run import Run, Source
from kosmos_loader.checks import check_callable, check_whole
from kosmos_loader.chunking import chunk
from kosmos_loader.errors import SourceNotFound, UsageError
from kosmos_loader.loading import each
from kosmos_loader.pages import Wanted, find_files
from kosmos_loader.readers.base import PageReader, checked_reader
from kosmos_loader.sources import Named, absolute
from kosmos_loader.store import Store
from kosmos_loader.store.filters import encodable

__all__ = ["Progress", "Report", "Step", "ingest", "progress_bar", "retry_failed"]

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
    elsewhere: Elsewhere | None = None,
    progress: Progress | None = None,
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
    here. With `elsewhere` (a `kosmos_loader.distributed.RayCluster`) pages are drawn and read on
    other machines, in any order, and this process alone writes to the store. `progress` is called
    after every page; once `stopping` says so, no further page is begun, and what is in hand is
    finished and kept.

    Raises `SourceNotFound` where there is no file at all, and none that has vanished; `UsageError`
    for settings that cannot be meant, and `StoreError`.
    """
    _check(store, reader, on_error, chunk_size, progress, stopping)
    check_whole(drawing, "drawing")
    if drawing < 0:
        raise UsageError(f"{drawing} processes draw nothing; give 0 or more")
    paths = [_path(source) for source in each(sources)]
    if not paths:
        raise SourceNotFound("no file was given; name files, folders or patterns")
    alone = isinstance(sources, str | os.PathLike)
    files = Named(map(str, _found(paths, store, alone=alone)))
    ranges = Wanted.of(pages, password=password, max_pixels=1).ranges
    planner = Planner(store, reader, chunk_size=chunk_size, ranges=ranges, force=force)
    noting = Noting(store, len(files), progress)
    run = Run(
        *(store, reader, planner, Source(pages, password, drawing)),
        chunk_size=chunk_size,
        progress=noting,
        stopping=stopping or _never,
        stops_at_error=on_error == "stop",
    )
    run.take_all(files, planner.plan, elsewhere)
    if not run.report.interrupted:
        folders = [path for path in map(absolute, paths) if is_folder(path)]
        found = set(map(encodable, files.names))
        failed = {entry.source for entry in store.ledger()}
        for source in vanished(folders, {*store.journal.sources(), *failed}, found):
            run.forget(source)
        for source in listed_again(failed - found):
            store.clear_failures(source)
    noting.end(ended=not run.report.interrupted)
    return run.report


def retry_failed(
    store: Store,
    reader: PageReader,
    *,
    sources: Iterable[str | Path] = (),
    on_error: Literal["skip", "stop"] = "skip",
    chunk_size: int = 1000,
    password: str | None = None,
    elsewhere: Elsewhere | None = None,
    progress: Progress | None = None,
    stopping: Callable[[], bool] | None = None,
) -> Report:
    """Try what stands in the error ledger of `store` again, and nothing else.

    `sources` are the files, folders and patterns to which that is confined, if there are any;
    `SourceNotFound` for one that names nothing. `reader` may be
    another one: what was read of a file stays as it is. A file that has changed since, or could not
    be opened at all, is taken up as a whole. The counts are those of the files that are taken up;
    all else is as in `ingest`. Give the `chunk_size` that the files were indexed with.
    """
    _check(store, reader, on_error, chunk_size, progress, stopping)
    failed = dict.fromkeys(entry.source for entry in store.ledger())
    paths = [path_of(source) for source in failed]
    if given := [_path(source) for source in each(sources)]:
        paths = list(dict.fromkeys(path for one in given for path in _within(paths, one)))
    folders = [path for path in paths if is_folder(path)]  # they could not be listed
    files = list(dict.fromkeys([*(p for p in paths if p not in folders), *find_files(folders)]))
    ranges = Wanted.of(None, password=password, max_pixels=1).ranges
    planner = Planner(store, reader, chunk_size=chunk_size, ranges=ranges)
    noting = Noting(store, len(files), progress)
    run = Run(
        *(store, reader, planner, Source(password=password)),
        chunk_size=chunk_size,
        progress=noting,
        stopping=stopping or _never,
        stops_at_error=on_error == "stop",
    )
    run.take_all(files, planner.plan_again, elsewhere)
    for source in listed_again(set(failed) - {encodable(str(path)) for path in files}):
        store.clear_failures(source)
    noting.end(ended=not run.report.interrupted)
    return run.report


def _found(paths: Iterable[str | Path], store: Store, *, alone: bool) -> list[Path]:
    """The files to read, with what is missing in its place; `SourceNotFound` for that `alone`.

    Nothing is missing of a folder whose last file has vanished.
    """
    files: list[Path] = []
    for path in paths:
        try:
            files += find_files(path)
        except SourceNotFound:
            if _lost_its_last(absolute(path), store):
                continue
            if alone:
                raise
            files.append(absolute(path))
    return files


def _lost_its_last(folder: Path, store: Store) -> bool:
    """Whether `store` knows of files in `folder` which holds none any more."""
    known = {*store.journal.sources(), *(entry.source for entry in store.ledger())}
    return is_folder(folder) and bool(vanished([folder], known, set()))


def _check(
    store: object,
    reader: object,
    on_error: str,
    chunk_size: int,
    progress: object,
    stopping: object,
) -> None:
    """Refuse what cannot be meant before any work is done."""
    if not isinstance(store, Store):
        raise UsageError(f"{reprlib.repr(store)} is no store; give what Store.open(folder) returns")
    checked_reader(reader)
    if on_error not in ON_ERROR:
        raise UsageError(f"on_error cannot be {on_error!r}; choose one of {', '.join(ON_ERROR)}")
    chunk((), size=chunk_size)
    check_callable(progress, "progress")
    check_callable(stopping, "stopping")


def _within(paths: Iterable[Path], source: str | Path) -> list[Path]:
    """Those of `paths` that `source` names: a file, a folder above them or a pattern."""
    one = absolute(source)
    named = [path for path in paths if path == one or one in path.parents]
    if named or os.path.lexists(one):
        return named
    matching = set(find_files(source))
    return [path for path in paths if path in matching]


def _never() -> bool:
    return False


def _path(source: object) -> str | Path:
    if isinstance(source, str):
        return source
    if isinstance(source, os.PathLike):
        return Path(source)
    raise UsageError(
        f"{reprlib.repr(source)} is no path; an archive has files, so give their paths"
    )
