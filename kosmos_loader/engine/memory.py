"""How much memory there is to be had for the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ASSUMED = 4 << 30
"""Bytes, where a system says nothing of its memory."""


def free_memory(device: Any) -> int:
    """Bytes that can still be allocated on `device`."""
    if device.type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info(device)
        return int(free_bytes)
    return available_memory()


def free(device: Any) -> None:
    """Gives memory that nothing uses any more back to `device`, where it counts as free."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of main memory that this process can still use.

    On Linux, what is free or kept for files only, and no more than the control groups of a
    container leave (`root` is where /proc and /sys stand). Elsewhere half of what is built in.
    """
    return max(0, min([_of_system(root), *_of_groups(root)]))


def _of_system(root: Path) -> int:
    found = _fields(root / "proc/meminfo").get("MemAvailable:")
    if found is not None:
        return found * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return ASSUMED


def _of_groups(root: Path) -> Iterator[int]:
    """What is left to each control group that this process is in, of version 2 and of version 1.

    In a container its own group may be all that is to be seen, at the top.
    """
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, kinds, path = line.split(":", 2)
        if not kinds:
            yield from _left(mounted, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            yield from _left(mounted / "memory", path, *names)


def _left(top: Path, path: str, limit: str, usage: str, dropped: str) -> Iterator[int]:
    own = top / path.strip("/")
    for group in (own, *own.parents):
        most, used = _text(group / limit).strip(), _text(group / usage).strip()
        if most.isdecimal() and used.isdecimal():
            # memory that holds pages of files is taken back when it is needed
            yield int(most) - int(used) + _fields(group / "memory.stat").get(dropped, 0)
        if group == top:
            return


def _fields(path: Path) -> dict[str, int]:
    """The numbers behind the names that lines of a file begin with."""
    words = (line.split() for line in _text(path).splitlines())
    return {w[0]: int(w[1]) for w in words if len(w) > 1 and w[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""
