"""Sources become files: folders listed, patterns matched, kinds told by first bytes."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kosmos_loader.document import Failure, Page, document_id
from kosmos_loader.errors import (
    EmptyFile,
    KosmosLoaderError,
    SourceNotFound,
    UnsupportedFile,
    UsageError,
)

log = logging.getLogger("kosmos_loader")

Source = str | Path | bytes | BinaryIO
"""A file, folder or pattern; the bytes of a file; a binary file object."""

KINDS = {
    ".pdf": "PDF",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".png": "PNG",
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".webp": "WEBP",
    ".gif": "GIF",
    ".bmp": "BMP",
    **dict.fromkeys((".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), "JPEG2000"),
}
"""Suffixes that are read from folders, and what is tried where a file's first bytes say nothing."""

UNREADABLE_SCANS = (".heic", ".heif", ".avif", ".djvu", ".jxl", ".psd", ".xps")
"""Suffixes of pages that cannot be read here. In a folder they are not passed over like foreign
files: each comes as a failed page that says what to do."""

_READ_HERE = "PDF, TIFF, PNG, JPEG, WebP, GIF, BMP or JPEG 2000"

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)

_FOREIGN_MAGIC = (
    (b"\0\0\1\0", "an icon", "PNG"),
    (b"8BPS", "a Photoshop file", "PNG"),
    (b"AT&TFORM", "DjVu", "PDF"),
    (b"%!PS", "PostScript", "PDF"),
    (b"PK\3\4", "a ZIP, Office or EPUB file", "PDF"),
    (b"\xd0\xcf\x11\xe0", "an Office file", "PDF"),
    (b"{\\rtf", "RTF", "PDF"),
    (b"<", "XML, SVG or HTML", "PDF"),
)
"""First bytes, what they stand for, and what to convert it to."""

_PDF_HEADER_WITHIN = 1024
"""Bytes within which "%PDF-" stands, whatever precedes it (PDF Reference 1.7, appendix H.3, 13)."""


@dataclass(frozen=True)
class File:
    """A file to read: by path, or its bytes."""

    source: str
    """Absolute path, or the name of a stream."""

    content: Path | bytes

    pages: tuple[tuple[int, float], ...] = ()
    """First and last numbers of the pages that are wanted of it; empty for what is wanted of all
    files."""

    @property
    def kind(self) -> str:
        """What kind of file it is: "PDF", or Pillow's name of the format.

        The first bytes tell, the suffix only where they say nothing. Raises `EmptyFile`,
        `UnsupportedFile` and `SourceNotFound`.
        """
        head = self._head()
        if not head:
            raise EmptyFile(f"{self.source} has no bytes; copy or scan it again")
        for magic, kind in _MAGIC:
            if head.startswith(magic):
                return kind
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return "WEBP"
        if b"%PDF-" in head:
            return "PDF"
        if head[4:8] == b"ftyp":
            raise UnsupportedFile(
                f"{self.source} is HEIC, AVIF or a video; convert it to JPEG or PNG first"
            )
        text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        for magic, foreign, form in _FOREIGN_MAGIC:
            if text.startswith(magic):
                raise UnsupportedFile(f"{self.source} is {foreign}; convert it to {form} first")
        suffix = Path(self.source).suffix.lower()
        if suffix not in KINDS:
            raise UnsupportedFile(f"{self.source} is of unknown kind; convert it to {_READ_HERE}")
        return KINDS[suffix]

    def _head(self) -> bytes:
        size = _PDF_HEADER_WITHIN + len(b"%PDF-")
        if isinstance(self.content, bytes):
            return self.content[:size]
        try:
            if os.path.isdir(self.content):  # noqa: PTH112  Path.is_dir raises where it may not look
                raise _unlisted(self.content) or UnsupportedFile(
                    f"{self.source} is a folder and no file; index or read it by itself"
                )
            if self.content.exists() and not self.content.is_file():
                raise UnsupportedFile(f"{self.source} is no regular file; copy it into one")
            with self.content.open("rb") as stream:
                return stream.read(size)
        except OSError as error:
            raise SourceNotFound(
                f"{self.source} cannot be opened ({error.strerror}); check path and permissions"
            ) from error

    def failed(self, error: KosmosLoaderError, number: int = 0, count: int = 0) -> Page:
        """The page that stands for one that cannot be read; number 0 is the whole file."""
        doc_id = document_id(self.source)
        return Page(self.source, doc_id, number, count, 0, 0, 0.0, error=Failure.of(error))


def is_one_file(source: object) -> bool:
    """Whether `source` names one file, rather than a folder, a pattern or several."""
    if isinstance(source, str | os.PathLike):
        return _exists(source, Path.is_file)
    return isinstance(source, bytes | bytearray | memoryview) or hasattr(source, "read")


class Named(Collection[Path]):
    """Paths, each once, of which the names alone are kept: a `Path` in a list takes 0.7 KB."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(dict.fromkeys(names))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self.names)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, Path) and str(path) in self.names


def files_of(source: object) -> list[File]:
    """The files that a path, pattern, bytes or file object stands for.

    A file object is read to its end; its name is kept where it has one. Raises `SourceError` as
    `found` does, and `UsageError` for anything else.
    """
    if isinstance(source, File):
        return [source]
    if isinstance(source, str | os.PathLike):
        return [File(str(path), path) for path in found(source)]
    if isinstance(source, bytes | bytearray | memoryview):
        return [File(_digest_name(bytes(source)), bytes(source))]
    data = _read(source)
    if not isinstance(data, bytes):
        raise UsageError(
            f"{reprlib.repr(source)} is no source; give a path, bytes or a file object opened "
            'with mode "rb"'
        )
    name = getattr(source, "name", None)
    # "<stdin>" and the like are no names of files
    if not isinstance(name, str) or not name or name.startswith("<"):
        return [File(_digest_name(data), data)]
    return [File(str(absolute(name)) if _exists(name) else name, data)]


def _read(source: object) -> object:
    """What a file object gives; None for anything else."""
    read = getattr(source, "read", None)
    try:
        return read() if read else None
    except (OSError, ValueError) as error:  # ValueError of one that is closed
        name = getattr(source, "name", reprlib.repr(source))
        raise SourceNotFound(f"{name} cannot be read ({error}); open it again") from error


def _digest_name(data: bytes) -> str:
    return f"bytes:{hashlib.blake2b(data, digest_size=8).hexdigest()}"


def found(source: str | os.PathLike[str]) -> list[Path]:
    """The files at one path or pattern, absolute and in natural order.

    Folders below it that cannot be listed come in their place: opening one tells why. Raises
    `SourceNotFound`, `UnsupportedFile` for an address, `UsageError` for an empty path.
    """
    try:
        text = os.fsdecode(source)
    except TypeError as error:
        raise UsageError(f"{reprlib.repr(source)} is no path; give text or a Path") from error
    if not text:
        raise UsageError("the path is empty; give a file, a folder or a pattern")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        raise UnsupportedFile(f"{text} is an address; download the file and give its path")
    if _exists(text, Path.is_dir):
        unlisted = _unlisted(absolute(text))
        if unlisted is not None:
            raise unlisted
        return _readable([text], f"folder {text}")
    if _exists(text):
        return [absolute(text)]
    if re.search(r"[*?[]", text):
        pattern = os.path.expanduser(text)  # noqa: PTH111  Path's raises for an unknown user
        return _readable(_matches(pattern), f"pattern {text}")
    raise SourceNotFound(_why_missing(text))


def _why_missing(text: str) -> str:
    try:
        absolute(text).lstat()
    except PermissionError:
        return f"{text} cannot be looked at; check the permissions of the folders it lies in"
    except (OSError, ValueError):
        pass
    return f"{text} does not exist; check the path"


def _readable(matches: Iterable[str], what: str) -> list[Path]:
    """The files to read among `matches` and in those of them that are folders, each once."""
    listed = {absolute(match) for match in matches}
    folders = {path for path in listed if os.path.isdir(path)}  # noqa: PTH112  as in _head
    unlisted: set[Path] = set()
    listed = listed.difference(folders).union(*(_below(folder, unlisted) for folder in folders))
    files = []
    for path in sorted(listed | unlisted, key=_natural):
        if path in unlisted or path.suffix.lower() in (*KINDS, *UNREADABLE_SCANS):
            files.append(path)
        else:
            log.debug("%s: passed over, of no kind that is read here", path)
    if not files:
        raise SourceNotFound(f"{what} holds no {_READ_HERE}; check the path and permissions")
    return files


def _unlisted(folder: Path) -> SourceNotFound | None:
    """Why a folder cannot be listed, None where it can."""
    try:
        with os.scandir(folder):
            return None
    except OSError as error:
        return SourceNotFound(
            f"folder {folder} cannot be listed ({error.strerror}); nothing below it was looked at: "
            "give yourself the right to read it (chmod u+rx), or leave it out"
        )


def _matches(pattern: str) -> Iterator[str]:
    """What `glob` finds, but that "**" follows no links to folders: they may run in circles."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.glob(pattern)  # noqa: PTH207  Path.glob wants a base folder
        return
    at = parts.index("**")
    bases = _matches(str(Path(*parts[:at]))) if at else ["."]
    for base in bases:
        if at == len(parts) - 1:
            yield base
            continue
        for parent, folders, _ in os.walk(base):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = _matches(str(Path(glob.escape(parent), *parts[at + 1 :])))
            yield from (m for m in below if not (Path(m).is_symlink() and Path(m).is_dir()))


def _below(folder: Path, unlisted: set[Path]) -> Iterator[Path]:
    """The files below a folder; folders there that cannot be listed are added to `unlisted`."""

    def note(error: OSError) -> None:
        unlisted.add(Path(error.filename))

    for parent, folders, names in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _natural(path: Path) -> tuple[object, ...]:
    """Sort key: numbers in names by value, letters without regard to case."""
    # pieces at odd places are digits, so that like is compared with like
    parts = (re.split(r"(\d+)", part.casefold()) for part in path.parts)
    keys = (tuple(int(p) if i % 2 else p for i, p in enumerate(part)) for part in parts)
    return tuple(keys), str(path)


def _exists(path: str | os.PathLike[str], test: Callable[[Path], bool] = Path.exists) -> bool:
    try:
        return test(absolute(path))
    except (OSError, ValueError):  # a name too long, or with a null byte
        return False


def absolute(path: str | os.PathLike[str]) -> Path:
    """`path` as it was given, made absolute; "~" is home, unless a file is called so."""
    # resolve() would follow links, and Path.expanduser() raises for an unknown user
    plain = Path(os.path.abspath(path))  # noqa: PTH100
    return plain if os.path.lexists(plain) else Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111
