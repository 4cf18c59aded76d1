"""Pages of a TIFF file copied out of it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kosmos_loader.tiff_page import copied, directories

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


def found_by_pillow(data: bytes) -> list[int]:
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
    for number, directory in enumerate(found_by_pillow(data)):
        alone = copied(io.BytesIO(data), directory)
        assert alone is not None
        with Image.open(io.BytesIO(data)) as whole, Image.open(alone) as one:
            whole.seek(number)
            assert (one.n_frames, one.size, one.mode) == (1, whole.size, whole.mode)
            assert one.info.get("dpi") == whole.info.get("dpi")
            assert np.array_equal(np.asarray(one), np.asarray(whole))


def test_a_copied_page_takes_its_share_of_the_file() -> None:
    data = tiff("RGB", compression="tiff_lzw")
    for directory in found_by_pillow(data):
        alone = copied(io.BytesIO(data), directory)
        assert alone is not None
        assert len(alone.getvalue()) < 1.1 * len(data) / 5


def test_a_directory_that_claims_what_the_file_does_not_hold_is_not_followed() -> None:
    data = bytearray(tiff("RGB", compression="tiff_lzw"))
    directory = found_by_pillow(bytes(data))[1]
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


@pytest.mark.parametrize("place", [2**62, 2**63, 2**64 - 1])
def test_a_value_farther_off_than_any_file_is_long_is_not_looked_for(
    tmp_path: Path, place: int
) -> None:
    path = tmp_path / "far.tif"
    header = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16)
    described = struct.pack("<QHHQQQ", 1, 270, 2, 100, place, 0)
    path.write_bytes(header + described + bytes(200))
    with path.open("rb") as file:
        assert copied(file, 16) is None


@pytest.mark.parametrize("big", [False, True])
def test_directories_are_those_of_all_pages(big: bool) -> None:
    data = tiff("RGB", compression="tiff_lzw", big_tiff=big)
    assert directories(io.BytesIO(data)) == found_by_pillow(data)


def test_directories_in_a_circle_and_outside_the_file_come_to_an_end() -> None:
    one = struct.pack("<HHHII", 1, 256, 4, 1, 40)
    circle = b"II*\0" + struct.pack("<I", 8) + one + struct.pack("<I", 26) + one
    circle += struct.pack("<I", 8)
    assert directories(io.BytesIO(circle)) == [8, 26]
    assert directories(io.BytesIO(circle[:-4] + struct.pack("<I", 2**31))) == [8, 26, 2**31]
    assert directories(io.BytesIO(circle[:30])) == [8, 26]
    assert directories(io.BytesIO(b"no TIFF")) == []
