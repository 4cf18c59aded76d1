from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kosmos_loader.embedding import GivenVectors
from kosmos_loader.store import Entry, Store, manifest
from kosmos_loader.store.database import Database
from kosmos_loader.store.filters import condition
from kosmos_loader.store.growth import lists_for
from kosmos_loader.store.index import VectorIndex
from kosmos_loader.store.kinds import Flat

Vectors = NDArray[np.float32]

DIM = 32
COUNT = 3000
GROWS_AT = 1000


def unit(vectors: NDArray[Any]) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def clustered(count: int, seed: int = 1) -> Vectors:
    centres = np.random.default_rng(0).standard_normal((50, DIM))
    chance = np.random.default_rng(seed)
    return unit(centres[chance.integers(0, 50, count)] + chance.standard_normal((count, DIM)))


def scattered(count: int, seed: int = 1) -> Vectors:
    """Without clusters, so that neighbours lie in many lists."""
    return unit(np.random.default_rng(seed).standard_normal((count, DIM)))


def repeated(count: int, seed: int = 1) -> Vectors:
    """Each vector 20 times."""
    chance = np.random.default_rng(seed)
    return clustered(count // 20 + 1, seed)[chance.permutation(count) // 20]


def entries(count: int, start: int = 0) -> list[Entry]:
    return [
        Entry(f"e{n}", f"text {n}", {"number": n, "group": n % 100})
        for n in range(start, start + count)
    ]


def filled(folder: Path, vectors: Vectors) -> Path:
    with Store.open(folder, embedder=GivenVectors(vectors.shape[1])) as store:
        store.put(entries(len(vectors)), vectors=vectors)
    return folder


@contextmanager
def index_of(folder: Path, *, grows_at: int = GROWS_AT) -> Iterator[VectorIndex]:
    database = Database(folder, new=None)
    index = VectorIndex(folder, database, grows_at=grows_at)
    try:
        yield index
    finally:
        index.abandon()
        database.close()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("kept") / "store", clustered(COUNT))


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    """A store of `clustered(COUNT)` that may be changed."""
    # A training that was stopped may be about to close, and SQLite to remove what it worked with.
    passing = shutil.ignore_patterns("*-wal", "*-shm")
    return Path(shutil.copytree(kept, tmp_path / "store", ignore=passing))


def grown(index: VectorIndex) -> VectorIndex:
    index.refresh()
    index.tend(COUNT)
    index.settle()
    index.refresh()
    assert not index.exact
    return index


def nearest(vectors: Vectors, question: Vectors, k: int = 10) -> list[float]:
    return sorted((vectors @ question).tolist(), reverse=True)[:k]


def recall(index: VectorIndex, vectors: Vectors, questions: Vectors) -> float:
    """By score: of vectors that are equal, any will do."""
    shares = []
    for question in questions:
        scores = [score for _, score in index.search(question, 10)]
        least = nearest(vectors, question)[-1]
        shares.append(sum(score >= least - 1e-5 for score in scores) / 10)
    return float(np.mean(shares))


def moved(vectors: Vectors, seed: int = 3) -> Vectors:
    return unit(vectors + unit(np.random.default_rng(seed).standard_normal(vectors.shape)))


# Growing


@pytest.mark.parametrize("make", [clustered, scattered, repeated])
def test_a_large_index_finds_nearly_all_that_an_exact_one_finds(tmp_path: Path, make: Any) -> None:
    vectors = make(COUNT)
    with index_of(filled(tmp_path / "store", vectors)) as index:
        grown(index)
        for questions in (make(100, seed=2), moved(vectors[:100])):
            assert recall(index, vectors, questions) >= 0.97
        assert index.problem() is None


def test_scores_of_a_large_index_are_the_cosines_themselves(kept: Path) -> None:
    vectors, questions = clustered(COUNT), clustered(20, seed=2)
    with index_of(kept) as index:
        grown(index)
        for question in questions:
            for key, score in index.search(question, 5):
                assert score == pytest.approx(float(vectors[key - 1] @ question), abs=1e-6)


@pytest.mark.parametrize(
    ("count", "lists"), [(200_000, 512), (400_000, 512), (1_000_000, 1024), (4_000_000, 2048)]
)
def test_lists_grow_as_the_square_root_of_the_vectors(count: int, lists: int) -> None:
    assert lists_for(count) == lists


def test_an_index_below_the_threshold_stays_exact(kept: Path) -> None:
    with index_of(kept, grows_at=COUNT + 1) as index:
        index.refresh()
        index.tend(COUNT)
        index.settle()
        assert index.exact


def test_searches_and_changes_go_on_while_an_index_is_trained(folder: Path) -> None:
    vectors, new = clustered(COUNT), clustered(300, seed=5)
    with Store.open(folder, embedder=GivenVectors(DIM)) as store, index_of(folder) as index:
        index.refresh()
        index.tend(COUNT)
        assert index.search(vectors[7], 1)[0] == (8, pytest.approx(1))
        store.put(entries(300, start=COUNT), vectors=new)
        store.delete([f"e{n}" for n in range(200)])
        store.put([Entry("e500", "changed")], vectors=-vectors[500:501])
        index.settle()
        index.refresh()
        assert not index.exact
        assert len(index) == COUNT + 100
        assert index.problem() is None
        assert index.search(new[3], 1)[0] == (COUNT + 4, pytest.approx(1))
        assert index.search(-vectors[500], 1)[0] == (501, pytest.approx(1))
        assert all(key > 200 for key, _ in index.search(vectors[7], 50))


def test_a_large_index_follows_what_is_added_changed_and_deleted(folder: Path) -> None:
    vectors, new = clustered(COUNT), clustered(10, seed=6)
    with Store.open(folder, embedder=GivenVectors(DIM)) as store, index_of(folder) as index:
        grown(index)
        store.delete([f"e{n}" for n in range(0, COUNT, 2)])
        store.put(entries(10, start=COUNT), vectors=new)
        store.put([Entry("e1", "changed")], vectors=-vectors[1:2])
        index.refresh()
        assert not index.exact
        assert index.problem() is None
        left = np.concatenate([vectors[3::2], -vectors[1:2], new])
        assert recall(index, left, clustered(50, seed=2)) >= 0.97
        assert index.search(new[0], 1)[0] == (COUNT + 1, pytest.approx(1))
        assert index.search(vectors[10], 10**9, np.arange(1, COUNT, 2)) == []


def test_an_index_that_has_become_small_is_exact_again(folder: Path) -> None:
    with Store.open(folder, embedder=GivenVectors(DIM)) as store, index_of(folder) as index:
        grown(index)
        store.delete(filter={"number": {"$gte": 200}})
        index.refresh()
        assert index.exact
        assert len(index) == 200
        assert index.problem() is None


def test_an_index_is_trained_anew_when_the_store_has_outgrown_it(folder: Path) -> None:
    with Store.open(folder, embedder=GivenVectors(DIM)) as store, index_of(folder) as index:
        store.delete(filter={"number": {"$gte": 1200}})
        index.refresh()
        index.tend(0)
        index.settle()
        before = vouched(folder, index)
        store.put(entries(6000, start=COUNT), vectors=clustered(6000, seed=7))
        index.tend(6000)
        index.settle()
        after = vouched(folder, index)
    assert (before, after) == (lists_for(1200), lists_for(7200))
    assert after > before


def test_a_training_that_is_stopped_leaves_the_exact_index(kept: Path) -> None:
    with index_of(kept) as index:
        index.refresh()
        index.tend(COUNT)
        index.abandon()
        index.settle()
        index.refresh()
        assert index.exact
        assert index.search(clustered(COUNT)[0], 1)[0][0] == 1


def test_a_training_that_meets_a_damaged_vector_says_so_and_changes_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with index_of(folder) as index:
        index.refresh()
        with sqlite3.connect(folder / "store.sqlite") as connection:
            connection.execute("UPDATE vectors SET vector = x'00' WHERE key = 77")
        connection.close()
        with caplog.at_level(logging.WARNING, "kosmos_loader"):
            index.tend(COUNT)
            index.settle()
        assert "1 vectors of the store are damaged" in caplog.text
        assert index.exact
        assert index.search(clustered(COUNT)[0], 1)[0][0] == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from kosmos_loader.store.database import Database
from kosmos_loader.store.index import VectorIndex
folder = Path(sys.argv[1])
index = VectorIndex(folder, Database(folder, new=None), grows_at=1000)
index.refresh()
index.tend(3000)
assert index.growing
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a signal of POSIX systems")
def test_killed_while_training_nothing_is_lost_and_it_starts_again(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", KILLED, str(folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    with Store.open(folder) as store:
        assert len(store) == COUNT
        assert store.verify() == []
    with index_of(folder) as index:
        grown(index)
        assert index.problem() is None


FORKED = """
import os, sys
from pathlib import Path
import numpy as np
from kosmos_loader.store.database import Database
from kosmos_loader.store.index import VectorIndex
folder = Path(sys.argv[1])
index = VectorIndex(folder, Database(folder, new=None), grows_at=1000)
index.refresh()
question = np.ones(32, np.float32)
before = index.search(question, 3)
index.tend(3000)
child = os.fork()
if child == 0:
    index.refresh()
    os._exit(0 if index.search(question, 3) == before and index.exact else 1)
print(os.waitpid(child, 0)[1])
index.settle()
print(index.exact)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_forked_while_an_index_is_trained_searches_what_there_is(kept: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(kept)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["0", "False"]


# Filters


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("large", [False, True])
def test_a_search_among_few_is_exact(tmp_path: Path, share: float, large: bool) -> None:
    vectors = scattered(COUNT)
    chance = np.random.default_rng(4)
    keys = np.sort(chance.choice(np.arange(1, COUNT + 1), int(share * COUNT), replace=False))
    with index_of(filled(tmp_path / "store", vectors)) as index:
        if large:
            grown(index)
        index.refresh()
        for question in scattered(20, seed=2):
            found = index.search(question, 10, keys)
            assert set(dict(found)) <= set(keys.tolist())
            scores = [score for _, score in found]
            expected = nearest(vectors[keys - 1], question)
            hits = sum(score >= expected[-1] - 1e-5 for score in scores)
            assert hits == 10 or (large and share > 0.1 and hits >= 8)


def test_all_that_a_filter_keeps_come_where_more_are_asked_for(kept: Path) -> None:
    with index_of(kept) as index:
        grown(index)
        found = index.search(clustered(1)[0], 500, list(range(100, 160)))
    assert sorted(dict(found)) == list(range(100, 160))


def test_keys_of_any_size_can_be_selected() -> None:
    keys = np.array([1, 2**28 - 1, 2**28, 2**40, 2**62], np.int64)
    flat = Flat.empty(DIM)
    vectors = scattered(5)
    flat.add(keys, vectors)
    for some in (keys[:2], keys[1:3], keys[3:]):
        assert {key for key, _ in flat.search(vectors[0], 5, some)} == set(some.tolist())


def test_a_filter_is_resolved_anew_when_something_has_changed(folder: Path) -> None:
    where = condition({"group": 7})
    with Store.open(folder, embedder=GivenVectors(DIM)) as store, index_of(folder) as index:
        before = index.kept_by(where)
        assert index.kept_by(where) is before
        assert len(before) == COUNT // 100
        store.delete(["e7"])
        assert index.kept_by(where).tolist() == before.tolist()[1:]
        for group in range(20):
            assert len(index.kept_by(condition({"group": group}))) in (29, 30)


# The file


def vouched(folder: Path, index: VectorIndex) -> int:
    """Save the index as a store does that is closed; how many lists it has."""
    index.refresh()
    file = index.save()
    stated = manifest.read(folder)
    assert stated is not None
    replace(stated, index=file).write(folder)
    return file.lists


def test_a_large_index_is_read_from_its_file(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    questions = clustered(20, seed=2)
    with index_of(folder) as index:
        lists = vouched(folder, grown(index))
        before = [index.search(question, 10) for question in questions]
    assert lists == lists_for(COUNT)
    with caplog.at_level(logging.WARNING, "kosmos_loader"), index_of(folder) as index:
        index.refresh()
        assert not index.exact
        assert index.saved
        assert [index.search(question, 10) for question in questions] == before
        index.tend(0)
        assert not index.growing
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    with Store.open(folder, embedder=GivenVectors(DIM)) as store:
        assert store.verify() == []


def test_an_index_that_was_left_behind_is_read_again_from_the_file(folder: Path) -> None:
    """What was removed is forgotten once a writer has saved the index."""
    with index_of(folder) as index:
        index.refresh()
        with Store.open(folder, embedder=GivenVectors(DIM)) as store:
            store.delete([f"e{n}" for n in range(100)])
        index.refresh()
        assert index.saved
        assert len(index) == COUNT - 100
        assert index.problem() is None


DAMAGE = ["missing", "truncated", "flipped", "flat", "other lists", "other count", "swapped lists"]


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_large_index_is_rebuilt_and_not_trusted(
    folder: Path, kept: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with index_of(folder) as index:
        vouched(folder, grown(index))
    path, stated = folder / "index.faiss", folder / "manifest.json"
    data, text = path.read_bytes(), json.loads(stated.read_text())
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(data[:-1000])
    elif kind == "flipped":
        path.write_bytes(data[:-1000] + bytes([data[-1000] ^ 4]) + data[-999:])
    elif kind == "flat":
        path.write_bytes((kept / "index.faiss").read_bytes())
    elif kind == "swapped lists":  # with a digest that says it is right
        path.write_bytes((kept / "index.faiss").read_bytes())
        text["index"] |= {"bytes": path.stat().st_size, "blake2b": manifest.digest(path)}
    else:
        text["index"][kind.removeprefix("other ")] += 1
    stated.write_text(json.dumps(text))
    vectors = clustered(COUNT)
    with caplog.at_level(logging.WARNING, "kosmos_loader"), index_of(folder) as index:
        index.refresh()
        assert index.exact
        assert recall(index, vectors, clustered(10, seed=2)) == 1
        assert index.problem() is None
    assert "rebuilding" in caplog.text


def test_a_file_with_random_damage_is_refused_or_right(folder: Path) -> None:
    """Under a digest that vouches for it, so that FAISS is given the bytes."""
    with index_of(folder) as index:
        vouched(folder, grown(index))
    path, stated = folder / "index.faiss", folder / "manifest.json"
    data = path.read_bytes()
    chance = np.random.default_rng(8)
    head = np.arange(700)  # headers, where the sizes stand
    for _ in range(40):
        spoilt = bytearray(data)
        spoilt[int(chance.choice(head))] ^= int(chance.integers(1, 256))
        path.write_bytes(spoilt)
        text = json.loads(stated.read_text())
        text["index"]["blake2b"] = manifest.digest(path)
        stated.write_text(json.dumps(text))
        with index_of(folder) as index:
            index.refresh()
            assert len(index) == COUNT
            assert len(index.search(clustered(1)[0], 10)) == 10


def test_a_small_change_of_a_large_store_does_not_write_the_file_again(tmp_path: Path) -> None:
    vectors = clustered(12_000)
    folder = filled(tmp_path / "store", vectors)
    before = (folder / "index.faiss").read_bytes()
    new = clustered(2, seed=9)
    with Store.open(folder, embedder=GivenVectors(DIM)) as store:
        store.put([Entry("new", "new")], vectors=new[:1])
        store.delete(["e5"])
    assert (folder / "index.faiss").read_bytes() == before
    with Store.open(folder, embedder=GivenVectors(DIM)) as store:
        found = store.find(vector=new[0], k=1, mode="dense")
        assert [entry.id for entry, _ in found] == ["new"]
        assert "e5" not in [entry.id for entry, _ in store.find(vector=vectors[5], mode="dense")]
    assert (folder / "index.faiss").read_bytes() == before
    with Store.open(folder, embedder=GivenVectors(DIM)) as store:
        store.delete(filter={"number": {"$lt": 1000}})
        assert store.verify() == []
    assert len((folder / "index.faiss").read_bytes()) < len(before)


@pytest.mark.slow
def test_a_store_of_two_hundred_thousand_trains_its_index_by_itself(tmp_path: Path) -> None:
    vectors = clustered(200_100)[:, :8]
    vectors = unit(vectors)
    folder = filled(tmp_path / "store", vectors)
    stated = manifest.read(folder)
    assert stated is not None
    assert stated.index is not None
    assert (stated.index.count, stated.index.lists) == (200_100, 512)
    with Store.open(folder, embedder=GivenVectors(8)) as store:
        assert store.delete(["e7"]) == 1
        shares = []
        for question in vectors[:50]:
            scores = [score for _, score in store.find(vector=question, k=10, mode="dense")]
            shares.append(sum(s >= nearest(vectors, question, 11)[-1] - 1e-5 for s in scores) / 10)
        assert np.mean(shares) >= 0.97
        assert store.verify() == []
