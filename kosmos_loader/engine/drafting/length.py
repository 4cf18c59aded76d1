"""How long a draft is worth the width that it takes."""

from __future__ import annotations


class DraftLength:
    """How long the next draft of a sequence should be: 0, 4, 8 or 16 tokens.

    It doubles when half of it was right and halves when less than a quarter of a draft was. Where
    the shortest fails outright it is 0 for a step; then comes a trial, and each trial that fails
    doubles the wait. Doubt is no reason to draft less: while a step is bound by reading the KV
    cache, one more token costs about a thirtieth of it (computed for an H200). So drafts narrower
    than the shortest, by which a drafter shows its own doubts, do not count against it.

    `observe` is to be called for every step, with (0, 0) for one without a draft, or the wait
    never ends.
    """

    SHORTEST = 4

    LONGEST_WAIT = 8
    """Steps without a draft."""

    def __init__(self, *, longest: int = 16) -> None:
        self.longest = longest
        self.limit = longest
        self._wait = 1
        self._rest = 0

    def observe(self, proposed: int, accepted: int) -> None:
        """Learns that `accepted` of `proposed` tokens were right."""
        if proposed <= 0:
            self._rest -= 1
            if self._rest <= 0 and self.limit == 0:
                self._set(self.SHORTEST)
            return
        if accepted > 0:
            self._wait = 1
        if 2 * accepted >= self.limit:
            self._set(2 * self.limit)
        elif 4 * accepted < proposed and proposed >= self._shortest:
            self._shrink(accepted)

    @property
    def _shortest(self) -> int:
        return min(self.SHORTEST, self.longest)

    def _shrink(self, accepted: int) -> None:
        if accepted or self.limit > self._shortest:
            self._set(self.limit // 2)
            return
        self.limit = 0
        self._rest = self._wait
        self._wait = min(self.LONGEST_WAIT, 2 * self._wait)

    def _set(self, limit: int) -> None:
        self.limit = min(self.longest, max(self._shortest, limit))
