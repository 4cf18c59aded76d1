"""`read --format hocr | alto | page | pdf` and `--ocr`: files, folders, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner, Result

from kosmos_loader.cli import app, ocr_writing
from kosmos_loader.cli.options import Format
from kosmos_loader.document import Line
from kosmos_loader.errors import SomeFailed, UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.ocr_files import found_beside
from kosmos_loader.pages import find_files, open_pages
from kosmos_loader.readers.existing import ExistingOcr
from kosmos_loader.testing import ScriptedReader

LINE = Line("Harbour dues were paid", Box(0.1, 0.2, 0.9, 0.4), 0.9)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def scan(path: Path, *, pages: int = 1) -> Path:
    images = []
    for number in range(pages):
        image = Image.new("RGB", (300, 200), "white")
        ImageDraw.Draw(image).rectangle((40, 45, 260, 75), fill="black")
        image.putpixel((0, 0), (number, len(path.stem), 0))
        images.append(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    images[0].save(path, **({"save_all": True, "append_images": images[1:]} if pages > 1 else {}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scan(tmp_path / "scans" / "a.png")
    scan(tmp_path / "scans" / "box" / "b.tif", pages=2)
    return tmp_path / "scans"


def reader() -> ScriptedReader:
    return ScriptedReader(lambda page: LINE)


def write(source: Path, form: Format, out: Path | None, by: ScriptedReader | None = None) -> None:
    files = find_files(source)
    ocr_writing.write(open_pages(files), by or reader(), files, form, out=out)


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (Format.hocr, ["a.hocr", "box/b.hocr"]),
        (Format.alto, ["a.alto.xml", "box/b_0001.alto.xml", "box/b_0002.alto.xml"]),
        (Format.page, ["a.page.xml", "box/b_0001.page.xml", "box/b_0002.page.xml"]),
        (Format.pdf, ["a.pdf", "box/b.pdf"]),
    ],
)
def test_in_a_folder_each_file_or_page_gets_a_file_of_its_name(
    folder: Path, tmp_path: Path, form: Format, names: list[str]
) -> None:
    out = tmp_path / "out"
    write(folder, form, out)
    made = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert made == names


@pytest.mark.parametrize("form", [Format.hocr, Format.alto, Format.page])
def test_what_is_written_beside_the_scans_is_found_there(folder: Path, form: Format) -> None:
    write(folder, form, folder)
    readings = list(ExistingOcr().read(open_pages(folder)))
    assert [reading.error for reading in readings] == [None] * 3
    assert [reading.lines[0].text for reading in readings] == [LINE.text] * 3
    assert all(reading.lines[0].confidence == 0.9 for reading in readings)


def test_scans_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    scan(tmp_path / "in" / "a.png")
    scan(tmp_path / "in" / "a.tif")
    write(tmp_path / "in", Format.hocr, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.png.hocr",
        "a.tif.hocr",
    ]


def test_a_page_does_not_overwrite_a_scan_that_is_named_as_one(tmp_path: Path) -> None:
    scan(tmp_path / "in" / "a.tif", pages=2)
    scan(tmp_path / "in" / "a_0002.png")
    by_page = ScriptedReader(
        lambda page: replace(LINE, text=f"{LINE.text} {page.number} {Path(page.source).suffix[1:]}")
    )
    write(tmp_path / "in", Format.alto, tmp_path / "in", by_page)
    names = {path.name for path in (tmp_path / "in").glob("*.xml")}
    assert names == {"a_0001.alto.xml", "a.tif_0002.alto.xml", "a_0002.alto.xml"}
    found = ExistingOcr().read(open_pages(tmp_path / "in"))
    assert [read.lines[0].text for read in found] == [
        line.text for read in by_page.read(open_pages(tmp_path / "in")) for line in read.lines
    ]


def test_scans_whose_files_would_be_one_are_named(tmp_path: Path) -> None:
    for name in ("a.tif", "a.jpg", "a.jpg.png"):
        scan(tmp_path / "in" / name)
    with pytest.raises(UsageError, match=r"a.jpg.hocr would be written for two scans; rename"):
        write(tmp_path / "in", Format.hocr, tmp_path / "out")


def test_a_pdf_is_never_written_over_its_source(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    Image.new("RGB", (100, 100), "white").save(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="would be overwritten"):
        write(tmp_path, Format.pdf, tmp_path)
    assert path.read_bytes() == before


def test_one_file_of_hocr_or_pdf_holds_all_pages(folder: Path, tmp_path: Path) -> None:
    write(folder, Format.hocr, tmp_path / "all.hocr")
    assert (tmp_path / "all.hocr").read_text().count('class="ocr_page"') == 3
    write(folder, Format.pdf, tmp_path / "all.pdf")
    texts = [page.text_layer[0].text for page in open_pages(tmp_path / "all.pdf")]
    assert texts == [LINE.text] * 3


def test_alto_and_page_hold_one_page_a_file_and_say_so_before_all_are_read(
    folder: Path, tmp_path: Path
) -> None:
    out, by = tmp_path / "out.xml", reader()
    out.write_text("what stood there")
    with pytest.raises(UsageError, match="one page a file"):
        write(folder, Format.alto, out, by)
    assert len(by.seen) == 2
    assert out.read_text() == "what stood there"


def test_a_page_that_failed_is_left_out_and_named_at_the_end(folder: Path, tmp_path: Path) -> None:
    by = ScriptedReader({("a.png", 1): LINE, ("b.tif", 2): LINE})
    with pytest.raises(SomeFailed, match="all others are done"):
        write(folder, Format.alto, tmp_path / "out", by)
    made = sorted(path.name for path in (tmp_path / "out").rglob("*.xml"))
    assert made == ["a.alto.xml", "b_0002.alto.xml"]


# The commands


def test_existing_ocr_is_read_without_a_reader_and_converted(folder: Path, tmp_path: Path) -> None:
    write(folder, Format.hocr, folder)
    done = run("read", folder / "box", "--ocr", "existing", "--format", "json")
    assert done.exit_code == 0, done.stderr
    pages = [json.loads(row) for row in done.stdout.splitlines()]
    assert [page["reader"] for page in pages] == ["existing"] * 2
    assert pages[0]["lines"][0]["text"] == LINE.text
    out = tmp_path / "a.page.xml"
    done = run("read", folder / "a.png", "--ocr", "existing", "--format", "page", "-o", out)
    assert done.exit_code == 0, done.stderr
    scan(tmp_path / "a.png")
    [page] = open_pages(tmp_path / "a.png")
    assert found_beside(page).lines[0].text == LINE.text


def test_alto_goes_to_stdout(folder: Path) -> None:
    write(folder / "a.png", Format.hocr, folder)
    done = run("read", folder / "a.png", "--ocr", "existing", "--format", "alto")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("<?xml")
    assert done.stdout.rstrip().endswith("</alto>")


def test_a_pdf_is_not_printed(folder: Path) -> None:
    done = run("read", folder, "--ocr", "existing", "--format", "pdf")
    assert done.exit_code == 2
    assert "give a file or a folder with -o" in done.stderr


def test_pages_without_ocr_are_named_and_the_others_indexed(folder: Path, tmp_path: Path) -> None:
    write(folder / "a.png", Format.hocr, folder)
    store = tmp_path / "store"
    done = run("index", folder, "--store", store, "--ocr", "existing", "--json")
    assert done.exit_code == 17
    report = json.loads(done.stdout)
    assert (report["pages"], len(report["failed"])) == (1, 2)
    assert "has no OCR" in done.stderr
    found = run("search", "harbour dues", "--store", store, "--json")
    [hit] = json.loads(found.stdout)
    assert hit["metadata"]["reader"] == "existing"


def test_an_answer_from_existing_ocr_can_be_drawn(folder: Path, tmp_path: Path) -> None:
    write(folder / "a.png", Format.hocr, folder)
    store, out = tmp_path / "store", tmp_path / "page.png"
    run("index", folder / "a.png", "--store", store, "--ocr", "existing")
    done = run("ask", "Were harbour dues paid?", "--store", store, "--draw", out)
    assert done.exit_code == 0, done.stderr
    assert out.is_file()
