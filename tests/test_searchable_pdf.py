"""Searchable PDFs: read back through the door that all PDFs come in by."""

from __future__ import annotations

import io
import math
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pypdf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from kosmos_loader.document import Failure, Line, Page, Reading
from kosmos_loader.geometry import Box, Quad, rotated
from kosmos_loader.ocr_files import SearchablePdf
from kosmos_loader.ocr_files.writing import allowed
from kosmos_loader.pages import open_pages

DATA = Path(__file__).parents[2] / "shared" / "data"

WIDTH, HEIGHT = 620, 877


def blank_page(**changes: object) -> Page:
    pixels = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    fields = {"width": WIDTH, "height": HEIGHT, "dpi": 75.0, "digest": "d", "pixels": pixels}
    return Page("bytes:00", "doc", 1, 1, **(fields | changes))


def read_of(page: Page, *lines: Line) -> Reading:
    return Reading(page.info, "scripted", "1", lines)


def pdf_of(*pages: tuple[Page, Reading]) -> bytes:
    pdf = SearchablePdf()
    for page, reading in pages:
        pdf.add(page, reading)
    stream = io.BytesIO()
    pdf.write(stream)
    return stream.getvalue()


def read_back(page: Page, *lines: Line) -> Page:
    [found] = open_pages(pdf_of((page, read_of(page, *lines))))
    assert found.error is None
    return found


def off_by(before: Box, after: Box, page: Page) -> float:
    sides = zip(before.as_tuple(), after.as_tuple(), strict=True)
    scales = (page.width, page.height) * 2
    return max(abs(a - b) * scale for (a, b), scale in zip(sides, scales, strict=True))


def picture(mode: str = "RGB", size: tuple[int, int] = (300, 200)) -> Image.Image:
    """Something that is not the same upside down or mirrored."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((10, 10, 90, 60), fill={"1": "black", "L": "grey"}.get(mode, "red"))
    draw.ellipse((180, 90, 280, 190), fill={"1": "black", "L": "black"}.get(mode, "navy"))
    return image.convert(mode)


def saved(path: Path, image: Image.Image, **options: object) -> Page:
    image.save(path, dpi=(100, 100), **options)
    [page] = open_pages(path)
    return page


# Text


@st.composite
def stacked(draw: st.DrawFn) -> list[Line]:
    """Lines one under another, of one script each."""
    lines = []
    for place in range(draw(st.integers(1, 6))):
        script = draw(
            st.sampled_from(["aé.,", "Ωж-", "שא", "漢あ한", "19.", "\U0001f600a\U00010400"])
        )
        text = draw(st.text(st.sampled_from([*script, " "]), max_size=20))
        left, top = draw(st.floats(0, 0.4)), 0.02 + place * 0.16 + draw(st.floats(0, 0.02))
        width, height = draw(st.floats(0.1, 0.5)), draw(st.floats(0.005, 0.1))
        lines.append(Line(text, Box(left, top, left + width, top + height)))
    return lines


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(lines=stacked())
def test_text_comes_back_in_order_with_boxes_within_half_a_pixel(lines: list[Line]) -> None:
    page = blank_page()
    found = read_back(page, *lines)
    expected = [line for line in lines if line.text.strip()]
    assert [line.text for line in found.text_layer] == [
        " ".join(line.text.split()) for line in expected
    ]
    for before, after in zip(expected, found.text_layer, strict=True):
        assert off_by(before.box, after.box, page) < 0.5


def test_lone_characters_keep_their_lines_beside_right_to_left_text() -> None:
    for texts in (("א", "-"), ("א ש", "9 a"), ("9", "א 9"), ("91 1", "9", "ש")):
        boxes = [Box(0, 0.1 + 0.2 * i, 0.25, 0.15 + 0.2 * i) for i in range(len(texts))]
        lines = [Line(text, box) for text, box in zip(texts, boxes, strict=True)]
        assert tuple(line.text for line in read_back(blank_page(), *lines).text_layer) == texts


@settings(max_examples=50)
@given(text=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12))
def test_any_text_can_be_written_and_no_letter_or_digit_of_it_is_lost(text: str) -> None:
    found = read_back(blank_page(), Line(text, Box(0.1, 0.1, 0.9, 0.15)))

    # pdfium takes ligatures and presentation forms apart, and orders right-to-left text anew
    def letters(of: str) -> list[str]:
        plain = unicodedata.normalize("NFKD", allowed(of))
        return sorted(c for c in plain if c.isascii() and c.isalnum())

    if all(unicodedata.category(c) in ("Lu", "Ll", "Nd", "Zs") for c in text):
        assert letters("".join(line.text for line in found.text_layer)) == letters(text)


@pytest.mark.parametrize("text", ["שלום (עולם)", "[א]", "א ‹ ב", "(אב) גד"])
def test_brackets_in_right_to_left_text_stay_open_where_they_open(text: str) -> None:
    [line] = read_back(blank_page(), Line(text, Box(0.1, 0.1, 0.6, 0.13))).text_layer
    assert line.text == text


def test_a_page_that_knows_no_resolution_can_be_written() -> None:
    page = replace(blank_page(), dpi=0.0)
    pdf = SearchablePdf()
    pdf.add(page, Reading(page.info, "r", "1", ()))
    pdf.write(io.BytesIO())


def test_a_slanted_an_upright_and_an_upside_down_line_keep_their_boxes_and_corners() -> None:
    page = blank_page()
    lines = []
    for degrees, x, y in (
        (7, 150, 150),
        (-12, 450, 150),
        (90, 100, 500),
        (-90, 300, 500),
        (178, 450, 700),
    ):
        level = [(x - 80, y - 10), (x + 80, y - 10), (x + 80, y + 10), (x - 80, y + 10)]
        quad: Quad = tuple(
            (px / WIDTH, py / HEIGHT) for px, py in rotated(level, degrees, about=(x, y))
        )
        lines.append(Line(f"turned by {degrees}", Box.around(quad), None, quad))
    found = {line.text: line for line in read_back(page, *lines).text_layer}
    for line in lines:
        again = found[line.text]
        assert off_by(line.box, again.box, page) < 0.5
        (ax, ay), (bx, by) = ((px * WIDTH, py * HEIGHT) for px, py in again.quad[:2])
        degrees = float(line.text.rpartition(" ")[2])
        assert math.degrees(math.atan2(by - ay, bx - ax)) == pytest.approx(degrees, abs=0.1)


def test_lines_side_by_side_stay_two_lines() -> None:
    left = Line("left cell", Box(0.1, 0.1, 0.3, 0.12))
    right = Line("right cell", Box(0.34, 0.1, 0.5, 0.12))
    assert [line.text for line in read_back(blank_page(), left, right).text_layer] == [
        "left cell",
        "right cell",
    ]


def test_a_word_is_found_where_it_stands_on_the_line() -> None:
    text = "mmmm iiii mmmm"
    found = pdf_of((page := blank_page(), read_of(page, Line(text, Box(0.1, 0.1, 0.9, 0.13)))))
    import pypdfium2

    with pypdfium2.PdfDocument(found) as pdf:
        layer = pdf[0].get_textpage()
        boxes = [layer.get_charbox(place) for place, c in enumerate(text) if c == "i"]
    width = 72 * WIDTH / 75
    assert boxes[0][0] == pytest.approx(0.45 * width, abs=0.06 * width)
    assert boxes[-1][2] == pytest.approx(0.55 * width, abs=0.06 * width)


def test_nothing_of_the_text_is_to_be_seen() -> None:
    page = blank_page()
    found = read_back(page, Line("Invisible ink", Box(0.1, 0.1, 0.9, 0.5)))
    assert (found.pixels == 255).all()
    assert found.text_layer


# Pictures


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures_without_loss_come_back_pixel_by_pixel_at_their_size(
    tmp_path: Path, mode: str, suffix: str
) -> None:
    page = saved(tmp_path / f"a{suffix}", picture(mode))
    data = pdf_of((page, read_of(page, Line("a", Box(0.1, 0.1, 0.2, 0.2)))))
    [found] = open_pages(data)
    assert (found.pixels == page.pixels).all()
    [leaf] = pypdf.PdfReader(io.BytesIO(data)).pages
    assert tuple(map(float, leaf.mediabox[2:])) == pytest.approx((216, 144), rel=1e-5)
    [image] = leaf["/Resources"]["/XObject"].values()
    bits = {"1": 1, "L": 8, "RGB": 24, "P": 24}[mode]
    channels = 1 if image["/ColorSpace"] == "/DeviceGray" else 3
    assert image["/BitsPerComponent"] * channels == bits


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_taken_over_byte_by_byte_and_shown_upright(
    tmp_path: Path, orientation: int
) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    page = saved(path, picture(), exif=exif, quality=95)
    box = Box(10 / 300, 10 / 200, 90 / 300, 60 / 200)
    data = pdf_of((page, read_of(page, Line("a", box))))
    assert path.read_bytes() in data
    [found] = open_pages(data)
    assert found.pixels.shape == page.pixels.shape
    assert np.abs(found.pixels.astype(int) - page.pixels).mean() < 2
    assert off_by(box, found.text_layer[0].box, page) < 0.5


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    page = saved(tmp_path / "a.jpg", picture("CMYK"), quality=95)
    [found] = open_pages(pdf_of((page, read_of(page))))
    red, blue = found.pixels[30, 30].astype(int), found.pixels[140, 230].astype(int)
    assert red[0] > red[2] + 100
    assert blue[2] > blue[0] + 30


# Pages of PDFs


def scan_pdf(*, rotate: int = 0, crop: tuple[float, ...] | None = None, old: str = "") -> bytes:
    """A page with a picture, and `old` as invisible text."""
    stream = io.BytesIO()
    picture(size=(400, 300)).save(stream, "PDF", resolution=100)
    writer = pypdf.PdfWriter(clone_from=stream)
    [leaf] = writer.pages
    leaf.rotate(rotate)
    if crop:
        leaf.cropbox = pypdf.generic.RectangleObject(crop)
    if old:
        name = pypdf.generic.NameObject
        font = {"/Type": name("/Font"), "/Subtype": name("/Type1"), "/BaseFont": name("/Helvetica")}
        font = pypdf.generic.DictionaryObject({name(k): v for k, v in font.items()})
        fonts = pypdf.generic.DictionaryObject({name("/F"): font})
        leaf["/Resources"][name("/Font")] = fonts
        text = pypdf.generic.DecodedStreamObject()
        text.set_data(f"BT 3 Tr /F 12 Tf 30 30 Td ({old}) Tj ET".encode())
        contents = pypdf.generic.ArrayObject([leaf.raw_get("/Contents"), writer._add_object(text)])
        leaf[name("/Contents")] = contents
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [None, (20, 10, 250, 200)])
def test_a_page_of_a_pdf_is_taken_over_and_its_text_lies_as_seen(
    tmp_path: Path, rotate: int, crop: tuple[float, ...] | None
) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(scan_pdf(rotate=rotate, crop=crop))
    [page] = open_pages(path)
    line = Line("Found again", Box(0.2, 0.3, 0.7, 0.36))
    found = read_back(page, line)
    assert (found.pixels == page.pixels).all()
    [again] = found.text_layer
    assert again.text == line.text
    assert off_by(line.box, again.box, page) < 0.5
    assert again.quad is None


def test_old_invisible_text_gives_way_and_is_kept_where_it_is_what_was_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(scan_pdf(old="bad old OCR"))
    [page] = open_pages(path)
    assert [line.text for line in page.text_layer] == ["bad old OCR"]
    new = read_back(page, Line("new text", Box(0.2, 0.3, 0.7, 0.36)))
    assert [line.text for line in new.text_layer] == ["new text"]
    assert read_back(page, *page.text_layer).text_layer == page.text_layer


def test_text_that_a_page_shows_is_not_set_again(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(scan_pdf(old="visible").replace(b"BT 3 Tr", b"BT 0 Tr"))
    [page] = open_pages(path)
    [shown] = page.text_layer
    again = Line("vislble", shown.box)
    other = Line("in the picture", Box(0.6, 0.1, 0.9, 0.15))
    texts = [line.text for line in read_back(page, again, other).text_layer]
    assert texts == ["visible", "in the picture"]


def test_text_that_a_page_shows_beside_old_invisible_text_is_not_set_again(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    old = "old OCR) Tj 0 Tr 0 60 Td (STAMP"
    path.write_bytes(scan_pdf(old=old))
    [page] = open_pages(path)
    [stamp] = [line for line in page.text_layer if line.text == "STAMP"]
    found = read_back(page, Line("STANP", stamp.box), Line("new", Box(0.2, 0.3, 0.7, 0.36)))
    assert sorted(line.text for line in found.text_layer) == ["STAMP", "new"]


@pytest.mark.parametrize("text", ["\u00ad", "\u200b", "\ufeff", "\u0301", "\u00ad \u200b"])
def test_a_line_of_characters_without_width_is_left_out(tmp_path: Path, text: str) -> None:
    page = saved(tmp_path / "a.png", picture())
    found = read_back(page, Line(text, Box(0, 0, 1, 0.1)), Line("word", Box(0.2, 0.3, 0.7, 0.36)))
    assert [line.text for line in found.text_layer] == ["word"]


def test_a_page_that_failed_keeps_its_place_where_the_pdf_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(scan_pdf())
    [page] = open_pages(path)
    failed = Reading.failed(page, "scripted", "1", Failure("reading", "no"))
    lost = Page("/nowhere/b.png", "doc", 1, 1, 0, 0, 0.0, error=Failure("corrupt", "no"))
    lost_reading = Reading.failed(lost, "scripted", "1", Failure("corrupt", "no"))
    [found] = open_pages(pdf_of((page, failed), (lost, lost_reading)))
    assert (found.pixels == page.pixels).all()
    assert found.text_layer == ()


def test_pages_of_several_files_share_one_font(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(scan_pdf())
    [page] = open_pages(path)
    line = Line("a \U0001f600", Box(0.2, 0.3, 0.7, 0.36))
    picture_page = blank_page()
    data = pdf_of((page, read_of(page, line)), (picture_page, read_of(picture_page, line)))
    assert [p.text_layer[0].text for p in open_pages(data)] == ["a \U0001f600"] * 2
    assert data.count(b"/FontFile2") == 1


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}")
@pytest.mark.parametrize(
    "name", ["ocrmypdf/linn.pdf", "gnarly/handwriting_bad_ocr.pdf", "pypdf/indirect-rotation.pdf"]
)
def test_real_scans_keep_their_pixels_and_take_new_text(name: str) -> None:
    [page] = open_pages(DATA / name, pages=1)
    lines = [Line(f"line {n}", Box(0.1, 0.1 * n, 0.4, 0.1 * n + 0.02)) for n in range(1, 6)]
    found = read_back(page, *lines)
    assert (found.pixels == page.pixels).all()
    assert [line.text for line in found.text_layer] == [line.text for line in lines]
    assert (
        max(off_by(a.box, b.box, page) for a, b in zip(lines, found.text_layer, strict=True)) < 0.05
    )
