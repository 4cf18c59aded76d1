"""What happens to a page between the press and the archive: ink, paper, light and the scanner.

Each step takes a `Scan` and gives a new one, so that the life of a page reads as a chain::

    Scan.of(sheet, seed="letter").worn(0.3).on_paper(236).skewed(1.5).speckled(150).blurred(0.6)

The lines travel along: a step that moves pixels moves the corners of the lines by the same matrix.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace

import numpy as np
from archive_sheet import INCH, Line, Point, Sheet
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

Matrix = tuple[float, float, float, float, float, float]
"""a, b, c, d, e, f: a point goes to (a*x + b*y + c, d*x + e*y + f)."""

Pixels = NDArray[np.float64]


@dataclass(frozen=True)
class Scan:
    """A page on its way through the world, with the lines that stand on it."""

    image: Image.Image
    lines: tuple[Line, ...]
    chance: np.random.Generator
    markdown: str
    kind: str
    dpi: tuple[float, float]
    angle: float = 0.0
    """Degrees by which the text is turned clockwise on the page."""

    @classmethod
    def of(cls, sheet: Sheet, *, seed: str) -> Scan:
        """The clean sheet; the same seed brings the same dirt."""
        chance = np.random.default_rng(zlib.crc32(seed.encode()))
        dpi = (sheet.dpi, sheet.dpi)
        return cls(sheet.image, tuple(sheet.lines), chance, sheet.markdown, sheet.kind, dpi)

    # ink and paper

    def worn(self, amount: float, *, cell: int = 14) -> Scan:
        """Ink that lies unevenly, in patches of about `cell` pixels: a ribbon, a tired press."""
        ink = 255 - self._pixels()
        return self._with(255 - ink * (1 - amount * self._cloud(cell)))

    def faded(self, ink: int) -> Scan:
        """Ink that is no darker than grey level `ink`."""
        return self._with(ink + self._pixels() * (255 - ink) / 255)

    def on_paper(self, shade: int, *, mottle: float = 5.0, grain: float = 2.0) -> Scan:
        """Paper of grey level `shade`, cloudy by `mottle` levels and grainy by `grain`."""
        paper = shade + mottle * (self._cloud(180) - 0.5)
        paper += self.chance.normal(0, grain, paper.shape)
        return self._with(self._pixels() * paper / 255)

    def bled(self, back: Sheet, strength: float) -> Scan:
        """The mirrored ink of the sheet's other side shines through, `strength` of it (0..1)."""
        other = ImageOps.mirror(back.image).filter(ImageFilter.GaussianBlur(1.6))
        shine = (255 - np.asarray(other, np.float64)) / 255
        return self._with(self._pixels() * (1 - strength * shine))

    def folded(self, *places: float) -> Scan:
        """A crease across the page at each of `places` (0..1 from the top)."""
        pixels = self._pixels()
        rows = np.arange(pixels.shape[0])[:, None]
        for place in places:
            distance = (rows - place * pixels.shape[0]) / 2.5
            pixels = pixels - 22 * np.exp(-(distance**2)) * (0.4 + 0.6 * self._cloud(40))
        return self._with(pixels)

    def holed(self, *places: Point) -> Scan:
        """Punched holes at `places` (millimetres); the dark lid of the scanner shows in them."""
        image = self.image.copy()
        draw = ImageDraw.Draw(image)
        across, down = (dots / INCH for dots in self.dpi)
        for x, y in places:
            draw.ellipse([(x - 3) * across, (y - 3) * down, (x + 3) * across, (y + 3) * down], 70)
        return replace(self, image=image)

    # the scanner

    def skewed(self, degrees: float, *, lid: int = 250) -> Scan:
        """The page lies turned clockwise by `degrees`; the lid shows at its corners."""
        width, height = self.image.size
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        x, y = width / 2, height / 2
        matrix = (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)
        return replace(self._mapped(matrix, self.image.size, lid), angle=self.angle + degrees)

    def turned(self, quarters: int) -> Scan:
        """The page lies turned clockwise by quarter turns."""
        scan = self
        for _ in range(quarters % 4):
            width, height = scan.image.size
            matrix = (0.0, -1.0, float(height), 1.0, 0.0, 0.0)
            scan = scan._mapped(matrix, (height, width), 255)
        return replace(scan, angle=self.angle + 90 * (quarters % 4))

    def squeezed(self, dpi: tuple[float, float]) -> Scan:
        """Pixels that are not square, as a fax machine has them."""
        across, down = dpi[0] / self.dpi[0], dpi[1] / self.dpi[1]
        size = (round(self.image.width * across), round(self.image.height * down))
        return replace(self._mapped((across, 0, 0, 0, down, 0), size, 255), dpi=dpi)

    def shaded(self, side: str, depth: float, *, reach: float = 0.06) -> Scan:
        """Light that falls off by `depth` (0..1) towards one side, within `reach` of the page."""
        height, width = self._pixels().shape
        across, down = np.linspace(0, 1, width)[None, :], np.linspace(0, 1, height)[:, None]
        distance = {"left": across, "right": 1 - across, "top": down, "bottom": 1 - down}[side]
        return self._with(self._pixels() * (1 - depth * np.exp(-distance / reach)))

    def speckled(self, count: int, *, largest: float = 1.4, light: int = 0) -> Scan:
        """Dust: `count` dark specks of up to `largest` pixels, and `light` holes in the ink."""
        image = self.image.copy()
        draw = ImageDraw.Draw(image)
        for number in range(count + light):
            x, y = self.chance.uniform(0, 1, 2) * image.size
            radius = self.chance.uniform(0.3, largest)
            shade = int(self.chance.integers(20, 130)) if number < count else 245
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], shade)
        return replace(self, image=image)

    def streaked(self, count: int) -> Scan:
        """Bad scan rows of a telephone line: runs of black one pixel high."""
        image = self.image.copy()
        draw = ImageDraw.Draw(image)
        for _ in range(count):
            x, y = self.chance.uniform(0, 1, 2) * image.size
            draw.line([x, y, x + self.chance.uniform(20, 260), y], 0)
        return replace(self, image=image)

    def blurred(self, radius: float) -> Scan:
        """Lens and glass: a Gaussian blur of `radius` pixels."""
        return replace(self, image=self.image.filter(ImageFilter.GaussianBlur(radius)))

    def bilevel(self, threshold: int = 150) -> Scan:
        """Black and white only, as fax machines and old office scanners save pages."""
        return replace(self, image=self.image.point(lambda v: 255 * (v > threshold)).convert("1"))

    def posterised(self, levels: int = 16) -> Scan:
        """Few grey levels, so that a lossless PNG stays small."""
        step = 255 / (levels - 1)
        steps = self.image.point(lambda v: round(round(v / step) * step))
        return replace(self, image=steps.quantize(levels, dither=Image.Dither.NONE))

    # truth

    def boxes(self) -> list[list[float]]:
        """The upright box around each line's corners, in page fractions."""
        width, height = self.image.size
        found = []
        for line in self.lines:
            xs, ys = zip(*line.corners, strict=True)
            sides = (min(xs) / width, min(ys) / height, max(xs) / width, max(ys) / height)
            found.append([round(min(1.0, max(0.0, side)), 5) for side in sides])
        return found

    def _mapped(self, matrix: Matrix, size: tuple[int, int], fill: int) -> Scan:
        a, b, c, d, e, f = matrix
        det = a * e - b * d
        # Pillow asks where a pixel of the new image comes from: the inverse
        inverse = (
            e / det, -b / det, (b * f - c * e) / det,
            -d / det, a / det, (c * d - a * f) / det,
        )  # fmt: skip
        image = self.image.transform(
            size, Image.Transform.AFFINE, inverse, Image.Resampling.BICUBIC, fillcolor=fill
        )

        def place(point: Point) -> Point:
            return a * point[0] + b * point[1] + c, d * point[0] + e * point[1] + f

        lines = []
        for line in self.lines:
            p, q, r, s = line.corners
            lines.append(replace(line, corners=(place(p), place(q), place(r), place(s))))
        return replace(self, image=image, lines=tuple(lines))

    def _pixels(self) -> Pixels:
        return np.asarray(self.image, np.float64)

    def _with(self, pixels: Pixels) -> Scan:
        rounded = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        return replace(self, image=Image.fromarray(rounded))

    def _cloud(self, cell: int) -> Pixels:
        """Smooth chance between 0 and 1 over the page, changing within about `cell` pixels."""
        width, height = self.image.size
        coarse = self.chance.uniform(0, 1, (height // cell + 2, width // cell + 2))
        cloud = Image.fromarray(coarse.astype(np.float32)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        return np.clip(np.asarray(cloud, np.float64), 0, 1)
