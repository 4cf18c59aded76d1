"""Streams and dictionaries of PDF, the pictures of pages among them, as pypdf has them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pypdf
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin
from pypdf.generic import (
    ArrayObject,
    BooleanObject,
    DecodedStreamObject,
    DictionaryObject,
    NameObject,
    NumberObject,
)

_COLOURS = {"L": "/DeviceGray", "RGB": "/DeviceRGB", "CMYK": "/DeviceCMYK"}

_ROWS_PER_STRIP = 278
"""TIFF tag."""

_PACKING = 3
"""Level of zlib: a page of 25 megabytes in half a second, 5 % larger than by the default 6."""


def added(writer: pypdf.PdfWriter, thing: Any) -> Any:
    """`thing` in the file of `writer`, as a reference."""
    return writer._add_object(thing)  # noqa: SLF001  the only way that pypdf has


def dictionary(**entries: Any) -> DictionaryObject:
    """A dictionary; numbers are put into pypdf's types, text names are given with their slash."""
    return DictionaryObject({NameObject(f"/{k}"): _typed(v) for k, v in entries.items()})


def stream(data: bytes, *, packed: bool = False, **entries: Any) -> Any:
    """A stream of `data` as it is or, `packed`, deflated; `entries` are those of its dictionary."""
    content = DecodedStreamObject()
    content.set_data(data)
    done = content.flate_encode() if packed else content
    done.update(dictionary(**entries))
    return done


def _typed(value: Any) -> Any:
    if isinstance(value, bool):
        return BooleanObject(value)
    if isinstance(value, int):
        return NumberObject(value)
    if isinstance(value, str) and value.startswith("/"):
        return NameObject(value)
    if isinstance(value, list):
        return ArrayObject(map(_typed, value))
    return value


def jpeg_picture(content: bytes) -> tuple[Any, int] | None:
    """A JPEG file as it is, and its EXIF orientation; None for one that PDF cannot show so."""
    with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
        if image.mode not in _COLOURS:
            return None
        width, height = image.size
        colour = _COLOURS[image.mode]
        # Adobe's software stores the inks inverted (its Technical Note 5116)
        is_inverted = image.mode == "CMYK" and "adobe" in image.info
        orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    entries = {"Decode": [1, 0] * 4} if is_inverted else {}
    return _picture(
        content, (width, height), colour, 8, Filter="/DCTDecode", **entries
    ), orientation


def packed_picture(pixels: NDArray[np.uint8]) -> Any:
    """`pixels` ([height, width, 3]) without loss: black and white, grey or colour as they are."""
    height, width = pixels.shape[:2]
    grey = pixels[..., 0]
    if not ((grey == pixels[..., 1]).all() and (grey == pixels[..., 2]).all()):
        return _predicted(Image.fromarray(pixels), 3)
    if ((grey == 0) | (grey == 255)).all():
        parameters = dictionary(K=-1, Columns=width, Rows=height)
        data = _group_4(Image.fromarray(grey == 0))
        entries = {"Filter": "/CCITTFaxDecode", "DecodeParms": parameters}
        return _picture(data, (width, height), "/DeviceGray", 1, **entries)
    return _predicted(Image.fromarray(grey), 1)


def _picture(data: bytes, size: tuple[int, int], colour: str, bits: int, **entries: Any) -> Any:
    return stream(
        data,
        Type="/XObject",
        Subtype="/Image",
        Width=size[0],
        Height=size[1],
        ColorSpace=colour,
        BitsPerComponent=bits,
        **entries,
    )


def _predicted(image: Image.Image, channels: int) -> Any:
    """As PNG packs it: the data of a PNG file are what PDF calls FlateDecode with predictor 15."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=_PACKING)
    parameters = dictionary(Predictor=15, Colors=channels, BitsPerComponent=8, Columns=image.width)
    return _picture(
        _png_data(file.getvalue()),
        image.size,
        _COLOURS[image.mode],
        8,
        Filter="/FlateDecode",
        DecodeParms=parameters,
    )


def _png_data(png: bytes) -> bytes:
    """The IDAT chunks of a PNG file (PNG 1.2, 5.3)."""
    data, at = [], 8
    while at < len(png):
        length, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        if kind == b"IDAT":
            data.append(png[at + 8 : at + 8 + length])
        at += 12 + length
    return b"".join(data)


def _group_4(image: Image.Image) -> bytes:
    """A picture of two colours, 1 for black, as CCITT group 4, which libtiff writes."""
    file = io.BytesIO()
    rows = {_ROWS_PER_STRIP: image.height}
    image.save(file, "TIFF", compression="group4", tiffinfo=rows)
    with Image.open(file) as written:
        assert isinstance(written, TiffImagePlugin.TiffImageFile)  # noqa: S101  for types only
        offsets = written.tag_v2[TiffImagePlugin.STRIPOFFSETS]
        lengths = written.tag_v2[TiffImagePlugin.STRIPBYTECOUNTS]
    content = file.getvalue()
    return b"".join(content[o : o + n] for o, n in zip(offsets, lengths, strict=True))


def file_bytes(source: str) -> bytes:
    """The first bytes of the file at `source`; none where there is no such file."""
    path = Path(source)
    try:
        with path.open("rb") as file:
            return file.read(1029)
    except (OSError, ValueError):
        return b""
