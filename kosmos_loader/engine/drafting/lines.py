"""What an `<ocr>` output says so far, read token by token."""

from __future__ import annotations

from typing import NamedTuple

from kosmos_loader.engine.drafting.base import REPLACEMENT, Vocabulary

START, BOX, TEXT = range(3)
"""Where an output stands: at the start of a line, inside a box, behind one."""


class Boxed(NamedTuple):
    """A line of an `<ocr>` output, in pixels of the resized page."""

    x0: int
    y0: int
    x1: int
    y1: int
    text: str

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1."""
        return self[:4]

    @property
    def height(self) -> int:
        """In pixels, at least 1."""
        return max(1, self.y1 - self.y0)


class OcrOutput:
    """An `<ocr>` output as it grows."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.lines: list[Boxed] = []
        """The finished ones: a whole box, some text and a line end."""

        self.phase = START
        self.box: list[int] = []
        """Sides of the open box, or of the one before the text, as far as they are known."""

        self.words: list[int] = []
        """Tokens behind the last box."""

        self._vocabulary = vocabulary
        self._bbox = vocabulary.bbox
        self._end = vocabulary.end
        self._ends_line: dict[int, bool] = {}

    def read(self, token: int) -> None:
        """Takes in the next token."""
        if token == self._bbox:
            self._finish()
            self.phase = BOX
        elif self.phase == BOX:
            self._read_side(token)
        elif token == self._end:
            self._finish()
        else:
            self.phase = TEXT
            self.words.append(token)
            ends = self._ends_line.get(token)
            if ends is None:
                text = self._vocabulary.text(token)
                ends = self._ends_line[token] = text.endswith("\n")
            if ends:
                self._finish()

    def _read_side(self, token: int) -> None:
        box = self.box
        if token == self._vocabulary.end_bbox:
            self.phase = TEXT
        elif len(box) < 4 and (pixel := self._vocabulary.side(len(box), token)) is not None:
            box.append(pixel)
        else:
            self.phase = TEXT
            self.words.append(token)

    def _finish(self) -> None:
        if len(self.box) == 4 and self.words and (text := self._text()):
            x0, y0, x1, y1 = self.box
            self.lines.append(Boxed(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1), text))
        self.phase = START
        self.box = []
        self.words = []

    def _text(self) -> str:
        text = "".join(map(self._vocabulary.text, self.words))
        if REPLACEMENT in text:
            text = self._vocabulary.decode(self.words)
        return " ".join(text.split())
