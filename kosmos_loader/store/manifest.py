"""`manifest.json`: what a store is, for people and for checking `index.faiss` before use.

SQLite holds the truth; a manifest that is missing, damaged or another store's is written anew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from kosmos_loader.durable import replacing

NAME = "manifest.json"
FORMAT = "kosmos-loader store"


@dataclass(frozen=True, slots=True)
class IndexFile:
    """What `index.faiss` held when it was written."""

    generation: int
    count: int
    bytes: int
    blake2b: str
    """Hex digest (256 bits) of the file."""

    lists: int = 0
    """Of an inverted index; 0 for a flat one."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of `manifest.json`."""

    store: str
    """Random id of the store: ties manifest and index to their database."""

    schema: int
    dim: int
    metric: str
    embedder: str
    generation: int
    """Of the database when the manifest was written; each change of chunks is one more."""

    chunks: int
    index: IndexFile | None = None

    def write(self, folder: Path) -> None:
        """Replace the manifest in `folder` at once, so that a reader sees the old or the new."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=2, ensure_ascii=False)
        with replacing(folder / NAME) as path:
            path.write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> Manifest | None:
    """The manifest in `folder`, None where there is none that can be understood."""
    try:
        data = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if data.pop("format") != FORMAT:
            return None
        index = data.pop("index")
        manifest = Manifest(**data, index=IndexFile(**index) if index is not None else None)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    numbers = [manifest.schema, manifest.dim, manifest.generation, manifest.chunks]
    if manifest.index is not None:
        file = manifest.index
        numbers += [file.generation, file.count, file.bytes, file.lists]
    return manifest if all(type(n) is int and n >= 0 for n in numbers) else None


def digest(path: Path) -> str:
    """Hex digest (256 bits) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
