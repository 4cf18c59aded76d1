"""Blocks to chunks: pieces of a size to embed, in which every character keeps its place on paper.

The rules, in the order in which they win over one another:

1. No chunk runs over the border of a document or of a page. So a page put into the middle of a
   document changes no chunk, and no chunk id, of the other pages.
2. No chunk is larger than `size`, measured by `length`, nor holds more than `MAX_SPANS` spans. The
   one exception is a single table row (or a single character) that is larger by itself.
3. A table row is never split. Where a table is, the rows above its separator are repeated in every
   piece, with their spans, as long as one more row fits beside them.
4. A heading stands in the chunk of the text below it. It stands alone only at the foot of a page,
   or where it leaves less than half of `size` and the text does not fit into the rest.
5. Chunks end at block borders. A block larger than `size` is split: a list between its items, code
   between its lines, text at sentence ends, else at line ends and white space, else anywhere.
6. A heading starts a new chunk once half of `size` is gathered.

Running headers and footers of a page become a chunk of their own (kind "header" or "footer"), since
nothing that was read is lost, and words of another section do not belong into a paragraph.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from operator import attrgetter

from kosmos_loader.document import FLAGS, Block, Chunk, PageInfo, Span
from kosmos_loader.errors import UsageError

MAX_SPANS = 100
"""Spans of one chunk: with more, its metadata would not stay under 10 KB."""

MAX_HEADING = 200
"""Characters of a heading that are kept in the path; its own chunk holds all of it."""

BREAK = "\n\n"
"""Between two blocks of a chunk."""

Fits = Callable[["_Text"], bool]


def chunk(
    blocks: Iterable[Block],
    *,
    size: int = 1000,
    overlap: int = 0,
    length: Callable[[str], int] = len,
) -> Iterator[Chunk]:
    """Chunks of `blocks`, lazily: the blocks of one page are held at a time.

    `blocks` come page by page in reading order, one document after another. Headings are carried
    over pages, so give the blocks of a document in one call.

    `size` and `overlap` are counted by `length`: characters, or what any callable on a string
    counts (the tokens of a model). It should not shrink when the string grows. `size` limits
    `Chunk.text`; the path of headings that is embedded with it comes on top. `overlap`, at most
    half of `size`, repeats the last sentences of a chunk (the last words, where one sentence is
    larger) at the start of the next one on the same page, between running text only. It gives way
    where a block fits without it and not with it.

    `Chunk.headings` are the headings above the chunk. A heading that is part of the chunk stands in
    its text only, so that nothing is embedded twice. `Chunk.kind` is the kind of its blocks other
    than headings, "mixed" where they differ.

    `UsageError` where `size` or `overlap` cannot be meant.
    """
    if size < 1:
        raise UsageError(f"a chunk size of {size} holds nothing; give 1 or more")
    if not 0 <= overlap <= size // 2:
        raise UsageError(f"an overlap of {overlap} is not between 0 and half of the size {size}")
    return _chunks(blocks, _Limits(size, overlap, length))


def sentence_ends(text: str) -> list[int]:
    """Where each sentence of `text` but the last ends: the offsets at which the next one starts.

    A full stop after an abbreviation ("No. 5", "Mr. Wood"), an initial, the number of a list item
    or before a small letter ends nothing.
    """
    return [match.end() for match in _SENTENCE_END.finditer(text) if _ends(text, match)]


_SENTENCE_END = re.compile(
    r"""[.!?…]+["'”’»)\]*_]*\s+|[。！？][」』”’）]*\s*|\n[ \t]*\n\s*""", re.VERBOSE
)
_ABBREVIATIONS = re.compile(
    r"""a\.m|p\.m|e\.g|i\.e|approx|ave|blvd|bros|ca|capt|cf|col|corp|cr|dept|dr|est|etc|gen|gov|hon
    |inc|incl|jr|lt|ltd|maj|messrs|mr|mrs|ms|mt|prof|rd|rev|sen|sgt|sq|sr|st|viz|vs|[a-z]""",
    re.VERBOSE | re.IGNORECASE,
)
_BEFORE_NUMBERS = re.compile(
    r"""art|ch|co|col|ed|ext|figs?|fol|ft|nos?|nr|pl|pp?|ref|sect?|tel|vols?
    |jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec""",
    re.VERBOSE | re.IGNORECASE,
)
_LAST_WORD = re.compile(r"\S{1,12}$")


def _ends(text: str, match: re.Match[str]) -> bool:
    if text[match.start()] != "." or match.end() >= len(text):
        return match.end() < len(text)
    if text[match.end()].islower():
        return False
    found = _LAST_WORD.search(text, max(0, match.start() - 12), match.start())
    word = found.group().lstrip("\"'“‘«([*_") if found else ""
    if word.isdecimal():
        return not _opens_line(text, match.start() - len(word))
    if text[match.end()].isdecimal() and _BEFORE_NUMBERS.fullmatch(word):
        return False
    return not _ABBREVIATIONS.fullmatch(word)


def _opens_line(text: str, at: int) -> bool:
    return not text[text.rfind("\n", 0, at) + 1 : at].strip()


@dataclass(frozen=True, slots=True)
class _Limits:
    size: int
    overlap: int
    length: Callable[[str], int]

    def holds(self, text: str, spans: int) -> bool:
        return spans <= MAX_SPANS and self.length(text) <= self.size


@dataclass(frozen=True, slots=True)
class _Text:
    """A text and the places of its characters."""

    text: str = ""
    spans: tuple[Span, ...] = ()

    def __len__(self) -> int:
        return len(self.text)

    def __add__(self, other: _Text) -> _Text:
        return _Text(self.text + other.text, (*self.spans, *_moved(other.spans, len(self.text))))

    def between(self, start: int, end: int) -> _Text:
        first = bisect_right(self.spans, start, key=attrgetter("end"))
        last = bisect_left(self.spans, end, key=attrgetter("start"))
        inside = (
            Span(max(span.start, start) - start, min(span.end, end) - start, span.page, span.box)
            for span in self.spans[first:last]
        )
        return _Text(self.text[start:end], tuple(inside))

    def stripped(self, characters: str | None = None) -> _Text:
        bare = self.text.strip(characters)
        if len(bare) == len(self.text):
            return self
        start = len(self.text) - len(self.text.lstrip(characters))
        return self.between(start, start + len(bare))


def _moved(spans: Iterable[Span], by: int) -> Iterator[Span]:
    return (Span(span.start + by, span.end + by, span.page, span.box) for span in spans)


# --- Over documents and pages ---------------------------------------------------------------


def _chunks(blocks: Iterable[Block], limits: _Limits) -> Iterator[Chunk]:
    for _, of_document in groupby(blocks, key=lambda block: (block.page.source, block.page.doc_id)):
        headings = _Headings()
        copies: Counter[str] = Counter()
        for _, of_page in groupby(of_document, key=lambda block: block.page.number):
            page = list(of_page)
            digest = page[0].page.digest or f"#{page[0].page.number}"
            drafts = _drafts(page, headings, limits)
            for order, draft in enumerate(drafts):
                yield _finished(draft, order=order, picture=f"{digest}/{copies[digest]}")
            copies[digest] += 1


def _drafts(page: Sequence[Block], headings: _Headings, limits: _Limits) -> Iterator[_Draft]:
    edges = ("header", "footer")
    yield from _pack((b for b in page if b.kind == "header"), _Headings(), limits)
    yield from _pack((b for b in page if b.kind not in edges), headings, limits)
    yield from _pack((b for b in page if b.kind == "footer"), _Headings(), limits)


class _Headings:
    """The headings above the place that is reached, nested by their levels."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(text for _, text in self._path)

    def leave(self, level: int) -> None:
        """Close the sections that a heading of `level` ends."""
        self._path = [(above, text) for above, text in self._path if above < max(level, 1)]

    def enter(self, heading: Block) -> None:
        text = plain(heading.markdown)[:MAX_HEADING].strip()
        if text:
            self._path.append((max(heading.level, 1), text))


_LINE_MARKS = re.compile(
    r"^[ \t]*(?:\#{1,6}(?=\s)|>(?=\s)|[-*+•](?=\s)|(?:```|~~~).*$)|[ \t]\#+[ \t]*$|(?<!\\)\|",
    re.MULTILINE,
)
_EMPHASIS = re.compile(
    r"(?<!\\)(?:\*\*|__|`)|(?<![\\\w])[*_](?=\S)|(?<=[^\s\\])[*_](?!\w)|</?(?:sup|sub|b|i|em|strong|u)>"
)
_LINE_BREAK = re.compile(r"<br\s*/?>")
_ESCAPE = re.compile(r"\\(?=[\\`*_{}\[\]()#+\-.!|<>~&$])")


def plain(markdown: str) -> str:
    """`markdown` as one line to read: without marks and escapes, white space made single."""
    bare = _LINE_MARKS.sub(" ", _LINE_BREAK.sub(" ", markdown))
    return " ".join(_ESCAPE.sub("", _EMPHASIS.sub("", bare)).split())


# --- Filling chunks -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """What a chunk takes of one block."""

    block: Block
    content: _Text
    above: tuple[str, ...] = ()
    joiner: str = BREAK
    is_repeated: bool = False

    @property
    def is_heading(self) -> bool:
        return self.block.kind == "heading"


@dataclass(frozen=True, slots=True)
class _Draft:
    """A chunk being filled."""

    parts: tuple[_Part, ...] = ()
    content: _Text = _Text()

    def joined(self, more: _Text, joiner: str) -> _Text:
        return self.content + _Text(joiner) + more if self.parts else more

    def with_part(self, part: _Part) -> _Draft:
        return _Draft((*self.parts, part), self.joined(part.content, part.joiner))

    @property
    def has_body(self) -> bool:
        return any(not part.is_heading and not part.is_repeated for part in self.parts)

    @property
    def has_headings(self) -> bool:
        return any(part.is_heading for part in self.parts)

    def before_last_headings(self) -> tuple[_Draft, _Draft]:
        """The draft up to the end of its body, and the headings after that."""
        end = len(self.parts)
        while end and self.parts[end - 1].is_heading:
            end -= 1
        return _draft(self.parts[:end]), _draft(self.parts[end:])


def _draft(parts: Iterable[_Part]) -> _Draft:
    draft = _Draft()
    for part in parts:
        draft = draft.with_part(part)
    return draft


def _pack(blocks: Iterable[Block], headings: _Headings, limits: _Limits) -> Iterator[_Draft]:
    packer = _Packer(limits)
    for block in blocks:
        is_heading = block.kind == "heading"
        if is_heading:
            headings.leave(block.level)
        yield from packer.place(block, headings.path)
        if is_heading:
            headings.enter(block)
    yield from packer.rest()


class _Packer:
    """Fills one chunk after another with the blocks of a page."""

    def __init__(self, limits: _Limits) -> None:
        self._limits = limits
        self._draft = _Draft()
        self._last: _Part | None = None

    def place(self, block: Block, above: tuple[str, ...]) -> Iterator[_Draft]:
        """Take `block` in, giving back the chunks that are full."""
        left = _Left(block, self._limits)
        if left and block.kind == "heading" and self._draft.has_body and self._is_half_full():
            yield self._close()
        while left:
            self._repeat(left)
            fits = self._room_after(left.joiner)
            end = left.end if left.fits_whole(fits) else 0
            if not end and self._draft.has_body:
                yield self._close()
                continue
            if not end and not (self._draft.has_headings and self._is_half_full()):
                end = left.cut(fits)
            if not end and self._draft.has_headings:
                yield self._close()
                continue
            if not end:
                end = self._squeezed(left)
            self._draft = self._draft.with_part(_Part(block, left.piece(end), above, left.joiner))
            left.drop_until(end)
            if left:
                yield self._close()

    def rest(self) -> Iterator[_Draft]:
        """The chunk that is not full, if there is any."""
        if self._draft.parts:
            yield self._draft

    def _close(self) -> _Draft:
        done, headings = self._draft.before_last_headings()
        if not done.has_body:
            done, headings = self._draft, _Draft()
        self._draft, self._last = headings, done.parts[-1]
        return done

    def _squeezed(self, left: _Left) -> int:
        """Where to cut when nothing fits: without what is repeated, else the smallest piece."""
        self._draft, self._last = _Draft(), None
        fits = self._room_after(left.joiner)
        end = left.cut(fits)
        if end:
            return end
        left.drop_frame()
        return left.cut(fits) or left.smallest

    def _is_half_full(self) -> bool:
        return 2 * self._limits.length(self._draft.content.text) >= self._limits.size

    def _room_after(self, joiner: str) -> Fits:
        draft, limits = self._draft, self._limits

        def fits(more: _Text) -> bool:
            if len(draft.content.spans) + len(more.spans) > MAX_SPANS:
                return False
            text = draft.content.text + joiner + more.text if draft.parts else more.text
            return limits.length(text) <= limits.size

        return fits

    def _repeat(self, left: _Left) -> None:
        """Open an empty draft with the last sentences of the chunk before."""
        last = self._last
        if self._draft.parts or last is None or not self._limits.overlap:
            return
        if not (_is_prose(last.block) and _is_prose(left.block)):
            return
        fits_alone = left.is_untouched and left.fits_whole(self._room_after(left.joiner))
        for start in _overlap_starts(last.content.text, self._limits):
            piece = last.content.between(start, len(last.content)).stripped()
            self._draft = _draft([replace(last, content=piece, is_repeated=True)])
            if not fits_alone or left.fits_whole(self._room_after(left.joiner)):
                return
        self._draft = _Draft()


def _is_prose(block: Block) -> bool:
    return block.kind not in ("heading", "table", "code")


def _overlap_starts(text: str, limits: _Limits) -> Sequence[int]:
    """Where an overlap may start in `text`: sentences, the longest first, or some words."""

    def is_small(start: int) -> bool:
        return limits.length(text[start:]) <= limits.overlap

    sentences = sentence_ends(text)
    first = bisect_left(sentences, True, key=is_small)
    if first < len(sentences):
        return sentences[first:]
    words = _word_starts(text)
    first = bisect_left(words, True, key=is_small)
    return words[first : first + 1]


# --- Dividing a block -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Division:
    """Where a block may be cut."""

    borders: tuple[Sequence[int], ...]
    """Offsets, the last of them its end; the best kind of border first."""

    opening: _Text = _Text()
    """Repeated before every piece but the first: rows above a separator, the mark of code."""

    closing: str = ""
    """After every piece but the last."""

    is_solid: bool = False
    """Whether it is cut at its borders only."""


class _Left:
    """What is left of a block to be put into chunks."""

    def __init__(self, block: Block, limits: _Limits) -> None:
        self.block = block
        self._limits = limits
        self._strip = "\r\n" if block.kind == "code" else None
        self._content = _Text(block.markdown, block.spans).stripped(self._strip)
        self._start = 0
        self._is_framed = True

    def __bool__(self) -> bool:
        return self._start < self.end

    @property
    def end(self) -> int:
        return len(self._content)

    @property
    def is_untouched(self) -> bool:
        """Whether no piece of the block was taken yet."""
        return self._start == 0

    @property
    def joiner(self) -> str:
        """What stands between the last piece and this one."""
        if not self._start:
            return BREAK
        before = self._content.text[max(0, self._start - 100) : self._start]
        return before[len(before.rstrip()) :]

    def piece(self, end: int) -> _Text:
        """What is left up to `end`, with what every piece of the block opens and closes with."""
        piece = self._content.between(self._start, end).stripped(self._strip)
        if (self._start == 0 and end == self.end) or not self._is_framed:
            return piece
        if self._start and self._division.opening.text:
            piece = self._division.opening + piece
        return piece + _Text(self._division.closing) if end < self.end else piece

    def drop_until(self, end: int) -> None:
        """Leave what stands after `end`."""
        self._start = end
        self._is_framed = True

    def drop_frame(self) -> None:
        """Make the next piece without what is repeated in every piece."""
        self._is_framed = False

    def fits_whole(self, fits: Fits) -> bool:
        """Whether all that is left fits; a text far too long is not measured at all.

        A token is rarely longer than eight characters. Where it is, `cut` still finds the end.
        """
        return self.end - self._start <= 8 * self._limits.size and fits(self.piece(self.end))

    def cut(self, fits: Fits) -> int:
        """The end of the best piece that fits, 0 where there is none."""
        best = 0
        for borders in self._division.borders:
            end = self._furthest(borders, fits)
            # a good border that leaves next to nothing before it is worse than white space
            if end == self.end or (end and self._is_sizeable(end)):
                return end
            best = max(best, end)
        if best or self._division.is_solid:
            return best
        return self._before_mark(self._furthest(range(1, self.end + 1), fits))

    @property
    def smallest(self) -> int:
        """The end of the smallest piece: a row, or one character."""
        if not self._division.is_solid:
            return self._start + 1
        ahead = [b[bisect_right(b, self._start) :] for b in self._division.borders]
        return min(borders[0] for borders in ahead if borders)

    @cached_property
    def _division(self) -> _Division:
        match self.block.kind:
            case "table":
                return _rows(self._content)
            case "code":
                return _code_lines(self._content.text)
            case "list":
                return _items(self._content.text)
            case _:
                return _sentences(self._content.text)

    def _is_sizeable(self, end: int) -> bool:
        return 4 * self._limits.length(self.piece(end).text) >= self._limits.size

    def _furthest(self, borders: Sequence[int], fits: Fits) -> int:
        """The last of `borders` up to which the piece fits, 0 where there is none.

        Steps double until a piece is too large, so that nothing much larger than a chunk is ever
        measured; halving decides the rest.
        """
        low = reach = bisect_right(borders, self._start)
        step, best = 1, 0
        while reach < len(borders) and fits(self.piece(borders[reach])):
            best = borders[reach]
            low, reach, step = reach + 1, reach + step, step * 2
        high = min(reach, len(borders))
        while low < high:
            middle = (low + high) // 2
            if fits(self.piece(borders[middle])):
                best, low = borders[middle], middle + 1
            else:
                high = middle
        return best

    def _before_mark(self, end: int) -> int:
        """`end`, or a little before it where it would part a letter from its accent."""
        text, at = self._content.text, end
        while self._start + 1 < at < len(text) and unicodedata.combining(text[at]):
            at -= 1
        return at if at > self._start + 1 else end


_ITEM = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,4}[.)])[ \t]", re.MULTILINE)
_SEPARATOR = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_FENCE = re.compile(r"(?P<marks>`{3,}|~{3,})[^\n]*\n")


def _sentences(text: str) -> _Division:
    return _Division(
        (_ended(sentence_ends(text), text), _ended(_line_starts(text), text), _words(text))
    )


def _items(text: str) -> _Division:
    items = [match.start() for match in _ITEM.finditer(text) if match.start()]
    return _Division((_ended(items, text), *_sentences(text).borders))


def _code_lines(text: str) -> _Division:
    borders = (_ended(_line_starts(text), text), _words(text))
    fence = _FENCE.match(text)
    if fence is None:
        return _Division(borders)
    return _Division(borders, opening=_Text(fence.group()), closing="\n" + fence["marks"])


def _rows(content: _Text) -> _Division:
    ends = _ended(_line_starts(content.text), content.text)
    starts = [0, *ends[:-1]]
    separator = next(
        (i for i in (0, 1) if i < len(ends) and is_separator(content.text[starts[i] : ends[i]])),
        None,
    )
    if separator is None:
        return _Division((ends,), is_solid=True)
    header = content.between(0, ends[separator])
    return _Division((ends[separator + 1 :], ends[separator:]), opening=header, is_solid=True)


def is_separator(line: str) -> bool:
    """Whether `line` is the row of dashes between the head of a pipe table and its body."""
    return "-" in line and _SEPARATOR.fullmatch(line.rstrip("\r\n")) is not None


def _line_starts(text: str) -> list[int]:
    return [match.end() for match in re.finditer(r"\n+", text)]


def _word_starts(text: str) -> list[int]:
    return [match.end() for match in re.finditer(r"\s+", text)]


def _words(text: str) -> list[int]:
    return _ended(_word_starts(text), text)


def _ended(borders: list[int], text: str) -> list[int]:
    return borders if borders and borders[-1] == len(text) else [*borders, len(text)]


# --- From draft to chunk --------------------------------------------------------------------


def _finished(draft: _Draft, *, order: int, picture: str) -> Chunk:
    """The chunk of `draft`; `picture` tells its page from the other pages of its document."""
    first, page = _first_new(draft), draft.parts[0].block.page
    return Chunk(
        text=draft.content.text,
        spans=draft.content.spans,
        source=page.source,
        doc_id=page.doc_id,
        chunk_id=_chunk_id(page, picture, order, draft.content.text),
        page=page.number,
        page_end=max(part.block.page.number for part in draft.parts),
        page_count=page.count,
        page_width=page.width,
        page_height=page.height,
        order=order,
        kind=_kind(draft),
        headings=first.above,
        confidence=_confidence(draft),
        flags=_flags(draft),
        reader=first.block.reader,
        reader_version=first.block.reader_version,
    )


def _first_new(draft: _Draft) -> _Part:
    return next((part for part in draft.parts if not part.is_repeated), draft.parts[0])


def _chunk_id(page: PageInfo, picture: str, order: int, text: str) -> str:
    """128 bits in hex, a form that stores which want UUIDs take as well."""
    key = "\0".join((page.doc_id, picture, str(order), text))
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _kind(draft: _Draft) -> str:
    kinds = {part.block.kind for part in draft.parts if not part.is_repeated}
    kinds = kinds - {"heading"} or kinds
    return kinds.pop() if len(kinds) == 1 else "mixed"


def _confidence(draft: _Draft) -> float | None:
    known = [(p.block.confidence, len(p.content)) for p in draft.parts]
    weighed = [(value, weight) for value, weight in known if value is not None]
    total = sum(weight for _, weight in weighed)
    return sum(value * weight for value, weight in weighed) / total if total else None


def _flags(draft: _Draft) -> tuple[str, ...]:
    raised = {flag for part in draft.parts for flag in part.block.flags}
    return (*(flag for flag in FLAGS if flag in raised), *sorted(raised - set(FLAGS)))
