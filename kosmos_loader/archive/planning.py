"""What is to be done about a file: nothing, some of its pages, or all of it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from kosmos_loader.document import Failure, PageInfo, document_id
from kosmos_loader.pages import Range
from kosmos_loader.readers.base import PageReader, SelectiveReader
from kosmos_loader.readers.pool import is_left_alone
from kosmos_loader.sources import File
from kosmos_loader.store import FileState, LedgerEntry, Store
from kosmos_loader.store.filters import encodable

_TICK = 2_000_000_000
"""Nanoseconds within which a file may change without its time showing it: FAT counts two seconds.
"""

ANEW = -1
"""Time of a file that was written within the last tick: its digest is asked the next time."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be done about a file."""

    path: Path
    place: int
    """Among all files, from 1."""

    ranges: Sequence[Range]
    """The pages that are asked for."""

    seen: FileState | None = None
    """The file as it is now, without what is made of it; None where it cannot be looked at."""

    count: int = 0
    """Pages in the file, 0 where that is not known."""

    known: dict[int, str] = field(default_factory=dict)
    """Keys of readings by page, of pages that need not be drawn."""

    left: dict[int, Failure] = field(default_factory=dict)
    """Why pages were given up that are not to be tried again."""

    left_pictures: dict[str, Failure] = field(default_factory=dict)
    """The same by the key of their reading, for a file in which they may stand elsewhere now."""

    fresh: frozenset[int] = frozenset()
    """Pages out of `known` and `left` that were read in this run, and told of."""

    is_done: bool = False
    """Whether nothing has to be done: it is unchanged, and its chunks are in the store."""

    holds: bool = False
    """Whether what the journal knows of its pages still holds."""

    @property
    def source(self) -> str:
        """The file's name in the store."""
        return str(self.path)

    @property
    def file(self) -> File:
        """What is opened: this file and no other, should its name look like a pattern."""
        return File(self.source, self.path)

    @property
    def numbers(self) -> list[int] | None:
        """The pages that are asked for; None where it is not known how many there are."""
        return picked(self.ranges, self.count) if self.count else None

    @property
    def missing(self) -> list[int] | None:
        """Those of which nothing is known; None where it is not known how many there are."""
        numbers = self.numbers if self.holds else None
        if numbers is None:
            return None
        return [n for n in numbers if n not in self.known and n not in self.left]

    @property
    def to_draw(self) -> Sequence[Range]:
        """The pages that have to be drawn; none where the file need not be opened."""
        if self.is_done or 0 in self.left:
            return []
        missing = self.missing
        return self.ranges if missing is None else ranges_of(missing)

    def left_out(self, count: int) -> int:
        """How many pages are not asked for, where the file has `count`."""
        gaps, end = 0, 0
        for first, last in sorted(self.ranges):
            gaps += max(0, min(first - 1, count) - end)
            end = max(end, int(min(last, count)))
        return gaps + count - end

    def page(self, number: int) -> PageInfo:
        """A page that was not looked at."""
        name = document_id(self.source)
        return PageInfo(self.source, name, number, self.count, width=0, height=0, dpi=0.0)


def picked(ranges: Sequence[Range], count: int) -> list[int]:
    """The pages of a file of so many that lie in one of `ranges`."""
    return [n for n in range(1, count + 1) if is_within(n, ranges)]


def is_within(number: int, ranges: Sequence[Range]) -> bool:
    """Whether a page is asked for."""
    return any(first <= number <= last for first, last in ranges)


def ranges_of(numbers: Iterable[int]) -> list[Range]:
    """`numbers` as few ranges."""
    ordered = sorted(numbers)
    if not ordered:
        return []
    breaks = [(a, b) for a, b in pairwise(ordered) if b > a + 1]
    starts = [ordered[0], *(b for _, b in breaks)]
    ends = [*(a for a, _ in breaks), ordered[-1]]
    return list(zip(starts, ends, strict=True))


class Planner:
    """Tells of each file what is to be done, from the journal of `store`."""

    def __init__(
        self,
        store: Store,
        reader: PageReader,
        *,
        chunk_size: int,
        ranges: Sequence[Range],
        force: bool = False,
    ) -> None:
        self._store = store
        self._reader = reader
        self._ranges = ranges
        self._force = force
        self._making = f"{importlib.metadata.version('kosmos-loader')}/{chunk_size}"

    def made(self, numbers: Iterable[int]) -> str:
        """How the chunks of these pages are made."""
        ranges = ",".join(f"{first}-{last}" for first, last in ranges_of(numbers))
        return f"{self._making}/{ranges}"

    def plan(self, path: Path, place: int) -> Plan:
        """The pages that are asked for, but those that are known or were given up."""
        before = self._store.journal.file(str(path))
        seen = self._seen(path, before)
        failed = self._store.ledger(str(path))
        given_up = [entry for entry in failed if entry.page and self._is_left(entry)]
        pictures = {entry.key: entry.failure for entry in given_up if entry.key}
        if seen is None or before is None or self._force or not _is_same(seen, before):
            return Plan(path, place, self._ranges, seen, left_pictures=pictures)
        if before.reader != seen.reader:
            return Plan(path, place, self._ranges, seen)
        known, count = self._known(path)
        plan = Plan(
            *(path, place, self._ranges, seen, count, known),
            left={entry.page: entry.failure for entry in given_up},
            left_pictures=pictures,
            holds=True,
        )
        if not self._is_made(plan, before):
            return plan
        if before.mtime_ns != seen.mtime_ns:
            self._store.journal.finish(_finished(seen, before.made, before.chunks))
        if any(entry.page == 0 for entry in failed):  # it could not be opened for a while
            self._store.clear_failures(str(path), [0])
        return Plan(path, place, self._ranges, seen, count, left=plan.left, is_done=True)

    def plan_again(self, path: Path, place: int) -> Plan:
        """What failed of a file: the file itself, or pages. What was read stays, whoever read it.

        A file that has changed meanwhile is taken up as a whole.
        """
        before = self._store.journal.file(str(path))
        seen = self._seen(path, before)
        failed = [entry.page for entry in self._store.ledger(str(path))]
        everything = self._ranges
        if seen is None or before is None or 0 in failed or not _is_same(seen, before):
            return Plan(path, place, everything, seen)
        known, count = self._known(path)
        asked = ranges_of([*known, *failed])
        # Who read the others is left as it was, or the next run would read them all again.
        seen = _finished(seen, "", 0, reader=before.reader)
        return Plan(path, place, asked, seen, count, known, holds=True)

    def _known(self, path: Path) -> tuple[dict[int, str], int]:
        pages = self._store.journal.pages(str(path))
        info = self._store.journal.page(str(path), pages[0].number) if pages else None
        return {page.number: page.key for page in pages}, info.count if info else 0

    def _is_made(self, plan: Plan, before: FileState) -> bool:
        """Whether all that is asked for was read or given up, and its chunks are in the store."""
        numbers = plan.numbers
        return (
            numbers is not None
            and all(number in plan.known or number in plan.left for number in numbers)
            and before.made == self.made(numbers)
            and before.chunks == self._store.journal.chunks(plan.source)
        )

    def _is_left(self, entry: LedgerEntry) -> bool:
        return not self._force and is_left_alone(entry.failure)

    def _seen(self, path: Path, before: FileState | None) -> FileState | None:
        try:
            size, mtime = looked_at(path)
            settled = mtime if time.time_ns() - mtime > _TICK else ANEW
            is_known = before is not None and (before.size, before.mtime_ns) == (size, mtime)
            digest = before.digest if before is not None and is_known else _digest(path)
        except OSError:
            return None
        return FileState(str(path), size, settled, digest, self._signature(str(path)))

    def _signature(self, source: str) -> str:
        """Who reads the file, and what beside it they look at."""
        name = f"{self._reader.name}/{self._reader.version}"
        if not isinstance(self._reader, SelectiveReader):
            return name
        beside = []
        for path in sorted(self._reader.companions(source)):
            try:
                beside.append((str(path), *looked_at(path)))
            except OSError:
                continue
        return f"{name}/{hashlib.blake2b(repr(beside).encode(), digest_size=8).hexdigest()}"


def looked_at(path: Path) -> tuple[int, int]:
    """Size and time of a regular file. Raises `OSError`."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is no regular file")
    return found.st_size, found.st_mtime_ns


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _is_same(seen: FileState, before: FileState) -> bool:
    return (seen.size, seen.digest) == (before.size, before.digest)


def _finished(seen: FileState, made: str, chunks: int, *, reader: str | None = None) -> FileState:
    return FileState(
        *(seen.source, seen.size, seen.mtime_ns, seen.digest, reader or seen.reader),
        *(made, chunks),
    )


def vanished(folders: Iterable[Path], known: Iterable[str], found: set[str]) -> list[str]:
    """Those files of `known` below one of `folders` that are no longer there, by name.

    A file is gone when its folder is still there, can be listed and holds something, and the file
    does not. Where the folder is gone too or is empty, a disk may not be mounted, and where it
    cannot be listed nobody knows: then the file counts as there.
    """
    # with a separator at the end, so that "scans" is not above "scans-2/a.png"
    below = tuple(encodable(os.path.join(folder, "")) for folder in folders)  # noqa: PTH118
    missing = (source for source in known if source not in found and source.startswith(below))
    return sorted(source for source in missing if _is_gone(path_of(source)))


def _is_gone(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        try:
            with os.scandir(path.parent) as entries:
                return next(entries, None) is not None
        except OSError:
            return False
    except (OSError, ValueError):
        return False
    return False


def listed_again(failed: Iterable[str]) -> list[str]:
    """Those in the ledger that are folders which can be listed now: their files stand for them."""
    return [source for source in failed if is_folder(path := path_of(source)) and _lists(path)]


def _lists(folder: Path) -> bool:
    try:
        with os.scandir(folder):
            return True
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether it is known to be a folder."""
    return os.path.isdir(path)  # noqa: PTH112  Path.is_dir raises where it may not look


def path_of(source: str) -> Path:
    """The file that stands in the store as `source`, where bytes that are no text are escaped."""
    path = Path(source)
    if r"\x" not in source or os.path.lexists(path):
        return path
    escaped = source.encode("utf-8", "surrogateescape")
    plain = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), escaped)
    named = Path(plain.decode("utf-8", "surrogatepass"))
    return named if "\0" not in str(named) and os.path.lexists(named) else path
