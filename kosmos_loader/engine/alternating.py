"""Two engines in turn: while the device runs a step of one, the host does its part for the other.

What is fed next hangs on the tokens that came before, drafts above all, so a step cannot be
scheduled before the step before it was read back. The steps of other pages can:

```
host    begin A   finish B, begin B   finish A, begin A   finish B, begin B
device            A                   B                   A                   B
```

Each half of the pages has a cache of its own, and no token depends on which half a page is in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from kosmos_loader.engine.engine import Engine
from kosmos_loader.engine.request import Request

WORTHWHILE = 2
"""Pages of a half, of which there are two where each can be so large: a step reads all weights,
however few its pages."""


def halves(slots: int, engines: int | None, *, ahead: bool) -> list[int]:
    """`slots` as they are shared out between `engines`, 1 or 2.

    By default (None) there are two where steps are launched `ahead` of the device and each engine
    has a worthwhile share.
    """
    if engines is None:
        engines = 2 if ahead and slots >= 2 * WORTHWHILE else 1
    return [slots] if engines == 1 or slots == 1 else [slots - slots // 2, slots // 2]


class Alternating:
    """An engine made of two, to be used like one: what each launches is read back a turn later."""

    def __init__(self, first: Engine, second: Engine) -> None:
        self.turns = first, second
        """The engine that begins next, and the one that ends next."""

        self._alone: Engine | None = None
        """Goes on by itself until a page of it has ended."""

        for engine in self.turns:
            engine.make_room = partial(self._make_room, engine)

    @property
    def has_work(self) -> bool:
        """Whether any page waits or runs."""
        return any(engine.has_work for engine in self.turns)

    @property
    def is_full(self) -> bool:
        """Whether another page would have to wait."""
        return all(engine.is_full for engine in self.turns)

    def add(self, request: Request) -> None:
        """Takes a page; the engine that has more room gets it."""
        max(self.turns, key=lambda engine: engine.room).add(request)

    def advance(self) -> list[Request]:
        """Begins a step of one engine and ends that of the other; the pages that ended."""
        if self._alone:
            ended = self._alone.advance()
            if ended:
                self._alone = None
            return ended
        coming, going = self.turns
        self.turns = going, coming
        ended = coming.attempt(coming.begin) if coming.has_work else []
        ended += _finished(going)
        if self._alone:
            (other,) = (engine for engine in self.turns if engine is not self._alone)
            ended += _finished(other)
            other.suspend()
        return ended

    def read(self, requests: Iterable[Request]) -> Iterator[Request]:
        """`requests` as they end."""
        for request in requests:
            self.add(request)
            while self.is_full:
                yield from self.advance()
        while self.has_work:
            yield from self.advance()

    def close(self) -> None:
        """Leaves two runners that do nothing any more."""
        for engine in self.turns:
            engine.close()

    def _make_room(self, engine: Engine) -> bool:
        """Has the other engine suspended: a page fails by itself only where it is alone."""
        if self._alone is engine:
            return False
        self._alone = self._alone or engine
        return True


def _finished(engine: Engine) -> list[Request]:
    """What came of the step that `engine` has in flight, if it has one."""
    return engine.attempt(engine.finish) if engine.in_flight else []
