"""`KosmosLoader` and `KosmosBlobParser`: the contract of loaders, and LangChain's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import langchain_kosmos
import pytest
from langchain_core.document_loaders import BaseBlobParser, BaseLoader
from langchain_core.documents.base import Blob
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_kosmos import KosmosBlobParser, KosmosLoader

from kosmos_loader.errors import SourceNotFound, UsageError
from kosmos_loader.loading import Passage, each
from kosmos_loader.testing.loaders import LoaderContract, Sources, book, scripted


class TestLoaderContract(LoaderContract):
    def loader(self, sources: Sources, **settings: Any) -> KosmosLoader:
        return KosmosLoader(sources, **settings)

    def passages(self, loader: KosmosLoader, sources: Sources) -> Iterator[Passage]:
        for document in loader.lazy_load():
            yield Passage(str(document.id), document.page_content, document.metadata)


class TestBlobParserContract(LoaderContract):
    def loader(self, sources: Sources, **settings: Any) -> KosmosBlobParser:
        return KosmosBlobParser(**settings)

    def passages(self, loader: KosmosBlobParser, sources: Sources) -> Iterator[Passage]:
        for path in each(sources):
            for document in loader.lazy_parse(Blob.from_path(str(path))):
                yield Passage(str(document.id), document.page_content, document.metadata)


@pytest.fixture
def two_pages(tmp_path: Path) -> Path:
    return book(tmp_path / "book.tif", 2)


def test_documents_have_the_id_of_their_chunk(two_pages: Path) -> None:
    for document in KosmosLoader(two_pages, reader=scripted()).load():
        assert document.id == document.metadata["chunk_id"]


def test_an_iterator_of_paths_is_not_spent_by_the_first_load(tmp_path: Path) -> None:
    paths = (book(tmp_path / name, 1) for name in ("a.tif", "b.tif"))
    loader = KosmosLoader(paths, reader=scripted())
    assert len(loader.load()) == 2
    assert len(loader.load()) == 2


def test_only_lazy_load_and_lazy_parse_are_our_own() -> None:
    assert issubclass(KosmosLoader, BaseLoader)
    assert "lazy_load" in vars(KosmosLoader)
    assert not {"load", "aload", "alazy_load", "load_and_split"} & set(vars(KosmosLoader))
    assert issubclass(KosmosBlobParser, BaseBlobParser)
    assert "lazy_parse" in vars(KosmosBlobParser)
    assert "parse" not in vars(KosmosBlobParser)


def test_async_loading_gives_the_same_documents(two_pages: Path) -> None:
    loader = KosmosLoader(two_pages, reader=scripted())

    async def one_by_one() -> list[str | None]:
        return [document.id async for document in loader.alazy_load()]

    expected = [document.id for document in loader.load()]
    assert asyncio.run(one_by_one()) == expected
    assert [document.id for document in asyncio.run(loader.aload())] == expected


def test_settings_that_cannot_be_meant_are_refused_at_once() -> None:
    with pytest.raises(UsageError):
        KosmosLoader("a.pdf", mode="lines")
    with pytest.raises(UsageError):
        KosmosBlobParser(chunk_size=0)


def test_a_blob_of_data_keeps_its_name(two_pages: Path) -> None:
    parser, data = KosmosBlobParser(reader=scripted()), two_pages.read_bytes()
    from_file = parser.parse(Blob.from_path(two_pages))
    assert from_file == KosmosLoader(two_pages, reader=scripted()).load()
    assert parser.parse(Blob.from_data(data, path=str(two_pages))) == from_file
    for blob in (
        Blob.from_data(data, path="bucket/book.tif"),
        Blob.from_data(data, metadata={"source": "bucket/book.tif"}),
    ):
        assert [d.metadata["source"] for d in parser.parse(blob)] == ["bucket/book.tif"] * 2
    nameless = parser.parse(Blob.from_data(data))
    assert [document.metadata["source"][:6] for document in nameless] == ["bytes:"] * 2


def test_the_metadata_of_a_blob_go_into_its_documents(two_pages: Path) -> None:
    blob = Blob.from_path(two_pages, metadata={"box": "A-17", "page": "all"})
    documents = KosmosBlobParser(reader=scripted()).parse(blob)
    assert [document.metadata["box"] for document in documents] == ["A-17", "A-17"]
    assert [document.metadata["page"] for document in documents] == [1, 2]
    assert documents[0].metadata is not documents[1].metadata


def test_a_blob_that_is_not_there_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match=r"none\.pdf"):
        KosmosBlobParser(reader=scripted()).parse(Blob.from_path(tmp_path / "none.pdf"))


def test_other_vector_stores_are_indexed_too(tmp_path: Path) -> None:
    path = book(tmp_path / "book.tif", 3)
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    records = InMemoryRecordManager("kosmos")
    records.create_schema()

    def run() -> dict[str, int]:
        return dict(
            index(
                KosmosLoader(path, reader=scripted()),
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


def test_public_names_are_sorted_and_say_what_they_are() -> None:
    assert langchain_kosmos.__all__ == [
        *("KosmosBlobParser", "KosmosFAISS", "KosmosLoader", "KosmosRetriever", "cited_answer")
    ]
    for name in langchain_kosmos.__all__:
        assert getattr(langchain_kosmos, name).__doc__
