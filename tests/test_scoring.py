from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import scoring
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos_loader.geometry import Box

texts = st.text(alphabet="abc 1.-\n漢", max_size=30)


# words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The quick, (brown) FOX.", ["the", "quick", "brown", "fox"]),
        ("• 12.50 — RM3.00", ["12", "50", "rm3", "00"]),
        ("state–of—the-art", ["state", "of", "the", "art"]),
        ("ﬁnal “word”", ["final", "word"]),
        ("发票 No.5", ["发", "票", "no", "5"]),
        ("snake_case", ["snake", "case"]),
        ("漢字、かな", ["漢", "字", "か", "な"]),
        (" \n\t", []),
    ],
)
def test_words_are_runs_of_letters_and_digits(text: str, words: list[str]) -> None:
    assert scoring.words(text) == words


def test_word_score_by_hand() -> None:
    score = scoring.word_score("the fox jumps the gap", "The fox jumped over the lazy dog")
    # shared: the, fox, the; 5 words read, 7 in the truth
    assert score.precision == pytest.approx(3 / 5)
    assert score.recall == pytest.approx(3 / 7)
    assert score.f1 == pytest.approx(2 * (3 / 5) * (3 / 7) / (3 / 5 + 3 / 7))


def test_a_word_read_twice_counts_once() -> None:
    score = scoring.word_score("a a a", "a")
    assert (score.precision, score.recall) == (pytest.approx(1 / 3), 1.0)


def test_order_plays_no_part_in_word_f1() -> None:
    assert scoring.word_score("c b a", "a b c").f1 == 1.0


@given(texts, texts)
def test_word_f1_is_symmetric_and_within_bounds(a: str, b: str) -> None:
    there, back = scoring.word_score(a, b), scoring.word_score(b, a)
    assert there.f1 == pytest.approx(back.f1)
    assert 0 <= there.f1 <= 1
    assert (there.precision, there.recall) == (back.recall, back.precision)


@given(texts)
def test_a_text_has_full_score_against_itself_and_none_against_nothing(text: str) -> None:
    assert scoring.word_score(text, text).f1 == 1.0
    assert scoring.ned(text, text) == 1.0
    if scoring.words(text):
        assert scoring.word_score("", text).f1 == scoring.word_score(text, "").f1 == 0.0
        assert scoring.ned("", text) == 0.0


# lines


def test_line_iou_by_hand() -> None:
    truth = [Box(0.0, 0.0, 0.4, 0.1), Box(0.0, 0.2, 0.4, 0.3), Box(0.0, 0.8, 0.4, 0.9)]
    read = [
        Box(0.0, 0.2, 0.4, 0.3),  # the second line exactly
        Box(0.2, 0.0, 0.6, 0.1),  # half of the first: 0.02 shared of 0.06
        Box(0.5, 0.5, 0.9, 0.6),  # a line that is not there
    ]
    assert scoring.line_iou(read, truth) == pytest.approx((1 + 1 / 3 + 0) / 3)


def test_a_line_read_over_two_lines_is_matched_to_one_of_them() -> None:
    truth = [Box(0, 0.0, 1, 0.1), Box(0, 0.1, 1, 0.2)]
    assert scoring.line_iou([Box(0, 0, 1, 0.2)], truth) == pytest.approx(0.25)


def test_line_iou_of_blank_pages() -> None:
    line = Box(0, 0, 1, 0.1)
    assert scoring.line_iou([], []) == 1.0
    assert scoring.line_iou([line], []) == 0.0
    assert scoring.line_iou([], [line]) == 0.0


def test_line_iou_does_not_depend_on_the_order_of_lines() -> None:
    lines = [Box(0, y / 10, 0.5, y / 10 + 0.08) for y in range(8)]
    shifted = [Box(0.1, b.y0 + 0.02, 0.6, b.y1 + 0.02) for b in lines]
    score = scoring.line_iou(shifted, lines)
    assert 0 < score < 1
    assert scoring.line_iou(shifted[::-1], lines) == pytest.approx(score)


# text


@pytest.mark.parametrize(
    ("text", "truth", "score"),
    [
        ("kitten", "sitting", 1 - 3 / 7),
        ("a  b\n c", "a b c", 1.0),
        ("it’s — “so”", 'it\'s - "so"', 1.0),
        ("abc", "xyz", 0.0),
        ("", "", 1.0),
        ("Abc", "abc", 1 - 1 / 3),
    ],
)
def test_ned_by_hand(text: str, truth: str, score: float) -> None:
    assert scoring.ned(text, truth) == pytest.approx(score)


@given(texts, texts)
def test_ned_is_symmetric(a: str, b: str) -> None:
    assert scoring.ned(a, b) == pytest.approx(scoring.ned(b, a))


# markdown


def outline(node: scoring.Node) -> tuple[Any, ...]:
    return (node.tag, *([node.text] if node.text.strip() else []), *map(outline, node.children))


def test_the_tree_is_that_of_the_html() -> None:
    markdown = "# Title\n\n- one\n- *two* three\n\n|a|b|\n|-|-|\n|1|2|\n"
    assert outline(scoring.tree(markdown)) == (
        "body",
        ("h1", "Title"),
        ("ul", ("li", "one"), ("li", " three", ("em", "two"))),
        (
            "table",
            ("thead", ("tr", ("th", "a"), ("th", "b"))),
            ("tbody", ("tr", ("td", "1"), ("td", "2"))),
        ),
    )


@pytest.mark.parametrize(
    ("markdown", "truth", "score"),
    [
        ("# A\n\nb", "# A\n\nb", 1.0),
        ("A\n\nb", "# A\n\nb", 1 - 1 / 2),  # a heading taken for a paragraph: one of two nodes
        ("b", "# A\n\nb", 1 - 1 / 2),  # a heading lost
        ("a\nb", "a b", 1.0),  # where a line of a paragraph ends is no difference
        ("abcd", "abcx", 1 - 0.25),  # one letter of four
        ("", "# A\n\nb", 0.0),
        ("# A\n\nb", "", 0.0),
        ("", "", 1.0),
        # the second item is lost: li of ul, li, li
        ("- one", "- one\n- two", 1 - 1 / 3),
        # a cell of two by two: 9 nodes (table, thead, tr, 2 th, tbody, tr, 2 td), one renamed fully
        ("|a|b|\n|-|-|\n|1|9|", "|a|b|\n|-|-|\n|1|2|", 1 - 1 / 9),
    ],
)
def test_nted_by_hand(markdown: str, truth: str, score: float) -> None:
    assert scoring.nted(markdown, truth) == pytest.approx(score)


def test_nted_is_zero_where_the_distance_exceeds_the_larger_tree() -> None:
    assert scoring.nted("> > > > x", "- a\n- b\n- c") == 0.0


def test_nted_is_left_out_for_a_tree_beyond_the_cap() -> None:
    many = "\n\n".join("word" for _ in range(scoring.MAX_NODES + 1))
    assert scoring.nted(many, "word") is None


def node(label: str, *children: scoring.Node) -> scoring.Node:
    return scoring.Node(label[0], label[1:], list(children))


def test_tree_distance_of_the_example_in_the_paper() -> None:
    # Zhang and Shasha 1989, figure 4: f(d(a c(b)) e) and f(c(d(a b)) e) are 2 apart
    a = node("f", node("d", node("a"), node("c", node("b"))), node("e"))
    b = node("f", node("c", node("d", node("a"), node("b"))), node("e"))
    assert scoring.tree_distance(a, b) == 2.0


labels = st.sampled_from(["p", "q", "pab", "pac"])
trees = st.recursive(
    labels.map(node),
    lambda inner: st.builds(node, labels, inner, inner) | st.builds(node, labels, inner),
    max_leaves=5,
)


def frozen(tree: scoring.Node) -> tuple[Any, ...]:
    return (tree.tag, tree.text, tuple(map(frozen, tree.children)))


@cache
def forest_distance(a: tuple[Any, ...], b: tuple[Any, ...]) -> float:
    """The definition itself: cut, fill in or pair off the last root of two forests."""
    if not a and not b:
        return 0.0
    if not a or not b:
        rest = a or b
        return 1.0 + forest_distance((*rest[:-1], *rest[-1][2]), ())
    (tag, text, inner), (other_tag, other_text, other_inner) = a[-1], b[-1]
    same = 1.0 - scoring.ned(text, other_text) if tag == other_tag else 1.0
    return min(
        1.0 + forest_distance((*a[:-1], *inner), b),
        1.0 + forest_distance(a, (*b[:-1], *other_inner)),
        forest_distance(inner, other_inner) + forest_distance(a[:-1], b[:-1]) + same,
    )


@settings(max_examples=150)
@given(trees, trees)
def test_tree_distance_is_the_least_over_all_edits(a: scoring.Node, b: scoring.Node) -> None:
    distance = scoring.tree_distance(a, b)
    assert distance == pytest.approx(forest_distance((frozen(a),), (frozen(b),)))
    assert distance == pytest.approx(scoring.tree_distance(b, a))
    assert math.isclose(scoring.tree_distance(a, a), 0.0)


# answers


@pytest.mark.parametrize(
    ("quote", "answer"),
    [
        ("TOTAL  RM 20.00", "20.00"),
        ("| Total | RM20.00 |", "20.00"),
        ("|1|20.00|", "20.00"),
        ("Item 5: 20.00 each", "20.00"),
        ("paid 8.20 in cash", "$8.20"),
        ("dated 12 Mar 2018 10:30", "12 MAR 2018"),
        ("12MAR2018", "12 MAR 2018"),
        ("on 11-01-2019", "11/01/2019"),
        ("NO.53JALAN PUTRA1,\nTAMAN SRIPUTRA", "No. 53 Jalan Putra 1, Taman Sri Putra"),
    ],
)
def test_an_answer_is_found_whatever_its_case_spaces_and_marks(quote: str, answer: str) -> None:
    assert scoring.holds_answer(quote, ["never this", answer])


@pytest.mark.parametrize(
    ("quote", "answer"),
    [
        ("120.00", "20.00"),
        ("1,20.00", "20.00"),
        ("20.001", "20.00"),
        ("2000", "20.00"),
        ("2 000 of them", "2000"),
        ("Soon Huat", "Soon Huat Machinery"),
        ("", "x"),
        ("anything", ""),
    ],
)
def test_a_part_of_a_number_or_of_an_answer_is_not_the_answer(quote: str, answer: str) -> None:
    assert not scoring.holds_answer(quote, [answer])


# assertions

TEXT = "Annual Report 2019\nFirst we measure.  Then we cut.\nPage 7"


@pytest.mark.parametrize(
    ("test", "holds"),
    [
        ({"type": "present", "text": "first we measure. then"}, False),
        ({"type": "present", "text": "first we measure. then", "case_sensitive": False}, True),
        ({"type": "present", "text": "First we meazure.", "max_diffs": 2}, True),
        ({"type": "present", "text": "First we meazure."}, False),
        ({"type": "absent", "text": "Page 7"}, False),
        ({"type": "absent", "text": "Page 7", "first_n": 20}, True),
        ({"type": "absent", "text": "7", "last_n": 5}, False),
        ({"type": "order", "before": "measure", "after": "cut"}, True),
        ({"type": "order", "before": "cut", "after": "measure"}, False),
        ({"type": "order", "before": "saw", "after": "cut"}, False),
    ],
)
def test_an_assertion_is_checked_on_the_normalised_text(
    test: dict[str, object], holds: bool
) -> None:
    assert scoring.assertion_holds(test, TEXT) is holds
