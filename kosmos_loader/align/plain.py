"""Markdown to blocks with plain text, in which every character knows its source.

markdown-it-py parses, and the source is walked once more beside its tokens (`walk`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate

from markdown_it import MarkdownIt
from markdown_it.token import Token

from kosmos_loader.align.walk import Source, Walk

KINDS = {
    "heading_open": "heading",
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "table_open": "table",
    "fence": "code",
    "code_block": "code",
}
"""Kinds of block by the markdown-it token that opens them; all others are paragraphs."""


@dataclass(frozen=True, slots=True)
class PlainBlock:
    """A top-level block of markdown, as it is written and as it is read."""

    kind: str
    """Out of `BLOCK_KINDS`."""

    level: int
    """1..6 for a heading, 0 otherwise."""

    markdown: str
    text: str = ""
    """What a reader of the rendered page reads: no marks, escapes resolved; cells, items and lines
    are parted by line ends."""

    starts: list[int] = field(default_factory=list)
    """For each character of `text`, where what it is written as starts in `markdown`."""

    ends: list[int] = field(default_factory=list)
    """And where it ends: an escape, an entity and a broken pipe are longer than one. What parts
    cells and items stands nowhere, and ends where it starts."""


def plain_blocks(markdown: str) -> list[PlainBlock]:
    """The top-level blocks of `markdown`, in order; nothing but blank lines is left out.

    What markdown has no block for (the definition of a link) is a paragraph. Never raises.
    """
    written = re.sub(r"\r\n?", "\n", markdown)
    # as the parser does with NUL; halves of surrogate pairs it may refuse inside links
    text = re.sub("[\0\ud800-\udfff]", "\ufffd", written)
    lines = text.split("\n")
    source = Source(written, text, lines, [0, *accumulate(len(line) + 1 for line in lines)])
    tokens = _parser().parse(text)
    built: list[PlainBlock] = []
    done = 0
    for run in _top_level(tokens):
        start, end = run[0].map or (done, done)
        built += _block(None, [], source, done, start)
        built += _block(run[0], run, source, start, end)
        done = end
    return [*built, *_block(None, [], source, done, len(lines))]


@cache
def _parser() -> MarkdownIt:
    # without text_join, escapes and entities keep the source that they were written with
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable("text_join")


def _top_level(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The tokens of each block, from the one that opens it on."""
    run: list[Token] = []
    for token in tokens:
        if not token.level and token.nesting >= 0 and token.map:
            if run:
                yield run
            run = []
        run.append(token)
    if run:
        yield run


def _block(
    opening: Token | None, tokens: Sequence[Token], source: Source, first: int, end: int
) -> list[PlainBlock]:
    """The block of lines `first` to `end`; none where they are blank."""
    lines, offsets = source.lines, source.offsets
    while first < end and not lines[first]:
        first += 1
    while first < end and not lines[end - 1]:
        end -= 1
    written = source.written[offsets[first] : offsets[end] - 1] if first < end else ""
    if not written.strip():
        return []
    walk = Walk(source)
    if opening is None:
        walk.take(range(offsets[first], offsets[first] + len(written)), written)
    for token in tokens:
        walk.read(token)
    kind = KINDS.get(opening.type, "paragraph") if opening else "paragraph"
    level = int(opening.tag[1]) if opening and kind == "heading" else 0
    origin = offsets[first]
    return [
        PlainBlock(
            kind,
            level,
            written,
            "".join(walk.text),
            [start - origin for start in walk.starts],
            [end - origin for end in walk.ends],
        )
    ]
