"""From a reading to blocks of markdown that know their lines."""

from __future__ import annotations

from kosmos_loader import structure
from kosmos_loader.document import Block, Reading


def compose(reading: Reading) -> list[Block]:
    """The blocks of a page in reading order; none for a page that failed or is blank."""
    if reading.error is not None:
        return []
    return structure.blocks(reading)
