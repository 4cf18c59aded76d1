from __future__ import annotations

import gc
import json
import logging
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kosmos_loader.document import Failure, Line, Page, PageInfo, Reading, pixel_digest
from kosmos_loader.errors import ModelError, UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.readers.base import PageReader
from kosmos_loader.readers.checkpoint import prompt_of, quiet_transformers
from kosmos_loader.readers.kosmos import ENGINES, KosmosPageReader
from kosmos_loader.readers.outputs import Outcome, Output, Session, Written, reading_from
from kosmos_loader.readers.reference import ReferenceEngine
from kosmos_loader.testing import tiny_kosmos

torch = pytest.importorskip("torch", reason="needs the kosmos extra")
transformers = pytest.importorskip("transformers", reason="needs the kosmos extra")

ROOM = 24
"""New tokens at most."""

LONGER = 60
"""New tokens at most of outputs that end."""


def page_of(image: Image.Image, number: int = 1) -> Page:
    pixels = np.asarray(image.convert("RGB"))
    height, width = pixels.shape[:2]
    digest = pixel_digest(pixels)
    return Page("file", "doc", number, 9, width, height, 72.0, digest, pixels=pixels)


def written_page(number: int, width: int = 200, height: int = 300) -> Page:
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for row in range(8, height - 8, 14):
        draw.text((8, row), f"Line {row} of page {number}", fill="black")
    return page_of(image, number)


PAGES = [written_page(1, 200, 300), written_page(2, 300, 160), written_page(3, 120, 500)]
MANY = [
    *PAGES,
    written_page(4, 210, 300),
    written_page(5, 150, 150),
    written_page(6, 400, 90),
    written_page(7, 90, 400),
]
BLANK = page_of(Image.new("RGB", (300, 400), "white"), 8)
BROKEN = Page("file", "doc", 9, 9, 0, 0, 72.0, error=Failure("corrupt", "no pixels"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_kosmos(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def new_reader(folder: Path, engine: str, **options: Any) -> KosmosPageReader:
    return KosmosPageReader(
        folder, engine=engine, **{"device": "cpu", "max_new_tokens": ROOM, **options}
    )


@pytest.fixture(scope="module")
def reader(folder: Path, engine: str) -> KosmosPageReader:
    """Two pages at a time."""
    return new_reader(folder, engine, batch_size=2)


@pytest.fixture(scope="module")
def readings(reader: KosmosPageReader) -> list[Reading]:
    """Of `PAGES`, each read alone."""
    return [reading for page in PAGES for reading in reader.read([page])]


def made_likelier(folder: Path, token: str, *, times: float, target: Path) -> Path:
    """The model in `folder` with the scores of `token` enlarged."""
    shutil.copytree(folder, target)
    with quiet_transformers():
        model = transformers.Kosmos2_5ForConditionalGeneration.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        row = tokenizer.convert_tokens_to_ids(token)
        model.text_model.lm_head.weight.data[row] *= times
        model.save_pretrained(target)
    return target


def unversioned(readings: Sequence[Reading]) -> list[Reading]:
    return [replace(reading, reader_version="") for reading in readings]


# What is read


@pytest.fixture(scope="module")
def plain(folder: Path) -> list[Written]:
    """Of `PAGES`, what a user of transformers gets."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()

    def written(page: Page) -> Written:
        outputs = {}
        for task, prompt in [("ocr", "<ocr>"), ("md", "<md>")]:
            inputs = processor(images=page.image, text=prompt, max_patches=64, return_tensors="pt")
            size = (int(inputs.pop("width")), int(inputs.pop("height")))
            ids = model.generate(**inputs, max_new_tokens=ROOM, do_sample=False)
            new = ids[0, inputs["input_ids"].shape[1] :].tolist()
            assert len(set(new)) > 10, "one token over and over would make comparisons vacuous"
            ended = processor.tokenizer.eos_token_id in new
            outputs[task] = Output(processor.tokenizer.decode(new), ended)
        return Written(outputs, size)

    return [written(page) for page in PAGES]


def test_a_reading_is_what_plain_generate_gives(
    plain: list[Written], reader: KosmosPageReader
) -> None:
    found = list(reader.read(PAGES))
    names = {"reader": reader.name, "version": reader.version}
    assert found == [
        reading_from(page.info, written, **names)
        for page, written in zip(PAGES, plain, strict=True)
    ]
    assert all(reading.markdown for reading in found)


@pytest.fixture(scope="module")
def ending(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model most of whose outputs end, each at another step."""
    return made_likelier(
        folder, "</s>", times=2, target=tmp_path_factory.mktemp("ending") / "model"
    )


@pytest.fixture(scope="module")
def ended(ending: Path) -> list[Reading]:
    """Of `MANY`, as the reference reads them one by one."""
    found = list(new_reader(ending, "reference", max_new_tokens=LONGER).read(MANY))
    assert {"truncated" in reading.flags for reading in found} == {True, False}
    assert len({len(reading.markdown or "") for reading in found}) > 4
    return found


@pytest.mark.parametrize(
    ("engine_name", "batch_size"),
    [("fast", 1), ("fast", 2), ("fast", 3), ("fast", 16), ("reference", 3)],
)
def test_the_engines_read_the_same(
    ending: Path, ended: list[Reading], engine_name: str, batch_size: int
) -> None:
    reader = new_reader(ending, engine_name, max_new_tokens=LONGER, batch_size=batch_size)
    assert unversioned(list(reader.read(MANY))) == unversioned(ended)


def read_by_each(folder: Path, pages: Sequence[Page], **options: Any) -> tuple[list[Reading], ...]:
    """The readings of the fast engine and of the reference, but for their versions."""
    return tuple(
        unversioned(list(new_reader(folder, engine, **options).read(pages)))
        for engine in ("fast", "reference")
    )


def test_the_engines_read_a_padding_token_the_same(folder: Path, tmp_path: Path) -> None:
    """The model gives <pad> no position, and nothing keeps it from writing one."""
    padding = made_likelier(folder, "<pad>", times=1.5, target=tmp_path / "padding")
    fast, reference = read_by_each(padding, PAGES[1:])
    assert all("<pad>" in line for line in (reading.markdown or "" for reading in reference))
    assert fast == reference


def test_the_engines_cut_a_loop_the_same(folder: Path, tmp_path: Path) -> None:
    """The fast engine stops there, the reference writes on to the limit."""
    looping = made_likelier(folder, "<x_100>", times=8, target=tmp_path / "looping")
    fast, reference = read_by_each(looping, PAGES[2:], max_new_tokens=200)
    assert reference[0].flags == ("truncated", "repetition")
    assert fast == reference


@pytest.mark.slow
def test_the_engines_read_the_same_up_to_the_end_of_the_context(folder: Path) -> None:
    fast, reference = read_by_each(folder, PAGES[:1], max_new_tokens=2044)
    assert reference[0].flags == ("truncated",)
    assert fast == reference


def test_lines_that_a_page_brings_along_change_no_reading(
    reader: KosmosPageReader, readings: list[Reading]
) -> None:
    lines = tuple(
        Line(f"Line {row} of page 1", Box(0.04, row / 300, 0.6, (row + 10) / 300))
        for row in range(8, 292, 14)
    )
    pages = [replace(page, text_layer=lines) for page in PAGES]
    assert list(reader.read(pages)) == readings


def test_a_task_that_is_not_asked_for_leaves_nothing(
    folder: Path, engine: str, readings: list[Reading]
) -> None:
    both = readings[0]
    (ocr,) = new_reader(folder, engine, tasks=["ocr"]).read(PAGES[:1])
    (md,) = new_reader(folder, engine, tasks=["md"]).read(PAGES[:1])
    assert (ocr.lines, ocr.markdown, ocr.rejected) == (both.lines, None, both.rejected)
    assert (md.lines, md.markdown, md.rejected) == ((), both.markdown, 0)
    assert both.rejected > 0


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_boxes_are_counted_in_the_pixels_of_their_own_page(
    folder: Path, engine: str, dtype: str
) -> None:
    reader = new_reader(folder, engine, dtype=dtype, max_new_tokens=1, batch_size=3)
    session = reader.engine.session()
    for page in PAGES:
        session.add(page.number, page)
    written: dict[Hashable, Written | Exception] = {}
    while len(written) < len(PAGES):
        written |= dict(session.advance())
    session.close()
    # 64 patches: 9 rows x 6 columns, 5 x 10 and 16 x 3, of 16 pixels each
    sizes = {1: (96, 144), 2: (160, 80), 3: (48, 256)}
    assert {n: w.size for n, w in written.items() if isinstance(w, Written)} == sizes


@pytest.mark.parametrize("size", [(2, 900), (900, 2), (1, 64)])
def test_a_strip_too_long_for_the_row_numbers_is_read(
    reader: KosmosPageReader, size: tuple[int, int]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    (reading,) = reader.read([page_of(Image.fromarray(noise))])
    assert reading.error is None
    assert reading.markdown


def test_pixels_that_are_a_view_are_read(reader: KosmosPageReader, readings: list[Reading]) -> None:
    """As those are that were turned, or read with blue first."""
    flipped = np.ascontiguousarray(PAGES[0].pixels[::-1, :, ::-1])
    view = replace(PAGES[0], pixels=flipped[::-1, :, ::-1])
    assert list(reader.read([view])) == readings[:1]


def with_shuffled_ids(source: Path, target: Path) -> Path:
    """The same tokenizer and model with every token but <pad> under another id.

    The model counts positions from the id of <pad>, so that one is part of the model.
    """
    shutil.copytree(source, target)
    path = target / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    size = len(tokenizer["model"]["vocab"]) + sum(
        token["content"] not in tokenizer["model"]["vocab"] for token in tokenizer["added_tokens"]
    )
    new = np.insert(np.random.default_rng(3).permutation(np.delete(range(size), 1)), 1, 1).tolist()
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {token: new[old] for token, old in vocabulary.items()}
    for token in tokenizer["added_tokens"]:
        # what is added to a vocabulary is part of it here, since its ids no longer come last
        tokenizer["model"]["vocab"][token["content"]] = token["id"] = new[token["id"]]
    tokenizer["added_tokens"].sort(key=lambda token: token["id"])
    path.write_text(json.dumps(tokenizer), "utf-8")
    model = transformers.Kosmos2_5ForConditionalGeneration.from_pretrained(source)
    order = torch.tensor(new).argsort()
    for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        weight.data = weight.data[order].clone()
    for config in (model.config, model.config.text_config, model.generation_config):
        config.bos_token_id, config.eos_token_id = new[0], new[2]
    model.save_pretrained(target)
    return target


def test_token_ids_come_from_the_tokenizer(
    ending: Path, ended: list[Reading], engine: str, tmp_path: Path
) -> None:
    shuffled = new_reader(
        with_shuffled_ids(ending, tmp_path / "shuffled"), engine, max_new_tokens=LONGER
    )
    tokenizer = shuffled.processor.tokenizer
    assert tokenizer.eos_token_id != 2
    ids = prompt_of(shuffled.processor, "<ocr>")["input_ids"][0].tolist()
    assert tokenizer.decode(ids).startswith("<s><image>")
    assert ids[:2] != [0, tokenizer.eos_token_id]
    for here, there in zip(shuffled.read(MANY), ended, strict=True):
        assert (here.lines, here.markdown, here.flags) == (
            there.lines,
            there.markdown,
            there.flags,
        )


def test_page_info_is_all_that_a_reading_keeps_of_a_page(reader: KosmosPageReader) -> None:
    (reading,) = reader.read(PAGES[:1])
    assert type(reading.page) is PageInfo


# Many pages


def test_pages_of_different_sizes_read_together_as_they_read_alone(
    folder: Path, engine: str, readings: list[Reading]
) -> None:
    together = new_reader(folder, engine, batch_size=3)
    assert list(together.read(PAGES)) == readings
    assert len({reading.markdown for reading in readings}) == len(PAGES)


def test_pages_of_all_kinds_come_back_in_order(
    reader: KosmosPageReader, readings: list[Reading]
) -> None:
    pages = [BROKEN, PAGES[0], BLANK, PAGES[1], PAGES[2], BLANK]
    found = list(reader.read(pages))
    assert [reading.page for reading in found] == [page.info for page in pages]
    assert [reading for reading in found if reading.lines] == readings
    assert [reading.flags for reading in found if reading.page.number == 8] == [("blank",)] * 2
    assert found[0].error == BROKEN.error


def test_no_pages_make_no_readings(reader: KosmosPageReader) -> None:
    assert list(reader.read([])) == []


def test_few_pages_are_held_with_their_pixels(folder: Path, engine: str) -> None:
    made: list[weakref.ref[Any]] = []
    counts: list[int] = []

    def held() -> int:
        return sum(pixels() is not None for pixels in made)

    def new_page(number: int) -> Page:
        page = written_page(number)
        made.append(weakref.ref(page.pixels))
        return page

    def pages() -> Iterator[Page]:
        for number in range(1, 13):
            counts.append(held() + 1)  # with the one that is asked for
            yield new_page(number)

    reader = new_reader(folder, engine, batch_size=3, max_new_tokens=4)
    between = [held() for _ in reader.read(pages())]
    assert len(made) == len(between) == 12
    assert max(between) <= 3
    assert 1 <= max(counts) <= 3


class CountedSession:
    """A session, and how many of its pages are under way."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.count = self.most = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def add(self, key: Hashable, page: Page) -> None:
        self.session.add(key, page)
        self.count += 1
        self.most = max(self.most, self.count)

    def advance(self) -> list[Outcome]:
        outcomes = self.session.advance()
        self.count -= len(outcomes)
        return outcomes


class CountingEngine:
    """An engine whose one session is counted."""

    def __init__(self, engine: Any) -> None:
        self.counted = CountedSession(engine.session())

    def session(self) -> CountedSession:
        return self.counted


def test_no_more_pages_are_pulled_than_are_under_way(
    ending: Path, ended: list[Reading], engine: str
) -> None:
    pulled: list[int] = []

    def pages() -> Iterator[Page]:
        for page in MANY:
            pulled.append(page.number)
            yield page

    reader = new_reader(ending, engine, batch_size=2, max_new_tokens=LONGER)
    reader.engine = counting = CountingEngine(reader.engine)
    found = reader.read(pages())
    assert pulled == []
    assert unversioned(list(found)) == unversioned(ended)
    assert counting.counted.most == 2
    assert counting.counted.count == 0


def test_a_generator_that_is_closed_in_the_middle_leaves_the_reader_usable(
    reader: KosmosPageReader, readings: list[Reading]
) -> None:
    closed = reader.read(reversed(PAGES * 2))
    assert next(closed) == readings[2]
    closed.close()
    assert list(reader.read(PAGES)) == readings
    abandoned = reader.read(reversed(PAGES * 2))
    assert next(abandoned) == readings[2]
    del abandoned
    gc.collect()
    assert list(reader.read(PAGES)) == readings


def test_a_source_that_fails_leaves_the_reader_usable(
    reader: KosmosPageReader, readings: list[Reading]
) -> None:
    def pages() -> Iterator[Page]:
        yield from reversed(PAGES)
        raise KeyError("the end of the tape")

    with pytest.raises(KeyError):
        list(reader.read(pages()))
    assert list(reader.read(PAGES)) == readings


def test_two_generators_of_one_reader_do_not_disturb_each_other(
    reader: KosmosPageReader, readings: list[Reading]
) -> None:
    there, back = reader.read(PAGES), reader.read(reversed(PAGES))
    for reading, mirrored in zip(readings, reversed(readings), strict=True):
        assert next(there) == reading
        assert next(back) == mirrored
    assert [*there, *back] == []


# Pages that fail


class FailingRunner:
    """The fast engine's runner, on a device where `fails(pages)` says for which it has no room."""

    def __init__(self, runner: Any, fails: Callable[[set[int]], bool], error: Exception) -> None:
        self.runner = runner
        self.fails = fails
        self.error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runner, name)

    def launch(self, feeds: Sequence[Any]) -> Any:
        if self.fails({feed.request.key.page.number for feed in feeds}):
            raise self.error
        return self.runner.launch(feeds)


class FailingEngine:
    """The fast engine with such a runner."""

    def __init__(self, engine: Any, fails: Callable[[set[int]], bool], error: Exception) -> None:
        self.engine = engine
        self.fails = fails
        self.error = error

    def session(self) -> Any:
        session = self.engine.session()
        session.engine.runner = FailingRunner(session.engine.runner, self.fails, self.error)
        return session


class FailingModel:
    """The model of the reference engine, likewise."""

    def __init__(self, engine: Any, fails: Callable[[set[int]], bool], error: Exception) -> None:
        self.model = engine.model
        self.known = {page.number: engine.patches(page)[0] for page in PAGES}
        self.fails = fails
        self.error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def generate(self, *, flattened_patches: Any, **inputs: Any) -> Any:
        shown = {
            n for n, p in self.known.items() for row in flattened_patches if torch.equal(p, row)
        }
        if self.fails(shown):
            raise self.error
        return self.model.generate(flattened_patches=flattened_patches, **inputs)


def failing(
    reader: KosmosPageReader, fails: Callable[[set[int]], bool], error: Exception
) -> KosmosPageReader:
    """`reader` with a device that raises `error` for the page numbers that `fails` names."""
    if isinstance(reader.engine, ReferenceEngine):
        reader.engine.model = FailingModel(reader.engine, fails, error)
    else:
        reader.engine = FailingEngine(reader.engine, fails, error)
    return reader


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, ValueError("odd numbers")], ids=repr)
def test_a_page_that_fails_leaves_its_neighbours(
    folder: Path, engine: str, readings: list[Reading], error: Exception
) -> None:
    reader = failing(new_reader(folder, engine, batch_size=3), lambda shown: 2 in shown, error)
    for _ in range(2):  # and leaves the reader usable
        found = list(reader.read(PAGES))
        assert [found[0], found[2]] == [readings[0], readings[2]]
        assert found[1].page == PAGES[1].info
        assert found[1].error is not None
        assert found[1].error.type == "reading"
        assert str(error) in found[1].error.message


@pytest.mark.parametrize("room", [1, 2])
def test_pages_for_which_there_is_no_room_together_are_read_in_turn(
    folder: Path, engine: str, readings: list[Reading], room: int
) -> None:
    reader = failing(
        new_reader(folder, engine, batch_size=3), lambda shown: len(shown) > room, OUT_OF_MEMORY
    )
    assert list(reader.read(PAGES * 2)) == readings * 2


# What the reader makes of its engine


class ScriptedEngine:
    """Writes what `write` says, `slots` pages at a time, the last of them first."""

    def __init__(self, write: Callable[[Page], Written | Exception], *, slots: int = 2) -> None:
        self.write = write
        self.slots = slots
        self.open: list[ScriptedSession] = []

    def session(self) -> ScriptedSession:
        return ScriptedSession(self)


class ScriptedSession:
    def __init__(self, engine: ScriptedEngine) -> None:
        self.engine = engine
        self.engine.open.append(self)
        self.pages: list[tuple[Hashable, Page]] = []

    @property
    def is_full(self) -> bool:
        return len(self.pages) >= self.engine.slots

    def add(self, key: Hashable, page: Page) -> None:
        self.pages.append((key, page))

    def advance(self) -> list[Outcome]:
        pages, self.pages = self.pages, []
        return [(key, self.engine.write(page)) for key, page in reversed(pages)]

    def close(self) -> None:
        self.engine.open.remove(self)


def numbered(page: Page) -> Written:
    return Written({"md": Output(f"page {page.number}", ended=True)}, (16, 16))


def scripted(
    folder: Path, write: Callable[[Page], Written | Exception], *, slots: int = 2
) -> KosmosPageReader:
    reader = new_reader(folder, "reference")
    reader.engine = ScriptedEngine(write, slots=slots)
    return reader


def test_readings_come_in_the_order_of_the_pages(folder: Path) -> None:
    reader = scripted(folder, numbered, slots=3)
    found = [reading.markdown for reading in reader.read(MANY)]
    assert found == [f"page {page.number}" for page in MANY]


def test_a_reading_comes_as_soon_as_the_pages_before_it_are_read(folder: Path) -> None:
    pulled: list[int] = []

    def pages() -> Iterator[Page]:
        for page in [BLANK, PAGES[0], BROKEN, PAGES[1], BLANK, PAGES[2]]:
            pulled.append(page.number)
            yield page

    counts = [(r.page.number, len(pulled)) for r in scripted(folder, numbered).read(pages())]
    assert counts == [(8, 1), (1, 4), (9, 4), (2, 4), (8, 5), (3, 6)]


def test_blank_and_failed_pages_are_not_shown_to_the_model(folder: Path) -> None:
    def unasked(page: Page) -> Written:
        raise AssertionError("the model was asked about a page that needs no reading")

    readings = list(scripted(folder, unasked).read([BLANK, BROKEN]))
    assert [reading.flags for reading in readings] == [("blank",), ()]
    assert [reading.lines for reading in readings] == [(), ()]
    assert [reading.error for reading in readings] == [None, Failure("corrupt", "no pixels")]
    assert [reading.page for reading in readings] == [BLANK.info, BROKEN.info]


def test_a_page_that_fails_says_what_to_do(folder: Path) -> None:
    def write(page: Page) -> Written | Exception:
        return OUT_OF_MEMORY if page.number == 2 else numbered(page)

    readings = list(scripted(folder, write).read(PAGES))
    error = readings[1].error
    assert error is not None
    assert error.type == "reading"
    assert "page 2" in error.message
    assert "CUDA out of memory" in error.message
    assert "batch_size" in error.message
    assert (readings[0].error, readings[2].error) == (None, None)


def test_the_session_is_closed_however_the_reading_ends(folder: Path) -> None:
    reader = scripted(folder, numbered)
    list(reader.read(PAGES))
    assert reader.engine.open == []
    found = reader.read(PAGES)
    next(found)
    assert len(reader.engine.open) == 1
    found.close()
    assert reader.engine.open == []

    def pages() -> Iterator[Page]:
        yield PAGES[0]
        raise KeyError("the end of the tape")

    with pytest.raises(KeyError):
        list(reader.read(pages()))
    assert reader.engine.open == []


# The reader


def test_it_is_a_page_reader(reader: KosmosPageReader) -> None:
    assert isinstance(reader, PageReader)
    assert reader.name == "kosmos-2.5"


def test_the_fast_engine_is_what_one_gets(folder: Path) -> None:
    version = KosmosPageReader(folder, device="cpu").version
    assert version == KosmosPageReader(folder, engine="fast", device="cpu").version


def test_the_version_follows_whatever_changes_a_reading(folder: Path, tmp_path: Path) -> None:
    other = tiny_kosmos(tmp_path, seed=1)
    versions = [
        new_reader(folder, "fast").version,
        new_reader(folder, "reference").version,
        new_reader(other, "fast").version,
        new_reader(folder, "fast", dtype="bf16").version,
        new_reader(folder, "fast", tasks=["md"]).version,
        new_reader(folder, "fast", max_new_tokens=ROOM + 1).version,
    ]
    assert len(set(versions)) == len(versions)
    assert new_reader(folder, "fast", tasks=["md", "ocr"]).version == versions[0]


def test_the_version_follows_nothing_else(folder: Path, reader: KosmosPageReader) -> None:
    engine = reader.version.split("-")[-2]
    assert new_reader(folder, engine, batch_size=5).version == reader.version


def test_no_more_is_written_than_the_context_holds(folder: Path, engine: str) -> None:
    assert KosmosPageReader(folder, engine=engine, device="cpu").max_new_tokens == 512 - 20


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "slow"},
        {"dtype": "int8"},
        {"device": "nowhere"},
        {"tasks": []},
        {"tasks": ["ocr", "chat"]},
        {"tasks": "md"},
        {"batch_size": 0},
        {"max_new_tokens": 0},
        {"revision": "main"},
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        KosmosPageReader(folder, **options)


def test_a_folder_without_a_model_is_refused(tmp_path: Path, engine: str) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        KosmosPageReader(tmp_path, engine=engine, device="cpu")


def test_loading_and_reading_are_silent_and_leave_settings_alone(
    folder: Path,
    engine: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = transformers.utils.logging
    before = settings.get_verbosity(), settings.is_progress_bar_enabled()
    with caplog.at_level(logging.DEBUG):
        list(new_reader(folder, engine, max_new_tokens=4).read(PAGES[:1]))
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert (settings.get_verbosity(), settings.is_progress_bar_enabled()) == before


def test_without_torch_the_extra_is_named() -> None:
    code = """
import sys
sys.modules["torch"] = None
from kosmos_loader.readers.kosmos import KosmosPageReader
try:
    KosmosPageReader("anything")
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.startswith("MissingExtra")
    assert "kosmos-loader[kosmos]" in done.stdout
