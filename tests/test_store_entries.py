from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos_loader.document import Chunk, Span
from kosmos_loader.embedding import Embedder, GivenVectors, HashEmbedder
from kosmos_loader.errors import StoreCorrupt, StoreError, StoreMismatch, UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.store import Entry, Store

CHUNK = Chunk(
    text="The council resolved to repair the church roof.",
    spans=(Span(0, 11, 2, Box(0.1, 0.1, 0.5, 0.2)), Span(12, 47, 2, Box(0.1, 0.2, 0.9, 0.3))),
    source="/scans/minutes.pdf",
    doc_id="minutes",
    chunk_id="minutes-1",
    page=2,
    page_end=2,
    page_count=9,
    page_width=800,
    page_height=1000,
    order=3,
    headings=("Minutes", "1911"),
    confidence=0.75,
    flags=("low_confidence",),
    reader="scripted",
    reader_version="1",
)
ENTRIES = [
    Entry(
        "a", "The organ was tuned by Master Ahrend.", {"year": 1911, "tags": ["music", "repair"]}
    ),
    Entry("b", "Flour and yeast for the bakery.", {"year": 1912, "deep": {"x": [1, None]}}),
    Entry("c", "The bells were recast in Apolda.", doc_id="parish", source="/scans/bells.pdf"),
]
AXES = np.eye(3, dtype=np.float32)


@pytest.fixture
def store() -> Iterator[Store]:
    with Store.temporary() as store:
        yield store


@pytest.fixture
def given_store() -> Iterator[Store]:
    with Store.temporary(embedder=GivenVectors(3)) as store:
        store.put(ENTRIES, vectors=AXES)
        yield store


def ids(found: list[Any]) -> list[str]:
    return [entry.id for entry, _ in found]


# Putting and getting


def test_what_was_put_is_got_back_equal_after_reopening(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        assert store.put(ENTRIES) == 3
    with Store.open(tmp_path / "store", create=False) as store:
        assert store.entries(["c", "nobody", "a", "b"]) == [ENTRIES[2], ENTRIES[0], ENTRIES[1]]
        assert store.ids() == {"a", "b", "c"}
        assert store.verify() == []


def test_putting_the_same_again_changes_nothing(store: Store) -> None:
    store.put(ENTRIES)
    before = store.stats()["generation"]
    assert store.put(ENTRIES) == 0
    assert store.stats()["generation"] == before


@pytest.mark.parametrize(
    "changed",
    [
        Entry("c", "Other words.", doc_id="parish", source="/scans/bells.pdf"),
        Entry("c", ENTRIES[2].text, {"new": 1}, "parish", "/scans/bells.pdf"),
        Entry("c", ENTRIES[2].text, {}, "other", "/scans/bells.pdf"),
        Entry("c", ENTRIES[2].text, {}, "parish", "/other.pdf"),
        Entry("c", ENTRIES[2].text, {}, "parish", "/scans/bells.pdf", "embedded"),
    ],
)
def test_an_entry_put_under_an_id_that_is_there_replaces_it(store: Store, changed: Entry) -> None:
    store.put(ENTRIES)
    assert store.put([ENTRIES[0], changed]) == 1
    assert len(store) == 3
    assert store.entries(["c"]) == [changed]
    assert store.verify() == []


def test_what_is_embedded_and_searched_may_differ_from_the_text(store: Store) -> None:
    entry = Entry("a", "42", embedded="price of the church roof")
    store.put([entry, ENTRIES[1]])
    for mode in ("lexical", "dense", "hybrid"):
        found = store.find("church roof", k=1, mode=mode)
        assert found[0].entry == entry


ODD = ["\0", "a\0b", "scan\udc80", "\U0010ffff", "", " ", '"', "\\u0000"]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_any_text_is_kept_as_it_is_wherever_it_stands(store: Store, text: str) -> None:
    odd = Entry("id" + text, text, {"k" + text: text, "l": [text, {"m": text}]}, text, "s" + text)
    store.put([odd, ENTRIES[0]])
    assert store.entries([odd.id]) == [odd]
    assert store.find(filter={"l": {"$exists": True}}, query="organ", mode="dense")[0].entry == odd
    assert store.verify() == []
    assert store.delete(source=odd.source) == 1


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), 2**80, -1e-300, 0.1 + 0.2, True])
def test_numbers_come_back_as_they_were(store: Store, number: float) -> None:
    entry = Entry("a", "text", {"n": number, "other": 1})
    store.put([entry])
    (back,) = store.entries(["a"])
    assert back == entry
    assert type(back.metadata["n"]) is type(number)
    assert ids(store.find("text", filter={"other": 1})) == ["a"]


def test_a_number_that_is_none_comes_back_and_breaks_no_filter(store: Store) -> None:
    store.put([Entry("a", "text", {"n": float("nan"), "other": 1})])
    assert np.isnan(store.entries(["a"])[0].metadata["n"])
    assert ids(store.find("text", filter={"other": 1})) == ["a"]
    assert store.verify() == []


@pytest.mark.parametrize(
    "entry",
    [
        Entry("a", "text", {"when": object()}),
        Entry("a", "text", {"when": {1, 2}}),
        Entry("a", "text", {("a", "b"): 1}),  # type: ignore[dict-item]
        Entry("a", 3),  # type: ignore[arg-type]
        Entry(3, "text"),  # type: ignore[arg-type]
        Entry("a", "text", doc_id=None),  # type: ignore[arg-type]
        Entry("a", "text", source=b"x"),  # type: ignore[arg-type]
        Entry("a", "text", embedded=7),  # type: ignore[arg-type]
        "a text",
        None,
    ],
    ids=repr,
)
def test_what_cannot_be_kept_is_a_usage_error_and_adds_nothing(store: Store, entry: Any) -> None:
    with pytest.raises(UsageError):
        store.put([ENTRIES[0], entry])
    assert len(store) == 0


def test_metadata_that_contain_themselves_are_a_usage_error(store: Store) -> None:
    metadata: dict[str, Any] = {}
    metadata["self"] = metadata
    with pytest.raises(UsageError, match="no JSON"):
        store.put([Entry("a", "text", metadata)])


def test_metadata_nested_deeper_than_python_goes_are_a_usage_error(store: Store) -> None:
    deep: list[Any] = []
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    with pytest.raises(UsageError, match="no JSON"):
        store.put([Entry("a", "text", {"deep": deep})])


def test_entries_are_deleted_by_what_they_say_of_themselves(store: Store) -> None:
    store.put(ENTRIES)
    assert store.delete(doc_id="parish") == 1
    assert store.delete(filter={"year": 1911}) == 1
    assert store.delete(["b", "nobody"]) == 1
    assert len(store) == 0


def test_sources_leave_out_what_comes_from_no_file(store: Store) -> None:
    store.put([*ENTRIES, Entry("d", "x", {"page_count": 7}, source="/scans/bells.pdf")])
    assert store.sources() == [("/scans/bells.pdf", 7, 2)]
    assert store.stats()["sources"] == 1


# Vectors given


def test_given_vectors_are_kept_at_length_one_and_found(given_store: Store) -> None:
    given_store.put([Entry("d", "diagonal")], vectors=[[3.0, 4.0, 0.0]])
    vectors = given_store.vectors(["d", "a", "nobody"])
    assert list(vectors) == ["d", "a"]
    assert vectors["d"] == pytest.approx([0.6, 0.8, 0.0])
    found = given_store.find(vector=[0.0, 5.0, 0.0], k=2)
    assert found == [(ENTRIES[1], 1.0), (Entry("d", "diagonal"), pytest.approx(0.8))]
    assert given_store.verify() == []


def test_the_same_entry_with_another_vector_is_changed(given_store: Store) -> None:
    assert given_store.put(ENTRIES, vectors=AXES) == 0
    assert given_store.put(ENTRIES[:1], vectors=[[0.0, 0.0, 2.0]]) == 1
    assert given_store.vectors(["a"])["a"].tolist() == [0, 0, 1]
    assert {entry.id: score for entry, score in given_store.find(vector=AXES[2])} == {
        "a": 1,
        "b": 0,
        "c": 1,
    }


def test_of_one_id_given_twice_the_last_counts_with_its_vector(given_store: Store) -> None:
    twice = [Entry("z", "first"), Entry("z", "second")]
    assert given_store.put(twice, vectors=AXES[:2]) == 1
    assert given_store.entries(["z"])[0].text == "second"
    assert given_store.vectors("z")["z"].tolist() == AXES[1].tolist()


@pytest.mark.parametrize("count", [2, 4])
def test_as_many_vectors_as_entries_are_wanted(count: int) -> None:
    with Store.temporary(embedder=GivenVectors(3)) as store:
        for vectors in (np.ones((count, 3)), iter([[1.0, 0.0, 0.0]] * count)):
            with pytest.raises(UsageError, match="vectors than entries"):
                store.put(ENTRIES, vectors=vectors)


@pytest.mark.parametrize(
    ("vectors", "error"),
    [
        ([[1.0, 2.0]] * 3, StoreMismatch),
        ([[float("nan")] * 3] * 3, StoreError),
        ([[1.0, 2.0, 3.0], [1.0], [2.0]], StoreError),
        (["a", "b", "c"], StoreError),
        ([None] * 3, StoreError),
    ],
)
def test_vectors_that_are_none_add_nothing(vectors: Any, error: type[StoreError]) -> None:
    with Store.temporary(embedder=GivenVectors(3)) as store:
        with pytest.raises(error, match="the caller gave"):
            store.put(ENTRIES, vectors=vectors)
        assert len(store) == 0


def test_entries_and_vectors_may_be_streams_longer_than_a_batch() -> None:
    count = 8200
    matrix = np.random.default_rng(1).standard_normal((count, 4)).astype(np.float32)
    with Store.temporary(embedder=GivenVectors(4)) as store:
        stream = (Entry(f"e{i}", f"entry {i}") for i in range(count))
        assert store.put(stream, vectors=iter(matrix)) == count
        for place in (0, 4100, count - 1):
            assert ids(store.find(vector=matrix[place], k=1)) == [f"e{place}"]
        assert store.verify() == []


def test_given_vectors_embed_nothing_and_say_what_to_do(given_store: Store) -> None:
    assert isinstance(GivenVectors(3), Embedder)
    with pytest.raises(UsageError, match="vectors="):
        given_store.put([Entry("d", "text")])
    with pytest.raises(UsageError, match="vector="):
        given_store.find("bakery")
    assert ids(given_store.find("bakery", mode="lexical")) == ["b"]
    with pytest.raises(UsageError):
        GivenVectors(0)


def test_a_store_of_given_vectors_is_opened_by_name_or_without(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s", embedder=GivenVectors(3, "mine")) as store:
        store.put(ENTRIES, vectors=AXES)
    with Store.open(tmp_path / "s") as store:
        assert ids(store.find(vector=AXES[2], k=1)) == ["c"]
        assert store.put([Entry("d", "x")], vectors=AXES[:1]) == 1
    with pytest.raises(StoreMismatch, match="mine"):
        Store.open(tmp_path / "s", embedder=GivenVectors(3))


def test_entries_with_vectors_may_be_added_to_any_store(store: Store) -> None:
    vectors = HashEmbedder().embed_documents([entry.text for entry in ENTRIES])
    assert store.put(ENTRIES, vectors=vectors) == 3
    assert store.put(ENTRIES) == 0  # the same texts: nothing to embed
    assert ids(store.find("bakery flour", k=1)) == ["b"]


# Finding


def test_a_vector_and_a_query_are_searched_for_together(given_store: Store) -> None:
    found = given_store.find("bakery", vector=AXES[1])
    assert found[0] == (ENTRIES[1], 1.0)
    assert ids(given_store.find("bakery", vector=AXES[0], mode="dense"))[0] == "a"
    assert ids(given_store.find("bakery", vector=AXES[0], mode="lexical")) == ["b"]


def test_what_vectors_count_against_words_may_be_said(given_store: Store) -> None:
    asked: dict[str, Any] = {"query": "bakery", "vector": AXES[0]}
    assert given_store.find(**asked, alpha=0.5) == given_store.find(**asked)
    scores = [
        {entry.id: score for entry, score in given_store.find(**asked, alpha=alpha)}
        for alpha in (0.1, 0.5, 0.9)
    ]
    # "a" is the nearest, and no word of it is asked for: weight / 61 over both weights / 61
    assert [score["a"] for score in scores] == pytest.approx([0.1, 0.5, 0.9])
    assert ids(given_store.find(**asked, alpha=0)) == ["b"]
    assert ids(given_store.find(**asked, alpha=1)) == ids(given_store.find(vector=AXES[0]))
    for wrong in (-0.1, 1.1, float("nan"), "1"):
        with pytest.raises(UsageError, match="alpha lies between"):
            given_store.find(**asked, alpha=wrong)


def test_a_store_tells_its_embedder(tmp_path: Path) -> None:
    with Store.open(tmp_path, embedder=GivenVectors(3)) as store:
        assert store.embedder is not None
        assert store.embedder_name == "given"
    with Store.open(tmp_path) as store:
        assert store.embedder is None
    with Store.temporary() as store:
        assert isinstance(store.embedder, HashEmbedder)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"query": 3},
        {"query": "a", "k": -1},
        {"query": "a", "mode": "x"},
        {"mode": "lexical"},
        {"mode": "lexical", "vector": [1.0, 0.0, 0.0]},
    ],
)
def test_a_search_that_cannot_be_meant_is_a_usage_error(
    given_store: Store, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        given_store.find(**arguments)


def test_a_vector_of_another_length_is_a_mismatch(given_store: Store) -> None:
    with pytest.raises(StoreMismatch, match=r"2 numbers.*3"):
        given_store.find(vector=[1.0, 0.0])


def test_a_filter_names_metadata_and_not_the_entrys_own_fields(store: Store) -> None:
    store.put(
        [
            Entry("own", "roof", source="/x.pdf", doc_id="x"),
            Entry("same", "roof", {"source": "/x.pdf", "doc_id": "x", "chunk_id": "same"}, "x"),
            Entry("other", "roof", {"source": "/x.pdf", "chunk_id": "same"}, source="/y.pdf"),
        ]
    )
    assert set(ids(store.find("roof", filter={"source": "/x.pdf"}))) == {"same", "other"}
    assert set(ids(store.find("roof", filter={"source": {"$in": ["/x.pdf"]}}))) == {"same", "other"}
    assert ids(store.find("roof", filter={"doc_id": "x"})) == ["same"]
    assert set(ids(store.find("roof", filter={"chunk_id": "same"}))) == {"same", "other"}
    assert ids(store.find("roof", filter={"source": ""})) == []
    assert store.ids(source="/x.pdf") == {"own"}
    assert store.delete(source="/y.pdf") == 1


def test_diverse_hits_are_near_the_question_and_unlike_each_other() -> None:
    vectors = [[1.0, 0.1, 0.0], [1.0, 0.11, 0.0], [0.8, 0.0, 0.6], [0.0, 0.0, 1.0]]
    with Store.temporary(embedder=GivenVectors(3)) as store:
        store.put([Entry(name, name) for name in "pqrs"], vectors=vectors)
        question = [1.0, 0.0, 0.3]
        assert ids(store.find(vector=question, k=2)) == ["p", "q"]
        found = store.find_diverse(vector=question, k=2, balance=0.7)
        assert ids(found) == ["p", "r"]
        assert found[0].score == pytest.approx(1 / (1.01 * 1.09) ** 0.5)
        assert found[1].score == pytest.approx(0.98 / 1.09**0.5)
        assert ids(store.find_diverse(vector=question, k=2, balance=1.0)) == ["p", "q"]
        assert ids(store.find_diverse(vector=question, k=2, balance=0.0)) == ["p", "s"]
        assert ids(store.find_diverse(vector=question, k=2, pool=2)) == ["p", "q"]
        assert len(store.find_diverse(vector=question, k=9, pool=1)) == 4
        assert store.find_diverse(vector=question, k=0) == []
        for wrong in ({"balance": 1.5}, {"pool": -1}, {"k": -1}):
            with pytest.raises(UsageError):
                store.find_diverse(vector=question, **wrong)


def test_diverse_hits_obey_a_filter_and_may_be_asked_for_in_words(store: Store) -> None:
    store.put(ENTRIES)
    assert ids(store.find_diverse("bakery flour", k=1)) == ["b"]
    assert ids(store.find_diverse("bakery flour", filter={"year": 1911})) == ["a"]
    assert Store.temporary().find_diverse("anything") == []


# Chunks and entries in one store


def test_a_chunk_is_found_as_an_entry_and_an_entry_as_a_chunk(store: Store) -> None:
    store.add([CHUNK])
    store.put(ENTRIES)
    (found,) = store.find("council church roof", k=1)
    assert found.entry == Entry(
        "minutes-1",
        CHUNK.text,
        CHUNK.metadata(),
        "minutes",
        "/scans/minutes.pdf",
        CHUNK.embedded_text,
    )
    assert store.entries(["minutes-1"]) == [found.entry]
    assert store.get(["minutes-1"]) == [CHUNK]
    (hit,) = store.search("bells recast", k=1)
    assert (hit.chunk.chunk_id, hit.chunk.text) == ("c", ENTRIES[2].text)
    assert (hit.chunk.doc_id, hit.chunk.source) == ("parish", "/scans/bells.pdf")
    assert store.get(["c"]) == [hit.chunk]


def test_a_chunk_put_as_an_entry_comes_back_as_the_chunk(store: Store) -> None:
    text, metadata = CHUNK.text, CHUNK.metadata()
    store.put([Entry(CHUNK.chunk_id, text, metadata, CHUNK.doc_id, CHUNK.source)])
    assert store.get([CHUNK.chunk_id]) == [CHUNK]
    assert store.search("church roof")[0].chunk.boxes(0, 3) == [(2, Box(0.1, 0.1, 0.5, 0.2))]


def test_chunk_and_entry_under_one_id_replace_each_other(store: Store) -> None:
    store.add([CHUNK])
    entry = Entry(CHUNK.chunk_id, "Another text.")
    assert store.put([entry]) == 1
    assert store.entries([entry.id]) == [entry]
    assert store.add([CHUNK]) == 1
    assert store.get([entry.id]) == [CHUNK]
    assert len(store) == 1
    assert store.verify() == []


# From metadata back to a chunk


def test_a_chunk_comes_back_from_its_metadata() -> None:
    assert Chunk.from_metadata(CHUNK.text, CHUNK.metadata()) == CHUNK
    pictured = replace(CHUNK, digests=((2, "ab12"), (3, "cd34")))
    assert Chunk.from_metadata(CHUNK.text, pictured.metadata()) == pictured
    assert Chunk.from_metadata(CHUNK.text, CHUNK.metadata(), chunk_id="x").chunk_id == "x"


def test_spans_come_back_rounded_to_five_digits() -> None:
    chunk = replace(CHUNK, spans=(Span(0, 3, 2, Box(0.1234567, 0, 1 / 3, 1)),))
    (span,) = Chunk.from_metadata(chunk.text, chunk.metadata()).spans
    assert span == Span(0, 3, 2, Box(0.12346, 0, 0.33333, 1))


def test_a_chunk_without_metadata_is_a_page_of_text() -> None:
    chunk = Chunk.from_metadata("text", {})
    assert (chunk.page, chunk.page_end, chunk.page_count, chunk.kind) == (1, 1, 1, "paragraph")
    assert (chunk.spans, chunk.headings, chunk.confidence, chunk.chunk_id) == ((), (), None, "")
    assert Chunk.from_metadata("text", chunk.metadata()) == chunk


@pytest.mark.parametrize(
    "spans",
    [
        None,
        3,
        "",
        "[",
        "{}",
        "[1]",
        "[[1,2]]",
        "[[0,99,1,0,0,1,1]]",
        "[[0,2,1,1,1,0,0]]",
        "[" * 9999,
    ],
)
def test_spans_that_do_not_fit_are_left_out(spans: Any) -> None:
    assert Chunk.from_metadata("text", {"spans": spans}).spans == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(), st.dictionaries(st.sampled_from(sorted(CHUNK.metadata())) | st.text(), JSON))
def test_any_metadata_make_a_chunk(text: str, metadata: dict[str, Any]) -> None:
    chunk = Chunk.from_metadata(text, metadata)
    assert chunk.text == text
    assert all(span.end <= len(text) for span in chunk.spans)


@pytest.fixture(scope="module")
def lasting() -> Iterator[Store]:
    with Store.temporary(embedder=GivenVectors(1)) as store:
        yield store


@given(st.text(), st.text(), st.dictionaries(st.text(), JSON), st.text(), st.text())
def test_any_entry_comes_back_as_it_was(
    lasting: Store, id_: str, text: str, metadata: dict[str, Any], doc_id: str, source: str
) -> None:
    entry = Entry(id_, text, metadata, doc_id, source)
    lasting.put([entry], vectors=[[1.0]])
    assert lasting.entries([id_]) == [entry]
    assert lasting.find(filter={"no such key": 1}, vector=[1.0]) == []


# Care


def alter(store: Store, sql: str) -> None:
    connection = sqlite3.connect(store.folder / "store.sqlite")
    with connection:
        connection.execute(sql)
    connection.close()


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("UPDATE entries SET metadata = replace(metadata, '1911', '1912') WHERE id = 'a'", "added"),
        ("UPDATE entries SET record = replace(record, 'organ', 'orgam') WHERE id = 'a'", "text"),
        ("UPDATE entries SET record = '[]' WHERE id = 'a'", "damaged"),
        ("UPDATE entries SET record = '{}' WHERE id = 'a'", "damaged"),
        ("UPDATE entries SET metadata = '{' WHERE id = 'a'", "damaged"),
        ("UPDATE entries SET doc_id = 'else' WHERE id = 'a'", "added"),
        ("UPDATE entries SET id = 'else' WHERE id = 'a'", "added"),
        ("UPDATE entries SET terms = 'else' WHERE id = 'a'", "words"),
        ("UPDATE vectors SET vector = (SELECT max(vector) FROM vectors)", "vector is damaged"),
        ("DELETE FROM vectors", "no vector"),
    ],
)
def test_verify_tells_what_is_wrong_with_an_entry(store: Store, sql: str, told: str) -> None:
    store.put(ENTRIES)
    alter(store, sql)
    problems = store.verify()
    assert any(told in problem for problem in problems), problems


def test_an_entry_that_was_damaged_is_mended_by_putting_it_again(store: Store) -> None:
    store.put(ENTRIES)
    alter(store, "UPDATE entries SET record = '{' WHERE id = 'a'")
    with pytest.raises(StoreCorrupt, match="'a'"):
        store.entries(["a"])
    assert store.put(ENTRIES) == 1
    assert store.verify() == []


def test_rebuild_embeds_again_what_lost_its_vector(store: Store) -> None:
    store.put(ENTRIES)
    store.add([CHUNK])
    alter(store, "UPDATE vectors SET vector = zeroblob(4096)")
    alter(store, "UPDATE entries SET terms = ''")
    store.rebuild()
    assert store.verify() == []
    assert ids(store.find("bakery", k=1)) == ["b"]


# Temporary stores


def test_a_temporary_store_goes_when_it_is_closed_or_collected() -> None:
    with Store.temporary() as store:
        store.put(ENTRIES)
        first = store.folder
        assert first.is_dir()
    assert not first.exists()
    store = Store.temporary()
    store.put(ENTRIES)
    second = store.folder
    del store
    gc.collect()
    assert not second.exists()


FORKING = """
import os, sys
from kosmos_loader.store import Entry, Store
with Store.temporary() as store:
    store.put([Entry("a", "church roof"), Entry("b", "bakery")])
    store.find("church roof")
    if (child := os.fork()) == 0:
        print(store.find("bakery")[0].entry.id, flush=True)
        store.close()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(store.find("church roof")[0].entry.id, len(store), store.folder.is_dir())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_searches_a_temporary_store_and_leaves_it_to_its_parent() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKING]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert printed.stdout.split("\n")[:2] == ["b", "a 2 True"]


def test_a_reader_sees_entries_as_soon_as_they_are_put(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as writer, Store.open(tmp_path / "s") as reader:
        writer.put(ENTRIES)
        assert ids(reader.find("bakery", k=1)) == ["b"]
        writer.delete(["b"])
        assert "b" not in ids(reader.find("bakery"))
        with pytest.raises(StoreError, match="is writing"):
            reader.put(ENTRIES)


def test_entries_after_a_failure_do_not_cost_those_before(store: Store) -> None:
    many = [Entry(f"e{i}", f"entry {i}") for i in range(300)]
    with pytest.raises(UsageError):
        store.put([*many, Entry("bad", "x", {"y": object()})])
    assert len(store) == 256
