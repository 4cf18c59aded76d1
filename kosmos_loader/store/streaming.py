"""A flat index written straight from SQLite to its file: an archive that grows is held nowhere.

Whoever adds and never searches needs no index in memory, which would be 4 KB for each vector of
1,024 numbers, and not even FAISS, which takes 12 MB. The layout is that of FAISS
(`impl/index_write.cpp`): an `IndexIDMap`'s header, its `IndexFlatIP` with the vectors one after the
other, then the keys. FAISS goes on reading what its older versions wrote; were it to refuse this,
the first search would make the index anew.
"""

from __future__ import annotations

import struct
from pathlib import Path

from kosmos_loader.store import vectors
from kosmos_loader.store.database import Database

_BATCH = 128
"""Vectors that are held at a time: 0.5 MB of 1,024 numbers each."""

_HEADER = struct.Struct("<4siqqqBi")
"""Kind, numbers in a vector, vectors, two of no meaning, whether it is trained, the metric."""

_COUNT = struct.Struct("<Q")
_FILLER = 1 << 20
_INNER_PRODUCT = 0


def write_flat(database: Database, path: Path, *, count: int) -> None:
    """Write the `count` vectors of `database` to a file, as `Flat.write` would."""
    keys = []
    with path.open("wb") as file:
        file.write(_head(database.meta.dim, count))
        for some, rows in vectors.everything(database, batch=_BATCH):
            keys.append(some)
            file.write(rows.tobytes())
        file.write(_COUNT.pack(count))
        for some in keys:
            file.write(some.astype("<i8").tobytes())


def _head(dim: int, count: int) -> bytes:
    told = dim, count, _FILLER, _FILLER, True, _INNER_PRODUCT
    return _HEADER.pack(b"IxMp", *told) + _HEADER.pack(b"IxFI", *told) + _COUNT.pack(dim * count)
