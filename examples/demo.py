"""Reads the example archive, asks three questions, and draws each answer on its page.

Run with `make demo`, or `python examples/demo.py [FOLDER]` for the store and the pictures to go
somewhere else than demo-out/.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from kosmos_loader import Citation, Store, answer, choose_reader, draw_regions, ingest, open_pages

ARCHIVE = Path(__file__).parent / "archive"
QUESTIONS = [
    "How much did the painting of the buoys cost in 1931?",
    "Which berth did the surveyors want closed to vessels over 60 tonnes?",
    "At how much is the tide gauge by the Hollin Foundry valued?",
]


def main() -> None:
    """Index the archive, then answer."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out")
    start = time.perf_counter()
    with Store.open(out / "store") as store:
        report = ingest(
            [path for path in sorted(ARCHIVE.iterdir()) if path.suffix in SCANS],
            store,
            choose_reader(),
            progress=lambda step: print(f"  read {Path(step.source).name}, page {step.page}"),
        )
        print(
            f"{report.files} files, {report.pages} pages, {report.chunks} chunks in "
            f"{time.perf_counter() - start:.0f} s ({report.reused} pages kept from an earlier run)"
        )
        for number, question in enumerate(QUESTIONS, start=1):
            found = answer(question, store.search(question))
            print(f"\n{number}. {question}\n   {found.text}")
            for place, citation in enumerate(found.citations, start=1):
                picture = out / f"answer-{number}-{place}.png"
                draw(citation, picture)
                print(f"   {where(citation)}\n   drawn in {picture}")


SCANS = {".jpg", ".pdf", ".png", ".tif"}


def where(citation: Citation) -> str:
    """File, page and box in per cent of the page."""
    page, box = citation.regions[0]
    left, top, right, bottom = (round(100 * side, 1) for side in box.as_tuple())
    name = Path(citation.source).name
    return f"{name}, page {page}, from {left} % x {top} % to {right} % x {bottom} %"


def draw(citation: Citation, picture: Path) -> None:
    """The cited page with the quote marked."""
    [page] = open_pages(citation.source, pages=[citation.page])
    boxes = [box for number, box in citation.regions if number == citation.page]
    draw_regions(page, boxes, caption=citation.quote).save(picture)


if __name__ == "__main__":
    main()
