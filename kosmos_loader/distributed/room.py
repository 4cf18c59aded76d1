"""How many workers a cluster has room for, in all and at the moment."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kosmos_loader.distributed.connecting import ray, translated
from kosmos_loader.errors import ClusterError

log = logging.getLogger("kosmos_loader")

PATIENCE = 30.0
"""Seconds without room for a worker after which that is said."""

_LOOKING = 0.5
"""Seconds between two looks whether the run is to stop meanwhile."""

_KINDS = ("CPU", "GPU")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one worker takes."""

    cpus: float
    gpus: float

    @property
    def options(self) -> dict[str, float | None]:
        """The same as Ray takes it."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus or None}

    def __str__(self) -> str:
        return f"{self.cpus:g} cores and {self.gpus:g} GPUs"


def sizes(wanted: Wanted) -> tuple[int, int]:
    """As many workers as fit, and tasks that draw for them."""
    there = ray().cluster_resources()
    cores = int(there.get("CPU", 1))
    if wanted.gpus:
        fit, drawing = int(there.get("GPU", 0) / wanted.gpus), cores // 2
    else:
        fit, drawing = int(cores / wanted.cpus), cores // 8
    return max(1, fit), max(1, drawing)


def check_room(wanted: Wanted) -> None:
    """`ClusterError` where no node could hold a worker, for which Ray would wait for ever."""
    alive = [node["Resources"] for node in ray().nodes() if node["Alive"]]
    if not any(
        node.get("CPU", 0) >= wanted.cpus and node.get("GPU", 0) >= wanted.gpus for node in alive
    ):
        most = {kind: max((n.get(kind, 0) for n in alive), default=0) for kind in _KINDS}
        raise ClusterError(
            f"a worker wants {wanted}, and no node of the cluster has them "
            f"(at most {most['CPU']:g} cores, {most['GPU']:g} GPUs); ask for "
            "less, or add a node: ray start --address=HEAD:6379"
        )


def wait_for_room(
    wanted: Wanted, *, stopping: Callable[[], bool], patience: float = PATIENCE
) -> bool:
    """Wait until a worker could begin; False where the run is to stop before.

    Ray would wait as long, but without a word where others hold the cluster. What asks is a task of
    the size of a worker, so that a cluster that grows with what is asked for does so.
    """
    task = ray().remote(**wanted.options)(_nothing).remote()
    begun = time.monotonic()
    is_told = False
    with translated():
        while not ray().wait([task], timeout=_LOOKING)[0]:
            if stopping():
                ray().cancel(task)
                return False
            if not is_told and time.monotonic() - begun >= patience:
                _tell_of_no_room(wanted)
                is_told = True
    if is_told:
        log.info("there is room for a worker now")
    return True


def _tell_of_no_room(wanted: Wanted) -> None:
    free: dict[str, Any] = ray().available_resources()
    cpus, gpus = (free.get(kind, 0) for kind in _KINDS)
    log.warning(
        "waiting for room in the Ray cluster: a worker wants %s, and %g cores and %g GPUs are free "
        "on all of its machines together; others hold the rest",
        *(wanted, cpus, gpus),
    )


def _nothing() -> None:
    """What takes up the room of a worker for a moment."""
