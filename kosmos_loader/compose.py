"""From a reading to blocks of markdown that know their lines."""

from __future__ import annotations

from dataclasses import replace

from kosmos_loader import align, structure
from kosmos_loader.document import Block, Reading, ordered_flags
from kosmos_loader.markup import find_repetition

LEAST_TRUST = 0.5
"""Share of the markdown that must stand in lines for it to be believed more than they are; of the
lines that it must hold, where they were cut off."""


def compose(reading: Reading) -> list[Block]:
    """The blocks of a page in reading order; none for a page that failed or is blank.

    Lines alone are given structure by where they stand. Lines and markdown are joined: structure
    and words of the markdown, boxes of the lines, and what the markdown leaves out as blocks of its
    own. Where the markdown was cut off, loops or mostly stands in no line, it is left aside, and
    the blocks are those of the lines; their flags say why ("truncated", "repetition",
    "disagreement"). Markdown alone gives blocks without boxes, flagged "unplaced".
    """
    if reading.error is not None:
        return []
    if not any(line.text.strip() for line in reading.lines):
        return align.markdown_blocks(reading)
    if not (reading.markdown or "").strip():
        return structure.blocks(reading)
    alignment = align.align(reading)
    is_cut = "truncated" in reading.flags or "repetition" in reading.flags
    # which of the two did not end the reading does not say: the one that lacks more of the other
    if _loops(reading) or (is_cut and alignment.left > alignment.unsupported):
        return structure.blocks(reading)
    if alignment.support >= LEAST_TRUST or (is_cut and alignment.used >= LEAST_TRUST):
        return list(alignment.blocks)
    flags = ordered_flags([*reading.flags, "disagreement"])
    return structure.blocks(replace(reading, flags=flags))


def _loops(reading: Reading) -> bool:
    return "repetition" in reading.flags and find_repetition(reading.markdown or "") is not None
