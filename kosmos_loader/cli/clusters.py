"""What `index --ray` means: which cluster, and which reader on its workers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from kosmos_loader.cli.options import Ocr
from kosmos_loader.errors import UsageError
from kosmos_loader.readers.base import DEFAULT_MODEL, check_name

if TYPE_CHECKING:
    from kosmos_loader.distributed import RayCluster
    from kosmos_loader.readers.base import PageReader

SIDE_BY_SIDE = 128
"""Pages that a worker with a GPU is given at once: twice what the engine holds on a device, so that
its slots are taken again as pages end."""


def cluster_at(
    address: str | None,
    reader: str,
    *,
    workers: int | None,
    gpus: float | None,
    model: str | None,
    page_timeout: float | None,
    unmeant: bool,
) -> RayCluster | None:
    """The cluster at `address`, None where none is asked for.

    `UsageError` for options that do not go together; `unmeant` says that some do not.
    """
    if address is None:
        if workers is not None or gpus is not None:
            raise UsageError("--ray-workers and --ray-gpus go with --ray auto or --ray HOST:PORT")
        return None
    check_name(reader)
    if unmeant:
        raise UsageError(
            "--workers and --device do not go with --ray, which spreads workers and devices by "
            "itself; give --ray-workers and --ray-gpus"
        )
    if gpus and page_timeout is not None:
        raise UsageError("--page-timeout does not go with --ray-gpus: these read many at once")
    if gpus and not _is_kosmos(reader, gpus, model):
        raise UsageError(f"{reader} reads on cores; leave out --ray-gpus, or give --reader kosmos")
    from kosmos_loader.distributed import RayCluster

    if page_timeout is None and not _is_kosmos(reader, gpus, model):
        page_timeout = 600.0
    return RayCluster(
        address,
        workers=workers,
        gpus=gpus or 0,
        batch=SIDE_BY_SIDE if gpus else 1,
        page_timeout=page_timeout or None,
        verbose=logging.getLogger("kosmos_loader").isEnabledFor(logging.DEBUG),
    )


@contextmanager
def reader_on(
    cluster: RayCluster, ocr: Ocr, name: str, *, model: str | None, gpus: float | None
) -> Iterator[PageReader]:
    """The reader called `name`, on the workers of `cluster`, which is left in the end."""
    from kosmos_loader.readers.existing import ExistingOcr

    with cluster:
        if ocr is Ocr.existing:
            yield ExistingOcr()
            return
        reader = _on_workers(cluster, name, model=model, gpus=gpus)
        yield ExistingOcr(reader) if ocr is Ocr.auto else reader


def _on_workers(
    cluster: RayCluster, name: str, *, model: str | None, gpus: float | None
) -> PageReader:
    """RapidOCR is loaded here too, and what is planned takes its name and version from it."""
    if _is_kosmos(name, gpus, model):
        return cluster.reader(partial(_kosmos, model or DEFAULT_MODEL, is_gpu=bool(gpus)))
    from kosmos_loader.readers.rapidocr import RapidOCRPageReader

    return RapidOCRPageReader(threads=1)


def _is_kosmos(name: str, gpus: float | None, model: str | None) -> bool:
    return name == "kosmos" or (name == "auto" and bool(gpus or model))


def _kosmos(model: str, *, is_gpu: bool) -> PageReader:
    from kosmos_loader.readers.kosmos import KosmosPageReader

    if is_gpu:  # in a process of its own, which is replaced if a page ends it
        return KosmosPageReader(model, devices=["cuda:0"])
    return KosmosPageReader(model, device="cpu")
