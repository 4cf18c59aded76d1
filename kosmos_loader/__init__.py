"""Scanned pages in, cited answers with boxes on the paper out.

```python
from kosmos_loader import Store, answer, choose_reader, chunk, compose, open_pages

reader = choose_reader()
with Store.open("my-archive") as store:
    for reading in reader.read(open_pages("scans/")):
        store.add(chunk(compose(reading)))
    print(answer("What did the roof cost?", store.search("What did the roof cost?")).text)
```

The names below are the public ones. Heavy libraries (torch, transformers, faiss, onnxruntime) load
only when something that needs them is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Not lazy: loading the submodule later would put the module in the place of the function.
from kosmos_loader.compose import compose

if TYPE_CHECKING:
    from kosmos_loader.answering import AnswerStream, OpenAIChat, answer, answer_stream, cite
    from kosmos_loader.archive import ingest
    from kosmos_loader.chunking import chunk
    from kosmos_loader.document import (
        Answer,
        Block,
        Chunk,
        Citation,
        Failure,
        Hit,
        Line,
        Page,
        PageInfo,
        Reading,
        Span,
        Unsupported,
    )
    from kosmos_loader.drawing import draw_blocks, draw_citations, draw_lines, draw_regions
    from kosmos_loader.embedding import HashEmbedder
    from kosmos_loader.errors import KosmosLoaderError
    from kosmos_loader.geometry import Box
    from kosmos_loader.pages import find_files, open_pages
    from kosmos_loader.readers.base import PageReader, choose_reader
    from kosmos_loader.readers.existing import ExistingOcr
    from kosmos_loader.readers.kosmos import KosmosPageReader
    from kosmos_loader.readers.rapidocr import RapidOCRPageReader
    from kosmos_loader.store import Store

__version__ = "0.1.0"

_HOMES = {
    "answer": "answering",
    "Answer": "document",
    "answer_stream": "answering",
    "AnswerStream": "answering",
    "Block": "document",
    "Box": "geometry",
    "choose_reader": "readers.base",
    "chunk": "chunking",
    "Chunk": "document",
    "Citation": "document",
    "cite": "answering",
    "draw_blocks": "drawing",
    "draw_citations": "drawing",
    "draw_lines": "drawing",
    "draw_regions": "drawing",
    "ExistingOcr": "readers.existing",
    "Failure": "document",
    "find_files": "pages",
    "HashEmbedder": "embedding",
    "Hit": "document",
    "ingest": "archive",
    "KosmosLoaderError": "errors",
    "KosmosPageReader": "readers.kosmos",
    "Line": "document",
    "open_pages": "pages",
    "OpenAIChat": "answering",
    "Page": "document",
    "PageInfo": "document",
    "PageReader": "readers.base",
    "RapidOCRPageReader": "readers.rapidocr",
    "Reading": "document",
    "Span": "document",
    "Store": "store",
    "Unsupported": "document",
}

__all__ = [  # noqa: RUF022 - sorted without regard to case, as a reader looks names up
    "answer",
    "Answer",
    "answer_stream",
    "AnswerStream",
    "Block",
    "Box",
    "choose_reader",
    "chunk",
    "Chunk",
    "Citation",
    "cite",
    "compose",
    "draw_blocks",
    "draw_citations",
    "draw_lines",
    "draw_regions",
    "ExistingOcr",
    "Failure",
    "find_files",
    "HashEmbedder",
    "Hit",
    "ingest",
    "KosmosLoaderError",
    "KosmosPageReader",
    "Line",
    "open_pages",
    "OpenAIChat",
    "Page",
    "PageInfo",
    "PageReader",
    "RapidOCRPageReader",
    "Reading",
    "Span",
    "Store",
    "Unsupported",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
