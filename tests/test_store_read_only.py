"""A store on a disk, or in a folder, that cannot be written to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kosmos_loader.store import Entry, Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders have no permissions there")

NOBODY = 65534

# Run as root, it first does all that imports anything, and then becomes somebody who may write
# nowhere. Without root, it is nobody who may.
READER = f"""
import os, sys
from pathlib import Path
from kosmos_loader.errors import StoreError
from kosmos_loader.store import Entry, Store

with Store.temporary() as store:
    store.put([Entry("a", "church roof", {{"n": 1}})])
    store.search("roof", filter={{"n": 1}})
    store.verify()
folder = Path(sys.argv[1])
if os.getuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
"""

SEARCH = """
before = sorted(folder.iterdir())
with Store.open(folder) as store:
    for mode in ("dense", "lexical", "hybrid"):
        print([entry.id for entry, _ in store.find("church roof", filter={"n": 1}, mode=mode)])
    print(len(store), store.entries(["b"])[0].text, store.verify())
    for change in (
        lambda: store.put([Entry("c", "new")]),
        lambda: store.delete(["a"]),
        store.clear,
        store.rebuild,
    ):
        try:
            change()
        except StoreError as error:
            print(error)
assert sorted(folder.iterdir()) == before
"""

OPEN = """
try:
    Store.open(folder)
except StoreError as error:
    print(error)
"""

LISTEN = """
with Store.open(folder) as store:
    print(sorted(store.ids()), flush=True)
    for line in sys.stdin:
        print(sorted(store.ids()), [e.id for e, _ in store.find("bells", mode="lexical")])
        sys.stdout.flush()
"""

ENTRIES = [Entry("a", "the church roof", {"n": 1}), Entry("b", "the organ", {"n": 2})]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not in pytest's own place, which others may not enter."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place) / "store"
        for path in Path(place).rglob("*"):
            if path.is_dir():
                path.chmod(0o755)


def closed_to_writers(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)


def started(script: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", READER + script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(script: str, folder: Path, *, logged: str = "") -> str:
    out, err = started(script, folder).communicate(timeout=120)
    if "PermissionError" in err and "setuid" in err:
        pytest.skip("this process may not become another user")
    assert logged in err if logged else not err, err
    return out


def test_it_is_searched_and_every_change_is_a_clear_error(folder: Path) -> None:
    with Store.open(folder) as store:
        store.put(ENTRIES)
    closed_to_writers(folder)
    lines = said(SEARCH, folder).splitlines()
    assert lines[:4] == ["['a']", "['a']", "['a']", "2 the organ []"]
    assert len(lines) == 8
    assert all("nothing may be written" in line and "copy the folder" in line for line in lines[4:])


def test_it_is_searched_without_its_index_and_manifest(folder: Path) -> None:
    with Store.open(folder) as store:
        store.put(ENTRIES)
    for name in ("index.faiss", "manifest.json", "lock"):
        (folder / name).unlink()
    closed_to_writers(folder)
    assert said(SEARCH, folder, logged="rebuilding").splitlines()[0] == "['a']"


def left_open(folder: Path) -> None:
    """A copy of a store in the middle of its work: with a log that was not taken over."""
    with Store.temporary() as store:
        store.put(ENTRIES)
        shutil.copytree(store.folder, folder)
    (folder / "store.sqlite-shm").unlink()
    assert (folder / "store.sqlite-wal").stat().st_size


def test_one_that_was_not_closed_says_what_to_do(folder: Path) -> None:
    left_open(folder)
    closed_to_writers(folder)
    told = said(OPEN, folder)
    assert "was not closed" in told
    assert "copy the folder" in told


def test_a_copy_of_one_that_was_not_closed_has_all_that_was_committed(folder: Path) -> None:
    left_open(folder)
    with Store.open(folder) as store:
        assert store.ids() == {"a", "b"}
    closed_to_writers(folder)
    assert said(SEARCH, folder).splitlines()[0] == "['a']"


@pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="needs two users, so root"
)
def test_a_reader_who_may_not_write_sees_what_a_writer_adds_meanwhile(folder: Path) -> None:
    with Store.open(folder) as store:
        store.put(ENTRIES)
    reader = started(LISTEN, folder)  # files of root that others may read
    assert reader.stdin is not None
    assert reader.stdout is not None
    with reader:
        assert reader.stdout.readline() == "['a', 'b']\n"
        with Store.open(folder) as store:
            store.put([Entry("c", "the bells")])
            print(file=reader.stdin, flush=True)
            assert reader.stdout.readline() == "['a', 'b', 'c'] ['c']\n"
        with Store.open(folder) as store:
            store.delete(["c"])
        print(file=reader.stdin, flush=True)
        assert reader.stdout.readline() == "['a', 'b'] []\n"
        reader.stdin.close()
        assert reader.stderr is not None
        assert reader.stderr.read() == ""
