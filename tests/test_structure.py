from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos_loader.compose import compose
from kosmos_loader.document import Block, Failure, Line, PageInfo, Reading
from kosmos_loader.geometry import Box, rotated
from kosmos_loader.structure import blocks, reading_order

WIDTH, HEIGHT = 1000, 1400
INFO = PageInfo("/scan.png", "d", 1, 1, WIDTH, HEIGHT, 150.0)


def line(text: str, x: float, y: float, *, width: float | None = None, height: float = 20) -> Line:
    """A line at pixel (x, y), ten pixels a character where no width is given."""
    x1 = x + (10 * len(text) if width is None else width)
    return Line(text, Box.from_pixels(x, y, x1, y + height, width=WIDTH, height=HEIGHT), 0.9)


def column(
    texts: Sequence[str], x: float, y: float, *, width: float, pitch: float = 26
) -> list[Line]:
    """Full lines one below the other; the last is as short as its text."""
    lines = [line(t, x, y + i * pitch, width=width) for i, t in enumerate(texts[:-1])]
    return [*lines, line(texts[-1], x, y + (len(texts) - 1) * pitch)]


def reading(lines: Sequence[Line], *, angle: float = 0.0) -> Reading:
    ordered = reading_order(lines, width=WIDTH, height=HEIGHT, angle=angle)
    return Reading(INFO, "fake", "1", tuple(ordered), angle=angle)


def texts(lines: Sequence[Line]) -> list[str]:
    return [item.text for item in reading(lines).lines]


def made(lines: Sequence[Line]) -> list[tuple[str, str]]:
    return [(block.kind, block.markdown) for block in blocks(reading(lines))]


PROSE = [
    f"the {word} line of running text in this column"
    for word in ("first", "second", "third", "fourth", "last")
]


def test_lines_come_from_top_to_bottom_and_rows_from_left_to_right() -> None:
    lines = [line("c", 100, 300), line("b", 600, 103), line("a", 100, 100)]
    assert texts(lines) == ["a", "b", "c"]


def test_two_columns_are_read_one_after_the_other_under_a_title_across_both() -> None:
    left = column([f"left {i} {'x' * 30}" for i in range(6)], 60, 200, width=400)
    right = column([f"right {i} {'x' * 30}" for i in range(6)], 540, 200, width=400)
    title = line("A title that runs across both of the columns", 200, 100, width=600)
    foot = line("a line that runs across both columns below", 100, 500, width=800)
    mixed = [item for pair in zip(left, right, strict=True) for item in pair]
    order = texts([foot, *mixed, title])
    assert order[0].startswith("A title")
    assert [t[:6] for t in order[1:7]] == [f"left {i}" for i in range(6)]
    assert [t[:7] for t in order[7:13]] == [f"right {i}" for i in range(6)]
    assert order[-1].startswith("a line")


def test_a_receipt_is_read_row_by_row_and_not_torn_into_columns() -> None:
    rows = [(f"Article number {i} of the day", f"{i}.50") for i in range(8)]
    lines = [line(a, 100, 100 + 30 * i) for i, (a, _) in enumerate(rows)]
    lines += [line(b, 850, 102 + 30 * i) for i, (_, b) in enumerate(rows)]
    assert texts(lines) == [text for row in rows for text in row]


def test_a_heading_under_one_column_goes_with_the_text_across_below() -> None:
    left = column([f"left {i} {'x' * 30}" for i in range(6)], 60, 200, width=400)
    right = column([f"right {i} {'x' * 30}" for i in range(6)], 540, 200, width=400)
    heading = line("More to Read", 60, 400)
    below = line("a full line of text that runs across the whole page below it", 60, 430, width=880)
    order = texts([*left, heading, *right, below])
    assert order[-2:] == ["More to Read", below.text]


def test_lines_of_a_paragraph_flow_together_and_paragraphs_part_at_a_gap() -> None:
    first = column(
        ["It was a cold day when the ship came", "into the harbour of the old", "town."],
        100,
        100,
        width=600,
    )
    second = column(["Nobody had seen it before, and nobody", "would."], 100, 230, width=600)
    assert made([*first, *second]) == [
        ("paragraph", "It was a cold day when the ship came into the harbour of the old town."),
        ("paragraph", "Nobody had seen it before, and nobody would."),
    ]


def test_a_word_broken_at_the_line_end_is_joined_and_each_half_keeps_its_box() -> None:
    lines = column(
        ["a sentence about the unconditio-", "nal love of a father and a well-", "Known man"],
        100,
        100,
        width=600,
    )
    [block] = blocks(reading(lines))
    assert (
        block.markdown
        == "a sentence about the unconditional love of a father and a well- Known man"
    )
    halves = [block.markdown[s.start : s.end] for s in block.spans]
    assert halves[0].endswith("unconditio")
    assert halves[1].startswith("nal")


def test_chinese_lines_are_joined_without_a_space() -> None:
    lines = [
        line(t, 100, 100 + 26 * i, width=600)
        for i, t in enumerate(["商品的这些", "尺度之所以不同，", "是由"])
    ]
    assert made(lines) == [("paragraph", "商品的这些尺度之所以不同，是由")]


def test_a_label_above_its_value_is_read_with_it() -> None:
    lines = [line("Surname:", 100, 100), line("First name:", 500, 100)]
    lines += [line("Trevose", 110, 130), line("Wenna", 510, 130), line("Since:", 100, 180)]
    assert texts(lines) == ["Surname:", "Trevose", "First name:", "Wenna", "Since:"]


def test_a_table_of_words_and_numbers_is_not_torn_into_columns() -> None:
    rows = [("Sep", "Harbour dues of the week to August", "12", "86.40") for _ in range(8)]
    at = (60, 140, 560, 800)
    lines = [line(t, at[c], 100 + 40 * r) for r, row in enumerate(rows) for c, t in enumerate(row)]
    assert texts(lines) == [text for row in rows for text in row]


def test_short_lines_keep_their_line_ends() -> None:
    address = [
        line(t, 100, 100 + 26 * i)
        for i, t in enumerate(["Mr Arlo Penhaligon,", "4 Quay Lane,", "Porthmellin"])
    ]
    wide = column(PROSE, 100, 300, width=700)
    assert made([*address, *wide])[0] == (
        "paragraph",
        "Mr Arlo Penhaligon,\n4 Quay Lane,\nPorthmellin",
    )


def test_large_type_is_a_heading_and_the_larger_the_higher() -> None:
    title = line("The Harbour Lantern", 100, 60, height=44)
    section = line("News of the Week", 100, 140, height=28)
    found = blocks(reading([title, section, *column(PROSE, 100, 190, width=700)]))
    assert [(b.kind, b.level) for b in found] == [("heading", 1), ("heading", 2), ("paragraph", 0)]
    assert found[0].markdown == "# The Harbour Lantern"


def test_numbered_sections_are_headings_by_the_depth_of_their_number() -> None:
    lines = [
        line("2 Methods", 100, 100),
        *column(PROSE, 100, 140, width=700),
        line("2.1 Area of Study", 100, 320),
        *column(PROSE, 100, 360, width=700),
    ]
    found = blocks(reading(lines))
    assert [(b.kind, b.level) for b in found if b.kind == "heading"] == [
        ("heading", 2),
        ("heading", 3),
    ]


def test_bullets_become_a_list_whose_items_run_over_line_ends() -> None:
    lines = [
        line("• the first item which goes on and on to", 100, 100, width=600),
        line("the next line", 120, 126),
        line("•second item", 100, 152),
        line("• a third one", 100, 178),
        line("- and one inside", 160, 204),
    ]
    assert made(lines) == [
        (
            "list",
            """- the first item which goes on and on to the next line
- second item
- a third one
  - and one inside""",
        )
    ]


def test_numbered_items_keep_their_numbers() -> None:
    lines = [line(f"{i}. item number {i}", 100, 100 + 26 * i) for i in (1, 2, 3)]
    assert made(lines) == [("list", "1. item number 1\n2. item number 2\n3. item number 3")]


def table() -> list[Line]:
    rows = [
        ("Item", "Qty", "Price"),
        ("Rope | blue", "2", "4.00"),
        ("Lamp oil", "1", "12.50"),
        ("Tar", "7", "70.10"),
    ]
    at = (100, 500, 700)
    return [line(t, at[c], 100 + 40 * r) for r, row in enumerate(rows) for c, t in enumerate(row)]


def test_rows_in_columns_become_a_pipe_table_with_a_box_for_each_cell() -> None:
    lines = table()
    [block] = blocks(reading(lines))
    assert block.kind == "table"
    assert block.markdown.splitlines() == [
        "| Item | Qty | Price |",
        "| --- | --- | --- |",
        "| Rope \\| blue | 2 | 4.00 |",
        "| Lamp oil | 1 | 12.50 |",
        "| Tar | 7 | 70.10 |",
    ]
    assert len(block.spans) == 12
    by_text = {item.text: item.box for item in lines}
    for span in block.spans:
        cell = block.markdown[span.start : span.end].replace("\\|", "|")
        assert span.box == by_text[cell]


def test_a_table_without_names_above_its_numbers_has_an_empty_header() -> None:
    lines = [item for item in table() if item.box.y0 > 110 / HEIGHT]
    lines += [line(t, x, 260) for t, x in (("Pitch", 100), ("9", 500), ("3.30", 700))]
    [block] = blocks(reading(lines))
    assert block.markdown.splitlines()[0] == "|  |  |  |"
    assert block.markdown.splitlines()[2] == "| Rope \\| blue | 2 | 4.00 |"


def test_a_second_line_in_a_cell_stays_in_its_row() -> None:
    lines = [*table(), line("and pitch", 100, 242)]
    rows = [("Nails", "3", "1.00"), ("Hooks", "4", "2.00")]
    lines += [
        line(t, (100, 500, 700)[c], 280 + 40 * r)
        for r, row in enumerate(rows)
        for c, t in enumerate(row)
    ]
    [block] = blocks(reading(lines))
    assert "| Tar and pitch | 7 | 70.10 |" in block.markdown


def test_label_and_value_of_a_form_stay_together_as_text() -> None:
    pairs = [
        ("Name", "Wenna Trevose"),
        ("Trade", "Cooper"),
        ("Street", "Fore Street"),
        ("Since", "May"),
    ]
    lines = [
        line(t, 100 + 300 * c, 100 + 40 * r)
        for r, pair in enumerate(pairs)
        for c, t in enumerate(pair)
    ]
    [(kind, markdown)] = made(lines)
    assert kind == "paragraph"
    assert markdown.splitlines() == [f"{a} {b}" for a, b in pairs]


def test_running_lines_are_kept_but_marked() -> None:
    head = [line("THE HARBOUR LANTERN", 100, 20), line("Page 3", 800, 20)]
    body = column(PROSE, 100, 120, width=700)
    foot = line("- 3 -", 450, 1350)
    found = made([*head, *body, foot])
    assert found[0] == ("header", "THE HARBOUR LANTERN Page 3")
    assert found[-1] == ("footer", "- 3 -")
    assert found[1][0] == "paragraph"


def test_text_that_looks_like_markdown_is_escaped() -> None:
    assert made([line("# 4 of the rules", 100, 100)])[0] == ("paragraph", "\\# 4 of the rules")


@pytest.mark.parametrize("mark", ["#", ">", "+", "~~~", "```"])
def test_no_line_of_a_paragraph_becomes_markdown(mark: str) -> None:
    wide = line("A line as wide as all of the page", 100, 400, width=800)
    rows = [line(f"{mark} {n} May", 100, 100 + 26 * n, width=90) for n in (1, 2)]
    assert made([*rows, wide])[0] == ("paragraph", f"\\{mark} 1 May\n\\{mark} 2 May")


def test_a_cell_stays_one_whatever_its_reader_wrote_into_it() -> None:
    rows = [("Date", "Item", "Sum"), ("3 May", "Tar\nand rope", "5.00"), ("4 May", "Hemp", "1.50")]
    lines = [
        line(t, 100 + 250 * c, 100 + 40 * r)
        for r, row in enumerate(rows)
        for c, t in enumerate(row)
    ]
    [(kind, markdown)] = made(lines)
    assert (kind, markdown.count("\n")) == ("table", 3)


@pytest.mark.parametrize("angle", [-8, 3, 10, 90, 97, 180, 263, 270])
def test_a_turned_or_slanted_page_is_read_in_the_same_order(angle: float) -> None:
    left = [line(f"left {i}", 260, 500 + 26 * i, width=250) for i in range(6)]
    right = [line(f"right {i}", 530, 500 + 26 * i, width=250) for i in range(6)]
    upright = [line("A title across", 400, 450), *left, *right]
    turned = []
    for item in upright:
        x0, y0, x1, y1 = item.box.scaled(WIDTH, HEIGHT)
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        moved = rotated(corners, angle, about=(WIDTH / 2, HEIGHT / 2))
        quad = tuple((x / WIDTH, y / HEIGHT) for x, y in moved)
        turned.append(Line(item.text, Box.around(quad), 0.9, quad))
    order = reading_order(turned[::-1], width=WIDTH, height=HEIGHT, angle=angle)
    assert [t.text for t in order] == [t.text for t in upright]


def test_a_failed_page_has_no_blocks_and_an_empty_one_neither() -> None:
    assert compose(Reading.failed(INFO, "r", "1", Failure("corrupt", "x"))) == []
    assert compose(reading([])) == []


words = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=12)
some_lines = st.lists(
    st.builds(
        lambda text, x, y, height: line(text, x, y, height=height),
        st.lists(words, min_size=1, max_size=6).map(" ".join),
        st.integers(0, 900),
        st.integers(0, 1300),
        st.integers(0, 60),
    ),
    max_size=40,
)


@given(some_lines)
def test_no_line_is_lost_doubled_or_misplaced(lines: list[Line]) -> None:
    result = reading(lines)
    assert sorted(texts(lines)) == sorted(item.text for item in lines)
    found = blocks(result)
    assert [b.order for b in found] == list(range(len(found)))
    letters = 0
    for block in found:
        check_spans(block, lines)
        letters += sum(s.end - s.start for s in block.spans)
    # what is missing is bullets (at most "- ", a glyph and a space) and hyphens at line ends
    assert letters >= sum(len(item.text) for item in lines) - 4 * len(lines)


def check_spans(block: Block, lines: Sequence[Line]) -> None:
    for a, b in pairwise(block.spans):
        assert a.end <= b.start
    for span in block.spans:
        assert 0 <= span.start < span.end <= len(block.markdown)
        piece = block.markdown[span.start : span.end]
        if block.kind == "table":
            piece = piece.replace("\\|", "|")
        assert any(piece in item.text and item.box == span.box for item in lines)
