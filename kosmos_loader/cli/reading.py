"""Which reader the options mean, and how what it read is printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from kosmos_loader.cli import terminal
from kosmos_loader.cli.options import Format, Ocr
from kosmos_loader.errors import UsageError

if TYPE_CHECKING:
    from kosmos_loader.document import Reading
    from kosmos_loader.readers.base import PageReader


def one_or_several(paths: list[str]) -> str | list[str]:
    """A single path is looked up at once, and its error is the command's."""
    return paths[0] if len(paths) == 1 else paths


@contextmanager
def chosen_reader(
    ocr: Ocr,
    name: str,
    *,
    model: str | None,
    device: str | None,
    workers: int = 1,
    page_timeout: float = 0.0,
) -> Iterator[PageReader]:
    """The reader that is asked for; none is loaded where only what exists is to be taken."""
    from kosmos_loader.readers.base import check_name, choose_reader
    from kosmos_loader.readers.existing import ExistingOcr

    check_name(name)
    if ocr is Ocr.existing:
        yield ExistingOcr()
        return
    loaded = choose_reader(name, model=model, device=device)
    with _in_processes(loaded, workers, page_timeout) as chosen:
        yield ExistingOcr(chosen) if ocr is Ocr.auto else chosen


PAGE_TIMEOUT = 600.0
"""Seconds that a page may take unless told."""


def _in_processes(
    reader: PageReader, workers: int, page_timeout: float
) -> AbstractContextManager[PageReader]:
    """RapidOCR in processes of its own where there are several, or where one may be cut off."""
    if workers == 1 and not page_timeout:
        return nullcontext(reader)
    from kosmos_loader.readers.pool import ReaderPool
    from kosmos_loader.readers.rapidocr import RapidOCRPageReader

    if not isinstance(reader, RapidOCRPageReader):
        if workers > 1 or page_timeout != PAGE_TIMEOUT:
            raise UsageError(
                f"--workers and --page-timeout are for RapidOCR; {reader.name} reads in one process"
            )
        return nullcontext(reader)
    if workers > 1:
        reader = RapidOCRPageReader(threads=max(1, (os.cpu_count() or 1) // workers))
    return ReaderPool(reader, workers=workers, page_timeout=page_timeout or None)


def drawing_processes(workers: int) -> int:
    """Processes that draw pages for so many that read: drawing one takes a small part of reading
    it.
    """
    return 0 if workers == 1 else max(1, workers // 8)


def write_readings(
    readings: Iterable[Reading],
    files: Sequence[Path],
    form: Format,
    *,
    chunk_size: int = 1000,
    out: Path | None = None,
) -> None:
    """Print `readings` of `files` as they come, or write them to `out`.

    What failed is raised at the end, when everything else is written: the error itself where it is
    the only file, else `SomeFailed`.
    """
    from kosmos_loader.cli import shapes

    # a bar and results cannot share the terminal
    shown = out is not None or not sys.stdout.isatty()
    with terminal.output(out) as write, terminal.progress(shown=shown) as step:
        watched = terminal.Watched(readings, files, step)
        for piece in shapes.printed(watched, form, chunk_size=chunk_size, titled=len(files) > 1):
            write(piece)
        # within the block, so that an `out` that stood there outlives a run that read nothing
        terminal.conclude(watched.failed, files=len(files), succeeded=watched.read > 0)
