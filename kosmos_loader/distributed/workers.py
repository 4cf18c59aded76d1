"""Actors of the cluster that hold the reader."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kosmos_loader.distributed.connecting import ray
from kosmos_loader.distributed.machine import ray_is_not_main, seen_here
from kosmos_loader.distributed.rows import outcome_row, page_of
from kosmos_loader.distributed.sending import Recipe
from kosmos_loader.document import Failure, Page, Reading
from kosmos_loader.errors import KosmosLoaderError, ProcessDied
from kosmos_loader.readers.base import PageReader
from kosmos_loader.readers.pool import TRIES


def asked(make: Callable[[], PageReader]) -> dict[str, Any]:
    """Name and version of the reader, on a worker."""
    try:
        reader = make()
    except KosmosLoaderError as error:
        return {"fatal": seen_here(error).to_dict()}
    told = {"name": reader.name, "version": reader.version}
    if close := getattr(reader, "close", None):
        close()
    return told


class Worker:
    """An actor that holds the reader and is given tables of pages."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._fatal: Failure | None = None
        ray_is_not_main()
        try:
            self._reader = recipe.made()
        except KosmosLoaderError as error:
            self._fatal = seen_here(error)

    def __call__(self, table: Any) -> Iterator[Any]:
        """A table of one row for each page, with what came of it as JSON."""
        unread: list[Page] = []
        for text, pixels in zip(table.column("told"), table.column("pixels"), strict=True):
            told = json.loads(text.as_py())
            if self._fatal is not None:
                yield outcome_row(told | {"fatal": self._fatal.to_dict()})
            elif not pixels.is_valid:
                yield outcome_row(told)
            else:
                unread.append(page_of(told, pixels))
        for outcome in self._outcomes(unread):
            yield outcome_row(outcome)

    def _outcomes(self, pages: Sequence[Page]) -> Iterator[dict[str, Any]]:
        if not pages:
            return
        keys = [(page.source, page.number) for page in pages]
        tries = ray().get(self._recipe.desk.begin.remote(keys))
        if tries is None:
            yield from ({"page": page.info.to_dict()} for page in pages)
        elif len(pages) > 1 and any(tries):
            for page in pages:
                yield from self._outcomes([page])
        elif tries[0] >= TRIES:
            yield self._died(pages[0])
        else:
            yield from self._read(pages)

    def _read(self, pages: Sequence[Page]) -> Iterator[dict[str, Any]]:
        try:
            for reading in self._reader.read(pages):
                if reading.error is None:
                    self._recipe.check(reading)
                yield {"page": reading.page.to_dict(), "reading": reading.to_dict()}
        except KosmosLoaderError as error:
            yield {"page": pages[0].info.to_dict(), "fatal": seen_here(error).to_dict()}

    def _died(self, page: Page) -> dict[str, Any]:
        error = ProcessDied(
            f"page {page.number} of {page.source} was tried {TRIES} times, and the worker that "
            "had it ended each time; if memory was short, give workers more cores, so that fewer "
            "share a machine"
        )
        name, version = self._recipe.name, self._recipe.version
        failed = Reading.failed(page, name, version, Failure.of(error))
        return {"page": page.info.to_dict(), "reading": failed.to_dict()}
