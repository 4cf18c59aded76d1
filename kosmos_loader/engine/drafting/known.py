"""Lines of a page that are known before the model reads it, and where the model is in them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, chain, islice

from kosmos_loader.document import Line
from kosmos_loader.engine.drafting.base import Detokenizer, Vocabulary
from kosmos_loader.engine.drafting.lines import Boxed
from kosmos_loader.markup import format_ocr

HOPELESS = 0.1
"""Share of right words below which the known lines are given up."""

LEARNING = 0.25
"""Weight of the latest line in that share."""


class Known:
    """A line that is known, wrong as it may be; or several side by side."""

    __slots__ = ("_spelled", "line", "number", "parts", "said")

    def __init__(self, number: int, line: Boxed, parts: Sequence[Known] = ()) -> None:
        self.number = number
        self.line = line
        self.parts = parts
        """The lines that it is made of, where there are several."""

        self.said = 0
        """Characters of its text that the output holds."""

        self._spelled: list[int] = []

    @classmethod
    def joined(cls, parts: Sequence[Known]) -> Known:
        """Lines side by side as one."""
        ordered = sorted(parts, key=lambda known: known.line.x0)
        text = " ".join(known.line.text[known.said :].strip() for known in ordered)
        first, last = ordered[0].line, ordered[-1].line
        line = Boxed(first.x0, first.y0, last.x1, last.y1, text)
        return cls(max(known.number for known in parts), line, parts)

    @property
    def is_open(self) -> bool:
        """Whether the output lacks more than its last letter."""
        return self.said + 1 < len(self.line.text) or not self.said

    def say(self, place: int) -> None:
        """Takes note that the output holds the text up to `place`."""
        self.said = max(self.said, place)
        for part in self.parts:
            part.said = len(part.line.text)

    def spelled(self, vocabulary: Vocabulary, place: int) -> list[int]:
        """Tokens of its text from `place` on, and of the line end; not to be changed."""
        if place:
            return vocabulary.spell(self.line.text[place:] + "\n")
        if not self._spelled:
            self._spelled = vocabulary.spell(self.line.text + "\n")
        return self._spelled

    def distance(self, box: Sequence[int], shift: Sequence[int]) -> float:
        """From its upper left corner to that of `box`, in line heights; sideways counts less."""
        across = abs(box[0] - self.line.x0 - shift[0]) / 4
        return (abs(box[1] - self.line.y0 - shift[1]) + across) / max(4, self.line.height)

    def is_near(self, box: Sequence[int], shift: Sequence[int]) -> bool:
        """Whether `box` may be its box, or hold the rest of it."""
        if self.distance(box, shift) < 0.6:
            return True
        return self.said > 0 and self.is_level_with(box, shift)

    def is_level_with(self, box: Sequence[int], shift: Sequence[int]) -> bool:
        """Whether the upper edge of `box` lies at its height."""
        if len(box) < 2:
            return False
        line, slack = self.line, 0.6 * self.line.height
        return line.y0 - slack < box[1] - shift[1] < line.y1 - slack / 2


class KnownLines:
    """The known lines of a page, and the one that the model is thought to write."""

    FAR = 12
    """Letters by which a line is recognised in another place than that of the open box."""

    NEAR = 6
    """Letters by which it is recognised beside it."""

    def __init__(
        self, vocabulary: Vocabulary, lines: Iterable[Line], *, width: int, height: int
    ) -> None:
        self.vocabulary = vocabulary
        self._all = _as_written(lines, width, height)
        self._text = "\n".join(known.line.text for known in self._all)
        lengths = (len(known.line.text) + 1 for known in self._all)
        self._starts = list(accumulate(lengths, initial=0))
        self.begin()

    def begin(self) -> None:
        """A new output begins."""
        self._lines = self._all
        for known in self._lines:
            known.said = 0
        self.now: Known | None = self._lines[0] if self._lines else None
        """The line that is being written, or the one expected next."""

        self._skipped: Known | None = None
        """The line that was expected where the model wrote an unknown one."""

        self.shift = [0, 0, 0, 0]
        """Pixels by which the model's sides are off those of the known lines: the median."""

        self._shifts: deque[list[int]] = deque(maxlen=7)
        self._words = Words(self.vocabulary)
        self._box: Sequence[int] = ()
        self._beside: list[Known] | None = None
        self._worth = 1.0

    def __bool__(self) -> bool:
        return bool(self._lines)

    def compare(self, box: Sequence[int]) -> None:
        """Looks whether the open `box`, of which two or four sides are written, is the expected."""
        known = self.now
        if not self._lines:
            return
        if len(box) == 2 and (known is None or not known.is_near(box, self.shift)):
            self.now, self._skipped = self._nearest(box), known
        elif len(box) == 4 and known and known.is_near(box, self.shift):
            off = [side - was for side, was in zip(box, known.line.sides, strict=True)]
            if abs(off[2]) > 2 * known.line.height:
                return  # the model makes more or less of it than one line
            self._shifts.append(off)
            columns = zip(*self._shifts, strict=True)
            self.shift = [sorted(column)[len(column) // 2] for column in columns]

    def _nearest(self, box: Sequence[int]) -> Known | None:
        near = [k for k in self._lines if k.is_open and k.is_near(box, self.shift)]
        return min(near, key=lambda known: known.distance(box, self.shift), default=None)

    def begin_line(self, box: Sequence[int]) -> None:
        """The text behind `box` begins."""
        self._box = box
        self._beside = None
        if self.now:
            self.now = self._filling(self.now)
        self._words.begin(self.now, self.now.said if self.now else 0)

    def _filling(self, known: Known) -> Known:
        """`known`, or all lines that stand side by side in the open box, as one."""
        box = self._box
        if len(box) < 4 or box[2] < known.line.x1 + self.shift[2] + known.line.height:
            return known
        inside = [k for k in self._level() if box[0] <= (k.line.x0 + k.line.x1) // 2 <= box[2]]
        return Known.joined(inside) if len(inside) > 1 else known

    def _level(self) -> list[Known]:
        """Lines at the height of the open box that are not written yet."""
        if self._beside is None:
            self._beside = [
                k for k in self._lines if k.is_open and k.is_level_with(self._box, self.shift)
            ]
        return self._beside

    def read(self, token: int) -> None:
        """Takes in the next token of the text."""
        words = self._words
        if words.read(token):
            return
        if words.missed > 2 or (self.now is None and len(words.written) > 3):
            self._look_up(words.written)

    def _look_up(self, written: str) -> None:
        """Goes on in another line that holds what the model wrote last."""
        tail = written[-self.NEAR :]
        for known in self._level():
            found = known.line.text.find(tail, known.said)
            if found >= 0:
                self._go_on(known, found + len(tail))
                return
        tail = written[-self.FAR :]
        found = self._text.find(tail) if len(tail) == self.FAR else -1
        if found >= 0:
            number = bisect_right(self._starts, found) - 1
            self._go_on(self._lines[number], found + len(tail) - self._starts[number])

    def _go_on(self, known: Known, place: int) -> None:
        self.now = known
        self._words.begin(known, place)

    def end_line(self) -> None:
        """The text has ended; expects the next line."""
        if not self._lines:
            return
        known, place = self.now, self._words.place
        self._worth += LEARNING * (self._words.right - self._worth)
        if self._worth < HOPELESS:
            self._lines, self.now = [], None
        elif known is None:
            self.now = self._skipped or next(self._open_from(0), None)
        else:
            if self._words.is_over or known.is_level_with(self._box, self.shift):
                known.say(place)
            self.now = known if known.is_open else next(self._open_from(known.number + 1), None)

    def _open_from(self, number: int) -> Iterator[Known]:
        behind = chain(islice(self._lines, number, None), islice(self._lines, number))
        return (known for known in behind if known.is_open)

    @property
    def beyond(self) -> Known | None:
        """The line to be expected after the one that is being written."""
        number = self.now.number + 1 if self.now else 0
        return next((k for k in self._open_from(number) if k is not self.now), None)

    def ahead(self, limit: int) -> list[int]:
        """Tokens of the rest of the line that is being written, and of its end."""
        return self._words.ahead(limit)


def _as_written(lines: Iterable[Line], width: int, height: int) -> list[Known]:
    """`lines` with text, in the pixels of the resized page."""
    texts = [(line, text) for line in lines if (text := " ".join(line.text.split()))]
    # the boxes as the model would write them: four numbers a line
    tags = format_ocr((replace(line, text="") for line, _ in texts), width=width, height=height)
    sides = map(int, re.findall(r"\d+", tags))
    boxes = zip(sides, sides, sides, sides, strict=True)
    return [
        Known(number, Boxed(*box, text))
        for number, (box, (_, text)) in enumerate(zip(boxes, texts, strict=True))
    ]


class Words:
    """The text of a known line while the model writes it, other characters here and there."""

    AHEAD = 24
    """Characters ahead in which the model's last ones are looked for."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.begin(None, 0)

    def begin(self, known: Known | None, place: int) -> None:
        """Expects the text of `known` from `place` on, and a line end; without it, nothing."""
        self.known = known
        self.text = known.line.text if known else ""
        self._place = place
        self.written = ""
        """What the model wrote since."""

        self.missed = 0
        """Characters in a row that were others than expected."""

        self._right = 0
        self._wrong = 0
        self._detokenizer = Detokenizer(self.vocabulary)
        self._plan_ahead()

    def _plan_ahead(self) -> None:
        self._plan = self.known.spelled(self.vocabulary, self._place) if self.known else []
        self._at = 0

    @property
    def place(self) -> int:
        """Characters of the text that have been written, or passed over."""
        self._pass_planned()
        self._plan = self._plan[self._at :]
        self._at = 0
        return min(self._place, len(self.text))

    @property
    def is_over(self) -> bool:
        """Whether all of the known text has been written."""
        return 0 < len(self.text) <= self._place

    @property
    def right(self) -> float:
        """Share of the tokens that were expected."""
        right = self._right + self._at
        return right / max(1, right + self._wrong)

    def ahead(self, limit: int) -> list[int]:
        """Tokens of the rest of the line, and its end."""
        return self._plan[self._at : self._at + limit]

    def read(self, token: int) -> bool:
        """Takes in the next token; whether it was the expected one."""
        plan, at = self._plan, self._at
        if at < len(plan) and plan[at] == token:
            self._at += 1
            return True
        self._wrong += 1
        self._pass_planned()
        for character in self._detokenizer.read([token]):
            self.written += character
            self._step(character)
        self._plan_ahead()
        return False

    def _pass_planned(self) -> None:
        """Takes in that the model wrote the plan as far as `_at`."""
        if self._at:
            written = self._detokenizer.read(self._plan[: self._at])
            self.written += written
            self._place += len(written)
            self._right += self._at
            self.missed = 0

    def _step(self, character: str) -> None:
        text, place = self.text, self._place
        if text[place : place + 1] == character:
            self._place += 1
            self.missed = 0
            return
        self.missed += 1
        for length in (6, 4, 3) if self.missed < 2 else (6, 4, 3, 2):
            tail = self.written[-length:]
            found = text.find(tail, max(0, place - 8), place + self.AHEAD)
            if found >= 0 and len(tail) == length:
                self._place = found + length
                return
        if text[place + 1 : place + 2] == character:
            self._place += 2  # the model leaves a character out
        elif self.missed < 2:
            self._place += 1  # it reads another one
