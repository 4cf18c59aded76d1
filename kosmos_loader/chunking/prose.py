"""Where sentences end."""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(
    r"""(?<![.!?…])[.!?…]+["'”’»)\]*_]*\s+|[。！？][」』”’）]*\s*|\n[ \t]*\n\s*""", re.VERBOSE
)
_ABBREVIATIONS = re.compile(
    r"""a\.m|p\.m|e\.g|i\.e|approx|ave|blvd|bros|ca|capt|cf|col|corp|cr|dept|dr|est|etc|gen|gov|hon
    |inc|incl|jr|lt|ltd|maj|messrs|mr|mrs|ms|mt|prof|rd|rev|sen|sgt|sq|sr|st|viz|vs|[a-z]""",
    re.VERBOSE | re.IGNORECASE,
)
_BEFORE_NUMBERS = re.compile(
    r"""art|ch|co|col|ed|ext|figs?|fol|ft|nos?|nr|pl|pp?|ref|sect?|tel|vols?
    |jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec""",
    re.VERBOSE | re.IGNORECASE,
)
_LAST_WORD = re.compile(r"\S{1,12}$")
_UNFINISHED = re.compile(r"""[^\s.!?…。！？:："”’»'」』*_`~)\]}][)\]}*_`~]*$""")


def sentence_ends(text: str) -> list[int]:
    """Where each sentence of `text` but the last ends: the offsets at which the next one starts.

    A full stop after an abbreviation ("No. 5", "Mr. Wood"), an initial, the number of a list item
    or before a small letter ends nothing.
    """
    return [match.end() for match in _SENTENCE_END.finditer(text) if _ends(text, match)]


def is_unfinished(text: str) -> bool:
    """Whether `text` stops in the middle of a sentence: no full stop, colon or quote ends it."""
    return _UNFINISHED.search(text.rstrip()[-20:]) is not None


def _ends(text: str, match: re.Match[str]) -> bool:
    if text[match.start()] != "." or match.end() >= len(text):
        return match.end() < len(text)
    if text[match.end()].islower():
        return False
    found = _LAST_WORD.search(text, max(0, match.start() - 12), match.start())
    word = found.group().lstrip("\"'“‘«([*_") if found else ""
    if word.isdecimal():
        return not _opens_line(text, match.start() - len(word))
    if text[match.end()].isdecimal() and _BEFORE_NUMBERS.fullmatch(word):
        return False
    return not _ABBREVIATIONS.fullmatch(word)


def _opens_line(text: str, at: int) -> bool:
    return not text[text.rfind("\n", 0, at) + 1 : at].strip()
