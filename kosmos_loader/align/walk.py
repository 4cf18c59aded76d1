"""The source of markdown, walked beside the tokens that it was parsed into.

The tokens do not say at which character they stand. But a text stands there as it is, marks are as
long as they say, and the tail of a link is found with the parser's own helpers. What cannot be
found again has no plain text, and stays in the markdown all the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it.helpers import parseLinkDestination, parseLinkTitle
from markdown_it.token import Token

_LINE_BREAK = re.compile(r"[ \t]*\\?(\n)[ \t]*")
_TAG = re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]*>|<[!?][^<>]*>", re.DOTALL)
_PIPE = re.compile(r"(?<!\\)\|")
_BROKEN_PIPE = "\\|"

Places = Sequence[int]
"""Where the characters of a text stand in the markdown, and last, where the text ends."""


@dataclass(frozen=True, slots=True)
class Source:
    """Markdown and its lines."""

    written: str
    text: str
    """`written` as it is parsed, of the same length."""

    lines: Sequence[str]
    offsets: Sequence[int]
    """Where each line starts in `text`."""


class Walk:
    """Plain text that grows along the source; places count from the start of all markdown."""

    def __init__(self, source: Source) -> None:
        self._source, self._lines, self._offsets = source.text, source.lines, source.offsets
        self._numbered: dict[int, int] = {}  # by line: where its last list number ends
        self._row = 0
        self._cells: list[tuple[int, int]] = []  # of the row: what is not read yet
        self.text: list[str] = []
        self.starts: list[int] = []
        self.ends: list[int] = []

    def read(self, token: Token) -> None:
        """Add what a block token holds."""
        first, end = token.map or (0, 0)
        match token.type:
            case "list_item_open" if token.info:
                self._number(first, token.info + token.markup)
            case "tr_open":
                self._row, self._cells = first, _cells(self._lines[first])
            case "tr_close":
                self._surplus()
            case "inline" if token.content:
                self._part()
                places = self._places(first, end, token.content)
                self._inline(token.children or [], token.content, places)
            case "fence":
                self._code(first + 1, end, token.content)
            case "code_block":
                self._code(first, end, token.content)
            case "html_block":
                self._html(first, end)
            case _:
                pass

    def take(self, places: Sequence[int], text: str) -> None:
        """Add characters that each stand at a place of their own, if they were found."""
        if not places or places[0] < 0:
            return
        self.text.append(text)
        self.starts.extend(places)
        self.ends.extend([place + 1 for place in places])
        pipe = text.find("|")
        while pipe >= 0:
            # a backslash stands where the pipe should, in a cell
            self.ends[pipe - len(text)] += self._source[places[pipe]] == "\\"
            pipe = text.find("|", pipe + 1)

    def _take_whole(self, text: str, start: int, end: int) -> None:
        """Add characters that are written together: an escape, an entity."""
        self.text.append(text)
        self.starts.extend([start] * len(text))
        self.ends.extend([end] * len(text))

    def _part(self) -> None:
        """Part what comes from what was there; what parts stands nowhere."""
        if self.ends:
            self._take_whole("\n", self.ends[-1], self.ends[-1])

    def _number(self, line: int, number: str) -> None:
        """The number of a list item, which is a mark in markdown and text on the page."""
        at = self._lines[line].find(number, self._numbered.get(line, 0))
        if at < 0:
            return
        self._numbered[line] = at + len(number)
        self._part()
        start = self._offsets[line] + at
        self.take(range(start, start + len(number)), number)

    def _places(self, first: int, end: int, content: str) -> Places:
        if self._cells and end - first == 1:
            places = self._places_in_cell(first, content)
            if places is not None:
                return places
        places = []
        for line, part in zip(range(first, end), content.split("\n"), strict=False):
            places += self._places_on_line(line, part)
        return places

    def _places_on_line(self, line: int, content: str) -> list[int]:
        """Places of `content`, which stands last on its line but for blanks and closing marks.

        A place of -1 is a character that is not found.
        """
        bare = content.strip()
        at = self._lines[line].rfind(bare) if bare else -1
        if at < 0:
            return [-1] * (len(content) + 1)
        # tabs before it may have become spaces, which stand nowhere
        indent = len(content) - len(content.lstrip())
        start = self._offsets[line] + at
        return [start] * indent + list(range(start, start + len(content) - indent + 1))

    def _places_in_cell(self, line: int, content: str) -> list[int] | None:
        written = self._lines[line]
        while self._cells:
            start, end = self._cells.pop(0)
            text = written[start:end]
            places = list(range(start, end))
            pipe = text.find(_BROKEN_PIPE)
            while pipe >= 0:
                text = text[:pipe] + text[pipe + 1 :]
                del places[pipe + 1]
                pipe = text.find(_BROKEN_PIPE, pipe + 1)
            if (bare := text.strip()) == content:
                skipped = text.index(bare)
                places = [*places[skipped : skipped + len(bare)], end]
                return [self._offsets[line] + place for place in places]
        return None

    def _surplus(self) -> None:
        """Cells beyond those of the head, which a parser leaves out and a page has."""
        for start, end in self._cells:
            cell = self._lines[self._row][start:end].strip()
            if cell:
                self._part()
                at = self._offsets[self._row] + self._lines[self._row].index(cell, start)
                self.take(range(at, at + len(cell)), cell)
        self._cells = []

    def _inline(self, tokens: Sequence[Token], content: str, places: Places, at: int = 0) -> None:
        """Add what inline tokens hold; `content` is what they were parsed from."""
        is_autolink = False
        for token in tokens:
            match token.type:
                case "text" if is_autolink:
                    is_autolink = False
                case "text":
                    at = self._found(token.content, content, places, at)
                case "text_special":
                    found = content.find(token.markup, at)
                    if found >= 0:
                        at = found + len(token.markup)
                        self._between(token.content, places, found, at)
                case "softbreak" | "hardbreak":
                    if found_break := _LINE_BREAK.search(content, at):
                        at = found_break.end()
                        self._between("\n", places, found_break.start(1), found_break.end(1))
                case "code_inline":
                    at = self._inline_code(token, content, places, at)
                case "html_inline":
                    at = max(at, content.find(token.content, at)) + len(token.content)
                    if token.content.startswith(("<br", "<BR")):
                        self._part()
                case "link_open" if token.markup == "autolink":
                    # what is shown of it is made readable, so the source is taken instead
                    close = content.find(">", at)
                    self._found(content[at + 1 : close], content, places, at)
                    at, is_autolink = close, True
                case "link_open":
                    at += 1
                case "link_close":
                    at = at + 1 if token.markup == "autolink" else _link_end(content, at)
                case "image":
                    self._inline(token.children or [], content, places, at + 2)
                    at = _link_end(content, at + 2 + len(token.content))
                case _:
                    at += len(token.markup)

    def _between(self, text: str, places: Places, start: int, end: int) -> None:
        if places[start] >= 0:
            self._take_whole(text, places[start], max(places[start], places[end - 1] + 1))

    def _found(self, text: str, content: str, places: Places, at: int) -> int:
        """Add `text` from where it stands in `content` at `at` or behind; where that ends."""
        start = content.find(text, at) if text else -1
        if start < 0:
            return at
        self.take(places[start : start + len(text)], text)
        return start + len(text)

    def _inline_code(self, token: Token, content: str, places: Places, at: int) -> int:
        # line ends in code were made spaces
        start = at + len(token.markup)
        end = self._found(token.content, content.replace("\n", " "), places, start)
        close = content.find(token.markup, end)
        return close + len(token.markup) if close >= 0 else end

    def _code(self, first: int, end: int, content: str) -> None:
        for line, part in zip(range(first, end), content.split("\n"), strict=False):
            if part.strip():
                self._part()
                bare = part.strip()
                self.take(self._places_on_line(line, bare)[:-1], bare)

    def _html(self, first: int, end: int) -> None:
        written = "\n".join(self._lines[first:end])
        done = 0
        for start, stop in [*(m.span() for m in _TAG.finditer(written)), (len(written),) * 2]:
            text = written[done:start].strip()
            if text:
                self._part()
                at = self._offsets[first] + written.index(text, done)
                self.take(range(at, at + len(text)), text)
            done = stop


def _cells(row: str) -> list[tuple[int, int]]:
    """Where the cells of a row of a pipe table stand."""
    pipes = [match.start() for match in _PIPE.finditer(row)]
    cells = list(zip([0, *(pipe + 1 for pipe in pipes)], [*pipes, len(row)], strict=True))
    return cells[1:] if not row[: cells[0][1]].strip() else cells


def _link_end(content: str, at: int) -> int:
    """Where the link ends whose text ends at `at`, before its closing bracket."""
    close = content.find("]", at)
    if close < 0:
        return at
    behind = content[close + 1 : close + 2]
    if behind == "(" and (end := _destination_end(content, close + 2)) is not None:
        return end
    if behind == "[" and (label := content.find("]", close + 2)) >= 0:
        return label + 1
    return close + 1


def _destination_end(content: str, at: int) -> int | None:
    at = _past_blanks(content, at)
    destination = parseLinkDestination(content, at, len(content))
    if destination.ok:
        at = _past_blanks(content, destination.pos)
        title = parseLinkTitle(content, at, len(content))
        if title.ok:
            at = _past_blanks(content, title.pos)
    return at + 1 if content[at : at + 1] == ")" else None


def _past_blanks(content: str, at: int) -> int:
    while content[at : at + 1].isspace():
        at += 1
    return at
