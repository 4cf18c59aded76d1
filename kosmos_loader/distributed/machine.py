"""What a process in the cluster knows of the machine it is on, and of the program it runs."""

from __future__ import annotations

import socket
import sys

from kosmos_loader.document import Failure


def seen_here(error: Exception) -> Failure:
    """`error` with the name of the machine on which it was."""
    failure = Failure.of(error)
    return Failure(failure.type, f"{failure.message} (on {socket.gethostname()})")


def ray_is_not_main() -> None:
    """Processes that are spawned here need not run the program of Ray's workers, as they would."""
    main = sys.modules["__main__"]
    if getattr(main, "__file__", "").endswith("default_worker.py"):
        main.__spec__ = None
        del main.__file__
