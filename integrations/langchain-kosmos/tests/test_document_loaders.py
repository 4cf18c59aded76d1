"""`KosmosLoader`: LangChain's contract, on files that a scripted reader reads."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import langchain_kosmos
import pytest
from langchain_core.document_loaders import BaseLoader
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_kosmos import KosmosLoader
from PIL import Image

from kosmos_loader.document import Line, Page
from kosmos_loader.errors import ReadingError, UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.testing import ScriptedReader

BOX = Box(0.1, 0.1, 0.9, 0.2)


def book(path: Path, pages: int) -> Path:
    images = [Image.new("RGB", (100, 140), "white") for _ in range(pages)]
    for number, image in enumerate(images):
        image.putpixel((0, 0), (number, 0, 0))
    images[0].save(path, save_all=True, append_images=images[1:])
    return path


@pytest.fixture
def two_pages(tmp_path: Path) -> Path:
    return book(tmp_path / "book.tif", 2)


def says_its_number(page: Page) -> Line:
    return Line(f"This is page {page.number}.", BOX, 0.9)


def reader() -> ScriptedReader:
    return ScriptedReader(says_its_number)


def test_documents_have_text_id_and_the_place_on_the_paper(two_pages: Path) -> None:
    documents = KosmosLoader(two_pages, reader=reader()).load()
    assert [document.page_content for document in documents] == [
        "This is page 1.",
        "This is page 2.",
    ]
    first = documents[0]
    assert first.id == first.metadata["chunk_id"]
    assert (first.metadata["source"], first.metadata["page"]) == (str(two_pages), 1)
    assert first.metadata["bbox"] == "0.1,0.1,0.9,0.2"
    assert json.loads(first.metadata["boxes"]) == [[1, 0.1, 0.1, 0.9, 0.2]]


def test_the_first_document_comes_before_the_second_page_is_read(two_pages: Path) -> None:
    scripted = reader()
    documents = KosmosLoader(two_pages, reader=scripted).lazy_load()
    assert scripted.seen == []
    assert next(documents).page_content == "This is page 1."
    assert len(scripted.seen) == 1


def test_an_iterator_of_paths_is_not_spent_by_the_first_load(tmp_path: Path) -> None:
    paths = (book(tmp_path / name, 1) for name in ("a.tif", "b.tif"))
    loader = KosmosLoader(paths, reader=reader())
    assert len(loader.load()) == 2
    assert len(loader.load()) == 2


def test_only_lazy_load_is_our_own() -> None:
    assert issubclass(KosmosLoader, BaseLoader)
    assert "lazy_load" in vars(KosmosLoader)
    assert not {"load", "aload", "alazy_load", "load_and_split"} & set(vars(KosmosLoader))


def test_async_loading_gives_the_same_documents(two_pages: Path) -> None:
    loader = KosmosLoader(two_pages, reader=reader())

    async def one_by_one() -> list[str | None]:
        return [document.id async for document in loader.alazy_load()]

    expected = [document.id for document in loader.load()]
    assert asyncio.run(one_by_one()) == expected
    assert [document.id for document in asyncio.run(loader.aload())] == expected


@pytest.mark.parametrize(("mode", "count"), [("chunks", 2), ("page", 2), ("single", 1)])
def test_modes_give_chunks_pages_or_files(two_pages: Path, mode: str, count: int) -> None:
    documents = KosmosLoader(two_pages, reader=reader(), mode=mode).load()
    assert len(documents) == count
    assert "This is page 2." in documents[-1].page_content


def test_errors_are_raised_skipped_or_documents(two_pages: Path) -> None:
    def load(on_error: str) -> list[str]:
        failing = ScriptedReader([ReadingError("too dark"), Line("Two", BOX)])
        documents = KosmosLoader(two_pages, reader=failing, on_error=on_error).load()
        return [document.metadata.get("error", document.page_content) for document in documents]

    with pytest.raises(ReadingError, match="too dark"):
        load("raise")
    assert load("skip") == ["Two"]
    assert load("document") == ["too dark", "Two"]


def test_settings_that_cannot_be_meant_are_refused_at_once() -> None:
    with pytest.raises(UsageError):
        KosmosLoader("a.pdf", mode="lines")


def test_settings_reach_the_pages(two_pages: Path) -> None:
    documents = KosmosLoader(two_pages, reader=reader(), pages="2", chunk_size=6).load()
    assert {document.metadata["page"] for document in documents} == {2}
    assert all(len(document.page_content) <= 6 for document in documents)


def test_indexing_twice_adds_nothing_and_cleans_up_what_is_gone(tmp_path: Path) -> None:
    path = book(tmp_path / "book.tif", 3)
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    records = InMemoryRecordManager("kosmos")
    records.create_schema()

    def run() -> dict[str, int]:
        return dict(
            index(
                KosmosLoader(path, reader=reader()),
                records,
                store,
                cleanup="incremental",
                source_id_key="source",
                key_encoder="sha256",
            )
        )

    assert run()["num_added"] == 3
    assert run() == {"num_added": 0, "num_updated": 0, "num_skipped": 3, "num_deleted": 0}
    book(path, 2)
    assert run()["num_deleted"] > 0
    assert len(store.store) == 2


def test_the_public_names_are_the_loader_only() -> None:
    assert langchain_kosmos.__all__ == ["KosmosLoader"]
