"""The door to Ray: a cluster is joined or started, and Ray's errors become ours."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from kosmos_loader.errors import ClusterError, UsageError, require

log = logging.getLogger("kosmos_loader")

_LOOKING = 5.0
"""Seconds that a cluster has to answer at its address."""

_SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""The frame with which either side begins in HTTP/2: length, type 4, flags and stream."""

_OBJECTS = 256 * 2**20
"""Bytes for pages on their way, where we start Ray: some 40 pages of 150 dpi, and 10 a core."""


def ray() -> Any:
    """Ray. Raises `MissingExtra`."""
    return require("ray", extra="ray")


@contextmanager
def translated() -> Iterator[None]:
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


def connect(address: str, *, verbose: bool) -> bool:
    """Whether there is a connection that was not there before; "auto" may start a cluster."""
    there = ray()
    require("ray.data", extra="ray")
    if not verbose:
        _silence()
    if there.is_initialized():
        return False
    level = logging.INFO if verbose else logging.CRITICAL
    options = {"log_to_driver": verbose, "logging_level": level}
    with translated(), nullcontext() if verbose else _stderr_apart():
        if address == "local" or not _joined(address, options):
            _start(options)
    return True


def _joined(address: str, options: Mapping[str, Any]) -> bool:
    """Whether there is a cluster; "auto" may do without."""
    if address != "auto":
        _look_for(address)
    try:
        ray().init(address=address, **options)
    except ConnectionError:
        if address == "auto":
            return False
        raise
    return True


def _look_for(address: str) -> None:
    """`ClusterError` where nobody answers; Ray itself would try for half a minute."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"{address!r} is no address of a Ray cluster; give auto or HOST:PORT")
    try:
        with socket.create_connection((host, int(port)), timeout=_LOOKING) as server:
            if _speaks_http2(server):
                return
        reason = "what answers is no Ray head"
    except OSError as error:
        reason = error.strerror or str(error)
    raise ClusterError(
        f"no Ray cluster answers at {address} ({reason}); start one there with: ray start --head, "
        "and join it here with: ray start --address=HOST:6379"
    )


def _speaks_http2(server: socket.socket) -> bool:
    """Whether a head may be behind it: these speak gRPC, which is HTTP/2 (RFC 9113, 3.4)."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return True  # and hear nothing that is not encrypted
    server.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS)
    found = b""
    while len(found) < len(_SETTINGS) and (more := server.recv(len(_SETTINGS) - len(found))):
        found += more
    return found[3:4] == _SETTINGS[3:4]


def _start(options: Mapping[str, Any]) -> None:
    cores = os.cpu_count() or 1
    log.info("no Ray cluster runs here; one with the %d cores of this machine is used", cores)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray().init(
        address="local",
        num_cpus=cores,
        include_dashboard=False,
        object_store_memory=_OBJECTS + cores * _OBJECTS // 4,
        **options,
    )


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
