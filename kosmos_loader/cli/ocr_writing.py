"""`read --format hocr | alto | page | pdf`: readings as files for other programs."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from kosmos_loader.cli import terminal
from kosmos_loader.cli.options import Format
from kosmos_loader.errors import UsageError

if TYPE_CHECKING:
    from kosmos_loader.document import Page, Reading
    from kosmos_loader.readers.base import PageReader

    Read = tuple[Page, Reading]

SUFFIXES = {
    Format.hocr: ".hocr",
    Format.alto: ".alto.xml",
    Format.page: ".page.xml",
    Format.pdf: ".pdf",
}
"""Names in a folder end so; `--ocr auto` and `existing` find them beside the scans."""

FORMATS = frozenset(SUFFIXES)


def check(form: Format, out: Path | None) -> None:
    """Raise `UsageError` where `form` cannot be written to `out`, before any work is done."""
    if form is Format.pdf and out is None:
        raise UsageError("a PDF is not printed; give a file or a folder with -o")


def write(
    pages: Iterable[Page],
    reader: PageReader,
    files: Sequence[Path],
    form: Format,
    *,
    out: Path | None,
    password: str | None = None,
) -> None:
    """Read `pages` of `files` and write them to `out`, a file or a folder, or print them.

    A folder is what is one, or has no suffix; it is made. There each file gets one of its name,
    of ALTO and PAGE each page (scan_0002.alto.xml where it has several). `UsageError` for several
    pages of those in one file. What failed is raised at the end, as in `write_readings`.
    """
    shown = out is not None or form is Format.pdf
    with terminal.progress(shown=shown) as step:
        under_way: deque[Page] = deque()
        watched = terminal.Watched(reader.read(_noted(pages, under_way)), files, step)
        read = ((under_way.popleft(), reading) for reading in watched)
        if out is not None and _is_folder(out):
            _write_each(read, files, form, out, password)
        else:
            _write_all(read, form, out, password)
        terminal.conclude(watched.failed, files=len(files), succeeded=watched.read > 0)


def _noted(pages: Iterable[Page], under_way: deque[Page]) -> Iterator[Page]:
    for page in pages:
        under_way.append(page)
        yield page


def _is_folder(out: Path) -> bool:
    return out.is_dir() or not (out.suffix or out.exists())


def _write_all(read: Iterator[Read], form: Format, out: Path | None, password: str | None) -> None:
    if form is Format.pdf and out is not None:
        _write_pdf(read, out, password)
        return
    if form is not Format.hocr:
        read = _only(read, form)
    _write_text(read, form, out)


def _only(read: Iterator[Read], form: Format) -> Iterator[Read]:
    """The one page there is."""
    first = list(islice(read, 2))
    if len(first) > 1:
        raise UsageError(f"{form} holds one page a file; give a folder with -o, or one of --pages")
    yield from first


def _write_each(
    read: Iterator[Read], files: Sequence[Path], form: Format, out: Path, password: str | None
) -> None:
    names = _Names(files, out, SUFFIXES[form])
    for source, of_file in groupby(read, lambda entry: entry[0].source):
        if form is Format.hocr:
            _write_text(of_file, form, names.path(source))
        elif form is Format.pdf:
            _write_pdf(of_file, names.path(source), password)
        else:
            for page, reading in of_file:
                if reading.error is None:
                    _write_text(iter([(page, reading)]), form, names.path(source, page))


class _Names:
    """Where in a folder what is made of each file goes: as the files lie to each other."""

    def __init__(self, files: Sequence[Path], folder: Path, suffix: str) -> None:
        self._files = files
        self._folder = folder
        self._suffix = suffix
        self._base = os.path.commonpath([str(file.parent) for file in files])
        self._alike = Counter(file.with_suffix("") for file in files)
        self._given: dict[Path, tuple[str, str]] = {}

    def path(self, source: str, page: Page | None = None) -> Path:
        """Of the file at `source` or, where it has several, of one of its pages."""
        file = Path(source)
        number = f"_{page.number:04}" if page is not None and page.count > 1 else ""
        stem = file.with_suffix("")
        # neither scan.tif and scan.jpg must come to the same, nor page 2 of scan.tif and
        # scan_0002.png, whose OCR would be taken for that of the other
        is_taken = self._alike[stem] > 1 or (number and self._alike[Path(f"{stem}{number}")])
        name = f"{file if is_taken else stem}{number}"
        path = self._folder / f"{os.path.relpath(name, self._base)}{self._suffix}"
        of = source, number
        if self._given.setdefault(path, of) != of:
            raise UsageError(f"{path} would be written for two scans; rename {file}")
        terminal.check_not_a_source(path, self._files)
        with terminal.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _write_text(read: Iterator[Read], form: Format, out: Path | None) -> None:
    from kosmos_loader.ocr_files import alto, hocr, page_xml

    readings = (reading for _, reading in read)
    if form is Format.hocr:
        pieces = hocr(readings)
    else:
        document = alto if form is Format.alto else page_xml
        pieces = (document(reading) for reading in readings if reading.error is None)
    first = next(pieces, None)
    if first is None:  # nothing was read, and what stood at `out` stays
        return
    with terminal.output(out) as write_piece:
        for piece in chain([first], pieces):
            write_piece(piece)


def _write_pdf(read: Iterator[Read], out: Path, password: str | None) -> None:
    from kosmos_loader.ocr_files import SearchablePdf

    pdf = SearchablePdf(password=password)
    for page, reading in read:
        pdf.add(page, reading)
    if not pdf.page_count:
        return
    with terminal.output_at(out) as part, part.open("wb") as stream:
        pdf.write(stream)
