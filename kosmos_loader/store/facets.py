"""Which entries can hold a value under a key of their metadata: the index behind filters.

Each key and value that stand in an entry's metadata side by side become one word of an FTS5 index
(`facets`). The word is a checksum, so two pairs may share one, and only the metadata themselves say
what an entry holds: a filter looks up here which it has to look at.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

FACETS = "metadata_facets"
"""The SQL function that the database gives for `facets`."""

_UNASKED = frozenset(("bbox", "chunk_id", "doc_id", "source"))
"""Metadata that has a column, or that no filter asks for."""

_LONG = 200
"""Characters of a text that is too long to be asked for."""

_EXACT = 2**53
"""Whole numbers up to which a float is the number that was meant."""


def facet(key: str, value: Any) -> str | None:
    """The word for `key` with `value`; None for what is not indexed.

    Values that a filter takes for equal have the same word: 3 and 3.0.
    """
    if isinstance(value, str):
        kind, shown = "s", value
    elif isinstance(value, bool):
        kind, shown = "b", str(value)
    elif isinstance(value, int | float) and abs(value) < _EXACT:
        # What SQLite reads from the text of a float may differ in the last digit.
        whole = round(value)
        if abs(value - whole) > 1e-6:
            return None
        kind, shown = "n", str(whole)
    else:
        return None
    if key in _UNASKED or len(shown) > _LONG:
        return None
    return f"{zlib.crc32((key + kind + shown).encode(errors='surrogatepass')):08x}"


# Of a key that is there twice SQLite takes one and Python the other: all are given.
_pairs = json.JSONDecoder(object_pairs_hook=list).decode


def facets(metadata: Any) -> str:
    """The words of an entry's metadata as they are kept (JSON); none for what is damaged."""
    try:
        words = {facet(key, value) for key, value in _pairs(metadata)}
    except (ValueError, TypeError, RecursionError):
        return ""
    return " ".join(word for word in words if word)
