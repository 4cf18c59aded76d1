"""Attention over the cache as Triton kernels: the keys of a page are read once for all its tokens.

Split-KV decoding (Dao et al., "Flash-Decoding for long-context inference"): a row is cut into
splits that are attended to side by side, each by one program for all queries of the row, and what
the splits found is merged by the logarithms of their sums. Triton is imported here and nowhere
else, so this module is imported only where its kernels run.

Shapes: T tokens of a step, G groups of tokens of one row, H heads, D the head size, S splits.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from kosmos_loader.engine.cache import Cache
from kosmos_loader.engine.kernels import Tile, Tokens, blocks, splits_for, tile_for


@triton.jit
def store_kernel(
    key,
    value,
    keys,
    values,
    tags,
    row,
    place,
    tag,
    token_stride,
    capacity,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One token: its keys and values, and whose they are, into its row of the cache."""
    token = tl.program_id(0)
    own_row = tl.load(row + token).to(tl.int64)
    if own_row >= 0:
        own_place = tl.load(place + token)
        tl.store(tags + own_row * capacity + own_place, tl.load(tag + token))
        lane = tl.arange(0, BLOCK)
        real = lane < HEADS * SIZE
        source = token.to(tl.int64) * token_stride + lane
        target = ((own_row * HEADS + lane // SIZE) * capacity + own_place) * SIZE + lane % SIZE
        tl.store(keys + target, tl.load(key + source, mask=real), mask=real)
        tl.store(values + target, tl.load(value + source, mask=real), mask=real)


# compiled once for all buckets
@triton.jit(do_not_specialize=["tokens", "splits"])
def attend_kernel(
    query,
    keys,
    values,
    tags,
    row,
    place,
    tag,
    bounds,
    found,
    weight,
    scale,
    token_stride,
    capacity,
    tokens,
    splits,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    MAIN: tl.constexpr,
    REST: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """One head, one split, one group: `found` [S, T, H, D] and the base-2 logarithm of its weight.

    A head of 96 is taken as 64 and 32, since blocks are powers of two and padding would be read.
    A split in which a token sees nothing has the weight zero, whose logarithm is minus infinity,
    and of such a split nothing else is written.
    """
    head = tl.program_id(0)
    split = tl.program_id(1)
    group = tl.program_id(2)
    begin = tl.load(bounds + group)
    end = tl.load(bounds + group + 1)
    token = begin + tl.arange(0, QUERIES)
    real = token < end
    log_weight = weight + (split * tokens + token) * HEADS + head
    # the tokens of a row stand in it in their order; an empty group has no key
    length = tl.load(place + end - 1, mask=begin < end, other=-1) + 1
    share = tl.cdiv(tl.cdiv(length, splits), KEYS) * KEYS
    start = split * share
    stop = tl.minimum(start + share, length)
    if start >= stop:
        tl.store(log_weight, tl.full([QUERIES], -float("inf"), tl.float32), mask=real)
        return

    own_row = tl.load(row + begin).to(tl.int64)
    own_place = tl.load(place + token, mask=real, other=-1)
    own_tag = tl.load(tag + token, mask=real, other=-1)
    main = tl.arange(0, MAIN)
    at = token[:, None] * token_stride + head * SIZE
    query_main = tl.load(query + at + main[None, :], mask=real[:, None], other=0.0)
    sum_main = tl.zeros([QUERIES, MAIN], tl.float32)
    if WIDEN:
        query_main = query_main.to(tl.float32)
    if REST > 0:
        rest = MAIN + tl.arange(0, REST)
        query_rest = tl.load(query + at + rest[None, :], mask=real[:, None], other=0.0)
        sum_rest = tl.zeros([QUERIES, REST], tl.float32)
        if WIDEN:
            query_rest = query_rest.to(tl.float32)

    most = tl.full([QUERIES], -float("inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    row_tags = tags + own_row * capacity
    first_key = (own_row * HEADS + head) * capacity * SIZE
    row_keys = keys + first_key
    row_values = values + first_key
    for tile in range(start, stop, KEYS):
        key_place = tile + tl.arange(0, KEYS)
        inside = key_place < stop
        key_tag = tl.load(row_tags + key_place, mask=inside, other=-2)
        at_key = key_place[:, None] * SIZE

        key = tl.load(row_keys + at_key + main[None, :], mask=inside[:, None], other=0.0)
        if WIDEN:
            key = key.to(tl.float32)
        scores = tl.dot(query_main, tl.trans(key), input_precision="ieee")
        if REST > 0:
            key = tl.load(row_keys + at_key + rest[None, :], mask=inside[:, None], other=0.0)
            if WIDEN:
                key = key.to(tl.float32)
            scores = tl.dot(query_rest, tl.trans(key), scores, input_precision="ieee")

        visible = (key_tag[None, :] == 0) | (key_tag[None, :] == own_tag[:, None])
        visible &= key_place[None, :] <= own_place[:, None]
        scores = tl.where(visible, scores * scale, -float("inf"))
        new_most = tl.maximum(most, tl.max(scores, 1))
        # a token that has seen nothing yet: minus infinity less itself is no number
        base = tl.where(new_most == -float("inf"), 0.0, new_most)
        shares = tl.exp2(scores - base[:, None])
        decay = tl.exp2(most - base)
        total = total * decay + tl.sum(shares, 1)
        most = new_most

        value = tl.load(row_values + at_key + main[None, :], mask=inside[:, None], other=0.0)
        if WIDEN:
            value = value.to(tl.float32)
        sum_main *= decay[:, None]
        sum_main = tl.dot(shares.to(value.dtype), value, sum_main, input_precision="ieee")
        if REST > 0:
            value = tl.load(row_values + at_key + rest[None, :], mask=inside[:, None], other=0.0)
            if WIDEN:
                value = value.to(tl.float32)
            sum_rest *= decay[:, None]
            sum_rest = tl.dot(shares.to(value.dtype), value, sum_rest, input_precision="ieee")

    seen = total > 0
    divisor = tl.where(seen, total, 1.0)
    tl.store(log_weight, tl.where(seen, most + tl.log2(divisor), -float("inf")), mask=real)
    at_found = ((split * tokens + token).to(tl.int64)[:, None] * HEADS + head) * SIZE
    kept = (real & seen)[:, None]
    tl.store(found + at_found + main[None, :], sum_main / divisor[:, None], mask=kept)
    if REST > 0:
        tl.store(found + at_found + rest[None, :], sum_rest / divisor[:, None], mask=kept)


@triton.jit(do_not_specialize=["tokens", "splits"])
def merge_kernel(
    found,
    weight,
    merged,
    row,
    tokens,
    splits,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    MOST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One token, one head: what its splits found, each by its weight; zeros for a padding token."""
    token = tl.program_id(0)
    head = tl.program_id(1)
    size = tl.arange(0, BLOCK)
    target = merged + (token * HEADS + head) * SIZE + size
    if tl.load(row + token) < 0:
        tl.store(target, tl.zeros([BLOCK], tl.float32), mask=size < SIZE)
        return
    split = tl.arange(0, MOST)
    part = (split * tokens + token) * HEADS + head
    log_weight = tl.load(weight + part, mask=split < splits, other=-float("inf"))
    shares = tl.exp2(log_weight - tl.max(log_weight, 0))
    shares /= tl.sum(shares, 0)
    there = (log_weight > -float("inf"))[:, None] & (size < SIZE)[None, :]
    at = part.to(tl.int64)[:, None] * SIZE + size[None, :]
    parts = tl.load(found + at, mask=there, other=0.0)
    tl.store(target, tl.sum(parts * shares[:, None], 0), mask=size < SIZE)


class SplitAttention:
    """Attention over the rows of a cache; what is launched depends on shapes alone.

    `splits` are the parts of a row, None for as many as fill the device; `tile` is how a program
    goes over its part, None for what suits the type.
    """

    def __init__(
        self, cache: Cache, *, splits: int | None = None, tile: Tile | None = None
    ) -> None:
        self.cache = cache
        self.splits = splits
        self.tile = tile or tile_for(cache.keys.dtype)
        self.processors = 1
        if cache.keys.is_cuda:
            properties = torch.cuda.get_device_properties(cache.keys.device)
            self.processors = properties.multi_processor_count

    def __call__(
        self, tokens: Tokens, layer: int, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """[T, width]: what the tokens find, their own keys and values written beforehand.

        `query`, `key` and `value`, [T, heads, head size] each, have the same strides.
        """
        keys, values, tags = self.cache.keys[layer], self.cache.values[layer], self.cache.tags
        placed = tokens.row, tokens.place, tokens.tag
        count, heads, size = query.shape
        groups = len(tokens.bounds) - 1
        splits = self.splits or splits_for(groups, heads, self.processors)
        capacity = keys.shape[2]
        store_kernel[(count,)](
            *(key, value, keys, values, tags, *placed),
            *(key.stride(0), capacity),
            HEADS=heads,
            SIZE=size,
            BLOCK=triton.next_power_of_2(heads * size),
        )
        parts = query.new_empty((splits, count, heads, size), dtype=torch.float32)
        weights = query.new_empty((splits, count, heads), dtype=torch.float32)
        main, rest = blocks(size) or (size, 0)
        attend_kernel[(heads, splits, groups)](
            *(query, keys, values, tags, *placed, tokens.bounds, parts, weights),
            *(size**-0.5 * math.log2(math.e), query.stride(0), capacity, count, splits),
            HEADS=heads,
            SIZE=size,
            MAIN=main,
            REST=rest,
            QUERIES=tokens.queries,
            KEYS=self.tile.keys,
            # the interpreter computes with numpy, which has no bfloat16
            WIDEN=not query.is_cuda and query.dtype == torch.bfloat16,
            num_warps=self.tile.warps,
            num_stages=self.tile.stages,
        )
        merged = query.new_empty((count, heads * size))
        merge_kernel[(count, heads)](
            *(parts, weights, merged, tokens.row, count, splits),
            HEADS=heads,
            SIZE=size,
            MOST=triton.next_power_of_2(splits),
            BLOCK=triton.next_power_of_2(size),
            num_warps=1,
        )
        return merged
