"""No thread is inside SQLite while the process forks.

SQLite guards what all connections share with locks of its own. A child that is forked while another
thread holds one finds it locked for ever, and hangs where it connects. So threads say when they go
in, and a fork waits for those that are there and lets no other in. It waits no longer than a few
seconds: what takes as long, or waits for the thread that forks, is let be.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 5.0
"""Seconds that a fork waits at most."""


class Gate:
    """Counts the threads that are inside, and can be shut. A thread that is inside may pass again,
    and so may the one that shut it.

    `patience` is how many seconds shutting waits, at most, for those inside.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._anew()

    def _anew(self) -> None:
        # reentrant: the garbage collector or a signal may close a database right in here
        self._changed = threading.Condition(threading.RLock())
        self._inside: dict[int, int] = {}
        self._shut_by: int | None = None

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Inside, unless the gate is shut; then, as soon as it is opened."""
        thread = threading.get_ident()
        with self._changed:
            if thread not in self._inside:
                # what closes a database right in here may do so in the thread that forks, too
                self._changed.wait_for(lambda: self._shut_by in (None, thread))
            self._inside[thread] = self._inside.get(thread, 0) + 1
        try:
            yield
        finally:
            self._leave(thread)

    def _leave(self, thread: int) -> None:
        with self._changed:
            rest = self._inside.pop(thread, 0) - 1  # none in a child of another thread
            if rest > 0:
                self._inside[thread] = rest
            else:
                self._changed.notify_all()

    def shut(self) -> None:
        """Let nobody in, and wait until no other thread is inside."""
        here = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._shut_by in (None, here))  # another thread forks
            self._shut_by = here
            self._changed.wait_for(lambda: not self._inside.keys() - {here}, self._patience)

    def open(self) -> None:
        """Let threads in again."""
        with self._changed:
            self._shut_by = None
            self._changed.notify_all()

    def open_in_child(self) -> None:
        """As `open`, where of all threads only this one is left."""
        here, inside = threading.get_ident(), self._inside
        self._anew()
        self._inside = {here: inside[here]} if here in inside else {}


GATE = Gate()
"""Of all databases of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=GATE.shut, after_in_parent=GATE.open, after_in_child=GATE.open_in_child
    )
