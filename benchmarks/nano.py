"""How well the small KOSMOS-2.5 of tests/assets reads pages that it has not seen.

    python benchmarks/nano.py [--seed S] [--pages N] [--level L] [--model DIR] [--json] [--out FILE]

Pages are drawn from the seed, of the level L that `kosmos_loader.testing.drawn` describes (1 is the
easiest, 11 what the checkpoint was trained up to), and are read as `KosmosPageReader` does, both
tasks. Accuracies are 1 less edits over characters, of all pages together; lines and blocks count
where every character is right; the box error is the side that is farthest off, in pixels, as a mean
over the lines found, and near_boxes is the share of lines within 2 pixels.
"""

from __future__ import annotations

import argparse
import time
from itertools import islice
from pathlib import Path
from typing import Any

import report

from kosmos_loader.readers.kosmos import KosmosPageReader
from kosmos_loader.testing import nano_kosmos
from kosmos_loader.testing.drawn import HELD_OUT, LEVELS, drawn_pages
from kosmos_loader.training import Truth, score


def main() -> None:
    """Read, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pages", type=int, default=64)
    parser.add_argument("--level", type=int, default=3, choices=range(1, len(LEVELS) + 1))
    parser.add_argument("--model", type=Path, help="another checkpoint than the one in tests")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    document = report.header("torch", "transformers") | measured(args)
    rows = [
        {"task": task, "measure": m, "value": v}
        for task in TASKS
        for m, v in document[task].items()
    ]
    report.show(
        document,
        rows=rows,
        columns=("task", "measure", "value"),
        as_json=args.json,
        out=args.out,
    )


TASKS = ("ocr", "md")


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Scores by task, and pages a second."""
    level = LEVELS[args.level - 1]
    drawn = list(islice(drawn_pages(args.seed + HELD_OUT, level=level), args.pages))
    pages = [page.page(number=number) for number, page in enumerate(drawn, start=1)]
    truths = [
        Truth(truth.lines, truth.markdown, width=page.width, height=page.height)
        for truth, page in zip(drawn, pages, strict=True)
    ]
    reader = KosmosPageReader(args.model or nano_kosmos(), batch_size=args.batch)
    began = time.perf_counter()
    readings = list(reader.read(pages))
    speed = len(pages) / (time.perf_counter() - began)
    return {
        "level": args.level,
        "pages": args.pages,
        "pages_per_s": speed,
        **score(truths, readings).to_dict(),
    }


if __name__ == "__main__":
    main()
