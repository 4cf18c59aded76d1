"""Arguments of a wrong type: an error that says what to give, before any work is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kosmos_loader.archive import ingest, retry_failed
from kosmos_loader.chunking import chunk
from kosmos_loader.errors import UsageError
from kosmos_loader.loading import PassageLoader
from kosmos_loader.pages import find_files, open_pages
from kosmos_loader.prefetching import open_pages_in_processes
from kosmos_loader.readers.base import choose_reader
from kosmos_loader.readers.existing import ExistingOcr
from kosmos_loader.readers.pool import ReaderPool
from kosmos_loader.store import Store
from kosmos_loader.testing import ScriptedReader

WORDS = ScriptedReader(lambda page: "words")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 20)).save(path)
    return path


OPENING: list[tuple[str, Any, str]] = [
    ("pages", 3.5, 'give numbers, or text like "1-3,7,10-"'),
    ("pages", [1.5], 'give numbers, or text like "1-3,7,10-"'),
    ("pages", True, "give numbers from 1"),
    ("password", b"x", "password is b'x'; give text"),
    ("max_pixels", "9", "max_pixels is '9'; give a whole number"),
    ("max_pixels", None, "max_pixels is None; give a whole number"),
]


@pytest.mark.parametrize(("name", "value", "told"), OPENING)
def test_pages_are_opened_with_what_can_be_meant(
    scan: Path, name: str, value: Any, told: str
) -> None:
    with pytest.raises(UsageError) as raised:
        open_pages(scan, **{name: value})
    assert told in str(raised.value)


@pytest.mark.parametrize("source", [None, 5, object()])
@pytest.mark.parametrize("find", [find_files, open_pages, PassageLoader(reader=WORDS).load])
def test_what_is_no_source_is_refused(find: Callable[[Any], Any], source: object) -> None:
    with pytest.raises(UsageError, match="is no source; give a path"):
        list(find(source))


LOADING: list[tuple[str, Any, str]] = [
    ("chunk_size", "1000", "the chunk size is '1000'; give a whole number"),
    ("chunk_size", None, "the chunk size is None; give a whole number"),
    ("chunk_size", float("nan"), "the chunk size is nan; give a whole number"),
    ("chunk_size", 1.5, "the chunk size is 1.5; give a whole number"),
    ("chunk_overlap", "1", "the overlap is '1'; give a whole number"),
    ("heading_size", "1", "the heading size is '1'; give a whole number"),
    ("chunk_length", 5, "5 counts nothing; give a callable or a tokenizer"),
    ("mode", [], "choose one of chunks, page, single"),
    ("on_error", None, "choose one of raise, skip, document"),
    ("pages", 3.5, 'give numbers, or text like "1-3,7,10-"'),
    ("password", 5, "password is 5; give text"),
    ("model", 5, "model is 5; give text"),
    ("reader", None, "None is no reader; give an object with name, version and read"),
    ("reader", object(), "is no reader; give an object with name, version and read"),
    ("reader", ScriptedReader, "ScriptedReader is the class of a reader; give one of it: call it"),
]


@pytest.mark.parametrize(("name", "value", "told"), LOADING)
def test_a_loader_is_made_with_what_can_be_meant(name: str, value: Any, told: str) -> None:
    with pytest.raises(UsageError) as raised:
        PassageLoader(**{"reader": WORDS, name: value})
    assert told in str(raised.value)


INGESTING: list[tuple[str, Any, str]] = [
    ("sources", None, "None is no source; give a path, bytes, a file object, or several"),
    ("sources", [None], "None is no path"),
    ("sources", b"abc", "is no path; an archive has files, so give their paths"),
    ("store", "archive", "'archive' is no store; give what Store.open(folder) returns"),
    ("reader", "rapidocr", "'rapidocr' is no reader; give an object with name, version and read, "),
    ("reader", None, "None is no reader"),
    ("on_error", None, "choose one of skip, stop"),
    ("chunk_size", "1000", "the chunk size is '1000'; give a whole number"),
    ("chunk_size", 0, "a chunk size of 0 holds nothing"),
    ("pages", 3.5, 'give numbers, or text like "1-3,7,10-"'),
    ("password", 5, "password is 5; give text"),
    ("drawing", "1", "drawing is '1'; give a whole number"),
    ("drawing", -1, "-1 processes draw nothing"),
    ("progress", True, "progress is True; give a function, or None"),
    ("stopping", 3, "stopping is 3; give a function, or None"),
]


@pytest.mark.parametrize(("name", "value", "told"), INGESTING)
def test_an_archive_is_indexed_with_what_can_be_meant(
    scan: Path, tmp_path: Path, name: str, value: Any, told: str
) -> None:
    with Store.open(tmp_path / "store") as store:
        given: dict[str, Any] = {"sources": scan, "store": store, "reader": WORDS, name: value}
        with pytest.raises(UsageError) as raised:
            ingest(given.pop("sources"), given.pop("store"), given.pop("reader"), **given)
        assert told in str(raised.value)
        assert len(store) == 0


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("store", None, "None is no store"),
        ("reader", 5, "5 is no reader"),
        ("sources", 5, "5 is no source"),
        ("chunk_size", "1", "give a whole number"),
    ],
)
def test_what_failed_is_tried_again_with_what_can_be_meant(
    tmp_path: Path, name: str, value: Any, told: str
) -> None:
    with Store.open(tmp_path / "store") as store:
        given: dict[str, Any] = {"store": store, "reader": WORDS, name: value}
        with pytest.raises(UsageError) as raised:
            retry_failed(given.pop("store"), given.pop("reader"), **given)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: chunk((), size="1"), "the chunk size is '1'; give a whole number"),
        (lambda: choose_reader(None), "no reader is called None; choose one of"),
        (lambda: choose_reader("kosmos", device=5), "device is 5; give text"),
        (lambda: choose_reader("kosmos", model=5), "model is 5; give text"),
        (lambda: ReaderPool(WORDS, workers="2"), "workers is '2'; give a whole number"),
        (lambda: ReaderPool(WORDS, workers=1.5), "workers is 1.5; give a whole number"),
        (lambda: ReaderPool(WORDS, workers=1, page_timeout="5"), "page_timeout is '5'; give a"),
        (lambda: ReaderPool("rapidocr", workers=1), "'rapidocr' is no reader"),
        (lambda: ExistingOcr("rapidocr"), "'rapidocr' is no reader"),
        (lambda: ExistingOcr(floor="x"), "floor is 'x'; give a number"),
        (lambda: open_pages_in_processes("a.png", workers="2"), "workers is '2'; give a whole"),
        (lambda: open_pages_in_processes("a.png", ahead="2"), "ahead is '2'; give a whole number"),
        (lambda: Store.open(None), "None is no path; give the folder of the store"),
    ],
)
def test_nothing_is_made_of_what_cannot_be_meant(make: Callable[[], object], told: str) -> None:
    with pytest.raises(UsageError) as raised:
        make()
    assert told in str(raised.value)
