"""Picture files as upright RGB pixels: the one door to Pillow.

`PicturePages` opens a PNG, JPEG, WebP, GIF, BMP, JPEG 2000 or TIFF file and decodes one page at a
time. Only TIFF has pages; of an animation the first frame is taken.

What becomes of the pixels, in this order: decoded, turned upright, flattened to 8-bit grey, RGB or
RGBA, resized once (square pixels, at most `max_pixels`), laid on white.

A picture that ends early is refused as corrupt and not read as far as it goes: half a page that is
indexed as a whole one is worse than a failure with a name.
"""

from __future__ import annotations

import io
import itertools
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from kosmos_loader.document import Line
from kosmos_loader.errors import CorruptFile, FileTooLarge, SourceError
from kosmos_loader.geometry import SIDEWAYS
from kosmos_loader.tiff_page import copied, directories

# Pillow logs what it skips in damaged files; in an application that has not set up logging that
# would end on stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

LONGEST_SIDE = 32_767
"""Pixels along a side that OpenCV's geometric transforms take (SHRT_MAX); readers use them."""

ASSUMED_LONG_SIDE = 11.7
"""Inches, the long side of A4: assumed where a picture does not tell its resolution."""

LARGEST_PAPER = 47.0
"""Inches, the long side of A0. A resolution that makes the paper larger is a default that software
wrote unasked, like the 72 dpi of most photographs."""

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to make a picture upright, by its orientation tag (TIFF 6.0, section 8; EXIF 2.3, 4.6.4)."""

_NEW_SUBFILE_TYPE = 254
"""TIFF tag; bit 0 means a reduced copy of another image in the file."""

_PHOTOMETRIC = 262
"""TIFF tag; 0 means that 0 is white."""


class Picture(NamedTuple):
    """One page as its file shows it."""

    pixels: NDArray[np.uint8]
    """[height, width, 3], RGB, upright, on white."""

    dpi: float
    """Pixels per inch of paper."""

    text_layer: tuple[Line, ...] = ()
    label: str | None = None


def fitted(width: float, height: float, max_pixels: int) -> tuple[int, int]:
    """`width` x `height` in whole pixels, scaled down to at most `max_pixels` in all.

    No side comes out longer than `LONGEST_SIDE` or shorter than 1.
    """
    scale = min(1.0, math.sqrt(max_pixels / (width * height)), LONGEST_SIDE / max(width, height))
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    if across * down <= max_pixels:
        return across, down
    # rounding both sides up can pass the limit
    return (max_pixels // down, down) if across > down else (across, max_pixels // across)


class PicturePages:
    """The pages of a picture file, decoded one at a time; a context manager.

    `form` is Pillow's name of the format ("TIFF", "PNG", ...), `name` is for messages. Raises
    `CorruptFile` where the header cannot be read, and `FileTooLarge` where it declares more pixels
    than Pillow's guard against decompression bombs lets pass: `2 * PIL.Image.MAX_IMAGE_PIXELS`, 179
    megapixels unless the application has set it otherwise. Nothing here changes it.
    """

    info: Mapping[str, str] = {}

    def __init__(self, content: Path | bytes, *, name: str, form: str, max_pixels: int) -> None:
        self._name = name
        self._max_pixels = max_pixels
        with _decoding(name):
            self._file = content.open("rb") if isinstance(content, Path) else io.BytesIO(content)
            try:
                self._image = Image.open(self._file, formats=[form])
                self._frames, self._behind = _frames(self._image, self._file)
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._image.close()
        self._file.close()

    @property
    def count(self) -> int:
        """Pages in the file."""
        return len(self._frames) + len(self._behind)

    def orientation(self, number: int) -> int:
        """How page `number` lies in the file: 1 for upright, else as EXIF says it (2.3, 4.6.4).

        Raises `CorruptFile`.
        """
        with _decoding(self._name), self._page(number) as image:
            return _orientation(image)

    def picture(self, number: int) -> Picture:
        """Page `number`, from 1. Raises `CorruptFile` or `FileTooLarge`."""
        what = f"page {number} of {self._name}" if self.count > 1 else self._name
        with _decoding(what), self._page(number) as image:
            return _upright(image, self._max_pixels)

    @contextmanager
    def _page(self, number: int) -> Iterator[Image.Image]:
        """Page `number`, from 1, to be decoded."""
        if number > len(self._frames):
            with _alone(self._file, self._behind[number - 1 - len(self._frames)]) as page:
                yield page
            return
        image = self._image
        _turn_to(image, self._frames[number - 1])
        one = None
        if isinstance(image, TiffImagePlugin.TiffImageFile) and self.count > 1:
            # libtiff would go through all pages to find this one
            one = copied(self._file, image.tag_v2.offset) if image.use_load_libtiff else None
        if one is None:
            yield image
            return
        with Image.open(one, formats=["TIFF"]) as page:
            yield page


@contextmanager
def _decoding(what: str) -> Iterator[None]:
    """Turns what Pillow raises into errors of this package, and hushes its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except SourceError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        raise FileTooLarge(
            f"{what} has too many pixels to decode ({error}); scale it down, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS for a file that you trust"
        ) from error
    except UnidentifiedImageError as error:  # its text shows Python's file object
        raise CorruptFile(
            f"{what} has a damaged header; copy or scan it again, or convert it to PNG"
        ) from error
    except Exception as error:  # a damaged file makes Pillow raise nearly every type there is
        raise CorruptFile(
            f"{what} cannot be decoded ({error}); copy or scan it again, or convert it to PNG"
        ) from error


def _frames(image: Image.Image, file: BinaryIO) -> tuple[list[int], list[int]]:
    """Pillow's numbers of the frames that are pages, and the directories of pages behind them.

    A frame whose header is damaged stays in the list, so that it fails in its place. Where Pillow
    loses the chain (it reads no further than a tag whose value lies outside the file, nor than two
    damaged frames in a row) the directories tell which pages there are. Smaller copies of another
    page (the levels of a pyramid TIFF) are no pages.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return [0], []
    frames = [0]
    largest = image.width * image.height
    damaged = False
    for index in itertools.count(1):  # Pillow ends it, also where the chain runs in a circle
        try:
            _turn_to(image, index)
        except EOFError:
            break
        except Exception:  # noqa: BLE001  as in _decoding
            if damaged:
                break
            damaged = True
            frames.append(index)
            continue
        damaged = False
        if not _is_reduced(image, largest):
            frames.append(index)
    lost = directories(file)[index:]
    return frames, [place for place in lost if not _is_reduced_alone(file, place, largest)]


def _is_reduced(image: TiffImagePlugin.TiffImageFile, largest: int) -> bool:
    """Whether it is a smaller copy of a page of `largest` pixels."""
    reduced = image.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & 1
    return bool(reduced and image.width * image.height < largest)


def _is_reduced_alone(file: BinaryIO, directory: int, largest: int) -> bool:
    try:
        with _alone(file, directory) as image:
            return _is_reduced(image, largest)
    except Exception:  # noqa: BLE001  it fails in its place, as in _frames
        return False


@contextmanager
def _alone(file: BinaryIO, directory: int) -> Iterator[TiffImagePlugin.TiffImageFile]:
    """The page of a TIFF whose directory lies there; `ValueError` where it is damaged."""
    one = copied(file, directory)
    if one is None:
        raise ValueError("its directory is damaged")
    with TiffImagePlugin.TiffImageFile(one) as page:
        yield page


def _turn_to(image: Image.Image, frame: int) -> None:
    """Make `frame` the one that is decoded next."""
    before = image.info
    if image.tell() != frame:  # Pillow would leave it to a frame that has no unit of its own
        image.info = {name: value for name, value in before.items() if name != "dpi"}
    try:
        image.seek(frame)
    except EOFError:
        image.info = before
        raise
    except Exception:
        # Pillow takes a frame whose header is damaged for the one at hand: asked for it once more,
        # it would show the picture of the frame before.
        image.seek(0)
        raise


def _upright(image: Image.Image, max_pixels: int) -> Picture:
    orientation = _orientation(image)
    pillow_turns_it = isinstance(image, TiffImagePlugin.TiffImageFile)
    sideways = orientation in SIDEWAYS
    width, height = image.size[::-1] if sideways and not pillow_turns_it else image.size
    across, down = _declared_dpi(image, sideways=sideways) or _assumed_dpi(width, height)
    dpi = max(across, down)
    square = width * dpi / across, height * dpi / down
    size = fitted(*square, max_pixels)

    if size[0] < width:
        # a JPEG decodes straight to a half, quarter or eighth, never below the size asked for;
        # other formats take no notice
        image.draft(image.mode, size[::-1] if sideways else size)
    image.load()
    if orientation in _TRANSPOSE and not pillow_turns_it:
        image = image.transpose(_TRANSPOSE[orientation])
    image = _flat(image)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return Picture(_pixels(image), dpi * size[0] / square[0])


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """[height, width, 3]: RGB on white."""
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):  # what a strip takes on its way stays in the cache
        strip = image.crop((0, top, width, min(height, top + _STRIP)))
        pixels[top : top + _STRIP] = np.asarray(_on_white(strip))
    return pixels


_STRIP = 64
"""Rows that are converted at a time: a fifth of the time of a whole page."""


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001  broken EXIF must not lose a picture
        return 1


def _declared_dpi(image: Image.Image, *, sideways: bool) -> tuple[float, float] | None:
    """Resolution across and down the upright picture, None where none or an absurd one is given."""
    try:
        across, down = (float(axis) for axis in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if sideways:
        across, down = down, across
    sane = min(across, down) >= 30 and max(across, down) <= 2400
    if not sane or max(image.size) / max(across, down) > LARGEST_PAPER:
        return None
    # fine fax is 204 x 196: letters are as legible as they are, and pixels stay untouched
    if max(across, down) < 1.05 * min(across, down):
        return across, across
    return across, down


def _assumed_dpi(width: int, height: int) -> tuple[float, float]:
    dpi = min(600.0, max(72.0, max(width, height) / ASSUMED_LONG_SIDE))
    return dpi, dpi


def _flat(image: Image.Image) -> Image.Image:
    """The picture in 8 bits a channel: L, RGB or RGBA."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bit(image))
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        return transform.apply(image)
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _eight_bit(image: Image.Image) -> NDArray[np.uint8]:
    """Grey of 12, 16 or 32 bits or floating point, spread over 0..255."""
    samples = np.asarray(image)
    finite = samples[np.isfinite(samples)] if samples.dtype.kind == "f" else samples
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= 0:
        low, high = 0.0, _full_scale(image, high)
    eight = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), 256):  # in bands, since floats take four times the room
        band = np.nan_to_num(samples[top : top + 256].astype(np.float32), posinf=high, neginf=low)
        grey = (band - low) * (255 / max(high - low, 1e-9))
        eight[top : top + 256] = grey.round().clip(0, 255)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0:
        return 255 - eight  # Pillow undoes this for 8 bits only
    return eight


def _full_scale(image: Image.Image, brightest: float) -> float:
    """The value that means white in samples from 0 to `brightest`."""
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode.startswith("I;16"):
        return float(2 ** image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0] - 1)
    if image.mode.startswith("I;16"):
        return 65_535.0
    return next((full for full in (1.0, 255.0, 65_535.0) if brightest <= full), brightest)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white
