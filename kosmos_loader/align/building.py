"""Matched characters to blocks: spans, and blocks of what the markdown left out."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from kosmos_loader.align.plain import PlainBlock
from kosmos_loader.align.running import running_lines
from kosmos_loader.align.stream import Indices, Stream, stretches
from kosmos_loader.document import Block, Reading, Span

UNPLACED_BLOCK = 20
"""Characters from which on a block that mostly stands in no line is flagged by itself."""


def blocks_of(
    reading: Reading, plain: Sequence[PlainBlock], written: Stream, lines: Indices
) -> list[Block]:
    """The blocks of the markdown, with the spans of their characters; `lines` are those of
    `written`, whose texts are the lines of the blocks' texts one after the other.
    """
    bases = list(accumulate((len(block.text) + 1 for block in plain), initial=0))
    borders = np.searchsorted(written.places, bases).tolist()
    return [
        _block(reading, block, written.places[first:last] - base, lines[first:last])
        for block, base, first, last in zip(plain, bases, borders, borders[1:], strict=False)
    ]


def _block(reading: Reading, plain: PlainBlock, places: Indices, lines: Indices) -> Block:
    """`places` are those of the folded characters in the block's text, `lines` their lines."""
    placed = np.count_nonzero(lines >= 0)
    is_made_up = len(lines) >= UNPLACED_BLOCK and 2 * placed < len(lines)
    return Block(
        page=reading.page,
        kind=plain.kind,
        markdown=plain.markdown,
        spans=tuple(_spans(reading, plain, places, lines)) if placed else (),
        level=plain.level,
        confidence=_confidence(reading, lines[lines >= 0]),
        reader=reading.reader,
        reader_version=reading.reader_version,
        flags=("disagreement",) if is_made_up else (),
    )


def _spans(reading: Reading, plain: PlainBlock, places: Indices, lines: Indices) -> list[Span]:
    """A span for each run of characters of one line with no mark between them."""
    starts, ends = np.array(plain.starts, np.int64), np.array(plain.ends, np.int64)
    marks = _marks_before(plain.markdown, starts, ends)
    starts, ends = starts[places], ends[places]
    new = (lines[1:] != lines[:-1]) | (marks[starts[1:]] != marks[ends[:-1]])
    firsts = np.concatenate(([0], np.nonzero(new)[0] + 1))
    lasts = np.concatenate((firsts[1:], [len(lines)])) - 1
    spans: list[Span] = []
    done = 0
    for line, start, end in zip(
        lines[firsts].tolist(), starts[firsts].tolist(), ends[lasts].tolist(), strict=True
    ):
        first = max(start, done)
        if line >= 0 and first < end:
            spans.append(Span(first, end, reading.page.number, reading.lines[line].box))
            done = end
    return spans


def _marks_before(markdown: str, starts: Indices, ends: Indices) -> Indices:
    """For each place in `markdown` how many characters before it are marks.

    `starts` and `ends` are those of the plain text; what is neither plain nor white space is one.
    """
    steps = np.zeros(len(markdown) + 1, np.int64)
    np.add.at(steps, starts, 1)
    np.add.at(steps, ends, -1)
    is_plain = np.cumsum(steps[:-1]) > 0
    is_blank = np.fromiter(map(str.isspace, markdown), bool, len(markdown))
    return np.concatenate(([0], np.cumsum(~is_plain & ~is_blank)))


def _confidence(reading: Reading, lines: Indices) -> float | None:
    """Mean confidence of `lines`, which come once for each character."""
    numbers, counts = np.unique(lines, return_counts=True)
    weighed = [
        (confidence, count)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
        if (confidence := reading.lines[number].confidence) is not None
    ]
    total = sum(count for _, count in weighed)
    return sum(confidence * count for confidence, count in weighed) / total if total else None


PART = 3
"""Letters or digits in a row of a word that are kept by themselves; readers run words together."""


@dataclass(frozen=True, slots=True)
class Rest:
    """A part of a line that no block holds: all of it, or words of it."""

    line: int
    text: str
    place: int
    """Where it stands in the stream of the lines."""

    is_whole: bool


_WORD = re.compile(r"\S+")
_MARKS = frozenset(
    "-*+_|#>=~.\u2026\u2022\u00b7\u25cf\u25aa\u25a0\u25a1\u25e6\u2023\u2219\u2013\u2014"
)
"""What may stand for a mark of the markdown, or for a gap in it: bullets, rules and leaders."""


def rests(reading: Reading, read: Stream, numbers: Sequence[int], matched: Indices) -> list[Rest]:
    """What no block holds of the lines, whose `numbers` are those of the texts of `read`.

    A few characters of a word say nothing: it was read otherwise.
    """
    is_held = np.zeros(len(read), bool)
    is_held[matched[matched >= 0]] = True
    held = [0, *accumulate(is_held.tolist())]
    borders, places = read.borders.tolist(), read.places.tolist()
    found: list[Rest] = []
    base = 0
    for number, first, last in zip(numbers, borders, borders[1:], strict=False):
        text = reading.lines[number].text
        if held[first] == held[last]:
            found.append(Rest(number, text.strip(), first, is_whole=True))
        elif held[last] - held[first] < last - first:
            at = [place - base for place in places[first:last]]
            parts = _left(text, at, held[first : last + 1])
            found += [Rest(number, text[a:b], first + bisect_left(at, a), False) for a, b in parts]
        base += len(text) + 1
    return found


def _left(text: str, places: Sequence[int], held: Sequence[int]) -> list[list[int]]:
    """What is not held of a line: whole words, and parts of words that may be words themselves.

    `places` are those of its folded characters, `held` how many are before each.
    """
    runs: list[list[int]] = []
    for word in _WORD.finditer(text):
        first, last = bisect_left(places, word.start()), bisect_left(places, word.end())
        count = held[last] - held[first]
        if not count and not _MARKS.issuperset(word.group()):
            parts = [word.span()]
        elif count and last - first - count >= PART:
            parts = _parts(text, places[first:last], held[first : last + 1])
        else:
            continue
        for start, end in parts:
            if runs and not text[runs[-1][1] : start].strip():
                runs[-1][1] = end
            else:
                runs.append([start, end])
    return runs


def _parts(text: str, places: Sequence[int], held: Sequence[int]) -> list[tuple[int, int]]:
    """The stretches of a word that are not held, if they are long enough."""
    is_left = np.diff(held) == 0
    return [
        (places[start], places[end - 1] + 1)
        for start, end in stretches(is_left)
        if sum(text[place].isalnum() for place in places[start:end]) >= PART
    ]


def with_rests(
    reading: Reading, blocks: Sequence[Block], rest: Sequence[Rest], after: Sequence[float]
) -> list[Block]:
    """`blocks` with those of what they leave out, in reading order; running lines at the ends.

    `after` says for each of `rest` the block that it follows; a half less is before that block.
    """
    edges = running_lines(reading, {piece.line for piece in rest if piece.is_whole})
    groups: dict[tuple[int, float, str], list[Rest]] = {}
    for piece, place in zip(rest, after, strict=True):
        kind = edges.get(piece.line, "other") if piece.is_whole else "other"
        rank = {"header": (-1, 0.0), "footer": (1, 0.0)}.get(kind, (0, place))
        groups.setdefault((*rank, kind), []).append(piece)
    placed = [((0, float(at), ""), block) for at, block in enumerate(blocks)]
    placed += [(key, _rest_block(reading, key[2], group)) for key, group in groups.items()]
    placed.sort(key=lambda entry: entry[0])
    return [replace(block, order=order) for order, (_, block) in enumerate(placed)]


def _rest_block(reading: Reading, kind: str, rest: Sequence[Rest]) -> Block:
    text = ""
    spans: list[Span] = []
    for piece in rest:
        text += "\n" if text else ""
        if piece.text.startswith(("#", ">", "+ ")):
            text += "\\"  # or it would be a heading, quotation or list in markdown
        end = len(text) + len(piece.text)
        spans.append(Span(len(text), end, reading.page.number, reading.lines[piece.line].box))
        text += piece.text
    letters = np.repeat([p.line for p in rest], [len(p.text) for p in rest])
    return Block(
        page=reading.page,
        kind=kind,
        markdown=text,
        spans=tuple(spans),
        confidence=_confidence(reading, letters),
        reader=reading.reader,
        reader_version=reading.reader_version,
    )
