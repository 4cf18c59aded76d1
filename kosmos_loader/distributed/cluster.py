"""RayCluster: what `ingest` takes as `elsewhere`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.archive.elsewhere import Work
from kosmos_loader.archive.planning import Plan
from kosmos_loader.distributed.ahead import PLANNING, PlannedAhead
from kosmos_loader.distributed.connecting import connect, ray, translated
from kosmos_loader.distributed.desk import Desk
from kosmos_loader.distributed.drawing import drawn, hashes
from kosmos_loader.distributed.files import FileUnderWay, Outcome, raise_fatal
from kosmos_loader.distributed.room import Wanted, check_room, sizes, wait_for_room
from kosmos_loader.distributed.sending import RemoteReader, making, parted
from kosmos_loader.distributed.workers import Worker, asked
from kosmos_loader.errors import UsageError, require
from kosmos_loader.readers.base import PageReader

FILES_A_TASK = 64
"""Files that one task draws at most, and draws again where it ends before it is done."""


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
    itself and sees to that. `drawing` tasks draw pages for them at a time. Files are planned for
    `planning` seconds before the first is drawn; the others, while these are read.

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
        planning: float = PLANNING,
        verbose: bool = False,
    ) -> None:
        counts = {"workers": workers, "batch": batch, "drawing": drawing}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; give 1 or more")
        if cpus < 0 or gpus < 0 or not cpus + gpus:
            raise UsageError(f"a worker with {cpus:g} cores and {gpus:g} GPUs reads nothing")
        if planning < 0:
            raise UsageError(f"files cannot be planned for {planning:g} seconds; give 0 or more")
        if address.startswith("ray://"):
            raise UsageError(
                f"{address} is an address for Ray clients, which cannot do this; run this on a "
                "machine of the cluster and give host:port of its head, or auto"
            )
        self._address = address
        self._workers = workers
        self._wanted = Wanted(cpus, gpus)
        self._batch = batch
        self._drawing = drawing
        self._timeout = page_timeout
        self._planning = planning
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
            ray().shutdown()

    def reader(self, make: Callable[[], PageReader]) -> RemoteReader:
        """The reader that `make` makes on a worker, which is asked for its name and version.

        `make` must pickle. It runs on a worker, where the weights are and the GPU is. To reuse
        OCR that exists, put `ExistingOcr` around what this returns.
        """
        made = making(make)
        self._connect()
        check_room(self._wanted)
        wait_for_room(self._wanted, stopping=lambda: False)
        ask = ray().remote(**self._wanted.options, max_retries=0)(asked)
        with translated():
            answer = ray().get(ask.remote(made))
        raise_fatal(answer)
        return RemoteReader(make, name=answer["name"], version=answer["version"])

    def read(self, plans: Iterator[Plan], work: Work) -> Iterator[Plan]:
        """As `Elsewhere`: files are planned for a while, and the others while these are read."""
        ahead = PlannedAhead(plans, work.stopping, seconds=self._planning)
        while True:
            yield from ahead.plan_a_batch()
            files = ahead.batch()
            if not files or work.stopping():
                return
            yield from self._read_batch(files, ahead, work)

    def _read_batch(
        self, files: dict[str, FileUnderWay], ahead: PlannedAhead, work: Work
    ) -> Iterator[Plan]:
        self._connect()
        check_room(self._wanted)
        if not wait_for_room(self._wanted, stopping=work.stopping):
            return
        # the second time for pages of which the reading that is kept cannot be used
        for kept in (hashes(work.store.journal.keys()), hashes(())):
            if files and not work.stopping():
                yield from self._read_all(files, ahead, work, kept)
        if not work.stopping():
            for file in files.values():
                file.give_up(work)
                yield file.plan()

    def _read_all(
        self,
        files: dict[str, FileUnderWay],
        ahead: PlannedAhead,
        work: Work,
        kept: NDArray[np.uint64],
    ) -> Iterator[Plan]:
        """The plans of those out of `files` whose pages are all there; these are taken out."""
        desk = _desk()
        outcomes = self._outcomes([f.job() for f in files.values()], work, kept, desk)
        try:
            for outcome in outcomes:
                desk.arrived.remote(outcome.key)
                file = files.get(outcome.page.source)  # None where it failed as a whole before
                if file is not None:
                    file.take(outcome, work)
                    if file.is_complete:
                        yield files.pop(outcome.page.source).plan()
                yield from ahead.plan_beside()
                if work.stopping():
                    _finish(outcomes, desk, files, work)
                    return
        finally:
            outcomes.close()
            if ray().is_initialized():  # a cluster that is not ours goes on, and would keep it
                ray().kill(desk)

    def _outcomes(
        self,
        jobs: Sequence[dict[str, Any]],
        work: Work,
        kept: NDArray[np.uint64],
        desk: Any,
    ) -> Generator[Outcome]:
        """What came of the pages of `jobs`, as it comes."""
        data = require("ray.data", extra="ray")
        light, recipe = parted(work.reader, self._timeout if self._batch == 1 else None)
        recipe = replace(recipe, desk=desk, is_apart=self._batch == 1)
        workers, drawing = sizes(self._wanted)
        kept_there = ray().put(kept)
        draw = partial(drawn, reader=light, password=work.password, kept=kept_there, desk=desk)
        context = data.DataContext.get_current().copy()
        context.enable_progress_bars = self._verbose
        context.target_max_block_size = 1  # bytes: a page is a block, so each counts alone
        with translated(), data.DataContext.current(context):
            rows = data.from_items(
                [{"job": json.dumps(job)} for job in jobs],
                override_num_blocks=max(math.ceil(len(jobs) / FILES_A_TASK), min(len(jobs), 64)),
            )
            rows = rows.map_batches(
                draw,
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=0,  # it is little beside reading, and must not wait for the workers
                compute=data.TaskPoolStrategy(size=self._drawing or drawing),
            )
            rows = rows.map_batches(
                Worker,
                fn_constructor_args=(recipe,),
                batch_size=self._batch,
                batch_format="pyarrow",
                **self._wanted.options,
                compute=data.ActorPoolStrategy(
                    size=self._workers or workers, max_tasks_in_flight_per_actor=2
                ),
            )
            found = iter(rows.iter_rows())
        while True:
            with translated():
                row = next(found, None)
            if row is None:
                return
            told = json.loads(row["outcome"])
            raise_fatal(told)
            yield Outcome.of(told)

    def _connect(self) -> None:
        if connect(self._address, verbose=self._verbose):
            self._is_ours = True


def _desk() -> Any:
    """A desk on this machine, so that it goes with no other."""
    strategies = require("ray.util.scheduling_strategies", extra="ray")
    node = ray().get_runtime_context().get_node_id()
    here = strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    return ray().remote(**options, scheduling_strategy=here)(Desk).remote()


def _finish(
    outcomes: Iterator[Outcome], desk: Any, files: Mapping[str, FileUnderWay], work: Work
) -> None:
    """Let workers begin no further page, and keep those that they have in hand."""
    with translated():
        in_hand = set(ray().get(desk.stop.remote()))
    while in_hand and (outcome := next(outcomes, None)) is not None:
        in_hand.discard(outcome.key)
        if file := files.get(outcome.page.source):
            file.take(outcome, work)
        desk.stop.remote()  # again: one that Ray has started anew knows nothing of it
