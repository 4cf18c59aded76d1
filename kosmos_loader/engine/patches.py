"""Pixels to patches: what the released image processor computes, at a fraction of its time.

The processor normalises the whole page by its mean and deviation, resizes it, and cuts it into
patches (`Kosmos2_5ImageProcessorPil` of transformers; Pix2Struct, arXiv 2210.03347, section 3.1,
for the number of rows and columns). Resizing is linear and the weights of a pixel add up to 1, so
the order can be turned round: resize the raw values, then normalise what is left of them.

On the CPU, resizing is two products with narrow bands of weights, of which the second gives patches
as they are wanted. Elsewhere it is torch's own `interpolate`. The results differ by rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from kosmos_loader.errors import UsageError, require

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

CHANNELS = 3

NEARLY_UNIFORM = 2.0
"""Deviation (of 0..255) below which a page is normalised before it is resized, and by mean and
deviation as the processor rounds them. The processor sums in float32: on white paper of 2550 x 3300
pixels its mean is 255.00002, and divided by next to no deviation even that shows."""

EXACT_ROWS = 64
"""Rows whose squares can be added up in float32 without rounding: 64 * 255 ** 2 < 2 ** 24."""

BANDS_TOGETHER = 16
"""Bands of patches that are resized downwards before they are resized across: as many as the cache
holds."""


@dataclass(frozen=True, eq=False)
class Patches:
    """The patches of a page, row after row, without the padding that follows them."""

    pixels: Tensor
    """[n, patch_size * patch_size * 3] float32, normalised; down, across, channel."""

    rows: Tensor
    """[n] int64, the row of each patch, from 1."""

    columns: Tensor
    """[n] int64, the column of each patch, from 1."""

    padding: int
    """Rows of zeros that the released processor adds to make `max_patches`."""

    size: tuple[int, int]
    """Width and height of the resized page in pixels, which the model counts boxes in."""

    def flattened(self) -> Tensor:
        """[n + padding, 2 + patch_size * patch_size * 3] float32, as the processor gives it."""
        torch = require("torch", extra="kosmos")
        numbers = torch.stack([self.rows, self.columns], dim=1).to(self.pixels.dtype)
        flat = torch.cat([numbers, self.pixels], dim=1)
        padded: Tensor = torch.nn.functional.pad(flat, (0, 0, 0, self.padding))
        return padded


def extract_patches(
    pixels: NDArray[np.uint8],
    *,
    max_patches: int,
    patch_size: int = 16,
    device: torch.device | str = "cpu",
) -> Patches:
    """The patches of a page of [height, width, 3] pixels, made on `device` and left there.

    At most `max_patches`, each `patch_size` pixels high and wide; the aspect of the page is kept as
    nearly as whole patches allow, and small pages are enlarged. Raises `UsageError` for pixels of
    another shape or type and for `max_patches` below 1.
    """
    torch = require("torch", extra="kosmos")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != CHANNELS:
        raise UsageError(f"pixels are {pixels.dtype} {pixels.shape}; give uint8 (height, width, 3)")
    if not pixels.size or max_patches < 1:
        raise UsageError("a page without a pixel or max_patches below 1 makes no patch")
    pixels = np.require(pixels, requirements=["C", "W"])
    height, width, _ = pixels.shape
    rows, columns = patch_grid(height, width, max_patches=max_patches, patch_size=patch_size)

    values = torch.from_numpy(pixels).to(device)
    mean, deviation = _mean_and_deviation(values)
    if deviation < NEARLY_UNIFORM:
        values = torch.from_numpy(_normalised_as_released(pixels)).to(device)
        patches = _resized(values, rows, columns, patch_size)
    else:
        patches = _resized(values, rows, columns, patch_size).sub_(mean).div_(deviation)
    numbers = torch.arange(rows * columns, device=patches.device)
    return Patches(
        patches,
        rows=numbers // columns + 1,
        columns=numbers % columns + 1,
        padding=max_patches - rows * columns,
        size=(columns * patch_size, rows * patch_size),
    )


def patch_grid(height: int, width: int, *, max_patches: int, patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches of a page: as many as fit, in its aspect as nearly as may be."""
    scale = math.sqrt(max_patches * (patch_size / height) * (patch_size / width))
    rows = max(min(math.floor(scale * height / patch_size), max_patches), 1)
    columns = max(min(math.floor(scale * width / patch_size), max_patches), 1)
    return rows, columns


def _normalised_as_released(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The processor's own steps, rounding for rounding."""
    image = pixels.astype(np.float32)
    deviation = max(np.std(image), 1.0 / math.sqrt(image.size))
    normalised: NDArray[np.float32] = (image - np.mean(image)) / deviation
    return normalised


def _mean_and_deviation(values: Tensor) -> tuple[float, float]:
    """Mean and (biased) standard deviation of [height, width, 3] uint8, from sums without error."""
    total, squares = _sums(values)
    count = values.numel()
    return total / count, math.sqrt(count * squares - total * total) / count


def _sums(values: Tensor) -> tuple[int, int]:
    """The sum of all values and that of their squares."""
    torch = require("torch", extra="kosmos")
    if values.device.type != "cpu":
        squares = values.int().square_().sum(dtype=torch.int64)
        return int(values.sum(dtype=torch.int64)), int(squares)
    # twelve times as fast as sums of integers, which are not vectorised
    total = square = 0
    for part in torch.split(values.flatten(1), EXACT_ROWS):
        numbers = part.float()
        total += int(numbers.sum(dim=0).sum(dtype=torch.float64))
        square += int(numbers.square_().sum(dim=0).sum(dtype=torch.float64))
    return total, square


def _resized(values: Tensor, rows: int, columns: int, patch: int) -> Tensor:
    """[rows * columns, patch * patch * 3] float32 of [height, width, 3] uint8 or float32."""
    torch = require("torch", extra="kosmos")
    # a user may let torch multiply with fewer bits, and on some CPUs it then does
    exact = torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")
    if values.device.type == "cpu" and exact:
        return _resized_by_products(values, rows, columns, patch)
    return _resized_by_interpolation(values, rows, columns, patch)


def _resized_by_interpolation(values: Tensor, rows: int, columns: int, patch: int) -> Tensor:
    interpolate = require("torch.nn.functional", extra="kosmos").interpolate
    resized = interpolate(
        values.permute(2, 0, 1)[None].float(),
        size=(rows * patch, columns * patch),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    # [1, 3, rows * patch, columns * patch] to [rows, columns, patch, patch, 3]
    grid = resized.view(CHANNELS, rows, patch, columns, patch).permute(1, 3, 2, 4, 0)
    patches: Tensor = grid.reshape(rows * columns, -1)
    return patches


def _resized_by_products(values: Tensor, rows: int, columns: int, patch: int) -> Tensor:
    torch = require("torch", extra="kosmos")
    height, width, _ = values.shape
    lines = values.flatten(1)
    tops, down = _weights(height, rows, patch)
    lefts, across = _weights(width, columns, patch)
    across = _for_each_channel(across)
    reach, span = down.shape[2], across.shape[1]

    patches: Tensor = torch.empty(rows, columns, patch, patch * CHANNELS)
    window = torch.empty(reach, lines.shape[1])
    low = torch.empty(BANDS_TOGETHER, patch, lines.shape[1])
    for first in range(0, rows, BANDS_TOGETHER):
        group = range(first, min(first + BANDS_TOGETHER, rows))
        for place, row in enumerate(group):
            window.copy_(lines[tops[row] : tops[row] + reach])
            torch.mm(down[row], window, out=low[place])
        bands = low[: len(group)].flatten(0, 1)
        for column, left in enumerate(lefts):
            start = left * CHANNELS
            block = bands[:, start : start + span] @ across[column]
            patches[first : first + len(group), column] = block.unflatten(0, (-1, patch))
    return patches.view(rows * columns, -1)


@lru_cache(maxsize=64)
def _weights(pixels: int, patches: int, patch: int) -> tuple[list[int], Tensor]:
    """How `pixels` in a line become `patches` patches of `patch` pixels each.

    Of each patch, the pixel from which on it is made, and its weights: [patches, patch, reach].
    They are read off `interpolate` itself, which is asked to resize combs: in the first, pixel 0
    and every `reach`-th after it is 1, in the second, pixel 1 and so on. A new pixel is made of
    fewer old ones than lie between the teeth, so that each tooth answers for one of them.
    """
    torch = require("torch", extra="kosmos")
    size = patches * patch
    ratio = pixels / size
    support = max(ratio, 1.0)
    teeth = min(pixels, math.ceil(2 * support) + 3)
    combs = torch.eye(teeth).repeat(1, math.ceil(pixels / teeth))[:, :pixels]
    answers = torch.nn.functional.interpolate(
        combs[None, :, None, :],
        size=(1, size),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )[0, :, 0, :]  # [teeth, size]

    # one pixel of slack on either side for torch's rounding of the centres
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * ratio
    starts = (centres - support - 1).floor().long().clamp(0, pixels - teeth)
    firsts = starts.view(patches, patch)
    reach = int((firsts[:, -1] - firsts[:, 0]).max()) + teeth
    tops = firsts[:, 0].clamp(max=pixels - reach)
    taken = starts[:, None] + torch.arange(teeth)  # [size, teeth]
    weights = torch.zeros(size, reach)
    weights.scatter_(
        1,
        taken - tops.repeat_interleave(patch)[:, None],
        answers.T.gather(1, taken % teeth),
    )
    return tops.tolist(), weights.view(patches, patch, reach)


def _for_each_channel(weights: Tensor) -> Tensor:
    """[patches, reach * 3, patch * 3]: the same weights for pixels of three channels."""
    patches, patch, reach = weights.shape
    expanded = weights.new_zeros(patches, reach, CHANNELS, patch, CHANNELS)
    for channel in range(CHANNELS):
        expanded[:, :, channel, :, channel] = weights.transpose(1, 2)
    return expanded.view(patches, reach * CHANNELS, patch * CHANNELS)
