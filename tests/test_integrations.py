"""The same file gives the same in LangChain and in LlamaIndex."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kosmos_loader.document import Line, Page
from kosmos_loader.errors import ReadingError
from kosmos_loader.geometry import Box
from kosmos_loader.loading import MODES
from kosmos_loader.testing import ScriptedReader
from kosmos_loader.testing.loaders import TITLE, book

langchain = pytest.importorskip("langchain_kosmos")
llama_index = pytest.importorskip("llama_index.readers.kosmos")

EXAMPLES = Path(__file__).parents[1] / "examples" / "archive"

Given = list[tuple[str | None, str, dict[str, Any]]]
"""Id, text and metadata of each document."""


def from_langchain(sources: Any, **settings: Any) -> Given:
    loader = langchain.KosmosLoader(sources, **settings)
    return [(d.id, d.page_content, d.metadata) for d in loader.lazy_load()]


def from_llama_index(sources: Any, **settings: Any) -> Given:
    reader = llama_index.KosmosReader(**settings)
    return [(d.id_, d.text, d.metadata) for d in reader.lazy_load_data(sources)]


def script(page: Page) -> list[Line]:
    if page.number == 2:
        raise ReadingError("too dark")
    rows = [
        Line(f"On page {page.number} stands line {row}.", Box(0.1, row / 10, 0.9, row / 10 + 0.05))
        for row in range(2, 9)
    ]
    return [TITLE, *rows]


@pytest.mark.parametrize("mode", MODES)
def test_ids_texts_and_metadata_are_equal(tmp_path: Path, mode: str) -> None:
    files = [book(tmp_path / "a.tif", 3), book(tmp_path / "b.tif", 1)]
    (tmp_path / "c.tif").write_bytes(b"")
    settings = {"mode": mode, "chunk_size": 100, "chunk_overlap": 30, "on_error": "document"}
    first = from_langchain(tmp_path, reader=ScriptedReader(script), **settings)
    assert first == from_llama_index(tmp_path, reader=ScriptedReader(script), **settings)
    assert {metadata["source"] for _, _, metadata in first} == {
        *map(str, files),
        str(tmp_path / "c.tif"),
    }
    assert len({name for name, _, _ in first}) == len(first) >= 4


@pytest.mark.slow
def test_a_scanned_file_gives_the_same_in_both() -> None:
    pytest.importorskip("rapidocr")
    path = EXAMPLES / "receipt-2021.jpg"
    first = from_langchain(path, reader="rapidocr", chunk_size=150)
    assert first == from_llama_index(path, reader="rapidocr", chunk_size=150)
    assert any("Crab chowder" in text for _, text, _ in first)
