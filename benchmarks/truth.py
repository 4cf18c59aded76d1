"""What is written on the test pages: cases by group, from `../shared/data` and our own archive.

A group whose files are not on this machine has no cases, and whoever asks says so. Where the pages
come from and under which licence: the README beside the data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kosmos_loader.document import Line
from kosmos_loader.geometry import Box

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
ARCHIVE = ROOT / "examples" / "archive"


@dataclass(frozen=True)
class Case:
    """One page and what is known to be on it; None stands for what nobody wrote down."""

    group: str
    path: Path
    page: int = 1
    text: str | None = None
    """All of the page, in reading order."""

    lines: tuple[Line, ...] | None = None
    """The lines and their places; () on a page that is known to be blank."""

    markdown: str | None = None
    angle: float = 0.0
    """Degrees by which the text is turned clockwise on the page."""

    caseless: bool = False
    """The transcript is all capitals, whatever the page has."""

    assertions: tuple[dict[str, Any], ...] = ()
    """olmOCR-Bench: phrases that must be present, absent, or in order."""


@dataclass(frozen=True)
class Question:
    """A question to an archive, and where its answer stands."""

    question: str
    answers: tuple[str, ...]
    """Wordings to accept; () where the archive holds no answer."""

    path: Path | None = None
    page: int = 1
    boxes: tuple[Box, ...] = ()
    """Where the answer stands on the page, where that is known."""

    kind: str = "archive"
    """"archive", "one-page" for a question to one known file, or "unanswerable"."""


def receipts() -> Iterator[Case]:
    """36 scanned receipts, lines in capitals."""
    for truth in sorted(DATA.glob("receipts/*.lines.json")):
        yield _lines_case("receipts", truth, caseless=True)


def linn() -> Iterator[Case]:
    """One page in seven files: plain, fax, JBIG2, skewed, turned, all four turns, large.

    Its transcript was made by a machine: bullets are `0`, and one heading stands in the middle of a
    sentence. A reading without a slip therefore does not reach 1.
    """
    transcript = DATA / "ocrmypdf" / "linn.txt"
    names = ("linn", "ccitt", "jbig2", "skew", "rotated_skew", "poster", "cardinal")
    for name in names:
        count = 4 if name == "cardinal" else 1
        path = DATA / "ocrmypdf" / f"{name}.pdf"
        if path.exists() and transcript.exists():
            for page in range(1, count + 1):
                yield Case("linn", path, page, text=_text(transcript))


def phototest() -> Iterator[Case]:
    """A paragraph upright and on its three other sides, one of them with transparency too."""
    yield from _text_cases("phototest", "phototest*.tif", "phototest-rotated-*.png")


def two_column() -> Iterator[Case]:
    """A 1-bit magazine spread: four columns in two pairs around a photograph and a headline."""
    yield from _text_cases("two-column", "8071_093.3B.tif")


def eurotext() -> Iterator[Case]:
    """A paragraph in six languages, full of signs."""
    yield from _text_cases("eurotext", "eurotext.tif")


def fraktur() -> Iterator[Case]:
    """A page of 1784 in broken type."""
    for truth in sorted(DATA.glob("fraktur/*.lines.json")):
        yield _lines_case("fraktur", truth)


def early_prints() -> Iterator[Case]:
    """Three pages of the 15th century."""
    for truth in sorted(DATA.glob("early-prints/*.lines.json")):
        yield _lines_case("early-prints", truth)


def archive() -> Iterator[Case]:
    """The example archive: drawn by our own code, so all of it is known."""
    for path in sorted(ARCHIVE.glob("truth/*.json")):
        truth = json.loads(_text(path))
        for page in truth["pages"]:
            lines = tuple(Line(line["text"], Box(*line["box"])) for line in page["lines"])
            yield Case(
                "archive",
                ARCHIVE / truth["file"],
                page["page"],
                text="\n".join(line.text for line in lines),
                lines=lines,
                markdown=page["markdown"],
                angle=page["angle"],
            )


def olmocr() -> Iterator[Case]:
    """olmOCR-Bench: assertions on 17 hard pages; those on tables and formulas are left out."""
    for truth in sorted(DATA.glob("olmocr-bench/*.tests.jsonl")):
        tests = [json.loads(line) for line in _text(truth).splitlines()]
        tests = [test for test in tests if test["type"] in ("present", "absent", "order")]
        path = truth.with_name(truth.name.replace(".tests.jsonl", ".pdf"))
        for page in sorted({test["page"] for test in tests}):
            asserted = tuple(test for test in tests if test["page"] == page)
            yield Case("olmocr", path, page, assertions=asserted)


GROUPS = {
    "receipts": receipts,
    "linn": linn,
    "phototest": phototest,
    "two-column": two_column,
    "eurotext": eurotext,
    "fraktur": fraktur,
    "early-prints": early_prints,
    "archive": archive,
    "olmocr": olmocr,
}


def receipt_questions() -> Iterator[Question]:
    """178 questions: four to each receipt, and the total of one found by company and date."""
    path = DATA / "receipts" / "questions.jsonl"
    if not path.exists():
        return
    for entry in map(json.loads, _text(path).splitlines()):
        image = path.with_name(f"{entry['page']}.jpg")
        yield Question(entry["question"], tuple(entry["answers"]), image, kind=entry["kind"])


def archive_questions() -> Iterator[Question]:
    """The questions to the example archive, and some that it does not answer."""
    path = ARCHIVE / "questions.json"
    if not path.exists():
        return
    asked = json.loads(_text(path))
    for entry in asked["questions"]:
        yield Question(
            entry["question"],
            tuple(entry["answers"]),
            ARCHIVE / entry["file"],
            entry["page"],
            tuple(Box(*box) for box in entry["box"]),
        )
    for entry in asked["unanswerable"]:
        yield Question(entry["question"], (), kind="unanswerable")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _text_cases(group: str, *patterns: str) -> Iterator[Case]:
    """The images of the `tesseract` folder that have a transcript beside them."""
    for path in sorted(p for pattern in patterns for p in DATA.glob(f"tesseract/{pattern}")):
        transcript = path.with_suffix(".txt")
        if transcript.exists():
            yield Case(group, path, text=_text(transcript))


def _lines_case(group: str, truth: Path, *, caseless: bool = False) -> Case:
    page = json.loads(_text(truth))
    width, height = page["size"]
    lines = tuple(
        Line(line["text"], _pixel_box(line, width, height).clipped()) for line in page["lines"]
    )
    text = "\n".join(line.text for line in lines)
    path = truth.with_name(page["image"])
    return Case(group, path, text=text, lines=lines, caseless=caseless)


def _pixel_box(line: dict[str, Any], width: int, height: int) -> Box:
    """The upright rectangle around a line given in pixels, as four corners or two."""
    corners = line.get("quad") or line["bbox"]
    return Box.around(
        (x / width, y / height) for x, y in zip(corners[::2], corners[1::2], strict=True)
    )
