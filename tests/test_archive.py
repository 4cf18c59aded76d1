"""Ingest: what lands in the store, what is read again, what a failure costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pypdf
import pytest
from PIL import Image

from kosmos_loader.archive import Report, Step, ingest
from kosmos_loader.archive.elsewhere import Elsewhere, Work
from kosmos_loader.archive.planning import Plan
from kosmos_loader.archive.run import AHEAD, PLANNED
from kosmos_loader.document import Failure, Line, Page, Reading
from kosmos_loader.errors import CorruptFile, ReadingError, SourceNotFound, UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.store import Store
from kosmos_loader.testing import ScriptedReader

WIDE = Box(0.1, 0.1, 0.9, 0.2)


def picture(shade: int) -> Image.Image:
    pixels = np.full((60, 40, 3), 255, np.uint8)
    pixels[10:20, 5:35] = shade
    return Image.fromarray(pixels)


def tiff(path: Path, *shades: int) -> Path:
    first, *others = (picture(shade) for shade in shades)
    first.save(path, save_all=True, append_images=others)
    return path


def shade_of(page: Page) -> int:
    return int(page.pixels[15, 20, 0])


def says_its_shade(page: Page) -> Line:
    return Line(f"The shade is number {shade_of(page)}.", WIDE, 0.9)


def shade_reader() -> ScriptedReader:
    return ScriptedReader(says_its_shade)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def texts(store: Store) -> list[str]:
    return sorted(chunk.text for chunk in store.get(store.ids()))


def test_every_page_of_every_file_can_be_found(tmp_path: Path, store: Store) -> None:
    tiff(tmp_path / "b.tif", 10, 20)
    picture(30).save(tmp_path / "a.png")
    report = ingest(tmp_path, store, shade_reader())
    assert report == Report(files=2, pages=3, chunks=3)
    (hit, *_) = store.search("shade number 20")
    assert (hit.chunk.source, hit.chunk.page) == (str(tmp_path / "b.tif"), 2)
    assert hit.chunk.boxes() == [(2, WIDE)]


def test_a_second_run_reads_nothing_and_changes_nothing(tmp_path: Path, store: Store) -> None:
    tiff(tmp_path / "a.tif", 10, 20, 30)
    ingest(tmp_path, store, shade_reader())
    before = store.ids()
    reader = shade_reader()
    report = ingest(tmp_path, store, reader)
    assert reader.seen == []
    assert report == Report(files=1, pages=3, chunks=3, reused=3, unchanged=1)
    assert store.ids() == before


def test_the_same_picture_in_another_file_is_not_read_again(tmp_path: Path, store: Store) -> None:
    picture(10).save(tmp_path / "a.png")
    picture(10).save(tmp_path / "b.png")
    reader = shade_reader()
    report = ingest(tmp_path, store, reader)
    assert len(reader.seen) == 1
    assert report.reused == 1
    assert {s.source for s in store.sources()} == {str(tmp_path / n) for n in ("a.png", "b.png")}


@pytest.mark.parametrize("change", [{"version": "2"}, {"name": "other"}])
def test_another_reader_reads_again(tmp_path: Path, store: Store, change: dict[str, str]) -> None:
    picture(10).save(tmp_path / "a.png")
    ingest(tmp_path, store, shade_reader())
    reader = ScriptedReader(says_its_shade, **change)
    ingest(tmp_path, store, reader)
    assert len(reader.seen) == 1


def test_kept_and_new_pages_come_in_the_order_of_the_file(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10, 20, 30, 40, 50)
    ingest(path, store, shade_reader(), pages="2,4")
    steps: list[Step] = []
    reader = shade_reader()
    ingest(path, store, reader, progress=steps.append)
    assert [page.number for page in reader.seen] == [1, 3, 5]
    assert [step.page for step in steps] == [1, 2, 3, 4, 5]


class ReadsTwoAtATime(ScriptedReader):
    """Takes pages in pairs, as readers that batch do."""

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        waiting: list[Page] = []
        for page in pages:
            waiting.append(page)
            if len(waiting) == 2:
                yield from super().read(waiting)
                waiting = []
        yield from super().read(waiting)


def test_kept_pages_find_their_place_among_batches(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10, 20, 30, 40, 50, 60)
    ingest(path, store, shade_reader(), pages="1,3,4,6")
    steps: list[Step] = []
    report = ingest(path, store, ReadsTwoAtATime(says_its_shade), progress=steps.append)
    assert [step.page for step in steps] == [1, 2, 3, 4, 5, 6]
    assert report == Report(files=1, pages=6, chunks=6, reused=4)


def test_chunks_that_a_file_no_longer_gives_are_deleted(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10, 20, 30)
    ingest(path, store, shade_reader())
    tiff(path, 10, 25)
    ingest(path, store, shade_reader())
    assert texts(store) == ["The shade is number 10.", "The shade is number 25."]
    assert store.verify() == []


def test_a_page_put_in_front_keeps_the_ids_of_the_others(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10, 20)
    ingest(path, store, shade_reader())
    before = store.ids()
    tiff(path, 5, 10, 20)
    ingest(path, store, shade_reader())
    assert before < store.ids()
    assert len(store) == 3


def test_pages_that_were_not_asked_for_keep_their_chunks(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10, 20, 30)
    ingest(path, store, shade_reader(), pages="1")
    ingest(path, store, shade_reader(), pages="2-3")
    assert len(store) == 3


def test_like_pages_that_are_indexed_one_by_one_do_not_take_each_others_place(
    tmp_path: Path, store: Store
) -> None:
    path = tiff(tmp_path / "a.tif", 10, 20, 10, 10)

    def places() -> dict[str, int]:
        return {chunk.chunk_id: chunk.page for chunk in store.get(store.ids())}

    for number in (3, 1, 4):
        ingest(path, store, shade_reader(), pages=str(number))
    assert sorted(places().values()) == [1, 3, 4]
    ids = store.ids()
    ingest(path, store, shade_reader())
    assert sorted(places().values()) == [1, 2, 3, 4]
    assert ids < store.ids()
    whole = places()
    for some in ("3", "2-4", "1,4"):
        ingest(path, store, shade_reader(), pages=some)
        assert places() == whole


def test_a_page_that_moved_is_not_taken_for_a_like_one(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10, 20, 30)
    ingest(path, store, shade_reader())
    before = store.ids()
    tiff(path, 20, 30)
    ingest(path, store, shade_reader())
    assert store.ids() < before
    assert len(store) == 2


def test_a_bad_file_costs_that_file_only_and_is_named(tmp_path: Path, store: Store) -> None:
    picture(10).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    picture(30).save(tmp_path / "c.png")
    report = ingest(tmp_path, store, shade_reader())
    assert (report.files, report.pages) == (3, 2)
    assert [(Path(f.source).name, f.page, f.failure.type) for f in report.failed] == [
        ("b.png", 0, "corrupt")
    ]
    assert store.failures() == list(report.failed)
    assert len(store) == 2


def test_a_missing_file_among_several_is_a_failure(tmp_path: Path, store: Store) -> None:
    picture(10).save(tmp_path / "a.png")
    report = ingest([tmp_path / "no.png", tmp_path / "a.png"], store, shade_reader())
    assert [f.failure.type for f in report.failed] == ["not_found"]
    assert report.pages == 1


@pytest.mark.parametrize("sources", [[], "missing.png", "*.png", "."])
def test_no_file_at_all_is_an_error(
    tmp_path: Path, store: Store, sources: str | list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    with pytest.raises(SourceNotFound):
        ingest(sources, store, shade_reader())


def fails_on(*shades: int) -> ScriptedReader:
    def script(page: Page) -> Line:
        if shade_of(page) in shades:
            raise ReadingError("too dark; scan it again")
        return says_its_shade(page)

    return ScriptedReader(script)


def test_a_page_that_fails_leaves_its_neighbours(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10, 20, 30)
    report = ingest(path, store, fails_on(20))
    failure = Failure("reading", "too dark; scan it again")
    assert report.failed == ((str(path), 2, failure),)
    assert (report.pages, report.chunks) == (2, 2)


def test_a_failed_page_is_tried_again_and_struck_from_the_ledger(
    tmp_path: Path, store: Store
) -> None:
    path = tiff(tmp_path / "a.tif", 10, 20)
    ingest(path, store, fails_on(20))
    reader = shade_reader()
    ingest(path, store, reader)
    assert [page.number for page in reader.seen] == [2]
    assert store.failures() == []
    assert len(store) == 2


def test_what_is_known_of_a_page_stays_when_it_fails_later(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10, 20)
    ingest(path, store, shade_reader())
    failing = fails_on(20)
    failing.version = "2"
    ingest(path, store, failing)
    assert texts(store) == ["The shade is number 10.", "The shade is number 20."]
    path.write_bytes(b"")
    ingest(path, store, shade_reader())
    assert len(store) == 2
    assert [f.failure.type for f in store.failures()] == ["empty"]


def test_stop_raises_the_first_error_and_keeps_what_came_before(
    tmp_path: Path, store: Store
) -> None:
    first = tiff(tmp_path / "a.tif", 10, 20, 30)
    tiff(tmp_path / "b.tif", 40)
    reader = fails_on(20)
    with pytest.raises(ReadingError, match=r"a\.tif, page 2: too dark"):
        ingest(tmp_path, store, reader, on_error="stop")
    assert texts(store) == ["The shade is number 10."]
    assert [(f.source, f.page) for f in store.failures()] == [(str(first), 2)]
    assert len(reader.seen) == 2


def test_stop_raises_for_a_file_that_cannot_be_opened(tmp_path: Path, store: Store) -> None:
    picture(10).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(CorruptFile, match=r"b\.png"):
        ingest(tmp_path, store, shade_reader(), on_error="stop")
    assert len(store) == 1


def test_an_interrupted_run_leaves_a_sound_store_that_the_next_run_completes(
    tmp_path: Path,
) -> None:
    path = tiff(tmp_path / "a.tif", *range(10, 70, 10))

    def script(page: Page) -> Line:
        if page.number == 4:
            raise KeyboardInterrupt
        return says_its_shade(page)

    with Store.open(tmp_path / "store") as store, pytest.raises(KeyboardInterrupt):
        ingest(path, store, ScriptedReader(script))
    with Store.open(tmp_path / "store") as store:
        assert store.verify() == []
        reader = shade_reader()
        report = ingest(path, store, reader)
        assert [page.number for page in reader.seen] == [4, 5, 6]
        assert report.chunks == len(store) == 6
        assert store.verify() == []


def test_flags_of_pages_are_reported(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10, 20)
    report = ingest(path, store, ScriptedReader([Line("One", WIDE), {"flags": ["blank"]}]))
    assert report.flagged == ((str(path), 2, ("blank",)),)
    assert report.pages == 2
    assert report.chunks == 1


def test_progress_names_file_and_page(tmp_path: Path, store: Store) -> None:
    a, b = tiff(tmp_path / "a.tif", 10, 20), tiff(tmp_path / "b.tif", 30)
    steps: list[Step] = []
    ingest(tmp_path, store, shade_reader(), progress=steps.append)
    assert steps == [
        Step(str(a), 1, 2, file=1, files=2),
        Step(str(a), 2, 2, file=1, files=2),
        Step(str(b), 1, 1, file=2, files=2),
    ]


def test_pages_that_a_reader_passes_over_have_failed_and_no_other_gets_their_reading(
    tmp_path: Path, store: Store
) -> None:
    class Sparing(ScriptedReader):
        def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
            return (reading for reading in super().read(pages) if reading.page.number != 2)

    path = tiff(tmp_path / "a.tif", 10, 20, 30)
    report = ingest(path, store, Sparing(says_its_shade))
    assert [(failed.page, failed.failure.type) for failed in report.failed] == [(2, "reading")]
    assert report.pages == 2
    found = {chunk.page: chunk.text for chunk in store.get(store.ids())}
    assert found == {1: "The shade is number 10.", 3: "The shade is number 30."}


def test_a_reader_that_answers_what_was_not_asked_is_told(tmp_path: Path, store: Store) -> None:
    class Confused(ScriptedReader):
        def read_as_completed(self, pages: Iterable[Page]) -> Iterator[tuple[int, Reading]]:
            for place, reading in enumerate(self.read(pages)):
                yield place, reading
                yield place, reading

    with pytest.raises(ReadingError, match="not asked for, or twice"):
        ingest(tiff(tmp_path / "a.tif", 10, 20, 30), store, Confused(says_its_shade))


def test_a_file_named_twice_is_taken_once(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10)
    assert ingest([path, tmp_path], store, shade_reader()).files == 1


def test_chunk_size_is_kept(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10)
    ingest(path, store, ScriptedReader([Line("many words " * 50, WIDE)]), chunk_size=100)
    assert all(len(text) <= 100 for text in texts(store))
    assert len(store) > 3


def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10)
    for settings in ({"on_error": "ignore"}, {"chunk_size": 0}, {"pages": "3-1"}):
        with pytest.raises(UsageError):
            ingest(path, store, shade_reader(), **settings)


def test_one_page_is_held_at_a_time(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", *range(10, 60, 10))
    events: list[str] = []

    def script(page: Page) -> Line:
        events.append(f"read {page.number}")
        return says_its_shade(page)

    ingest(
        path,
        store,
        ScriptedReader(script),
        progress=lambda step: events.append(f"done {step.page}"),
    )
    assert events == [f"{what} {n}" for n in range(1, 6) for what in ("read", "done")]


def test_a_second_run_goes_on_page_by_page(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10, 20, 30)
    ingest(path, store, shade_reader())
    seen: list[int] = []

    def stop_after_two(step: Step) -> None:
        seen.append(step.page)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(path, store, shade_reader(), progress=stop_after_two)
    assert seen == [1, 2]


def test_a_failure_of_a_page_that_was_not_tried_again_stays(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10, 20)

    def fails_on_two(page: Page) -> Line:
        if page.number == 2:
            raise ReadingError("torn")
        return says_its_shade(page)

    ingest(path, store, ScriptedReader(fails_on_two))
    ingest(path, store, shade_reader(), pages="1")
    assert [failed.page for failed in store.failures()] == [2]
    ingest(path, store, shade_reader())
    assert store.failures() == []


class CannotOpen:
    """Machines that cannot open a file of which pages are known here."""

    def read(self, plans: Iterator[Plan], work: Work) -> Iterator[Plan]:
        failure = Failure("not_found", "it is not there on node7")
        for plan in plans:
            work.store.record_failure(plan.source, 0, failure)
            yield replace(plan, left={0: failure}, fresh=frozenset({0}))


@pytest.mark.parametrize("elsewhere", [None, CannotOpen()])
def test_a_file_that_opens_no_longer_stays_in_the_ledger_though_pages_of_it_are_known(
    tmp_path: Path, store: Store, elsewhere: Elsewhere | None
) -> None:
    path = tmp_path / "a.pdf"
    pdf = pypdf.PdfWriter()
    for width in (120, 130, 140):
        pdf.add_blank_page(width, 80)
    pdf.encrypt("secret", algorithm="RC4-128")
    pdf.write(path)
    os.utime(path, (1, 1))  # one that was written just now is looked at as a whole
    ingest(path, store, shade_reader(), pages="1", password="secret")
    for _ in range(2):
        report = ingest(path, store, shade_reader(), elsewhere=elsewhere)
        assert [(failed.page, report.pages) for failed in report.failed] == [(0, 1)]
        assert store.failures() == list(report.failed)
        assert store.journal.totals().remaining == 2


class Here:
    """Passes plans on and counts them."""

    planned = 0

    def read(self, plans: Iterator[Plan], work: Work) -> Iterator[Plan]:
        for plan in plans:
            self.planned += 1
            yield plan


@pytest.mark.slow
def test_drawing_ahead_looks_over_so_many_unchanged_files_and_no_more(
    tmp_path: Path, store: Store
) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(PLANNED + 100):
        path = folder / f"{number}.png"
        picture(number % 251).save(path)
        os.utime(path, (1, 1))
    ingest(folder, store, shade_reader())
    for name, shade in (("-.png", 252), ("z.png", 253)):
        picture(shade).save(folder / name)
    here, at_first, reader = Here(), list[int](), shade_reader()

    def look(step: Step) -> None:
        at_first.append(here.planned)

    report = ingest(folder, store, reader, drawing=1, elsewhere=here, progress=look)
    assert at_first[0] <= PLANNED + 2
    assert report.unchanged == PLANNED + 100
    assert [page.source for page in reader.seen] == [str(folder / n) for n in ("-.png", "z.png")]


# The same picture twice among the pages in hand


def test_a_picture_that_is_in_hand_already_is_read_once(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", 10, 10, 20, 10, 10, 30)
    reader = ReadsTwoAtATime(says_its_shade)
    steps: list[Step] = []
    report = ingest(path, store, reader, progress=steps.append)
    assert [page.number for page in reader.seen] == [1, 3, 6]
    assert [step.page for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.page for step in steps if step.reused] == [2, 4, 5]
    assert report == Report(files=1, pages=6, chunks=6, reused=3)
    assert sorted(chunk.page for chunk in store.get(store.ids())) == [1, 2, 3, 4, 5, 6]
    assert ingest(path, store, shade_reader()).unchanged == 1


def test_pages_in_hand_that_look_alike_fail_together_and_are_tried_again_together(
    tmp_path: Path, store: Store
) -> None:
    path = tiff(tmp_path / "a.tif", 10, 10, 20)
    tiff(tmp_path / "b.tif", 10)

    class ReadsAllAtOnce(ScriptedReader):
        def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
            yield from super().read(list(pages))

    def script(page: Page) -> Line:
        if shade_of(page) == 10:
            raise ReadingError("too dark; scan it again")
        return says_its_shade(page)

    reader = ReadsAllAtOnce(script)
    report = ingest(tmp_path, store, reader)
    assert [page.number for page in reader.seen] == [1, 3]
    assert [(Path(f.source).name, f.page) for f in report.failed] == [
        ("a.tif", 1),
        ("a.tif", 2),
        ("b.tif", 1),
    ]
    first, second, third = (f.failure for f in report.failed)
    assert first == Failure("reading", "too dark; scan it again")
    same = f"shows the same picture as page 1 of {path}, which came to nothing: too dark"
    assert (second.type, third.type) == ("reading", "reading")
    assert second.message.startswith(f"page 2 of {path} {same}")
    assert third.message.startswith(f"page 1 of {tmp_path / 'b.tif'} {same}")
    assert store.failures() == list(report.failed)
    again = ReadsAllAtOnce(says_its_shade)
    report = ingest(tmp_path, store, again)
    assert (report.pages, report.failed, store.failures()) == (4, (), [])
    assert len(again.seen) == 1


# Readings that come out of order


class ReadsBackwards(ScriptedReader):
    """Takes pages in batches, and gives their readings from the last to the first."""

    def __init__(self, script: Callable[[Page], Line], batch: int = 5) -> None:
        super().__init__(script)
        self.batch = batch

    def read_as_completed(self, pages: Iterable[Page]) -> Iterator[tuple[int, Reading]]:
        numbered = enumerate(pages)
        while batch := list(islice(numbered, self.batch)):
            for place, page in reversed(batch):
                [reading] = self.read([page])
                yield place, reading


def test_readings_out_of_order_give_the_store_of_readings_in_order(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    tiff(scans / "a.tif", 10, 20, 20, 30, 10, 40, 50, 30)
    (scans / "b.png").write_bytes(b"")
    tiff(scans / "c.tif", *range(20, 120, 10))

    def script(page: Page) -> Line:
        if shade_of(page) in (40, 80):
            raise ReadingError("torn")
        return says_its_shade(page)

    found = []
    for number, reader in enumerate((ScriptedReader(script), ReadsBackwards(script))):
        steps: list[Step] = []
        with Store.open(tmp_path / f"store-{number}") as store:
            ingest(scans / "c.tif", store, reader, pages="2,5")
            report = ingest(scans, store, reader, progress=steps.append)
            chunks = store.get(sorted(store.ids()))
            pages = [store.journal.pages(source) for source in store.journal.sources()]
            places = [(step.source, step.page) for step in steps]
            failed = [(entry.source, entry.page) for entry in store.failures()]
            found.append((chunks, pages, places, failed, report.pages, store.verify()))
    assert found[0] == found[1]


def test_a_reading_is_kept_before_its_turn_has_come(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", *range(10, 60, 10))
    kept: list[list[int]] = []

    def script(page: Page) -> Line:
        kept.append([known.number for known in store.journal.pages(str(path))])
        if page.number == 1:
            raise KeyboardInterrupt
        return says_its_shade(page)

    with pytest.raises(KeyboardInterrupt):
        ingest(path, store, ReadsBackwards(script))
    assert kept == [[], [5], [4, 5], [3, 4, 5], [2, 3, 4, 5]]
    reader = shade_reader()
    report = ingest(path, store, reader)
    assert [page.number for page in reader.seen] == [1]
    assert (report.pages, report.reused, len(store)) == (5, 4, 5)


def test_few_readings_wait_for_a_page_that_takes_long(tmp_path: Path, store: Store) -> None:
    path = tiff(tmp_path / "a.tif", *range(100, 200))
    steps: list[Step] = []
    reader = ReadsBackwards(says_its_shade, batch=1000)
    ingest(path, store, reader, progress=steps.append)
    assert reader.seen[0].number == AHEAD + 1
    assert [step.page for step in steps] == list(range(1, 101))
