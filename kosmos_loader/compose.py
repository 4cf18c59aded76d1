"""From a reading to blocks of markdown that know their lines."""

from __future__ import annotations

from kosmos_loader import align, structure
from kosmos_loader.document import Block, Reading


def compose(reading: Reading) -> list[Block]:
    """The blocks of a page in reading order; none for a page that failed or is blank.

    Lines make the blocks where there are any, so that every character has its box; a reading of
    markdown alone gives blocks without boxes.
    """
    if reading.error is not None:
        return []
    if reading.lines:
        return structure.blocks(reading)
    return align.markdown_blocks(reading)
