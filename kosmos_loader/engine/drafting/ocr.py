"""Drafts of `<ocr>`: the grammar of boxes, and the words of lines that are known already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kosmos_loader.document import Line
from kosmos_loader.engine.drafting.base import Drafter, Vocabulary
from kosmos_loader.engine.drafting.known import Known, KnownLines
from kosmos_loader.engine.drafting.lines import BOX, TEXT, Boxed, OcrOutput
from kosmos_loader.structure.marks import BULLET, NUMBERED

DOUBTFUL = 0.2
"""A box is drafted as far as all its sides are right with at least this probability."""

LIKELY = 0.3
"""A line end, bullet or repeated word is drafted where it has been right as often as this."""


class Ways:
    """Several ways to guess a number, and how often each has been right of late."""

    def __init__(self, *scores: float, learning: float = 0.25) -> None:
        self.scores = list(scores)
        self.learning = learning
        """Weight of the latest answer."""

    def best(self, guesses: Sequence[int | None]) -> tuple[int | None, float]:
        """The guess of the way that has been right most often, and how often that was."""
        chosen, trust = None, 0.0
        for guess, score in zip(guesses, self.scores, strict=True):
            if guess is not None and score > trust:
                chosen, trust = guess, score
        return chosen, trust

    def learn(self, guesses: Sequence[int | None], right: int) -> None:
        """Takes in that `right` was."""
        scores = self.scores
        for way, guess in enumerate(guesses):
            if guess is not None:
                scores[way] += self.learning * ((guess == right) - scores[way])


class OcrDrafter(Drafter):
    """Drafts an `<ocr>` output: its box grammar, and the words of lines that are known already.

    `width` and `height` are the pixels of the resized page. `lines` may be a born-digital text
    layer, an old OCR layer or what another reader saw. Where the model reads something else, in
    another order or in other pieces, the drafts follow it; lines that hardly ever agree with it
    are given up.
    """

    def __init__(
        self, vocabulary: Vocabulary, *, width: int, height: int, lines: Iterable[Line] = ()
    ) -> None:
        self.vocabulary = vocabulary
        self.height = height
        self._known = KnownLines(vocabulary, lines, width=width, height=height)
        self._begin()

    def _begin(self) -> None:
        self._seen = 0
        self._output = OcrOutput(self.vocabulary)
        self._known.begin()
        # the first two ways are a known line with and without the usual shift; see _guesses
        self._sides = (
            Ways(0.9, 0.8, 0.5, 0.4, 0.3),
            Ways(0.9, 0.8, 0.4, 0.5, 0.3),
            Ways(0.9, 0.8, 0.2, 0.1),
            Ways(0.9, 0.8, 0.6),
        )
        self._ending = Ways(0.5)
        self._marking = Ways(0.5)
        self._repeats = Repeats()
        self._letters = 0
        """Of the open line."""

        self._mark = ""
        """The bullet or number that it may begin with."""

    def propose(self, tokens: Sequence[int], limit: int) -> Sequence[int]:
        """At most `limit` tokens that may follow `tokens`, an `<ocr>` output without its prompt."""
        if len(tokens) < self._seen:
            self._begin()
        for token in tokens[self._seen :]:
            self._read(token)
        self._seen = len(tokens)
        return self._draft(limit)[:limit] if limit > 0 else []

    # --- reading what the model wrote

    def _read(self, token: int) -> None:
        output = self._output
        if output.phase == TEXT:
            self._read_word(token)
            output.read(token)
            if output.phase != TEXT:
                self._end_line()
        elif output.phase == BOX:
            self._read_side(token)
        else:
            output.read(token)

    def _read_side(self, token: int) -> None:
        output = self._output
        number = len(output.box)
        guesses = self._guesses(number, output.box, output.lines, self._known.now)
        output.read(token)
        if len(output.box) > number:
            self._sides[number].learn(guesses, output.box[number])
            self._known.compare(output.box)
        elif output.phase == TEXT:
            self._letters = 0
            self._mark = _next_mark(output.lines)
            self._repeats.begin()
            self._known.begin_line(output.box)

    def _read_word(self, token: int) -> None:
        self._letters += len(self.vocabulary.text(token))
        if self._known.now is None:
            self._repeats.read(token)
        if self._known:
            self._known.read(token)

    def _end_line(self) -> None:
        self._known.end_line()
        if lines := self._output.lines:
            expected = _letters_in(lines[-1].sides, lines[:-1])
            self._ending.learn([expected], len(lines[-1].text))
            if self._mark:
                self._marking.learn([1], int(lines[-1].text.startswith(self._mark)))

    # --- drafting what comes next

    def _draft(self, limit: int) -> Sequence[int]:
        output = self._output
        if output.phase == TEXT:
            return self._draft_words(limit)
        if output.phase == BOX:
            return self._draft_box(output.box, output.lines, self._known.now, limit)
        return self._draft_line(output.lines, self._known.now, limit)

    def _draft_line(self, lines: Sequence[Boxed], known: Known | None, limit: int) -> list[int]:
        """A new line below `lines`, or the end of the output."""
        if self._known:
            goes_on = known is not None
        else:
            goes_on = not lines or lines[-1].y1 + lines[-1].height // 2 < self.height
        if not goes_on:
            return [self.vocabulary.end]
        return [self.vocabulary.bbox, *self._draft_box((), lines, known, limit - 1)]

    def _draft_box(
        self, sides: Sequence[int], lines: Sequence[Boxed], known: Known | None, limit: int
    ) -> list[int]:
        """The rest of a box below `lines` of which `sides` are written, and its known text."""
        vocabulary = self.vocabulary
        draft: list[int] = []
        box = list(sides)
        trust = 1.0
        while len(box) < 4 and len(draft) < limit:
            number = len(box)
            pixel, right = self._sides[number].best(self._guesses(number, box, lines, known))
            trust *= right
            token = None if pixel is None else vocabulary.side_token(number, pixel)
            if pixel is None or token is None or trust < DOUBTFUL:
                return draft
            box.append(pixel)
            draft.append(token)
        draft.append(vocabulary.end_bbox)
        if known and len(draft) < limit:
            draft += known.spelled(vocabulary, known.said)
        return draft

    def _draft_words(self, limit: int) -> Sequence[int]:
        output, known = self._output, self._known
        if known.now:
            draft = known.ahead(limit)
        elif not self._letters and self._mark and self._marking.scores[0] > LIKELY:
            # with a letter behind it, since a space may belong to what follows
            return self.vocabulary.spell(self._mark + "x")[:-1]
        elif self._is_full():
            draft = self.vocabulary.spell("\n")
        else:
            return self._repeats.ahead(limit)
        if not draft or len(draft) >= limit or len(output.box) < 4:
            return draft
        x0, y0, x1, y1 = output.box
        lines = [*output.lines[-8:], Boxed(x0, y0, x1, y1, "")]
        return [*draft, *self._draft_line(lines, known.beyond, limit - len(draft))]

    def _is_full(self) -> bool:
        """Whether the open line is as long as its box lets expect."""
        box = self._output.box
        return (
            len(box) == 4
            and self._ending.scores[0] > LIKELY
            and self._letters == _letters_in(box, self._output.lines)
        )

    def _guesses(
        self, number: int, box: Sequence[int], lines: Sequence[Boxed], known: Known | None
    ) -> list[int | None]:
        """What side `number` of the box below `lines` may be, by each way; `box` is known of it."""
        if number > 3:
            return []
        side = known.line.sides[number] if known else None
        shifted = None if side is None else side + self._known.shift[number]
        if not lines:
            return [shifted, side, *[None] * (len(self._sides[number].scores) - 2)]
        last = lines[-1]
        before = lines[-2] if len(lines) > 1 else last
        match number:
            case 0:  # as the line above; in tables of two and three columns as the cell above
                third = lines[-3].x0 if len(lines) > 2 else None
                return [shifted, side, last.x0, before.x0, third]
            case 1 if box[0] >= last.x1 or box[0] > last.x0 + 2 * last.height:  # beside
                return [shifted, side, last.y0, None, None]
            case 1:  # close below, a pitch below, or with a line left free
                pitch = last.y0 - before.y0
                return [shifted, side, last.y1, last.y0 + pitch, last.y1 + last.height]
            case 2:
                return [shifted, side, last.x1, max(line.x1 for line in lines[-8:])]
            case _:
                return [shifted, side, box[1] + last.height]


def _letters_in(box: Sequence[int], lines: Sequence[Boxed]) -> int | None:
    """Characters that fit into `box` in type as wide as that of the last of `lines`."""
    if not lines or lines[-1].x1 <= lines[-1].x0:
        return None
    last = lines[-1]
    return round((box[2] - box[0]) * len(last.text) / (last.x1 - last.x0))


def _next_mark(lines: Sequence[Boxed]) -> str:
    """The bullet or number of the line below `lines`, if they end in a list."""
    if not lines:
        return ""
    if bullet := BULLET.match(lines[-1].text):
        return bullet[0]
    number = NUMBERED.match(lines[-1].text)
    digits = number[0].strip("(). ") if number else ""
    return number[0].replace(digits, str(int(digits) + 1)) if number and digits.isdecimal() else ""


class Repeats:
    """Words of a page that have stood on it before: what followed the same two tokens then."""

    LONGEST = 2

    def __init__(self) -> None:
        self._said: list[int] = []
        self._behind: dict[tuple[int, int], int] = {}
        self._found: int | None = None
        """Where in `_said` the last two tokens stood before, behind them."""

        self._trust = Ways(LIKELY, learning=0.05)
        self._before = -1

    def begin(self) -> None:
        """A new line begins."""
        self._before = -1
        self._found = None

    def read(self, token: int) -> None:
        """Takes in the next token of a text."""
        said = self._said
        if self._found is not None:
            self._trust.learn([1], int(said[self._found] == token))
        said.append(token)
        pair = (self._before, token)
        self._found = self._behind.get(pair) if self._before >= 0 else None
        self._behind[pair] = len(said)
        self._before = token

    def ahead(self, limit: int) -> list[int]:
        """At most two tokens."""
        if self._found is None or self._trust.scores[0] < LIKELY:
            return []
        return self._said[self._found : self._found + min(limit, self.LONGEST)]
