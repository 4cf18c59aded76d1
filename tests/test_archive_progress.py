"""What a run tells while it goes on, and how it is stopped."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from kosmos_loader.archive import Step, ingest
from kosmos_loader.archive.progress import Pace, log_progress, notebook_bar
from kosmos_loader.cli import app, terminal
from kosmos_loader.document import Failure
from kosmos_loader.errors import ReadingError
from kosmos_loader.store import LastRun, Store
from kosmos_loader.testing import ScriptedReader


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Of the package, which the command line may have set to print itself."""
    logger = logging.getLogger("kosmos_loader")
    before = logger.propagate, logger.level
    logger.propagate = True
    with caplog.at_level(logging.INFO, "kosmos_loader"):
        yield caplog
    logger.propagate = before[0]
    logger.setLevel(before[1])


def test_pages_a_second_and_the_time_left_count_what_is_read_now(clock: Clock) -> None:
    pace = Pace(clock)
    assert pace.take(Step("a", 1, 1, 1, 4, reused=True)) == "file 1/4, page 1/1"
    clock.now = 10.0
    told = pace.take(Step("b", 1, 2, 2, 4))
    assert told == "file 2/4, page 1/2, 0.1 pages/s, 0:00:50 left"
    assert pace.done == 1.5
    clock.now = 20.0
    last = Step("b", 2, 2, 2, 4, failure=Failure("reading", "torn"), flags=("blank",))
    told = pace.take(last)
    assert told == "file 2/4, page 2/2, 0.1 pages/s, 0:00:40 left, 1 failed, 1 flagged"


def test_a_file_that_cannot_be_opened_counts_as_done(clock: Clock) -> None:
    pace = Pace(clock)
    assert pace.take(Step("a", 0, 0, 1, 1, failure=Failure("empty", "x"))).endswith("1 failed")
    assert pace.done == 1


def test_lines_are_logged_every_so_often(clock: Clock, log: pytest.LogCaptureFixture) -> None:
    step = log_progress(30, clock)
    for number in range(1, 8):
        clock.now += 10
        step(Step("a", number, 10, 1, 1))
    lines = [record.message for record in log.records]
    assert [line.split(", ")[1] for line in lines] == ["page 3/10", "page 6/10"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_the_first_ctrl_c_is_told_and_the_second_raises(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with terminal.interrupts() as stopping:
        assert not stopping()
        os.kill(os.getpid(), signal.SIGINT)
        assert stopping()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert "press Ctrl-C again to stop at once" in capfd.readouterr().err


# In a notebook


class Display:
    """What IPython's `display` does with a value and a display id."""

    def __init__(self) -> None:
        self.shown: list[object] = []

    def __call__(self, value: object, *, display_id: bool) -> Display:
        assert display_id
        self.shown.append(value)
        return self

    def update(self, value: object) -> None:
        self.shown.append(value)


def test_a_notebook_shows_a_bar_that_moves_and_stays(clock: Clock) -> None:
    display = Display()
    with notebook_bar(display, clock) as bar:
        for number in range(1, 21):
            clock.now += 0.125
            failure = Failure("reading", "torn") if number == 3 else None
            bar(Step("/scans/<b>.pdf", number, 20, 1, 2, failure=failure))
    assert len(display.shown) == 12  # as it begins, every other step, and at the end
    last = display.shown[-1]._repr_html_()
    assert '<progress style="width: 20em" value="1.000" max="2">' in last
    assert "page 20/20, 8.0 pages/s, 0:00:02 left, 1 failed, &lt;b&gt;.pdf" in last
    assert repr(display.shown[-1]).endswith("1 failed, <b>.pdf")


def test_a_bar_in_a_notebook_ends_where_the_run_does(clock: Clock) -> None:
    display = Display()

    def run() -> None:
        with notebook_bar(display, clock) as bar:
            bar(Step("a.pdf", 1, 2, 1, 1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert "page 1/2" in repr(display.shown[-1])


NOTEBOOK = """
from pathlib import Path
from PIL import Image
from kosmos_loader import Store
from kosmos_loader.archive import ingest, progress_bar
from kosmos_loader.testing import ScriptedReader

for number in range(3):
    Image.new("RGB", (20, 20), (number, 255, 255)).save(f"{number}.png")
with Store.open("store") as store, progress_bar() as bar:
    ingest(".", store, ScriptedReader(lambda page: "words"), progress=bar)
"""


@pytest.mark.slow
def test_a_real_kernel_shows_the_bar_and_nothing_else(tmp_path: Path) -> None:
    manager = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    kernel, client = manager.start_new_kernel(cwd=str(tmp_path))
    messages: list[dict[str, Any]] = []
    try:
        client.execute_interactive(NOTEBOOK, timeout=60, output_hook=messages.append)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    outputs = [m for m in messages if m["msg_type"] not in ("status", "execute_input")]
    assert {m["msg_type"] for m in outputs} == {"display_data", "update_display_data"}
    assert len({m["content"]["transient"]["display_id"] for m in outputs}) == 1
    last = outputs[-1]["content"]["data"]
    assert last["text/html"].startswith("<progress")
    assert last["text/plain"].startswith("file 3/3, page 1/1")


# What status tells


def scans(folder: Path, *, pages: int, files: int) -> Path:
    folder.mkdir()
    for file in range(files):
        first, *others = (Image.new("RGB", (40, 20), (file, page, 0)) for page in range(pages))
        first.save(folder / f"{file}.tif", save_all=True, append_images=others)
    return folder


class Stopping:
    """Says stop when so many pages were done."""

    def __init__(self, pages: int) -> None:
        self.left = pages

    def step(self, step: Step) -> None:
        self.left -= 1

    def __call__(self) -> bool:
        return self.left <= 0


def status(store: Path) -> tuple[dict[str, Any], str]:
    told = CliRunner().invoke(app, ["status", "--store", str(store)])
    as_json = CliRunner().invoke(app, ["status", "--store", str(store), "--json"])
    return json.loads(as_json.stdout), told.stdout


def test_status_tells_what_is_done_and_what_remains(tmp_path: Path) -> None:
    archive, store = scans(tmp_path / "scans", pages=5, files=3), tmp_path / "store"
    words = ScriptedReader(
        lambda page: ReadingError("torn") if page.number == 2 else {"flags": ["blank"]}
    )
    with Store.open(store) as opened:
        assert opened.journal.last_run() is None
        stopping = Stopping(7)
        ingest(archive, opened, words, progress=stopping.step, stopping=stopping)
    found, told = status(store)
    run = found["last_run"]
    assert (run["files"], run["reached"], run["ended"]) == (3, 1, False)
    assert run["read"] + run["failed"] == found["pages"] + len(found["failures"])
    assert (found["files"], found["unfinished"]) == (2, 1)
    assert found["remaining"] == 10 - found["pages"] - len(found["failures"])
    assert run["pages_per_second"] > 0
    assert "1 of 3 files, " in told
    assert "not ended, 2 files left" in told
    assert "the same index command goes on from there" in told
    with Store.open(store) as opened:
        ingest(archive, opened, words)
    found, told = status(store)
    run = found["last_run"]
    assert (run["reached"], run["ended"], found["remaining"]) == (3, True, 0)
    assert (run["failed"], found["pages"], found["flagged"]) == (3, 12, 12)
    assert "3 of 3 files, " in told
    assert "3 failed" in told
    assert "not ended" not in told


def test_a_run_over_some_pages_of_each_file_comes_to_its_end(tmp_path: Path) -> None:
    archive = scans(tmp_path / "scans", pages=3, files=2)
    with Store.open(tmp_path / "store") as store:
        ingest(archive, store, ScriptedReader(lambda page: "words"), pages="1")
        run = store.journal.last_run()
        totals = store.journal.totals()
    assert run is not None
    assert (run.reached, run.read, run.ended) == (2, 2, True)
    assert (totals.unfinished, totals.remaining) == (0, 0)


def test_the_pace_of_a_run_counts_what_it_read_itself(tmp_path: Path) -> None:
    archive = scans(tmp_path / "scans", pages=2, files=2)
    with Store.open(tmp_path / "store") as store:
        ingest(archive, store, ScriptedReader(lambda page: "words"))
        ingest(archive, store, ScriptedReader({}))
        run = store.journal.last_run()
    assert run is not None
    assert (run.reached, run.read, run.pages_per_second) == (2, 0, None)
    assert LastRun(begun=10.0, seen=14.0, files=1, read=8).pages_per_second == 2.0
