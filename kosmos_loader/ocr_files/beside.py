"""The OCR file that lies beside a scan: where it is looked for, and which page of it fits."""

from __future__ import annotations

import bisect
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from kosmos_loader.document import PageInfo
from kosmos_loader.errors import CorruptFile, FileTooLarge, SourceError
from kosmos_loader.ocr_files.alto import read_alto
from kosmos_loader.ocr_files.hocr import read_hocr
from kosmos_loader.ocr_files.model import FoundPage
from kosmos_loader.ocr_files.page_xml import read_page_xml
from kosmos_loader.sources import KINDS

LARGEST = 200_000_000
"""Bytes of an OCR file. A page of print takes some 100,000."""

SUFFIXES = (".page.xml", ".alto.xml", ".xml", ".alto", ".hocr", ".hocr.html", ".html", ".htm")
"""Ends of the names of OCR files, the one to be preferred first: what people correct by hand is
PAGE and ALTO."""

FOLDERS = ("", "page", "alto", "hocr")
"""Where they lie: beside the scan, or in a folder there, as Transkribus and OCR-D write them."""

_SCANS = tuple(KINDS)

_HEAD = 65_536
"""Bytes within which the root element begins."""

_OF_PAGE = re.compile(r"[-_.]0*([1-9]\d{0,8})(?=\.)")
"""Between the name of a scan and the suffix: which page an OCR file is of."""


class OcrFile(NamedTuple):
    """An OCR file of a scan, as `ocr_files_of` finds it."""

    path: Path
    number: int | None
    """The page that its name says it is of; None for one that is of all pages."""


def ocr_files_of(source: str) -> list[OcrFile]:
    """What may hold the OCR of the file at `source`, the one to be preferred first.

    For scan.tif: scan.page.xml, scan.alto.xml, scan.xml, scan.hocr ..., the same behind the whole
    name (scan.tif.xml), and in folders page, alto and hocr beside it; of one page only,
    scan_0002.xml (or -, or .), unless that is the OCR of a scan_0002.tif there. Names are compared
    without regard to case. Whether a .xml or .html is OCR at all shows when it is read.
    """
    scan = Path(source)
    scans = _listing(scan.parent).scans
    ranked: list[tuple[tuple[bool, int, int, str], OcrFile]] = []
    for rank, folder in enumerate(FOLDERS):
        for path in _named_like(scan, folder):
            fit = _fit(path.name.casefold(), scan)
            if fit is None:
                continue
            number, suffix = fit
            if number is None or path.name.casefold().removesuffix(SUFFIXES[suffix]) not in scans:
                ranked.append(((number is None, rank, suffix, str(path)), OcrFile(path, number)))
    return [file for _, file in sorted(ranked, key=lambda entry: entry[0])]


def _named_like(scan: Path, folder: str) -> list[Path]:
    """Files whose names begin as that of `scan`, beside it or in a folder called `folder` there."""
    places = [scan.parent]
    if folder:
        places = [path for name, path in _listing(scan.parent).folders if name == folder]
    stem = scan.stem.casefold()
    found = []
    for place in places:
        names = _listing(place).files
        start = bisect.bisect_left(names, (stem,))
        for name, path in names[start:]:
            if not name.startswith(stem):
                break
            found.append(path)
    return found


class _Listing(NamedTuple):
    """What may be OCR in a folder, by name in lower case, sorted."""

    files: list[tuple[str, Path]]
    folders: list[tuple[str, Path]]
    scans: set[str]
    """Names in lower case, without their suffix, of what is read from folders."""


def _listing(folder: Path) -> _Listing:
    """Listed once for all scans of a folder; again when something was added or taken away."""
    try:
        return _listed(folder, folder.stat().st_mtime_ns)
    except OSError:
        return _Listing([], [], set())


@lru_cache(maxsize=16)
def _listed(folder: Path, _changed: int) -> _Listing:
    listing = _Listing([], [], set())
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name.casefold()
            if name in FOLDERS and entry.is_dir():
                listing.folders.append((name, folder / entry.name))
            elif name.endswith(SUFFIXES) and not name.startswith("."):
                listing.files.append((name, folder / entry.name))
            elif name.endswith(_SCANS):
                listing.scans.add(os.path.splitext(name)[0])  # noqa: PTH122  a name and no path
    listing.files.sort()
    listing.folders.sort()
    return listing


def _fit(name: str, scan: Path) -> tuple[int | None, int] | None:
    """The page number in `name` and the rank of its suffix, where it is of `scan`."""
    for stem in (scan.name.casefold(), scan.stem.casefold()):
        if not name.startswith(stem):
            continue
        match = _OF_PAGE.match(name, len(stem))
        number, rest = (int(match[1]), name[match.end() :]) if match else (None, name[len(stem) :])
        if rest in SUFFIXES:
            return number, SUFFIXES.index(rest)
    return None


def found_beside(page: PageInfo) -> FoundPage | None:
    """The OCR of `page` that lies beside its file, None where there is none.

    Raises `CorruptFile` and `FileTooLarge`, naming the OCR file.
    """
    if not os.path.isabs(page.source):  # noqa: PTH117  bytes and streams have names that are no paths
        return None
    for file in ocr_files_of(page.source):
        if file.number not in (None, page.number):
            continue
        pages = _pages_of(file.path)
        found = pages and _page_of(pages, file, page)
        if found:
            return found
    return None


def _page_of(pages: Sequence[FoundPage], file: OcrFile, page: PageInfo) -> FoundPage | None:
    """By place, where the file is of this page or of as many as there are; else by its numbers."""
    if file.number is not None:
        return pages[0]
    numbers = [found.number for found in pages]
    if len(pages) != page.count and None not in numbers and len(set(numbers)) == len(numbers):
        return next((found for found in pages if found.number == page.number), None)
    return pages[page.number - 1] if page.number <= len(pages) else None


def _pages_of(path: Path) -> Sequence[FoundPage]:
    """The pages of an OCR file; none where it is something else, or gone."""
    try:
        state = path.stat()
        read = _read(path, state.st_mtime_ns, state.st_size)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            return ()
        raise CorruptFile(
            f"{path} cannot be read ({error.strerror}); check permissions, or move it away"
        ) from error
    if isinstance(read, SourceError):
        raise read
    return read


@lru_cache(maxsize=2)
def _read(path: Path, _changed: int, size: int) -> Sequence[FoundPage] | SourceError:
    """Kept for the next page of the same file; the error too, so that it is not found twice."""
    if size > LARGEST:
        return FileTooLarge(
            f"{path} has {size} bytes, and OCR files of up to {LARGEST} are read; split it"
        )
    try:
        return read_ocr_file(path.read_bytes(), path.name)
    except CorruptFile as error:
        return CorruptFile(f"{path} cannot be read: {error}; repair it, or move it away")


def read_ocr_file(content: bytes, name: str) -> list[FoundPage]:
    """The pages of an hOCR, ALTO or PAGE XML file, whichever its root element says it is.

    None where it is something else and `name` does not promise one of the three (a METS file is a
    .xml too). Raises `CorruptFile`.
    """
    if not content.strip():
        raise CorruptFile("it is empty")
    root = _root(content)
    is_hocr = root in ("html", "xhtml") and b"ocr_page" in content.replace(b"\0", b"")
    if root == "pcgts":
        return read_page_xml(content)
    if root == "alto":
        return read_alto(content)
    if is_hocr or name.casefold().endswith(".hocr"):
        return read_hocr(content)
    if name.casefold().endswith((".page.xml", ".alto.xml", ".alto", ".hocr.html")):
        raise CorruptFile("it is neither hOCR nor ALTO nor PAGE XML")
    return []


def _root(content: bytes) -> str:
    """The name of the first element, in lower case and without its namespace."""
    head = content[:_HEAD].replace(b"\0", b"").decode("latin-1")
    first = re.search(r"<(?:[\w.-]+:)?([A-Za-z_][\w.-]*)", re.sub(r"(?s)<!--.*?-->", "", head))
    return first[1].casefold() if first else ""
