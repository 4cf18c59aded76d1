"""What was made of which file: so that a run need not look at what has not changed.

Of a file are kept its size, time and digest, who read it, and how its chunks were made once all of
them are in; of each of its pages the key under which its reading is kept.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import NamedTuple

from kosmos_loader.document import PageInfo, Reading
from kosmos_loader.errors import StoreCorrupt
from kosmos_loader.store.filters import encodable
from kosmos_loader.store.rows import json_of


def reading_of(text: str) -> Reading:
    """The reading that was kept as `text`. Raises `StoreCorrupt` where it is none."""
    try:
        return Reading.from_dict(json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StoreCorrupt(f"what was kept of it cannot be used ({error})") from error


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it was when it was last taken up."""

    source: str
    size: int
    mtime_ns: int
    """-1 where it had been written so shortly before that its time proves nothing."""

    digest: str
    """Of its bytes."""

    reader: str
    """Who read it: name and version of the reader, and the files beside it that it looks at."""

    made: str = ""
    """How its chunks were made; empty until all of them are in the store."""

    chunks: int = 0
    """Chunks of the file that were in the store then."""


class KnownPage(NamedTuple):
    """A page of such a file whose reading is kept."""

    number: int
    key: str
    flags: tuple[str, ...]


class Totals(NamedTuple):
    """Counts over all files."""

    files: int
    unfinished: int
    """Files that a run took up and did not come to the end of."""

    pages: int
    """Pages that were read."""

    flagged: int
    """Pages that were read with a warning."""

    remaining: int = 0
    """Pages of unfinished files that were neither read nor failed, where their number is known."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """How far the last run came, and how fast it was; noted every second and at its end."""

    begun: float
    """Seconds since 1970."""

    seen: float
    """When this was noted."""

    files: int
    """Files that it was to look at."""

    reached: int = 0
    """How many of them it is done with."""

    read: int = 0
    """Pages that it read, without those that had been read before."""

    failed: int = 0
    flagged: int = 0
    ended: bool = False
    """Whether it came to the end of its files; else it is going on, was stopped or was killed."""

    @property
    def pages_per_second(self) -> float | None:
        """None where it has read nothing."""
        return (
            self.read / (self.seen - self.begun) if self.read and self.seen > self.begun else None
        )


class Journal:
    """The journal of a store, as `Store.journal`."""

    def __init__(
        self,
        reading: Callable[[], AbstractContextManager[sqlite3.Connection]],
        writing: Callable[[], AbstractContextManager[sqlite3.Connection]],
    ) -> None:
        self._reading = reading
        self._writing = writing

    def file(self, source: str) -> FileState | None:
        """What is known of a file."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT size, mtime, digest, reader, made, chunks FROM files WHERE source = ?",
                (encodable(source),),
            ).fetchone()
        return FileState(source, *row) if row else None

    def sources(self) -> list[str]:
        """The files that are known, by name."""
        with self._reading() as connection:
            rows = connection.execute("SELECT source FROM files ORDER BY source").fetchall()
        return [source for (source,) in rows]

    def pages(self, source: str) -> list[KnownPage]:
        """The pages of a file that are read, by number."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT page, key, flags FROM pages WHERE source = ? ORDER BY page",
                (encodable(source),),
            ).fetchall()
        return [KnownPage(page, key, tuple(filter(None, f.split(",")))) for page, key, f in rows]

    def chunks(self, source: str) -> int:
        """Chunks of a file that are in the store now."""
        with self._reading() as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM entries WHERE source = ?", (encodable(source),)
            ).fetchone()
        return int(count)

    def page(self, source: str, number: int) -> PageInfo | None:
        """What is known of a page that is read."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT info FROM pages WHERE source = ? AND page = ?",
                (encodable(source), number),
            ).fetchone()
        try:
            return PageInfo.from_dict(json.loads(row[0])) if row else None
        except (ValueError, LookupError, TypeError, AttributeError):  # damaged: it is drawn again
            return None

    def begin(self, state: FileState, *, anew: bool) -> None:
        """A file is taken up; `anew` where what is known of its pages holds no longer."""
        with self._writing() as connection:
            if anew:
                _forget(connection, "pages", state.source)
            self._put(connection, state)

    def finish(self, state: FileState) -> None:
        """All chunks of a file are in the store."""
        with self._writing() as connection:
            self._put(connection, state)

    def _put(self, connection: sqlite3.Connection, state: FileState) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                encodable(state.source),
                *(state.size, state.mtime_ns, state.digest, state.reader),
                *(state.made, state.chunks),
            ),
        )

    def keep(self, key: str, reading: Reading, *, is_new: bool) -> None:
        """A page is read: committed at once, together with its reading where that `is_new`."""
        page = reading.page
        with self._writing() as connection:
            if is_new:
                connection.execute(
                    "INSERT OR REPLACE INTO readings VALUES (?, ?)",
                    (key, json_of(reading.to_dict())),
                )
            connection.execute(
                "INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?, ?)",
                (
                    *(encodable(page.source), page.number, key, ",".join(reading.flags)),
                    json_of(PageInfo.to_dict(page)),
                ),
            )

    def forget(self, source: str) -> None:
        """A file is no longer there."""
        with self._writing() as connection:
            _forget(connection, "pages", source)
            _forget(connection, "files", source)

    def keys(self) -> Iterator[str]:
        """The keys under which readings are kept, whatever file they are of."""
        with self._reading() as connection:
            yield from (key for (key,) in connection.execute("SELECT key FROM readings"))

    def totals(self) -> Totals:
        """Counts over all files."""
        with self._reading() as connection:
            (files, unfinished) = connection.execute(
                "SELECT count(*), coalesce(sum(made = ''), 0) FROM files"
            ).fetchone()
            (pages, flagged) = connection.execute(
                "SELECT count(*), coalesce(sum(flags <> ''), 0) FROM pages"
            ).fetchone()
            (remaining,) = connection.execute(_REMAINING).fetchone()
        return Totals(files, unfinished, pages, flagged, remaining)

    def note_run(self, run: LastRun) -> None:
        """How far a run is."""
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO meta VALUES ('run', ?)", (json_of(asdict(run)),)
            )

    def last_run(self) -> LastRun | None:
        """What was noted of the run before, None where nothing was."""
        with self._reading() as connection:
            row = connection.execute("SELECT value FROM meta WHERE name = 'run'").fetchone()
        try:
            return LastRun(**json.loads(row[0])) if row else None
        except (TypeError, ValueError):
            return None


_REMAINING = """
SELECT coalesce(sum(max(0, count - read - failed)), 0) FROM (
  SELECT
    max(CASE WHEN json_valid(pages.info) THEN json_extract(pages.info, '$.count') END) AS count,
    count(*) AS read,
    (SELECT count(*) FROM failures WHERE failures.source = files.source AND failures.page > 0
      AND failures.page NOT IN (SELECT page FROM pages AS again WHERE again.source = files.source))
    AS failed
  FROM files JOIN pages ON pages.source = files.source WHERE files.made = '' GROUP BY files.source
)
"""


def _forget(connection: sqlite3.Connection, table: str, source: str) -> None:
    connection.execute(
        f"DELETE FROM {table} WHERE source = ?",  # noqa: S608 - one of two names
        (encodable(source),),
    )
