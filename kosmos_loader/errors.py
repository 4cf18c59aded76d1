"""The one exception tree. Every error says what to do next and carries an exit code.

```
KosmosLoaderError                  1
├── UsageError                     2   an argument that cannot be meant
├── SourceError                        a file that cannot be turned into pages
│   ├── SourceNotFound             3   not_found
│   ├── UnsupportedFile            4   unsupported
│   ├── EncryptedFile              5   encrypted
│   ├── CorruptFile                6   corrupt
│   ├── EmptyFile                  7   empty
│   └── FileTooLarge               8   too_large
├── ReadingError                   9   reading
│   ├── PageTimeout               18   timeout
│   └── ProcessDied               19   process_died
├── MissingExtra                  10   missing_extra (an ImportError too)
├── ModelError                    11   model
├── StoreError                    12   store
│   ├── StoreNotFound             13   store_not_found
│   ├── StoreMismatch             14   store_mismatch
│   └── StoreCorrupt              15   store_corrupt
├── ChatError                     16   chat
├── ClusterError                  21   cluster
├── SomeFailed                    17   some_failed: part of the work was done
└── AllFailed                     20   all_failed: several files, and none was done
```

Foreign errors (Pillow, pdfium, torch, faiss, sqlite, openai) are translated at one door each:
`pdf.py` and `raster.py`, `readers/`, `store/`, `answering/`; Ray's in `distributed/`. A page that
fails travels on as a `Failure` inside its `Page` or `Reading`, so that it never takes its
neighbours along.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import ClassVar


class KosmosLoaderError(Exception):
    """Anything this package raises on purpose."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "error"


class UsageError(KosmosLoaderError, ValueError):
    """An argument that cannot be meant: a page range that is none, a reader that does not exist."""

    exit_code = 2
    kind = "usage"


class SourceError(KosmosLoaderError):
    """A file that cannot be turned into pages."""

    exit_code = 6
    kind = "source"


class SourceNotFound(SourceError):
    """No file at this path, or a folder or pattern that holds none."""

    exit_code = 3
    kind = "not_found"


class UnsupportedFile(SourceError):
    """A file of a kind that this package does not read."""

    exit_code = 4
    kind = "unsupported"


class EncryptedFile(SourceError):
    """A file that opens with a password only, and the password given (if any) is not it."""

    exit_code = 5
    kind = "encrypted"


class CorruptFile(SourceError):
    """A file of a known kind whose contents cannot be decoded."""

    exit_code = 6
    kind = "corrupt"


class EmptyFile(SourceError):
    """A file without a byte or a document without a page."""

    exit_code = 7
    kind = "empty"


class FileTooLarge(SourceError):
    """An image that declares more pixels than may be held in memory."""

    exit_code = 8
    kind = "too_large"


class ReadingError(KosmosLoaderError):
    """A reader that failed on a page."""

    exit_code = 9
    kind = "reading"


class PageTimeout(ReadingError):
    """A page that took longer than a page may; the process that read it was ended."""

    exit_code = 18
    kind = "timeout"


class ProcessDied(ReadingError):
    """A page at which the process that read it ended: out of memory, or a crash in a library."""

    exit_code = 19
    kind = "process_died"


class MissingExtra(KosmosLoaderError, ImportError):
    """A library that an optional part needs is not installed; the message names the extra."""

    exit_code = 10
    kind = "missing_extra"


class ModelError(KosmosLoaderError):
    """Model weights that are not there or do not fit."""

    exit_code = 11
    kind = "model"


class StoreError(KosmosLoaderError):
    """A store that cannot do what was asked."""

    exit_code = 12
    kind = "store"


class StoreNotFound(StoreError):
    """No store in this folder."""

    exit_code = 13
    kind = "store_not_found"


class StoreMismatch(StoreError):
    """A store made with another embedder, dimension or schema than the one at hand."""

    exit_code = 14
    kind = "store_mismatch"


class StoreCorrupt(StoreError):
    """A store whose database is damaged beyond what can be rebuilt."""

    exit_code = 15
    kind = "store_corrupt"


class ChatError(KosmosLoaderError):
    """A chat model that does not answer."""

    exit_code = 16
    kind = "chat"


class ClusterError(KosmosLoaderError):
    """A Ray cluster that is not there, does not fit or broke off; what was read is kept."""

    exit_code = 21
    kind = "cluster"


class SomeFailed(KosmosLoaderError):
    """Part of the work was done and part of it failed; the message names what failed."""

    exit_code = 17
    kind = "some_failed"


class AllFailed(KosmosLoaderError):
    """Of several files or pages none could be done; the message names what failed."""

    exit_code = 20
    kind = "all_failed"


def require(module: str, *, extra: str) -> ModuleType:
    """The imported `module`, or `MissingExtra` naming the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"{module} could not be imported ({error}); install it with: "
            f"pip install 'kosmos-loader[{extra}]'"
        ) from error
