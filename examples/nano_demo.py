"""Reads three drawn pages with the small KOSMOS-2.5 of tests/assets, on the CPU.

Run with `python examples/nano_demo.py [FOLDER]`; the pictures with their boxes go to FOLDER, by
default demo-out/nano.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from kosmos_loader import Page, draw_lines
from kosmos_loader.readers.kosmos import KosmosPageReader
from kosmos_loader.testing import nano_kosmos
from kosmos_loader.testing.drawn import HELD_OUT, drawn_pages

SEED = HELD_OUT + 20


def main() -> None:
    """Draw, read, show."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out/nano")
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    reader = KosmosPageReader(nano_kosmos(), device="cpu", batch_size=3)
    drawn = list(islice(drawn_pages(SEED), 3))
    pages = [page.page(number=number) for number, page in enumerate(drawn, start=1)]
    for page, truth, reading in zip(pages, drawn, reader.read(pages), strict=True):
        picture = out / f"page-{page.number}.png"
        draw_lines(enlarged(page), reading.lines).save(picture)
        right = sum(a.text == b.text for a, b in zip(truth.lines, reading.lines, strict=False))
        print(f"page {page.number}: {right} of {len(truth.lines)} lines right, in {picture}\n")
        print(f"{reading.markdown}\n")
    print(f"{time.perf_counter() - began:.1f} s, with the model loaded")


def enlarged(page: Page, times: int = 3) -> Page:
    """The page with each pixel as a square of pixels: room for the outlines."""
    pixels = np.kron(page.pixels, np.ones((times, times, 1), np.uint8))
    return replace(page, width=page.width * times, height=page.height * times, pixels=pixels)


if __name__ == "__main__":
    main()
