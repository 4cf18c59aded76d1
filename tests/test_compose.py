from __future__ import annotations

from collections.abc import Sequence

import pytest

from kosmos_loader import compose, structure
from kosmos_loader.document import Block, Failure, Line, PageInfo, Reading
from kosmos_loader.geometry import Box

INFO = PageInfo("/scan.png", "d", 1, 1, 1000, 1400, 150.0)
MARKDOWN = """# Report

One paragraph
over two lines.

- a
  - b

| a | b |
|---|---|
| 1 | 2 |

```
code
```
"""


def test_a_reading_of_markdown_alone_gives_its_blocks_without_boxes() -> None:
    blocks = compose(Reading(INFO, "r", "1", markdown=MARKDOWN))
    assert [(b.kind, b.level) for b in blocks] == [
        ("heading", 1),
        ("paragraph", 0),
        ("list", 0),
        ("table", 0),
        ("code", 0),
    ]
    assert "\n\n".join(b.markdown for b in blocks) + "\n" == MARKDOWN
    assert [b.order for b in blocks] == [0, 1, 2, 3, 4]
    assert not any(b.spans for b in blocks)
    assert {b.flags for b in blocks} == {("unplaced",)}


TEXTS = (
    "The Harbour Lantern",
    "It was a cold day when the ship came into the harbour",
    "of the old town, and nobody had seen it before.",
    "The harbour master wrote down what she had paid, and",
    "the clerk put his name under it.",
)
LINES = tuple(
    Line(text, Box(0.1, 0.1 + 0.03 * row, 0.9, 0.12 + 0.03 * row), 0.9)
    for row, text in enumerate(TEXTS)
)
WRITTEN = f"# {TEXTS[0]}\n\n{' '.join(TEXTS[1:3])}\n\n{' '.join(TEXTS[3:])}"


def reading(
    markdown: str | None, lines: Sequence[Line] = LINES, flags: tuple[str, ...] = ()
) -> Reading:
    return Reading(INFO, "r", "1", tuple(lines), markdown, flags=flags)


def from_lines(flags: tuple[str, ...]) -> list[Block]:
    return structure.blocks(reading(None, flags=flags))


def test_structure_comes_from_the_markdown_and_places_from_the_lines() -> None:
    found = compose(reading(WRITTEN))
    assert [(b.kind, b.level) for b in found] == [
        ("heading", 1),
        ("paragraph", 0),
        ("paragraph", 0),
    ]
    assert "\n\n".join(b.markdown for b in found) == WRITTEN
    assert [box for b in found for _, box in b.regions] == [line.box for line in LINES]
    assert {b.flags for b in found} == {()}


@pytest.mark.parametrize("markdown", [None, "", " \n\n"])
def test_lines_alone_are_given_structure_by_where_they_stand(markdown: str | None) -> None:
    assert compose(reading(markdown)) == from_lines(())


@pytest.mark.parametrize("lines", [(), (Line("  ", Box(0, 0, 1, 1)),)])
def test_where_no_line_was_read_the_blocks_have_no_boxes_and_say_so(lines: Sequence[Line]) -> None:
    found = compose(reading(WRITTEN, lines, ("truncated",)))
    assert "\n\n".join(b.markdown for b in found) == WRITTEN
    assert {(b.spans, b.flags) for b in found} == {((), ("truncated", "unplaced"))}


def test_markdown_that_was_cut_off_is_left_aside() -> None:
    cut = WRITTEN[:80]
    assert compose(reading(cut, flags=("truncated",))) == from_lines(("truncated",))
    # what was not cut off, and leaves out as much, is not
    assert compose(reading(cut))[0].kind == "heading"


@pytest.mark.parametrize(("count", "spans"), [(3, [1, 2, 0]), (1, [1, 0, 0])])
def test_markdown_is_kept_where_it_was_the_lines_that_were_cut_off(
    count: int, spans: list[int]
) -> None:
    found = compose(reading(WRITTEN, LINES[:count], ("truncated",)))
    assert "\n\n".join(b.markdown for b in found) == WRITTEN
    assert [len(b.spans) for b in found] == spans
    assert "truncated" in found[0].flags


def test_markdown_that_loops_is_left_aside() -> None:
    loop = WRITTEN + "\n\nThe clerk put his name under it again." * 40
    assert compose(reading(loop, flags=("repetition",))) == from_lines(("repetition",))


def test_markdown_that_says_something_else_is_left_aside_and_the_blocks_say_so() -> None:
    other = "Quarterly profits rose by eleven percent in Zurich.\n\nShares went up as well."
    assert compose(reading(other)) == from_lines(("disagreement",))


def test_a_page_whose_readings_differ_in_part_is_flagged() -> None:
    found = compose(reading(WRITTEN + "\n\nQuarterly profits rose by eleven percent in Zurich."))
    assert {b.flags for b in found} == {("disagreement",)}
    assert [bool(b.spans) for b in found] == [True, True, True, False]


def test_a_failed_or_blank_page_has_no_blocks() -> None:
    assert compose(Reading.failed(INFO, "r", "1", Failure("corrupt", "x"))) == []
    assert compose(Reading(INFO, "r", "1", flags=("blank",))) == []


def test_no_line_of_markdown_is_left_out() -> None:
    blocks = compose(Reading(INFO, "r", "1", markdown="[ref]: http://x.y\n\nText\n"))
    assert [b.markdown for b in blocks] == ["[ref]: http://x.y", "Text"]


def test_lines_without_extent_or_text_break_nothing() -> None:
    flat = Line("A", Box(0.1, 0.1, 0.5, 0.1), flags=("degenerate",))
    point = Line("B", Box(0.1, 0.105, 0.1, 0.105), flags=("degenerate",))
    lines = (flat, point, Line("C", Box(0.1, 0.2, 0.5, 0.22)), Line("  ", Box(0, 0.9, 1, 0.95)))
    found = compose(Reading(INFO, "r", "1", lines * 3))
    assert sum(len(b.spans) for b in found) == 9
