"""Where it is known which pages are in hand, whoever dies: an actor of its own."""

from __future__ import annotations

from collections.abc import Sequence

Key = tuple[str, int]
"""A page: its source and number."""


class Desk:
    """Where workers say which pages they take in hand, so that it is known when they die."""

    def __init__(self) -> None:
        self._tries: dict[Key, int] = {}
        self._drawing: dict[str, int] = {}
        self._is_stopped = False

    def begin(self, pages: Sequence[Key]) -> list[int] | None:
        """How often each was begun before; None where none is to be begun any more.

        Where one of several was, they count as begun only when each is begun alone.
        """
        if self._is_stopped:
            return None
        tries = [self._tries.get(page, 0) for page in pages]
        if len(pages) == 1 or not any(tries):
            self._tries |= {page: n + 1 for page, n in zip(pages, tries, strict=True)}
        return tries

    def arrived(self, page: Key) -> None:
        """What came of it is with the driver."""
        self._tries.pop(page, None)

    def drawing(self, task: str) -> int | None:
        """How often a task that draws was begun before; None where it is not to begin."""
        if self._is_stopped:
            return None
        self._drawing[task] = self._drawing.get(task, -1) + 1
        return self._drawing[task]

    def stop(self) -> list[Key]:
        """Let no further page be begun, and tell which are in hand."""
        self._is_stopped = True
        return list(self._tries)
