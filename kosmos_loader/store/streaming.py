"""A flat index written straight from SQLite to its file: an archive that grows is held nowhere.

Whoever adds and never searches needs no index in memory, which would be 4 KB for each vector of
1,024 numbers. The layout is that of FAISS (`impl/index_write.cpp`): an `IndexIDMap`'s header, its
`IndexFlatIP` with the vectors one after the other, then the keys. It is compared with what the
FAISS that is installed writes before it is relied on.
"""

from __future__ import annotations

import struct
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from kosmos_loader.store import vectors
from kosmos_loader.store.database import Database
from kosmos_loader.store.kinds import Flat

_BATCH = 128
"""Vectors that are held at a time: 0.5 MB of 1,024 numbers each."""

_HEADER = struct.Struct("<4siqqqBi")
"""Kind, numbers in a vector, vectors, two of no meaning, whether it is trained, the metric."""

_COUNT = struct.Struct("<Q")
_FILLER = 1 << 20
_INNER_PRODUCT = 0


@cache
def is_known() -> bool:
    """Whether the FAISS that is installed writes files as this module does."""
    one = Flat.empty(2)
    one.add(np.array([3], np.int64), np.array([[0.0, 1.0]], np.float32))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index")
        one.write(path)
        theirs = path.read_bytes()
    return theirs == _head(2, 1) + struct.pack("<2f", 0, 1) + _COUNT.pack(1) + struct.pack("<q", 3)


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
