"""`index.faiss`: the dense index, a cache of the vectors in SQLite that can always be made anew.

Scores are inner products of vectors of length 1, so cosines, and always those of the vectors in
SQLite. Up to `GROWS_AT` vectors the index is flat and exact. From there on the writer trains an
inverted index of 8-bit codes in the background (`growth.py`), while searches and adds go on with
what there is; it takes the place of the flat one, with all that was changed meanwhile, at the first
search after it is done. Its candidates are scored anew from SQLite: at least 0.97 of the 10 nearest
are found. Among few vectors, as a narrow filter leaves them, the search is exact. A process that is
killed loses nothing but the training, and the next add starts it again.

The file is read at the first search and not when the store is opened. It is used only when size,
digest, generation and database are those that the manifest names; one that is missing, foreign or
damaged is rebuilt from SQLite, one that is behind is brought up to date. The digest is taken of the
whole file, for nothing less notices one bit: 0.15 GB (100,000 vectors of 384 numbers, flat) or
0.4 GB (1,000,000, inverted) take a fraction of a second. FAISS's memory mapping is not used: it
would read unchecked bytes later, and adding to a mapped index ends the process.

Writing the file takes as long as it is large, whatever has changed. So a large one is left as it is
while less than a hundredth has changed; the next process to search brings it up to date in memory.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.durable import replacing
from kosmos_loader.store import growth, kinds, manifest, streaming, vectors
from kosmos_loader.store.database import Database
from kosmos_loader.store.filters import Condition
from kosmos_loader.store.growth import Growth, candidates_for, lists_for, scored
from kosmos_loader.store.kinds import Flat, Kind, NotAnIndex
from kosmos_loader.store.manifest import IndexFile, Manifest, digest
from kosmos_loader.store.vectors import BATCH, is_sound

__all__ = ["BATCH", "GROWS_AT", "NAME", "VectorIndex", "is_sound"]

log = logging.getLogger("kosmos_loader")

NAME = "index.faiss"

GROWS_AT = 200_000
"""Vectors from which on a flat index grows: a search of them goes through 0.3 GB (384 numbers)."""

_FEW = 1000
"""Vectors that are read from SQLite for an exact search, rather than looked for in lists."""

_SMALL = 10_000
"""Vectors up to which every change is written to the file."""

_UNWRITTEN = 0.01
"""Share of a larger index that may have changed before the file is written."""

_FILTERS = 8
"""Filters whose keys are remembered."""

_RETRY = 1.1
"""Growth of the store after which an index that could not be trained is tried again."""


Filter = tuple[int, str, tuple[Any, ...]]
"""Generation, condition and its parameters."""


class VectorIndex:
    """The vectors of a store in memory, found by inner product; kept in step with `database`."""

    def __init__(self, folder: Path, database: Database, *, grows_at: int = GROWS_AT) -> None:
        self._folder = folder
        self._path = folder / NAME
        self._database = database
        self._dim = database.meta.dim
        self._grows_at = grows_at
        self._kind: Kind | None = None
        self._generation = -1
        self._saved = -1
        self._filters: OrderedDict[Filter, vectors.Keys] = OrderedDict()
        self._growth: Growth | None = None
        self._next_look = 0
        """Vectors before which there is no need to look whether a growth is due."""

        self._added: int | None = None
        """Vectors in the store, or a few more; None before they were counted."""

    @property
    def loaded(self) -> bool:
        """Whether the index is in memory."""
        return self._kind is not None

    @property
    def saved(self) -> bool:
        """Whether the file holds what is in memory."""
        return self._saved == self._generation

    @property
    def exact(self) -> bool:
        """Whether searches without a filter look at every vector."""
        return self._kind is None or self._kind.exact

    @property
    def growing(self) -> bool:
        """Whether a larger index is being made in the background."""
        return self._growth is not None and self._growth.is_alive()

    def refresh(self) -> None:
        """Make the index what SQLite holds: from the file, by what has changed, or anew."""
        with self._database.reading():
            now = self._database.generation
            self._adopt()
            # What the file has is nearer than all of SQLite, also for one who was left behind.
            if self._kind is None or self._generation < self._database.horizon:
                self._load(manifest.read(self._folder))
            if self._generation == now:
                return
            if not self._catch_up(now) or self._has_shrunk():
                self.rebuild()

    def _load(self, stated: Manifest | None) -> None:
        if stated is not None and stated.index is None and not self._path.exists():
            return  # it was never written
        try:
            self._generation = self._saved = self._read(stated)
        except NotAnIndex as reason:
            if self._database.generation:  # before the first change there is nothing to rebuild
                log.warning("rebuilding %s from the database: %s", self._path, reason)

    def _read(self, stated: Manifest | None) -> int:
        """Take the index from its file; the generation that it holds."""
        if stated is None or stated.index is None:
            raise NotAnIndex("the manifest names none")
        if stated.store != self._database.meta.store:
            raise NotAnIndex("the manifest is another store's")
        file = stated.index
        if file.generation > self._database.generation:
            raise NotAnIndex("it is newer than the database")
        least = kinds.least_bytes(dim=self._dim, count=file.count, lists=file.lists)
        most = least + kinds.most_over(dim=self._dim, lists=file.lists)
        try:
            size = self._path.stat().st_size
            if size != file.bytes or not least <= size <= most:
                raise NotAnIndex(f"it has {size} bytes, not the {file.bytes} it should")
            if digest(self._path) != file.blake2b:
                raise NotAnIndex("its contents are not what was written")
            self._kind = kinds.read(self._path, dim=self._dim, count=file.count, lists=file.lists)
        except OSError as error:
            raise NotAnIndex(str(error)) from error
        return file.generation

    def _catch_up(self, now: int) -> bool:
        """Bring an index that is behind up to date; False where that cannot be done."""
        if self._kind is None or not self._database.horizon <= self._generation < now:
            return False
        before, self._generation = self._generation, -1  # half of it would be wrong
        growth.catch_up(self._database, self._kind, before)
        if len(self) != self._count():
            log.warning("rebuilding %s from the database: it went out of step", self._path)
            return False
        self._generation = now
        return True

    def _has_shrunk(self) -> bool:
        """Whether an inverted index holds so little that a flat one does better."""
        return not self.exact and len(self) < self._grows_at // 4

    def _count(self) -> int:
        return self._database.number("SELECT count(*) FROM vectors")

    def rebuild(self) -> None:
        """Make the index anew, flat, from the vectors in SQLite."""
        with self._database.reading():
            kind = Flat.empty(self._dim, room=self._count())
            for keys, rows in vectors.everything(self._database):
                kind.add(keys, rows)
            self._kind, self._generation = kind, self._database.generation
            self._saved = -1

    # Growing

    def tend(self, added: int) -> None:
        """Start a growth that is due; called by the writer after it committed `added` vectors."""
        with self._database.reading():
            self._added = self._count() if self._added is None else self._added + added
            if self._added < max(self._grows_at, self._next_look) or self.growing:
                return
            self._adopt()
            self._added = self._count()
            if not self._is_due(self._added):
                self._next_look = self._added + self._added // 20
                return
            self._next_look = int(self._added * _RETRY)
            log.info("%s: training an index of %d vectors", self._folder, self._added)
            self._growth = Growth(self._folder)
            self._growth.start()

    def _is_due(self, count: int) -> bool:
        return count >= self._grows_at and lists_for(count) > self._lists()

    def _lists(self) -> int:
        """Lists of the index in memory or, where none is, in the file."""
        if self._kind is not None:
            return self._kind.lists
        stated = manifest.read(self._folder)
        return stated.index.lists if stated is not None and stated.index is not None else 0

    def _adopt(self) -> None:
        """Take over what a growth has made."""
        if self._growth is None or self._growth.is_alive():
            return
        made, self._growth = self._growth.made, None
        if made is None or made[1] < self._database.horizon:
            return
        self._kind, self._generation = made
        self._saved = -1

    def settle(self) -> None:
        """Wait for a growth that is under way, and take over what it made."""
        if self._growth is None:
            return
        if self._growth.is_alive():
            log.info("%s: waiting until the index is trained", self._folder)
            self._growth.join()
        with self._database.reading():
            self._adopt()

    def abandon(self) -> None:
        """Stop a growth that is under way; the next add starts it again."""
        if self._growth is not None:
            self._growth.stop()
            self._growth = None

    # Searching

    def kept_by(self, where: Condition) -> vectors.Keys:
        """The keys of the entries that pass a filter.

        The last few filters are remembered until something changes: a retriever asks with the same
        one again and again, and looking through the metadata takes longer than the search.
        """
        sql, parameters = where
        with self._database.reading() as connection:
            name = (self._database.generation, sql, tuple(parameters))
            if name in self._filters:
                self._filters.move_to_end(name)
                return self._filters[name]
            rows = connection.execute(f"SELECT key FROM entries WHERE {sql}", parameters)  # noqa: S608 - made by filters.py
            keys = vectors.keys_of(rows)
            self._filters[name] = keys
            if len(self._filters) > _FILTERS:
                self._filters.popitem(last=False)
            return keys

    def search(
        self,
        vector: NDArray[np.float32],
        k: int,
        keys: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> list[tuple[int, float]]:
        """The `k` nearest (key, cosine), best first; with `keys`, the nearest among those."""
        chosen = None if keys is None else np.asarray(keys, np.int64)
        return self.scored(vector, k, self.near(vector, k, chosen))

    def near(
        self, vector: NDArray[np.float32], k: int, keys: vectors.Keys | None
    ) -> list[tuple[int, float]]:
        """What `scored` is to choose from. Asks FAISS alone, so that it can run beside SQLite."""
        wanted = min(k, len(self) if keys is None else len(keys))
        if not wanted or self._kind is None:
            return []
        if self._kind.exact:
            return self._kind.search(vector, wanted, keys)
        if keys is not None and len(keys) <= max(_FEW, wanted):
            return [(key, 0.0) for key in keys.tolist()]
        return self._kind.search(vector, min(len(self), candidates_for(wanted)), keys)

    def scored(
        self, vector: NDArray[np.float32], k: int, near: list[tuple[int, float]]
    ) -> list[tuple[int, float]]:
        """The `k` best of those that are `near`, with their cosines, best first."""
        found = near
        if not self.exact and near:
            found = self._scored(vector, np.array([key for key, _ in near], np.int64))
        return sorted(found, key=lambda hit: (-hit[1], hit[0]))[:k]

    def _scored(self, vector: NDArray[np.float32], keys: vectors.Keys) -> list[tuple[int, float]]:
        there, scores = scored(self._database, vector, keys)
        return list(zip(there.tolist(), scores.tolist(), strict=True))

    def __len__(self) -> int:
        return 0 if self._kind is None else len(self._kind)

    # Checking and writing

    def problem(self) -> str | None:
        """How the index in memory differs from the vectors in SQLite; None where it does not."""
        with self._database.reading():
            if len(self) != (count := self._count()):
                return f"the index holds {len(self)} vectors, the database {count}"
            seen = [np.zeros(0, np.int64)]
            for keys, kept in self._kind.parts() if self._kind is not None else ():
                found = list(vectors.named(self._database, keys))
                there = np.concatenate([part for part, _ in found]) if found else seen[0]
                seen.append(there)
                if self._kind is None or not np.array_equal(there, keys):
                    return "the index does not hold the vectors of the database"
                if not self._kind.same(kept, np.concatenate([rows for _, rows in found])):
                    return "the index does not hold the vectors of the database"
            if len(np.unique(np.concatenate(seen))) != count:
                return "the index holds vectors twice"
        return None

    def may_wait(self, file: IndexFile | None) -> bool:
        """Whether `file` is so little behind that the next to search may bring it up to date.

        It does that in memory, in less time than writing the file takes.
        """
        if file is None or file.count < _SMALL:
            return False
        if self.loaded and self._saved != file.generation:  # it is not what is in memory came from
            return False
        if not self._path.exists() or self._path.stat().st_size != file.bytes:
            return False
        with self._database.reading():
            if not self._database.horizon <= file.generation <= self._database.generation:
                return False
            behind = len(vectors.touched(self._database, file.generation))
        return behind <= _UNWRITTEN * file.count

    def save(self) -> IndexFile:
        """Write the index beside its file and move it into place; what the manifest says of it."""
        with self._database.reading():
            if self._kind is None:
                self.rebuild()
            kind, generation = self._kind, self._generation
            assert kind is not None  # noqa: S101 - rebuild made one
            with replacing(self._path) as path:
                kind.write(path)
                size, hexdigest = path.stat().st_size, digest(path)
            self._saved = generation
            return IndexFile(generation, len(kind), size, hexdigest, kind.lists)

    def save_unloaded(self) -> IndexFile | None:
        """Write the file from SQLite alone, as `save` does; None where it has to be loaded first.

        That is where it is in memory already, and where it is not flat.
        """
        with self._database.reading():
            count = self._count()
            if self.loaded or count >= self._grows_at or self._lists():
                return None
            with replacing(self._path) as path:
                streaming.write_flat(self._database, path, count=count)
                size, hexdigest = path.stat().st_size, digest(path)
            return IndexFile(self._database.generation, count, size, hexdigest)
