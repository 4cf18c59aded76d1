"""A folder of chunks that can be searched: SQLite holds the truth, FAISS and FTS5 find it.

```
folder/
  manifest.json   what the store is, and the digest of index.faiss
  store.sqlite    chunks, vectors, words, readings, failures (WAL)
  index.faiss     a cache of the vectors, checked before use, made anew where it is missing or wrong
  lock            held by the one process that writes
```
Nothing in it is pickled. A change is committed to SQLite first; the index is written beside its
file and moved into place when the store is closed, the manifest last. What a killed process
committed is there when the store is opened again.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.document import Chunk, Failure, Hit, Reading
from kosmos_loader.embedding import Embeddings, HashEmbedder, name_of
from kosmos_loader.errors import StoreError, StoreMismatch, StoreNotFound, UsageError
from kosmos_loader.store import audit, database, index, manifest
from kosmos_loader.store.database import Database, translated
from kosmos_loader.store.filters import Condition, condition, encodable
from kosmos_loader.store.index import VectorIndex
from kosmos_loader.store.opening import LOCK, fitting, maker, store_is_in
from kosmos_loader.store.rows import chunk_of, json_of, row_of, unit_vectors
from kosmos_loader.store.search import DEPTH, Ranking, dense, fused, lexical
from kosmos_loader.store.writer import WriterLock

__all__ = ["FailedPage", "Mode", "SourceSummary", "Store"]

log = logging.getLogger("kosmos_loader")

Mode = Literal["hybrid", "dense", "lexical"]
MODES = get_args(Mode)

BATCH = 256
"""Chunks that are embedded and committed together."""


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


class Store:
    """Chunks in a folder, to be added, searched and deleted. Made by `Store.open`.

    Many threads and processes may read; one may write, from its first write until it closes the
    store, and others get a `StoreError` that names it. A search sees every change committed before
    it, whoever made it. Threads may share a store; they take turns. A forked child may go on using
    its parent's store to read.

    Errors of SQLite, FAISS and the disk come as `StoreError` or `StoreCorrupt`.
    """

    def __init__(self, folder: Path, base: Database, embedder: Embeddings | None) -> None:
        self._folder = folder
        self._database = base
        self._embedder = embedder
        self._index = VectorIndex(folder, base)
        self._writer = WriterLock(folder / LOCK)
        self._closed = False

    @classmethod
    def open(
        cls, folder: str | Path, *, embedder: Embeddings | None = None, create: bool = True
    ) -> Self:
        """The store in `folder`, made there if there is none and `create` is true.

        Without an `embedder`, a new store gets `HashEmbedder()`, and a store made with another
        embedder is opened all the same: it lists, deletes and searches by words, and asks for its
        embedder where it needs it. Raises `StoreNotFound` where there is none, `StoreMismatch`
        where it was made with another embedder, dimension or schema, `StoreCorrupt` where its
        database is damaged, and `StoreError` where the folder holds something else.
        """
        path = Path(folder)
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
            self._leave()
        except StoreError as error:
            # All of it is in SQLite; the next one to open the store makes the index again.
            log.warning("%s was not written: %s", self._folder / index.NAME, error)
        finally:
            self._closed = True
            self._writer.release()
            self._database.close()

    def _leave(self) -> None:
        """Save what the next one to open the store would have to make again."""
        behind = self._writer.held and self._is_behind()
        if behind or (self._index.loaded and not self._index.saved):
            with self._borrowing() as mine:
                if mine:
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
    def embedder_name(self) -> str:
        """The name of the embedder that the store was made with."""
        return self._database.meta.embedder

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._database.meta.dim

    def __len__(self) -> int:
        return self._database.count()

    # Adding and deleting

    def add(self, chunks: Iterable[Chunk]) -> int:
        """Add `chunks`, or replace those whose `chunk_id` is there; how many were new or changed.

        Chunks are taken, embedded and committed 256 at a time, so a failure loses none that came
        before its batch. A chunk whose embedded text has not changed is not embedded again.
        """
        changed, left = 0, iter(chunks)
        while batch := list(islice(left, BATCH)):
            changed += self._add({encodable(chunk.chunk_id): chunk for chunk in batch})
        return changed

    def _add(self, chunks: Mapping[str, Chunk]) -> int:
        embedder = self._needed_embedder()
        with self._writing():
            known = self._database.present(chunks)
            changed, texts = [], {}
            for row in map(row_of, chunks.values()):
                digest, record = known.get(row.chunk_id, (None, None))
                if row.digest != digest:
                    texts[row.chunk_id] = chunks[row.chunk_id].embedded_text
                if row.digest != digest or row.record != record:
                    changed.append(row)
            if changed:
                self._database.put(changed, self._embedded(embedder, texts))
            return len(changed)

    def _embedded(self, embedder: Embeddings, texts: Mapping[str, str]) -> dict[str, bytes]:
        if not texts:
            return {}
        vectors = embedder.embed_documents(list(texts.values()))
        units = unit_vectors(vectors, count=len(texts), dim=self.dim, embedder=name_of(embedder))
        rows = [unit.tobytes() for unit in units.astype("<f4")]
        return dict(zip(texts, rows, strict=True))

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
        given: list[Mapping[str, Any] | None] = [
            None if ids is None else {"chunk_id": {"$in": list(ids)}},
            None if source is None else {"source": source},
            None if doc_id is None else {"doc_id": doc_id},
            filter,
        ]
        chosen = [selector for selector in given if selector is not None]
        if len(chosen) != 1:
            raise UsageError("delete by exactly one of ids, source, doc_id and filter")
        if not chosen[0]:
            raise UsageError("an empty filter would delete everything; call clear() for that")
        where = condition(chosen[0])
        with self._writing():
            return self._database.remove(*where)

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
        _check_search(query, k, mode)
        where = condition(filter) if filter else None
        if not (k := min(k, len(self))):
            return []
        # An embedder may be a server far away: it is asked before the store is held.
        vector = None if mode == "lexical" else self._query_vector(query)
        with self._database.reading():
            return self._hits(self._ranking(query, vector, k, where, mode)[:k])

    def _ranking(
        self,
        query: str,
        vector: NDArray[np.float32] | None,
        k: int,
        where: Condition | None,
        mode: Mode,
    ) -> Ranking:
        deep = max(k, DEPTH)
        if vector is None:
            return lexical(self._database, query, deep, where)
        if mode == "dense":
            return dense(self._database, self._index, vector, k, where)
        near = dense(self._database, self._index, vector, deep, where)
        named_alike = lexical(self._database, query, deep, where, also=[key for key, _ in near])
        weight = float(getattr(self._embedder, "rank_weight", 1.0))
        return fused((1.0, named_alike), (weight, near))

    def _query_vector(self, query: str) -> NDArray[np.float32]:
        embedder = self._needed_embedder()
        one = [embedder.embed_query(query)]
        units = unit_vectors(one, count=1, dim=self.dim, embedder=name_of(embedder))
        return units.reshape(self.dim)

    def _hits(self, ranking: Ranking) -> list[Hit]:
        records = self._records("key", [key for key, _ in ranking])
        return [Hit(chunk_of(records[key]), score) for key, score in ranking if key in records]

    def get(self, ids: Iterable[str]) -> list[Chunk]:
        """The chunks with these ids, in the order asked for, without those that are not there."""
        wanted = [encodable(chunk_id) for chunk_id in ([ids] if isinstance(ids, str) else ids)]
        records = self._records("chunk_id", wanted)
        return [chunk_of(records[chunk_id]) for chunk_id in wanted if chunk_id in records]

    def _records(self, column: Literal["key", "chunk_id"], values: Sequence[Any]) -> dict[Any, str]:
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {column}, record FROM chunks"  # noqa: S608 - one of two names
                f" WHERE {column} IN (SELECT value FROM json_each(?))",
                (json.dumps(values),),
            )
            return dict(rows.fetchall())

    def ids(self, source: str | None = None) -> set[str]:
        """The ids of all chunks, or of those of one source."""
        where = condition({"source": source}) if source is not None else ("1", [])
        with self._database.reading() as connection:
            rows = connection.execute(f"SELECT chunk_id FROM chunks WHERE {where[0]}", where[1])  # noqa: S608 - from filters.py
            return {chunk_id for (chunk_id,) in rows}

    def sources(self) -> list[SourceSummary]:
        """What the store holds of each file, by name."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT source, max(page_count), count(*) FROM chunks GROUP BY source"
            )
            return [SourceSummary(*row) for row in rows]

    # Readings and failures

    def keep_reading(self, key: str, reading: Reading) -> None:
        """Keep what a reader saw under `key`: page digest, reader, version and options in one."""
        text = json_of(reading.to_dict())
        with self._writing(), self._database.writing() as connection:
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
            return Reading.from_dict(json.loads(row[0]))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            log.warning("reading the page again: what was kept of it cannot be used (%s)", error)
            return None

    def forget_readings(self, source: str) -> int:
        """Drop the readings that were kept while reading `source`; how many there were.

        A file that shares pages with it is read again when it is next indexed.
        """
        with self._writing(), self._database.writing() as connection:
            return connection.execute(
                "DELETE FROM readings WHERE json_extract(reading, '$.page.source') = ?",
                (encodable(source),),
            ).rowcount

    def record_failure(self, source: str, page: int, failure: Failure) -> None:
        """Enter into the error ledger that `page` of `source` (0: the whole file) failed."""
        with self._writing(), self._database.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?)",
                (encodable(source), page, json_of(failure.to_dict())),
            )

    def clear_failures(self, source: str) -> None:
        """Strike the failures of `source` from the error ledger."""
        with self._writing(), self._database.writing() as connection:
            connection.execute("DELETE FROM failures WHERE source = ?", (encodable(source),))

    def failures(self) -> list[FailedPage]:
        """The error ledger, by source and page."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT * FROM failures ORDER BY source, page").fetchall()
        return [
            FailedPage(source, page, Failure.from_dict(json.loads(text)))
            for source, page, text in rows
        ]

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
                "sources": count("SELECT count(DISTINCT source) FROM chunks"),
                "chunks": len(self),
                "readings": count("SELECT count(*) FROM readings"),
                "failures": count("SELECT count(*) FROM failures"),
                "database_bytes": _size(self._folder / database.NAME),
                "index_bytes": _size(self._folder / index.NAME),
            }

    def verify(self) -> list[str]:
        """What is wrong with the store, a sentence each; empty where it is sound.

        Looks at every chunk. A manifest or an index that is missing, behind or damaged is made anew
        first and is no problem then. What `rebuild` mends, the sentence says.
        """
        if found := list(audit.problems(self._database)):
            return found
        with self._database.reading():
            self._index.refresh()
            found = list(audit.index_problems(self._database, self._index))
        with self._borrowing() as mine:
            if mine and not found:
                self._save()
                found = list(audit.file_problems(self._folder, self._database))
        return found

    def rebuild(self) -> None:
        """Make words, metadata, index and vectors that are damaged anew from the chunks' records.

        Chunks that must be embedded again need the embedder that the store was made with.
        """
        with self._writing():
            lacking = audit.mend(self._database)
            for start in range(0, len(lacking), BATCH):
                batch = self.get(lacking[start : start + BATCH])
                self._add({encodable(chunk.chunk_id): chunk for chunk in batch})
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
        first = not self._writer.held
        with contextlib.ExitStack() as turn:
            with translated(self._folder):
                turn.enter_context(self._writer)
                if first:
                    manifest.sweep(self._folder)
            yield

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
        if found is not None and found.store == self._database.meta.store:
            return
        with self._borrowing() as mine, translated(self._folder):
            if mine:
                if self._database.generation:
                    log.warning("writing %s anew: it was missing or damaged", manifest.NAME)
                self._manifest(None).write(self._folder)


def _check_search(query: Any, k: Any, mode: Any) -> None:
    if not isinstance(query, str):
        raise UsageError(f"a query is text, not {type(query).__name__}")
    if not isinstance(k, int) or k < 0:
        raise UsageError(f"k is how many hits are wanted: 0 or more, not {k!r}")
    if mode not in MODES:
        raise UsageError(f"no search mode is called {mode!r}; choose one of {', '.join(MODES)}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
