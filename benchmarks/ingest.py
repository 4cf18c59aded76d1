"""What a whole archive costs beside reading: memory, processor time, and a second run.

    python benchmarks/ingest.py [--pages 100,1000] [--dpi 150] [--json] [--out FILE]

Pages of A4 are drawn at --dpi and differ in a few pixels each; they lie in one TIFF file or in as
many PNG files. A ScriptedReader says thirty lines about each, so that what is measured is all but
reading: drawing, composing, chunking, embedding (hash), writing. Each run has a process of its own.

memory_mb       peak memory of the process that indexes
cpu_ms          processor time a page, all of the process but its imports
again_s         a second run over the unchanged archive, store opened and closed
changed_s       a third one, with one page in a hundred changed (of one file: the file written anew)
changed_read    pages that it read
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import report
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from kosmos_loader.archive import ingest
from kosmos_loader.document import Line, Page
from kosmos_loader.geometry import Box
from kosmos_loader.store import Store
from kosmos_loader.testing import ScriptedReader

LINES = 30
COLUMNS = ("pages", "files", "memory_mb", "cpu_ms", "again_s", "changed_s", "changed_read")


def drawn(number: int, dpi: int, *, changed: bool) -> NDArray[np.uint8]:
    """A page of bars where lines would stand; its number is in its pixels."""
    height, width = round(11.69 * dpi), round(8.27 * dpi)
    page = np.full((height, width, 3), 255, np.uint8)
    for line in range(LINES):
        top = (line + 1) * height // (LINES + 2)
        page[top : top + height // 80, width // 10 : width * 9 // 10 - 7 * (line % 5)] = 40
    page[:8, :8, 0], page[:8, :8, 1] = number % 256, number // 256
    page[:8, :8, 2] = 100 if changed else 0
    return page


def says(page: Page) -> list[Line]:
    """Thirty lines with words that differ from page to page."""
    number = int(page.pixels[4, 4, 0]) + 256 * int(page.pixels[4, 4, 1])
    tops = [(line + 1) / (LINES + 2) for line in range(LINES)]
    return [
        Line(
            f"Entry {number} {line}: ropes and tar for the boat of house {number * line % 97}",
            Box(0.1, top, 0.9, top + 0.0125),
            0.95,
        )
        for line, top in enumerate(tops)
    ]


def write(folder: Path, pages: int, dpi: int, *, one_file: bool, changed: Iterable[int]) -> None:
    """The archive, or the pages of it that changed."""
    new = set(changed)
    if one_file:
        path = folder / "all.tif"
        path.unlink(missing_ok=True)
        with TiffImagePlugin.AppendingTiffWriter(str(path), new=True) as frames:
            for n in range(pages):
                page = Image.fromarray(drawn(n, dpi, changed=n in new))
                page.save(frames, format="TIFF", compression="tiff_deflate")
                frames.newFrame()
        return
    for n in new or range(pages):
        page = Image.fromarray(drawn(n, dpi, changed=n in new))
        page.save(folder / f"{n}.png", compress_level=1)


def run(folder: Path, store: Path) -> dict[str, Any]:
    """One run, in this process."""
    reader = ScriptedReader(says)
    begun, cpu = time.perf_counter(), time.process_time()
    with Store.open(store) as opened:
        done = ingest(folder, opened, reader)
    return {
        "pages": done.pages,
        "read": len(reader.seen),
        "chunks": done.chunks,
        "failed": len(done.failed),
        "seconds": time.perf_counter() - begun,
        "cpu": time.process_time() - cpu,
        "megabytes": peak_megabytes(),
    }


def peak_megabytes() -> float:
    """Most memory that this process has had; on Linux without that of the one that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_a_process(folder: Path, store: Path) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--run", str(folder), str(store)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(pages: int, dpi: int, *, one_file: bool) -> dict[str, Any]:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, store = Path(temporary, "scans"), Path(temporary, "store")
        folder.mkdir()
        write(folder, pages, dpi, one_file=one_file, changed=())
        time.sleep(2.1)  # a file written within a clock's tick is asked for its digest
        first = in_a_process(folder, store)
        again = in_a_process(folder, store)
        write(folder, pages, dpi, one_file=one_file, changed=range(0, pages, 100))
        third = in_a_process(folder, store)
    if first["pages"] != pages or first["failed"] or again["read"]:
        raise SystemExit(f"the run did not go as it should: {first}, {again}")
    return {
        "pages": pages,
        "files": 1 if one_file else pages,
        "memory_mb": round(first["megabytes"]),
        "cpu_ms": round(1000 * first["cpu"] / pages, 1),
        "again_s": round(again["seconds"], 2),
        "changed_s": round(third["seconds"], 2),
        "changed_read": third["read"],
    }


def rows(sizes: Iterable[int], dpi: int) -> Iterator[dict[str, Any]]:
    """The table."""
    for pages in sizes:
        for one_file in (True, False):
            yield measured(pages, dpi, one_file=one_file)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", default="100,1000", help="pages of the archives")
    parser.add_argument("--dpi", type=int, default=150)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--run", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        print(json.dumps(run(*given.run)))
        return
    table = list(rows(map(int, given.pages.split(",")), given.dpi))
    document = report.header("numpy", "pillow", "faiss-cpu") | {"dpi": given.dpi, "rows": table}
    report.show(document, rows=table, columns=COLUMNS, as_json=given.json, out=given.out)


if __name__ == "__main__":
    main()
