"""From chunks and entries to rows of the database and back, and from vectors to unit ones."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.document import Chunk
from kosmos_loader.embedding import Vector, Vectors
from kosmos_loader.errors import StoreCorrupt, StoreError, StoreMismatch, UsageError
from kosmos_loader.store.database import Kept, Row
from kosmos_loader.store.entries import Entry
from kosmos_loader.store.filters import encodable
from kosmos_loader.store.lexical import terms

_GEOMETRY = ("boxes", "spans")
"""Metadata of chunks that no filter asks for; the record has it."""

_CHUNK = "chunk_id"
"""What every chunk's record has and no entry's."""

_NAMES = ("id", "doc_id", "source")

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_compact_ascii = json.JSONEncoder(separators=(",", ":")).encode
_strict = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def id_of(item: object) -> str:
    """The id of a chunk or entry as the database has it; `UsageError` for anything else."""
    if isinstance(item, Chunk):
        return encodable(item.chunk_id)
    if isinstance(item, Entry) and isinstance(item.id, str):
        return encodable(item.id)
    raise UsageError(f"a store keeps chunks, and entries with text as id, not {item!r:.80}")


def row_of(item: Chunk | Entry) -> Row:
    """The row that keeps `item`; `UsageError` for an entry that cannot be kept."""
    return _row_of_chunk(item) if isinstance(item, Chunk) else _row_of_entry(item)


def _row_of_chunk(chunk: Chunk) -> Row:
    metadata = chunk.metadata().items()
    return _row(
        (encodable(chunk.chunk_id), encodable(chunk.doc_id), encodable(chunk.source)),
        chunk.page_count,
        False,
        chunk.embedded_text,
        _compact({key: _comparable(value) for key, value in metadata if key not in _GEOMETRY}),
        json_of(chunk.to_dict()),
    )


def _row_of_entry(entry: Entry) -> Row:
    # This runs once for each entry of a large store: it is written to be fast.
    names = (entry.id, entry.doc_id, entry.source)
    text, metadata, embedded = entry.text, entry.metadata, entry.embedded
    for value in (*names, text, text if embedded is None else embedded):
        if not isinstance(value, str):
            raise UsageError(
                f"entry {entry.id!r:.80}: id, text, doc_id, source and embedded are text, not "
                f"{value!r:.80}"
            )
    filterable, whole = _filterable(entry)
    own = (encodable(names[0]), encodable(names[1]), encodable(names[2]))
    record = f'{{"text":{_compact(text)}}}'  # as the next lines would write it
    if not whole or embedded is not None or own != names or not _is_encodable(record):
        record = json_of(
            {"text": text}
            | ({} if whole else {"metadata": dict(metadata)})
            | ({} if embedded is None else {"embedded": embedded})
            | ({} if own == names else dict(zip(_NAMES, names, strict=True)))
        )
    stated = metadata.get
    pages = stated("page_count", 0)
    return _row(
        own,
        pages if type(pages) is int and 0 <= pages < 2**31 else 0,
        stated("source", names[2]) != names[2]
        or stated("doc_id", names[1]) != names[1]
        or stated("chunk_id", names[0]) != names[0],
        text if embedded is None else embedded,
        filterable,
        record,
    )


def _row(
    own: tuple[str, str, str],
    page_count: int,
    aside: bool,
    embedded: str,
    metadata: str,
    record: str,
) -> Row:
    return Row(
        *own,
        page_count,
        int(aside),
        _digest(embedded),
        _digest("\0".join((*own, metadata, record))),
        metadata,
        terms(embedded),
        record,
    )


def entry_of(kept: Kept) -> Entry:
    """The entry that a row keeps; a chunk comes as the entry it is."""
    data = _record(kept)
    if _CHUNK in data:
        return entry_of_chunk(_chunk(kept, data))
    try:
        metadata = data["metadata"] if "metadata" in data else json.loads(kept.metadata)
        return Entry(
            data.get("id", kept.id),
            data["text"],
            dict(metadata),
            data.get("doc_id", kept.doc_id),
            data.get("source", kept.source),
            data.get("embedded"),
        )
    except _DAMAGES as error:
        raise _damaged(kept, error) from error


def entry_of_chunk(chunk: Chunk) -> Entry:
    """A chunk as an entry."""
    return Entry(
        chunk.chunk_id,
        chunk.text,
        chunk.metadata(),
        chunk.doc_id,
        chunk.source,
        chunk.embedded_text,
    )


def chunk_of(kept: Kept) -> Chunk:
    """The chunk that a row keeps; an entry comes as the chunk that its metadata describe."""
    data = _record(kept)
    if _CHUNK in data:
        return _chunk(kept, data)
    entry = entry_of(kept)
    metadata = {"doc_id": entry.doc_id, "source": entry.source, **entry.metadata}
    return Chunk.from_metadata(entry.text, metadata, chunk_id=entry.id)


def item_of(kept: Kept) -> Chunk | Entry:
    """What was added: a chunk or an entry."""
    data = _record(kept)
    return _chunk(kept, data) if _CHUNK in data else entry_of(kept)


_DAMAGES = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What damaged JSON leads to."""


def _record(kept: Kept) -> dict[str, Any]:
    try:
        data = json.loads(kept.record)
    except _DAMAGES as error:
        raise _damaged(kept, error) from error
    if not isinstance(data, dict):
        raise _damaged(kept, "it is no record at all")
    return data


def _chunk(kept: Kept, data: Mapping[str, Any]) -> Chunk:
    try:
        return Chunk.from_dict(data)
    except UsageError as error:
        raise StoreMismatch(str(error)) from error
    except _DAMAGES as error:
        raise _damaged(kept, error) from error


def _damaged(kept: Kept, why: object) -> StoreCorrupt:
    return StoreCorrupt(
        f"the record of {kept.id!r:.80} is damaged ({why}); verify the store, delete what is "
        "damaged and add it again"
    )


def _digest(text: str) -> bytes:
    """128 bits."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def json_of(value: Any) -> str:
    """JSON that SQLite can hold, whatever the text in it."""
    text = _compact(value)
    return text if _is_encodable(text) else _compact_ascii(value)


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return False
    return True


def _filterable(entry: Entry) -> tuple[str, bool]:
    """Metadata as filters see them, and whether they are all there is to them."""
    try:
        text = _strict(entry.metadata if type(entry.metadata) is dict else dict(entry.metadata))
        if "\\u0000" not in text and _is_encodable(text):
            return text, True
    except (TypeError, ValueError, RecursionError):
        pass  # something that JSON or SQLite has no word for; told or replaced below
    try:
        _compact(dict(entry.metadata))
        return _strict(_comparable(dict(entry.metadata))), False
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"entry {entry.id!r:.80}: its metadata are no JSON values ({error}); write dates and "
            "the like as text"
        ) from error


def _comparable(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, Mapping):
        return {
            encodable(key) if isinstance(key, str) else key: _comparable(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_comparable(item) for item in value]
    # JSON has no NaN, and one row with it would make SQLite refuse every filter.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def unit_vectors(
    vectors: Vectors | Sequence[Vector], *, count: int, dim: int, whose: str
) -> NDArray[np.float32]:
    """[count, dim], each row of length 1 (or 0, for a text without content).

    `whose` begins a sentence: "hash-v1-1024 returned". `StoreMismatch` where the vectors have
    another length, `StoreError` where they are not one for each text or not finite.
    """
    try:
        array = np.asarray(vectors)
        if array.dtype != np.float32:
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise StoreError(f"{whose} something other than vectors ({error})") from error
    if array.ndim != 2 or len(array) != count:
        raise StoreError(
            f"{whose} an array of shape {array.shape} for {count} texts; there must be one vector "
            "for each text"
        )
    if array.shape[1] != dim:
        raise StoreMismatch(
            f"{whose} vectors of {array.shape[1]} numbers, and the store holds vectors of {dim}; "
            "use the embedder that the store was made with"
        )
    lengths = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))[:, None]
    if not np.isfinite(lengths).all():
        raise StoreError(f"{whose} vectors with NaN or infinity; nothing was added")
    return (array / np.where(lengths > 0, lengths, 1)).astype(np.float32)
