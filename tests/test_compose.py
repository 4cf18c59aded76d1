from __future__ import annotations

from kosmos_loader import compose
from kosmos_loader.document import Failure, Line, PageInfo, Reading
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


def test_lines_make_the_blocks_where_there_are_any() -> None:
    line = Line("A line", Box(0.1, 0.1, 0.5, 0.12))
    [block] = compose(Reading(INFO, "r", "1", (line,), MARKDOWN))
    assert block.regions == [(1, line.box)]


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
