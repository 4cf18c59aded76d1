"""What the driver knows of files whose pages come in any order, without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from kosmos_loader.archive import Step, ingest
from kosmos_loader.archive.counting import FilesDone
from kosmos_loader.archive.elsewhere import Work
from kosmos_loader.archive.planning import Plan
from kosmos_loader.archive.progress import Pace
from kosmos_loader.distributed.ahead import PlannedAhead
from kosmos_loader.distributed.files import FileUnderWay, Outcome
from kosmos_loader.document import Page
from kosmos_loader.errors import ReadingError, SourceNotFound
from kosmos_loader.pages import open_pages
from kosmos_loader.store import FileState, Store
from kosmos_loader.testing import ScriptedReader


class LastPagesFirst:
    """Reads the last page of every file, then the last but one, as other machines might."""

    def read(self, plans: Iterator[Plan], work: Work) -> Iterator[Plan]:
        files = {plan.source: FileUnderWay(plan) for plan in plans if plan.to_draw}
        pages = [page for file in files.values() for page in _drawn(file)]
        for page in sorted(pages, key=lambda page: -page.number):
            [reading] = work.reader.read([page])
            file = files[page.source]
            file.take(Outcome(page.info, reading), work)
            if file.is_complete:
                yield file.plan()
            if work.stopping():
                return


def _drawn(file: FileUnderWay) -> list[Page]:
    return list(open_pages([file.origin.file], pages=file.job()["pages"]))


def scans(folder: Path, *, pages: int, files: int) -> Path:
    folder.mkdir()
    for file in range(files):
        first, *others = (Image.new("RGB", (40, 20), (file, page, 0)) for page in range(pages))
        first.save(folder / f"{file}.tif", save_all=True, append_images=others)
    return folder


def ignored(_: Page) -> str:
    return "words"


def test_what_is_done_is_counted_by_pages_and_not_by_the_furthest_file(tmp_path: Path) -> None:
    archive = scans(tmp_path / "scans", pages=5, files=4)
    steps: list[Step] = []
    pace = Pace()
    with Store.open(tmp_path / "store") as store:
        report = ingest(
            *(archive, store, ScriptedReader(ignored)),
            elsewhere=LastPagesFirst(),
            progress=lambda step: (steps.append(step), pace.take(step)),
            stopping=lambda: len(steps) >= 7,
        )
        run, totals = store.journal.last_run(), store.journal.totals()
    assert report.interrupted
    assert [(step.file, step.page) for step in steps[3:5]] == [(4, 5), (1, 4)]
    assert pace.done == pytest.approx(7 / 5)
    assert run is not None
    assert (run.files, run.reached, run.read) == (4, 0, 7)
    assert totals.remaining == 20 - 7


def test_pages_that_are_not_asked_for_are_no_part_of_what_is_to_be_done(tmp_path: Path) -> None:
    archive = scans(tmp_path / "scans", pages=5, files=3)
    pace, told = Pace(), []
    with Store.open(tmp_path / "store") as store:
        ingest(
            *(archive, store, ScriptedReader(ignored)),
            pages="1-2,2,4",
            elsewhere=LastPagesFirst(),
            progress=lambda step: (pace.take(step), told.append(pace.done)),
        )
        run = store.journal.last_run()
    assert told == [pytest.approx(n / 3) for n in range(1, 10)]
    assert run is not None
    assert (run.reached, run.ended) == (3, True)


def test_a_page_that_failed_before_and_is_read_now_is_counted_once(tmp_path: Path) -> None:
    archive = scans(tmp_path / "scans", pages=6, files=1)
    torn = ScriptedReader(lambda page: ReadingError("torn") if page.number > 3 else "words")
    steps: list[Step] = []
    with Store.open(tmp_path / "store") as store:
        ingest(archive, store, torn, pages="3-6")
        ingest(
            *(archive, store, ScriptedReader(ignored)),
            elsewhere=LastPagesFirst(),
            progress=steps.append,
            stopping=lambda: len(steps) >= 2,
        )
        # 3, 5 and 6 are read, 4 stands in the ledger still, 1 and 2 were not asked for
        assert store.journal.totals().remaining == 2


def test_shares_of_files_add_up_to_files() -> None:
    done = FilesDone()
    for page in range(1, 8):
        for file in range(1, 1001):
            done.take(Step("a", page, 7, file, 1002))
        assert done.with_shares == pytest.approx(1000 * page / 7)
        assert done.whole == (1000 if page == 7 else 0)
    done.take(Step("b", 7, 8, 1001, 1002))
    done.take(Step("c", 0, 0, 1002, 1002))
    assert (done.whole, done.with_shares) == (1001, 1001.125)


def test_a_file_that_fails_on_the_way_is_told_of_last_and_is_done_then(tmp_path: Path) -> None:
    archive = scans(tmp_path / "scans", pages=4, files=1)
    steps: list[Step] = []

    class GoesAway:
        def read(self, plans: Iterator[Plan], work: Work) -> Iterator[Plan]:
            [file] = map(FileUnderWay, plans)
            page = _drawn(file)[-1]
            [reading] = work.reader.read([page])
            file.take(Outcome(page.info, reading), work)
            gone = file.origin.file.failed(SourceNotFound("it is not there on node7"))
            [reading] = work.reader.read([gone])
            file.take(Outcome(gone.info, reading), work)
            yield file.plan()

    with Store.open(tmp_path / "store") as store:
        reader = ScriptedReader(ignored)
        ingest(archive, store, reader, elsewhere=GoesAway(), progress=steps.append)
        run = store.journal.last_run()
    assert [step.page for step in steps] == [4, 0]
    assert run is not None
    assert (run.reached, run.read, run.failed) == (1, 1, 1)


# Planned ahead


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plans(clock: Clock, count: int, *, is_done: bool = False) -> Iterator[Plan]:
    """Plans, each of which takes a second."""
    for number in range(1, count + 1):
        clock.now += 1
        path = Path(f"/scans/{number}.tif")
        state = FileState(str(path), 1, 1, "d", "r")
        yield Plan(path, number, [(1, 1)], state, is_done=is_done)


def test_few_files_are_one_batch_and_many_are_read_before_all_are_planned() -> None:
    clock = Clock()
    few = PlannedAhead(plans(clock, 15), lambda: False, seconds=20, clock=clock)
    assert list(few.plan_a_batch()) == []
    assert len(few.batch()) == 15
    assert list(few.plan_a_batch()) == []
    assert few.batch() == {}

    many = PlannedAhead(plans(clock, 100), lambda: False, seconds=20, clock=clock)
    sizes = []
    while sizes[-1:] != [0]:
        assert list(many.plan_a_batch()) == []
        sizes.append(len(many.batch()))
    assert sizes == [20, 40, 40, 0]


def test_files_are_planned_for_half_of_the_time_in_which_others_are_read() -> None:
    clock = Clock()
    ahead = PlannedAhead(plans(clock, 100), lambda: False, seconds=10, clock=clock)
    assert list(ahead.plan_a_batch()) == []
    assert len(ahead.batch()) == 10
    for _ in range(8):
        clock.now += 3  # a page is read
        assert list(ahead.plan_beside()) == []
    planned = clock.now - 10 - 8 * 3
    assert 20 <= planned <= 26
    before = clock.now
    assert list(ahead.plan_a_batch()) == []
    assert clock.now == max(before, 10 + 8 * 3 + 20)
    assert len(ahead.batch()) == max(planned, 20)


def test_files_of_which_nothing_is_to_be_drawn_come_at_once() -> None:
    clock = Clock()
    ahead = PlannedAhead(plans(clock, 5, is_done=True), lambda: False, seconds=2, clock=clock)
    found = ahead.plan_a_batch()
    assert [(next(found).place, clock.now) for _ in range(3)] == [(1, 1), (2, 2), (3, 3)]


def test_nothing_is_planned_once_the_run_is_to_stop() -> None:
    clock = Clock()
    ahead = PlannedAhead(plans(clock, 5), lambda: clock.now >= 3, seconds=20, clock=clock)
    assert list(ahead.plan_a_batch()) == []
    assert clock.now == 3
