"""The text of a reply as it comes in pieces, made ready to be shown.

Each function takes pieces of text and gives pieces that add up to the same, however the reply was
cut: what is not sure yet is held back. Only `spoken` cannot always: see there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from kosmos_loader.answering.marks import Mark

_THINKING = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_THOUGHT = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_EITHER = re.compile(r"</?think(?:ing)?>", re.IGNORECASE)
_TAGS = ("<think>", "<thinking>", "</think>", "</thinking>")

_STOPS = ".,;:!?"
_SPACED = re.compile(rf"(?<![ \t])[ \t]+([{_STOPS}])(?=\s|$)")

_NOTHING = re.compile(r"[\W_]*not[ _]found(?![^\W_]).{0,200}", re.IGNORECASE | re.DOTALL)
_NEARLY_NOTHING = re.compile(
    r"[\W_]*(?:n(?:o(?:t(?:[ _](?:f(?:o(?:un?)?)?)?)?)?)?)?", re.IGNORECASE | re.DOTALL
)


def spoken(pieces: Iterable[str]) -> Iterator[str]:
    """The reply without what a reasoning model says to itself.

    Where the template of a model opens `<think>` in the prompt (DeepSeek-R1), only the closing tag
    is in the reply. What stands before it is left out as far as it was not given yet: all of it
    where the reply comes in one piece. To hold every reply back for that would end all streaming.
    """
    held, is_thinking, tag = "", False, _EITHER
    for piece in pieces:
        held += piece
        while found := tag.search(held):
            is_thinking = not found.group().startswith("</")
            if is_thinking:
                yield held[: found.start()]
            held = held[found.end() :]
            # once one was opened, those that close nothing are text
            tag = _THOUGHT if is_thinking else _EITHER if tag is _EITHER else _THINKING
        sure = len(held) - _begun(held)
        if not is_thinking:
            yield held[:sure]
        held = held[sure:]
    if not is_thinking:
        yield held


def _begun(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a tag."""
    at = text.rfind("<", max(0, len(text) - max(map(len, _TAGS))))
    ending = text[at:].lower() if at >= 0 else ""
    return len(ending) if ending and any(tag.startswith(ending) for tag in _TAGS) else 0


def unless_silent(parts: Iterable[str | Mark]) -> Iterator[str | Mark | None]:
    """`parts`; only None where they say `NOT_FOUND`, alone or with a short reason without marks."""
    said = ""
    is_open = True
    for part in parts:
        if is_open and isinstance(part, str):
            said += part
            text = said.strip()
            if _NEARLY_NOTHING.fullmatch(text) or _NOTHING.fullmatch(text):
                continue
        if is_open:
            is_open = False
            # a mark that ends the wait comes behind what was held back
            yield said
            if isinstance(part, str):
                continue
        yield part
    if is_open:
        yield None if _NOTHING.fullmatch(said.strip()) else said


def polished(pieces: Iterable[str]) -> Iterator[str]:
    """The text without white space at its ends and before its full stops and commas."""
    held, is_empty = "", True
    for piece in pieces:
        held += piece
        if is_empty:
            held = held.lstrip()
        sure = _sure(held)
        if sure:
            is_empty = False
            yield _SPACED.sub(r"\1", sure)
            held = held[len(sure) :]
    yield _SPACED.sub(r"\1", held).rstrip()


def _sure(text: str) -> str:
    """`text` without what may be white space before a full stop, or at the end."""
    before = text[:-1] if text.endswith(tuple(_STOPS)) else text
    bare = before.rstrip()
    return text if bare == before else bare
