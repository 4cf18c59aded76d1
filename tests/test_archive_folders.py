"""Folders in which not everything can be read: nothing is lost, and all of it is told."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kosmos_loader.archive import ingest, retry_failed
from kosmos_loader.document import Page, Reading
from kosmos_loader.errors import SomeFailed, SourceNotFound
from kosmos_loader.pages import find_files, open_pages
from kosmos_loader.store import Store
from kosmos_loader.testing import ScriptedReader

NASTY = Path(__file__).parent.parent.parent / "shared" / "data" / "nasty"
GOOD = 300
KINDS = {"not_found", "unsupported", "encrypted", "corrupt", "empty", "too_large", "reading"}

HOCR = """<!DOCTYPE html><html><body><div class="ocr_page" title="bbox 0 0 40 60">
<span class="ocr_line" title="bbox 4 6 36 12"><span class="ocrx_word"
title="bbox 4 6 36 12; x_wconf 90">Letter{number}</span></span></div></body></html>"""


def picture(path: Path, number: int) -> Path:
    pixels = np.full((60, 40, 3), 255, np.uint8)
    pixels[10:20, 5:35] = number % 251, number // 251, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def with_text(path: Path, number: int) -> Path:
    """A picture with its OCR beside it."""
    path.with_suffix(".hocr").parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".hocr").write_text(HOCR.format(number=number))
    return picture(path, number)


def words() -> ScriptedReader:
    return ScriptedReader(lambda page: f"Letter {page.digest[:6]}")


def heeds_permissions() -> Callable[[], None] | None:
    """What makes a process heed permissions (root reads everything), None where it does anyway."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return None
    drop = ctypes.CDLL(None, use_errno=True).prctl

    def heed() -> None:
        # PR_CAPBSET_DROP; CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH are not had again by exec
        for capability in (1, 2):
            if drop(24, capability, 0, 0, 0):
                os._exit(99)

    return heed


def run(*arguments: str | Path, told: str = "") -> tuple[int, str, str]:
    """The command line in a process that heeds permissions."""
    command = [sys.executable, *(["-c", told] if told else ["-m", "kosmos_loader"])]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        preexec_fn=heeds_permissions(),
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Callable[[Path, int], Path]]:
    """Takes rights away from files and folders, until the test ends."""
    probe = tmp_path / "probe"
    probe.mkdir(mode=0)
    code, _, _ = run(probe, told="import os, sys; os.scandir(sys.argv[1])")
    probe.chmod(0o700)
    if code != 1:
        pytest.skip("permissions are not heeded here, and cannot be made to")
    changed: list[Path] = []

    def close(path: Path, mode: int = 0) -> Path:
        path.chmod(mode)
        changed.append(path)
        return path

    yield close
    for path in reversed(changed):
        path.chmod(0o700)


def failures(store: Path) -> dict[str, dict[str, Any]]:
    """The ledger, by file."""
    status = json.loads(run("status", "--store", store, "--json")[1])
    return {entry["source"]: entry for entry in status["failures"]}


def index(*arguments: str | Path) -> tuple[int, dict[str, Any], str]:
    code, stdout, stderr = run("index", *arguments, "--ocr", "existing", "--json")
    return code, json.loads(stdout), stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_all_good_pages_are_indexed_and_all_else_stands_in_the_ledger(
    tmp_path: Path, closed: Callable[..., Path]
) -> None:
    scans, store = tmp_path / "scans", tmp_path / "store"
    good = {
        str(with_text(scans / f"box{number // 50}" / f"letter{number}.png", number))
        for number in range(GOOD - 2)
    }
    good.add(str(with_text(scans / "a\nb.png", 300)))
    odd = with_text(Path(os.fsdecode(os.fsencode(scans) + b"/caf\xe9.png")), 301)
    for name, mode in (("shut", 0), ("deep/shut", 0), ("no-list", 0o311), ("deep/x/y", 0)):
        with_text(scans / name / "hidden.png", 400)
        closed(scans / name, mode)
    with_text(tmp_path / "shut" / "hidden.png", 401)
    closed(tmp_path / "shut")
    folders = {str(scans / name) for name in ("shut", "deep/shut", "no-list", "deep/x/y")}
    folders.add(str(tmp_path / "shut"))
    (scans / "loop.png").symlink_to(scans / "loop.png")
    (scans / "round").symlink_to(scans)
    os.mkfifo(scans / "pipe.png")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(scans / "door.png"))
    with_text(scans / "listed" / "locked.png", 402)
    closed(scans / "listed", 0o444)
    closed(with_text(scans / "locked.png", 403))
    bad = {str(scans / name) for name in ("loop.png", "pipe.png", "door.png", "locked.png")}
    bad.add(str(scans / "listed" / "locked.png"))

    nasty = [NASTY] if NASTY.is_dir() else []
    code, report, told = index(scans, tmp_path / "shut", *nasty, "--store", store)
    ledger = failures(store)
    assert code == SomeFailed.exit_code
    assert "Traceback" not in told
    assert told.count("failed, all others are done") == 1
    own = {source for source in ledger if not source.startswith(str(NASTY))}
    assert own == folders | bad
    assert {ledger[source]["type"] for source in folders} == {"not_found"}
    assert all("chmod" in ledger[source]["message"] for source in folders)
    assert {entry["type"] for entry in ledger.values()} <= KINDS
    with Store.open(store, create=False) as opened:
        assert opened.verify() == []
        counts = Counter(chunk.source for chunk in opened.get(opened.ids()))
    assert {s for s in counts if not s.startswith(str(NASTY))} == good | {str(odd)}
    for entry in manifest():
        if entry["expect"] == "password error":
            assert str(NASTY / entry["file"]) in ledger
    # all that was said is in the summary, a line each but for the newline in a name
    named = [
        line for line in told.splitlines() if line.startswith(tuple(f"  {k}: " for k in KINDS))
    ]
    assert (
        len(named)
        == len(report["failed"])
        == len({(f["source"], f["page"]) for f in report["failed"]})
    )


def manifest() -> list[dict[str, Any]]:
    return json.loads((NASTY / "manifest.json").read_text()) if NASTY.is_dir() else []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.parametrize("mode", [0, 0o111, 0o444])
def test_what_was_indexed_of_a_folder_outlives_its_permissions(
    tmp_path: Path, closed: Callable[..., Path], mode: int
) -> None:
    scans, store = tmp_path / "scans", tmp_path / "store"
    with_text(scans / "a.png", 1)
    with_text(scans / "box" / "b.png", 2)
    gone = with_text(scans / "c.png", 3)
    assert index(scans, "--store", store)[0] == 0
    gone.unlink()
    closed(scans / "box", mode)
    code, report, _ = index(scans, "--store", store)
    assert code == SomeFailed.exit_code
    assert report["vanished"] == [str(gone)]
    shut = {str(scans / "box") if mode != 0o444 else str(scans / "box" / "b.png")}
    assert set(failures(store)) == shut
    with Store.open(store, create=False) as opened:
        assert len(opened) == 2
    (scans / "box").chmod(0o700)
    for again in ([scans], ["--retry-failed"]):
        (scans / "box").chmod(mode)
        assert index(scans, "--store", store)[0] == SomeFailed.exit_code
        (scans / "box").chmod(0o700)
        assert index(*again, "--store", store)[0] == 0
        assert failures(store) == {}
    with Store.open(store, create=False) as opened:
        assert len(opened) == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_folder_that_cannot_be_listed_is_an_error_that_says_what_to_do(
    tmp_path: Path, closed: Callable[..., Path]
) -> None:
    with_text(tmp_path / "scans" / "a.png", 1)
    closed(tmp_path / "scans")
    code, _, told = run("index", tmp_path / "scans", "--store", tmp_path / "s", "--ocr", "existing")
    assert code == SourceNotFound.exit_code
    assert "cannot be listed (Permission denied)" in told
    code, _, told = run("read", tmp_path / "scans" / "a.png", "--ocr", "existing")
    assert code == SourceNotFound.exit_code
    assert "check the permissions of the folders it lies in" in told


class Vandal:
    """A reader that takes files away as it reads the first page."""

    name, version = "vandal", "1"

    def __init__(self, *gone: Path) -> None:
        self.gone = gone

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        for page in pages:
            for path in self.gone:
                path.unlink(missing_ok=True)
            yield Reading(page.info, self.name, self.version, markdown=f"Letter {page.digest}")


def test_a_file_that_goes_between_finding_and_opening_fails_alone(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    for number, name in enumerate(("a.png", "scan1.png", "scan[1].png", "z.png")):
        picture(scans / name, number)
    with Store.open(tmp_path / "store") as store:
        report = ingest(scans, store, Vandal(scans / "scan[1].png"))
        [failed] = report.failed
        assert (failed.source, failed.failure.type) == (str(scans / "scan[1].png"), "not_found")
        assert {chunk.source for chunk in store.get(store.ids())} == {
            str(scans / name) for name in ("a.png", "scan1.png", "z.png")
        }
        assert ingest(scans, store, Vandal()).failed == ()
        assert store.failures() == []


def test_a_file_whose_name_is_no_text_is_tried_again(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    odd = Path(os.fsdecode(os.fsencode(scans) + b"/caf\xe9.png"))
    try:
        odd.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    except OSError:
        pytest.skip("file names are text here")
    picture(scans / "a.png", 1)
    with Store.open(tmp_path / "store") as store:
        assert len(ingest(scans, store, words()).failed) == 1
        assert retry_failed(store, words()).failed[0].failure.type == "corrupt"
        picture(odd, 2)
        assert retry_failed(store, words()).failed == ()
        assert store.failures() == []
        odd.unlink()
        assert len(ingest(scans, store, words()).vanished) == 1
        assert len(store) == 1


def test_half_of_a_surrogate_pair_costs_nothing(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    picture(scans / "a.png", 1)
    picture(scans / "b.png", 2)
    odd = ScriptedReader(lambda page: f"half \ud800 of {page.number}")
    with Store.open(tmp_path / "store") as store:
        assert ingest(scans, store, odd).failed == ()
        assert len(store) == 2
        assert store.verify() == []


def test_a_pipe_that_was_in_the_ledger_and_is_gone_is_struck_out(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no pipes here")
    scans = tmp_path / "scans"
    picture(scans / "a.png", 1)
    os.mkfifo(scans / "pipe.png")
    with Store.open(tmp_path / "store") as store:
        assert [entry.failure.type for entry in ingest(scans, store, words()).failed] == [
            "unsupported"
        ]
        (scans / "pipe.png").unlink()
        ingest(scans, store, words())
        assert store.failures() == []


def test_a_folder_is_no_file_where_a_file_was_expected(tmp_path: Path) -> None:
    picture(tmp_path / "scans.png" / "a.png", 1)
    [page] = open_pages(find_files(tmp_path / "scans.png"))
    assert page.error is None
