"""One page of a TIFF file as a file of its own, and where in the file the pages begin.

libtiff, asked for a page, goes through the directories of all pages before it decodes one, and maps
the whole file to do so: of a file of 10,000 small pages a page takes 6 ms in place of 0.9. A copy
of what belongs to the one page spares that.

The layout is that of TIFF 6.0 (section 2) and of BigTIFF.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

_SIZES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), start=1)) | dict.fromkeys(
    (16, 17, 18), 8
)
"""Bytes of a value, by its type."""

_WHOLE = {3: "H", 4: "I", 16: "Q"}
"""Types of unsigned numbers, as `struct` names them."""

_COMPRESSION = 259
_OLD_JPEG = 6
"""Compression whose tables lie anywhere in the file."""

_PLACES = {273: 279, 324: 325}
"""Tags that say where strips or tiles begin, and those that say how long they are."""

_DIRECTORIES = (330, 34665, 34853, 40965)
"""Tags that point to further directories: levels of a pyramid, EXIF, GPS."""


@dataclass(frozen=True)
class _Layout:
    """How numbers are written in a file."""

    order: str
    """Of bytes, as `struct` names it."""

    is_big: bool

    @property
    def place(self) -> str:
        """A place in the file."""
        return "Q" if self.is_big else "I"

    @property
    def count(self) -> str:
        """How many entries a directory has."""
        return "Q" if self.is_big else "H"

    @property
    def room(self) -> int:
        """Bytes of a value that stand in the directory itself."""
        return 8 if self.is_big else 4

    @property
    def entry(self) -> struct.Struct:
        """An entry of a directory: tag, type, number of values, and the values or their place."""
        return struct.Struct(f"{self.order}HH{self.place}{self.room}s")

    def pack(self, form: str, *values: int) -> bytes:
        return struct.pack(self.order + form, *values)

    def header(self) -> bytes:
        """The beginning of a file whose directory comes next."""
        mark = b"II" if self.order == "<" else b"MM"
        told = self.pack("HHH", 43, 8, 0) if self.is_big else self.pack("H", 42)
        length = len(mark) + len(told) + self.room
        return mark + told + self.pack(self.place, length)


@dataclass(frozen=True)
class _Entry:
    """An entry of a directory, its values as bytes."""

    tag: int
    type: int
    many: int
    values: bytes


def copied(file: BinaryIO, directory: int) -> io.BytesIO | None:
    """The page whose directory lies at byte `directory` of `file`, alone in a file.

    None where that is no copy of some bytes: for the old form of JPEG, and for what is damaged, so
    that libtiff makes of it what it can.
    """
    end = file.seek(0, io.SEEK_END)
    try:
        layout = _layout(file)
        listed = _entries(file, layout, directory, end)
        entries = {entry.tag: entry for entry in listed}
        if len(entries) < len(listed):  # it depends on the reader which of them counts
            return None
        parts = _parts(layout, entries, end)
    except (_NotCopied, struct.error):
        return None
    alone = io.BytesIO()
    _write(alone, layout, entries, [length for _, length in parts])
    for start, length in parts:
        file.seek(start)
        alone.write(file.read(length))
    alone.seek(0)
    return alone


def directories(file: BinaryIO) -> list[int]:
    """Where the directory of each page begins, in the order of the pages.

    Each tells where the next one is, whatever else is damaged in it. The list ends where one tells
    none, or one that was met before; a last place outside the file is in it, as a page was meant.
    """
    end = file.seek(0, io.SEEK_END)
    try:
        layout = _layout(file)
    except _NotCopied:
        return []
    places: dict[int, None] = {}
    left, told = end, layout.room  # the header tells the first
    while left > 0:  # directories that lie upon each other make no more pages than fit
        place = _number_at(file, layout, told, layout.place, end)
        if not place or place in places:
            break
        places[place] = None
        many = _number_at(file, layout, place, layout.count, end)
        if many is None:
            break
        length = struct.calcsize(layout.order + layout.count) + many * layout.entry.size
        left -= length
        told = place + length
    return list(places)


def _number_at(file: BinaryIO, layout: _Layout, place: int, form: str, end: int) -> int | None:
    """The number that stands at `place`, None outside the file."""
    size = struct.calcsize(layout.order + form)
    if place + size > end:
        return None
    file.seek(place)
    number: int = struct.unpack(layout.order + form, file.read(size))[0]
    return number


class _NotCopied(Exception):
    """The page cannot be copied."""


def _layout(file: BinaryIO) -> _Layout:
    file.seek(0)
    header = file.read(4)
    for order, mark in (("<", b"II"), (">", b"MM")):
        for version in (42, 43):
            if header == mark + struct.pack(f"{order}H", version):
                return _Layout(order, version == 43)
    raise _NotCopied


def _entries(file: BinaryIO, layout: _Layout, directory: int, end: int) -> list[_Entry]:
    """The entries of a directory, but those that lead elsewhere or have a type of no size."""
    file.seek(directory)
    counted = file.read(struct.calcsize(layout.order + layout.count))
    (many,) = struct.unpack(layout.order + layout.count, counted)
    if many > 0xFFFF:
        raise _NotCopied
    listed = file.read(many * layout.entry.size)
    entries, left = [], end
    for tag, kind, number, inside in layout.entry.iter_unpack(listed):
        size = _SIZES.get(kind, 0) * number
        if not size or tag in _DIRECTORIES:
            continue
        left -= size
        if left < 0:  # values that lie upon each other
            raise _NotCopied
        entries.append(_Entry(tag, kind, number, _values(file, layout, inside, size, end)))
    if len(listed) < many * layout.entry.size:
        raise _NotCopied
    return entries


def _values(file: BinaryIO, layout: _Layout, inside: bytes, size: int, end: int) -> bytes:
    if size <= layout.room:
        return inside[:size]
    (place,) = struct.unpack(layout.order + layout.place, inside)
    if place + size > end:  # perhaps so far off that no file can be sought there
        raise _NotCopied
    file.seek(place)
    values = file.read(size)
    if len(values) < size:
        raise _NotCopied
    return values


def _parts(layout: _Layout, entries: dict[int, _Entry], end: int) -> list[tuple[int, int]]:
    """Where in the file the strips or tiles begin, and how long they are."""
    if _OLD_JPEG in _numbers(layout, entries.get(_COMPRESSION)):
        raise _NotCopied
    for begin, long in _PLACES.items():
        starts = _numbers(layout, entries.get(begin))
        lengths = _numbers(layout, entries.get(long))
        if starts and len(starts) == len(lengths):
            parts = list(zip(starts, lengths, strict=True))
            break
    else:
        raise _NotCopied
    if sum(lengths) > end or any(not n or start + n > end for start, n in parts):
        raise _NotCopied
    return parts


def _numbers(layout: _Layout, entry: _Entry | None) -> tuple[int, ...]:
    """Whole numbers; none where there is no such entry, or where it holds others."""
    if entry is None or entry.type not in _WHOLE:
        return ()
    return struct.unpack(f"{layout.order}{entry.many}{_WHOLE[entry.type]}", entry.values)


def _write(file: BinaryIO, layout: _Layout, entries: dict[int, _Entry], lengths: list[int]) -> None:
    """Everything in front of the strips, which come one after the other."""
    begins = next(tag for tag, long in _PLACES.items() if tag in entries and long in entries)
    kind = next(kind for kind, form in _WHOLE.items() if form == layout.place)
    told = entries | {begins: _Entry(begins, kind, len(lengths), bytes(layout.room * len(lengths)))}
    ordered = sorted(told.values(), key=lambda entry: entry.tag)
    header = layout.header()
    after = len(header) + len(layout.pack(layout.count, 0)) + layout.room
    after += layout.entry.size * len(ordered)
    first = after + sum(len(e.values) for e in ordered if len(e.values) > layout.room)
    starts = [first]
    for length in lengths[:-1]:
        starts.append(starts[-1] + length)
    file.write(header + layout.pack(layout.count, len(ordered)))
    outside = []
    for entry in ordered:
        values = entry.values
        if entry.tag == begins:
            values = layout.pack(f"{len(starts)}{layout.place}", *starts)
        if len(values) > layout.room:
            outside.append(values)
            values, after = layout.pack(layout.place, after), after + len(values)
        inside = values.ljust(layout.room, b"\0")
        file.write(layout.entry.pack(entry.tag, entry.type, entry.many, inside))
    file.write(layout.pack(layout.place, 0))  # no directory comes behind it
    for values in outside:
        file.write(values)
