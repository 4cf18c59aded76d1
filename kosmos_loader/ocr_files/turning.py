"""How the picture that was given to OCR lay, where that is not how a person sees it."""

from __future__ import annotations

import math
import os
from pathlib import Path

from kosmos_loader.document import PageInfo
from kosmos_loader.errors import KosmosLoaderError
from kosmos_loader.geometry import SIDEWAYS
from kosmos_loader.ocr_files.model import OURS, FoundPage, measured_size
from kosmos_loader.pages import Document, Wanted
from kosmos_loader.sources import File


def orientation_for(found: FoundPage, page: PageInfo) -> int:
    """How the picture that `found` was read from has to be turned to be `page` as a person sees it.

    Some programs read a picture as it is stored, others as EXIF or /Rotate say that it is to be
    seen. The file does not say which; the size of its page does where the two differ in shape, and
    so do lines that run from right to left. Otherwise it is taken to be the page as seen.
    """
    if OURS in found.software:
        return 1
    width, height = measured_size(found, page)
    seen = _shape(page.width, page.height)
    is_across = abs(_shape(width, height) - seen) > abs(_shape(height, width) - seen)
    is_upside_down = _mostly_upside_down(found)
    if not (is_across or is_upside_down):
        return 1
    orientation = _stored(page)
    if is_across:
        return orientation if orientation in SIDEWAYS else 1
    return orientation if orientation == 3 else 1  # half a turn


def _shape(width: float, height: float) -> float:
    return math.log(width / height)


def _mostly_upside_down(found: FoundPage) -> bool:
    turned = [line for line in found.lines if line.angle is not None and abs(line.angle) > 135]
    return 2 * len(turned) > len(found.lines)


def _stored(page: PageInfo) -> int:
    """How the page lies in its file, in the numbers of EXIF; 1 where that cannot be told."""
    if not os.path.isabs(page.source):  # noqa: PTH117  streams have names that are no paths
        return 1
    wanted = Wanted.of(page.number, password=None, max_pixels=1)
    try:
        document = Document(File(page.source, Path(page.source)), wanted)
    except KosmosLoaderError:
        return 1
    try:
        return document.orientation(page.number)
    except KosmosLoaderError:
        return 1
    finally:
        document.close()
