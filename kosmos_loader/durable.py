"""Files that are there whole, the old or the new, also after a kill or a power cut."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

_TEMPORARY = ".tmp"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which is synced and becomes `path` when the block ends well."""
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}"
    # as SQLite makes its files: for all to read, unless the umask says otherwise
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path, name: str = "*") -> None:
    """Remove what writers of `name` (a pattern) that were killed left in `folder`.

    Only for who knows that nobody writes there.
    """
    for path in folder.glob(f".{name}.*{_TEMPORARY}"):
        path.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Whether `path` is what `sweep` removes."""
    return path.name.startswith(".") and path.name.endswith(_TEMPORARY)
