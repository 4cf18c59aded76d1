"""What kind of thing a question asks for, and how such a thing looks on a page.

The patterns are of English, and gentle: they move a line up or down among others. Whether a page is
about the question at all is decided by its words alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kosmos_loader.answering.words import Date, Words


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.VERBOSE)


_NEVER = _pattern(r"(?!)")


@dataclass(frozen=True)
class Kind:
    """A kind of answer: how a question asks for it, and how it looks on a page."""

    name: str
    asked: re.Pattern[str]
    looks: re.Pattern[str]
    labels: re.Pattern[str]
    """Words that stand beside it."""

    is_sure: bool = True
    """Whether a line that does not look like it can hardly hold it."""

    hint: re.Pattern[str] | None = None
    """What a line must have at least, to hold it in a form that `looks` does not know."""

    label_bonus: float = 0.15

    def is_in(self, text: str, words: Words, *, known: Sequence[Date] = ()) -> bool:
        """Whether something of this kind stands in `text`, whose words are `words`.

        A date that the question names itself, one of `known`, is not the one that it asks for.
        """
        if self.name in ("date", "deadline"):
            return any(not any(date.is_same(k) for k in known) for date in words.dates)
        if self.name == "address" and _NO_ADDRESS.search(text) and not self.labels.search(text):
            return False
        return self.looks.search(text) is not None

    def may_be_in(self, text: str) -> bool:
        """Whether a line that does not look like it may hold it all the same."""
        return not self.is_sure or (self.hint is not None and bool(self.hint.search(text)))

    def bonus(self, text: str) -> float:
        """What makes one line a better answer of this kind than another."""
        if self.name == "money":
            return _money_bonus(text)
        return _date_bonus(text) if self.name == "date" else 0.0

    def bonus_of_place(self, text: str, *, above: int, below: int) -> float:
        """What speaks for a line of which so many stand `above` and `below` on the page.

        It counts where a question is about the page as a whole.
        """
        if self.name == "money":
            # the last of several totals is the one that was paid
            return 0.04 * above / (above + below + 1)
        # the head of a page says whose it is, and of which day
        if self.name == "date":
            return max(0.0, 0.1 - 0.005 * above)
        if self.name == "address" or (self.name == "company" and _is_title(text)):
            return max(0.0, 0.2 - 0.03 * above)
        return 0.0


_MONEY = _pattern(
    r"""(?:[$€£¥]|\b(?:rm|usd|eur|gbp|chf|fr)\b\.?)\s*\d[\d.,\s]*
    | (?<![\d/.\-])\d{1,3}(?:[ ,.']\d{3})*[.,]\s?\d{2}(?![\d/%.\-])
    | (?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d)
    | \b(?:value|price|amount|paid|cost|fee|sum|total|balance|dues|rent|wages)\b\s*:\s*\d
    | (?<!\d)\d+\s?(?:s|l|d)\.?\s+\d
    | \d\s*(?:pounds?|dollars?|euros?|shillings?|pence|guineas?|francs?|marks?|cents?)\b"""
)
_FINAL = _pattern(
    r"grand|\bnett?\b|(?:amount|balance|total)\s+due|payable|rounded|after\s+(?:adj|round)"
)
_INCLUSIVE = _pattern(r"\binc(?:l|lusive|luding)\b")
_PARTIAL = _pattern(
    r"""\bsub|qty|quantity|\bitems?\b|excl|\bgst\b|\btax\b|\bvat\b|discount|cash|saving|rounding
    |before|tender|\bpaid\b|suppl|summary|includ(?:ed|es)"""
)
_CHANGE = _pattern(r"\bchange\b")


def _money_bonus(text: str) -> float:
    if _CHANGE.search(text):
        return -0.2
    # a row with several amounts is a summary of taxes, or an item with its price
    alone = 0.05 if len(_MONEY.findall(text)) == 1 else 0.0
    if _FINAL.search(text):
        return 0.05 + alone
    is_part = _PARTIAL.search(text) and not _INCLUSIVE.search(text)
    return alone - (0.1 if is_part else 0.0)


def _date_bonus(text: str) -> float:
    words = Words(text)
    whole = 0.05 if any(date.is_whole for date in words.dates) else 0.0
    # a date alone on its line, or with its label, is the date of the page
    return whole + (0.08 if len(text) <= 25 else 0.0)


_ADDRESS = _pattern(
    r"""\b(?:street|st|road|rd|avenue|ave|lane|square|drive|boulevard|quay|wharf|jalan|jln|taman|tmn
    |lorong|lot|floor|level|suite|box)\b
    | \bno\s?\.?\s?\d | \b\d{4,6}\s+[^\W\d]{2,} | \b[A-Z]{1,2}\d{1,2}[A-Z]?\s+\d[A-Z]{2}\b"""
)
_NO_ADDRESS = _pattern(r"@|www|\btel|phone|\bfax|\bgst|\bsst|\breg\b|invoice|receipt")
_NO_TITLE = _pattern(r"invoice|receipt|\bbill\b|statement|\bcopy\b|\btel\b|:")


def _is_title(text: str) -> bool:
    """Whether `text` can be a name at the head of a page."""
    letters = sum(character.isalpha() for character in text)
    is_words = letters >= 5 and 2 * letters > len(text.replace(" ", ""))
    return is_words and not _NO_TITLE.search(text) and not _ADDRESS.search(text)


def may_be_address(text: str, words: Words) -> bool:
    """Whether a line between two of an address can be part of it."""
    return ":" not in text and not words.dates and not _NO_ADDRESS.search(text)


def ends_address(upper: str, lower: str) -> bool:
    """Whether an address that reaches down to `upper` goes on in a `lower` that looks like none.

    It does after a comma, and where `lower` is a town or country alone.
    """
    is_name = len(lower.split()) <= 3 and not any(letter.isdecimal() for letter in lower)
    return upper.endswith(",") or is_name


_PERSON = _pattern(
    r"""\b(?:mr|mrs|ms|miss|dr|sir|captain|capt|prof)\b
    |(?-i:\b[A-Z](?:\.|[a-z]+)\s*(?:[A-Z]\.?\s+)?[A-Z][a-z]+)"""
)

KINDS = (
    Kind(
        "count",
        asked=_pattern(r"\bhow\s+many\b|\bquantity\b"),
        looks=_pattern(
            r"""\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty
            |forty|fifty|sixty|hundred|dozen)\b"""
        ),
        labels=_pattern(r"\bqty\b|quantity|\bcount\b|\bnumber\s+of\b"),
    ),
    Kind(
        "email",
        asked=_pattern(r"\be-?mail\b"),
        looks=_pattern(r"\S\s?@\s?\S[^\s.@]*\.\S"),
        labels=_pattern(r"e-?mail"),
    ),
    Kind(
        "web",
        asked=_pattern(r"\bweb\s?-?(?:site|page|address)\b|\burl\b"),
        looks=_pattern(r"www\.|https?:|\b\w+\.(?:com|org|net|gov|edu)\b"),
        labels=_pattern(r"web|www|url"),
    ),
    Kind(
        "phone",
        asked=_pattern(r"\b(?:tele)?phone\b|\btel\b|\bfax\b|\bmobile\b|\bcall\b"),
        looks=_pattern(r"(?<!\d)\+?\(?\d[\d\s()./\-]{5,}\d"),
        labels=_pattern(r"\btel|phone|\bfax\b|mobile|\bh/?p\b|\bcall\b"),
    ),
    Kind(
        "address",
        asked=_pattern(r"\baddress|\bwhere\b|\blocat|\bstreet\b"),
        looks=_ADDRESS,
        labels=_pattern(r"\baddress\b|\blocation\b|\bat\b"),
        is_sure=False,
    ),
    Kind(
        "company",
        asked=_pattern(
            r"""\bcompany\b|\bfirm\b|\bshop\b|\bstore\b|\bmerchant\b|\bvendor\b|\bseller\b
            |\bsupplier\b|\bissue[rd]\b|\bbusiness\b"""
        ),
        looks=_pattern(
            r"""s\s?d\s?n\.?\s?b\s?h\s?d|\bltd\b|\blimited\b|\binc\b|\bcorp|\bgmbh\b|\bllc\b|\bllp\b
            |\bplc\b|\bcompany\b(?!\s*(?:no|reg))|\bco\b(?!\.?\s*(?:no|reg))|\benterprises?\b
            |\btrading\b|\bbros\b|\b&\s+sons?\b|\bsons\b|\bstores?\b|\bshop\b|\brestaurant\b|\bmart\b
            |\bmarket\b|\bhouse\b|\bworks\b|^\W*(?:company|firm|supplier|vendor|insurer)\b\s*:"""
        ),
        labels=_pattern(r"^\W*(?:company|firm|supplier|vendor|insurer)\b\s*:"),
        is_sure=False,
    ),
    Kind(
        "signature",
        asked=_pattern(
            r"\bwho\b.*\b(?:signed|wrote|written|sent)\b|\bsign(?:ed|atory)\b|\bauthor\b"
        ),
        looks=_PERSON,
        labels=_pattern(
            r"""^\W*(?:yours|(?:with\b.*|kind\s+|best\s+)?regards|faithfully|sincerely|respectfully
            |signed|signature)\b"""
        ),
        is_sure=False,
        label_bonus=1.2,  # nothing else tells a signature from the names in a letter
    ),
    Kind(
        "person",
        asked=_pattern(r"\bwho(?:m|se)?\b"),
        looks=_PERSON,
        labels=_pattern(r"\bsigned\b|\bname\b|\bby\b|\bcashier\b|\bfrom\b|yours"),
        is_sure=False,
    ),
    Kind(
        "deadline",
        asked=_pattern(
            r"""\bby\s+(?:what|which)\s+(?:date|day)\b|\bby\s+when\b|\buntil\s+(?:when|what|which)\b
            |\bdeadline\b|\bdue\s+date\b|\bwhen\b.*\b(?:due|expires?)\b"""
        ),
        looks=_NEVER,  # as for a date
        labels=_pattern(r"\bdue\b|deadline|\buntil\b|\bbefore\b|latest|expir|\bvalid\b|\bpay"),
        label_bonus=0.3,
    ),
    Kind(
        "year",
        asked=_pattern(r"\b(?:what|which)\s+year\b"),
        looks=_pattern(r"\b1[0-9]\d\d\b|\b20\d\d\b"),
        labels=_pattern(r"\byear\b"),
    ),
    Kind(
        "date",
        asked=_pattern(r"\bwhen\b|\bdates?\b|\bday\b|\byear\b|\bmonth\b|\bhow\s+old\b"),
        looks=_NEVER,  # a date is looked for by `Words.dates`
        labels=_pattern(r"\bdated?\b"),
    ),
    Kind(
        "money",
        asked=_pattern(
            r"""\bhow\s+much\b|\btotal\b|\bamounts?\b|\bprices?\b|\bcosts?\b|\bbalance\b|\bsum\b
            |\bfees?\b|\bcharged?\b|\bsubtotal\b|\bsalary\b|\bwages?\b|\brent\b|\bdues\b"""
        ),
        looks=_MONEY,
        labels=_pattern(r"\btotal\b|\bamount\b|\bsum\b|\bbalance\b|\bdue\b|\bpaid\b"),
        hint=_pattern(r"(?<!\d)(?!(?:1[5-9]|20)\d\d(?!\d))\d"),  # a number that is no year
    ),
    Kind(
        "number",
        asked=_pattern(r"\bnumber\b|\bno\.|\breference\b|\bref\b|\bcode\b|\bid\b"),
        looks=_pattern(r"\b(?=[\w\-/]*\d)[\w\-/]{3,}"),
        labels=_pattern(r"\bno\b|\bnumber\b|\bref|\bnr\b|\#|\bid\b"),
    ),
)


def kind_asked(question: str) -> Kind | None:
    """The kind that is named first: in "the address of the shop" it is the address."""
    asked = ((kind.asked.search(question), kind) for kind in KINDS)
    found = [(match.start(), kind) for match, kind in asked if match]
    return min(found, key=lambda pair: pair[0])[1] if found else None
