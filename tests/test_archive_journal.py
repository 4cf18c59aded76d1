"""What a run need not look at, what it tries again, and what it takes out of the store."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kosmos_loader.archive import Report, Step, ingest, retry_failed
from kosmos_loader.cli import app
from kosmos_loader.document import Failure, Line, Page
from kosmos_loader.errors import PageTimeout, ReadingError, SourceNotFound, UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.store import Entry, Store
from kosmos_loader.testing import ScriptedReader

HOUR = 3_600_000_000_000


def picture(shade: int) -> Image.Image:
    pixels = np.full((60, 40, 3), 255, np.uint8)
    pixels[10:20, 5:35] = shade
    return Image.fromarray(pixels)


def tiff(path: Path, *shades: int) -> Path:
    """A file that was last changed a while ago."""
    first, *others = (picture(shade) for shade in shades)
    path.parent.mkdir(exist_ok=True, parents=True)
    first.save(path, save_all=True, append_images=others)
    return aged(path)


def aged(path: Path, hours: int = 2) -> Path:
    time = path.stat().st_mtime_ns - hours * HOUR
    os.utime(path, ns=(time, time))
    return path


def spoil(path: Path) -> None:
    """Makes `path` unreadable without its size and time telling."""
    found = path.stat()
    path.write_bytes(b"?" * found.st_size)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def shade_of(page: Page) -> int:
    return int(page.pixels[15, 20, 0])


def reader(*, fails: dict[int, Exception] | None = None, version: str = "1") -> ScriptedReader:
    """Says twenty words a page; fails on pages of a shade."""

    def script(page: Page) -> Line:
        shade = shade_of(page)
        if fails and shade in fails:
            raise fails[shade]
        return Line(f"The shade is number {shade}. " * 4, Box(0.1, 0.1, 0.9, 0.2), 0.9)

    return ScriptedReader(script, version=version)


def seen(scripted: ScriptedReader) -> list[tuple[str, int]]:
    return [(Path(page.source).name, page.number) for page in scripted.seen]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return tmp_path / "scans"


def names(store: Store) -> list[str]:
    return [Path(summary.source).name for summary in store.sources()]


# Unchanged files


def test_an_unchanged_file_is_not_opened_again(scans: Path, store: Store) -> None:
    path = tiff(scans / "a.tif", 10, 20)
    ingest(scans, store, reader())
    spoil(path)
    report = ingest(scans, store, reader())
    assert report == Report(files=1, pages=2, chunks=2, reused=2, unchanged=1)


def test_another_chunk_size_cuts_kept_readings_anew_without_opening_the_file(
    scans: Path, store: Store
) -> None:
    path = tiff(scans / "a.tif", 10, 20)
    ingest(scans, store, reader())
    before = store.ids()
    spoil(path)
    again = reader()
    report = ingest(scans, store, again, chunk_size=50)
    assert (report.failed, report.unchanged, report.reused, again.seen) == ((), 0, 2, [])
    assert not before & store.ids()
    assert all(len(chunk.text) <= 50 for chunk in store.get(store.ids()))
    ingest(scans, store, again)
    assert store.ids() == before


def test_a_file_that_was_only_touched_is_unchanged(scans: Path, store: Store) -> None:
    path = tiff(scans / "a.tif", 10)
    ingest(scans, store, reader())
    aged(path, 1)
    assert ingest(scans, store, reader()).unchanged == 1
    spoil(path)  # the new time is known by now
    assert ingest(scans, store, reader()).unchanged == 1


def test_a_file_that_changed_as_it_was_indexed_is_looked_at_by_its_digest(
    scans: Path, store: Store
) -> None:
    scans.mkdir()
    path = scans / "a.png"
    picture(10).save(path)  # within the tick of a clock
    ingest(scans, store, reader())
    assert ingest(scans, store, reader()).unchanged == 1
    picture(10).save(path, compress_level=0)
    ingest(scans, store, reader())
    spoil(path)
    assert len(ingest(scans, store, reader()).failed) == 1


def test_force_looks_at_a_file_again_and_reads_no_picture_twice(scans: Path, store: Store) -> None:
    path = tiff(scans / "a.tif", 10)
    ingest(scans, store, reader())
    again = reader()
    report = ingest(scans, store, again, force=True)
    assert (report.unchanged, report.reused, again.seen) == (0, 1, [])
    spoil(path)
    assert len(ingest(scans, store, reader(), force=True).failed) == 1


def test_what_was_taken_out_of_the_store_comes_back(scans: Path, store: Store) -> None:
    path = tiff(scans / "a.tif", 10, 20)
    ingest(scans, store, reader())
    before = store.ids()
    store.delete([next(iter(before))])
    assert ingest(scans, store, reader()).unchanged == 0
    assert store.ids() == before
    store.delete(source=str(path))
    store.forget_readings(str(path))
    again = reader()
    ingest(scans, store, again)
    assert (store.ids(), len(again.seen)) == (before, 2)


def test_a_page_whose_record_is_damaged_is_drawn_again(scans: Path, store: Store) -> None:
    tiff(scans / "a.tif", 10, 20)
    ingest(scans, store, reader())
    with sqlite3.connect(store.folder / "store.sqlite") as connection:
        connection.execute("UPDATE pages SET info = '{' WHERE page = 1")
        connection.execute("UPDATE files SET made = ''")
    connection.close()
    assert store.journal.totals().pages == 2
    again = reader()
    assert ingest(scans, store, again).pages == 2
    assert again.seen == []


def test_entries_that_others_keep_of_a_file_outlive_its_chunks(scans: Path, store: Store) -> None:
    path = tiff(scans / "a.tif", 10)
    ingest(scans, store, reader())
    store.put([Entry("summary", "a letter", source=str(path))])
    ingest(scans, store, reader())
    tiff(path, 20)
    ingest(scans, store, reader())
    assert [entry.text for entry in store.entries(["summary"])] == ["a letter"]
    assert len(store) == 2


def test_readings_of_a_file_that_was_renamed_are_dropped_with_it(scans: Path, store: Store) -> None:
    path = tiff(scans / "a.tif", 10)
    ingest(scans, store, reader())
    path.rename(scans / "b.tif")
    again = reader()
    ingest(scans, store, again)
    assert again.seen == []
    assert store.forget_readings(str(scans / "b.tif")) == 1
    assert store.stats()["readings"] == 0


def test_pages_beyond_the_end_leave_a_file_that_is_known_as_it_is(
    scans: Path, store: Store
) -> None:
    tiff(scans / "a.tif", 10)
    ingest(scans, store, reader())
    report = ingest(scans, store, reader(), pages="5")
    assert [failed.failure.type for failed in report.failed] == ["usage"]
    assert "has 1 page, none of those asked for" in report.failed[0].failure.message
    assert store.journal.totals().unfinished == 0
    assert ingest(scans, store, reader()).unchanged == 1
    assert store.failures() == []


def test_what_was_given_up_of_one_file_does_not_stop_the_next(scans: Path, store: Store) -> None:
    tiff(scans / "a.tif", 10, 20)
    ingest(scans, store, reader(fails={20: PageTimeout("too slow")}))
    tiff(scans / "b.tif", 30, 40)
    assert ingest(scans, store, reader(), on_error="stop").pages == 3


def test_a_changed_file_reads_its_changed_pages_only(scans: Path, store: Store) -> None:
    path = tiff(scans / "a.tif", 10, 20, 30)
    ingest(scans, store, reader())
    tiff(path, 10, 25, 30)
    again = reader()
    report = ingest(scans, store, again)
    assert seen(again) == [("a.tif", 2)]
    assert (report.reused, report.unchanged) == (2, 0)
    assert ingest(scans, store, again).unchanged == 1


def test_pages_that_were_not_asked_for_before_are_drawn_and_the_others_are_not(
    scans: Path, store: Store
) -> None:
    tiff(scans / "a.tif", 10, 20, 30)
    assert ingest(scans, store, reader(), pages="2").unchanged == 0
    assert ingest(scans, store, reader(), pages="2").unchanged == 1
    again = reader()
    report = ingest(scans, store, again)
    assert seen(again) == [("a.tif", 1), ("a.tif", 3)]
    assert (report.pages, report.unchanged) == (3, 0)
    assert ingest(scans, store, reader()).unchanged == 1


def test_cutting_anew_that_was_interrupted_is_not_taken_for_done(scans: Path, store: Store) -> None:
    tiff(scans / "a.tif", 10, 20, 30)
    ingest(scans, store, reader())
    before = store.ids()

    def interrupt(step: Step) -> None:
        if step.page == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(scans, store, reader(), chunk_size=50, progress=interrupt)
    assert ingest(scans, store, reader()).unchanged == 0
    assert store.ids() == before


def test_flags_of_files_that_are_passed_over_are_reported(scans: Path, store: Store) -> None:
    path = tiff(scans / "a.tif", 10)
    ingest(scans, store, ScriptedReader([{"flags": ["blank"]}]))
    assert ingest(scans, store, ScriptedReader([])).flagged == ((str(path), 1, ("blank",)),)


def test_pages_drawn_in_other_processes_give_the_same_store(scans: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        tiff(scans / f"{name}.tif", *range(10, 60, 10))
    (scans / "bad.png").write_bytes(b"")
    with Store.open(tmp_path / "one") as one, Store.open(tmp_path / "two") as two:
        here = ingest(scans, one, reader())
        there = ingest(scans, two, reader(), drawing=1)
        assert one.get(sorted(one.ids())) == two.get(sorted(two.ids()))
    assert here == there


def test_a_run_that_breaks_off_leaves_no_process_behind(scans: Path, store: Store) -> None:
    path = tiff(scans / "a.tif", *range(10, 120, 10))

    def break_off(step: Step) -> None:
        raise RuntimeError(f"page {step.page}")

    with pytest.raises(RuntimeError, match="page 1") as broken:
        ingest(path, store, reader(), drawing=1, progress=break_off)
    assert broken.value.__traceback__  # which holds on to all that was at work
    assert multiprocessing.active_children() == []


def test_what_remains_of_a_file_is_drawn_in_other_processes_as_whole_files_are(
    scans: Path, tmp_path: Path
) -> None:
    for name in ("a", "b", "c", "d"):
        tiff(scans / f"{name}.tif", *range(10, 60, 10))
    with Store.open(tmp_path / "one") as one, Store.open(tmp_path / "two") as two:
        ingest(scans, one, reader())
        for name, some in (("a", "2,4"), ("b", "1-5"), ("d", "1,2")):
            ingest(scans / f"{name}.tif", two, reader(), pages=some)
        drawing: list[int] = []
        steps: list[Step] = []

        def look(step: Step) -> None:
            steps.append(step)
            drawing.append(len(multiprocessing.active_children()))

        again = reader()
        report = ingest(scans / "a.tif", two, again, drawing=1, progress=look)
        assert (report.pages, report.reused) == (5, 5)
        assert 1 in drawing
        report = ingest(scans, two, again, drawing=1, progress=steps.append)
        assert one.get(sorted(one.ids())) == two.get(sorted(two.ids()))
    assert again.seen == []  # they all show what is known
    assert [step.page for step in steps] == [1, 2, 3, 4, 5] * 5
    assert report.pages == 20


def test_pages_that_a_file_has_lost_since_do_not_take_those_of_the_next(
    scans: Path, store: Store
) -> None:
    tiff(scans / "a.tif", 10, 20, 30)
    tiff(scans / "b.tif", 40)
    ingest(scans / "a.tif", store, reader(), pages="1")
    report = ingest(scans, store, reader(), pages="2-9", drawing=1)
    assert [(Path(f.source).name, f.page) for f in report.failed] == [("b.tif", 0)]
    assert sorted(chunk.page for chunk in store.get(store.ids())) == [1, 2, 3]


def test_nothing_of_a_file_that_was_removed_stays_in_the_journal(
    scans: Path, tmp_path: Path
) -> None:
    path = tiff(scans / "a.tif", 10)
    with Store.open(tmp_path / "store") as store:
        ingest(scans, store, ScriptedReader([{"flags": ["blank"]}]))
    arguments = ["remove", str(path), "--store", str(tmp_path / "store")]
    assert CliRunner().invoke(app, arguments).exit_code == 0  # though no chunk is of it
    with Store.open(tmp_path / "store") as store:
        assert store.journal.totals() == (0, 0, 0, 0, 0)
        again = reader()
        ingest(scans, store, again)
    assert len(again.seen) == 1


# Vanished files


def test_chunks_of_a_file_that_is_gone_from_its_folder_go(scans: Path, store: Store) -> None:
    tiff(scans / "a.tif", 10)
    gone = tiff(scans / "b.tif", 20)
    ingest(scans, store, reader())
    gone.unlink()
    assert ingest(scans / "a.tif", store, reader()).vanished == ()
    assert ingest(scans, store, reader()).vanished == (str(gone),)
    assert names(store) == ["a.tif"]
    assert store.journal.totals().files == 1


@pytest.mark.parametrize("alone", [True, False])
def test_chunks_of_the_last_scan_of_a_folder_go_too(
    scans: Path, store: Store, *, alone: bool
) -> None:
    gone = tiff(scans / "a.tif", 10)
    ingest(scans, store, reader())
    gone.unlink()
    (scans / "notes.txt").write_text("no scan")
    report = ingest(scans if alone else [scans], store, reader())
    assert (report.files, report.failed, report.vanished) == (0, (), (str(gone),))
    assert len(store) == 0
    with pytest.raises(SourceNotFound, match="holds no"):  # nothing is known of it any more
        ingest(scans, store, reader())


def test_chunks_stay_where_a_disk_may_not_be_mounted(scans: Path, store: Store) -> None:
    tiff(scans / "a.tif", 10)
    on_disk = tiff(scans / "disk" / "b.tif", 20).parent
    tiff(scans / "other" / "c.tif", 30)
    ingest(scans, store, reader())
    shutil.rmtree(on_disk)
    assert ingest(scans, store, reader()).vanished == ()
    on_disk.mkdir()
    assert ingest(scans, store, reader()).vanished == ()
    with pytest.raises(SourceNotFound):
        ingest(scans.with_name("scan"), store, reader())
    assert names(store) == ["a.tif", "b.tif", "c.tif"]


def test_a_file_that_was_moved_is_not_read_again(scans: Path, store: Store) -> None:
    path = tiff(scans / "a.tif", 10)
    ingest(scans, store, reader())
    path.rename(scans / "b.tif")
    again = reader()
    ingest(scans, store, again)
    assert (names(store), again.seen) == (["b.tif"], [])


# Failures


def test_a_page_that_was_cut_off_is_left_until_it_is_asked_for(scans: Path, store: Store) -> None:
    path = tiff(scans / "a.tif", 10, 20, 30)
    hangs = {20: PageTimeout("too slow")}
    ingest(scans, store, reader(fails=hangs))
    again = reader()
    report = ingest(scans, store, again)
    assert (again.seen, report.unchanged, report.pages) == ([], 1, 2)
    assert report.failed == ((str(path), 2, Failure("timeout", "too slow")),)
    assert store.failures() == list(report.failed)
    tiff(path, 5, 20, 10)  # it stands elsewhere or not, it is the same picture
    ingest(scans, store, again)
    assert seen(again) == [("a.tif", 1)]
    report = retry_failed(store, again)
    assert seen(again)[1:] == [("a.tif", 2)]
    assert (report.pages, store.failures()) == (3, [])
    assert ingest(scans, store, reader()).unchanged == 1


def test_the_only_page_of_a_file_is_left_too_unless_forced(scans: Path, store: Store) -> None:
    tiff(scans / "a.tif", 10)
    ingest(scans, store, reader(fails={10: PageTimeout("too slow")}))
    again = reader()
    assert len(ingest(scans, store, again).failed) == 1
    assert again.seen == []
    assert ingest(scans, store, again, force=True).failed == ()


def test_another_reader_is_given_what_was_cut_off(scans: Path, store: Store) -> None:
    tiff(scans / "a.tif", 10)
    ingest(scans, store, reader(fails={10: PageTimeout("too slow")}))
    assert ingest(scans, store, reader(version="2")).failed == ()
    assert store.failures() == []


def test_only_what_failed_is_tried_again(scans: Path, store: Store) -> None:
    tiff(scans / "a.tif", 10, 20, 30)
    tiff(scans / "b.tif", 40)
    bad = scans / "c.png"
    bad.write_bytes(b"")
    torn = {20: ReadingError("torn")}
    ingest(scans, store, reader(fails=torn))
    tiff(scans / "d.tif", 50)
    other = reader(version="2")
    report = retry_failed(store, other)
    assert seen(other) == [("a.tif", 2)]
    assert (report.files, report.pages, report.reused) == (2, 3, 2)
    assert [(failed.source, failed.page) for failed in report.failed] == [(str(bad), 0)]
    assert names(store) == ["a.tif", "b.tif"]
    assert [summary.chunks for summary in store.sources()] == [3, 1]
    # who read most of it need not read it again
    first = reader()
    ingest(scans, store, first)
    assert seen(first) == [("d.tif", 1)]


def test_trying_again_can_be_confined_to_a_folder(scans: Path, store: Store) -> None:
    tiff(scans / "one" / "a.tif", 10)
    tiff(scans / "two" / "b.tif", 20)
    ingest(scans, store, reader(fails={10: ReadingError("torn"), 20: ReadingError("torn")}))
    again = reader()
    assert retry_failed(store, again, sources=[scans / "two"]).pages == 1
    assert seen(again) == [("b.tif", 1)]
    assert [Path(failed.source).name for failed in store.failures()] == ["a.tif"]


def test_trying_again_can_be_confined_by_a_pattern_and_refuses_what_names_nothing(
    scans: Path, store: Store
) -> None:
    tiff(scans / "a.tif", 10)
    tiff(scans / "b.tif", 20)
    ingest(scans, store, reader(fails={10: ReadingError("torn"), 20: ReadingError("torn")}))
    again = reader()
    assert retry_failed(store, again, sources=iter([str(scans / "b*.tif")])).pages == 1
    assert seen(again) == [("b.tif", 1)]
    with pytest.raises(SourceNotFound, match=r"typo\.tif"):
        retry_failed(store, reader(), sources=[scans / "typo.tif"])


def test_where_nothing_failed_nothing_is_tried(scans: Path, store: Store) -> None:
    tiff(scans / "a.tif", 10)
    ingest(scans, store, reader())
    assert retry_failed(store, reader()) == Report(files=0, pages=0, chunks=0)


def test_the_ledger_tells_when_and_of_what_picture(scans: Path, store: Store) -> None:
    tiff(scans / "a.tif", 10)
    ingest(scans, store, reader(fails={10: ReadingError("torn")}))
    [entry] = store.ledger()
    assert entry.time > (scans / "a.tif").stat().st_mtime
    assert entry.key.endswith("/scripted/1")
    assert store.ledger("elsewhere") == []


# Stopping


def test_a_run_that_is_to_stop_begins_no_further_page_and_goes_on_later(
    scans: Path, store: Store
) -> None:
    tiff(scans / "a.tif", 10, 20, 30)
    tiff(scans / "b.tif", 40)
    steps: list[Step] = []
    report = ingest(scans, store, reader(), progress=steps.append, stopping=lambda: len(steps) >= 2)
    assert report.interrupted
    assert report.pages == len(store) == 2
    again = reader()
    report = ingest(scans, store, again)
    assert seen(again) == [("a.tif", 3), ("b.tif", 1)]
    assert (report.interrupted, report.pages, len(store)) == (False, 4, 4)
    assert store.journal.totals() == (2, 0, 4, 0, 0)


def test_a_run_that_is_to_stop_before_it_starts_changes_nothing(scans: Path, store: Store) -> None:
    tiff(scans / "a.tif", 10)
    report = ingest(scans, store, reader(), stopping=lambda: True)
    assert report == Report(files=0, pages=0, chunks=0, interrupted=True)


def test_a_step_tells_what_became_of_the_page(scans: Path, store: Store) -> None:
    path = tiff(scans / "a.tif", 10, 20)
    steps: list[Step] = []
    ingest(scans, store, reader(fails={20: ReadingError("torn")}))
    ingest(scans, store, reader(fails={20: ReadingError("torn")}), progress=steps.append)
    assert steps == [
        Step(str(path), 1, 2, file=1, files=1, reused=True),
        Step(str(path), 2, 2, file=1, files=1, failure=Failure("reading", "torn")),
    ]


def test_a_number_of_processes_that_cannot_be_meant_is_refused(scans: Path, store: Store) -> None:
    with pytest.raises(UsageError, match="give 0 or more"):
        ingest(tiff(scans / "a.tif", 10), store, reader(), drawing=-1)


@pytest.mark.parametrize("damage", ["'{'", "'[]'", "x'ff'", "''"])
@pytest.mark.parametrize("mended", [True, False])
def test_a_reading_that_cannot_be_used_is_told_and_read_again(
    scans: Path, store: Store, damage: str, *, mended: bool
) -> None:
    path = tiff(scans / "a.tif", 10)
    ingest(path, store, reader())
    assert store.verify() == []
    with sqlite3.connect(store.folder / "store.sqlite") as connection:
        connection.execute(f"UPDATE readings SET reading = {damage}")  # noqa: S608
    connection.close()
    (problem,) = store.verify()
    assert problem.startswith(f"page 1 of {path}: what was kept of it cannot be used")
    if mended:
        store.rebuild()
        assert store.verify() == []
    again = reader()
    ingest(path, store, again, chunk_size=500)
    assert (len(again.seen), len(store)) == (1, 1)
    assert store.verify() == []
