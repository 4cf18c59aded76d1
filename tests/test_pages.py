"""open_pages and find_files, on files that the tests write themselves."""

from __future__ import annotations

import io
import itertools
import os
import struct
import tracemalloc
import weakref
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pypdf
import pytest
from numpy.typing import NDArray
from PIL import Image
from pypdf.annotations import Rectangle
from pypdf.generic import encode_pdfdocencoding

from kosmos_loader.document import Page, document_id, pixel_digest
from kosmos_loader.errors import (
    CorruptFile,
    EmptyFile,
    EncryptedFile,
    FileTooLarge,
    SourceNotFound,
    UnsupportedFile,
    UsageError,
)
from kosmos_loader.geometry import Box, iou
from kosmos_loader.pages import find_files, open_pages

HELLO = b"BT /F 12 Tf 20 70 Td (Hello paper) Tj ET"
"""Drawn in the upper left of a page of 200 x 100 points."""


def pdf(
    *contents: bytes,
    page: str = "/MediaBox[0 0 200 100]",
    kids: str = "",
    catalog: str = "",
    extra: tuple[bytes, ...] = (),
) -> bytes:
    """A PDF with a page for each content stream; `kids` overrides the list of pages.

    After one page, `extra` are the objects from number 6 on; the first is its XObject /X.
    """
    numbers = range(4, 4 + 2 * len(contents), 2)
    kids = kids or " ".join(f"{number} 0 R" for number in numbers)
    objects = [
        f"<</Type/Catalog/Pages 2 0 R{catalog}>>".encode(),
        f"<</Type/Pages/Count {len(kids.split()) // 3}/Kids[{kids}]>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, content in zip(numbers, contents, strict=True):
        used = "<</Font<</F 3 0 R>>/XObject<</X 6 0 R>>>>"
        entries = f"{page}/Resources{used}/Contents {number + 1} 0 R"
        objects.append(f"<</Type/Page/Parent 2 0 R{entries}>>".encode())
        objects.append(stream_of(content))
    objects += extra
    data = bytearray(b"%PDF-1.7\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    xref = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"trailer<</Root 1 0 R/Size %d>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, xref)
    return bytes(data)


def stream_of(content: bytes, entries: str = "") -> bytes:
    head = f"<<{entries}/Length {len(content)}>>stream\n"
    return head.encode() + content + b"\nendstream"


def encrypted(password: str, algorithm: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=pypdf.PdfReader(io.BytesIO(pdf(HELLO))))
    writer.encrypt(password, algorithm=algorithm)
    return saved_by(writer)


def saved_by(writer: pypdf.PdfWriter) -> bytes:
    stream = io.BytesIO()
    writer.write(stream)
    return stream.getvalue()


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def only(source: object, **options: object) -> Page:
    (page,) = open_pages(source, **options)
    return page


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """[40, 60, 3], no two pixels of a row alike, no symmetry."""
    rows, columns = np.mgrid[0:40, 0:60]
    return np.stack([4 * columns, 6 * rows, 2 * (rows + columns)], axis=2).astype(np.uint8)


@pytest.fixture
def image(picture: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(picture)


def dark_box(page: Page) -> Box:
    """The box of the pixels that are nearer to black than to white."""
    rows, columns = np.nonzero(page.pixels.mean(axis=2) < 128)
    return Box.from_pixels(
        columns.min(),
        rows.min(),
        columns.max() + 1,
        rows.max() + 1,
        width=page.width,
        height=page.height,
    )


# Orientation


def as_stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The rows and columns that a camera stores, from the definition in TIFF 6.0: what side of the
    upright picture the 0th row and the 0th column are."""
    row_0_is, column_0_is = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    if "bottom" in (row_0_is, column_0_is):
        upright = upright[::-1]
    if "right" in (row_0_is, column_0_is):
        upright = upright[:, ::-1]
    return upright.swapaxes(0, 1) if row_0_is in ("left", "right") else upright


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_picture_stands_upright_whatever_its_exif_orientation(
    picture: NDArray[np.uint8], orientation: int, form: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(as_stored(picture, orientation)))
    page = only(saved(stored, form, exif=exif, lossless=True))
    assert np.array_equal(page.pixels, picture)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_tiff_is_turned_upright_once_and_not_twice(
    picture: NDArray[np.uint8], orientation: int, compression: str
) -> None:
    stored = Image.fromarray(np.ascontiguousarray(as_stored(picture, orientation)))
    page = only(saved(stored, "TIFF", tiffinfo={274: orientation}, compression=compression))
    assert np.array_equal(page.pixels, picture)


def test_broken_exif_does_not_lose_the_picture(image: Image.Image) -> None:
    page = only(saved(image, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"))
    assert (page.width, page.height) == image.size


@pytest.mark.parametrize(
    ("rotate", "corner"),
    [(0, (0, 1)), (90, (0, 0)), (180, (1, 0)), (270, (1, 1)), (-90, (1, 1))],
)
def test_rotate_is_applied(rotate: int, corner: tuple[int, int]) -> None:
    square_at_bottom_left = b"0 g 0 0 20 20 re f"
    page = only(pdf(square_at_bottom_left, page=f"/MediaBox[0 0 200 100]/Rotate {rotate}"))
    assert (page.width > page.height) == (rotate % 180 == 0)
    x, y = dark_box(page).center
    assert (round(x), round(y)) == corner


# Colours


def grey(value: int) -> Image.Image:
    return Image.new("L", (4, 4), value)


def with_alpha(mode: str) -> Image.Image:
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    return clear.convert(mode)


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (saved(grey(0).convert("1"), "TIFF", compression="group4"), (0, 0, 0)),
        (saved(grey(255).convert("1"), "PNG"), (255, 255, 255)),
        (saved(Image.new("RGB", (4, 4), (10, 200, 30)).quantize(8), "GIF"), (10, 200, 30)),
        (saved(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
        (saved(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "JPEG"), (255, 255, 255)),
        (saved(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF"), (255, 255, 255)),
        (saved(with_alpha("RGBA"), "PNG"), (255, 255, 255)),
        (saved(with_alpha("LA"), "PNG"), (255, 255, 255)),
        (saved(with_alpha("RGBA"), "WEBP", lossless=True), (255, 255, 255)),
        (saved(grey(90), "PNG", transparency=90), (255, 255, 255)),
        (saved(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG"), (127, 127, 127)),
        (saved(Image.fromarray(np.full((4, 4), 65_535, np.uint16)), "PNG"), (255, 255, 255)),
        (saved(Image.fromarray(np.full((4, 4), 257 * 77, np.uint16)), "TIFF"), (77, 77, 77)),
        (saved(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"), (128, 128, 128)),
        (saved(Image.fromarray(np.full((4, 4), 60_000, np.int32)), "TIFF"), (233, 233, 233)),
    ],
    ids=[
        *("1-bit fax", "1-bit", "palette", "cmyk", "cmyk jpeg", "lab", "rgba", "la", "webp alpha"),
        *("colour key", "half clear", "16-bit white", "16-bit grey", "float", "32-bit"),
    ],
)
def test_every_kind_of_pixel_becomes_rgb_on_white(data: bytes, colour: tuple[int, ...]) -> None:
    page = only(data)
    assert page.pixels.dtype == np.uint8
    assert page.pixels.shape == (4, 4, 3)
    assert np.abs(page.pixels.astype(int) - colour).max() <= 1


def test_16_bits_of_which_0_is_white_are_not_read_as_a_negative() -> None:
    samples = Image.fromarray(np.full((4, 4), 65_535, np.uint16))
    page = only(saved(samples, "TIFF", tiffinfo={262: 0}))
    assert page.pixels.max() == 0


def test_the_pixels_of_a_page_can_be_written_to(image: Image.Image) -> None:
    for data in (saved(image, "PNG"), pdf(HELLO)):
        only(data).pixels[0, 0] = 0


# Kinds of files


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("TIFF", {"big_tiff": True}),
        ("WEBP", {"lossless": True}),
        ("JPEG2000", {"irreversible": False}),
        ("JPEG2000", {"no_jp2": True}),
    ],
)
def test_the_same_picture_has_the_same_digest_in_every_lossless_format(
    picture: NDArray[np.uint8], form: str, options: dict[str, object]
) -> None:
    page = only(saved(Image.fromarray(picture), form, **options))
    assert page.digest == pixel_digest(picture)
    assert np.array_equal(page.pixels, picture)


def test_a_file_is_read_as_what_it_is_and_not_as_what_it_is_called(
    tmp_path: Path, image: Image.Image
) -> None:
    (tmp_path / "scan.tif").write_bytes(pdf(HELLO))
    (tmp_path / "scan.pdf").write_bytes(saved(image, "PNG"))
    (tmp_path / "scan").write_bytes(saved(image, "JPEG"))
    assert only(tmp_path / "scan.tif").text_layer
    assert only(tmp_path / "scan.pdf").width == image.width
    assert only(tmp_path / "scan").width == image.width


def test_junk_before_the_pdf_header_is_allowed() -> None:
    assert only(b"\x00junk" * 100 + pdf(HELLO)).text_layer


def test_a_pdf_without_its_header_is_rewritten_and_read() -> None:
    stream = io.BytesIO(pdf(HELLO).replace(b"%PDF-1.7", b"%XYZ-1.7"))
    stream.name = "scan.pdf"
    assert only(stream).text_layer[0].text == "Hello paper"


def test_a_tiff_gives_all_its_pages(image: Image.Image) -> None:
    others = [image.rotate(90, expand=True), image.resize((30, 30))]
    pages = list(open_pages(saved(image, "TIFF", save_all=True, append_images=others)))
    assert [(page.number, page.count, page.width, page.height) for page in pages] == [
        (1, 3, 60, 40),
        (2, 3, 40, 60),
        (3, 3, 30, 30),
    ]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(form: str) -> None:
    page = only(saved(grey(255), form, save_all=True, append_images=[grey(0)]))
    assert page.count == 1
    assert page.pixels.min() > 250


def test_the_reduced_copies_in_a_pyramid_tiff_are_no_pages(image: Image.Image) -> None:
    small = image.resize((30, 20))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    assert only(saved(image, "TIFF", save_all=True, append_images=[small])).width == 60


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EmptyFile),
        (pdf(kids=" "), EmptyFile),
        (b"just some text", UnsupportedFile),
        (b"PK\3\4" + bytes(40), UnsupportedFile),
        (b"\0\0\0\x18ftypheic" + bytes(40), UnsupportedFile),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedFile),
        (b"\0\0\1\0" + bytes(40), UnsupportedFile),
        (b"%PDF-1.7\nnothing more", CorruptFile),
        (b"\x89PNG\r\n\x1a\nnothing more", CorruptFile),
    ],
)
def test_what_cannot_be_opened_raises_the_error_that_fits(
    data: bytes, error: type[Exception], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(error, match=r"[;,] "):
        next(open_pages(data))
    assert capfd.readouterr() == ("", "")


def test_a_document_without_pages_is_not_blamed_for_the_error_before_it() -> None:
    with pytest.raises(EncryptedFile):
        next(open_pages(encrypted("secret", "AES-256")))
    with pytest.raises(EmptyFile):
        next(open_pages(pdf(kids=" ")))


def test_a_picture_that_ends_early_fails_rather_than_come_out_half(image: Image.Image) -> None:
    data = saved(image.resize((600, 400)), "JPEG")
    assert only(data).error is None
    page = only(data[: len(data) // 2])
    assert page.error is not None
    assert page.error.type == "corrupt"
    assert page.pixels.size == 0


# Sizes and resolutions


def test_a_scan_in_a_pdf_keeps_its_pixels() -> None:
    noise = Image.effect_noise((850, 1101), 90).convert("1")
    page = only(saved(noise, "PDF", resolution=100))
    assert np.array_equal(page.pixels[..., 0], np.asarray(noise.convert("L")))
    assert page.dpi == pytest.approx(100, rel=1e-3)


def test_a_scan_with_oblong_pixels_comes_out_with_square_ones() -> None:
    fax = Image.new("1", (400, 100), 1)
    pages = [
        only(saved(fax, "PDF", dpi=(200, 100))),
        only(saved(fax, "TIFF", dpi=(200, 100))),
    ]
    assert [(page.width, page.height, round(page.dpi)) for page in pages] == [(400, 200, 200)] * 2


def test_a_turned_fax_has_its_resolutions_turned_too() -> None:
    fax = Image.new("1", (100, 400), 1)
    page = only(saved(fax, "TIFF", dpi=(100, 200), tiffinfo={274: 6}))
    assert (page.width, page.height) == (400, 200)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_page_of_a_tiff_without_a_resolution_does_not_take_that_of_another(
    compression: str,
) -> None:
    unitless = {"tiffinfo": {282: 1.0, 283: 1.0, 296: 1}, "compression": compression}
    fax, other = (Image.new("1", (400, 100), 1) for _ in range(2))
    fax.encoderinfo = {"dpi": (200, 100), "compression": compression}
    other.encoderinfo = unitless
    first = Image.new("1", (400, 100), 1)
    tiff = saved(first, "TIFF", save_all=True, append_images=[fax, other], **unitless)
    assert [(page.width, page.height) for page in open_pages(tiff)] == [
        (400, 100),
        (400, 200),
        (400, 100),
    ]


def test_a_scan_inside_a_form_keeps_its_pixels() -> None:
    shades = np.random.default_rng(0).integers(0, 256, (125, 250), np.uint8)
    image = "/Type/XObject/Subtype/Image/Width 250/Height 125/BitsPerComponent 8"
    form = "/Type/XObject/Subtype/Form/BBox[0 0 4 4]/Matrix[2 0 0 2 0 0]"
    extra = (
        stream_of(b"2 0 0 2 0 0 cm /Y Do", f"{form}/Resources<</XObject<</Y 7 0 R>>>>"),
        stream_of(shades.tobytes(), f"{image}/ColorSpace/DeviceGray"),
    )
    page = only(pdf(b"50 0 0 25 0 0 cm /X Do", extra=extra))
    assert np.array_equal(page.pixels[..., 0], shades)


def test_a_coloured_ground_is_no_scan() -> None:
    one_pixel = "/Type/XObject/Subtype/Image/Width 1/Height 1/BitsPerComponent 8"
    ground = stream_of(b"\xee", f"{one_pixel}/ColorSpace/DeviceGray")
    page = only(pdf(b"200 0 0 100 0 0 cm /X Do", extra=(ground,)))
    assert page.dpi == pytest.approx(200, rel=1e-2)
    assert np.all(page.pixels == 0xEE)


def test_the_denser_of_several_images_that_fill_a_page_sets_its_resolution() -> None:
    back = pypdf.PdfReader(io.BytesIO(saved(Image.new("1", (200, 200)), "PDF", resolution=100)))
    front = pypdf.PdfReader(io.BytesIO(saved(Image.new("1", (600, 600)), "PDF", resolution=300)))
    writer = pypdf.PdfWriter(clone_from=back)
    writer.pages[0].merge_page(front.pages[0])
    assert only(saved_by(writer)).dpi == pytest.approx(300, rel=1e-3)


def test_a_page_with_print_over_a_coarse_image_is_drawn_finely_enough_to_read() -> None:
    coarse = saved(Image.new("L", (200, 100), 255), "PDF", resolution=72)
    writer = pypdf.PdfWriter(clone_from=pypdf.PdfReader(io.BytesIO(coarse)))
    assert only(saved_by(writer)).dpi == pytest.approx(72, rel=1e-2)
    writer.pages[0].merge_page(pypdf.PdfReader(io.BytesIO(pdf(HELLO))).pages[0])
    assert only(saved_by(writer)).dpi == pytest.approx(200, rel=1e-2)


def test_a_born_digital_page_is_drawn_at_200_dpi() -> None:
    page = only(pdf(HELLO, page="/MediaBox[0 0 612 792]"))
    assert (page.width, page.height, page.dpi) == (1700, 2200, pytest.approx(200))


def test_the_resolution_of_a_picture_comes_from_its_file_where_it_makes_sense() -> None:
    photo = Image.new("L", (4000, 3000))
    assert only(saved(photo, "JPEG", dpi=(300, 300))).dpi == 300
    # 72 dpi would make it a page of 1.4 metres; the long side of A4 is taken instead
    assert only(saved(photo, "JPEG", dpi=(72, 72))).dpi == pytest.approx(4000 / 11.7)
    assert only(saved(photo, "JPEG")).dpi == pytest.approx(4000 / 11.7)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "PDF"])
def test_a_page_beyond_the_pixel_limit_is_scaled_down_and_keeps_its_shape(form: str) -> None:
    wide = Image.new("L", (1200, 800), 255)
    wide.paste(0, (0, 0, 600, 400))
    page = only(saved(wide, form), max_pixels=15_000)
    assert 14_000 < page.width * page.height <= 15_000
    assert page.width / page.height == pytest.approx(1.5, rel=0.02)
    assert dark_box(page).rounded(1) == Box(0, 0, 0.5, 0.5)


@pytest.mark.parametrize(
    "boxes",
    [
        "/MediaBox[0 0 14400 14400]",
        "/MediaBox[0 0 1000000 3]",
        "/MediaBox[0 0 0.1 0.1]",
        "/MediaBox[0 0 0 0]",
        "/MediaBox[100 100 -300 -50]",
        "/MediaBox[0 0 nan 1e99]",
        "/MediaBox[0 0 200 100]/CropBox[500 500 600 600]",
        "/MediaBox[0 0 200 100]/CropBox[50 50 50 50]",
        "/MediaBox[0 0 99999999999 99999999999]",
        "",
    ],
)
def test_absurd_page_sizes_are_drawn_all_the_same(boxes: str) -> None:
    page = only(pdf(HELLO, page=boxes), max_pixels=100_000)
    assert page.error is None
    assert 1 <= page.width * page.height <= 100_000


def test_a_crop_box_beside_the_paper_is_not_followed() -> None:
    page = only(pdf(HELLO, page="/MediaBox[0 0 200 100]/CropBox[500 500 600 600]/Rotate 90"))
    assert page.height == pytest.approx(2 * page.width, abs=2)
    assert iou(page.text_layer[0].box, dark_box(page)) > 0.9


def test_a_picture_that_declares_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    sizes = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for chunk in (b"IHDR" + sizes, b"IDAT", b"IEND"):
        data += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(FileTooLarge, match="pixels"):
        next(open_pages(data))


def test_a_limit_without_pixels_is_refused() -> None:
    with pytest.raises(UsageError):
        open_pages(pdf(HELLO), max_pixels=0)


# Text layer


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", ["", "/CropBox[10 5 150 95]"])
def test_text_lies_where_it_is_seen(rotate: int, crop: str) -> None:
    page = only(pdf(HELLO, page=f"/MediaBox[0 0 200 100]{crop}/Rotate {rotate}"))
    (line,) = page.text_layer
    assert line.text == "Hello paper"
    assert iou(line.box, dark_box(page)) > 0.9


@pytest.mark.parametrize(
    ("matrix", "starts_at"),
    [("0 1 -1 0 100 20", "bottom"), ("0 -1 1 0 100 80", "top"), ("-1 0 0 -1 150 50", "right")],
)
def test_text_that_stands_on_its_side_tells_its_corners(matrix: str, starts_at: str) -> None:
    page = only(pdf(f"BT /F 12 Tf {matrix} Tm (Sideways) Tj ET".encode()))
    (line,) = page.text_layer
    assert line.text == "Sideways"
    assert iou(line.box, dark_box(page)) > 0.9
    assert line.quad is not None
    start_top, end_top, end_bottom, start_bottom = line.quad
    assert Box.around(line.quad).rounded(3) == line.box.rounded(3)
    seen = {
        "bottom": start_top[1] > end_top[1] and start_top[0] < start_bottom[0],
        "top": start_top[1] < end_top[1] and start_top[0] > start_bottom[0],
        "right": start_top[0] > end_top[0] and start_top[1] > start_bottom[1],
    }
    assert seen[starts_at]
    assert end_bottom[0] - end_top[0] == pytest.approx(start_bottom[0] - start_top[0])


def test_slightly_slanted_text_has_a_slanted_quad() -> None:
    page = only(pdf(b"BT /F 12 Tf 0.9962 0.0872 -0.0872 0.9962 20 30 Tm (Slanted line) Tj ET"))
    (line,) = page.text_layer
    assert line.quad is not None
    (x0, y0), (x1, y1) = line.quad[:2]
    rise = (y0 - y1) * page.height / ((x1 - x0) * page.width)
    assert rise == pytest.approx(0.0875, abs=0.005)  # tan 5 degrees


def test_lines_come_in_the_file_s_order_and_columns_stay_apart() -> None:
    content = (
        b"BT /F 10 Tf 10 80 Td (Left one) Tj 0 -12 Td (left two) Tj "
        b"100 12 Td (Right one) Tj 0 -12 Td (right two) Tj ET"
    )
    texts = [line.text for line in only(pdf(content)).text_layer]
    assert texts == ["Left one", "left two", "Right one", "right two"]


def test_columns_whose_lines_are_not_level_stay_apart() -> None:
    content = b"BT /F 10 Tf 10 80 Td (Left part) Tj 60 -8 Td (right part) Tj ET"
    assert [line.text for line in only(pdf(content)).text_layer] == ["Left part", "right part"]


def test_lines_set_so_tight_that_they_touch_stay_apart() -> None:
    content = b"BT /F 12 Tf 10 70 Td (First line) Tj 0 -8 Td (and second) Tj ET"
    assert [line.text for line in only(pdf(content)).text_layer] == ["First line", "and second"]


def test_cells_on_one_line_with_a_wide_gap_are_lines_of_their_own() -> None:
    content = b"BT /F 10 Tf 10 80 Td (Name) Tj 90 0 Td (12.50) Tj ET"
    assert [line.text for line in only(pdf(content)).text_layer] == ["Name", "12.50"]


def test_words_and_superscripts_of_a_line_stay_together() -> None:
    content = b"BT /F 12 Tf 10 70 Td (E = mc) Tj /F 7 Tf 5 Ts (2) Tj 0 Ts /F 12 Tf ( holds.) Tj ET"
    assert [line.text for line in only(pdf(content)).text_layer] == ["E = mc2 holds."]


def test_the_invisible_text_of_an_ocr_layer_counts() -> None:
    page = only(pdf(b"BT 3 Tr /F 12 Tf 20 70 Td (Hidden) Tj ET"))
    assert page.pixels.min() == 255
    assert [line.text for line in page.text_layer] == ["Hidden"]


def test_text_beside_the_page_and_text_of_control_characters_is_left_out() -> None:
    content = (
        b"BT /F 12 Tf 20 300 Td (Beside) Tj 0 -203 Td (Partly) Tj "
        b"0 -27 Td (\\001\\002) Tj 0 -30 Td (On) Tj ET"
    )
    assert [line.text for line in only(pdf(content)).text_layer] == ["On"]


def test_words_divided_at_the_line_end_keep_their_hyphen() -> None:
    content = b"BT /F 12 Tf 10 70 Td (an inter-) Tj 0 -14 Td (national one) Tj ET"
    assert [line.text for line in only(pdf(content)).text_layer] == ["an inter-", "national one"]


def test_form_fields_are_drawn() -> None:
    widget = "<</Type/Annot/Subtype/Widget/FT/Tx/T(field)/Rect[20 20 80 80]/F 4/AP<</N 7 0 R>>>>"
    black = stream_of(b"0 g 0 0 60 60 re f", "/Type/XObject/Subtype/Form/BBox[0 0 60 60]")
    data = pdf(
        b"",
        page="/MediaBox[0 0 200 100]/Annots[6 0 R]",
        catalog="/AcroForm<</Fields[6 0 R]>>",
        extra=(widget.encode(), black),
    )
    page = only(data)
    assert dark_box(page).rounded(2) == Box(0.1, 0.2, 0.4, 0.8)


def test_annotations_are_drawn() -> None:
    writer = pypdf.PdfWriter(clone_from=pypdf.PdfReader(io.BytesIO(pdf(b""))))
    note = Rectangle(rect=(20, 20, 80, 80), interior_color="000000")
    writer.add_annotation(0, note)
    assert dark_box(only(saved_by(writer))).area > 0.1


# Document information


def test_a_pdf_tells_its_title_and_page_labels() -> None:
    writer = pypdf.PdfWriter(clone_from=pypdf.PdfReader(io.BytesIO(pdf(HELLO, HELLO, HELLO))))
    writer.add_metadata({"/Title": "A title", "/Author": "  ", "/Keywords": "one\x00two"})
    writer.set_page_label(0, 1, style="/r")
    writer.set_page_label(2, 2, style="/D", start=1)
    pages = list(open_pages(saved_by(writer)))
    assert [page.label for page in pages] == ["i", "ii", "1"]
    info = pages[0].document_info
    assert info["Title"] == "A title"
    assert info["Keywords"] == "one two"
    assert "Author" not in info


def test_labels_that_say_no_more_than_the_number_are_none() -> None:
    writer = pypdf.PdfWriter(clone_from=pypdf.PdfReader(io.BytesIO(pdf(HELLO, HELLO))))
    writer.set_page_label(0, 1, style="/D")
    assert [page.label for page in open_pages(saved_by(writer))] == [None, None]


def test_broken_document_information_does_not_lose_the_page() -> None:
    broken = pdf(HELLO, catalog="/PageLabels 7")
    page = only(broken.replace(b"trailer<<", b"trailer<</Info 99 0 R"))
    assert page.text_layer
    assert page.document_info == {}


# Passwords

UNUSUAL = "Łódź€"


@pytest.mark.parametrize("algorithm", ["RC4-40", "RC4-128", "AES-128", "AES-256-R5", "AES-256"])
@pytest.mark.parametrize("password", ["secret", "äöü", UNUSUAL])
def test_the_right_password_opens_the_file(algorithm: str, password: str) -> None:
    data = encrypted(password, algorithm)
    assert only(data, password=password).text_layer[0].text == "Hello paper"
    with pytest.raises(EncryptedFile, match="give its password"):
        next(open_pages(data))
    with pytest.raises(EncryptedFile, match="does not open"):
        next(open_pages(data, password="wrong"))


def test_a_password_in_pdfdocencoding_opens_the_file() -> None:
    spelled = encode_pdfdocencoding("Łž€").decode("latin-1")
    assert only(encrypted(spelled, "RC4-128"), password="Łž€").text_layer


def test_a_password_with_compatibility_characters_opens_the_file() -> None:
    assert only(encrypted("ﬁle Ⅸ", "AES-256"), password="ﬁle Ⅸ").text_layer


def test_one_password_may_be_meant_for_some_of_many_files() -> None:
    files = [pdf(HELLO), encrypted("secret", "AES-256"), encrypted("", "AES-128")]
    assert all(page.text_layer for page in open_pages(files, password="secret"))


# Page ranges


@pytest.mark.parametrize(
    ("pages", "numbers"),
    [
        (None, [1, 2, 3, 4, 5]),
        ("2", [2]),
        ("1-2,4", [1, 2, 4]),
        (" 4 - , 1 ", [1, 4, 5]),
        ("4-99,200", [4, 5]),
        ("3,3,1-3", [1, 2, 3]),
        ([5, 1], [1, 5]),
        (range(2, 50), [2, 3, 4, 5]),
        (3, [3]),
        (np.array([2]), [2]),
    ],
)
def test_pages_are_picked_by_number_in_the_order_of_the_file(
    pages: object, numbers: list[int]
) -> None:
    opened = list(open_pages(pdf(*[HELLO] * 5), pages=pages))
    assert [page.number for page in opened] == numbers
    assert {page.count for page in opened} == {5}


@pytest.mark.parametrize(
    "pages", ["", "a", "0", "3-1", "-3", "1,,2", "1-2-3", "9" * 5000, [], [0], [-1], [1.5]]
)
def test_a_malformed_page_range_is_refused_by_the_call(pages: object) -> None:
    with pytest.raises(UsageError, match="pages="):
        open_pages(pdf(HELLO), pages=pages)


def test_a_range_beyond_the_end_names_the_number_of_pages() -> None:
    with pytest.raises(UsageError, match="2 pages"):
        next(open_pages(pdf(HELLO, HELLO), pages="3-"))


# Files, folders, patterns


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight files to read, among others."""
    for name in ("page10.pdf", "page2.PDF", "Page1.pdf", "b/9.pdf", "b/10.pdf", "a/1.pdf"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pdf(HELLO))
    for name in ("notes.txt", "data.json", ".hidden.pdf", ".git/1.pdf", "a/report.docx"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not to be read")
    return tmp_path


def names(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_a_folder_is_read_to_its_depths_in_natural_order(folder: Path) -> None:
    order = ["a/1.pdf", "b/9.pdf", "b/10.pdf", "Page1.pdf", "page2.PDF", "page10.pdf"]
    assert names(find_files(folder), folder) == order
    pages = list(open_pages(folder))
    assert [page.source for page in pages] == [str(folder / name) for name in order]
    assert all(page.error is None for page in pages)


def test_a_file_that_is_named_twice_is_read_once(folder: Path) -> None:
    sources: list[str | Path] = [str(folder / "b/9.pdf"), folder / "b", folder / "*/9.pdf"]
    assert names(find_files(sources), folder) == ["b/9.pdf", "b/10.pdf"]
    read = [page.source for page in open_pages(sources)]
    assert read == [str(folder / "b/9.pdf"), str(folder / "b/10.pdf")]
    assert len(list(open_pages([pdf(HELLO), pdf(HELLO)]))) == 2


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.pdf", ["Page1.pdf", "page10.pdf"]),
        ("page*", ["page2.PDF", "page10.pdf"]),
        ("**/*.pdf", ["a/1.pdf", "b/9.pdf", "b/10.pdf", "Page1.pdf", "page10.pdf"]),
        ("**", ["a/1.pdf", "b/9.pdf", "b/10.pdf", "Page1.pdf", "page2.PDF", "page10.pdf"]),
        ("[ab]", ["a/1.pdf", "b/9.pdf", "b/10.pdf"]),
    ],
)
def test_a_pattern_finds_files_in_natural_order(
    folder: Path, pattern: str, found: list[str]
) -> None:
    assert names(find_files(folder / pattern), folder) == found
    assert len(list(open_pages(str(folder / pattern)))) == len(found)


@pytest.mark.parametrize(
    "name", ["a#b.pdf", "scan [1].pdf", "what*.pdf", "seite größe 第.pdf", "100%?.pdf", "a\nb.pdf"]
)
def test_a_path_that_exists_is_never_taken_for_a_pattern(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pdf(HELLO))
    (tmp_path / "what else.pdf").write_bytes(pdf(HELLO))
    assert find_files(tmp_path / name) == [tmp_path / name]
    assert only(str(tmp_path / name)).source == str(tmp_path / name)


def test_a_name_that_is_no_text_opens(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.pdf")
    path.write_bytes(pdf(HELLO))
    assert only(path).text_layer


def test_a_relative_path_comes_out_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scan.pdf").write_bytes(pdf(HELLO))
    monkeypatch.chdir(tmp_path)
    page = only("./x/../scan.pdf")
    assert page.source == str(tmp_path / "scan.pdf")
    assert page.doc_id == document_id(page.source)


def test_a_tilde_is_home_unless_a_file_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("home/scan.pdf", "~", "~scan.pdf"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pdf(HELLO))
    assert find_files("~scan.pdf") == [tmp_path / "~scan.pdf"]
    assert find_files("~") == [tmp_path / "~"]
    (tmp_path / "~").unlink()
    assert find_files("~/scan.pdf") == [tmp_path / "home" / "scan.pdf"]
    assert find_files("~/*.pdf") == [tmp_path / "home" / "scan.pdf"]


@pytest.mark.parametrize(
    "source",
    [
        "missing.pdf",
        "missing/*.pdf",
        "x" * 5000,
        "nul\0.pdf",
        "~nobody-here/a.pdf",
        "~nobody-here/*",
    ],
)
def test_a_path_that_is_not_there_is_said_by_the_call_itself(source: str) -> None:
    with pytest.raises(SourceNotFound):
        open_pages(source)


def test_a_file_object_that_is_closed_is_told_and_loses_no_neighbour(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(HELLO))
    with (tmp_path / "a.pdf").open("rb") as stream:
        pass
    with pytest.raises(SourceNotFound, match=r"a.pdf cannot be read \(.*closed.*\); open it again"):
        open_pages(stream)
    errors = [page.error for page in open_pages([stream, tmp_path / "a.pdf"])]
    assert [error and error.type for error in errors] == ["not_found", None]


def test_threads_may_each_go_through_pages_of_their_own() -> None:
    files = [pdf(*[HELLO] * (number + 1)) for number in range(4)]

    def digests(data: bytes) -> list[str]:
        return [page.digest for _ in range(3) for page in open_pages(data)]

    alone = [digests(data) for data in files]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(digests, files)) == alone


def test_a_folder_without_a_file_to_read_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(SourceNotFound, match="holds no"):
        open_pages(tmp_path)


@pytest.mark.parametrize("url", ["https://example.org/scan.pdf", "s3://bucket/scan.pdf"])
def test_an_address_is_refused_with_what_to_do(url: str) -> None:
    with pytest.raises(UnsupportedFile, match="download"):
        open_pages(url)


@pytest.mark.parametrize("source", [None, 7, "", io.StringIO("text")])
def test_what_is_no_source_is_refused(source: object) -> None:
    with pytest.raises(UsageError):
        open_pages(source)


@pytest.mark.parametrize("source", [b"bytes", [None], ""])
def test_files_are_found_at_paths_only(source: object) -> None:
    with pytest.raises(UsageError):
        find_files(source)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pdf")
    page = only([tmp_path / "pipe.pdf"])
    assert page.error is not None
    assert page.error.type == "unsupported"


def test_find_files_keeps_the_place_of_a_missing_one_among_several(folder: Path) -> None:
    files = [folder / "page10.pdf", folder / "missing.pdf", folder / "b"]
    found = names(find_files(files), folder)
    assert found == ["page10.pdf", "missing.pdf", "b/9.pdf", "b/10.pdf"]


# Bytes and file objects


def test_bytes_are_named_by_their_digest() -> None:
    first, same, other = (only(data) for data in (pdf(HELLO), pdf(HELLO), pdf(b"")))
    assert first.source.startswith("bytes:")
    assert first.doc_id == same.doc_id != other.doc_id
    assert only(bytearray(pdf(HELLO))).source == first.source


def test_a_file_object_is_named_by_its_file_and_left_open(tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    path.write_bytes(pdf(HELLO))
    with path.open("rb") as stream:
        page = only(stream)
        assert not stream.closed
    assert page.source == str(path)
    assert page.doc_id == only(path).doc_id
    stream = io.BytesIO(pdf(HELLO))
    stream.name = "<stdin>"
    assert only(stream).source.startswith("bytes:")


def test_paths_bytes_and_file_objects_may_be_mixed(folder: Path) -> None:
    sources = (folder / "b", pdf(HELLO), io.BytesIO(pdf(HELLO)), str(folder / "page2.PDF"))
    assert sum(page.error is None for page in open_pages(iter(sources))) == 5


# One bad thing does not take its neighbours along


def test_a_bad_file_in_a_folder_costs_that_file_only(tmp_path: Path) -> None:
    good = pdf(HELLO)
    bad = {
        "2.pdf": (b"%PDF-1.7 broken", "corrupt"),
        "4.pdf": (encrypted("secret", "AES-256"), "encrypted"),
        "5.tif": (b"", "empty"),
        "6.heic": (b"\0\0\0\x18ftypheic", "unsupported"),
    }
    for name in ("1.pdf", "3.pdf", "7.pdf"):
        (tmp_path / name).write_bytes(good)
    for name, (data, _) in bad.items():
        (tmp_path / name).write_bytes(data)
    pages = list(open_pages(tmp_path))
    assert [Path(page.source).name[0] for page in pages] == list("1234567")
    failed = {Path(page.source).name: page for page in pages if page.error}
    assert {name: page.error.type for name, page in failed.items()} == {
        name: kind for name, (_, kind) in bad.items()
    }
    assert {(page.number, page.count, page.width, page.height) for page in failed.values()} == {
        (0, 0, 0, 0)
    }


def test_a_missing_file_and_a_short_one_among_several_fail_in_their_place(folder: Path) -> None:
    two = pdf(HELLO, HELLO)
    sources = [two, folder / "missing.pdf", pdf(HELLO), "https://example.org/scan.pdf", two]
    pages = list(open_pages(sources, pages="2-"))
    kinds = [page.error.type if page.error else page.number for page in pages]
    assert kinds == [2, "not_found", "usage", "unsupported", 2]


def test_a_broken_page_of_a_pdf_fails_between_its_neighbours() -> None:
    pages = list(open_pages(pdf(HELLO, kids="4 0 R 99 0 R 4 0 R")))
    assert [page.number for page in pages] == [1, 2, 3]
    assert [page.error.type if page.error else None for page in pages] == [None, "corrupt", None]
    assert "page 2" in pages[1].error.message


def test_a_broken_page_of_a_tiff_fails_between_its_neighbours(image: Image.Image) -> None:
    data = bytearray(
        saved(image, "TIFF", save_all=True, append_images=[image] * 2, compression="tiff_deflate")
    )
    with Image.open(io.BytesIO(data)) as opened:
        opened.seek(1)
        (start,), (length,) = opened.tag_v2[273], opened.tag_v2[279]
    data[start : start + length] = bytes(length)
    pages = list(open_pages(bytes(data)))
    assert [page.error.type if page.error else None for page in pages] == [None, "corrupt", None]
    assert np.array_equal(pages[0].pixels, pages[2].pixels)


def test_a_page_of_a_tiff_with_a_broken_header_fails_between_its_neighbours(
    image: Image.Image,
) -> None:
    data = bytearray(saved(image, "TIFF", save_all=True, append_images=[image] * 2))
    width, no_width = struct.pack("<HHI", 256, 4, 1), struct.pack("<HHI", 999, 4, 1)
    second = data.index(width, data.index(width) + 1)
    data[second : second + len(width)] = no_width
    pages = list(open_pages(bytes(data)))
    assert [page.error.type if page.error else None for page in pages] == [None, "corrupt", None]


def with_far_values(tiff: bytes, tag: int, *pages: int) -> bytes:
    """The TIFF with the value of `tag` on `pages`, from 0, told to lie outside the file."""
    damaged = bytearray(tiff)
    with Image.open(io.BytesIO(tiff)) as opened:
        for number in pages:
            opened.seek(number)
            start = opened.tag_v2.offset
            (many,) = struct.unpack_from("<H", tiff, start)
            places = range(start + 2, start + 2 + 12 * many, 12)
            place = next(at for at in places if struct.unpack_from("<H", tiff, at) == (tag,))
            struct.pack_into("<HII", damaged, place + 2, 2, 20, len(tiff) + 100)
    return bytes(damaged)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_damaged_tag_of_a_tiff_does_not_cost_the_pages_behind_it(compression: str) -> None:
    shades = [Image.new("L", (40, 30 + i), 60 * i) for i in range(4)]
    rest = [*shades[1:3], shades[1].resize((4, 3)), shades[3]]
    rest[2].encoderinfo = {"tiffinfo": {254: 1}, "compression": compression}
    named = {"tiffinfo": {305: "a program"}, "compression": compression}
    tiff = saved(shades[0], "TIFF", save_all=True, append_images=rest, **named)
    pages = list(open_pages(with_far_values(tiff, 305, 1)))
    assert [(page.number, page.count) for page in pages] == [(i, 4) for i in range(1, 5)]
    assert [page.error for page in pages] == [None] * 4
    assert [np.unique(page.pixels).tolist() for page in pages] == [[0], [60], [120], [180]]


def test_pages_behind_a_damaged_tag_fail_in_their_places_where_they_are_damaged() -> None:
    shades = [Image.new("L", (40, 30 + i), 60 * i) for i in range(4)]
    named = {"tiffinfo": {305: "a program"}}
    tiff = saved(shades[0], "TIFF", save_all=True, append_images=shades[1:], **named)
    pages = list(open_pages(with_far_values(tiff, 305, 1, 2)))
    assert [page.error.type if page.error else None for page in pages] == [
        None,
        None,
        "corrupt",
        None,
    ]
    assert np.unique(pages[3].pixels).tolist() == [180]


def test_a_last_page_with_a_broken_header_fails_too_where_it_is_asked_for_alone(
    image: Image.Image,
) -> None:
    data = bytearray(saved(image, "TIFF", save_all=True, append_images=[image]))
    width, no_width = struct.pack("<HHI", 256, 4, 1), struct.pack("<HHI", 999, 4, 1)
    last = data.rindex(width)
    data[last : last + len(width)] = no_width
    [page] = open_pages([io.BytesIO(data)], pages=2)
    assert page.error is not None
    assert (page.number, page.error.type) == (2, "corrupt")


def test_a_page_count_that_cannot_be_true_is_not_believed() -> None:
    lying = pdf(HELLO).replace(b"/Count 1", b"/Count 900000")
    assert [page.number for page in open_pages(lying)] == [1]


# Streaming


def live(references: list[weakref.ref[Page]]) -> int:
    return sum(reference() is not None for reference in references)


def many_pages(form: str) -> bytes:
    if form == "PDF":
        return pdf(HELLO, page="/MediaBox[0 0 100 100]", kids=" ".join(["4 0 R"] * 400))
    blank = Image.new("1", (278, 278))
    return saved(blank, form, save_all=True, append_images=[blank] * 39, compression="group4")


@pytest.mark.parametrize(("form", "count"), [("PDF", 400), ("TIFF", 40)])
def test_a_long_file_takes_the_room_of_one_page(form: str, count: int) -> None:
    pages = open_pages(many_pages(form))
    references = [weakref.ref(next(pages))]
    tracemalloc.start()
    try:
        for page in pages:
            assert live(references) == 0
            references.append(weakref.ref(page))
            size = page.pixels.nbytes
            del page
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(references) == count
    assert peak < 10 * size


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(pdf(HELLO))

    def sources() -> Iterator[Path]:
        yield tmp_path / "scan.pdf"
        raise AssertionError("the second source was asked for")

    assert next(open_pages(sources())).error is None


def open_files() -> set[str]:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("open files are counted in /proc, which this system has not")
    return {os.path.realpath(descriptor) for descriptor in descriptors.iterdir()}


@pytest.mark.parametrize("name", ["scan.pdf", "scan.tif"])
def test_files_are_closed_when_the_iterator_ends_or_is_closed(
    tmp_path: Path, image: Image.Image, name: str
) -> None:
    path = tmp_path / name
    tiff = saved(image, "TIFF", save_all=True, append_images=[image])
    path.write_bytes(tiff if name == "scan.tif" else pdf(HELLO, HELLO))
    pages = open_pages(path)
    next(pages)
    assert str(path) in open_files()
    pages.close()
    assert str(path) not in open_files()
    assert len(list(open_pages(path))) == 2
    assert str(path) not in open_files()


def test_pages_of_several_files_can_be_asked_for_in_turns() -> None:
    first, second = open_pages(pdf(HELLO, b"")), open_pages(pdf(b"", HELLO))
    texts = [bool(page.text_layer) for pair in zip(first, second, strict=True) for page in pair]
    assert texts == [True, False, False, True]
    assert not list(itertools.chain(first, second))


def test_two_stars_follow_no_links_to_folders(tmp_path: Path) -> None:
    deep = tmp_path / "scans" / "deep"
    deep.mkdir(parents=True)
    (deep / "page.pdf").write_bytes(pdf(HELLO))
    for name in ("loop", "again"):
        (deep / name).symlink_to(tmp_path / "scans", target_is_directory=True)
    for pattern in ("**/*.pdf", "**/*", "**", "scans/**/deep/**/*.pdf"):
        assert find_files(tmp_path / pattern) == [deep / "page.pdf"]
