"""Starting processes that leave Ctrl-C to the one that started them."""

from __future__ import annotations

import signal
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess


def start(process: BaseProcess) -> None:
    """Start `process`, deaf to SIGINT from its first moment.

    A terminal sends Ctrl-C to all processes at once; one that still imports its modules would end
    with a traceback, and the page in its hands with it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        process.start()
        return
    resource_tracker.ensure_running()  # which would clear the mask as it starts
    # a mask is handed down, and any thread may set its own; a handler is the main thread's to set
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
