"""How a large index is made: trained in the background, measured, brought up to date.

How many lists: the power of two that is nearest to the square root of the number of vectors, so
that choosing lists and looking into them cost about the same. How many of them a search looks
into (`nprobe`) depends on the vectors: 8 may do where they lie in clusters, and a quarter of the
lists may be too few where they do not. So it is measured. Questions are made of some vectors: as
they are, and moved by noise of their own length, as a question is away from its answer. Their true
neighbours are noted while the index is filled, and `nprobe` is doubled until searches find enough
of them for both.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kosmos_loader.errors import StoreError
from kosmos_loader.store import kinds, vectors
from kosmos_loader.store.database import Database
from kosmos_loader.store.kinds import Inverted, Kind
from kosmos_loader.store.vectors import BATCH, Keys, Matrix

log = logging.getLogger("kosmos_loader")

RECALL = 0.985
"""Share of the 10 nearest that must be found: a little over the 0.97 that is promised."""

_NEAREST = 11
"""The 10 nearest, and the vector that a question was made of, which is too easy to find."""

_QUESTIONS = 64
"""Of each of the two sorts."""

_POINTS = 64
"""Vectors of the sample for each list; FAISS asks for 39 to 256."""

_LAG = 2048
"""Changes that may be left for the next search to apply."""


def lists_for(count: int) -> int:
    """Lists for `count` vectors."""
    return int(2 ** max(1, round(np.log2(max(1, count)) / 2)))


def candidates_for(k: int) -> int:
    """How many candidates are scored anew for the best `k`: codes change the order a little."""
    return 3 * k + 50


def scored(database: Database, question: Matrix, keys: Keys) -> tuple[Keys, Matrix]:
    """Those of `keys` that are there, and the cosines [n] of their vectors with `question`."""
    found = [(part, rows @ question) for part, rows in vectors.named(database, keys)]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    return np.concatenate([part for part, _ in found]), np.concatenate([s for _, s in found])


def catch_up(database: Database, kind: Kind, since: int) -> None:
    """Apply to an index that holds generation `since` what has changed after it."""
    with database.reading():
        kind.remove(vectors.touched(database, since))
        for keys, rows in vectors.changed(database, since):
            kind.add(keys, rows)


def trained(database: Database, go_on: Callable[[], bool]) -> tuple[Inverted, int] | None:
    """An index of all vectors, and the generation that it holds; None if it is not to `go_on`.

    Reads in short transactions, so that others can write meanwhile, and never holds more than the
    sample and a batch beside the index.
    """
    with database.reading():
        generation, keys = database.generation, vectors.keys_of_all(database)
    lists = lists_for(len(keys))
    chance = np.random.default_rng(len(keys))
    chosen = chance.choice(keys, min(len(keys), _POINTS * lists), replace=False)
    sample = np.concatenate([rows for _, rows in vectors.named(database, chosen)])
    if len(sample) < lists or not go_on():
        return None
    index = Inverted.trained(sample, lists)
    truth = _Truth(_questions(sample, chance))
    del sample
    for start in range(0, len(keys), BATCH):
        for part, rows in vectors.named(database, keys[start : start + BATCH]):
            if not go_on():
                return None
            index.add(part, rows)
            truth.look(rows)
    if not _measured(index, database, truth, go_on):
        return None
    behind = _LAG + 1
    while behind > _LAG:
        with database.reading():
            if database.horizon > generation or not go_on():
                return None
            behind = len(vectors.touched(database, generation))
            catch_up(database, index, generation)
            generation = database.generation
    return index, generation


def _questions(sample: Matrix, chance: np.random.Generator) -> Matrix:
    """[2 * n, dim]: some of the sample, and the same moved by noise of their own length."""
    some = sample[chance.choice(len(sample), min(len(sample), _QUESTIONS), replace=False)]
    noise = chance.standard_normal(some.shape).astype(np.float32)
    moved = some + noise / np.linalg.norm(noise, axis=1, keepdims=True)
    both = np.concatenate([some, moved])
    return np.asarray(both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-9))


class _Truth:
    """The scores of the nearest vectors to some questions, over all that were looked at."""

    def __init__(self, questions: Matrix) -> None:
        self.questions = questions
        self._best = np.full((len(questions), _NEAREST), -np.inf, np.float32)

    def look(self, rows: Matrix) -> None:
        with kinds.translated():
            scores, _ = kinds.library().knn(
                self.questions,
                rows,
                min(_NEAREST, len(rows)),
                metric=kinds.library().METRIC_INNER_PRODUCT,
            )
        both = np.concatenate([self._best, scores], axis=1)
        self._best = -np.sort(-both, axis=1)[:, :_NEAREST]

    def recall(self, place: int, scores: Matrix) -> float:
        """Share of the nearest of question `place` that is among those with these `scores`.

        By score and not by key, since of vectors that are equal any will do.
        """
        best = self._best[place]
        best = best[np.isfinite(best)]
        found = int((scores >= best[-1] - 1e-5).sum()) - 1
        return min(1.0, max(0, found) / max(1, len(best) - 1))


def _measured(
    index: Inverted, database: Database, truth: _Truth, go_on: Callable[[], bool]
) -> bool:
    """Set `nprobe` to the smallest power of two that finds enough; False if it is not to go on."""
    index.nprobe = min(4, index.lists)
    while index.nprobe < index.lists:
        recalls = []
        for place, question in enumerate(truth.questions):
            if not go_on():
                return False
            near = index.search(question, candidates_for(_NEAREST - 1))
            keys = np.array([key for key, _ in near], np.int64)
            recalls.append(truth.recall(place, scored(database, question, keys)[1]))
        recall = float(np.reshape(recalls, (2, -1)).mean(axis=1).min())
        log.debug("of %d lists, %d find %.3f", index.lists, index.nprobe, recall)
        if recall >= RECALL:
            return True
        index.nprobe = min(index.lists, 2 * index.nprobe)
    return True


class Growth(threading.Thread):
    """Makes a large index of a store in the background, through a connection of its own.

    One thread of FAISS, so that searches have the other cores. Ends early when it is stopped, or
    when the program ends.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(name="kosmos-loader growth", daemon=False)
        self._folder = folder
        self._stopped = threading.Event()
        self.made: tuple[Inverted, int] | None = None
        """Index and generation, once the thread has ended well."""

    def stop(self) -> None:
        """Let the thread end soon, without a result."""
        self._stopped.set()

    def _goes_on(self) -> bool:
        return not self._stopped.is_set() and threading.main_thread().is_alive()

    def run(self) -> None:
        """As `threading.Thread.run`."""
        try:
            kinds.library().omp_set_num_threads(1)  # of this thread, by OpenMP's rules
            database = Database(self._folder, new=None)
            try:
                self.made = trained(database, self._goes_on)
            finally:
                database.close()
        except (StoreError, MemoryError) as error:
            if self._goes_on():
                log.warning("%s: no larger index was made (%s)", self._folder, error)
