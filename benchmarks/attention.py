"""How near attention over the cache comes to the speed of the memory: kernels, plain operations.

    python benchmarks/attention.py --device cuda [--rows 1,16,64] [--tokens 1,4,16,34]
                                   [--tiles 64x4x3,64x8x3] [--splits 1,2] [--queries 32,64]
                                   [--json] [--out FILE]
    python benchmarks/attention.py --rows 1,2 --tokens 1,16 --length 300

The heads of the released model, rows of `--length` keys, the prefix and two sequences behind it,
`--tokens` tokens to each row. A call takes the `--layers` of a cache one after the other, so that
no layer is still in the chip's own memory when it is read again; on CUDA it is replayed from a
graph. A tile is keys x warps x stages, queries are those of a group. `copy` is a copy on the
device, which reads and writes: the speed that can be had. Times are medians; bytes are those of the
keys and values of all rows. Each row goes to stderr as it is measured.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import report
import torch

from kosmos_loader.engine.attention import MaskedAttention
from kosmos_loader.engine.cache import Cache, RowShape
from kosmos_loader.engine.graphs import Bucket, CudaGraphs, Frame, bounds_of, bucket_for
from kosmos_loader.engine.kernels import Tile
from kosmos_loader.engine.steps import Batch
from kosmos_loader.readers.kosmos import DTYPES

HEADS, HEAD_SIZE, PREFIX = 16, 96, 2051
COLUMNS = (
    *("attention", "tile", "splits", "queries", "rows", "tokens"),
    *("us_per_layer", "gb_per_s", "of_copy"),
)

Run = Callable[[], Any]


def batch_of(rows: int, tokens: int) -> Batch:
    """`tokens` to each of `rows`, half of them of each of two sequences."""
    count = rows * tokens
    tags = np.tile(1 + (2 * np.arange(tokens) >= tokens), rows).astype(np.int32)
    nothing = np.zeros(count, np.int64)
    return Batch(np.arange(rows), np.full(rows, tokens), nothing, nothing, tags)


def cache_of(rows: int, options: argparse.Namespace) -> Cache:
    """Rows that are full but for the tokens of a step."""
    dtype = getattr(torch, DTYPES[options.dtype])
    widest = max(options.tokens)
    shape = RowShape(options.layers, HEADS, HEAD_SIZE, options.length + widest, dtype.itemsize)
    cache = Cache(shape, rows, dtype=dtype, device=torch.device(options.device))
    cache.keys.normal_()
    cache.values.normal_()
    behind = options.length + widest - PREFIX
    if behind > 0:
        cache.tags[:, PREFIX:] = 1 + torch.arange(behind, device=cache.device) % 2
    return cache


def rows_of(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row of the table for each attention, number of rows and number of tokens."""
    on_cuda = options.device == "cuda"
    for rows in options.rows:
        cache = cache_of(rows, options)
        read = 2 * rows * options.length * HEADS * HEAD_SIZE * cache.keys.itemsize
        copy = copy_rate(cache) if on_cuda else None
        for tokens in options.tokens:
            batch = batch_of(rows, tokens)
            cache.lengths[:] = options.length - tokens
            states = torch.randn(rows * tokens, 3, HEADS, HEAD_SIZE, device=cache.device)
            for facts, run in ways(cache, batch, states.to(cache.keys.dtype), options):
                seconds = seconds_of(run, cache.device) / options.layers
                rate = read / seconds
                yield {
                    **facts,
                    "rows": rows,
                    "tokens": tokens,
                    "us_per_layer": seconds * 1e6,
                    "gb_per_s": rate / 1e9,
                    "of_copy": rate / copy if copy else None,
                }


def ways(
    cache: Cache, batch: Batch, states: torch.Tensor, options: argparse.Namespace
) -> Iterator[tuple[dict[str, Any], Run]]:
    """What attends to the cache, and what it is."""
    plain = MaskedAttention(cache)
    layout = plain.layout(batch.rows, batch.counts, batch.tags)

    def masked() -> None:
        for layer in range(options.layers):
            plain(layout, layer, *states.unbind(1))

    yield {"attention": "plain", "tile": None, "splits": None, "queries": None}, masked
    if options.device != "cuda":
        return
    from kosmos_loader.engine.split_kv import SplitAttention

    for tile, splits, queries in itertools.product(options.tiles, options.splits, options.queries):
        frame = Frame(bucket_of(batch, queries), cache.device)
        frame.load(batch, cache.lengths)
        padded = states.new_zeros(frame.bucket.tokens, *states.shape[1:])
        padded[: len(states)] = states
        attention = SplitAttention(cache, splits=splits or None, tile=tile)

        def split(
            attention: SplitAttention = attention,
            frame: Frame = frame,
            padded: torch.Tensor = padded,
        ) -> None:
            for layer in range(options.layers):
                attention(frame.tokens, layer, *padded.unbind(1))

        yield (
            {
                "attention": "split-KV",
                "tile": f"{tile.keys}x{tile.warps}x{tile.stages}" if tile else None,
                "splits": splits or None,
                "queries": frame.bucket.queries,
            },
            split,
        )


def bucket_of(batch: Batch, queries: int) -> Bucket:
    """The engine's bucket, with groups of `queries` tokens where that is not 0."""
    bucket = bucket_for(batch.counts)
    if not queries:
        return bucket
    groups = len(bounds_of(batch.counts, queries)) - 1
    return Bucket(1 << (groups - 1).bit_length(), bucket.tokens, queries)


def copy_rate(cache: Cache) -> float:
    """Bytes a second, read and written, of a copy on the device."""
    source = torch.empty(1 << 30, dtype=torch.int8, device=cache.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds_of(lambda: target.copy_(source), cache.device)


def seconds_of(run: Run, device: torch.device) -> float:
    """The median of some calls, on CUDA replayed from a graph."""
    run()
    if device.type != "cuda":
        return statistics.median(_by_clock(run) for _ in range(5))
    torch.cuda.synchronize()
    replay = CudaGraphs(device)(run)
    for _ in range(3):
        replay()
    return statistics.median(_by_events(replay) for _ in range(20))


def _by_clock(run: Run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _by_events(run: Run) -> float:
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    run()
    after.record()
    after.synchronize()
    return float(before.elapsed_time(after)) / 1e3


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=tuple(DTYPES), help="bf16 on CUDA, fp32 on the CPU")
    parser.add_argument("--rows", type=_numbers, default=[1, 16, 64])
    parser.add_argument("--tokens", type=_numbers, default=[1, 4, 16, 34])
    parser.add_argument("--length", type=int, default=2552, help="keys of a row")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--tiles", type=_tiles, default=[None], help="such as 64x4x3,64x8x3")
    parser.add_argument("--splits", type=_numbers, default=[0], help="0: as the engine chooses")
    parser.add_argument("--queries", type=_numbers, default=[0], help="0: as the engine chooses")
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    parser.add_argument("--out", type=Path, help="write the JSON to this file too")
    options = parser.parse_args(given)
    options.dtype = options.dtype or ("bf16" if options.device == "cuda" else "fp32")
    return options


def _numbers(value: str) -> list[int]:
    return [int(part) for part in value.split(",")]


def _tiles(value: str) -> list[Tile]:
    return [Tile(*map(int, part.split("x"))) for part in value.split(",")]


@torch.inference_mode()
def main(given: Sequence[str] | None = None) -> int:
    """Runs the command; the exit code."""
    options = arguments(given)
    rows = []
    for row in rows_of(options):
        rows.append(row)
        print(*(row[column] for column in COLUMNS), file=sys.stderr)
    document = {
        **report.header("torch", "triton"),
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "dtype": options.dtype,
        "length": options.length,
        "rows": rows,
    }
    report.show(document, rows=rows, columns=COLUMNS, as_json=options.json, out=options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
