"""What FTS5's index of words is asked: where a term stands, and which entries it ranks first.

The ranking is that of FTS5's `ORDER BY rank`, to the last bit. FTS5 asks the length of each entry
that shares a word with the question, one by one, which takes most of its time. Here the terms are
read whole, and lengths only of entries that could still be among the first if they were as short
as can be; the bound is that of MaxScore (Turtle and Flood 1995), with the counts of an entry's
terms known. The tables that are read here are laid down in sqlite.org/fts5.html
under "FTS5 Data Structures".
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.embedding import is_unspaced
from kosmos_loader.errors import StoreCorrupt

Keys = NDArray[np.int64]
Numbers = NDArray[np.float64]

K1, B = 1.2, 0.75
"""BM25's saturation and length normalisation, as FTS5 has them."""

_LEAST_IDF = 1e-6
"""What FTS5 gives a term that more than half of the entries hold."""

_SHORTEST = 1.0
"""Words of the shortest entry that holds one."""

_AHEAD = 4
"""How many times as many entries as are wanted are scored first, to know what the last must have"""


class Postings(NamedTuple):
    """The entries that hold a term."""

    keys: Keys
    """[n], each once, in order."""

    counts: Keys
    """[n]: how often each holds the term."""


def read(connection: sqlite3.Connection, terms: Sequence[str]) -> list[Postings]:
    """The postings of each term: a word, or words with spaces between that stand side by side.

    A character of a script without spaces stands for all words that it begins.
    """
    places: dict[str, tuple[Keys, Keys]] = {}
    for word in dict.fromkeys(word for term in terms if " " in term for word in term.split()):
        places[word] = _places(connection, word)
    found = []
    for term in terms:
        if " " in term:
            keys = _side_by_side([places[word] for word in term.split()])
        elif is_part(term):
            keys = np.sort(_keys_between(connection, term, chr(ord(term) + 1)))
        else:
            keys = _keys_of(connection, term)
        starts = _firsts(keys)
        found.append(Postings(keys[starts], np.diff(starts, append=len(keys))))
    return found


def is_part(term: str) -> bool:
    """Whether `term` is a character of a script without spaces: it begins what it is kept in."""
    return len(term) == 1 and is_unspaced(term)


# One text of all numbers is made and read several times as fast as a row of each.


def _keys_of(connection: sqlite3.Connection, word: str) -> Keys:
    sql = "SELECT group_concat(doc) FROM postings WHERE term = ?"
    return _numbers(connection.execute(sql, (word,)).fetchone()[0])


def _keys_between(connection: sqlite3.Connection, first: str, end: str) -> Keys:
    sql = "SELECT group_concat(doc) FROM postings WHERE term >= ? AND term < ?"
    return _numbers(connection.execute(sql, (first, end)).fetchone()[0])


def _places(connection: sqlite3.Connection, word: str) -> tuple[Keys, Keys]:
    sql = "SELECT group_concat(doc), group_concat(offset) FROM postings WHERE term = ?"
    keys, offsets = connection.execute(sql, (word,)).fetchone()
    return _numbers(keys), _numbers(offsets)


def _numbers(text: str | None) -> Keys:
    return np.fromstring(text or "", np.int64, sep=",")


def _side_by_side(places: Sequence[tuple[Keys, Keys]]) -> Keys:
    """The key of each place where words follow each other, in order."""
    known = np.unique(places[0][0])
    begun: Keys | None = None
    for distance, (keys, offsets) in enumerate(places):
        there = np.isin(keys, known) & (offsets >= distance)
        numbers = np.searchsorted(known, keys[there])
        starts = (numbers << 32) + offsets[there] - distance  # a place as one number
        begun = starts if begun is None else np.intersect1d(begun, starts)
    assert begun is not None  # noqa: S101 - a term has words
    side_by_side: Keys = known[begun >> 32]
    return side_by_side


def _firsts(keys: Keys) -> Keys:
    """Where each key of a sorted array stands first."""
    return np.flatnonzero(np.diff(keys, prepend=-1))


def best(
    connection: sqlite3.Connection,
    postings: Sequence[Postings],
    k: int,
    among: Keys | None = None,
) -> list[int]:
    """The keys of the `k` entries that FTS5 ranks first, best first, those `among` them only.

    Of equal ones that with the smaller key comes first. `StoreCorrupt` where the index of words is
    damaged.
    """
    keys = np.concatenate([found.keys for found in postings])
    keys.sort(kind="stable")  # which merges what is in order
    keys = keys[_firsts(keys)]
    if among is not None:
        keys = keys[np.isin(keys, among)]
    if not len(keys):
        return []
    rank = _Ranking.of(connection, postings)
    scores = rank.scores(keys, np.full(len(keys), _SHORTEST))  # what they are at most
    k, ahead = min(k, len(keys)), min(_AHEAD * k, len(keys))
    first = np.sort(np.argpartition(scores, -ahead)[-ahead:])
    scores[first] = rank.scores(keys[first], _lengths(connection, keys[first]))
    last = np.partition(scores[first], -k)[-k]
    may_be = scores >= last
    may_be[first] = False
    scores[may_be] = rank.scores(keys[may_be], _lengths(connection, keys[may_be]))
    left = np.flatnonzero(scores >= last)
    chosen: list[int] = keys[left[np.lexsort((keys[left], -scores[left]))[:k]]].tolist()
    return chosen


class _Ranking(NamedTuple):
    """BM25 as FTS5's source has it (fts5_aux.c), operation by operation."""

    postings: Sequence[Postings]
    idf: list[float]
    mean: float
    """Words of an entry."""

    @classmethod
    def of(cls, connection: sqlite3.Connection, postings: Sequence[Postings]) -> _Ranking:
        row = connection.execute("SELECT block FROM words_data WHERE id = 1").fetchone()
        total, words = _varints(row[0] if row else b"", 2)
        idf = [_idf(total, len(found.keys)) for found in postings]
        return cls(postings, idf, words / max(1, total))

    def scores(self, keys: Keys, lengths: Numbers) -> Numbers:
        """[n]: the scores of entries of so many words."""
        damping = K1 * (1 - B + B * lengths / self.mean)
        scores = np.zeros(len(keys))
        for (there, counts), idf in zip(self.postings, self.idf, strict=True):
            if not len(there):
                continue
            places = np.minimum(np.searchsorted(there, keys), len(there) - 1)
            often = np.where(there[places] == keys, counts[places], 0)
            scores += idf * ((often * (K1 + 1.0)) / (often + damping))
        return scores


def _idf(total: int, count: int) -> float:
    ratio = (total - count + 0.5) / (count + 0.5)
    return max(math.log(ratio), _LEAST_IDF) if ratio > 1 else _LEAST_IDF


def _lengths(connection: sqlite3.Connection, keys: Keys) -> Numbers:
    """[n]: how many words each entry has."""
    rows = connection.execute(
        "SELECT sz FROM json_each(?) AS wanted CROSS JOIN words_docsize AS lengths"
        " ON lengths.id = wanted.value",
        (json.dumps(keys.tolist()),),
    ).fetchall()
    if len(rows) != len(keys):
        raise _damaged()
    lengths = [
        size[0] if type(size) is bytes and len(size) == 1 else _varints(size, 1)[0]
        for (size,) in rows
    ]
    return np.array(lengths, np.float64)


def _varints(block: object, count: int) -> list[int]:
    """The first `count` numbers of a blob: seven bits a byte, the eighth says that more follow."""
    numbers, value = [], 0
    for byte in block if isinstance(block, bytes) else b"":
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            numbers.append(value)
            value = 0
    if len(numbers) < count:
        raise _damaged()
    return numbers[:count]


def _damaged() -> StoreCorrupt:
    return StoreCorrupt("the index of words is damaged; rebuild the store")
