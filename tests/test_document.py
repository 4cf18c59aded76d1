from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos_loader.document import (
    METADATA_BYTES,
    Answer,
    Chunk,
    Citation,
    Failure,
    Hit,
    Line,
    Page,
    PageInfo,
    Reading,
    Span,
    document_id,
    pixel_digest,
)
from kosmos_loader.errors import EncryptedFile, UsageError
from kosmos_loader.geometry import Box

INFO = PageInfo("/scans/a.pdf", document_id("/scans/a.pdf"), 3, 7, 1000, 1400, 200.0, "d1", "iii")
QUAD = ((0.1, 0.1), (0.9, 0.12), (0.9, 0.15), (0.1, 0.13))


def chunk(text: str = "Total 12", spans: tuple[Span, ...] = ()) -> Chunk:
    return Chunk(
        text=text,
        spans=spans,
        source="/scans/a.pdf",
        doc_id="d",
        chunk_id="c",
        page=1,
        page_end=2,
        page_count=2,
        page_width=100,
        page_height=200,
        headings=("Bills", "March"),
    )


def test_records_come_back_equal_through_json() -> None:
    line = Line("Total", Box(0.1, 0.1, 0.9, 0.15), 0.9, QUAD, ("degenerate",))
    reading = Reading(INFO, "r", "1", (line,), "# a", 90.0, ("blank",), 2, Failure("x", "y"))
    found = chunk(spans=(Span(0, 5, 1, Box(0, 0, 1, 0.1)),))
    citation = Citation("12", "/scans/a.pdf", 1, ((1, Box(0, 0, 1, 0.1)),), "c", 6, 8)
    answer = Answer("how much?", "12", (citation,), (Hit(found, 0.5),), None, False, ("note",))
    for record in (line, reading, found, answer):
        saved = json.loads(json.dumps(record.to_dict()))
        assert type(record).from_dict(saved) == record


def test_a_record_of_another_schema_is_refused_with_what_to_do() -> None:
    saved = chunk().to_dict() | {"schema": 99}
    with pytest.raises(UsageError, match=r"schema 99.*index the files again"):
        Chunk.from_dict(saved)


def test_a_page_checks_its_pixels_and_leaves_them_out_of_its_info() -> None:
    pixels = np.zeros((4, 3, 3), np.uint8)
    page = Page("s", "d", 1, 1, 3, 4, 200.0, pixels=pixels)
    assert page.info == PageInfo("s", "d", 1, 1, 3, 4, 200.0)
    assert page.image.size == (3, 4)
    with pytest.raises(ValueError, match="want"):
        Page("s", "d", 1, 1, 4, 3, 200.0, pixels=pixels)


def test_a_failed_page_becomes_a_failed_reading() -> None:
    failure = Failure.of(EncryptedFile("give a password"))
    page = Page("s", "d", 0, 0, 0, 0, 0.0, error=failure)
    reading = Reading.failed(page, "r", "1", failure)
    assert reading.error == Failure("encrypted", "give a password")
    assert type(reading.page) is PageInfo


def test_pixels_and_shape_make_the_digest() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert pixel_digest(pixels) == pixel_digest(pixels.copy())
    assert pixel_digest(pixels) != pixel_digest(pixels.reshape(4, 2, 3))


def test_a_span_cut_to_a_range_counts_from_its_start() -> None:
    span = Span(10, 20, 1, Box(0, 0, 1, 1))
    assert span.within(15, 30) == Span(0, 5, 1, Box(0, 0, 1, 1))
    assert span.within(20, 30) is None
    assert span.shifted(5).start == 15


def test_a_chunk_knows_the_boxes_of_any_of_its_characters() -> None:
    first, second = Box(0, 0, 1, 0.1), Box(0, 0.5, 1, 0.6)
    found = chunk("Total 12", (Span(0, 5, 1, first), Span(6, 8, 2, second)))
    assert found.boxes(0, 5) == [(1, first)]
    assert found.boxes(5, 6) == []
    assert found.boxes() == [(1, first), (2, second)]
    assert found.bbox == first
    assert found.support == 1.0
    assert found.embedded_text == "Bills > March\nTotal 12"


def test_metadata_is_flat_and_names_its_keys() -> None:
    metadata = chunk(spans=(Span(0, 5, 1, Box(0, 0, 0.5, 0.1)),)).metadata()
    assert all(isinstance(value, (str, int, float)) for value in metadata.values())
    assert metadata["headings"] == "Bills > March"
    assert metadata["bbox"] == "0,0,0.5,0.1"
    assert json.loads(str(metadata["spans"])) == [[0, 5, 1, 0, 0, 0.5, 0.1]]
    assert json.loads(str(metadata["boxes"])) == [[1, 0, 0, 0.5, 0.1]]


def test_counts_come_back_from_a_store_that_keeps_every_number_as_a_float() -> None:
    found = replace(chunk(), page=2, page_end=3, page_count=9, order=4)
    kept = {
        key: float(value) if isinstance(value, int) else value
        for key, value in found.metadata().items()
    }
    assert Chunk.from_metadata(found.text, kept) == found
    assert type(Chunk.from_metadata("x", {"page": 3.0}).page) is int
    for other in (2.5, float("nan"), float("inf"), True, "3"):
        assert Chunk.from_metadata("x", {"page": other}).page == 1


@pytest.mark.parametrize("confidence", [math.nan, math.inf, -math.inf])
def test_a_line_is_read_with_a_confidence_that_is_a_number(confidence: float) -> None:
    with pytest.raises(ValueError, match="want 0 to 1, or None"):
        Line("text", Box(0, 0, 1, 1), confidence)


@pytest.mark.parametrize(
    "spans",
    [
        "[[0.0,3.0,1,0,0,1,1]]",
        "[[false,true,1,0,0,1,1]]",
        '[[0,3,"1",0,0,1,1]]',
        '[[0,3,1,"a","b","c","d"]]',
        "[[0,3,1,0,0,1e999,1]]",
        "[[0,3,1,0,0,1]]",
        "[[0,99,1,0,0,1,1]]",
        "[3]",
        "{}",
    ],
)
def test_spans_that_are_none_are_left_out(spans: str) -> None:
    assert Chunk.from_metadata("abcdef", {"spans": spans}).spans == ()


def test_a_piece_of_a_text_lies_in_a_larger_box_and_not_in_a_wrong_one() -> None:
    first, second = Box(0.1, 0.1, 0.9, 0.2), Box(0.1, 0.3, 0.9, 0.4)
    whole = chunk("one line two", (Span(0, 8, 1, first), Span(9, 12, 1, second)))
    metadata = whole.metadata()
    assert Chunk.from_metadata("one line two", metadata).spans == whole.spans
    piece = Chunk.from_metadata("two", metadata)
    assert piece.spans == (Span(0, 3, 1, Box(0.1, 0.1, 0.9, 0.4)),)
    assert Chunk.from_metadata("", metadata).spans == ()
    over = chunk("one two", (Span(0, 3, 1, first), Span(4, 7, 2, second))).metadata()
    assert Chunk.from_metadata("two", over).spans == ()


def test_spans_and_digests_that_do_not_fit_are_left_out() -> None:
    overlapping = {"spans": "[[2,5,1,0,0,1,1],[0,3,1,0,0,1,1]]", "digests": "9" * 5000 + ":x,2:y"}
    found = Chunk.from_metadata("abcdef", overlapping)
    assert [(span.start, span.end) for span in found.spans] == [(2, 5)]
    assert found.digests == ((2, "y"),)


@pytest.mark.parametrize("data", [{}, {"text": "x"}, {"text": "x", "spans": 3}])
def test_a_record_that_is_broken_is_a_usage_error(data: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="this is no Chunk that was saved"):
        Chunk.from_dict({"schema": 1, **data})


@given(st.integers(0, 600), st.integers(1, 3))
def test_metadata_stays_under_ten_kilobytes_and_boxes_stay_true(count: int, pages: int) -> None:
    spans = tuple(
        Span(2 * i, 2 * i + 1, 1 + i * pages // 600, Box(0.1, i / 700, 0.21234, (i + 1) / 700))
        for i in range(count)
    )
    metadata = chunk("x " * 600, spans).metadata()
    assert len(json.dumps(metadata).encode()) <= METADATA_BYTES
    kept = [(s, e, p, Box(*sides)) for s, e, p, *sides in json.loads(str(metadata["spans"]))]
    assert bool(kept) == bool(spans)
    for span in spans:
        holding = [b for s, e, p, b in kept if s <= span.start and span.end <= e and p == span.page]
        assert len(holding) == 1
        assert holding[0].y0 <= span.box.y0 + 1e-5
        assert holding[0].y1 >= span.box.y1 - 1e-5


def test_metadata_stays_under_ten_kilobytes_with_a_long_foreign_path() -> None:
    spans = tuple(Span(i, i + 1, 1, Box(0, i / 100, 1, (i + 1) / 100)) for i in range(90))
    long = replace(chunk("x" * 90, spans), source="/" + "档" * 1300, headings=("案" * 600,))
    metadata = long.metadata()
    assert len(json.dumps(metadata, ensure_ascii=False).encode()) <= METADATA_BYTES
    assert len(json.loads(str(metadata["spans"]))) > 20
