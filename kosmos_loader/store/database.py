"""`store.sqlite`: entries, vectors, words, readings and failures. The truth of a store.

Tables: `meta` (what the store is), `entries` (record, metadata and words of each chunk or other
entry), `vectors`, `words` (FTS5 over `entries.terms`; `postings` is what is inside), `facets` (FTS5
over `entries.metadata`, for filters), `removed` (keys that an older index may still hold),
`readings`, `failures`, `files` and `pages` (the journal of what was read of which file); the view
`documents` counts. Every change of entries raises `generation` by one in the same transaction, so
that an index knows whether it is behind, and `removed` and `vectors.generation` say by what.

An entry keeps its key as long as it is there, and no key is given twice: keys are counted up to
2**63 - 1, which also lays down what is added together side by side.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.errors import StoreCorrupt, StoreError, StoreMismatch, StoreNotFound
from kosmos_loader.store.facets import FACETS, facets
from kosmos_loader.store.filters import LOWER
from kosmos_loader.store.forking import GATE

log = logging.getLogger("kosmos_loader")

NAME = "store.sqlite"
SCHEMA = 4
"""Version of the tables below."""

_APPLICATION = 0x4B4F534D
"""`PRAGMA application_id`: "KOSM" marks the file as ours."""

_WAIT = 10.0
"""Seconds to wait for another process to finish its transaction."""

_PAGE = 16384
"""Bytes of a page of the file: ten vectors of 384 numbers, three of 1024."""

_CACHE = 4 * 1024
"""KiB of pages that a connection may keep in memory: the system caches the file all the same, and
memory is not to grow with what a store holds. With 256 MB nothing was faster."""

_HASH = 16 * 1024 * 1024
"""Bytes of words that FTS5 gathers in memory before it writes them out (sqlite.org/fts5.html)."""

_CHECKPOINT = 4096
"""Pages (64 MB) after which what was committed is moved from the log into the file."""

# The words are folded and separated before they come here, so the plain ASCII tokenizer, which
# splits at spaces and keeps every other script whole, reads them alike in every SQLite version.
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (
  key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, doc_id TEXT NOT NULL, source TEXT NOT NULL,
  page_count INTEGER NOT NULL, aside INTEGER NOT NULL, digest BLOB NOT NULL, seal BLOB NOT NULL,
  metadata TEXT NOT NULL, terms TEXT NOT NULL, record TEXT NOT NULL
);
CREATE INDEX entries_by_source ON entries (source, page_count);
CREATE INDEX entries_by_document ON entries (doc_id);
CREATE INDEX entries_aside ON entries (aside) WHERE aside = 1;
CREATE TABLE vectors (
  key INTEGER PRIMARY KEY, generation INTEGER NOT NULL, crc INTEGER NOT NULL, vector BLOB NOT NULL
);
CREATE INDEX vectors_by_generation ON vectors (generation);
CREATE TABLE removed (key INTEGER PRIMARY KEY, generation INTEGER NOT NULL);
CREATE VIRTUAL TABLE words USING fts5 (
  terms, content = 'entries', content_rowid = 'key', tokenize = 'ascii'
);
CREATE VIRTUAL TABLE postings USING fts5vocab (words, 'instance');
CREATE VIRTUAL TABLE facets USING fts5 (
  pairs, content = '', detail = 'none', columnsize = 0, tokenize = 'ascii'
);
CREATE VIRTUAL TABLE facet_counts USING fts5vocab (facets, 'row');
CREATE VIEW documents AS
  SELECT source, doc_id, max(page_count) AS pages, count(*) AS entries
  FROM entries GROUP BY source, doc_id;
CREATE TABLE readings (key TEXT PRIMARY KEY, reading TEXT NOT NULL);
CREATE TABLE failures (
  source TEXT NOT NULL, page INTEGER NOT NULL, failure TEXT NOT NULL, key TEXT NOT NULL,
  time REAL NOT NULL, PRIMARY KEY (source, page)
);
CREATE TABLE files (
  source TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime INTEGER NOT NULL, digest TEXT NOT NULL,
  reader TEXT NOT NULL, made TEXT NOT NULL, chunks INTEGER NOT NULL
);
CREATE TABLE pages (
  source TEXT NOT NULL, page INTEGER NOT NULL, key TEXT NOT NULL, flags TEXT NOT NULL,
  info TEXT NOT NULL, PRIMARY KEY (source, page)
) WITHOUT ROWID;
"""


@contextlib.contextmanager
def translated(folder: Path) -> Iterator[None]:
    """The door through which errors of SQLite, of FAISS and of the disk become ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _store_error(error, folder) from error
    except UnicodeError as error:  # SQLite's message quotes what is damaged
        raise StoreCorrupt(_DAMAGED.format(path=folder / NAME, error=error)) from error
    except OSError as error:
        raise StoreError(f"the store in {folder} cannot be used: {error}") from error


_DAMAGED = (
    "{path} is damaged ({error}); restore it from a backup, or index the files again into a new "
    "folder"
)
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
        return StoreCorrupt(_DAMAGED.format(path=folder / NAME, error=error))
    return StoreError(f"the store in {folder}: {_CODES.get(code, 'SQLite refused')} ({error})")


@dataclass(frozen=True, slots=True)
class Meta:
    """What a store was made as."""

    store: str
    """Random id."""

    dim: int
    metric: str
    embedder: str


class Row(NamedTuple):
    """An entry as it is kept: the columns of `entries` behind `key`."""

    id: str
    doc_id: str
    source: str
    page_count: int
    aside: int
    """1 where the metadata say another id, doc_id or source than these columns."""

    digest: bytes
    """Of the text that was embedded."""

    seal: bytes
    """Digest of all that is kept of the entry."""

    metadata: str
    """JSON, as filters see it."""

    terms: str
    record: str
    """JSON: the chunk, or what the other columns do not say of the entry."""

    @property
    def kept(self) -> Kept:
        """What the entry is made from again."""
        return Kept(self.id, self.doc_id, self.source, self.metadata, self.record)


class Kept(NamedTuple):
    """What an entry is made from again."""

    id: str
    doc_id: str
    source: str
    metadata: str
    record: str


class Present(NamedTuple):
    """An entry that is there already."""

    row: Row
    vector: bytes | None

    def lacks_vector_of(self, row: Row) -> bool:
        """Whether what `row` would embed is not what the vector was made of."""
        return self.vector is None or self.row.digest != row.digest


_ROW = ", ".join(f"entries.{name}" for name in Row._fields)
_KEPT = ", ".join(Kept._fields)


class Database:
    """A connection to `store.sqlite` that all threads of a process share, one at a time.

    A forked child connects anew at its first use.
    """

    def __init__(self, folder: Path, *, new: Callable[[], Meta] | None) -> None:
        """Open the database in `folder`; `new` says what an empty one becomes."""
        self._folder = folder
        self._connection: sqlite3.Connection | None = None
        self._process, self._lock = os.getpid(), threading.RLock()
        self.read_only = False
        """Whether nothing can be written where the store is."""

        with translated(folder), GATE.passed():
            self._connect()
            try:
                self.meta = self._checked(new)
                self._bound_cache()
            except BaseException:
                self.close()
                raise

    def _connect(self) -> None:
        if self._process != os.getpid():
            self._process, self._lock = os.getpid(), threading.RLock()
        self._connection = self._opened()
        # One damaged letter must not keep the rest from being read; digests tell that it is one.
        self._connection.text_factory = lambda data: data.decode(errors="surrogateescape")
        self._connection.create_function(LOWER, 1, str.lower, deterministic=True)
        self._connection.create_function(FACETS, 1, facets, deterministic=True)
        self._connection.execute("PRAGMA trusted_schema = OFF")
        self._connection.execute("PRAGMA cell_size_check = ON")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
        # what is removed is overwritten: nobody should find a deleted page in the file
        self._connection.execute("PRAGMA secure_delete = ON")

    def _opened(self) -> sqlite3.Connection:
        """A connection; where nothing can be written, one that only reads."""
        path = self._folder / NAME
        self._unchanging: tuple[int, ...] | None = None
        self.read_only = path.exists() and not all(
            os.access(each, os.W_OK) for each in (self._folder, path)
        )
        if not self.read_only:
            return _connection(str(path))
        uri = path.absolute().as_uri()
        if self._beside("-shm").exists():  # somebody who may write may be writing
            with contextlib.suppress(sqlite3.OperationalError):
                return _reading(f"{uri}?mode=ro")
        if _size(self._beside("-wal")):
            raise StoreError(
                f"the store in {self._folder} was not closed, and what was added last lies in "
                f"{NAME}-wal, which cannot be taken over where nothing may be written; copy the "
                "folder to where it can be, and open and close it there once"
            )
        # SQLite would make files beside a database in WAL mode also to read it.
        self._unchanging = self._state()
        return _reading(f"{uri}?immutable=1")

    def _beside(self, ending: str) -> Path:
        return self._folder / f"{NAME}{ending}"

    def _state(self) -> tuple[int, ...]:
        """What differs once somebody else writes to the database."""
        found = (self._folder / NAME).stat()
        return found.st_mtime_ns, found.st_size, found.st_ino, _size(self._beside("-wal"))

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
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute("PRAGMA journal_mode = WAL")
        with self.writing():
            if self._marks()[2]:  # another process was faster
                return
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)
            for table in ("words", "facets"):
                connection.execute(
                    f"INSERT INTO {table} ({table}, rank) VALUES ('hashsize', ?)",  # noqa: S608 - two names
                    (_HASH,),
                )
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [
                    ("store", new.store),
                    ("dim", new.dim),
                    ("metric", new.metric),
                    ("embedder", new.embedder),
                    ("generation", 0),
                    ("horizon", 0),
                    ("last_key", 0),
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
            with GATE.passed():
                self._connect()
                self._bound_cache()
        return self._connection

    def _look_again(self) -> None:
        """Connect anew where the file was taken for one that nobody changes, and somebody did."""
        connection = self._connected()
        if self._unchanging is None or connection.in_transaction:
            return
        if self._unchanging == self._state():
            return
        connection.close()
        self._connect()
        self._bound_cache()

    def _bound_cache(self) -> None:
        # SQLite counts the cache in pages of the file, whose size it knows once it has looked into
        # it: until then it takes 4 KB for one, and would keep four times as much.
        connection = self._connected()
        connection.execute("PRAGMA schema_version").fetchone()
        connection.execute(f"PRAGMA cache_size = -{_CACHE}")

    def close(self) -> None:
        """Close the connection; a second time does nothing."""
        if self._connection is None:
            return
        if self._process == os.getpid():
            with self._lock, GATE.passed(), translated(self._folder):
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
        self._connected()  # in a forked child, makes the lock anew
        with self._lock, GATE.passed(), translated(self._folder):
            self._look_again()
            connection = self._connected()
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
        try:
            return int(row[0] or 0) if row else 0
        except ValueError as error:
            raise StoreCorrupt(
                f"{self._folder / NAME} is damaged (it says {row[0]!r:.80} where a number should "
                "be); rebuild the store"
            ) from error

    @property
    def generation(self) -> int:
        """How many times entries were changed."""
        return self.number("SELECT value FROM meta WHERE name = 'generation'")

    @property
    def horizon(self) -> int:
        """The oldest generation from which an index can still be brought up to date."""
        return self.number("SELECT value FROM meta WHERE name = 'horizon'")

    def count(self) -> int:
        """Entries in the store."""
        return self.number("SELECT count(*) FROM entries")

    def present(self, ids: Iterable[str]) -> dict[str, Present]:
        """Those of `ids` that are there."""
        with self.reading() as connection:
            rows = connection.execute(
                f"SELECT {_ROW}, vector FROM entries LEFT JOIN vectors USING (key)"  # noqa: S608 - names only
                " WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(ids)),),
            )
            return {row[0]: Present(Row(*row[:-1]), row[-1]) for row in rows}

    def kept(self, *, keys: Sequence[int] = (), ids: Sequence[str] = ()) -> dict[Any, Kept]:
        """Those entries of `keys`, or of `ids`, that are there, each under what named it."""
        column, values = ("key", keys) if keys else ("id", ids)
        with self.reading() as connection:
            rows = connection.execute(
                f"SELECT {column}, {_KEPT} FROM entries"  # noqa: S608 - names only
                f" WHERE {column} IN (SELECT value FROM json_each(?))",
                (json.dumps(list(values)),),
            )
            return {row[0]: Kept(*row[1:]) for row in rows}

    def vectors(
        self, *, keys: Sequence[int] = (), ids: Sequence[str] = ()
    ) -> dict[Any, NDArray[np.float32]]:
        """The vectors of those entries of `keys`, or of `ids`, that have one."""
        column, values = ("key", keys) if keys else ("id", ids)
        with self.reading() as connection:
            rows = connection.execute(
                f"SELECT {column}, vector FROM vectors JOIN entries USING (key)"  # noqa: S608 - names only
                f" WHERE {column} IN (SELECT value FROM json_each(?))",
                (json.dumps(list(values)),),
            )
            return {
                name: np.frombuffer(vector, "<f4")
                for name, vector in rows
                if isinstance(vector, bytes) and len(vector) == 4 * self.meta.dim
            }

    def put(self, rows: Sequence[Row], vectors: Mapping[str, bytes]) -> None:
        """Add or replace `rows`, each id once; `vectors` by id, of those whose vector is new."""
        with self.writing() as connection:
            generation = self.advance()
            keys = dict(
                connection.execute(
                    "SELECT id, key FROM entries WHERE id IN (SELECT value FROM json_each(?))",
                    (json.dumps([row.id for row in rows]),),
                ).fetchall()
            )
            _unindex(connection, list(keys.values()))
            # Deleting first costs a third of INSERT OR REPLACE, which reads where it would write.
            _delete(connection, "entries", list(keys.values()))
            _delete(connection, "vectors", [key for name, key in keys.items() if name in vectors])
            last = self._claim(len(rows) - len(keys))
            for row in rows:
                if row.id not in keys:
                    keys[row.id] = last = last + 1
            # FTS5 gathers words in memory as long as keys ascend.
            keyed = sorted((keys[row.id], row) for row in rows)
            connection.executemany(
                f"INSERT INTO entries VALUES (?{', ?' * len(Row._fields)})",  # noqa: S608 - marks only
                ((key, *row) for key, row in keyed),
            )
            connection.executemany(
                "INSERT INTO words (rowid, terms) VALUES (?, ?)",
                ((key, row.terms) for key, row in keyed),
            )
            connection.executemany(
                "INSERT INTO facets (rowid, pairs) VALUES (?, ?)",
                ((key, facets(row.metadata)) for key, row in keyed),
            )
            new = ((key, vectors[row.id]) for key, row in keyed if row.id in vectors)
            connection.executemany(
                "INSERT INTO vectors VALUES (?, ?, ?, ?)",
                ((key, generation, zlib.crc32(vector), vector) for key, vector in new),
            )

    def _claim(self, count: int) -> int:
        """Take `count` keys that nothing ever had; the one before the first of them."""
        with self.writing() as connection:
            last = self.number("SELECT value FROM meta WHERE name = 'last_key'")
            connection.execute(
                "UPDATE meta SET value = value + ? WHERE name = 'last_key'", (count,)
            )
            return last

    def remove(self, condition: str, parameters: Sequence[Any]) -> int:
        """Delete the entries for which `condition` holds; how many they were."""
        with self.writing() as connection:
            rows = connection.execute(
                f"SELECT key FROM entries WHERE {condition}",  # noqa: S608 - from filters.py
                parameters,
            ).fetchall()
            if not rows:
                return 0
            generation = self.advance()
            keys = [key for (key,) in rows]
            _unindex(connection, keys)
            _delete(connection, "entries", keys)
            _delete(connection, "vectors", keys)
            connection.execute(
                "INSERT OR REPLACE INTO removed SELECT value, ? FROM json_each(?)",
                (generation, json.dumps(keys)),
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


def _connection(path: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(
        path,
        timeout=_WAIT,
        isolation_level=None,  # transactions begin and end where this module says so
        check_same_thread=False,
        cached_statements=256,
        uri=uri,
    )


def _reading(uri: str) -> sqlite3.Connection:
    connection = _connection(uri, uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


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


def _delete(connection: sqlite3.Connection, table: str, keys: Sequence[int]) -> None:
    connection.execute(
        f"DELETE FROM {table} WHERE key IN (SELECT value FROM json_each(?))",  # noqa: S608 - two names
        (json.dumps(keys),),
    )


def _unindex(connection: sqlite3.Connection, keys: Sequence[int]) -> None:
    # FTS5 over an outside table is told what the words were (sqlite.org/fts5.html, 4.4.3).
    for table, words in (("words (words, rowid, terms)", "terms"), _FACETS):
        connection.execute(
            f"INSERT INTO {table} SELECT 'delete', key, {words} FROM entries"  # noqa: S608 - two tables
            " WHERE key IN (SELECT value FROM json_each(?))",
            (json.dumps(keys),),
        )


_FACETS = ("facets (facets, rowid, pairs)", f"{FACETS}(metadata)")


def index_facets(connection: sqlite3.Connection) -> None:
    """Make the index of metadata anew."""
    connection.execute("INSERT INTO facets (facets) VALUES ('delete-all')")
    connection.execute(
        f"INSERT INTO facets (rowid, pairs) SELECT key, {FACETS}(metadata) FROM entries"  # noqa: S608 - a name
    )
