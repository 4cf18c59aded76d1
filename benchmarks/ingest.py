"""What a whole archive costs beside reading: memory, processor time, and a second run.

    python benchmarks/ingest.py [--pages 100,1000] [--dpi 150] [--workers 2] [--drawing 1]
                                [--json] [--out FILE]

Pages of A4 are drawn at --dpi and differ in a few pixels each; they lie in one TIFF file or in as
many PNG files. A scripted reader says thirty lines about each, so that what is measured is all but
reading: drawing, composing, chunking, embedding (hash), writing. Each run has a process of its own;
with --workers N it starts N more that read, with --drawing N as many that draw.

memory_mb       peak of the memory of all processes together, what they share counted once (PSS,
                looked at 50 times a second)
own_mb          the same without pages of files (programs, the archive), which the system may drop
cpu_ms          processor time a page of all processes, less imports of the first one
pages_s         pages a second
again_s         a second run over the unchanged archive, store opened and closed
changed_s       a third one, with one page in a hundred changed (of one file: the file written anew)
changed_read    pages that it read
"""

from __future__ import annotations

import argparse
import json
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import report
from numpy.typing import NDArray
from PIL import Image

from kosmos_loader.archive import ingest
from kosmos_loader.document import Line, Page, Reading
from kosmos_loader.geometry import Box
from kosmos_loader.readers.base import PageReader
from kosmos_loader.readers.pool import ReaderPool
from kosmos_loader.store import Store
from kosmos_loader.testing import ScriptedReader

LINES = 30
PERIOD = 0.02
"""Seconds between two looks at the memory."""

COLUMNS = (
    *("pages", "files", "processes", "memory_mb", "own_mb", "cpu_ms", "pages_s"),
    *("again_s", "changed_s", "changed_read"),
)


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


class Forgetful(ScriptedReader):
    """A scripted reader that does not list what it saw: 0.6 KB a page in the memory measured."""

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """As `ScriptedReader.read`."""
        for reading in super().read(pages):
            self.seen.clear()
            yield reading


def write(folder: Path, pages: int, dpi: int, *, one_file: bool, changed: Iterable[int]) -> None:
    """The archive, or the pages of it that changed."""
    new = set(changed)
    if one_file:
        write_tiff(folder / "all.tif", (drawn(n, dpi, changed=n in new) for n in range(pages)))
        return
    for n in new or range(pages):
        page = Image.fromarray(drawn(n, dpi, changed=n in new))
        page.save(folder / f"{n}.png", compress_level=1)


STRIP = 64
"""Rows of a page that are compressed together."""


def write_tiff(path: Path, pages: Iterable[NDArray[np.uint8]]) -> None:
    """A TIFF file, page by page. Pillow would go through all pages before for each new one."""
    with path.open("wb") as file:
        file.write(b"II*\0" + bytes(4))
        link = 4  # where it stands at which byte the next page's directory begins
        for page in pages:
            height, width, _ = page.shape
            strips = [
                zlib.compress(page[top : top + STRIP].tobytes(), 1)
                for top in range(0, height, STRIP)
            ]
            places = []
            for strip in strips:
                places.append(file.tell())
                file.write(strip)
            lists = file.tell()
            file.write(struct.pack(f"<{2 * len(strips)}I", *places, *map(len, strips)))
            bits = file.tell()
            file.write(struct.pack("<3H", 8, 8, 8) + bytes(bits % 2))
            directory, many = file.tell(), len(strips)
            tags = [
                *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 3, 1, 8)),
                *((262, 3, 1, 2), (273, 4, many, lists), (277, 3, 1, 3), (278, 4, 1, STRIP)),
                (279, 4, many, lists + 4 * many),
            ]
            entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
            file.write(struct.pack("<H", len(tags)) + entries + bytes(4))
            file.seek(link)
            file.write(struct.pack("<I", directory))
            link = directory + 2 + len(entries)
            file.seek(0, 2)


def run(folder: Path, store: Path, workers: int, drawing: int) -> dict[str, Any]:
    """One run, in this process and those that it starts."""
    reader = Forgetful(says)
    before = kept_readings(store)
    begun, cpu = time.perf_counter(), processor_seconds()
    with ExitStack() as stack:
        chosen: PageReader = reader
        if workers:
            chosen = stack.enter_context(ReaderPool(reader, workers=workers))
        with Store.open(store) as opened:
            done = ingest(folder, opened, chosen, drawing=drawing)
    return {
        "pages": done.pages,
        "chunks": done.chunks,
        "failed": len(done.failed),
        "seconds": time.perf_counter() - begun,
        "cpu": processor_seconds() - cpu,
        "read": kept_readings(store) - before,
    }


def kept_readings(store: Path) -> int:
    """Pictures that were read so far: each has a reading of its own."""
    if not store.exists():
        return 0
    with Store.open(store) as opened:
        readings: int = opened.stats()["readings"]
    return readings


def processor_seconds() -> float:
    """Of this process, and of those that it started and saw end."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def in_a_process(folder: Path, store: Path, workers: int, drawing: int) -> dict[str, Any]:
    """The same in a process of its own, whose memory is watched."""
    command = [sys.executable, __file__, "--run", *map(str, (folder, store, workers, drawing))]
    most = {"memory_mb": 0.0, "own_mb": 0.0, "processes": 0}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            for name, value in memory_now(process.pid).items():
                most[name] = max(most[name], value)
            time.sleep(PERIOD)
        told = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"a run ended with {process.returncode}")
    return json.loads(told) | most


def memory_now(pid: int) -> dict[str, float]:
    """Megabytes that a process and those below it have, what they share counted once."""
    total = own = 0
    tree = below(pid)
    for one in tree:
        try:
            told = Path(f"/proc/{one}/smaps_rollup").read_text("ascii")
        except OSError:  # it ended
            continue
        kilobytes = dict(line.split()[:2] for line in told.splitlines()[1:])
        total += int(kilobytes["Pss:"])
        own += int(kilobytes["Pss_Anon:"]) + int(kilobytes["Pss_Shmem:"])
    return {"memory_mb": total / 1024, "own_mb": own / 1024, "processes": len(tree)}


def below(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for one in found:  # grows while it is walked
        for listed in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += map(int, listed.read_text("ascii").split())
            except OSError:
                continue
    return found


def measured(pages: int, dpi: int, workers: int, drawing: int, *, one_file: bool) -> dict[str, Any]:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, store = Path(temporary, "scans"), Path(temporary, "store")
        folder.mkdir()
        write(folder, pages, dpi, one_file=one_file, changed=())
        time.sleep(2.1)  # a file written within a clock's tick is asked for its digest
        first = in_a_process(folder, store, workers, drawing)
        again = in_a_process(folder, store, workers, drawing)
        write(folder, pages, dpi, one_file=one_file, changed=range(0, pages, 100))
        third = in_a_process(folder, store, workers, drawing)
    if first["pages"] != pages or first["failed"] or again["read"]:
        raise SystemExit(f"the run did not go as it should: {first}, {again}")
    return {
        "pages": pages,
        "files": 1 if one_file else pages,
        "processes": first["processes"],
        "memory_mb": round(first["memory_mb"]),
        "own_mb": round(first["own_mb"]),
        "cpu_ms": round(1000 * first["cpu"] / pages, 1),
        "pages_s": round(pages / first["seconds"], 1),
        "again_s": round(again["seconds"], 2),
        "changed_s": round(third["seconds"], 2),
        "changed_read": third["read"],
    }


def rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The table."""
    for pages in map(int, given.pages.split(",")):
        for one_file in (True, False):
            yield measured(pages, given.dpi, given.workers, given.drawing, one_file=one_file)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", default="100,1000", help="pages of the archives")
    parser.add_argument("--dpi", type=int, default=150)
    parser.add_argument("--workers", type=int, default=0, help="processes that read; 0: this one")
    parser.add_argument("--drawing", type=int, default=0, help="processes that draw; 0: this one")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        folder, store, workers, drawing = given.run
        print(json.dumps(run(Path(folder), Path(store), int(workers), int(drawing))))
        return
    table = list(rows(given))
    settings = {"dpi": given.dpi, "workers": given.workers, "drawing": given.drawing}
    document = report.header("numpy", "pillow", "faiss-cpu") | settings | {"rows": table}
    report.show(document, rows=table, columns=COLUMNS, as_json=given.json, out=given.out)


if __name__ == "__main__":
    main()
