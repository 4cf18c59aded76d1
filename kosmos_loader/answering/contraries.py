"""Words that nearly share their letters and say different things: no machine misread one as the
other.

A page says "million" and a quote "billion": one letter in seven differs, as in a misreading. What
is known here is what turns a word round ("unpaid", "harmless"), what stands for its contrary
("increase", "decrease"; "lessor", "lessee"), and the closed classes of numbers, months, days and
directions. Words are given in lower case, without apostrophes, "ss" for "ß", their accents apart
(NFKD).
"""

from __future__ import annotations

import re
import unicodedata

from rapidfuzz.distance import Levenshtein

CHINESE_NOT = "不没沒無无非未勿"

NEGATIONS = frozenset(
    re.findall(
        r"\S+",
        f"""not no never nor none neither nothing nobody nowhere without cannot
        aint arent cant couldnt darent didnt doesnt dont hadnt hasnt havent isnt mightnt mustnt
        neednt oughtnt shant shouldnt wasnt werent wont wouldnt
        nicht nichts nie niemals niemand ohne weder kein keine keinem keinen keiner keines
        ne pas jamais sans ni aucun aucune rien non mai senza nessun nessuno
        nunca sin ningun ninguna ninguno niet geen nooit zonder {" ".join(CHINESE_NOT)}""",
    )
)
"""Words that turn a sentence round, without their apostrophes."""

_TURNING = (
    *("un", "in", "im", "il", "ir", "dis", "non", "mis", "on", "de", "re", "pre", "anti"),
    *("over", "under", "counter", "ver"),
)
"""What makes another word of one when it stands before it."""

_EXCHANGED = (
    *(("in", "de"), ("in", "ex"), ("im", "ex"), ("in", "out"), ("over", "under"), ("pre", "post")),
    *(("a", "de"), ("im", "em"), ("sub", "super"), ("up", "down"), ("out", "over"), ("ab", "an")),
    *(("auf", "ab"), ("ein", "aus"), ("vor", "nach"), ("ober", "unter")),
)
"""Beginnings that make contraries of one word: "import" and "export"."""

_ENDINGS = (("er", "ee"), ("or", "ee"), ("ers", "ees"), ("ors", "ees"), ("ful", "less"))
"""Ends that do: "payer" and "payee"."""

_ROMAN = re.compile(r"m{0,4}(?:cm|cd|d?c{0,4})(?:xc|xl|l?x{0,4})(?:ix|iv|v?i{0,4})(?<=.)")

_CLASSES = tuple(
    frozenset(unicodedata.normalize("NFKD", words).split())
    for words in (
        # numbers
        """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
        fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty
        ninety hundred thousand million billion trillion first second third fourth fifth sixth
        seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth
        seventeenth eighteenth nineteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth
        eightieth ninetieth""",
        """null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn
        vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn zwanzig dreissig vierzig
        fünfzig sechzig siebzig achtzig neunzig hundert tausend million milliarde billion
        erste zweite dritte vierte fünfte sechste siebte achte neunte zehnte""",
        """zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze
        seize vingt trente quarante cinquante soixante cent mille million milliard billion""",
        "millions billions trillions",
        "millionen milliarden billionen",
        # months and days
        """january february march april may june july august september october november december
        jan feb mar apr jun jul aug sep oct nov dec""",
        """januar jänner februar märz april mai juni juli august september oktober november
        dezember""",
        """janvier février mars avril mai juin juillet août septembre octobre novembre décembre""",
        """enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre
        """,
        """gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre
        dicembre""",
        """januari februari maart april mei juni juli augustus september oktober november
        december""",
        "monday tuesday wednesday thursday friday saturday sunday",
        "mon tue wed thu fri sat sun",
        "montag dienstag mittwoch donnerstag freitag samstag sonnabend sonntag",
        "lundi mardi mercredi jeudi vendredi samedi dimanche",
        # where, who and when
        "north south east west",
        "northern southern eastern western",
        "northerly southerly easterly westerly",
        "nord süd ost west",
        "norden süden osten westen",
        "he she",
        "him them",
        "man woman",
        "men women",
        "male female",
        "males females",
        "mother brother father",
        "debit credit",
        "debtor creditor",
        "maximum minimum",
        "major minor",
        "majority minority",
        "mg kg μg",
        "km cm mm",
        "ml cl dl hl",
        "ascending descending",
        "and any",
        "could would should",
    )
)
"""Words of which none is a misread other one of the same class."""


def contradict(word: str, other: str) -> bool:
    """Whether the two are words of their own, near in letters, that do not say the same."""
    if word == other:
        return False
    return (
        _are_numerals(word, other)
        or any(word in words and other in words for words in _CLASSES)
        or any(
            _is_turned(one, two) or _is_exchanged(one, two)
            for one, two in ((word, other), (other, word))
        )
    )


def _are_numerals(word: str, other: str) -> bool:
    """Whether they are two Roman numbers; an l in one is taken for an i."""
    numerals = [one.replace("l", "i") for one in (word, other)]
    return (
        numerals[0] != numerals[1]
        and max(map(len, numerals)) > 1
        and all(_ROMAN.fullmatch(one) for one in numerals)
    )


def _is_turned(word: str, other: str) -> bool:
    """Whether `other` is `word`, misread or not, and what turns it round."""
    if word and other == word + "less":
        return True
    differing = Levenshtein.distance(other, word)
    rests = ((start, other[len(start) :]) for start in _TURNING if other.startswith(start))
    # where more of it is the same, the "ir" of "irnpossible" is a misread "im"
    return any(
        differing - len(start) == Levenshtein.distance(rest, word) <= len(word) // 5
        for start, rest in rests
    )


def _is_exchanged(word: str, other: str) -> bool:
    """Whether they are one word with two beginnings, or two ends, that make contraries."""
    return any(
        word.startswith(a) and other.startswith(b) and word[len(a) :] == other[len(b) :]
        for a, b in _EXCHANGED
        if len(word) > len(a) + 2
    ) or any(
        word.endswith(a) and other.endswith(b) and word[: -len(a)] == other[: -len(b)]
        for a, b in _ENDINGS
        if len(word) > len(a) + 2
    )
