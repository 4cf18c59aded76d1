"""Words that a model says stand on a page, looked up there.

White space, case, markdown marks, dashes and quotation marks make no difference; one character in
ten may differ, as a machine misreads it; a digit may not, and a number is a whole number of the
page.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from kosmos_loader.answering.words import CONFUSED

_SIMILAR = {
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("“”„‟«»‘’‚‛`´", "'"),
    '"': "'",
    **dict.fromkeys("[【［", "("),
    **dict.fromkeys("]】］", ")"),
    "‹": "<",
}
_UNSEEN = re.compile(r"(?:[\s|*_#\\\u00ad]|</?(?:sup|sub|b|i|em|strong|u|br)\s*/?>)+")
_APART = re.compile(r"[\s|*_#]|<br")
_BETWEEN_NUMBERS = re.compile(r"(?<=\d)[.,']? [.,']?(?=\d)")
_THOUSANDS = re.compile(r"(?<![\d.,'])\d{1,3}(?:[,']\d{3})+(?![,']?\d)")
_DECIMAL = re.compile(r"(?<![\d.,:/-])\d+[.,]\d+(?![.,:/-]?\d)")
"""A number with decimals; 12.03.1874 is none, and its year can be quoted alone."""


def locate(quote: str, text: str, start: int, end: int) -> tuple[int, int] | None:
    """Where `quote` stands in `text[start:end]`, None where it does not.

    It need not be the same to the character: see the head of this module.
    """
    wanted, _ = _letters(quote)
    found, places = _letters(text[start:end])
    if not wanted or not found:
        return None
    at = _exact(wanted, found)
    if at is not None:
        return start + places[at[0]], start + places[at[1] - 1] + 1
    at = _nearly(wanted, found)
    if at is None:
        return None
    left, right = _whole_words(text, start + places[at[0]], start + places[at[1] - 1] + 1)
    first, last = bisect_left(places, left - start), bisect_left(places, right - start)
    if _cuts_number(found, first, last) or not _same_numbers(wanted, found[first:last]):
        return None
    return left, right


def _whole_words(text: str, left: int, right: int) -> tuple[int, int]:
    while left > 0 and text[left].isalnum() and text[left - 1].isalnum():
        left -= 1
    while right < len(text) and text[right].isalnum() and text[right - 1].isalnum():
        right += 1
    return left, right


def _letters(text: str) -> tuple[str, list[int]]:
    """What of `text` is compared, and where in it each of these characters stands.

    White space and marks are left out, but for one space between two numbers.
    """
    letters: list[str] = []
    places: list[int] = []
    unseen = {match.start(): match for match in _UNSEEN.finditer(text)}
    at = 0
    while at < len(text):
        gap = unseen.get(at)
        plain = _plain(text[at]) if gap is None else " " if _APART.search(gap.group()) else ""
        letters += plain
        places += [at] * len(plain)
        at = at + 1 if gap is None else gap.end()
    return _without_marks("".join(letters), places)


def _plain(character: str) -> str:
    # a few characters, such as a lone accent, are a space and more when they are taken apart
    folded = unicodedata.normalize("NFKC", character).casefold().replace(" ", "")
    return _SIMILAR.get(character) or folded


def _without_marks(spaced: str, places: list[int]) -> tuple[str, list[int]]:
    """`spaced` without the spaces that part no numbers and the commas inside of numbers."""
    parting = {at for match in _BETWEEN_NUMBERS.finditer(spaced) for at in range(*match.span())}
    inside = {at for match in _THOUSANDS.finditer(spaced) for at in range(*match.span())}
    kept = [
        at
        for at, letter in enumerate(spaced)
        if not (letter == " " and at not in parting) and not (letter in ",'" and at in inside)
    ]
    return "".join(spaced[at] for at in kept), [places[at] for at in kept]


def _exact(wanted: str, found: str) -> tuple[int, int] | None:
    """The first place of `wanted` that does not begin or end inside a number."""
    at = found.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        if not _cuts_number(found, at, end):
            return at, end
        at = found.find(wanted, at + 1)
    return None


def _cuts_number(found: str, start: int, end: int) -> bool:
    """Whether `found[start:end]` begins or ends inside a number."""
    if any(
        found[max(0, at - 1) : at + 1].isdecimal() for at in (start, end) if 0 < at < len(found)
    ):
        return True
    cut = [match.span() for match in _DECIMAL.finditer(found)]
    begins = found[start].isdecimal() and any(a < start < b for a, b in cut)
    return begins or (found[end - 1].isdecimal() and any(a < end < b for a, b in cut))


def _same_numbers(wanted: str, found: str) -> bool:
    """Whether no number differs, but by letters that are misread digits."""
    for edit in Levenshtein.editops(wanted, found):
        a = wanted[edit.src_pos] if edit.tag != "insert" else ""
        b = found[edit.dest_pos] if edit.tag != "delete" else ""
        if a.translate(_MISREAD) == b.translate(_MISREAD):
            continue
        if (a and _in_number(wanted, edit.src_pos)) or (b and _in_number(found, edit.dest_pos)):
            return False
    return True


_MISREAD = {**CONFUSED, ord(","): ord(".")}


def _in_number(text: str, at: int) -> bool:
    """Whether character `at` is a digit, or parts two of them."""
    before, after = text[max(0, at - 1) : at], text[at + 1 : at + 2]
    parts_digits = not text[at].isalpha() and before.isdecimal() and after.isdecimal()
    return text[at].isdecimal() or text[at] == " " or parts_digits


def _nearly(wanted: str, found: str) -> tuple[int, int] | None:
    """The place most like `wanted`, where nine characters in ten are the same.

    In less than eight characters no error is told from another word.
    """
    if len(wanted) < 8:
        return None
    if len(wanted) > len(found):
        return (0, len(found)) if fuzz.ratio(wanted, found) >= 90 else None
    match = fuzz.partial_ratio_alignment(wanted, found, score_cutoff=90)
    if match is None:
        return None
    start, end = match.dest_start, match.dest_end
    return start + (found[start] == " "), end - (found[end - 1] == " ")
