"""What the documents of `KosmosReader` carry besides text and metadata."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from llama_index.core.bridge.pydantic import Field
from llama_index.core.schema import Document
from pydantic import SkipValidation

from kosmos_loader.document import Block
from kosmos_loader.loading import HIDDEN_KEYS, Passage

T = TypeVar("T")


class KosmosDocument(Document):
    """A page or a file as one document, with the blocks that its text is made of.

    Metadata holds places in 10 KB at most and joins neighbours beyond that; the blocks know all of
    them. `KosmosNodeParser` cuts along them. They are copied and pickled with the document; they
    are not saved as JSON, so a document from a document store has its metadata alone.
    """

    blocks: SkipValidation[tuple[Block, ...]] = Field(
        default=(), exclude=True, repr=False, description="In reading order."
    )


def document_of(passage: Passage) -> Document:
    """The document of `passage`; what neither embeddings nor prompts should see is excluded."""
    fields: dict[str, Any] = {
        "id_": passage.id,
        "text": passage.text,
        "metadata": dict(passage.metadata),
        "excluded_embed_metadata_keys": list(HIDDEN_KEYS),
        "excluded_llm_metadata_keys": list(HIDDEN_KEYS),
        "blocks": passage.blocks,
    }
    return KosmosDocument(**fields)


class LazyDocuments(Iterable[Document]):
    """Documents that are read as they are asked for, with `for` or with `async for`.

    `async for` reads in a thread of its own, so that the event loop goes on meanwhile. That thread
    is one for the whole process, since PDF files are to be read in one: loads that are awaited
    together take turns, document by document.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self._documents = iter(documents)

    def __iter__(self) -> Iterator[Document]:
        return self._documents

    async def __aiter__(self) -> AsyncIterator[Document]:
        while (document := await _in_thread(lambda: next(self._documents, None))) is not None:
            yield document


_thread = ThreadPoolExecutor(1, thread_name_prefix="kosmos-reader")


async def _in_thread(call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_thread, call)
