"""A page on its way through the engine: its sequences, what each has written, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kosmos_loader.engine.speculation import Following, Speculation

END, LENGTH, LOOP = "end", "length", "loop"
"""Why a sequence ended: the model's end token, its limit, or a passage over and over."""


@dataclass(eq=False, slots=True)
class Sequence:
    """What the model writes for one task on one page."""

    task: str
    """"ocr" or "md"."""

    prompt: int
    """The token that asks for the task, behind the prefix of the page."""

    limit: int
    """Tokens it may write at most."""

    tokens: list[int] = field(default_factory=list)
    """What it has written, without the end token."""

    finish: str | None = None
    """END, LENGTH or LOOP, None while it goes on."""

    speculation: Speculation | Following | None = None
    """Where its drafts come from, None for none."""

    known: list[int] = field(default_factory=list)
    """What it had written before its place in the cache was lost; drafts like any others."""

    steps: int = 0
    """Forward passes it took part in."""

    @property
    def is_finished(self) -> bool:
        """Whether it has ended."""
        return self.finish is not None

    @property
    def last(self) -> int:
        """The token to be fed next: all before it are in the cache."""
        return self.tokens[-1] if self.tokens else self.prompt

    @property
    def room(self) -> int:
        """Tokens it may still write."""
        return self.limit - len(self.tokens)

    def rewind(self) -> None:
        """Begins anew; what was written comes back as drafts."""
        if self.is_finished:
            return
        if len(self.tokens) > len(self.known):
            self.known = self.tokens
        self.tokens = []


@dataclass(eq=False, slots=True)
class Request:
    """One page and the sequences that are asked of it."""

    key: Any
    """The caller's name for it."""

    patches: Any
    """What the runner encodes: an `engine.patches.Patches`."""

    sequences: tuple[Sequence, ...]
    slot: int = -1
    """Its place in the cache, -1 while it waits."""

    failure: Exception | None = None

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.failure is not None or all(s.is_finished for s in self.sequences)


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens of one sequence for one forward pass: the last one written and a draft of the next."""

    request: Request
    sequence: Sequence
    row: int
    """The row of the cache that holds its keys and values."""

    tag: int
    """Which of the row's sequences it is, from 1; keys of other tags are hidden from it."""

    tokens: tuple[int, ...]

    @property
    def place(self) -> int:
        """Tokens of the sequence, its prompt among them, before the first that is fed."""
        return len(self.sequence.tokens)


@dataclass(frozen=True, slots=True)
class Step:
    """What the runner is to do at once."""

    moves: tuple[tuple[int, int], ...]
    """Slots whose page goes to another slot, from and to."""

    admitted: tuple[Request, ...]
    """Pages to encode and to put into their slots."""

    feeds: tuple[Feed, ...]
