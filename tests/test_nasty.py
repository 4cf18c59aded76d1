"""158 broken, encrypted, huge, rotated and odd files: pages, or an error that says what to do.

Each category is read in a process of its own, which a file may crash, hang or fill without taking
the tests along.
"""

from __future__ import annotations

import faulthandler
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NASTY = ROOT.parent / "shared" / "data" / "nasty"

SECONDS = 60
MEGABYTES = 3000

ERRORS = {"not_found", "unsupported", "encrypted", "corrupt", "empty", "too_large"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not NASTY.is_dir(), reason="the nasty files in ../shared/data are missing"),
]


def manifest() -> list[dict[str, Any]]:
    path = NASTY / "manifest.json"
    return json.loads(path.read_text()) if path.is_file() else []


CATEGORIES = Counter(entry["category"] for entry in manifest())


def read_all(entries: list[dict[str, Any]]) -> None:
    """Reads every file and prints what came of it, a line of JSON each."""
    import resource

    from kosmos_loader.errors import SourceError
    from kosmos_loader.pages import open_pages

    for entry in entries:
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        outcome: dict[str, Any] = {"file": entry["file"], "sound": 0, "errors": []}
        try:
            for page in open_pages(NASTY / entry["file"], password=entry["password"]):
                if page.error is None:
                    outcome["sound"] += 1
                else:
                    outcome["errors"].append([page.error.type, page.error.message])
        except SourceError as error:
            outcome["errors"].append([error.kind, str(error)])
        # kilobytes, on Linux
        outcome["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module", params=sorted(CATEGORIES))
def outcomes(request: pytest.FixtureRequest) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Manifest entry and outcome of each file of a category."""
    entries = [entry for entry in manifest() if entry["category"] == request.param]
    child = subprocess.run(
        [sys.executable, "-W", "error", __file__],
        input=json.dumps(entries),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    lines = [json.loads(line) for line in child.stdout.splitlines()]
    unread = [entry["file"] for entry in entries[len(lines) :]]
    assert not unread, f"{unread[0]} crashed, hung or raised:\n{child.stderr}"
    assert child.returncode == 0
    # libtiff, below Pillow, writes of damaged strips by itself; nothing else may
    assert [line for line in child.stderr.splitlines() if not line.startswith("TIFF")] == []
    return list(zip(entries, lines, strict=True))


def test_every_file_gives_pages_or_an_error_that_says_what_to_do(outcomes: Any) -> None:
    for entry, outcome in outcomes:
        assert outcome["sound"] or outcome["errors"], entry["file"]
        for kind, message in outcome["errors"]:
            assert kind in ERRORS, entry["file"]
            assert Path(entry["file"]).name in message
            assert ";" in message or "password" in message, message


def test_every_file_comes_out_as_the_manifest_expects(outcomes: Any) -> None:
    for entry, outcome in outcomes:
        kinds = [kind for kind, _ in outcome["errors"]]
        if entry["expect"] == "open" or entry["password"]:
            assert outcome["sound"], (entry["file"], kinds)
            assert not kinds, entry["file"]
        if entry["expect"] == "password error":
            assert kinds == ["encrypted"], entry["file"]
        if entry["expect"] == "error":
            assert not outcome["sound"], entry["file"]


def test_no_file_takes_more_than_three_gigabytes(outcomes: Any) -> None:
    assert max(outcome["megabytes"] for _, outcome in outcomes) < MEGABYTES


def test_one_run_over_the_whole_folder_loses_no_file() -> None:
    from kosmos_loader.pages import find_files, open_pages

    files = [NASTY / entry["file"] for entry in manifest() if entry["category"] == "encrypted"]
    opened = {page.source for page in open_pages(NASTY / "encrypted")}
    assert opened == {str(file) for file in files}
    read_from_folders = {path.name for path in find_files(NASTY)}
    passed_over = {Path(e["file"]).name for e in manifest()} - read_from_folders
    assert passed_over == {"decompression_bomb.ico"}


if __name__ == "__main__":
    read_all(json.load(sys.stdin))
