"""Whether there is anything to read on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray


def is_blank(image: Image.Image) -> bool:
    """Whether there is nothing to read on `image`: no stroke as long as a small letter is high.

    The picture is scaled to about 600 pixels on its longer side (half a millimetre each on A4),
    which takes the noise of a scan away, and compared with its own surroundings, which takes
    shading away. Ink is what then differs by more than 16 of 255: faint bleed-through does not. A
    stroke is four such pixels in a row, which specks are too short for. In doubt the page is not
    blank, since the model can still find it empty.
    """
    inked = np.pad(ink(image), 4)
    return not (_has_stroke(inked) or _has_stroke(inked.T))


def ink(image: Image.Image) -> NDArray[np.bool_]:
    """Where `image` is inked, scaled to about 600 pixels on its longer side, as `is_blank` says."""
    grey = image.convert("L")
    grey = grey.reduce(max(1, round(max(grey.size) / 600)))
    near = np.asarray(grey, np.int16)
    around = np.asarray(grey.filter(ImageFilter.BoxBlur(12)), np.int16)
    inked: NDArray[np.bool_] = np.abs(near - around) > 16
    return inked


def _has_stroke(inked: NDArray[np.bool_]) -> bool:
    """Whether four pixels in a row are inked, each in this row or a neighbouring one."""
    thick = inked[:-2] | inked[1:-1] | inked[2:]
    return bool((thick[:, :-3] & thick[:, 1:-2] & thick[:, 2:-1] & thick[:, 3:]).any())
