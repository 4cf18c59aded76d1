"""`KosmosLoader`: files to LangChain documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document

from kosmos_loader.loading import PassageLoader, each
from kosmos_loader.readers.base import PageReader


class KosmosLoader(BaseLoader):
    """Loads scanned and born-digital files as documents that know their place on the paper.

    Setup:
        `pip install langchain-kosmos 'kosmos-loader[cpu]'`

    Instantiate:
        ```python
        from langchain_kosmos import KosmosLoader

        loader = KosmosLoader("scans/")
        ```

    Lazy load:
        ```python
        for document in loader.lazy_load():
            print(document.metadata["source"], document.metadata["page"])
        ```

    Async load:
        ```python
        documents = await loader.aload()
        ```

    `file_path` is a file, folder or pattern, or each. `reader` is "auto" (KOSMOS-2.5 on a GPU,
    else RapidOCR), "kosmos", "rapidocr", or a reader object; `model` a folder or hub id of the
    KOSMOS-2.5 weights. `mode` is "chunks" (pieces of at most `chunk_size` characters that end where
    blocks end), "page" (one document a page) or "single" (one a file). `pages` picks pages by
    number ("1-3,7,10-"), `password` opens encrypted files.

    `on_error` says what becomes of a page or file that cannot be read: "raise" raises its error
    once the documents before it are out, "skip" logs a warning and goes on, "document" gives an
    empty document whose metadata holds `error_type` and `error`.

    Ids are stable from run to run. Metadata is flat: `source`, `page`, `headings`, `bbox`, `boxes`,
    `spans` and what else the Concepts page of kosmos-loader lists. Raises `KosmosLoaderError`s.
    """

    def __init__(
        self,
        file_path: str | Path | Iterable[str | Path],
        *,
        reader: str | PageReader = "auto",
        model: str | None = None,
        mode: Literal["chunks", "page", "single"] = "chunks",
        pages: str | None = None,
        password: str | None = None,
        chunk_size: int = 1000,
        chunk_overlap: int = 0,
        on_error: Literal["raise", "skip", "document"] = "raise",
    ) -> None:
        self.file_paths = list(each(file_path))
        self._loader = PassageLoader(
            reader=reader,
            model=model,
            mode=mode,
            pages=pages,
            password=password,
            chunk_size=chunk_size,
            chunk_overlap=chunk_overlap,
            on_error=on_error,
        )

    def lazy_load(self) -> Iterator[Document]:
        """Documents one at a time: those of a page come before the next page is read."""
        for passage in self._loader.load(self.file_paths):
            yield Document(passage.text, id=passage.id, metadata=dict(passage.metadata))
