"""Words that a model says stand on a page, looked up there.

White space, case, markdown marks, dashes and quotation marks make no difference; one character in
ten may differ, as a machine misreads it; a digit may not, and a number is a whole number of the
page, its minus included. No word may be left out, added or more than half another one, no "not"
be misread, and no word be its contrary or another number or month, near as their letters may be.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from kosmos_loader.answering.contraries import CHINESE_NOT, NEGATIONS, contradict
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
_APART = re.compile(r"[\s|*_#]|<br|</?su[bp]")
_ENTITY = re.compile(r"&(?:\#\d{1,7}|\#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE)
_BETWEEN_NUMBERS = re.compile(r"(?<=\d)[.,']? [.,']?(?=\d)")
_THOUSANDS = re.compile(r"(?<![\d.,'])\d{1,3}(?:[,']\d{3})+(?![,']?\d)")
_DECIMAL = re.compile(r"(?<![\d.,:/-])\d+[.,]\d+(?![.,:/-]?\d)")
"""A number with decimals; 12.03.1874 is none, and its year can be quoted alone."""

_MINUS = re.compile(r"(?<![^\s(:='$£€])-(?P<gap> ?)[$£€]?(?=\d)")
"""A minus before a number, and none in 10-500; before a gap it may be the dash of a list, and after
a number and a gap that of a range.
"""

_ROUND = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})*? 000(?: \d{3})*(?![.,]?\d)")
"""A number in groups of three, which one of noughts tells from several numbers."""

_SYMBOLS = frozenset("$£€¥%‰<>=+±")
"""Of which none is a misread other one."""

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff"
_LETTER = rf"(?:[^\W_{_UNSPACED}]|[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff])"
"""A letter or digit of a script with spaces between words, or a mark that spells such a word."""

_WORD = re.compile(rf"{_LETTER}+(?:'{_LETTER}+)*|[{CHINESE_NOT}]")

_MISREAD = {**CONFUSED, ord(","): ord(".")}
_SLACK = 20
"""Characters by which the ends of a place are moved at most."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What of a text is compared: each of its characters, and what it is part of."""

    letters: str
    places: list[tuple[int, int]]
    """Where in the text each character stands: an entity is longer than one."""

    words: list[int]
    """The number of the word that each is a letter of, -1 for punctuation and unspaced scripts."""

    signs: dict[int, bool]
    """Digits behind a minus, and whether it is surely one."""

    def only(self, kept: Sequence[int]) -> _Seen:
        """Only these of its characters."""
        return _Seen(
            "".join(self.letters[at] for at in kept),
            [self.places[at] for at in kept],
            [self.words[at] for at in kept],
            {new: self.signs[at] for new, at in enumerate(kept) if at in self.signs},
        )

    @property
    def spelt(self) -> _Seen:
        """It without punctuation."""
        return self.only([at for at, letter in enumerate(self.letters) if _spells(letter)])

    @property
    def read(self) -> str:
        """Its characters, letters that are misread digits put right."""
        return self.letters.translate(_MISREAD)

    def runs(self) -> Iterator[range]:
        """The characters of each word, in order."""
        for number, run in groupby(range(len(self.words)), self.words.__getitem__):
            places = list(run)
            if number >= 0:
                yield range(places[0], places[-1] + 1)

    def may_cut(self, at: int) -> bool:
        """Whether no word has letters on both sides of `at`."""
        if not 0 < at < len(self.words):
            return True
        return self.words[at] < 0 or self.words[at - 1] != self.words[at]


def locate(quote: str, text: str, start: int, end: int) -> tuple[int, int] | None:
    """Where `quote` stands in `text[start:end]`, None where it does not.

    It need not be the same to the character: see the head of this module.
    """
    wanted, found = _seen(quote), _seen(text[start:end])
    if not wanted.letters or not found.letters:
        return None
    at = _exact(wanted, found) or _nearly(wanted, found)
    return at and (start + found.places[at[0]][0], start + found.places[at[1] - 1][1])


def _seen(text: str) -> _Seen:
    """What of `text` is compared.

    White space and marks are left out, but for one space between two numbers.
    """
    letters: list[str] = []
    places: list[tuple[int, int]] = []
    borders: set[int] = set()
    unseen = {match.start(): match for match in _UNSEEN.finditer(text)}
    entities = {match.start(): match for match in _ENTITY.finditer(text)}
    at = 0
    while at < len(text):
        piece = unseen.get(at) or entities.get(at)
        end = piece.end() if piece else at + 1
        if piece is None:
            plain = _plain(text[at])
        elif at in unseen:
            plain = " " if _APART.search(text, at, end) else ""
            if "|" in text[at:end]:
                borders.add(len(letters))
        else:
            plain = "".join(map(_plain, html.unescape(text[at:end])))
        letters += plain
        places += [(at, end)] * len(plain)
        at = end
    spaced = "".join(letters)
    signs = {match.end(): _is_sure(match, borders) for match in _MINUS.finditer(spaced)}
    return _Seen(spaced, places, _words(spaced), signs).only(_compared(spaced))


def _is_sure(minus: re.Match[str], borders: Collection[int]) -> bool:
    """Whether it is no dash of a list or a range; `borders` are the places of cells' borders."""
    start = minus.start()
    before = minus.string[max(0, start - 2) : start]
    is_range = before[:1].isdecimal() and before[1:] == " " and start - 1 not in borders
    return not minus["gap"] and not is_range


@lru_cache(4096)
def _plain(character: str) -> str:
    """What is compared of a character: letters without their accents, and these; no case."""
    if similar := _SIMILAR.get(character):
        return similar
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    # a few characters, such as a lone accent, are a space and more when they are taken apart
    folded = folded.replace(" ", "").replace("\u2044", "/")
    # a note behind a number, or half of one more, is none of its digits
    is_raised = unicodedata.category(character) == "No" and folded[:1].isdecimal()
    return f" {folded}" if is_raised else folded


def _spells(letter: str) -> bool:
    return letter.isalnum() or unicodedata.category(letter).startswith("M")


def _words(spaced: str) -> list[int]:
    """The number of the word that each character is in, -1 where it is in none."""
    words = [-1] * len(spaced)
    for number, match in enumerate(_WORD.finditer(spaced)):
        words[match.start() : match.end()] = [number] * len(match.group())
    return words


def _compared(spaced: str) -> list[int]:
    """`spaced` without the spaces that part no numbers and the commas inside of numbers."""
    parting = {at for match in _BETWEEN_NUMBERS.finditer(spaced) for at in range(*match.span())}
    inside = {at for match in _THOUSANDS.finditer(spaced) for at in range(*match.span())}
    return [
        at
        for at, letter in enumerate(spaced)
        if not (letter == " " and at not in parting) and not (letter in ",'" and at in inside)
    ]


def _exact(wanted: _Seen, found: _Seen) -> tuple[int, int] | None:
    """The first place of `wanted` whose ends cut no number, and no word into another one."""
    same = {at: at for at in range(len(wanted.letters))}
    at = found.letters.find(wanted.letters)
    while at >= 0:
        end = at + len(wanted.letters)
        part = found.only(range(at, end))
        is_same = (
            not _cuts_number(found.letters, at, end)
            and not _cuts_sense(found, at, end)
            and _keeps_signs(wanted, part, same)
            and _keeps_signs(part, wanted, same)
        )
        if is_same:
            return at, end
        at = found.letters.find(wanted.letters, at + 1)
    return None


def _cuts_number(found: str, start: int, end: int) -> bool:
    """Whether `found[start:end]` begins or ends inside a number."""
    if any(
        found[max(0, at - 1) : at + 1].isnumeric() for at in (start, end) if 0 < at < len(found)
    ):
        return True
    if any(a < at < b for a, b in _spans(_ROUND, found) for at in (start, end)):
        return True
    cut = _spans(_DECIMAL, found)
    begins = found[start].isdecimal() and any(a < start < b for a, b in cut)
    return begins or (found[end - 1].isdecimal() and any(a < end < b for a, b in cut))


def _cuts_sense(found: _Seen, start: int, end: int) -> bool:
    """Whether `found[start:end]` begins or ends with a part of a word that says something else.

    Parts of others hold: words are run together on a page, and letters of many are lost.
    """
    if found.may_cut(start) and found.may_cut(end):
        return False
    for run in found.runs():
        part = range(max(run.start, start), min(run.stop, end))
        if not part or len(part) == len(run):
            continue
        words = [found.letters[one.start : one.stop].replace("'", "") for one in (part, run)]
        if not NEGATIONS.isdisjoint(words) or contradict(*words):
            return True
    return False


def _spans(pattern: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    return [match.span() for match in pattern.finditer(text)]


def _nearly(wanted: _Seen, found: _Seen) -> tuple[int, int] | None:
    """The place that is `wanted` but for misreadings, from word to word."""
    around = _similar(wanted.letters, found.letters)
    if around is None:
        return None
    start, end = _fitted(wanted, found, *around)
    part = found.only(range(start, end))
    is_same = (
        not _cuts_number(found.letters, start, end)
        and _same_numbers(wanted.letters, part.letters)
        and _same_words(wanted.spelt, part.spelt)
    )
    return (start, end) if is_same else None


def _similar(wanted: str, found: str) -> tuple[int, int] | None:
    """The place most like `wanted`, where nine characters in ten are the same.

    In less than eight characters no error is told from another word.
    """
    if len(wanted) < 8:
        return None
    if len(wanted) > len(found):
        return (0, len(found)) if fuzz.ratio(wanted, found) >= 90 else None
    match = fuzz.partial_ratio_alignment(wanted, found, score_cutoff=90)
    return None if match is None else (match.dest_start, match.dest_end)


def _fitted(wanted: _Seen, found: _Seen, start: int, end: int) -> tuple[int, int]:
    """`start` and `end` moved to ends of words, to where least differs from `wanted`.

    They lay as far apart as the quote is long, and what a machine read may be longer or shorter.
    """
    slack = min(_SLACK, 2 + len(wanted.letters) // 5)
    first, last = max(0, start - slack), min(len(found.letters), end + slack)
    while not found.may_cut(first):
        first -= 1
    while not found.may_cut(last):
        last += 1
    quote, page = wanted.read, found.read

    def differing(span: tuple[int, int]) -> int:
        return Levenshtein.distance(quote, page[slice(*span)])

    # of two that are alike the shorter one
    starts = [(at, last) for at in range(start + slack, first - 1, -1) if found.may_cut(at)]
    start, _ = min(starts, key=differing)
    ends = [(start, at) for at in range(end - slack, last + 1) if found.may_cut(at)]
    return min(ends, key=differing)


def _same_numbers(wanted: str, found: str) -> bool:
    """Whether no number and no sign of one differs, but by letters that are misread digits."""
    for edit in Levenshtein.editops(wanted, found):
        a = wanted[edit.src_pos] if edit.tag != "insert" else ""
        b = found[edit.dest_pos] if edit.tag != "delete" else ""
        if a.translate(_MISREAD) == b.translate(_MISREAD):
            continue
        if (a and _in_number(wanted, edit.src_pos)) or (b and _in_number(found, edit.dest_pos)):
            return False
        if a in _SYMBOLS and b in _SYMBOLS:
            return False
    return True


def _in_number(text: str, at: int) -> bool:
    """Whether character `at` is a digit, or parts two of them."""
    before, after = text[max(0, at - 1) : at], text[at + 1 : at + 2]
    parts_digits = not text[at].isalpha() and before.isdecimal() and after.isdecimal()
    return text[at].isnumeric() or text[at] == " " or parts_digits


def _same_words(wanted: _Seen, found: _Seen) -> bool:
    """Whether they differ by words that were misread, split or run together, and by no other."""
    blocks = Levenshtein.opcodes(wanted.read, found.read)
    pairs = [
        pair
        for block in blocks
        if block.tag == "equal"
        for pair in zip(
            range(block.src_start, block.src_end),
            range(block.dest_start, block.dest_end),
            strict=True,
        )
    ]
    same, back = dict(pairs), {b: a for a, b in pairs}
    return (
        _keeps_signs(wanted, found, same)
        and _keeps_signs(found, wanted, back)
        and _keeps_words(wanted, found, same)
        and _keeps_words(found, wanted, back)
        and not _contradicts(wanted, found, same)
        and not _contradicts(found, wanted, back)
        and not _has_more(wanted, found)
        and not _has_more(found, wanted)
    )


def _keeps_signs(one: _Seen, other: _Seen, same: Mapping[int, int]) -> bool:
    """Whether each number of `one` that surely has a minus may have it in `other` too.

    `same` says where in `other` a character of `one` stands.
    """
    return not any(
        sure and place in same and same[place] not in other.signs
        for place, sure in one.signs.items()
    )


def _keeps_words(one: _Seen, other: _Seen, same: Mapping[int, int]) -> bool:
    """Whether half of each word of `one`, and all of each "not", stands in `other` too."""
    for run in one.runs():
        if 2 * sum(at in same for at in run) < len(run):
            return False
        word = one.letters[run.start : run.stop]
        if word in NEGATIONS and not _is_kept(run, other, same):
            return False
    return True


def _is_kept(run: range, other: _Seen, same: Mapping[int, int]) -> bool:
    """Whether all of a word stands in `other`, and no letter more that makes it another one."""
    there = [same.get(at, -1) for at in run]
    first, last = there[0], there[-1]
    if first < 0 or there != list(range(first, last + 1)):
        return False
    misread = set(range(len(other.letters))).difference(same.values())
    beside = ((first, first - 1), (last, last + 1))
    return not any(near in misread and other.words[near] == other.words[at] for at, near in beside)


def _contradicts(one: _Seen, other: _Seen, same: Mapping[int, int]) -> bool:
    """Whether a word of `one` stands in `other` as one that says something else."""
    words = {other.words[run.start]: other.letters[run.start : run.stop] for run in other.runs()}
    parts: dict[int, list[str]] = {}
    for run in one.runs():
        stands = {other.words[same[at]] for at in run if at in same}
        if len(stands) == 1:  # it was not split
            parts.setdefault(stands.pop(), []).append(one.letters[run.start : run.stop])
    # a word of several parts was run together
    whole = (
        (part, words[number])
        for number, (part, *more) in parts.items()
        if not more and number in words
    )
    return any(contradict(part, word) for part, word in whole)


def _has_more(one: _Seen, other: _Seen) -> bool:
    """Whether `one` has a word more than `other`: without it, so much less differs.

    Letter by letter it may not be seen: the "no" of "no north" stands in "north" too.
    """
    read, wanted = one.read, other.read
    differing = Levenshtein.distance(read, wanted)
    for run in one.runs():
        rest = differing - len(run)
        without = read[: run.start] + read[run.stop :]
        if rest >= 0 and Levenshtein.distance(without, wanted, score_cutoff=rest) <= rest:
            return True
    return False
