"""What every loader built on this package promises, as tests that pytest collects.

```python
from kosmos_loader.loading import Passage
from kosmos_loader.testing.loaders import LoaderContract


class TestMyLoader(LoaderContract):
    def loader(self, sources, **settings):
        return MyLoader(sources, **settings)

    def passages(self, loader, sources):
        return (Passage(d.id, d.text, d.metadata) for d in loader.lazy_load())
```
The adapters for LangChain and LlamaIndex pass it. It needs pytest, and neither a model nor a GPU:
a scripted reader reads pages that the tests make.
"""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kosmos_loader.document import METADATA_BYTES, Chunk, Line, Page
from kosmos_loader.errors import (
    CorruptFile,
    EmptyFile,
    EncryptedFile,
    ReadingError,
    SourceNotFound,
    UsageError,
)
from kosmos_loader.geometry import Box
from kosmos_loader.loading import MODES, Passage, PassageLoader
from kosmos_loader.testing import ScriptedReader

KEYS = frozenset(
    Chunk("", (), "", "", "", page=1, page_end=1, page_count=1, page_width=1, page_height=1)
    .metadata()
    .keys()
)
"""Metadata that every passage has."""

Sources = str | Path | Iterable[str | Path]


class LoaderContract:
    """Tests that a loader passes: subclass it as `Test...` and say how the loader is called."""

    def loader(self, sources: Sources, **settings: Any) -> Any:
        """The loader to test, with `settings` of `PassageLoader`, and `sources` if it takes any."""
        raise NotImplementedError

    def passages(self, loader: Any, sources: Sources) -> Iterator[Passage]:
        """What `loader` gives for `sources`, lazily: what it calls a document, as a passage."""
        raise NotImplementedError

    def load(self, sources: Sources, **settings: Any) -> list[Passage]:
        """All passages; by a scripted reader where `settings` name none."""
        settings.setdefault("reader", scripted())
        return list(self.passages(self.loader(sources, **settings), sources))

    # Documents

    @pytest.mark.parametrize("mode", MODES)
    def test_it_gives_the_passages_of_the_line_itself(self, tmp_path: Path, mode: str) -> None:
        """Texts, ids and metadata are those of `PassageLoader`, and so of every other adapter."""
        path = book(tmp_path / "book.tif", 3)
        expected = PassageLoader(reader=scripted(), mode=mode, chunk_size=80).load(path)
        assert self.load(path, mode=mode, chunk_size=80) == list(expected)

    @pytest.mark.parametrize("mode", MODES)
    def test_metadata_is_flat_complete_and_small(self, tmp_path: Path, mode: str) -> None:
        for passage in self.load(book(tmp_path / "book.tif", 3), mode=mode):
            assert set(passage.metadata) >= KEYS
            assert all(isinstance(value, str | int | float) for value in passage.metadata.values())
            assert len(json.dumps(passage.metadata).encode()) < METADATA_BYTES

    def test_a_passage_says_where_it_stands_on_the_paper(self, tmp_path: Path) -> None:
        path = book(tmp_path / "book.tif", 2)
        first, second = self.load(path)
        assert first.text == "This is page 1."
        assert (first.metadata["source"], first.metadata["page"]) == (str(path), 1)
        assert (second.metadata["source"], second.metadata["page"]) == (str(path), 2)
        assert first.metadata["page_count"] == 2
        assert first.metadata["bbox"] == "0.1,0.1,0.9,0.2"
        assert json.loads(str(first.metadata["boxes"])) == [[1, 0.1, 0.1, 0.9, 0.2]]
        assert json.loads(str(first.metadata["spans"])) == [[0, 15, 1, 0.1, 0.1, 0.9, 0.2]]

    def test_documents_share_no_metadata(self, tmp_path: Path) -> None:
        first, second = self.load(book(tmp_path / "book.tif", 2))
        first.metadata["page"] = 99
        assert second.metadata["page"] == 2

    @pytest.mark.parametrize("mode", MODES)
    def test_ids_are_stable_and_no_two_are_alike(self, tmp_path: Path, mode: str) -> None:
        path = book(tmp_path / "book.tif", 3)
        first = [passage.id for passage in self.load(path, mode=mode)]
        assert first == [passage.id for passage in self.load(str(path), mode=mode)]
        assert first == [p.metadata["chunk_id"] for p in self.load(path, mode=mode)]
        assert len(set(first)) == len(first)

    # Laziness

    @pytest.mark.parametrize("mode", ["chunks", "page"])
    def test_the_first_document_comes_before_the_second_page_is_read(
        self, tmp_path: Path, mode: str
    ) -> None:
        path, reader = book(tmp_path / "book.tif", 3), scripted()
        passages = self.passages(self.loader(path, reader=reader, mode=mode), path)
        assert reader.seen == []
        for number in (1, 2, 3):
            assert next(passages).text == f"This is page {number}."
            assert [page.number for page in reader.seen] == list(range(1, number + 1))
        assert next(passages, None) is None

    # Sources

    @pytest.mark.parametrize(
        "sources",
        [
            lambda folder: folder,
            lambda folder: f"{folder}/*.tif",
            lambda folder: [str(folder / "a.tif"), folder / "b.tif"],
            lambda folder: (folder / name for name in ("a.tif", "b.tif")),
        ],
        ids=["folder", "pattern", "list", "generator"],
    )
    def test_folders_patterns_lists_and_generators_are_taken(
        self, tmp_path: Path, sources: Callable[[Path], Sources]
    ) -> None:
        names = ["a.tif", "b.tif"]
        for name in names:
            book(tmp_path / name, 1)
        found = [Path(str(p.metadata["source"])).name for p in self.load(sources(tmp_path))]
        assert found == names

    def test_a_loader_can_be_used_again(self, tmp_path: Path) -> None:
        path = book(tmp_path / "book.tif", 2)
        loader = self.loader([path], reader=scripted())
        first = list(self.passages(loader, [path]))
        assert first == list(self.passages(loader, [path]))
        assert len(first) == 2

    def test_a_loader_can_be_pickled(self, tmp_path: Path) -> None:
        """As worker processes need it; a loaded model does not come with it."""
        path = book(tmp_path / "book.tif", 2)
        loader = self.loader(path, reader=scripted(), chunk_size=9)
        expected = list(self.passages(loader, path))
        copy = pickle.loads(pickle.dumps(loader))  # noqa: S301 - our own bytes
        assert list(self.passages(copy, path)) == expected

    # What fails

    def test_an_error_is_raised_once_the_documents_before_it_are_out(self, tmp_path: Path) -> None:
        path = book(tmp_path / "book.tif", 3)
        passages = self.passages(self.loader(path, reader=failing()), path)
        assert next(passages).text == "This is page 1."
        with pytest.raises(ReadingError, match=r"book\.tif, page 2: too dark; scan it again"):
            next(passages)

    def test_a_page_that_failed_is_skipped_with_a_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = book(tmp_path / "book.tif", 3)
        with caplog.at_level(logging.WARNING, "kosmos_loader"):
            passages = self.load(path, reader=failing(), on_error="skip")
        assert [passage.metadata["page"] for passage in passages] == [1, 3]
        assert "page 2: too dark" in caplog.text

    def test_a_page_that_failed_is_an_empty_document_with_the_reason(self, tmp_path: Path) -> None:
        path = book(tmp_path / "book.tif", 3)
        _, failed, last = self.load(path, reader=failing(), on_error="document")
        assert (failed.text, failed.metadata["page"]) == ("", 2)
        assert failed.metadata["error_type"] == "reading"
        assert failed.metadata["error"] == "too dark; scan it again"
        assert set(failed.metadata) == {*last.metadata, "error_type", "error"}
        assert last.text == "This is page 3."

    @pytest.mark.parametrize("on_error", ["skip", "document"])
    def test_a_bad_file_costs_that_file_only(self, tmp_path: Path, on_error: str) -> None:
        book(tmp_path / "a.tif", 1)
        (tmp_path / "b.tif").write_bytes(b"")
        book(tmp_path / "c.tif", 1)
        passages = self.load(tmp_path, on_error=on_error)
        found = [Path(str(p.metadata["source"])).name for p in passages if p.text]
        assert found == ["a.tif", "c.tif"]
        failed = [p.metadata["error_type"] for p in passages if not p.text]
        assert failed == (["empty"] if on_error == "document" else [])

    def test_errors_are_typed_and_name_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.png"
        with pytest.raises(SourceNotFound, match=r"bad\.png"):
            self.load(path)
        path.write_bytes(b"")
        with pytest.raises(EmptyFile, match=r"bad\.png"):
            self.load(path)
        path.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
        with pytest.raises(CorruptFile, match=r"bad\.png"):
            self.load(path)

    # Settings

    def test_pages_are_picked_by_number(self, tmp_path: Path) -> None:
        path = book(tmp_path / "book.tif", 4)
        assert [p.metadata["page"] for p in self.load(path, pages="2,4-")] == [2, 4]

    def test_a_password_opens_an_encrypted_file(self, tmp_path: Path) -> None:
        path = encrypted(tmp_path / "secret.pdf", "open sesame")
        with pytest.raises(EncryptedFile):
            self.load(path)
        [passage] = self.load(path, password="open sesame")  # noqa: S106 - of a file made here
        assert passage.text == "This is page 1."

    def test_chunks_are_as_large_as_they_may_be_by_what_counts_them(self, tmp_path: Path) -> None:
        path = book(tmp_path / "book.tif", 1)
        by_characters = [p.text for p in self.load(path, chunk_size=10)]
        assert by_characters == ["This is", "page 1."]
        for length in (str.split, WordTokenizer()):
            by_words = [p.text for p in self.load(path, chunk_size=3, chunk_length=length)]
            assert by_words == ["This is page", "1."]

    def test_chunks_may_overlap(self, tmp_path: Path) -> None:
        path = book(tmp_path / "book.tif", 1)
        line = Line("It rained. We sailed. They paid. All slept.", Box(0.1, 0.1, 0.9, 0.2), 0.9)
        settings = {"chunk_size": 4, "chunk_length": str.split}
        for overlap, texts in (
            (0, ["It rained. We sailed.", "They paid. All slept."]),
            (2, ["It rained. We sailed.", "We sailed. They paid.", "paid. All slept."]),
        ):
            reader = ScriptedReader([line])
            found = self.load(path, reader=reader, chunk_overlap=overlap, **settings)
            assert [passage.text for passage in found] == texts

    def test_headings_are_as_long_as_they_may_be(self, tmp_path: Path) -> None:
        path = book(tmp_path / "book.tif", 2)
        reader = ScriptedReader({1: [TITLE, LINE], 2: LINE})
        for size, headings in ((None, "CHAPTER ONE"), (7, "CHAPTER"), (0, "")):
            *_, last = self.load(path, reader=reader, heading_size=size)
            assert last.metadata["headings"] == headings

    @pytest.mark.parametrize(
        "settings",
        [
            {"mode": "lines"},
            {"on_error": "ignore"},
            {"chunk_size": 0},
            {"chunk_size": 100, "chunk_overlap": 60},
            {"heading_size": -1},
        ],
    )
    def test_settings_that_cannot_be_meant_are_refused(
        self, tmp_path: Path, settings: dict[str, Any]
    ) -> None:
        path = book(tmp_path / "book.tif", 1)
        with pytest.raises((UsageError, ValueError)):
            self.load(path, **settings)


TITLE = Line("CHAPTER ONE", Box(0.1, 0.02, 0.9, 0.08), 0.9)
LINE = Line("The harbour master wrote it down.", Box(0.1, 0.2, 0.9, 0.22), 0.9)


class WordTokenizer:
    """A tokenizer whose tokens are words."""

    def encode(self, text: str, /) -> list[str]:
        """The words of `text`."""
        return text.split()


def book(path: Path, pages: int) -> Path:
    """A TIFF of so many pages, each with pixels of its own."""
    images = [Image.new("RGB", (100, 140), "white") for _ in range(pages)]
    for number, image in enumerate(images):
        image.putpixel((0, 0), (number, 0, 0))
    images[0].save(path, save_all=True, append_images=images[1:])
    return path


def encrypted(path: Path, password: str) -> Path:
    """A PDF of one page that `password` opens."""
    import pypdf

    writer = pypdf.PdfWriter()
    writer.add_blank_page(200, 280)
    writer.encrypt(password, algorithm="AES-256")
    writer.write(path)
    return path


def scripted() -> ScriptedReader:
    """A reader of pages that say their number; it can be pickled."""
    return ScriptedReader(says_its_number)


def failing() -> ScriptedReader:
    """A reader that cannot read the second page."""
    return ScriptedReader(fails_on_the_second)


def says_its_number(page: Page) -> Line:
    """The one line on `page`."""
    return Line(f"This is page {page.number}.", Box(0.1, 0.1, 0.9, 0.2), 0.9)


def fails_on_the_second(page: Page) -> Line:
    """The one line on `page`; `ReadingError` for the second."""
    if page.number == 2:
        raise ReadingError("too dark; scan it again")
    return says_its_number(page)
