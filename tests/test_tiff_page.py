"""Pages of a TIFF file copied out of it."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from kosmos_loader.tiff_page import copied

SHAPE = (90, 70)


def page(number: int, mode: str) -> Image.Image:
    """A page of noise, so that no compression makes it small."""
    noise = np.random.default_rng(number).integers(0, 256, (*SHAPE, 3), np.uint8)
    return Image.fromarray(noise).convert("I" if mode == "I;16B" else mode).convert(mode)


def tiff(mode: str, **options: object) -> bytes:
    stream = io.BytesIO()
    first, *others = [page(number, mode) for number in range(5)]
    first.save(stream, "TIFF", save_all=True, append_images=others, **options)
    return stream.getvalue()


def directories(data: bytes) -> list[int]:
    places = []
    with Image.open(io.BytesIO(data)) as image:
        for number in range(5):
            image.seek(number)
            places.append(image.tag_v2.offset)
    return places


FORMS = [
    ("RGB", {"compression": "tiff_lzw"}),
    ("RGB", {"compression": "jpeg"}),
    ("RGB", {"compression": "tiff_adobe_deflate", "big_tiff": True}),
    ("RGB", {"compression": "tiff_lzw", "tiffinfo": {278: 7}}),
    ("L", {"compression": "packbits", "dpi": (300, 150), "tiffinfo": {274: 6}}),
    ("1", {"compression": "group4"}),
    ("P", {"compression": "tiff_lzw"}),
    ("I;16B", {}),
]


@pytest.mark.parametrize(("mode", "options"), FORMS)
def test_a_copied_page_shows_what_the_file_shows(mode: str, options: dict[str, object]) -> None:
    data = tiff(mode, **options)
    assert data[:2] == (b"MM" if mode == "I;16B" else b"II")
    for number, directory in enumerate(directories(data)):
        alone = copied(io.BytesIO(data), directory)
        assert alone is not None
        with Image.open(io.BytesIO(data)) as whole, Image.open(alone) as one:
            whole.seek(number)
            assert (one.n_frames, one.size, one.mode) == (1, whole.size, whole.mode)
            assert one.info.get("dpi") == whole.info.get("dpi")
            assert np.array_equal(np.asarray(one), np.asarray(whole))


def test_a_copied_page_takes_its_share_of_the_file() -> None:
    data = tiff("RGB", compression="tiff_lzw")
    for directory in directories(data):
        alone = copied(io.BytesIO(data), directory)
        assert alone is not None
        assert len(alone.getvalue()) < 1.1 * len(data) / 5


def test_a_directory_that_claims_what_the_file_does_not_hold_is_not_followed() -> None:
    data = bytearray(tiff("RGB", compression="tiff_lzw"))
    directory = directories(bytes(data))[1]
    many = struct.unpack_from("<H", data, directory)[0]
    for entry in range(directory + 2, directory + 2 + 12 * many, 12):
        if struct.unpack_from("<H", data, entry)[0] == 279:  # how long the strips are
            break
    for length in (0, 2**31):
        struct.pack_into("<HII", data, entry + 2, 4, 1, length)
        assert copied(io.BytesIO(data), directory) is None
    struct.pack_into("<HII", data, entry + 2, 4, 2**31, 8)  # two thousand million strips
    assert copied(io.BytesIO(data), directory) is None
    assert copied(io.BytesIO(data), len(data) - 1) is None
