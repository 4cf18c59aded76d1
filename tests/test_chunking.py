from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from kosmos_loader.chunking import (
    BREAK,
    MAX_SPANS,
    chunk,
    chunk_sentences,
    plain,
    sentence_ends,
)
from kosmos_loader.document import METADATA_BYTES, Block, Chunk, PageInfo, Span
from kosmos_loader.errors import UsageError
from kosmos_loader.geometry import Box


def page(number: int = 1, *, doc: str = "letters", digest: str | None = None) -> PageInfo:
    return PageInfo(
        source=f"/scans/{doc}.pdf",
        doc_id=doc,
        number=number,
        count=9,
        width=1000,
        height=1400,
        dpi=120.0,
        digest=f"digest-{doc}-{number}" if digest is None else digest,
    )


class Paper:
    """Makes blocks whose lines each have a box of their own."""

    def __init__(self, of: PageInfo | None = None) -> None:
        self.page = of or page()
        self.lines: dict[Box, str] = {}

    def box(self, text: str) -> Box:
        row = len(self.lines)
        place = Box(0.1, row / 1000, 0.9, (row + 1) / 1000)
        self.lines[place] = text
        return place

    def text(self, *lines: str, kind: str = "paragraph", mark: str = "", gap: str = " ") -> Block:
        return self.pieces([(mark if i == 0 else gap, line) for i, line in enumerate(lines)], kind)

    def heading(self, text: str, level: int = 1) -> Block:
        return replace(self.text(text, kind="heading", mark="#" * level + " "), level=level)

    def items(self, *items: str, first: int | None = None) -> Block:
        marks = ["- " if first is None else f"{first + i}. " for i in range(len(items))]
        breaks = ["", *["\n"] * (len(items) - 1)]
        # numbers stand on the page, bullets do not
        if first is not None:
            items = tuple(mark + item for mark, item in zip(marks, items, strict=True))
            marks = [""] * len(items)
        before = [gap + mark for gap, mark in zip(breaks, marks, strict=True)]
        return self.pieces(list(zip(before, items, strict=True)), "list")

    def table(self, *rows: Iterable[str]) -> Block:
        pieces: list[tuple[str, str]] = []
        for number, row in enumerate(rows):
            cells = list(row)
            before = {0: "| ", 1: f" |\n{'|---' * len(cells)}|\n| "}.get(number, " |\n| ")
            pieces += [(before if i == 0 else " | ", cell) for i, cell in enumerate(cells)]
        block = self.pieces(pieces, "table")
        return replace(block, markdown=block.markdown + " |")

    def rows(self, *rows: Iterable[str]) -> Block:
        """A table without names above its columns."""
        columns = len(list(rows[0]))
        return self.table([""] * columns, *rows)

    def pieces(self, pieces: Iterable[tuple[str, str]], kind: str) -> Block:
        markdown, spans = "", []
        for marks, text in pieces:
            start = len(markdown) + len(marks)
            markdown += marks + text
            if text:
                spans.append(Span(start, len(markdown), self.page.number, self.box(text)))
        return Block(
            page=self.page,
            kind=kind,
            markdown=markdown,
            spans=tuple(spans),
            confidence=0.9,
            reader="scripted",
            reader_version="1",
        )


WORDS = ["rope", "tar", "timber", "anchor", "harbour", "ledger", "sail", "cargo", "north"]


def sentences(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)  # noqa: S311 - the same sentences in every run
    return [" ".join(draw.choices(WORDS, k=8)).capitalize() + "." for _ in range(count)]


def assert_spans_are_true(chunks: Iterable[Chunk], lines: dict[Box, str]) -> None:
    for found in chunks:
        for before, span in zip((None, *found.spans), found.spans, strict=False):
            assert 0 <= span.start < span.end <= len(found.text)
            assert before is None or before.end <= span.start
            assert found.text[span.start : span.end] in lines[span.box]


# --- Packing --------------------------------------------------------------------------------


def test_blocks_are_joined_until_the_next_would_not_fit() -> None:
    paper = Paper()
    blocks = [paper.text(line) for line in ("a" * 40, "b" * 40, "c" * 40)]
    chunks = list(chunk(blocks, size=100))
    assert [found.text for found in chunks] == ["a" * 40 + BREAK + "b" * 40, "c" * 40]
    assert_spans_are_true(chunks, paper.lines)


def test_a_chunk_tells_where_it_comes_from() -> None:
    paper = Paper(page(3))
    first = replace(paper.text("Bought rope."), confidence=1.0, flags=("low_confidence",))
    second = replace(paper.text("Sold tar now"), confidence=0.5, flags=("truncated",))
    [found] = chunk([first, second])
    assert (found.source, found.doc_id, found.page, found.page_end) == (
        "/scans/letters.pdf",
        "letters",
        3,
        3,
    )
    assert (found.page_count, found.page_width, found.page_height) == (9, 1000, 1400)
    assert found.flags == ("truncated", "low_confidence")
    assert found.confidence == pytest.approx(0.75)
    assert (found.reader, found.reader_version) == ("scripted", "1")
    assert found.kind == "paragraph"
    assert found.support == 1.0
    assert len(found.boxes()) == 2


def test_an_unknown_confidence_stays_unknown_and_a_known_one_is_not_diluted() -> None:
    paper = Paper()
    unknown = replace(paper.text("No score."), confidence=None)
    known = replace(paper.text("With score."), confidence=0.8)
    assert [found.confidence for found in chunk([unknown])] == [None]
    assert [found.confidence for found in chunk([unknown, known])] == [pytest.approx(0.8)]


def test_the_kind_is_that_of_the_text_below_a_heading() -> None:
    paper = Paper()
    table = paper.table(["a", "b"], ["1", "2"])
    assert [c.kind for c in chunk([paper.heading("Accounts"), table])] == ["table"]
    assert [c.kind for c in chunk([paper.text("Seen."), table])] == ["mixed"]
    assert [c.kind for c in chunk([paper.heading("Accounts")])] == ["heading"]


def test_order_counts_the_chunks_of_each_page() -> None:
    blocks = [Paper(page(number)).text(text) for number in (1, 2) for text in ("a" * 60, "b" * 60)]
    assert [(c.page, c.order) for c in chunk(blocks, size=100)] == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_empty_blocks_make_no_chunks() -> None:
    assert list(chunk([])) == []
    assert list(chunk([Paper().pieces([("  \n ", "")], "paragraph")])) == []


def test_chunks_come_before_the_whole_document_is_read() -> None:
    taken: list[int] = []

    def blocks() -> Iterator[Block]:
        for number in range(1, 6):
            taken.append(number)
            yield Paper(page(number)).text(f"Page {number}.")

    chunks = chunk(blocks())
    assert taken == []
    assert next(chunks).page == 1
    assert taken == [1, 2]


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"size": 10, "overlap": 6}, {"size": 10, "overlap": -1}]
)
def test_sizes_that_cannot_be_meant_are_refused_at_once(options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        chunk([], **options)


# --- Headings -------------------------------------------------------------------------------


def test_a_heading_stands_in_the_chunk_it_opens_and_in_the_path_of_those_that_follow() -> None:
    paper = Paper()
    blocks = [
        paper.heading("Accounts", 1),
        paper.heading("Harbour **rates**", 2),
        paper.text("a" * 70),
        paper.text("b" * 70),
    ]
    opening, following = chunk(blocks, size=120)
    assert opening.text.startswith("# Accounts\n\n## Harbour **rates**\n\naaa")
    assert opening.headings == ()
    assert following.text == "b" * 70
    assert following.headings == ("Accounts", "Harbour rates")
    assert following.embedded_text == "Accounts > Harbour rates\n" + "b" * 70


def test_headings_nest_by_level_and_carry_over_pages() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    blocks = [
        one.heading("Part", 1),
        one.heading("Chapter", 3),
        one.text("On page one."),
        two.text("Goes on." + "w" * 60),
        two.heading("Next chapter", 2),
        two.text("x" * 90),
        two.text("y" * 90),
        two.heading("Next part", 1),
        two.text("z" * 90),
    ]
    paths = {found.text[-5:]: found.headings for found in chunk(blocks, size=130)}
    assert paths == {
        " one.": (),
        "wwwww": ("Part", "Chapter"),
        "xxxxx": ("Part",),
        "yyyyy": ("Part", "Next chapter"),
        "zzzzz": (),
    }


def test_headings_do_not_reach_into_the_next_document() -> None:
    blocks = [
        Paper(page(1, doc="a")).heading("Only here"),
        Paper(page(1, doc="b")).text("Another file."),
    ]
    assert [found.headings for found in chunk(blocks)] == [(), ()]


def test_a_heading_starts_a_chunk_once_half_of_the_size_is_gathered() -> None:
    paper = Paper()
    blocks = [
        paper.text("A" * 20),
        paper.heading("One"),
        paper.text("b" * 20),
        paper.heading("Two"),
        paper.text("c" * 20),
    ]
    assert [found.text[0] for found in chunk(blocks, size=98)] == ["A", "#"]
    assert len(list(chunk(blocks, size=200))) == 1


def test_a_heading_goes_with_the_text_below_it_even_when_that_must_be_split() -> None:
    paper = Paper()
    blocks = [paper.text("a" * 30), paper.heading("Below"), paper.text(*sentences(6))]
    chunks = list(chunk(blocks, size=150))
    assert chunks[0].text == "a" * 30
    assert chunks[1].text.startswith("# Below\n\n")
    assert chunks[1].kind == "paragraph"
    assert all(len(found.text) <= 150 for found in chunks)


def test_a_heading_that_fills_most_of_a_chunk_stands_alone() -> None:
    paper = Paper()
    chunks = list(chunk([paper.heading("H" * 70), paper.text("a" * 80)], size=100))
    assert [found.kind for found in chunks] == ["heading", "paragraph"]
    assert chunks[1].headings == ("H" * 70,)


def test_a_heading_at_the_foot_of_a_page_is_kept_and_leads_the_next_page() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    first, second = chunk([one.heading("Alone"), two.text("Text.")])
    assert (first.text, first.page) == ("# Alone", 1)
    assert (second.text, second.headings) == ("Text.", ("Alone",))


def test_running_headers_and_footers_are_chunks_of_their_own() -> None:
    paper = Paper()
    blocks = [
        paper.text("LEDGER 1871", kind="header"),
        paper.heading("Accounts"),
        paper.text("Body."),
        paper.text("page 7", kind="footer"),
        paper.text("More body."),
    ]
    chunks = list(chunk(blocks))
    assert [(found.kind, found.text) for found in chunks] == [
        ("header", "LEDGER 1871"),
        ("paragraph", "# Accounts\n\nBody.\n\nMore body."),
        ("footer", "page 7"),
    ]
    assert [found.headings for found in chunks] == [(), (), ()]


# --- Splitting ------------------------------------------------------------------------------


def test_a_long_paragraph_is_split_at_sentence_ends() -> None:
    paper = Paper()
    lines = sentences(12)
    chunks = list(chunk([paper.text(*lines)], size=200))
    assert len(chunks) > 3
    assert " ".join(found.text for found in chunks) == " ".join(lines)
    assert all(found.text.endswith(".") for found in chunks)
    assert all(len(found.text) > 100 for found in chunks[:-1])
    assert_spans_are_true(chunks, paper.lines)


def test_a_sentence_over_two_lines_keeps_the_box_of_each() -> None:
    paper = Paper()
    block = paper.text("The ship came in. It brought", "rope and tar. Nobody paid.")
    first, second, third = chunk([block], size=32)
    assert [first.text, second.text, third.text] == [
        "The ship came in.",
        "It brought rope and tar.",
        "Nobody paid.",
    ]
    upper, lower = paper.lines
    assert [box for _, box in first.boxes()] == [upper]
    assert [box for _, box in second.boxes()] == [upper, lower]
    assert [box for _, box in third.boxes()] == [lower]
    assert second.text[slice(*_range(second, lower))] == "rope and tar."


def _range(found: Chunk, box: Box) -> tuple[int, int]:
    [span] = [span for span in found.spans if span.box == box]
    return span.start, span.end


def test_text_without_sentences_is_split_at_line_ends_then_at_words_then_anywhere() -> None:
    paper = Paper()
    rows = chunk([paper.text("Rope 12.00", "Tar 3.50", "Sail 9.00", gap="\n")], size=20)
    assert [found.text for found in rows] == ["Rope 12.00\nTar 3.50", "Sail 9.00"]
    words = chunk([paper.text("one two three four five six")], size=10)
    assert [found.text for found in words] == ["one two", "three four", "five six"]
    letters = list(chunk([paper.text("x" * 25)], size=10))
    assert [len(found.text) for found in letters] == [10, 10, 5]


def test_a_hard_cut_does_not_part_a_letter_from_its_accent() -> None:
    text = "e\u0301" * 10
    chunks = list(chunk([Paper().text(text)], size=5))
    assert "".join(found.text for found in chunks) == text
    assert all(found.text[0] == "e" for found in chunks)


def test_a_short_sentence_before_a_huge_one_does_not_make_a_chunk_of_its_own() -> None:
    text = "Note. " + "word " * 60
    first, *_ = chunk([Paper().text(text)], size=100)
    assert len(first.text) > 50


@pytest.mark.parametrize("leaders", [".", "…", "! ", ".)", '."', "。", "\n \n"])
def test_sentences_are_looked_for_in_leaders_of_any_length(leaders: str) -> None:
    began = time.process_time()
    sentence_ends(f"Total {leaders * 20_000}x. And more.")
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "text",
    [
        "See No. 5 of the list.",
        "Mr. Wood and Mrs. Hill came.",
        "It cost 3.50 in all.",
        "J. R. Hartley wrote it.",
        "Ropes, e.g. Manila ones, were sold.",
        "1. Rope and tar.",
        "Dated Jan. 5 of that year.",
        "Wood & Sons Ltd. Bristol",
    ],
)
def test_full_stops_inside_a_sentence_end_nothing(text: str) -> None:
    assert sentence_ends(text) == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One. Two! Three? Four", ["One. ", "Two! ", "Three? ", "Four"]),
        ("He said no. The ship left.", ["He said no. ", "The ship left."]),
        ("It was 1999. Then came rain.", ["It was 1999. ", "Then came rain."]),
        ('"Gone." "Why?" Nobody knew.', ['"Gone." ', '"Why?" ', "Nobody knew."]),
        ("船到了。沒有人付錢。", ["船到了。", "沒有人付錢。"]),
        ("A title\n\nSome text", ["A title\n\n", "Some text"]),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, wanted: list[str]) -> None:
    cuts = [0, *sentence_ends(text), len(text)]
    assert [text[a:b] for a, b in pairwise(cuts)] == wanted


def test_lists_are_split_between_items() -> None:
    paper = Paper()
    items = ["rope of hemp. Two coils", "tar", "sail cloth", "a lantern"]
    chunks = list(chunk([paper.items(*items)], size=40))
    assert [found.text for found in chunks] == [
        "- rope of hemp. Two coils\n- tar",
        "- sail cloth\n- a lantern",
    ]
    assert {found.kind for found in chunks} == {"list"}
    assert_spans_are_true(chunks, paper.lines)


def test_code_is_split_between_lines_and_stays_code() -> None:
    code = "```c\nif (x) {\n    return 1;\n}\nreturn 0;\n```"
    first, second = chunk([Paper().pieces([("", code)], "code")], size=32)
    assert first.text == "```c\nif (x) {\n    return 1;\n```"
    assert second.text == "```c\n}\nreturn 0;\n```"


def test_indented_code_keeps_its_indentation() -> None:
    code = "    first\n    second\n    third"
    chunks = list(chunk([Paper().pieces([("", code)], "code")], size=22))
    assert "\n".join(found.text for found in chunks) == code


# --- Tables ---------------------------------------------------------------------------------


def ledger(rows: int) -> list[list[str]]:
    return [["Day", "Item", "Paid"], *([f"{n} May", f"item{n}", f"{n}.00"] for n in range(rows))]


def test_a_split_table_repeats_its_header_with_the_boxes_of_the_header() -> None:
    paper = Paper()
    chunks = list(chunk([paper.table(*ledger(20))], size=120))
    header = list(paper.lines)[:3]
    assert len(chunks) > 3
    for found in chunks:
        assert found.text.startswith("| Day | Item | Paid |\n|---|---|---|\n| ")
        assert found.text.endswith(" |")
        assert [box for _, box in found.boxes()][:3] == header
        assert found.text[slice(*_range(found, header[1]))] == "Item"
        assert len(found.text) <= 120
    rows = [row for found in chunks for row in found.text.split("\n")[2:]]
    assert rows == [f"| {n} May | item{n} | {n}.00 |" for n in range(20)]
    assert_spans_are_true(chunks, paper.lines)


def test_a_row_larger_than_a_chunk_is_split_at_its_cells_and_words_and_stays_alone() -> None:
    paper = Paper()
    rows = ledger(4)
    rows[2][1] = "long " * 30 + "end"
    chunks = list(chunk([paper.table(*rows)], size=80))
    assert all(len(found.text) <= 80 for found in chunks)
    pieces = [found.text for found in chunks if not found.text.startswith("| Day")]
    assert " ".join(pieces) == f"| 1 May | {rows[2][1]} | 1.00 |"
    header = "| Day | Item | Paid |\n|---|---|---|\n"
    assert chunks[0].text == header + "| 0 May | item0 | 0.00 |"
    assert chunks[-1].text == header + "| 3 May | item3 | 3.00 |"
    assert_spans_are_true(chunks, paper.lines)


def test_a_header_that_leaves_no_room_for_a_row_is_not_repeated() -> None:
    rows = ledger(3)
    rows[0][1] = "Item, " * 12
    chunks = list(chunk([Paper().table(*rows)], size=115))
    assert all(len(found.text) <= 115 for found in chunks)
    assert sum("Item," in found.text for found in chunks) == 1
    assert "2 May" in chunks[-1].text


def test_a_table_without_a_separator_is_split_between_lines_too() -> None:
    text = "| a | 1 |\n| b | 2 |\n| c | 3 |"
    chunks = chunk([Paper().pieces([("", text)], "table")], size=20)
    assert [found.text for found in chunks] == ["| a | 1 |\n| b | 2 |", "| c | 3 |"]


def test_a_chunk_holds_no_more_spans_than_its_metadata_can_carry() -> None:
    paper = Paper()
    table = paper.table(*[[str(n % 10)] * 12 for n in range(60)])
    chunks = list(chunk([table], size=5000))
    assert max(len(found.spans) for found in chunks) <= MAX_SPANS
    for found in chunks:
        metadata = found.metadata()
        assert metadata["spans"].count("[") == len(found.spans) + 1
        assert sum(len(f"{k}{v}") for k, v in metadata.items()) < METADATA_BYTES


# --- Overlap --------------------------------------------------------------------------------


def test_overlap_repeats_the_last_sentence_with_its_boxes() -> None:
    paper = Paper()
    lines = sentences(10)
    chunks = list(chunk([paper.text(*lines)], size=200, overlap=70))
    assert all(len(found.text) <= 200 for found in chunks)
    for before, after in pairwise(chunks):
        last = before.text[sentence_ends(before.text)[-1] :]
        assert after.text.startswith(last + " ")
        assert after.boxes(0, len(last)) == before.boxes(len(before.text) - len(last))
    assert_spans_are_true(chunks, paper.lines)


def test_overlap_of_another_block_is_a_paragraph_of_its_own() -> None:
    paper = Paper()
    blocks = [paper.text("First one. Second one."), paper.text("Third one.")]
    assert [found.text for found in chunk(blocks, size=30, overlap=15)] == [
        "First one. Second one.",
        "Second one.\n\nThird one.",
    ]


def test_overlap_gives_way_where_a_block_fits_without_it_only() -> None:
    paper = Paper()
    blocks = [paper.text("First one. Second one."), paper.text("x" * 28)]
    assert [found.text for found in chunk(blocks, size=30, overlap=15)][1] == "x" * 28


def test_overlap_takes_words_where_a_sentence_is_too_long() -> None:
    chunks = list(chunk([Paper().text("one two three four five six seven")], size=20, overlap=8))
    assert [found.text for found in chunks] == [
        "one two three four",
        "four five six seven",
    ]


def test_overlap_crosses_neither_pages_nor_headings_nor_tables() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    blocks = [
        one.text("First one. Second one."),
        one.heading("Head"),
        one.text("Third one. Fourth one."),
        one.table(["a", "b"], ["1", "2"]),
        two.text("Fifth one."),
    ]
    texts = [found.text for found in chunk(blocks, size=32, overlap=16)]
    assert texts == [
        "First one. Second one.",
        "# Head\n\nThird one. Fourth one.",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "Fifth one.",
    ]


# --- Over the border of a page --------------------------------------------------------------


def text_of(found: Chunk, page: int) -> str:
    """The characters of a chunk that stand on a page."""
    return " ".join(found.text[s.start : s.end] for s in found.spans if s.page == page)


def test_a_paragraph_over_two_pages_is_one_chunk_with_places_on_both() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    blocks = [
        one.text("Some other words."),
        one.text("The harbour master", "wrote down what every"),
        two.text("ship had paid", "on that day."),
        two.text("The next one."),
    ]
    first, second = chunk(blocks)
    assert first.text == (
        "Some other words.\n\nThe harbour master wrote down what every ship had paid on that day."
    )
    assert (first.page, first.page_end) == (1, 2)
    assert text_of(first, 1) == "Some other words. The harbour master wrote down what every"
    assert text_of(first, 2) == "ship had paid on that day."
    assert first.boxes(first.text.index("ship")) == blocks[2].regions
    assert first.digests == ((1, "digest-letters-1"), (2, "digest-letters-2"))
    assert (second.text, second.page, second.page_end) == ("The next one.", 2, 2)


def test_a_word_broken_at_the_foot_of_a_page_is_put_together_and_keeps_both_boxes() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    [found] = chunk([one.text("They called the har-"), two.text("bour master at once.")])
    assert found.text == "They called the harbour master at once."
    at = found.text.index("harbour")
    assert [number for number, _ in found.boxes(at, at + 3)] == [1]
    assert [number for number, _ in found.boxes(at + 3, at + 7)] == [2]


def test_a_dash_between_words_is_no_broken_word_and_a_box_is_never_lost() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    [dash] = chunk([one.text("They came -"), two.text("and went.")])
    assert dash.text == "They came - and went."
    [alone] = chunk([one.text("the har", "-", gap=""), two.text("bour was shut.")])
    assert alone.text == "the har- bour was shut."
    assert len(alone.boxes()) == 3


@pytest.mark.parametrize(
    ("foot", "head"),
    [
        ("It was late.", "and they left."),
        ("He asked:", "and they left."),
        ("They said \u201cwe go\u201d", "and they left."),
        ("It was (at last!)", "and they left."),
        ("They came to", "Leer and left."),
        ("They came to", "12 houses."),
        ("They came to", "a) the quay, and left."),
        ("They came to", "www.example.org"),
        ("", "and they left."),
    ],
)
def test_paragraphs_are_joined_only_where_the_sentence_plainly_goes_on(
    foot: str, head: str
) -> None:
    found = list(chunk([Paper(page(1)).text(foot), Paper(page(2)).text(head)]))
    assert [c.text for c in found] == [text for text in (foot, head) if text]
    assert all(c.page == c.page_end for c in found)


FOOT, HEAD = "It was late when they", "came to the quay."
JOINED = f"{FOOT} {HEAD}"


@pytest.mark.parametrize("flag", ["truncated", "repetition", "disagreement"])
@pytest.mark.parametrize("side", [0, 1])
def test_what_was_read_badly_is_not_joined(flag: str, side: int) -> None:
    blocks = [Paper(page(1)).text(FOOT), Paper(page(2)).text(HEAD)]
    blocks[side] = replace(blocks[side], flags=(flag,))
    assert [found.text for found in chunk(blocks)] == [FOOT, HEAD]


def test_nothing_is_joined_over_headings_missing_blank_and_failed_pages_and_documents() -> None:
    one, two, three = (Paper(page(number)) for number in (1, 2, 3))
    foot, head, later = one.text(FOOT), two.text(HEAD), three.text(HEAD)
    apart = [FOOT, HEAD]
    assert [c.text for c in chunk([foot, later])] == apart
    assert [c.text for c in chunk([[foot], [], [head]])] == apart
    assert [c.text for c in chunk([foot, Paper(page(2, doc="other")).text(HEAD)])] == apart
    assert [c.text for c in chunk([foot, two.heading("And then"), head])] == [
        FOOT,
        f"# And then\n\n{HEAD}",
    ]
    assert [c.text for c in chunk([foot, one.heading("And then"), head])] == [
        f"{FOOT}\n\n# And then",
        HEAD,
    ]
    assert [c.text for c in chunk([foot, head])] == [JOINED]


def test_running_lines_and_page_numbers_do_not_stand_between() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    blocks = [
        one.text(FOOT),
        one.text("- 7 -"),
        one.text("The Lantern", kind="footer"),
        two.text("Spring", kind="header"),
        two.text("Minutes, 6 June, page 8 of 9"),
        two.text(HEAD),
    ]
    assert [(c.text, c.kind, c.page, c.page_end, c.order) for c in chunk(blocks)] == [
        (JOINED, "paragraph", 1, 2, 0),
        ("- 7 -", "paragraph", 1, 1, 1),
        ("The Lantern", "footer", 1, 1, 2),
        ("Spring", "header", 2, 2, 0),
        ("Minutes, 6 June, page 8 of 9", "paragraph", 2, 2, 1),
    ]
    not_joined = [*blocks[:2], two.text("Another day.")]
    assert [c.text for c in chunk(not_joined)] == [f"{FOOT}\n\n- 7 -", "Another day."]


def test_a_page_number_is_not_taken_for_the_rest_of_a_sentence() -> None:
    one, two, three = (Paper(page(number)) for number in (1, 2, 3))
    blocks = [one.text(FOOT), two.text("came to the"), two.text("page 2"), three.text("quay.")]
    assert [c.text for c in chunk(blocks)] == [f"{FOOT} came to the quay.", "page 2"]


def test_a_paragraph_goes_on_over_many_pages() -> None:
    words = ["The ship", *["sailed on and"] * 6, "came home."]
    blocks = []
    for number, text in enumerate(words, 1):
        paper = Paper(page(number))
        blocks += [paper.text(text), paper.text(f"foot {number}", kind="footer")]
    whole, *feet = chunk(blocks)
    assert whole.text == " ".join(words)
    assert (whole.page, whole.page_end) == (1, 8)
    assert [found.text for found in feet] == [f"foot {number}" for number in range(1, 9)]
    pieces = [found for found in chunk(blocks, size=30) if found.kind == "paragraph"]
    assert " ".join(found.text for found in pieces) == whole.text
    assert [found.page for found in pieces] == sorted(found.page for found in pieces)
    for found in pieces:
        assert (found.page, found.page_end) == (found.spans[0].page, found.spans[-1].page)


def test_a_sentence_over_the_border_stays_whole_where_it_fits() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    blocks = [
        one.text("The first sentence is short. The second one", "began on the page before and"),
        two.text("ended here. The third one", "is long enough to be alone. Then a fourth."),
    ]
    assert [(c.text, c.page, c.page_end) for c in chunk(blocks, size=75)] == [
        ("The first sentence is short.", 1, 1),
        ("The second one began on the page before and ended here.", 1, 2),
        ("The third one is long enough to be alone. Then a fourth.", 2, 2),
    ]


def test_what_goes_on_fills_the_chunk_it_begins_in() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    blocks = [
        one.text("A" * 60),
        one.text("The ship"),
        two.text("came in. " + "It stayed for a week. " * 3),
        two.text("Then."),
    ]
    assert [(c.text, c.page, c.page_end) for c in chunk(blocks, size=90)] == [
        ("A" * 60 + "\n\nThe ship came in.", 1, 2),
        ("It stayed for a week. It stayed for a week. It stayed for a week.", 2, 2),
        ("Then.", 2, 2),
    ]


def test_the_overlap_of_a_paragraph_over_two_pages_keeps_its_places() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    blocks = [
        one.text("Some went away. They saw the har-"),
        two.text("bour. It was empty. Nobody stayed there."),
    ]
    first, second = chunk(blocks, size=60, overlap=30)
    assert first.text == "Some went away. They saw the harbour. It was empty."
    assert second.text == "It was empty. Nobody stayed there."
    assert (first.page, first.page_end, second.page, second.page_end) == (1, 2, 2, 2)
    first, second, *_ = chunk(blocks, size=46, overlap=22)
    assert second.text.startswith("They saw the harbour. It was")
    assert [number for number, _ in second.boxes(0, 16)] == [1]
    # what is repeated is not where a chunk starts
    assert (second.page, second.page_end) == (2, 2)


def test_lists_go_on_with_the_next_number_and_in_the_middle_of_an_item() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    upper = one.items("The winch.", "The ladder.", first=1)
    lower = two.items("The quay.", first=3)
    assert [c.text for c in chunk([upper, lower])] == [
        "1. The winch.\n2. The ladder.\n3. The quay."
    ]
    other = two.items("The quay.", first=4)
    assert len(list(chunk([upper, other]))) == 2
    first = two.items("The quay.", first=1)
    assert len(list(chunk([upper, first]))) == 2
    item = one.items("rope", "tar, which has to be")
    assert [c.text for c in chunk([item, two.text("stored in the loft.")])] == [
        "- rope\n- tar, which has to be stored in the loft."
    ]


def test_what_opens_a_page_in_the_middle_of_a_sentence_is_not_packed_with_what_follows() -> None:
    paper = Paper(page(2))
    blocks = [paper.text("came to the"), paper.text("quay."), paper.text("Then they left.")]
    assert [c.text for c in chunk(blocks)] == ["came to the\n\nquay.", "Then they left."]
    # the only page of a file has no page before it
    whole = [replace(block, page=replace(block.page, count=1)) for block in blocks]
    assert [c.text for c in chunk(whole)] == ["came to the\n\nquay.\n\nThen they left."]


# --- Tables over pages ----------------------------------------------------------------------

NAMES = ["Day", "Item", "Paid"]
TITLE = "| Day | Item | Paid |\n|---|---|---|"


def test_a_table_goes_on_in_one_without_names_and_each_row_keeps_its_page_and_box() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    blocks = [
        one.table(NAMES, ["1 May", "rope", "1.00"]),
        two.rows(["2 May", "tar", "2.00"]),
        two.text("Seen and found right."),
    ]
    table, rest = chunk(blocks)
    assert table.text == f"{TITLE}\n| 1 May | rope | 1.00 |\n| 2 May | tar | 2.00 |"
    assert (table.kind, table.page, table.page_end) == ("table", 1, 2)
    assert text_of(table, 2) == "2 May tar 2.00"
    assert [box for number, box in table.boxes() if number == 2] == list(two.lines)[:3]
    assert rest.text == "Seen and found right."


def test_names_that_stand_on_both_pages_are_kept_as_a_row_and_repeated_from_their_own_page() -> (
    None
):
    one, two = Paper(page(1)), Paper(page(2))
    upper = one.table(NAMES, *([f"{n} May", "rope", f"{n}.00"] for n in range(1, 4)))
    lower = two.table(NAMES, *([f"{n} May", "tar", f"{n}.00"] for n in range(4, 9)))
    [whole] = chunk([upper, lower])
    assert whole.text.count("| Day | Item | Paid |") == 2
    assert whole.text.count("|---|---|---|") == 1
    assert sorted(whole.boxes()) == sorted([*upper.regions, *lower.regions])
    pieces = list(chunk([upper, lower], size=180))
    assert [(c.page, c.page_end) for c in pieces] == [(1, 2), (2, 2)]
    for found in pieces:
        assert found.text.startswith(TITLE)
        assert len(found.text) <= 180
        assert {span.page for span in found.spans[:3]} == {found.page}
    assert {region for c in pieces for region in c.boxes()} == {*upper.regions, *lower.regions}


def test_a_split_table_without_names_on_the_second_page_repeats_those_of_the_first() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    upper = one.table(NAMES, *([f"{n} May", "rope", f"{n}.00"] for n in range(1, 4)))
    lower = two.rows(*([f"{n} May", "tar", f"{n}.00"] for n in range(4, 9)))
    *_, last = chunk([upper, lower], size=110)
    assert last.text.startswith(TITLE)
    assert last.text.endswith("| 8 May | tar | 8.00 |")
    assert [span.page for span in last.spans[:3]] == [1, 1, 1]
    assert {span.page for span in last.spans[3:]} == {2}
    # its own rows say where it stands; the names are drawn on the page before all the same
    assert (last.page, last.page_end) == (2, 2)
    assert last.digests == ((1, "digest-letters-1"), (2, "digest-letters-2"))


def test_a_row_of_numbers_in_the_place_of_names_is_a_row() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    upper = one.table(NAMES, ["1 May", "rope", "1.00"])
    lower = two.table(["2 May", "tar", "2.00"], ["3 May", "sail", "3.00"])
    [table] = chunk([upper, lower])
    assert table.text.split("\n")[2:] == [
        "| 1 May | rope | 1.00 |",
        "| 2 May | tar | 2.00 |",
        "| 3 May | sail | 3.00 |",
    ]


def test_names_are_known_again_when_a_letter_was_misread() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    upper = one.table(["Particulars", "Received"], ["rope", "1.00"])
    assert len(list(chunk([upper, two.table(["Particu1ars", "Received"], ["tar", "2.00"])]))) == 1
    assert len(list(chunk([upper, two.table(["Particulars", "Spent"], ["tar", "2.00"])]))) == 2


@pytest.mark.parametrize(
    "lower",
    [
        [["Name", "Ship", "Berth"], ["Wray", "Plover", "2"]],
        [NAMES[:2], ["1 May", "rope"]],
        [["", "", "", ""], ["2 May", "tar", "2.00", "x"]],
    ],
)
def test_another_table_is_not_joined(lower: list[list[str]]) -> None:
    one, two = Paper(page(1)), Paper(page(2))
    found = list(chunk([one.table(NAMES, ["1 May", "rope", "1.00"]), two.table(*lower)]))
    assert [(c.page, c.page_end) for c in found] == [(1, 1), (2, 2)]


def test_a_table_over_many_pages_gives_its_chunks_as_it_goes() -> None:
    taken: list[int] = []

    def pages() -> Iterator[list[Block]]:
        for number in range(1, 51):
            taken.append(number)
            paper = Paper(replace(page(number), count=50))
            rows = [[f"{number}.{n}", "rope", f"{n}.00"] for n in range(10)]
            yield [paper.table(NAMES, *rows) if number == 1 else paper.rows(*rows)]

    chunks = chunk(pages(), size=300)
    seen = []
    for found in chunks:
        assert taken[-1] <= found.page_end + 1
        assert found.text.startswith(TITLE)
        assert len(found.text) <= 300
        rows = found.text.split("\n")[2:]
        seen += rows
        assert found.page == int(rows[0].split(".")[0][2:])
        assert found.page_end == int(rows[-1].split(".")[0][2:])
    assert seen == [f"| {p}.{n} | rope | {n}.00 |" for p in range(1, 51) for n in range(10)]


# --- Laziness -------------------------------------------------------------------------------


def asked(*texts: str) -> tuple[list[int], Iterator[Chunk]]:
    """Chunks of pages with one paragraph each, and the pages that were taken so far."""
    taken: list[int] = []

    def pages() -> Iterator[list[Block]]:
        for number, text in enumerate(texts, 1):
            taken.append(number)
            paper = Paper(replace(page(number), count=len(texts)))
            yield [paper.heading("Above"), paper.text("One. " * 10), paper.text(text)]

    return taken, chunk(pages(), size=70)


def test_chunks_of_a_page_come_before_the_next_page_is_taken() -> None:
    taken, chunks = asked("It ends here.", "And here.")
    assert [next(chunks).page, next(chunks).page] == [1, 1]
    assert taken == [1]


def test_only_the_last_chunk_of_a_page_waits_where_its_end_may_go_on() -> None:
    taken, chunks = asked("It does not end", "here, but goes")
    assert next(chunks).text.startswith("# Above")
    assert taken == [1]
    assert next(chunks).text == "It does not end"
    assert taken == [1, 2]
    # the last page of a file waits for nothing
    assert [found.page for found in chunks] == [2, 2]
    assert taken == [1, 2]


# --- Lengths --------------------------------------------------------------------------------


class WordTokenizer:
    """Counts as the tokenizers of transformers do: the words, and one token at either end.

    As they do, it may cut and fill up what is too long or too short, unless told not to.
    """

    model_max_length = 8

    def encode(self, text: str, **options: bool) -> list[int]:
        ids = [1, *(len(word) for word in text.split()), 2]
        if options.get("truncation", True):
            ids = ids[: self.model_max_length]
        if options.get("padding", True):
            ids += [0] * (self.model_max_length - len(ids))
        return ids

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": self.encode(text), "attention_mask": []}


class Encoding:
    """What `tokenizers` gives back."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids


class RefusesSpecialTokens:
    """As tiktoken does."""

    def encode(self, text: str) -> list[int]:
        if "<|end|>" in text:
            raise ValueError(text)
        return self.encode_ordinary(text)

    def encode_ordinary(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]


def counted(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("length", "around"),
    [
        (counted, 0),
        (str.split, 0),
        (lambda text: {"input_ids": text.split()}, 0),
        (lambda text: Encoding([1] * counted(text)), 0),
        (RefusesSpecialTokens(), 0),
        (WordTokenizer(), 2),
    ],
)
def test_whatever_counts_tokens_is_kept_to(length: Any, around: int) -> None:
    text = " ".join([*sentences(8), "<|end|>", *sentences(4)])
    found = list(chunk([Paper().text(text)], size=24, length=length))
    assert counted(found[0].text) == (24 - around) // 8 * 8
    assert all(counted(c.text) + around <= 24 for c in found)
    assert " ".join(c.text for c in found) == text


def test_a_tokenizer_that_truncates_and_pads_is_asked_for_the_true_length() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: number for number, word in enumerate(["[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    plain_count = len(tokenizer.encode("rope tar.").ids)
    tokenizer.enable_truncation(12)
    tokenizer.enable_padding(length=12)
    found = list(chunk([Paper().text(*sentences(10))], size=30, length=tokenizer))
    assert all(len(c.text.split()) == 24 for c in found[:-1])
    # the tokenizer itself is left as it was
    assert len(tokenizer.encode("rope tar.").ids) == 12
    assert plain_count == 5


@pytest.mark.slow
def test_a_tokenizer_of_transformers_is_kept_to_without_a_warning() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: number for number, word in enumerate(["[UNK]", *WORDS])}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", model_max_length=8
    )
    found = list(chunk([Paper().text(*sentences(10))], size=30, length=tokenizer))
    assert [len(tokenizer.encode(c.text)) for c in found] == [27, 27, 27, 9]


@pytest.mark.parametrize(
    "length",
    [
        "bert-base-uncased",
        512,
        lambda text: None,
        lambda text: -1,
    ],
)
def test_what_counts_nothing_is_refused_at_once(length: Any) -> None:
    with pytest.raises(UsageError, match=r"counts nothing|no tokens"):
        chunk([], size=512, length=length)


def test_an_embedding_model_is_not_taken_for_a_tokenizer() -> None:
    numpy = pytest.importorskip("numpy")

    class Model:
        def encode(self, text: str) -> Any:
            return numpy.zeros(384, numpy.float32)

    with pytest.raises(UsageError, match="give the tokenizer itself"):
        chunk([], size=512, length=Model())


def test_a_size_that_the_tokenizer_fills_by_itself_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="which alone counts 3"):
        chunk([], size=2, length=WordTokenizer())


def test_a_character_larger_than_a_chunk_is_an_error_and_never_a_chunk_too_large() -> None:
    chunks = chunk([Paper().text("See the ⚓ here")], size=2, length=lambda t: len(t.encode()))
    assert next(chunks).text == "Se"
    with pytest.raises(UsageError, match="'⚓'"):
        list(chunks)


def test_the_path_of_headings_is_cut_to_its_room_from_the_outside() -> None:
    paper = Paper()
    blocks = [
        paper.heading("The accounts of the harbour", 1),
        paper.heading("Rates of berths", 2),
        *(paper.text(letter * 60) for letter in "AB"),
    ]
    paths = {
        room: [found.headings for found in chunk(blocks, size=120, heading_size=room)][-1]
        for room in (0, 10, 20, 100)
    }
    assert paths == {
        0: (),
        10: ("Rates of",),
        20: ("Rates of berths",),
        100: ("The accounts of the harbour", "Rates of berths"),
    }
    for room in (0, 10, 20, 100):
        for found in chunk(blocks, size=60, heading_size=room):
            assert len(found.text) <= 60
            assert len(found.embedded_text) <= 60 + room


# --- Sentences ------------------------------------------------------------------------------


def test_each_sentence_item_row_and_heading_is_a_chunk_with_its_places() -> None:
    one, two = Paper(page(1)), Paper(page(2))
    blocks = [
        one.heading("Accounts"),
        one.text("The ship came in. It brought", "rope and tar."),
        one.items("rope. Of hemp", "tar"),
        one.text("Nobody had paid. They called the har-"),
        two.text("bour master. He came."),
        two.table(NAMES, ["1 May", "rope", "1.00"], ["2 May", "tar", "2.00"]),
    ]
    found = list(chunk_sentences(blocks))
    assert [c.text for c in found] == [
        "# Accounts",
        "The ship came in.",
        "It brought rope and tar.",
        "- rope. Of hemp",
        "- tar",
        "Nobody had paid.",
        "They called the harbour master.",
        "He came.",
        f"{TITLE}\n| 1 May | rope | 1.00 |",
        f"{TITLE}\n| 2 May | tar | 2.00 |",
    ]
    assert [c.headings for c in found] == [(), *[("Accounts",)] * 9]
    assert [(c.page, c.page_end) for c in found[5:8]] == [(1, 1), (1, 2), (2, 2)]
    assert [region[1] for region in found[2].boxes()] == list(one.lines)[1:3]
    assert len({c.chunk_id for c in found}) == len(found)


def test_sentences_keep_to_the_size_too() -> None:
    paper = Paper()
    blocks = [
        paper.text("Short. Word " + "word " * 30 + "end."),
        paper.pieces([("", "```\nif (x) {\n}\nreturn 0;\n```")], "code"),
        paper.table(*ledger(2)),
    ]
    found = list(chunk_sentences(blocks, size=30))
    assert found[0].text == "Short."
    assert all(len(c.text) <= 30 for c in found)
    assert {region for c in found for region in c.boxes()} == {
        region for block in blocks for region in block.regions
    }


# --- Ids ------------------------------------------------------------------------------------


def book(*pages: tuple[int, str]) -> list[Block]:
    blocks = []
    for number, digest in pages:
        paper = Paper(page(number, digest=digest))
        blocks += [paper.heading(f"Chapter {digest}", 2), paper.text(*sentences(12, len(digest)))]
    return blocks


def test_ids_are_the_same_on_a_second_run_and_unique() -> None:
    blocks = book((1, "a"), (2, "bb"), (3, "bb"))
    first, second = (list(chunk(blocks, size=200)) for _ in range(2))
    assert first == second
    assert len({found.chunk_id for found in first}) == len(first)


def test_a_page_put_into_the_middle_changes_no_other_id() -> None:
    before = list(chunk(book((1, "a"), (2, "bb")), size=200))
    after = list(chunk(book((1, "a"), (2, "new page"), (3, "bb")), size=200))
    ids = {found.chunk_id for found in after}
    assert {found.chunk_id for found in before} < ids
    assert len(ids) == len(after)


def test_the_same_page_in_another_document_has_other_ids() -> None:
    ids = [
        next(chunk([Paper(page(1, doc=doc, digest="same")).text("Blank form.")])).chunk_id
        for doc in ("a", "b")
    ]
    assert ids[0] != ids[1]


def test_pages_without_a_digest_are_told_apart_by_number() -> None:
    blocks = [Paper(page(n, digest="")).text("The same words.") for n in (1, 2)]
    assert len({found.chunk_id for found in chunk(blocks)}) == 2


# --- Cost -----------------------------------------------------------------------------------


def test_measuring_stays_linear_in_the_text() -> None:
    measured = 0

    def tokens(text: str) -> int:
        nonlocal measured
        measured += len(text)
        return len(text.split())

    def cost(count: int) -> float:
        nonlocal measured
        measured = 0
        block = Paper().text(*sentences(count))
        assert all(len(c.text.split()) <= 100 for c in chunk([block], size=100, length=tokens))
        return measured / len(block.markdown)

    assert cost(2000) < 1.3 * cost(200)


@pytest.mark.parametrize(
    ("markdown", "wanted"),
    [
        ("## The **bold** *one* ##", "The bold one"),
        ("| a | b\\|c |", "a b|c"),
        ("- first\n- second", "first second"),
        ("snake_case and 2 * 3", "snake_case and 2 * 3"),
        ("\\[REG\\] 5\\. May", "[REG] 5. May"),
        ("x<sup>2</sup>", "x2"),
        ("#12 High Street", "#12 High Street"),
    ],
)
def test_plain_leaves_the_words_and_drops_the_marks(markdown: str, wanted: str) -> None:
    assert plain(markdown) == wanted
