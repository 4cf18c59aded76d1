"""What happens to a page's blocks at its borders, and which of them go on over one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from kosmos_loader.chunking.headings import plain
from kosmos_loader.chunking.prose import is_unfinished
from kosmos_loader.chunking.tables import Table
from kosmos_loader.chunking.text import Text
from kosmos_loader.document import Block

UNSURE = {"truncated", "repetition", "disagreement"}
"""Flags of blocks whose end or beginning may not be that of the page."""

MAX_RUNNING = 100
"""Characters of a running line at most."""

_PAGE_NUMBER = re.compile(
    r"""(?:^|\s)(?:page|seite|p\.)\s*\d{1,4}(?:\s*(?:of|/|von)\s*\d{1,4})?(?:\s|$)
    |(?:^|\s)[-–—]\s*\d{1,4}\s*[-–—](?:\s|$)
    |^[(\[]?(?:\d{1,4}|[ivxlc]{1,7})[)\]]?$""",
    re.VERBOSE | re.IGNORECASE,
)
_NUMBER = re.compile(r"^[ \t]*(\d{1,4})[.)][ \t]", re.MULTILINE)
_FIRST_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*[-,;:.!?)”’]*(?=\s|$)")
_LETTERED = re.compile(r"\(?(?:[a-z]|[ivx]{2,5})[.)]\s")


@dataclass(frozen=True, slots=True)
class PageBlocks:
    """The blocks of a page by where they stand.

    Which block belongs where follows from the page alone. What a page opens with is kept apart from
    what follows it, whether or not the page before goes on in it; so what follows is packed the
    same after whatever page.
    """

    headers: list[Block] = field(default_factory=list)
    above: list[Block] = field(default_factory=list)
    """Page numbers above an opening."""

    opening: list[Block] = field(default_factory=list)
    """What may belong to the page before: the rest of a paragraph or list, a table."""

    body: list[Block] = field(default_factory=list)
    asides: list[Block] = field(default_factory=list)
    """Page numbers below a last block that may go on; they are no running lines if it does not."""

    footers: list[Block] = field(default_factory=list)
    last: Block | None = None
    """What may go on on the next page, the last of `body` or `opening`; None where nothing may."""

    @classmethod
    def of(cls, blocks: Sequence[Block]) -> Self:
        """`blocks` of one page, sorted. The one page of a file has nothing before and after it."""
        headers = [block for block in blocks if block.kind == "header"]
        footers = [block for block in blocks if block.kind == "footer"]
        body = [b for b in blocks if b.kind not in ("header", "footer") and b.markdown.strip()]
        if blocks[0].page.count == 1:
            return cls(headers, [], [], body, [], footers)
        first = _opening_starts(body)
        end = _opening_ends(body, first)
        opening, body, above = body[first:end], body[end:], body[:first]
        end = len(body)
        while end and is_running_line(body[end - 1]):
            end -= 1
        last = next(iter([*opening, *body[:end]][-1:]), None)
        if last is None or not may_go_on(last):
            return cls(headers, above, opening, body, [], footers)
        return cls(headers, above, opening, body[:end], body[end:], footers, last)


def _opening_starts(body: Sequence[Block]) -> int:
    """Where in `body` what may belong to the page before starts; 0 where there is no such thing."""
    for at, block in enumerate(body):
        if not is_running_line(block):
            return at if may_continue(block) else 0
    return 0


def _opening_ends(body: Sequence[Block], start: int) -> int:
    """Where it ends: lines of one paragraph may have been taken for several."""
    if not body or is_running_line(body[start]) or not may_continue(body[start]):
        return start
    end = start + 1
    while end < len(body) and _is_rest_of(body[end - 1], body[end]):
        end += 1
    return end


def may_go_on(block: Block) -> bool:
    """Whether the last block of a page may go on on the next one, as far as it shows itself."""
    if UNSURE.intersection(block.flags):
        return False
    match block.kind:
        case "table":
            return True
        case "list":
            return is_unfinished(block.markdown) or bool(_NUMBER.search(block.markdown))
        case "paragraph":
            return is_unfinished(block.markdown)
    return False


def may_continue(block: Block) -> bool:
    """Whether the first block of a page may be the rest of something, as far as it shows itself."""
    if UNSURE.intersection(block.flags):
        return False
    match block.kind:
        case "table":
            return True
        case "list":
            number = _NUMBER.match(block.markdown)
            return number is not None and int(number[1]) > 1
        case "paragraph":
            return _opens_in_lower_case(block.markdown)
    return False


def continues(last: Block, first: Block) -> bool:
    """Whether what ends one page goes on in what opens the next, given that both may.

    A paragraph goes on in a paragraph, and so does the last item of a list; a numbered list in one
    with the next number; a table in one with as many columns and no header of its own, or the same.
    """
    if first.kind == "table":
        tables = [Table.of(Text(block.markdown, block.spans)) for block in (last, first)]
        upper, lower = tables
        return last.kind == "table" and bool(upper and lower and upper.goes_on_in(lower))
    if first.kind == "list":
        numbers = _NUMBER.findall(last.markdown) if last.kind == "list" else []
        opening = _NUMBER.match(first.markdown)
        return bool(numbers and opening and int(numbers[-1]) + 1 == int(opening[1]))
    return last.kind != "table" and is_unfinished(last.markdown)


def is_running_line(block: Block) -> bool:
    """Whether `block` is a page number, or one short line with one, that nobody took for a header.

    It is asked only of blocks at the edge of a page beyond which a sentence or table goes on.
    """
    text = block.markdown.strip()
    return (
        block.kind in ("paragraph", "other")
        and len(text) <= MAX_RUNNING
        and "\n" not in text
        and _PAGE_NUMBER.search(text) is not None
    )


def _opens_in_lower_case(markdown: str) -> bool:
    text = plain(markdown)
    if not text[:1].islower() or _LETTERED.match(text):
        return False
    return _FIRST_WORD.match(text) is not None


def _is_rest_of(before: Block, block: Block) -> bool:
    if before.kind not in ("paragraph", "list") or block.kind != "paragraph":
        return False
    return is_unfinished(before.markdown) and may_continue(block) and not is_running_line(block)
