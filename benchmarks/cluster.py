"""What the driver of a Ray cluster costs, which bounds how many workers are of use.

    python benchmarks/cluster.py [--pages 300] [--dpi 150] [--workers 1] [--json] [--out FILE]

The archive and the reader of benchmarks/ingest.py, read on a Ray of this machine. The reader says
its thirty lines at once, so the driver has something to do all the time. What its process uses is
measured; what Ray and its workers use is not.

driver_ms       processor milliseconds a page of the driver, less what it uses until the first page
memory_mb       peak memory of the driver
start_s         seconds until the first page is told of
pages_s         pages a second from then on
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import report
from ingest import says, write

from kosmos_loader.archive import Step, ingest
from kosmos_loader.distributed import RayCluster
from kosmos_loader.store import Store
from kosmos_loader.testing import ScriptedReader

COLUMNS = ("pages", "files", "workers", "driver_ms", "memory_mb", "start_s", "pages_s")


def run(folder: Path, store: Path, *, files: int, workers: int) -> dict[str, Any]:
    """One run, and what it took of this process."""
    began = time.perf_counter()
    first: list[tuple[float, float]] = []

    def step(_: Step) -> None:
        if not first:
            first.append((time.perf_counter(), time.process_time()))

    with RayCluster("local", workers=workers) as cluster, Store.open(store) as opened:
        done = ingest(folder, opened, ScriptedReader(says), elsewhere=cluster, progress=step)
    if done.failed:
        sys.exit(f"{len(done.failed)} pages failed: {done.failed[0]}")
    ((start, used),) = first
    return {
        "pages": done.pages,
        "files": files,
        "workers": workers,
        "driver_ms": 1000 * (time.process_time() - used) / (done.pages - 1),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "start_s": start - began,
        "pages_s": (done.pages - 1) / (time.perf_counter() - start),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=int, default=300)
    parser.add_argument("--dpi", type=int, default=150)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for one_file in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            scans = Path(folder) / "scans"
            scans.mkdir()
            write(scans, options.pages, options.dpi, one_file=one_file, changed=())
            files = 1 if one_file else options.pages
            store = Path(folder) / "store"
            rows.append(run(scans, store, files=files, workers=options.workers))
    document = report.header("ray", "pyarrow") | {"dpi": options.dpi, "rows": rows}
    report.show(document, rows=rows, columns=COLUMNS, as_json=options.json, out=options.out)


if __name__ == "__main__":
    main()
