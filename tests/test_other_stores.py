"""Documents in another vector store keep their ids, their metadata and their place on the paper."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageDraw

from kosmos_loader.answering import answer
from kosmos_loader.document import Chunk, Hit, Line
from kosmos_loader.drawing import draw_citations
from kosmos_loader.embedding import HashEmbedder
from kosmos_loader.geometry import Box
from kosmos_loader.pages import open_pages
from kosmos_loader.testing import ScriptedReader

LINES = {
    1: ("The harbour was painted in May", Box(0.1, 0.2, 0.9, 0.3)),
    2: ("The crane cost 4,200 crowns", Box(0.2, 0.6, 0.8, 0.7)),
}


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    pictures = []
    for text, box in LINES.values():
        picture = Image.new("RGB", (400, 300), "white")
        ImageDraw.Draw(picture).text((400 * box.x0, 300 * box.y0), text, fill="black")
        pictures.append(picture)
    pictures[0].save(tmp_path / "minutes.tif", save_all=True, append_images=pictures[1:])
    return tmp_path / "minutes.tif"


@pytest.mark.slow
def test_a_hit_of_qdrant_can_be_cited_and_its_box_drawn(scan: Path) -> None:
    pytest.importorskip("langchain_qdrant", reason="langchain-qdrant is not installed")
    pytest.importorskip("langchain_kosmos", reason="langchain-kosmos is not installed")
    from langchain_kosmos import KosmosLoader
    from langchain_qdrant import QdrantVectorStore
    from qdrant_client import models

    reader = ScriptedReader({n: Line(*line, 0.9) for n, line in LINES.items()})
    documents = KosmosLoader(scan, reader=reader).load()
    store = QdrantVectorStore.from_documents(
        documents, HashEmbedder(), location=":memory:", collection_name="scans"
    )
    on_page_2 = models.FieldCondition(key="metadata.page", match=models.MatchValue(value=2))
    where = models.Filter(must=[on_page_2])
    [(found, score)] = store.similarity_search_with_score("crane crowns", k=5, filter=where)
    [original] = [document for document in documents if document.metadata["page"] == 2]
    payload = dict(found.metadata)
    assert uuid.UUID(payload.pop("_id")) == uuid.UUID(original.id)
    payload.pop("_collection_name")
    assert (found.page_content, payload) == (original.page_content, original.metadata)

    chunk = Chunk.from_metadata(found.page_content, found.metadata)
    assert chunk.boxes() == [(2, LINES[2][1])]
    answered = answer("What did the crane cost?", [Hit(chunk, score)])
    assert answered.citations[0].regions == ((2, LINES[2][1]),)
    [page] = open_pages(scan, pages="2")
    changed = ImageChops.difference(draw_citations([page], answered.citations), page.image)
    middle = changed.crop((80, 180, 320, 210))  # where the line stands
    assert middle.getbbox() is not None

    # the same documents once more are the same points
    store.add_documents(documents)
    assert store.client.count("scans").count == len(documents) == 2
    store.delete([original.id])
    assert store.similarity_search("crane crowns", k=5, filter=where) == []
