"""What can be wrong inside a store, and what of it can be mended from the chunks' records."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from kosmos_loader.errors import StoreCorrupt, StoreError
from kosmos_loader.store import manifest
from kosmos_loader.store.database import Database
from kosmos_loader.store.index import BATCH, VectorIndex, is_sound
from kosmos_loader.store.index import NAME as INDEX
from kosmos_loader.store.rows import chunk_of, row_of

_MEND = "rebuild the store"
_SHOWN = 20
"""Problems of one kind that are told one by one."""


def problems(database: Database) -> Iterator[str]:
    """What is wrong with the database, a sentence each."""
    try:
        with database.reading() as connection:
            for (finding,) in connection.execute("PRAGMA integrity_check"):
                if finding != "ok":
                    yield f"the database is damaged: {finding}; restore it from a backup"
            yield from islice(_chunk_problems(connection), _SHOWN)
            yield from islice(_vector_problems(connection, database.meta.dim), _SHOWN)
    except StoreCorrupt as error:
        yield str(error)
        return
    yield from _word_problems(database)


def _chunk_problems(connection: sqlite3.Connection) -> Iterator[str]:
    rows = connection.execute("SELECT chunk_id, digest, metadata, terms, record FROM chunks")
    for chunk_id, digest, metadata, terms, record in rows:
        try:
            row = row_of(chunk_of(record))
        except StoreError as error:
            yield f"chunk {chunk_id}: {error}"
            continue
        if row.chunk_id != chunk_id or row.digest != digest:
            yield f"chunk {chunk_id}: its text is not the one that was added; index its file again"
        elif row.terms != terms or row.metadata != metadata:
            yield f"chunk {chunk_id}: its words or metadata are not those of its text; {_MEND}"


def _vector_problems(connection: sqlite3.Connection, dim: int) -> Iterator[str]:
    rows = connection.execute(
        "SELECT chunk_id, vector FROM chunks LEFT JOIN vectors USING (key) ORDER BY key"
    )
    for chunk_id, vector in rows:
        if vector is None:
            yield f"chunk {chunk_id} has no vector; {_MEND}"
        elif not is_sound(vector, dim):
            yield f"chunk {chunk_id}: its vector is damaged; {_MEND}"
    orphans = connection.execute(
        "SELECT count(*) FROM vectors WHERE key NOT IN (SELECT key FROM chunks)"
    ).fetchone()[0]
    if orphans:
        yield f"{orphans} vectors belong to no chunk; {_MEND}"


def _word_problems(database: Database) -> Iterator[str]:
    try:
        with database.writing() as connection:  # FTS5 takes its check for a write
            connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")
    except StoreCorrupt as error:
        yield f"the index of words is not that of the chunks ({error.__cause__}); {_MEND}"


def index_problems(database: Database, index: VectorIndex) -> Iterator[str]:
    """What is wrong with the index in memory, after it was refreshed."""
    with database.reading() as connection:
        keys, vectors = index.contents()
        order = np.argsort(keys)
        done = 0
        rows = connection.execute("SELECT key, vector FROM vectors ORDER BY key")
        while batch := rows.fetchmany(BATCH):
            part = order[done : done + len(batch)]
            done += len(batch)
            same_keys = keys[part].tolist() == [key for key, _ in batch]
            if not same_keys or vectors[part].tobytes() != b"".join(vector for _, vector in batch):
                yield f"the index does not hold the vectors of the database; {_MEND}"
                return
        if done != len(keys):
            yield f"the index holds {len(keys)} vectors, the database {done}; {_MEND}"


def file_problems(folder: Path, database: Database) -> Iterator[str]:
    """What is wrong with manifest and index file, just after they were written."""
    found = manifest.read(folder)
    if found is None or found.store != database.meta.store:
        yield f"{manifest.NAME} cannot be read or is another store's; {_MEND}"
        return
    if found.chunks != database.count():
        yield f"{manifest.NAME} says {found.chunks} chunks, the database {database.count()}"
    if found.index is not None and manifest.digest(folder / INDEX) != found.index.blake2b:
        yield f"{INDEX} is not the file that the manifest names; {_MEND}"


def mend(database: Database) -> list[str]:
    """Make words and metadata anew, drop damaged vectors; the ids of chunks without a vector."""
    with database.writing() as connection:
        database.advance()
        for key, digest, record in _each(connection):
            row = row_of(chunk_of(record))
            connection.execute(
                "UPDATE chunks SET digest = ?, metadata = ?, terms = ? WHERE key = ?",
                (row.digest, row.metadata, row.terms, key),
            )
            if row.digest != digest:  # the vector is another text's
                connection.execute("DELETE FROM vectors WHERE key = ?", (key,))
        connection.execute("INSERT INTO words (words) VALUES ('rebuild')")
        connection.execute("DELETE FROM vectors WHERE key NOT IN (SELECT key FROM chunks)")
        vectors = connection.execute("SELECT key, vector FROM vectors")
        damaged = [(k,) for k, vector in vectors if not is_sound(vector, database.meta.dim)]
        connection.executemany("DELETE FROM vectors WHERE key = ?", damaged)
        lacking = connection.execute(
            "SELECT chunk_id FROM chunks WHERE key NOT IN (SELECT key FROM vectors)"
        )
        return [chunk_id for (chunk_id,) in lacking]


def _each(connection: sqlite3.Connection) -> Iterator[tuple[int, bytes, str]]:
    """Key, digest and record of all chunks, a few at a time: they are changed on the way."""
    last = -1
    while rows := connection.execute(
        "SELECT key, digest, record FROM chunks WHERE key > ? ORDER BY key LIMIT 500", (last,)
    ).fetchall():
        yield from rows
        last = rows[-1][0]
