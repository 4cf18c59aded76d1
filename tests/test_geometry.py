from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos_loader.geometry import (
    Box,
    distinct,
    intersection,
    iou,
    overlap,
    rotated,
    turned,
    union,
)

fractions = st.floats(0, 1)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    xs = sorted([draw(fractions), draw(fractions)])
    ys = sorted([draw(fractions), draw(fractions)])
    return Box(xs[0], ys[0], xs[1], ys[1])


def test_an_inverted_box_and_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="inverted"):
        Box(0.5, 0, 0.4, 1)
    with pytest.raises(ValueError, match="inverted"):
        Box(math.nan, 0, 0.4, 1)
    for sides in ((0, 0, math.inf, 1), (-math.inf, 0, 1, 1), (0, math.inf, 1, math.inf)):
        with pytest.raises(ValueError, match=r"inverted|endless"):
            Box(*sides)


def test_pixels_become_fractions_and_are_clipped_to_the_page() -> None:
    assert Box.from_pixels(-10, 50, 300, 100, width=200, height=200) == Box(0, 0.25, 1, 0.5)
    assert Box(0.1, 0.2, 0.3, 0.4).scaled(100, 10) == pytest.approx((10, 2, 30, 4))


def test_a_box_beside_the_page_becomes_its_edge() -> None:
    assert Box(1.2, 0.1, 1.5, 0.2).clipped() == Box(1, 0.1, 1, 0.2)


@given(boxes(), boxes())
def test_iou_is_symmetric_and_between_zero_and_one(a: Box, b: Box) -> None:
    assert iou(a, b) == pytest.approx(iou(b, a))
    assert 0 <= iou(a, b) <= 1 + 1e-9


@given(boxes(), boxes())
def test_union_holds_both_and_intersection_lies_in_both(a: Box, b: Box) -> None:
    whole = union([a, b])
    assert whole.area >= max(a.area, b.area)
    shared = intersection(a, b)
    if shared is not None:
        assert union([shared, a]) == a
        assert union([shared, b]) == b


@given(boxes(), st.integers(-4, 8))
def test_four_quarter_turns_bring_a_box_back(box: Box, quarters: int) -> None:
    there = turned(box, quarters)
    assert turned(there, 4 - quarters % 4).as_tuple() == pytest.approx(box.as_tuple())
    assert there.area == pytest.approx(box.area)


def test_a_quarter_turn_clockwise_takes_the_top_edge_to_the_right() -> None:
    assert turned(Box(0, 0, 1, 0.1), 1) == Box(0.9, 0, 1, 1)
    assert turned(Box(0, 0, 0.2, 0.1), 2) == Box(0.8, 0.9, 1, 1)


def test_rotation_is_clockwise_as_seen() -> None:
    [(x, y)] = rotated([(10, 0)], 90, about=(0, 0))
    assert (x, y) == pytest.approx((0, 10))


def test_overlap_of_intervals_is_negative_where_there_is_a_gap() -> None:
    assert overlap(0, 5, 3, 9) == 2
    assert overlap(0, 5, 7, 9) == -2


def test_distinct_keeps_first_appearances_in_order() -> None:
    a, b = Box(0, 0, 1, 1), Box(0, 0, 0.5, 1)
    assert distinct([a, b, a]) == [a, b]
