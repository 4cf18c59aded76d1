"""Pages read on a Ray cluster: the store is that of a run on one machine, whatever dies meanwhile.

One Ray of two cores serves the module.
"""

from __future__ import annotations

import logging
import os
import signal
import socketserver
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kosmos_loader.archive import Report, Step, ingest, retry_failed
from kosmos_loader.archive.elsewhere import Work
from kosmos_loader.archive.planning import Plan
from kosmos_loader.cli import app
from kosmos_loader.distributed import RayCluster
from kosmos_loader.distributed.room import Wanted, wait_for_room
from kosmos_loader.document import Failure, Line, Page, Reading
from kosmos_loader.errors import ClusterError, ReadingError, UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.ocr_files import alto
from kosmos_loader.pages import open_pages
from kosmos_loader.readers.base import reading_key
from kosmos_loader.readers.existing import ExistingOcr
from kosmos_loader.store import Store
from kosmos_loader.testing import ScriptedReader

ray = pytest.importorskip("ray", reason="ray is not installed")

# Ray sets options of its own that it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:::ray")

CRASHES, HANGS = 200, 201
"""Shades of pages that end their process, or are never read to the end."""


class ShadeReader:
    """Says which shade a page has, and notes in a log which process it was read by."""

    name, version = "shades", "1"

    def __init__(self, log: Path, *, crashes: bool = True) -> None:
        self._log = log
        self._crashes = crashes

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        for page in pages:
            shade = int(page.pixels[15, 20, 0])
            with self._log.open("a") as log:
                log.write(f"{shade} {os.getpid()} {os.getppid()}\n")
            if shade == CRASHES and self._crashes:
                os._exit(3)
            if shade == HANGS:
                time.sleep(600)
            time.sleep(0.02)
            text = f"The shade of this page is number {shade}."
            line = Line(text, Box(0.1, 0.1, 0.9, 0.2), 0.9)
            yield Reading(page.info, self.name, self.version, (line,))


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray of two cores with little memory."""
    # readers of this module go to workers, which cannot import it
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(
        num_cpus=2,
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="CRITICAL",
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


def picture(shade: int) -> Image.Image:
    pixels = np.full((60, 40, 3), 255, np.uint8)
    pixels[10:20, 5:35] = shade
    return Image.fromarray(pixels)


def tiff(path: Path, shades: Iterable[int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = (picture(shade) for shade in shades)
    first.save(path, save_all=True, append_images=others)
    return aged(path)


def aged(path: Path) -> Path:
    """Last changed a while ago, so that its time proves that it is the same."""
    os.utime(path, (1e9, 1e9))
    return path


def log_of(path: Path) -> list[list[int]]:
    """Shade, process and parent process of each page that a reader began."""
    if not path.exists():
        return []
    return [[int(word) for word in line.split()] for line in path.read_text().splitlines()]


def shades_of(path: Path) -> list[int]:
    return sorted(line[0] for line in log_of(path))


def contents(store: Store, *, without: Path | None = None) -> dict[str, Any]:
    """All that a store holds and that does not tell when it was entered."""
    assert store.verify() == []
    sources = [source for source in store.journal.sources() if source != str(without)]
    kept = [(key, store.kept_reading(key)) for key in sorted(store.journal.keys())]
    ledger = [e for e in store.ledger() if e.source != str(without)]
    return {
        "chunks": [c for c in store.get(sorted(store.ids())) if c.source != str(without)],
        "readings": [(key, r) for key, r in kept if r and r.page.source != str(without)],
        "ledger": [(e.source, e.page, e.failure, e.key) for e in ledger],
        "files": [store.journal.file(source) for source in sources],
        "pages": [store.journal.pages(source) for source in sources],
    }


def of_one_machine(folder: Path, tmp_path: Path) -> tuple[Report, dict[str, Any]]:
    """The same archive without pages that crash or hang."""
    with Store.open(tmp_path / "undisturbed") as store:
        report = ingest(folder, store, ShadeReader(tmp_path / "undisturbed.log"))
        return report, contents(store)


# Without Ray


class Backwards:
    """Reads each file from its last page to the first, as other machines might."""

    def read(self, plans: Iterator[Plan], work: Work) -> Iterator[Plan]:
        for plan in plans:
            yield plan if plan.is_done or plan.seen is None else self._read(plan, work)

    def _read(self, plan: Plan, work: Work) -> Plan:
        known: dict[int, str] = {}
        left: dict[int, Failure] = {}
        work.store.journal.begin(plan.seen, anew=True)
        pages = list(open_pages([plan.file]))
        for reading in work.reader.read(reversed(pages)):
            number, key = reading.page.number, reading_key(work.reader, reading)
            if reading.error is None:
                work.store.journal.keep(key, reading, is_new=True)
                known[number] = key
            else:
                key = key if reading.page.digest else ""
                work.store.record_failure(plan.source, number, reading.error, key=key)
                left[number] = reading.error
        fresh = frozenset([*known, *left])
        count = pages[0].count
        return replace(plan, count=count, known=known, left=left, fresh=fresh, holds=True)


def test_pages_that_were_read_elsewhere_in_any_order_give_the_same_store(tmp_path: Path) -> None:
    def torn(page: Page) -> Line:
        if page.pixels[15, 20, 0] == 20:
            raise ReadingError("torn")
        return Line("A line of a page", Box(0.1, 0.1, 0.9, 0.2), 0.9)

    folder = tmp_path / "scans"
    tiff(folder / "a.tif", [10, 20, 30])
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    aged(folder / "b.png")
    tiff(folder / "c.tif", [40])
    with Store.open(tmp_path / "here") as here, Store.open(tmp_path / "there") as there:
        expected = ingest(folder, here, ScriptedReader(torn))
        steps: list[Step] = []
        reader = ScriptedReader(torn)
        report = ingest(folder, there, reader, elsewhere=Backwards(), progress=steps.append)
        assert report == expected
        assert contents(there) == contents(here)
        assert steps == []  # whoever reads elsewhere tells of it
        again = ingest(folder, there, reader, elsewhere=Backwards())
    assert again.unchanged == 1
    assert len(expected.failed) == 2


def test_settings_that_cannot_be_meant_are_refused() -> None:
    for settings in ({"workers": 0}, {"batch": 0}, {"drawing": 0}, {"cpus": 0}, {"gpus": -1}):
        with pytest.raises(UsageError):
            RayCluster(**settings)
    with pytest.raises(UsageError, match="give 0 or more"):
        RayCluster(planning=-1)
    with pytest.raises(UsageError, match="run this on a machine of the cluster"):
        RayCluster("ray://head:10001")


def test_a_reader_that_cannot_be_sent_to_workers_is_told_before_there_are_any() -> None:
    make = partial(ScriptedReader, threading.Lock())
    with pytest.raises(UsageError, match="cannot be sent to workers"):
        RayCluster("localhost:1").reader(make)


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    scan = tiff(tmp_path / "a.tif", [10])
    for options in (
        ["--ray-workers", "2"],
        ["--ray", "auto", "--workers", "2"],
        ["--ray", "auto", "--device", "cpu"],
        ["--ray", "auto", "--ray-gpus", "1", "--page-timeout", "5"],
        ["--ray", "auto", "--ray-gpus", "1", "--reader", "rapidocr"],
    ):
        arguments = ["index", str(scan), "--store", str(tmp_path / "store"), *options]
        done = CliRunner().invoke(app, arguments)
        assert (done.exit_code, "--ray" in done.stderr) == (2, True), options


def test_a_second_run_over_what_has_not_changed_starts_no_work_at_all(tmp_path: Path) -> None:
    folder = tiff(tmp_path / "scans" / "a.tif", [10, 20]).parent
    with Store.open(tmp_path / "store") as store:
        reader = ShadeReader(tmp_path / "log")
        ingest(folder, store, reader)
        nowhere = RayCluster("127.0.0.1:1")
        again = ingest(folder, store, reader, elsewhere=nowhere)
        other_size = ingest(folder, store, reader, elsewhere=nowhere, chunk_size=50)
    assert (again.unchanged, other_size.unchanged, other_size.pages) == (1, 0, 2)
    assert shades_of(tmp_path / "log") == [10, 20]


def test_where_no_cluster_answers_it_is_said_how_to_start_one(tmp_path: Path) -> None:
    if ray.is_initialized():
        pytest.skip("a Ray that is there already is used whatever the address")
    scan = tiff(tmp_path / "a.tif", [10])
    with (
        Store.open(tmp_path / "store") as store,
        RayCluster("127.0.0.1:1") as nowhere,
        pytest.raises(ClusterError, match="ray start --head"),
    ):
        ingest(scan, store, ShadeReader(tmp_path / "log"), elsewhere=nowhere)


class Greeting(socketserver.BaseRequestHandler):
    """What a server of mails or shells does."""

    def handle(self) -> None:
        self.request.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")


@pytest.mark.parametrize("handler", [Greeting, BaseHTTPRequestHandler])
def test_where_another_server_answers_it_is_not_waited_for_a_head(
    tmp_path: Path, handler: type[socketserver.BaseRequestHandler]
) -> None:
    if ray.is_initialized():
        pytest.skip("a Ray that is there already is used whatever the address")
    scan = tiff(tmp_path / "a.tif", [10])
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        nowhere = RayCluster(f"127.0.0.1:{server.server_address[1]}")
        with (
            Store.open(tmp_path / "store") as store,
            pytest.raises(ClusterError, match=r"is no Ray head.*ray start --head"),
        ):
            ingest(scan, store, ShadeReader(tmp_path / "log"), elsewhere=nowhere)
        server.shutdown()


# With Ray


def killer(log: Path, *, after: int) -> Callable[[Step], None]:
    """Kills the worker that has begun the last page, once so many pages are told of."""
    told = 0

    def step(_: Step) -> None:
        nonlocal told
        told += 1
        if told == after:
            worker = log_of(log)[-1][2]  # the parent of the process that reads
            os.kill(worker, signal.SIGKILL)

    return step


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing_and_bad_pages_cost_no_other(
    cluster: str, tmp_path: Path
) -> None:
    folder, log = tmp_path / "scans", tmp_path / "log"
    tiff(folder / "book.tif", range(40))
    for shade in range(40, 60):
        tiff(folder / f"letter{shade}.tif", [shade])
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    aged(folder / "bad.png")
    told, expected = of_one_machine(folder, tmp_path)
    poison = tiff(folder / "poison.tif", [100, CRASHES, 101, HANGS, 102])
    with Store.open(tmp_path / "store") as store:
        report = ingest(
            *(folder, store, ShadeReader(log)),
            elsewhere=RayCluster(workers=2, page_timeout=8),
            progress=killer(log, after=10),
        )
        failed = {(Path(e.source).name, e.page): (e.failure.type, e.key) for e in store.ledger()}
        counts = report.files, report.pages, report.reused
        unchanged = ingest(folder, store, ShadeReader(log)).unchanged
        indexed = contents(store, without=poison)
    assert {place: kind for place, (kind, _) in failed.items()} == {
        ("bad.png", 0): "corrupt",
        ("poison.tif", 2): "process_died",
        ("poison.tif", 4): "timeout",
    }
    assert [bool(key) for _, key in failed.values()] == [False, True, True]
    assert counts == (told.files + 1, told.pages + 3, 0)
    assert unchanged == report.files - 1
    assert indexed == expected
    begun = shades_of(log)
    assert begun.count(CRASHES) == 2
    assert len(begun) - len(set(begun)) <= 1 + 2  # what was killed had a page in hand


@pytest.mark.slow
def test_a_page_that_ends_its_worker_twice_is_given_up_and_those_beside_it_are_read(
    cluster: str, tmp_path: Path
) -> None:
    log, cured = tmp_path / "log", ShadeReader(tmp_path / "cured", crashes=False)
    workers = RayCluster(workers=1, batch=4)
    scan = tiff(tmp_path / "scans" / "a.tif", [*range(5), CRASHES, *range(6, 9)])
    with Store.open(tmp_path / "local") as store:
        ingest(scan, store, cured)
        expected = contents(store)
    with Store.open(tmp_path / "store") as store:
        report = ingest(scan, store, ShadeReader(log), elsewhere=workers)
        assert [(f.page, f.failure.type) for f in report.failed] == [(6, "process_died")]
        assert report.pages == 8
        assert retry_failed(store, cured, elsewhere=workers).pages == 9
        ingest(scan, store, cured)  # since a run that tries again leaves that open
        assert contents(store) == expected
    assert shades_of(log).count(CRASHES) == 2


class EndsOnce(ShadeReader):
    """Ends the process that draws as it comes to a page, but once only."""

    def identity(self, page: Page) -> tuple[str, str]:
        been_there = self._log.with_suffix(".ended")
        if page.number == 7 and self._crashes and not been_there.exists():
            been_there.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.name, self.version

    def companions(self, source: str) -> list[Path]:
        return []


@pytest.mark.slow
def test_where_the_process_that_draws_ends_pages_are_drawn_again_and_none_is_lost(
    cluster: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    scan = tiff(tmp_path / "scans" / "a.tif", range(20))
    with Store.open(tmp_path / "store") as store:
        report = ingest(scan, store, EndsOnce(log), elsewhere=RayCluster(workers=1))
        indexed = contents(store)
    with Store.open(tmp_path / "local") as store:
        assert report == ingest(scan, store, EndsOnce(tmp_path / "undisturbed", crashes=False))
        assert indexed == contents(store)
    assert log.with_suffix(".ended").exists()
    assert len(log_of(log)) == 20


@pytest.mark.slow
def test_a_run_that_is_stopped_keeps_the_pages_in_hand_and_goes_on_later(
    cluster: str, tmp_path: Path
) -> None:
    folder, log = tmp_path / "scans", tmp_path / "log"
    for name in range(10):
        tiff(folder / f"{name}.tif", range(10 * name, 10 * name + 4))
    _, expected = of_one_machine(folder, tmp_path)
    steps: list[Step] = []
    with Store.open(tmp_path / "store") as store:
        report = ingest(
            *(folder, store, ShadeReader(log)),
            elsewhere=RayCluster(workers=2),
            progress=steps.append,
            stopping=lambda: len(steps) >= 5,
        )
        assert report.interrupted
        assert store.journal.totals().pages == len(log_of(log)) < 40
        ingest(folder, store, ShadeReader(log), elsewhere=RayCluster(workers=2))
        assert contents(store) == expected
    assert len(log_of(log)) == 40


class PlannedSlowly:
    """The last file is planned when a page of the first is read, and not before."""

    def __init__(self, cluster: RayCluster, log: Path, *, files: int) -> None:
        self._cluster = cluster
        self._log = log
        self._files = files

    def read(self, plans: Iterator[Plan], work: Work) -> Iterator[Plan]:
        return self._cluster.read(self._slowly(plans), work)

    def _slowly(self, plans: Iterator[Plan]) -> Iterator[Plan]:
        for plan in plans:
            given_up = time.monotonic() + 120
            while plan.place == self._files and not log_of(self._log):
                assert time.monotonic() < given_up, "all files are planned before one is read"
                time.sleep(0.05)
            yield plan


@pytest.mark.slow
def test_files_are_read_while_others_are_still_planned(cluster: str, tmp_path: Path) -> None:
    folder, log = tmp_path / "scans", tmp_path / "log"
    for name in range(5):
        tiff(folder / f"{name}.tif", range(10 * name, 10 * name + 2))
    told, expected = of_one_machine(folder, tmp_path)
    workers = PlannedSlowly(RayCluster(workers=1, planning=0), log, files=5)
    with Store.open(tmp_path / "store") as store:
        assert ingest(folder, store, ShadeReader(log), elsewhere=workers) == told
        assert contents(store) == expected
    assert len(log_of(log)) == 10


@pytest.mark.slow
def test_a_cluster_that_others_hold_is_waited_for_and_that_is_said(cluster: str) -> None:
    @ray.remote(num_cpus=2)
    class Other:
        def is_there(self) -> bool:
            return True

    other = Other.remote()
    ray.get(other.is_there.remote())
    told: list[str] = []
    released: list[None] = []

    def note(record: logging.LogRecord) -> bool:
        told.append(record.getMessage())
        return True

    def release() -> bool:
        if len(told) == 2 and not released:
            released.append(ray.kill(other))
        return False

    logger = logging.getLogger("kosmos_loader")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addFilter(note)
    try:
        assert not wait_for_room(Wanted(1, 0), stopping=lambda: bool(told), patience=0.1)
        assert wait_for_room(Wanted(1, 0), stopping=release, patience=0.1)
    finally:
        logger.removeFilter(note)
        logger.setLevel(level)
    waiting, again, there = told
    assert "a worker wants 1 cores and 0 GPUs, and 0 cores and 0 GPUs are free" in waiting
    assert (again, there) == (waiting, "there is room for a worker now")


def desks() -> list[int]:
    """Processes of this Ray that know which pages are in hand."""
    titles = {int(path.parent.name): path for path in Path("/proc").glob("[0-9]*/cmdline")}
    found = []
    for process, title in titles.items():
        with suppress(OSError):
            if title.read_bytes().startswith(b"ray::Desk"):
                found.append(process)
    return found


def wait_for_desks() -> list[int]:
    """The same; Ray may be about to start one again that was killed before."""
    end = time.monotonic() + 60
    while not (found := desks()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")
def test_where_the_desk_ends_no_page_is_lost_and_a_run_still_stops(
    cluster: str, tmp_path: Path
) -> None:
    scan, log = tiff(tmp_path / "scans" / "a.tif", range(60)), tmp_path / "log"
    steps: list[Step] = []

    def step(done: Step) -> None:
        steps.append(done)
        if len(steps) in (5, 10):
            [desk] = wait_for_desks()
            os.kill(desk, signal.SIGKILL)

    with Store.open(tmp_path / "store") as store:
        report = ingest(
            *(scan, store, ShadeReader(log)),
            elsewhere=RayCluster(workers=2),
            progress=step,
            stopping=lambda: len(steps) >= 10,
        )
        assert report.interrupted
        assert 10 <= store.journal.totals().pages <= len(log_of(log)) < 60
        ingest(scan, store, ShadeReader(log), elsewhere=RayCluster(workers=2))
        assert contents(store) == of_one_machine(scan.parent, tmp_path)[1]


SCRIPT = """
    import sys
    from pathlib import Path

    import ray

    sys.path.insert(0, sys.argv[1])
    import test_distributed

    from kosmos_loader.archive import ingest
    from kosmos_loader.distributed import RayCluster
    from kosmos_loader.store import Store

    if __name__ == "__main__":
        folder, store, log, address = sys.argv[2:]
        ray.cloudpickle.register_pickle_by_value(test_distributed)
        reader = test_distributed.ShadeReader(Path(log))
        with Store.open(store) as opened, RayCluster(address, workers=2) as workers:
            ingest(folder, opened, reader, elsewhere=workers)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_driver_that_was_killed_goes_on_where_it_was(cluster: str, tmp_path: Path) -> None:
    folder, log = tmp_path / "scans", tmp_path / "log"
    book = tiff(folder / "book.tif", range(60))
    tiff(folder / "other.tif", range(60, 80))
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    tests = Path(__file__).parent
    command = [sys.executable, script, tests, folder, tmp_path / "store", log, cluster]
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and len(log_of(log)) < 20:
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()[1]
        process.kill()
    with Store.open(tmp_path / "store") as store:
        before = store.journal.totals().pages
        known = [page.number - 1 for page in store.journal.pages(str(book))]
        tiff(folder / "copy.tif", known[:5])  # pages that look like these are not read again
        report = ingest(folder, store, ShadeReader(log), elsewhere=RayCluster(workers=2))
        assert contents(store) == of_one_machine(folder, tmp_path)[1]
    assert len(known) >= 5
    assert before < 80
    assert report.reused == before + 5
    assert set(shades_of(log)) == set(range(80))
    assert len(log_of(log)) - 80 < 20


@pytest.mark.slow
def test_ocr_that_exists_is_used_and_a_file_that_a_worker_does_not_see_is_named(
    cluster: str, tmp_path: Path
) -> None:
    folder, log = tmp_path / "scans", tmp_path / "log"
    gone = tiff(folder / "a.tif", [10])
    tiff(folder / "b.tif", [20])
    tiff(folder / "c.tif", [30])
    tiff(folder / "d.tif", [40])
    [page] = open_pages(folder / "c.tif")
    line = Line("What stands beside the page", Box(0.1, 0.1, 0.9, 0.4), 0.95)
    (folder / "c.xml").write_text(alto(Reading(page.info, "other", "1", (line,))), "utf-8")
    workers = RayCluster(workers=1)
    remote = workers.reader(lambda: ShadeReader(log))
    assert (remote.name, remote.version) == ("shades", "1")
    with Store.open(tmp_path / "store") as store:
        ingest(folder / "b.tif", store, ExistingOcr(ShadeReader(log)))

        def unlink(_: Step) -> None:  # when b is passed over, a is planned and not drawn
            gone.unlink(missing_ok=True)

        ingest(folder, store, ExistingOcr(remote), elsewhere=workers, progress=unlink)
        [missing] = store.ledger()
        readers = {Path(c.source).name: c.reader for c in store.get(store.ids())}
    assert (missing.source, missing.page, missing.failure.type) == (str(gone), 0, "not_found")
    assert "the same storage" in missing.failure.message
    assert readers == {"b.tif": "shades", "c.tif": "existing", "d.tif": "shades"}
    assert shades_of(log) == [20, 40]


@pytest.mark.slow
def test_the_command_line_reads_on_the_cluster_that_is_there(cluster: str, tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    scan = tmp_path / "scan.png"
    Image.new("RGB", (200, 100), "white").save(scan)
    command = [sys.executable, "-m", "kosmos_loader", "-q", "index", str(scan)]
    command += ["--reader", "rapidocr", "--store", str(tmp_path / "store")]
    there = [*command, "--ray", "auto", "--ray-workers", "1"]
    environment = {**os.environ, "RAY_ADDRESS": cluster}
    done = subprocess.run(there, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 page" in done.stdout
    with Store.open(tmp_path / "store", create=False) as store:
        assert store.journal.totals().pages == 1
    here = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 of them read before" in here.stdout
