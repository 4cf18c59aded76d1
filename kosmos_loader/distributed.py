"""Pages drawn and read on the machines of a Ray cluster; one process, the driver, writes.

Ray Data carries files to pages (drawn in tasks) and pages to readings (by actors that hold the
reader). Readings come back in any order and without pixels. Each is committed to the journal of
the store as it comes; when all pages of a file are there, the ordinary run composes, chunks and
embeds them from the journal. So ids, chunks and readings are those of a run on one machine, and a
driver that was killed goes on as such a run does.

A page that ends the process that reads it does not end the actor, which reads in a process of its
own. What ends actors comes from outside, and Ray starts them again; how often a page was in hand
then is counted here, since Ray would try for ever.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import math
import os
import pickle
import reprlib
import socket
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.archive.elsewhere import Work
from kosmos_loader.archive.kinds import Step
from kosmos_loader.archive.planning import Plan, picked, ranges_of
from kosmos_loader.document import Failure, Line, Page, PageInfo, Reading, document_id
from kosmos_loader.errors import (
    ClusterError,
    KosmosLoaderError,
    ProcessDied,
    ReadingError,
    SourceNotFound,
    UsageError,
    require,
)
from kosmos_loader.loading import error_class
from kosmos_loader.pages import Range, open_pages
from kosmos_loader.prefetching import open_pages_in_processes
from kosmos_loader.readers.base import PageReader, SelectiveReader, page_key, reading_key
from kosmos_loader.readers.existing import ExistingOcr
from kosmos_loader.readers.pool import TRIES, ReaderPool
from kosmos_loader.sources import File

log = logging.getLogger("kosmos_loader")

FILES_A_TASK = 64
"""Files that one task draws at most, and draws again where it ends before it is done."""

DRAWN_AHEAD = 4
"""Pages that a process apart draws before they are taken from it."""

_LOOKING = 5.0
"""Seconds that a cluster has to answer at its address."""

_Key = tuple[str, int]
"""A page: its source and number."""


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


class RayCluster:
    """Draws and reads pages on a Ray cluster: what `ingest` takes as `elsewhere`.

    `address` is "auto" (the cluster that this machine belongs to, or else one of this machine
    alone, started for the time being), "local" (the latter), or host and port of the head node,
    on a machine that belongs to the cluster. Where Ray is initialised already, that is used. The
    machines need the same files under the same paths, and the same versions of Python, Ray and
    this package.

    `workers` processes read, each with `cpus` cores and `gpus` GPUs; by default as many as fit.
    Each is given `batch` pages at once. With one, it is read in a process of its own: a page that
    ends it twice is a `ProcessDied`, one that takes longer than `page_timeout` seconds a
    `PageTimeout`, and its neighbours are read all the same. With more, the reader is in the worker
    itself and sees to that. `drawing` tasks draw pages for them at a time.

    It connects when there is something to draw or to ask, and disconnects when closed; use it as a
    context manager. `verbose` lets Ray write to stderr.

    `UsageError` for settings that cannot be meant. Methods raise `MissingExtra` where Ray is not
    installed, and `ClusterError` where the cluster cannot be reached or breaks off.
    """

    def __init__(
        self,
        address: str = "auto",
        *,
        workers: int | None = None,
        cpus: float = 1,
        gpus: float = 0,
        batch: int = 1,
        drawing: int | None = None,
        page_timeout: float | None = None,
        verbose: bool = False,
    ) -> None:
        counts = {"workers": workers, "batch": batch, "drawing": drawing}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; give 1 or more")
        if cpus < 0 or gpus < 0 or not cpus + gpus:
            raise UsageError(f"a worker with {cpus:g} cores and {gpus:g} GPUs reads nothing")
        if address.startswith("ray://"):
            raise UsageError(
                f"{address} is an address for Ray clients, which cannot do this; run this on a "
                "machine of the cluster and give host:port of its head, or auto"
            )
        self._address = address
        self._workers = workers
        self._cpus = cpus
        self._gpus = gpus
        self._batch = batch
        self._drawing = drawing
        self._timeout = page_timeout
        self._verbose = verbose
        self._is_ours = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; one that was started for the time being ends."""
        if self._is_ours:
            self._is_ours = False
            _ray().shutdown()

    def reader(self, make: Callable[[], PageReader]) -> RemoteReader:
        """The reader that `make` makes on a worker, which is asked for its name and version.

        `make` must pickle. It runs on a worker, where the weights are and the GPU is. To reuse
        OCR that exists, put `ExistingOcr` around what this returns.
        """
        made = _sendable(make)
        ray = self._connected()
        self._check_room()
        ask = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0)(_asked)
        with _translated():
            answer = ray.get(ask.remote(partial(_made, made)))
        _raise_fatal(answer)
        return RemoteReader(make, name=answer["name"], version=answer["version"])

    def read(self, plans: Iterator[Plan], work: Work) -> Iterator[Plan]:
        """As `Elsewhere`: all files are planned first, then those that need it are drawn."""
        files: dict[str, _File] = {}
        for plan in plans:
            if work.stopping():
                return
            if _is_to_be_drawn(plan):
                files[plan.source] = _File(plan)
            else:
                yield plan
        if not files or work.stopping():
            return
        self._connected()
        self._check_room()
        # the second time for pages of which the reading that is kept cannot be used
        for kept in (_hashes(work.store.journal.keys()), _hashes(())):
            if files and not work.stopping():
                yield from self._read_all(files, work, kept)
        if not work.stopping():
            for file in files.values():
                file.give_up(work)
                yield file.plan()

    def _read_all(
        self, files: dict[str, _File], work: Work, kept: NDArray[np.uint64]
    ) -> Iterator[Plan]:
        """The plans of those out of `files` whose pages are all there; these are taken out."""
        ray = _ray()
        desk = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Desk).remote()
        rows = self._outcomes([f.job() for f in files.values()], work, kept, desk)
        try:
            for outcome in rows:
                desk.arrived.remote(outcome.key)
                file = files.get(outcome.page.source)  # None where it failed as a whole before
                if file is not None:
                    file.take(outcome, work)
                    if file.is_complete:
                        yield files.pop(outcome.page.source).plan()
                if work.stopping():
                    with _translated():
                        in_hand = set(ray.get(desk.stop.remote()))
                    _finish(rows, in_hand, files, work)
                    return
        finally:
            rows.close()
            if ray.is_initialized():  # a cluster that is not ours goes on, and would go on reading
                desk.stop.remote()

    def _outcomes(
        self,
        jobs: Sequence[dict[str, Any]],
        work: Work,
        kept: NDArray[np.uint64],
        desk: Any,
    ) -> Generator[_Outcome]:
        """What came of the pages of `jobs`, as it comes."""
        ray, data = _ray(), require("ray.data", extra="ray")
        light, reading = _parted(work.reader, self._timeout if self._batch == 1 else None)
        reading = replace(reading, desk=desk, is_apart=self._batch == 1)
        workers, drawing = self._sizes()
        draw = partial(_drawn, reader=light, password=work.password, kept=ray.put(kept), desk=desk)
        context = data.DataContext.get_current().copy()
        context.enable_progress_bars = self._verbose
        context.target_max_block_size = 1  # bytes: a page is a block, so each counts alone
        with _translated(), data.DataContext.current(context):
            rows = data.from_items(
                [{"job": json.dumps(job)} for job in jobs],
                override_num_blocks=max(math.ceil(len(jobs) / FILES_A_TASK), min(len(jobs), 64)),
            )
            rows = rows.map_batches(
                draw,
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=0,  # it is little beside reading, and must not wait for the workers
                compute=data.TaskPoolStrategy(size=drawing),
            )
            rows = rows.map_batches(
                _Worker,
                fn_constructor_args=(reading,),
                batch_size=self._batch,
                batch_format="pyarrow",
                num_cpus=self._cpus,
                num_gpus=self._gpus or None,
                compute=data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            )
            found = iter(rows.iter_rows())
        while True:
            with _translated():
                row = next(found, None)
            if row is None:
                return
            outcome = json.loads(row["outcome"])
            _raise_fatal(outcome)
            yield _Outcome.of(outcome)

    def _sizes(self) -> tuple[int, int]:
        """Workers, and tasks that draw for them."""
        there = _ray().cluster_resources()
        cores = int(there.get("CPU", 1))
        if self._gpus:
            fit, drawing = int(there.get("GPU", 0) / self._gpus), cores // 2
        else:
            fit, drawing = int(cores / self._cpus), cores // 8
        return self._workers or max(1, fit), self._drawing or max(1, drawing)

    def _check_room(self) -> None:
        """`ClusterError` where no node could hold a worker, for which Ray would wait for ever."""
        alive = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
        if not any(
            node.get("CPU", 0) >= self._cpus and node.get("GPU", 0) >= self._gpus for node in alive
        ):
            most = {kind: max((n.get(kind, 0) for n in alive), default=0) for kind in _KINDS}
            raise ClusterError(
                f"a worker wants {self._cpus:g} cores and {self._gpus:g} GPUs, and no node of the "
                f"cluster has them (at most {most['CPU']:g} cores, {most['GPU']:g} GPUs); ask for "
                "less, or add a node: ray start --address=HEAD:6379"
            )

    def _connected(self) -> Any:
        ray = _ray()
        require("ray.data", extra="ray")
        if not self._verbose:
            _silence()
        if ray.is_initialized():
            return ray
        level = logging.INFO if self._verbose else logging.CRITICAL
        options = {"log_to_driver": self._verbose, "logging_level": level}
        with _translated(), nullcontext() if self._verbose else _stderr_apart():
            if self._address == "local" or not self._joined(options):
                self._start(options)
        self._is_ours = True
        return ray

    def _joined(self, options: Mapping[str, Any]) -> bool:
        """Whether there is a cluster; "auto" may do without."""
        if self._address != "auto":
            _look_for(self._address)
        try:
            _ray().init(address=self._address, **options)
        except ConnectionError:
            if self._address == "auto":
                return False
            raise
        return True

    def _start(self, options: Mapping[str, Any]) -> None:
        cores = os.cpu_count() or 1
        log.info("no Ray cluster runs here; one with the %d cores of this machine is used", cores)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        _ray().init(
            address="local",
            num_cpus=cores,
            include_dashboard=False,
            object_store_memory=_OBJECTS + cores * _OBJECTS // 4,
            **options,
        )


_KINDS = ("CPU", "GPU")

_OBJECTS = 256 * 2**20
"""Bytes for pages on their way, where we start Ray: some 40 pages of 150 dpi, and 10 a core."""


def _ray() -> Any:
    return require("ray", extra="ray")


@contextmanager
def _translated() -> Iterator[None]:
    """The one door through which Ray's errors become ours."""
    exceptions = require("ray.exceptions", extra="ray")
    try:
        yield
    except ConnectionError as error:
        raise ClusterError(
            f"the Ray cluster cannot be reached ({_first_line(error)}); start one with: ray start "
            "--head, and run this on one of its machines"
        ) from error
    except (exceptions.RayError, RuntimeError, ValueError) as error:
        cause = getattr(error, "cause", None) or error
        raise ClusterError(
            f"Ray broke off ({type(cause).__name__}: {_first_line(cause)}); what was read is kept, "
            "the same command goes on from here, and with --verbose Ray tells more"
        ) from error


def _silence() -> None:
    """Keep what Ray says in its log files and off stderr."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    for handler in logging.getLogger("ray.data").handlers:
        if handler.name == "console":
            handler.setLevel(logging.CRITICAL)
    # of a file with fewer pages than there are workers
    warnings.filterwarnings("ignore", "The minimum number of concurrent actors", UserWarning)


@contextmanager
def _stderr_apart() -> Iterator[None]:
    """Nothing is written to stderr meanwhile: Ray's own library does, whatever its logger says."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123  a device, not a path
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _look_for(address: str) -> None:
    """`ClusterError` where nobody answers; Ray itself would try for half a minute."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"{address!r} is no address of a Ray cluster; give auto or HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=_LOOKING).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); start one there "
            "with: ray start --head, and join it here with: ray start --address=HOST:6379"
        ) from error


def _raise_fatal(outcome: Mapping[str, Any]) -> None:
    if "fatal" in outcome:
        failure = Failure.from_dict(outcome["fatal"])
        raise error_class(failure)(failure.message)


# What the driver knows of a file


def _is_to_be_drawn(plan: Plan) -> bool:
    if plan.is_done or plan.seen is None:
        return False
    if plan.numbers is None or not plan.holds:
        return True
    return any(n not in plan.known and n not in plan.left for n in plan.numbers)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a page."""

    page: PageInfo
    reading: Reading | None = None
    """None where there is one already, or where the run was to stop."""

    key: _Key = ("", 0)
    kept: str = ""
    """The key of the reading that is there already."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> _Outcome:
        page = PageInfo.from_dict(told["page"])
        reading = Reading.from_dict(told["reading"]) if "reading" in told else None
        return cls(page, reading, (page.source, page.number), told.get("kept", ""))


@dataclass(eq=False)
class _File:
    """A file whose pages are on their way."""

    origin: Plan
    known: dict[int, str] = field(default_factory=dict)
    left: dict[int, Failure] = field(default_factory=dict)
    fresh: set[int] = field(default_factory=set)
    missing: set[int] | None = None
    """Pages that have not come; None until it is known how many there are."""

    count: int = 0
    is_begun: bool = False

    def __post_init__(self) -> None:
        if self.origin.holds and self.origin.count:
            self.known |= self.origin.known
            self.left |= self.origin.left
            self._count(self.origin.count)

    def _count(self, count: int) -> None:
        if self.missing is None and count:
            self.count = count
            numbers = picked(self.origin.ranges, count)
            self.missing = {n for n in numbers if n not in self.known and n not in self.left}

    @property
    def is_complete(self) -> bool:
        return self.missing is not None and not self.missing

    def job(self) -> dict[str, Any]:
        """What a worker is told: which pages to draw, and which pictures are given up."""
        ranges = self.origin.ranges if self.missing is None else ranges_of(self.missing)
        pictures = self.origin.left_pictures.items()
        return {
            "path": self.origin.source,
            "pages": _spec(ranges),
            "left": {key: failure.to_dict() for key, failure in pictures},
        }

    def take(self, outcome: _Outcome, work: Work) -> None:
        """Keep what came of a page."""
        page, reading = outcome.page, outcome.reading
        if not outcome.kept and reading is None:  # it was not read, since the run is to stop
            return
        self._begin(work)
        self._count(page.count)
        if outcome.kept:
            self._take_kept(outcome, work)
        elif reading is not None and reading.error is not None:
            key = reading_key(work.reader, reading) if page.digest else ""
            work.store.record_failure(page.source, page.number, reading.error, key=key)
            self._settle(page.number, reading.error)
            self._tell(reading, work)
        elif reading is not None:
            key = reading_key(work.reader, reading)
            work.store.journal.keep(key, reading, is_new=True)
            self._settle(page.number, key)
            self._tell(reading, work)

    def _begin(self, work: Work) -> None:
        if not self.is_begun and self.origin.seen is not None:
            work.store.journal.begin(self.origin.seen, anew=not self.origin.holds)
        self.is_begun = True

    def _take_kept(self, outcome: _Outcome, work: Work) -> None:
        reading = work.store.kept_reading(outcome.kept)
        if reading is not None:
            work.store.journal.keep(outcome.kept, replace(reading, page=outcome.page), is_new=False)
            self._settle(outcome.page.number, outcome.kept)

    def _settle(self, number: int, what: str | Failure) -> None:
        if isinstance(what, str):
            self.known[number] = what
        else:
            self.left[number] = what
        if number == 0:
            self.missing = set()  # the file cannot be opened, so no further page will come
        elif self.missing is not None:
            self.missing.discard(number)

    def _tell(self, reading: Reading, work: Work) -> None:
        page = reading.page
        self.fresh.add(page.number)
        if work.progress is not None:
            place = page.number, page.count, self.origin.place, work.files
            step = Step(page.source, *place, failure=reading.error, flags=reading.flags)
            work.progress(step)

    def give_up(self, work: Work) -> None:
        """Pages that no worker told anything of have failed."""
        error = ReadingError(f"no worker told what came of {self.origin.source}; index it again")
        name = document_id(self.origin.source)
        for number in sorted(self.missing or {0}):
            page = PageInfo(self.origin.source, name, number, self.count, 0, 0, 0.0)
            failed = Reading.failed(page, work.reader.name, work.reader.version, Failure.of(error))
            self.take(_Outcome(page, failed), work)

    def plan(self) -> Plan:
        """What is left to be done of the file, which takes no drawing."""
        return replace(
            self.origin,
            count=self.count,
            known=self.known,
            left=self.left,
            fresh=frozenset(self.fresh),
            holds=True,
        )


def _finish(
    rows: Iterator[_Outcome], in_hand: set[_Key], files: Mapping[str, _File], work: Work
) -> None:
    """Keep the pages that workers had in hand when they were told to begin no other."""
    while in_hand and (outcome := next(rows, None)) is not None:
        in_hand.discard(outcome.key)
        if file := files.get(outcome.page.source):
            file.take(outcome, work)


def _spec(ranges: Iterable[Range]) -> str:
    """`ranges` as `open_pages` takes them."""
    return ",".join(f"{int(a)}-" if math.isinf(b) else f"{a}-{b}" for a, b in ranges)


def _hashes(keys: Iterable[str]) -> NDArray[np.uint64]:
    """`keys` as sorted numbers, 8 bytes each: for a million of them 8 MB go to each machine."""
    return np.sort(np.fromiter(map(_hash, keys), np.uint64))


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())


def _is_among(key: str, hashes: NDArray[np.uint64]) -> bool:
    value = np.uint64(_hash(key))
    place = int(np.searchsorted(hashes, value))
    return place < len(hashes) and bool(hashes[place] == value)


# In the cluster


class _Desk:
    """Where workers say which pages they take in hand, so that it is known when they die."""

    def __init__(self) -> None:
        self._tries: dict[_Key, int] = {}
        self._drawing: dict[str, int] = {}
        self._is_stopped = False

    def begin(self, pages: Sequence[_Key]) -> list[int] | None:
        """How often each was begun before; None where none is to be begun any more.

        Where one of several was, they count as begun only when each is begun alone.
        """
        if self._is_stopped:
            return None
        tries = [self._tries.get(page, 0) for page in pages]
        if len(pages) == 1 or not any(tries):
            self._tries |= {page: n + 1 for page, n in zip(pages, tries, strict=True)}
        return tries

    def arrived(self, page: _Key) -> None:
        """What came of it is with the driver."""
        self._tries.pop(page, None)

    def drawing(self, task: str) -> int | None:
        """How often a task that draws was begun before; None where it is not to begin."""
        if self._is_stopped:
            return None
        self._drawing[task] = self._drawing.get(task, -1) + 1
        return self._drawing[task]

    def stop(self) -> list[_Key]:
        """Let no further page be begun, and tell which are in hand."""
        self._is_stopped = True
        return list(self._tries)


@dataclass(frozen=True)
class _Reading:
    """What a worker needs to read."""

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


def _parted(reader: PageReader, timeout: float | None) -> tuple[PageReader, _Reading]:
    """What tells the keys of pages, without the weights, and what reads them."""
    if isinstance(reader, ExistingOcr) and reader.reader is not None:
        light, reading = _parted(reader.reader, timeout)
        existing = reader.around(light)
        return existing, replace(reading, existing=existing)
    if isinstance(reader, RemoteReader):
        make = partial(_made, _sendable(reader.make))
        return reader, _Reading(make, reader.name, reader.version, page_timeout=timeout)
    make = partial(_unpickled, _sendable(reader))
    reading = _Reading(make, reader.name, reader.version, page_timeout=timeout)
    if isinstance(reader, SelectiveReader):
        return reader, reading
    return RemoteReader(make, name=reader.name, version=reader.version), reading


def _sendable(what: object) -> bytes:
    """`what` as it goes to workers. Raises `UsageError`."""
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


def _asked(make: Callable[[], PageReader]) -> dict[str, Any]:
    """Name and version of the reader, on a worker."""
    try:
        reader = make()
    except KosmosLoaderError as error:
        return {"fatal": _here(error).to_dict()}
    told = {"name": reader.name, "version": reader.version}
    if close := getattr(reader, "close", None):
        close()
    return told


def _here(error: Exception) -> Failure:
    """`error` with the name of the machine on which it was."""
    failure = Failure.of(error)
    return Failure(failure.type, f"{failure.message} (on {socket.gethostname()})")


def _drawn(
    jobs: Any, *, reader: PageReader, password: str | None, kept: Any, desk: Any
) -> Iterator[Any]:
    """The pages of `jobs`: a table of one row each, with pixels where they are to be read.

    Drawn here, and in a process apart where that has ended the task before.
    """
    _ray_is_not_main()
    known = _ray().get(kept)
    told = [json.loads(job) for job in jobs.column("job").to_pylist()]
    tries = _ray().get(desk.drawing.remote(told[0]["path"]))
    if tries is None:
        return
    drawn_here = partial(open_pages, password=password)
    apart = partial(open_pages_in_processes, workers=1, password=password, ahead=DRAWN_AHEAD)
    for pages, group in groupby(told, key=lambda job: job["pages"]):
        left = {job["path"]: job["left"] for job in group}
        draw = apart if tries else drawn_here
        for page in draw([File(path, Path(path)) for path in left], pages=pages):
            yield _page_row(page, _what_is_known(page, reader, known, left[page.source]))


def _ray_is_not_main() -> None:
    """Processes that are spawned here need not run the program of Ray's workers, as they would."""
    main = sys.modules["__main__"]
    if getattr(main, "__file__", "").endswith("default_worker.py"):
        main.__spec__ = None
        del main.__file__


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


def _page_row(page: Page, outcome: Mapping[str, Any]) -> Any:
    arrow = require("pyarrow", extra="ray")
    told = {"page": page.info.to_dict(), **outcome}
    if not outcome:
        told["text_layer"] = [line.to_dict() for line in page.text_layer]
        told["document_info"] = dict(page.document_info)
    pixels = None if outcome else np.ascontiguousarray(page.pixels).data.cast("B")
    schema = arrow.schema([("told", arrow.string()), ("pixels", arrow.binary())])
    return arrow.table({"told": [json.dumps(told)], "pixels": [pixels]}, schema=schema)


def _page_of(told: Mapping[str, Any], pixels: Any) -> Page:
    info = PageInfo.from_dict(told["page"])
    values = np.frombuffer(pixels.as_buffer(), np.uint8).reshape(info.height, info.width, 3)
    fields = {name: getattr(info, name) for name in PageInfo.__dataclass_fields__}
    return Page(
        **fields,
        pixels=values.copy(),  # Ray's memory can be read and not written to
        text_layer=tuple(Line.from_dict(line) for line in told["text_layer"]),
        document_info=told["document_info"],
    )


class _Worker:
    """An actor that holds the reader and is given tables of pages."""

    def __init__(self, reading: _Reading) -> None:
        self._reading = reading
        self._fatal: Failure | None = None
        _ray_is_not_main()
        try:
            self._reader = reading.made()
        except KosmosLoaderError as error:
            self._fatal = _here(error)

    def __call__(self, table: Any) -> Iterator[Any]:
        """A table of one row for each page, with what came of it as JSON."""
        unread: list[Page] = []
        for text, pixels in zip(table.column("told"), table.column("pixels"), strict=True):
            told = json.loads(text.as_py())
            if self._fatal is not None:
                yield _outcome_row(told | {"fatal": self._fatal.to_dict()})
            elif not pixels.is_valid:
                yield _outcome_row(told)
            else:
                unread.append(_page_of(told, pixels))
        for outcome in self._outcomes(unread):
            yield _outcome_row(outcome)

    def _outcomes(self, pages: Sequence[Page]) -> Iterator[dict[str, Any]]:
        if not pages:
            return
        keys = [(page.source, page.number) for page in pages]
        tries = _ray().get(self._reading.desk.begin.remote(keys))
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
                    self._reading.check(reading)
                yield {"page": reading.page.to_dict(), "reading": reading.to_dict()}
        except KosmosLoaderError as error:
            yield {"page": pages[0].info.to_dict(), "fatal": _here(error).to_dict()}

    def _died(self, page: Page) -> dict[str, Any]:
        error = ProcessDied(
            f"page {page.number} of {page.source} was tried {TRIES} times, and the worker that "
            "had it ended each time; if memory was short, give workers more cores, so that fewer "
            "share a machine"
        )
        name, version = self._reading.name, self._reading.version
        failed = Reading.failed(page, name, version, Failure.of(error))
        return {"page": page.info.to_dict(), "reading": failed.to_dict()}


def _outcome_row(outcome: Mapping[str, Any]) -> Any:
    arrow = require("pyarrow", extra="ray")
    told = {name: outcome[name] for name in _TOLD if name in outcome}
    return arrow.table({"outcome": [json.dumps(told)]})


_TOLD = ("page", "reading", "kept", "fatal")
