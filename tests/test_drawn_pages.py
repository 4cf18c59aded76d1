from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from kosmos_loader.testing.drawn import (
    HEIGHT,
    LEVELS,
    WIDTH,
    DrawnPage,
    draw_page,
    drawn_pages,
)

pytest.importorskip("matplotlib", reason="brings the typefaces of drawn pages")


def lines_of(page: DrawnPage) -> list[str]:
    return [line.text for line in page.lines]


@pytest.mark.parametrize("level", range(len(LEVELS)))
def test_a_page_is_the_same_whenever_it_is_drawn(level: int) -> None:
    first = draw_page(7, 3, level=LEVELS[level])
    draw_page(7, 4, level=LEVELS[level])
    again = draw_page(7, 3, level=LEVELS[level])
    assert np.array_equal(first.pixels, again.pixels)
    assert (first.lines, first.markdown, first.glyphs) == (
        again.lines,
        again.markdown,
        again.glyphs,
    )


def test_pages_and_seeds_differ() -> None:
    texts = [lines_of(draw_page(seed, number)) for seed in (0, 1) for number in (0, 1)]
    assert len({tuple(text) for text in texts}) == 4


def test_pages_go_on_from_any_number() -> None:
    run = [page.markdown for page in islice(drawn_pages(5), 4)]
    assert [page.markdown for page in islice(drawn_pages(5, start=2), 2)] == run[2:]


@pytest.mark.parametrize("level", range(len(LEVELS)))
def test_the_ink_of_a_page_lies_in_the_boxes_of_its_lines(level: int) -> None:
    for number in range(6):
        drawn = draw_page(1, number, level=LEVELS[level])
        # what is neither paper nor noise; the rules of a table are ink and no line
        if "|---|" in drawn.markdown:
            continue
        grey = drawn.pixels.astype(float).mean(axis=2)
        ink = grey < np.median(grey) - 60
        covered = np.zeros_like(ink)
        for line in drawn.lines:
            x0, y0, x1, y1 = line.box.scaled(drawn.pixels.shape[1], drawn.pixels.shape[0])
            covered[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = True
            part = ink[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
            assert part.any()
        assert ink[covered].sum() >= 0.98 * ink.sum()


def test_markdown_holds_the_words_of_the_lines_in_their_order() -> None:
    for number in range(30):
        drawn = draw_page(2, number)
        words = " ".join(lines_of(drawn)).replace("* ", "").split()
        marked = drawn.markdown.replace("|---|---|", "").replace("**", "").replace("|", " ")
        read = [word for word in marked.split() if word not in {"-", "#", "##"}]
        assert read == words


def test_all_kinds_of_markdown_come_up() -> None:
    pages = [draw_page(3, number).markdown for number in range(60)]
    for mark in ("# ", "## ", "**", "- ", "2. ", "|---|---|"):
        assert sum(mark in page for page in pages) > 3, mark
    blocks = [block for page in pages for block in page.split("\n\n")]
    # no line of these levels is as long, so such a paragraph runs over several
    assert any(len(block) > 20 and block[0] not in "#-|1" for block in blocks)


def test_a_red_word_is_emphasis_and_a_blue_one_is_not() -> None:
    seen = {"red": 0, "blue": 0}
    for number in range(80):
        drawn = draw_page(4, number)
        red, _, blue = (drawn.pixels[..., channel].astype(int) for channel in range(3))
        for glyph in drawn.glyphs:
            x, y = int(glyph.x), int(glyph.y)
            cell = np.s_[y - 8 : y + 8, x - 8 : x + 8]
            if (red[cell] - blue[cell]).max() > 100:
                seen["red"] += 1
                assert glyph.strong
            if (blue[cell] - red[cell]).max() > 100:
                seen["blue"] += 1
                assert not glyph.strong
    assert min(seen.values()) > 10


def test_glyphs_of_the_first_levels_fill_a_patch_each() -> None:
    for number in range(10):
        glyphs = draw_page(6, number).glyphs
        places = {(int(glyph.x) // 16, int(glyph.y) // 16) for glyph in glyphs}
        assert len(places) == len(glyphs)
        assert all((glyph.x % 16, glyph.y % 16) == (8.0, 8.0) for glyph in glyphs)


def test_harder_levels_move_blur_and_grey_the_type() -> None:
    hard = [draw_page(8, number, level=LEVELS[-1]) for number in range(12)]
    assert len({line.box.x0 for page in hard for line in page.lines}) > 8
    assert len({round(float(np.median(page.pixels))) for page in hard}) > 4
    assert max(len(page.lines) for page in hard) > 8


def test_pages_of_the_later_levels_have_several_shapes() -> None:
    for level in LEVELS[7:]:
        pages = [draw_page(10, number, level=level).page() for number in range(40)]
        assert {(page.width, page.height) for page in pages} == set(level.shapes)
        assert len(set(level.shapes)) == 4


def test_a_drawn_page_is_a_page() -> None:
    page = draw_page(9, 0).page(source="drawn-9", number=4)
    assert (page.source, page.number, page.width, page.height) == ("drawn-9", 4, WIDTH, HEIGHT)
    assert page.error is None
    assert page.digest == draw_page(9, 0).page().digest
