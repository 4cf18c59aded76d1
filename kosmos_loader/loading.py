"""Files to passages: the line from files to their chunks, in one call.

The archive, the command line and the adapters for frameworks share it, so that the same file gives
the same ids, texts and metadata on every way in.
"""

from __future__ import annotations

import io
import logging
import os
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from kosmos_loader.checks import check_text
from kosmos_loader.chunking import BREAK, Length, chunk
from kosmos_loader.compose import compose
from kosmos_loader.document import (
    GEOMETRY_KEYS,
    Block,
    Chunk,
    Failure,
    Page,
    PageInfo,
    Reading,
    Span,
    ordered_flags,
    page_digests,
    stable_id,
)
from kosmos_loader.errors import (
    KosmosLoaderError,
    ReadingError,
    SourceNotFound,
    StoreError,
    UsageError,
)
from kosmos_loader.pages import Source, Wanted, open_pages
from kosmos_loader.readers.base import PageReader, checked_reader, choose_reader, one_each

log = logging.getLogger("kosmos_loader")

MODES = ("chunks", "page", "single")
ON_ERROR = ("raise", "skip", "document")

HIDDEN_KEYS = (
    *GEOMETRY_KEYS,
    *("doc_id", "chunk_id", "page_count", "order", "confidence", "support", "flags"),
    *("reader", "reader_version", "digests", "text_digest", "error_type", "error"),
)
"""Metadata keys to keep out of embeddings and prompts: geometry, ids and how it was read. The rest
says where a passage stands: source, page, page_end, kind and headings."""

MAX_REASON = 500
"""Characters of an error message that go into metadata."""


@dataclass(frozen=True, slots=True)
class Passage:
    """What a framework's document is made of."""

    id: str
    text: str
    metadata: dict[str, str | int | float]
    blocks: tuple[Block, ...] = field(default=(), compare=False, repr=False)
    """What a page or a file as one passage is made of: `chunk` cuts them as "chunks" does."""


@dataclass(frozen=True, kw_only=True)
class PassageLoader:
    """Turns files into passages; a reader that was named is loaded at the first file and kept.

    `mode` is "chunks" (pieces of at most `chunk_size`), "page" (one passage a page) or "single"
    (one a file). `chunk_length` counts `chunk_size` and `chunk_overlap`: characters, or what a
    callable or a tokenizer counts; `heading_size` limits the headings that are embedded with a
    chunk (see `chunk`). `on_error` says what becomes of a page or file that cannot be read:
    "raise" raises its error once the passages before it are out, "skip" logs a warning and goes on,
    "document" gives an empty passage whose metadata holds `error_type` and `error`.

    `UsageError` for settings that cannot be meant.
    """

    reader: str | PageReader = "auto"
    model: str | None = None
    mode: str = "chunks"
    pages: str | None = None
    password: str | None = None
    chunk_size: int = 1000
    chunk_overlap: int = 0
    chunk_length: Length = len
    heading_size: int | None = None
    on_error: str = "raise"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"no mode is called {self.mode!r}; choose one of {', '.join(MODES)}")
        if self.on_error not in ON_ERROR:
            raise UsageError(
                f"on_error cannot be {self.on_error!r}; choose one of {', '.join(ON_ERROR)}"
            )
        chunk((), **self._sizes())
        Wanted.of(self.pages, password=self.password, max_pixels=1)
        check_text(self.model, "model")
        if not isinstance(self.reader, str):
            checked_reader(self.reader)

    def __getstate__(self) -> dict[str, Any]:
        """The settings without the loaded reader: a copy in another process loads its own."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def page_reader(self) -> PageReader:
        """The reader itself."""
        if isinstance(self.reader, str):
            return choose_reader(self.reader, model=self.model)
        return checked_reader(self.reader)

    def load(self, sources: Source | Iterable[Source]) -> Iterator[Passage]:
        """Passages of all files, lazily: those of a page come before the next page is read.

        The last chunk of a page waits for the next one where its last paragraph or table may go on.
        """
        failed: list[Reading] = []
        # as one of several, a file that cannot be opened is a value and not an exception
        pages = open_pages(each(sources), pages=self.pages, password=self.password)
        for piece, blocks in self._pieces(one_each(self.page_reader, pages), failed):
            yield from map(_failed_passage, _drained(failed))
            yield Passage(piece.chunk_id, piece.text, piece.metadata(), tuple(blocks))
        yield from map(_failed_passage, _drained(failed))

    def _pieces(self, readings: Iterable[Reading], failed: list[Reading]) -> Iterator[_Piece]:
        failing = {"raise": _raise, "skip": _warn, "document": failed.append}[self.on_error]
        if self.mode == "chunks":
            pieces = chunks(readings, failed=failing, **self._sizes())
            return ((piece, ()) for piece in pieces)
        if self.mode == "page":
            return _of_pages(_sound(readings, failing))
        return _of_files(readings, failing)

    def _sizes(self) -> dict[str, Any]:
        return {
            "size": self.chunk_size,
            "overlap": self.chunk_overlap,
            "length": self.chunk_length,
            "heading_size": self.heading_size,
        }


_Piece = tuple[Chunk, Sequence[Block]]


def embedded_text(text: str, metadata: Mapping[str, Any] | None) -> str | None:
    """What is to be embedded of a passage: its headings and its text; None for the text alone.

    So that what came through a framework is found as what `Store.add` was given: `headings` count
    where `chunk_id` says that the metadata is that of a chunk.
    """
    headings = (metadata or {}).get("headings")
    if not metadata or "chunk_id" not in metadata or not isinstance(headings, str) or not headings:
        return None
    return f"{headings}\n{text}"


class NamedBytes(io.BytesIO):
    """The bytes of a file that lies elsewhere, under the name it has there."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def each(sources: Source | Iterable[Source]) -> Iterator[Source]:
    """The one source, or the sources one after another."""
    if isinstance(sources, str | os.PathLike | bytes) or hasattr(sources, "read"):
        yield cast("Source", sources)
    elif isinstance(sources, Iterable):
        yield from sources
    else:
        raise UsageError(
            f"{reprlib.repr(sources)} is no source; give a path, bytes, a file object, or several"
        )


def chunks(
    readings: Iterable[Reading],
    *,
    size: int = 1000,
    overlap: int = 0,
    length: Length = len,
    heading_size: int | None = None,
    failed: Callable[[Reading], None],
) -> Iterator[Chunk]:
    """Chunks of `readings`; a reading with an error goes to `failed` when its turn comes."""
    blocks = _composed(readings, failed)
    return chunk(blocks, size=size, overlap=overlap, length=length, heading_size=heading_size)


def _composed(
    readings: Iterable[Reading], failed: Callable[[Reading], None]
) -> Iterator[list[Block]]:
    """The blocks of one page after the other.

    One that failed has none. It is told when the next one is asked for, so that all that stands
    before it is out by then.
    """
    for reading in readings:
        yield compose(reading)
        if reading.error is not None:
            failed(reading)


def _of_pages(sound: Iterable[Reading]) -> Iterator[_Piece]:
    """One chunk a page; like pages of a document are told apart by their place among them."""
    for _, of_document in groupby(sound, key=_source):
        copies: Counter[str] = Counter()
        for reading in of_document:
            digest = reading.page.digest
            blocks = compose(reading)
            yield _joined([reading], blocks, copy=copies[digest]), _named(blocks, copies[digest])
            copies[digest] += 1


def _named(blocks: Sequence[Block], copy: int) -> Sequence[Block]:
    """`blocks` of a page that has so many like it before it, told apart from theirs."""
    if not copy:
        return blocks
    return [
        replace(block, page=replace(block.page, digest=f"{block.page.digest}/{copy}"))
        for block in blocks
    ]


def _of_files(readings: Iterable[Reading], failed: Callable[[Reading], None]) -> Iterator[_Piece]:
    """One chunk a file; what failed of it is told when its turn comes, not that of the one before.

    `groupby` has seen the first page of the next file before a file is known to be at its end.
    """
    for _, of_file in groupby(readings, key=_source):
        sound = list(_sound(of_file, failed))
        if sound:
            blocks = [block for reading in sound for block in compose(reading)]
            yield _joined(sound, blocks), blocks


def _source(reading: Reading) -> str:
    return reading.page.source


def joined(readings: Iterable[Reading], *, copy: int = 0) -> Chunk:
    """One chunk of all that stands in `readings` (of one document), block after block.

    At least one reading is needed. Every character keeps its place; headings stand in the text.
    `copy` counts the equal ones of the document before it, so that no two have the same id.
    """
    pages = list(readings)
    blocks = [block for reading in pages for block in compose(reading)]
    return _joined(pages, blocks, copy=copy)


def _joined(pages: Sequence[Reading], blocks: Sequence[Block], *, copy: int = 0) -> Chunk:
    text, spans = "", list[Span]()
    for block in blocks:
        text += BREAK if text else ""
        spans.extend(span.shifted(len(text)) for span in block.spans)
        text += block.markdown
    first = pages[0].page
    kinds = {block.kind for block in blocks}
    raised = [flag for told in (pages, blocks) for one in told for flag in one.flags]
    return Chunk(
        text,
        tuple(spans),
        source=first.source,
        doc_id=first.doc_id,
        chunk_id=_id(text, [reading.page for reading in pages], copy),
        page=first.number,
        page_end=pages[-1].page.number,
        page_count=first.count,
        page_width=first.width,
        page_height=first.height,
        kind=kinds.pop() if len(kinds) == 1 else "mixed",
        confidence=_confidence(blocks),
        flags=ordered_flags(raised),
        reader=pages[0].reader,
        reader_version=pages[0].reader_version,
        digests=page_digests(reading.page for reading in pages),
    )


def _id(text: str, pages: Sequence[PageInfo], copy: int) -> str:
    """Stable, from the document, the pictures of its pages and the text, as that of a chunk."""
    pictures = [page.digest or f"#{page.number}" for page in pages]
    if copy:
        pictures.append(f"/{copy}")
    return stable_id(pages[0].doc_id, *pictures, text)


def _confidence(blocks: Iterable[Block]) -> float | None:
    """Mean by characters, as in a chunk."""
    weighed = [(b.confidence, len(b.markdown)) for b in blocks if b.confidence is not None]
    total = sum(weight for _, weight in weighed)
    return sum(value * weight for value, weight in weighed) / total if total else None


def _sound(readings: Iterable[Reading], failed: Callable[[Reading], None]) -> Iterator[Reading]:
    for reading in readings:
        if reading.error is None:
            yield reading
        else:
            failed(reading)


def page_as_read(
    source: str, number: int, chunks: Iterable[Chunk], *, password: str | None = None
) -> Page:
    """The page on which some of `chunks` stand, if it shows what it showed when they were read.

    Raises `StoreError` where it shows something else or nobody knows, and the `SourceError` that
    fits where it cannot be opened.
    """
    known = {
        digest
        for chunk in chunks
        if chunk.source == source
        for of, digest in chunk.digests
        if of == number
    }
    if not known:
        raise StoreError(
            f"it is not known what page {number} of {source} showed when it was read; "
            "index the file again"
        )
    # a pipe or a device of this name would keep a notebook waiting
    if not Path(source).is_file():
        raise SourceNotFound(f"{source} is not there any more")
    changed = StoreError(f"{source} has changed since it was read; index it again")
    try:
        page = next(open_pages(source, pages=number, password=password))
    except UsageError as error:  # it has fewer pages now
        raise changed from error
    if page.error is not None:
        raise error_of(source, number, page.error)
    if page.digest not in known:
        raise changed
    return page


def error_of(source: str, page: int, failure: Failure) -> KosmosLoaderError:
    """The exception that `failure` of a page (0: of the whole file) stands for, naming both."""
    where = f"{source}, page {page}" if page else source
    text = failure.message
    is_named = source in text and (not page or f"page {page} " in text)
    return error_class(failure)(text if is_named else f"{where}: {text}")


def error_class(failure: Failure) -> type[KosmosLoaderError]:
    """The class of exceptions of which `failure` holds one; what is not ours, a reader raised."""
    known = [KosmosLoaderError]
    for kind in known:  # grows while it is walked: a class, then those below it
        if kind.kind == failure.type:
            return kind
        known.extend(kind.__subclasses__())
    return ReadingError


def error_in(reading: Reading) -> KosmosLoaderError:
    """The exception that the error of a failed reading stands for."""
    return error_of(reading.page.source, reading.page.number, _failure(reading))


def _failure(reading: Reading) -> Failure:
    return reading.error or Failure("reading", "no reason is known")


def _raise(reading: Reading) -> None:
    raise error_in(reading)


def _warn(reading: Reading) -> None:
    log.warning("left out: %s", error_in(reading))


def _drained(failed: list[Reading]) -> list[Reading]:
    taken = failed.copy()
    failed.clear()
    return taken


def _failed_passage(reading: Reading) -> Passage:
    # without the digest the id is that of the place: like pages may all fail
    page = replace(reading.page, digest="")
    empty = joined([replace(reading, page=page, error=None, lines=(), markdown=None)])
    failure = _failure(reading)
    reason: dict[str, str | int | float]
    reason = {"error_type": failure.type, "error": failure.message[:MAX_REASON]}
    return Passage(empty.chunk_id, "", empty.metadata() | reason)
