"""What KOSMOS-2.5 writes, turned into lines and markdown; the only module that knows its tags.

The model has two tasks. Asked with `OCR_PROMPT` it writes one text line after another, each behind
its box in pixels of the picture as the model saw it (the resized one):

```
<bbox><x_53><y_573><x_69><y_606></bbox>1
<bbox><x_79><y_573><x_464><y_612></bbox>[REG] BLACK SAKURA
```

Asked with `MD_PROMPT` it writes the page as markdown. Source: Lv et al., "KOSMOS-2.5: A
Multimodal Literate Model", arXiv 2309.11419, sections 2.1 and 2.2, and the post-processing of the
released `inference.py` (github.com/microsoft/unilm, folder kosmos-2.5). Pure Python; nothing here
raises on any output, since a generation can stop anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kosmos_loader.document import Line
from kosmos_loader.errors import UsageError
from kosmos_loader.geometry import Box

OCR_PROMPT = "<ocr>"
"""Asks for text lines with boxes."""

MD_PROMPT = "<md>"
"""Asks for markdown."""

# <s> opens the prompt where a tag follows, and a struck-out passage of the page elsewhere.
_LEAD = re.compile(r"(?:\s*(?:<s>(?=\s*<)|<pad>|<image>|</image>|</chunk>|<ocr>|<md>))+")

# The end token, unless it closes such a passage: <s>old price</s>.
_END = re.compile(r"<s>.*?</s>|(?P<end></s>)", re.DOTALL)

# At most six digits, so that no run of digits is too long for int(); the vocabulary ends at 4095.
_SIDE = r"\s*<{axis}_([0-9]{{1,6}})>"
_BOX = r"<bbox>" + "".join(_SIDE.format(axis=axis) for axis in "xyxy") + r"\s*</bbox>"
_TAG = r"<[xy]_[0-9]{1,6}>|</bbox>"

# A whole box (four groups are set) or a run of tags that is none.
_MARK = re.compile(rf"{_BOX}|(?:<bbox>|{_TAG})(?:\s*(?:{_TAG}))*")

# The beginning of a tag at the very end of an output that was cut off. Only where a tag can stand
# (a new line, or behind another tag), so that a text that ends in "<" keeps it.
_CUT_TAG = re.compile(r"(?:(?<=[\n>])|\A)[ \t]*</?(?:b|bb|bbo|bbox|s|[xy]|[xy]_[0-9]{0,6})?\Z")


@dataclass(frozen=True, slots=True)
class ParsedOCR:
    """The lines of an OCR output, and what became of the rest."""

    lines: tuple[Line, ...]
    """Every text of the output, in its order. A line is flagged "degenerate" where its box has no
    area on the page, was upside down (and is turned), or where there is no usable box at all: text
    before the first box or behind a malformed one. Such a text stands at a point without extent,
    the lower left corner of the line before it, or the page's corner: its order is known and its
    place is not."""

    rejected: int
    """Malformed boxes, and boxes without text."""

    truncated: bool
    """True where the output stops inside a tag or box."""


def parse_ocr(text: str, *, width: float, height: float) -> ParsedOCR:
    """The lines of what the model wrote for `OCR_PROMPT`.

    `width` and `height` are the pixels of the resized picture, which the numbers in the tags refer
    to and which differ from page to page. Boxes come out in page fractions, clipped to the page.
    Prompt and end tokens may still be there, and tags may be separated by spaces.
    """
    if width <= 0 or height <= 0:
        raise UsageError(f"the resized picture cannot be {width} x {height} pixels")
    whole = _body(text)
    body = _CUT_TAG.sub("", whole)
    marks = list(_MARK.finditer(body))
    truncated = body != whole
    if marks and _is_open(marks[-1].group()) and not body[marks[-1].end() :].strip():
        truncated = True
        body = body[: marks.pop().start()]
    lines: list[Line] = []
    borders = [mark.start() for mark in marks] + [len(body)]
    lines.extend(_unplaced(body[: borders[0]], lines))
    rejected = 0
    for mark, end in zip(marks, borders[1:], strict=True):
        written = body[mark.end() : end]
        if mark[1] is None:
            rejected += 1
            lines.extend(_unplaced(written, lines))
        elif words := _one_line(written):
            x0, y0, x1, y1 = (int(side) for side in mark.groups())
            lines.append(_line(words, x0 / width, y0 / height, x1 / width, y1 / height))
        else:
            rejected += 1
    return ParsedOCR(tuple(lines), rejected, truncated)


def format_ocr(lines: Iterable[Line], *, width: int, height: int) -> str:
    """What the model would write for `lines` on a resized picture of `width` x `height` pixels.

    The inverse of `parse_ocr` to within one of those pixels. The model's vocabulary ends at pixel
    4095, which only pages more than 16 times as long as wide pass.
    """
    return "".join(
        f"<bbox>{_corner(line.box.x0, line.box.y0, width, height)}"
        f"{_corner(line.box.x1, line.box.y1, width, height)}</bbox>{_one_line(line.text)}\n"
        for line in lines
    )


def _corner(x: float, y: float, width: int, height: int) -> str:
    return f"<x_{min(width - 1, round(x * width))}><y_{min(height - 1, round(y * height))}>"


def _body(text: str) -> str:
    """`text` without prompt tokens before it and without end token and what follows."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lead = _LEAD.match(text)
    start = lead.end() if lead else 0
    for found in _END.finditer(text, start):
        if found["end"]:
            return text[start : found.start()]
    return text[start:]


def _is_open(run: str) -> bool:
    return run.startswith("<bbox>") and "</bbox>" not in run


def _one_line(text: str) -> str:
    return " ".join(part.strip() for part in text.splitlines() if part.strip())


def _line(words: str, x0: float, y0: float, x1: float, y1: float) -> Line:
    box = Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)).clipped()
    sound = x0 < x1 and y0 < y1 and box.area > 0
    return Line(words, box, flags=() if sound else ("degenerate",))


def _unplaced(text: str, before: Sequence[Line]) -> list[Line]:
    x, y = (before[-1].box.x0, before[-1].box.y1) if before else (0.0, 0.0)
    point = Box(x, y, x, y)
    texts = (part.strip() for part in text.splitlines())
    return [Line(words, point, flags=("degenerate",)) for words in texts if words]


_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_FENCE = re.compile(r"\s*(?P<fence>`{3,}|~{3,})(?P<info>.*)")


def parse_markdown(text: str) -> str:
    """What the model wrote for `MD_PROMPT`, as clean markdown.

    Ends at the end token; `<br>` becomes a line end except inside table rows, which are one line
    each; more than one blank line becomes one; blanks at line ends go. Indentation stays, since
    nested lists and code live by it, and what stands between code fences stays as it is.
    """
    cleaned: list[str] = []
    blanks = 0
    for line, code in _marked_code(_body(text).split("\n")):
        for part in [line] if code else _broken(line):
            if not code and not part:
                blanks += 1
                continue
            if cleaned:
                cleaned.extend([""] * _blank_lines(blanks, cleaned[-1], part))
            blanks = 0
            cleaned.append(part)
    return "\n".join(cleaned).rstrip()


def _broken(line: str) -> list[str]:
    """The lines of a line that may hold `<br>`, each indented as it is."""
    if line.lstrip().startswith("|"):
        return [line.rstrip()]
    first, *others = (part.strip() for part in _BREAK.split(line))
    indent = line[: len(line) - len(line.lstrip())]
    return [(indent + part).rstrip() for part in [first, *others]]


def _marked_code(lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it stands inside a fenced code block (the fences themselves do not).

    A fence that is never closed holds until the end, as in CommonMark 0.31, section 4.5.
    """
    opened = ""
    for line in lines:
        found = _FENCE.fullmatch(line)
        if not opened:
            # an info string behind backticks holds none: ```code``` on one line is no fence
            starts = found is not None and "`" not in found["info"]
            opened = found["fence"] if found and starts else ""
            yield line, False
        elif found and found["fence"].startswith(opened) and not found["info"].strip():
            opened = ""
            yield line, False
        else:
            yield line, True


def _blank_lines(count: int, above: str, below: str) -> int:
    both_indented = all(line.startswith(("    ", "\t")) for line in (above, below))
    return count if both_indented else min(count, 1)


LOOP_REPEATS = 10
"""How often a passage must stand at the end of an output to be a loop."""

LOOP_COVERED = 800
"""How many characters (or token ids) the copies must fill to be a loop."""

BOX_REPEATS = 4
"""How often a passage that holds a box must stand at the end of a text to be a loop."""


def find_repetition(
    output: str | Sequence[int], *, repeats: int = LOOP_REPEATS, covered: int = LOOP_COVERED
) -> int | None:
    """How much of `output` to keep where it ends in a loop, None where it does not.

    A loop is a passage that the output repeats to its very end, at least `repeats` times and over
    at least `covered` items (characters of a text, or token ids). The defaults leave alone what
    stands on pages: leaders and rules of dots or dashes (a line holds some 250), a table of forty
    rows "| 0 | 0 |", the same article on a receipt ten times. A passage that holds a box repeats
    its place on the page as well, which no page does, so four times are enough in a text.

    What is kept ends behind the first copy of the passage, in a text at the end of that line.
    """
    if isinstance(output, str):
        output = output.rstrip("\ufffd")  # a character of which only some bytes were written
    size = len(output)
    runs = _shared_prefixes(output[::-1])
    for period in range(1, size // min(repeats, BOX_REPEATS) + 1):
        length = period + runs[period]
        if (length >= repeats * period and length >= covered) or (
            length >= BOX_REPEATS * period and _holds_box(output[-2 * period :])
        ):
            return _to_line_end(output, size - runs[period], period)
    return None


def _holds_box(passage: str | Sequence[int]) -> bool:
    return isinstance(passage, str) and "</bbox>" in passage


def _to_line_end(output: str | Sequence[int], keep: int, period: int) -> int:
    if not isinstance(output, str):
        return keep
    end = output.find("\n", max(0, keep - 1), keep + period)
    return end + 1 if end >= 0 else keep


def _shared_prefixes(items: Sequence[object]) -> list[int]:
    """For each place, how many items from there on equal those at the start: the Z array.

    Gusfield, Algorithms on Strings, Trees, and Sequences, section 1.4; linear time.
    """
    shared = [0] * len(items)
    left = right = 0
    for place in range(1, len(items)):
        run = min(right - place, shared[place - left]) if place < right else 0
        while place + run < len(items) and items[run] == items[place + run]:
            run += 1
        if place + run > right:
            left, right = place, place + run
        shared[place] = run
    return shared
