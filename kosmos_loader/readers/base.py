"""The seam between pages and readings: what a reader is, and how one is chosen."""

from __future__ import annotations

import logging
import reprlib
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from kosmos_loader.checks import check_text
from kosmos_loader.document import Failure, Page, PageInfo, Reading
from kosmos_loader.errors import KosmosLoaderError, ReadingError, UsageError

log = logging.getLogger("kosmos_loader")

READERS = ("auto", "kosmos", "rapidocr")
DEFAULT_MODEL = "microsoft/kosmos-2.5"


@runtime_checkable
class PageReader(Protocol):
    """Reads pages: one `Reading` for each `Page`, in order, lazily.

    A page that cannot be read becomes a `Reading` with `error`; a page that already carries an
    error passes it on. `name` and `version` enter the key under which readings are kept, so
    `version` changes whenever the same pixels could be read differently.
    """

    name: str
    version: str

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """Readings of `pages`, one each, in order."""
        ...


@runtime_checkable
class SelectiveReader(PageReader, Protocol):
    """A reader whose readings rest on more than pixels: on OCR in the file or beside it.

    `name` and `version` do not say which page is read how; these do.
    """

    def identity(self, page: Page) -> tuple[str, str]:
        """`reader` and `reader_version` that the reading of `page` will have."""
        ...

    def companions(self, source: str) -> list[Path]:
        """Files on which readings of the file at `source` rest too: when one of them changes, comes
        or goes, its readings may be others.
        """
        ...


@runtime_checkable
class UnorderedReader(PageReader, Protocol):
    """A reader that reads several pages at a time, and can hand over each as soon as it is read.

    Whoever keeps readings gets them earlier so: of those that wait for a page before them, none is
    lost when the process is killed, and the reader need not wait for that page either.
    """

    def read_as_completed(self, pages: Iterable[Page]) -> Iterator[tuple[int, Reading]]:
        """Readings of `pages` and their places among them (from 0), each as soon as it is there."""
        ...


def read_as_completed(reader: PageReader, pages: Iterable[Page]) -> Iterator[tuple[int, Reading]]:
    """Readings of `pages` and their places among them, as early as `reader` gives them: in order,
    unless it is an `UnorderedReader`.
    """
    if isinstance(reader, UnorderedReader):
        return reader.read_as_completed(pages)
    return enumerate(one_each(reader, pages))


def one_each(reader: PageReader, pages: Iterable[Page]) -> Iterator[Reading]:
    """Readings of `pages` by `reader`, in order: a failed one for a page that it passes over.

    `ReadingError` where it gives more than one for a page, or something else.
    """
    given: deque[PageInfo] = deque()
    rest = iter(pages)

    def noted() -> Iterator[Page]:
        for page in rest:
            given.append(page.info)
            yield page

    readings: Iterable[object] = reader.read(noted())  # of somebody's own reader
    for reading in readings:
        if not (isinstance(reading, Reading) and given):
            raise ReadingError(
                f"reader {reader.name} gave {reprlib.repr(reading)}; give one Reading for each page"
            )
        if any(_is_of(reading, page) for page in given):
            while not _is_of(reading, given[0]):
                yield passed_over(reader, given.popleft())
        given.popleft()
        yield reading
    yield from (passed_over(reader, page) for page in given)
    yield from (passed_over(reader, page.info) for page in rest)


def _is_of(reading: Reading, page: PageInfo) -> bool:
    return (reading.page.number, reading.page.source) == (page.number, page.source)


def passed_over(reader: PageReader, page: PageInfo) -> Reading:
    """The failed reading of a page for which `reader` gave none."""
    failure = Failure("reading", f"reader {reader.name} gave no reading of this page")
    return Reading.failed(page, reader.name, reader.version, failure)


def identity_of(reader: PageReader, page: Page) -> tuple[str, str]:
    """Name and version under which the reading of `page` by `reader` is kept."""
    if isinstance(reader, SelectiveReader):
        return reader.identity(page)
    return reader.name, reader.version


def page_key(reader: PageReader, page: Page) -> str:
    """Where the reading of `page` by `reader` is looked for: its picture, and who reads it."""
    name, version = identity_of(reader, page)
    return f"{page.digest}/{name}/{version}"


def reading_key(reader: PageReader, reading: Reading) -> str:
    """The key under which a reading by `reader` is kept: the `page_key` of the page it is of."""
    if isinstance(reader, SelectiveReader):
        return f"{reading.page.digest}/{reading.reader}/{reading.reader_version}"
    return f"{reading.page.digest}/{reader.name}/{reader.version}"


def checked_reader(reader: object) -> PageReader:
    """`reader`, if it is one. Raises `UsageError` that says what a reader is."""
    if isinstance(reader, type):
        raise UsageError(f"{reader.__name__} is the class of a reader; give one of it: call it")
    if isinstance(reader, PageReader) and callable(reader.read):
        return reader
    shown = reprlib.repr(reader)
    called = f", such as choose_reader({shown})" if isinstance(reader, str) else ""
    raise UsageError(f"{shown} is no reader; give an object with name, version and read{called}")


def choose_reader(
    name: str = "auto", *, model: str | None = None, device: str | None = None
) -> PageReader:
    """The reader called `name`.

    "auto" is KOSMOS-2.5 where CUDA is there and its weights load, otherwise RapidOCR, which is said
    once in the log. A reader that was named is never replaced: its error is raised; `model` and
    `device` name KOSMOS-2.5 too. `device` may be several with commas between them, "cuda:0,cuda:1":
    then each has a process.
    """
    check_name(name)
    check_text(model, "model")
    check_text(device, "device")
    if name == "kosmos":
        return _kosmos(model, device)
    if name == "rapidocr":
        if device is not None:
            raise UsageError(f"RapidOCR reads on the CPU and not on {device!r}; name no device")
        return _rapidocr()
    if model is not None or device is not None:
        return _kosmos(model, device)
    reason = why_not_kosmos()
    if reason is None:
        try:
            return _kosmos(None, None)
        except KosmosLoaderError as error:
            reason = str(error)
    log.info("reading with RapidOCR on the CPU: %s", reason)
    return _rapidocr()


def check_name(name: str) -> None:
    """Raise `UsageError` where no reader is called `name`."""
    if name not in READERS:
        raise UsageError(f"no reader is called {name!r}; choose one of {', '.join(READERS)}")


def why_not_kosmos() -> str | None:
    """Why "auto" would not try KOSMOS-2.5 on this machine, None where it would."""
    try:
        import torch
    except ImportError:
        return "torch is not installed (pip install 'kosmos-loader[kosmos]' for KOSMOS-2.5)"
    return None if torch.cuda.is_available() else "no CUDA device for KOSMOS-2.5"


def _kosmos(model: str | None, device: str | None) -> PageReader:
    from kosmos_loader.readers.kosmos import KosmosPageReader

    model = model or DEFAULT_MODEL
    if device is not None and "," in device:
        return KosmosPageReader(model, devices=device.split(","))
    return KosmosPageReader(model, device=device or "auto")


def _rapidocr() -> PageReader:
    from kosmos_loader.readers.rapidocr import RapidOCRPageReader

    return RapidOCRPageReader()
