"""The RapidOCR reader on pages drawn here; the real scans are measured by benchmarks/reading.py."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from kosmos_loader.document import Failure, Page, document_id
from kosmos_loader.errors import UsageError
from kosmos_loader.readers.base import PageReader, choose_reader
from kosmos_loader.readers.rapidocr import RapidOCRPageReader

TEXT = [
    "The harbour lamp was lit at seven",
    "and burned until the morning tide,",
    "when Captain Wray put out the flame",
    "and wrote the hour into his book.",
]

pytestmark = pytest.mark.slow


def drawn(*, turn: int = 0, skew: float = 0.0, ink: bool = True) -> Page:
    """Four lines of text, then turned clockwise by `turn` quarters and `skew` degrees."""
    image = Image.new("RGB", (900, 640), "white")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=34)
    for row, text in enumerate(TEXT if ink else []):
        pen.text((120, 150 + 70 * row), text, fill="black", font=font)
    image = image.rotate(-skew, Image.Resampling.BICUBIC, fillcolor="white")
    pixels = np.ascontiguousarray(np.rot90(np.asarray(image), -turn))
    height, width = pixels.shape[:2]
    return Page("/p.png", document_id("/p.png"), 1, 1, width, height, 150.0, pixels=pixels)


@pytest.fixture(scope="module")
def reader() -> RapidOCRPageReader:
    return RapidOCRPageReader(threads=2)


def ink_box(page: Page) -> tuple[float, float, float, float]:
    dark = np.argwhere(page.pixels[:, :, 0] < 128)
    (y0, x0), (y1, x1) = dark.min(axis=0), dark.max(axis=0)
    return x0 / page.width, y0 / page.height, x1 / page.width, y1 / page.height


@pytest.mark.parametrize(
    ("turn", "skew"), [(0, 0), (1, 0), (2, 0), (3, 0), (0, 8), (0, -9), (1, 6)]
)
def test_a_turned_or_skewed_page_is_read_upright_with_boxes_where_the_file_shows_them(
    reader: RapidOCRPageReader, turn: int, skew: float
) -> None:
    page = drawn(turn=turn, skew=skew)
    [reading] = reader.read([page])
    assert [line.text for line in reading.lines] == TEXT
    assert (reading.angle - 90 * turn + 180) % 360 - 180 == pytest.approx(skew, abs=0.7)
    assert reading.flags == ()
    boxes = [line.box for line in reading.lines]
    seen = (
        min(b.x0 for b in boxes),
        min(b.y0 for b in boxes),
        max(b.x1 for b in boxes),
        max(b.y1 for b in boxes),
    )
    assert seen == pytest.approx(ink_box(page), abs=0.03)
    assert all(line.confidence and line.confidence > 0.85 for line in reading.lines)


def test_a_page_without_text_is_blank(reader: RapidOCRPageReader) -> None:
    [reading] = reader.read([drawn(ink=False)])
    assert reading.lines == ()
    assert reading.flags == ("blank",)


def test_a_page_that_failed_passes_its_error_on_between_its_neighbours(
    reader: RapidOCRPageReader,
) -> None:
    failure = Failure("corrupt", "cannot be decoded")
    broken = Page("/p.png", "d", 2, 3, 0, 0, 0.0, error=failure)
    readings = list(reader.read([drawn(), broken, drawn(turn=2)]))
    assert [r.error for r in readings] == [None, failure, None]
    assert [len(r.lines) for r in readings] == [4, 0, 4]


def test_pages_of_any_size_are_read_or_fail_alone(reader: RapidOCRPageReader) -> None:
    shapes = [(1, 1, 3), (1, 4000, 3), (3000, 2, 3), (40, 40, 3)]
    pages = [
        Page("/p", "d", 1, 1, w, h, 72.0, pixels=np.full((h, w, c), 255, np.uint8))
        for h, w, c in shapes
    ]
    readings = list(reader.read(pages))
    assert len(readings) == len(pages)
    assert all(r.lines == () for r in readings)


def test_pages_are_pulled_one_at_a_time(reader: RapidOCRPageReader) -> None:
    pulled: list[int] = []

    def pages() -> Iterator[Page]:
        for number in range(3):
            pulled.append(number)
            yield drawn()

    readings = reader.read(pages())
    next(readings)
    assert pulled == [0]


def test_it_is_a_page_reader_and_keeps_the_log_quiet(
    reader: RapidOCRPageReader, capfd: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(reader, PageReader)
    list(reader.read([drawn()]))
    assert capfd.readouterr() == ("", "")


def test_auto_without_a_gpu_is_rapidocr_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    with caplog.at_level(logging.INFO, "kosmos_loader"):
        assert choose_reader().name == "rapidocr"
    assert "RapidOCR on the CPU: no CUDA device" in caplog.text


def test_an_unknown_reader_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match="auto, kosmos, rapidocr"):
        choose_reader("tesseract")


def test_a_long_strip_is_read_to_its_end(reader: RapidOCRPageReader) -> None:
    image = Image.new("RGB", (500, 5000), "white")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=24)
    rows = [f"Item number {n} of the day" for n in range(1, 110)]
    for place, row in enumerate(rows):
        pen.text((60, 40 + 45 * place), row, fill="black", font=font)
    pixels = np.asarray(image)
    [reading] = reader.read([Page("/p", "d", 1, 1, 500, 5000, 200.0, pixels=pixels)])
    assert [line.text for line in reading.lines] == rows
    assert reading.lines[-1].box.y0 == pytest.approx((40 + 45 * 108) / 5000, abs=0.003)
