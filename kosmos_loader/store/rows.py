"""From chunks to rows of the database and back, and from an embedder's vectors to unit ones."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.document import Chunk
from kosmos_loader.embedding import Vector, Vectors, words
from kosmos_loader.errors import StoreCorrupt, StoreError, StoreMismatch, UsageError
from kosmos_loader.store.database import Row
from kosmos_loader.store.filters import encodable

_GEOMETRY = ("boxes", "spans")
"""Metadata that no filter asks for; the record has it."""


def row_of(chunk: Chunk) -> Row:
    """The row that keeps `chunk`."""
    embedded = chunk.embedded_text
    return Row(
        chunk_id=encodable(chunk.chunk_id),
        doc_id=encodable(chunk.doc_id),
        source=encodable(chunk.source),
        page=chunk.page,
        page_count=chunk.page_count,
        digest=digest_of(embedded),
        metadata=json_of(_filterable(chunk)),
        terms=terms_of(embedded),
        record=json_of(chunk.to_dict()),
    )


def chunk_of(record: str) -> Chunk:
    """The chunk that a row keeps."""
    try:
        return Chunk.from_dict(json.loads(record))
    except UsageError as error:
        raise StoreMismatch(str(error)) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StoreCorrupt(
            f"a chunk's record is damaged ({error}); verify the store, delete the chunk and index "
            "its file again"
        ) from error


def digest_of(embedded: str) -> bytes:
    """128 bits that change with the text that is embedded."""
    return blake2b(embedded.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def terms_of(embedded: str) -> str:
    """The words of a text as the lexical index keeps them."""
    return " ".join(words(embedded))


def json_of(value: Any) -> str:
    """JSON that SQLite can hold, whatever the text in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return json.dumps(value, separators=(",", ":"))
    return text


def _filterable(chunk: Chunk) -> dict[str, Any]:
    metadata = chunk.metadata().items()
    return {key: _comparable(value) for key, value in metadata if key not in _GEOMETRY}


def _comparable(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    # JSON has no NaN, and one row with it would make SQLite refuse every filter.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def unit_vectors(
    vectors: Vectors | Sequence[Vector], *, count: int, dim: int, embedder: str
) -> NDArray[np.float32]:
    """[count, dim], each row of length 1 (or 0, for a text without content).

    `StoreMismatch` where the vectors have another length, `StoreError` where they are not one for
    each text or not finite.
    """
    try:
        array = np.asarray(vectors, np.float64)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{embedder} returned something other than vectors ({error})") from error
    if array.ndim != 2 or len(array) != count:
        raise StoreError(
            f"{embedder} returned an array of shape {array.shape} for {count} texts; an embedder "
            "returns one vector for each text"
        )
    if array.shape[1] != dim:
        raise StoreMismatch(
            f"{embedder} returned vectors of {array.shape[1]} numbers, and the store holds vectors "
            f"of {dim}; open it with the embedder that it was made with"
        )
    if not np.isfinite(array).all():
        raise StoreError(f"{embedder} returned vectors with NaN or infinity; nothing was added")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    return (array / np.where(lengths > 0, lengths, 1)).astype(np.float32)
