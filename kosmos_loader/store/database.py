"""`store.sqlite`: chunks, vectors, words, readings and failures. The truth of a store.

Tables: `meta` (what the store is), `chunks` (record, metadata and words of each), `vectors`,
`words` (FTS5 over `chunks.terms`), `removed` (keys that an older index may still hold), `readings`
and `failures`; the view `documents` counts. Every change of chunks raises `generation` by one in
the same transaction, so that an index knows whether it is behind, and `removed` and
`vectors.generation` say by what.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from kosmos_loader.errors import StoreCorrupt, StoreError, StoreMismatch, StoreNotFound

log = logging.getLogger("kosmos_loader")

NAME = "store.sqlite"
SCHEMA = 1
"""Version of the tables below."""

_APPLICATION = 0x4B4F534D
"""`PRAGMA application_id`: "KOSM" marks the file as ours."""

_WAIT = 10.0
"""Seconds to wait for another process to finish its transaction."""

# The words are folded and separated before they come here, so the plain ASCII tokenizer, which
# splits at spaces and keeps every other script whole, reads them alike in every SQLite version.
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE chunks (
  key INTEGER PRIMARY KEY, chunk_id TEXT NOT NULL UNIQUE, doc_id TEXT NOT NULL,
  source TEXT NOT NULL, page INTEGER NOT NULL, page_count INTEGER NOT NULL, digest BLOB NOT NULL,
  metadata TEXT NOT NULL, terms TEXT NOT NULL, record TEXT NOT NULL
);
CREATE INDEX chunks_by_source ON chunks (source, page_count);
CREATE INDEX chunks_by_document ON chunks (doc_id);
CREATE TABLE vectors (
  key INTEGER PRIMARY KEY, generation INTEGER NOT NULL, vector BLOB NOT NULL
);
CREATE INDEX vectors_by_generation ON vectors (generation);
CREATE TABLE removed (key INTEGER PRIMARY KEY, generation INTEGER NOT NULL);
CREATE VIRTUAL TABLE words USING fts5 (
  terms, content = 'chunks', content_rowid = 'key', tokenize = 'ascii'
);
CREATE VIRTUAL TABLE vocabulary USING fts5vocab (words, 'row');
CREATE VIEW documents AS
  SELECT source, doc_id, max(page_count) AS pages, count(*) AS chunks
  FROM chunks GROUP BY source, doc_id;
CREATE TABLE readings (key TEXT PRIMARY KEY, reading TEXT NOT NULL);
CREATE TABLE failures (
  source TEXT NOT NULL, page INTEGER NOT NULL, failure TEXT NOT NULL, PRIMARY KEY (source, page)
);
"""


@contextlib.contextmanager
def translated(folder: Path) -> Iterator[None]:
    """The door through which errors of SQLite, of FAISS and of the disk become ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _store_error(error, folder) from error
    except OSError as error:
        raise StoreError(f"the store in {folder} cannot be used: {error}") from error


_CODES = {
    sqlite3.SQLITE_BUSY: "another process is writing to it; try again when it has finished",
    sqlite3.SQLITE_LOCKED: "another thread is writing to it; try again when it has finished",
    sqlite3.SQLITE_FULL: "the disk is full; nothing of the last step was kept",
    sqlite3.SQLITE_READONLY: "it may not be written to; check the permissions of the folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check the permissions of the folder",
    sqlite3.SQLITE_IOERR: "the disk failed; check it, then verify the store",
}


def _store_error(error: sqlite3.Error, folder: Path) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code, without its details
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreCorrupt(
            f"{folder / NAME} is damaged ({error}); restore it from a backup, or index the files "
            "again into a new folder"
        )
    return StoreError(f"the store in {folder}: {_CODES.get(code, 'SQLite refused')} ({error})")


@dataclass(frozen=True, slots=True)
class Meta:
    """What a store was made as."""

    store: str
    """Random id."""

    dim: int
    metric: str
    embedder: str


@dataclass(frozen=True, slots=True)
class Row:
    """A chunk as it is kept."""

    chunk_id: str
    doc_id: str
    source: str
    page: int
    page_count: int
    digest: bytes
    """Of the text that was embedded."""

    metadata: str
    terms: str
    record: str

    @property
    def values(self) -> tuple[str | int | bytes, ...]:
        """As in the columns of `chunks` behind `key`."""
        return (
            self.chunk_id,
            self.doc_id,
            self.source,
            self.page,
            self.page_count,
            self.digest,
            self.metadata,
            self.terms,
            self.record,
        )


def free_key(chunk_id: str, taken: Callable[[int], bool]) -> int:
    """A 63-bit key that follows from `chunk_id`, or the next one that is not `taken`."""
    key = int.from_bytes(blake2b(chunk_id.encode(), digest_size=8).digest()) >> 1
    while taken(key):
        key = (key + 1) % 2**63
    return key


class Database:
    """A connection to `store.sqlite` that all threads of a process share, one at a time.

    A forked child connects anew at its first use.
    """

    def __init__(self, folder: Path, *, new: Callable[[], Meta] | None) -> None:
        """Open the database in `folder`; `new` says what an empty one becomes."""
        self._folder = folder
        self._connection: sqlite3.Connection | None = None
        with translated(folder):
            self._connect()
            try:
                self.meta = self._checked(new)
            except BaseException:
                self.close()
                raise

    def _connect(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            self._folder / NAME,
            timeout=_WAIT,
            isolation_level=None,  # transactions begin and end where this module says so
            check_same_thread=False,
            cached_statements=256,
        )
        # One damaged letter must not keep the rest from being read; digests tell that it is one.
        self._connection.text_factory = lambda data: data.decode(errors="surrogateescape")
        self._connection.execute("PRAGMA trusted_schema = OFF")
        self._connection.execute("PRAGMA cell_size_check = ON")
        self._connection.execute("PRAGMA synchronous = FULL")
        # what is removed is overwritten: nobody should find a deleted page in the file
        self._connection.execute("PRAGMA secure_delete = ON")

    def _checked(self, new: Callable[[], Meta] | None) -> Meta:
        application, schema, tables = self._marks()
        if application == schema == tables == 0:  # nothing was ever committed to it
            if new is None:
                raise StoreNotFound(f"no store in {self._folder}; index files into it first")
            self._create(new())
            application, schema, tables = self._marks()
        if application != _APPLICATION:
            raise StoreError(
                f"{self._folder / NAME} is a database of something else; choose another folder"
            )
        if schema != SCHEMA:
            raise StoreMismatch(
                f"the store in {self._folder} has schema {schema}, and this version reads schema "
                f"{SCHEMA}; use the version that made it, or index the files again into a new "
                "folder"
            )
        found = dict(self._connected().execute("SELECT name, value FROM meta"))
        try:
            return Meta(found["store"], int(found["dim"]), found["metric"], found["embedder"])
        except (KeyError, ValueError) as error:
            raise StoreCorrupt(
                f"{self._folder / NAME} does not say what it is ({error}); restore it from a backup"
            ) from error

    def _marks(self) -> tuple[int, int, int]:
        def number(sql: str) -> int:
            value: int = self._connected().execute(sql).fetchone()[0]
            return value

        return (
            number("PRAGMA application_id"),
            number("PRAGMA user_version"),
            number("SELECT count(*) FROM sqlite_master"),
        )

    def _create(self, new: Meta) -> None:
        connection = self._connected()
        _check_fts5(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        with self.writing():
            if self._marks()[2]:  # another process was faster
                return
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [
                    ("store", new.store),
                    ("dim", new.dim),
                    ("metric", new.metric),
                    ("embedder", new.embedder),
                    ("generation", 0),
                    ("horizon", 0),
                ],
            )
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"the store in {self._folder} is closed; open it again")
        if self._process != os.getpid():
            # SQLite forbids a forked child to use or even to close its parent's connection.
            _ABANDONED.append(self._connection)
            self._connect()
        return self._connection

    def close(self) -> None:
        """Close the connection; a second time does nothing."""
        if self._connection is None:
            return
        if self._process == os.getpid():
            with self._lock, translated(self._folder):
                self._connection.close()
        else:
            _ABANDONED.append(self._connection)
        self._connection = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees the store as it is now, whatever others write meanwhile."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is committed when the block ends well, and undone otherwise."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        connection = self._connected()
        with self._lock, translated(self._folder):
            if connection.in_transaction:  # a part of a larger step
                yield connection
                return
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def number(self, sql: str, *parameters: Any) -> int:
        """The first number that `sql` gives, 0 where it gives nothing."""
        with self.reading() as connection:
            row = connection.execute(sql, parameters).fetchone()
        return int(row[0] or 0) if row else 0

    @property
    def generation(self) -> int:
        """How many times chunks were changed."""
        return self.number("SELECT value FROM meta WHERE name = 'generation'")

    @property
    def horizon(self) -> int:
        """The oldest generation from which an index can still be brought up to date."""
        return self.number("SELECT value FROM meta WHERE name = 'horizon'")

    def count(self) -> int:
        """Chunks in the store."""
        return self.number("SELECT count(*) FROM chunks")

    def present(self, ids: Iterable[str]) -> dict[str, tuple[bytes | None, str]]:
        """Digest (None without a vector) and record of those chunks of `ids` that are there."""
        with self.reading() as connection:
            rows = connection.execute(
                "SELECT chunk_id, CASE WHEN vectors.key IS NOT NULL THEN digest END, record"
                " FROM chunks LEFT JOIN vectors USING (key)"
                " WHERE chunk_id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(ids)),),
            )
            return {chunk_id: (digest, record) for chunk_id, digest, record in rows}

    def put(self, rows: Sequence[Row], vectors: dict[str, bytes]) -> None:
        """Add or replace `rows`; `vectors` by chunk_id, of those whose vector is new."""
        with self.writing() as connection:
            generation = self.advance()
            for row in rows:
                key = self._place(connection, row)
                if row.chunk_id in vectors:
                    connection.execute(
                        "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)",
                        (key, generation, vectors[row.chunk_id]),
                    )
                    connection.execute("DELETE FROM removed WHERE key = ?", (key,))

    def _place(self, connection: sqlite3.Connection, row: Row) -> int:
        found = connection.execute(
            "SELECT key, terms FROM chunks WHERE chunk_id = ?", (row.chunk_id,)
        ).fetchone()
        if found is None:
            key = free_key(row.chunk_id, lambda key: _is_taken(connection, key))
        else:
            key = found[0]
            _unindex(connection, [tuple(found)])
            connection.execute("DELETE FROM chunks WHERE key = ?", (key,))
        connection.execute(
            f"INSERT INTO chunks VALUES (?, {', '.join('?' * len(row.values))})",  # noqa: S608 - marks only
            (key, *row.values),
        )
        connection.execute("INSERT INTO words (rowid, terms) VALUES (?, ?)", (key, row.terms))
        return key

    def remove(self, condition: str, parameters: Sequence[Any]) -> int:
        """Delete the chunks for which `condition` holds; how many they were."""
        with self.writing() as connection:
            rows = connection.execute(
                f"SELECT key, terms FROM chunks WHERE {condition}",  # noqa: S608 - from filters.py
                parameters,
            ).fetchall()
            if not rows:
                return 0
            generation = self.advance()
            _unindex(connection, rows)
            keys = json.dumps([key for key, _ in rows])
            for table in ("chunks", "vectors"):
                connection.execute(
                    f"DELETE FROM {table} WHERE key IN (SELECT value FROM json_each(?))",  # noqa: S608
                    (keys,),
                )
            connection.execute(
                "INSERT OR REPLACE INTO removed SELECT value, ? FROM json_each(?)",
                (generation, keys),
            )
            return len(rows)

    def advance(self) -> int:
        """The generation that the transaction at hand makes: one more than the last."""
        with self.writing() as connection:
            connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'generation'")
            return self.generation

    def forget_removed(self, before: int) -> None:
        """Drop the list of what was removed up to generation `before`: all indexes know it."""
        with self.writing() as connection:
            connection.execute("DELETE FROM removed WHERE generation <= ?", (before,))
            connection.execute("UPDATE meta SET value = ? WHERE name = 'horizon'", (before,))


_ABANDONED: list[sqlite3.Connection] = []
"""Connections of the parent process, kept from being closed by the garbage collector."""


def new_meta(*, dim: int, embedder: str) -> Meta:
    """What a store that is made now is."""
    return Meta(uuid.uuid4().hex, dim, "cosine", embedder)


def _check_fts5(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("CREATE VIRTUAL TABLE temp.probe USING fts5 (terms, tokenize = 'ascii')")
        connection.execute("DROP TABLE temp.probe")
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"this Python's SQLite {sqlite3.sqlite_version} lacks FTS5 ({error}); use a Python "
            "whose sqlite3 module has it, such as that of python.org or conda-forge"
        ) from error


def _is_taken(connection: sqlite3.Connection, key: int) -> bool:
    return connection.execute("SELECT 1 FROM chunks WHERE key = ?", (key,)).fetchone() is not None


def _unindex(connection: sqlite3.Connection, rows: Iterable[tuple[int, str]]) -> None:
    # FTS5 over an outside table is told what the words were (sqlite.org/fts5.html, 4.4.3).
    connection.executemany(
        "INSERT INTO words (words, rowid, terms) VALUES ('delete', ?, ?)", list(rows)
    )
