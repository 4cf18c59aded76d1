"""`KosmosReader`: LlamaIndex's contract, on files that a scripted reader reads."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from llama_index.core import SimpleDirectoryReader
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import MetadataMode
from llama_index.readers.kosmos import KosmosReader

from kosmos_loader.document import GEOMETRY_KEYS, Line, Page
from kosmos_loader.errors import ReadingError, SourceNotFound, UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.loading import Passage
from kosmos_loader.testing import ScriptedReader
from kosmos_loader.testing.loaders import LoaderContract, Sources, book, says_its_number, scripted

BOX = Box(0.1, 0.1, 0.9, 0.2)


class TestContract(LoaderContract):
    def loader(self, sources: Sources, **settings: Any) -> KosmosReader:
        return KosmosReader(**settings)

    def passages(self, loader: KosmosReader, sources: Sources) -> Iterator[Passage]:
        for document in loader.lazy_load_data(sources):
            yield Passage(document.id_, document.text, document.metadata)


@pytest.fixture
def two_pages(tmp_path: Path) -> Path:
    return book(tmp_path / "book.tif", 2)


def test_it_is_a_reader() -> None:
    assert BaseReader.__name__ in [base.__name__ for base in KosmosReader.__mro__]


def test_neither_embeddings_nor_prompts_see_geometry_and_ids(two_pages: Path) -> None:
    document = KosmosReader(reader=scripted()).load_data(two_pages)[0]
    assert set(GEOMETRY_KEYS) <= set(document.excluded_embed_metadata_keys)
    assert set(GEOMETRY_KEYS) <= set(document.excluded_llm_metadata_keys)
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        seen = document.get_content(mode)
        assert "This is page 1." in seen
        assert f"source: {two_pages}" in seen
        assert "0.9" not in seen
        assert document.id_ not in seen


def test_a_small_splitter_is_not_crowded_out_by_metadata(two_pages: Path) -> None:
    documents = KosmosReader(reader=scripted()).load_data(two_pages)
    nodes = SentenceSplitter(chunk_size=200, chunk_overlap=0).get_nodes_from_documents(documents)
    assert [node.metadata["page"] for node in nodes] == [1, 2]
    assert "boxes" in nodes[0].excluded_embed_metadata_keys


def test_the_splitter_that_is_used_where_none_is_named_leaves_chunks_whole(tmp_path: Path) -> None:
    rows = [Line(f"Row {n} of the ledger, paid in full.", BOX, 0.9) for n in range(200)]
    reader = KosmosReader(reader=ScriptedReader([rows]))
    chunks = reader.load_data(book(tmp_path / "ledger.tif", 1))
    nodes = SentenceSplitter().get_nodes_from_documents(chunks)
    assert len(chunks) > 5
    assert [node.text for node in nodes] == [chunk.text for chunk in chunks]
    assert [node.metadata for node in nodes] == [chunk.metadata for chunk in chunks]


def test_extra_info_goes_into_every_document_and_is_not_shared(two_pages: Path) -> None:
    extra = {"shelf": "B 12"}
    first, second = KosmosReader(reader=scripted()).load_data(two_pages, extra_info=extra)
    assert first.metadata["shelf"] == second.metadata["shelf"] == "B 12"
    assert first.metadata["page"] == 1
    first.metadata["shelf"] = "C 1"
    assert second.metadata["shelf"] == "B 12"
    assert extra == {"shelf": "B 12"}


def test_it_extracts_files_for_a_directory_reader(two_pages: Path) -> None:
    documents = SimpleDirectoryReader(
        str(two_pages.parent),
        file_extractor={".tif": KosmosReader(reader=scripted())},
        raise_on_error=True,
    ).load_data()
    assert [document.text for document in documents] == ["This is page 1.", "This is page 2."]
    assert documents[0].metadata["file_name"] == "book.tif"
    assert documents[0].metadata["page"] == 1
    assert "boxes" in documents[0].excluded_llm_metadata_keys


def test_a_directory_reader_passes_errors_on_when_asked(two_pages: Path) -> None:
    failing = KosmosReader(reader=ScriptedReader([ReadingError("too dark")]))
    with pytest.raises(Exception, match="Error loading file") as raised:
        SimpleDirectoryReader(
            str(two_pages.parent), file_extractor={".tif": failing}, raise_on_error=True
        ).load_data()
    assert isinstance(raised.value.__cause__, ReadingError)


def test_files_are_fetched_from_another_file_system(two_pages: Path) -> None:
    fs = MemoryFileSystem()
    fs.pipe_file("/scans/book.tif", two_pages.read_bytes())
    reader = KosmosReader(reader=scripted())
    documents = reader.load_data("/scans/book.tif", fs=fs)
    assert [document.metadata["source"] for document in documents] == ["/scans/book.tif"] * 2
    through_directory = SimpleDirectoryReader(
        "/scans", fs=fs, file_extractor={".tif": reader}, raise_on_error=True
    ).load_data()
    assert [d.id_ for d in through_directory] == [d.id_ for d in documents]
    with pytest.raises(SourceNotFound, match="no-such"):
        reader.load_data("/scans/no-such.tif", fs=fs)


def test_a_file_that_cannot_be_fetched_is_treated_as_any_other(two_pages: Path) -> None:
    fs = MemoryFileSystem()
    fs.pipe_file("/scans/there.tif", two_pages.read_bytes())
    paths = ["/scans/gone.tif", "/scans/there.tif"]
    skipping = KosmosReader(reader=scripted(), on_error="skip")
    assert [d.metadata["source"] for d in skipping.load_data(paths, fs=fs)] == [paths[1]] * 2
    telling = KosmosReader(reader=scripted(), on_error="document")
    gone, *_ = telling.load_data(paths, fs=fs)
    assert gone.metadata["source"] == paths[0]
    assert "gone.tif cannot be fetched" in str(gone.metadata)


def test_settings_survive_saving_and_pickling() -> None:
    reader = KosmosReader(
        reader="rapidocr", mode="page", chunk_size=70, heading_size=30, on_error="skip"
    )
    assert KosmosReader.from_dict(reader.to_dict()) == reader
    assert KosmosReader.from_json(reader.to_json()) == reader
    assert reader.to_dict()["class_name"] == "KosmosReader"
    copy = pickle.loads(pickle.dumps(reader))  # noqa: S301 - our own bytes
    assert copy == reader
    assert copy.to_dict() == reader.to_dict()


def test_a_reader_object_is_pickled_and_not_saved(two_pages: Path) -> None:
    reader = KosmosReader(reader=ScriptedReader([Line("One", BOX), Line("Two", BOX)]))
    copy = pickle.loads(pickle.dumps(reader))  # noqa: S301 - our own bytes
    assert [document.text for document in copy.load_data(two_pages)] == ["One", "Two"]
    with pytest.raises(Exception, match="ScriptedReader cannot be saved"):
        reader.to_dict()


def test_a_changed_copy_reads_as_it_says(two_pages: Path) -> None:
    reader = KosmosReader(reader=scripted())
    copy = reader.model_copy(update={"mode": "single"})
    assert len(copy.load_data(two_pages)) == 1
    assert len(reader.load_data(two_pages)) == 2


def test_what_counts_chunks_is_saved_by_name_and_given_again(two_pages: Path) -> None:
    reader = KosmosReader(reader="rapidocr", chunk_size=3, chunk_length=str.split)
    saved = reader.to_dict()
    assert "split" in saved["chunk_length"]
    assert KosmosReader.from_dict(saved, chunk_length=str.split) == reader
    with pytest.raises((UsageError, ValueError), match="split"):
        KosmosReader.from_dict(saved)


def test_what_cannot_be_pickled_is_not_left_out_silently() -> None:
    """LlamaIndex's own `__getstate__` would, and a worker would count characters."""
    reader = KosmosReader(chunk_size=3, chunk_length=lambda text: text.split())
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(reader)


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="LlamaIndex warns of more workers than CPUs")
def test_worker_processes_of_a_directory_reader_read_the_same(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        book(tmp_path / name, 2)
    extractor = {".tif": KosmosReader(reader=scripted(), mode="page")}
    reader = SimpleDirectoryReader(str(tmp_path), file_extractor=extractor, raise_on_error=True)
    here, there = reader.load_data(), reader.load_data(num_workers=2)
    assert len(there) == 4
    assert there == here
    assert [document.blocks for document in there] == [document.blocks for document in here]
    assert all(document.blocks for document in there)


def waiting(gate: threading.Event) -> ScriptedReader:
    """A reader that reads only once the gate is open."""

    def read(page: Page) -> Line:
        if not gate.wait(timeout=20):
            raise ReadingError("nobody opened the gate")
        return says_its_number(page)

    return ScriptedReader(read)


async def test_the_event_loop_goes_on_while_pages_are_read(two_pages: Path) -> None:
    gate = threading.Event()
    reader = KosmosReader(reader=waiting(gate))
    loading = asyncio.create_task(reader.aload_data(two_pages, {"shelf": "B 12"}))
    await asyncio.sleep(0.01)
    assert not loading.done()
    gate.set()
    documents = await loading
    assert documents == reader.load_data(two_pages, {"shelf": "B 12"})


async def test_documents_come_one_at_a_time_beside_the_event_loop(two_pages: Path) -> None:
    reader = scripted()
    documents = await KosmosReader(reader=reader).alazy_load_data(two_pages)
    assert reader.seen == []
    texts = [(document.text, len(reader.seen)) async for document in documents]
    assert texts == [("This is page 1.", 1), ("This is page 2.", 2)]


async def test_what_comes_lazily_can_be_gone_through_without_await_too(two_pages: Path) -> None:
    documents = await KosmosReader(reader=scripted()).alazy_load_data(two_pages)
    assert [document.text for document in documents] == ["This is page 1.", "This is page 2."]


async def test_errors_come_through_the_event_loop(two_pages: Path) -> None:
    failing_reader = KosmosReader(reader=ScriptedReader([ReadingError("too dark")]))
    with pytest.raises(ReadingError, match="too dark"):
        await failing_reader.aload_data(two_pages)


async def test_files_that_are_awaited_together_are_read_in_one_thread(tmp_path: Path) -> None:
    """pdfium is not thread-safe, and `SimpleDirectoryReader.aload_data` loads all at once."""
    threads = set()

    def read(page: Page) -> Line:
        threads.add(threading.get_ident())
        return says_its_number(page)

    for name in "abcd":
        book(tmp_path / f"{name}.pdf", 3)
    extractor = {".pdf": KosmosReader(reader=ScriptedReader(read))}
    documents = await SimpleDirectoryReader(
        str(tmp_path), file_extractor=extractor, raise_on_error=True
    ).aload_data()
    assert len(documents) == 12
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_no_page_is_read_after_loading_is_cancelled(tmp_path: Path) -> None:
    started, gate = threading.Event(), threading.Event()

    def read(page: Page) -> Line:
        started.set()
        gate.wait(timeout=20)
        return says_its_number(page)

    reader = ScriptedReader(read)
    path = book(tmp_path / "book.tif", 5)
    loading = asyncio.create_task(KosmosReader(reader=reader).aload_data(path))
    assert await asyncio.to_thread(started.wait, 20)
    loading.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await loading
    # what is awaited next waits for the page that was being read
    other = await KosmosReader(reader=scripted()).aload_data(path)
    assert len(other) == 5
    assert len(reader.seen) == 1


@pytest.mark.parametrize("mode", ["chunks", "page", "single"])
def test_langchain_gives_the_same_ids_texts_and_metadata(two_pages: Path, mode: str) -> None:
    loader = pytest.importorskip("langchain_kosmos").KosmosLoader
    ours = KosmosReader(reader=scripted(), mode=mode).load_data(two_pages)
    theirs = loader(two_pages, reader=scripted(), mode=mode).load()
    assert [(d.id_, d.text, d.metadata) for d in ours] == [
        (d.id, d.page_content, d.metadata) for d in theirs
    ]
