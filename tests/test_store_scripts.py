"""Parts of texts that are written without spaces are found wherever they stand in a long run."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator

import pytest

from kosmos_loader.embedding import GivenVectors
from kosmos_loader.store import Entry, Store

ALPHABETS = {
    "chinese": range(0x4E00, 0x4E00 + 400),
    "japanese": [*range(0x3041, 0x3094), *range(0x30A1, 0x30F7), *range(0x6700, 0x6740)],
    "thai": [*range(0x0E01, 0x0E2F), *range(0x0E40, 0x0E45)],
}
LENGTHS = [1, 2, 3, 5]
TEXTS = 30


def texts(script: str) -> list[str]:
    """Long runs in which some characters are common and most are rare, as in any language."""
    rng = random.Random(script)  # noqa: S311 - chance that repeats
    letters = [chr(code) for code in ALPHABETS[script]]
    rng.shuffle(letters)
    weights = [1 / (rank + 5) for rank in range(len(letters))]
    return ["".join(rng.choices(letters, weights, k=300)) for _ in range(TEXTS)]


def parts(script: str, length: int) -> list[str]:
    """Parts from the start, the end, and the middle of the texts."""
    rng = random.Random(f"{script} {length}")  # noqa: S311 - as above
    written = texts(script)
    inner = [rng.randrange(300 - length) for _ in written]
    return [
        *(text[at : at + length] for text, at in zip(written, inner, strict=True)),
        *(text[:length] for text in written[:5]),
        *(text[-length:] for text in written[:5]),
    ]


@pytest.fixture(scope="module", params=sorted(ALPHABETS))
def script(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def store(script: str) -> Iterator[Store]:
    with Store.temporary(embedder=GivenVectors(1)) as store:
        entries = [Entry(text, text) for text in texts(script)]
        store.put(entries, vectors=[[1.0]] * len(entries))
        yield store


def found(store: Store, part: str, k: int = TEXTS) -> list[str]:
    return [entry.text for entry, _ in store.find(part, k, mode="lexical")]


@pytest.mark.parametrize("length", LENGTHS)
def test_every_text_that_holds_a_part_is_found(store: Store, script: str, length: int) -> None:
    for part in parts(script, length):
        holding = {text for text in texts(script) if part in text}
        assert holding <= set(found(store, part)), part


@pytest.mark.parametrize("length", [3, 5])
def test_a_text_that_holds_the_part_comes_first(store: Store, script: str, length: int) -> None:
    for part in parts(script, length):
        assert part in found(store, part, k=1)[0]


@pytest.mark.parametrize("length", LENGTHS)
def test_no_text_is_missed_that_trigrams_find(store: Store, script: str, length: int) -> None:
    """FTS5's own way with such scripts, which finds nothing shorter than three characters."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = 'trigram')")
    connection.executemany("INSERT INTO words VALUES (?)", [(text,) for text in texts(script)])
    theirs = 0
    for part in parts(script, length):
        rows = connection.execute("SELECT text FROM words WHERE words MATCH ?", (f'"{part}"',))
        by_trigram = {text for (text,) in rows}
        assert by_trigram <= set(found(store, part))
        theirs += bool(by_trigram)
    connection.close()
    assert (theirs > 0) == (length >= 3)
