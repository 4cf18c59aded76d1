"""What stands before and after an entry in its document."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kosmos_loader.errors import UsageError
from kosmos_loader.store import Entry, Store


def entry(name: str, doc_id: str = "", source: str = "", **metadata: int) -> Entry:
    return Entry(name, f"This is {name}.", metadata, doc_id, source)


@pytest.fixture
def store() -> Iterator[Store]:
    with Store.temporary() as opened:
        opened.put(
            [
                entry("b2", "b", page=1, order=1),
                entry("a10", "a", page=10, order=0),
                entry("a3", "a", page=2, order=1),
                entry("a2", "a", page=2, order=0),
                entry("b1", "b", page=1, order=0),
                entry("a1", "a", page=1, order=0),
            ]
        )
        yield opened


def around(store: Store, name: str, before: int = 1, after: int = 1) -> list[str]:
    return [found.id for found in store.around(name, before=before, after=after)]


@pytest.mark.parametrize(
    ("name", "before", "after", "found"),
    [
        ("a2", 1, 1, ["a1", "a2", "a3"]),
        ("a3", 1, 1, ["a2", "a3", "a10"]),
        ("a1", 5, 1, ["a1", "a2"]),
        ("a10", 2, 2, ["a2", "a3", "a10"]),
        ("a2", 0, 0, ["a2"]),
        ("b1", 9, 9, ["b1", "b2"]),
    ],
)
def test_they_come_by_page_and_order_and_from_the_same_document(
    store: Store, name: str, before: int, after: int, found: list[str]
) -> None:
    assert around(store, name, before, after) == found


def test_without_a_document_those_of_the_file_come_as_they_were_added(store: Store) -> None:
    store.put([entry("x", source="s"), entry("y", source="s"), entry("z", source="t")])
    store.put([entry("a", source="s")])
    assert around(store, "y") == ["x", "y", "a"]
    assert around(store, "z") == ["z"]


def test_what_is_of_no_file_stands_alone_and_what_is_not_there_has_nothing(store: Store) -> None:
    store.put([entry("lone"), entry("other")])
    assert around(store, "lone") == ["lone"]
    assert around(store, "no such") == []


def test_counts_that_cannot_be_meant_are_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="before"):
        around(store, "a1", before=-1)
    with pytest.raises(UsageError, match="after"):
        around(store, "a1", after=-1)
