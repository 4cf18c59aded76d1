from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos_loader.chunking import BREAK, MAX_SPANS, chunk, plain, sentence_ends
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


Pages = list[tuple[list[tuple], str]]


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

    def items(self, *items: str) -> Block:
        return self.pieces(
            [("- " if i == 0 else "\n- ", item) for i, item in enumerate(items)], "list"
        )

    def table(self, *rows: Iterable[str]) -> Block:
        pieces: list[tuple[str, str]] = []
        for number, row in enumerate(rows):
            cells = list(row)
            before = {0: "| ", 1: f" |\n{'|---' * len(cells)}|\n| "}.get(number, " |\n| ")
            pieces += [(before if i == 0 else " | ", cell) for i, cell in enumerate(cells)]
        block = self.pieces(pieces, "table")
        return replace(block, markdown=block.markdown + " |")

    def pieces(self, pieces: Iterable[tuple[str, str]], kind: str) -> Block:
        markdown, spans = "", []
        for marks, text in pieces:
            start = len(markdown) + len(marks)
            markdown += marks + text
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
        paper.text("a" * 20),
        paper.heading("One"),
        paper.text("b" * 20),
        paper.heading("Two"),
        paper.text("c" * 20),
    ]
    assert [found.text[0] for found in chunk(blocks, size=98)] == ["a", "#"]
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


def test_a_row_larger_than_a_chunk_stays_whole_and_alone() -> None:
    rows = ledger(3)
    rows[2][1] = "long " * 30
    chunks = list(chunk([Paper().table(*rows)], size=80))
    sizes = [len(found.text) for found in chunks]
    [large] = [found for found in chunks if len(found.text) > 80]
    assert large.text.count("\n") == 0
    assert "1 May" in large.text
    assert sizes.count(len(large.text)) == 1
    assert chunks[-1].text.startswith("| Day")


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


# --- Properties -----------------------------------------------------------------------------

words = st.text("abcdefgh.,|*é", min_size=1, max_size=12)
lines = st.lists(words, min_size=1, max_size=8).map(" ".join)
shapes = st.one_of(
    st.tuples(st.just("heading"), lines, st.integers(1, 4)),
    st.tuples(
        st.sampled_from(["paragraph", "other", "header", "footer"]),
        st.lists(lines, min_size=1, max_size=8),
    ),
    st.tuples(st.just("list"), st.lists(lines, min_size=1, max_size=8)),
    st.tuples(
        st.just("table"),
        st.integers(1, 4).flatmap(
            lambda n: st.lists(st.lists(words, min_size=n, max_size=n), min_size=1, max_size=8)
        ),
    ),
)
documents = st.lists(
    st.tuples(st.lists(shapes, max_size=6), st.sampled_from(["x", "y", ""])), max_size=4
)


def built(pages: Pages, doc: str = "letters") -> tuple[list[Block], dict[Box, str]]:
    blocks: list[Block] = []
    known: dict[Box, str] = {}
    for number, (shapes_of_page, digest) in enumerate(pages, 1):
        paper = Paper(page(number, doc=doc, digest=digest))
        paper.lines = known
        for kind, *content in shapes_of_page:
            match kind:
                case "heading":
                    blocks.append(paper.heading(*content))
                case "list":
                    blocks.append(paper.items(*content[0]))
                case "table":
                    blocks.append(paper.table(*content[0]))
                case _:
                    blocks.append(paper.text(*content[0], kind=kind))
    return blocks, known


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


@settings(max_examples=150, deadline=None)
@given(documents, st.integers(5, 200), st.integers(0, 100))
def test_every_character_is_in_a_chunk_with_its_own_box(
    pages: Pages, size: int, overlap: int
) -> None:
    blocks, known = built(pages)
    chunks = list(chunk(blocks, size=size, overlap=min(overlap, size // 2)))
    assert_spans_are_true(chunks, known)
    covered: dict[Box, str] = defaultdict(str)
    for found in chunks:
        for span in found.spans:
            covered[span.box] += squeezed(found.text[span.start : span.end])
    for block in blocks:
        for span in block.spans:
            line = squeezed(block.markdown[span.start : span.end])
            if overlap == 0 and block.kind != "table":
                assert covered[span.box] == line
            assert set(line) <= set(covered[span.box])
            assert len(covered[span.box]) >= len(line)


@settings(max_examples=150, deadline=None)
@given(documents, st.integers(5, 200), st.integers(0, 100))
def test_no_chunk_is_too_large_but_for_a_single_row(pages: Pages, size: int, overlap: int) -> None:
    blocks, _ = built(pages)
    for found in chunk(blocks, size=size, overlap=min(overlap, size // 2)):
        rows = [row for row in found.text.split("\n") if not re.fullmatch(r"[|-]+", row)]
        assert len(found.text) <= size or (found.kind == "table" and len(rows) == 1)
        assert len(found.spans) <= MAX_SPANS


@settings(max_examples=100, deadline=None)
@given(documents, documents, documents, st.integers(5, 200))
def test_ids_are_unique_and_unmoved_by_a_new_page(
    before: Pages, new: Pages, after: Pages, size: int
) -> None:
    # a new page that is the copy of another one shares its digest, and the copies may change places
    new = [(shapes_of_page, "new") for shapes_of_page, _ in new]
    named = [(s, d or f"d{i}") for i, (s, d) in enumerate([*before, *after])]
    old = list(chunk(built(named)[0], size=size))
    longer = [*named[: len(before)], *new, *named[len(before) :]]
    grown = list(chunk(built(longer)[0], size=size))
    ids = [found.chunk_id for found in grown]
    assert len(set(ids)) == len(ids)
    assert {found.chunk_id for found in old} <= set(ids)


@settings(max_examples=50, deadline=None)
@given(documents, documents, st.integers(5, 200), st.integers(0, 100))
def test_documents_in_one_stream_are_chunked_as_if_alone(
    first: Pages, second: Pages, size: int, overlap: int
) -> None:
    options = {"size": size, "overlap": min(overlap, size // 2)}
    a, b = built(first, "a")[0], built(second, "b")[0]
    assert list(chunk([*a, *b], **options)) == [*chunk(a, **options), *chunk(b, **options)]


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
