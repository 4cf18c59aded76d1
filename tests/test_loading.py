"""Files to passages: what every adapter gives, whatever the framework."""

from __future__ import annotations

import io
import json
import logging
import pickle
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kosmos_loader.chunking import chunk
from kosmos_loader.compose import compose
from kosmos_loader.document import GEOMETRY_KEYS, Failure, Line, Page, Reading
from kosmos_loader.errors import (
    CorruptFile,
    EmptyFile,
    EncryptedFile,
    KosmosLoaderError,
    MissingExtra,
    ReadingError,
    SourceNotFound,
    UsageError,
)
from kosmos_loader.geometry import Box
from kosmos_loader.loading import (
    HIDDEN_KEYS,
    MODES,
    NamedBytes,
    Passage,
    PassageLoader,
    error_class,
    error_of,
    joined,
)
from kosmos_loader.pages import open_pages
from kosmos_loader.testing import ScriptedReader

SENTENCE = "The harbour master wrote down what every ship had paid on that day."


def lines(*texts: str) -> list[Line]:
    return [
        Line(text, Box(0.1, 0.05 + 0.03 * row, 0.9, 0.07 + 0.03 * row), 0.8)
        for row, text in enumerate(texts)
    ]


def book(path: Path, pages: int) -> Path:
    images = [Image.new("RGB", (100, 140), "white") for _ in range(pages)]
    for number, image in enumerate(images):
        image.putpixel((0, 0), (number, 0, 0))
    images[0].save(path, save_all=True, append_images=images[1:])
    return path


@pytest.fixture
def three_pages(tmp_path: Path) -> Path:
    return book(tmp_path / "book.tif", 3)


def script(page: Page) -> list[Line]:
    return lines(f"Page {page.number} begins.", SENTENCE, SENTENCE)


def load(
    sources: object, reader: ScriptedReader | None = None, **settings: object
) -> list[Passage]:
    loader = PassageLoader(reader=reader or ScriptedReader(script), **settings)
    return list(loader.load(sources))


def test_chunks_are_those_of_the_line_itself(three_pages: Path) -> None:
    passages = load(three_pages, chunk_size=120)
    readings = ScriptedReader(script).read(open_pages(three_pages))
    blocks = [block for reading in readings for block in compose(reading)]
    expected = list(chunk(blocks, size=120))
    assert [(p.id, p.text, p.metadata) for p in passages] == [
        (c.chunk_id, c.text, c.metadata()) for c in expected
    ]
    assert len(passages) > 3


def test_headings_reach_over_pages(three_pages: Path) -> None:
    title = Line("CHAPTER ONE", Box(0.1, 0.02, 0.9, 0.08), 0.9)
    reader = ScriptedReader([[title, *lines(*[SENTENCE] * 8)[2:]], *[lines(*[SENTENCE] * 8)] * 2])
    passages = load(three_pages, reader)
    assert {p.metadata["headings"] for p in passages if p.metadata["page"] == 3} == {"CHAPTER ONE"}


@pytest.mark.parametrize("mode", ["chunks", "page"])
def test_passages_of_a_page_come_before_the_next_page_is_read(three_pages: Path, mode: str) -> None:
    reader = ScriptedReader(script)
    passages = PassageLoader(reader=reader, mode=mode, chunk_size=5000).load(three_pages)
    for number in (1, 2, 3):
        assert f"Page {number} begins." in next(passages).text
        assert [page.number for page in reader.seen] == list(range(1, number + 1))
    assert next(passages, None) is None


def test_a_paragraph_over_two_pages_is_one_passage(three_pages: Path) -> None:
    full = "The harbour master wrote down what every ship had paid and what she had brought, har-"
    reader = ScriptedReader([lines("Dues", full), lines("bour by harbour."), lines("The end.")])
    first, second = load(three_pages, reader)
    assert first.text.endswith("and what she had brought, harbour by harbour.")
    assert (first.metadata["page"], first.metadata["page_end"]) == (1, 2)
    assert {row[0] for row in json.loads(str(first.metadata["boxes"]))} == {1, 2}
    assert (second.text, second.metadata["page"]) == ("The end.", 3)


def test_nothing_goes_on_over_a_page_that_failed(three_pages: Path) -> None:
    reader = ScriptedReader([lines("They came to"), ReadingError("torn"), lines("the quay.")])
    passages = load(three_pages, reader, on_error="document")
    assert [passage.text for passage in passages] == ["They came to", "", "the quay."]


def test_page_mode_gives_one_passage_a_page_even_a_blank_one(three_pages: Path) -> None:
    reader = ScriptedReader([lines("One", SENTENCE), {"flags": ["blank"]}, lines("Three")])
    passages = load(three_pages, reader, mode="page")
    assert [(p.metadata["page"], p.metadata["page_end"]) for p in passages] == [
        (1, 1),
        (2, 2),
        (3, 3),
    ]
    assert (passages[1].text, passages[1].metadata["flags"]) == ("", "blank")
    assert len({p.id for p in passages}) == 3


@pytest.mark.parametrize("mode", ["chunks", "page", "single"])
def test_what_composing_warns_of_is_told_in_every_mode(three_pages: Path, mode: str) -> None:
    reader = ScriptedReader([{"markdown": "Text that stands in no line."}] * 3)
    assert {p.metadata["flags"] for p in load(three_pages, reader, mode=mode)} == {"unplaced"}


def test_single_mode_gives_one_passage_a_file(tmp_path: Path) -> None:
    first, second = book(tmp_path / "a.tif", 2), book(tmp_path / "b.tif", 1)
    passages = load([first, second], mode="single")
    assert [p.metadata["source"] for p in passages] == [str(first), str(second)]
    assert [(p.metadata["page"], p.metadata["page_end"]) for p in passages] == [(1, 2), (1, 1)]
    assert "Page 1 begins." in passages[0].text
    assert "Page 2 begins." in passages[0].text


def test_single_mode_keeps_a_good_file_before_a_bad_one(tmp_path: Path) -> None:
    good, bad = book(tmp_path / "a.tif", 2), tmp_path / "b.tif"
    bad.write_bytes(b"")
    passages = PassageLoader(reader=ScriptedReader(script), mode="single").load([good, bad])
    assert "Page 2 begins." in next(passages).text
    with pytest.raises(EmptyFile):
        next(passages)
    other = book(tmp_path / "c.tif", 1)
    marked = load([good, bad, other], mode="single", on_error="document")
    assert [p.metadata["source"] for p in marked] == [str(good), str(bad), str(other)]


@pytest.mark.parametrize("fails", [False, True])
def test_like_pages_of_a_file_have_different_ids(tmp_path: Path, fails: bool) -> None:
    page = Image.new("RGB", (100, 140), "white")
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page, page])
    part = ReadingError("too dark") if fails else lines("Left blank")
    passages = load(tmp_path, ScriptedReader([part] * 3), mode="page", on_error="document")
    assert len({passage.id for passage in passages}) == 3


def test_joined_pages_know_the_place_of_every_character(three_pages: Path) -> None:
    whole = joined(ScriptedReader(script).read(open_pages(three_pages)))
    start = whole.text.index("Page 3 begins.")
    [(page, box), *_] = whole.boxes(start, start + 6)
    assert (page, box) == (3, lines("Page 3 begins.")[0].box)
    assert whole.support > 0.99
    assert whole.confidence == pytest.approx(0.8)
    assert (whole.page, whole.page_end, whole.page_count) == (1, 3, 3)


@pytest.mark.parametrize("mode", MODES)
def test_ids_are_the_same_on_every_run_and_differ_between_passages(
    three_pages: Path, mode: str
) -> None:
    first = [passage.id for passage in load(three_pages, mode=mode)]
    assert first == [passage.id for passage in load(str(three_pages), mode=mode)]
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("mode", MODES)
def test_metadata_is_flat_and_holds_its_own_id(three_pages: Path, mode: str) -> None:
    for passage in load(three_pages, mode=mode):
        assert all(isinstance(value, str | int | float) for value in passage.metadata.values())
        assert passage.metadata["chunk_id"] == passage.id
        assert len(json.dumps(passage.metadata)) < 10_240


def test_hidden_keys_are_geometry_ids_and_how_it_was_read(three_pages: Path) -> None:
    [passage, *_] = load(three_pages)
    assert set(GEOMETRY_KEYS) < set(HIDDEN_KEYS)
    shown = set(passage.metadata) - set(HIDDEN_KEYS)
    assert shown == {"source", "page", "page_end", "kind", "headings"}


# Sources


def test_files_folders_patterns_streams_and_bytes_are_taken(tmp_path: Path) -> None:
    path = book(tmp_path / "a.tif", 1)
    data = path.read_bytes()
    for source in (path, str(path), tmp_path, f"{tmp_path}/*.tif", [path], data, io.BytesIO(data)):
        assert [passage.text for passage in load(source)] == [load(path)[0].text]


def test_files_of_an_iterator_are_opened_one_after_another(tmp_path: Path) -> None:
    taken = []

    def paths() -> Iterator[Path]:
        for name in ("a.tif", "b.tif"):
            taken.append(name)
            yield book(tmp_path / name, 1)

    passages = PassageLoader(reader=ScriptedReader(script)).load(paths())
    next(passages)
    assert taken == ["a.tif"]


def test_bytes_from_elsewhere_keep_their_name(tmp_path: Path) -> None:
    data = book(tmp_path / "a.tif", 1).read_bytes()
    [passage] = load(NamedBytes(data, "bucket/scans/a.tif"))
    assert passage.metadata["source"] == "bucket/scans/a.tif"


def test_pages_and_password_are_passed_on(three_pages: Path) -> None:
    passages = load(three_pages, pages="2-", mode="page")
    assert [passage.metadata["page"] for passage in passages] == [2, 3]


# What fails


def broken_in_the_middle() -> ScriptedReader:
    return ScriptedReader([lines("One"), ReadingError("too dark; scan it again"), lines("Three")])


@pytest.mark.parametrize("mode", ["chunks", "page"])
def test_raise_raises_once_the_passages_before_are_out(three_pages: Path, mode: str) -> None:
    passages = PassageLoader(reader=broken_in_the_middle(), mode=mode).load(three_pages)
    assert next(passages).text == "One"
    with pytest.raises(ReadingError, match=r"book\.tif, page 2: too dark; scan it again"):
        next(passages)


@pytest.mark.parametrize("mode", ["chunks", "page"])
def test_skip_leaves_the_page_out_and_warns(
    three_pages: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "kosmos_loader"):
        passages = load(three_pages, broken_in_the_middle(), mode=mode, on_error="skip")
    assert [passage.text for passage in passages] == ["One", "Three"]
    assert "page 2: too dark" in caplog.text


@pytest.mark.parametrize("mode", ["chunks", "page"])
def test_document_puts_an_empty_passage_in_the_place_of_the_page(
    three_pages: Path, mode: str
) -> None:
    passages = load(three_pages, broken_in_the_middle(), mode=mode, on_error="document")
    assert [passage.text for passage in passages] == ["One", "", "Three"]
    failed = passages[1].metadata
    assert (failed["error_type"], failed["error"]) == ("reading", "too dark; scan it again")
    assert (failed["page"], failed["page_count"]) == (2, 3)
    assert set(failed) == {*passages[0].metadata, "error_type", "error"}
    assert passages[1].id == failed["chunk_id"]


@pytest.mark.parametrize("on_error", ["skip", "document"])
def test_a_bad_file_costs_that_file_only(tmp_path: Path, on_error: str) -> None:
    book(tmp_path / "a.tif", 1)
    (tmp_path / "b.tif").write_bytes(b"")
    book(tmp_path / "c.tif", 1)
    for mode in MODES:
        passages = load(tmp_path, on_error=on_error, mode=mode)
        names = [Path(str(p.metadata["source"])).name for p in passages if p.text]
        assert names == ["a.tif", "c.tif"]
        errors = [p.metadata["error_type"] for p in passages if not p.text]
        assert errors == (["empty"] if on_error == "document" else [])


@pytest.mark.parametrize("mode", MODES)
def test_a_single_file_raises_its_own_error(tmp_path: Path, mode: str) -> None:
    bad = tmp_path / "bad.png"
    with pytest.raises(SourceNotFound):
        load(bad, mode=mode)
    bad.write_bytes(b"")
    with pytest.raises(EmptyFile):
        load(bad, mode=mode)
    bad.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(CorruptFile):
        load(bad, mode=mode)


def test_an_error_is_raised_with_its_class_and_place() -> None:
    failure = Failure("encrypted", "a password is needed")
    error = error_of("/a/b.pdf", 3, failure)
    assert isinstance(error, EncryptedFile)
    assert str(error) == "/a/b.pdf, page 3: a password is needed"
    assert str(error_of("/a/b.pdf", 0, Failure("empty", "/a/b.pdf has no bytes"))) == (
        "/a/b.pdf has no bytes"
    )


def test_every_kind_of_failure_finds_its_class() -> None:
    def below(kind: type[KosmosLoaderError]) -> list[type[KosmosLoaderError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in below(child))]

    for kind in below(KosmosLoaderError):
        assert error_class(Failure(kind.kind, "")) is kind
    assert error_class(Failure("ValueError", "")) is ReadingError


# Settings


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "lines"},
        {"on_error": "ignore"},
        {"chunk_size": 0},
        {"chunk_size": 100, "chunk_overlap": 60},
    ],
)
def test_settings_that_cannot_be_meant_are_refused_at_once(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        PassageLoader(**settings)


def test_an_unknown_reader_is_refused_when_it_is_needed(three_pages: Path) -> None:
    with pytest.raises(UsageError, match="no reader is called 'ocr'"):
        load(three_pages, reader="ocr")


class Sparing(ScriptedReader):
    """Reads the pages of these numbers alone, and takes no more than it is told to."""

    def __init__(self, *numbers: int, takes: int = 99) -> None:
        super().__init__(script)
        self.numbers = numbers
        self.takes = takes

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        for reading in super().read(islice(pages, self.takes)):
            if reading.page.number in self.numbers:
                yield reading


@pytest.mark.parametrize(
    "reader", [Sparing(1, 3), Sparing(3), Sparing(), Sparing(1, 2, 3, takes=1)]
)
def test_a_page_that_a_reader_passes_over_has_failed(three_pages: Path, reader: Sparing) -> None:
    read = set(reader.numbers[: reader.takes])
    passages = load(three_pages, reader, mode="page", on_error="document")
    assert [p.metadata["page"] for p in passages] == [1, 2, 3]
    failed = {
        p.metadata["page"] for p in passages if "gave no reading" in p.metadata.get("error", "")
    }
    assert failed == {1, 2, 3} - read
    assert all(f"Page {n} begins." in passages[n - 1].text for n in read)


class Generous(ScriptedReader):
    """Gives something that was not asked for."""

    def __init__(self, more: object) -> None:
        super().__init__(script)
        self.more = more

    def read(self, pages: Iterable[Page]) -> Iterator[Any]:
        for reading in super().read(pages):
            yield reading
            yield self.more or reading


@pytest.mark.parametrize("more", [None, "text"])
def test_a_reader_that_gives_more_than_a_reading_a_page_is_told(
    three_pages: Path, more: object
) -> None:
    with pytest.raises(ReadingError, match="give one Reading for each page"):
        load(three_pages, Generous(more))


def test_a_copy_has_the_settings_and_not_the_loaded_reader() -> None:
    loader = PassageLoader(reader="rapidocr", chunk_size=70)
    loader.__dict__["page_reader"] = lambda: "a loaded model, which cannot be pickled"
    copy = pickle.loads(pickle.dumps(loader))  # noqa: S301 - our own bytes
    assert copy == loader
    assert "page_reader" not in vars(copy)


def test_a_missing_extra_is_an_import_error_too() -> None:
    assert issubclass(MissingExtra, ImportError)
