"""Whether the text that a page already has is worth keeping, where no confidence says so.

Two measures, each 0..1. `plausibility` is the share of characters that stand in words which look
like words or numbers: OCR that failed yields stray letters, capitals inside words, digits among
letters and strings of marks. `coverage` is the share of the page's ink that stands in lines: a
stamp or a caption alone is no reading of a page.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import numpy as np

from kosmos_loader.document import Line, Page
from kosmos_loader.readers.blank import ink

WORD = re.compile(r"[^\W\d_]+(?:['’·][^\W\d_]+)*")
NUMBER = re.compile(r"\d+(?:[.,:/'’–-]\d+)*(?:st|nd|rd|th|[a-z]{1,2})?", re.IGNORECASE)
CODE = re.compile(r"(?:[^\W\d_]{1,6}[-./]?\d+|\d+[-./]?[^\W\d_]{1,6})(?:[-./]?\w+)?")
JOINTS = re.compile(r"[-–./@:_()]+")
"""What joins words and numbers to one: in compounds, addresses and file names."""

ALONE = frozenset("aAIiOoeyàèéuU&–—-•+=%©®™§")
"""Letters that are words of some language, and marks that stand between words."""

UNCOUNTED = frozenset(".,:;_…")
"""Marks of which leaders are made; alone, they speak neither for nor against."""

RULES = frozenset("-–—_=*~#·•")
"""Marks of which rules are made."""

MARGIN = 2
"""Pixels of the reduced page by which a line is widened: boxes are drawn tightly."""

LONGEST = 40
"""Letters of a word; scripts without spaces are not measured."""

_VOWELS = frozenset("aeiouyæøœ")


def plausibility(texts: Iterable[str]) -> float:
    """Share of the characters of `texts` in words that look like text; 0 where there are none."""
    plausible = total = 0
    for text in texts:
        for token in _bare(text).split():
            if UNCOUNTED.issuperset(token):
                continue
            total += len(token)
            plausible += len(token) if _looks_like_text(token) else 0
    return plausible / total if total else 0.0


def _bare(text: str) -> str:
    """Letters without marks above and below them (in many scripts vowels are such)."""
    plain = unicodedata.normalize("NFD", re.sub(r"https?://(?:www\.)?", "", text))
    return "".join(c for c in plain if unicodedata.category(c)[0] != "M")


def _looks_like_text(token: str) -> bool:
    if len(token) == 1:
        kind = unicodedata.category(token)
        return token in ALONE or kind in ("Nd", "Lo", "Sc")
    inner = token.strip("".join(set(_marks(token))))
    if len(token) - len(inner) > max(3, len(inner)) or not inner:
        return len(set(token)) == 1 and token[0] in RULES
    if _is_piece(inner) or CODE.fullmatch(inner):
        return True
    parts = [part for part in JOINTS.split(inner) if part]
    # strings of marks and single letters fall to pieces too
    return len(inner) >= 3 * len(parts) and all(map(_is_piece, parts))


def _is_piece(text: str) -> bool:
    if WORD.fullmatch(text):
        return all(_is_word(part) for part in re.split("['’·]", text))
    return bool(NUMBER.fullmatch(text))


def _marks(token: str) -> Iterable[str]:
    return (c for c in token if unicodedata.category(c)[0] in "PS")


def _is_word(word: str) -> bool:
    if len(word) == 1:
        return True
    if not word[0].isascii() and "LATIN" not in unicodedata.name(word[0], ""):
        return True
    if not (word.islower() or word.isupper() or word[1:].islower() or _is_name(word)):
        return False
    plain = word.casefold()
    has_vowel = any(letter in _VOWELS for letter in plain)
    return (
        len(word) <= LONGEST
        and (has_vowel or len(word) <= 3 or word.isupper())
        and not (re.search(r"(.)\1{3}", plain))
    )


def _is_name(word: str) -> bool:
    """As McDonald: one capital inside, a small letter at the end."""
    return sum(letter.isupper() for letter in word[1:]) == 1 and word[-1].islower()


def coverage(page: Page, lines: Iterable[Line]) -> float:
    """Share of the ink of `page` that stands in `lines`; 1 where there is none."""
    inked = ink(page.image)
    total = int(inked.sum())
    if not total:
        return 1.0
    height, width = inked.shape
    for line in lines:
        x0, y0, x1, y1 = line.box.scaled(width, height)
        rows = slice(max(0, int(y0) - MARGIN), int(y1) + 1 + MARGIN)
        inked[rows, max(0, int(x0) - MARGIN) : int(x1) + 1 + MARGIN] = False
    return 1.0 - float(np.count_nonzero(inked)) / total
