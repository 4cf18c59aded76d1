"""The benchmark of citations: where answers are printed, and what its chat models do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import archives
import citation as benchmark
import places
import pytest
import truth
from hypothesis import given
from hypothesis import strategies as st

from kosmos_loader.document import Citation, Line
from kosmos_loader.geometry import Box

RECEIPT = [
    Line("SOON HUAT SDN BHD", Box(0.2, 0.1, 0.8, 0.12)),
    Line("12 Jalan Putra,", Box(0.2, 0.2, 0.8, 0.22)),
    Line("81200 Johor", Box(0.2, 0.22, 0.7, 0.24)),
    Line("TOTAL 20.00", Box(0.1, 0.5, 0.87, 0.52)),
    Line("CASH 120.00", Box(0.1, 0.6, 0.87, 0.62)),
    Line("TOTAL 20.00", Box(0.1, 0.7, 0.87, 0.72)),
]


def test_an_answer_is_found_wherever_it_is_printed_as_a_whole_number() -> None:
    found = places.places(["20.00"], RECEIPT)
    assert [place.lines for place in found] == [(RECEIPT[3].box,), (RECEIPT[5].box,)]
    [words] = found[0].words
    # the last five of eleven characters
    assert words.as_tuple() == pytest.approx((0.1 + 0.07 * 6, 0.5, 0.87, 0.52))


def test_an_answer_over_two_lines_is_a_place_with_both() -> None:
    [place] = places.places(["12 Jalan Putra, 81200 Johor"], RECEIPT)
    assert place.lines == (RECEIPT[1].box, RECEIPT[2].box)
    assert len(place.words) == 2
    assert places.covers(place.lines, place)
    assert not places.covers([RECEIPT[1].box], place)


def test_an_answer_that_is_not_printed_has_no_place() -> None:
    assert places.places(["33.00"], RECEIPT) == []


def test_the_other_half_of_a_line_does_not_cover_the_answer() -> None:
    [place, _] = places.places(["20.00"], RECEIPT)
    assert not places.covers([Box(0.1, 0.5, 0.5, 0.52)], place)
    assert places.covers([Box(0.5, 0.5, 0.9, 0.52)], place)


def test_overlap_of_boxes_by_hand() -> None:
    left, right = Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1)
    assert places.iou([left], [left, right]) == pytest.approx(0.5)
    assert places.iou([left], [right]) == 0
    assert places.iou([left, left], [left]) == pytest.approx(1)
    assert places.area([Box(0, 0, 0.6, 0.6), Box(0.4, 0.4, 1, 1)]) == pytest.approx(0.68)
    assert places.area([]) == 0


fractions = st.integers(0, 20).map(lambda n: n / 20)
boxes = st.lists(
    st.builds(
        lambda x, y: Box(min(x), min(y), max(x), max(y)),
        st.tuples(fractions, fractions),
        st.tuples(fractions, fractions),
    ),
    max_size=6,
)


@given(boxes)
def test_the_area_is_that_of_the_cells_that_are_covered(some: list[Box]) -> None:
    middles = [(i + 0.5) / 20 for i in range(20)]
    cells = sum(
        any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for box in some)
        for x in middles
        for y in middles
    )
    assert places.area(some) == pytest.approx(cells / 400)


def test_a_quote_is_true_to_the_lines_under_its_boxes_or_not() -> None:
    known = {("/a.jpg", 1): RECEIPT}

    def verdict(quote: str, box: Box) -> float | None:
        made = Citation(quote, "/a.jpg", 1, ((1, box),), "id")
        return benchmark._is_true(made, known)

    assert verdict("total 20.00", RECEIPT[3].box) == 1
    assert verdict("T0TAL 20.00", RECEIPT[3].box) == 1
    assert verdict("TOTAL 20.00 and much more than that", RECEIPT[3].box) == 0
    assert verdict("TOTAL 20.00", RECEIPT[0].box) == 0
    assert benchmark._is_true(Citation("TOTAL", "/a.jpg", 1, (), "id"), known) == 0
    elsewhere = Citation("TOTAL", "/b.jpg", 1, ((1, RECEIPT[0].box),), "id")
    assert benchmark._is_true(elsewhere, known) is None


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Our archive by its transcripts, asked of each chat model."""
    made: list[dict[str, Any]] = []
    cases, paths, questions = archives.files_and_questions("archive", None)
    reader = archives.transcripts(cases)
    known = {(str(c.path), c.page): c.lines for c in cases if c.lines is not None}
    with archives.indexed(paths, reader, name="archive") as store:
        before = store.ids()
        for chat, model in benchmark.CHATS.items():
            asking = benchmark.partial(benchmark._asked_of, model, store, known)
            answered = list(benchmark.rows_of(questions, store, asking))
            made += benchmark.summaries("archive", chat, answered)
        assert store.ids() == before
    return made


def of(rows: list[dict[str, Any]], chat: str, kind: str) -> dict[str, Any]:
    [row] = [row for row in rows if (row["chat"], row["kind"]) == (chat, kind)]
    return row


@pytest.mark.slow
def test_a_model_that_knows_the_answer_cites_its_box_and_only_where_it_is(
    rows: list[dict[str, Any]],
) -> None:
    there, gone = of(rows, "oracle", "archive"), of(rows, "oracle", "dropped")
    assert there["questions"] == gone["questions"] > 5
    assert there["answer_in_box"] == there["quote_true"] == 1
    assert there["abstained"] == 0
    assert gone["abstained"] == 1


@pytest.mark.slow
def test_an_answer_that_the_cited_lines_do_not_hold_is_flagged(rows: list[dict[str, Any]]) -> None:
    assert of(rows, "liar", "archive")["flagged"] == 1
    assert of(rows, "liar", "archive")["abstained"] == 0
    assert of(rows, "oracle", "archive")["flagged"] < 0.2


@pytest.mark.slow
def test_without_a_model_the_targets_hold_on_true_lines(rows: list[dict[str, Any]]) -> None:
    row = of(rows, "none", "archive")
    assert row["answer_in_box"] >= 0.85
    assert row["abstained"] <= 0.05
    assert of(rows, "none", "unanswerable")["abstained"] >= 0.8


def test_the_liar_always_says_something_else() -> None:
    for answers in (("11 mm",), ("Berth",), ()):
        question = truth.Question("?", answers, Path("/a.jpg"))
        assert benchmark.Liar(question).said() not in answers
