"""PDF pages as upright RGB pixels with their text layer: the one door to pdfium and pypdf.

pdfium draws pages and tells where their characters stand. pypdf reads document information and page
labels, and rewrites what pdfium refuses: its parser is the more forgiving one, and it knows cases
of encryption that pdfium does not. pypdf's own errors are swallowed here, since broken metadata
must not lose a file that can be drawn.

pdfium is not thread-safe: threads take turns here, and several processes draw side by side.
"""

from __future__ import annotations

import io
import logging
import math
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pypdf
import pypdfium2
from pypdf.generic import encode_pdfdocencoding
from pypdfium2 import raw as pdfium

from kosmos_loader.document import Line
from kosmos_loader.errors import (
    CorruptFile,
    EmptyFile,
    EncryptedFile,
    FileTooLarge,
    SourceError,
    UnsupportedFile,
)
from kosmos_loader.raster import Picture, fitted
from kosmos_loader.textlayer import text_lines

# Both log what they repair in damaged files; in an application that has not set up logging that
# would end on stderr.
logging.getLogger("pypdf").addHandler(logging.NullHandler())
logging.getLogger("pypdfium2").addHandler(logging.NullHandler())

log = logging.getLogger("kosmos_loader")

BORN_DIGITAL_DPI = 200.0
"""Resolution at which pages that are no scans are drawn."""

SCAN_DPI = (72.0, 600.0)
"""Bounds within which a scan is drawn at its own resolution."""

SCAN_COVERAGE = 0.85
"""Share of the page that an image covers at least if it is a scan of the page: less than 1, since
scanners crop; more than a figure with margins and a caption takes."""

BACKGROUND_DPI = 50.0
"""An image of fewer dots per inch is a coloured ground and not a scan."""

OCR_LAYER = 3
"""Text render mode "invisible" (ISO 32000-1, table 106)."""

DEEPEST_FORM = 5
"""Nesting of form XObjects in which images and text are looked for."""

SMALLEST_PAGE = 20
"""Bytes that a page takes in a file at least. A document that counts more pages than fit was
damaged or made to mislead, and its pages are counted one by one."""

LARGEST_REWRITE = 100_000_000
"""Bytes up to which a file that pdfium refuses is handed to pypdf, which builds it in memory."""


_turn = threading.RLock()
"""pdfium may be called by one thread at a time (its README says so); ctypes would let all in."""


class PdfPages:
    """The pages of a PDF, drawn one at a time; a context manager.

    A page on which one image covers `SCAN_COVERAGE` of the paper is drawn at that image's
    resolution (along its denser axis, within `SCAN_DPI`), so that a scan is neither blown up nor
    shrunk; where visible text stands on it too, at `BORN_DIGITAL_DPI` or more. All other pages are
    drawn at `BORN_DIGITAL_DPI`. A page too large for `max_pixels` is scaled down. Annotations and
    form fields are drawn as a viewer shows them.

    Raises `EncryptedFile`, `UnsupportedFile` (an unknown kind of encryption), `CorruptFile`, and
    `EmptyFile` for a document without pages.
    """

    def __init__(
        self, content: Path | bytes, *, name: str, password: str | None, max_pixels: int
    ) -> None:
        self._content = content
        self._name = name
        self._password = password
        self._max_pixels = max_pixels
        with _drawing(name):
            self._pdf, self._kept = _load(content, name, password)
        with _turn, suppress(pypdfium2.PdfiumError):
            # a broken form must not lose the paper it is on;
            # before any page is loaded, since pdfium ties form fields to pages as it loads them
            self._pdf.init_forms()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with _turn:
            self._pdf.close()

    @cached_property
    def count(self) -> int:
        """Pages in the file."""
        with _turn:
            declared = len(self._pdf)
        possible = max(1, _size(self._content) // SMALLEST_PAGE)
        if declared <= possible:
            return declared
        try:
            with _reader(self._content, self._password) as reader:
                return min(declared, max(1, len(reader.pages)))
        except Exception as error:  # noqa: BLE001  a damaged file makes pypdf raise any type
            log.debug("%s: pages cannot be counted (%s)", self._name, error)
            return possible

    @property
    def info(self) -> dict[str, str]:
        """Title, Author and the like, as far as the file has them."""
        return self._facts[0]

    @cached_property
    def _facts(self) -> tuple[dict[str, str], list[str]]:
        """Document information and page labels; empty where there are none or they are broken."""
        info: dict[str, str] = {}
        labels: list[str] = []
        try:
            with _reader(self._content, self._password) as reader:
                entries = (reader.metadata or {}).items()
                texts = {key[1:]: _printable(value) for key, value in entries}
                info = {key: text for key, text in texts.items() if text}
                if "/PageLabels" in reader.root_object:
                    labels = reader.page_labels
        except Exception as error:  # noqa: BLE001  a damaged file makes pypdf raise any type
            log.debug("%s: document information cannot be read (%s)", self._name, error)
        plain = [str(number) for number in range(1, len(labels) + 1)]
        return info, ([] if labels == plain else labels)

    def orientation(self, number: int) -> int:
        """How page `number` lies in the file, before /Rotate, in the numbers of EXIF (2.3, 4.6.4).

        Raises `CorruptFile`.
        """
        with _drawing(f"page {number} of {self._name}"), closing(self._pdf[number - 1]) as page:
            return (1, 6, 3, 8)[page.get_rotation() // 90 % 4]

    def picture(self, number: int) -> Picture:
        """Page `number`, from 1. Raises `CorruptFile` or `FileTooLarge`."""
        with (
            _drawing(f"page {number} of {self._name}"),
            closing(self._pdf[number - 1]) as page,
        ):
            if not all(page.get_size()):
                # a CropBox beside the paper would show nothing; viewers show all of the paper
                page.set_cropbox(*page.get_mediabox())
            width, height = (max(points, 0.01) for points in page.get_size())
            dpi = _resolution(page)
            size = fitted(width * dpi / 72, height * dpi / 72, self._max_pixels)
            pixels = _drawn(page, *size)
            labels = self._facts[1]
            return Picture(
                pixels,
                dpi=max(size) / max(width, height) * 72,
                text_layer=self._text_layer(page, number),
                label=labels[number - 1] if number <= len(labels) else None,
            )

    def _text_layer(self, page: Any, number: int) -> tuple[Line, ...]:
        try:
            return text_lines(page)
        except pypdfium2.PdfiumError as error:
            log.debug("page %d of %s: no text layer (%s)", number, self._name, error)
            return ()


@contextmanager
def _drawing(what: str) -> Iterator[None]:
    """This thread's turn with pdfium, whose errors become those of this package."""
    try:
        with _turn:
            yield
    except SourceError:
        raise
    except MemoryError as error:
        raise FileTooLarge(f"{what} does not fit into memory; give a smaller max_pixels") from error
    except (pypdfium2.PdfiumError, OSError, ValueError) as error:
        raise CorruptFile(
            f"{what} cannot be drawn ({error}); repair the file by saving it anew in a PDF viewer, "
            "or scan it again"
        ) from error


def _load(content: Path | bytes, name: str, password: str | None) -> tuple[Any, Path | bytes]:
    """The document as pdfium has it, from the file as it is or as pypdf rewrites it.

    Its bytes are given back too, since they must live as long as the document.
    """
    try:
        return _load_any(content, _spellings(password)), content
    except pypdfium2.PdfiumError as error:
        refusal = error
    if _size(content) > LARGEST_REWRITE:
        raise _refused(refusal.err_code, name, password) from refusal
    try:
        rewritten = _rewritten(content, password)
        return _load_any(rewritten, [None]), rewritten
    except Exception as error:  # noqa: BLE001  a damaged file makes pypdf raise any type
        log.debug("%s: cannot be rewritten either (%s)", name, error)
    raise _refused(refusal.err_code, name, password) from refusal


def _load_any(content: Path | bytes, passwords: Iterable[str | bytes | None]) -> Any:
    """The document, by the first of `passwords` that opens it.

    Not by pypdfium2's own constructor: for a document without pages that reports whatever error
    happened last in the process.
    """
    code = pdfium.FPDF_ERR_UNKNOWN
    for password in passwords:
        # "surrogateescape", since a command line may hand over bytes that are no UTF-8
        spelled = (
            password.encode("utf-8", "surrogateescape") if isinstance(password, str) else password
        )
        if isinstance(content, Path):
            document = pdfium.FPDF_LoadDocument(os.fsencode(content), spelled)
        else:
            document = pdfium.FPDF_LoadMemDocument64(content, len(content), spelled)
        if document and pdfium.FPDF_GetPageCount(document):
            return pypdfium2.PdfDocument(document)
        if document:
            pdfium.FPDF_CloseDocument(document)
            raise pypdfium2.PdfiumError("no pages", err_code=pdfium.FPDF_ERR_SUCCESS)
        code = pdfium.FPDF_GetLastError()
        if code != pdfium.FPDF_ERR_PASSWORD:
            break
    raise pypdfium2.PdfiumError(f"refused with code {code}", err_code=code)


def _refused(code: int | None, name: str, password: str | None) -> SourceError:
    if code == pdfium.FPDF_ERR_PASSWORD and not password:
        return EncryptedFile(
            f"{name} is encrypted; give its password (password=..., on the command line --password)"
        )
    if code == pdfium.FPDF_ERR_PASSWORD:
        return EncryptedFile(f"{name} is encrypted, and the password given does not open it")
    if code == pdfium.FPDF_ERR_SECURITY:
        return UnsupportedFile(
            f"{name} is encrypted in a way that cannot be read here; save it without encryption"
        )
    if code == pdfium.FPDF_ERR_SUCCESS:
        return EmptyFile(f"{name} has no pages; leave it out, or export it again")
    return CorruptFile(
        f"{name} cannot be read as PDF; repair it by saving it anew in a PDF viewer, or copy or "
        "scan it again"
    )


def _spellings(password: str | None) -> list[str | bytes | None]:
    """The ways in which files spell `password`, and none: one may be meant for some of many files.

    pdfium itself tries UTF-8 that it is given as Latin-1 too, and pypdf knows what revision 6 does
    to Unicode (ISO 32000-2, 7.6.4.3.3).
    """
    if not password:
        return [None]
    spellings: list[str | bytes | None] = [password, None]
    if not password.isascii():
        # revisions 2 to 4 want PDFDocEncoding (7.6.4.3.2); some software took Windows' own
        for encode in (encode_pdfdocencoding, lambda text: text.encode("cp1252")):
            with suppress(UnicodeEncodeError):
                spellings.append(encode(password))
    return spellings


@contextmanager
def _reader(content: Path | bytes, password: str | None) -> Iterator[pypdf.PdfReader]:
    """The file as pypdf sees it, decrypted. Raises whatever pypdf does."""
    with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as stream:
        reader = pypdf.PdfReader(stream)
        if reader.is_encrypted:
            any(reader.decrypt(spelling or "") for spelling in _spellings(password))
        yield reader


def _rewritten(content: Path | bytes, password: str | None) -> bytes:
    """The file as pypdf understands it, without encryption. Raises whatever pypdf does."""
    with _reader(content, password) as reader, io.BytesIO() as stream:
        pypdf.PdfWriter(clone_from=reader).write(stream)
        return stream.getvalue()


def _size(content: Path | bytes) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)


def _printable(value: object) -> str:
    text = value if isinstance(value, str) else ""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _resolution(page: Any) -> float:
    """Dots per inch at which a page is best drawn; see `PdfPages`."""
    try:
        scan = max(_filling_images(page), default=0.0)
        if scan < BACKGROUND_DPI:
            return BORN_DIGITAL_DPI
        scan = min(max(scan, SCAN_DPI[0]), SCAN_DPI[1])
        return max(scan, BORN_DIGITAL_DPI) if _shows_text(page) else scan
    except pypdfium2.PdfiumError:  # a broken object is no reason not to draw the others
        return BORN_DIGITAL_DPI


def _filling_images(page: Any) -> Iterator[float]:
    """Dots per inch of each image that covers `SCAN_COVERAGE` of the page."""
    left, bottom, right, top = page.get_bbox()
    for image in page.get_objects([pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=DEEPEST_FORM):
        matrix, form = image.get_matrix(), image.container
        while form is not None:
            matrix, form = matrix.multiply(form.get_matrix()), form.container
        # an image is drawn into the unit square, which the matrix maps onto the page
        x0, y0, x1, y1 = matrix.on_rect(0, 0, 1, 1)
        width = min(x1, right) - max(x0, left)
        height = min(y1, top) - max(y0, bottom)
        if width <= 0 or height <= 0:
            continue
        if width * height < SCAN_COVERAGE * (right - left) * (top - bottom):
            continue
        pixels = image.get_px_size()
        sides = math.hypot(matrix.a, matrix.b), math.hypot(matrix.c, matrix.d)
        yield max(72 * n / max(side, 1e-3) for n, side in zip(pixels, sides, strict=True))


def _shows_text(page: Any) -> bool:
    texts = page.get_objects([pdfium.FPDF_PAGEOBJ_TEXT], max_depth=DEEPEST_FORM)
    return any(pdfium.FPDFTextObj_GetTextRenderMode(text) != OCR_LAYER for text in texts)


def _drawn(page: Any, width: int, height: int) -> Any:
    """[height, width, 3] RGB of a pdfium page."""
    bitmap = pypdfium2.PdfBitmap.new_native(
        width, height, pdfium.FPDFBitmap_BGR, rev_byteorder=True
    )
    if not bitmap.raw:
        raise MemoryError(f"no bitmap of {width} x {height} pixels")
    with closing(bitmap):
        bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
        flags = pdfium.FPDF_ANNOT | pdfium.FPDF_REVERSE_BYTE_ORDER
        placed = (bitmap, page, 0, 0, width, height, 0, flags)
        pdfium.FPDF_RenderPageBitmap(*placed)
        if page.formenv:
            pdfium.FPDF_FFLDraw(page.formenv, *placed)
        # the array keeps the buffer alive; closing gives back pdfium's handle on it only
        return bitmap.to_numpy()
