"""What stands before and after an entry in its document."""

from __future__ import annotations

import sqlite3

_IN_ORDER = (
    " ORDER BY json_extract(metadata, '$.page'), json_extract(metadata, '$.order'), entries.key"
)


def keys_around(connection: sqlite3.Connection, name: str, before: int, after: int) -> list[int]:
    """The keys of so many entries before and after the one with id `name`, and its own.

    They are those of its document (its file, where no document is known) by page, by order on the
    page, and where these are not known as they were added. Empty where there is no such id.
    """
    row = connection.execute(
        "SELECT key, doc_id, source FROM entries WHERE id = ?", (name,)
    ).fetchone()
    if row is None:
        return []
    here, doc_id, source = row
    if not (before or after):
        return [here]
    if doc_id:
        same, values = "doc_id = ?", (doc_id,)
    elif source:
        same, values = "source = ? AND doc_id = ''", (source,)
    else:
        return [here]
    sql = f"SELECT key FROM entries WHERE {same}{_IN_ORDER}"  # noqa: S608 - fixed words only
    keys = [key for (key,) in connection.execute(sql, values)]
    place = keys.index(here)
    return keys[max(0, place - before) : place + after + 1]
