"""Where an answer is printed on a page, and how well cited boxes cover it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import scoring
from rapidfuzz import fuzz

from kosmos_loader.document import Line
from kosmos_loader.geometry import Box

MAX_LINES = 6
"""Lines over which an answer may run: an address does."""


@dataclass(frozen=True)
class Place:
    """One of the places where an answer is printed."""

    words: tuple[Box, ...]
    """Around the answer alone, one for each line that it runs over."""

    lines: tuple[Box, ...]
    """Of these lines, whole."""


def places(answers: Sequence[str], lines: Sequence[Line]) -> list[Place]:
    """Each place in `lines` that holds one of `answers`: as few lines in a row as hold it.

    Within a line, the answer stands where its characters would in type of one width: the transcript
    does not say it any finer.
    """
    found: list[Place] = []
    ends: set[int] = set()
    for count in range(1, MAX_LINES + 1):
        for start in range(len(lines) - count + 1):
            window = lines[start : start + count]
            numbers = set(range(start, start + count))
            text = " ".join(line.text for line in window)
            if ends & numbers or not scoring.holds_answer(text, answers):
                continue
            ends |= numbers
            found.append(_place(answers, window))
    return found


def known(boxes: Sequence[Box], lines: Sequence[Line]) -> list[Place]:
    """Places whose boxes were written down, each with the lines that hold its middle."""
    made = []
    for box in boxes:
        around = tuple(line.box for line in lines if holds(line.box, box))
        made.append(Place((box,), around or (box,)))
    return made


def _place(answers: Sequence[str], window: Sequence[Line]) -> Place:
    text = " ".join(line.text for line in window)
    start, end = _nearest(answers, text)
    words, offset = [], 0
    for line in window:
        first, last = max(start - offset, 0), min(end - offset, len(line.text))
        offset += len(line.text) + 1
        if first < last:
            share = line.box.width / len(line.text)
            left, right = line.box.x0 + first * share, line.box.x0 + last * share
            words.append(Box(left, line.box.y0, right, line.box.y1))
    return Place(tuple(words), tuple(line.box for line in window))


def _nearest(answers: Sequence[str], text: str) -> tuple[int, int]:
    """Where in `text` the one of `answers` that it holds stands."""
    held = [answer for answer in answers if scoring.holds_answer(text, [answer])]
    folded = text.casefold() if len(text.casefold()) == len(text) else text
    matches = [fuzz.partial_ratio_alignment(answer.casefold(), folded) for answer in held]
    best = max((match for match in matches if match), key=lambda match: match.score)
    return best.dest_start, best.dest_end


def holds(box: Box, place: Box) -> bool:
    """Whether the middle of `place` lies in `box`."""
    x, y = place.center
    return box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1


def covers(cited: Iterable[Box], place: Place) -> bool:
    """Whether the middle of each part of the answer lies in a cited box."""
    boxes = list(cited)
    return all(any(holds(box, part) for box in boxes) for part in place.words)


def iou(a: Sequence[Box], b: Sequence[Box]) -> float:
    """What the two sets of boxes have in common, of what they cover together: 0 to 1."""
    together = area([*a, *b])
    return (area(a) + area(b) - together) / together if together else 0.0


def area(boxes: Sequence[Box]) -> float:
    """What `boxes` cover, overlaps once."""
    sides = sorted({side for box in boxes for side in (box.x0, box.x1)})
    return sum(
        (right - left) * _length(box for box in boxes if box.x0 <= left and right <= box.x1)
        for left, right in pairwise(sides)
    )


def _length(boxes: Iterable[Box]) -> float:
    covered = 0.0
    for top, bottom in _merged(sorted((box.y0, box.y1) for box in boxes)):
        covered += bottom - top
    return covered


def _merged(ranges: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    top, bottom = 0.0, 0.0
    for y0, y1 in ranges:
        if y0 > bottom:
            yield top, bottom
            top, bottom = y0, y1
        bottom = max(bottom, y1)
    yield top, bottom
