"""Boxes on page images: what is marked, and what is left as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from kosmos_loader.document import BLOCK_KINDS, Block, Citation, Failure, Line, Page, Span
from kosmos_loader.drawing import (
    BLOCK_COLOURS,
    GAP,
    MARKER,
    MARKER_EDGE,
    MAX_WIDTH,
    draw_blocks,
    draw_citations,
    draw_lines,
    draw_regions,
    pages_together,
)
from kosmos_loader.errors import UsageError
from kosmos_loader.geometry import Box

MIDDLE = Box(0.25, 0.25, 0.75, 0.5)


def white_page(width: int = 400, height: int = 800, *, number: int = 1) -> Page:
    pixels = np.full((height, width, 3), 255, np.uint8)
    return Page("p.png", "d", number, 9, width, height, 200.0, pixels=pixels)


def cited(*regions: tuple[int, Box], source: str = "p.png") -> Citation:
    return Citation("words", source, regions[0][0] if regions else 1, regions, "c")


def block(box: Box, *, kind: str = "paragraph", page: int = 1) -> Block:
    return Block(white_page().info, kind, "words", (Span(0, 5, page, box),), order=3)


def test_a_region_is_tinted_inside_and_the_page_stays_white_outside() -> None:
    picture = draw_regions(white_page(), [MIDDLE])
    assert picture.mode == "RGB"
    assert picture.size == (400, 800)
    assert picture.getpixel((200, 300)) == MARKER
    assert picture.getpixel((200, 700)) == (255, 255, 255)
    assert picture.getpixel((20, 300)) == (255, 255, 255)


def test_ink_under_the_marker_stays_black() -> None:
    page = white_page()
    page.pixels[300:310, 150:250] = 0
    assert draw_regions(page, [MIDDLE]).getpixel((200, 305)) == (0, 0, 0)


def test_overlapping_regions_are_not_tinted_twice() -> None:
    once = draw_regions(white_page(), [MIDDLE]).getpixel((200, 300))
    twice = draw_regions(white_page(), [MIDDLE, Box(0.3, 0.3, 0.6, 0.45)])
    assert twice.getpixel((200, 300)) == once


def test_a_region_without_area_can_be_seen() -> None:
    picture = draw_regions(white_page(), [Box(0.5, 0.5, 0.5, 0.5)])
    assert picture.getpixel((199, 399)) != (255, 255, 255)


@pytest.mark.parametrize(
    "box", [Box(1.5, 0, 2, 1), Box(0, -1, 0.5, -0.5), Box(-1e300, 0.2, 1e300, 0.4)]
)
def test_a_box_that_leaves_the_page_is_drawn_as_far_as_it_can_be(box: Box) -> None:
    blank = white_page()
    for picture in (
        draw_regions(blank, [box]),
        draw_lines(blank, [Line("a", box)]),
        draw_blocks(blank, [block(box)]),
        draw_citations([blank], [cited((1, box))] * 2),
    ):
        assert picture.size == (blank.width, blank.height)
        assert picture.getcolors() != blank.image.getcolors()


@pytest.mark.parametrize("width", [0, -5, 1.5, "100"])
def test_a_width_that_is_none_is_refused(width: Any) -> None:
    with pytest.raises(UsageError, match="max_width is"):
        draw_regions(white_page(), [], max_width=width)
    with pytest.raises(UsageError, match="max_width is"):
        draw_citations([white_page()], [], max_width=width)


def test_a_page_that_could_not_be_opened_is_not_drawn_on() -> None:
    failed = Page("a.png", "doc", 1, 1, 0, 0, 0.0, error=Failure("corrupt", "it is torn"))
    with pytest.raises(UsageError, match=r"a.png has no picture to draw on: it is torn"):
        draw_lines(failed, [])


def test_a_caption_stands_above_the_page_and_covers_nothing_of_it() -> None:
    plain = draw_regions(white_page(), [MIDDLE])
    captioned = draw_regions(white_page(), [MIDDLE], "a quote of many words " * 10)
    strip = captioned.height - plain.height
    assert captioned.width == plain.width
    assert strip > 0
    below = captioned.crop((0, strip, captioned.width, captioned.height))
    assert below.tobytes() == plain.tobytes()


def test_a_caption_without_spaces_is_cut_into_lines() -> None:
    short, long = (draw_regions(white_page(), [], "x" * n) for n in (3, 400))
    assert long.height > short.height + 50


def test_a_longer_caption_gets_a_higher_strip() -> None:
    short, long = (draw_regions(white_page(), [], "word " * n) for n in (3, 60))
    assert long.height > short.height


def test_large_pages_are_drawn_at_a_width_that_can_be_sent() -> None:
    picture = draw_regions(white_page(3200, 1000), [MIDDLE])
    assert picture.size == (MAX_WIDTH, 500)
    assert picture.getpixel((800, 190)) == MARKER


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (20, 20)])
def test_pages_of_any_size_can_be_drawn_on(size: tuple[int, int]) -> None:
    page = white_page(*size)
    lines = [Line("a", MIDDLE)]
    for picture in (draw_lines(page, lines), draw_blocks(page, [block(MIDDLE)])):
        assert picture.height == max(1, round(size[1] * min(1, MAX_WIDTH / size[0])))
    assert draw_regions(page, [MIDDLE], "caption").height > size[1]


def test_the_page_itself_is_not_changed() -> None:
    page = white_page()
    draw_regions(page, [MIDDLE], "caption")
    draw_lines(page, [Line("a", MIDDLE)])
    draw_blocks(page, [block(MIDDLE)])
    assert (page.pixels == 255).all()


def coloured(picture: Image.Image) -> int:
    return int((np.asarray(picture) != 255).any(axis=2).sum())


def test_lines_are_outlined_and_not_filled() -> None:
    picture = draw_lines(white_page(), [Line("a", MIDDLE)])
    assert picture.getpixel((100, 250)) != (255, 255, 255)
    assert picture.getpixel((200, 300)) == (255, 255, 255)


def test_a_slanted_line_is_outlined_along_its_slant() -> None:
    quad = ((0.25, 0.25), (0.75, 0.45), (0.75, 0.5), (0.25, 0.3))
    picture = draw_lines(white_page(), [Line("a", MIDDLE, quad=quad)])
    assert picture.getpixel((200, 280)) != (255, 255, 255)
    assert picture.getpixel((299, 210)) == (255, 255, 255)


def test_unsure_lines_have_another_colour_than_sure_ones() -> None:
    sure, unsure, unknown = (
        draw_lines(white_page(), [Line("a", MIDDLE, confidence=c)]).getpixel((200, 200))
        for c in (0.9, 0.3, None)
    )
    assert unsure != sure
    assert unknown == sure


def test_every_kind_of_block_has_a_colour() -> None:
    assert set(BLOCK_COLOURS) == set(BLOCK_KINDS)
    for kind in BLOCK_KINDS:
        picture = draw_blocks(white_page(), [block(MIDDLE, kind=kind)])
        assert picture.getpixel((200, 300)) != (255, 255, 255)


def test_a_block_of_a_kind_of_ones_own_is_drawn_as_other() -> None:
    pictures = [draw_blocks(white_page(), [block(MIDDLE, kind=k)]) for k in ("stamp", "other")]
    assert [picture.getpixel((200, 300)) for picture in pictures] == [
        pictures[1].getpixel((200, 300))
    ] * 2


def test_a_block_is_drawn_on_its_own_page_only() -> None:
    assert coloured(draw_blocks(white_page(), [block(MIDDLE, page=2)])) == 0


def test_labels_at_the_edges_stay_inside_the_picture() -> None:
    corners = [Box(0, 0, 0.01, 0.01), Box(0.99, 0.99, 1, 1), Box(0.99, 0, 1, 0.01)]
    bare = white_page()
    for corner in corners:
        labelled = draw_blocks(bare, [block(corner)])
        assert coloured(labelled) > 10 * 10


# Citations


LOW, HIGH = Box(0.2, 0.9, 0.8, 0.95), Box(0.2, 0.05, 0.8, 0.1)


def test_a_citation_is_marked_on_its_page() -> None:
    picture = draw_citations([white_page()], [cited((1, MIDDLE))])
    assert picture.tobytes() == draw_regions(white_page(), [MIDDLE]).tobytes()


def test_a_quote_over_two_pages_is_marked_on_both_side_by_side() -> None:
    pages = [white_page(), white_page(number=2)]
    picture = draw_citations(pages, [cited((1, LOW), (2, HIGH))], "a caption")
    bare = draw_citations(pages, [cited((1, LOW), (2, HIGH))])
    assert bare.size == (800 + GAP, 800)
    assert picture.height > bare.height
    assert bare.getpixel((200, 740)) == MARKER
    assert bare.getpixel((400 + GAP + 200, 60)) == MARKER
    assert bare.getpixel((200, 60)) == (255, 255, 255)
    assert bare.getpixel((400 + GAP + 200, 740)) == (255, 255, 255)


def test_pages_side_by_side_are_no_wider_than_one() -> None:
    pages = [white_page(2000, 3000), white_page(1000, 800, number=2)]
    picture = draw_citations(pages, [cited((1, LOW), (2, HIGH))])
    assert MAX_WIDTH - 2 <= picture.width <= MAX_WIDTH
    for width in (900, 30, 5):
        assert draw_citations(pages, [], max_width=width).width <= width
    many = [white_page(number=n) for n in range(1, 41)]
    assert draw_citations(many, [], max_width=300).width <= 300


def test_several_citations_have_their_numbers_beside_them() -> None:
    picture = draw_citations([white_page()], [cited((1, LOW)), cited((1, HIGH))])
    colours = [picture.getpixel((x, y)) for x in range(40, 80) for y in (60, 740)]
    assert colours.count(MARKER_EDGE) > 10
    alone = draw_citations([white_page()], [cited((1, LOW))])
    assert MARKER_EDGE not in [alone.getpixel((x, 740)) for x in range(40, 70)]


def test_what_is_cited_of_other_pages_and_files_is_not_drawn() -> None:
    others = [cited((2, MIDDLE)), cited((1, MIDDLE), source="other.png"), cited()]
    assert coloured(draw_citations([white_page()], others)) == 0


def test_without_a_page_there_is_nothing_to_draw_on() -> None:
    with pytest.raises(UsageError, match="no page"):
        draw_citations([], [cited((1, MIDDLE))])


def test_pages_that_a_quote_runs_over_belong_together() -> None:
    citations = [
        cited((7, LOW)),
        cited((2, LOW), source="other.png"),
        cited((1, LOW), (2, HIGH)),
        cited((7, HIGH)),
        cited(),
        cited((3, LOW)),
        cited((2, LOW), (3, HIGH)),
    ]
    assert pages_together(citations) == [
        ("p.png", (7,)),
        ("other.png", (2,)),
        ("p.png", (1, 2, 3)),
    ]


@pytest.mark.parametrize("width", [1, 60, 400])
def test_every_drawing_can_be_made_smaller(width: int) -> None:
    page = white_page()
    for picture in (
        draw_lines(page, [Line("a", MIDDLE)], max_width=width),
        draw_blocks(page, [block(MIDDLE)], max_width=width),
        draw_regions(page, [MIDDLE], max_width=width),
        draw_citations([page], [cited((1, MIDDLE))], max_width=width),
    ):
        assert picture.size == (width, 2 * width)


def test_a_caption_has_no_letter_that_cannot_be_drawn() -> None:
    plain = draw_regions(white_page(), [], "12-15 x GBP 3.50, creme a la Foo, ...")
    assert draw_regions(white_page(), [], "12–15 × £3.50, crème à la Foo, …").tobytes() == (
        plain.tobytes()
    )
