"""Files to passages: the line from files to their chunks, in one call.

The archive, the command line and the adapters for frameworks share it, so that the same file gives
the same ids, texts and metadata on every way in.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any, cast

from kosmos_loader.chunking import BREAK, chunk
from kosmos_loader.compose import compose
from kosmos_loader.document import (
    FLAGS,
    GEOMETRY_KEYS,
    Block,
    Chunk,
    Failure,
    PageInfo,
    Reading,
    Span,
    page_digests,
)
from kosmos_loader.errors import KosmosLoaderError, ReadingError, UsageError
from kosmos_loader.pages import Source, open_pages
from kosmos_loader.readers.base import PageReader, choose_reader

log = logging.getLogger("kosmos_loader")

MODES = ("chunks", "page", "single")
ON_ERROR = ("raise", "skip", "document")

HIDDEN_KEYS = (
    *GEOMETRY_KEYS,
    *("doc_id", "chunk_id", "page_count", "order", "confidence", "support", "flags"),
    *("reader", "reader_version", "error_type", "error"),
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


@dataclass(frozen=True, kw_only=True)
class PassageLoader:
    """Turns files into passages; a reader that was named is loaded at the first file and kept.

    `mode` is "chunks" (pieces of at most `chunk_size` characters), "page" (one passage a page) or
    "single" (one a file). `on_error` says what becomes of a page or file that cannot be read:
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
    on_error: str = "raise"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"no mode is called {self.mode!r}; choose one of {', '.join(MODES)}")
        if self.on_error not in ON_ERROR:
            raise UsageError(
                f"on_error cannot be {self.on_error!r}; choose one of {', '.join(ON_ERROR)}"
            )
        chunk((), size=self.chunk_size, overlap=self.chunk_overlap)

    def __getstate__(self) -> dict[str, Any]:
        """The settings without the loaded reader: a copy in another process loads its own."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def page_reader(self) -> PageReader:
        """The reader itself."""
        if isinstance(self.reader, str):
            return choose_reader(self.reader, model=self.model)
        return self.reader

    def load(self, sources: Source | Iterable[Source]) -> Iterator[Passage]:
        """Passages of all files, lazily: those of a page come before the next page is read.

        The last chunk of a page waits for the next one where its last paragraph or table may go on.
        """
        failed: list[Reading] = []
        # as one of several, a file that cannot be opened is a value and not an exception
        pages = open_pages(each(sources), pages=self.pages, password=self.password)
        for piece in self._pieces(self.page_reader.read(pages), failed):
            yield from map(_failed_passage, _drained(failed))
            yield Passage(piece.chunk_id, piece.text, piece.metadata())
        yield from map(_failed_passage, _drained(failed))

    def _pieces(self, readings: Iterable[Reading], failed: list[Reading]) -> Iterator[Chunk]:
        failing = {"raise": _raise, "skip": _warn, "document": failed.append}[self.on_error]
        if self.mode == "chunks":
            size, overlap = self.chunk_size, self.chunk_overlap
            return chunks(readings, size=size, overlap=overlap, failed=failing)
        if self.mode == "page":
            return _of_pages(_sound(readings, failing))
        return _of_files(readings, failing)


class NamedBytes(io.BytesIO):
    """The bytes of a file that lies elsewhere, under the name it has there."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def each(sources: Source | Iterable[Source]) -> Iterator[Source]:
    """The one source, or the sources one after another."""
    if isinstance(sources, str | os.PathLike | bytes) or hasattr(sources, "read"):
        yield cast("Source", sources)
    else:
        yield from sources


def chunks(
    readings: Iterable[Reading],
    *,
    size: int = 1000,
    overlap: int = 0,
    failed: Callable[[Reading], None],
) -> Iterator[Chunk]:
    """Chunks of `readings`; a reading with an error goes to `failed` when its turn comes."""
    return chunk(_composed(readings, failed), size=size, overlap=overlap)


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


def _of_pages(sound: Iterable[Reading]) -> Iterator[Chunk]:
    """One chunk a page; like pages of a document are told apart by their place among them."""
    for _, of_document in groupby(sound, key=_source):
        copies: Counter[str] = Counter()
        for reading in of_document:
            digest = reading.page.digest
            yield joined([reading], copy=copies[digest])
            copies[digest] += 1


def _of_files(readings: Iterable[Reading], failed: Callable[[Reading], None]) -> Iterator[Chunk]:
    """One chunk a file; what failed of it is told when its turn comes, not that of the one before.

    `groupby` has seen the first page of the next file before a file is known to be at its end.
    """
    for _, of_file in groupby(readings, key=_source):
        sound = list(_sound(of_file, failed))
        if sound:
            yield joined(sound)


def _source(reading: Reading) -> str:
    return reading.page.source


def joined(readings: Iterable[Reading], *, copy: int = 0) -> Chunk:
    """One chunk of all that stands in `readings` (of one document), block after block.

    At least one reading is needed. Every character keeps its place; headings stand in the text.
    `copy` counts the equal ones of the document before it, so that no two have the same id.
    """
    pages, blocks = list[Reading](), list[Block]()
    for reading in readings:
        pages.append(reading)
        blocks.extend(compose(reading))
    text, spans = "", list[Span]()
    for block in blocks:
        text += BREAK if text else ""
        spans.extend(span.shifted(len(text)) for span in block.spans)
        text += block.markdown
    first = pages[0].page
    kinds = {block.kind for block in blocks}
    raised = {flag for reading in pages for flag in reading.flags}
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
        flags=tuple(flag for flag in FLAGS if flag in raised),
        reader=pages[0].reader,
        reader_version=pages[0].reader_version,
        digests=page_digests(reading.page for reading in pages),
    )


def _id(text: str, pages: Sequence[PageInfo], copy: int) -> str:
    """Stable, from the document, the pictures of its pages and the text, as that of a chunk."""
    pictures = [page.digest or f"#{page.number}" for page in pages]
    if copy:
        pictures.append(f"/{copy}")
    key = "\0".join((pages[0].doc_id, *pictures, text))
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


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
