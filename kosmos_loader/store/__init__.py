"""A folder of texts that can be searched: SQLite holds the truth, FAISS and FTS5 find it.

```
folder/
  manifest.json   what the store is, and the digest of index.faiss
  store.sqlite    chunks and other entries, vectors, words, readings, failures, journal (WAL)
  index.faiss     a cache of the vectors, checked before use, made anew where it is missing or wrong
  lock            held by the one process that writes
```
What is kept are chunks (`add`, `search`, `get`) and entries: any text with metadata under an id
(`put`, `find`, `entries`). Both live in one store, and each can be asked for as the other.

Nothing in it is pickled. A change is committed to SQLite first; the index is written beside its
file and moved into place when the store is closed, the manifest last. What a killed process
committed is there when the store is opened again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.checks import check_whole
from kosmos_loader.document import Chunk, Failure, Hit, Reading
from kosmos_loader.durable import sweep
from kosmos_loader.embedding import Embeddings, HashEmbedder, Vector, Vectors, name_of
from kosmos_loader.errors import (
    StoreCorrupt,
    StoreError,
    StoreMismatch,
    StoreNotFound,
    UsageError,
)
from kosmos_loader.sources import absolute
from kosmos_loader.store import audit, database, index, manifest
from kosmos_loader.store.database import Database, Kept, translated
from kosmos_loader.store.entries import Entry, Found
from kosmos_loader.store.filters import Condition, among, condition, encodable
from kosmos_loader.store.index import VectorIndex
from kosmos_loader.store.journal import FileState, Journal, KnownPage, LastRun, reading_of
from kosmos_loader.store.neighbours import keys_around
from kosmos_loader.store.opening import LOCK, check_embedder, fitting, maker, store_is_in
from kosmos_loader.store.rows import (
    chunk_of,
    entry_of,
    id_of,
    item_of,
    json_of,
    row_of,
    unit_vectors,
)
from kosmos_loader.store.search import DEPTH, Ranking, both, dense, diverse, fused, lexical
from kosmos_loader.store.writer import WriterLock

__all__ = [
    "Entry",
    "FailedPage",
    "FileState",
    "Found",
    "KnownPage",
    "LastRun",
    "LedgerEntry",
    "Mode",
    "SourceSummary",
    "Store",
]

log = logging.getLogger("kosmos_loader")

Mode = Literal["hybrid", "dense", "lexical"]
MODES = get_args(Mode)

BATCH = 128
"""Entries that are embedded and committed together."""

_GIVEN_BATCH = 8192
"""Entries with vectors that are committed together: 12 MB of vectors of 384 numbers."""


class SourceSummary(NamedTuple):
    """One file in the store."""

    source: str
    pages: int
    """Pages of the file, whether or not there is a chunk on each."""

    chunks: int


class FailedPage(NamedTuple):
    """One entry of the error ledger."""

    source: str
    page: int
    """From 1; 0 stands for the file as a whole."""

    failure: Failure


class LedgerEntry(NamedTuple):
    """A `FailedPage`, when it failed and what of."""

    source: str
    page: int
    failure: Failure
    time: float
    """Seconds since 1970."""

    key: str
    """Where its reading would be kept; empty for a page without a picture."""


class Store:
    """Chunks and entries in a folder, to be added, searched and deleted. Made by `Store.open`.

    Many threads and processes may read; one may write, from its first write until it closes or
    drops the store, and others get a `StoreError` that names it. A search sees every change
    committed before it, whoever made it. Threads may share a store; they take turns. A forked child
    may go on using its parent's store to read; a fork waits, 5 seconds at most, until no other
    thread is inside SQLite.

    Errors of SQLite, FAISS and the disk come as `StoreError` or `StoreCorrupt`.
    """

    def __init__(self, folder: Path, base: Database, embedder: Embeddings | None) -> None:
        self._folder = folder
        self._database = base
        self._embedder = embedder
        self._index = VectorIndex(folder, base)
        self._writer = WriterLock(folder / LOCK)
        self._closed = False
        self._described = False
        self._drop: Callable[[], object] | None = None

    @classmethod
    def open(
        cls, folder: str | Path, *, embedder: Embeddings | None = None, create: bool = True
    ) -> Self:
        """The store in `folder`, made there if there is none and `create` is true.

        Without an `embedder`, a new store gets `HashEmbedder()`, and a store made with another
        embedder is opened all the same: it lists, deletes and searches by words, and asks for its
        embedder where it needs it. One on a disk or in a folder that cannot be written to can be
        read and searched. Raises `StoreNotFound` where there is none, `StoreMismatch`
        where it was made with another embedder, dimension or schema, `StoreCorrupt` where its
        database is damaged, and `StoreError` where the folder holds something else.
        """
        if not isinstance(folder, str | os.PathLike):
            raise UsageError(f"{folder!r:.80} is no path; give the folder of the store")
        path = absolute(folder)  # the process may go to another folder
        if embedder is not None:
            check_embedder(embedder)
        with translated(path):
            exists = store_is_in(path, alone=create)
            if not exists and not create:
                raise StoreNotFound(
                    f"no store in {path}; make one with: kosmos-loader index FILES --store {path}"
                )
            path.mkdir(parents=True, exist_ok=True)
        chosen = HashEmbedder() if embedder is None else embedder
        base = Database(path, new=maker(chosen) if create else None)
        try:
            store = cls(path, base, fitting(embedder, base.meta, path))
            store._describe()
        except BaseException:
            base.close()
            raise
        return store

    @classmethod
    def temporary(cls, *, embedder: Embeddings | None = None) -> Self:
        """A new store in a folder of its own that goes when it is closed or garbage collected."""
        if embedder is not None:
            check_embedder(embedder)
        folder = Path(tempfile.mkdtemp(prefix="kosmos-loader-"))
        try:
            base = Database(folder, new=maker(HashEmbedder() if embedder is None else embedder))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        store = cls(folder, base, fitting(embedder, base.meta, folder))
        store._describe()
        store._drop = weakref.finalize(store, _drop, folder, base, os.getpid())
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is not on disk yet and let others write; a second time does nothing."""
        if self._closed:
            return
        try:
            if self._drop is None:
                self._leave()
        except StoreError as error:
            # All of it is in SQLite; the next one to open the store makes the index again.
            log.warning("%s was not written: %s", self._folder / index.NAME, error)
        finally:
            self._closed = True
            self._index.abandon()
            self._writer.release()
            self._database.close()
            if self._drop is not None:
                self._drop()

    def _leave(self) -> None:
        """Save what the next one to open the store would have to make again."""
        if self._writer.held:
            self._index.settle()
        behind = self._writer.held and self._is_behind()
        if not behind and (self._index.saved or not self._index.loaded):
            return
        with self._borrowing() as mine:
            if not mine:
                return
            found = manifest.read(self._folder)
            if found is not None and self._index.may_wait(found.index):
                self._manifest(found.index).write(self._folder)
            elif not self._save_unloaded():
                self._save()

    def _is_behind(self) -> bool:
        found = manifest.read(self._folder)
        if found is None or found.index is None:
            return self._database.generation > 0
        return found.index.generation != self._database.generation

    @property
    def folder(self) -> Path:
        """Where the store is."""
        return self._folder

    @property
    def is_temporary(self) -> bool:
        """Whether the folder goes with the store."""
        return self._drop is not None

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, and has to be opened again."""
        return self._closed

    @property
    def embedder(self) -> Embeddings | None:
        """What embeds here; None for a store that was opened without the one it was made with."""
        return self._embedder

    @property
    def embedder_name(self) -> str:
        """The name of the embedder that the store was made with."""
        return self._database.meta.embedder

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._database.meta.dim

    @property
    def journal(self) -> Journal:
        """What was read of which file."""
        # Made anew: kept, it would keep the store alive that nobody else holds any more.
        return Journal(self._database.reading, self._committing)

    def __len__(self) -> int:
        return self._database.count()

    # Adding and deleting

    def add(self, chunks: Iterable[Chunk]) -> int:
        """Add `chunks`, or replace those whose `chunk_id` is there; how many were new or changed.

        Chunks are taken, embedded and committed 128 at a time, so a failure loses none that came
        before its batch. A chunk whose embedded text has not changed is not embedded again.
        """
        return self._add(chunks)

    def put(
        self,
        entries: Iterable[Entry],
        *,
        vectors: Iterable[Vector] | None = None,
    ) -> int:
        """Add `entries`, or replace what has their ids; how many were new or changed.

        With `vectors`, one for each entry ([entries, dim]; an array or anything that can be gone
        through), nothing is embedded, and entries are committed 8192 at a time; without, as in
        `add`. Vectors are kept at length 1. Raises `UsageError` for metadata that are no JSON and
        where there are more or fewer vectors than entries, `StoreMismatch` for vectors of another
        length than the store's; the batches before are kept.
        """
        if vectors is None:
            return self._add(entries)
        changed, left, given = 0, iter(entries), iter(vectors)
        while batch := list(islice(left, _GIVEN_BATCH)):
            rows = list(islice(given, len(batch)))
            if len(rows) < len(batch):
                raise UsageError("there are fewer vectors than entries; give one for each")
            changed += self._keep(batch, self._units(rows, len(batch), "the caller gave"))
        if next(given, None) is not None:
            raise UsageError("there are more vectors than entries; give one for each")
        return changed

    def _add(self, items: Iterable[Chunk | Entry]) -> int:
        changed, left = 0, iter(items)
        while batch := list(islice(left, BATCH)):
            changed += self._keep(batch)
        return changed

    def _keep(self, items: Sequence[Chunk | Entry], given: Sequence[bytes] | None = None) -> int:
        """Commit `items` with the vectors `given`, or with those of the embedder."""
        if given is None:
            self._needed_embedder()
        places = {id_of(item): place for place, item in enumerate(items)}
        rows = {name: row_of(items[place]) for name, place in places.items()}
        with self._writing():
            known = self._database.present(rows)
            if given is None:
                vectors = self._embedded(
                    {
                        name: items[places[name]].embedded_text
                        for name, row in rows.items()
                        if name not in known or known[name].lacks_vector_of(row)
                    }
                )
            else:
                vectors = {
                    name: given[place]
                    for name, place in places.items()
                    if name not in known or known[name].vector != given[place]
                }
            changed = [
                row for name, row in rows.items() if name in vectors or known[name].row != row
            ]
            if changed:
                self._database.put(changed, vectors)
                self._index.tend(len(vectors))
            return len(changed)

    def _embedded(self, texts: Mapping[str, str]) -> dict[str, bytes]:
        if not texts:
            return {}
        embedder = self._needed_embedder()
        vectors = embedder.embed_documents(list(texts.values()))
        units = self._units(vectors, len(texts), f"{name_of(embedder)} returned")
        return dict(zip(texts, units, strict=True))

    def _units(self, vectors: Vectors | Sequence[Vector], count: int, whose: str) -> list[bytes]:
        units = unit_vectors(vectors, count=count, dim=self.dim, whose=whose)
        return [unit.tobytes() for unit in units.astype("<f4")]

    def delete(
        self,
        ids: Iterable[str] | str | None = None,
        *,
        source: str | None = None,
        doc_id: str | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the name users know
    ) -> int:
        """Delete the chunks that one of these selects; how many there were.

        Ids that are not there are passed over. `UsageError` unless exactly one is given, and for an
        empty filter: `clear` deletes everything.
        """
        if isinstance(ids, str):
            ids = [ids]
        by_filter = None if filter is None else condition(filter)
        if by_filter is not None and not by_filter[1]:  # it compares with nothing
            raise UsageError(
                f"{filter!r:.80} asks nothing of an entry; call clear() to delete everything"
            )
        given: list[Condition | None] = [
            None if ids is None else among("id", map(encodable, ids)),
            None if source is None else among("source", [encodable(source)]),
            None if doc_id is None else among("doc_id", [encodable(doc_id)]),
            by_filter,
        ]
        chosen = [where for where in given if where is not None]
        if len(chosen) != 1:
            raise UsageError("delete by exactly one of ids, source, doc_id and filter")
        with self._writing():
            return self._database.remove(*chosen[0])

    def clear(self) -> int:
        """Delete all chunks (readings and failures stay); how many there were."""
        with self._writing():
            return self._database.remove("1", [])

    # Finding

    def search(
        self,
        query: str,
        k: int = 5,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the name users know
        *,
        mode: Mode = "hybrid",
    ) -> list[Hit]:
        """The `k` chunks that answer `query` best, best first; fewer where there are fewer.

        `filter` (see `filters.py`) is resolved before the search, so that `k` chunks come back
        whenever so many pass it. Scores lie in 0..1:

        - "hybrid": both searches below joined by reciprocal rank fusion (Cormack et al. 2009,
          k = 60), over the most there is: 1.0 is first in both. The dense ranks count
          `embedder.rank_weight` times (0.1 for `HashEmbedder`, 1 for others).
        - "dense": the cosine of the vectors, 0 where it is negative.
        - "lexical": BM25 with near matches (see `lexical.py`), over the most that the question can
          reach. Only chunks that share a word with it are found.
        """
        if query is None:
            raise UsageError("a query is text; find(vector=...) searches by a vector alone")
        found = self._search(query, k, filter, mode, None)
        return [Hit(chunk_of(kept), score) for kept, score in found]

    def find(
        self,
        query: str | None = None,
        k: int = 5,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the name users know
        *,
        mode: Mode = "hybrid",
        vector: Vector | None = None,
        alpha: float = 0.5,
    ) -> list[Found]:
        """The `k` entries that answer `query` best, as `search` finds them; chunks among them.

        With `vector` [dim] the embedder is not asked: it is the question's. Given alone, it is
        searched for in mode "dense", whatever `mode` says but "lexical".

        `alpha`, 0..1, is what vectors count in a hybrid search against words: dense ranks count
        2 * alpha times what they do in `search`, and ranks by words 2 * (1 - alpha) times.
        """
        _check_share(alpha, "alpha")
        return [
            Found(entry_of(kept), score)
            for kept, score in self._search(query, k, filter, mode, vector, alpha)
        ]

    def find_diverse(
        self,
        query: str | None = None,
        k: int = 5,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the name users know
        *,
        pool: int = 20,
        balance: float = 0.5,
        vector: Vector | None = None,
    ) -> list[Found]:
        """`k` of the `pool` nearest entries that are near the question and unlike each other.

        Chosen by maximal marginal relevance (Carbonell and Goldstein 1998), in its order; scores
        are cosines with the question, 0 where they are negative. A `balance` of 1 looks at
        nearness alone, 0 at unlikeness alone.
        """
        _check_share(balance, "balance")
        _check_count(k, "k")
        _check_count(pool, "pool")
        question = self._question(query, vector)
        where = _where(filter)
        with self._database.reading():
            wanted = min(max(k, pool), len(self))
            near = dense(self._database, self._index, question, wanted, where) if wanted else []
            vectors = self._database.vectors(keys=[key for key, _ in near])
            ranking = diverse(question, near, vectors, k, balance)
            return [Found(entry_of(kept), score) for kept, score in self._kept(ranking)]

    def _search(
        self,
        query: str | None,
        k: int,
        filter: Mapping[str, Any] | None,  # noqa: A002 - as above
        mode: Mode,
        vector: Vector | None,
        alpha: float = 0.5,
    ) -> list[tuple[Kept, float]]:
        _check_count(k, "k")
        if not isinstance(query, str | None):
            raise UsageError(f"a query is text, not {type(query).__name__}")
        if mode not in MODES:
            raise UsageError(f"no search mode is called {mode!r}; choose one of {', '.join(MODES)}")
        if mode == "lexical" and query is None:
            raise UsageError('mode="lexical" searches for the words of a query; give one')
        where = _where(filter)
        if not (k := min(k, len(self))):
            return []
        # An embedder may be a server far away: it is asked before the store is held.
        question = None if mode == "lexical" else self._question(query, vector)
        with self._database.reading():
            ranking = self._ranking("" if mode == "dense" else query, question, k, where, alpha)
            return self._kept(ranking[:k])

    def _ranking(
        self,
        query: str | None,
        vector: NDArray[np.float32] | None,
        k: int,
        where: Condition | None,
        alpha: float,
    ) -> Ranking:
        """By words where there is a query, by vector where there is one, or by both."""
        deep = max(k, DEPTH)
        if vector is None:
            return lexical(self._database, self._index, query or "", deep, where)
        if not query:
            return dense(self._database, self._index, vector, k, where)
        named_alike, near = both(self._database, self._index, query, vector, deep, where)
        weight = float(getattr(self._embedder, "rank_weight", 1.0))
        return fused((2 * (1 - alpha), named_alike), (2 * alpha * weight, near))

    def _question(self, query: str | None, vector: Vector | None) -> NDArray[np.float32]:
        """The unit vector [dim] to search for."""
        if vector is not None:
            units = unit_vectors([vector], count=1, dim=self.dim, whose="the caller gave")
        elif isinstance(query, str):
            embedder = self._needed_embedder()
            said = f"{name_of(embedder)} returned"
            units = unit_vectors([embedder.embed_query(query)], count=1, dim=self.dim, whose=said)
        else:
            raise UsageError("there is nothing to search for; give a query or a vector")
        return units.reshape(self.dim)

    def _kept(self, ranking: Ranking) -> list[tuple[Kept, float]]:
        kept = self._database.kept(keys=[key for key, _ in ranking])
        return [(kept[key], score) for key, score in ranking if key in kept]

    def get(self, ids: Iterable[str]) -> list[Chunk]:
        """The chunks with these ids, in the order asked for, without those that are not there.

        Other entries come as the chunks that their metadata describe (`Chunk.from_metadata`).
        """
        return [chunk_of(kept) for kept in self._named(ids)]

    def entries(self, ids: Iterable[str]) -> list[Entry]:
        """The entries with these ids, in the order asked for, without those that are not there.

        A chunk comes as an entry with the metadata of `Chunk.metadata()`.
        """
        return [entry_of(kept) for kept in self._named(ids)]

    def around(self, name: str, *, before: int = 1, after: int = 1) -> list[Entry]:
        """The entry with id `name` between so many before and after it in its document.

        In reading order: by page, and by order on the page; entries that do not say (`page`,
        `order` in their metadata) as they were added. Without a `doc_id` those of its `source`
        count. Empty where there is no such id.
        """
        _check_count(before, "before")
        _check_count(after, "after")
        with self._database.reading() as connection:
            keys = keys_around(connection, encodable(name), before, after)
            kept = self._database.kept(keys=keys)
        return [entry_of(kept[key]) for key in keys if key in kept]

    def _named(self, ids: Iterable[str]) -> list[Kept]:
        wanted = [encodable(name) for name in ([ids] if isinstance(ids, str) else ids)]
        kept = self._database.kept(ids=wanted)
        return [kept[name] for name in wanted if name in kept]

    def vectors(self, ids: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors [dim] of those of these ids that are there, of length 1 as they are kept."""
        wanted = {encodable(name): name for name in ([ids] if isinstance(ids, str) else ids)}
        vectors = self._database.vectors(ids=list(wanted))
        return {name: vectors[key] for key, name in wanted.items() if key in vectors}

    def ids(
        self,
        source: str | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the name users know
    ) -> set[str]:
        """The ids of all chunks and entries, of those of one source, or that a filter lets pass."""
        where = condition(filter or {})
        if source is not None:
            own, names = among("source", [encodable(source)])
            where = f"{own} AND {where[0]}", [*names, *where[1]]
        with self._database.reading() as connection:
            rows = connection.execute(f"SELECT id FROM entries WHERE {where[0]}", where[1])  # noqa: S608 - from filters.py
            return {entry_id for (entry_id,) in rows}

    def sources(self) -> list[SourceSummary]:
        """What the store holds of each file, by name."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT source, max(page_count), count(*) FROM entries"
                " WHERE source <> '' GROUP BY source"
            )
            return [SourceSummary(*row) for row in rows]

    # Readings and failures

    def keep_reading(self, key: str, reading: Reading) -> None:
        """Keep what a reader saw under `key`: page digest, reader, version and options in one."""
        text = json_of(reading.to_dict())
        with self._committing() as connection:
            connection.execute("INSERT OR REPLACE INTO readings VALUES (?, ?)", (key, text))

    def kept_reading(self, key: str) -> Reading | None:
        """The reading kept under `key`; None where there is none that this version can read."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT reading FROM readings WHERE key = ?", (key,)
            ).fetchone()
        if row is None:
            return None
        try:
            return reading_of(row[0])
        except StoreCorrupt as error:
            log.warning("reading a page again: %s", error)
            return None

    def forget_readings(self, source: str) -> int:
        """Drop the readings of the pages of `source`; how many there were.

        These are the ones kept while reading it and, where it was indexed under another name before
        or shares pages with another file, those that it was spared. A file that shares pages with
        it is read again when it is next indexed.
        """
        name = encodable(source)
        with self._committing() as connection:
            dropped = connection.execute(
                "DELETE FROM readings WHERE key IN (SELECT key FROM pages WHERE source = ?) OR "
                "CASE WHEN json_valid(reading) THEN json_extract(reading, '$.page.source') END = ?",
                (name, name),
            ).rowcount
            self.journal.forget(source)
            return dropped

    def record_failure(self, source: str, page: int, failure: Failure, *, key: str = "") -> None:
        """Enter into the error ledger that `page` of `source` (0: the whole file) failed now.

        `key` is where its reading would have been kept.
        """
        with self._committing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)",
                (encodable(source), page, json_of(failure.to_dict()), key, time.time()),
            )

    def clear_failures(self, source: str, pages: Iterable[int] | None = None) -> None:
        """Strike the failures of `source`, or of `pages` of it, from the error ledger."""
        with self._committing() as connection:
            if pages is None:
                connection.execute("DELETE FROM failures WHERE source = ?", (encodable(source),))
                return
            connection.execute(
                "DELETE FROM failures WHERE source = ?"
                " AND page IN (SELECT value FROM json_each(?))",
                (encodable(source), json.dumps(list(pages))),
            )

    def failures(self) -> list[FailedPage]:
        """The error ledger, by source and page."""
        return [FailedPage(*entry[:3]) for entry in self.ledger()]

    def ledger(self, source: str | None = None) -> list[LedgerEntry]:
        """The error ledger with times, by source and page; of one source where it is given."""
        where = "1" if source is None else "source = ?"
        names = [] if source is None else [encodable(source)]
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT source, page, failure, time, key FROM failures"  # noqa: S608 - words only
                f" WHERE {where} ORDER BY source, page",
                names,
            ).fetchall()
        return [LedgerEntry(name, page, _failure(text), *rest) for name, page, text, *rest in rows]

    # Care

    def stats(self) -> dict[str, Any]:
        """Counts, sizes in bytes and what the store was made as: plain JSON."""
        count = self._database.number
        meta = self._database.meta
        with self._database.reading():
            return {
                "folder": str(self._folder),
                "schema": database.SCHEMA,
                "embedder": meta.embedder,
                "dim": meta.dim,
                "metric": meta.metric,
                "generation": self._database.generation,
                "sources": count("SELECT count(DISTINCT source) FROM entries WHERE source <> ''"),
                "chunks": len(self),
                "readings": count("SELECT count(*) FROM readings"),
                "failures": count("SELECT count(*) FROM failures"),
                "database_bytes": _size(self._folder / database.NAME),
                "index_bytes": _size(self._folder / index.NAME),
            }

    def verify(self) -> list[str]:
        """What is wrong with the store, a sentence each; empty where it is sound.

        Looks at every chunk and every reading that is kept. A manifest or an index that is missing,
        behind or damaged is made anew first and is no problem then. What `rebuild` mends, the
        sentence says. On a disk that cannot be written to, the index of words is not looked at:
        FTS5 takes its check for a write.
        """
        if found := list(audit.problems(self._database)):
            return found
        with self._database.reading():
            self._index.refresh()
            found = list(audit.index_problems(self._index))
        with self._borrowing() as mine:
            if mine and not found:
                self._save()
                found = list(audit.file_problems(self._folder, self._database))
        return found

    def rebuild(self) -> None:
        """Make words, metadata, index and vectors that are damaged anew from the chunks' records.

        Readings that cannot be used are dropped: their pages are read again when next indexed.
        Chunks that must be embedded again need the embedder that the store was made with.
        """
        with self._writing():
            lacking = audit.mend(self._database)
            for start in range(0, len(lacking), BATCH):
                kept = self._named(lacking[start : start + BATCH])
                self._keep([item_of(each) for each in kept])
            self._index.rebuild()
            self._save()

    def _needed_embedder(self) -> Embeddings:
        if self._embedder is None:
            raise StoreMismatch(
                f"the store in {self._folder} was made with embedder {self.embedder_name!r}; open "
                "it with that one (embedder=...) to add or to search by vector"
            )
        return self._embedder

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Be the writer from now on; within the block, the only thread that writes."""
        if self._closed:
            raise StoreError(f"the store in {self._folder} is closed; open it again")
        if self._database.read_only:
            raise StoreError(
                f"nothing may be written to the store in {self._folder}; copy the folder to where "
                "it can be, or mend its permissions, and open it again"
            )
        if self._described:
            self._check_place()
        first = not self._writer.held
        with contextlib.ExitStack() as turn:
            with translated(self._folder):
                turn.enter_context(self._writer)
                if first:
                    sweep(self._folder)
            yield

    @contextlib.contextmanager
    def _committing(self) -> Iterator[sqlite3.Connection]:
        """A transaction of the writer."""
        with self._writing(), self._database.writing() as connection:
            yield connection

    def _check_place(self) -> None:
        """`StoreError` where the folder is gone or another store's: nobody would find the write."""
        found = manifest.read(self._folder)
        is_another = found is not None and found.store != self._database.meta.store
        if is_another or not (self._folder / database.NAME).exists():
            raise StoreError(
                f"the store that was in {self._folder} was deleted or replaced after it was "
                "opened; open it again"
            )

    @contextlib.contextmanager
    def _borrowing(self) -> Iterator[bool]:
        """Be the writer within the block, where nobody else is; whether that is so."""
        before = self._writer.held
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._writing())
            except StoreError:
                yield False
                return
            try:
                yield True
            finally:
                if not before:
                    self._writer.release()

    def _save(self) -> None:
        """Bring index file and manifest up to date; only the writer may."""
        with translated(self._folder):
            self._index.refresh()
            found = manifest.read(self._folder)
            entry = found.index if found is not None and self._index.saved else None
            if entry is None:
                entry = self._index.save()
                self._database.forget_removed(entry.generation)
            elif found == self._manifest(entry):
                return
            self._manifest(entry).write(self._folder)

    def _save_unloaded(self) -> bool:
        """Bring index file and manifest up to date without the index; whether that could be."""
        with translated(self._folder):
            entry = self._index.save_unloaded()
            if entry is None:
                return False
            self._database.forget_removed(entry.generation)
            self._manifest(entry).write(self._folder)
            return True

    def _manifest(self, entry: manifest.IndexFile | None) -> manifest.Manifest:
        meta = self._database.meta
        return manifest.Manifest(
            store=meta.store,
            schema=database.SCHEMA,
            dim=meta.dim,
            metric=meta.metric,
            embedder=meta.embedder,
            generation=self._database.generation,
            chunks=len(self),
            index=entry,
        )

    def _describe(self) -> None:
        """Write a manifest where there is none that fits the database."""
        found = manifest.read(self._folder)
        if found is None or found.store != self._database.meta.store:
            with self._borrowing() as mine, translated(self._folder):
                if mine:
                    if self._database.generation:
                        log.warning("writing %s anew: it was missing or damaged", manifest.NAME)
                    self._manifest(None).write(self._folder)
        self._described = True


def _drop(folder: Path, base: Database, process: int) -> None:
    """Remove a temporary store; a forked child leaves it to its parent."""
    if os.getpid() == process:
        base.close()
        shutil.rmtree(folder, ignore_errors=True)


def _failure(text: str) -> Failure:
    try:
        return Failure.from_dict(json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Failure("corrupt", "what was entered here cannot be read; index the file again")


def _where(filter: Mapping[str, Any] | None) -> Condition | None:  # noqa: A002 - as above
    """The condition of a search; None for one among everything."""
    where = None if filter is None else condition(filter)
    return where if filter else None


def _check_share(value: Any, name: str) -> None:
    if not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise UsageError(f"{name} lies between 0 and 1, not at {value!r}")


def _check_count(value: Any, name: str) -> None:
    check_whole(value, name)
    if value < 0:
        raise UsageError(f"{name} is how many are wanted: 0 or more, not {value!r}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
