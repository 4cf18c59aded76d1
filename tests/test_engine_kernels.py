"""The attention kernels against attention in plain tensor operations.

Here they run in triton's interpreter, on the CPU. On a machine with a GPU, compiled:

    TRITON_INTERPRET=0 pytest tests/test_engine_kernels.py tests/test_engine_graphs.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the kosmos extra")

from kosmos_loader.engine.attention import MaskedAttention  # noqa: E402 - needs torch
from kosmos_loader.engine.cache import Cache, RowShape  # noqa: E402
from kosmos_loader.engine.graphs import Bucket, Frame, bucket_for  # noqa: E402
from kosmos_loader.engine.kernels import (  # noqa: E402
    Machine,
    Tile,
    blocks,
    kernels_in_use,
    queries_for,
    splits_for,
    why_plain,
)
from kosmos_loader.engine.steps import Batch  # noqa: E402

COMPILED = os.environ.get("TRITON_INTERPRET") == "0"
DEVICE = torch.device("cuda" if COMPILED else "cpu")
HEADS, LAYERS, ROWS, CAPACITY = 2, 2, 4, 210
CLOSE = 5e-6


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass
class Case:
    """A cache in use, a step, and the queries, keys and values that its tokens come with."""

    cache: Cache
    batch: Batch
    states: tuple[torch.Tensor, ...]

    def found(
        self,
        layer: int = 1,
        *,
        bucket: Bucket | None = None,
        splits: int | None = None,
        tile: Tile | None = None,
    ) -> torch.Tensor:
        """[T, width], of a step padded to its bucket."""
        pytest.importorskip("triton", reason="needs triton, which is for Linux")
        from kosmos_loader.engine.split_kv import SplitAttention

        frame = Frame(bucket or bucket_for(self.batch.counts), DEVICE)
        frame.load(self.batch, self.cache.lengths)
        padded = torch.full((frame.bucket.tokens, 3, *self.states[0].shape[1:]), torch.nan)
        padded = padded.to(self.states[0])
        padded[: len(self.batch.ids)] = torch.stack(self.states, 1)
        attention = SplitAttention(self.cache, splits=splits, tile=tile)
        return attention(frame.tokens, layer, *padded.unbind(1))

    def wanted(self, layer: int = 1) -> torch.Tensor:
        """[N, width] of the plain operations, in fp32 on a copy of the cache."""
        copy = self.copy(torch.float32)
        attention = MaskedAttention(copy)
        batch = self.batch
        layout = attention.layout(batch.rows, batch.counts, batch.tags)
        return attention(layout, layer, *(state.float() for state in self.states))

    def copy(self, dtype: torch.dtype) -> Cache:
        shape = RowShape(LAYERS, HEADS, self.cache.keys.shape[-1], CAPACITY, 4)
        copy = Cache(shape, ROWS, dtype=dtype, device=DEVICE)
        copy.keys.copy_(self.cache.keys)
        copy.values.copy_(self.cache.values)
        copy.tags.copy_(self.cache.tags)
        copy.lengths[:] = self.cache.lengths
        return copy


def case(
    seed: int,
    *,
    size: int = 96,
    dtype: torch.dtype = torch.float32,
    fewest: int = 1,
    widest: int = 24,
) -> Case:
    """Some rows of a cache that earlier pages left full, fed `fewest` to `widest` tokens each."""
    chance = np.random.default_rng(seed)
    torch.manual_seed(seed)
    cache = Cache(RowShape(LAYERS, HEADS, size, CAPACITY, 4), ROWS, dtype=dtype, device=DEVICE)
    cache.keys.normal_()
    cache.values.normal_()
    cache.tags.copy_(torch.randint(0, 3, cache.tags.shape))
    for row in range(ROWS):
        length = int(chance.integers(1, CAPACITY - 2 * widest))
        cache.open(row, int(chance.integers(1, length + 1)))
        cache.lengths[row] = length
    rows = np.sort(chance.choice(ROWS, int(chance.integers(1, ROWS + 1)), replace=False))
    first = chance.integers(fewest, widest + 1, len(rows))
    second = chance.integers(0, widest - first + 1)
    counts = first + second
    count = int(counts.sum())
    tags = np.concatenate([np.repeat([1, 2], pair) for pair in zip(first, second, strict=True)])
    batch = Batch(
        rows,
        counts,
        chance.integers(0, 100, count),
        chance.integers(0, 100, count),
        tags.astype(np.int32),
    )
    states = torch.randn(count, 3, HEADS, size, device=DEVICE).to(dtype).unbind(1)
    return Case(cache, batch, states)


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference; what plain attention finds here is of the order of 1."""
    return float((found[: len(wanted)].float() - wanted).abs().max())


@pytest.mark.parametrize(("size", "seed"), [(16, 0), (32, 1), (32, 2), (96, 3), (96, 4), (96, 5)])
def test_the_kernels_find_what_plain_operations_find(size: int, seed: int) -> None:
    given = case(seed, size=size)
    assert off(given.found(), given.wanted()) < CLOSE


@pytest.mark.parametrize(("dtype", "most"), [(torch.bfloat16, 0.02), (torch.float16, 0.003)])
@pytest.mark.parametrize("seed", range(2))
def test_in_half_precision_they_find_it_within_its_rounding(
    seed: int, dtype: torch.dtype, most: float
) -> None:
    given = case(100 + seed, dtype=dtype)
    wanted = given.wanted()
    found = given.found()
    assert found.dtype == dtype
    assert off(found, wanted) < most * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("splits", [1, 2, 3, 32])
def test_into_how_many_splits_a_row_is_cut_changes_nothing(splits: int) -> None:
    given = case(7)
    assert given.batch.counts.max() > 1
    wanted = given.wanted()
    assert off(given.found(splits=splits), wanted) < CLOSE
    assert off(given.found(splits=splits, tile=Tile(keys=16)), wanted) < CLOSE


def test_a_row_with_more_tokens_than_a_group_holds_is_several_groups() -> None:
    given = case(8, fewest=33, widest=40)
    bucket = Bucket(groups=16, tokens=256, queries=16)
    assert given.batch.counts.min() > 2 * bucket.queries
    assert off(given.found(bucket=bucket), given.wanted()) < CLOSE


def test_keys_values_and_tags_of_the_step_are_in_their_places_and_no_others_change() -> None:
    given = case(9, dtype=torch.bfloat16)
    plain, batch = given.copy(torch.bfloat16), given.batch
    attention = MaskedAttention(plain)
    attention(attention.layout(batch.rows, batch.counts, batch.tags), 1, *given.states)
    before = given.copy(torch.bfloat16)
    given.found()
    assert torch.equal(given.cache.keys, plain.keys)
    assert torch.equal(given.cache.values, plain.values)
    assert torch.equal(given.cache.tags, plain.tags)
    assert not torch.equal(given.cache.keys, before.keys)


def test_what_earlier_pages_left_behind_a_row_is_not_looked_at() -> None:
    given = case(10)
    wanted = given.wanted()
    for row, length in enumerate(given.cache.lengths):
        given.cache.keys[:, row, :, length:] = torch.nan
        given.cache.values[:, row, :, length:] = torch.inf
    assert off(given.found(), wanted) < CLOSE


def test_padding_finds_nothing_and_changes_nothing() -> None:
    given = case(11)
    count = len(given.batch.ids)
    bucket = Bucket(groups=16, tokens=256, queries=32)
    exact = case(11)
    wanted = exact.found()
    found = given.found(bucket=bucket)
    assert not found[count:].any()
    assert off(found, wanted[:count]) < CLOSE
    assert torch.equal(given.cache.keys, exact.cache.keys)
    assert torch.equal(given.cache.tags, exact.cache.tags)


def test_a_step_of_padding_alone_changes_nothing() -> None:
    given = case(12)
    before = given.copy(torch.float32)
    nothing = np.zeros(0, np.int64)
    given.batch = Batch(nothing, nothing, nothing, nothing, nothing.astype(np.int32))
    given.states = tuple(state[:0] for state in given.states)
    found = given.found(bucket=Bucket(groups=2, tokens=4, queries=16))
    assert not found.any()
    assert torch.equal(given.cache.keys, before.keys)
    assert torch.equal(given.cache.values, before.values)
    assert torch.equal(given.cache.tags, before.tags)


COMPILE = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from kosmos_loader.engine import split_kv
from kosmos_loader.engine.kernels import blocks, tile_for
import torch

NUMBERS = {"token_stride": "i32", "capacity": "i32", "tokens": "i32", "splits": "i32"}
WHOLE = dict.fromkeys(("row", "place", "tag", "tags", "bounds"), "*i32")
FLOATS = {"found": "*fp32", "weight": "*fp32", "scale": "fp32"}

def build(kernel, constants, options):
    names = [parameter.name for parameter in kernel.params]
    types = {**NUMBERS, **WHOLE, **FLOATS}
    signature = {
        name: "constexpr" if name in constants else types.get(name, "*bf16") for name in names
    }
    given = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature, given)
    for target in (80, 90):
        built = compile(source, target=GPUTarget("cuda", target, 32), options=options)
        print(kernel.fn.__name__, target, built.metadata.shared, len(built.asm["cubin"]))

shape = {"HEADS": 16, "SIZE": 96}
build(split_kv.store_kernel, {**shape, "BLOCK": 2048}, {})
build(split_kv.merge_kernel, {**shape, "MOST": 32, "BLOCK": 128}, {"num_warps": 1})
tile = tile_for(torch.bfloat16)
main, rest = blocks(96)
for queries in (16, 64):
    constants = {"MAIN": main, "REST": rest, "QUERIES": queries, "KEYS": tile.keys, "WIDEN": False}
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    build(split_kv.attend_kernel, {**shape, **constants}, options)
"""


@pytest.mark.slow
def test_the_kernels_of_the_released_model_compile_for_gpus_that_are_not_here(
    tmp_path: Path,
) -> None:
    """The interpreter takes what the compiler refuses; the compiler needs no device."""
    pytest.importorskip("triton", reason="needs triton, which is for Linux")
    script = tmp_path / "build.py"
    script.write_text(COMPILE)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    built = [line.split() for line in done.stdout.splitlines()]
    assert [line[:2] for line in built] == [
        [kernel, target]
        for kernel in ("store_kernel", "merge_kernel", "attend_kernel", "attend_kernel")
        for target in ("80", "90")
    ]
    # shared memory of a multiprocessor of compute capability 8.0 for one program
    assert all(int(shared) < 163 * 1024 for _, _, shared, _ in built)


H200 = Machine("cuda", (9, 0), has_triton=True, has_compiler=True)


def test_a_head_is_cut_into_powers_of_two_without_padding() -> None:
    assert [blocks(size) for size in (16, 32, 64, 96, 128)] == [
        (16, 0),
        (32, 0),
        (64, 0),
        (64, 32),
        (128, 0),
    ]
    assert [blocks(size) for size in (1, 8, 24, 72, 112)] == [None] * 5


def test_queries_are_as_few_as_hold_the_widest_row() -> None:
    assert [queries_for(widest) for widest in (1, 16, 17, 32, 33, 64, 500)] == [
        *(16, 16, 32, 32, 64, 64, 64)
    ]


def test_few_rows_are_cut_into_many_splits_and_many_rows_into_none() -> None:
    wanted = {1: 32, 2: 32, 4: 16, 8: 8, 16: 4, 32: 2, 64: 1, 128: 1}
    assert {groups: splits_for(groups, 16, 132) for groups in wanted} == wanted
    assert splits_for(64, 16, 1) == 1


@pytest.mark.parametrize(
    ("machine", "dtype", "size", "why"),
    [
        (H200, torch.bfloat16, 96, None),
        (H200, torch.float32, 96, None),
        (Machine("cpu"), torch.float32, 96, " on the CPU"),
        (Machine("mps"), torch.float16, 96, ": the kernels are for CUDA, not for mps"),
        (
            Machine("cuda", (9, 0), has_compiler=True),
            torch.bfloat16,
            96,
            ": triton is not installed",
        ),
        (
            Machine("cuda", (9, 0), has_triton=True),
            torch.bfloat16,
            96,
            ": triton finds no C compiler",
        ),
        (
            Machine("cuda", (7, 5), has_triton=True, has_compiler=True),
            torch.float16,
            96,
            ": the GPU is older than compute capability 8.0",
        ),
        (H200, torch.float64, 96, ": the kernels do not compute in torch.float64"),
        (H200, torch.bfloat16, 72, ": the kernels have no heads of 72"),
    ],
)
def test_where_the_kernels_do_not_run_the_reason_is_said(
    machine: Machine, dtype: torch.dtype, size: int, why: str | None
) -> None:
    assert why_plain(machine, dtype, size) == why


def test_one_line_says_what_a_step_is_computed_with() -> None:
    assert kernels_in_use("cpu", torch.float32) == "plain tensor operations on the CPU"
    assert kernels_in_use("meta", torch.float32).endswith("not for meta")
