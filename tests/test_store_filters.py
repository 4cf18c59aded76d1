from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos_loader.embedding import GivenVectors
from kosmos_loader.errors import UsageError
from kosmos_loader.store import Entry, Store

SCALARS = [None, True, False, 0, 1, 2, -3, 1.0, 0.1, 2.5, 1e300, "", "a", "A", "ab", "É", "é", "1"]
KEYS = ["a", "b", "source", "chunk_id", "ключ", "a.b"]


def metadata(rng: random.Random) -> dict[str, Any]:
    def value() -> Any:
        if rng.random() < 0.3:
            return [rng.choice(SCALARS) for _ in range(rng.randrange(4))]
        if rng.random() < 0.1:
            return {rng.choice("aAb"): rng.choice(SCALARS)}
        return rng.choice(SCALARS)

    return {key: value() for key in KEYS if rng.random() < 0.7}


RNG = random.Random(6)  # noqa: S311 - chance that repeats
ENTRIES = [
    Entry(f"e{i}", "text", metadata(RNG), f"d{i % 3}", source=RNG.choice("aA")) for i in range(80)
]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with Store.temporary(embedder=GivenVectors(1)) as store:
        store.put(ENTRIES, vectors=[[1.0]] * len(ENTRIES))
        yield store


def kept(store: Store, filter_: dict[str, Any]) -> set[str]:
    return {entry.id for entry, _ in store.find(vector=[1.0], k=len(ENTRIES), filter=filter_)}


# What a filter means, in plain Python


def same(one: Any, other: Any) -> bool:
    return kind(one) == kind(other) and one == other


def kind(value: Any) -> Any:
    return float if type(value) is int else type(value)


def contains(whole: Any, part: Any) -> bool:
    if isinstance(whole, list):
        return any(same(item, part) for item in whole)
    return isinstance(whole, str | dict) and isinstance(part, str) and part in whole


def compares(value: Any, operator: str, operand: Any) -> bool:
    match operator:
        case "$ne":
            return not same(value, operand)
        case "$nin":
            return not any(same(value, one) for one in operand)
        case "$exists":
            return (value is not None) == operand
        case "$empty":
            return (value is None or value in ("", [])) == operand
    if value is None:
        return False
    match operator:
        case "$eq":
            return same(value, operand)
        case "$gt":
            return bool(kind(value) == kind(operand) and value > operand)
        case "$gte":
            return bool(kind(value) == kind(operand) and value >= operand)
        case "$lt":
            return bool(kind(value) == kind(operand) and value < operand)
        case "$lte":
            return bool(kind(value) == kind(operand) and value <= operand)
        case "$in":
            return any(same(value, one) for one in operand)
        case "$contains":
            return contains(value, operand)
        case "$any":
            return any(contains(value, one) for one in operand)
        case "$all":
            return all(contains(value, one) for one in operand)
        case "$icontains":
            return isinstance(value, str) and operand.lower() in value.lower()
    raise AssertionError(operator)


def holds(values: dict[str, Any], filter_: dict[str, Any]) -> bool:
    for key, condition in filter_.items():
        match key:
            case "$and":
                right = all(holds(values, part) for part in condition)
            case "$or":
                right = any(holds(values, part) for part in condition)
            case "$not":
                right = not holds(values, condition)
            case _:
                asked = condition if isinstance(condition, dict) else {"$eq": condition}
                right = all(compares(values.get(key), *pair) for pair in asked.items())
        if not right:
            return False
    return True


VALUES = [value for value in SCALARS if value is not None]
TEXTS = [value for value in VALUES if isinstance(value, str)]
one = st.sampled_from(VALUES)
several = st.lists(one, max_size=3)
text = st.sampled_from(TEXTS)
OPERANDS = {
    **dict.fromkeys(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$contains"], one),
    **dict.fromkeys(["$in", "$nin", "$any", "$all"], several),
    "$icontains": text,
    **dict.fromkeys(["$exists", "$empty"], st.booleans()),
}
comparisons = st.sampled_from(sorted(OPERANDS)).flatmap(
    lambda operator: st.fixed_dictionaries({operator: OPERANDS[operator]})
)
flat = st.dictionaries(st.sampled_from([*KEYS, "nobody"]), one | comparisons, max_size=2)
filters = st.recursive(
    flat,
    lambda inner: (
        st.fixed_dictionaries({"$and": st.lists(inner, max_size=3)})
        | st.fixed_dictionaries({"$or": st.lists(inner, max_size=3)})
        | st.fixed_dictionaries({"$not": inner})
    ),
    max_leaves=4,
)


@given(filters)
def test_a_filter_keeps_what_plain_python_keeps(store: Store, filter_: dict[str, Any]) -> None:
    expected = {entry.id for entry in ENTRIES if holds(dict(entry.metadata), filter_)}
    assert kept(store, filter_) == expected


@pytest.mark.parametrize("operator", sorted(OPERANDS))
def test_every_operator_keeps_some_and_leaves_some(store: Store, operator: str) -> None:
    operand: Any = {
        "$in": [1, "a"],
        "$nin": [1, "a"],
        "$any": ["a", 2],
        "$all": ["a"],
        "$exists": True,
        "$empty": True,
        "$eq": "ab",
        "$ne": "ab",
    }.get(operator, "a")
    assert 0 < len(kept(store, {"a": {operator: operand}})) < len(ENTRIES)


# LlamaIndex's own judge

SIGNS = {
    "==": "$eq",
    "!=": "$ne",
    ">": "$gt",
    ">=": "$gte",
    "<": "$lt",
    "<=": "$lte",
    "in": "$in",
    "nin": "$nin",
    "any": "$any",
    "all": "$all",
    "contains": "$contains",
    "text_match": "$contains",
    "text_match_insensitive": "$icontains",
    "is_empty": "$empty",
}


@pytest.mark.parametrize("sign", sorted(SIGNS))
@pytest.mark.parametrize("key", ["a", "b", "nobody"])
def test_operators_mean_what_they_mean_in_llamaindex(store: Store, sign: str, key: str) -> None:
    types = pytest.importorskip("llama_index.core.vector_stores.types")
    judge = pytest.importorskip("llama_index.core.vector_stores.utils").build_metadata_filter_fn
    operator = SIGNS[sign]
    operands: list[Any] = ["", "a", "É", 1, 2.5]
    if operator in ("$in", "$nin", "$any", "$all"):
        operands = [[], ["a"], ["É", "b"], [1, 2], [2.5]]
    if operator == "$icontains":
        operands = ["", "a", "É"]
    if operator == "$empty":
        operands = [None]
    by_id = {entry.id: dict(entry.metadata) for entry in ENTRIES}
    for operand in operands:
        asked = types.MetadataFilters(
            filters=[types.MetadataFilter(key=key, value=operand, operator=sign)]
        )
        theirs = judge(by_id.__getitem__, asked)
        mine = kept(store, {key: {operator: True if operator == "$empty" else operand}})
        for name, values in by_id.items():
            value = values.get(key)
            if isinstance(value, bool) or (isinstance(value, list) and has_bool(value)):
                continue  # in Python true is 1
            try:
                assert theirs(name) == (name in mine), (value, operator, operand)
            except TypeError:  # they cannot compare these
                assert sign == "text_match" or name not in mine


def has_bool(values: list[Any]) -> bool:
    return any(isinstance(value, bool) for value in values)


# What cannot be meant


@pytest.mark.parametrize(
    "condition",
    [
        {"$any": "abc"},
        {"$all": 3},
        {"$any": [None]},
        {"$all": [[1]]},
        {"$nin": "a"},
        {"$icontains": 3},
        {"$icontains": ["a"]},
        {"$empty": 1},
        {"$empty": None},
        {"$contains": None},
        {"$contains": {"a": 1}},
        {"$regex": "a"},
    ],
    ids=repr,
)
def test_an_operator_with_what_it_cannot_take_is_a_usage_error(
    store: Store, condition: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        kept(store, {"a": condition})


def test_lists_may_be_long(store: Store) -> None:
    many = [*range(-100_000, 100_000)]
    assert kept(store, {"a": {"$in": many}}) == kept(store, {"a": {"$in": [0, 1, 2, -3, 1.0]}})


def test_entries_are_named_by_their_ids_whatever_their_metadata_say(store: Store) -> None:
    assert kept(store, {"$ids": ["e3", "e5", "nobody"]}) == {"e3", "e5"}
    assert kept(store, {"$doc_ids": ["d1"]}) == {f"e{i}" for i in range(1, 80, 3)}
    assert kept(store, {"$not": {"$doc_ids": ["d0", "d1"]}, "$ids": ["e2", "e3"]}) == {"e2"}
    for wrong in ("e3", 3, [3]):
        with pytest.raises(UsageError, match="list"):
            kept(store, {"$ids": wrong})


# The index of metadata


def test_a_filter_follows_what_is_replaced_deleted_and_put_again() -> None:
    with Store.temporary(embedder=GivenVectors(1)) as store:
        store.put([Entry("a", "", {"n": 1}), Entry("b", "", {"n": 1})], vectors=[[1.0]] * 2)
        store.put([Entry("a", "", {"n": 2})], vectors=[[1.0]])
        assert (kept(store, {"n": 1}), kept(store, {"n": 2})) == ({"b"}, {"a"})
        store.delete(["b"])
        assert kept(store, {"n": 1}) == set()
        store.put([Entry("b", "", {"n": 2})], vectors=[[1.0]])
        assert kept(store, {"n": {"$in": [1, 2]}}) == {"a", "b"}
        assert store.delete(filter={"n": 2}) == 2
        assert store.verify() == []


@pytest.mark.parametrize(
    "value",
    [
        *(2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**53), 0.5, 1e-9, 3.0000000001, 1e16, 1e300),
        *("x" * 200, "x" * 201, "\0", "\ud800", "a\0b", '"', "'", "ключ"),
    ],
    ids=repr,
)
def test_any_value_is_found_as_it_was_given(value: Any) -> None:
    others = [0, 1, "x", True, None, 2.0**53, -1]
    entries = [Entry(f"e{n}", "", {"k": other}) for n, other in enumerate(others)]
    with Store.temporary(embedder=GivenVectors(1)) as store:
        store.put([*entries, Entry("it", "", {"k": value})], vectors=[[1.0]] * (len(others) + 1))
        assert "it" in kept(store, {"k": value})
        assert "it" in kept(store, {"k": {"$in": ["nobody", value]}})
        assert "it" not in kept(store, {"k": {"$ne": value}})
        assert "it" not in kept(store, {"k": {"$nin": [value]}})


def test_keys_of_metadata_that_are_no_text_are_found_by_their_text() -> None:
    with Store.temporary(embedder=GivenVectors(1)) as store:
        store.put([Entry("a", "", {1: "x", 2: "y"})], vectors=[[1.0]])  # type: ignore[dict-item]
        assert kept(store, {"1": "x"}) == kept(store, {"1": {"$in": ["x"]}}) == {"a"}


@pytest.mark.parametrize(
    "damage",
    [
        "INSERT INTO facets (facets) VALUES ('delete-all')",
        "INSERT INTO facets (rowid, pairs) VALUES (1, 'deadbeef')",
    ],
)
def test_an_index_of_metadata_that_went_out_of_step_is_told_and_mended(
    tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "store"
    with Store.open(folder, embedder=GivenVectors(1)) as store:
        store.put([Entry("a", "", {"n": 1}), Entry("b", "", {"n": 2})], vectors=[[1.0]] * 2)
    with closing(sqlite3.connect(folder / "store.sqlite")) as connection:
        connection.execute(damage)
        connection.commit()
    with Store.open(folder, embedder=GivenVectors(1)) as store:
        (told,) = store.verify()
        assert "metadata" in told
        store.rebuild()
        assert store.verify() == []
        assert kept(store, {"n": 1}) == {"a"}
