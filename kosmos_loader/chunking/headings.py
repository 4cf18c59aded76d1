"""Headings as a path, and markdown as one reads it."""

from __future__ import annotations

import html
import re

from kosmos_loader.document import Block

MAX_HEADING = 200
"""Characters of a heading that are kept in the path; its own chunk holds all of it."""

_HEADING = re.compile(r"[ \t]*\#{1,6}(?=\s|$)(?P<text>.*?)(?:[ \t]\#+)?[ \t]*")
_LEAD = re.compile(r"[ \t]*(?:[>*+•-](?=\s|$)|(?:```|~~~).*)")
PIPE = re.compile(r"(?<!\\)\|")
"""The border of a cell; an escaped bar is none."""

_EMPHASIS = re.compile(
    r"(?<!\\)(?:\*\*|__|`)|(?<![\\\w])[*_](?=\S)|(?<=[^\s\\])[*_](?!\w)|</?(?:sup|sub|b|i|em|strong|u)>"
)
_LINE_BREAK = re.compile(r"<br\s*/?>")
_ESCAPE = re.compile(r"\\(?=[\\`*_{}\[\]()#+\-.!|<>~&$])")


def plain(markdown: str) -> str:
    """`markdown` as one line to read: without marks and escapes, white space made single."""
    return plain_inline(" ".join(map(_without_lead, markdown.split("\n"))))


def plain_inline(markdown: str) -> str:
    """The same for a part of a line, as a cell is one: the dash before a number there is a minus.

    Entities are what they stand for.
    """
    bare = PIPE.sub(" ", _LINE_BREAK.sub(" ", markdown))
    return " ".join(html.unescape(_ESCAPE.sub("", _EMPHASIS.sub("", bare))).split())


def _without_lead(line: str) -> str:
    """A line of markdown without what makes it a heading, an item, a quotation or a fence."""
    heading = _HEADING.fullmatch(line)
    if heading:
        return heading["text"]
    lead = _LEAD.match(line)
    return line[lead.end() :] if lead else line


class Headings:
    """The headings above the place that is reached, nested by their levels."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []

    @property
    def path(self) -> tuple[str, ...]:
        """Their texts, outermost first."""
        return tuple(text for _, text in self._path)

    def leave(self, level: int) -> None:
        """Close the sections that a heading of `level` ends."""
        self._path = [(above, text) for above, text in self._path if above < max(level, 1)]

    def enter(self, heading: Block) -> None:
        """Open the section of `heading`."""
        text = plain(heading.markdown)[:MAX_HEADING].strip()
        if text:
            self._path.append((max(heading.level, 1), text))
