from __future__ import annotations

import math
import os
import pickle
import signal
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from kosmos_loader.document import Line, Page, Reading
from kosmos_loader.errors import UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.readers.base import UnorderedReader
from kosmos_loader.readers.pool import ReaderPool
from kosmos_loader.readers.rapidocr import RapidOCRPageReader


class Reader:
    """Reads the number of a page; page 13 ends the process."""

    name, version = "fake", "1"

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        for page in pages:
            if page.number == 13:
                os._exit(1)
            text = f"page {page.number} read by {os.getpid()}"
            yield Reading(page.info, self.name, self.version, (Line(text, Box(0, 0, 1, 1)),))


def pages(numbers: Iterable[int], seen: list[int] | None = None) -> Iterator[Page]:
    for number in numbers:
        if seen is not None:
            seen.append(number)
        pixels = np.full((20, 20, 3), number, np.uint8)
        yield Page("/p", "d", number, 99, 20, 20, 72.0, pixels=pixels)


def text(reading: Reading) -> str:
    return reading.lines[0].text.partition(" read by")[0] if reading.lines else "failed"


@pytest.mark.slow
def test_readings_come_in_order_from_other_processes_and_few_pages_are_ahead() -> None:
    seen: list[int] = []
    with ReaderPool(Reader(), workers=2) as pool:
        readings = pool.read(pages(range(1, 12), seen))
        first = next(readings)
        assert len(seen) <= 4
        rest = list(readings)
    assert [text(r) for r in (first, *rest)] == [f"page {n}" for n in range(1, 12)]
    assert str(os.getpid()) not in first.lines[0].text
    assert (pool.name, pool.version) == ("fake", "1")


class WaitsForFile(Reader):
    """Does not come back from page 1 until there is a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        for page in pages:
            while page.number == 1 and not self.path.exists():
                time.sleep(0.01)
            yield from super().read([page])


@pytest.mark.slow
def test_a_page_that_takes_long_does_not_hold_up_those_behind_it(tmp_path: Path) -> None:
    seen: list[int] = []
    with ReaderPool(WaitsForFile(tmp_path / "go"), workers=2) as pool:
        assert isinstance(pool, UnorderedReader)
        readings = pool.read_as_completed(pages(range(1, 12), seen))
        some = list(islice(readings, 7))
        assert len(seen) <= len(some) + 3  # fewer than two a worker are under way
        (tmp_path / "go").touch()
        some += readings
    assert all(text(reading) == f"page {place + 1}" for place, reading in some)
    assert 0 not in [place for place, _ in some[:7]]
    assert sorted(place for place, _ in some) == list(range(11))


@pytest.mark.slow
def test_a_page_that_ends_its_process_is_one_failed_reading_and_no_other_is_lost() -> None:
    with ReaderPool(Reader(), workers=2) as pool:
        readings = list(pool.read(pages([1, 2, 13, 3, 13, 4, 5])))
        late = dict(pool.read_as_completed(pages([13, 1, 2, 13])))
        again = list(pool.read(pages([6])))
    expected = ["page 1", "page 2", "failed", "page 3", "failed", "page 4", "page 5"]
    assert [text(r) for r in readings] == expected
    errors = [r.error for r in readings if r.error]
    assert [e.type for e in errors] == ["process_died", "process_died"]
    assert "page 13 of /p was tried 2 times" in errors[0].message
    assert "exit code 1" in errors[0].message
    assert [text(late[place]) for place in range(4)] == ["failed", "page 1", "page 2", "failed"]
    assert [text(r) for r in again] == ["page 6"]


class Hangs(Reader):
    """Never comes back from page 13; page 14 is a bug."""

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        for page in pages:
            if page.number == 13:
                time.sleep(1000)
            if page.number == 14:
                raise ZeroDivisionError("of all things")
            yield from super().read([page])


@pytest.mark.slow
def test_a_page_that_hangs_is_cut_off_and_no_other_is_lost() -> None:
    with ReaderPool(Hangs(), workers=2, page_timeout=1) as pool:
        readings = list(pool.read(pages([1, 13, 2, 3, 14, 4])))
    texts = [text(r) for r in readings]
    assert texts == ["page 1", "failed", "page 2", "page 3", "failed", "page 4"]
    late, bug = [r.error for r in readings if r.error]
    assert late.type == "timeout"
    assert "page 13 of /p was not read within 1 seconds" in late.message
    assert bug.type == "reading"
    assert "ZeroDivisionError: of all things" in bug.message


@pytest.mark.slow
def test_a_page_that_hangs_is_cut_off_also_where_readings_are_taken_slowly() -> None:
    places = []
    with ReaderPool(Hangs(), workers=4, page_timeout=0.3) as pool:
        for place, _ in pool.read_as_completed(pages([13, *range(20, 100)])):
            places.append(place)
            time.sleep(0.05)
    assert sorted(places) == list(range(81))
    assert places.index(0) < 70


class KilledAsItStarts(Reader):
    """The first process that it comes to is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__dict__ = state
        if not self.path.exists():
            self.path.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_is_killed_as_it_starts_costs_no_page(tmp_path: Path) -> None:
    with ReaderPool(KilledAsItStarts(tmp_path / "killed"), workers=1) as pool:
        assert [text(r) for r in pool.read(pages([1, 2]))] == ["page 1", "page 2"]


@pytest.mark.slow
def test_a_page_may_take_for_ever() -> None:
    with ReaderPool(Reader(), workers=1, page_timeout=math.inf) as pool:
        assert [text(r) for r in pool.read(pages([1]))] == ["page 1"]


@pytest.mark.slow
def test_what_nobody_waits_for_any_more_does_not_come_up_later() -> None:
    with ReaderPool(Reader(), workers=2) as pool:
        readings = pool.read(pages([1, 2, 3, 4]))
        next(readings)
        readings.close()
        assert [text(r) for r in pool.read(pages([5, 6]))] == ["page 5", "page 6"]


@pytest.mark.slow
def test_a_page_that_was_in_hand_when_the_pool_was_closed_is_not_waited_for(tmp_path: Path) -> None:
    with ReaderPool(WaitsForFile(tmp_path / "never"), workers=2) as pool:
        readings = pool.read_as_completed(pages([1, 2]))
        next(readings)
    with pytest.raises(UsageError, match="before the pool is closed"):
        list(readings)


def test_settings_of_a_pool_that_read_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="no page is read in 0 seconds"):
        ReaderPool(Reader(), workers=1, page_timeout=0)


def test_no_workers_is_refused() -> None:
    with pytest.raises(UsageError, match="give 1 or more"):
        ReaderPool(Reader(), workers=0)


@pytest.mark.slow
def test_the_rapidocr_reader_goes_to_another_process_and_reads_there() -> None:
    reader = RapidOCRPageReader(threads=1)
    assert pickle.loads(pickle.dumps(reader)).version == reader.version  # noqa: S301 - our own
    with ReaderPool(reader, workers=1) as pool:
        [reading] = pool.read(pages([255]))
    assert reading.error is None
    assert reading.flags == ("blank",)
