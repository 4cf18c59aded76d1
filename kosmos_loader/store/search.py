"""The two searches of a store, by vector and by word, and how their ranks are joined."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.store.database import Database
from kosmos_loader.store.filters import Condition
from kosmos_loader.store.index import VectorIndex
from kosmos_loader.store.lexical import Question

Ranking = list[tuple[int, float]]
"""(key, score), best first."""

DEPTH = 50
"""Chunks that each search gives to the join, at least."""

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
    return [(key, min(1.0, max(0.0, cosine))) for key, cosine in found]


def lexical(
    database: Database, query: str, k: int, where: Condition | None, *, also: Sequence[int] = ()
) -> Ranking:
    """The `k` best chunks by FTS5, and those of `also`, ranked by BM25 with near matches."""
    question = Question.of(query)
    if not question.terms:
        return []
    sql, parameters = "SELECT rowid FROM words WHERE words MATCH ?", [question.match]
    if where is not None:
        # The + keeps SQLite from asking FTS5 anew for each chunk that the filter lets through.
        sql += f" AND +rowid IN (SELECT key FROM entries WHERE {where[0]})"  # noqa: S608 - made by filters.py
        parameters += where[1]
    with database.reading() as connection:
        found = connection.execute(f"{sql} ORDER BY rank LIMIT ?", (*parameters, k)).fetchall()
        keys = json.dumps(list(dict.fromkeys([*(key for (key,) in found), *also])))
        texts = connection.execute(
            "SELECT key, terms FROM entries WHERE key IN (SELECT value FROM json_each(?))", (keys,)
        )
        return question.rank(
            # what is damaged is told by `verify` and costs no other
            {key: words for key, words in texts if isinstance(words, str)},
            question.frequencies(connection),
            database.count(),
        )


def fused(*rankings: tuple[float, Ranking]) -> Ranking:
    """Rankings with their weights joined by reciprocal rank fusion; 1.0 is first in all of them."""
    scores: dict[int, float] = {}
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
