"""What a line says about itself: bullets, numbers, sentence ends."""

from __future__ import annotations

import re

PAGE_NUMBER = re.compile(
    r"(?:page|seite|p\.?)?\s*[-–—(]?\s*(?:\d{1,4}|[ivxlc]{1,7})\s*"
    r"(?:[-–—)]|(?:of|/|von)\s*\d{1,4})?",
    re.IGNORECASE,
)
"""A line that is a page number and nothing else."""

BULLET = re.compile(r"(?:[•·●▪■□◦‣∙]\s*|[-–—*]\s+)(?=\S)")

LETTER_BULLET = re.compile(r"[oO0]\s+(?=[A-Z])")
"""A bullet that the reader took for an o or a zero; believed only where several lines have it."""

NUMBERED = re.compile(r"(?:\(?(?:\d{1,2}|[a-z])[.)]|\((?:\d{1,2}|[a-z]|[ivx]{1,4})\))\s+(?=\S)")

SECTION = re.compile(r"(\d{1,2}(?:\.\d{1,2})*)\.?\s+(?=[A-Z])")
"""Section numbering: "3 Methods", "2.1 Area"."""

UNSPACED = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60]")
"""Han characters, kana and full-width punctuation."""

YEAR = re.compile(r"(?:1[5-9]|20)\d\d")

SENTENCE_END = (".", "!", "?", ":", ".”", ".)", '."', "!”", "?”", '?"', '!"')

HYPHENS = "-\u00ad\u2010\u00ac"


def list_mark(text: str, *, letters: bool) -> re.Match[str] | None:
    """The bullet or number that `text` starts with; `letters` allows o and 0 as bullets."""
    return (
        BULLET.match(text)
        or NUMBERED.match(text)
        or (LETTER_BULLET.match(text) if letters else None)
    )


def is_number(text: str) -> bool:
    """Whether `text` is an amount, a date or the like: as many digits as letters at least."""
    digits = sum(c.isdigit() for c in text)
    return digits > 0 and digits >= sum(c.isalpha() for c in text)
