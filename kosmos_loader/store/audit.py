"""What can be wrong inside a store, and what of it can be mended from the entries' records."""

from __future__ import annotations

import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from kosmos_loader.errors import KosmosLoaderError, StoreCorrupt
from kosmos_loader.store import manifest
from kosmos_loader.store.database import Database, Row, index_facets
from kosmos_loader.store.facets import facets
from kosmos_loader.store.index import NAME as INDEX
from kosmos_loader.store.index import VectorIndex, is_sound
from kosmos_loader.store.journal import reading_of
from kosmos_loader.store.rows import item_of, row_of

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
            yield from islice(_entry_problems(connection), _SHOWN)
            yield from islice(_vector_problems(connection, database.meta.dim), _SHOWN)
            yield from _count_problems(connection)
            yield from _facet_problems(connection)
            yield from islice(_reading_problems(connection), _SHOWN)
    except StoreCorrupt as error:
        yield str(error)
        return
    yield from _word_problems(database)


def _entry_problems(connection: sqlite3.Connection) -> Iterator[str]:
    for _, row in _each(connection):
        try:
            made = row_of(item_of(row.kept))
        except KosmosLoaderError as error:
            yield f"chunk {row.id}: {error}"
            continue
        if made.digest != row.digest:
            yield f"chunk {row.id}: its text is not the one that was added; index its file again"
        elif made.seal != row.seal:
            yield f"chunk {row.id}: it is not as it was added; index its file again"
        elif made != row:
            yield f"chunk {row.id}: its words or metadata are not those of its text; {_MEND}"


def _vector_problems(connection: sqlite3.Connection, dim: int) -> Iterator[str]:
    rows = connection.execute(
        "SELECT id, crc, vector FROM entries LEFT JOIN vectors USING (key) ORDER BY key"
    )
    for entry_id, crc, vector in rows:
        if vector is None:
            yield f"chunk {entry_id} has no vector; {_MEND}"
        elif not _is_whole(vector, crc, dim):
            yield f"chunk {entry_id}: its vector is damaged; {_MEND}"
    orphans = connection.execute(
        "SELECT count(*) FROM vectors WHERE key NOT IN (SELECT key FROM entries)"
    ).fetchone()[0]
    if orphans:
        yield f"{orphans} vectors belong to no chunk; {_MEND}"


_COUNTS = {
    "generation": "SELECT max(generation) FROM (SELECT generation FROM vectors"
    " UNION SELECT generation FROM removed)",
    "last_key": "SELECT max(key) FROM (SELECT key FROM entries UNION SELECT key FROM vectors"
    " UNION SELECT key FROM removed)",
}
"""What these counts may not be smaller than."""


def _count_problems(connection: sqlite3.Connection) -> Iterator[str]:
    for name, least in _COUNTS.items():
        told, reached = connection.execute(
            f"SELECT (SELECT value FROM meta WHERE name = ?), ({least})",  # noqa: S608 - as above
            (name,),
        ).fetchone()
        if not isinstance(told, int) or told < (reached or 0):
            yield f"the count {name} is {told!r:.80} and should be {reached} or more; {_MEND}"


def _word_problems(database: Database) -> Iterator[str]:
    if database.read_only:
        return
    try:
        with database.writing() as connection:  # FTS5 takes its check for a write
            connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")
    except StoreCorrupt as error:
        yield f"the index of words is not that of the chunks ({error.__cause__}); {_MEND}"


def _facet_problems(connection: sqlite3.Connection) -> Iterator[str]:
    kept: Counter[str] = Counter()
    for (metadata,) in connection.execute("SELECT metadata FROM entries"):
        kept.update(facets(metadata).split())
    if kept != Counter(dict(connection.execute("SELECT term, doc FROM facet_counts"))):
        yield f"the index of metadata is not that of the chunks; {_MEND}"


def _reading_problems(connection: sqlite3.Connection) -> Iterator[str]:
    for key, problem in _unusable(connection):
        of = connection.execute("SELECT source, page FROM pages WHERE key = ?", (key,)).fetchone()
        page = "a page" if of is None else f"page {of[1]} of {of[0]}"
        yield f"{page}: {problem}; {_MEND}, and it is read again when it is needed"


def _unusable(connection: sqlite3.Connection) -> Iterator[tuple[str, StoreCorrupt]]:
    """Keys of the readings that cannot be used, and why."""
    for key, text in connection.execute("SELECT key, reading FROM readings"):
        try:
            reading_of(text)
        except StoreCorrupt as error:
            yield key, error


def index_problems(index: VectorIndex) -> Iterator[str]:
    """What is wrong with the index in memory, after it was refreshed."""
    if problem := index.problem():
        yield f"{problem}; {_MEND}"


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
    """Make words and metadata anew, drop what of vectors and readings is damaged.

    Gives the ids of entries without a vector.
    """
    columns = ", ".join(f"{name} = ?" for name in Row._fields)
    with database.writing() as connection:
        for name, least in _COUNTS.items():
            (reached,) = connection.execute(least).fetchone()
            connection.execute(
                "UPDATE meta SET value = max(CAST(value AS INTEGER), ?) WHERE name = ?",
                (reached or 0, name),
            )
        database.advance()
        for key, row in _each(connection):
            made = row_of(item_of(row.kept))
            if made != row:
                connection.execute(
                    f"UPDATE entries SET {columns} WHERE key = ?",  # noqa: S608 - names only
                    (*made, key),
                )
            if made.digest != row.digest:  # the vector is another text's
                connection.execute("DELETE FROM vectors WHERE key = ?", (key,))
        connection.execute("INSERT INTO words (words) VALUES ('rebuild')")
        index_facets(connection)
        connection.execute("DELETE FROM vectors WHERE key NOT IN (SELECT key FROM entries)")
        vectors = connection.execute("SELECT key, crc, vector FROM vectors")
        dim = database.meta.dim
        damaged = [(key,) for key, crc, vector in vectors if not _is_whole(vector, crc, dim)]
        connection.executemany("DELETE FROM vectors WHERE key = ?", damaged)
        unusable = [(key,) for key, _ in _unusable(connection)]
        connection.executemany("DELETE FROM readings WHERE key = ?", unusable)
        lacking = connection.execute(
            "SELECT id FROM entries WHERE key NOT IN (SELECT key FROM vectors)"
        )
        return [entry_id for (entry_id,) in lacking]


def _is_whole(vector: object, crc: object, dim: int) -> bool:
    return is_sound(vector, dim) and isinstance(vector, bytes) and zlib.crc32(vector) == crc


def _each(connection: sqlite3.Connection) -> Iterator[tuple[int, Row]]:
    """Key and row of all entries, a few at a time: they are changed on the way."""
    sql = (
        f"SELECT key, {', '.join(Row._fields)} FROM entries"  # noqa: S608 - names only
        " WHERE key > ? ORDER BY key LIMIT 500"
    )
    last = -(2**63)
    while rows := connection.execute(sql, (last,)).fetchall():
        yield from ((key, Row(*values)) for key, *values in rows)
        last = rows[-1][0]
