"""Steps padded to buckets write the tokens of steps in their own shape, captured or not.

What is captured on CUDA is called here as it is: the same buckets, padding and memory. On a machine
with a GPU the last test reads with the compiled kernels and graphs (see test_engine_kernels.py).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos_loader.testing import nano_kosmos
from kosmos_loader.testing.drawn import HELD_OUT, draw_page

torch = pytest.importorskip("torch", reason="needs the kosmos extra")
pytest.importorskip("transformers", reason="needs the kosmos extra")
pytest.importorskip("matplotlib", reason="brings the typefaces of drawn pages")

from kosmos_loader.engine.alternating import Alternating  # noqa: E402 - needs torch
from kosmos_loader.engine.cache import Cache  # noqa: E402
from kosmos_loader.engine.engine import Engine  # noqa: E402
from kosmos_loader.engine.graphs import (  # noqa: E402
    Bucket,
    Capture,
    Frame,
    GraphedSteps,
    Run,
    bounds_of,
    bucket_for,
    buckets,
)
from kosmos_loader.engine.kernels import Tokens  # noqa: E402
from kosmos_loader.engine.model import Kosmos  # noqa: E402
from kosmos_loader.engine.pages import FastEngine  # noqa: E402
from kosmos_loader.engine.request import Feed, Request  # noqa: E402
from kosmos_loader.engine.runner import ModelRunner, OutOfMemory  # noqa: E402
from kosmos_loader.engine.scheduler import MODES  # noqa: E402
from kosmos_loader.engine.steps import Batch, PlainSteps, Steps  # noqa: E402
from kosmos_loader.readers.kosmos import KosmosPageReader  # noqa: E402
from kosmos_loader.readers.reference import ReferenceEngine  # noqa: E402

COMPILED = os.environ.get("TRITON_INTERPRET") == "0"
LIMIT = 90
PAGES = 6

Written = dict[str, list[int]]
MakeSteps = Callable[[Kosmos, Cache], Steps]

counts_of_rows = st.lists(st.integers(1, 130), min_size=1, max_size=64).map(np.array)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@given(counts_of_rows, st.sampled_from([16, 32, 64]))
def test_groups_are_tokens_of_one_row_each_and_all_tokens_are_in_one(
    counts: np.ndarray, queries: int
) -> None:
    bounds = bounds_of(counts, queries)
    assert bounds[0] == 0
    assert bounds[-1] == counts.sum()
    assert (np.diff(bounds) > 0).all()
    assert (np.diff(bounds) <= queries).all()
    assert set(np.cumsum(counts)) <= set(bounds)
    assert len(bounds) - 1 == sum(-(-count // queries) for count in counts)


@given(counts_of_rows)
def test_a_bucket_holds_its_step_and_less_than_twice_as_much(counts: np.ndarray) -> None:
    bucket = bucket_for(counts)
    groups = len(bounds_of(counts, bucket.queries)) - 1
    assert groups <= bucket.groups < 2 * groups
    assert counts.sum() <= bucket.tokens < 2 * counts.sum()
    assert min(64, counts.max()) <= bucket.queries


@given(st.lists(st.integers(1, 64), min_size=1, max_size=64).map(np.array))
def test_steps_of_the_usual_widths_have_a_bucket_that_is_captured(counts: np.ndarray) -> None:
    bucket = bucket_for(counts)
    usual = bucket.tokens <= max(64, 8 * bucket.groups)
    assert (bucket in buckets(len(counts))) == usual


def test_the_buckets_are_powers_of_two_and_not_many() -> None:
    assert buckets(1) == [
        *(Bucket(1, tokens, 16) for tokens in (1, 2, 4, 8, 16)),
        Bucket(1, 32, 32),
        Bucket(1, 64, 64),
    ]
    of_64 = buckets(64)
    assert len(set(of_64)) == len(of_64) < 64
    assert {bucket.groups for bucket in of_64} == {1, 2, 4, 8, 16, 32, 64}
    assert max(bucket.tokens for bucket in of_64) == 512
    assert set(buckets(33)) == set(of_64)


def test_a_frame_holds_the_step_and_padding_that_is_fed_to_no_row() -> None:
    frame = Frame(Bucket(groups=4, tokens=8, queries=16), torch.device("cpu"))
    batch = Batch(
        rows=np.array([1, 3]),
        counts=np.array([3, 2]),
        ids=np.array([11, 12, 13, 14, 15]),
        positions=np.array([70, 71, 80, 60, 61]),
        tags=np.array([1, 1, 2, 1, 1], np.int32),
    )
    lengths = np.array([0, 20, 0, 10])
    frame.load(Batch(*(np.tile(part, 1) for part in full_batch())), lengths)
    frame.load(batch, lengths)
    assert frame.ids.tolist() == [11, 12, 13, 14, 15, 0, 0, 0]
    assert frame.positions.tolist() == [70, 71, 80, 60, 61, 0, 0, 0]
    assert frame.tokens.row.tolist() == [1, 1, 1, 3, 3, -1, -1, -1]
    assert frame.tokens.place.tolist() == [20, 21, 22, 10, 11, 0, 0, 0]
    assert frame.tokens.tag.tolist() == [1, 1, 2, 1, 1, 0, 0, 0]
    assert frame.tokens.bounds.tolist() == [0, 3, 5, 5, 5]


def full_batch() -> tuple[np.ndarray, ...]:
    """Leaves nothing of a frame of 8 tokens and 4 groups as it was."""
    return (
        np.arange(4),
        np.full(4, 2),
        np.full(8, 99),
        np.full(8, 98),
        np.full(8, 3, np.int32),
    )


class PaddedAttention:
    """What `SplitAttention` promises, in plain tensor operations on the same padded tokens."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def __call__(
        self,
        tokens: Tokens,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
    ) -> torch.Tensor:
        keys, values, tags = self.cache.keys[layer], self.cache.values[layer], self.cache.tags
        real = tokens.row >= 0
        row, place = tokens.row[real], tokens.place[real]
        tags[row, place] = tokens.tag[real]
        keys[row, :, place] = key[real]
        values[row, :, place] = value[real]
        seen = torch.arange(keys.shape[2]) <= place[:, None]
        seen &= (tags[row] == 0) | (tags[row] == tokens.tag[real, None])
        found = torch.zeros_like(query)
        found[real] = torch.nn.functional.scaled_dot_product_attention(
            query[real, :, None], keys[row], values[row], attn_mask=seen[:, None, None]
        )[:, :, 0]
        return found.flatten(1)


class Calls:
    """Captures nothing: a replay is the call, whose result is the same memory each time.

    How often there was a capture or a replay is counted.
    """

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.captured = 0
        self.replayed = 0

    def __call__(self, run: Run) -> Run:
        self.captured += 1
        if self.failure:
            raise self.failure

        result = run()

        def replay() -> torch.Tensor:
            self.replayed += 1
            return result.copy_(run())

        return replay


def graphed(capture: Capture) -> MakeSteps:
    return lambda model, cache: GraphedSteps(
        model, cache, attention=PaddedAttention(cache), capture=capture
    )


class Bench:
    """The trained model on a few pages."""

    def __init__(self) -> None:
        self.device = "cuda" if COMPILED else "cpu"
        reader = KosmosPageReader(
            nano_kosmos(),
            engine="reference",
            device=self.device,
            dtype="fp32",
            max_new_tokens=LIMIT,
        )
        self.reference: ReferenceEngine = reader.engine
        self.pages = [draw_page(HELD_OUT + 8, n).page(number=n + 1) for n in range(PAGES)]

    def fast(self, mode: str, **changed: Any) -> FastEngine:
        shared = {
            "prompts": self.reference.prompts,
            "limit": LIMIT,
            "max_patches": self.reference.max_patches,
            "slots": 4,
        }
        model, processor = self.reference.model, self.reference.processor
        return FastEngine(model, processor, **{**shared, **changed}, mode=mode)

    def runner(self, fast: FastEngine, steps: MakeSteps, *, slots: int = 4) -> ModelRunner:
        return ModelRunner(
            fast.kosmos,
            prefix_ids=fast.prefix_ids,
            sequences=len(fast.tasks),
            together=fast.mode.together,
            limit=fast.limit,
            slots=slots,
            steps=steps,
        )

    def read(self, fast: FastEngine, runner: ModelRunner, pages: int = PAGES) -> dict[Any, Written]:
        engine = Engine(fast.scheduler(runner.slots), runner)
        requests = self.requests(fast)[:pages]
        return {request.key: written(request) for request in engine.read(requests)}

    def requests(self, fast: FastEngine) -> list[Request]:
        return [
            fast.request(place, page, fast.patches(page)) for place, page in enumerate(self.pages)
        ]


def written(request: Request) -> Written:
    assert request.failure is None, request.failure
    return {sequence.task: sequence.tokens for sequence in request.sequences}


@pytest.fixture(scope="module")
def nano() -> Bench:
    return Bench()


@pytest.mark.skipif(COMPILED, reason="runs on the CPU")
@pytest.mark.parametrize("mode", sorted(MODES))
def test_padded_steps_write_the_tokens_of_steps_in_their_own_shape(nano: Bench, mode: str) -> None:
    fast = nano.fast(mode)
    calls = Calls()
    runner = nano.runner(fast, graphed(calls))
    found = nano.read(fast, runner)
    assert found == nano.read(fast, nano.runner(fast, PlainSteps))
    assert len(found) == PAGES
    steps = runner.steps
    assert isinstance(steps, GraphedSteps)
    captured = [bucket for bucket, frame in steps.frames.items() if frame.replay]
    assert calls.captured == len(captured) > 1
    assert calls.replayed > 60
    assert set(captured) <= set(buckets(runner.cache.rows))


@pytest.mark.skipif(COMPILED, reason="runs on the CPU")
def test_two_engines_in_turn_write_them_with_graphs_of_their_own(nano: Bench) -> None:
    fast = nano.fast("joint")
    calls = Calls()
    runners = [nano.runner(fast, graphed(calls), slots=2) for _ in range(2)]
    pair = Alternating(*(Engine(fast.scheduler(2), runner) for runner in runners))
    found = {request.key: written(request) for request in pair.read(nano.requests(fast))}
    assert found == nano.read(fast, nano.runner(fast, PlainSteps))
    frames = [runner.steps.frames.values() for runner in runners]
    assert all(any(frame.replay for frame in own) for own in frames)
    assert not {id(frame) for frame in frames[0]} & {id(frame) for frame in frames[1]}


@pytest.mark.skipif(COMPILED, reason="runs on the CPU")
def test_a_bucket_is_captured_when_it_is_met_again(nano: Bench) -> None:
    fast = nano.fast("shared")
    calls = Calls()
    runner = nano.runner(fast, graphed(calls))
    feeds = admitted(nano, fast, runner)
    with torch.inference_mode():
        plain = PlainSteps(runner.model, runner.cache)
        wanted = plain.predictions(runner._batch(feeds)).tolist()
    seen = []
    for _ in range(4):
        assert [token for part in predicted(runner, feeds) for token in part] == wanted
        seen.append((calls.captured, calls.replayed))
    assert seen == [(0, 0), (1, 1), (1, 2), (1, 3)]
    with torch.inference_mode():
        assert runner.logits(feeds).argmax(-1).tolist() == wanted


def predicted(runner: ModelRunner, feeds: Sequence[Feed]) -> list[list[int]]:
    return runner.read_back(runner.launch(feeds))


def admitted(nano: Bench, fast: FastEngine, runner: ModelRunner) -> list[Feed]:
    """The first tokens of three pages, one of them with a long draft."""
    requests = [
        fast.request(place, page, fast.patches(page)) for place, page in enumerate(nano.pages[:3])
    ]
    for slot, request in enumerate(requests):
        request.slot = slot
    runner.admit(requests)
    return [
        Feed(request, sequence, request.slot, tag, (sequence.prompt, *draft(request, tag)))
        for request in requests
        for tag, sequence in enumerate(request.sequences, 1)
    ]


def draft(request: Request, tag: int) -> Sequence[int]:
    return range(5, 25) if request.slot == tag == 1 else ()


@pytest.mark.skipif(COMPILED, reason="runs on the CPU")
def test_where_a_capture_fails_the_steps_go_on_without(
    nano: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    fast = nano.fast("joint")
    calls = Calls(RuntimeError("operation not permitted when stream is capturing"))
    with caplog.at_level(logging.WARNING, logger="kosmos_loader"):
        found = nano.read(fast, nano.runner(fast, graphed(calls)), pages=2)
    assert found == nano.read(fast, nano.runner(fast, PlainSteps), pages=2)
    assert calls.captured == 1
    (warning,) = [record.message for record in caplog.records if "captured" in record.message]
    assert warning.endswith("(operation not permitted when stream is capturing)")


@pytest.mark.skipif(COMPILED, reason="runs on the CPU")
def test_a_capture_without_memory_halves_the_pages_and_drops_the_graphs(nano: Bench) -> None:
    fast = nano.fast("joint")
    made: list[Steps] = []
    full = Calls(torch.OutOfMemoryError("CUDA out of memory"))

    def steps(model: Kosmos, cache: Cache) -> Steps:
        capture = full if not made else Calls()
        made.append(graphed(capture)(model, cache))
        return made[-1]

    runner = nano.runner(fast, steps)
    found = nano.read(fast, runner)
    assert found == nano.read(fast, nano.runner(fast, PlainSteps))
    assert len(made) == 2
    assert runner.slots == 2
    assert runner.steps is made[-1]
    assert full.captured == 1


@pytest.mark.skipif(COMPILED, reason="runs on the CPU")
def test_a_lack_of_memory_in_a_capture_is_known_as_one(nano: Bench) -> None:
    fast = nano.fast("shared")
    runner = nano.runner(fast, graphed(Calls(torch.OutOfMemoryError("CUDA out of memory"))))
    feeds = admitted(nano, fast, runner)
    predicted(runner, feeds)
    with pytest.raises(OutOfMemory, match="CUDA out of memory"):
        predicted(runner, feeds)


@pytest.mark.slow
@pytest.mark.skipif(COMPILED, reason="is for the interpreter")
def test_with_the_kernels_the_engine_writes_the_tokens_it_writes_without(nano: Bench) -> None:
    """A few tokens: the interpreter takes its time."""
    pytest.importorskip("triton", reason="needs triton, which is for Linux")
    from kosmos_loader.engine.split_kv import SplitAttention

    def steps(model: Kosmos, cache: Cache) -> Steps:
        return GraphedSteps(model, cache, attention=SplitAttention(cache), capture=Calls())

    fast = nano.fast("joint", limit=4, slots=2)
    found = nano.read(fast, nano.runner(fast, steps, slots=2), pages=2)
    assert found == nano.read(fast, nano.runner(fast, PlainSteps, slots=2), pages=2)


@pytest.mark.skipif(not COMPILED, reason="needs a GPU, and TRITON_INTERPRET=0")
@pytest.mark.parametrize("mode", sorted(MODES))
def test_on_a_gpu_the_engine_writes_the_tokens_of_plain_steps_from_graphs(
    nano: Bench, mode: str
) -> None:
    fast = nano.fast(mode)
    session = fast.session()
    assert len(session.runners) == 2
    found = {request.key: written(request) for request in session.engine.read(nano.requests(fast))}
    assert found == nano.read(fast, nano.runner(fast, PlainSteps))
    for runner in session.runners:
        steps = runner.steps
        assert isinstance(steps, GraphedSteps)
        assert any(frame.replay for frame in steps.frames.values())
        assert steps.capture
