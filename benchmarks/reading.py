"""How well pages are read: word F1, line IoU and NED, and for markdown NED and NTED.

    python benchmarks/reading.py [--groups receipts,linn] [--readers kosmos-loader,rapidocr]
                                 [--limit N] [--json] [--out FILE]

Our embedded reader stands next to plain RapidOCR and, where it is installed, tesseract, all on the
same pixels in the same run; `--readers transcript` is our reading order and markdown on the lines
of the truth, without any OCR. Scores are means over pages (`scoring.py` says what they are); a page
that could not be read counts as empty. Groups: `truth.py`.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import report
import scoring
import truth

from kosmos_loader.compose import compose
from kosmos_loader.document import Line, Page, Reading
from kosmos_loader.errors import require
from kosmos_loader.geometry import Box
from kosmos_loader.pages import open_pages
from kosmos_loader.readers.base import PageReader
from kosmos_loader.readers.rapidocr import RapidOCRPageReader
from kosmos_loader.structure import reading_order

SCORES = ("word_f1", "line_iou", "ned", "md_ned", "md_nted", "assertions", "cpu_s_per_page")


class PlainRapidOCR:
    """RapidOCR as it comes: its lines in its order, two threads as ours has."""

    name = "rapidocr"
    version = "plain"

    def __init__(self) -> None:
        threads = "EngineConfig.onnxruntime"
        self._engine = require("rapidocr", extra="cpu").RapidOCR(
            params={
                "Global.log_level": "error",
                f"{threads}.intra_op_num_threads": 2,
                f"{threads}.inter_op_num_threads": 1,
            }
        )

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """Lines as RapidOCR returns them."""
        for page in pages:
            found = self._engine(np.ascontiguousarray(page.pixels[:, :, ::-1]))  # it wants BGR
            boxes = [] if found.boxes is None else found.boxes
            size = (page.width, page.height)
            lines = (
                Line(text, Box.around(map(tuple, (quad / size).tolist())).clipped(), float(score))
                for quad, text, score in zip(
                    boxes, found.txts or (), found.scores or (), strict=True
                )
            )
            yield Reading(page.info, self.name, self.version, tuple(lines))


class Tesseract:
    """Tesseract's command line in a page segmentation mode: 3 is its default, 1 finds the page's
    orientation first.

    One thread: its others mostly wait for each other, and cost CPU all the same.
    """

    def __init__(self, mode: int) -> None:
        self.name = f"tesseract psm {mode}"
        self.version = "command line"
        self._command = ["tesseract", "stdin", "stdout", "--psm", str(mode), "tsv"]

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """Lines in tesseract's order, each the words of one line of its table."""
        for page in pages:
            picture = io.BytesIO()
            page.image.save(picture, "PNG", compress_level=1)
            shown = subprocess.run(
                self._command,
                input=picture.getvalue(),
                capture_output=True,
                check=True,
                env=os.environ | {"OMP_THREAD_LIMIT": "1"},
            )
            lines = tuple(_tesseract_lines(shown.stdout.decode(), page))
            yield Reading(page.info, self.name, self.version, lines)


def _tesseract_lines(table: str, page: Page) -> Iterator[Line]:
    rows = csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE)
    words = (row for row in rows if row["level"] == "5" and row["text"].strip())
    for _, line in groupby(
        words, key=lambda row: (row["block_num"], row["par_num"], row["line_num"])
    ):
        rest = list(line)
        left, top, width, height = zip(*(_rectangle(word) for word in rest), strict=True)
        right = max(x + w for x, w in zip(left, width, strict=True))
        bottom = max(y + h for y, h in zip(top, height, strict=True))
        box = Box.from_pixels(
            min(left), min(top), right, bottom, width=page.width, height=page.height
        )
        yield Line(" ".join(word["text"] for word in rest), box)


def _rectangle(word: dict[str, str]) -> tuple[int, int, int, int]:
    return int(word["left"]), int(word["top"]), int(word["width"]), int(word["height"])


class Transcript:
    """Our reading order and blocks on the true lines: what is lost there no OCR can mend."""

    name = "transcript"
    version = "1"

    def __init__(self) -> None:
        cases = (case for group in truth.GROUPS.values() for case in group())
        self._cases = {(str(case.path), case.page): case for case in cases}

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """The true lines in our order, without a hint of theirs."""
        for page in pages:
            case = self._cases[page.source, page.number]
            mixed = sorted(case.lines or (), key=lambda line: line.box)
            lines = reading_order(mixed, width=page.width, height=page.height, angle=case.angle)
            yield Reading(page.info, self.name, self.version, tuple(lines), angle=case.angle)


READERS: dict[str, Callable[[], PageReader]] = {
    "kosmos-loader": RapidOCRPageReader,
    "rapidocr": PlainRapidOCR,
    "tesseract": lambda: Tesseract(3),
    "tesseract-osd": lambda: Tesseract(1),
    "transcript": Transcript,
}
OURS = ("kosmos-loader", "transcript")
"""Readers whose lines are composed to markdown too."""


def missing(reader: str) -> str | None:
    """Why `reader` cannot run here; None where it can."""
    if not reader.startswith("tesseract"):
        return None
    if shutil.which("tesseract") is None:
        return "tesseract is not installed"
    known = subprocess.run(
        ["tesseract", "--list-langs"], capture_output=True, text=True, check=True
    ).stdout.split()
    if reader == "tesseract-osd" and "osd" not in known:
        return "tesseract has no osd data here"
    return None


def measured(case: truth.Case, page: Page, reader: PageReader, *, composed: bool) -> dict[str, Any]:
    """Scores of one page read by `reader`; those without truth are None."""
    started = report.cpu_seconds()
    if page.error is None:
        (reading,) = reader.read([page])
    else:
        reading = Reading.failed(page, reader.name, reader.version, page.error)
    blocks = compose(reading) if composed else []
    seconds = report.cpu_seconds() - started

    text = "\n".join(line.text for line in reading.lines)
    body = "\n\n".join(b.markdown for b in blocks if b.kind not in ("header", "footer"))
    markdown = "\n\n".join(block.markdown for block in blocks)
    row: dict[str, Any] = dict.fromkeys(SCORES)
    row |= {
        "file": case.path.name,
        "page": case.page,
        "cpu_s_per_page": seconds,
        "angle": reading.angle,
        "flags": list(reading.flags),
        "error": reading.error.message if reading.error else None,
    }
    if case.text is not None:
        words = scoring.word_score(text, case.text)
        row |= {"word_f1": words.f1, "precision": words.precision, "recall": words.recall}
        both = (text, case.text)
        row["ned"] = scoring.ned(*(map(str.casefold, both) if case.caseless else both))
    if case.lines is not None:
        row["line_iou"] = scoring.line_iou(
            [line.box for line in reading.lines], [line.box for line in case.lines]
        )
    if composed and case.markdown is not None:
        row["md_ned"] = scoring.ned(markdown, case.markdown)
        row["md_nted"] = scoring.nted(markdown, case.markdown)
    if case.assertions:
        said = [scoring.assertion_holds(a, body if composed else text) for a in case.assertions]
        row["assertions"] = report.mean(map(float, said))
    return row


def pages_of(cases: Iterable[truth.Case]) -> Iterator[tuple[truth.Case, Page]]:
    """Each case with its page; a file is opened once."""
    for path, group in groupby(cases, key=lambda case: case.path):
        wanted = {case.page: case for case in group}
        for page in open_pages(path):
            if page.number in wanted:
                yield wanted[page.number], page


def summary(group: str, reader: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the pages of a group, and the pages."""
    means = {score: report.mean(row[score] for row in rows) for score in SCORES}
    return {"group": group, "reader": reader, "pages": len(rows), **means, "pages_detail": rows}


def run(groups: list[str], readers: dict[str, PageReader], limit: int | None) -> Iterator[dict]:
    """One summary for each group and reader."""
    for group in groups:
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in readers}
        for case, page in pages_of(list(truth.GROUPS[group]())[:limit]):
            print(f"{group}: {case.path.name} page {case.page}", file=sys.stderr)
            for name, reader in readers.items():
                if isinstance(reader, Transcript) and case.lines is None:
                    continue
                row = measured(case, page, reader, composed=name in OURS)
                rows[name].append(row)
        for name in readers:
            yield summary(group, name, rows[name])


def listed(value: str) -> list[str]:
    """The parts of a list with commas."""
    return [part.strip() for part in value.split(",") if part.strip()]


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    usual = [group for group in truth.GROUPS if group != "olmocr"]
    parser.add_argument(
        "--groups",
        type=listed,
        default=usual,
        help=f"of {','.join(truth.GROUPS)}; without it, all but olmocr",
    )
    parser.add_argument(
        "--readers",
        type=listed,
        default=[reader for reader in READERS if reader != "transcript"],
        help=f"of {','.join(READERS)}; without it, all but transcript",
    )
    parser.add_argument("--limit", type=int, help="pages of each group")
    parser.add_argument("--json", action="store_true", help="print JSON, with each page, instead")
    parser.add_argument("--out", type=Path, help="write the JSON to this file too")
    options = parser.parse_args()
    for kind, asked, known in (
        ("group", options.groups, truth.GROUPS),
        ("reader", options.readers, READERS),
    ):
        for name in asked:
            if name not in known:
                parser.error(f"no {kind} is called {name!r}; choose of {', '.join(known)}")
    return options


def main() -> None:
    """Measure, then print one table or its JSON."""
    options = arguments()
    skipped = {name: why for name in options.readers if (why := missing(name))}
    empty = [group for group in options.groups if not any(truth.GROUPS[group]())]
    skipped |= dict.fromkeys(empty, "its pages are not on this machine")
    for name, why in skipped.items():
        print(f"{name} is left out: {why}", file=sys.stderr)

    readers = {name: READERS[name]() for name in options.readers if name not in skipped}
    groups = [group for group in options.groups if group not in skipped]
    facts = report.header("kosmos-loader", "rapidocr", "onnxruntime", "tesseract")
    results = list(run(groups, readers, options.limit))
    report.show(
        facts | {"groups": results, "skipped": skipped},
        rows=results,
        columns=("group", "reader", "pages", *SCORES),
        as_json=options.json,
        out=options.out,
    )


if __name__ == "__main__":
    main()
