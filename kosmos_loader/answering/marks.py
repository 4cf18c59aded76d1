"""The citations in a reply as it comes in: what a model writes in square brackets.

`[3]`, `[3, 4]`, `[3-5]`, or with the words it rests on, `[3: "the words"]`; models write it in many
ways. Text is passed on as soon as no text that follows can change what it is, so that the marks do
not depend on the pieces in which a reply arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

MAX_MARK = 2_000
"""Characters of a citation; a bracket that is open longer is none."""

_OPEN, _CLOSE = "\"“”„«‟'‘", "\"“”»‟’'"
_BRACKET = re.compile(r"(?:(?<![ \t])[ \t]+)?[\[【［]")
_CLOSING = re.compile(r"[\]】］]")
_TRAILING = re.compile(r"(?<![ \t])[ \t]*\Z")
_ITEM = re.compile(
    r"""\s*\^?(?:lines?\s*)?\#?(?P<first>\d{1,5})(?:\s*[-–—]\s*\#?(?P<last>\d{1,5}))?
    (?:†[^\]】］,;]*)?\s*""",
    re.VERBOSE | re.IGNORECASE,
)
_QUOTE = re.compile(
    rf"""[:,]?\s*[{_OPEN}](?P<quote>(?s:.){{1,600}}?)[{_CLOSE}]\s*
    (?=[\]】］]|(?:[,;、]|and\b|&)\s*(?:lines?\s*)?\#?\d)""",
    re.VERBOSE | re.IGNORECASE,
)
_SEPARATOR = re.compile(r"[,;、&]|and\b", re.IGNORECASE)
_BROKEN = re.compile(
    rf"[\[【［]|(?:{_ITEM.pattern})(?::(?!\d)|[,;、&/|.){_OPEN}\[【［]|(?:and|or|to)\b|(?<=\s)\d)",
    re.VERBOSE | re.IGNORECASE,
)
"""How a bracket begins that is meant as a citation, whether or not it can be read as one."""

_OTHER = re.compile(r"\s*[^\s\d^#lL\[【［]")
"""How a bracket begins that is meant as none: `[sic]`."""


@dataclass(frozen=True, slots=True)
class Item:
    """What a model points at: lines `first` to `last`, or some words in them."""

    first: int
    last: int
    quote: str | None = None

    def __str__(self) -> str:
        one = self.first == self.last
        return f"line {self.first}" if one else f"lines {self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Mark:
    """A citation in a reply: characters `start..end` of the text that it was found in."""

    start: int
    end: int
    items: list[Item]
    unread: str = ""
    """The mark as it was written, where not all of it can be read."""


def parts(pieces: Iterable[str]) -> Iterator[str | Mark]:
    """The text and the citations of a reply, in order; other text in brackets is text.

    A citation takes the blanks before it along.
    """
    held = ""
    for piece in pieces:
        held = yield from _decided(held + piece, is_end=False)
    yield from _decided(held, is_end=True)


def _decided(text: str, *, is_end: bool) -> Generator[str | Mark, None, str]:
    """The parts of `text` that no text behind it can change; returns the rest."""
    at = 0
    seen = 0  # brackets before it are text
    while bracket := _BRACKET.search(text, seen):
        mark = _mark_or_text(text, bracket, is_end=is_end)
        if mark == "unknown":
            break
        seen = bracket.end()
        if isinstance(mark, Mark):
            if at < mark.start:
                yield text[at : mark.start]
            yield mark
            at = seen = mark.end
    stop = len(text)
    if not is_end:
        stop = bracket.start() if bracket else _trailing_blanks(text, seen)
    if at < stop:
        yield text[at:stop]
    return text[stop:]


def _trailing_blanks(text: str, start: int) -> int:
    """Where the blanks begin that a citation behind `text` would take along."""
    found = _TRAILING.search(text, start)
    return found.start() if found else len(text)


def _mark_or_text(
    text: str, bracket: re.Match[str], *, is_end: bool
) -> Mark | Literal["text", "unknown"]:
    limit = bracket.end() + MAX_MARK
    reply = text[:limit]
    mark = _mark_at(reply, bracket)
    if mark is not None:
        return mark
    if not (is_end or len(text) >= limit or _is_settled(reply, bracket.end())):
        return "unknown"
    return _broken_mark_at(reply, bracket) or "text"


def _is_settled(reply: str, start: int) -> bool:
    """Whether a bracket before `start` that is no citation yet cannot become one."""
    if _OTHER.match(reply, start):
        return True
    end = _closed(reply, start)
    # only words in quotation marks may hold a bracket that does not close the citation
    return end is not None and not any(mark in reply[start:end] for mark in _OPEN)


def _marks_in(reply: str, read: Callable[[re.Match[str]], Mark | None]) -> Iterator[Mark]:
    end = 0
    for bracket in _BRACKET.finditer(reply):
        mark = read(bracket) if bracket.start() >= end else None
        if mark is not None:
            end = mark.end
            yield mark


def _mark_at(reply: str, bracket: re.Match[str]) -> Mark | None:
    items: list[Item] = []
    at = bracket.end()
    while number := _ITEM.match(reply, at):
        quote = _QUOTE.match(reply, number.end())
        first, last = int(number["first"]), int(number["last"] or number["first"])
        items.append(Item(first, last, quote["quote"] if quote else None))
        at = (quote or number).end()
        if reply[at : at + 1] in tuple("]】］"):
            return Mark(bracket.start(), at + 1, items)
        separator = _SEPARATOR.match(reply, at)
        if separator is None:
            return None
        at = separator.end()
    return None


def _broken_mark_at(reply: str, bracket: re.Match[str]) -> Mark | None:
    """A bracket that is meant as a citation and is none, with the citations inside it."""
    if not _BROKEN.match(reply, bracket.end()):
        return None
    end = _closed(reply, bracket.end())
    if end is None:
        number = _ITEM.match(reply, bracket.end())
        opening = reply[bracket.end() - 1 : number.end()] if number else ""
        return Mark(bracket.start(), number.end(), [], opening) if number else None
    inside = reply[bracket.end() : end - 1]
    marks = list(_marks_in(inside, lambda bracket: _mark_at(inside, bracket)))
    starts, ends = [mark.start for mark in marks], [mark.end for mark in marks]
    rest = [inside[a:b] for a, b in zip([0, *ends], [*starts, len(inside)], strict=True)]
    if not marks and not any(character.isdecimal() for character in inside):
        return None
    items = [item for mark in marks for item in mark.items]
    is_read = not any(map(str.isalnum, "".join(rest)))
    return Mark(bracket.start(), end, items, "" if is_read else reply[bracket.end() - 1 : end])


def _closed(reply: str, start: int) -> int | None:
    """Behind the bracket that closes the one before `start`, None where none soon does."""
    # a model that repeats itself writes thousands that open, each of which would be gone through
    if not _CLOSING.search(reply, start):
        return None
    depth = 1
    for at in range(start, len(reply)):
        depth += (reply[at] in "[【［") - (reply[at] in "]】］")
        if depth == 0:
            return at + 1
    return None
