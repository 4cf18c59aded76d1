"""Whether the engine's own GPU kernels are used, and how their work is divided. No triton here."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

IN_USE = "Triton split-KV kernel and CUDA graphs"

DTYPES = (torch.bfloat16, torch.float16, torch.float32)

OLDEST = (8, 0)
"""Compute capability: the first that has bfloat16 and copies tiles asynchronously (Ampere)."""

QUERIES = (16, 32, 64)
"""Of a group: from the fewest that a matrix product of the GPU takes to what registers hold."""

PROGRAMS = 8
"""That a multiprocessor is given, so that it has another to run while one waits for its keys."""

MOST_SPLITS = 32
"""More would leave a split of a picture's 2051 tokens less than one tile of keys."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides whether the kernels can be built and run."""

    device: str
    """"cuda", "cpu" or another device type of torch."""

    capability: tuple[int, int] = (0, 0)
    """Of a CUDA device."""

    has_triton: bool = False
    has_compiler: bool = False
    """Whether there is a C compiler, which triton builds its launchers with."""

    @classmethod
    def of(cls, device: Any) -> Machine:
        """The machine that `device` is in."""
        device = torch.device(device)
        if device.type != "cuda":
            return cls(device.type)
        return cls(
            device.type,
            torch.cuda.get_device_capability(device),
            importlib.util.find_spec("triton") is not None,
            any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))),
        )


def why_plain(machine: Machine, dtype: torch.dtype, head_size: int | None = None) -> str | None:
    """Why the kernels are not used, None where they are."""
    if machine.device == "cpu":
        return " on the CPU"
    if machine.device != "cuda":
        return f": the kernels are for CUDA, not for {machine.device}"
    if not machine.has_triton:
        return ": triton is not installed"
    if not machine.has_compiler:
        return ": triton finds no C compiler"
    if machine.capability < OLDEST:
        return ": the GPU is older than compute capability 8.0"
    if dtype not in DTYPES:
        return f": the kernels do not compute in {dtype}"
    if head_size is not None and blocks(head_size) is None:
        return f": the kernels have no heads of {head_size}"
    return None


def kernels_in_use(device: Any, dtype: torch.dtype) -> str:
    """One line for `doctor`: what a step of the engine will be computed with on `device`."""
    why = why_plain(Machine.of(device), dtype)
    return IN_USE if why is None else f"plain tensor operations{why}"


def blocks(head_size: int) -> tuple[int, int] | None:
    """A head as a block and a smaller one or 0: powers of two, 16 at least. None where it is not.

    The heads of the released model, of 96, are 64 and 32: padded to 128 they would take a third
    more of every step but memory's.
    """
    main = 1 << (head_size.bit_length() - 1)
    rest = head_size - main
    if main < 16 or (rest and (rest < 16 or rest & (rest - 1))):
        return None
    return main, rest


def queries_for(widest: int) -> int:
    """Queries of a group where the row with most tokens has `widest`; more make several groups."""
    return next((queries for queries in QUERIES if queries >= widest), QUERIES[-1])


def splits_for(groups: int, heads: int, processors: int) -> int:
    """Into how many parts the keys of each row are cut to keep `processors` busy: a power of two.

    It depends on nothing that changes from step to step, so a captured step can be replayed.
    """
    wanted = min(MOST_SPLITS, PROGRAMS * processors // (groups * heads))
    return 1 << max(0, wanted.bit_length() - 1)


@dataclass(frozen=True, eq=False, slots=True)
class Tokens:
    """The T tokens of a step as the kernels read them, [T] int32 each, those of a row together."""

    row: Tensor
    """-1 for a padding token, of which nothing is written."""

    place: Tensor
    """In the row."""

    tag: Tensor

    bounds: Tensor
    """[G + 1]: where the groups begin, at most `queries` tokens of one row each; what is left of
    the bucket's groups is empty."""

    queries: int


@dataclass(frozen=True, slots=True)
class Tile:
    """How a program goes over its keys."""

    keys: int = 64
    """At a time."""

    warps: int = 4
    stages: int = 3
    """Tiles of keys and values that are on their way at once."""


def tile_for(dtype: torch.dtype) -> Tile:
    """What keeps a program of that type in registers."""
    return Tile(keys=32, stages=2) if dtype == torch.float32 else Tile()
