"""Texts that were kept as one, cut into chunks again: every character keeps its place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kosmos_loader.chunking import chunk
from kosmos_loader.compose import compose
from kosmos_loader.document import Chunk, Line, PageInfo, Reading
from kosmos_loader.errors import UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.loading import joined
from kosmos_loader.rechunking import rechunk

SAID = "the harbour master wrote down what every ship had paid on that day"


def line(row: int, text: str) -> Line:
    return Line(text, Box(0.1, 0.05 + 0.02 * row, 0.9, 0.065 + 0.02 * row), 0.9)


def reading(number: int, *texts: str, count: int = 1) -> Reading:
    info = PageInfo("/scans/log.tif", "d", number, count, 1000, 1400, 120.0, f"digest{number}")
    lines = tuple(line(row, text) for row, text in enumerate(texts))
    return Reading(info, "scripted", "1", lines)


def sentences(count: int) -> list[str]:
    return [f"On day {n} {SAID}." for n in range(count)]


def words_with_places(chunks: list[Chunk]) -> list[tuple[str, int, Box]]:
    return [
        (word, span.page, span.box)
        for piece in chunks
        for span in piece.spans
        for word in piece.text[span.start : span.end].split()
    ]


def test_a_page_gives_the_chunks_of_its_blocks() -> None:
    page = reading(1, *sentences(30))
    whole = joined([page])
    expected = list(chunk(compose(page), size=300))
    found = list(rechunk(whole, size=300))
    assert len(found) > 5
    assert [(c.text, c.spans, c.order, c.kind) for c in found] == [
        (c.text, c.spans, c.order, c.kind) for c in expected
    ]
    assert {c.digests for c in found} == {((1, "digest1"),)}


def test_a_file_keeps_the_pages_of_its_characters() -> None:
    pages = [reading(n, *sentences(12), count=3) for n in (1, 2, 3)]
    whole = joined(pages)
    found = list(rechunk(whole, size=250))
    assert words_with_places(found) == words_with_places([whole])
    assert [c.page for c in found] == sorted(c.page for c in found)
    assert {c.page for c in found} == {1, 2, 3}
    for piece in found:
        assert {span.page for span in piece.spans} <= set(range(piece.page, piece.page_end + 1))


def test_what_is_small_enough_stays_whole() -> None:
    [piece] = chunk(compose(reading(2, "and so it went on.", "Then it rained.", count=9)), size=500)
    [found] = rechunk(piece, size=500)
    assert replace(found, chunk_id=piece.chunk_id) == piece
    assert found.chunk_id != piece.chunk_id


def test_ids_follow_from_that_of_the_piece() -> None:
    whole = joined([reading(1, *sentences(30))])
    ids = [c.chunk_id for c in rechunk(whole, size=300)]
    assert ids == [c.chunk_id for c in rechunk(whole, size=300)]
    assert len(set(ids)) == len(ids)
    other = replace(whole, chunk_id="another")
    assert not set(ids) & {c.chunk_id for c in rechunk(other, size=300)}


def test_headings_above_the_piece_stay_above_what_comes_before_its_own() -> None:
    text = f"{sentences(1)[0]}\n\n## Tolls\n\n{sentences(2)[1]}"
    whole = replace(joined([reading(1, "x")]), text=text, spans=(), headings=("Log",))
    assert [c.headings for c in rechunk(whole, size=100)] == [("Log",), ("Log",)]
    assert [c.headings for c in rechunk(whole, size=80)][-1] == ("Tolls",)


def test_a_text_without_places_is_cut_all_the_same() -> None:
    text = "\n\n".join(sentences(9))
    whole = replace(joined([reading(1, "x")]), text=text, spans=())
    found = list(rechunk(whole, size=200))
    assert "\n\n".join(c.text for c in found) == text
    assert {c.spans for c in found} == {()}


@pytest.mark.parametrize("text", ["", " \n\n "])
def test_a_text_of_white_space_gives_nothing(text: str) -> None:
    whole = replace(joined([reading(1, "x")]), text=text, spans=())
    assert list(rechunk(whole, size=10)) == []


def test_options_are_those_of_chunk() -> None:
    whole = joined([reading(1, *sentences(30))])
    by_words = list(rechunk(whole, size=20, overlap=5, length=str.split))
    assert max(len(c.text.split()) for c in by_words) <= 20
    with pytest.raises(UsageError, match="chunk size"):
        list(rechunk(whole, size=0))


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(st.text("ab# |-*.\r\n1éß中`>", min_size=1, max_size=30), min_size=1, max_size=8),
        min_size=1,
        max_size=3,
    ),
    st.integers(5, 60),
)
def test_whatever_was_read_keeps_its_place(pages: list[list[str]], size: int) -> None:
    whole = joined([reading(n, *texts, count=3) for n, texts in enumerate(pages, 1)])
    found = list(rechunk(whole, size=size))
    places = {(span.page, span.box): "" for span in whole.spans}
    for span in whole.spans:
        places[span.page, span.box] += whole.text[span.start : span.end].replace("\r", " ")
    for piece in found:
        assert len(piece.text) <= max(size, len(whole.text) if len(found) == 1 else 0)
        for span in piece.spans:
            written = piece.text[span.start : span.end].replace("\r", " ")
            assert written.strip() in places[span.page, span.box]
