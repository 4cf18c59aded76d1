"""`kosmos-loader index`: files into a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kosmos_loader.cli import terminal
from kosmos_loader.cli.options import (
    AsJson,
    ChunkSize,
    DeviceName,
    Embedder,
    ExistingText,
    ModelName,
    Ocr,
    OnError,
    PageRange,
    PageTimeout,
    Password,
    RayAddress,
    RayGpus,
    RayWorkers,
    ReaderName,
    SomePaths,
    StoreFolder,
)
from kosmos_loader.cli.reading import (
    PAGE_TIMEOUT,
    chosen_reader,
    drawing_processes,
    one_or_several,
)
from kosmos_loader.errors import SourceNotFound, UsageError

if TYPE_CHECKING:
    from kosmos_loader.archive import Report
    from kosmos_loader.embedding import Embeddings


def index(
    paths: SomePaths = None,
    *,
    store: StoreFolder,
    reader: ReaderName = "auto",
    model: ModelName = None,
    device: DeviceName = None,
    ocr: ExistingText = Ocr.again,
    embedder: Annotated[
        Embedder, typer.Option("--embedder", help="What turns text into vectors.")
    ] = Embedder.hash,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes that read (RapidOCR only).")
    ] = 1,
    page_timeout: PageTimeout = None,
    ray: RayAddress = None,
    ray_workers: RayWorkers = None,
    ray_gpus: RayGpus = None,
    retry: Annotated[
        bool,
        typer.Option("--retry-failed", help="Try what failed again, and nothing else."),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Look at files again that have not changed."),
    ] = False,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="What to do about a page that cannot be read.")
    ] = OnError.skip,
    pages: PageRange = None,
    password: Password = None,
    chunk_size: ChunkSize = 1000,
    as_json: AsJson = False,
) -> None:
    """Read files into a store, to be searched and asked.

    To stop, press Ctrl-C once: the pages in hand are finished and kept. A second Ctrl-C stops at
    once and loses only those. `status` shows how far a run came.

    To go on, give the same command again, after a crash or a power cut too: files that have not
    changed are passed over, and pages that were read before are not read again. Chunks of files
    that have vanished from a folder are deleted; files in a folder that cannot be listed have not
    vanished.

    To retry, give the same command again as well: files and pages that fail are named at the end
    and by `status`, and the next run tries them again, but for pages that hung or ended their
    process. --retry-failed tries all of them, and only them.
    """
    from kosmos_loader.archive import ingest, retry_failed
    from kosmos_loader.cli import clusters
    from kosmos_loader.store import Store

    _check_what_is_asked(paths, store, retry=retry, is_narrowed=force or pages is not None)
    cluster = clusters.cluster_at(
        *(ray, reader),
        workers=ray_workers,
        gpus=ray_gpus,
        model=model,
        page_timeout=page_timeout,
        unmeant=workers > 1 or device is not None,
    )
    if cluster is None:
        timeout = PAGE_TIMEOUT if page_timeout is None else page_timeout
        choosing = chosen_reader(
            *(ocr, reader), model=model, device=device, workers=workers, page_timeout=timeout
        )
    else:
        choosing = clusters.reader_on(cluster, ocr, reader, model=model, gpus=ray_gpus)
    with (
        choosing as chosen,
        Store.open(store, embedder=_embedder(embedder), create=not retry) as opened,
        terminal.progress() as step,
        terminal.interrupts() as stopping,
    ):
        way: dict[str, Any] = {
            "on_error": on_error.value,
            "chunk_size": chunk_size,
            "password": password,
            "elsewhere": cluster,
            "progress": step,
            "stopping": stopping,
        }
        if retry:
            report = retry_failed(opened, chosen, sources=paths or (), **way)
        else:
            way |= {"pages": pages, "force": force, "drawing": drawing_processes(workers)}
            report = ingest(one_or_several(paths or []), opened, chosen, **way)
    _conclude(report, store, as_json=as_json)


def _check_what_is_asked(
    paths: list[str] | None, store: Path, *, retry: bool, is_narrowed: bool
) -> None:
    """Tell what is missing before a reader loads."""
    if not paths and not retry:
        raise UsageError("nothing to index; name files, folders or patterns, or --retry-failed")
    if retry and is_narrowed:
        raise UsageError("--retry-failed tries what failed; --force and --pages do not go with it")
    if not retry:
        _look_for(paths or [], store)


def _conclude(report: Report, store: Path, *, as_json: bool) -> None:
    """Print what was done; what failed or was left ends the process with its exit code."""
    from kosmos_loader.cli import shapes
    from kosmos_loader.loading import error_of

    told = shapes.report_json(report) if as_json else shapes.report_text(report, str(store))
    typer.echo(shapes.dumps(told) if as_json else told)
    if report.interrupted:
        typer.echo("stopped; what was done is kept, the same command goes on from here", err=True)
        raise typer.Exit(terminal.INTERRUPTED)
    errors = [error_of(*failed) for failed in report.failed]
    listed = f"kosmos-loader status --store {store}"
    terminal.conclude(errors, files=report.files, succeeded=report.pages > 0, listed=listed)


def _look_for(paths: list[str], store: Path) -> None:
    """Raise what `ingest` would, were it not for a folder whose last file went from a store."""
    from kosmos_loader.pages import find_files

    try:
        find_files(one_or_several(paths))
    except SourceNotFound:
        if not (store.exists() and os.path.isdir(paths[0])):  # noqa: PTH112  Path.is_dir raises
            raise


def _embedder(name: Embedder) -> Embeddings:
    from kosmos_loader.embedding import HashEmbedder

    match name:
        case Embedder.hash:
            return HashEmbedder()
