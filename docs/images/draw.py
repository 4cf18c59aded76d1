"""Draws the pictures of the documentation from the example archive: python docs/images/draw.py"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from kosmos_loader import (
    Citation,
    Page,
    RapidOCRPageReader,
    Store,
    answer,
    chunk,
    cite,
    compose,
    draw_blocks,
    draw_citations,
    draw_regions,
    open_pages,
)

HERE = Path(__file__).resolve().parent
ARCHIVE = HERE.parent.parent / "examples" / "archive"
HEIGHT = 840
"""Pixels of a page in the pictures."""

DRAWN = 1300
"""Pixels of a page while it is drawn on: letters have a smallest size, and would cover too much."""


def resized(page: Page, height: int) -> Page:
    """The page at `height` pixels."""
    width = round(page.width * height / page.height)
    picture = page.image.resize((width, height), Image.Resampling.LANCZOS)
    return replace(page, width=width, height=height, pixels=np.asarray(picture))


def cited(reader: RapidOCRPageReader, page: Page, question: str, folder: Path) -> Citation:
    """The first citation of the answer to `question`, from this one page."""
    with Store.open(folder) as store:
        (reading,) = reader.read([page])
        store.add(chunk(compose(reading)))
        return answer(question, store.search(question)).citations[0]


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Both pictures on white, a gap between them."""
    gap = 24
    size = (left.width + gap + right.width, max(left.height, right.height))
    both = Image.new("RGB", size, (255, 255, 255))
    both.paste(left, (0, both.height - left.height))
    both.paste(right, (left.width + gap, both.height - right.height))
    return both


def blocks_and_citation(reader: RapidOCRPageReader, folder: Path) -> Image.Image:
    """A page of the newsletter with its blocks, and a row of the cash book cited as an answer."""
    newsletter, *_ = open_pages(ARCHIVE / "newsletter-1996.pdf", pages=1)
    (reading,) = reader.read([newsletter])
    blocks = draw_blocks(resized(newsletter, DRAWN), compose(reading))
    blocks = blocks.resize((round(blocks.width * HEIGHT / DRAWN), HEIGHT), Image.Resampling.LANCZOS)
    ledger, *_ = open_pages(ARCHIVE / "cash-book-1931.tif", pages=1)
    question = "How much did the painting of the buoys cost in 1931?"
    citation = cited(reader, ledger, question, folder / "ledger")
    boxes = [box for _, box in citation.regions]
    return side_by_side(blocks, draw_regions(resized(ledger, HEIGHT), boxes, question))


def spans(reader: RapidOCRPageReader, folder: Path) -> Image.Image:
    """The lines of a letter that hold a sentence, cut out of the page."""
    letter, *_ = open_pages(ARCHIVE / "letter-1978.pdf", pages=2)
    question = "Which berth did the surveyors want closed to vessels over 60 tonnes?"
    citation = cited(reader, letter, question, folder / "letter")
    boxes = [box for _, box in citation.regions]
    page = draw_regions(letter, boxes)
    top, bottom = min(box.y0 for box in boxes) - 0.045, max(box.y1 for box in boxes) + 0.04
    part = page.crop((0, round(top * page.height), page.width, round(bottom * page.height)))
    return part.resize((1000, round(1000 * part.height / part.width)), Image.Resampling.LANCZOS)


def quote_over_two_pages(reader: RapidOCRPageReader) -> Image.Image:
    """The first two pages of a letter, with a quote that runs over both."""
    pages = list(open_pages(ARCHIVE / "letter-1978.pdf", pages="1-2"))
    blocks = [block for reading in reader.read(pages) for block in compose(reading)]
    words = "to which a tenth should be added for days lost to bad weather"
    citation = next(filter(None, (cite(words, piece) for piece in chunk(blocks))))
    return draw_citations(pages, [citation], citation.quote, max_width=1100)


def main() -> None:
    """Draw them; JPEG, since noise of scans does not compress as PNG."""
    import tempfile

    reader = RapidOCRPageReader()
    with tempfile.TemporaryDirectory() as folder:
        both = blocks_and_citation(reader, Path(folder))
        both.save(HERE / "blocks-and-citation.jpg", quality=48, optimize=True)
        spans(reader, Path(folder)).save(HERE / "spans.jpg", quality=70, optimize=True)
    over = quote_over_two_pages(reader)
    over.save(HERE / "quote-over-two-pages.jpg", quality=55, optimize=True)


if __name__ == "__main__":
    main()
