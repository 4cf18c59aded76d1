"""Files become pages: the first arrow of the line.

`open_pages` reads them, `find_files` lists what it would read. PDF goes to `pdf.py` and pictures go
to `raster.py`, where the errors of pdfium, pypdf and Pillow are translated.
"""

from __future__ import annotations

import math
import operator
import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from kosmos_loader.checks import check_text, check_whole
from kosmos_loader.document import Page, document_id, pixel_digest
from kosmos_loader.errors import SourceError, SourceNotFound, UsageError
from kosmos_loader.pdf import PdfPages
from kosmos_loader.raster import PicturePages
from kosmos_loader.sources import File, Source, absolute, files_of, found, is_one_file

__all__ = ["Source", "find_files", "open_pages"]

Range = tuple[int, float]
"""First and last page number."""


def open_pages(
    source: Source | Iterable[Source | File],
    *,
    pages: str | int | Iterable[int] | None = None,
    password: str | None = None,
    max_pixels: int = 50_000_000,
) -> Iterator[Page]:
    """The pages of `source`, upright, in RGB, one at a time.

    `source` is a PDF, TIFF, PNG, JPEG, WebP, GIF, BMP or JPEG 2000 file; a folder (to its depths,
    in natural order, without hidden and foreign files) or a pattern ("scans/**/*.pdf"); the bytes
    of a file; a binary file object, which is read to its end and left open; or several of these, of
    which a file that is named twice is read once. A path that exists is never taken for a pattern.

    `pages` picks pages by number, from 1: "1-3,7,10-" or numbers; they come in the file's order.
    `password` is tried on every encrypted file. `max_pixels` bounds a page; larger ones are scaled
    down.

    A page that cannot be read comes as a `Page` with `error`, and its neighbours follow. Where
    there may be several files (a folder, a pattern, an iterable), a file that cannot be opened
    comes as one such page with number 0. A single file raises the `SourceError` that fits at the
    first `next`. The call itself raises `UsageError` for arguments that cannot be meant and
    `SourceNotFound` for a path that is not there. Page numbers beyond the end are passed over;
    where none is left, that is a `UsageError`, or a failed page of number 0 among several files.

    A page is made when it is asked for and not kept: a file of 400 pages takes the room of one.
    Files are closed when the iterator ends or is closed. Threads may each go through an iterator of
    their own; those that draw PDF pages take turns. One iterator belongs to one thread.
    """
    wanted = Wanted.of(pages, password=password, max_pixels=max_pixels)
    return _read(files_in_order(source), wanted, alone=is_one_file(source))


def find_files(source: str | Path | Iterable[str | Path]) -> list[Path]:
    """The files that `open_pages(source)` reads, as absolute paths, in its order.

    Folders are listed to their depths in natural order (page2 before page10) without hidden and
    foreign files; patterns likewise; a file that is named is listed whatever it is. Raises
    `SourceNotFound` for a path that is not there, and for a folder or pattern without a file to
    read. Of several sources, a missing one is listed all the same, and so is a folder below that
    cannot be listed: opening it tells what is wrong, in its place. A file is listed once.
    """
    if isinstance(source, str | os.PathLike):
        return found(source)
    if not isinstance(source, Iterable):
        raise UsageError(f"{reprlib.repr(source)} is no source; give a path, or several")
    files: list[Path] = []
    for one in source:
        try:
            files += found(one)
        except SourceNotFound:
            files.append(absolute(one))
    return list(dict.fromkeys(files))


@dataclass(frozen=True)
class Wanted:
    """What of each file is wanted, and how it is read."""

    ranges: list[Range]
    password: str | None = field(repr=False)
    max_pixels: int

    @classmethod
    def of(
        cls, pages: str | int | Iterable[int] | None, *, password: str | None, max_pixels: int
    ) -> Wanted:
        """From the arguments of `open_pages`. Raises `UsageError`."""
        check_whole(max_pixels, "max_pixels")
        check_text(password, "password")
        if max_pixels < 1:
            raise UsageError(f"max_pixels is {max_pixels}; give 1 or more")
        return cls(_ranges(pages), password, max_pixels)


class Document:
    """A file, open until `close`. Raises `SourceError`, and `UsageError` where no page is left."""

    def __init__(self, file: File, wanted: Wanted) -> None:
        self._file = file
        with ExitStack() as stack:
            self._pages = _opened(file, wanted.password, wanted.max_pixels)
            stack.enter_context(self._pages)
            self.count = self._pages.count
            self.numbers = _picked(file.pages or wanted.ranges, self.count)
            if not self.numbers:
                raise none_left(file.source, self.count)
            self.close = stack.pop_all().close

    def orientation(self, number: int) -> int:
        """How page `number` lies in the file, in the numbers of EXIF: 1 for upright."""
        return self._pages.orientation(number)

    def page(self, number: int) -> Page:
        """Page `number`, from 1; one with `error` where it cannot be made."""
        return _page(self._file, self._pages, number)


def files_in_order(source: Source | Iterable[Source | File]) -> Iterator[File | Page]:
    """The files of the source of `open_pages`; a failed page for one that is not there.

    The call itself raises `UsageError` and `SourceNotFound`.
    """
    if is_one_file(source):
        return iter(files_of(source)[:1])
    if isinstance(source, str | os.PathLike):
        return iter(files_of(source))
    if isinstance(source, Iterable):
        return _files_of_each(cast("Iterable[Source | File]", source))
    raise UsageError(f"{reprlib.repr(source)} is no source; give a path, bytes or a file object")


def _files_of_each(sources: Iterable[Source | File]) -> Iterator[File | Page]:
    named: set[str] = set()
    for source in sources:
        try:
            files = files_of(source)
        except SourceError as error:
            yield File(str(source), b"").failed(error)
            continue
        if isinstance(source, str | os.PathLike):
            files = [file for file in files if file.source not in named]
            named.update(file.source for file in files)
        yield from files


def _read(files: Iterable[File | Page], wanted: Wanted, *, alone: bool) -> Iterator[Page]:
    for file in files:
        if isinstance(file, Page):
            yield file
            continue
        try:
            with closing(Document(file, wanted)) as document:
                for number in document.numbers:
                    yield document.page(number)
        except (SourceError, UsageError) as error:
            if alone:
                raise
            yield file.failed(error)


def _opened(file: File, password: str | None, max_pixels: int) -> PdfPages | PicturePages:
    kind = file.kind
    if kind == "PDF":
        return PdfPages(file.content, name=file.source, password=password, max_pixels=max_pixels)
    return PicturePages(file.content, name=file.source, form=kind, max_pixels=max_pixels)


def _page(file: File, document: PdfPages | PicturePages, number: int) -> Page:
    try:
        picture = document.picture(number)
    except SourceError as error:
        return file.failed(error, number, document.count)
    height, width, _ = picture.pixels.shape
    return Page(
        source=file.source,
        doc_id=document_id(file.source),
        number=number,
        count=document.count,
        width=width,
        height=height,
        dpi=picture.dpi,
        digest=pixel_digest(picture.pixels),
        label=picture.label,
        pixels=picture.pixels,
        text_layer=picture.text_layer,
        document_info=document.info,
    )


def none_left(source: str, count: int) -> UsageError:
    """The error for a file of `count` pages of which none is asked for."""
    pages = "1 page" if count == 1 else f"{count} pages"
    return UsageError(f"{source} has {pages}, none of those asked for")


def _ranges(pages: str | int | Iterable[int] | None) -> list[Range]:
    """The ranges that `pages` names. Raises `UsageError`."""
    if pages is None:
        return [(1, math.inf)]
    if isinstance(pages, bool):
        raise UsageError(f"pages={pages}: give numbers from 1, or leave it out for all")
    if isinstance(pages, str):
        ranges = [_range(part, pages) for part in pages.split(",")]
    else:
        ranges = [(number, number) for number in _numbers(pages)]
    if not ranges or any(not 1 <= first <= last for first, last in ranges):
        raise UsageError(f"pages={pages!r}: pages are numbered from 1, the lower number first")
    return ranges


def _numbers(pages: int | Iterable[int]) -> list[int]:
    try:
        several = pages if isinstance(pages, Iterable) else [pages]  # which may be one of numpy
        return [operator.index(number) for number in several]
    except TypeError as error:
        raise UsageError(f'pages={pages!r}: give numbers, or text like "1-3,7,10-"') from error


def _range(part: str, pages: str) -> Range:
    match = re.fullmatch(r"\s*(\d{1,18})\s*(?:(-)\s*(\d{0,18})\s*)?", part)
    if match is None:
        raise UsageError(f'pages={pages!r} is no page range; write it like "1-3,7,10-"')
    first, dash, last = match.groups()
    if not dash:
        return int(first), int(first)
    return int(first), int(last) if last else math.inf


def _picked(ranges: Sequence[Range], count: int) -> list[int]:
    numbers = range(1, count + 1)
    return [n for n in numbers if any(first <= n <= last for first, last in ranges)]
