"""Patches against the image processor that transformers releases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kosmos_loader.engine.patches import Patches, extract_patches
from kosmos_loader.errors import UsageError
from kosmos_loader.pages import open_pages

torch = pytest.importorskip("torch", reason="needs the kosmos extra")
released = pytest.importorskip(
    "transformers.models.kosmos2_5.image_processing_pil_kosmos2_5",
    reason="needs the kosmos extra",
)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

REAL = (
    "receipts/023.jpg",
    "ocrmypdf/ccitt.pdf",
    "tesseract/phototest.tif",
    "gnarly/skinnypage.pdf",
    "paperless/multi-page-images-alpha.tiff",
)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def uniform(height: int, width: int, value: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


def black_on_white(height: int, width: int) -> NDArray[np.uint8]:
    image = Image.new("1", (width, height), 1)
    draw = ImageDraw.Draw(image)
    for row in range(10, height - 20, 20):
        draw.text((10, row), f"line {row} of a page that was scanned in black and white", fill=0)
    return np.array(image.convert("RGB"))


def reference(pixels: NDArray[np.uint8], max_patches: int) -> dict[str, Any]:
    processor = released.Kosmos2_5ImageProcessorPil()
    return processor(
        images=Image.fromarray(pixels), max_patches=max_patches, return_tensors="pt"
    ).data


def assert_as_released(patches: Patches, pixels: NDArray[np.uint8], max_patches: int) -> None:
    expected = reference(pixels, max_patches)
    assert patches.size == (int(expected["width"][0]), int(expected["height"][0]))
    # a single speck on white paper is 2,000 deviations away, where float32 steps by 0.0001
    torch.testing.assert_close(
        patches.flattened(), expected["flattened_patches"][0], atol=1e-4, rtol=1e-6
    )


PAGES = {
    "of an odd size": noise(877, 621),
    "as large as a scan": noise(3301, 2549),
    "shrunk in one direction and enlarged in the other": noise(4000, 400),
    "in black and white": black_on_white(701, 499),
    "smaller than a patch": noise(7, 5),
    "of one pixel": noise(1, 1),
    "one pixel wide": noise(900, 1),
    "one pixel high": noise(1, 900),
    "white, where the processor's mean is inexact": uniform(3300, 2550, 255),
    "dark, where the processor's mean is inexact": uniform(1755, 1241, 3),
    "of one grey": uniform(640, 480, 128),
    "with faint specks": np.concatenate([uniform(899, 700, 254), noise(1, 700) // 255 + 253]),
}


@pytest.mark.parametrize("what", PAGES)
def test_a_page_gives_the_patches_that_the_released_processor_gives(what: str) -> None:
    pixels = PAGES[what]
    assert_as_released(extract_patches(pixels, max_patches=4096), pixels, 4096)


@settings(max_examples=25)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(0, 5),
)
def test_any_size_and_number_of_patches_is_as_released(
    height: int, width: int, max_patches: int, seed: int
) -> None:
    pixels = noise(height, width, seed)
    assert_as_released(extract_patches(pixels, max_patches=max_patches), pixels, max_patches)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_pages_are_as_released(name: str) -> None:
    if not (DATA / name).is_file():
        pytest.skip(f"needs {name} of the shared data")
    pixels = next(open_pages(DATA / name)).pixels
    assert_as_released(extract_patches(pixels, max_patches=4096), pixels, 4096)


@pytest.fixture
def fewer_bits() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("what", ["of an odd size", "in black and white", "one pixel wide"])
def test_patches_are_as_exact_where_torch_may_multiply_with_fewer_bits(
    what: str, fewer_bits: None
) -> None:
    pixels = PAGES[what]
    assert_as_released(extract_patches(pixels, max_patches=4096), pixels, 4096)


def test_a_blank_page_without_rounding_is_zeros() -> None:
    patches = extract_patches(uniform(1754, 1240, 255), max_patches=4096)
    assert not patches.pixels.any()
    assert patches.pixels.shape == (76 * 53, 768)


def test_places_are_whole_numbers_from_1_and_padding_is_counted() -> None:
    patches = extract_patches(noise(60, 4096 * 2), max_patches=4096)
    columns, rows = patches.size[0] // 16, patches.size[1] // 16
    assert columns > 256, "numbers that bf16 does not know"
    assert patches.rows.tolist() == [row for row in range(1, rows + 1) for _ in range(columns)]
    assert patches.columns.tolist() == [*range(1, columns + 1)] * rows
    assert (patches.rows.dtype, patches.columns.dtype) == (torch.int64, torch.int64)
    assert patches.padding == 4096 - rows * columns
    assert not patches.flattened()[rows * columns :].any()


def test_pixels_are_left_as_they_are_and_may_be_read_only_or_a_view() -> None:
    page = noise(90, 80)
    view = page[::-1, 10:70]
    view.flags.writeable = False
    kept = page.copy()
    patches = extract_patches(view, max_patches=64)
    assert_as_released(patches, np.ascontiguousarray(view), 64)
    assert (page == kept).all()


@pytest.mark.parametrize(
    ("pixels", "max_patches"),
    [
        (np.zeros((4, 4), np.uint8), 16),
        (np.zeros((4, 4, 4), np.uint8), 16),
        (np.zeros((4, 4, 3), np.float32), 16),
        (np.zeros((0, 4, 3), np.uint8), 16),
        (np.zeros((4, 4, 3), np.uint8), 0),
    ],
)
def test_what_makes_no_patch_is_refused(pixels: NDArray[Any], max_patches: int) -> None:
    with pytest.raises(UsageError):
        extract_patches(pixels, max_patches=max_patches)
