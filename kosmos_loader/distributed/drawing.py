"""Tasks of the cluster that draw pages, and tell which need not be read."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.distributed.connecting import ray
from kosmos_loader.distributed.machine import ray_is_not_main
from kosmos_loader.distributed.rows import page_row
from kosmos_loader.document import Failure, Page, Reading
from kosmos_loader.errors import SourceNotFound
from kosmos_loader.pages import open_pages
from kosmos_loader.prefetching import open_pages_in_processes
from kosmos_loader.readers.base import PageReader, page_key
from kosmos_loader.sources import File

DRAWN_AHEAD = 4
"""Pages that a process apart draws before they are taken from it."""


def hashes(keys: Iterable[str]) -> NDArray[np.uint64]:
    """`keys` as sorted numbers, 8 bytes each: for a million of them 8 MB go to each machine."""
    return np.sort(np.fromiter(map(_hash, keys), np.uint64))


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())


def _is_among(key: str, kept: NDArray[np.uint64]) -> bool:
    value = np.uint64(_hash(key))
    place = int(np.searchsorted(kept, value))
    return place < len(kept) and bool(kept[place] == value)


def drawn(
    jobs: Any, *, reader: PageReader, password: str | None, kept: Any, desk: Any
) -> Iterator[Any]:
    """The pages of `jobs`: a table of one row each, with pixels where they are to be read.

    Drawn here, and in a process apart where that has ended the task before.
    """
    ray_is_not_main()
    known = ray().get(kept)
    told = [json.loads(job) for job in jobs.column("job").to_pylist()]
    tries = ray().get(desk.drawing.remote(told[0]["path"]))
    if tries is None:
        return
    drawn_here = partial(open_pages, password=password)
    apart = partial(open_pages_in_processes, workers=1, password=password, ahead=DRAWN_AHEAD)
    for pages, group in groupby(told, key=lambda job: job["pages"]):
        left = {job["path"]: job["left"] for job in group}
        draw = apart if tries else drawn_here
        for page in draw([File(path, Path(path)) for path in left], pages=pages):
            yield page_row(page, _what_is_known(page, reader, known, left[page.source]))


def _what_is_known(
    page: Page,
    reader: PageReader,
    known: NDArray[np.uint64],
    left: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What comes of `page` without reading it; nothing where it is to be read."""
    if page.error is not None:
        failed = Reading.failed(page, reader.name, reader.version, _as_seen_here(page, page.error))
        return {"reading": failed.to_dict()}
    key = page_key(reader, page)
    if _is_among(key, known):
        return {"kept": key}
    if key in left:
        failure = Failure.from_dict(left[key])
        return {"reading": Reading.failed(page, reader.name, reader.version, failure).to_dict()}
    return {}


def _as_seen_here(page: Page, failure: Failure) -> Failure:
    """The machine that writes sees the file, or it would not have been given to this one."""
    if failure.type != SourceNotFound.kind:
        return failure
    return Failure(
        failure.type,
        f"{page.source} is not there on {socket.gethostname()}; all machines need the same files "
        "under the same paths: mount the same storage on each, or index from there",
    )
