"""Runs that are killed, and folders full of files that cannot be read."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kosmos_loader.archive import ingest
from kosmos_loader.cli import app
from kosmos_loader.document import Chunk, Line, Page
from kosmos_loader.errors import AllFailed, CorruptFile, SomeFailed
from kosmos_loader.geometry import Box
from kosmos_loader.store import Store
from kosmos_loader.testing import ScriptedReader

NASTY = Path(__file__).parent.parent.parent / "shared" / "data" / "nasty"
WORKERS = 2
KILLS = 10
PAGES = 60

pytestmark = pytest.mark.slow


def picture(shade: int) -> Image.Image:
    pixels = np.full((60, 40, 3), 255, np.uint8)
    pixels[10:20, 5:35] = shade
    return Image.fromarray(pixels)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Sixty pages: half of them in one file."""
    folder = tmp_path / "scans"
    folder.mkdir()
    first, *others = (picture(shade) for shade in range(PAGES // 2))
    first.save(folder / "book.tif", save_all=True, append_images=others)
    for shade in range(PAGES // 2, PAGES):
        picture(shade).save(folder / f"letter{shade}.png")
    return folder


def line_of(page: Page) -> Line:
    return Line(f"The shade is number {page.pixels[15, 20, 0]}.", Box(0.1, 0.1, 0.9, 0.2), 0.9)


SCRIPT = """
    import os, sys, time
    from kosmos_loader.archive import ingest
    from kosmos_loader.document import Line, Reading
    from kosmos_loader.geometry import Box
    from kosmos_loader.readers.pool import ReaderPool
    from kosmos_loader.store import Store

    class Reader:
        name, version = "scripted", "1"

        def __init__(self, log):
            self.log = log

        def read(self, pages):
            for page in pages:
                shade = page.pixels[15, 20, 0]
                with open(self.log, "a") as log:
                    log.write(f"{shade}\\n")
                time.sleep(0.03)
                line = Line(f"The shade is number {shade}.", Box(0.1, 0.1, 0.9, 0.2), 0.9)
                yield Reading(page.info, self.name, self.version, (line,))

    if __name__ == "__main__":
        folder, store, log = sys.argv[1:]
        with ReaderPool(Reader(log), workers=2) as pool, Store.open(store) as opened:
            ingest(folder, opened, pool)
"""


def read_pages(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def chunks_of(folder: Path) -> list[Chunk]:
    with Store.open(folder, create=False) as store:
        assert store.verify() == []
        assert store.failures() == []
        return store.get(sorted(store.ids()))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_not(
    archive: Path, tmp_path: Path
) -> None:
    script, log, store = tmp_path / "run.py", tmp_path / "log", tmp_path / "store"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), *map(str, (archive, store, log))]
    chance = random.Random(7)  # noqa: S311 - moments need repeat, not secrecy
    kills = 0
    for number in range(KILLS):
        wanted = len(read_pages(log)) + chance.randint(0, 9) + (number == 0)
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            while process.poll() is None and len(read_pages(log)) < wanted:
                time.sleep(0.002)
            time.sleep(chance.random() / 10)
            kills += process.poll() is None
            process.kill()
            process.wait()
            time.sleep(0.1)  # a reader that is orphaned finishes its page
    subprocess.run(command, check=True)
    pages = read_pages(log)
    assert kills >= KILLS // 2
    assert sorted(set(map(int, pages))) == list(range(PAGES))
    assert len(pages) - PAGES < 2 * WORKERS * kills
    with Store.open(tmp_path / "undisturbed") as undisturbed:
        ingest(archive, undisturbed, ScriptedReader(line_of))
    assert chunks_of(store) == chunks_of(tmp_path / "undisturbed")


@pytest.mark.skipif(not NASTY.is_dir(), reason="the nasty files in ../shared/data are missing")
def test_nasty_files_stand_in_the_ledger_and_all_good_pages_in_the_store(
    archive: Path, tmp_path: Path
) -> None:
    forbidden = archive / "forbidden"
    forbidden.mkdir()
    picture(200).save(forbidden / "hidden.png")
    forbidden.chmod(0)
    try:
        with Store.open(tmp_path / "store") as store:
            report = ingest([archive, NASTY], store, ScriptedReader(line_or_nothing))
            assert store.verify() == []
            ledger = store.failures()
            good = [chunk for chunk in store.get(store.ids()) if str(archive) in chunk.source]
            again = ingest([archive, NASTY], store, ScriptedReader(line_or_nothing))
    finally:
        forbidden.chmod(0o755)
    expected = PAGES + (os.geteuid() == 0)  # root may read everything
    assert len(good) == expected
    assert ledger == sorted(report.failed)
    sources = {entry.source for entry in ledger}
    for entry in manifest():
        if entry["expect"] == "password error":
            assert str(NASTY / entry["file"]) in sources
        if entry["expect"] == "open" and not entry["password"]:
            assert str(NASTY / entry["file"]) not in sources
    kinds = {"unsupported", "encrypted", "corrupt", "empty", "too_large"}
    assert {entry.failure.type for entry in ledger} <= kinds
    # what failed fails again, and what did not is passed over
    assert again.failed == report.failed
    assert again.files - again.unchanged <= len({entry.source for entry in ledger})
    assert again.reused == again.pages == report.pages


def manifest() -> list[dict[str, Any]]:
    return json.loads((NASTY / "manifest.json").read_text())


def line_or_nothing(page: Page) -> Line | None:
    return line_of(page) if page.pixels.shape == (60, 40, 3) else None


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
    if not (folder / "store.sqlite").exists():
        return 0
    with Store.open(folder, create=False) as store:
        return store.journal.totals().pages


def _heed_interrupts() -> None:
    # a run of the tests in the background of a shell ignores them, and its children with it
    signal.signal(signal.SIGINT, signal.SIG_DFL)
