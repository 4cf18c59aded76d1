"""How a reader goes to the workers: pickled by the driver, and loaded where it reads."""

from __future__ import annotations

import importlib.metadata
import pickle
import reprlib
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from kosmos_loader.document import Failure, Page, Reading
from kosmos_loader.errors import ClusterError, ReadingError, UsageError, require
from kosmos_loader.readers.base import PageReader, SelectiveReader
from kosmos_loader.readers.existing import ExistingOcr
from kosmos_loader.readers.pool import ReaderPool


class RemoteReader:
    """A reader that is loaded where it reads, and not here; `RayCluster.reader` makes one."""

    def __init__(self, make: Callable[[], PageReader], *, name: str, version: str) -> None:
        self.make = make
        self.name = name
        self.version = version

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """A failed reading for each of `pages`: none is read here."""
        for page in pages:
            error = ReadingError(
                f"page {page.number} of {page.source} was not read by a worker, and this process "
                f"has no {self.name}; index the file again with --force"
            )
            failure = page.error or Failure.of(error)
            yield Reading.failed(page, self.name, self.version, failure)


@dataclass(frozen=True)
class Recipe:
    """What a worker needs to make the reader."""

    make: Callable[[], PageReader]
    name: str
    version: str
    existing: ExistingOcr | None = None
    """What is looked for first, around a reader that is not the real one."""

    page_timeout: float | None = None
    is_apart: bool = True
    """Whether each page is read in a process of its own."""

    desk: Any = None
    package: str = field(default_factory=lambda: importlib.metadata.version("kosmos-loader"))

    def made(self) -> PageReader:
        """The reader."""
        here = importlib.metadata.version("kosmos-loader")
        if here != self.package:
            raise ClusterError(
                f"{socket.gethostname()} has kosmos-loader {here}, and the machine that writes has "
                f"{self.package}; install the same version on all of them"
            )
        core: PageReader
        if self.is_apart:
            named = _Pickled(self.make, self.name, self.version)
            core = ReaderPool(named, workers=1, page_timeout=self.page_timeout)
        else:
            core = self.make()
        return self.existing.around(core) if self.existing is not None else core

    def check(self, reading: Reading) -> None:
        """`ClusterError` where the reader is another one here than where the store is."""
        found = f"{reading.reader} {reading.reader_version}"
        if self.existing is None and found != f"{self.name} {self.version}":
            raise ClusterError(
                f"{socket.gethostname()} reads with {found}, and the machine that writes expects "
                f"{self.name} {self.version}; install the same versions on all of them"
            )


class _Pickled:
    """Stands for a reader until it is pickled into the process that makes it."""

    def __init__(self, make: Callable[[], PageReader], name: str, version: str) -> None:
        self._make = make
        self.name = name
        self.version = version

    def __reduce__(self) -> tuple[Any, ...]:
        return self._make, ()

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """As the reader does."""
        return self._make().read(pages)


def parted(reader: PageReader, timeout: float | None) -> tuple[PageReader, Recipe]:
    """What tells the keys of pages, without the weights, and what reads them."""
    if isinstance(reader, ExistingOcr) and reader.reader is not None:
        light, recipe = parted(reader.reader, timeout)
        existing = reader.around(light)
        return existing, replace(recipe, existing=existing)
    if isinstance(reader, RemoteReader):
        make = making(reader.make)
        return reader, Recipe(make, reader.name, reader.version, page_timeout=timeout)
    make = partial(_unpickled, _sendable(reader))
    recipe = Recipe(make, reader.name, reader.version, page_timeout=timeout)
    if isinstance(reader, SelectiveReader):
        return reader, recipe
    return RemoteReader(make, name=reader.name, version=reader.version), recipe


def making(make: Callable[[], PageReader]) -> Callable[[], PageReader]:
    """What does as `make` on a worker. Raises `UsageError` where it does not pickle."""
    return partial(_made, _sendable(make))


def _sendable(what: object) -> bytes:
    try:
        data: bytes = require("ray.cloudpickle", extra="ray").dumps(what)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{reprlib.repr(what)} cannot be sent to workers ({error}); let it load what does not "
            "pickle at its first page, or give RayCluster.reader a function that makes it"
        ) from error
    return data


# the processes of workers know pickle, and what cloudpickle writes may be anything of the driver's


def _made(make: bytes) -> PageReader:
    reader: PageReader = pickle.loads(make)()  # noqa: S301  from the driver, through Ray
    return reader


def _unpickled(reader: bytes) -> PageReader:
    loaded: PageReader = pickle.loads(reader)  # noqa: S301  as above
    return loaded
