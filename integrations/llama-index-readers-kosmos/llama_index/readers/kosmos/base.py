"""`KosmosReader`: files to LlamaIndex documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Annotated, Any, BinaryIO, Literal, Protocol, cast

from llama_index.core.bridge.pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
    field_serializer,
    model_validator,
)
from llama_index.core.readers.base import BasePydanticReader
from llama_index.core.schema import Document
from llama_index.readers.kosmos.documents import LazyDocuments, document_of
from llama_index.readers.kosmos.fields import only_known
from llama_index.readers.kosmos.lengths import ChunkLength

from kosmos_loader.errors import SourceNotFound
from kosmos_loader.loading import PassageLoader
from kosmos_loader.readers.base import PageReader

FilePath = str | PurePath


class FileSystem(Protocol):
    """What is used of an fsspec file system."""

    def cat_file(self, path: str) -> bytes:
        """The bytes of the file at `path`."""
        ...


class KosmosReader(BasePydanticReader):
    """Reads scanned and born-digital files as documents that know their place on the paper.

    ```python
    from llama_index.core import SimpleDirectoryReader
    from llama_index.readers.kosmos import KosmosReader

    documents = KosmosReader().load_data("letter.pdf")
    documents = SimpleDirectoryReader("scans", file_extractor={".pdf": KosmosReader()}).load_data()
    ```

    Ids are stable from run to run. Metadata is flat; what belongs neither into an embedding nor
    before a language model (geometry, ids, how it was read) is excluded from both. The fields
    cannot be changed afterwards. Raises `KosmosLoaderError`s.
    """

    model_config = ConfigDict(frozen=True)

    reader: Annotated[str | PageReader, WithJsonSchema({"type": "string"})] = Field(
        default="auto",
        description='"auto" (KOSMOS-2.5 on a GPU, else RapidOCR), "kosmos", "rapidocr", or a reader'
        " object, which cannot be saved by to_dict.",
    )
    model: str | None = Field(
        default=None, description="Folder or hub id of the KOSMOS-2.5 weights."
    )
    mode: Literal["chunks", "page", "single"] = Field(
        default="chunks",
        description="Pieces that end where blocks end, one document a page, or one a file.",
    )
    pages: str | None = Field(default=None, description='Pages by number: "1-3,7,10-".')
    password: str | None = Field(default=None, description="Opens encrypted files.")
    chunk_size: int = Field(default=1000, description="Size of a chunk at most.")
    chunk_overlap: int = Field(default=0, description="How much two chunks may share.")
    chunk_length: ChunkLength = Field(
        default_factory=lambda: len,
        description="Counts both: characters, or what a callable or a tokenizer counts.",
    )
    heading_size: int | None = Field(
        default=None, description="How much of the headings above a chunk is kept; all if None."
    )
    on_error: Literal["raise", "skip", "document"] = Field(
        default="raise",
        description="What becomes of a page or file that cannot be read: its error is raised once"
        " the documents before it are out; a warning is logged; or an empty document stands for"
        " it, whose metadata holds error_type and error.",
    )

    _loader: PassageLoader = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        return only_known(cls, data)

    def model_post_init(self, _context: Any, /) -> None:
        """Check the settings; the reader itself is loaded at the first file."""
        self._loader = self._set_up()

    def _set_up(self) -> PassageLoader:
        return PassageLoader(
            reader=self.reader,
            model=self.model,
            mode=self.mode,
            pages=self.pages,
            password=self.password,
            chunk_size=self.chunk_size,
            chunk_overlap=self.chunk_overlap,
            chunk_length=self.chunk_length,
            heading_size=self.heading_size,
            on_error=self.on_error,
        )

    def _current(self) -> PassageLoader:
        """The loader of the fields as they are: `model_copy` changes them and no more."""
        loader = self._set_up()
        if loader != self._loader:
            self._loader = loader
        return self._loader

    @field_serializer("reader")
    def _named(self, reader: str | PageReader) -> str:
        if not isinstance(reader, str):
            raise TypeError(f"{type(reader).__name__} cannot be saved; name a reader instead")
        return reader

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex saves it."""
        return "KosmosReader"

    def lazy_load_data(
        self,
        file_path: FilePath | Iterable[FilePath],
        extra_info: Mapping[str, Any] | None = None,
        fs: FileSystem | None = None,
    ) -> Iterator[Document]:
        """Documents of the file, folder or pattern at `file_path`, or of several, one at a time.

        `extra_info` goes into the metadata of each. With `fs`, an fsspec file system, the files are
        fetched from there.
        """
        one_or_more = [file_path] if isinstance(file_path, str | PurePath) else file_path
        paths = [str(path) for path in one_or_more]
        # of a file object no more than its name and what it reads is asked
        files = paths if fs is None else [cast("BinaryIO", _Fetched(p, fs)) for p in paths]
        for passage in self._current().load(files):
            document = document_of(passage)
            document.metadata.update(extra_info or {})
            yield document

    def load_data(
        self,
        file_path: FilePath | Iterable[FilePath],
        extra_info: Mapping[str, Any] | None = None,
        fs: FileSystem | None = None,
    ) -> list[Document]:
        """The documents of `lazy_load_data`, all at once."""
        return list(self.lazy_load_data(file_path, extra_info, fs))

    async def alazy_load_data(
        self,
        file_path: FilePath | Iterable[FilePath],
        extra_info: Mapping[str, Any] | None = None,
        fs: FileSystem | None = None,
    ) -> LazyDocuments:
        """The documents of `lazy_load_data`, to be gone through with `async for`.

        `async for document in await reader.alazy_load_data(path)` reads beside the event loop.
        """
        return LazyDocuments(self.lazy_load_data(file_path, extra_info, fs))

    async def aload_data(
        self,
        file_path: FilePath | Iterable[FilePath],
        extra_info: Mapping[str, Any] | None = None,
        fs: FileSystem | None = None,
    ) -> list[Document]:
        """The documents of `lazy_load_data`, read beside the event loop.

        When it is cancelled, no page is read after the one that is being read.
        """
        return [
            document
            async for document in LazyDocuments(self.lazy_load_data(file_path, extra_info, fs))
        ]

    def __getstate__(self) -> dict[Any, Any]:
        """All of it: the base class would drop what cannot be pickled and read on without it."""
        return BaseModel.__getstate__(self)


class _Fetched:
    """A file of another file system, which is fetched when it is its turn."""

    def __init__(self, name: str, fs: FileSystem) -> None:
        self.name = name
        self._fs = fs

    def read(self) -> bytes:
        try:
            return self._fs.cat_file(self.name)
        except Exception as error:  # a back end raises any type
            raise SourceNotFound(
                f"{self.name} cannot be fetched ({error}); check the path"
            ) from error

    def __str__(self) -> str:
        return self.name
