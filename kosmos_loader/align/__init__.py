"""Markdown and lines of one page joined: blocks whose every character knows its line's box.

A reader that gives both reads a page twice, once with structure and once with places. The markdown
is parsed to plain text in which every character knows its source (`plain`), both texts are folded
to one alphabet (`stream`), each character of the markdown is given a character of a line
(`matching`), and the blocks get spans (`building`).

```
markdown ──plain──▶ text ──stream──▶ ┐
                                     ├─matching──▶ line of each character ──building──▶ blocks
lines ─────────────────────stream──▶ ┘
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kosmos_loader.align.building import Rest, blocks_of, rests, with_rests
from kosmos_loader.align.matching import lines_of, match
from kosmos_loader.align.plain import plain_blocks
from kosmos_loader.align.stream import Indices, Stream, stream
from kosmos_loader.document import Block, Reading, ordered_flags

LEAST_SUPPORT = 0.85
"""Share of the markdown that stands in lines, below which the two readings disagree."""

LEAST_USED = 0.5
"""Share of the lines that the markdown holds, below which the two readings disagree. It is lower
since markdown may leave out what runs along the edges, and small pages are half of that."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """The blocks that markdown and lines make together, and how well the two agree."""

    blocks: tuple[Block, ...]
    """In reading order. Flagged "disagreement" where the page is, and where most of a block of some
    length stands in no line."""

    supported: int
    """Characters of the markdown that stand in a line; marks and white space do not count."""

    unsupported: int
    """Characters of the markdown that stand in none."""

    held: int
    """Characters of the lines that the markdown holds."""

    left: int
    """Characters of the lines that it does not."""

    @property
    def support(self) -> float:
        """Share of the markdown that stands in lines, 0..1; 0 where the markdown says nothing."""
        return self.supported / max(1, self.supported + self.unsupported)

    @property
    def used(self) -> float:
        """Share of the lines that the markdown holds, 0..1."""
        return self.held / max(1, self.held + self.left)

    @property
    def disagrees(self) -> bool:
        """Whether the two readings differ by more than errors and running lines."""
        return self.support < LEAST_SUPPORT or self.used < LEAST_USED


def align(reading: Reading) -> Alignment:
    """The blocks of `reading.markdown`, in which every character has the box of its line.

    Blocks and their order are those of the markdown; each character of the lines is given to one
    character of it at most. A character that no line supports lies in no span. Words of lines that
    the markdown leaves out are blocks of their own: "header" or "footer" where they are all of a
    line above or below the rest, else "other", behind the block that holds what is read before.
    Never raises, whatever the reader wrote.
    """
    plain = plain_blocks(reading.markdown or "")
    numbers = [n for n, line in enumerate(reading.lines) if line.text.strip()]
    texts = [text for block in plain for text in block.text.split("\n")]
    written = stream(texts, formulas=True)
    read = stream([reading.lines[n].text for n in numbers])
    matched = match(written, read)
    lines = lines_of(matched, written, read)
    supported = int(np.count_nonzero(lines >= 0))
    held = int(np.count_nonzero(matched >= 0))
    alignment = Alignment((), supported, len(written) - supported, held, len(read) - held)
    placed = np.concatenate((numbers, [-1])).astype(np.int64)[lines]
    blocks = blocks_of(reading, plain, written, placed)
    rest = rests(reading, read, numbers, matched)
    owners = np.repeat(np.arange(len(plain)), [block.text.count("\n") + 1 for block in plain])
    after = _places(rest, matched, owners[written.owners], read)
    blocks = with_rests(reading, blocks, rest, after)
    flags = {*reading.flags, *(["disagreement"] if alignment.disagrees else [])}
    return replace(alignment, blocks=tuple(_flagged(block, flags) for block in blocks))


def _places(rest: Sequence[Rest], matched: Indices, owners: Indices, read: Stream) -> list[float]:
    """For each of `rest` the block that holds what is read before it, or half before the one that
    holds what is read after it; `owners` are the blocks of the markdown's characters.
    """
    holders = np.full(len(read) + 1, -1, np.int64)
    known = matched >= 0
    holders[matched[known]] = owners[known]
    held = np.nonzero(holders >= 0)[0]
    if not held.size:
        return [-0.5] * len(rest)
    before = np.searchsorted(held, [piece.place for piece in rest]) - 1
    return [
        float(holders[held[at]]) + 0.25 if at >= 0 else float(holders[held[0]]) - 0.5
        for at in before.tolist()
    ]


def markdown_blocks(reading: Reading) -> list[Block]:
    """The blocks of `reading.markdown` without spans, flagged "unplaced", for want of lines."""
    return [
        Block(
            page=reading.page,
            kind=plain.kind,
            markdown=plain.markdown,
            spans=(),
            level=plain.level,
            order=order,
            reader=reading.reader,
            reader_version=reading.reader_version,
            flags=ordered_flags([*reading.flags, "unplaced"]),
        )
        for order, plain in enumerate(plain_blocks(reading.markdown or ""))
    ]


def _flagged(block: Block, flags: set[str]) -> Block:
    return replace(block, flags=ordered_flags({*flags, *block.flags}))
