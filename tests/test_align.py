"""Markdown and lines joined: every character of the markdown in the box of its line."""

from __future__ import annotations

import random
import string
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos_loader.align import Alignment, align
from kosmos_loader.align.plain import plain_blocks
from kosmos_loader.chunking import chunk
from kosmos_loader.document import Block, Line, PageInfo, Reading
from kosmos_loader.geometry import Box
from kosmos_loader.markup import parse_ocr
from kosmos_loader.testing.drawn import WORDS

INFO = PageInfo("/scan.png", "d", 1, 1, 1000, 1400, 150.0)


def stacked(texts: Sequence[str], *, confidence: float | None = 0.9) -> tuple[Line, ...]:
    """Lines one below the other, each in a box of its own."""
    pitch = 1 / max(1, len(texts))
    return tuple(
        Line(text, Box(0.1, row * pitch, 0.9, (row + 0.8) * pitch), confidence)
        for row, text in enumerate(texts)
    )


def joined(texts: Sequence[str], markdown: str) -> Alignment:
    return align(Reading(INFO, "fake", "1", stacked(texts), markdown))


def spanned(texts: Sequence[str], markdown: str) -> list[tuple[str, str]]:
    """The pieces of markdown that lie in a span, each with the text of its line."""
    by_box = {line.box: line.text for line in stacked(texts)}
    return [
        (block.markdown[span.start : span.end], by_box[span.box])
        for block in joined(texts, markdown).blocks
        for span in block.spans
    ]


def made(texts: Sequence[str], markdown: str) -> list[tuple[str, str]]:
    return [(block.kind, block.markdown) for block in joined(texts, markdown).blocks]


# --- What must not break it -------------------------------------------------------------------


def test_a_paragraph_has_a_span_for_each_of_its_lines() -> None:
    lines = ["It was a cold day", "when the ship came in."]
    assert spanned(lines, "It was a cold day when the ship came in.") == [
        ("It was a cold day", lines[0]),
        ("when the ship came in.", lines[1]),
    ]


def test_lines_may_be_wrapped_elsewhere() -> None:
    lines = ["It was a cold day", "when the ship came in."]
    assert spanned(lines, "It was a\ncold day when\nthe ship came in.") == [
        ("It was a\ncold day", lines[0]),
        ("when\nthe ship came in.", lines[1]),
    ]


@pytest.mark.parametrize(
    ("line", "markdown", "pieces"),
    [
        ("a bold word", "a **bold** word", ["a ", "bold", " word"]),
        ("1 [REG] BLACK* SAKURA", r"1 \[REG\] BLACK\* SAKURA", [r"1 \[REG\] BLACK\* SAKURA"]),
        ("Fish & Chips <3 euro", "Fish &amp; Chips &lt;3 euro", ["Fish &amp; Chips &lt;3 euro"]),
        (
            "area of 12 m2 in all",
            "area of 12 m<sup>2</sup> in all",
            ["area of 12 m", "2", "in all"],
        ),
        ("see the rules here", "see [the rules](http://a.b/c) here", ["see", "the rules", "here"]),
        ("call print(x) now", "call `print(x)` now", ["call", "print(x)", "now"]),
        ("H = a b + 1", r"$H = \frac{a}{b} + 1$", [r"H = \frac{a}{b} + 1"]),
        ("finest office", "\ufb01nest o\ufb03ce", ["\ufb01nest o\ufb03ce"]),
        ("“It’s” 1914–18 — so", '"It\'s" 1914-18 - so', ['"It\'s" 1914-18 - so']),
        ("Café Müller", "Cafe Mu\u0308ller", ["Cafe Mu\u0308ller"]),
        ("• rope and tar", "- rope and tar", ["rope and tar"]),
        ("2. rope and tar", "2. rope and tar", ["2. rope and tar"]),
        ("ALL CAPITALS", "All capitals", ["All capitals"]),
        ("nospacesatall", "no spaces at all", ["no spaces at all"]),
        ("well-known", "well\u00adknown", ["well\u00adknown"]),
    ],
)
def test_marks_and_ways_of_writing_do_not_break_it(
    line: str, markdown: str, pieces: list[str]
) -> None:
    found = spanned(
        ["A line above it.", line, "A line below it."], f"A line above it.\n\n{markdown}"
    )
    assert [piece.strip() for piece, of in found if of == line] == [p.strip() for p in pieces]
    assert [of for _, of in found] == [
        "A line above it.",
        *[line] * len(pieces),
        "A line below it.",
    ]


@pytest.mark.parametrize("hyphen", ["-", "\u00ad", "\u2010", "\u00ac"])
def test_a_word_broken_at_a_line_end_keeps_both_boxes(hyphen: str) -> None:
    lines = [f"this is only an exam{hyphen}", "ple of such a word"]
    assert spanned(lines, "this is only an example of such a word") == [
        ("this is only an exam", lines[0]),
        ("ple of such a word", lines[1]),
    ]
    assert len(joined(lines, "this is only an example of such a word").blocks) == 1


def test_each_cell_of_a_table_has_the_box_of_its_line() -> None:
    lines = ["Item", "Price", "Rope | blue", "4.00", "Lamp", "4.00"]
    markdown = "| Item | Price |\n| --- | --- |\n| Rope \\| blue | 4.00 |\n| **Lamp** | 4.00 |"
    found = joined(lines, markdown).blocks
    assert [block.kind for block in found] == ["table"]
    assert spanned(lines, markdown) == list(
        zip(["Item", "Price", "Rope \\| blue", "4.00", "Lamp", "4.00"], lines, strict=True)
    )
    boxes = [span.box for span in found[0].spans]
    assert boxes == [line.box for line in stacked(lines)]


def test_a_row_that_was_read_as_one_line_gives_its_box_to_all_its_cells() -> None:
    found = spanned(["Item Price", "Rope 4.00"], "|Item|Price|\n|---|---|\n|Rope|4.00|")
    assert found == [
        ("Item", "Item Price"),
        ("Price", "Item Price"),
        ("Rope", "Rope 4.00"),
        ("4.00", "Rope 4.00"),
    ]


def test_a_table_that_was_moved_to_the_front_finds_its_lines() -> None:
    lines = ["Some text above the table", "No", "7", "12", "And some more text below it"]
    markdown = (
        "|No|7|\n|---|---|\n|12||\n\nSome text above the table\n\nAnd some more text below it"
    )
    assert spanned(lines, markdown) == [(lines[i], lines[i]) for i in (1, 2, 3, 0, 4)]


def test_repeated_lines_are_given_in_order_and_once() -> None:
    lines = ["Rope 4.00", "Total", "4.00", "Tar 2.00", "Total", "2.00"]
    found = joined(lines, "Rope 4.00\n\nTotal\n\n4.00\n\nTar 2.00\n\nTotal\n\n2.00").blocks
    assert [block.regions for block in found] == [[(1, line.box)] for line in stacked(lines)]


def test_a_passage_that_the_model_repeated_is_supported_once() -> None:
    lines = ["one line of text that is on the page", "and another one below it"]
    found = joined(lines, "\n\n".join([lines[0], lines[1], lines[1], lines[1]]))
    assert Counter(len(block.spans) for block in found.blocks) == {1: 2, 0: 2}
    assert found.support < 0.7


# --- What one of the readings has alone -----------------------------------------------------

PROSE = [
    "It was a cold day when the ship came into the harbour",
    "of the old town, and nobody had seen it before.",
    "The harbour master wrote down what she had paid.",
]


def test_lines_that_the_markdown_leaves_out_are_blocks_of_their_own() -> None:
    lines = ["The Harbour Lantern", *PROSE[:2], "A note in the margin", PROSE[2], "Page 3"]
    assert made(lines, f"{PROSE[0]} {PROSE[1]}\n\n{PROSE[2]}") == [
        ("header", "The Harbour Lantern"),
        ("paragraph", f"{PROSE[0]} {PROSE[1]}"),
        ("other", "A note in the margin"),
        ("paragraph", PROSE[2]),
        ("footer", "Page 3"),
    ]
    orders = [block.order for block in joined(lines, PROSE[0]).blocks]
    assert orders == list(range(len(orders)))


def test_running_lines_of_a_page_on_its_side_are_known_too() -> None:
    texts = ["Header", *PROSE, "4"]
    turned = tuple(
        Line(text, Box(1 - (row + 0.8) / 5, 0.1, 1 - row / 5, 0.9))
        for row, text in enumerate(texts)
    )
    reading = Reading(INFO, "fake", "1", turned, "\n\n".join(PROSE), angle=90.0)
    kinds = [block.kind for block in align(reading).blocks]
    assert kinds == ["header", *["paragraph"] * 3, "footer"]


def test_words_that_the_markdown_leaves_out_of_a_line_are_kept_as_well() -> None:
    lines = [PROSE[0], "Amount due: 1,250 marks in gold"]
    found = joined(lines, f"{PROSE[0]}\n\nAmount due: marks in gold")
    assert [b.markdown for b in found.blocks if b.kind == "other"] == ["1,250"]
    [kept] = [block for block in found.blocks if block.kind == "other"]
    assert kept.regions == [(1, stacked(lines)[1].box)]
    assert kept.confidence == 0.9


def test_words_that_a_reader_ran_together_are_kept_as_well() -> None:
    lines = [PROSE[0], "Amountdue:1,250marksingold"]
    found = joined(lines, f"{PROSE[0]}\n\nAmount due: marks in gold")
    assert [b.markdown for b in found.blocks if b.kind == "other"] == ["1,250"]


@pytest.mark.parametrize("line", ["Total ..... 12.50", "Total.....12.50", "• Total | 12.50 —"])
def test_bullets_leaders_and_rules_are_not_words(line: str) -> None:
    found = joined([*PROSE, line], "\n\n".join([*PROSE, "Total 12.50"]))
    assert [block.kind for block in found.blocks] == ["paragraph"] * 4


def test_text_without_support_stays_without_span_and_lowers_the_support() -> None:
    invented = "The quarterly profits rose by a remarkable eleven percent in Zurich."
    found = joined(PROSE, f"{' '.join(PROSE)}\n\n{invented}")
    assert [bool(block.spans) for block in found.blocks] == [True, False]
    assert found.blocks[1].markdown == invented
    assert found.blocks[1].flags == found.blocks[0].flags == ("disagreement",)
    assert 0.6 < found.support < 0.75
    [piece] = chunk(found.blocks)
    assert 0.6 < piece.support < 0.75


def test_a_made_up_word_inside_a_line_lies_in_no_span() -> None:
    lines = ["Invoice of the harbour office", "Amount due: marks in gold"]
    found = spanned(lines, f"{lines[0]}\n\nAmount due: 98,000 marks in gold")
    assert [piece for piece, _ in found] == [lines[0], "Amount due:", "marks in gold"]


def test_a_small_made_up_block_is_flagged_by_itself() -> None:
    many = [f"{line} ({number})" for number in range(6) for line in PROSE]
    found = joined(many, "\n\n".join([*many, "Wholly invented sentence about profits."]))
    assert not found.disagrees
    assert [block.flags for block in found.blocks] == [()] * len(many) + [("disagreement",)]


def test_confidence_is_that_of_the_lines_of_a_block() -> None:
    sure, unsure = stacked(PROSE[:1], confidence=1.0), stacked(PROSE[1:2], confidence=0.5)
    lines = (*sure, Line(unsure[0].text, Box(0, 0.9, 1, 1), 0.5))
    [block] = align(Reading(INFO, "r", "1", lines, " ".join(PROSE[:2]))).blocks
    assert block.confidence is not None
    assert 0.7 < block.confidence < 0.8
    plain = Reading(INFO, "r", "1", stacked(PROSE, confidence=None), " ".join(PROSE))
    assert align(plain).blocks[0].confidence is None


# --- Markdown as plain text -----------------------------------------------------------------

EXAMPLE = r"""# Title **bold** C# ##

Para one\*x and [link *it*](http://x.y "t (a)") tail  
next `code` &amp; e<sup>2</sup> <http://a.b/c> ![al\]t](x.png)

2) second
   - nested **x**

| H | K |
|---|---|
| a\|b | `c` |
| x | y | surplus |

```py
def f(): #
    return 1
```

<table><tr><td>A</td></tr></table>

Set
ext
===
"""  # noqa: W291 (two blanks at a line's end break the line)


def test_plain_text_is_what_a_reader_of_the_rendered_page_reads() -> None:
    assert [(b.kind, b.level, b.text) for b in plain_blocks(EXAMPLE)] == [
        ("heading", 1, "Title bold C#"),
        ("paragraph", 0, "Para one*x and link it tail\nnext code & e2 http://a.b/c al]t"),
        ("list", 0, "2)\nsecond\nnested x"),
        ("table", 0, "H\nK\na|b\nc\nx\ny\nsurplus"),
        ("code", 0, "def f(): #\nreturn 1"),
        ("paragraph", 0, "A"),
        ("heading", 1, "Set\next"),
    ]


def test_every_plain_character_knows_how_it_is_written() -> None:
    written = {"*": r"\*", "&": "&amp;", "]": r"\]", "|": r"\|"}
    for block in plain_blocks(EXAMPLE):
        for character, start, end in zip(block.text, block.starts, block.ends, strict=True):
            source = block.markdown[start:end]
            assert source in (character, written.get(character), "")
            assert source or character == "\n"


FRAGMENTS = [
    *"ab1 \n\n\t*_`~#>-+.:|\\[]()<>!&$'\"=",
    *["**", "```", "|---|---|", "\n\n", "1. ", "&amp;", "<b>", "<!--", "](", "![", "\ud800", "\0"],
    *["http://a.b", "\r\n", "\u00e9", "\ufb01", "\u2028", "\U0001f600", "</s>", "<bbox>", "<x_1>"],
]
anything = st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS), max_size=60).map("".join))


@given(anything, st.lists(anything, max_size=6))
def test_nothing_that_a_model_writes_makes_it_raise(markdown: str, texts: list[str]) -> None:
    lines = stacked(texts)
    reading = Reading(INFO, "r", "1", lines, markdown)
    found = align(reading)
    check_blocks(found.blocks, lines)
    parse_ocr(markdown, width=10, height=10)


def check_blocks(blocks: Sequence[Block], lines: Sequence[Line]) -> None:
    """Spans are in order, inside their block and boxes of lines."""
    boxes = {line.box for line in lines}
    for number, block in enumerate(blocks):
        assert block.order == number
        end = 0
        for span in block.spans:
            assert end <= span.start < span.end <= len(block.markdown)
            assert span.box in boxes
            end = span.end


# --- Properties on random pages -------------------------------------------------------------


@dataclass
class Truth:
    """Markdown that grows, and the line that each of its characters stands in."""

    texts: list[str] = field(default_factory=list)
    markdown: str = ""
    owners: list[int | None] = field(default_factory=list)

    def mark(self, text: str) -> None:
        self.markdown += text
        self.owners += [None] * len(text)

    def write(self, text: str, line: int | None) -> None:
        self.markdown += text
        self.owners += [line] * len(text)


MUST_ESCAPE = set("\\`*_{}[]()#+-.!|<>&~=:$")


def write_word(truth: Truth, word: str, line: int, chance: random.Random) -> None:
    """A word with what markdown needs, sometimes bold or escaped for nothing."""
    bold = chance.choice(["**", "__", "*"]) if chance.random() < 0.15 else ""
    truth.mark(bold)
    for character in word:
        if character in MUST_ESCAPE:
            truth.mark("\\")
        truth.write(character, line)
    truth.mark(bold)


Block_ = tuple[str, list[list[str]]]
"""heading, paragraph, list, numbers or table; and its lines, a list of words each."""


def page_of(
    blocks: Sequence[Block_], chance: random.Random, *, tables_first: bool = False
) -> Truth:
    """Lines and markdown of a page, the markdown wrapped and marked by chance."""
    truth = Truth()
    numbered: list[tuple[str, list[tuple[int, list[str]]]]] = []
    for kind, lines in blocks:
        of_block = []
        for place, words in enumerate(lines):
            shown = [f"{place + 1}.", *words] if kind == "numbers" else words
            of_block.append((len(truth.texts), words))
            truth.texts.append(" ".join(["*", *shown] if kind == "list" else shown))
        numbered.append((kind, of_block))
    if tables_first:
        numbered.sort(key=lambda block: block[0] != "table")
    for kind, of_block in numbered:
        WRITERS[kind](truth, of_block, chance)
        truth.mark("\n\n")
    return truth


Numbered = Sequence[tuple[int, list[str]]]


def write_words(truth: Truth, lines: Numbered, chance: random.Random, *, wraps: bool) -> None:
    first = True
    for number, words in lines:
        broken = False
        for word in words:
            if not first and not broken:
                truth.mark("\n" if wraps and chance.random() < 0.2 else " ")
            write_word(truth, word, number, chance)
            first = False


def write_heading(truth: Truth, lines: Numbered, chance: random.Random) -> None:
    for number, words in lines:
        truth.mark("#" * chance.randint(1, 4) + " ")
        write_words(truth, [(number, words)], chance, wraps=False)
        truth.mark("\n\n")


def write_paragraph(truth: Truth, lines: Numbered, chance: random.Random) -> None:
    write_words(truth, lines, chance, wraps=True)


def write_list(truth: Truth, lines: Numbered, chance: random.Random) -> None:
    for number, words in lines:
        truth.mark("- ")
        write_words(truth, [(number, words)], chance, wraps=False)
        truth.mark("\n")


def write_numbers(truth: Truth, lines: Numbered, chance: random.Random) -> None:
    for place, (number, words) in enumerate(lines):
        truth.write(f"{place + 1}.", number)
        truth.mark(" ")
        write_words(truth, [(number, words)], chance, wraps=False)
        truth.mark("\n")


def write_table(truth: Truth, lines: Numbered, chance: random.Random) -> None:
    columns = chance.randint(2, 3)
    for row, start in enumerate(range(0, len(lines), columns)):
        truth.mark("|")
        for number, words in lines[start : start + columns]:
            truth.mark(" ")
            write_words(truth, [(number, words)], chance, wraps=False)
            truth.mark(" |")
        truth.mark("\n")
        if not row:
            truth.mark("|" + "---|" * min(columns, len(lines)) + "\n")


WRITERS: dict[str, Callable[[Truth, Numbered, random.Random], None]] = {
    "heading": write_heading,
    "paragraph": write_paragraph,
    "list": write_list,
    "numbers": write_numbers,
    "table": write_table,
}


def boxes_by_character(truth: Truth, found: Alignment) -> list[Box | None]:
    """For each character of the markdown the box of the span it lies in."""
    boxes: list[Box | None] = [None] * len(truth.markdown)
    at = 0
    for block in found.blocks:
        if block.kind in ("header", "footer", "other"):
            continue
        at = truth.markdown.index(block.markdown, at)
        for span in block.spans:
            boxes[at + span.start : at + span.end] = [span.box] * (span.end - span.start)
        at += len(block.markdown)
    return boxes


def tally(truth: Truth) -> Counter[str]:
    """How many characters of lines have the right box, a wrong one, none; and of made-up text."""
    lines = stacked(truth.texts)
    found = align(Reading(INFO, "r", "1", lines, truth.markdown))
    counts: Counter[str] = Counter()
    boxes = boxes_by_character(truth, found)
    for character, owner, box in zip(truth.markdown, truth.owners, boxes, strict=True):
        if owner is None or character.isspace():
            continue
        if owner == MADE_UP:
            counts["believed" if box else "doubted"] += 1
        else:
            right = box == lines[owner].box
            counts["right" if right else "wrong" if box else "lost"] += 1
    return counts


words = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=8
).filter(lambda word: not set(word) & set("*_`$•·●▪■□◦‣∙"))
some_blocks = st.lists(
    st.tuples(
        st.sampled_from(sorted(WRITERS)),
        st.lists(st.lists(words, min_size=1, max_size=6), min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=6,
)


@given(some_blocks, st.randoms(use_true_random=False))
def test_every_character_of_markdown_made_from_lines_gets_its_own_line(
    blocks: list[Block_], chance: random.Random
) -> None:
    truth = page_of(blocks, chance)
    assert set(tally(truth)) <= {"right"}
    found = joined(truth.texts, truth.markdown)
    assert {block.kind for block in found.blocks} <= {"heading", "paragraph", "list", "table"}


MADE_UP = -1


def prose_blocks(chance: random.Random) -> list[Block_]:
    """Blocks of English words, as a page has them; no two lines are the same."""
    seen: set[str] = set()

    def line(least: int, most: int) -> list[str]:
        while True:
            found = [chance.choice(WORDS) for _ in range(chance.randint(least, most))]
            if len(found) == 1 and chance.random() < 0.5:
                found = [f"{chance.randint(0, 900)}.{chance.randint(10, 99)}"]
            if "".join(found).lower() not in seen:
                seen.add("".join(found).lower())
                return found

    sizes = {"heading": (1, 4), "table": (1, 2), "list": (2, 7), "numbers": (2, 7)}
    kinds = chance.choices(sorted(WRITERS), k=chance.randint(3, 7))
    return [
        (kind, [line(*sizes.get(kind, (4, 9))) for _ in range(6 if kind == "table" else 4)])
        for kind in kinds
    ]


def changed(truth: Truth, share: float, chance: random.Random) -> Truth:
    """The markdown with a share of its letters and digits replaced, left out or doubled."""
    other = Truth(truth.texts)
    for character, owner in zip(truth.markdown, truth.owners, strict=True):
        slip = owner is not None and character.isalnum() and chance.random() < share
        fate = chance.random() if slip else 1.0
        if fate < 0.6:
            other.write(chance.choice(string.ascii_letters + string.digits), owner)
        elif fate < 0.8:
            other.write(character + chance.choice(string.ascii_lowercase), owner)
        elif not slip:
            other.write(character, owner)
    return other


def with_made_up(truth: Truth, chance: random.Random) -> Truth:
    """The markdown with two paragraphs in it that are on no page."""
    parts: list[tuple[str, list[int | None]]] = []
    start = 0
    for at in [i for i in range(len(truth.markdown)) if truth.markdown.startswith("\n\n", i)]:
        parts.append((truth.markdown[start:at], truth.owners[start:at]))
        start = at + 2
    for _ in range(2):
        text = " ".join(chance.choice(WORDS) for _ in range(chance.randint(20, 50)))
        parts.insert(chance.randint(0, len(parts)), (text, [MADE_UP] * len(text)))
    other = Truth(truth.texts)
    for text, owners in parts:
        other.markdown += text
        other.owners += owners
        other.mark("\n\n")
    return other


def tally_of(change: Callable[[Truth, random.Random], Truth], pages: int = 60) -> Counter[str]:
    total: Counter[str] = Counter()
    for seed in range(pages):
        chance = random.Random(seed)  # noqa: S311 (pages to be drawn again)
        truth = page_of(prose_blocks(chance), chance, tables_first=seed % 2 == 0)
        total += tally(change(truth, chance))
    return total


def share(total: Counter[str], name: str, *others: str) -> float:
    return total[name] / sum(total[other] for other in (name, *others))


def test_every_character_of_a_page_whose_tables_were_moved_gets_its_own_line() -> None:
    assert set(tally_of(lambda truth, _: truth)) == {"right"}


@pytest.mark.parametrize(("slips", "least"), [(0.05, 0.98), (0.15, 0.93)])
def test_characters_that_were_read_otherwise_find_their_lines(slips: float, least: float) -> None:
    total = tally_of(lambda truth, chance: changed(truth, slips, chance))
    assert share(total, "right", "wrong", "lost") >= least


def test_made_up_paragraphs_get_no_span_and_take_none_away() -> None:
    total = tally_of(with_made_up)
    assert share(total, "doubted", "believed") >= 0.95
    assert share(total, "lost", "right", "wrong") <= 0.01
    assert share(total, "right", "wrong", "lost") >= 0.99


@given(some_blocks, some_blocks, st.randoms(use_true_random=False))
def test_no_line_is_lost_whatever_the_markdown_says(
    read: list[Block_], written: list[Block_], chance: random.Random
) -> None:
    lines = stacked(page_of(read, chance).texts)
    markdown = page_of(written, chance).markdown
    found = align(Reading(INFO, "r", "1", lines, markdown)).blocks
    check_blocks(found, lines)
    assert {box for block in found for _, box in block.regions} == {line.box for line in lines}


def test_words_that_are_left_out_stand_in_blocks_of_their_own() -> None:
    for seed in range(30):
        chance = random.Random(seed)  # noqa: S311 (as above)
        kept = page_of(prose_blocks(chance), chance)
        place = chance.randint(0, len(kept.texts))
        texts = [*kept.texts[:place], "Nobody wrote that", *kept.texts[place:]]
        found = joined(texts, kept.markdown)
        rest = [b for b in found.blocks if b.kind in ("header", "footer", "other")]
        assert [block.markdown for block in rest] == ["Nobody wrote that"]
        assert rest[0].regions == [(1, stacked(texts)[place].box)]


def measured(lines: int) -> float:
    """Fewest CPU seconds in which a page of so many lines was aligned and chunked."""
    chance = random.Random(lines)  # noqa: S311 (as above)
    texts = [" ".join(chance.choice(WORDS) for _ in range(8)) for _ in range(lines)]
    paragraphs = [" ".join(texts[i : i + 6]) for i in range(0, lines, 6)]
    markdown = "\n\n".join(paragraphs)
    truth = Truth(texts, markdown, [0] * len(markdown))
    reading = Reading(INFO, "r", "1", stacked(texts), changed(truth, 0.02, chance).markdown)
    spent = []
    for _ in range(3):
        start = time.process_time()
        assert list(chunk(align(reading).blocks))
        spent.append(time.process_time() - start)
    return min(spent)


@pytest.mark.slow
def test_time_grows_with_the_page_and_no_faster() -> None:
    # a hundred times the lines; what is quadratic would take ten thousand times as long
    assert measured(1000) < 400 * measured(10)
