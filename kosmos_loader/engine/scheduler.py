"""Which pages are in the cache and what is fed next: counts, queues and tokens, no tensors."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kosmos_loader.engine.decoding import accepted, loop_seen
from kosmos_loader.engine.request import END, LENGTH, LOOP, Feed, Request, Step
from kosmos_loader.engine.request import Sequence as TaskSequence

log = logging.getLogger(__name__)

REPLAYED = 64
"""Tokens at a time of a sequence that lost its place and is fed what it had written."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How the engine uses what it knows; all modes give the same tokens."""

    name: str
    together: bool
    """The sequences of a page share a row of the cache, so that the picture's part is read once
    for both; else each has a row of its own."""

    drafts: bool


MODES = {
    mode.name: mode
    for mode in (
        Mode("plain", together=False, drafts=False),
        Mode("shared", together=True, drafts=False),
        Mode("draft", together=False, drafts=True),
        Mode("joint", together=True, drafts=True),
    )
}


class Scheduler:
    """Continuous batching: a page that ends gives its slot to the next at once.

    `slots` pages are read side by side; `end` is the token that ends a sequence; at most `width`
    tokens are fed in a step, which cuts drafts and never a sequence.
    """

    def __init__(
        self,
        *,
        slots: int,
        end: int,
        mode: Mode,
        width: int = 4096,
        decode: Callable[[Sequence[int]], str] | None = None,
    ) -> None:
        self.slots = slots
        self.end = end
        self.mode = mode
        self.width = width
        self.decode = decode
        self.waiting: deque[Request] = deque()
        self.running: dict[int, Request] = {}
        """By slot."""

    def add(self, request: Request) -> None:
        """Puts a page at the end of the queue."""
        self.waiting.append(request)

    @property
    def has_work(self) -> bool:
        """Whether any page waits or runs."""
        return bool(self.waiting or self.running)

    @property
    def in_hand(self) -> int:
        """How many pages wait or run."""
        return len(self.waiting) + len(self.running)

    def schedule(self) -> Step:
        """What to do next: pages for the free slots, then tokens for every page."""
        admitted = self._admit()
        moves = self._close_gaps()
        feeds: list[Feed] = []
        spare = self.width - sum(len(r.sequences) for r in self.running.values())
        for slot in sorted(self.running):
            for feed in self._feeds(self.running[slot], max(0, spare)):
                spare -= len(feed.tokens) - 1
                feeds.append(feed)
        return Step(moves, admitted, tuple(feeds))

    def _admit(self) -> tuple[Request, ...]:
        free = [slot for slot in range(self.slots) if slot not in self.running]
        admitted = []
        for slot in free[: len(self.waiting)]:
            request = self.waiting.popleft()
            request.slot = slot
            self.running[slot] = request
            admitted.append(request)
        return tuple(admitted)

    def _close_gaps(self) -> tuple[tuple[int, int], ...]:
        """Moves the last pages into free slots before them, so that the used ones are the first."""
        moves = []
        for slot in range(len(self.running)):
            if slot not in self.running:
                last = max(self.running)
                request = self.running.pop(last)
                request.slot = slot
                self.running[slot] = request
                moves.append((last, slot))
        return tuple(moves)

    def _feeds(self, request: Request, spare: int) -> list[Feed]:
        feeds = []
        for number, sequence in enumerate(request.sequences):
            if sequence.is_finished:
                continue
            draft = self._draft(sequence, spare)
            if not draft and self._waits(sequence):
                continue
            together = self.mode.together
            row = request.slot if together else request.slot * len(request.sequences) + number
            tag = number + 1 if together else 1
            feeds.append(Feed(request, sequence, row, tag, (sequence.last, *draft)))
            spare -= len(draft)
        return feeds

    def _draft(self, sequence: TaskSequence, spare: int) -> Sequence[int]:
        most = min(spare, sequence.room - 1)
        if most < 1:
            return ()
        written = len(sequence.tokens)
        if sequence.known[:written] == sequence.tokens and len(sequence.known) > written:
            return sequence.known[written : written + min(most, REPLAYED)]
        if not self.mode.drafts or sequence.speculation is None:
            return ()
        try:
            return sequence.speculation.draft(sequence.tokens, most)
        except Exception as error:  # noqa: BLE001 - drafts change no token, nor does their lack
            log.warning("no more drafts for a page (%s: %s)", type(error).__name__, error)
            sequence.speculation = None
            return ()

    def _waits(self, sequence: TaskSequence) -> bool:
        """Whether a sequence without a draft is better fed later."""
        speculation = sequence.speculation
        return self.mode.drafts and speculation is not None and speculation.is_waiting

    def postprocess(self, step: Step, predictions: Sequence[Sequence[int]]) -> list[int]:
        """Takes what the model predicts after each fed token; how many of each feed's to keep."""
        return [
            self._take(feed, predicted)
            for feed, predicted in zip(step.feeds, predictions, strict=True)
        ]

    def _take(self, feed: Feed, predicted: Sequence[int]) -> int:
        sequence = feed.sequence
        draft = feed.tokens[1:]
        found = accepted(draft, predicted)[: sequence.room]
        kept = len(found)
        sequence.steps += 1
        if sequence.speculation is not None:
            sequence.speculation.observe(len(draft), kept - 1)
        if self.end in found:
            found = found[: found.index(self.end)]
            sequence.finish = END
        sequence.tokens += found
        loop = loop_seen(sequence.tokens, len(found), self.decode)
        if loop is not None:
            # what a draft brought behind it, and be it the end, comes too late
            del sequence.tokens[loop:]
            sequence.finish = LOOP
        elif sequence.finish is None and sequence.room <= 0:
            sequence.finish = LENGTH
        return kept

    def collect(self) -> list[Request]:
        """The pages whose sequences have all ended; they leave their slots."""
        ended = [request for request in self.running.values() if request.is_finished]
        for request in ended:
            del self.running[request.slot]
        return ended

    def shrink(self) -> bool:
        """Halves the slots and sends all pages back to the queue; False where one slot is left.

        Nothing is lost: what a sequence had written comes back as drafts.
        """
        if self.slots == 1:
            return False
        self.slots //= 2
        self.give_back()
        return True

    def give_back(self) -> None:
        """Sends the running pages back to the front of the queue, in their order."""
        for slot in sorted(self.running, reverse=True):
            request = self.running.pop(slot)
            request.slot = -1
            for sequence in request.sequences:
                sequence.rewind()
            self.waiting.appendleft(request)

    def fail(self, error: Exception) -> list[Request]:
        """Ends the running pages with `error`."""
        failed = list(self.running.values())
        for request in failed:
            request.failure = error
        self.running.clear()
        return failed
