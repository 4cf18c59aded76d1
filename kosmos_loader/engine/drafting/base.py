"""What a drafter is, and what it must know of a tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kosmos_loader.errors import UsageError

REPLACEMENT = "\ufffd"
"""What bytes that make no whole character are decoded as."""

# How cl100k, the released tokenizer, cuts text before it merges bytes; nothing merges across.
_WORD = re.compile(
    r"'(?:[sdmtSDMT]|ll|LL|ve|VE|re|RE)"
    r"|(?:[^\r\n\w]|_)?[^\W\d_]+"
    r"|\d{1,3}"
    r"| ?(?:[^\s\w]|_)+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)

_REMEMBERED = 100_000
"""Words whose tokens are kept at most."""


class Drafter(Protocol):
    """Guesses what a sequence goes on with."""

    def propose(self, tokens: Sequence[int], limit: int) -> Sequence[int]:
        """At most `limit` tokens that may follow `tokens`, the output so far without its prompt.

        From call to call `tokens` only grows; where it is shorter than before, the output has
        begun anew.
        """
        ...


@dataclass(frozen=True)
class Vocabulary:
    """What drafting must know of a tokenizer."""

    encode: Callable[[str], list[int]]
    """Token ids of a text, without special tokens around it."""

    decode: Callable[[Sequence[int]], str]
    end: int
    bbox: int
    end_bbox: int
    xs: Sequence[int]
    """Id of `<x_i>` at i."""

    ys: Sequence[int]
    """Id of `<y_i>` at i."""

    _sides: tuple[dict[int, int], dict[int, int]] = field(init=False, repr=False, compare=False)
    _texts: dict[int, str] = field(init=False, repr=False, compare=False, default_factory=dict)
    _words: dict[str, list[int]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _is_bytes: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sides = tuple({token: i for i, token in enumerate(ids)} for ids in (self.xs, self.ys))
        object.__setattr__(self, "_sides", sides)
        object.__setattr__(self, "_is_bytes", len(self.encode(" the")) == len(" the"))

    @classmethod
    def of(cls, tokenizer: Any) -> Vocabulary:
        """The vocabulary of a transformers tokenizer; `UsageError` where it lacks the tags."""
        core = tokenizer.backend_tokenizer
        ids = tokenizer.get_vocab()
        if not {"<bbox>", "</bbox>", "<x_0>", "<y_0>"} <= ids.keys():
            raise UsageError(
                "this tokenizer has no <bbox>, <x_0> and <y_0>: use the one saved with the model"
            )
        return cls(
            encode=lambda text: list(core.encode(text, add_special_tokens=False).ids),
            decode=lambda tokens: str(core.decode(list(tokens), skip_special_tokens=False)),
            end=tokenizer.eos_token_id,
            bbox=ids["<bbox>"],
            end_bbox=ids["</bbox>"],
            xs=tuple(_family(ids, "x")),
            ys=tuple(_family(ids, "y")),
        )

    def text(self, token: int) -> str:
        """What `token` stands for; `REPLACEMENT` where it is a part of a character."""
        found = self._texts.get(token)
        if found is None:
            found = self._texts[token] = self.decode([token])
        return found

    def spell(self, text: str) -> list[int]:
        """The tokens of `text`, put together from those of its words.

        Equal to `encode` for tokenizers that cut like cl100k, and for those of single bytes; much
        faster, since pages share most of their words.
        """
        known = self._words
        tokens: list[int] = []
        for word in text if self._is_bytes else _WORD.findall(text):
            spelled = known.get(word)
            if spelled is None:
                if len(known) >= _REMEMBERED:
                    known.clear()
                spelled = known[word] = self.encode(word)
            tokens += spelled
        return tokens

    def side(self, number: int, token: int) -> int | None:
        """The pixel that `token` names as side `number` of a box (x0, y0, x1, y1), if it does."""
        return self._sides[number % 2].get(token)

    def side_token(self, number: int, pixel: int) -> int | None:
        """The token of `pixel` as side `number` of a box, None where there is none."""
        ids = self.ys if number % 2 else self.xs
        return ids[pixel] if 0 <= pixel < len(ids) else None


def _family(ids: dict[str, int], axis: str) -> Iterator[int]:
    i = 0
    while (token := ids.get(f"<{axis}_{i}>")) is not None:
        yield token
        i += 1


class Detokenizer:
    """Turns tokens into text as they come; a character cut in two waits for its other bytes."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._waiting: list[int] = []

    def read(self, tokens: Sequence[int]) -> str:
        """The text that `tokens` complete."""
        text = "".join(map(self.vocabulary.text, tokens))
        if not self._waiting and REPLACEMENT not in text:
            return text
        waiting = [*self._waiting, *tokens]
        text = self.vocabulary.decode(waiting)
        # no character has more than four bytes, so the last three tokens at most are incomplete
        cut = len(waiting)
        while text.endswith(REPLACEMENT) and len(waiting) - cut < 3 and cut > 0:
            cut -= 1
            text = self.vocabulary.decode(waiting[:cut])
        if text.endswith(REPLACEMENT):
            cut = len(waiting)
            text = self.vocabulary.decode(waiting)
        self._waiting = waiting[cut:]
        return text
