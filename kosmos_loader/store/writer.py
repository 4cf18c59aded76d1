"""The lock that lets one process at a time write to a store."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from kosmos_loader.errors import StoreError

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class WriterLock:
    """A lock on a file, held from the first write until `release`.

    It falls when its holder dies or is garbage collected: the cell of a notebook that is run again
    drops a store without closing it.

    Each write is a `with` block, which the threads of the holder enter one at a time. The file
    stays: its contents are the holder's process id, for the error that others get.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._process = os.getpid()
        self._turn = threading.RLock()

    @property
    def held(self) -> bool:
        """Whether this process holds the lock through this object."""
        return self._descriptor is not None and self._process == os.getpid()

    def __enter__(self) -> Self:
        """Wait for this thread's turn; `StoreError` where another process or store writes."""
        if self._process != os.getpid():
            self._forget_parent()
        self._turn.acquire()
        try:
            self._acquire()
        except BaseException:
            self._turn.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._turn.release()

    def _acquire(self) -> None:
        if self._descriptor is not None:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise StoreError(
                f"{self._holder()} is writing to the store in {self._path.parent}; "
                "wait until it has finished, or close the store there"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor

    def _forget_parent(self) -> None:
        """In a forked child: close the copy of the lock, which leaves it to the parent."""
        self.release()
        self._process = os.getpid()
        self._turn = threading.RLock()

    def _holder(self) -> str:
        try:
            holder = self._path.read_text()
        except OSError:  # Windows lets nobody read what is locked
            holder = ""
        if holder == str(os.getpid()):
            return "another Store of this process"
        return f"another process ({holder})" if holder.isdecimal() else "another process"

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """Let others write."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
