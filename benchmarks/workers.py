"""How fast RapidOCR reads an archive: as its users call it, as we do, and in several processes.

    python benchmarks/workers.py [--pages 24] [--workers 2] [--rounds 1] [--lanes plain,pool]
                                 [--json] [--out FILE]

The pages of examples/archive, again and again with one pixel changed, as pictures in one PDF file,
which every lane opens itself. A lane has a process of its own; models are loaded and one page is
read (by each process of the pool) before the clock starts. Lanes take turns, --rounds times.

plain      RapidOCR() on each page that `open_pages` draws: one process, its own choice of threads
langchain  PyPDFLoader(file, images_parser=RapidOCRBlobParser()) of langchain-community
one        our reader with one thread
reader     our reader as it comes: one process, a thread for each core
pool       ReaderPool with --workers processes of one thread each, as `index --workers` has it on as
           many cores; like that, it takes readings as soon as they are there

pages_s        pages a second, best of the rounds
ratio          to `plain` in the same round, median of the rounds
to_one         to `one` in the same round
cpu_s          processor seconds a page, of all processes
characters     read a page, white space not counted
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import report
from ingest import below
from PIL import Image

from kosmos_loader.pages import open_pages
from kosmos_loader.readers.base import PageReader, read_as_completed
from kosmos_loader.readers.pool import ReaderPool
from kosmos_loader.readers.rapidocr import RapidOCRPageReader

ARCHIVE = Path(__file__).parent.parent / "examples" / "archive"
COLUMNS = ("lane", "processes", "pages", "pages_s", "ratio", "to_one", "cpu_s", "characters")

WARM = "warm.pdf"
"""A file of one page, read before the clock starts."""

Reads = Callable[[Path], Iterator[str]]
"""The texts of the pages of a file."""


def write(path: Path, pages: int) -> None:
    """The archive of so many pages."""
    files = sorted(p for p in ARCHIVE.iterdir() if p.suffix in (".jpg", ".pdf", ".png", ".tif"))
    pictures = [(page.pixels, page.dpi) for page in open_pages(files) if page.error is None]
    made = []
    for number, (pixels, dpi) in enumerate(islice(cycle(pictures), pages)):
        changed = pixels.copy()
        changed[0, number % changed.shape[1]] ^= 1
        stream = io.BytesIO()
        Image.fromarray(changed).save(stream, "JPEG", quality=90, dpi=(round(dpi), round(dpi)))
        made.append(Image.open(stream))
    made[0].save(path, "PDF", save_all=True, append_images=made[1:])


def plain() -> Reads:
    """RapidOCR as its README has it; it takes pixels in the order of OpenCV."""
    from rapidocr import RapidOCR

    engine = RapidOCR(params={"Global.log_level": "error"})

    def read(path: Path) -> Iterator[str]:
        for page in open_pages(path):
            found = engine(np.ascontiguousarray(page.pixels[:, :, ::-1]))
            yield "\n".join(found.txts or ())

    return read


def langchain() -> Reads:
    """As langchain-community documents it for scans."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from langchain_community.document_loaders import PyPDFLoader
        from langchain_community.document_loaders.parsers import RapidOCRBlobParser

    parser = RapidOCRBlobParser()

    def read(path: Path) -> Iterator[str]:
        for document in PyPDFLoader(path, images_parser=parser).lazy_load():
            yield document.page_content

    return read


def ours(reader: PageReader) -> Reads:
    """A reader of this package."""

    def read(path: Path) -> Iterator[str]:
        for _, reading in read_as_completed(reader, open_pages(path)):
            yield "\n".join(line.text for line in reading.lines)

    return read


def run(lane: str, path: Path, workers: int) -> dict[str, Any]:
    """One lane, in this process and those that it starts."""
    if lane == "pool":
        with ReaderPool(RapidOCRPageReader(threads=1), workers=workers) as pool:
            page = list(open_pages(path.with_name(WARM)))
            list(pool.read(page * workers))  # one for each, which loads its models
            return timed(ours(pool), path)
    reads = {
        "plain": plain,
        "langchain": langchain,
        "one": lambda: ours(RapidOCRPageReader(threads=1)),
        "reader": lambda: ours(RapidOCRPageReader()),
    }[lane]()
    return timed(reads, path)


def timed(reads: Reads, path: Path) -> dict[str, Any]:
    """What a lane takes for the file, after the one of a single page that lies beside it."""
    list(reads(path.with_name(WARM)))
    cpu, begun = processor_seconds(), time.perf_counter()
    texts = list(reads(path))
    seconds = time.perf_counter() - begun
    return {
        "processes": len(below(os.getpid())),
        "pages": len(texts),
        "pages_s": len(texts) / seconds,
        "cpu_s": (processor_seconds() - cpu) / len(texts),
        "characters": sum(len("".join(text.split())) for text in texts) / len(texts),
    }


def processor_seconds() -> float:
    """Of this process and of those that it started."""
    ticks = 0
    for one in below(os.getpid()):
        try:
            told = Path(f"/proc/{one}/stat").read_text("utf-8")
        except OSError:
            continue
        ticks += sum(map(int, told.rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def in_a_process(lane: str, path: Path, workers: int) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--run", lane, str(path), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"lane {lane} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"lane": lane} | found


def rows(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The table."""
    lanes = [lane for lane in given.lanes.split(",") if _is_there(lane)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "archive.pdf")
        write(path, given.pages)
        write(path.with_name(WARM), 1)
        rounds = [
            {lane: in_a_process(lane, path, given.workers) for lane in lanes}
            for _ in range(given.rounds)
        ]
    return [_row(lane, rounds) for lane in lanes]


def _row(lane: str, rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    best = max((told[lane] for told in rounds), key=lambda row: float(row["pages_s"]))
    return best | {
        "pages_s": round(best["pages_s"], 3),
        "ratio": _ratio(lane, "plain", rounds),
        "to_one": _ratio(lane, "one", rounds),
        "cpu_s": round(best["cpu_s"], 3),
        "characters": round(best["characters"]),
    }


def _ratio(lane: str, other: str, rounds: list[dict[str, dict[str, Any]]]) -> float | None:
    if other not in rounds[0]:
        return None
    return round(median(told[lane]["pages_s"] / told[other]["pages_s"] for told in rounds), 2)


def _is_there(lane: str) -> bool:
    if lane != "langchain" or importlib.util.find_spec("langchain_community"):
        return True
    print("left out: langchain (pip install langchain-community pypdf)", file=sys.stderr)
    return False


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pages", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2, help="processes of the pool")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--lanes", default="plain,langchain,one,reader,pool")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        lane, path, workers = given.run
        print(json.dumps(run(lane, Path(path), int(workers))))
        return
    table = rows(given)
    packages = ("kosmos-loader", "rapidocr", "onnxruntime", "langchain-community", "pypdf")
    document = report.header(*packages) | {"rounds": given.rounds, "rows": table}
    report.show(document, rows=table, columns=COLUMNS, as_json=given.json, out=given.out)


if __name__ == "__main__":
    main()
