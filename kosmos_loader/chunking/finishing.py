"""From drafts to chunks: what they are called, and what is known of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from kosmos_loader.chunking.measuring import Limits
from kosmos_loader.chunking.packing import Draft, page_of
from kosmos_loader.document import Chunk, PageInfo, ordered_flags, page_digests, stable_id


class PageNames:
    """Names the chunks that start on one page.

    An id follows from the document, the picture of the page, the part of the page, the text, and
    how many chunks with this text stand in that part before it. Nothing in it depends on other
    pages or on how many chunks there are.
    """

    def __init__(self, page: PageInfo, *, copy: int) -> None:
        self._picture = page.digest or f"#{page.number}"
        self._copy = copy
        self._order = 0
        self._same: Counter[tuple[str, str]] = Counter()

    def next_order(self) -> int:
        """The place of the next chunk among those that start on the page."""
        self._order += 1
        return self._order - 1

    def next_id(self, doc_id: str, part: str, text: str) -> str:
        """128 bits in hex, a form that stores which want UUIDs take as well."""
        nth = self._same[part, text]
        self._same[part, text] += 1
        name = stable_id(doc_id, self._picture, part, str(nth), text)
        for _ in range(self._copy):
            name = id_on_copy(name)
        return name


def id_on_copy(chunk_id: str) -> str:
    """The id that the chunk `chunk_id` has on the next page with the same picture."""
    return stable_id("copy", chunk_id)


def finished(draft: Draft, names: PageNames, part: str, limits: Limits) -> Chunk:
    """The chunk of `draft`, which starts in a `part` of the page of `names`."""
    page, new = page_of(draft), draft.new
    first = new[0].origins[0][0]
    text = draft.content.text
    chunk = Chunk(
        text=text,
        spans=draft.content.spans,
        source=page.source,
        doc_id=page.doc_id,
        chunk_id=names.next_id(page.doc_id, part, text),
        page=page.number,
        page_end=max(block.page.number for part in new for block, _ in part.origins),
        page_count=page.count,
        page_width=page.width,
        page_height=page.height,
        order=names.next_order(),
        kind=_kind(draft),
        headings=new[0].above,
        confidence=_confidence(draft),
        flags=_flags(draft),
        reader=first.reader,
        reader_version=first.reader_version,
        digests=page_digests(block.page for part in draft.parts for block, _ in part.origins),
    )
    return _with_fitting_headings(chunk, limits)


def _with_fitting_headings(chunk: Chunk, limits: Limits) -> Chunk:
    """`chunk` with as much of its path, from the inner end, as there is room for."""
    if limits.heading_size is None:
        return chunk
    while chunk.headings and not _has_room(chunk, limits):
        outer, *inner = chunk.headings
        shorter = inner or [" ".join(outer.split()[:-1])]
        chunk = replace(chunk, headings=tuple(text for text in shorter if text))
    return chunk


def _has_room(chunk: Chunk, limits: Limits) -> bool:
    room = limits.heading_size or 0
    return (
        limits.measure(" > ".join(chunk.headings)) <= room
        and limits.measure(chunk.embedded_text) <= limits.size + room
    )


def _kind(draft: Draft) -> str:
    kinds = {part.kind for part in draft.new}
    kinds = kinds - {"heading"} or kinds
    return kinds.pop() if len(kinds) == 1 else "mixed"


def _confidence(draft: Draft) -> float | None:
    """Mean of the blocks' confidences, by characters."""
    weighed = [
        (block.confidence, length)
        for part in draft.new
        for block, length in part.origins
        if block.confidence is not None
    ]
    total = sum(length for _, length in weighed)
    return sum(value * length for value, length in weighed) / total if total else None


def _flags(draft: Draft) -> tuple[str, ...]:
    return ordered_flags(
        flag for part in draft.parts for block, _ in part.origins for flag in block.flags
    )
