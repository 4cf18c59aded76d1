"""The seam through which pages are drawn and read by other machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from kosmos_loader.archive.kinds import Step
from kosmos_loader.archive.planning import Plan
from kosmos_loader.readers.base import PageReader
from kosmos_loader.store import Store


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done, and for whom."""

    store: Store
    reader: PageReader
    """Its name and version say under which keys readings are kept."""

    files: int
    """How many there are."""

    stopping: Callable[[], bool]
    """Whether no further page is to be begun."""

    password: str | None = field(default=None, repr=False)
    progress: Callable[[Step], None] | None = None


class Elsewhere(Protocol):
    """Reads pages in another place, and keeps what was read in the journal of the store."""

    def read(self, plans: Iterator[Plan], work: Work) -> Iterator[Plan]:
        """The plans of the same files, in any order, each once nothing of it is to be drawn.

        Their `known`, `left` and `fresh` hold what came of the pages. Once `work.stopping()` says
        so, the next step keeps what is in hand and ends.
        """
        ...
