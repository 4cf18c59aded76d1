"""The drafts of one sequence: where they come from, how long they are, and when to wait for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kosmos_loader.engine.drafting import DraftLength, MarkdownDrafter, OcrDrafter

if TYPE_CHECKING:
    from kosmos_loader.engine import request


WORTHWHILE = 8
"""Tokens of a draft that are worth a step of their own while more can still be heard."""


class Speculation:
    """Drafts for a sequence, as long as they have been right of late."""

    is_waiting = False
    """Whether the sequence is better fed later than without a draft."""

    def __init__(self, drafter: OcrDrafter) -> None:
        self.drafter = drafter
        self.length = DraftLength()

    def draft(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        """At most `most` tokens that may follow `tokens`."""
        limit = min(most, self.length.limit)
        return self.drafter.propose(tokens, limit) if limit > 0 else ()

    def observe(self, proposed: int, right: int) -> None:
        """Learns that `right` of `proposed` tokens were."""
        self.length.observe(proposed, right)


class Following:
    """Drafts for the markdown of a page, from what its lines say so far.

    It waits for lines to draft from while they are being written: the markdown then comes in a few
    steps that cost hardly more than one token does. Where its drafts fail it does not.
    """

    def __init__(self, drafter: MarkdownDrafter, leader: request.Sequence) -> None:
        self.drafter = drafter
        self.leader = leader
        self.length = DraftLength()

    @property
    def is_waiting(self) -> bool:
        """Whether the leader is still writing and what it writes has been of use."""
        useful = self.length.limit > 0 and not self.drafter.is_lost
        return useful and not self.leader.is_finished

    def draft(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        """At most `most` tokens that may follow `tokens`."""
        limit = min(most, self.length.limit)
        if limit < 1:
            return ()
        self.drafter.hear(self.leader.tokens, ended=self.leader.is_finished)
        draft = self.drafter.propose(tokens, limit)
        return draft if not self.is_waiting or len(draft) >= min(limit, WORTHWHILE) else ()

    def observe(self, proposed: int, right: int) -> None:
        """Learns that `right` of `proposed` tokens were."""
        self.length.observe(proposed, right)
