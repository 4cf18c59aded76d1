"""`index.faiss`: the dense index, a cache of the vectors in SQLite that can always be made anew.

Exact inner product over vectors of length 1, so a score is a cosine. The file is read only when
size, digest, generation and database are those that the manifest names; one that is missing,
foreign or damaged is rebuilt from SQLite, one that is behind is brought up to date.

FAISS searches with OpenMP threads, which do not survive a fork: a child that searches with more
than one thread after its parent has searched hangs. So a child is set to one thread here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.errors import StoreCorrupt, StoreError
from kosmos_loader.store import manifest
from kosmos_loader.store.database import Database
from kosmos_loader.store.manifest import IndexFile, Manifest, digest, replacing

log = logging.getLogger("kosmos_loader")

NAME = "index.faiss"
BATCH = 8192
"""Vectors that are read from SQLite at a time: 32 MB of 1024 numbers each."""

_HEADERS = 256
"""More bytes than FAISS's flat index spends on what is neither a vector nor a key (90)."""

_process = os.getpid()


class VectorIndex:
    """The vectors of a store in memory, found by inner product; kept in step with `database`."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
        self._path = folder / NAME
        self._database = database
        self._dim = database.meta.dim
        self._faiss: Any = None
        self._generation = -1
        self._saved = -1

    @property
    def loaded(self) -> bool:
        """Whether the index is in memory."""
        return self._faiss is not None

    @property
    def saved(self) -> bool:
        """Whether the file holds what is in memory."""
        return self._saved == self._generation

    def refresh(self) -> None:
        """Make the index what SQLite holds: from the file, by what has changed, or anew."""
        with self._database.reading():
            now = self._database.generation
            if self._faiss is None:
                self._load(manifest.read(self._folder))
            if self._generation == now:
                return
            if not self._catch_up(now):
                self.rebuild()

    def _load(self, stated: Manifest | None) -> None:
        if stated is not None and stated.index is None and not self._path.exists():
            return  # it was never written
        try:
            self._generation = self._saved = self._read(stated)
        except _Distrusted as reason:
            if self._database.generation:  # before the first change there is nothing to rebuild
                log.warning("rebuilding %s from the database: %s", self._path, reason)

    def _read(self, stated: Manifest | None) -> int:
        """Take the index from its file; the generation that it holds."""
        if stated is None or stated.index is None:
            raise _Distrusted("the manifest names none")
        if stated.store != self._database.meta.store:
            raise _Distrusted("the manifest is another store's")
        if stated.index.generation > self._database.generation:
            raise _Distrusted("it is newer than the database")
        expected = stated.index.count * (4 * self._dim + 8)
        try:
            size = self._path.stat().st_size
            if size != stated.index.bytes or not expected <= size <= expected + _HEADERS:
                raise _Distrusted(f"it has {size} bytes, not the {stated.index.bytes} it should")
            if digest(self._path) != stated.index.blake2b:
                raise _Distrusted("its contents are not what was written")
        except OSError as error:
            raise _Distrusted(str(error)) from error
        self._faiss = _read(self._path, self._dim, stated.index)
        return stated.index.generation

    def _catch_up(self, now: int) -> bool:
        """Bring an index that is behind up to date; False where that cannot be done."""
        if not self._database.horizon <= self._generation < now:
            return False
        with self._database.reading() as connection:
            gone = connection.execute(
                "SELECT key FROM removed WHERE generation > ?1"
                " UNION SELECT key FROM vectors WHERE generation > ?1",
                (self._generation,),
            ).fetchall()
            self._remove([key for (key,) in gone])
            changed = connection.execute(
                "SELECT key, vector FROM vectors WHERE generation > ? ORDER BY key",
                (self._generation,),
            )
            self._add_all(self._faiss, changed)
            if len(self) != self._database.number("SELECT count(*) FROM vectors"):
                log.warning("rebuilding %s from the database: it went out of step", self._path)
                return False
        self._generation = now
        return True

    def rebuild(self) -> None:
        """Make the index anew from the vectors in SQLite."""
        faiss = _faiss()
        with self._database.reading() as connection:
            index = faiss.IndexIDMap2(faiss.IndexFlatIP(self._dim))
            self._add_all(index, connection.execute("SELECT key, vector FROM vectors ORDER BY key"))
            self._faiss, self._generation = index, self._database.generation
            self._saved = -1

    def _add_all(self, index: Any, rows: sqlite3.Cursor) -> None:
        while batch := rows.fetchmany(BATCH):
            sound = [(key, vector) for key, vector in batch if is_sound(vector, self._dim)]
            if len(sound) < len(batch):
                raise StoreCorrupt(
                    f"{self._path.parent}: {len(batch) - len(sound)} vectors are damaged; "
                    "rebuild the store with the embedder that made it"
                )
            keys = np.array([key for key, _ in sound], np.int64)
            vectors = np.frombuffer(b"".join(vector for _, vector in sound), "<f4")
            with _translated():
                index.add_with_ids(vectors.reshape(-1, self._dim), keys)

    def _remove(self, keys: Sequence[int]) -> None:
        if not keys:
            return
        faiss = _faiss()
        with _translated():
            self._faiss.remove_ids(faiss.IDSelectorBatch(np.array(keys, np.int64)))

    def search(
        self, vector: NDArray[np.float32], k: int, keys: Sequence[int] | None = None
    ) -> list[tuple[int, float]]:
        """The `k` nearest (key, cosine), best first; with `keys`, the nearest among those."""
        faiss = _faiss()
        wanted = min(k, len(self) if keys is None else len(keys))
        if not wanted:
            return []
        options = {}
        if keys is not None:
            selector = faiss.IDSelectorBatch(np.array(keys, np.int64))
            options["params"] = faiss.SearchParameters(sel=selector)
        with _translated():
            scores, found = self._faiss.search(vector.reshape(1, -1), wanted, **options)
        near = zip(found[0].tolist(), scores[0].tolist(), strict=True)
        hits = [(key, score) for key, score in near if key >= 0]  # FAISS pads with -1
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))

    def __len__(self) -> int:
        return int(self._faiss.ntotal) if self._faiss is not None else 0

    def contents(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Keys [n] and vectors [n, dim], as they lie in the index."""
        faiss = _faiss()
        if self._faiss is None or not len(self):
            return np.zeros(0, np.int64), np.zeros((0, self._dim), np.float32)
        with _translated():
            flat = faiss.downcast_index(self._faiss.index)
            return faiss.vector_to_array(self._faiss.id_map), flat.reconstruct_n(0, len(self))

    def save(self) -> IndexFile:
        """Write the index beside its file and move it into place; what the manifest says of it."""
        faiss = _faiss()
        with replacing(self._path) as path:
            with _translated():
                faiss.write_index(self._faiss, str(path))
            size, hexdigest = path.stat().st_size, digest(path)
        self._saved = self._generation
        return IndexFile(self._generation, len(self), size, hexdigest)


def is_sound(vector: object, dim: int) -> bool:
    """Whether `vector` is the bytes of `dim` finite float32."""
    if not isinstance(vector, bytes) or len(vector) != 4 * dim:
        return False
    return bool(np.isfinite(np.frombuffer(vector, "<f4")).all())


class _Distrusted(Exception):
    """Why `index.faiss` is not used."""


def _read(path: Path, dim: int, stated: IndexFile) -> Any:
    faiss = _faiss()
    with _limited(faiss, path.stat().st_size):
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise _Distrusted(f"FAISS cannot read it ({error})") from error
    kind = isinstance(index, faiss.IndexIDMap2) and isinstance(
        faiss.downcast_index(index.index), faiss.IndexFlatIP
    )
    if not kind or index.d != dim or index.ntotal != stated.count:
        raise _Distrusted("it is not the kind of index that the manifest describes")
    return index


@contextlib.contextmanager
def _limited(faiss: Any, size: int) -> Iterator[None]:
    """Let FAISS allocate no more for a file than the file can hold (its issue 5400)."""
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):  # before 1.13
        yield
        return
    before = faiss.get_deserialization_vector_byte_limit()
    faiss.set_deserialization_vector_byte_limit(max(4 * size, 4096))
    try:
        yield
    finally:
        faiss.set_deserialization_vector_byte_limit(before)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """The door through which errors of FAISS, which are RuntimeErrors, become ours."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise StoreError(
            f"FAISS failed ({error}); verify the store, and rebuild it if the failure stays"
        ) from error


def _faiss() -> Any:
    import faiss

    # Two OpenMP runtimes in one process crash on macOS (pytorch issue 149201).
    if os.getpid() != _process or sys.platform == "darwin":
        faiss.omp_set_num_threads(1)
    return faiss
