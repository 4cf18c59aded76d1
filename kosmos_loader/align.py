"""A reader's markdown as blocks.

For now these blocks carry no boxes: joining markdown to the lines it is made of, character by
character, comes with the alignment. Where a reading has lines, its blocks are made from them
(`compose.py`), so that every character keeps its box.
"""

from __future__ import annotations

from markdown_it import MarkdownIt
from markdown_it.token import Token

from kosmos_loader.document import Block, Reading

KINDS = {
    "heading_open": "heading",
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "table_open": "table",
    "fence": "code",
    "code_block": "code",
}
"""Kinds of block by the markdown-it token that opens them; all others are paragraphs."""


def markdown_blocks(reading: Reading) -> list[Block]:
    """The top-level blocks of `reading.markdown` as they are written there, without spans.

    What markdown has no block for (a link definition) is a paragraph: nothing is left out.
    """
    source = (reading.markdown or "").splitlines()
    tokens = MarkdownIt("commonmark").enable("table").parse("\n".join(source))
    pieces: list[tuple[Token | None, int, int]] = []
    done = 0
    for token in tokens:
        if token.level or not token.map or token.nesting < 0:
            continue
        start, end = token.map
        pieces += [(None, done, start), (token, start, end)]
        done = end
    pieces.append((None, done, len(source)))
    written = [(token, "\n".join(source[a:b]).strip("\n")) for token, a, b in pieces]
    return [
        _block(reading, token, markdown, order=order)
        for order, (token, markdown) in enumerate(p for p in written if p[1].strip())
    ]


def _block(reading: Reading, token: Token | None, markdown: str, *, order: int) -> Block:
    return Block(
        page=reading.page,
        kind=KINDS.get(token.type, "paragraph") if token else "paragraph",
        markdown=markdown,
        spans=(),
        level=int(token.tag[1]) if token and token.type == "heading_open" else 0,
        order=order,
        reader=reading.reader,
        reader_version=reading.reader_version,
        flags=reading.flags,
    )
