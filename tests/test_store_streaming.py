"""The index of a store that is filled and never searched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kosmos_loader.store import Entry, Store


def filled(folder: Path, *, searched: bool) -> bytes:
    """The index file of a store with a few entries."""
    with Store.open(folder) as store:
        store.put(Entry(str(n), f"rope number {n} for the boat") for n in range(300))
        if searched:  # now FAISS has the index, and writes it
            assert store.find("rope")
        store.delete(["7"])
    return (folder / "index.faiss").read_bytes()


def test_an_index_that_was_never_loaded_is_written_as_faiss_writes_it(tmp_path: Path) -> None:
    streamed = filled(tmp_path / "streamed", searched=False)
    assert streamed == filled(tmp_path / "written", searched=True)


def test_a_store_is_filled_without_faiss(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from kosmos_loader.store import Entry, Store\n"
        "with Store.open(sys.argv[1]) as store:\n"
        "    store.put([Entry('a', 'rope'), Entry('b', 'tar')])\n"
        "assert 'faiss' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "store")], check=True)
    assert (tmp_path / "store" / "index.faiss").stat().st_size > 2 * 4 * 1024
