"""Memory of a run, all its processes together, does not grow with the archive."""

from __future__ import annotations

import sys
from pathlib import Path

import ingest as benchmark
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

DPI = 30


def own_megabytes(folder: Path, pages: int, *, one_file: bool) -> float:
    """Peak of what the processes of a run hold that no file holds."""
    scans = folder / "scans"
    scans.mkdir(parents=True)
    benchmark.write(scans, pages, DPI, one_file=one_file, changed=())
    done = benchmark.in_a_process(scans, folder / "store", workers=0, drawing=1)
    assert (done["pages"], done["read"], done["failed"]) == (pages, pages, 0)
    assert done["processes"] >= 2
    return float(done["own_mb"])


@pytest.mark.parametrize("one_file", [True, False])
def test_a_thousand_pages_take_the_memory_of_a_hundred(tmp_path: Path, one_file: bool) -> None:
    few = own_megabytes(tmp_path / "few", 100, one_file=one_file)
    many = own_megabytes(tmp_path / "many", 1000, one_file=one_file)
    assert many < 1.1 * few, f"{few:.0f} MB for 100 pages, {many:.0f} MB for 1,000"
