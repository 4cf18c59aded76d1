"""How much of a run is done, in whatever order its pages come."""

from __future__ import annotations

from kosmos_loader.archive.kinds import Step


class FilesDone:
    """Files that are done, and the shares of those under way, counted from the steps of a run.

    Other machines read pages in any order, so that the furthest file says little. Nothing is kept
    of a file that is done.
    """

    def __init__(self) -> None:
        self.whole = 0
        """Files of which every page that is asked for was told of."""

        self._begun: dict[int, tuple[int, int]] = {}
        """By the place of a file under way: pages told of, and pages asked for."""

    def take(self, step: Step) -> None:
        """A page is done."""
        told, asked = self._begun.pop(step.file, (0, step.count - step.left_out))
        if step.page == 0 or told + 1 >= asked:
            self.whole += 1
        else:
            self._begun[step.file] = told + 1, asked

    @property
    def with_shares(self) -> float:
        """The same, with the share of each file under way."""
        return self.whole + sum(told / asked for told, asked in self._begun.values())
