"""Texts as two readings of the same page can be compared: one alphabet, no white space.

What readings differ in without saying anything different is folded away: case, accents, ligatures,
kinds of dashes, quotes and spaces, bullets, and in formulas the commands and braces. Each folded
character knows the character it comes from.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

_DASHES = "\u00ac\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\ufe58\ufe63\uff0d"
_QUOTES = (
    '"`\u00b4\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a\u2032\u2033'
)
_BULLETS = "\u2022\u00b7\u25cf\u25aa\u25a0\u25a1\u25e6\u2023\u2219"
_SAME = {
    **dict.fromkeys(_DASHES, "-"),
    **dict.fromkeys(_QUOTES, "'"),
    **dict.fromkeys(_BULLETS, ""),
    "\u00d7": "x",
    "\u2044": "/",
}

_UNSEEN = ("Cc", "Cf", "Zs", "Zl", "Zp")
"""Control and format characters (the soft hyphen is one), and separators."""

_FORMULA = re.compile(r"\$[^$\n]{1,400}\$")
_IS_FORMULA = re.compile(r"\\[A-Za-z]|[\^_{]")
_COMMAND = re.compile(r"\\[A-Za-z]+|[$\\{}^_&]")


@dataclass(frozen=True, slots=True)
class Stream:
    """Texts one after the other, folded, without what says nothing."""

    text: str
    """The folded characters."""

    codes: NDArray[np.uint32]
    """`text` as code points."""

    places: Indices
    """Which character of the texts, joined by one character each, a folded one comes from."""

    owners: Indices
    """Which of the texts it comes from."""

    borders: Indices
    """Where the folded characters of each text start, and last, where they end."""

    words: Indices
    """A number for each folded character that changes where white space parts them."""

    def __len__(self) -> int:
        return len(self.text)


def stream(texts: Sequence[str], *, formulas: bool = False) -> Stream:
    """The stream of `texts`; `formulas` says that they may hold TeX between dollar signs."""
    joined = "\n".join(texts)
    folded, places = _folded(joined)
    if formulas and "$" in joined:
        folded, places = _without_commands(joined, folded, places)
    starts = np.fromiter(accumulate((len(t) + 1 for t in texts), initial=0), np.int64)
    borders = np.searchsorted(places, starts)
    owners = np.repeat(np.arange(len(texts)), np.diff(borders))
    codes = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), np.uint32)
    return Stream(folded, codes, places, owners, borders, _words(joined, places))


def _folded(text: str) -> tuple[str, Indices]:
    if text.isascii():
        codes = np.frombuffer(text.lower().replace('"', "'").replace("`", "'").encode(), np.uint8)
        [places] = np.nonzero(codes > ord(" "))
        return codes[places].tobytes().decode(), places
    pieces = [fold(character) for character in text]
    lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
    return "".join(pieces), np.repeat(np.arange(len(pieces)), lengths)


@cache
def fold(character: str) -> str:
    """What `character` is compared as: nothing, one character, or several (ligatures)."""
    same = _SAME.get(character)
    if same is not None:
        return same
    if unicodedata.combining(character) or unicodedata.category(character) in _UNSEEN:
        return ""
    parts = unicodedata.normalize("NFKD", character).casefold()
    folded = "".join(
        _SAME.get(part, part)
        for part in parts
        if not unicodedata.combining(part) and unicodedata.category(part) not in _UNSEEN
    )
    return folded or character  # an accent that stands by itself


def _without_commands(text: str, folded: str, places: Indices) -> tuple[str, Indices]:
    said = np.ones(len(text), bool)
    for formula in _FORMULA.finditer(text):
        if not _IS_FORMULA.search(formula.group()):
            continue  # two amounts of money
        for command in _COMMAND.finditer(text, *formula.span()):
            said[slice(*command.span())] = False
    kept = said[places]
    return "".join(np.array(list(folded))[kept]), places[kept]


def _words(text: str, places: Indices) -> Indices:
    if text.isascii():
        blank = np.frombuffer(text.encode(), np.uint8) <= ord(" ")
    else:
        blank = np.fromiter(map(str.isspace, text), bool, len(text))
    return np.cumsum(blank, dtype=np.int64)[places]


def stretches(flags: NDArray[np.bool_], begin: int = 0) -> list[tuple[int, int]]:
    """Where flags are set in a row, from `begin` on: start and end of each stretch."""
    edges = np.diff(flags[begin:].astype(np.int8), prepend=0, append=0)
    starts, ends = np.nonzero(edges == 1)[0] + begin, np.nonzero(edges == -1)[0] + begin
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
