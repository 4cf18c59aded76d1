"""What a run over an archive survives: it is killed again and again until all is read.

    python benchmarks/soak.py [--pages 2000] [--kills 50] [--seed 1] [--workers 2] [--json] [--out]

Small pages of our own drawing lie in long files, short ones and single pictures; among them are
broken files, a page at which the reader hangs, one that ends its process and one that it refuses,
and the nasty files of ../shared/data where they are there. A scripted reader reads them in
processes, some ten times as slowly as others. Each run is killed (SIGKILL) at a moment of its own:
some time after its start, after so many further pages, or as the store is written to; by itself or
with its processes. The last one is left alone, and its store must be that of a run that was never
disturbed: ids, texts, places, readings, journal, ledger and what is found.

A line on stderr tells of each kill. Exit code 1 where anything is not as it should be.

pages     that were read
read      pages that readers began with
twice     pages out of these that an earlier run had begun with, but for the three bad ones, which
          are tried again on purpose
most      of these, lost to one kill; fewer than twice as many as there are workers
failed    pages and files in the ledger
begun     runs that were killed before the first page
seconds   until the archive was done
alone     seconds of the run that was not disturbed
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import report
from PIL import Image

from kosmos_loader.document import Line, Page, Reading
from kosmos_loader.errors import ReadingError
from kosmos_loader.geometry import Box

NASTY = Path(__file__).parents[2] / "shared" / "data" / "nasty"
COLUMNS = ("pages", "kills", "read", "twice", "most", "failed", "begun", "seconds", "alone")
BROKEN = (
    *("cut.png", "cut.tif", "empty.pdf", "garbage.pdf", "zip.pdf", "photo.heic"),
    *("gone.png", "pipe.png"),
)
"""Of our making."""

QUESTIONS = ("ropes and tar", "the boat of house 12", "entry beef", "house 40", "a torn page")
PAUSE = 0.01
"""Seconds that a page takes to read; every eleventh of a file takes ten times as long."""


@dataclass(frozen=True)
class Job:
    """One run, told to the process that does it."""

    sources: list[str]
    pages: int
    """Of our drawing."""

    store: str
    log: str
    """Where each page is noted as its reading begins."""

    workers: int
    drawing: int
    page_timeout: float
    hangs: tuple[str, int]
    """Name of a file, and number of the page at which the reader hangs."""

    dies: tuple[str, int]
    refused: tuple[str, int]


# In the process that is killed


class Reader:
    """Says a few lines about each page; hangs, ends its process or refuses where it is told to."""

    name, version = "scripted", "1"

    def __init__(self, job: Job) -> None:
        self.job = job

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """Readings of `pages`, one each, in order."""
        for page in pages:
            with open(self.job.log, "ab", buffering=0) as log:  # noqa: PTH123  one write, unbroken
                log.write(json.dumps([page.source, page.number]).encode() + b"\n")
            time.sleep(PAUSE if page.number % 11 else 10 * PAUSE)
            place = (Path(page.source).name, page.number)
            if place == tuple(self.job.hangs):
                time.sleep(3600)
            if place == tuple(self.job.dies):
                os.kill(os.getpid(), signal.SIGKILL)
            if place == tuple(self.job.refused):
                raise ReadingError(f"page {page.number} of {page.source} is torn")
            yield Reading(page.info, self.name, self.version, tuple(lines_of(page)))


def lines_of(page: Page) -> Iterator[Line]:
    """Words that differ from picture to picture, and share some with others."""
    house = int(page.digest[:4], 16) % 97
    texts = (
        f"Entry {page.digest[:6]} of the harbour office",
        f"Ropes and tar for the boat of house {house}.",
        f"Paid by house {(house * 7) % 97} in the month of May.",
    )
    for place, text in enumerate(texts):
        top = 0.1 + 0.2 * place
        yield Line(text, Box(0.1, top, 0.9, top + 0.1), 0.9)


def run(job: Job) -> None:
    """Index the archive in this process."""
    from kosmos_loader.archive import ingest
    from kosmos_loader.readers.pool import ReaderPool
    from kosmos_loader.store import Store

    pool = ReaderPool(Reader(job), workers=job.workers, page_timeout=job.page_timeout)
    with pool, Store.open(job.store) as store:
        ingest(job.sources, store, pool, drawing=job.drawing)


# The archive


def picture(number: int) -> Image.Image:
    """A page of sixteen squares that are the bits of its number."""
    bits = [(number >> place) & 1 for place in range(16)]
    squares = 255 - 200 * np.array(bits, np.uint8).reshape(4, 4)
    return Image.fromarray(np.kron(squares, np.ones((12, 12), np.uint8))).convert("RGB")


def write(folder: Path, pages: int) -> dict[str, int]:
    """`pages` in files of a third of them, of twenty, of twelve and of one; pages by file name."""
    counts: dict[str, int] = {}
    left = pages
    for name, most in files_of(pages):
        count = min(most, left)
        if not count:
            break
        first, *others = (picture(pages - left + number) for number in range(count))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        more = {"save_all": True, "append_images": others} if others else {}
        first.save(path, **more)
        counts[path.name] = count
        left -= count
    return counts


def files_of(pages: int) -> Iterator[tuple[str, int]]:
    """Names of files, and how many pages each may take."""
    yield "1/book.tif", pages // 3
    for number in range(pages):
        box = f"{2 + number // 40}"
        match number % 10:
            case 0:
                yield f"{box}/register{number}.pdf", 12
            case 5:
                yield f"{box}/account{number}.tif", 20
            case _:
                yield f"{box}/letter{number}.png", 1


def break_some(folder: Path, number: int) -> None:
    """Files that cannot be read, between the others; pictures in them from `number` on."""
    first, *others = (picture(number + page) for page in range(12))
    first.save(folder / "sound.png")
    first.save(folder / "sound.tif", save_all=True, append_images=others)
    sound = {path.suffix: path.read_bytes() for path in folder.glob("sound.*")}
    for path in folder.glob("sound.*"):
        path.unlink()
    contents = {
        "cut.png": sound[".png"][: len(sound[".png"]) // 2],
        "cut.tif": sound[".tif"][: len(sound[".tif"]) // 2],
        "empty.pdf": b"",
        "garbage.pdf": b"%PDF-1.7\n" + bytes(range(256)) * 8,
        "zip.pdf": b"PK\3\4 and no more",
        "photo.heic": b"\0\0\0\x18ftypheic",
    }
    for name, content in contents.items():
        (folder / "1" / name).write_bytes(content)
    (folder / "1" / "gone.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "1" / "pipe.png")


def job_of(folder: Path, *, pages: int, workers: int, seed: int, nasty: bool) -> Job:
    """The archive, written to `folder`, and what happens to whom of its pages."""
    counts = write(folder, pages)
    break_some(folder, pages)
    chance = random.Random(seed)
    places = [(name, number + 1) for name, count in counts.items() for number in range(count)]
    hangs, dies, refused = chance.sample(places, 3)
    return Job(
        sources=[str(folder), *([str(NASTY)] if nasty else [])],
        pages=pages,
        store="",
        log="",
        workers=workers,
        drawing=0,
        page_timeout=2.0,
        hangs=hangs,
        dies=dies,
        refused=refused,
    )


# Kills


@dataclass(frozen=True)
class Kill:
    """A moment at which a run is killed."""

    after: str
    """What is waited for: "seconds", "pages" (begun by readers) or "writes" (to the store)."""

    count: float
    """How many of them."""

    with_processes: bool
    """Whether its processes are killed at the same moment, as by a power cut."""

    def __str__(self) -> str:
        whose = " with its processes" if self.with_processes else ""
        return f"killed{whose} after {self.count:.3g} {self.after}"


def kills_of(count: int, *, pages: int, chance: random.Random) -> Iterator[Kill]:
    """Moments spread over the archive: each run gets twice its share of pages, at most."""
    share = max(2, 2 * pages // max(1, count))
    for _ in range(count):
        after = chance.choice(("seconds", "pages", "pages", "writes", "writes"))
        most = {"seconds": 4.0, "pages": share, "writes": share}[after]
        place = chance.uniform(0, most) if after == "seconds" else chance.randint(1, int(most))
        yield Kill(after, place, chance.random() < 0.5)


class Started:
    """A run in a process, and a group of processes, of its own."""

    def __init__(self, job: Job, scratch: Path) -> None:
        told = scratch / "job.json"
        told.write_text(json.dumps(asdict(job)))
        self._log, self._writes = Path(job.log), Path(job.store, "store.sqlite-wal")
        self._before = size_of(self._log)
        self._begun = time.monotonic()
        self._said = scratch / "stderr"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, __file__, "--run", str(told)], stderr=said, start_new_session=True
            )

    def finish(self) -> int:
        """Its exit code, at its end."""
        return self._process.wait()

    def said(self) -> str:
        """The end of what it said on stderr."""
        return self._said.read_text(errors="replace")[-2000:]

    def kill(self, kill: Kill) -> bool:
        """Whether it was still running when the moment had come, and was killed."""
        try:
            for come in self._moment(kill):
                if come or self._process.poll() is not None:
                    break
                time.sleep(0.0005)
            is_running = self._process.poll() is None
            if is_running and kill.with_processes:
                os.killpg(self._process.pid, signal.SIGKILL)
        finally:
            self._process.kill()
            self._process.wait()
        return is_running

    def _moment(self, kill: Kill) -> Iterator[bool]:
        """Whether the moment has come, whenever it is asked."""
        writes, last = 0, state_of(self._writes)
        while True:
            if kill.after == "seconds":
                yield time.monotonic() - self._begun >= kill.count
            elif kill.after == "pages":
                yield lines_behind(self._log, self._before) >= kill.count
            else:
                now = state_of(self._writes)
                writes, last = writes + (now != last), now
                yield writes >= kill.count

    def left_behind(self, patience: float = 10.0) -> list[int]:
        """Its processes that are still there after so many seconds; known on Linux only."""
        end = time.monotonic() + patience
        while (left := list(members(self._process.pid))) and time.monotonic() < end:
            time.sleep(0.01)
        return left


def members(group: int) -> Iterator[int]:
    """Living processes of a group."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it ended meanwhile
            continue
        if int(of) == group and state not in "ZX":
            yield int(path.parent.name)


def state_of(path: Path) -> tuple[int, int]:
    """Size and time of a file."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return state_of(path)[0]


def lines_behind(path: Path, place: int) -> int:
    """Lines of a file behind so many bytes."""
    if size_of(path) == place:
        return 0
    with path.open("rb") as stream:
        stream.seek(place)
        return stream.read().count(b"\n")


def begun_with(log: Path) -> list[tuple[str, int]]:
    """The pages that readers began with, in order."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(source, number) for source, number in map(json.loads, lines)]


# What came of it


def contents(folder: Path) -> dict[str, Any]:
    """All that a store holds and finds, without times; `problems` that it has by itself."""
    from kosmos_loader.store import Store

    with Store.open(folder, create=False) as store:
        problems = store.verify()
        sources = store.journal.sources()
        pages = {source: store.journal.pages(source) for source in sources}
        keys = sorted({page.key for known in pages.values() for page in known})
        readings = {key: store.kept_reading(key) for key in keys}
        hits = {query: store.search(query, k=10) for query in QUESTIONS}
        return {
            "problems": problems,
            "chunks": {chunk.chunk_id: chunk for chunk in store.get(sorted(store.ids()))},
            "readings": {key: kept and (kept.reader, kept.lines) for key, kept in readings.items()},
            "files": {source: told(store.journal.file(source)) for source in sources},
            "pages": pages,
            "ledger": store.failures(),
            "found": {
                query: [(hit.chunk.chunk_id, round(hit.score, 9)) for hit in found]
                for query, found in hits.items()
            },
        }


def told(file: Any) -> tuple[Any, ...]:
    """What the journal says of a file, but when it was written."""
    return file and (file.size, file.digest, file.reader, file.made, file.chunks)


def differing(found: dict[str, Any], wanted: dict[str, Any]) -> Iterator[str]:
    """What of two stores is not alike, a sentence each."""
    for what, right in wanted.items():
        here = found[what]
        if here == right:
            continue
        if isinstance(right, dict):
            names = sorted(n for n in {*here, *right} if here.get(n) != right.get(n))
            yield f"{what} differ in {len(names)}: {', '.join(names[:3])}"
        else:
            one = sorted(map(str, {*here} ^ {*right}))
            yield f"{what} differ in {len(one)}: {', '.join(one[:3])}"


def soaked(
    *,
    pages: int,
    kills: int,
    seed: int = 1,
    workers: int = 2,
    nasty: bool = True,
    tell: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """The row of the table, and `problems`: what was not as it should be."""
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        job = job_of(scratch / "scans", pages=pages, workers=workers, seed=seed, nasty=nasty)
        time.sleep(2.1)  # a file written within a clock's tick is asked for its digest
        disturbed = replace(job, store=str(scratch / "store"), log=str(scratch / "log"))
        row = survived(disturbed, kills, seed, scratch, tell)
        alone = replace(job, store=str(scratch / "alone"), log=str(scratch / "alone.log"))
        clock = time.monotonic()
        started = Started(alone, scratch)
        if code := started.finish():
            told = f"the undisturbed run ended with exit code {code}: {started.said()}"
            row["problems"].append(told)
            return row
        row["alone"] = round(time.monotonic() - clock, 1)
        wanted, found = contents(Path(alone.store)), contents(Path(disturbed.store))
        row["pages"] = sum(map(len, wanted["pages"].values()))
        row["failed"] = len(wanted["ledger"])
        row["problems"] += [f"the undisturbed store: {problem}" for problem in wanted["problems"]]
        row["problems"] += differing(found, wanted)
        row["problems"] += missing_from(wanted, job)
        return row


def survived(
    job: Job, kills: int, seed: int, scratch: Path, tell: Callable[[str], object]
) -> dict[str, Any]:
    """What it took until the archive was done."""
    problems: list[str] = []
    chance = random.Random(seed)
    reads, clock = Reads(job), time.monotonic()
    done = early = 0
    for number, kill in enumerate(kills_of(kills, pages=job.pages, chance=chance), start=1):
        started = Started(replace(job, drawing=chance.choice((0, 0, 1))), scratch)
        if not started.kill(kill):
            tell(f"{number}: the archive was done before it was {kill}")
            break
        if left := started.left_behind():
            problems.append(f"kill {number} left processes behind: {left}")
        begun, again = reads.take(number)
        tell(f"{number}: {kill}; {begun} pages begun, {again} of them before")
        done += 1
        early += not begun
    started = Started(job, scratch)
    if code := started.finish():
        problems.append(f"the last run ended with exit code {code}: {started.said()}")
    reads.take(done + 1)
    for number, lost in reads.lost.items():
        if lost >= 2 * job.workers:
            problems.append(f"kill {number} made {lost} pages be read twice")
    return {
        "kills": done,
        "read": len(begun_with(Path(job.log))),
        "twice": reads.lost.total(),
        "most": max(reads.lost.values(), default=0),
        "begun": early,
        "seconds": round(time.monotonic() - clock, 1),
        "problems": problems,
    }


class Reads:
    """Which run began with which page, and so what each kill made be read again."""

    def __init__(self, job: Job) -> None:
        self._log = Path(job.log)
        self._on_purpose = {tuple(job.hangs), tuple(job.dies), tuple(job.refused)}
        self._seen = 0
        self._last: dict[tuple[str, int], int] = {}
        self.lost: Counter[int] = Counter()
        """Pages by the number of the run that had begun with them in vain."""

    def take(self, number: int) -> tuple[int, int]:
        """Pages that run `number` has begun with, and how many of them earlier runs had."""
        begun = begun_with(self._log)[self._seen :]
        self._seen += len(begun)
        again = [
            self._last[page]
            for page in begun
            if page in self._last and (Path(page[0]).name, page[1]) not in self._on_purpose
        ]
        self.lost.update(again)
        self._last |= dict.fromkeys(begun, number)
        return len(begun), len(again)


def missing_from(wanted: dict[str, Any], job: Job) -> Iterator[str]:
    """What even the undisturbed run should have read or entered into the ledger, and did not."""
    sound = [s for s in wanted["pages"] if not is_nasty(s) and Path(s).name not in BROKEN]
    if (ours := sum(len(wanted["pages"][source]) for source in sound)) != job.pages - 3:
        yield f"{ours} of our pages were read and not {job.pages - 3}"
    for name in BROKEN:
        if not any(Path(entry.source).name == name for entry in wanted["ledger"]):
            yield f"{name} is not in the ledger"
    types = {
        (Path(entry.source).name, entry.page): entry.failure.type for entry in wanted["ledger"]
    }
    expected = {job.hangs: "timeout", job.dies: "process_died", job.refused: "reading"}
    for place, kind in expected.items():
        if types.get(place) != kind:
            is_in = f"is in the ledger as {types.get(place)}, not as {kind}"
            yield f"page {place[1]} of {place[0]} {is_in}"


def is_nasty(source: str) -> bool:
    """Whether a file is one of those that were not drawn here."""
    return source.startswith(str(NASTY))


def main() -> int:
    """Soak, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run(Job(**json.loads(given.run.read_text())))
        return 0
    row = soaked(
        pages=given.pages,
        kills=given.kills,
        seed=given.seed,
        workers=given.workers,
        nasty=NASTY.is_dir(),
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
    problems = row["problems"]
    document = report.header("numpy", "pillow", "faiss-cpu") | row
    report.show(document, rows=[row], columns=COLUMNS, as_json=given.json, out=given.out)
    print("\n".join(problems) or "as if it had never been killed", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
