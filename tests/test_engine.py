"""The engine against `generate` of the installed transformers: the same tokens, in every mode.

The reference reads every page by itself, one task after the other, in fp32. The random tiny model
writes rubbish until its limit; the trained one writes pages that end at different steps.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kosmos_loader.document import Line, Page, document_id, pixel_digest
from kosmos_loader.errors import ModelError
from kosmos_loader.geometry import Box
from kosmos_loader.testing import nano_kosmos, tiny_kosmos
from kosmos_loader.testing.drawn import HELD_OUT, draw_page

torch = pytest.importorskip("torch", reason="needs the kosmos extra")
pytest.importorskip("transformers", reason="needs the kosmos extra")
pytest.importorskip("matplotlib", reason="brings the typefaces of drawn pages")

from kosmos_loader.engine.engine import Engine  # noqa: E402 - needs torch
from kosmos_loader.engine.model import Kosmos  # noqa: E402
from kosmos_loader.engine.pages import FastEngine  # noqa: E402
from kosmos_loader.engine.patches import Patches  # noqa: E402
from kosmos_loader.engine.request import END, LENGTH, LOOP, Feed, Request  # noqa: E402
from kosmos_loader.engine.request import Sequence as TaskSequence  # noqa: E402
from kosmos_loader.engine.runner import ModelRunner, OutOfMemory  # noqa: E402
from kosmos_loader.engine.scheduler import MODES, Scheduler  # noqa: E402
from kosmos_loader.readers.kosmos import KosmosPageReader  # noqa: E402
from kosmos_loader.readers.outputs import Written  # noqa: E402
from kosmos_loader.readers.reference import ReferenceEngine  # noqa: E402

Tokens = dict[str, list[int]]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def page_of(image: Image.Image, number: int) -> Page:
    pixels = np.asarray(image.convert("RGB"))
    height, width = pixels.shape[:2]
    return Page(
        f"page-{number}",
        document_id(f"page-{number}"),
        number,
        99,
        width,
        height,
        72.0,
        pixel_digest(pixels),
        pixels=pixels,
    )


def rubbish(number: int) -> Page:
    """Ink at random on a page of its own size: tall, wide or nearly a strip."""
    chance = random.Random(number)  # noqa: S311 - no secret
    size = [(120, 200), (300, 90), (64, 64), (40, 700), (513, 257)][number % 5]
    image = Image.new("RGB", size, (chance.randrange(180, 256),) * 3)
    draw = ImageDraw.Draw(image)
    for _ in range(30):
        x, y = chance.randrange(size[0]), chance.randrange(size[1])
        draw.rectangle((x, y, x + chance.randrange(30), y + chance.randrange(9)), fill="black")
    return page_of(image, number)


class Bench:
    """A model, pages, and what `generate` writes for each page by itself."""

    def __init__(self, folder: Path, pages: Sequence[Page], limit: int) -> None:
        reader = KosmosPageReader(
            folder, engine="reference", device="cpu", dtype="fp32", max_new_tokens=limit
        )
        self.reference: ReferenceEngine = reader.engine
        self.pages = pages
        self.truth = [self._alone(page) for page in pages]

    def _alone(self, page: Page) -> Tokens:
        patches, _ = self.reference.patches(page)
        end = self.reference.processor.tokenizer.eos_token_id
        found = {}
        for task, prompt in self.reference.prompts.items():
            (row,) = self.reference.tokens(patches[None], prompt)
            found[task] = row[: row.index(end)] if end in row else row
        return found

    def fast(self, mode: str, slots: int, **changed: Any) -> FastEngine:
        reference = self.reference
        shared = {
            "prompts": reference.prompts,
            "limit": reference.limit,
            "max_patches": reference.max_patches,
        }
        return FastEngine(
            reference.model, reference.processor, **{**shared, **changed}, slots=slots, mode=mode
        )

    def requests(self, fast: FastEngine, pages: Sequence[Page] | None = None) -> Iterator[Request]:
        for place, page in enumerate(pages or self.pages):
            yield fast.request(place, page, fast.patches(page))

    def read(self, fast: FastEngine) -> dict[Any, Tokens]:
        """What the engine writes for the pages, by their place."""
        ended = fast.session().engine.read(self.requests(fast))
        return {request.key: written(request) for request in ended}


def written(request: Request) -> Tokens:
    assert request.failure is None, request.failure
    return {sequence.task: sequence.tokens for sequence in request.sequences}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tiny_kosmos(tmp_path_factory.mktemp("tiny"))
    return Bench(folder, [rubbish(number) for number in range(16)], limit=40)


@pytest.fixture(scope="module")
def nano() -> Bench:
    pages = [draw_page(HELD_OUT + 7, number).page(number=number + 1) for number in range(12)]
    return Bench(nano_kosmos(), pages, limit=400)


def equal(found: dict[Any, Tokens], truth: Sequence[Tokens]) -> bool:
    return [found[place] for place in range(len(truth))] == list(truth)


def test_the_references_are_worth_comparing_with(tiny: Bench, nano: Bench) -> None:
    assert len({tuple(tokens["md"]) for tokens in tiny.truth}) == len(tiny.truth)
    assert all(len(set(tokens[task])) > 8 for tokens in tiny.truth for task in ("ocr", "md"))
    lengths = {len(tokens["ocr"]) for tokens in nano.truth}
    assert len(lengths) > 8
    assert max(lengths) < 400
    assert len({page.pixels.shape for page in tiny.pages}) == 5


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("slots", [1, 3, 16])
def test_the_random_model_writes_the_tokens_of_generate(tiny: Bench, mode: str, slots: int) -> None:
    assert equal(tiny.read(tiny.fast(mode, slots)), tiny.truth)


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("slots", [1, 5, 12])
def test_the_trained_model_writes_the_tokens_of_generate(
    nano: Bench, mode: str, slots: int
) -> None:
    fast = nano.fast(mode, slots)
    ended = list(fast.session().engine.read(nano.requests(fast)))
    assert equal({request.key: written(request) for request in ended}, nano.truth)
    assert all(s.finish == END for request in ended for s in request.sequences)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_two_engines_in_turn_write_the_tokens_of_generate(
    tiny: Bench, nano: Bench, mode: str
) -> None:
    for bench, slots in ((tiny, 6), (nano, 5)):
        assert equal(bench.read(bench.fast(mode, slots, engines=2)), bench.truth)


def test_two_engines_have_the_slots_of_one_and_give_their_caches_back(tiny: Bench) -> None:
    fast = tiny.fast("joint", 5, engines=2)
    assert fast.slots == 5
    session = fast.session()
    assert [runner.slots for runner in session.runners] == [3, 2]
    for place, page in enumerate(tiny.pages[:5]):
        assert not session.is_full
        session.add(place, page)
    assert session.is_full
    for _ in range(4):
        session.advance()
    assert any(engine.in_flight for engine in session.engines)
    session.close()
    assert not any(engine.in_flight for engine in session.engines)
    again = fast.session()
    assert again.runners is session.runners
    ended = again.engine.read(tiny.requests(fast))
    assert equal({request.key: written(request) for request in ended}, tiny.truth)


def test_one_engine_is_used_where_a_step_is_waited_for(tiny: Bench) -> None:
    assert len(tiny.fast("joint", 16).session().engines) == 1


def test_drafts_save_steps_on_pages_that_the_model_reads(nano: Bench) -> None:
    def steps(mode: str) -> dict[str, int]:
        fast = nano.fast(mode, 12)
        ended = list(fast.session().engine.read(nano.requests(fast)))
        return {
            task: sum(s.steps for r in ended for s in r.sequences if s.task == task)
            for task in ("ocr", "md")
        }

    plain, joint = steps("plain"), steps("joint")
    assert joint["md"] < plain["md"] / 4
    assert joint["ocr"] < plain["ocr"] * 0.8


def test_lines_that_a_page_carries_save_steps_and_change_no_token(nano: Bench) -> None:
    def read(garble: bool, carried: bool) -> tuple[dict[Any, Tokens], int]:
        fast = nano.fast("joint", 12)
        requests = []
        for place, page in enumerate(nano.pages):
            drawn = draw_page(HELD_OUT + 7, place)
            lines = [
                Line(line.text[::-1] if garble else line.text, line.box) for line in drawn.lines
            ]
            carrier = Page(**{**vars(page), "text_layer": tuple(lines) if carried else ()})
            requests.append(fast.request(place, carrier, fast.patches(page)))
        ended = list(fast.session().engine.read(requests))
        steps = sum(s.steps for r in ended for s in r.sequences if s.task == "ocr")
        return {request.key: written(request) for request in ended}, steps

    without, many = read(garble=False, carried=False)
    right, few = read(garble=False, carried=True)
    wrong, _ = read(garble=True, carried=True)
    assert equal(without, nano.truth)
    assert equal(right, nano.truth)
    assert equal(wrong, nano.truth)
    assert few < many / 2


class Liar:
    """Drafts what is never right, and as much of it as may be."""

    is_waiting = False

    def __init__(self, truth: Sequence[int], vocabulary: int) -> None:
        self.truth = truth
        self.vocabulary = vocabulary

    def draft(self, tokens: Sequence[int], most: int) -> list[int]:
        most = min(most, 9)
        true = list(self.truth[len(tokens) : len(tokens) + most])
        true += [0] * (most - len(true))
        return [(token + 5) % self.vocabulary for token in true]

    def observe(self, proposed: int, right: int) -> None:
        pass


@pytest.mark.parametrize("mode", ["draft", "joint"])
def test_drafts_that_are_always_wrong_change_no_token(tiny: Bench, mode: str) -> None:
    fast = tiny.fast(mode, 4)
    requests = list(tiny.requests(fast))
    for request, truth in zip(requests, tiny.truth, strict=True):
        for sequence in request.sequences:
            sequence.speculation = Liar(truth[sequence.task], 400)  # type: ignore[assignment]
    ended = fast.session().engine.read(requests)
    assert equal({request.key: written(request) for request in ended}, tiny.truth)


@pytest.mark.parametrize("limit", [1, 2, 17])
def test_the_limit_cuts_as_it_cuts_generate(nano: Bench, limit: int) -> None:
    for mode in sorted(MODES):
        fast = nano.fast(mode, 4, limit=limit)
        ended = list(fast.session().engine.read(nano.requests(fast)))
        for request in ended:
            for sequence in request.sequences:
                assert sequence.tokens == nano.truth[request.key][sequence.task][:limit]
                assert sequence.finish == LENGTH


@pytest.mark.parametrize("tasks", [("ocr",), ("md",)])
def test_one_task_alone_writes_what_it_writes_beside_the_other(
    nano: Bench, tasks: tuple[str, ...]
) -> None:
    prompts = {task: nano.reference.prompts[task] for task in tasks}
    found = nano.read(nano.fast("joint", 4, prompts=prompts))
    assert equal(found, [{task: truth[task] for task in tasks} for truth in nano.truth])


class Short:
    """A runner on a device whose memory runs out at some calls."""

    def __init__(self, runner: ModelRunner, failing: set[int]) -> None:
        self.runner = runner
        self.failing = failing
        self.calls = 0
        self.sizes: list[int] = []
        self.slots = runner.slots

    def _call(self) -> None:
        self.calls += 1
        if self.calls in self.failing:
            raise OutOfMemory("the device has no room")

    def admit(self, requests: Sequence[Request]) -> None:
        self._call()
        self.runner.admit(requests)

    def move(self, moves: Sequence[tuple[int, int]]) -> None:
        self.runner.move(moves)

    def launch(self, feeds: Sequence[Feed]) -> Any:
        self._call()
        return self.runner.launch(feeds)

    def read_back(self, launched: Any) -> list[list[int]]:
        self._call()
        return self.runner.read_back(launched)

    def keep(self, feeds: Sequence[Feed], kept: Sequence[int]) -> None:
        self._call()
        self.runner.keep(feeds, kept)

    def resize(self, slots: int) -> None:
        self.sizes.append(slots)
        self.runner.resize(slots)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_running_out_of_memory_in_the_middle_changes_no_token(nano: Bench, mode: str) -> None:
    fast = nano.fast(mode, 8)
    session = fast.session()
    runner = Short(session.runners[0], failing={23, 60})
    engine = Engine(session.engine.scheduler, runner)
    ended = {request.key: written(request) for request in engine.read(nano.requests(fast))}
    assert equal(ended, nano.truth)
    assert runner.sizes == [4, 2]


@pytest.mark.parametrize("mode", sorted(MODES))
def test_running_out_of_memory_in_one_of_two_engines_changes_no_token(
    nano: Bench, mode: str
) -> None:
    fast = nano.fast(mode, 8, engines=2)
    session = fast.session()
    runners = [Short(session.runners[0], {23, 60}), Short(session.runners[1], {38})]
    for engine, runner in zip(session.engines, runners, strict=True):
        engine.runner = runner
    ended = session.engine.read(nano.requests(fast))
    assert equal({request.key: written(request) for request in ended}, nano.truth)
    assert [runner.sizes for runner in runners] == [[2, 1], [2]]


def test_a_loop_is_stopped_and_read_as_if_it_had_run_to_its_limit(nano: Bench) -> None:
    """A model that loops is made of one that does not: its end token is never predicted."""
    fast = nano.fast("joint", 2)
    decode = fast.tokenizer.decode

    def endless(scheduler: Scheduler) -> tuple[str | None, list[int]]:
        sequence = TaskSequence("md", 5, 2000)
        request = Request(0, None, (sequence,))
        copies = fast.tokenizer.encode("| 0 | 0 |\n", add_special_tokens=False)
        scheduler.add(request)
        while not sequence.is_finished:
            step = scheduler.schedule()
            (feed,) = step.feeds
            scheduler.postprocess(step, [[copies[feed.place % len(copies)]]])
        return sequence.finish, sequence.tokens

    loop, kept = endless(Scheduler(slots=1, end=2, mode=MODES["plain"], decode=decode))
    length, full = endless(Scheduler(slots=1, end=2, mode=MODES["plain"]))
    assert (loop, length) == (LOOP, LENGTH)
    assert len(kept) < len(full) / 2

    from kosmos_loader.document import Reading
    from kosmos_loader.readers.outputs import Output, Written, reading_from

    readings: list[Reading] = [
        reading_from(
            nano.pages[0].info,
            Written({"md": Output(decode(tokens), ended=False)}, (256, 160)),
            reader="r",
            version="1",
        )
        for tokens in (kept, full)
    ]
    assert readings[0] == readings[1]
    assert readings[0].flags == ("truncated", "repetition")
    assert readings[0].markdown == "| 0 | 0 |"


@torch.inference_mode()
def test_a_page_whose_numbers_overflowed_leaves_the_next_page_in_its_slot_alone(
    tiny: Bench,
) -> None:
    fast = tiny.fast("joint", 2)
    (runner,) = fast.session().runners
    first, last, *_ = tiny.requests(fast)

    def predicted(request: Request, slot: int) -> list[int]:
        """Of a step in which another row is longer."""
        request.slot = slot
        runner.admit([request])
        sequence = request.sequences[0]
        feeds = [Feed(request, sequence, slot, 1, (sequence.prompt,))]
        feeds += [Feed(last, last.sequences[0], 1, 1, (sequence.prompt, *range(9)))]
        return runner.read_back(runner.launch(feeds))[0]

    last.slot = 1
    runner.admit([last])
    wanted = predicted(first, 0)
    for states in (runner.cache.keys, runner.cache.values):
        states[:, 0] = torch.nan
    assert predicted(first, 0) == wanted
    for states in (runner.cache.keys, runner.cache.values):
        states[:, 1] = torch.nan
    runner.move([(0, 1)])
    for states in (runner.cache.keys, runner.cache.values):
        assert not states.isnan().any()


def test_lines_that_cannot_be_drafted_from_do_not_cost_the_page(tiny: Bench) -> None:
    fast = tiny.fast("joint", 2)
    endless = Line("too wide", Box(0.1, 0.1, 1e308, 0.2))
    unspeakable = Line("\ud800 is half a letter", Box(0.1, 0.1, 0.9, 0.2))
    session = fast.session()
    for place, line in enumerate([endless, unspeakable]):
        session.add(place, replace(tiny.pages[place], text_layer=(line,) * 3))
    found = {}
    while len(found) < 2:
        found |= dict(session.advance())
    assert all(isinstance(outcome, Written) for outcome in found.values())
    assert session.engine.scheduler.slots == 2


def test_pixels_for_which_the_device_has_no_room_become_patches_on_the_cpu(tiny: Bench) -> None:
    class Cramped(FastEngine):
        def patches(self, page: Page, *, device: Any = None) -> Patches:
            if device is None:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().patches(page, device=device)

    reference = tiny.reference
    cramped = Cramped(
        reference.model,
        reference.processor,
        prompts=reference.prompts,
        limit=reference.limit,
        max_patches=reference.max_patches,
    )
    session = cramped.session()
    session.add(0, tiny.pages[0])
    (request,) = session.engine.read([])
    assert written(request) == tiny.truth[0]


def test_a_session_that_is_closed_twice_gives_its_cache_back_once(tiny: Bench) -> None:
    fast = tiny.fast("joint", 2)
    session = fast.session()
    session.close()
    session.close()
    assert fast.session().runners[0] is not fast.session().runners[0]


def test_a_closed_engine_keeps_no_cache_and_reads_on(tiny: Bench) -> None:
    fast = tiny.fast("joint", 2)
    session = fast.session()
    (first,) = session.engine.read([next(tiny.requests(fast))])
    session.close()
    assert session.runners[0].cache is not None
    fast.close()
    assert session.runners[0].cache is None
    (again,) = fast.session().engine.read([next(tiny.requests(fast))])
    assert written(again) == written(first) == tiny.truth[0]


@torch.inference_mode()
def test_the_keys_of_one_layer_are_gone_before_those_of_the_next_are_there(tiny: Bench) -> None:
    fast = tiny.fast("joint", 1)
    seen: list[weakref.ref[Any]] = []

    def keep(layer: int, key: Any, value: Any) -> None:
        assert layer * 2 == len(seen)
        assert all(states() is None for states in seen)
        seen.extend((weakref.ref(key), weakref.ref(value)))

    latents = fast.kosmos.encode([fast.patches(tiny.pages[0])])
    fast.kosmos.prefill(latents, torch.tensor(fast.prefix_ids), keep)
    assert len(seen) == 2 * len(fast.kosmos.layers) > 2


def test_the_picture_is_encoded_as_the_library_does_it(tiny: Bench) -> None:
    model = tiny.reference.model
    fast = tiny.fast("joint", 4)
    pages = [*tiny.pages[:5], page_of(Image.new("RGB", (90, 130), "white"), 50)]
    for page in pages:
        patches, size = tiny.reference.patches(page)
        count = size[0] * size[1] // 256
        # the library's own values, so that only the encoders can differ
        own = Patches(
            patches[:count, 2:],
            patches[:count, 0].long(),
            patches[:count, 1].long(),
            len(patches) - count,
            size,
        )
        with torch.inference_mode():
            features = model.vision_model(flattened_patches=patches[None]).last_hidden_state
            features = torch.nn.functional.normalize(features, dim=-1)
            wanted, _ = model.image_to_text_projection(features)
            found = fast.kosmos.encode([own, own])
        for row in found:
            assert float((row - wanted[0]).abs().max()) < 2e-5 * float(wanted.abs().max())
    assert len({fast.patches(page).padding for page in pages}) > 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near_the_reference(nano: Bench, dtype: str) -> None:
    """Logits of the first step: the library's and ours part by rounding alone."""
    kind = getattr(torch, dtype)
    reader = KosmosPageReader(
        nano_kosmos(),
        engine="reference",
        device="cpu",
        dtype={"bfloat16": "bf16"}.get(dtype, "fp16"),
    )
    reference: ReferenceEngine = reader.engine
    page = nano.pages[0]
    patches, _ = reference.patches(page)
    prompt = reference.prompts["ocr"]
    with torch.inference_mode():
        wanted = reference.model(**prompt, flattened_patches=patches[None]).logits[0, -1].float()
    fast = FastEngine(
        reference.model,
        reference.processor,
        prompts=reference.prompts,
        limit=reference.limit,
        max_patches=reference.max_patches,
        slots=1,
    )
    assert fast.kosmos.tokens.dtype == kind
    (runner,) = fast.session().runners
    request = fast.request(0, page, fast.patches(page))
    request.slot = 0
    runner.admit([request])
    sequence = request.sequences[0]
    with torch.inference_mode():
        found = runner.logits([Feed(request, sequence, 0, 1, (sequence.prompt,))])[0].float()
    spread = float(wanted.max() - wanted.min())
    assert float((found - wanted).abs().max()) < 0.02 * spread
    assert found.argmax() == wanted.argmax()


VISION = {
    "embeddings.patch_projection.weight": ("v", "p"),
    "embeddings.patch_projection.bias": ("v",),
    "embeddings.row_embedder.weight": ("n", "v"),
    "embeddings.column_embedder.weight": ("n", "v"),
    "layernorm.weight": ("v",),
}
VISION_LAYER = {
    "attention.query.weight": ("v", "v"),
    "attention.key.weight": ("v", "v"),
    "attention.value.weight": ("v", "v"),
    "attention.output.weight": ("v", "v"),
    "mlp.wi_0.weight": ("f", "v"),
    "mlp.wi_1.weight": ("f", "v"),
    "mlp.wo.weight": ("v", "f"),
    "pre_mlp_layer_norm.weight": ("v",),
    "pre_attention_layer_norm.weight": ("v",),
}
RESAMPLER = {
    "latent_query": ("l", "t"),
    "dense.weight": ("t", "v"),
    "dense.bias": ("t",),
    **{f"x_attn.{name}_proj.weight": ("t", "t") for name in ("k", "v", "q", "out")},
    **{f"x_attn.{name}_proj.bias": ("t",) for name in ("k", "v", "q", "out")},
}
DECODER = {
    "embed_tokens.weight": ("w", "t"),
    "segment_emb.weight": ("2", "t"),
    "layer_norm.weight": ("t",),
    "layer_norm.bias": ("t",),
}
DECODER_LAYER = {
    **{f"self_attn.{name}_proj.weight": ("t", "t") for name in ("k", "v", "q", "out")},
    **{f"self_attn.{name}_proj.bias": ("t",) for name in ("k", "v", "q", "out")},
    **{
        f"{norm}.{part}": (size,)
        for norm, size in (
            ("self_attn_layer_norm", "t"),
            ("final_layer_norm", "t"),
            ("ffn.ffn_layernorm", "d"),
        )
        for part in ("weight", "bias")
    },
    "ffn.fc1.weight": ("d", "t"),
    "ffn.fc1.bias": ("d",),
    "ffn.fc2.weight": ("t", "d"),
    "ffn.fc2.bias": ("t",),
}


def test_the_installed_transformers_lays_the_weights_out_as_the_engine_knows_them(
    tiny: Bench,
) -> None:
    """A release that renames, adds or reshapes a weight fails here before it fails in a reading."""
    model = tiny.reference.model
    text, vision = model.config.text_config, model.config.vision_config
    sizes = {
        "v": vision.hidden_size,
        "p": vision.patch_embed_hidden_size,
        "n": vision.max_num_patches,
        "f": vision.intermediate_size,
        "l": model.config.latent_query_num,
        "t": text.embed_dim,
        "w": text.vocab_size,
        "d": text.ffn_dim,
        "2": 2,
    }
    decoder = "text_model.model"
    known = {
        **{f"vision_model.{name}": shape for name, shape in VISION.items()},
        **{
            f"vision_model.encoder.layer.{i}.{name}": shape
            for i in range(vision.num_hidden_layers)
            for name, shape in VISION_LAYER.items()
        },
        **{f"image_to_text_projection.{name}": shape for name, shape in RESAMPLER.items()},
        **{f"{decoder}.{name}": shape for name, shape in DECODER.items()},
        **{
            f"{decoder}.layers.{i}.{name}": shape
            for i in range(text.layers)
            for name, shape in DECODER_LAYER.items()
        },
        "text_model.lm_head.weight": ("w", "t"),
    }
    found = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    assert found == {name: tuple(sizes[s] for s in shape) for name, shape in known.items()}


def test_weights_that_are_laid_out_otherwise_are_refused_by_name(tiny: Bench) -> None:
    class Renamed:
        config = tiny.reference.model.config
        vision_model = tiny.reference.model.vision_model
        text_model = tiny.reference.model.text_model

    with pytest.raises(ModelError, match=r"image_to_text_projection.*engine='reference'"):
        Kosmos.of(Renamed())
