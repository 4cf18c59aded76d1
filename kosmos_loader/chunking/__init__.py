"""Blocks to chunks: pieces of a size to embed, in which every character keeps its place on paper.

```
blocks ──borders──▶ parts of a page ──packing──▶ drafts ──finishing──▶ chunks
                                      dividing
```

The rules, in the order in which they win over one another:

1. No chunk is larger than `size`, nor holds more than `MAX_SPANS` spans.
2. No chunk runs over the border of a document. Over that of a page runs only what goes on there
   (below). So a page put into the middle of a document changes the chunks that hold the last block
   before it or what the page after it opens with, and no other chunk and no other id.
3. A table row is split only where it is larger than `size` by itself. Where a table is, the rows
   above its separator are repeated in every piece, with their spans, as long as one more row fits
   beside them.
4. A heading stands in the chunk of the text below it. It stands alone only at the foot of a page,
   or where it leaves less than half of `size` and the text does not fit into the rest.
5. Chunks end at block borders. A block larger than `size` is split: a list between its items, code
   between its lines, text at sentence ends, else at line ends and white space, else anywhere.
6. A heading starts a new chunk once half of `size` is gathered.

The last block of a page goes on in the first one of the next page in these cases only. Running
headers, footers and page numbers do not count; a failed, blank or missing page lies between as a
wall, and so does a heading.

- A paragraph or the last item of a list that does not end with a full stop, colon or quote, and a
  paragraph that begins with a small letter. A word broken by a hyphen is put together again.
- A numbered list, and one that goes on with the next number.
- A table, and one with as many columns that has no header of its own: none, the same one again
  (which stays, as a row), or a row with numbers in its place.

It fills the chunk that it begins in, as if the page border were not there, and ends with a chunk of
its own: text and tables that open a page are never packed with what follows them on it.

Running headers and footers of a page become a chunk of their own (kind "header" or "footer"), since
nothing that was read is lost, and words of another section do not belong into a paragraph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from kosmos_loader.chunking.borders import PageBlocks, continues
from kosmos_loader.chunking.dividing import BREAK
from kosmos_loader.chunking.finishing import PageNames, finished, id_on_copy
from kosmos_loader.chunking.headings import MAX_HEADING, Headings, plain, plain_inline
from kosmos_loader.chunking.measuring import MAX_SPANS, Length, Limits, Tokenizer
from kosmos_loader.chunking.packing import Draft, Packer, SentencePacker, page_of
from kosmos_loader.chunking.prose import sentence_ends
from kosmos_loader.chunking.tables import cells_of, is_separator
from kosmos_loader.document import Block, Chunk, PageInfo

__all__ = [
    "BREAK",
    "MAX_HEADING",
    "MAX_SPANS",
    "Length",
    "Tokenizer",
    "cells_of",
    "chunk",
    "chunk_sentences",
    "id_on_copy",
    "is_separator",
    "plain",
    "plain_inline",
    "sentence_ends",
]


def chunk(
    blocks: Iterable[Block | Iterable[Block]],
    *,
    size: int = 1000,
    overlap: int = 0,
    length: Length = len,
    heading_size: int | None = None,
) -> Iterator[Chunk]:
    """Chunks of `blocks`, lazily.

    `blocks` come in reading order, page by page, one document after another: as blocks
    (`compose(reading)`), or as the blocks of one page after the other (`map(compose, readings)`).
    Headings and paragraphs go on over pages, so give the pages of a document in one call. The
    chunks of a page come before the next page is taken, except for the last one where its last
    block may go on there; of blocks that come one by one, the first of the next page is taken to
    see that a page is done.

    `size` and `overlap` are counted by `length`: characters; what any callable on a string counts,
    or the length of the list it makes; or the tokens of a tokenizer (of transformers, tokenizers,
    tiktoken, SentencePiece) with those that it puts around every text. No `Chunk.text` is larger
    than `size`. `overlap`, at most half of `size`, repeats the last sentences of a chunk (the last
    words, where one sentence is larger) at the start of the next one, between running text only. It
    gives way where a block fits without it and not with it.

    `Chunk.headings` are the headings above the chunk, carried over pages. They are embedded with
    the text and are not part of it, so they come on top of `size`: at most `heading_size`, from the
    innermost heading outwards, or all of them. With it, `Chunk.embedded_text` is at most
    `size + heading_size`. A heading that is part of the chunk stands in its text only, so that
    nothing is embedded twice. `Chunk.kind` is the kind of its blocks other than headings, "mixed"
    where they differ.

    `UsageError` where the settings cannot be meant, and, when it comes to it, for a character that
    counts more than `size` by itself.
    """
    limits = Limits.of(size, overlap, heading_size, length)
    return _chunks(blocks, partial(_Document, limits, Packer))


def chunk_sentences(
    blocks: Iterable[Block | Iterable[Block]],
    *,
    size: int = 1000,
    length: Length = len,
    heading_size: int | None = None,
) -> Iterator[Chunk]:
    """A chunk for each sentence, list item, table row (below its header) and heading of `blocks`.

    For searches that point at a sentence. Everything else is as in `chunk`; what is larger than
    `size` is split.
    """
    limits = Limits.of(size, 0, heading_size, length)
    return _chunks(blocks, partial(_Document, limits, SentencePacker))


def _chunks(
    blocks: Iterable[Block | Iterable[Block]], new_document: partial[_Document]
) -> Iterator[Chunk]:
    document: _Document | None = None
    source: tuple[str, str] | None = None
    for page in _pages(blocks):
        if document is not None and (not page or source != _source(page[0])):
            yield from document.finish()
        if not page:
            continue
        if document is None or source != _source(page[0]):
            document, source = new_document(), _source(page[0])
        yield from document.take(page)
    if document is not None:
        yield from document.finish()


def _source(block: Block) -> tuple[str, str]:
    return block.page.source, block.page.doc_id


def _pages(blocks: Iterable[Block | Iterable[Block]]) -> Iterator[list[Block]]:
    """The blocks of one page after the other; none for a page without any."""
    page: list[Block] = []
    for item in blocks:
        if not isinstance(item, Block):
            if page:
                yield page
                page = []
            yield list(item)
        else:
            if page and (page[0].page.number, _source(page[0])) != (
                item.page.number,
                _source(item),
            ):
                yield page
                page = []
            page.append(item)
    if page:
        yield page


@dataclass
class _Open:
    """The last block of a page, which may go on, and what waits behind it."""

    packer: Packer
    part: str
    """Of its page."""

    block: Block
    """The last one; of a table over many pages the first, which has the header."""

    number: int
    """Of the page on which it ends so far."""

    asides: list[Block]
    """Page numbers below it."""

    behind: list[tuple[Draft, str]] = field(default_factory=list)
    """Drafts that come after it, and of which part of their page."""


class _Document:
    """Takes the pages of a document, one after the other, and gives their chunks."""

    def __init__(self, limits: Limits, packer: type[Packer]) -> None:
        self._limits = limits
        self._new_packer = packer
        self._headings = Headings()
        self._copies: Counter[str] = Counter()
        self._names: dict[int, PageNames] = {}
        self._open: _Open | None = None

    def take(self, blocks: list[Block]) -> Iterator[Chunk]:
        """The chunks of a page, and before them those that waited for it."""
        info, page = blocks[0].page, PageBlocks.of(blocks)
        opened = self._open
        if opened is not None and not _goes_on(opened, page):
            yield from self.finish()
            opened = None
        self._name(info, opened)
        above = [*self._packed(page.headers), *self._packed(page.above)]
        headers = [(draft, "header") for draft in above]
        if opened is not None:
            yield from self._go_on(opened, page, headers)
        else:
            yield from self._finished(headers)
            yield from self._pack(page.opening, "opening", page)
        yield from self._pack(page.body, "body", page)
        footers = [(draft, "footer") for draft in self._packed(page.footers)]
        if self._open is not None:
            self._open.behind += footers
        else:
            yield from self._finished(footers)

    def finish(self) -> Iterator[Chunk]:
        """The chunks that wait for a page which does not come."""
        opened, self._open = self._open, None
        if opened is None:
            return
        opened.packer.settle()
        drafts = [d for block in opened.asides for d in opened.packer.place(block, self._path)]
        drafts += opened.packer.rest()
        yield from self._finished([*((draft, opened.part) for draft in drafts), *opened.behind])

    @property
    def _path(self) -> tuple[str, ...]:
        return self._headings.path

    def _name(self, info: PageInfo, opened: _Open | None) -> None:
        picture = info.digest or f"#{info.number}"
        known = {n: names for n, names in self._names.items() if opened and n >= opened.packer.page}
        self._names = known | {info.number: PageNames(info, copy=self._copies[picture])}
        self._copies[picture] += 1

    def _go_on(
        self, opened: _Open, page: PageBlocks, headers: list[tuple[Draft, str]]
    ) -> Iterator[Chunk]:
        """The chunks of what went on in the opening of `page`, and of what waited behind it."""
        first, *others = page.opening
        number, packer = first.page.number, opened.packer
        drafts = list(packer.go_on(first, may_go_on=page.last is first))
        for block in others:
            drafts += packer.place(block, self._path, may_go_on=page.last is block)
        if not packer.waits:
            drafts += packer.rest()
        before = [draft for draft in drafts if page_of(draft).number < number]
        after = [draft for draft in drafts if page_of(draft).number >= number]
        asides = [(draft, "footer") for draft in self._packed(opened.asides)]
        behind = [*asides, *opened.behind, *headers, *((draft, "opening") for draft in after)]
        yield from self._finished((draft, opened.part) for draft in before)
        self._open = None
        if packer.waits and page.last is not None:
            last = opened.block if page.last.kind == "table" else page.last
            self._open = _Open(packer, opened.part, last, number, page.asides)
            if packer.page < number:
                self._open.behind = behind
                return
            self._open.part = "opening"
        yield from self._finished(behind)

    def _pack(self, blocks: list[Block], part: str, page: PageBlocks) -> Iterator[Chunk]:
        """The chunks of `blocks`, up to a last one that may go on on the next page."""
        packer = self._new_packer(self._limits)
        for block in blocks:
            is_heading = block.kind == "heading"
            if is_heading:
                self._headings.leave(block.level)
            drafts = packer.place(block, self._path, may_go_on=page.last is block)
            yield from self._finished((draft, part) for draft in drafts)
            if is_heading:
                self._headings.enter(block)
        if packer.waits and page.last is not None:
            self._open = _Open(packer, part, page.last, page.last.page.number, page.asides)
        else:
            yield from self._finished((draft, part) for draft in packer.rest())

    def _packed(self, blocks: Iterable[Block]) -> Iterator[Draft]:
        """Drafts of running lines, which stand below no heading."""
        packer = self._new_packer(self._limits)
        for block in blocks:
            yield from packer.place(block, ())
        yield from packer.rest()

    def _finished(self, drafts: Iterable[tuple[Draft, str]]) -> Iterator[Chunk]:
        for draft, part in drafts:
            yield finished(draft, self._names[page_of(draft).number], part, self._limits)


def _goes_on(opened: _Open, page: PageBlocks) -> bool:
    """Whether what is open goes on in what `page` opens with."""
    if not page.opening or page.opening[0].page.number != opened.number + 1:
        return False
    return continues(opened.block, page.opening[0])
