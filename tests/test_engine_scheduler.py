"""The engine's policy against a model made of arithmetic: no tensors, thousands of cases.

One engine, and two in turn.
"""

from __future__ import annotations

import itertools
import random
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos_loader.engine.alternating import Alternating, halves
from kosmos_loader.engine.decoding import LOOP_EVERY, accepted, loop_seen
from kosmos_loader.engine.engine import Engine
from kosmos_loader.engine.request import END, LENGTH, LOOP, Feed, Request
from kosmos_loader.engine.request import Sequence as TaskSequence
from kosmos_loader.engine.runner import OutOfMemory
from kosmos_loader.engine.scheduler import MODES, Scheduler

pytest.importorskip("torch", reason="needs the kosmos extra")

END_TOKEN = 0
PROMPTS = {"ocr": 100, "md": 101}
Model = Callable[[object, str, Sequence[int]], int]


def arithmetic(page: object, task: str, tokens: Sequence[int]) -> int:
    """A model whose outputs depend on page, task and all tokens so far, and end by themselves."""
    return crc32(repr((page, task, list(tokens))).encode()) % 7


def written_alone(model: Model, page: object, task: str, limit: int) -> tuple[list[int], str]:
    """What a sequence comes to token by token."""
    tokens: list[int] = []
    while len(tokens) < limit:
        token = model(page, task, tokens)
        if token == END_TOKEN:
            return tokens, END
        tokens.append(token)
    return tokens, LENGTH


@dataclass
class ScriptedRunner:
    """Runs a `Model`, and holds in its rows what a cache would hold: the tokens fed and kept.

    A feed that does not go on where its row stands is a broken engine. `fails(call)` says with what
    the call of that number fails.
    """

    model: Model
    fails: Callable[[int, str], Exception | None] = lambda call, what: None
    slots: int = 0
    width: int = 1
    """Rows of a page."""

    name: str = ""
    heard: list[tuple[str, str]] = field(default_factory=list)
    """Launches and what was read back, with the name of the runner: of several in one list."""

    calls: int = 0
    sizes: list[int] = field(default_factory=list)
    rows: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    pages: dict[int, object] = field(default_factory=dict)

    def _call(self, what: str) -> None:
        self.calls += 1
        if (error := self.fails(self.calls, what)) is not None:
            raise error

    def resize(self, slots: int) -> None:
        self.slots = slots
        self.sizes.append(slots)
        self.rows.clear()
        self.pages.clear()

    def admit(self, requests: Sequence[Request]) -> None:
        self._call("admit")
        for request in requests:
            self.pages[request.slot] = request.key
            for key in [key for key in self.rows if key[0] // self.width == request.slot]:
                del self.rows[key]

    def move(self, moves: Sequence[tuple[int, int]]) -> None:
        for source, target in moves:
            self.pages[target] = self.pages.pop(source)
            for row, tag in sorted(self.rows):
                if row // self.width == source:
                    moved = row + (target - source) * self.width
                    self.rows[moved, tag] = self.rows.pop((row, tag))

    def launch(self, feeds: Sequence[Feed]) -> list[list[int]]:
        self._call("launch")
        self.heard.append(("launch", self.name))
        assert [feed.row for feed in feeds] == sorted(feed.row for feed in feeds)
        predictions = []
        for feed in feeds:
            assert self.pages[feed.request.slot] == feed.request.key
            held = self.rows.setdefault((feed.row, feed.tag), [])
            sequence = feed.sequence
            assert held == [sequence.prompt, *sequence.tokens][: len(sequence.tokens)]
            seen = [*held, *feed.tokens][1:]
            known = len(seen) - len(feed.tokens) + 1
            predictions.append(
                [
                    self.model(feed.request.key, sequence.task, seen[: known + i])
                    for i in range(len(feed.tokens))
                ]
            )
        return predictions

    def read_back(self, launched: list[list[int]]) -> list[list[int]]:
        self.heard.append(("read", self.name))
        self._call("read")
        return launched

    def keep(self, feeds: Sequence[Feed], kept: Sequence[int]) -> None:
        self._call("keep")
        for feed, count in zip(feeds, kept, strict=True):
            self.rows[feed.row, feed.tag] += feed.tokens[:count]


class Guesser:
    """Drafts by chance: some right, some wrong, some past the end."""

    is_waiting = False

    def __init__(self, model: Model, page: object, task: str, seed: int, right: float) -> None:
        self.model, self.page, self.task = model, page, task
        self.chance = random.Random(f"{seed}/{page}/{task}")  # noqa: S311 - no secret
        self.right = right

    def draft(self, tokens: Sequence[int], most: int) -> list[int]:
        draft: list[int] = []
        for _ in range(self.chance.randrange(most + 1)):
            true = self.model(self.page, self.task, [*tokens, *draft])
            draft.append(true if self.chance.random() < self.right else self.chance.randrange(8))
        return draft

    def observe(self, proposed: int, right: int) -> None:
        assert 0 <= right <= proposed or right == proposed == 0


def requests(
    model: Model, pages: int, *, limit: int, tasks: Sequence[str], seed: int = 0, right: float = 0.7
) -> list[Request]:
    return [
        Request(
            page,
            None,
            tuple(
                TaskSequence(
                    task,
                    PROMPTS[task],
                    limit,
                    speculation=Guesser(model, page, task, seed, right),  # type: ignore[arg-type]
                )
                for task in tasks
            ),
        )
        for page in range(pages)
    ]


def engine_of(
    model: Model,
    *,
    mode: str,
    slots: int,
    tasks: Sequence[str] = ("ocr", "md"),
    runner: type[ScriptedRunner] = ScriptedRunner,
    **fields: object,
) -> Engine:
    scheduler = Scheduler(slots=slots, end=END_TOKEN, mode=MODES[mode])
    width = 1 if MODES[mode].together else len(tasks)
    return Engine(scheduler, runner(model, slots=slots, width=width, **fields))


def pair_of(model: Model, *, slots: int, **fields: object) -> Alternating:
    """Two engines, A and B, with `slots` in all."""
    shares = halves(slots, 2, ahead=False)
    heard = fields.pop("heard", [])
    return Alternating(
        *(
            engine_of(model, slots=share, name=name, heard=heard, **fields)
            for share, name in zip((*shares, 1), "AB", strict=False)
        )
    )


MAKERS = [engine_of, pair_of]


cases = {
    "make": st.sampled_from(MAKERS),
    "mode": st.sampled_from(sorted(MODES)),
    "slots": st.integers(1, 9),
    "pages": st.integers(0, 20),
    "limit": st.integers(1, 30),
    "tasks": st.sampled_from([("ocr",), ("md",), ("ocr", "md")]),
    "seed": st.integers(0, 10**6),
    "right": st.sampled_from([0.0, 0.5, 0.9, 1.0]),
}


@given(**cases)
def test_every_page_comes_out_once_with_the_tokens_it_has_alone(
    make: Callable[..., Engine | Alternating],
    mode: str,
    slots: int,
    pages: int,
    limit: int,
    tasks: tuple[str, ...],
    seed: int,
    right: float,
) -> None:
    engine = make(arithmetic, mode=mode, slots=slots, tasks=tasks)
    asked = requests(arithmetic, pages, limit=limit, tasks=tasks, seed=seed, right=right)
    ended = list(engine.read(asked))
    assert sorted(request.key for request in ended) == list(range(pages))
    for request in ended:
        assert request.failure is None
        for sequence in request.sequences:
            alone = written_alone(arithmetic, request.key, sequence.task, limit)
            assert (sequence.tokens, sequence.finish) == alone


@settings(max_examples=60)
@given(**cases, failing=st.sets(st.integers(1, 40), max_size=6))
def test_a_lack_of_memory_at_any_moment_changes_no_token(
    make: Callable[..., Engine | Alternating],
    mode: str,
    slots: int,
    pages: int,
    limit: int,
    tasks: tuple[str, ...],
    seed: int,
    right: float,
    failing: set[int],
) -> None:
    calls = itertools.count(1)

    def fails(call: int, what: str) -> Exception | None:
        return OutOfMemory("too little") if next(calls) in failing else None

    engine = make(arithmetic, mode=mode, slots=slots, tasks=tasks, fails=fails)
    asked = requests(arithmetic, pages, limit=limit, tasks=tasks, seed=seed, right=right)
    ended = {request.key: request for request in engine.read(asked)}
    assert sorted(ended) == list(range(pages))
    # with one slot there is nothing to halve: then the page that it happened to is given up
    lost = [request for request in ended.values() if request.failure is not None]
    assert len(lost) <= len(failing)
    for request in ended.values():
        if request.failure is None:
            for sequence in request.sequences:
                alone = written_alone(arithmetic, request.key, sequence.task, limit)
                assert (sequence.tokens, sequence.finish) == alone


def test_a_lack_of_memory_halves_the_pages_in_hand_and_loses_none() -> None:
    def fails(call: int, what: str) -> Exception | None:
        return OutOfMemory("too little") if call in {5, 14} else None

    engine = engine_of(arithmetic, mode="joint", slots=8, fails=fails)
    ended = list(engine.read(requests(arithmetic, 12, limit=30, tasks=("ocr", "md"))))
    assert engine.runner.sizes == [4, 2]
    assert len(ended) == 12
    assert all(request.failure is None for request in ended)


def test_a_page_that_cannot_fit_alone_fails_and_the_others_get_their_room_back() -> None:
    engine = engine_of(arithmetic, mode="joint", slots=4)
    runner = engine.runner
    assert isinstance(runner, ScriptedRunner)
    runner.fails = lambda call, what: (
        OutOfMemory("too large") if what == "launch" and 3 in runner.pages.values() else None
    )
    ended = {r.key: r for r in engine.read(requests(arithmetic, 9, limit=20, tasks=("ocr",)))}
    assert [key for key, request in sorted(ended.items()) if request.failure] == [3]
    assert runner.sizes[-1] == 4
    for key, request in ended.items():
        if key != 3:
            alone = written_alone(arithmetic, key, "ocr", 20)
            assert (request.sequences[0].tokens, request.sequences[0].finish) == alone


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), KeyError(7)], ids=repr)
def test_a_page_that_the_model_chokes_on_fails_alone(error: Exception) -> None:
    engine = engine_of(arithmetic, mode="shared", slots=4)
    runner = engine.runner
    assert isinstance(runner, ScriptedRunner)
    runner.fails = lambda call, what: error if 2 in runner.pages.values() else None
    ended = {r.key: r for r in engine.read(requests(arithmetic, 6, limit=20, tasks=("ocr",)))}
    assert [key for key, r in ended.items() if r.failure] == [2]
    assert ended[2].failure is error


class Tensor:
    """What a step holds while it runs."""


def test_what_a_failed_step_held_is_free_before_the_cache_is_made_anew() -> None:
    held: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    class Hungry(ScriptedRunner):
        def launch(self, feeds: Sequence[Feed]) -> list[list[int]]:
            tensor = Tensor()
            held.append(weakref.ref(tensor))
            try:
                int("from below")
            except ValueError as error:
                raise OutOfMemory("too little") from error
            raise AssertionError

        def resize(self, slots: int) -> None:
            super().resize(slots)
            alive.append(sum(tensor() is not None for tensor in held))

    runner = Hungry(arithmetic, slots=4)
    engine = Engine(Scheduler(slots=4, end=END_TOKEN, mode=MODES["joint"]), runner)
    (request,) = engine.read(requests(arithmetic, 1, limit=5, tasks=("ocr",)))
    assert isinstance(request.failure, OutOfMemory)
    assert runner.sizes == [2, 1, 4]
    assert alive == [0, 0, 0]


def test_a_drafter_that_fails_costs_its_drafts_and_nothing_else() -> None:
    class Failing(Guesser):
        def draft(self, tokens: Sequence[int], most: int) -> list[int]:
            if len(tokens) > 2:
                raise IndexError("beyond the page")
            return super().draft(tokens, most)

    engine = engine_of(arithmetic, mode="joint", slots=3)
    asked = requests(arithmetic, 5, limit=20, tasks=("ocr", "md"))
    for request in asked:
        for sequence in request.sequences:
            sequence.speculation = Failing(  # type: ignore[assignment]
                arithmetic, request.key, sequence.task, 0, 0.5
            )
    ended = list(engine.read(asked))
    assert len(ended) == 5
    assert engine.runner.sizes == []
    for request in ended:
        for sequence in request.sequences:
            alone = written_alone(arithmetic, request.key, sequence.task, 20)
            assert (sequence.tokens, sequence.finish) == alone


def test_a_slot_is_refilled_in_the_step_after_its_page_ends() -> None:
    lengths = {0: 3, 1: 9, 2: 3}

    def model(page: object, task: str, tokens: Sequence[int]) -> int:
        assert isinstance(page, int)
        return 5 if len(tokens) < lengths[page] else END_TOKEN

    engine = engine_of(model, mode="plain", slots=2, tasks=("ocr",))
    for request in requests(model, 3, limit=99, tasks=("ocr",)):
        engine.add(request)
    ended_at = {}
    step = 0
    while engine.has_work:
        step += 1
        for request in engine.advance():
            ended_at[request.key] = step
    # page 2 begins in step 5, right behind page 0, and all are done when the longest is
    assert ended_at == {0: 4, 2: 8, 1: 10}


def test_right_drafts_take_fewer_steps_and_wrong_ones_no_more_than_none() -> None:
    def steps(mode: str, right: float) -> int:
        engine = engine_of(longer, mode=mode, slots=4)
        asked = requests(longer, 4, limit=60, tasks=("ocr", "md"), right=right)
        assert len(list(engine.read(asked))) == 4
        return engine.runner.heard.count(("launch", ""))

    def longer(page: object, task: str, tokens: Sequence[int]) -> int:
        return (
            1 + crc32(repr((page, task, list(tokens[-3:]))).encode()) % 7
            if len(tokens) < 50
            else END_TOKEN
        )

    assert steps("joint", 1.0) < steps("shared", 1.0) / 3
    assert steps("joint", 0.0) <= steps("shared", 0.0)


def test_drafts_are_cut_to_the_width_of_a_step() -> None:
    class Widest(ScriptedRunner):
        widest = 0

        def launch(self, feeds: Sequence[Feed]) -> list[list[int]]:
            self.widest = max(self.widest, sum(len(feed.tokens) for feed in feeds))
            return super().launch(feeds)

    runner = Widest(arithmetic, slots=3, width=1)
    scheduler = Scheduler(slots=3, end=END_TOKEN, mode=MODES["joint"], width=9)
    asked = requests(arithmetic, 9, limit=30, tasks=("ocr", "md"), right=1.0)
    assert len(list(Engine(scheduler, runner).read(asked))) == 9
    assert 6 < runner.widest <= 9


# One engine: what is held, and when


def test_no_page_is_taken_before_there_is_a_slot_for_it() -> None:
    engine = engine_of(arithmetic, mode="joint", slots=3)
    pulled: list[object] = []
    most = ended = 0

    def pages() -> Iterator[Request]:
        nonlocal most
        for request in requests(arithmetic, 12, limit=30, tasks=("ocr",)):
            pulled.append(request.key)
            most = max(most, len(pulled) - ended)
            yield request

    for _ in engine.read(pages()):
        ended += 1
    assert (ended, most) == (12, 3)


def poisoned(page: object) -> Callable[[ScriptedRunner], None]:
    """Makes a runner fail wherever it holds `page`."""

    def poison(runner: ScriptedRunner) -> None:
        runner.fails = lambda call, what: (
            ValueError("poison") if what == "launch" and page in runner.pages.values() else None
        )

    return poison


def test_slots_given_up_for_a_page_that_is_not_yet_found_out_come_back_at_the_end() -> None:
    engine = engine_of(arithmetic, mode="joint", slots=8)
    runner = engine.runner
    assert isinstance(runner, ScriptedRunner)
    poisoned(7)(runner)
    for request in requests(arithmetic, 8, limit=30, tasks=("ocr",)):
        engine.add(request)
    engine.advance()
    assert runner.slots == 4
    engine.close()
    assert runner.slots == 8


def test_slots_that_memory_has_no_room_for_stay_given_up() -> None:
    engine = engine_of(arithmetic, mode="joint", slots=8)
    runner = engine.runner
    assert isinstance(runner, ScriptedRunner)
    runner.fails = lambda call, what: (
        OutOfMemory("too little") if what == "launch" and len(runner.pages) > 2 else None
    )
    assert len(list(engine.read(requests(arithmetic, 8, limit=30, tasks=("ocr",))))) == 8
    engine.close()
    assert runner.slots == 2


# Two engines in turn


def counted(page: object, task: str, tokens: Sequence[int]) -> int:
    """Three tokens, and the end."""
    return 5 if len(tokens) < 3 else END_TOKEN


def runners_of(pair: Alternating) -> list[ScriptedRunner]:
    first, second = (engine.runner for engine in pair.turns)
    assert isinstance(first, ScriptedRunner)
    assert isinstance(second, ScriptedRunner)
    return [first, second]


def test_each_step_is_read_back_after_the_other_engine_has_launched_its_own() -> None:
    heard: list[tuple[str, str]] = []
    pair = pair_of(counted, mode="plain", slots=2, heard=heard, tasks=("ocr",))
    assert len(list(pair.read(requests(counted, 2, limit=9, tasks=("ocr",))))) == 2
    rounds = [("launch", "B"), ("read", "A"), ("launch", "A"), ("read", "B")] * 4
    assert heard == [("launch", "A"), *rounds[:-2], ("read", "B")]


def test_a_page_by_itself_is_launched_and_read_back() -> None:
    heard: list[tuple[str, str]] = []
    pair = pair_of(counted, mode="plain", slots=2, heard=heard, tasks=("ocr",))
    (request,) = pair.read(requests(counted, 1, limit=9, tasks=("ocr",)))
    assert request.sequences[0].tokens == [5, 5, 5]
    assert heard == [("launch", "A"), ("read", "A")] * 4
    assert pair.advance() == []


def test_pages_are_shared_out_by_the_room_there_is() -> None:
    pair = pair_of(arithmetic, mode="plain", slots=6)
    assert not pair.has_work
    for request in requests(arithmetic, 5, limit=9, tasks=("ocr",)):
        assert not pair.is_full
        pair.add(request)
    assert not pair.is_full
    assert sorted(engine.scheduler.in_hand for engine in pair.turns) == [2, 3]
    assert pair.has_work


class Clock:
    """What time it is for the host, and until when the device is busy."""

    def __init__(self) -> None:
        self.host = self.device = 0


@dataclass
class Deferred(ScriptedRunner):
    """Computes what it launches when it is read back, which takes a device its time, page by page.

    So does what the host does for each page before the next launch.
    """

    clock: Clock = field(default_factory=Clock)

    def launch(self, feeds: Sequence[Feed]) -> object:
        self.clock.device = max(self.clock.host, self.clock.device) + 10 * len(feeds)
        return self.clock.device, feeds

    def read_back(self, launched: object) -> list[list[int]]:
        done, feeds = launched  # type: ignore[misc]
        self.clock.host = max(self.clock.host, done)
        return super().read_back(super().launch(feeds))

    def keep(self, feeds: Sequence[Feed], kept: Sequence[int]) -> None:
        super().keep(feeds, kept)
        self.clock.host += 7 * len(feeds)


@pytest.mark.parametrize(("make", "engines"), [(engine_of, 1), (pair_of, 2)])
def test_the_host_does_its_part_while_the_device_runs_what_the_other_engine_launched(
    make: Callable[..., Engine | Alternating], engines: int
) -> None:
    clock = Clock()
    engine = make(counted, mode="plain", slots=4, tasks=("ocr",), runner=Deferred, clock=clock)
    ended = list(engine.read(requests(counted, 4, limit=9, tasks=("ocr",))))
    assert [request.sequences[0].tokens for request in ended] == [[5, 5, 5]] * 4
    steps = 4
    in_turn, at_once = steps * 4 * (10 + 7), steps * 4 * 10 + 2 * 7
    assert clock.host == {1: in_turn, 2: at_once}[engines]


@pytest.mark.parametrize("name", ["A", "B"])
@pytest.mark.parametrize("what", ["admit", "launch", "read", "keep"])
@pytest.mark.parametrize("error", [OutOfMemory("too little"), RuntimeError("late")], ids=repr)
def test_an_error_of_one_engine_halves_its_slots_and_leaves_the_step_of_the_other(
    error: Exception, what: str, name: str
) -> None:
    heard: list[tuple[str, str]] = []
    pair = pair_of(arithmetic, mode="joint", slots=8, heard=heard)
    own, other = sorted(runners_of(pair), key=lambda runner: runner.name != name)
    errors = [error]
    own.fails = lambda call, part: errors.pop() if errors and part == what and call > 6 else None
    ended = {r.key: r for r in pair.read(requests(arithmetic, 14, limit=30, tasks=("ocr", "md")))}
    assert (own.sizes, other.sizes) == ([2], [])
    assert heard.count(("launch", other.name)) == heard.count(("read", other.name))
    assert sorted(ended) == list(range(14))
    assert_written_alone(ended.values(), 30)


def assert_written_alone(ended: Iterable[Request], limit: int) -> None:
    """That pages came out with what they have alone."""
    for request in ended:
        assert request.failure is None
        for sequence in request.sequences:
            alone = written_alone(arithmetic, request.key, sequence.task, limit)
            assert (sequence.tokens, sequence.finish) == alone


@pytest.mark.parametrize("page", range(6))
def test_a_page_that_fails_in_one_of_two_engines_fails_alone(page: int) -> None:
    pair = pair_of(arithmetic, mode="shared", slots=8)
    for runner in runners_of(pair):
        poisoned(page)(runner)
    ended = {r.key: r for r in pair.read(requests(arithmetic, 12, limit=20, tasks=("ocr", "md")))}
    assert isinstance(ended.pop(page).failure, ValueError)
    assert sorted(ended) == [key for key in range(12) if key != page]
    assert_written_alone(ended.values(), 20)
    assert [runner.slots for runner in runners_of(pair)] == [4, 4]


@pytest.mark.parametrize("page", range(6))
def test_a_page_that_has_room_only_where_no_other_is_gets_it(page: int) -> None:
    pair = pair_of(arithmetic, mode="shared", slots=8)
    runners = runners_of(pair)

    def fails(call: int, what: str) -> Exception | None:
        held = [key for runner in runners for key in runner.pages.values()]
        is_short = what == "launch" and page in held and len(held) > 1
        return OutOfMemory("too little") if is_short else None

    for runner in runners:
        runner.fails = fails
    ended = {r.key: r for r in pair.read(requests(arithmetic, 12, limit=20, tasks=("ocr", "md")))}
    assert sorted(ended) == list(range(12))
    assert_written_alone(ended.values(), 20)
    assert max(len(runner.sizes) for runner in runners) <= 3


def test_a_step_of_the_other_engine_counts_where_it_makes_room() -> None:
    heard: list[tuple[str, str]] = []
    pair = pair_of(counted, mode="plain", slots=2, heard=heard, tasks=("ocr",))
    first, second = runners_of(pair)
    errors = [OutOfMemory("too little")]
    first.fails = lambda call, what: errors.pop() if errors and call == 4 * 4 - 1 else None
    ended = {r.key: r for r in pair.read(requests(counted, 2, limit=9, tasks=("ocr",)))}
    assert [ended[key].sequences[0].tokens for key in range(2)] == [[5, 5, 5]] * 2
    assert heard.count(("launch", "B")) == heard.count(("read", "B")) == 4
    assert (first.sizes, second.sizes) == ([1], [1])


def test_two_engines_that_are_closed_have_nothing_in_flight() -> None:
    heard: list[tuple[str, str]] = []
    pair = pair_of(arithmetic, mode="joint", slots=4, heard=heard)
    for request in requests(arithmetic, 4, limit=30, tasks=("ocr",)):
        pair.add(request)
    for _ in range(3):
        pair.advance()
    launches = [("launch", "A"), ("launch", "B"), ("read", "A"), ("launch", "A"), ("read", "B")]
    assert heard == launches
    for runner in runners_of(pair):
        runner.fails = lambda call, what: RuntimeError("late")
    pair.close()
    assert heard == [*launches, ("read", "A")]
    assert not any(engine.in_flight for engine in pair.turns)


@pytest.mark.parametrize(
    ("slots", "engines", "ahead", "shares"),
    [
        (64, None, True, [32, 32]),
        (5, None, True, [3, 2]),
        (3, None, True, [3]),
        (64, None, False, [64]),
        (64, 1, True, [64]),
        (3, 2, False, [2, 1]),
        (1, 2, True, [1]),
    ],
)
def test_slots_are_shared_out_where_the_device_is_launched_ahead_of(
    slots: int, engines: int | None, ahead: bool, shares: list[int]
) -> None:
    assert halves(slots, engines, ahead=ahead) == shares


# What is accepted, and where a loop ends


@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), min_size=7, max_size=7))
def test_what_is_accepted_is_what_the_model_would_have_written(
    draft: list[int], predictions: list[int]
) -> None:
    found = accepted(draft, predictions[: len(draft) + 1])
    assert found[:-1] == draft[: len(found) - 1]
    assert found == predictions[: len(found)]
    assert len(found) == len(draft) + 1 or found[-1] != draft[len(found) - 1]


def test_a_loop_is_found_when_its_copies_fill_enough_text() -> None:
    def decode(ids: Sequence[int]) -> str:
        return "".join("abcdefgh"[i] for i in ids)

    loop = [1, 2, 3, 4] * 300
    for length in range(4, len(loop)):
        found = loop_seen(loop[:length], 1, decode)
        is_due = length % LOOP_EVERY == 0 and length >= 800 + 4 - 1
        assert found == (length if is_due else None), length
    chance = random.Random(0)  # noqa: S311 - no secret
    assert not any(
        loop_seen([chance.randrange(8) for _ in range(n)], n, decode) for n in range(64, 1500, 64)
    )


def test_a_sequence_in_a_loop_ends_early_and_keeps_what_is_there() -> None:
    def model(page: object, task: str, tokens: Sequence[int]) -> int:
        return 1 + len(tokens) % 5

    runner = ScriptedRunner(model, slots=2, width=1)
    scheduler = Scheduler(
        slots=2,
        end=END_TOKEN,
        mode=MODES["shared"],
        decode=lambda ids: "".join("_abcdefgh"[i] for i in ids),
    )
    (request,) = Engine(scheduler, runner).read(requests(model, 1, limit=2000, tasks=("md",)))
    (sequence,) = request.sequences
    assert sequence.finish == LOOP
    assert 800 <= len(sequence.tokens) < 1000


def test_a_loop_is_stopped_at_the_same_token_whatever_was_drafted() -> None:
    """Even where the draft holds the end token that the loop would have come to."""

    def model(page: object, task: str, tokens: Sequence[int]) -> int:
        return END_TOKEN if len(tokens) == 835 else 1 + len(tokens) % 5

    def read(mode: str, seed: int) -> tuple[str | None, list[int]]:
        scheduler = Scheduler(
            slots=1,
            end=END_TOKEN,
            mode=MODES[mode],
            decode=lambda ids: "".join("_abcdefgh"[i] for i in ids),
        )
        asked = requests(model, 1, limit=900, tasks=("md",), seed=seed, right=0.98)
        (request,) = Engine(scheduler, ScriptedRunner(model, slots=1)).read(asked)
        return request.sequences[0].finish, request.sequences[0].tokens

    plain = read("plain", 0)
    assert (plain[0], len(plain[1])) == (LOOP, 832)
    assert [read("draft", seed) for seed in range(8)] == [plain] * 8
