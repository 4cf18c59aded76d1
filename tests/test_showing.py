"""What a notebook shows: HTML with the page inside, whatever has become of the file."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kosmos_loader.answering import answer
from kosmos_loader.chunking import chunk
from kosmos_loader.compose import compose
from kosmos_loader.document import (
    Answer,
    Chunk,
    Citation,
    Failure,
    Hit,
    Line,
    Page,
    Span,
    Unsupported,
)
from kosmos_loader.geometry import Box
from kosmos_loader.pages import open_pages
from kosmos_loader.showing import MAX_PICTURES, WIDTH
from kosmos_loader.store import Store
from kosmos_loader.testing import ScriptedReader

TITLE = Line("Brennock Ropeworks invoice", Box(0.1, 0.1, 0.7, 0.16))
TOTAL = Line("Total due 41.20", Box(0.1, 0.5, 0.6, 0.6))
DUES = Line("Harbour dues were paid in May", Box(0.1, 0.3, 0.8, 0.34))
HOSTILE = '<script>alert(1)</script> & "quoted" <img src=x onerror=alert(2)> $x$ \x00\x1b\ud800'


def scan(path: Path, *, pages: int = 1, size: tuple[int, int] = (400, 560)) -> Path:
    images = [Image.new("RGB", size, "white") for _ in range(pages)]
    for number, image in enumerate(images):
        image.putpixel((0, 0), (number, 0, 0))
    images[0].save(path, **({"save_all": True, "append_images": images[1:]} if pages > 1 else {}))
    return path


def chunks_of(path: Path, *lines: list[Line]) -> list[Chunk]:
    """The chunks of a file whose pages read like this."""
    readings = list(ScriptedReader(list(lines)).read(open_pages(path)))
    return list(chunk(block for reading in readings for block in compose(reading)))


@pytest.fixture
def invoice(tmp_path: Path) -> Chunk:
    [found] = chunks_of(scan(tmp_path / "invoice.png"), [TITLE, TOTAL])
    return found


def pictures(html: str) -> Iterator[Image.Image]:
    """The pictures inside, decoded."""
    for encoded in re.findall(r'<img src="data:image/jpeg;base64,([\w+/=]+)"', html):
        yield Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")


class Seen(HTMLParser):
    """What a browser makes of HTML: its elements, their attributes and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(thing: Page | Chunk | Hit | Answer) -> str:
    """The HTML of `thing`, which must be sound, run nothing and fetch nothing."""
    html = thing._repr_html_()
    html.encode()
    seen = Seen(html)
    assert seen.open == []
    assert set(seen.elements) <= {"div", "pre", "img", "b", "ol", "li", "span"}
    for name, value in seen.attributes:
        assert name in ("class", "style", "src", "alt", "width", "title")
        assert "url(" not in (value or "")
        assert name != "src" or (value or "").startswith("data:image/jpeg;base64,")
    return html


def text_of(thing: Page | Chunk | Hit | Answer) -> str:
    return Seen(shown(thing)).text


def is_marked(picture: Image.Image, box: Box) -> bool:
    """Whether `box` is tinted as by a highlighter."""
    x, y = box.center
    red, green, blue = picture.getpixel((int(x * picture.width), int(y * picture.height)))
    return min(red, green) > blue + 60


# --- Pages ----------------------------------------------------------------------------------


def test_a_page_shows_its_picture_and_its_measures(tmp_path: Path) -> None:
    [page] = open_pages(scan(tmp_path / "invoice.png"))
    [picture] = pictures(shown(page))
    assert picture.size == (400, 560)
    assert "invoice.png, page 1 of 1" in text_of(page)
    assert "400 × 560 pixels" in text_of(page)


def test_a_large_page_is_shown_small() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2400, 1700, 3), np.uint8)
    page = Page("a.png", "d", 1, 1, 1700, 2400, 200.0, pixels=pixels)
    html = shown(page)
    [picture] = pictures(html)
    assert picture.size == (WIDTH, round(2400 * WIDTH / 1700))
    assert len(html) < 1_000_000


def test_lines_that_the_file_carries_are_outlined() -> None:
    pixels = np.full((560, 400, 3), 255, np.uint8)
    page = Page("a.pdf", "d", 1, 1, 400, 560, 72.0, pixels=pixels, text_layer=(TOTAL,))
    [picture] = pictures(shown(page))
    assert (np.asarray(picture) < 200).any()
    assert "text layer of 1 lines" in text_of(page)


def test_a_page_that_failed_shows_why() -> None:
    page = Page("a.pdf", "d", 2, 3, 0, 0, 0.0, error=Failure("corrupt", "cut short; scan again"))
    assert list(pictures(shown(page))) == []
    assert "no picture: cut short; scan again" in text_of(page)


def test_a_page_without_a_pixel_is_shown_without_a_picture() -> None:
    assert "no picture" in text_of(Page("a.pdf", "d", 1, 1, 0, 0, 0.0))


# --- Chunks and hits ------------------------------------------------------------------------


def test_a_chunk_shows_its_text_and_its_lines_on_the_page(invoice: Chunk) -> None:
    [picture] = pictures(shown(invoice))
    assert is_marked(picture, TOTAL.box)
    assert is_marked(picture, TITLE.box)
    assert not is_marked(picture, DUES.box)
    assert invoice.text in text_of(invoice)


def test_a_hit_shows_its_score_too(invoice: Chunk) -> None:
    assert "score 0.734" in text_of(Hit(invoice, 0.7341))
    assert len(list(pictures(shown(Hit(invoice, 0.7))))) == 1


def test_a_chunk_on_two_pages_shows_both(tmp_path: Path) -> None:
    path = scan(tmp_path / "ledger.tif", pages=3)
    digests = tuple((page.number, page.digest) for page in open_pages(path))
    [first, *_] = chunks_of(path, [TITLE], [DUES], [TOTAL])
    spans = (Span(0, 4, 1, TITLE.box), Span(5, 9, 2, TOTAL.box))
    both = replace(first, text="This runs over", spans=spans, page_end=2, digests=digests)
    one, two = pictures(shown(both))
    assert (is_marked(one, TITLE.box), is_marked(one, TOTAL.box)) == (True, False)
    assert (is_marked(two, TITLE.box), is_marked(two, TOTAL.box)) == (False, True)
    assert "page 1 to 2 of 3" in text_of(both)


def test_a_chunk_on_many_pages_shows_a_few_and_says_so(tmp_path: Path) -> None:
    path = scan(tmp_path / "ledger.tif", pages=6)
    digests = tuple((page.number, page.digest) for page in open_pages(path))
    spans = tuple(Span(n, n + 1, n + 1, DUES.box) for n in range(6))
    [first, *_] = chunks_of(path, *[[TITLE]] * 6)
    long = replace(first, text="abcdef", spans=spans, page_end=6, digests=digests)
    assert len(list(pictures(shown(long)))) == MAX_PICTURES
    assert "3 more not shown" in text_of(long)


def test_a_chunk_from_the_store_finds_its_page(tmp_path: Path) -> None:
    found = chunks_of(scan(tmp_path / "invoice.png"), [TITLE, TOTAL])
    with Store.open(tmp_path / "store") as store:
        store.add(found)
        [hit] = store.search("total due")
    assert len(list(pictures(shown(hit)))) == 1


def gone(path: Path) -> None:
    path.unlink()


def another(path: Path) -> None:
    Image.new("RGB", (400, 560), "grey").save(path)


def broken(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (gone, "is not there any more"),
        (another, "has changed since it was read; index it again"),
        (broken, "invoice.png"),
        (a_folder, "is not there any more"),
        pytest.param(
            a_pipe,
            "is not there any more",
            marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes"),
        ),
    ],
)
def test_where_the_page_is_no_longer_there_the_text_is_shown_and_why(
    invoice: Chunk, change: object, says: str
) -> None:
    assert callable(change)
    change(Path(invoice.source))
    given = answer("What is the total due?", [Hit(invoice, 0.5)])
    assert given.citations
    for thing in (invoice, Hit(invoice, 0.5), given):
        assert list(pictures(shown(thing))) == []
        assert says in text_of(thing)
        assert "no picture: " in text_of(thing)
        assert "Total due 41.20" in text_of(thing)


def test_a_file_with_fewer_pages_than_it_had_has_changed(tmp_path: Path) -> None:
    path = scan(tmp_path / "ledger.tif", pages=2)
    *_, second = chunks_of(path, [TITLE], [TOTAL])
    assert second.page == 2
    scan(path)
    assert "has changed since it was read" in text_of(second)


def test_a_chunk_that_does_not_know_its_picture_shows_none(invoice: Chunk) -> None:
    unknown = replace(invoice, digests=())
    assert list(pictures(shown(unknown))) == []
    assert "index the file again" in text_of(unknown)


def test_a_chunk_without_boxes_shows_its_page_unmarked(invoice: Chunk) -> None:
    [picture] = pictures(shown(replace(invoice, spans=())))
    assert not is_marked(picture, TOTAL.box)


# --- Answers --------------------------------------------------------------------------------


def test_an_answer_shows_its_quotes_on_their_pages(invoice: Chunk, tmp_path: Path) -> None:
    [ledger] = chunks_of(scan(tmp_path / "ledger.png"), [DUES])
    hits = [Hit(invoice, 0.9), Hit(ledger, 0.5)]
    reply = 'The total was 41.20 [2: "41.20"]. Dues were paid in May 1921 [3]. Gladly.'
    given = answer("What was due?", hits, chat=lambda _: reply)
    first, second = pictures(shown(given))
    assert is_marked(first, TOTAL.box)
    assert not is_marked(first, TITLE.box)
    assert is_marked(second, DUES.box)
    text = text_of(given)
    for words in (given.question, given.text, "“41.20”", "ledger.png, page 1", *given.notes):
        assert words in text
    html = shown(given)
    underlined = re.findall(r'<span style="[^"]*wavy[^"]*" title="[^"]+">([^<]*)</span>', html)
    assert underlined == ["May 1921", "Gladly."]
    assert html.count('<b style="color:#a60">[') == 2


def test_a_quote_over_two_pages_is_one_picture_of_both(tmp_path: Path) -> None:
    path = scan(tmp_path / "ledger.tif", pages=2)
    digests = tuple((page.number, page.digest) for page in open_pages(path))
    [first, _] = chunks_of(path, [TOTAL], [TITLE])
    spans = (Span(0, 4, 1, TOTAL.box), Span(5, 9, 2, TITLE.box))
    both = replace(first, text="This runs", spans=spans, page_end=2, digests=digests)
    regions = tuple(both.boxes())
    citation = Citation("This runs", str(path), 1, regions, both.chunk_id, 0, 9)
    given = Answer("What?", "This runs [1]", (citation,), (Hit(both, 1.0),))
    [picture] = pictures(shown(given))
    left = picture.crop((0, 0, 400, 560))
    right = picture.crop((picture.width - 400, 0, picture.width, 560))
    assert is_marked(left, TOTAL.box)
    assert not is_marked(left, TITLE.box)
    assert is_marked(right, TITLE.box)
    assert "page 1 and 2" in text_of(given)


def test_a_citation_of_a_chunk_that_is_not_among_the_hits_has_no_picture(invoice: Chunk) -> None:
    given = answer("What is the total due?", [Hit(invoice, 0.5)])
    assert list(pictures(shown(replace(given, hits=())))) == []


def test_an_answer_that_abstains_shows_its_reason() -> None:
    given = answer("What is the total?", [])
    assert Answer.SILENT in text_of(given)
    assert "nothing was found" in text_of(given)


def test_text_of_a_page_stays_text(invoice: Chunk) -> None:
    hostile = replace(
        invoice, text=HOSTILE, spans=(), headings=(HOSTILE,), flags=(HOSTILE,), source=HOSTILE
    )
    citation = Citation(HOSTILE, HOSTILE, 1, ((1, TOTAL.box),), "c")
    given = Answer(
        HOSTILE, f"{HOSTILE} [1]", (citation,), (Hit(hostile, 0.5),), HOSTILE, notes=(HOSTILE,),
        unsupported=(Unsupported(3, 30, HOSTILE), Unsupported(900, 2, "uncited")),
    )  # fmt: skip
    page = Page(HOSTILE, "d", 1, 1, 0, 0, 0.0, label=HOSTILE, error=Failure("corrupt", HOSTILE))
    for thing in (hostile, Hit(hostile, 0.5), given, page):
        assert '<script>alert(1)</script> & "quoted"' in text_of(thing)
    # a notebook sets no formulas in these
    assert 'class="kosmos-loader tex2jax_ignore mathjax_ignore"' in shown(given)


def test_what_cannot_be_shown_says_so_and_raises_nothing() -> None:
    broken_answer = Answer("What?", None, (), ())  # type: ignore[arg-type]
    assert "Answer cannot be shown" in text_of(broken_answer)
    broken_chunk = Chunk("a", None, "s", "d", "c", 1, 1, 1, 1, 1)  # type: ignore[arg-type]
    assert "Chunk cannot be shown" in text_of(broken_chunk)
