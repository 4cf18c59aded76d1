"""Drafts: what they propose, how they find their place again, and how many steps they save."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos_loader.document import Line
from kosmos_loader.engine.drafting import (
    Drafter,
    DraftLength,
    Habits,
    MarkdownDrafter,
    OcrDrafter,
    Vocabulary,
)
from kosmos_loader.engine.drafting.base import Detokenizer
from kosmos_loader.errors import UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.markup import format_ocr
from kosmos_loader.testing.drawn import LEVELS, DrawnPage, draw_page
from kosmos_loader.training.scratch import byte_tokenizer

pytest.importorskip("tokenizers", reason="drafts are token ids")

WIDTH, HEIGHT = 200, 240
LIMIT = 16

ENGLISH = (
    "The captain paid for the cargo of coal and iron on Monday the 14th of October, 1887. It was "
    "received at the east harbour office by the clerk, who signed for 25 tons; the balance of "
    "£12.50 is due in spring. Ship, port and cargo are entered in the table below:\n\n"
    "# Cargo list\n\n- coal\n- iron (12 tons)\n\n|port|tons|\n|---|---|\n|north harbour|13|\n"
)


@cache
def of_bytes() -> Vocabulary:
    return Vocabulary.of(byte_tokenizer(coordinates=256))


@cache
def of_words() -> Vocabulary:
    """Byte pairs merged within the words that cl100k, the released tokenizer, cuts."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([ENGLISH] * 3, trainer)
    # the families in two blocks, unlike the released ids
    sides = [f"<{axis}_{i}>" for axis in "yx" for i in range(256)]
    core.add_tokens(["</bbox>", *sides, "<bbox>"])
    return Vocabulary.of(
        PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="<pad>")
    )


VOCABULARIES = pytest.mark.parametrize("vocabulary", [of_bytes, of_words])


def line(text: str, x0: int, y0: int, x1: int, y1: int) -> Line:
    return Line(text, Box(x0 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y1 / HEIGHT))


def column(*texts: str, top: int = 10) -> list[Line]:
    """Lines of 10 pixels under each other; "" leaves a line free."""
    return [
        line(text, 10, top + 12 * i, 10 + 4 * len(text), top + 12 * i + 10)
        for i, text in enumerate(texts)
        if text
    ]


def ocr_of(vocabulary: Vocabulary, lines: Sequence[Line]) -> list[int]:
    return vocabulary.encode(format_ocr(lines, width=WIDTH, height=HEIGHT))


def ocr_drafter(vocabulary: Vocabulary, lines: Sequence[Line] = ()) -> OcrDrafter:
    return OcrDrafter(vocabulary, width=WIDTH, height=HEIGHT, lines=lines)


def markdown_drafter(
    vocabulary: Vocabulary, lines: Sequence[Line], *, habits: Habits | None = None
) -> MarkdownDrafter:
    drafter = MarkdownDrafter(vocabulary, habits=habits)
    drafter.hear(ocr_of(vocabulary, lines), ended=True)
    return drafter


def drafted(drafter: Drafter, vocabulary: Vocabulary, before: str, limit: int = 200) -> str:
    return vocabulary.decode(drafter.propose(vocabulary.encode(before), limit))


class Run:
    """Greedy decoding of a known output, one verified draft a step."""

    def __init__(self, drafter: Drafter, truth: Sequence[int]) -> None:
        self.drafter = drafter
        self.truth = list(truth)
        self.written: list[int] = []
        self.steps = 0

    @property
    def is_finished(self) -> bool:
        return len(self.written) == len(self.truth)

    def step(self, *, may_wait: bool = False) -> None:
        draft = list(self.drafter.propose(self.written, LIMIT))
        assert len(draft) <= LIMIT
        if may_wait and not draft:
            return
        right = 0
        rest = self.truth[len(self.written) :]
        while right < min(len(draft), len(rest)) and draft[right] == rest[right]:
            right += 1
        self.written += rest[: right + 1]
        self.steps += 1

    def finish(self) -> Run:
        while not self.is_finished:
            self.step()
        return self


def tokens_a_step(runs: Sequence[Run]) -> float:
    return sum(len(run.truth) for run in runs) / sum(run.steps for run in runs)


# --- vocabulary


@VOCABULARIES
def test_tags_are_found_by_their_names_wherever_their_ids_are(
    vocabulary: Callable[[], Vocabulary],
) -> None:
    found = vocabulary()
    tags = [found.bbox, found.xs[17], found.ys[255], found.end_bbox, found.end]
    assert found.decode(tags) == "<bbox><x_17><y_255></bbox></s>"
    assert len(found.xs) == len(found.ys) == 256


def test_a_tokenizer_without_the_tags_is_refused() -> None:
    class Bare:
        backend_tokenizer = None

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    with pytest.raises(UsageError, match="<bbox>"):
        Vocabulary.of(Bare())


@VOCABULARIES
@settings(max_examples=60)
@given(
    text=st.one_of(
        st.text(alphabet=st.characters(codec="ascii")),
        st.lists(st.sampled_from([*ENGLISH.split(), "\n\n", "**", "é", "don't", "_x_"])).map(
            " ".join
        ),
    ).filter(lambda text: "<" not in text)
)
def test_spelling_gives_the_tokens_of_encoding(
    vocabulary: Callable[[], Vocabulary], text: str
) -> None:
    assert vocabulary().spell(text) == vocabulary().encode(text)


@settings(max_examples=40)
@given(text=st.text(max_size=12), sizes=st.lists(st.integers(1, 4), min_size=12))
def test_text_comes_out_whole_however_its_bytes_are_parted(text: str, sizes: list[int]) -> None:
    vocabulary = of_bytes()
    tokens = vocabulary.encode(text.replace("<", ""))
    detokenizer = Detokenizer(vocabulary)
    read = ""
    for size in [*sizes, len(tokens)]:
        read += detokenizer.read(tokens[:size])
        tokens = tokens[size:]
    assert read == text.replace("<", "")


# --- draft length


def test_a_draft_grows_while_it_is_right_and_shrinks_while_it_is_wrong() -> None:
    length = DraftLength(longest=16)
    limits = [length.limit]
    for proposed, accepted in [(16, 1), (8, 1), (4, 4), (8, 8), (16, 16)]:
        length.observe(proposed, accepted)
        limits.append(length.limit)
    assert limits == [16, 8, 4, 8, 16, 16]


def fail(length: DraftLength) -> None:
    while length.limit:
        length.observe(length.limit, 0)


def waited(length: DraftLength) -> int:
    steps = 0
    while not length.limit:
        length.observe(0, 0)
        steps += 1
    return steps


def test_after_failures_there_is_no_draft_for_a_while_and_then_another_trial() -> None:
    length = DraftLength()
    fail(length)
    waits = []
    for _ in range(8):
        waits.append(waited(length))
        fail(length)
    assert waits == [1, 2, 4, 8, 8, 8, 8, 8]


def test_one_right_token_ends_the_long_waits() -> None:
    length = DraftLength()
    fail(length)
    for _ in range(5):
        waited(length)
        fail(length)
    waited(length)
    length.observe(4, 4)
    fail(length)
    assert waited(length) == 1


def test_a_narrow_guess_that_is_wrong_changes_nothing() -> None:
    length = DraftLength()
    for _ in range(10):
        length.observe(1, 0)
    assert length.limit == 16


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40))))
def test_the_limit_stays_within_its_bounds(longest: int, steps: list[tuple[int, int]]) -> None:
    length = DraftLength(longest=longest)
    for proposed, accepted in steps:
        length.observe(proposed, min(proposed, accepted))
        assert 0 <= length.limit <= longest


# --- <ocr> without known lines


@VOCABULARIES
def test_an_output_starts_with_a_box(vocabulary: Callable[[], Vocabulary]) -> None:
    assert drafted(ocr_drafter(vocabulary()), vocabulary(), "") == "<bbox>"


def test_a_box_of_four_sides_is_closed() -> None:
    drafter = ocr_drafter(of_bytes())
    assert drafted(drafter, of_bytes(), "<bbox><x_1><y_2><x_3><y_4>") == "</bbox>"


def test_the_next_box_stands_under_the_last_one() -> None:
    text = format_ocr(column("one", "two", "three"), width=WIDTH, height=HEIGHT)
    draft = drafted(ocr_drafter(of_bytes()), of_bytes(), text)
    assert draft.startswith("<bbox><x_10><y_46>")


def test_the_lower_edge_is_as_far_down_as_that_of_the_line_before() -> None:
    text = format_ocr(column("one", "two"), width=WIDTH, height=HEIGHT)
    draft = drafted(ocr_drafter(of_bytes()), of_bytes(), text + "<bbox><x_10><y_34><x_90>")
    assert draft.startswith("<y_44></bbox>")


def test_guesses_that_are_never_right_are_given_up() -> None:
    chance = random.Random(0)  # noqa: S311 - repeatable
    lines = [
        line("word", x0, y0, x0 + chance.randrange(20, 60), y0 + 10 + chance.randrange(9))
        for x0, y0 in ((chance.randrange(120), 12 * i + chance.randrange(5)) for i in range(15))
    ]
    text = format_ocr(lines, width=WIDTH, height=HEIGHT)
    assert drafted(ocr_drafter(of_bytes()), of_bytes(), text) == "<bbox>"


def test_a_numbered_list_goes_on_with_the_next_number() -> None:
    text = format_ocr(column("3. coal", "4. iron"), width=WIDTH, height=HEIGHT)
    box = "<bbox><x_10><y_34><x_50><y_44></bbox>"
    assert drafted(ocr_drafter(of_bytes()), of_bytes(), text + box) == "5. "


def test_a_line_of_even_type_ends_where_its_box_is_full() -> None:
    text = format_ocr(column("coal", "iron wood", "tea"), width=WIDTH, height=HEIGHT)
    box = "<bbox><x_10><y_46><x_50><y_56></bbox>"
    drafter = ocr_drafter(of_bytes())
    assert drafted(drafter, of_bytes(), text + box + "cargo ove") == ""
    assert drafted(drafter, of_bytes(), text + box + "cargo over").startswith("\n<bbox>")


def test_a_pair_of_words_that_stood_on_the_page_before_is_followed_by_the_same_one() -> None:
    vocabulary = of_words()
    text = format_ocr(column("25 tons of coal received"), width=WIDTH, height=HEIGHT)
    box = "<bbox><x_10><y_46><x_90><y_56></bbox>"
    draft = drafted(ocr_drafter(vocabulary), vocabulary, text + box + "12 tons of")
    assert draft.strip()
    assert " coal received".startswith(draft)


# --- <ocr> with known lines


@VOCABULARIES
def test_known_lines_are_drafted_whole_and_then_the_end(
    vocabulary: Callable[[], Vocabulary],
) -> None:
    lines = column("The captain paid", "for the cargo")
    drafter = ocr_drafter(vocabulary(), lines)
    truth = [*ocr_of(vocabulary(), lines), vocabulary().end]
    run = Run(drafter, truth).finish()
    # each step gives the draft and a token more
    assert run.steps <= len(truth) / LIMIT + 3


def test_a_misread_letter_costs_no_more_than_the_letter() -> None:
    drafter = ocr_drafter(of_bytes(), column("The captaln paid"))
    draft = drafted(drafter, of_bytes(), "<bbox><x_10><y_10><x_74><y_20></bbox>The captai")
    assert draft.startswith("n paid\n")


@pytest.mark.parametrize(
    ("known", "written", "rest"),
    [
        ("The capptain paid", "The capt", "ain paid"),
        ("The catain paid", "The capt", "ain paid"),
        ("xyz The captain paid", "The", " captain paid"),
    ],
)
def test_letters_too_many_or_too_few_are_passed_over(known: str, written: str, rest: str) -> None:
    drafter = ocr_drafter(of_bytes(), column(known))
    draft = drafted(drafter, of_bytes(), f"<bbox><x_10><y_10><x_74><y_20></bbox>{written}")
    assert draft.startswith(rest)


def test_a_known_line_is_recognised_by_its_place() -> None:
    lines = column("first", "second", "third", "fourth")
    drafter = ocr_drafter(of_bytes(), lines)
    draft = drafted(drafter, of_bytes(), "<bbox><x_10><y_34>")
    assert draft.startswith("<x_30><y_44></bbox>third\n")


def test_a_line_that_is_not_known_does_not_use_up_the_one_expected() -> None:
    lines = column("first", "", "third")
    drafter = ocr_drafter(of_bytes(), lines)
    text = format_ocr(column("first", "unknown", "third")[:2], width=WIDTH, height=HEIGHT)
    assert "</bbox>third\n" in drafted(drafter, of_bytes(), text + "<bbox><x_10><y_34>")


def test_words_known_one_by_one_are_drafted_as_the_line_that_the_model_makes_of_them() -> None:
    words = [line("The", 10, 10, 22, 20), line("captain", 26, 10, 54, 20)]
    drafter = ocr_drafter(of_bytes(), words)
    draft = drafted(drafter, of_bytes(), "<bbox><x_10><y_10><x_54><y_20></bbox>")
    assert draft.startswith("The captain\n")


def test_a_known_line_that_the_model_parts_in_two_is_drafted_in_two() -> None:
    drafter = ocr_drafter(of_bytes(), [line("Total due 12.50", 10, 10, 150, 20)])
    text = "<bbox><x_10><y_10><x_80><y_20></bbox>Total due\n<bbox><x_120><y_10><x_150><y_20></bbox>"
    assert drafted(drafter, of_bytes(), text).strip().startswith("12.50")


def test_boxes_are_drafted_where_the_model_has_put_them_against_the_known_ones() -> None:
    known = column("first", "second", "third")
    drafter = ocr_drafter(of_bytes(), known)
    text = "<bbox><x_12><y_11><x_33><y_23></bbox>first\n"
    draft = drafted(drafter, of_bytes(), text)
    assert draft.startswith("<bbox><x_12><y_23><x_37><y_35></bbox>second\n")


def test_known_lines_that_never_agree_are_given_up() -> None:
    wrong = column(*["qqqqqqqqqq"] * 15)
    truth = ocr_of(of_bytes(), column(*["wood and coal"] * 15))
    drafter = ocr_drafter(of_bytes(), wrong)
    drafter.propose(truth, LIMIT)
    assert "q" not in drafted(drafter, of_bytes(), of_bytes().decode(truth))


def test_an_output_that_begins_anew_is_drafted_from_its_beginning() -> None:
    lines = column("first", "second")
    drafter = ocr_drafter(of_bytes(), lines)
    start = list(drafter.propose([], LIMIT))
    drafter.propose(ocr_of(of_bytes(), lines), LIMIT)
    assert list(drafter.propose([], LIMIT)) == start


# --- <md>


def test_nothing_is_drafted_before_a_line_is_finished() -> None:
    drafter = MarkdownDrafter(of_bytes())
    drafter.hear(of_bytes().encode("<bbox><x_1><y_2><x_90><y_12></bbox>half a li"), ended=False)
    assert list(drafter.propose([], LIMIT)) == []


def test_an_empty_page_ends_at_once() -> None:
    drafter = markdown_drafter(of_bytes(), [])
    assert list(drafter.propose([], LIMIT)) == [of_bytes().end]


@VOCABULARIES
def test_lines_below_each_other_make_a_paragraph(vocabulary: Callable[[], Vocabulary]) -> None:
    drafter = markdown_drafter(vocabulary(), column("The captain paid", "for the cargo"))
    assert drafted(drafter, vocabulary(), "") == "The captain paid for the cargo</s>"


@VOCABULARIES
def test_lists_and_tables_are_drafted_as_markdown(vocabulary: Callable[[], Vocabulary]) -> None:
    rows = [
        cell
        for i, (left, right) in enumerate([("port", "tons"), ("east", "12"), ("west", "9")])
        for cell in (
            line(left, 10, 60 + 12 * i, 40, 70 + 12 * i),
            line(right, 80, 60 + 12 * i, 100, 70 + 12 * i),
        )
    ]
    drafter = markdown_drafter(vocabulary(), [*column("* coal", "* iron"), *rows])
    assert drafted(drafter, vocabulary(), "") == (
        "- coal\n- iron\n\n|port|tons|\n|---|---|\n|east|12|\n|west|9|</s>"
    )


def test_a_word_parted_by_a_hyphen_is_joined() -> None:
    drafter = markdown_drafter(of_bytes(), column("a well-", "known ship"))
    assert drafted(drafter, of_bytes(), "") == "a well-known ship</s>"


@pytest.mark.parametrize("heading", ["# ", "## ", "### ", "#### ", "**"])
def test_a_mark_that_was_not_expected_is_followed_by_the_words(heading: str) -> None:
    drafter = markdown_drafter(of_bytes(), column("Cargo list", "", "coal and iron", "", "tea"))
    assert drafted(drafter, of_bytes(), heading).startswith("Cargo")


@VOCABULARIES
def test_emphasis_is_closed_behind_its_word(vocabulary: Callable[[], Vocabulary]) -> None:
    drafter = markdown_drafter(vocabulary(), column("paid for the cargo"))
    assert drafted(drafter, vocabulary(), "paid for **").startswith("the** cargo")


def test_emphasis_is_closed_as_it_was_before() -> None:
    drafter = markdown_drafter(of_bytes(), column("Due: five tons of coal. Total: nine"))
    assert drafted(drafter, of_bytes(), "**").startswith("Due:** five")
    before = "**Due**: five tons of coal. **"
    assert drafted(drafter, of_bytes(), before).startswith("Total**: nine")


def test_half_a_mark_is_completed() -> None:
    drafter = markdown_drafter(of_bytes(), column("paid for the cargo"))
    assert drafted(drafter, of_bytes(), "paid *").startswith("*for** the")
    assert drafted(drafter, of_bytes(), "paid **for*").startswith("* the")


def test_a_line_that_the_markdown_leaves_out_is_passed_over() -> None:
    lines = column("Page 3 of 7", "", "The captain paid", "for the cargo")
    drafter = markdown_drafter(of_bytes(), lines)
    assert drafted(drafter, of_bytes(), "The") == " captain paid for the cargo</s>"


def test_another_reading_order_is_followed() -> None:
    lines = column("The captain paid", "", "Cargo of coal", "", "Signed by a clerk")
    drafter = markdown_drafter(of_bytes(), lines)
    before = "Signed by a clerk\n\nCargo"
    assert drafted(drafter, of_bytes(), before).startswith(" of coal")


def test_a_word_that_is_read_differently_loses_only_itself() -> None:
    drafter = markdown_drafter(of_bytes(), column("The captain paid for coal"))
    assert drafted(drafter, of_bytes(), "The skipper paid").startswith(" for coal")


def test_what_stands_between_lines_is_learned_on_the_page() -> None:
    drafter = markdown_drafter(of_bytes(), column("first", "second", "third", "fourth"))
    assert drafted(drafter, of_bytes(), "first\nsec") == "ond\nthird\nfourth</s>"


def test_what_was_learned_can_be_shared_by_the_pages() -> None:
    habits = Habits()
    markdown_drafter(of_bytes(), column("one", "two"), habits=habits).propose(
        of_bytes().encode("one\ntwo"), LIMIT
    )
    drafter = markdown_drafter(of_bytes(), column("first", "second"), habits=habits)
    assert drafted(drafter, of_bytes(), "") == "first\nsecond</s>"
    alone = markdown_drafter(of_bytes(), column("first", "second"))
    assert drafted(alone, of_bytes(), "") == "first second</s>"


def test_while_lines_come_a_draft_is_full_or_waits() -> None:
    vocabulary = of_bytes()
    tokens = ocr_of(vocabulary, column("The captain paid", "for the cargo"))
    drafter = MarkdownDrafter(vocabulary)
    drafter.hear(tokens[: tokens.index(vocabulary.encode("\n")[0]) + 1], ended=False)
    assert len(drafter.propose([], 16)) == 16
    assert list(drafter.propose([], 17)) == []
    drafter.hear(tokens, ended=True)
    assert vocabulary.decode(drafter.propose([], 99)) == "The captain paid for the cargo</s>"


def test_words_written_before_their_line_is_known_are_found_when_it_is() -> None:
    vocabulary = of_words()
    lines = column("The captain paid", "received by the clerk")
    tokens = ocr_of(vocabulary, lines)
    second = len(ocr_of(vocabulary, lines[:1]))
    drafter = MarkdownDrafter(vocabulary)
    drafter.hear(tokens[:second], ended=False)
    before = vocabulary.encode("The captain paid received")
    drafter.propose(before, LIMIT)
    drafter.hear(tokens, ended=True)
    assert vocabulary.decode(drafter.propose(before, LIMIT)) == " by the clerk</s>"


# --- whatever comes


def streams(vocabulary: Vocabulary) -> st.SearchStrategy[list[int]]:
    """Tokens of all kinds; tags, marks and letters more often than others."""
    tags = [vocabulary.end, vocabulary.bbox, vocabulary.end_bbox]
    sides = [*vocabulary.xs[:4], *vocabulary.ys[:4]]
    letters = vocabulary.encode("\n a*|-#1.`é_")
    anything = st.integers(0, max(vocabulary.xs[-1], vocabulary.ys[-1]))
    token = st.one_of(st.sampled_from(tags + sides + letters), anything)
    text = st.text(alphabet="ab *-1.|#\n\\`", max_size=30).map(vocabulary.encode)
    return st.lists(st.one_of(token.map(lambda t: [t]), text), max_size=25).map(
        lambda parts: [token for part in parts for token in part]
    )


@st.composite
def page_lines(draw: st.DrawFn) -> list[Line]:
    low, high = st.floats(0, 0.6), st.floats(0.6, 1)
    return [
        Line(
            draw(st.text(alphabet="ab *-1.|é<>\n", max_size=12)),
            Box(draw(low), draw(low), draw(high), draw(high)),
        )
        for _ in range(draw(st.integers(0, 4)))
    ]


@settings(max_examples=40)
@given(data=st.data(), lines=page_lines())
@VOCABULARIES
def test_any_output_is_drafted_within_the_limit_and_the_vocabulary(
    vocabulary: Callable[[], Vocabulary], data: st.DataObject, lines: list[Line]
) -> None:
    known = vocabulary()
    ocr, md = data.draw(streams(known)), data.draw(streams(known))
    if data.draw(st.booleans()):
        ocr = ocr_of(known, lines) + ocr[:3]
        md = known.encode(" ".join(line.text for line in lines)) + md[:3]
    first = ocr_drafter(known, lines)
    second = MarkdownDrafter(known)
    size = 1 + max(known.xs[-1], known.ys[-1], known.bbox, known.end_bbox)
    for heard, seen in cuts(data, len(ocr), len(md)):
        limit = data.draw(st.integers(-1, 20))
        second.hear(ocr[:heard], ended=heard == len(ocr))
        for draft in (first.propose(ocr[:heard], limit), second.propose(md[:seen], limit)):
            assert len(draft) <= max(0, limit)
            assert all(0 <= token < size for token in draft)


def cuts(data: st.DataObject, *sizes: int) -> Iterator[list[int]]:
    reached = [0] * len(sizes)
    while reached != list(sizes):
        steps = data.draw(st.tuples(*[st.integers(1, 9)] * len(sizes)))
        reached = [min(n, r + s) for n, r, s in zip(sizes, reached, steps, strict=True)]
        yield list(reached)


@settings(max_examples=25)
@given(data=st.data(), lines=page_lines())
def test_an_output_that_has_nothing_to_do_with_the_page_comes_out_all_the_same(
    data: st.DataObject, lines: list[Line]
) -> None:
    truth = data.draw(streams(of_bytes()))
    for drafter in (ocr_drafter(of_bytes(), lines), markdown_drafter(of_bytes(), lines)):
        run = Run(drafter, truth).finish()
        assert run.written == truth
        assert run.steps <= len(truth)


# --- what it is good for


PAGES = 12


@cache
def pages(level: int) -> list[DrawnPage]:
    pytest.importorskip("matplotlib", reason="brings the typefaces of drawn pages")
    return [draw_page(11, number, level=LEVELS[level]) for number in range(PAGES)]


def truth_of(page: DrawnPage) -> tuple[list[int], list[int], dict[str, Any]]:
    """The page's <ocr> and <md> with their end tokens, and its size."""
    height, width = page.pixels.shape[:2]
    size = {"width": width, "height": height}
    vocabulary = of_bytes()
    return (
        [*vocabulary.encode(format_ocr(page.lines, **size)), vocabulary.end],
        [*vocabulary.encode(page.markdown), vocabulary.end],
        size,
    )


GRID, FREE, MIXED = 2, 7, 10


@pytest.mark.parametrize(("level", "least"), [(GRID, 11.0), (FREE, 12.0), (MIXED, 13.0)])
def test_markdown_follows_a_finished_reading_in_few_steps(level: int, least: float) -> None:
    runs = []
    for page in pages(level):
        ocr, md, _ = truth_of(page)
        drafter = MarkdownDrafter(of_bytes())
        drafter.hear(ocr, ended=True)
        runs.append(Run(drafter, md).finish())
    assert tokens_a_step(runs) >= least


@pytest.mark.parametrize(("level", "least"), [(GRID, 11.0), (FREE, 12.0), (MIXED, 13.0)])
def test_markdown_follows_a_growing_reading_in_as_few(level: int, least: float) -> None:
    runs = []
    for page in pages(level):
        ocr, md, size = truth_of(page)
        follower = MarkdownDrafter(of_bytes())
        first, second = Run(OcrDrafter(of_bytes(), **size), ocr), Run(follower, md)
        while not (first.is_finished and second.is_finished):
            if not first.is_finished:
                first.step()
            follower.hear(first.written, ended=first.is_finished)
            if not second.is_finished:
                second.step(may_wait=not first.is_finished)
        runs.append(second)
    assert tokens_a_step(runs) >= least


@pytest.mark.parametrize("level", [GRID, FREE, MIXED])
def test_the_grammar_of_boxes_alone_saves_a_quarter_of_the_steps(level: int) -> None:
    runs = []
    for page in pages(level):
        ocr, _, size = truth_of(page)
        runs.append(Run(OcrDrafter(of_bytes(), **size), ocr).finish())
    assert tokens_a_step(runs) >= 4 / 3


def misread(text: str, chance: random.Random, share: float) -> str:
    return "".join(
        chance.choice("abcdefghijklmnopqrstuvwxyz") if c != " " and chance.random() < share else c
        for c in text
    )


@pytest.mark.parametrize("level", [GRID, FREE, MIXED])
@pytest.mark.parametrize(("wrong", "least"), [(0.0, 11.5), (0.05, 9.5)])
def test_known_lines_save_nearly_all_steps_of_reading(
    level: int, wrong: float, least: float
) -> None:
    chance = random.Random(level)  # noqa: S311 - repeatable
    runs = []
    for page in pages(level):
        ocr, _, size = truth_of(page)
        known = [replace(l, text=misread(l.text, chance, wrong)) for l in page.lines]  # noqa: E741 - a line
        runs.append(Run(OcrDrafter(of_bytes(), lines=known, **size), ocr).finish())
    assert tokens_a_step(runs) >= least
