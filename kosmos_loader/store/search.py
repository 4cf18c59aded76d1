"""The two searches of a store, by vector and by word, and how their ranks are joined."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.store import postings
from kosmos_loader.store.database import Database
from kosmos_loader.store.filters import Condition
from kosmos_loader.store.index import VectorIndex
from kosmos_loader.store.lexical import Question
from kosmos_loader.store.postings import Keys

Ranking = list[tuple[int, float]]
"""(key, score), best first."""

DEPTH = 50
"""Chunks that each search gives to the join, at least."""

_LARGE = 20_000
"""Vectors from which on a search of them takes longer than starting a thread (a millisecond)."""

RRF_K = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Buettcher 2009)."""


def dense(
    database: Database,
    index: VectorIndex,
    vector: NDArray[np.float32],
    k: int,
    where: Condition | None,
) -> Ranking:
    """The `k` chunks with the largest cosine; those below 0 score 0."""
    if not vector.any():
        return []
    with database.reading():
        index.refresh()
        found = index.search(vector, k, None if where is None else index.kept_by(where))
    return _cosines(found)


def lexical(
    database: Database, index: VectorIndex, query: str, k: int, where: Condition | None
) -> Ranking:
    """The `k` best chunks by FTS5, ranked by BM25 with near matches."""
    question = Question.of(query)
    with database.reading() as connection:
        words = _Words.of(connection, question, k, None if where is None else index.kept_by(where))
        return words.ranking(database)


def both(
    database: Database,
    index: VectorIndex,
    query: str,
    vector: NDArray[np.float32],
    k: int,
    where: Condition | None,
) -> tuple[Ranking, Ranking]:
    """`lexical`, which ranks what `dense` found too, and `dense`, in about the time of the longer.

    FAISS and SQLite work outside Python's lock, so one of them gets a thread of its own where
    that saves more than it costs.
    """
    question = Question.of(query)
    with database.reading() as connection:
        index.refresh()
        among = None if where is None else index.kept_by(where)
        if len(index) < _LARGE or not vector.any():
            near = index.search(vector, k, among) if vector.any() else []
            words = _Words.of(connection, question, k, among)
        else:
            with ThreadPoolExecutor(1, "kosmos-loader search") as beside:
                found = beside.submit(index.near, vector, k, among)
                words = _Words.of(connection, question, k, among)
            near = index.scored(vector, k, found.result())
        return words.ranking(database, also=[key for key, _ in near]), _cosines(near)


def _cosines(found: Ranking) -> Ranking:
    return [(key, min(1.0, max(0.0, cosine))) for key, cosine in found]


class _Words(NamedTuple):
    """What FTS5 tells of a question."""

    question: Question
    best: list[int]
    """Keys of the chunks that it ranks first."""

    frequencies: NDArray[np.float64]
    """[terms]: how many chunks hold each."""

    @classmethod
    def of(
        cls, connection: sqlite3.Connection, question: Question, k: int, among: Keys | None
    ) -> _Words:
        if not question.terms:
            return cls(question, [], np.zeros(0))
        found = postings.read(connection, question.terms)
        frequencies = np.array([len(term.keys) for term in found], np.float64)
        return cls(question, postings.best(connection, found, k, among), frequencies)

    def ranking(self, database: Database, *, also: Sequence[int] = ()) -> Ranking:
        """These chunks and those of `also`, ranked by BM25 with near matches."""
        if not self.question.terms:
            return []
        with database.reading() as connection:
            rows = connection.execute(
                "SELECT key, terms FROM entries WHERE key IN (SELECT value FROM json_each(?))",
                (json.dumps(list(dict.fromkeys([*self.best, *also]))),),
            )
            # what is damaged is told by `verify` and costs no other
            texts = {key: words for key, words in rows if isinstance(words, str)}
            return self.question.rank(texts, self.frequencies, database.count())


def fused(*rankings: tuple[float, Ranking]) -> Ranking:
    """Rankings with their weights joined by reciprocal rank fusion; 1.0 is first in all of them.

    One that weighs nothing adds nothing.
    """
    scores: dict[int, float] = {}
    rankings = tuple(pair for pair in rankings if pair[0])
    for weight, ranking in rankings:
        for rank, (key, _) in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + weight / (RRF_K + rank)
    most = sum(weight for weight, _ in rankings) / (RRF_K + 1)
    joined = sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))
    return [(key, min(1.0, score / most)) for key, score in joined]


def diverse(
    vector: NDArray[np.float32],
    near: Ranking,
    vectors: Mapping[int, NDArray[np.float32]],
    k: int,
    balance: float,
) -> Ranking:
    """`k` of `near` by maximal marginal relevance (Carbonell and Goldstein 1998), with cosines.

    Each next one has the largest balance * (cosine with the question) - (1 - balance) * (largest
    cosine with one that was taken before).
    """
    left = [(key, cosine) for key, cosine in near if key in vectors]
    if not left:
        return []
    keys = [key for key, _ in left]
    matrix = np.stack([vectors[key] for key in keys])
    relevance = matrix @ vector
    closest = np.zeros(len(keys), np.float32)
    free = np.ones(len(keys), bool)
    taken: list[int] = []
    while len(taken) < min(k, len(keys)):
        worth = balance * relevance - (1 - balance) * closest
        best = int(np.argmax(np.where(free, worth, -np.inf)))
        likeness = matrix @ matrix[best]
        closest = np.maximum(closest, likeness) if taken else likeness
        free[best] = False
        taken.append(best)
    return [left[place] for place in taken]
