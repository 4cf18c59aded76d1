"""What of an answer its citations bear out: sentences, numbers and dates."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos_loader.answering import answer
from kosmos_loader.document import REASONS, Answer, Chunk, Hit, Span
from kosmos_loader.geometry import Box


def page_of(*lines: str) -> Hit:
    """A page with these lines, which a model sees as [1], [2], ..."""
    spans, at = [], 0
    for number, line in enumerate(lines):
        box = Box(0.1, number / 100, 0.9, number / 100 + 0.008)
        spans.append(Span(at, at + len(line), 1, box))
        at += len(line) + 1
    chunk = Chunk(
        "\n".join(lines), tuple(spans), "/scans/a.png", "d", "c", page=1, page_end=1, page_count=1,
        page_width=1000, page_height=1400,
    )  # fmt: skip
    return Hit(chunk, 0.5)


def replied(reply: str, *lines: str, question: str = "What was paid?") -> Answer:
    return answer(question, [page_of(*lines)], chat=lambda _: reply)


def marked(given: Answer) -> list[tuple[str, str]]:
    """What is marked, and why."""
    return [(given.text[part.start : part.end], part.reason) for part in given.unsupported]


def test_a_sentence_without_a_citation_is_marked_where_it_stands() -> None:
    given = replied("The total was paid [1]. The master wept. Nobody knows why.", "Total paid")
    assert marked(given) == [("The master wept.", "uncited"), ("Nobody knows why.", "uncited")]
    assert given.text == "The total was paid [1]. The master wept. Nobody knows why."


def test_a_sentence_whose_only_citation_does_not_hold_is_marked() -> None:
    given = replied('It was paid [1]. He wept [1: "tears"].', "Total paid")
    assert marked(given) == [("He wept.", "uncited")]


@pytest.mark.parametrize(
    "reply",
    [
        "It was paid. [1]",
        "It was paid.[1] [2]",
        "It was paid!\n[1]",
        "“It was paid.” [1]",
        "It was paid [1], and late [2].",
        "They say:\n- It was paid [1]\n- It was late [2]",
        "1. It was paid [1]\n2) It was late [2]",
        "付款。[1]",
        "---\nIt was paid [1].\n---",
    ],
)
def test_a_mark_behind_the_full_stop_is_of_the_sentence_before_it(reply: str) -> None:
    assert replied(reply, "It was paid", "It was late").unsupported == ()


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        ("603.00", "Total due 603.00"),
        ("603", "Total due 603.00"),
        ("603.00", "Total due £603"),
        ("1,647.84", "Sum 1647.84"),
        ("1647.84", "Sum 1,647.84"),
        ("1.647,84", "Sum 1,647.84"),
        ("1 1", "11 ... 1 and 1"),
        ("2,300", "valued at 2300"),
        ("1'250", "1,250"),
        ("20%", "VAT 20 %"),
        ("50kg", "50 kg of coal"),
        ("RM 9.20", "TOTAL RM9.20"),
        ("RM9.20", "TOTAL RM 9.20"),
        ("NP-20471", "Invoice No: NP-20471"),
        ("20471", "Invoice No: NP-20471"),
        ("KB 219", "Sail KB 219"),
        ("01422 330118", "Tel: 01422 330 118"),
        ("01422330118", "Tel: 01422 330 118"),
        ("AB10558", "under AB1O558"),
        ("603.00", "Total 6O3.00"),
        ("1st and 24th", "on the 1. and the 24 of it"),
        ("1931-35", "from 1931 to 35"),
        ("10:30", "at 10.30 a.m."),
        ("12 March 1931", "Whitby, 12 March 1931"),
        ("March 12, 1931", "12/03/1931"),
        ("12.03.1931", "12th of March, 1931"),
        ("12 March 1931", "12.3.31"),
        ("12 March 1931", "l2 March 1931"),
        ("12 March", "12 March 1931"),
        ("March 1931", "12 March 1931"),
        ("1931", "12 March 1931"),
        ("12 March 1931", "Letter of 1931. On 12 March we wrote"),
        ("3 may", "the 3 that may go"),
        ("½ lb of 2 oz", "½ lb of 2 oz"),
    ],
)
def test_a_number_or_date_that_the_quote_holds_in_any_form_is_borne_out(
    said: str, quoted: str
) -> None:
    given = replied(f"It says {said} there [1].", quoted)
    assert given.unsupported == ()
    assert given.notes == ()


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        ("608.00", "Total due 603.00"),
        ("885", "paid 8.85"),
        ("8.8", "paid 8.85"),
        ("60", "Total due 603.00"),
        ("1,250,000", "1,250"),
        ("1.250.000", "1250"),
        ("412", "Page 4 12 lb"),
        ("84", "Shed B4"),
        ("NP-20471", "Invoice No: NP-20474"),
        ("01422330119", "Tel: 01422 330 118"),
        ("10:30", "at 10.35"),
        ("12 March 1931", "12 April 1931"),
        ("12 March 1931", "13 March 1931"),
        ("12 March 1931", "12 March 1932"),
        ("12 March 1931", "12 March"),
        ("12 March 1931", "March 1931"),
        ("04/05/1931", "4 June 1931"),
        ("7", "seven"),
    ],
)
def test_a_number_or_date_that_the_quote_does_not_hold_is_marked(said: str, quoted: str) -> None:
    given = replied(f"It says {said} there [1].", quoted)
    assert marked(given) == [(said, "unquoted")]
    assert given.notes == (f"1 number not in the words that are cited: {said}",)
    assert [c.quote for c in given.citations] == [quoted]


def test_a_number_is_looked_up_in_the_quotes_of_its_own_sentence() -> None:
    lines = ("VAT 20% 100.50", "Total due 603.00")
    assert replied("VAT is 100.50 [1]. The total is 603.00 [2].", *lines).unsupported == ()
    assert replied("The total of 603.00 holds 100.50 of VAT [1, 2].", *lines).unsupported == ()
    swapped = replied("VAT is 603.00 [1]. The total is 100.50 [2].", *lines)
    assert marked(swapped) == [("603.00", "unquoted"), ("100.50", "unquoted")]


def test_a_quote_that_is_narrower_than_its_line_bears_out_what_it_holds() -> None:
    given = replied('VAT is 100.50 at 20 % [1: "100.50"].', "VAT 20% 100.50")
    assert marked(given) == [("20", "unquoted")]


def test_a_number_in_a_sentence_without_citation_is_marked_where_no_quote_holds_it() -> None:
    given = replied("It was paid [1]. That makes 41.20 in all. Or 40.", "Paid 41.20")
    assert marked(given) == [
        ("That makes 41.20 in all.", "uncited"),
        ("Or 40.", "uncited"),
        ("40", "unquoted"),
    ]
    # of a sentence that is named, its numbers are not named again
    assert len(given.notes) == 1


def test_a_number_that_only_the_question_holds_is_marked_as_that() -> None:
    given = replied(
        "The total due on invoice NP-20471 of 18 June 2019 is 603.00 [1].",
        "Total due 603.00",
        question="What is the total due on invoice NP-20471 of 18/06/2019?",
    )
    assert marked(given) == [("NP-20471", "asked"), ("18 June 2019", "asked")]
    assert given.notes == ()


@pytest.mark.parametrize(
    "reply",
    ["1. Paid [1]\n2. Paid [1]", "- 1) Paid [1]", "(1) Paid [1].", "Paid [1][1]. Paid [1, 1]."],
)
def test_numbers_of_a_list_and_of_citations_are_no_numbers_of_the_answer(reply: str) -> None:
    assert replied(reply, "Paid").unsupported == ()


def test_places_are_those_of_the_text_as_it_is_shown() -> None:
    given = replied("<think>9</think>  İt [1] is ﬁve, or 9 ﬂ [7] [1] .", "It")
    assert given.text == "İt [1] is ﬁve, or 9 ﬂ [1]."
    assert marked(given) == [("9", "unquoted")]


def test_a_silent_answer_and_one_without_a_model_have_nothing_marked() -> None:
    assert replied("NOT FOUND", "Paid 41.20").unsupported == ()
    given = answer("What was paid on the mole in 1931?", [page_of("Mole 1931, paid 41.20")])
    assert not given.abstained
    assert given.unsupported == ()


def test_what_is_marked_survives_json() -> None:
    given = replied("Paid 41.20 in 1931 [1]. Gladly.", "Paid 41.20")
    assert len(given.unsupported) == 2
    assert Answer.from_dict(given.to_dict()) == given
    older = {name: value for name, value in given.to_dict().items() if name != "unsupported"}
    assert Answer.from_dict(older).unsupported == ()


texts = st.text("ab .,:!?\n[]1234567890'/-%£½²İﬁß。may", max_size=60)


@settings(max_examples=100)
@given(texts, texts)
def test_places_of_any_reply_lie_in_its_text_and_in_order(reply: str, line: str) -> None:
    given = replied(f"So it is 5 {reply} [1] {line}", f"Line {line}")
    parts = given.unsupported
    assert list(parts) == sorted(parts, key=lambda part: (part.start, -part.end))
    for part in parts:
        words = given.text[part.start : part.end]
        assert part.reason in REASONS
        assert words == words.strip() != ""
        if part.reason == "uncited":
            assert not re.search(r"\[\d+\]", words)


@settings(max_examples=100)
@given(
    st.text("0123456789.,:/- ktabRM%", min_size=1, max_size=30).filter(
        lambda text: ". " not in f"{text} "  # which would end a sentence
    )
)
def test_what_is_quoted_word_for_word_is_borne_out(line: str) -> None:
    given = replied(f"There stands {line} on it [1].", f"There stands {line} on it")
    assert given.unsupported == ()
