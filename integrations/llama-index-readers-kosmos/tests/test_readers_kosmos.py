"""`KosmosReader`: LlamaIndex's contract, on files that a scripted reader reads."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from llama_index.core import SimpleDirectoryReader
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import MetadataMode
from llama_index.readers.kosmos import KosmosReader
from PIL import Image

from kosmos_loader.document import GEOMETRY_KEYS, Line, Page
from kosmos_loader.errors import ReadingError, SourceNotFound
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


def scripted() -> ScriptedReader:
    return ScriptedReader(says_its_number)


def test_it_is_a_reader() -> None:
    assert BaseReader.__name__ in [base.__name__ for base in KosmosReader.__mro__]


def test_documents_have_text_id_and_the_place_on_the_paper(two_pages: Path) -> None:
    documents = KosmosReader(reader=scripted()).load_data(two_pages)
    assert [document.text for document in documents] == ["This is page 1.", "This is page 2."]
    first = documents[0]
    assert first.id_ == first.metadata["chunk_id"]
    assert (first.metadata["source"], first.metadata["page"]) == (str(two_pages), 1)


def test_the_first_document_comes_before_the_second_page_is_read(two_pages: Path) -> None:
    reader = scripted()
    documents = iter(KosmosReader(reader=reader).lazy_load_data(two_pages))
    assert next(documents).text == "This is page 1."
    assert len(reader.seen) == 1


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


def test_settings_survive_saving_and_pickling() -> None:
    reader = KosmosReader(reader="rapidocr", mode="page", chunk_size=70, on_error="skip")
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


@pytest.mark.parametrize("settings", [{"mode": "lines"}, {"chunk_size": 0}, {"on_error": "no"}])
def test_settings_that_cannot_be_meant_are_refused_at_once(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="KosmosReader"):
        KosmosReader(**settings)


def test_a_changed_copy_reads_as_it_says(two_pages: Path) -> None:
    reader = KosmosReader(reader=scripted())
    copy = reader.model_copy(update={"mode": "single"})
    assert len(copy.load_data(two_pages)) == 1
    assert len(reader.load_data(two_pages)) == 2


@pytest.mark.parametrize("mode", ["chunks", "page", "single"])
def test_langchain_gives_the_same_ids_texts_and_metadata(two_pages: Path, mode: str) -> None:
    loader = pytest.importorskip("langchain_kosmos").KosmosLoader
    ours = KosmosReader(reader=scripted(), mode=mode).load_data(two_pages)
    theirs = loader(two_pages, reader=scripted(), mode=mode).load()
    assert [(d.id_, d.text, d.metadata) for d in ours] == [
        (d.id, d.page_content, d.metadata) for d in theirs
    ]
