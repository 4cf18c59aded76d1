"""What a store is after a process was killed, a disk lied, or files were mixed up.

The programs here run in processes of their own, so that a crash of one is seen and told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and SIGKILL are POSIX's")


def run(program: str, *arguments: object, timeout: float = 60) -> str:
    """What `program` prints; its errors are shown where it fails."""
    command = [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)]
    ended = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended.stdout.strip()


KILLING = """
import json, os, random, signal, sys, time
import faiss  # before the forks, which then start at once
from kosmos_loader.embedding import GivenVectors
from kosmos_loader.store import Entry, Store

folder, rounds, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
DIM = 8

def vector(text):
    return [random.Random(text + str(place)).gauss(0, 1) for place in range(DIM)]

def steps(number):
    "What the child of a round does: the same for the child and for the one who checks it."
    chance = random.Random(f"{seed} {number}")
    for step in range(1000):
        kind = chance.choice(["put"] * 4 + ["ids", "doc"] + ["clear"] * (step % 9 == 8))
        some = [f"e{chance.randrange(60)}" for _ in range(chance.randrange(1, 12))]
        if kind == "put":
            words = "word " * chance.randrange(90)
            yield kind, {name: f"{name} of {number}.{step} {words}" for name in some}
        elif kind == "doc":
            yield kind, f"d{chance.randrange(5)}"
        else:
            yield kind, some

def document(name):
    return f"d{int(name[1:]) % 5}"

def do(store, kind, what):
    if kind == "put":
        entries = [Entry(name, text, {"n": 1}, document(name)) for name, text in what.items()]
        store.put(entries, vectors=[vector(text) for text in what.values()])
    elif kind == "ids":
        store.delete(what)
    elif kind == "doc":
        store.delete(doc_id=what)
    else:
        store.clear()

def after(state, kind, what):
    if kind == "put":
        return state | what
    if kind == "clear":
        return {}
    gone = (lambda name: document(name) == what) if kind == "doc" else what.__contains__
    return {name: text for name, text in state.items() if not gone(name)}

def opened():
    return Store.open(folder, embedder=GivenVectors(DIM))

def child(number, pipe):
    doing = steps(number)
    while True:  # a killed process may be opening, writing or closing
        with opened() as store:
            for _ in range(3):
                do(store, *next(doing))
                os.write(pipe, b".")

opened().close()
chance = random.Random(seed)
state, inside = {}, 0
for number in range(rounds):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(number, writing)
        finally:
            os._exit(1)
    os.close(writing)
    time.sleep(chance.uniform(0, 0.12))
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL, "the child ended by itself"
    reported = b""
    while part := os.read(reading, 4096):
        reported += part
    os.close(reading)
    doing = steps(number)
    for _ in reported:
        state = after(state, *next(doing))
    with opened() as store:
        found = {entry.id: entry.text for entry in store.entries(store.ids())}
        if found != state:
            state = after(state, *next(doing))
            inside += 1
        assert found == state, (number, len(reported), sorted(found), sorted(state))
        assert store.verify() == [], (number, store.verify())
        for name, text in list(state.items())[:3]:
            (hit,) = store.find(vector=vector(text), k=1)
            assert hit.entry.text == text, (number, name)
print(inside)
"""


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing_that_was_committed_and_leave_nothing_half_done(
    tmp_path: Path,
) -> None:
    run(KILLING, tmp_path / "store", 100, 1, timeout=180)


def test_a_few_kills_lose_nothing_that_was_committed(tmp_path: Path) -> None:
    run(KILLING, tmp_path / "store", 5, 2)


DAMAGING = """
import json, os, random, shutil, sys
from pathlib import Path
import faiss, numpy
import logging
logging.disable(logging.CRITICAL)
from kosmos_loader.embedding import GivenVectors
from kosmos_loader.errors import KosmosLoaderError
from kosmos_loader.store import Entry, Store

base, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
DIM, COUNT = 16, 60
VECTORS = numpy.random.default_rng(1).standard_normal((COUNT, DIM)).astype("float32")

def entry(i, step):
    text = f"text {i} of step {step} " + "more words " * (i % 30)
    return Entry(f"e{i}", text, {"i": i}, f"d{i % 7}")

def contents(store):
    return {e.id: e for e in store.entries(store.ids())}

def made(folder, twin):
    "The states after each commit of a store; it is copied as it is while it is open, with its log."
    states = []
    vectors = numpy.roll(VECTORS, twin, axis=0)
    with Store.open(folder, embedder=GivenVectors(DIM)) as store:
        for step, (start, stop) in enumerate([(0, 40), (20, 50), (50, COUNT)]):
            entries = [entry(i, step + 20 * twin) for i in range(start, stop)]
            store.put(entries, vectors=vectors[start:stop])
            states.append(contents(store))
    with Store.open(folder, embedder=GivenVectors(DIM)) as store:
        store.delete(doc_id="d3")
        states.append(contents(store))
        store.put([entry(1, 9 + 20 * twin)], vectors=vectors[1:2])
        states.append(contents(store))
        shutil.copytree(folder, f"{folder}-logged")
    return states

def targets(folder):
    return sorted(path for path in folder.iterdir() if path.name != "lock")

def damage(folder, chance):
    path = chance.choice(targets(folder))
    data = bytearray(path.read_bytes())
    kinds = "cut bit bits live live live zeros noise swap other gone longer front"
    kind = chance.choice(kinds.split())
    at = chance.randrange(len(data)) if data else 0
    size = chance.choice([16, 512, 4096, 16384])
    if kind == "cut":
        del data[at:]
    elif kind in ("bit", "bits"):
        for _ in range(1 if kind == "bit" else 200):
            if data:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == "live":  # where something is written
        written = [place for place, byte in enumerate(data) if byte]
        for place in chance.choices(written, k=chance.randrange(1, 5)) if written else ():
            data[place] ^= 1 << chance.randrange(8)
    elif kind == "zeros":
        data[at:at + size] = bytes(len(data[at:at + size]))
    elif kind == "noise":
        data[at:at + size] = chance.randbytes(len(data[at:at + size]))
    elif kind == "front":
        place = chance.randrange(96)
        data[place:place + 4] = chance.randbytes(4)
    elif kind == "longer":
        data += chance.randbytes(size)
    elif kind == "swap":
        other = chance.choice(targets(folder))
        data = bytearray(other.read_bytes())
        other.write_bytes(path.read_bytes())
    elif kind == "other":
        twin = Path(str(base / "b") + ("-logged" if chance.random() < 0.5 else "")) / path.name
        data = bytearray(twin.read_bytes()) if twin.exists() else data
    if kind == "gone":
        path.unlink()
    else:
        path.write_bytes(data)
    return f"{path.name} {kind}"

def outcome(folder, states, others):
    "refused, told, or right; anything else is an error"
    try:
        with Store.open(folder, embedder=GivenVectors(DIM), create=False) as store:
            store.find("text words", mode="lexical", filter={"i": {"$gte": 3}})
            store.find_diverse(vector=VECTORS[2])
            store.find("text", vector=VECTORS[2])
            store.stats(), store.sources(), store.failures(), store.kept_reading("k")
            found = store.verify()
            if found:
                assert all(isinstance(problem, str) for problem in found)
                try:  # what is damaged may be deleted, or refused
                    store.delete(filter={"i": {"$lt": 30}})
                    store.rebuild()
                except KosmosLoaderError:
                    pass
                return "told"
            now = contents(store)
            assert now in states or now in others, "another state"
            for number, (name, kept) in enumerate(sorted(now.items())[::9]):
                (hit,) = store.find(vector=store.vectors([name])[name], k=1, mode="dense")
                assert hit.entry == kept or hit.score > 0.999999, name
            store.put([entry(0, 77)], vectors=VECTORS[:1])
        with Store.open(folder, embedder=GivenVectors(DIM)) as store:
            assert store.entries(["e0"]) == [entry(0, 77)]
            assert store.verify() == []
        return "right"
    except KosmosLoaderError as error:
        return "refused"

states = made(base / "a", 0)
others = made(base / "b", 1)
counts = {}
number = first
while number < last:
    # One child for many, and another after a crash.
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        for i in range(number, last):
            chance = random.Random(i)
            folder = base / f"c{i}"
            shutil.copytree(base / ("a-logged" if i % 2 else "a"), folder)
            what = damage(folder, chance)
            os.write(writing, f"{i} {what}: ".encode())
            try:
                ended = outcome(folder, states, others)
            except BaseException as error:
                import traceback
                ended = "failed " + repr(traceback.format_exc()[-900:])
            os.write(writing, f"{ended}\\n".encode())
            shutil.rmtree(folder)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as lines:
        text = lines.read()
    status = os.waitpid(pid, 0)[1]
    for line in text.splitlines():
        ended = line.rpartition(": ")[2] if "failed" not in line else line
        kind = ended if ended in ("right", "told", "refused") else "failed"
        counts.setdefault(kind, []).append(line)
    number += len(text.splitlines()) if status == 0 else max(1, len(text.splitlines()))
    if status:
        counts.setdefault("crashed", []).append(f"{text.splitlines()[-1:]} {status}")
shown = ("failed", "crashed")
print(json.dumps({kind: lines if kind in shown else len(lines) for kind, lines in counts.items()}))
"""


def damaged(folder: Path, first: int, last: int) -> dict[str, object]:
    folder.mkdir()
    counts: dict[str, object] = json.loads(run(DAMAGING, folder, first, last, timeout=300))
    return counts


@pytest.mark.slow
def test_five_hundred_damaged_stores_are_right_told_or_refused(tmp_path: Path) -> None:
    counts = damaged(tmp_path / "stores", 0, 500)
    assert set(counts) == {"right", "told", "refused"}, counts


def test_damaged_stores_are_right_told_or_refused(tmp_path: Path) -> None:
    counts = damaged(tmp_path / "stores", 1000, 1015)
    assert set(counts) <= {"right", "told", "refused"}, counts
