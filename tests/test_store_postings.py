from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos_loader.embedding import GivenVectors
from kosmos_loader.errors import StoreCorrupt
from kosmos_loader.store import Entry, Store, postings

WORDS = [f"w{number}" for number in range(30)]
SHARES = [1 / (1 + number) for number in range(30)]
RUNS = ["12/03/1911", "12/12/1911", "1911", "e-mail", "it's", "w1-w2", "w2-w1-w1"]
PAIRS = ["年度", "今年", "年", "度"]


def written(rng: random.Random) -> str:
    chosen = rng.choices(WORDS, SHARES, k=rng.choice([1, 2, 2, 5, 20, 200]))
    chosen += rng.choices(RUNS, k=rng.randrange(3)) + rng.choices(PAIRS, k=rng.randrange(2))
    rng.shuffle(chosen)
    return " ".join(chosen)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    folder = tmp_path_factory.mktemp("postings") / "store"
    rng = random.Random(11)  # noqa: S311 - chance that repeats
    texts = [written(rng) for _ in range(500)]
    entries = [Entry(f"e{place}", text) for place, text in enumerate(texts + texts[:60])]
    with Store.open(folder, embedder=GivenVectors(1)) as store:
        store.put(entries, vectors=[[1.0]] * len(entries))
        store.delete([f"e{place}" for place in range(0, 500, 7)])
        again = [Entry(f"e{place}", written(rng)) for place in range(1, 500, 9)]
        store.put(again, vectors=[[1.0]] * len(again))
    with closing(sqlite3.connect(folder / "store.sqlite")) as connection:
        yield connection


def ranked_by_fts5(connection: sqlite3.Connection, terms: list[str]) -> list[tuple[int, float]]:
    quoted = [f'"{term}" *' if postings.is_part(term) else f'"{term}"' for term in terms]
    return connection.execute(
        "SELECT rowid, -rank FROM words WHERE words MATCH ? ORDER BY rank, rowid",
        (" OR ".join(quoted),),
    ).fetchall()


runs = ["12 03 1911", "12 12 1911", "12 12", "e mail", "it s", "w1 w2", "w2 w1 w1", "w1 w1"]
terms = st.lists(
    st.sampled_from([*WORDS, *runs, "年", "度", "年度", "1911", "nobody"]),
    min_size=1,
    max_size=6,
    unique=True,
)


@settings(max_examples=200)
@given(terms, st.integers(1, 60), st.none() | st.sets(st.integers(1, 600)))
def test_those_that_fts5_ranks_first_come_first_ties_included(
    connection: sqlite3.Connection, terms: list[str], k: int, among: set[int] | None
) -> None:
    every = ranked_by_fts5(connection, terms)
    expected = [(key, score) for key, score in every if among is None or key in among][:k]
    kept = None if among is None else np.array(sorted(among), np.int64)
    found = postings.best(connection, postings.read(connection, terms), k, kept)
    assert len(found) == len(expected)
    # A compiler may round a sum differently: only what it makes equal may change places.
    scores = dict(every)
    assert [scores[key] for key in found] == pytest.approx([score for _, score in expected])
    if len(set(scores.values())) == len({round(score, 9) for score in scores.values()}):
        assert found == [key for key, _ in expected]


@given(terms)
def test_a_term_is_found_where_fts5_finds_it(
    connection: sqlite3.Connection, terms: list[str]
) -> None:
    for term, found in zip(terms, postings.read(connection, terms), strict=True):
        assert found.keys.tolist() == sorted(key for key, _ in ranked_by_fts5(connection, [term]))
        assert found.counts.sum() >= len(found.keys)


def test_a_letter_of_a_script_with_spaces_is_a_word_and_no_beginning(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        store.put([Entry("river", "вода течёт"), Entry("house", "мы живём в доме")])
        found = store.find("в", mode="lexical")
    assert [hit.entry.id for hit in found] == ["house"]


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM words_docsize",
        "UPDATE words_docsize SET sz = x''",
        "UPDATE words_docsize SET sz = 'a'",
        "UPDATE words_data SET block = x'80' WHERE id = 1",
        "DELETE FROM words_data WHERE id = 1",
    ],
)
def test_a_damaged_index_of_words_is_told(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "store"
    with Store.open(folder) as store:
        store.put([Entry("a", "church roof"), Entry("b", "church organ")])
    with closing(sqlite3.connect(folder / "store.sqlite")) as connection:
        connection.execute(damage)
        connection.commit()
    with Store.open(folder) as store, pytest.raises(StoreCorrupt):
        store.search("church", mode="lexical")
