"""ExistingOcr: what is taken, what is read again, and under which key both are kept."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kosmos_loader.archive import ingest
from kosmos_loader.document import Failure, Line, Page, Reading
from kosmos_loader.errors import UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.ocr_files import alto, hocr, page_xml
from kosmos_loader.pages import open_pages
from kosmos_loader.readers.base import PageReader, SelectiveReader, page_key, reading_key
from kosmos_loader.readers.existing import ExistingOcr
from kosmos_loader.readers.plausible import coverage, plausibility
from kosmos_loader.store import Store
from kosmos_loader.testing import ScriptedReader

DATA = Path(__file__).parents[2] / "shared" / "data"

LINE = Line("Harbour dues were paid in May", Box(0.1, 0.2, 0.9, 0.4), 0.95)


def scan(path: Path, *, seed: int = 0, exif: int = 1) -> Page:
    """A picture with ink where `LINE` stands."""
    image = Image.new("RGB", (300, 200), "white")
    draw = ImageDraw.Draw(image)
    for x in range(35, 265, 6):
        draw.line((x, 45, x + 2, 75), fill="black")
    image.putpixel((0, seed), (0, seed, 1))
    options = Image.Exif()
    options[0x0112] = exif
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, dpi=(100, 100), exif=options)
    [page] = open_pages(path)
    return page


def reading(page: Page, *lines: Line) -> Reading:
    return Reading(page.info, "scripted", "1", lines)


def beside(page: Page, *lines: Line, suffix: str = ".xml") -> Path:
    path = Path(page.source).with_suffix(suffix)
    path.write_text(alto(reading(page, *lines)), "utf-8")
    return path


def other(text: str = "read again") -> ScriptedReader:
    return ScriptedReader(lambda page: Line(text, Box(0, 0, 1, 1), 0.9))


def only(reader: PageReader, page: Page) -> Reading:
    [result] = reader.read([page])
    return result


# What is taken


def test_good_ocr_beside_the_scan_is_taken_and_nothing_is_read(tmp_path: Path) -> None:
    page = scan(tmp_path / "a.png")
    beside(page, LINE)
    reader = other()
    result = only(ExistingOcr(reader), page)
    assert (result.reader, result.lines[0].text, result.flags) == ("existing", LINE.text, ())
    assert result.lines[0].confidence == 0.95
    assert reader.seen == []
    assert not isinstance(result.page, Page)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (replace(LINE, confidence=0.79), "low confidence"),
        (replace(LINE, confidence=None, text="j7RVi xQq ;; ciA# 4A144:44 tHe wE, |l1"), "no text"),
        (replace(LINE, box=Box(0.1, 0.9, 0.2, 0.95)), "covers nothing"),
    ],
)
def test_poor_ocr_is_handed_to_the_reader_as_text_layer(
    tmp_path: Path, line: Line, reason: str
) -> None:
    page = scan(tmp_path / "a.png")
    beside(page, line)
    layers: list[tuple[Line, ...]] = []

    def script(given: Page) -> Line:
        layers.append(given.text_layer)
        return Line("read again", Box(0, 0, 1, 1))

    result = only(ExistingOcr(ScriptedReader(script)), page)
    assert (result.reader, result.lines[0].text) == ("scripted", "read again"), reason
    assert [layer[0].text for layer in layers] == [line.text]
    taken = only(ExistingOcr(), page)
    assert taken.lines[0].text == line.text
    assert taken.flags == (() if reason == "covers nothing" else ("low_confidence",))


def test_a_floor_says_what_is_good_enough(tmp_path: Path) -> None:
    page = scan(tmp_path / "a.png")
    beside(page, replace(LINE, confidence=0.6))
    assert only(ExistingOcr(other(), floor=0.5), page).reader == "existing"
    assert only(ExistingOcr(other(), floor=0.7), page).reader == "scripted"
    with pytest.raises(UsageError, match="0 to 1"):
        ExistingOcr(floor=80)


def test_without_a_reader_a_page_that_has_nothing_is_an_error_and_its_neighbours_are_taken(
    tmp_path: Path,
) -> None:
    pages = [scan(tmp_path / f"{n}.png", seed=n) for n in range(3)]
    beside(pages[0], LINE)
    beside(pages[2], LINE)
    first, second, third = ExistingOcr().read(pages)
    assert (first.error, third.error) == (None, None)
    assert second.error is not None
    assert second.error.type == "reading"
    assert "--ocr auto" in second.error.message


def test_a_broken_file_costs_its_page_only_and_is_read_again_where_there_is_a_reader(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pages = [scan(tmp_path / f"{n}.png", seed=n) for n in range(3)]
    for page in pages:
        beside(page, LINE)
    (tmp_path / "1.xml").write_bytes(b"<alto><Layout>")
    errors = [result.error for result in ExistingOcr().read(pages)]
    assert [error and error.type for error in errors] == [None, "corrupt", None]
    with caplog.at_level(logging.WARNING, "kosmos_loader"):
        readers = [result.reader for result in ExistingOcr(other()).read(pages)]
    assert readers == ["existing", "scripted", "existing"]
    assert "1.xml cannot be read" in caplog.text


def test_empty_ocr_is_believed_on_an_empty_page_only(tmp_path: Path) -> None:
    inked = scan(tmp_path / "a.png")
    beside(inked)
    Image.new("RGB", (300, 200), "white").save(tmp_path / "b.png")
    [empty] = open_pages(tmp_path / "b.png")
    beside(empty)
    assert [r.reader for r in ExistingOcr(other()).read([inked, empty])] == ["scripted", "existing"]
    assert [r.flags for r in ExistingOcr().read([inked, empty])] == [("blank",), ("blank",)]


def test_a_page_with_an_error_passes_it_on(tmp_path: Path) -> None:
    failure = Failure("corrupt", "no")
    page = Page(str(tmp_path / "a.png"), "d", 1, 1, 0, 0, 0.0, error=failure)
    for reader in (ExistingOcr(), ExistingOcr(other())):
        assert only(reader, page).error == failure


def test_a_text_layer_is_taken_unless_it_is_no_text(tmp_path: Path) -> None:
    page = scan(tmp_path / "a.png")
    good = replace(page, text_layer=(replace(LINE, confidence=None),))
    bad = replace(page, text_layer=(replace(LINE, confidence=None, text="\ue000\ue001 ~|{ x9Q~"),))
    assert only(ExistingOcr(other()), good).reader == "existing"
    assert only(ExistingOcr(other()), bad).reader == "scripted"
    beside(page, replace(LINE, text="what lies beside goes first"))
    assert only(ExistingOcr(other()), good).lines[0].text == "what lies beside goes first"


# Pictures that lie otherwise in their file


def turned_ocr(page: Page, line: Line, suffix: str, size: tuple[int, int]) -> None:
    stored = replace(page.info, width=size[0], height=size[1])
    text = {".hocr": lambda r: "".join(hocr([r])), ".xml": page_xml}[suffix](
        Reading(stored, "scripted", "1", (line,))
    )
    # as another program would have written it
    Path(page.source).with_suffix(suffix).write_text(text.replace("kosmos-loader", "tesseract"))


@pytest.mark.parametrize("suffix", [".hocr", ".xml"])
@pytest.mark.parametrize(
    ("orientation", "corner"), [(5, (0, 0)), (6, (0.8, 0)), (7, (0.8, 0.9)), (8, (0, 0.9))]
)
def test_ocr_of_the_picture_as_stored_is_turned_as_exif_says(
    tmp_path: Path, suffix: str, orientation: int, corner: tuple[float, float]
) -> None:
    page = scan(tmp_path / "a.jpg", exif=orientation)
    assert (page.width, page.height) == (200, 300)
    stored = Line("top left as stored", Box(0, 0, 0.1, 0.2), 0.9)
    turned_ocr(page, stored, suffix, (300, 200))
    [line] = only(ExistingOcr(), page).lines
    assert (line.box.x0, line.box.y0) == pytest.approx(corner)
    assert (line.box.width, line.box.height) == pytest.approx((0.2, 0.1))


@pytest.mark.parametrize("orientation", [3, 6])
def test_ocr_of_the_picture_as_seen_stays_and_sizes_may_differ(
    tmp_path: Path, orientation: int
) -> None:
    page = scan(tmp_path / "a.jpg", exif=orientation)
    seen = Line("top left as seen", Box(0, 0, 0.1, 0.2), 0.9)
    turned_ocr(page, seen, ".xml", (2 * page.width, 2 * page.height))
    [line] = only(ExistingOcr(), page).lines
    assert line.box.rounded(3) == seen.box


def test_text_that_stands_on_its_side_gives_the_angle_of_the_page(tmp_path: Path) -> None:
    page = scan(tmp_path / "a.png")
    quad = ((0.5, 0.1), (0.5, 0.9), (0.4, 0.9), (0.4, 0.1))
    beside(page, Line("downwards", Box.around(quad), 0.9, quad))
    assert only(ExistingOcr(), page).angle == pytest.approx(90)


# Laziness, order, one reading a page


class Batching:
    """Reads pages two at a time, as an engine does that reads ahead."""

    name, version = "batching", "1"

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        held: list[Page] = []
        for page in pages:
            held.append(page)
            if len(held) == 2:
                yield from (Reading(one.info, self.name, self.version) for one in held)
                held.clear()
        yield from (Reading(one.info, self.name, self.version) for one in held)


class Backwards(Batching):
    """Reads pages three at a time, and can hand over the last one first."""

    def read_as_completed(self, pages: Iterable[Page]) -> Iterator[tuple[int, Reading]]:
        numbered = enumerate(pages)
        while batch := list(islice(numbered, 3)):
            for place, page in reversed(batch):
                yield place, Reading(page.info, self.name, self.version)


PATTERNS = pytest.mark.parametrize(
    "pattern", ["....", "####", "#.#.#.", ".##.##..#", "#......#", ""]
)
"""Pages that are taken, and those that are read."""


@pytest.mark.parametrize("inner", [Batching(), Backwards(), ScriptedReader(lambda page: None)])
@PATTERNS
def test_readings_come_in_order_one_a_page(tmp_path: Path, inner: PageReader, pattern: str) -> None:
    plain = scan(tmp_path / "a.png")
    layered = (replace(LINE, confidence=None),)
    pages = [
        replace(plain, number=n, text_layer=layered if kind == "." else ())
        for n, kind in enumerate(pattern, start=1)
    ]
    readings = list(ExistingOcr(inner).read(iter(pages)))
    assert [r.page.number for r in readings] == list(range(1, len(pattern) + 1))
    assert "".join("." if r.reader == "existing" else "#" for r in readings) == pattern


@pytest.mark.parametrize("inner", [Batching(), Backwards()])
@PATTERNS
def test_readings_as_they_come_are_told_with_their_places(
    tmp_path: Path, inner: PageReader, pattern: str
) -> None:
    plain = scan(tmp_path / "a.png")
    layered = (replace(LINE, confidence=None),)
    pages = [
        replace(plain, number=n, text_layer=layered if kind == "." else ())
        for n, kind in enumerate(pattern, start=1)
    ]
    readings = list(ExistingOcr(inner).read_as_completed(iter(pages)))
    assert sorted(place for place, _ in readings) == list(range(len(pattern)))
    assert all(r.page.number == place + 1 for place, r in readings)
    assert all((r.reader == "existing") == (pattern[place] == ".") for place, r in readings)
    is_in_order = [place for place, _ in readings] == list(range(len(pattern)))
    assert is_in_order != (isinstance(inner, Backwards) and pattern.count("#") > 1)


def test_a_page_that_is_taken_is_given_before_the_next_is_asked_for(tmp_path: Path) -> None:
    page = scan(tmp_path / "a.png")
    beside(page, LINE)
    asked: list[int] = []

    def pages() -> Iterator[Page]:
        for number in range(1, 5):
            asked.append(number)
            yield replace(page, number=1)

    readings = ExistingOcr(other()).read(pages())
    assert asked == []
    for count in range(1, 5):
        next(readings)
        assert len(asked) == count


def test_pages_that_wait_for_one_that_is_read_are_not_without_bound(tmp_path: Path) -> None:
    plain = scan(tmp_path / "a.png")
    taken = replace(plain, text_layer=(replace(LINE, confidence=None),))
    asked = 0

    def pages() -> Iterator[Page]:
        nonlocal asked
        for page in [plain, *[taken] * 300]:
            asked += 1
            yield page

    next(ExistingOcr(Batching()).read(pages()))
    assert asked < 100
    asked = 0
    next(ExistingOcr(Batching()).read_as_completed(pages()))
    assert asked < 100


def test_it_pickles_with_its_reader() -> None:
    again = pickle.loads(pickle.dumps(ExistingOcr(Batching(), floor=0.5)))  # noqa: S301  our own
    assert (again.name, again.version) == ("existing-or-batching", "1-0.5-1")


# Keys


def test_what_is_kept_is_found_under_the_key_that_is_looked_for(tmp_path: Path) -> None:
    pages = [scan(tmp_path / f"{n}.png", seed=n) for n in range(3)]
    beside(pages[0], LINE)
    beside(pages[1], replace(LINE, confidence=0.1))
    reader = ExistingOcr(other())
    assert isinstance(reader, SelectiveReader)
    for page in pages:
        assert page_key(reader, page) == reading_key(reader, only(reader, page))
    # a page that the other reader reads is kept as if there were no existing OCR
    plain = other()
    assert [page_key(reader, page) == page_key(plain, page) for page in pages] == [
        False,
        True,
        True,
    ]


def test_a_changed_file_beside_changes_the_key_and_so_does_a_changed_layer(tmp_path: Path) -> None:
    page = scan(tmp_path / "a.png")
    keys = set()
    reader = ExistingOcr(other())
    for line in (LINE, replace(LINE, text="Another text"), replace(LINE, confidence=0.9)):
        beside(page, line)
        keys.add(page_key(reader, replace(page)))
    for text in ("one line of text", "another line of text"):
        layer = (Line(text, LINE.box),)
        keys.add(page_key(ExistingOcr(), replace(page, source="bytes:0", text_layer=layer)))
    assert len(keys) == 5
    assert [path.name for path in reader.companions(page.source)] == ["a.xml"]


def test_a_changed_file_beside_is_not_served_from_kept_readings(tmp_path: Path) -> None:
    page = scan(tmp_path / "scans" / "a.png")
    path = beside(page, LINE)
    inner = other()

    def indexed() -> list[str]:
        with Store.open(tmp_path / "store") as store:
            report = ingest(tmp_path / "scans", store, ExistingOcr(inner))
            texts = [store.get([name])[0].text for name in store.ids()]
        return [*texts, f"{report.reused} kept"]

    assert indexed() == [LINE.text, "0 kept"]
    assert indexed() == [LINE.text, "1 kept"]
    beside(page, replace(LINE, text="Harbour dues were never paid"))
    assert indexed() == ["Harbour dues were never paid", "0 kept"]
    path.unlink()
    assert indexed() == ["read again", "0 kept"]
    assert indexed() == ["read again", "1 kept"]
    assert len(inner.seen) == 1


# Measures


def test_text_in_many_scripts_is_plausible_and_rubbish_is_not() -> None:
    good = [
        "The harbour dues of 41.20 were paid on 12/05/1921, see p. 4.",
        "Größe, naïve façade; L’été à McDonald’s",
        "Unmuͤndigkeit iſt das Unvermoͤgen",
        "שלום עולם مرحبا بالعالم 日本語のテスト Привет мир",
        "ดร.วิทย์ สิทธิเวคิน",
        "Contents . . . . . . . . . . . . . . . . 12",
        "https://example.com/path INV-2023/0008 info@example.com",
    ]
    for text in good:
        assert plausibility([text]) > 0.85, text
    bad = [
        "ck~...thaAAAA-aAs 4A144:44. ciA# kQA",
        "l ' i . ; j ,, ~ r ' | !",
        "\ufffd\ufffd \ue001\ue002",
    ]
    for text in bad:
        assert plausibility([text]) < 0.5, text
    assert plausibility([]) == 0.0


def test_coverage_is_the_share_of_the_ink_in_lines(tmp_path: Path) -> None:
    page = scan(tmp_path / "a.png")
    assert coverage(page, [LINE]) > 0.95
    assert coverage(page, [replace(LINE, box=Box(0.1, 0.2, 0.5, 0.4))]) == pytest.approx(
        0.5, abs=0.1
    )
    assert coverage(page, []) == 0.0
    white = np.full((200, 300, 3), 255, np.uint8)
    assert coverage(replace(page, pixels=white), []) == 1.0


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}")
@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("gnarly/handwriting_bad_ocr.pdf", False),
        ("pypdf/Seige_of_Vicksburg_Sample_OCR.pdf", True),
        ("languages/fr_olap.pdf", True),
        ("born-digital/multi_page.pdf", True),
        ("paperless/single-page-mixed.pdf", False),
    ],
)
def test_layers_of_real_files_are_taken_or_read_again(name: str, taken: bool) -> None:
    [page] = open_pages(DATA / name, pages=1)
    result = only(ExistingOcr(other()), page)
    assert result.reader == ("existing" if taken else "scripted")
