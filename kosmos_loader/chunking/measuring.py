"""How large a text is: in characters, or in what a callable or a tokenizer counts."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

from kosmos_loader.checks import check_whole
from kosmos_loader.errors import UsageError

MAX_SPANS = 100
"""Spans of one chunk: with more, its metadata would not stay under 10 KB."""


@runtime_checkable
class Tokenizer(Protocol):
    """What `transformers`, `tokenizers`, tiktoken and SentencePiece call a tokenizer."""

    def encode(self, text: str, /) -> Any:
        """The tokens of `text`: a list, or an object that holds them as `ids`."""


Length = Callable[[str], int | Sized] | Tokenizer
"""What counts: a callable from a text to a number, or to its tokens; or a tokenizer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a chunk and what stands around it may be."""

    size: int
    overlap: int
    heading_size: int | None
    measure: Callable[[str], int]

    @classmethod
    def of(cls, size: int, overlap: int, heading_size: int | None, length: Length) -> Limits:
        """From the arguments of `chunk`. Raises `UsageError`."""
        for name, value in (("the chunk size", size), ("the overlap", overlap)):
            check_whole(value, name)
        if heading_size is not None:
            check_whole(heading_size, "the heading size")
        if size < 1:
            raise UsageError(f"a chunk size of {size} holds nothing; give 1 or more")
        if not 0 <= overlap <= size // 2:
            raise UsageError(
                f"an overlap of {overlap} is not between 0 and half of the size {size}"
            )
        if heading_size is not None and heading_size < 0:
            raise UsageError(f"a heading size of {heading_size} cannot be meant; give 0 or more")
        measure = measure_of(length)
        if (least := measure("a")) > size:
            raise UsageError(
                f"a chunk size of {size} does not hold one letter, which alone counts {least} "
                "(with what the tokenizer puts around every text); give more"
            )
        return cls(size, overlap, heading_size, measure)

    def holds(self, text: str, spans: int) -> bool:
        """Whether a chunk may be `text` with so many spans."""
        return spans <= MAX_SPANS and self.measure(text) <= self.size


def measure_of(length: Length) -> Callable[[str], int]:
    """`length` as a function from a text to a number. Raises `UsageError` where it counts nothing.

    Of a tokenizer, the tokens that it puts around every text count too, since they take room in a
    model; truncation and padding, which would hide what a text needs, are left out.
    """
    if length is len:
        return len
    counter = _counter(length)

    def measure(text: str) -> int:
        return _count(counter(text))

    _check(counter("a"), length)
    return measure


def _counter(length: Length) -> Callable[[str], Any]:
    if isinstance(length, str) or not (callable(length) or isinstance(length, Tokenizer)):
        raise UsageError(f"{length!r} counts nothing; give a callable or a tokenizer")
    if not isinstance(length, Tokenizer):
        return length
    tokenizer: Any = length
    encode: Callable[[str], Any]
    if hasattr(tokenizer, "no_truncation"):  # tokenizers.Tokenizer, which keeps both as its state
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        encode = tokenizer.encode
    elif hasattr(tokenizer, "model_max_length"):  # transformers; it warns but for verbose=False
        encode = partial(tokenizer.encode, truncation=False, padding=False, verbose=False)
    else:
        # tiktoken refuses a text that holds one of its special tokens; a page may hold anything
        encode = getattr(tokenizer, "encode_ordinary", tokenizer.encode)
    return encode


def _check(counted: Any, length: Length) -> None:
    """Refuse what counts nothing, and an embedding model, whose vector is as long for any text."""
    try:
        count = _count(counted)
    except TypeError as error:
        raise UsageError(f"{length!r} counts nothing: it gives {counted!r} for 'a'") from error
    if count < 0 or "float" in str(getattr(counted, "dtype", "")):
        raise UsageError(f"{length!r} gives no tokens for a text; give the tokenizer itself")


def _count(counted: Any) -> int:
    if isinstance(counted, Mapping):  # what calling a transformers tokenizer gives
        counted = counted["input_ids"]
    if hasattr(counted, "ids"):
        counted = counted.ids
    return len(counted) if isinstance(counted, Sized) else operator.index(counted)
