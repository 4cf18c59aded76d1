"""`KosmosNodeParser`: pages and files as one document to nodes that know their place."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import NodeParser
from llama_index.core.retrievers import AutoMergingRetriever
from llama_index.core.schema import Document, MetadataMode, NodeRelationship, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.node_parser.kosmos import KosmosNodeParser
from llama_index.readers.kosmos import KosmosReader
from PIL import Image

from kosmos_loader.document import GEOMETRY_KEYS, Line, Page
from kosmos_loader.errors import UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.testing import ScriptedReader
from kosmos_loader.testing.loaders import book


def dense(page: Page) -> list[Line]:
    """150 lines, more than metadata holds the places of."""
    return [
        Line(
            f"Line {n} of page {page.number} says what was paid.",
            Box(0.10123, n * 0.006, 0.90456, n * 0.006 + 0.00512),
            0.9,
        )
        for n in range(150)
    ]


def sparse(page: Page) -> list[Line]:
    return dense(page)[:40]


def documents(path: Path, mode: str, script: Any = sparse, **settings: Any) -> list[Document]:
    return KosmosReader(reader=ScriptedReader(script), mode=mode, **settings).load_data(path)


@pytest.fixture
def three_pages(tmp_path: Path) -> Path:
    return book(tmp_path / "book.tif", 3)


def as_saved(document: Document) -> Document:
    """The document as a document store gives it back: without its blocks."""
    return Document.from_dict(document.to_dict())


def lines_of(node: TextNode) -> list[tuple[str, int, float]]:
    """The characters of each span of a node, with page and upper edge."""
    return [
        (node.text[start:end], page, y0)
        for start, end, page, _, y0, _, _ in json.loads(node.metadata["spans"])
    ]


def test_it_is_a_node_parser() -> None:
    assert NodeParser.__name__ in [base.__name__ for base in KosmosNodeParser.__mro__]


@pytest.mark.parametrize("mode", ["page", "single"])
def test_nodes_are_the_chunks_of_the_file(three_pages: Path, mode: str) -> None:
    nodes = KosmosNodeParser(chunk_size=300)(documents(three_pages, mode))
    chunks = documents(three_pages, "chunks", chunk_size=300)
    assert len(nodes) > 10
    assert [(n.id_, n.text, n.metadata) for n in nodes] == [
        (c.id_, c.text, c.metadata) for c in chunks
    ]


@pytest.mark.parametrize("mode", ["page", "single"])
def test_boxes_are_exact_where_metadata_holds_no_more_than_joined_ones(
    three_pages: Path, mode: str
) -> None:
    read = documents(three_pages, mode, dense)
    assert len(json.loads(read[0].metadata["spans"])) < 150
    places = [place for node in KosmosNodeParser()(read) for place in lines_of(node)]
    assert places == [
        (f"Line {n} of page {number} says what was paid.", number, round(n * 0.006, 5))
        for number in (1, 2, 3)
        for n in range(150)
    ]


def test_documents_from_a_document_store_keep_the_places_of_their_metadata(
    three_pages: Path,
) -> None:
    read = documents(three_pages, "page")
    fresh = KosmosNodeParser(chunk_size=300)(read)
    saved = KosmosNodeParser(chunk_size=300)([as_saved(document) for document in read])
    assert [lines_of(node) for node in saved] == [lines_of(node) for node in fresh]
    joined = KosmosNodeParser(chunk_size=300)([as_saved(documents(three_pages, "page", dense)[0])])
    for node in joined:
        for text, page, y0 in lines_of(node):
            # a larger box, never a wrong one
            assert page == 1
            assert y0 <= 0.006 * int(text.split("Line ")[-1].split()[0]) + 1e-5


def test_nodes_are_related_to_their_document_and_to_each_other(three_pages: Path) -> None:
    read = documents(three_pages, "page")
    nodes = KosmosNodeParser(chunk_size=300)(read)
    for document in read:
        own = [node for node in nodes if node.ref_doc_id == document.id_]
        assert [child.node_id for child in document.child_nodes] == [node.id_ for node in own]
        assert {node.parent_node.node_id for node in own} == {document.id_}
        assert {node.source_node.node_id for node in own} == {document.id_}
        for before, after in pairwise(own):
            assert before.next_node.node_id == after.id_
            assert after.prev_node.node_id == before.id_
        assert own[0].prev_node is None
        assert own[-1].next_node is None


def test_relations_do_not_repeat_the_geometry(three_pages: Path) -> None:
    read = documents(three_pages, "page")
    nodes = KosmosNodeParser(chunk_size=300)(read)
    for node in nodes:
        for related in node.relationships.values():
            assert not set(GEOMETRY_KEYS) & set(related.metadata)
        assert set(GEOMETRY_KEYS) <= set(node.metadata)
    assert set(GEOMETRY_KEYS) <= set(read[0].metadata)


def test_neither_embeddings_nor_prompts_see_geometry_and_ids(three_pages: Path) -> None:
    node = KosmosNodeParser(chunk_size=300)(documents(three_pages, "page"))[0]
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        seen = node.get_content(mode)
        assert node.text in seen
        assert f"source: {three_pages}" in seen
        assert node.id_ not in seen
        assert "0.006" not in seen


def test_what_was_added_to_the_document_comes_to_its_nodes(three_pages: Path) -> None:
    reader = KosmosReader(reader=ScriptedReader(sparse), mode="page")
    read = reader.load_data(three_pages, extra_info={"shelf": "B 12"})
    nodes = KosmosNodeParser(chunk_size=300)(read)
    assert {node.metadata["shelf"] for node in nodes} == {"B 12"}
    assert nodes[0].start_char_idx == 0
    assert read[0].text[nodes[1].start_char_idx : nodes[1].end_char_idx] == nodes[1].text


def test_pages_that_look_alike_give_nodes_of_their_own(tmp_path: Path) -> None:
    blank = Image.new("RGB", (100, 140), "white")
    blank.save(tmp_path / "forms.tif", save_all=True, append_images=[blank, blank])
    script = ScriptedReader([Line("Name and date", Box(0.1, 0.1, 0.9, 0.2), 0.9)] * 3)
    read = KosmosReader(reader=script, mode="page").load_data(tmp_path / "forms.tif")
    nodes = KosmosNodeParser()(read)
    assert [node.metadata["page"] for node in nodes] == [1, 2, 3]
    assert len({node.id_ for node in nodes}) == 3


def test_ids_are_stable_unless_another_function_gives_them(three_pages: Path) -> None:
    first, second = (
        KosmosNodeParser(chunk_size=300)(documents(three_pages, "page")) for _ in range(2)
    )
    assert [node.id_ for node in first] == [node.id_ for node in second]
    parser = KosmosNodeParser(chunk_size=300, id_func=lambda i, document: f"{document.id_}:{i}")
    read = documents(three_pages, "page")
    assert parser(read)[1].id_ == f"{read[0].id_}:1"


def test_chunks_that_fit_stay_whole_under_ids_of_their_own(three_pages: Path) -> None:
    chunks = documents(three_pages, "chunks", chunk_size=300)
    nodes = KosmosNodeParser(chunk_size=300)(chunks)
    assert [node.text for node in nodes] == [chunk.text for chunk in chunks]
    assert [node.metadata["spans"] for node in nodes] == [c.metadata["spans"] for c in chunks]
    assert not {node.id_ for node in nodes} & {chunk.id_ for chunk in chunks}


def test_a_document_whose_text_was_changed_is_cut_as_it_is(three_pages: Path) -> None:
    document = documents(three_pages, "page")[0]
    document.set_content("Another text.")
    [node] = KosmosNodeParser()([document])
    assert node.text == "Another text."


def test_a_document_of_another_reader_is_cut_without_boxes() -> None:
    text = "\n\n".join(f"Paragraph {n} of a plain text." for n in range(20))
    nodes = KosmosNodeParser(chunk_size=100)([Document(text=text, metadata={"author": "me"})])
    assert len(nodes) > 5
    assert [node.metadata for node in nodes] == [{"author": "me"}] * len(nodes)
    assert "\n\n".join(node.text for node in nodes) == text


def test_a_document_without_text_gives_no_node() -> None:
    assert KosmosNodeParser()([Document(text="", metadata={"error": "too dark"})]) == []


def test_nodes_are_as_large_as_they_may_be_by_what_counts_them(three_pages: Path) -> None:
    parser = KosmosNodeParser(chunk_size=30, chunk_overlap=10, chunk_length=str.split)
    sizes = [len(node.text.split()) for node in parser(documents(three_pages, "page"))]
    assert 20 < max(sizes) <= 30


def test_settings_survive_saving_and_pickling() -> None:
    parser = KosmosNodeParser(chunk_size=70, chunk_overlap=7, heading_size=30)
    saved = parser.to_dict()
    assert KosmosNodeParser.from_dict(saved).to_dict() == saved
    copy = pickle.loads(pickle.dumps(parser))  # noqa: S301 - our own bytes
    assert copy.to_dict() == saved
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(KosmosNodeParser(chunk_length=lambda text: text.split()))


@pytest.mark.parametrize("settings", [{"chunk_size": 0}, {"chunk_size": 9, "chunk_overlap": 8}])
def test_settings_that_cannot_be_meant_are_refused_at_once(settings: dict[str, int]) -> None:
    with pytest.raises((UsageError, ValueError)):
        KosmosNodeParser(**settings)


async def test_a_pipeline_takes_it_with_and_without_await(three_pages: Path) -> None:
    pipeline = IngestionPipeline(transformations=[KosmosNodeParser(chunk_size=300)])
    nodes = pipeline.run(documents=documents(three_pages, "page"))
    awaited = await IngestionPipeline(transformations=[KosmosNodeParser(chunk_size=300)]).arun(
        documents=documents(three_pages, "page")
    )
    assert [node.id_ for node in nodes] == [node.id_ for node in awaited]
    # from the cache of the pipeline
    assert pipeline.run(documents=documents(three_pages, "page")) == nodes


def test_nodes_that_were_found_are_merged_into_their_page(three_pages: Path) -> None:
    read = documents(three_pages, "page")
    nodes = KosmosNodeParser(chunk_size=600)(read)
    store = SimpleDocumentStore()
    store.add_documents([*read, *nodes])
    context = StorageContext.from_defaults(docstore=store)
    index = VectorStoreIndex(nodes, storage_context=context, embed_model=MockEmbedding(4))
    retriever = AutoMergingRetriever(index.as_retriever(similarity_top_k=20), context)
    found = retriever.retrieve("What was paid?")
    assert {hit.node.node_id for hit in found} == {document.id_ for document in read}
    assert NodeRelationship.CHILD in found[0].node.relationships
