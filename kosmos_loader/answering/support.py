"""What in an answer no citation bears out: sentences that cite nothing, numbers and dates in no
quote.

A number is looked up in the quotes that its sentence cites, in all quotes where it cites none. It
is the same number with other separators and with letters that a machine reads for digits, never
with another digit. A date is the same day however it is written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from kosmos_loader.answering.words import CONFUSED, Date, dates_in, is_number
from kosmos_loader.chunking import sentence_ends
from kosmos_loader.document import Citation, Unsupported

_SENTENCE_MARK = re.compile(r"([.!?…。！？][\"”’»)]*)((?:\s*\[\d+(?:, \d+)*\])+)")
_CITED = re.compile(r"\[(\d+(?:, \d+)*)\]")


def unsupported(
    text: str, citations: Sequence[Citation], *, question: str
) -> tuple[Unsupported, ...]:
    """What in `text`, whose marks number `citations` from 1, rests on none of them, in order."""
    named = Facts([question])
    found: list[Unsupported] = []
    for start, end in _sentences(text):
        cited = sorted(
            {int(n) for mark in _CITED.findall(text[start:end]) for n in mark.split(",")}
        )
        if not cited and _says_something(text[start:end]):
            found.append(Unsupported(start, end, "uncited"))
        resting = [citations[n - 1] for n in cited if 1 <= n <= len(citations)] or citations
        facts = Facts([citation.quote for citation in resting])
        for fact in facts_in(text[start:end]):
            if not facts.hold(fact):
                reason = "asked" if named.hold(fact) else "unquoted"
                found.append(Unsupported(start + fact.start, start + fact.end, reason))
    return tuple(sorted(found, key=lambda part: (part.start, -part.end)))


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where the sentences of `text` stand, each with the marks behind its full stop."""
    # as long as before: only the marks and the stops before them change places
    joined = _SENTENCE_MARK.sub(lambda mark: mark[2].replace("\n", " ") + mark[1], text)
    start = 0
    for line in joined.split("\n"):
        for a, b in pairwise([0, *sentence_ends(line), len(line)]):
            bare = text[start + a : start + b].strip()
            if bare:
                left = text.index(bare, start + a)
                yield left, left + len(bare)
        start += len(line) + 1


def _says_something(sentence: str) -> bool:
    # what only leads over to a list ("They are:") says nothing itself
    return any(map(str.isalnum, sentence)) and not sentence.endswith(":")


# --- Numbers and dates ----------------------------------------------------------------------


@dataclass(frozen=True)
class Fact:
    """A number or date in a sentence: characters `start..end`."""

    start: int
    end: int
    number: str = ""
    dates: tuple[Date, ...] = ()
    """All the days that a date can mean."""


_TOKEN = re.compile(r"[^\W_]+(?:['’.,:][^\W_]+)*(?:[/\-–][^\W_]+(?:['’.,:][^\W_]+)*)*")
_LIST_MARK = re.compile(r"\s*(?:[-*•+]\s+)?\(?\d{1,3}[.)]\s")
_DIGITS = re.compile(r"\d+(?:[.,'’:]\d+)*")
_FRACTION = re.compile(r"\d[.,'’:]\d")
_RANGE = re.compile(r"[/\-–]")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\Z")
_WITH_UNIT = re.compile(
    r"(?P<before>[^\W\d_]{0,3})(?P<number>\d[\d.,'’:]*)(?P<after>[^\W\d_]{0,3})"
)


def facts_in(sentence: str) -> Iterator[Fact]:
    """The numbers and dates that `sentence` states, in order; those of lists and marks are none."""
    bare = _CITED.sub(lambda mark: " " * len(mark.group()), sentence)
    listed = _LIST_MARK.match(bare)
    if listed:
        bare = " " * listed.end() + bare[listed.end() :]
    folded, places = _folded_in_place(bare)
    facts = [
        Fact(places[start], places[end - 1] + 1, dates=tuple(date for date, _, _ in dates))
        for (start, end), dates in groupby(sorted(dates_in(folded), key=_span), key=_span)
        if _is_date(bare[places[start] : places[end - 1] + 1])
    ]
    for token in _TOKEN.finditer(folded):
        start, end = places[token.start()], places[token.end() - 1] + 1
        is_taken = any(fact.start < end and start < fact.end for fact in facts)
        if not is_taken and is_number(token.group()):
            facts.append(Fact(start, end, number=token.group()))
    yield from sorted(facts, key=lambda fact: fact.start)


def _span(found: tuple[Date, int, int]) -> tuple[int, int]:
    return found[1:]


def _is_date(text: str) -> bool:
    """Whether `text` is meant as a date: "3 may" and "march 12 miles" are not."""
    return re.search(r"\d{4}", text) is not None or text.upper() == text or text.lower() != text


def _folded_in_place(text: str) -> tuple[str, list[int]]:
    """`text` case-folded, and where in it each of these characters stands."""
    folded: list[str] = []
    places: list[int] = []
    for at, character in enumerate(text):
        plain = unicodedata.normalize("NFKC", character).casefold()
        folded.append(plain)
        places += [at] * len(plain)
    return "".join(folded), places


class Facts:
    """The numbers and dates that some texts hold."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._text = "\n".join(_folded_in_place(text)[0] for text in texts)
        self._dates = [date for date, _, _ in dates_in(self._text)]
        tokens = (part for token in _TOKEN.findall(self._text) for part in _parts(token))
        self._numbers = {value for part in tokens for value in _values(part)}

    def hold(self, fact: Fact) -> bool:
        """Whether the texts hold `fact`."""
        if fact.dates:
            return any(self._hold_date(date) for date in fact.dates)
        if _values(fact.number) & self._numbers or self._hold_long(fact.number):
            return True
        return all(self._hold_part(part) for part in _RANGE.split(fact.number))

    def _hold_date(self, date: Date) -> bool:
        """Whether all of `date` is there; its year may stand apart from its day."""
        return any(
            date.is_same(other)
            and (other.day > 0 or date.day == 0)
            and (other.year > 0 or date.year == 0 or str(date.year) in self._numbers)
            for other in self._dates
        )

    def _hold_part(self, part: str) -> bool:
        """Whether a number is there, its unit or currency beside it or not."""
        if _values(part) & self._numbers:
            return True
        split = _WITH_UNIT.fullmatch(part)
        if split is None or not _values(split["number"]) & self._numbers:
            return False
        return split["before"] in self._text and split["after"] in self._text

    def _hold_long(self, number: str) -> bool:
        """Whether a long number or id is there, broken into pieces or put together from them."""
        if sum(map(str.isdecimal, number)) < 5 or _FRACTION.search(number):
            return False
        pieces = r"[^\w\n]*".join(filter(str.isalnum, number))
        return re.search(rf"(?<!\d){pieces}(?!\d)", self._text) is not None


def _parts(token: str) -> list[str]:
    """A token, and what it is made of: "1931-35", "rm603.00", "NP-20471"."""
    parts = [token, *_RANGE.split(token)]
    units = [split["number"] for part in parts if (split := _WITH_UNIT.fullmatch(part))]
    return [*parts, *units]


def _values(token: str) -> set[str]:
    """What a number can mean: 1,250 is 1250 or 1.25. An id means itself, without punctuation."""
    token = _ORDINAL.sub("", token)
    digits, letters = (sum(map(test, token)) for test in (str.isdecimal, str.isalpha))
    if not digits:
        return set()
    # among more digits, a letter that looks like one is one
    plain = token.translate(CONFUSED) if digits > letters else token
    if not _DIGITS.fullmatch(plain):
        return {"".join(filter(str.isalnum, plain))}
    groups, separators = re.split(r"[.,'’:]", plain), re.findall(r"[.,'’:]", plain)
    values = {".".join(groups)}
    if _are_thousands(groups):
        values.add("".join(groups))
    has_fraction = len(groups) > 1 and separators[-1] not in separators[:-1]
    if has_fraction and (len(groups) == 2 or _are_thousands(groups[:-1])):
        values.add(_decimal("".join(groups[:-1]), groups[-1]))
    return {value.lstrip("0") or "0" for value in values}


def _are_thousands(groups: Sequence[str]) -> bool:
    return 1 <= len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])


def _decimal(whole: str, fraction: str) -> str:
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole
