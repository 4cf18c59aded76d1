from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import kosmos_loader
from kosmos_loader.document import Chunk, Failure, Line, PageInfo, Reading, Span
from kosmos_loader.embedding import HashEmbedder
from kosmos_loader.errors import (
    StoreCorrupt,
    StoreError,
    StoreMismatch,
    StoreNotFound,
    UsageError,
)
from kosmos_loader.geometry import Box
from kosmos_loader.store import Store
from kosmos_loader.store.filters import condition

RECEIPTS = Path(__file__).parents[2] / "shared" / "data" / "receipts"


def chunk(chunk_id: str, text: str = "", **fields: Any) -> Chunk:
    doc_id = fields.pop("doc_id", chunk_id.partition("-")[0])
    values: dict[str, Any] = {
        "text": text or f"text of {chunk_id}",
        "spans": (Span(0, len(text or chunk_id), 1, Box(0.1, 0.1, 0.9, 0.2)),),
        "source": f"/scans/{doc_id}.pdf",
        "doc_id": doc_id,
        "chunk_id": chunk_id,
        "page": 1,
        "page_end": 1,
        "page_count": 3,
        "page_width": 800,
        "page_height": 1000,
    }
    return Chunk(**values | fields)


LETTERS = [
    chunk("a-1", "The council resolved to repair the church roof in May 1911."),
    chunk("a-2", "Timber was bought from Yew Chuan for 174.90 on 17/03/2018.", page=2),
    chunk("b-1", "Flour, sugar and yeast for the bakery; delivered 25-08-2017."),
    chunk("b-2", "The organ was tuned by Master Ahrend of Leer.", page=2, kind="table"),
]


class Counting:
    """Vectors by look-up of letters, counting what was embedded."""

    def __init__(self, dim: int = 26, name: str = "counting") -> None:
        self.dim = dim
        self.name = name
        self.embedded: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.embedded += texts
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        places = [ord(letter) - 97 for letter in text.lower() if "a" <= letter <= "z"]
        return [float(places.count(place % 26)) for place in range(self.dim)]


class Broken(Counting):
    """Returns whatever it was made with."""

    def __init__(self, vectors: Any) -> None:
        super().__init__()
        self.vectors = vectors

    def embed_documents(self, texts: list[str]) -> Any:
        return self.vectors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def letters(folder: Path) -> Iterator[Store]:
    with Store.open(folder) as store:
        store.add(LETTERS)
        yield store


def found(store: Store, query: str, **options: Any) -> list[str]:
    return [hit.chunk.chunk_id for hit in store.search(query, **options)]


def filled(folder: Path, chunks: list[Chunk] = LETTERS) -> Path:
    with Store.open(folder) as store:
        store.add(chunks)
    return folder


# Adding, getting, deleting


def test_what_was_added_is_got_back_equal_after_reopening(folder: Path) -> None:
    whole = replace(
        LETTERS[0], headings=("Minutes", "1911"), confidence=0.75, flags=("low_confidence",)
    )
    with Store.open(folder) as store:
        assert store.add([whole, *LETTERS[1:]]) == 4
    with Store.open(folder, create=False) as store:
        assert len(store) == 4
        assert store.get(["b-1", "a-1"]) == [LETTERS[2], whole]


def test_adding_the_same_again_changes_nothing_and_embeds_nothing(folder: Path) -> None:
    embedder = Counting()
    with Store.open(folder, embedder=embedder) as store:
        store.add(LETTERS)
        assert len(embedder.embedded) == 4
        before = store.stats()["generation"]
        assert store.add(LETTERS) == 0
        assert len(embedder.embedded) == 4
        assert store.stats()["generation"] == before


def test_changed_metadata_is_kept_without_embedding_again(folder: Path) -> None:
    embedder = Counting()
    with Store.open(folder, embedder=embedder) as store:
        store.add(LETTERS)
        moved = replace(LETTERS[0], page=3, page_end=3)
        assert store.add([moved]) == 1
        assert store.get(["a-1"]) == [moved]
        assert found(store, "roof", filter={"page": 3}) == ["a-1"]
        assert len(embedder.embedded) == 4


def test_a_changed_text_is_embedded_and_found_by_its_new_words_only(letters: Store) -> None:
    assert letters.add([replace(LETTERS[0], text="The bells were recast.", spans=())]) == 1
    assert len(letters) == 4
    assert found(letters, "bells", mode="lexical") == ["a-1"]
    assert found(letters, "council", mode="lexical") == []
    assert found(letters, "bells recast", k=1, mode="dense") == ["a-1"]


def test_headings_are_embedded_and_searched(folder: Path) -> None:
    embedder = Counting()
    with Store.open(folder, embedder=embedder) as store:
        store.add([replace(LETTERS[0], headings=("Vestry", "Repairs"))])
        assert embedder.embedded == ["Vestry > Repairs\n" + LETTERS[0].text]
        assert found(store, "vestry", mode="lexical") == ["a-1"]


def test_of_one_id_given_twice_the_last_counts(folder: Path) -> None:
    with Store.open(folder) as store:
        assert store.add([chunk("a-1", "first"), chunk("a-1", "second")]) == 1
        assert store.get(["a-1"])[0].text == "second"


def test_batches_before_a_failure_are_kept(folder: Path) -> None:
    def some_then_none() -> Iterator[Chunk]:
        yield from (chunk(f"d{i}-1") for i in range(300))
        raise RuntimeError("the reader broke")

    with Store.open(folder) as store:
        with pytest.raises(RuntimeError, match="the reader broke"):
            store.add(some_then_none())
        assert len(store) == 256


def test_get_passes_over_ids_that_are_not_there(letters: Store) -> None:
    assert [c.chunk_id for c in letters.get(["nobody", "b-2", "a-1"])] == ["b-2", "a-1"]
    assert letters.get([]) == []


def test_ids_and_sources_tell_what_there_is(letters: Store) -> None:
    assert letters.ids() == {"a-1", "a-2", "b-1", "b-2"}
    assert letters.ids("/scans/a.pdf") == {"a-1", "a-2"}
    assert letters.ids("/scans/none.pdf") == set()
    assert letters.sources() == [("/scans/a.pdf", 3, 2), ("/scans/b.pdf", 3, 2)]


@pytest.mark.parametrize(
    ("selector", "left"),
    [
        ({"ids": ["a-1", "nobody"]}, {"a-2", "b-1", "b-2"}),
        ({"ids": "a-1"}, {"a-2", "b-1", "b-2"}),
        ({"ids": []}, {"a-1", "a-2", "b-1", "b-2"}),
        ({"source": "/scans/a.pdf"}, {"b-1", "b-2"}),
        ({"doc_id": "b"}, {"a-1", "a-2"}),
        ({"doc_id": "nobody"}, {"a-1", "a-2", "b-1", "b-2"}),
        ({"filter": {"page": 2}}, {"a-1", "b-1"}),
    ],
)
def test_delete_takes_what_its_selector_names(
    letters: Store, selector: dict[str, Any], left: set[str]
) -> None:
    assert letters.delete(**selector) == 4 - len(left)
    assert letters.ids() == left
    for mode in ("dense", "lexical", "hybrid"):
        assert set(found(letters, "the council timber flour organ", k=9, mode=mode)) <= left
    assert letters.verify() == []


@pytest.mark.parametrize(
    "selector",
    [{}, {"ids": ["a-1"], "source": "x"}, {"source": "x", "doc_id": "y"}, {"filter": {}}],
)
def test_delete_needs_exactly_one_selector(letters: Store, selector: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        letters.delete(**selector)
    assert len(letters) == 4


@pytest.mark.parametrize("nothing", [{}, {"$and": []}, {"$or": [{"$and": []}]}, {"$not": {}}])
def test_a_filter_that_asks_nothing_deletes_nothing(
    letters: Store, nothing: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="clear"):
        letters.delete(filter=nothing)
    assert len(letters) == 4


def test_what_is_no_text_names_nothing(letters: Store) -> None:
    for ask in (letters.delete, letters.entries, letters.get, letters.vectors):
        with pytest.raises(UsageError, match="are text, not 7"):
            ask([7])
    with pytest.raises(UsageError, match="are text"):
        letters.around(7)
    assert len(letters) == 4


def test_clear_deletes_everything(letters: Store) -> None:
    assert letters.clear() == 4
    assert len(letters) == 0
    assert letters.search("church") == []


def test_no_id_answers_for_another_after_delete_and_add(folder: Path) -> None:
    """llama-index-vector-stores-faiss 0.7.0 answers 'd' to the vector of 'c' here."""
    texts = {"a": "aaaa", "b": "bbbb", "c": "cccc", "d": "dddd"}
    chunks = {name: chunk(name, text) for name, text in texts.items()}
    with Store.open(folder, embedder=Counting()) as store:
        store.add([chunks["a"], chunks["b"], chunks["c"]])
        assert found(store, "cccc", k=1, mode="dense") == ["c"]
        store.delete(["a"])
        store.add([chunks["d"]])
        for name in "bcd":
            assert found(store, texts[name], k=1, mode="dense") == [name]
        assert "a" not in found(store, "aaaa", k=9, mode="dense")
    with Store.open(folder, embedder=Counting()) as store:
        assert found(store, "cccc", k=1, mode="dense") == ["c"]


def test_no_key_is_given_twice(folder: Path) -> None:
    """What a killed process left in an old index must never answer for something new."""
    keys: set[int] = set()
    for round_ in range(3):
        with Store.open(folder) as store:
            store.add(chunk(f"r{round_}-{i}") for i in range(3))
            store.add([chunk(f"r{round_}-1", "changed")])
            new = {key for (key,) in execute(folder, "SELECT key FROM entries")}
            assert len(new) == 3
            assert not keys & new
            keys |= new
            store.clear()


def test_a_replaced_chunk_keeps_its_key(letters: Store, folder: Path) -> None:
    sql = "SELECT key FROM entries WHERE id = 'a-1'"
    before = execute(folder, sql)
    letters.add([replace(LETTERS[0], text="Another text.", spans=())])
    assert execute(folder, sql) == before


@pytest.mark.parametrize("text", ["\0", "a\0b", "scan\udc80", "𝔘\U0010ffff", "", " "])
def test_any_text_is_kept_as_it_is(folder: Path, text: str) -> None:
    odd = chunk("odd" + text, text, source="/scans/" + text, spans=())
    with Store.open(folder) as store:
        store.add([odd, LETTERS[0]])
        assert store.get([odd.chunk_id]) == [odd]
        assert len(store.ids(odd.source)) == 1
        assert store.verify() == []
        assert store.delete(source=odd.source) == 1


def test_a_confidence_that_is_no_number_does_not_break_filters(folder: Path) -> None:
    with Store.open(folder) as store:
        store.add([replace(LETTERS[0], confidence=float("nan")), LETTERS[1]])
        assert found(store, "church timber", filter={"page": {"$gte": 1}}) != []
        assert found(store, "church", filter={"confidence": {"$gte": 0}}) == []


@pytest.mark.parametrize(
    ("vectors", "error"),
    [
        ([[1.0] * 25], StoreMismatch),
        ([[1.0] * 26] * 2, StoreError),
        ([[float("nan")] * 26], StoreError),
        ([[1.0], [2.0, 3.0]], StoreError),
        ([[10**400] * 26], StoreError),
        (None, StoreError),
    ],
)
def test_an_embedder_that_returns_nonsense_adds_nothing(
    folder: Path, vectors: Any, error: type[StoreError]
) -> None:
    with Store.open(folder, embedder=Broken(vectors)) as store:
        with pytest.raises(error, match="counting returned"):
            store.add(LETTERS[:1])
        assert len(store) == 0
        assert store.verify() == []


# Searching


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("Which council repaired the church roof?", "a-1"),
        ("timber from yew chuan", "a-2"),
        ("flour for the bakery", "b-1"),
        ("organ tuned by Ahrend", "b-2"),
        ("What was bought on 17-03-2018?", "a-2"),  # written with slashes
    ],
)
def test_search_finds_the_chunk_that_answers(
    letters: Store, mode: str, query: str, first: str
) -> None:
    hits = letters.search(query, mode=mode)
    assert hits[0].chunk.chunk_id == first
    assert hits[0].chunk == letters.get([first])[0]
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_first_in_both_searches_scores_one(letters: Store) -> None:
    assert letters.search("church roof")[0].score == pytest.approx(1)


def test_dense_scores_are_cosines(folder: Path) -> None:
    with Store.open(folder, embedder=Counting()) as store:
        store.add([chunk("a", "abc"), chunk("b", "ab"), chunk("z", "zz")])
        hits = store.search("ab", mode="dense")
    expected = {"b": 1.0, "a": 2 / 6**0.5, "z": 0.0}
    assert {hit.chunk.chunk_id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-6)


def test_dense_search_is_exact(folder: Path) -> None:
    rng = np.random.default_rng(1)
    vectors: dict[str, NDArray[np.float64]] = {f"t{i}": rng.standard_normal(8) for i in range(500)}
    query = rng.standard_normal(8)

    class Given:
        dim, name = 8, "given"

        def embed_documents(self, texts: list[str]) -> list[NDArray[np.float64]]:
            return [vectors[text] for text in texts]

        def embed_query(self, text: str) -> NDArray[np.float64]:
            return query

    with Store.open(folder, embedder=Given()) as store:
        store.add(chunk(text, text) for text in vectors)
        names = list(vectors)
        matrix = np.array([vectors[name] / np.linalg.norm(vectors[name]) for name in names])
        exact = [names[i] for i in np.argsort(-(matrix @ query))]
        assert found(store, "q", k=20, mode="dense") == exact[:20]
        kept = set(exact[::100])
        some = {"chunk_id": {"$in": sorted(kept)}}
        assert found(store, "q", k=3, mode="dense", filter=some) == exact[::100][:3]


@pytest.mark.parametrize(
    "query",
    [
        "the churcb rooi",
        "CHURCHROOF repair",
        "resolued c0uncil",
    ],
)
@pytest.mark.parametrize("mode", ["hybrid", "dense"])
def test_a_misspelt_question_finds_its_chunk(letters: Store, query: str, mode: str) -> None:
    assert found(letters, query, mode=mode)[0] == "a-1"


def test_words_that_ocr_misspelt_are_found_by_the_right_spelling(folder: Path) -> None:
    with Store.open(folder) as store:
        store.add(
            [
                chunk("right", "Invoice of Sanyu Stationery of l8/04/20l7"),  # l for 1
                chunk("other", "Invoice of Sanyu Stationery of 13/10/2017"),
                chunk("noise", "Invoice of Gardenia Bakeries of 25/08/2017"),
            ]
        )
        for mode in ("lexical", "hybrid"):
            assert found(store, "Sanyu Stationery invoice of 18/04/2017", mode=mode)[0] == "right"


def test_another_number_is_no_misspelling(folder: Path) -> None:
    with Store.open(folder) as store:
        store.add([chunk("a", "amount 174.90 in cash"), chunk("b", "amount 174.80 and 174.70")])
        assert found(store, "174.80")[0] == "b"
        assert found(store, "174.90")[0] == "a"


def test_lexical_search_finds_nothing_where_no_word_is_shared(letters: Store) -> None:
    assert found(letters, "xylophone", mode="lexical") == []


def test_a_question_of_function_words_only_is_searched_for_all_the_same(letters: Store) -> None:
    assert found(letters, "where was the", mode="lexical") != []


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("发票", "zh"),
        ("增值税", "zh"),
        ("北", "zh"),
        ("領収書", "ja"),
        ("ใบเสร็จ", "th"),
        ("भाषा", "hi"),
    ],
)
def test_other_scripts_are_found_by_word(folder: Path, query: str, first: str) -> None:
    texts = {
        "zh": "北京市增值税专用发票",
        "ja": "東京都の領収書をお送りします",
        "th": "กรุณาเก็บใบเสร็จไว้เป็นหลักฐาน",
        "hi": "हिन्दी भाषा में रसीद",
        "en": "a receipt in English",
    }
    with Store.open(folder) as store:
        store.add(chunk(name, text) for name, text in texts.items())
        assert found(store, query, mode="lexical") == [first]
        assert found(store, query)[0] == first


HOSTILE = [
    '"', '""', '"a', "NEAR(", "NEAR(a b, 2)", "a OR", "AND", "NOT", "*", "roof*", "^roof",
    "terms:a", "{terms}: a", "a + b", "-roof", "(((", ")", "'; DROP TABLE chunks; --",
    "\\", "%", "\0", "a\0b", "🙂", "\udc80", "\u202eroof", "²³½", "٣٤", "", " ", "\n",
    "x" * 10_000, "roof " * 2_000, " ".join(f"word{i}" for i in range(2_000)), "a-" * 5_000,
    "/".join("abcdefgh" * 50),
]  # fmt: skip


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_no_query_is_read_as_syntax(letters: Store, query: str, mode: str) -> None:
    hits = letters.search(query, mode=mode)
    assert len(hits) <= 4
    assert all(0 <= hit.score <= 1 for hit in hits)
    assert len(letters) == 4


@given(query=st.text(max_size=40))
def test_any_text_can_be_asked(shared: Store, query: str) -> None:
    assert all(0 <= hit.score <= 1 for hit in shared.search(query))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("shared") / "store") as store:
        store.add(LETTERS)
        yield store


def test_an_empty_store_finds_nothing(folder: Path) -> None:
    with Store.open(folder) as store:
        for mode in ("hybrid", "dense", "lexical"):
            assert store.search("anything", mode=mode) == []
        assert store.verify() == []


@pytest.mark.parametrize("mode", ["hybrid", "dense"])
def test_k_may_be_larger_than_the_store_or_zero(letters: Store, mode: str) -> None:
    assert len(letters.search("church", k=10**30, mode=mode)) == 4
    assert letters.search("church", k=0, mode=mode) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"query": 3},
        {"query": "a", "k": -1},
        {"query": "a", "k": 2.5},
        {"query": "a", "k": True},
        {"query": "a", "mode": "x"},
        {"query": "a", "filter": False},
    ],
)
def test_a_search_that_cannot_be_meant_is_a_usage_error(
    letters: Store, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        letters.search(**arguments)


# Filters

ROWS = [
    chunk("r1", "one roof", doc_id="d1", page=1, kind="paragraph", confidence=0.5),
    chunk("r2", "two roof", doc_id="d1", page=2, kind="table", flags=("blank", "truncated")),
    chunk("r3", "three roof", doc_id="d2", page=3, kind="list", confidence=0.9),
    chunk("r4", "four roof", doc_id="d2", page=10, kind="table", headings=('Müller\'s "A"',)),
]
FILTERS: list[tuple[dict[str, Any], str]] = [
    ({}, "1234"),
    ({"page": 2}, "2"),
    ({"page": 2.0}, "2"),
    ({"page": "2"}, ""),
    ({"page": True}, ""),
    ({"source": "/scans/d1.pdf"}, "12"),
    ({"doc_id": "d2", "kind": "table"}, "4"),
    ({"chunk_id": {"$in": ["r1", "r3", "zz"]}}, "13"),
    ({"page": {"$eq": 3}}, "3"),
    ({"page": {"$ne": 3}}, "124"),
    ({"page": {"$ne": "3"}}, "1234"),
    ({"page": {"$gt": 2}}, "34"),
    ({"page": {"$gte": 2, "$lt": 10}}, "23"),
    ({"page": {"$lte": 2}}, "12"),
    ({"page": {"$gt": "1"}}, ""),
    ({"kind": {"$gt": "list"}}, "124"),
    ({"page": {"$in": [1, 10, "2", True]}}, "14"),
    ({"page": {"$in": []}}, ""),
    ({"page": {"$nin": [1, 10]}}, "23"),
    ({"kind": {"$nin": ["table"]}}, "13"),
    ({"flags": {"$contains": "trunc"}}, "2"),
    ({"headings": {"$contains": 'Müller\'s "A"'}}, "4"),
    ({"confidence": {"$gte": 0.6}}, "3"),
    ({"nobody": 1}, ""),
    ({"nobody": {"$ne": 1}}, "1234"),
    ({"nobody": {"$nin": [1]}}, "1234"),
    ({"nobody": {"$exists": False}}, "1234"),
    ({"page": {"$exists": True}}, "1234"),
    ({"$or": [{"page": 1}, {"kind": "table"}]}, "124"),
    ({"$or": []}, ""),
    ({"$and": [{"kind": "table"}, {"page": {"$gt": 2}}]}, "4"),
    ({"$not": {"kind": "table"}}, "13"),
    ({"$not": {"nobody": 1}}, "1234"),
    ({"$not": {"$or": [{"page": 1}, {"page": 2}]}, "doc_id": "d2"}, "34"),
    ({"a.b[0]": 1}, ""),
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("rows") / "store") as store:
        store.add(ROWS)
        yield store


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize(("filter_", "kept"), FILTERS, ids=[str(f) for f, _ in FILTERS])
def test_a_filter_keeps_what_it_says(
    rows: Store, filter_: dict[str, Any], kept: str, mode: str
) -> None:
    assert set(found(rows, "roof", filter=filter_, mode=mode)) == {f"r{n}" for n in kept}


@pytest.mark.parametrize(
    "filter_",
    [
        {"page": {"$near": 2}},
        {"$nor": []},
        {"page": {}},
        {"page": None},
        {"page": [1, 2]},
        {"page": float("nan")},
        {"page": 2**63},
        {"page": {"$in": "abc"}},
        {"page": {"$in": [None]}},
        {"page": {"$exists": 1}},
        {"$and": {"page": 1}},
        {"$not": [1]},
        {"": 1},
        {3: 1},
        {'a" OR 1=1 --': 1},
        {"a\\": 1},
        {"a\0": 1},
        {"x": b"bytes"},
        "page = 1",
    ],
    ids=repr,
)
def test_a_filter_that_cannot_be_meant_is_a_usage_error(rows: Store, filter_: Any) -> None:
    with pytest.raises(UsageError):
        rows.search("roof", filter=filter_)


def test_a_filter_nested_too_deep_is_a_usage_error(rows: Store) -> None:
    filter_: dict[str, Any] = {"page": 1}
    for _ in range(1000):
        filter_ = {"$not": filter_}
    with pytest.raises(UsageError, match="nested"):
        rows.search("roof", filter=filter_)


@pytest.mark.parametrize("value", ["'; DROP TABLE chunks; --", "x' OR '1'='1", '") OR 1=1', "\0"])
def test_filter_values_are_never_read_as_sql(rows: Store, value: str) -> None:
    for operand in (value, {"$ne": value}, {"$in": [value]}, {"$contains": value}):
        sql, _ = condition({"kind": operand, "source": operand})
        assert value not in sql
        rows.search("roof", filter={"kind": operand})
    assert found(rows, "roof", filter={"source": value}) == []
    assert len(rows) == 4


def test_a_narrow_filter_still_gives_k_hits(folder: Path) -> None:
    """A cut after the search would find none of them among the first 200."""
    many = [chunk(f"m{i}-1", f"church roof number {i}", doc_id=f"m{i}") for i in range(300)]
    few = [chunk(f"few-{i}", f"barn door {i}", doc_id="few") for i in range(5)]
    with Store.open(folder) as store:
        store.add([*many, *few])
        for mode in ("hybrid", "dense"):
            assert len(found(store, "church roof", filter={"doc_id": "few"}, mode=mode)) == 5


# Readings and failures

PAGE = PageInfo("/scans/a.pdf", "a", 1, 3, 800, 1000, 200.0, "feed")
READING = Reading(PAGE, "scripted", "1", (Line("Zürich", Box(0, 0, 1, 0.1), 0.5),), "# Zürich")


def test_a_kept_reading_comes_back_equal(folder: Path) -> None:
    with Store.open(folder) as store:
        assert store.kept_reading("feed:scripted:1") is None
        store.keep_reading("feed:scripted:1", READING)
        store.keep_reading("feed:scripted:1", replace(READING, angle=90.0))
    with Store.open(folder) as store:
        assert store.kept_reading("feed:scripted:1") == replace(READING, angle=90.0)
        assert store.kept_reading("feed:scripted:2") is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": 99}', '{"schema": 1}'])
def test_a_kept_reading_that_cannot_be_used_is_none(folder: Path, text: str) -> None:
    with Store.open(folder) as store:
        store.keep_reading("key", READING)
    execute(folder, "UPDATE readings SET reading = ?", text)
    with Store.open(folder) as store:
        assert store.kept_reading("key") is None


def test_failures_are_kept_by_page_until_they_are_cleared(folder: Path) -> None:
    first, second = Failure("reading", "no lines"), Failure("corrupt", "cut off")
    with Store.open(folder) as store:
        store.record_failure("/scans/a.pdf", 2, second)
        store.record_failure("/scans/a.pdf", 2, first)
        store.record_failure("/scans/b\udc80.pdf", 0, second)
    with Store.open(folder) as store:
        assert store.failures()[0] == ("/scans/a.pdf", 2, first)
        assert store.failures()[1].failure == second
        store.clear_failures("/scans/a.pdf")
        store.clear_failures("/scans/b\udc80.pdf")
        assert store.failures() == []


def test_a_failure_that_cannot_be_read_costs_no_other(folder: Path) -> None:
    with Store.open(folder) as store:
        store.record_failure("/scans/a.pdf", 1, Failure("reading", "no lines"))
        store.record_failure("/scans/b.pdf", 1, Failure("reading", "no lines"))
        execute(folder, "UPDATE failures SET failure = '{' WHERE source = '/scans/a.pdf'")
        assert [page.failure.type for page in store.failures()] == ["corrupt", "reading"]


def test_stats_count_what_there_is_and_are_plain_json(letters: Store) -> None:
    letters.keep_reading("key", READING)
    letters.record_failure("/scans/c.pdf", 0, Failure("corrupt", "cut off"))
    stats = json.loads(json.dumps(letters.stats()))
    counts = [stats[name] for name in ("chunks", "sources", "readings", "failures", "dim")]
    assert counts == [4, 2, 1, 1, 1024]
    assert (stats["embedder"], stats["metric"]) == ("hash-v1-1024", "cosine")
    assert stats["database_bytes"] > 0


# Opening


def test_the_folder_holds_what_the_design_says(folder: Path) -> None:
    filled(folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {"manifest.json", "store.sqlite", "index.faiss", "lock"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["schema"], manifest["dim"], manifest["metric"]) == (4, 1024, "cosine")
    assert (manifest["embedder"], manifest["chunks"]) == ("hash-v1-1024", 4)
    assert manifest["index"]["count"] == 4


@pytest.mark.parametrize("make", [False, True])
def test_no_store_and_none_to_be_made_is_not_found(folder: Path, make: bool) -> None:
    if make:
        folder.mkdir()
        (folder / "letter.txt").write_text("a letter")
    with pytest.raises(StoreNotFound, match="kosmos-loader index"):
        Store.open(folder, create=False)
    assert folder.exists() == make


def test_a_folder_that_holds_other_things_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "letter.txt").write_text("a letter")
    with pytest.raises(StoreError, match=r"letter\.txt"):
        Store.open(folder)
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


def test_a_file_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a file")
    with pytest.raises(StoreError, match="is a file"):
        Store.open(path)


def test_a_database_of_something_else_is_refused_and_left_as_it_is(folder: Path) -> None:
    folder.mkdir()
    execute(folder, "CREATE TABLE letters (text)")
    before = (folder / "store.sqlite").read_bytes()
    with pytest.raises(StoreError, match="something else"):
        Store.open(folder)
    assert (folder / "store.sqlite").read_bytes() == before


def test_an_empty_database_file_becomes_a_store(folder: Path) -> None:
    """What a process leaves that was killed before its first commit."""
    folder.mkdir()
    (folder / "store.sqlite").touch()
    with pytest.raises(StoreNotFound):
        Store.open(folder, create=False)
    with Store.open(folder) as store:
        assert store.add(LETTERS) == 4


def test_a_store_without_its_database_is_corrupt(folder: Path) -> None:
    filled(folder)
    (folder / "store.sqlite").unlink()
    with pytest.raises(StoreCorrupt, match="is gone"):
        Store.open(folder)


@pytest.mark.parametrize("damage", ["no database at all", "header", "pages"])
def test_a_damaged_database_is_corrupt_or_reported(folder: Path, damage: str) -> None:
    filled(folder, [chunk(f"c{i}-1", f"letter {i} " * 50) for i in range(100)])
    path = folder / "store.sqlite"
    data = bytearray(path.read_bytes())
    if damage == "no database at all":
        data = bytearray(b"This is a letter and not a database. " * 200)
    elif damage == "header":
        data[16:24] = b"\xff" * 8
    else:
        data[4096 * 3 : 4096 * 40] = noise(4096 * 37)
    path.write_bytes(data)
    try:
        with Store.open(folder) as store:
            told = store.verify()
    except StoreCorrupt as error:
        told = [str(error)]
    assert "damaged" in told[0]
    assert "restore it from a backup" in told[0]


def test_another_embedder_or_dimension_is_a_mismatch_that_names_both(folder: Path) -> None:
    filled(folder)
    with pytest.raises(StoreMismatch, match=r"hash-v1-1024.*1024.*hash-v1-512.*512"):
        Store.open(folder, embedder=HashEmbedder(512))
    with pytest.raises(StoreMismatch, match=r"hash-v1-1024.*counting"):
        Store.open(folder, embedder=Counting())


@pytest.mark.parametrize("embedder", ["all-MiniLM-L6-v2", HashEmbedder, object()])
def test_what_cannot_embed_is_a_usage_error_and_makes_no_store(folder: Path, embedder: Any) -> None:
    for ask in (
        lambda: Store.open(folder, embedder=embedder),
        lambda: Store.temporary(embedder=embedder),
    ):
        with pytest.raises(UsageError, match="embed_documents"):
            ask()
    assert not folder.exists()


def test_vectors_of_no_numbers_make_no_store(folder: Path) -> None:
    with pytest.raises(StoreError, match="0 numbers"):
        Store.open(folder, embedder=Counting(dim=0))
    with pytest.raises(StoreNotFound):
        Store.open(folder, create=False)


class Unreachable:
    """An embedder on a machine that is not there."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise ConnectionError("server down")

    def embed_query(self, text: str) -> list[float]:
        raise ConnectionError("server down")


def test_an_embedder_that_fails_is_named_and_leaves_nothing(folder: Path) -> None:
    before = set(Path(tempfile.gettempdir()).glob("kosmos-loader-*"))
    for ask in (
        lambda: Store.open(folder, embedder=Unreachable()),
        lambda: Store.temporary(embedder=Unreachable()),
    ):
        with pytest.raises(StoreError, match=r"cannot embed \(server down\)"):
            ask()
    assert set(Path(tempfile.gettempdir()).glob("kosmos-loader-*")) <= before


def test_a_store_stays_where_it_is_when_the_process_goes_to_another_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with contextlib.chdir(tmp_path), Store.open("relative") as store:
        store.add(LETTERS[:1])
        with contextlib.chdir("sub"):
            store.add(LETTERS)
    with Store.open(tmp_path / "relative", create=False) as store:
        assert len(store) == len(LETTERS)


@pytest.mark.skipif(os.name != "posix", reason="there is no umask")
def test_all_files_of_a_store_are_as_private_as_the_umask_says(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        filled(folder)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_numbers_of_numpy_are_numbers(folder: Path) -> None:
    with Store.open(folder) as store:
        store.add(LETTERS)
        [entry] = store.find("church roof", np.int64(1), alpha=np.float32(0.5))
    assert entry.entry.id == "a-1"


def test_another_schema_is_a_mismatch_that_names_both(folder: Path) -> None:
    filled(folder)
    execute(folder, "PRAGMA user_version = 7")
    with pytest.raises(StoreMismatch, match=r"schema 7.*schema 4"):
        Store.open(folder)


def test_the_dimension_of_the_default_embedder_follows_the_store(folder: Path) -> None:
    with Store.open(folder, embedder=HashEmbedder(64)) as store:
        store.add(LETTERS)
    with Store.open(folder) as store:
        assert store.dim == 64
        assert found(store, "church roof")[0] == "a-1"


def test_without_its_embedder_a_store_still_searches_by_word_lists_and_deletes(
    folder: Path,
) -> None:
    with Store.open(folder, embedder=Counting()) as store:
        store.add(LETTERS)
    with Store.open(folder) as store:
        assert found(store, "roof", mode="lexical") == ["a-1"]
        assert len(store.sources()) == 2
        assert store.delete(["a-2"]) == 1
        assert store.verify() == []
        for needs in (lambda: store.search("roof"), lambda: store.add(LETTERS)):
            with pytest.raises(StoreMismatch, match="counting"):
                needs()


def test_langchain_embeddings_fit_as_they_are(folder: Path) -> None:
    class Fake:
        model = "fake-2"

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [self.embed_query(text) for text in texts]

        def embed_query(self, text: str) -> list[float]:
            return [float(text.count(letter)) for letter in "aeiou"]

    with Store.open(folder, embedder=Fake()) as store:
        store.add(LETTERS)
        assert store.dim == 5
        assert store.embedder_name.endswith(":fake-2")
    with Store.open(folder, embedder=Fake()) as store:
        assert found(store, LETTERS[1].text, k=1, mode="dense") == ["a-2"]


def test_a_closed_store_says_so(folder: Path) -> None:
    store = Store.open(folder)
    store.add(LETTERS)
    store.close()
    store.close()
    for use in (lambda: store.search("a"), lambda: store.add(LETTERS), lambda: len(store)):
        with pytest.raises(StoreError, match="closed"):
            use()


# The index is a cache


def execute(folder: Path, sql: str, *parameters: Any) -> list[Any]:
    connection = sqlite3.connect(folder / "store.sqlite")
    try:
        with connection:
            return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


def noise(size: int) -> bytes:
    return random.Random(1).randbytes(size)  # noqa: S311 - chance that repeats


def damage(folder: Path, kind: str) -> None:
    path, manifest = folder / "index.faiss", folder / "manifest.json"
    data = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "flipped":
        path.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    elif kind == "same size, other bytes":
        path.write_bytes(noise(len(data)))
    elif kind == "another store's":
        other = filled(folder.parent / "other", [chunk(c.chunk_id, "x") for c in LETTERS])
        path.write_bytes((other / "index.faiss").read_bytes())
    elif kind == "another store's, with its manifest":
        other = filled(folder.parent / "other", [chunk(c.chunk_id, "x") for c in LETTERS])
        path.write_bytes((other / "index.faiss").read_bytes())
        manifest.write_bytes((other / "manifest.json").read_bytes())
    elif kind == "no manifest":
        manifest.unlink()
    elif kind == "damaged manifest":
        manifest.write_bytes(manifest.read_bytes()[:100])
    elif kind == "manifest of another shape":
        manifest.write_text('{"format": "kosmos-loader store", "index": [1], "dim": "x"}')
    elif kind == "manifest that vouches for rubbish":
        rubbish = b"IxM2" + noise(len(data) - 4)
        path.write_bytes(rubbish)
        vouch(manifest, path)
    else:
        raise AssertionError(kind)


def vouch(manifest: Path, path: Path) -> None:
    from kosmos_loader.store.manifest import digest

    data = json.loads(manifest.read_text())
    data["index"] |= {"bytes": path.stat().st_size, "blake2b": digest(path)}
    manifest.write_text(json.dumps(data))


DAMAGE = [
    "missing",
    "empty",
    "truncated",
    "flipped",
    "same size, other bytes",
    "another store's",
    "another store's, with its manifest",
    "no manifest",
    "damaged manifest",
    "manifest of another shape",
    "manifest that vouches for rubbish",
]


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_index_or_manifest_is_made_anew(
    folder: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    filled(folder)
    damage(folder, kind)
    with caplog.at_level(logging.WARNING, "kosmos_loader"), Store.open(folder) as store:
        assert found(store, LETTERS[3].text, k=1, mode="dense") == ["b-2"]
    assert any("rebuilding" in record.message for record in caplog.records)
    caplog.clear()
    with Store.open(folder) as store:
        assert found(store, LETTERS[3].text, k=1, mode="dense") == ["b-2"]
        assert store.verify() == []
    assert caplog.records == []


@pytest.mark.parametrize("kind", DAMAGE)
def test_verify_mends_a_damaged_index_or_manifest(folder: Path, kind: str) -> None:
    filled(folder)
    good = (folder / "index.faiss").read_bytes()
    damage(folder, kind)
    with Store.open(folder) as store:
        assert store.verify() == []
    assert (folder / "index.faiss").read_bytes() == good


def test_an_index_that_is_behind_catches_up(folder: Path) -> None:
    filled(folder)
    before = [(folder / name).read_bytes() for name in ("index.faiss", "manifest.json")]
    with Store.open(folder) as store:
        store.delete(["a-1"])
        store.add([chunk("c-1", "The bells were recast in Apolda.")])
        store.add([replace(LETTERS[1], text="Slates instead of timber.", spans=())])
    for name, data in zip(("index.faiss", "manifest.json"), before, strict=True):
        (folder / name).write_bytes(data)
    with Store.open(folder) as store:
        assert found(store, "bells recast Apolda", k=1, mode="dense") == ["c-1"]
        assert found(store, "slates instead of timber", k=1, mode="dense") == ["a-2"]
        assert "a-1" not in found(store, LETTERS[0].text, k=9, mode="dense")
        assert store.verify() == []


def test_an_index_newer_than_a_restored_database_is_not_used(folder: Path) -> None:
    filled(folder)
    backup = (folder / "store.sqlite").read_bytes()
    with Store.open(folder) as store:
        store.delete(["a-1"])
    (folder / "store.sqlite").write_bytes(backup)
    with Store.open(folder) as store:
        assert found(store, LETTERS[0].text, k=1, mode="dense") == ["a-1"]
        assert store.verify() == []


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        (
            "UPDATE vectors SET vector = x'00' WHERE rowid = (SELECT min(key) FROM vectors)",
            "vector",
        ),
        ("DELETE FROM vectors WHERE rowid = (SELECT min(key) FROM vectors)", "no vector"),
        ("UPDATE entries SET terms = 'other words'", "words"),
        ("UPDATE entries SET metadata = '{}'", "metadata"),
        ("INSERT INTO vectors VALUES (77, 1, 0, x'00')", "no chunk"),
        ("INSERT INTO words (words) VALUES ('delete-all')", "index of words"),
        ("UPDATE entries SET digest = x'00'", "not the one that was added"),
        ("UPDATE entries SET seal = x'00'", "not as it was added"),
        ("UPDATE entries SET page_count = 77", "metadata"),
        ("UPDATE vectors SET crc = 1", "vector is damaged"),
        ("UPDATE meta SET value = 0 WHERE name = 'last_key'", "last_key"),
        ("UPDATE meta SET value = 0 WHERE name = 'generation'", "generation"),
    ],
)
def test_verify_tells_what_is_wrong_and_rebuild_mends_it(folder: Path, sql: str, told: str) -> None:
    filled(folder)
    execute(folder, sql)
    with Store.open(folder) as store:
        problems = store.verify()
        assert any(told in problem for problem in problems), problems
        store.rebuild()
        assert store.verify() == []
        assert found(store, "church roof")[0] == "a-1"
        assert store.get(["a-1"]) == LETTERS[:1]


def test_a_damaged_letter_in_one_record_is_told_and_costs_no_other(folder: Path) -> None:
    filled(folder)
    sql = (
        "UPDATE entries SET record ="
        " CAST(replace(record, 'church', 'ch' || x'ff' || 'rch') AS TEXT)"
    )
    execute(folder, sql)
    with Store.open(folder) as store:
        (problem,) = store.verify()
        assert "chunk a-1: its text is not the one that was added" in problem
        assert store.get(["a-2", "b-1", "b-2"]) == LETTERS[1:]
        assert found(store, "timber")[0] == "a-2"


def test_verify_tells_of_a_record_that_cannot_be_read(folder: Path) -> None:
    filled(folder)
    execute(folder, "UPDATE entries SET record = '{' WHERE id = 'a-1'")
    with Store.open(folder) as store:
        assert "a-1" in store.verify()[0]
        with pytest.raises(StoreCorrupt):
            store.get(["a-1"])
        assert store.get(["a-2"]) == [LETTERS[1]]


def test_nothing_in_the_package_pickles() -> None:
    package = Path(kosmos_loader.__file__).parent
    # what tests loaders for others looks whether they can be sent to a process, and Ray's workers
    # are sent the reader by the driver; neither opens what lies on a disk
    sent = {package / "distributed" / "sending.py", *(package / "testing").glob("*.py")}
    every = [path for path in package.rglob("*.py") if path not in sent]
    sources = {path: path.read_text() for path in every}
    for word in ("import pickle", "from pickle", "allow_pickle=True", "import shelve", "marshal"):
        assert [path for path, source in sources.items() if word in source] == []


def test_a_store_opens_where_pickle_cannot_be_imported(folder: Path) -> None:
    filled(folder)
    program = """
import sys
from kosmos_loader.store import Store
import pickle
def refuse(*args, **kwargs): raise AssertionError("unpickled")
pickle.load = pickle.loads = pickle.Unpickler = refuse
with Store.open(sys.argv[1]) as store:
    print(store.search("church roof")[0].chunk.chunk_id)
"""
    assert run(program, folder) == "a-1"


# Threads and processes


def run(program: str, *arguments: Any) -> str:
    command = [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


def test_a_search_sees_what_another_store_of_the_process_committed(folder: Path) -> None:
    filled(folder)
    with Store.open(folder) as reader, Store.open(folder) as writer:
        assert found(reader, LETTERS[0].text, k=1, mode="dense") == ["a-1"]
        writer.add([chunk("c-1", "The bells were recast.")])
        writer.delete(["a-1"])
        assert found(reader, "bells recast", k=1, mode="dense") == ["c-1"]
        assert "a-1" not in found(reader, LETTERS[0].text, k=9)
        assert len(reader) == 4


def test_a_search_sees_what_another_process_committed(folder: Path) -> None:
    filled(folder)
    program = """
import sys
from kosmos_loader.store import Store
with Store.open(sys.argv[1]) as store:
    store.delete(source="/scans/a.pdf")
"""
    with Store.open(folder) as store:
        assert len(store.search("church", k=9, mode="dense")) == 4
        run(program, folder)
        assert set(found(store, "church", k=9, mode="dense")) == {"b-1", "b-2"}


def test_a_second_writer_gets_a_clear_error_and_may_read(folder: Path) -> None:
    with Store.open(folder) as first:
        first.add(LETTERS[:1])
        with Store.open(folder) as second:
            with pytest.raises(StoreError, match="another Store of this process is writing"):
                second.add(LETTERS)
            assert found(second, "church") == ["a-1"]
        program = """
import sys
from kosmos_loader.store import Store
from kosmos_loader.errors import StoreError
with Store.open(sys.argv[1]) as store:
    try:
        store.delete(["a-1"])
    except StoreError as error:
        print(error)
"""
        assert f"another process ({os.getpid()}) is writing" in run(program, folder)
    with Store.open(folder) as second:
        assert second.add(LETTERS) == 3


def test_a_store_that_was_dropped_lets_others_write(folder: Path) -> None:
    """As in a notebook whose cell is run again."""
    store = Store.open(folder)
    store.add(LETTERS[:1])
    store = Store.open(folder)
    assert store.add(LETTERS) == 3
    store.close()


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")
def test_a_store_that_was_deleted_or_replaced_takes_nothing_more(folder: Path) -> None:
    with Store.open(folder) as old:
        old.add(LETTERS[:1])
        shutil.rmtree(folder)
        with pytest.raises(StoreError, match="deleted or replaced"):
            old.add(LETTERS)
        with Store.open(folder) as new:
            new.add(LETTERS[1:2])
            before = sorted(path.name for path in folder.iterdir())
            with pytest.raises(StoreError, match="deleted or replaced"):
                old.delete(["a-1"])
            old.close()
            assert sorted(path.name for path in folder.iterdir()) == before
    with Store.open(folder) as new:
        assert new.ids() == {LETTERS[1].chunk_id}


def test_threads_may_add_and_search_at_once(folder: Path) -> None:
    errors: list[BaseException] = []

    def work(number: int, store: Store) -> None:
        try:
            for i in range(5):
                store.add([chunk(f"t{number}.{i}-1", f"letter {number} of {i}")])
                assert store.search(f"letter {number} of {i}", k=3)
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            errors.append(error)

    with Store.open(folder) as store:
        threads = [threading.Thread(target=work, args=(n, store)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(store) == 20
        assert store.verify() == []


FORKING = """
import os, sys
from kosmos_loader.store import Store
from kosmos_loader.errors import StoreError
with Store.open(sys.argv[1]) as store:
    store.search("church roof")
    store.add([])
    store.clear_failures("nobody")
    child = os.fork()
    if child == 0:
        names = [hit.chunk.chunk_id for hit in store.search("church roof", mode="hybrid")]
        try:
            store.delete(["a-1"])
        except StoreError as error:
            names.append("refused" if "is writing" in str(error) else str(error))
        store.close()
        print(names[0], names[-1], flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(store.delete(["a-1"]), store.verify())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_can_search_and_leaves_writing_to_its_parent(folder: Path) -> None:
    many = [chunk(f"x{i}-1", f"letter number {i}") for i in range(500)]
    filled(folder, [*LETTERS, *many])
    assert run(FORKING, folder).split("\n") == ["a-1 refused", "1 []"]


ADDING = """
import sys
from kosmos_loader.document import Chunk
from kosmos_loader.store import Store
def chunk(i):
    return Chunk(text=f"letter number {i} " * 20, spans=(), source=f"/s/{i}.pdf", doc_id=f"d{i}",
        chunk_id=f"c{i}", page=1, page_end=1, page_count=1, page_width=9, page_height=9)
with Store.open(sys.argv[1]) as store:
    start = max((int(i[1:]) for i in store.ids()), default=-1) + 1
    for i in range(start, start + 100000, 10):
        store.add(map(chunk, range(i, i + 10)))
        print("+", i, flush=True)
        if i % 50 == 20:
            store.delete([f"c{i}"])
            print("-", i, flush=True)
"""


def committed(lines: list[str]) -> tuple[set[str], set[str]]:
    """Ids that were there, and ids that were gone, when the process was killed."""
    there: set[str] = set()
    gone: set[str] = set()
    for line in lines:
        sign, number = line.split()
        if sign == "+":
            there |= {f"c{i}" for i in range(int(number), int(number) + 10)}
        else:
            there.discard(f"c{number}")
            gone.add(f"c{number}")
    return there, gone


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a signal of POSIX systems")
def test_what_was_committed_before_a_sigkill_is_there_and_sound(folder: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", ADDING, str(folder)]
    lines: list[str] = []
    for killed, steps in enumerate((3, 9, 5), start=1):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines += [process.stdout.readline() for _ in range(steps)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        with Store.open(folder, create=False) as store:
            there, gone = committed([line for line in lines if line.endswith("\n")])
            assert not gone & store.ids()
            # At most one step was under way, and it is there as a whole or not at all.
            lost, more = there - store.ids(), store.ids() - there
            assert len(more) in (0, 10)
            assert all(int(name[1:]) % 50 == 20 for name in lost)  # deleted, and not yet told
            assert len(lost) <= killed
            assert store.verify() == []
            assert len(store.search("letter number 3", k=5)) == 5


def test_leftovers_of_a_killed_writer_are_swept(folder: Path) -> None:
    filled(folder)
    (folder / ".index.faiss.abc.tmp").write_bytes(b"half an index")
    with Store.open(folder) as store:
        store.delete(["a-1"])
    assert not list(folder.glob(".*"))


# Real receipts


def receipts() -> list[Chunk]:
    return [
        chunk(
            f"{path.name.partition('.')[0]}-1",
            "\n".join(line["text"] for line in json.loads(path.read_text())["lines"]),
            spans=(),
        )
        for path in sorted(RECEIPTS.glob("*.lines.json"))
    ]


def misread(text: str, rng: random.Random) -> str:
    """`text` with 3 of 100 characters confused, dropped or doubled, as bad scans are read."""
    alike = dict(zip("01258BEFHIOSTUVZaeno", "OlZSB8FEN1O5IVU2ocuo", strict=True))

    def read(character: str) -> str:
        if rng.random() >= 0.03:
            return character
        return rng.choice([alike.get(character, ""), alike.get(character, character * 2), ""])

    return "".join(map(read, text))


def share_found_first(folder: Path, pages: list[Chunk]) -> float:
    lines = (RECEIPTS / "questions.jsonl").read_text().splitlines()
    asked = [q for q in map(json.loads, lines) if q["kind"] == "archive"]
    with Store.open(folder) as store:
        store.add(pages)
        right = [found(store, q["question"], k=1) == [f"{q['page']}-1"] for q in asked]
    return sum(right) / len(asked)


@pytest.mark.skipif(not RECEIPTS.is_dir(), reason=f"needs the receipts in {RECEIPTS}")
def test_the_receipt_of_a_company_and_date_comes_first(folder: Path) -> None:
    assert share_found_first(folder, receipts()) >= 0.95


@pytest.mark.slow
@pytest.mark.skipif(not RECEIPTS.is_dir(), reason=f"needs the receipts in {RECEIPTS}")
def test_the_receipt_comes_first_though_three_in_a_hundred_characters_are_misread(
    tmp_path: Path,
) -> None:
    shares = []
    for seed in range(6):
        rng = random.Random(seed)  # noqa: S311 - chance that repeats
        pages = [replace(page, text=misread(page.text, rng)) for page in receipts()]
        shares.append(share_found_first(tmp_path / str(seed), pages))
    assert np.mean(shares) >= 0.95, shares


def test_the_readings_of_a_source_can_be_forgotten_and_leave_no_text_in_the_file(
    tmp_path: Path,
) -> None:
    info = PageInfo("/scans/a.png", "d", 1, 1, 10, 10, 72.0)
    line = Line("a secret sentence", Box(0, 0, 1, 1))
    with Store.open(tmp_path / "store") as store:
        store.keep_reading("k", Reading(info, "r", "1", (line,)))
        store.keep_reading("o", Reading(replace(info, source="/b.png"), "r", "1"))
        assert store.forget_readings("/scans/a.png") == 1
        assert store.kept_reading("k") is None
        assert store.kept_reading("o") is not None
    assert b"secret" not in (tmp_path / "store" / "store.sqlite").read_bytes()
