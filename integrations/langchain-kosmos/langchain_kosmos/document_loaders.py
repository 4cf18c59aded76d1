"""`KosmosLoader` and `KosmosBlobParser`: files and blobs to LangChain documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from langchain_core.document_loaders import BaseBlobParser, BaseLoader
from langchain_core.documents import Document
from langchain_core.documents.base import Blob

from kosmos_loader.chunking import Length
from kosmos_loader.loading import NamedBytes, Passage, PassageLoader, each
from kosmos_loader.readers.base import PageReader

Mode = Literal["chunks", "page", "single"]
OnError = Literal["raise", "skip", "document"]


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

    `file_path` is a file, folder or pattern, or several; an iterator is gone through at once, and
    kept. `reader` is "auto" (KOSMOS-2.5 on a GPU, else RapidOCR), "kosmos", "rapidocr", or a reader
    object; `model` a folder or hub id of the KOSMOS-2.5 weights. `mode` is "chunks" (pieces of at
    most `chunk_size` that end where blocks end), "page" (one document a page) or "single" (one a
    file). `chunk_size` and `chunk_overlap` are counted by `chunk_length`: characters, or what a
    callable or a tokenizer counts. `heading_size` limits the headings that are embedded with a
    chunk. `pages` picks pages by number ("1-3,7,10-"), `password` opens encrypted files.

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
        mode: Mode = "chunks",
        pages: str | None = None,
        password: str | None = None,
        chunk_size: int = 1000,
        chunk_overlap: int = 0,
        chunk_length: Length = len,
        heading_size: int | None = None,
        on_error: OnError = "raise",
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
            chunk_length=chunk_length,
            heading_size=heading_size,
            on_error=on_error,
        )

    def lazy_load(self) -> Iterator[Document]:
        """Documents one at a time: those of a page come before the next page is read."""
        return map(_document, self._loader.load(self.file_paths))


class KosmosBlobParser(BaseBlobParser):
    """Parses blobs, as a `BlobLoader` finds them, into the documents that `KosmosLoader` gives.

    ```python
    from langchain_core.documents.base import Blob
    from langchain_kosmos import KosmosBlobParser

    documents = KosmosBlobParser().parse(Blob.from_path("letter.pdf"))
    ```

    The options are those of `KosmosLoader`. A blob with a path is read from there; one with data
    has the `source` of its metadata or its path as name, and none of both one from its content.
    What else is in its metadata goes into that of its documents, where they have no such key.
    """

    def __init__(
        self,
        *,
        reader: str | PageReader = "auto",
        model: str | None = None,
        mode: Mode = "chunks",
        pages: str | None = None,
        password: str | None = None,
        chunk_size: int = 1000,
        chunk_overlap: int = 0,
        chunk_length: Length = len,
        heading_size: int | None = None,
        on_error: OnError = "raise",
    ) -> None:
        self._loader = PassageLoader(
            reader=reader,
            model=model,
            mode=mode,
            pages=pages,
            password=password,
            chunk_size=chunk_size,
            chunk_overlap=chunk_overlap,
            chunk_length=chunk_length,
            heading_size=heading_size,
            on_error=on_error,
        )

    def lazy_parse(self, blob: Blob) -> Iterator[Document]:
        """The documents of `blob`, one at a time."""
        for document in map(_document, self._loader.load(_source(blob))):
            document.metadata = {**blob.metadata, **document.metadata}
            yield document


def _source(blob: Blob) -> str | Path | NamedBytes:
    if blob.data is None:
        return Path(str(blob.path))
    return NamedBytes(blob.as_bytes(), blob.source or "")


def _document(passage: Passage) -> Document:
    return Document(passage.text, id=passage.id, metadata=dict(passage.metadata))
