"""Blocks packed into drafts of chunks, one after the other."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from kosmos_loader.chunking.dividing import Fits, Left, word_starts
from kosmos_loader.chunking.measuring import MAX_SPANS, Limits
from kosmos_loader.chunking.prose import sentence_ends
from kosmos_loader.chunking.text import Text
from kosmos_loader.document import Block, PageInfo
from kosmos_loader.errors import UsageError

MARKS = " \t\r\n|-:`~#>*+_"
"""What markdown marks blocks with. Without a place on paper, they are nothing that was read."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a chunk takes of one block, or of one that goes on over pages."""

    origins: Sequence[tuple[Block, int]]
    """The blocks, one of each page, and how many characters of each."""

    content: Text
    above: tuple[str, ...]
    """The headings above it."""

    joiner: str
    """What stands between the part before and this one."""

    is_repeated: bool = False

    @property
    def kind(self) -> str:
        """Of its block."""
        return self.origins[0][0].kind


@dataclass(frozen=True, slots=True)
class Draft:
    """A chunk being filled."""

    parts: tuple[Part, ...] = ()
    content: Text = field(default_factory=Text)

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Draft:
        """The draft that `parts` make."""
        draft = cls()
        for part in parts:
            draft = draft.with_part(part)
        return draft

    def with_part(self, part: Part) -> Draft:
        """The draft with one part more."""
        if not self.parts:
            return Draft((part,), part.content)
        return Draft((*self.parts, part), self.content + Text(part.joiner) + part.content)

    @property
    def new(self) -> list[Part]:
        """The parts that no chunk before it holds."""
        return [part for part in self.parts if not part.is_repeated]

    @property
    def has_body(self) -> bool:
        """Whether it holds more than headings and what is repeated."""
        return any(part.kind != "heading" for part in self.new)

    @property
    def has_headings(self) -> bool:
        """Whether it holds a heading."""
        return any(part.kind == "heading" for part in self.parts)

    def before_last_headings(self) -> tuple[Draft, Draft]:
        """The draft up to the end of its body, and the headings after that."""
        end = len(self.parts)
        while end and self.parts[end - 1].kind == "heading":
            end -= 1
        if end == len(self.parts):
            return self, Draft()
        return Draft.of(self.parts[:end]), Draft.of(self.parts[end:])


class Packer:
    """Fills one draft after another.

    A block that may go on on the next page waits with the draft it stands in (`waits`), placed as
    if it did not go on, until `go_on` or `settle` says what becomes of it. So all that stands
    before it is the same either way.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._draft = Draft()
        self._last: Draft | None = None
        self._waiting: tuple[Left, tuple[str, ...]] | None = None

    @property
    def waits(self) -> bool:
        """Whether its last block may go on."""
        return self._waiting is not None

    @property
    def page(self) -> int:
        """The number of the page on which the draft that waits starts; it does wait."""
        if self._draft.new:
            return page_of(self._draft).number
        return self._waiting[0].page if self._waiting else 0

    def place(
        self, block: Block, above: tuple[str, ...], *, may_go_on: bool = False
    ) -> Iterator[Draft]:
        """Take `block` in, giving back the drafts that are full."""
        self.settle()
        left = Left(block, self._limits)
        if left and block.kind == "heading" and self._draft.has_body and self._is_half_full():
            yield from self._close()
        yield from self._fill(left, above, may_go_on=may_go_on)

    def go_on(self, block: Block, *, may_go_on: bool = False) -> Iterator[Draft]:
        """Let the block that waits go on with `block`, giving back the drafts that are full."""
        if self._waiting is None:
            return
        (left, above), self._waiting = self._waiting, None
        left.extend(block)
        yield from self._fill(left, above, may_go_on=may_go_on, is_placed=True)

    def settle(self) -> None:
        """Leave the block that waits as it is; it does not go on."""
        if self._waiting is not None:
            (left, above), self._waiting = self._waiting, None
            self._take(left, left.end, above)

    def rest(self) -> Iterator[Draft]:
        """The draft that is not full, if there is any."""
        self.settle()
        draft, self._draft = self._draft, Draft()
        yield from self._sound(draft)

    def _fill(
        self, left: Left, above: tuple[str, ...], *, may_go_on: bool, is_placed: bool = False
    ) -> Iterator[Draft]:
        while left:
            self._repeat(left)
            fits = self._room_after(left.joiner)
            end = left.end if left.fits_whole(fits) else 0
            if end and may_go_on:
                self._waiting = left, above
                return
            if is_placed and not end:
                end = left.cut(fits, least=0.0)
            if not end and self._draft.has_body:
                yield from self._close()
                continue
            if not end and not (self._draft.has_headings and self._is_half_full()):
                end = left.cut(fits)
            if not end and self._draft.has_headings:
                yield from self._close()
                continue
            self._take(left, end or self._squeezed(left), above)
            is_placed = False
            if left:
                yield from self._close()

    def _take(self, left: Left, end: int, above: tuple[str, ...]) -> None:
        part = Part(left.origins(end), left.piece(end), above, left.joiner)
        self._draft = self._draft.with_part(part)
        left.drop_until(end)

    def _close(self) -> Iterator[Draft]:
        done, headings = self._draft.before_last_headings()
        if not done.has_body:
            done, headings = self._draft, Draft()
        self._draft, self._last = headings, done
        yield from self._sound(done)

    def _sound(self, draft: Draft) -> Iterator[Draft]:
        """`draft`, if it holds more than marks; its headings one by one, if they count too much.

        A draft with a body was measured as it is, when its last part came. Headings that were taken
        off its end were not, and a tokenizer may count a text for more without what preceded it.
        """
        text, spans = draft.content.text, draft.content.spans
        if not spans and not text.strip(MARKS):
            return
        if draft.has_body or self._limits.holds(text, len(spans)):
            yield draft
            return
        for part in draft.new:
            alone = Packer(self._limits)
            heading = part.origins[0][0]
            yield from alone.place(replace(heading, kind="other"), part.above)
            yield from alone.rest()

    def _squeezed(self, left: Left) -> int:
        """Where to cut when nothing fits: without what is repeated, else anywhere."""
        self._draft, self._last = Draft(), None
        fits = self._room_after(left.joiner)
        if end := left.cut(fits):
            return end
        left.drop_frame()
        if end := left.cut(fits):
            return end
        raise UsageError(
            f"a chunk size of {self._limits.size} does not hold {left.character!r}, one character "
            "of the text; give more"
        )

    def _is_half_full(self) -> bool:
        return 2 * self._limits.measure(self._draft.content.text) >= self._limits.size

    def _room_after(self, joiner: str) -> Fits:
        draft, limits = self._draft, self._limits

        def fits(more: Text) -> bool:
            if len(draft.content.spans) + len(more.spans) > MAX_SPANS:
                return False
            text = draft.content.text + joiner + more.text if draft.parts else more.text
            return limits.measure(text) <= limits.size

        return fits

    def _repeat(self, left: Left) -> None:
        """Open an empty draft with the last sentences of the chunk before."""
        if self._draft.parts or self._last is None or not self._limits.overlap:
            return
        last = self._last.parts[-1]
        if not (_is_prose(last.kind) and _is_prose(left.kind)):
            return
        fits_alone = not left.is_begun and left.fits_whole(self._room_after(left.joiner))
        is_alone = len(self._last.new) == 1
        for start in _overlap_starts(last.content.text, self._limits, is_alone=is_alone):
            piece = last.content.between(start, len(last.content)).stripped()
            self._draft = Draft.of([replace(last, content=piece, is_repeated=True)])
            if not fits_alone or left.fits_whole(self._room_after(left.joiner)):
                return
        self._draft = Draft()


class SentencePacker(Packer):
    """Makes a draft of each sentence, list item, table row and heading."""

    def _fill(
        self, left: Left, above: tuple[str, ...], *, may_go_on: bool, is_placed: bool = False
    ) -> Iterator[Draft]:
        del is_placed  # nothing else stands in its drafts
        if self._draft.parts:
            yield from self._close()
        while left:
            end = left.cut_one(self._room_after(left.joiner))
            if end == left.end and may_go_on:
                self._waiting = left, above
                return
            self._take(left, end or self._squeezed(left), above)
            yield from self._close()


def page_of(draft: Draft) -> PageInfo:
    """The page on which `draft` starts, what it repeats aside."""
    return (draft.new or draft.parts)[0].origins[0][0].page


def _is_prose(kind: str) -> bool:
    return kind not in ("heading", "table", "code")


def _overlap_starts(text: str, limits: Limits, *, is_alone: bool) -> Sequence[int]:
    """Where an overlap may start in `text`: sentences, the longest first, or some words.

    A chunk that is nothing but `text` is not repeated as a whole.
    """

    def is_small(start: int) -> bool:
        return limits.measure(text[start:]) <= limits.overlap

    sentences = sentence_ends(text) if is_alone else [0, *sentence_ends(text)]
    first = bisect_left(sentences, True, key=is_small)
    if first < len(sentences):
        return sentences[first:]
    words = word_starts(text)
    first = bisect_left(words, True, key=is_small)
    return words[first : first + 1]
