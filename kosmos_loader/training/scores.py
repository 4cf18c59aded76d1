"""How much of a page a reader got right: characters, lines, boxes, blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from rapidfuzz.distance import Levenshtein

from kosmos_loader.document import Line, Reading
from kosmos_loader.geometry import Box

NEAR = 2.0
"""Pixels within which a box counts as right."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What stands on a page of `width` x `height` pixels."""

    lines: tuple[Line, ...] | None
    markdown: str | None
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class LineScore:
    """Of the boxed lines."""

    character_accuracy: float
    """1 less edits over characters, all pages together."""

    exact_lines: float
    box_error_px: float | None
    """Mean over the lines found of the side that is farthest off, in pixels of the page; None where
    no line was found."""

    near_boxes: float
    """Share of all lines whose box is within `NEAR` pixels on each side."""


@dataclass(frozen=True, slots=True)
class MarkdownScore:
    """Of the markdown."""

    character_accuracy: float
    exact_blocks: float


@dataclass(frozen=True, slots=True)
class Scores:
    """Over some pages; None for a task without truth."""

    ocr: LineScore | None
    md: MarkdownScore | None

    def to_dict(self) -> dict[str, dict[str, float | None] | None]:
        """As benchmarks print it."""
        return {
            "ocr": None if self.ocr is None else asdict(self.ocr),
            "md": None if self.md is None else asdict(self.md),
        }


def score(truths: Sequence[Truth], readings: Sequence[Reading]) -> Scores:
    """The scores of `readings` against `truths`, page by page in the same order.

    Lines and blocks are aligned first, so that a missed one costs itself and not its neighbours.
    """
    pairs = list(zip(truths, readings, strict=True))
    lines = [(t, t.lines, r.lines) for t, r in pairs if t.lines is not None]
    texts = [(t.markdown, r.markdown or "") for t, r in pairs if t.markdown is not None]
    return Scores(_line_score(lines) if lines else None, _markdown_score(texts) if texts else None)


def _line_score(pages: Sequence[tuple[Truth, tuple[Line, ...], tuple[Line, ...]]]) -> LineScore:
    texts: list[tuple[str, str]] = []
    exact, errors = 0, []
    for page, wanted, found in pages:
        texts.append(("\n".join(x.text for x in wanted), "\n".join(x.text for x in found)))
        for i, j in align([line.text for line in wanted], [line.text for line in found]):
            exact += wanted[i].text == found[j].text
            errors.append(_farthest(wanted[i].box, found[j].box, page))
    count = max(1, sum(len(wanted) for _, wanted, _ in pages))
    return LineScore(
        _accuracy(texts),
        exact / count,
        sum(errors) / len(errors) if errors else None,
        sum(error <= NEAR for error in errors) / count,
    )


def _farthest(a: Box, b: Box, page: Truth) -> float:
    ours, theirs = a.scaled(page.width, page.height), b.scaled(page.width, page.height)
    return max(abs(x - y) for x, y in zip(ours, theirs, strict=True))


def _markdown_score(texts: Sequence[tuple[str, str]]) -> MarkdownScore:
    exact = count = 0
    for wanted, found in texts:
        blocks, read = wanted.split("\n\n"), found.split("\n\n")
        count += len(blocks)
        exact += sum(blocks[i] == read[j] for i, j in align(blocks, read))
    return MarkdownScore(_accuracy(texts), exact / max(1, count))


def _accuracy(texts: Iterable[tuple[str, str]]) -> float:
    edits = characters = 0
    for wanted, found in texts:
        edits += Levenshtein.distance(wanted, found)
        characters += len(wanted)
    return 1 - edits / max(1, characters)


def align(wanted: Sequence[str], found: Sequence[str]) -> list[tuple[int, int]]:
    """Which of `found` answers which of `wanted`, in order; what is unlike stays alone.

    The pairing of least cost: a pair costs its edits over its longer text, a text alone costs a
    half. Needleman and Wunsch, J. Mol. Biol. 48 (1970) 443-453.
    """
    rows, columns = len(wanted) + 1, len(found) + 1
    cost = [[(i + j) / 2 for j in range(columns)] for i in range(rows)]
    for i in range(1, rows):
        for j in range(1, columns):
            cost[i][j] = min(
                cost[i - 1][j] + 0.5,
                cost[i][j - 1] + 0.5,
                cost[i - 1][j - 1] + Levenshtein.normalized_distance(wanted[i - 1], found[j - 1]),
            )
    pairs: list[tuple[int, int]] = []
    i, j = len(wanted), len(found)
    while i and j:
        if cost[i][j] == cost[i - 1][j] + 0.5:
            i -= 1
        elif cost[i][j] == cost[i][j - 1] + 0.5:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]
