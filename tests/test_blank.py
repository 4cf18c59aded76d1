from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from kosmos_loader.readers.blank import is_blank

FONT = ImageFont.load_default(40)


def scan_of_nothing(width: int = 1240, height: int = 1754) -> Image.Image:
    """Noise and uneven light, and not a letter."""
    chance = np.random.default_rng(5)
    light = np.linspace(250, 205, width)[None] + np.linspace(0, -20, height)[:, None]
    noise = chance.normal(0, 6, (height, width))
    return Image.fromarray(np.clip(light + noise, 0, 255).astype(np.uint8))


def speckled() -> Image.Image:
    image = Image.new("L", (1406, 1988), 235)
    chance = np.random.default_rng(6)
    for x, y in chance.integers(0, 1400, (120, 2)).tolist():
        size = chance.integers(1, 6)
        ImageDraw.Draw(image).ellipse((x, y, x + size, y + size), fill=40)
    return image


def bleeding() -> Image.Image:
    """What is on the other side of the sheet, mirrored and faint."""
    image = with_word(Image.new("L", (1240, 1754), 230), "the other side", fill=216)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def with_word(image: Image.Image, word: str, *, fill: int = 0) -> Image.Image:
    ImageDraw.Draw(image).text((600, 1600), word, fill=fill, font=FONT)
    return image


def small_text() -> Image.Image:
    image = Image.new("RGB", (300, 160), "white")
    for row in range(8, 152, 14):
        ImageDraw.Draw(image).text((8, row), f"Line {row} of page 2", fill="black")
    return image


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (1240, 1754), "white"),
        Image.new("RGB", (1240, 1754), (240, 230, 200)),
        Image.new("RGB", (7, 3), "white"),
        Image.new("RGB", (1, 5000), "white"),
        Image.new("RGB", (600, 900), "black"),
        scan_of_nothing(),
        speckled(),
        bleeding(),
    ],
    ids=["white", "cream", "tiny", "strip", "black", "scan", "specks", "bleed-through"],
)
def test_a_page_without_ink_is_blank(image: Image.Image) -> None:
    assert is_blank(image)


@pytest.mark.parametrize(
    "image",
    [
        with_word(Image.new("L", (1240, 1754), 255), "7"),
        with_word(Image.new("L", (1240, 1754), 0), "7", fill=255),
        with_word(scan_of_nothing(), "12"),
        with_word(speckled(), "1"),
        with_word(Image.new("L", (1240, 1754), 235), "faint words", fill=190),
        with_word(Image.new("L", (1240, 1754), 255), "soft").filter(ImageFilter.GaussianBlur(3)),
        small_text(),
    ],
    ids=["page number", "white on black", "in a scan", "among specks", "faint", "blurred", "text"],
)
def test_a_page_with_a_word_on_it_is_not_blank(image: Image.Image) -> None:
    assert not is_blank(image)
