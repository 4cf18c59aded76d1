"""Texts that were kept as one (a page, a file) to chunks: the way back from `Chunk` to blocks.

Where the blocks themselves are at hand, `chunk` cuts them better: they know which lines are running
ones, and how large each page is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from kosmos_loader.align import markdown_blocks
from kosmos_loader.chunking import BREAK, Length, chunk
from kosmos_loader.document import Block, Chunk, PageInfo, Reading


def rechunk(
    piece: Chunk,
    *,
    size: int = 1000,
    overlap: int = 0,
    length: Length = len,
    heading_size: int | None = None,
) -> Iterator[Chunk]:
    """`piece` cut into chunks of at most `size`, in which every character keeps its place.

    What is small enough stays whole; a text of white space gives nothing. The text is taken for the
    markdown that it is. What a text does not tell is lost: running headers and footers are
    paragraphs, and every page has the size of the first. Boxes are as exact as those of `piece`,
    and ids follow from its id. The headings above `piece` stay above the chunks before the first
    heading in it. The options are those of `chunk`; `UsageError` as there.
    """
    cut = partial(chunk, size=size, overlap=overlap, length=length, heading_size=heading_size)
    page = _page(piece, piece.page)
    # as one block it comes back in one piece if it is small enough
    whole = Block(page, "other", piece.text, piece.spans)
    first = next(cut([whole]), None)
    if first is None:
        return
    if first.text == piece.text.strip():
        yield replace(piece, chunk_id=first.chunk_id)
        return
    for smaller in cut(list(_pages(piece))):
        pages = [span.page for span in smaller.spans]
        yield replace(
            smaller,
            page_end=max([smaller.page_end, *pages]),
            headings=smaller.headings or piece.headings,
            digests=tuple((n, digest) for n, digest in piece.digests if n in pages),
        )


def _pages(piece: Chunk) -> Iterator[list[Block]]:
    """The blocks of each page."""
    for number, start, end in _parts(piece):
        yield list(_blocks(piece, _page(piece, number), start, end))


def _parts(piece: Chunk) -> Iterator[tuple[int, int, int]]:
    """Page, start and end of the parts of the text that stand on one page each.

    They end between blocks: one that stands on two pages belongs to the first.
    """
    number, start, done = piece.page, 0, 0
    for span in piece.spans:
        border = piece.text.rfind(BREAK, done, span.start)
        if span.page > number and border >= 0:
            yield number, start, border
            start = border + len(BREAK)
        if span.page > number and (border >= 0 or not done):
            number = span.page
        done = span.end
    yield number, start, len(piece.text)


def _page(piece: Chunk, number: int) -> PageInfo:
    """Page `number` as `piece` knows it; what tells it from others is that it is of this piece."""
    return PageInfo(
        source=piece.source,
        doc_id=piece.doc_id,
        number=number,
        count=piece.page_count,
        width=piece.page_width,
        height=piece.page_height,
        dpi=0.0,
        digest=f"{piece.chunk_id}/{number}",
    )


def _blocks(piece: Chunk, page: PageInfo, start: int, end: int) -> Iterator[Block]:
    # a carriage return may stand in a line that was read; the parser would take it for a line end
    text = piece.text[start:end].replace("\r", " ")
    at = start
    for block in markdown_blocks(Reading(page, piece.reader, piece.reader_version, markdown=text)):
        at = start + text.index(block.markdown, at - start)
        after = at + len(block.markdown)
        cut = (span.within(at, after) for span in piece.spans)
        spans = tuple(span for span in cut if span is not None)
        yield replace(block, spans=spans, confidence=piece.confidence, flags=piece.flags)
        at = after
