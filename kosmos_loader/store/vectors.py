"""Vectors as SQLite holds them, read in batches: all, some by key, or what has changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.errors import StoreCorrupt
from kosmos_loader.store.database import Database

BATCH = 8192
"""Vectors that are read at a time: 32 MB of 1024 numbers each."""

Keys = NDArray[np.int64]
Matrix = NDArray[np.float32]
Batch = tuple[Keys, Matrix]
"""Keys [n] and their vectors [n, dim]."""


def is_sound(vector: object, dim: int) -> bool:
    """Whether `vector` is the bytes of `dim` finite float32."""
    if not isinstance(vector, bytes) or len(vector) != 4 * dim:
        return False
    return bool(np.isfinite(np.frombuffer(vector, "<f4")).all())


def everything(database: Database, *, batch: int = BATCH) -> Iterator[Batch]:
    """All vectors, by key, at most `batch` at a time."""
    with database.reading() as connection:
        rows = connection.execute("SELECT key, vector FROM vectors ORDER BY key")
        yield from _batches(database, rows, batch)


def changed(database: Database, since: int) -> Iterator[Batch]:
    """The vectors that generation `since` did not have as they are now, by key."""
    with database.reading() as connection:
        rows = connection.execute(
            "SELECT key, vector FROM vectors WHERE generation > ? ORDER BY key", (since,)
        )
        yield from _batches(database, rows, BATCH)


def touched(database: Database, since: int) -> Keys:
    """[n]: keys that were removed or got another vector after generation `since`."""
    with database.reading() as connection:
        rows = connection.execute(
            "SELECT key FROM removed WHERE generation > ?1"
            " UNION SELECT key FROM vectors WHERE generation > ?1",
            (since,),
        )
        return keys_of(rows)


def keys_of_all(database: Database) -> Keys:
    """[n]: the keys of all vectors, in order."""
    with database.reading() as connection:
        return np.sort(keys_of(connection.execute("SELECT key FROM vectors")))


def named(database: Database, keys: Keys) -> Iterator[Batch]:
    """The vectors of those of `keys` that have one, by key."""
    ordered = np.sort(keys)
    for start in range(0, len(ordered), BATCH):
        with database.reading() as connection:
            rows = connection.execute(
                "SELECT key, vector FROM vectors WHERE key IN (SELECT value FROM json_each(?))"
                " ORDER BY key",
                (json.dumps(ordered[start : start + BATCH].tolist()),),
            ).fetchall()
        if rows:
            yield _batch(database, rows)


def keys_of(rows: Iterable[tuple[int]]) -> Keys:
    """The keys in `rows`. `StoreCorrupt` where one is no number, as a damaged page may have it."""
    try:
        return np.fromiter((key for (key,) in rows), np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise StoreCorrupt(
            f"a key of the store is damaged ({error}); restore the store from a backup, or index "
            "the files again into a new folder"
        ) from error


def _batches(database: Database, rows: sqlite3.Cursor, most: int) -> Iterator[Batch]:
    while batch := rows.fetchmany(most):
        yield _batch(database, batch)


def _batch(database: Database, rows: Sequence[tuple[int, Any]]) -> Batch:
    dim = database.meta.dim
    if all(isinstance(vector, bytes) and len(vector) == 4 * dim for _, vector in rows):
        vectors = np.frombuffer(b"".join(vector for _, vector in rows), "<f4").reshape(-1, dim)
        if np.isfinite(vectors).all():
            return np.array([key for key, _ in rows], np.int64), vectors
    damaged = sum(not is_sound(vector, dim) for _, vector in rows)
    raise StoreCorrupt(
        f"{damaged} vectors of the store are damaged; rebuild it with the embedder that made it"
    )
