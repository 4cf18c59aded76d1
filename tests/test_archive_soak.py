"""Runs that are killed or stopped, and how they end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import soak
from PIL import Image
from typer.testing import CliRunner

from kosmos_loader.cli import app
from kosmos_loader.errors import AllFailed, CorruptFile, SomeFailed, StoreError
from kosmos_loader.store import Store

pytestmark = pytest.mark.slow


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_not() -> None:
    row = soak.soaked(pages=100, kills=8, nasty=False)
    assert row["problems"] == []
    assert row["kills"] >= 4
    assert row["most"] < 2 * 2  # workers


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_what_was_read_while_a_page_took_long_is_not_lost_to_a_kill(tmp_path: Path) -> None:
    counts = soak.write(tmp_path / "scans", 30)
    nowhere = ("", 0)
    undisturbed = soak.Job(
        sources=[str(tmp_path / "scans")],
        pages=30,
        store=str(tmp_path / "alone"),
        log=str(tmp_path / "alone.log"),
        workers=2,
        drawing=0,
        page_timeout=60.0,
        hangs=nowhere,
        dies=nowhere,
        refused=nowhere,
    )
    job = replace(undisturbed, store=str(tmp_path / "store"), log=str(tmp_path / "log"))
    first = soak.Started(replace(job, hangs=("book.tif", 1)), tmp_path)
    assert first.kill(soak.Kill("pages", 20, with_processes=True))
    begun = soak.begun_with(Path(job.log))
    assert len(begun) >= 20
    assert len(begun) - known(Path(job.store)) < 2 * 2  # workers
    for one in (job, undisturbed):
        assert soak.Started(one, tmp_path).finish() == 0
    again = set(begun) & set(soak.begun_with(Path(job.log))[len(begun) :])
    assert (str(tmp_path / "scans" / "1" / "book.tif"), 1) in again
    assert len(again) < 2 * 2  # workers
    found, wanted = (soak.contents(Path(one.store)) for one in (job, undisturbed))
    assert list(soak.differing(found, wanted)) == []
    assert sum(map(len, found["pages"].values())) == sum(counts.values())


def test_two_stores_that_are_not_alike_are_told_apart() -> None:
    wanted = {"ledger": ["a", "b"], "chunks": {"x": 1, "y": 2}, "found": {}}
    found = {"ledger": ["a"], "chunks": {"x": 1, "y": 3, "z": 4}, "found": {}}
    assert list(soak.differing(wanted, wanted)) == []
    assert list(soak.differing(found, wanted)) == [
        "ledger differ in 1: b",
        "chunks differ in 2: y, z",
    ]


def index(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["index", *map(str, arguments), "--reader", "rapidocr"])
    return done.exit_code, done.stderr


def test_the_exit_code_tells_all_from_some_and_from_nothing(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    scans, store = tmp_path / "scans", tmp_path / "store"
    scans.mkdir()
    Image.new("RGB", (200, 100), "white").save(scans / "a.png")
    assert index(scans, "--store", store) == (0, "")
    (scans / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    code, told = index(scans, "--store", store)
    assert (code, "b.png" in told, "Traceback" in told) == (SomeFailed.exit_code, True, False)
    (scans / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    assert index("--retry-failed", "--store", store)[0] == CorruptFile.exit_code  # the only one
    code, told = index(scans / "b.png", scans / "c.png", "--store", store)
    assert (code, "nothing was read" in told) == (AllFailed.exit_code, True)
    status = CliRunner().invoke(app, ["status", "--store", str(store)]).stdout
    assert f"index --retry-failed --store {store}" in status
    for name in ("b.png", "c.png"):
        Image.new("RGB", (200, 100), "white").save(scans / name)
    assert index("--retry-failed", "--store", store) == (0, "")
    status = CliRunner().invoke(app, ["status", "--store", str(store)]).stdout
    assert "failed" not in status.replace("failures", "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_finishes_the_pages_in_hand_and_says_how_to_go_on(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    pages = [Image.new("RGB", (200, 100), (255, 255, shade)) for shade in range(250)]
    scan, store = tmp_path / "many.tif", tmp_path / "store"
    pages[0].save(scan, save_all=True, append_images=pages[1:])
    command = [sys.executable, "-m", "kosmos_loader", "index", str(scan), "--store", str(store)]
    process = subprocess.Popen(
        [*command, "--reader", "rapidocr"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,  # noqa: PLW1509 - nothing here runs threads
    )
    with process:
        while process.poll() is None and not known(store):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert "finishing the pages in hand" in told
    assert "the same command goes on from here" in told
    assert "Traceback" not in told
    assert 0 < known(store) < len(pages)


def known(folder: Path) -> int:
    try:
        with Store.open(folder, create=False) as store:
            return store.journal.totals().pages
    except StoreError:  # it is being made
        return 0


def _heed_interrupts() -> None:
    # a run of the tests in the background of a shell ignores them, and its children with it
    signal.signal(signal.SIGINT, signal.SIG_DFL)
