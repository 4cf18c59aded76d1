"""Real scans that nobody here drew; benchmarks/reading.py measures more of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import scoring

from kosmos_loader.document import Reading
from kosmos_loader.pages import open_pages
from kosmos_loader.readers.rapidocr import RapidOCRPageReader

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no folder of real scans at {DATA}"),
]


@pytest.fixture(scope="module")
def reader() -> RapidOCRPageReader:
    return RapidOCRPageReader(threads=2)


def readings(reader: RapidOCRPageReader, name: str, pages: str = "1-") -> Iterator[Reading]:
    return reader.read(open_pages(DATA / name, pages=pages))


def text(reading: Reading) -> str:
    return "\n".join(line.text for line in reading.lines)


@pytest.mark.parametrize("turn", ["rotated-L", "rotated-R", "rotated-180"])
def test_a_photographed_page_is_read_whichever_way_it_lies(
    reader: RapidOCRPageReader, turn: str
) -> None:
    truth = (DATA / "tesseract/phototest.txt").read_text(encoding="utf-8")
    [reading] = readings(reader, f"tesseract/phototest-{turn}.png")
    assert scoring.word_score(text(reading), truth).f1 >= 0.97
    assert scoring.ned(text(reading), truth) >= 0.97


@pytest.mark.parametrize(("name", "pages"), [("cardinal.pdf", "3-4"), ("rotated_skew.pdf", "1")])
def test_a_turned_or_skewed_fax_keeps_its_words_and_their_order(
    reader: RapidOCRPageReader, name: str, pages: str
) -> None:
    truth = (DATA / "ocrmypdf/linn.txt").read_text(encoding="utf-8")
    for reading in readings(reader, f"ocrmypdf/{name}", pages):
        assert scoring.word_score(text(reading), truth).f1 >= 0.95
        assert scoring.ned(text(reading), truth) >= 0.90


def test_columns_are_read_one_after_the_other(reader: RapidOCRPageReader) -> None:
    truth = (DATA / "tesseract/8071_093.3B.txt").read_text(encoding="utf-8")
    [reading] = readings(reader, "tesseract/8071_093.3B.tif")
    assert scoring.ned(text(reading), truth) >= 0.85


@pytest.mark.parametrize("name", ["hebtypo.jpg", "arabic.tif", "devatest.png"])
def test_a_script_that_the_models_do_not_know_is_flagged(
    reader: RapidOCRPageReader, name: str
) -> None:
    [reading] = readings(reader, f"tesseract/{name}")
    assert "low_confidence" in reading.flags


def test_old_type_that_it_can_read_is_not_flagged(reader: RapidOCRPageReader) -> None:
    [reading] = readings(reader, "tesseract/eurotext.tif")
    assert reading.flags == ()
