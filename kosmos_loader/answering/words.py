"""Words, numbers and dates that can be compared although a machine read them.

What a question names is looked up in the words of a line: a word may have a letter in five misread
or be run together with its neighbour, a number may have a letter for a digit, and a date is the
same day however it is written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import itemgetter

from rapidfuzz import fuzz, process

_STOPWORDS = frozenset(
    re.findall(
        r"\w+",
        """a about above according after all also am an and any are as at be because been before
        being below between both but by can could did do does doing done down during each every find
        for from further get give given gives got had has have having he her here hers him his how i
        if in into is it its itself just know let list many may me mine more most much must my no
        nor not of off on once one only or other our out over own please said same say says shall
        she should show some such tell than that the their them then there these they this those
        through to too under until up us very was we were what when where which while who whom whose
        why will with would you your""",
    )
)
_GENERIC = frozenset(
    re.findall(
        r"\w+",
        """address amount archive bill call called company content contents copy cost count date
        dated day document email entry file firm form formal information invoice invoiced issue
        issued issuer item letter line located location mail memo merchant mention mentioned month
        name named note notice number page paid paper pay paying payment phone price quantity
        receipt record report scan section seller shop sign signed statement store sum supplier
        table telephone text time total vendor website written year""",
    )
)
"""Words that tell what kind of thing is asked for, and stand on most pages or on none."""

_TOKEN = re.compile(r"[^\W_]+(?:['’.,:/\-–][^\W_]+)*")
_PART = re.compile(r"[^\W_]+")
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
CONFUSED = str.maketrans("oilzsb", "011258")
"""Letters that a machine reads for digits, and the digits."""

_ENDINGS = ("ances", "ance", "ments", "ment", "ings", "ing", "ed", "es", "'s", "’s", "s", "e")
_IRREGULAR = {
    **dict.fromkeys(["bought"], "buy"),
    **dict.fromkeys(["built"], "build"),
    **dict.fromkeys(["came"], "come"),
    **dict.fromkeys(["gave", "given"], "give"),
    **dict.fromkeys(["held"], "hold"),
    **dict.fromkeys(["kept"], "keep"),
    **dict.fromkeys(["made"], "make"),
    **dict.fromkeys(["met"], "meet"),
    **dict.fromkeys(["paid"], "pay"),
    **dict.fromkeys(["sent"], "send"),
    **dict.fromkeys(["sold"], "sell"),
    **dict.fromkeys(["spent"], "spend"),
    **dict.fromkeys(["taken", "took"], "take"),
    **dict.fromkeys(["wrote", "written"], "write"),
}


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _squeezed(text: str) -> str:
    return "".join(_PART.findall(text))


def is_number(word: str) -> bool:
    """Whether `word` is a number or id: at least half of it are digits."""
    digits = sum(character.isdecimal() for character in word)
    return digits > 0 and 2 * digits >= len(_squeezed(word))


def _digits(word: str) -> str:
    """A number or id without its punctuation, with letters that are misread digits put right."""
    return _squeezed(word).translate(CONFUSED)


def _stem(word: str) -> str:
    word = _IRREGULAR.get(word, word)
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


class Words:
    """The words, numbers and dates of a text, ready to be looked up."""

    def __init__(self, text: str) -> None:
        folded = _folded(text)
        tokens = _TOKEN.findall(folded)
        self.words = {word for token in tokens for word in _forms(token)}
        self.squeezed = _squeezed(folded)
        self.text = folded
        self._found: dict[Term, float] = {}

    @cached_property
    def stems(self) -> set[str]:
        """The words without their endings."""
        return {_stem(word) for word in self.words}

    @cached_property
    def numbers(self) -> set[str]:
        """The numbers and ids, in digits and without punctuation."""
        return {_digits(word) for word in self.words if is_number(word)}

    @cached_property
    def dates(self) -> set[Date]:
        """The dates, each in all the ways it can be meant."""
        return {date for date, _, _ in dates_in(self.text)}

    def match(self, term: Term) -> float:
        """How surely `term` is there, 0..1."""
        if term not in self._found:
            self._found[term] = term.found_in(self)
        return self._found[term]


@dataclass(frozen=True, slots=True)
class Date:
    """A day; 0 stands for a day or a year that is not named, a year below 100 for any century."""

    year: int
    month: int
    day: int
    order: str = ""
    """How 3/4/71 was taken, "day first" or "month first"; the same on both sides of a comparison,
    since a file that was written in one way is asked about in that way."""

    @property
    def is_whole(self) -> bool:
        """Whether day and year are known."""
        return self.year > 0 and self.day > 0

    def is_same(self, other: Date) -> bool:
        """Whether both can be the same day."""
        if self.order and other.order and self.order != other.order:
            return False
        short = min(self.year, other.year) < 100
        years = (self.year % 100, other.year % 100) if short else (self.year, other.year)
        same_year = 0 in (self.year, other.year) or years[0] == years[1]
        same_day = 0 in (self.day, other.day) or self.day == other.day
        return same_year and same_day and self.month == other.month


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?P<day>[0-3]?[0-9]|[0-3][oil]|[oil][0-9])(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>[12][0-9oil]{3}|'?[0-9]{2})"
_NAMED_DATES = (
    re.compile(rf"\b{_DAY}[\s.,\-/]*(?:of\s+)?{_MONTH}[\s.,\-/']*{_YEAR}(?![\w:])"),
    re.compile(rf"\b{_MONTH}[\s.,\-/]*{_DAY}[\s.,\-/]+{_YEAR}(?![\w:])"),
    re.compile(rf"\b{_MONTH}[\s.,\-/]*(?P<year>[12][0-9oil]{{3}})\b"),
    re.compile(rf"\b{_DAY}[\s.\-/]*(?:of\s+)?{_MONTH}(?!\w)"),
    re.compile(rf"\b{_MONTH}[\s.\-/]*{_DAY}(?![\w.,:/\-]*[0-9])"),
)
_NUMBERED_DATE = re.compile(
    r"(?<![\w.,])([0-9oil]{1,4})\s?([/.\-–])\s?([0-9oil]{1,2})\s?\2\s?([0-9oil]{2,4})"
    r"(?![0-9]*[,.][0-9])"
)


def dates_in(folded: str) -> Iterator[tuple[Date, int, int]]:
    """The dates in a case-folded text with their places; 03/04/1871 gives both of its days."""
    taken: list[tuple[int, int]] = []
    for pattern in _NAMED_DATES:
        for match in pattern.finditer(folded):
            if any(start < match.end() and match.start() < end for start, end in taken):
                continue
            parts = match.groupdict(default="0")
            year, day = _integer(parts.get("year", "0")), _integer(parts.get("day", "0"))
            date = Date(year, _MONTHS.index(parts["month"][:3]) + 1, day)
            if date.day <= 31:
                taken.append(match.span())
                yield date, *match.span()
    for match in _NUMBERED_DATE.finditer(folded):
        a, b, c = (_integer(match.group(group)) for group in (1, 3, 4))
        days = [Date(c, b, a, "day first"), Date(c, a, b, "month first")]
        for date in [Date(a, b, c)] if a > 31 else days:
            if 1 <= date.month <= 12 and 1 <= date.day <= 31:
                yield date, *match.span()


def _integer(text: str) -> int:
    return int(re.sub(r"[^0-9]", "", text.translate(CONFUSED)) or 0)


@dataclass(frozen=True, slots=True)
class Term:
    """Something that the question names."""

    word: str
    dates: tuple[Date, ...] = ()
    is_generic: bool = False
    is_name: bool = False
    is_focus: bool = False
    """Whether it names what is asked for: the tax in "What is the tax on the June invoice?"."""

    @property
    def is_exact(self) -> bool:
        """Whether it is a date, number or id: one that is nearly the same is another one."""
        return bool(self.dates) or is_number(self.word)

    @property
    def is_condition(self) -> bool:
        """Whether a page without it can hardly be meant: a whole date, a number of some length."""
        if self.dates:
            return any(date.is_whole for date in self.dates)
        return is_number(self.word) and len(_digits(self.word)) >= 4

    def found_in(self, words: Words) -> float:
        """How surely the term is among `words`, 0..1."""
        if self.dates:
            return float(any(a.is_same(b) for a in self.dates for b in words.dates))
        if self.word in words.words:
            return 1.0
        if is_number(self.word):
            return self._number_found_in(words)
        return self._word_found_in(words)

    def _number_found_in(self, words: Words) -> float:
        digits = _digits(self.word)
        if digits in words.numbers:
            return 1.0
        # an id that OCR broke in two, or ran together with its neighbour
        return 0.8 if len(digits) >= 5 and digits in words.squeezed.translate(CONFUSED) else 0.0

    def _word_found_in(self, words: Words) -> float:
        if _stem(self.word) in words.stems:
            return 0.95
        # OCR runs words together and breaks them
        if len(self.word) >= 5 and self.word in words.squeezed:
            return 0.85
        if len(self.word) < 4:
            return 0.0
        if any(word.startswith(self.word) or word.endswith(self.word) for word in words.words):
            return 0.7
        # one letter in five may be misread
        nearest = process.extractOne(self.word, words.words, scorer=fuzz.ratio, score_cutoff=80)
        return 0.9 * nearest[1] / 100 if nearest else 0.0


def terms_of(question: str) -> list[Term]:
    """What the question names, each thing once, without words that say nothing."""
    folded = _folded(question)
    terms: list[Term] = []
    found = sorted(dates_in(folded), key=itemgetter(1, 2))
    for (start, end), dates in groupby(found, key=itemgetter(1, 2)):
        terms.append(Term(folded[start:end], tuple(date for date, _, _ in dates)))
    for term in terms:
        folded = folded.replace(term.word, " ")
    names, focus = _names_in(question), _focus_of(folded)
    for token in _TOKEN.findall(folded):
        for word in _words_of(token):
            is_generic = _is_generic(word)
            is_name = word in names and not is_generic
            terms.append(Term(word, (), is_generic, is_name, word in focus))
    return list(dict.fromkeys(terms))


_ASKED_FOR = re.compile(
    r"\s*(?:(?:on|in|at|by|until|from|to)\s+)?"
    r"(?:(?:what|which|whose)\s+(?:(?:is|was|are|were)\s+)?|who\s+(?:is|was|are|were)\s+)"
    r"(?P<focus>.+?)\s+(?:of|on|in|for|from|at|by|was|is|did|does|do|were|are|has|had|have)\b"
)


def _focus_of(folded: str) -> set[str]:
    match = _ASKED_FOR.match(folded)
    tokens = _TOKEN.findall(match["focus"]) if match else []
    return {word for token in tokens for word in _words_of(token)}


def _names_in(question: str) -> set[str]:
    """The words that a capital shows to be names; none in a question written in capitals."""
    if question.isupper():
        return set()
    tokens = _TOKEN.findall(unicodedata.normalize("NFKC", question))[1:]
    capitals = (token.casefold() for token in tokens if token[0].isupper())
    return {word for token in capitals for word in _words_of(token)}


def _forms(token: str) -> list[str]:
    """The ways in which `token` may be meant: as it is, without its punctuation, or its parts."""
    parts = _PART.findall(token)
    if re.fullmatch(r"\d+(?:[.,]\d+)*", token):
        # of 214.60, 60 is no number of its own; of 12.03.1874, the year is
        parts = [part for part in parts if len(part) == 4]
    return [token, _squeezed(token), *parts, *_ideographs(token)]


def _ideographs(token: str) -> list[str]:
    """Pairs of neighbours in a text that is written without spaces."""
    if not _IDEOGRAPH.search(token):
        return []
    return [token[at : at + 2] for at in range(max(1, len(token) - 1))]


def _words_of(token: str) -> list[str]:
    if _IDEOGRAPH.search(token):
        return _ideographs(token)
    if is_number(token):
        return [token]
    parts = _PART.findall(token)
    if all(len(part) == 1 for part in parts) and len(parts) > 1:
        return ["".join(parts)]
    return [part for part in parts if len(part) > 1 and part not in _STOPWORDS]


def _is_generic(word: str) -> bool:
    return word in _GENERIC or _stem(word) in _GENERIC
