"""The example archive and its truth belong together, and its generator still draws both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

EXAMPLES = Path(__file__).parents[1] / "examples"
ARCHIVE = EXAMPLES / "archive"
NAMES = sorted(
    path.name for path in ARCHIVE.iterdir() if path.suffix in {".pdf", ".tif", ".jpg", ".png"}
)


def scans(path: Path) -> Iterator[Image.Image]:
    """The pages as grey pictures, at the resolution of the scan."""
    if path.suffix != ".pdf":
        with Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                yield frame.convert("L")
        return
    with pypdfium2.PdfDocument(path) as document:
        for page in document:
            [scan] = page.get_objects()
            yield scan.get_bitmap().to_pil().convert("L")


@cache
def pixels(name: str) -> list[NDArray[np.uint8]]:
    return [np.asarray(image) for image in scans(ARCHIVE / name)]


@cache
def truth(name: str) -> list[dict[str, Any]]:
    data = json.loads((ARCHIVE / "truth" / f"{name}.json").read_text(encoding="utf-8"))
    assert data["file"] == name
    return data["pages"]


@cache
def questions() -> dict[str, list[dict[str, Any]]]:
    return json.loads((ARCHIVE / "questions.json").read_text(encoding="utf-8"))


def ink(page: NDArray[np.uint8], box: list[float]) -> NDArray[np.bool_]:
    """The pixels in `box` that are clearly darker than the paper there."""
    height, width = page.shape
    x0, y0, x1, y1 = box
    part = page[
        int(y0 * height) : int(y1 * height) + 1, int(x0 * width) : int(x1 * width) + 1
    ].astype(int)
    return part < np.percentile(part, 95) - 30


def reach(filled: NDArray[np.bool_]) -> float:
    """From the first to the last filled place, as a share of all places."""
    [places] = filled.nonzero()
    return (places[-1] - places[0] + 1) / filled.size if places.size else 0.0


def test_there_are_at_least_8_files_and_14_pages_and_they_stay_under_3_megabytes() -> None:
    assert len(NAMES) >= 8
    assert sum(len(pixels(name)) for name in NAMES) >= 14
    assert {Path(name).suffix for name in NAMES} == {".pdf", ".tif", ".jpg", ".png"}
    assert sum(path.stat().st_size for path in ARCHIVE.rglob("*") if path.is_file()) < 3_000_000


def test_each_file_has_its_truth_and_no_truth_is_without_its_file() -> None:
    assert sorted(path.name for path in (ARCHIVE / "truth").iterdir()) == [
        f"{name}.json" for name in NAMES
    ]


def test_the_readme_names_each_file() -> None:
    readme = (ARCHIVE / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_has_the_pages_and_sizes_of_the_file(name: str) -> None:
    assert [page["page"] for page in truth(name)] == list(range(1, len(truth(name)) + 1))
    assert [(page["height"], page["width"]) for page in truth(name)] == [
        page.shape for page in pixels(name)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_each_box_lies_on_its_page_and_fits_its_ink(name: str) -> None:
    for page, scan in zip(truth(name), pixels(name), strict=True):
        for line in page["lines"]:
            x0, y0, x1, y1 = line["box"]
            assert 0 <= x0 < x1 <= 1, line
            assert 0 <= y0 < y1 <= 1, line
            dark = ink(scan, line["box"])
            assert 0.06 < dark.mean() < 0.8, line
            # what falls short: the blank corners beside a skewed line, and half-grey edges
            assert reach(dark.any(axis=0)) > 0.8, line
            assert reach(dark.any(axis=1)) > 0.7, line


@pytest.mark.parametrize("name", NAMES)
def test_the_markdown_holds_every_line_but_the_running_ones(name: str) -> None:
    for page in truth(name):
        for line in page["lines"]:
            text = line["text"].removeprefix("• ").removesuffix("-")
            if line["role"] != "running":
                assert text in page["markdown"], line


def test_a_paragraph_is_joined_over_line_ends_and_broken_words_are_whole_again() -> None:
    page = truth("newsletter-1996.pdf")[0]
    assert any(line["text"].endswith("Sun-") for line in page["lines"])
    assert "The crane will be in steam on the first Sunday of every month" in page["markdown"]


def test_the_blank_page_has_no_lines_and_hardly_any_ink() -> None:
    [blank] = [page for page in truth("letter-1978.pdf") if page["kind"] == "blank"]
    scan = pixels("letter-1978.pdf")[blank["page"] - 1]
    assert blank["lines"] == []
    assert blank["markdown"] == ""
    assert ink(scan, [0.1, 0.02, 0.95, 0.98]).mean() < 0.001


def test_one_page_lies_on_its_side_and_one_is_faint() -> None:
    page = truth("inventory-2003.pdf")[1]
    assert round(page["angle"] / 90) % 2 == 1
    title = page["lines"][0]["box"]
    assert title[3] - title[1] > title[2] - title[0]
    [faint] = pixels("carbon-copy-1952.jpg")
    assert np.percentile(faint, 1) > 110


def test_the_columns_of_the_newsletter_are_read_one_after_the_other() -> None:
    lefts = [
        line["box"][0]
        for line in truth("newsletter-1996.pdf")[1]["lines"]
        if line["role"] != "running"
    ]
    second = next(number for number, left in enumerate(lefts) if left > 0.45)
    assert all(left < 0.45 for left in lefts[:second])
    assert all(left > 0.45 for left in lefts[second:])


def test_there_are_24_questions_about_all_files_and_6_that_nothing_answers() -> None:
    asked = questions()["questions"]
    assert len(asked) == 24
    assert len({question["id"] for question in asked}) == 24
    assert sorted({question["file"] for question in asked}) == NAMES
    assert len(questions()["unanswerable"]) == 6


def test_each_answer_stands_in_the_lines_at_its_boxes() -> None:
    for question in questions()["questions"]:
        lines = truth(question["file"])[question["page"] - 1]["lines"]
        texts = [line["text"] for line in lines if line["box"] in question["box"]]
        assert len(texts) == len(question["box"]) > 0
        assert question["answers"][0] in " ".join(texts), question


def test_no_question_repeats_the_line_that_answers_it() -> None:
    for question in questions()["questions"]:
        assert question["answers"][0] not in question["question"]


@pytest.mark.parametrize("name", ["catalogue-card.png", "receipt-2021.jpg"])
def test_drawing_a_file_again_gives_the_same_pixels_and_truth(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the archive is drawn with matplotlib's fonts")
    command = [sys.executable, EXAMPLES / "make_archive.py", "--out", tmp_path, "--only", name]
    subprocess.run(command, check=True, capture_output=True)
    [old], [new] = pixels(name), [np.asarray(image) for image in scans(tmp_path / name)]
    assert new.shape == old.shape
    # other versions of Pillow and FreeType may round a pixel otherwise
    assert np.abs(new.astype(int) - old).mean() < 2
    drawn = json.loads((tmp_path / "truth" / f"{name}.json").read_text(encoding="utf-8"))["pages"]
    for page, kept in zip(drawn, truth(name), strict=True):
        assert page["markdown"] == kept["markdown"]
        boxes = [[line["box"] for line in lines] for lines in (page["lines"], kept["lines"])]
        np.testing.assert_allclose(*boxes, atol=0.003)
