"""The command line: what is printed where, in which shape, and with which exit code."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner, Result

from kosmos_loader import errors
from kosmos_loader.archive import ingest
from kosmos_loader.cli import app, shapes, terminal
from kosmos_loader.cli.drawings import draw_citations, draw_reading
from kosmos_loader.cli.options import Format
from kosmos_loader.cli.reading import write_readings
from kosmos_loader.document import Answer, Citation, Failure, Line
from kosmos_loader.errors import CorruptFile, ReadingError, SomeFailed, StoreError, UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.pages import find_files, open_pages
from kosmos_loader.spawning import start
from kosmos_loader.store import Store
from kosmos_loader.testing import ScriptedReader

COMMANDS = (
    *("read", "index", "search", "ask", "draw", "status", "verify", "remove", "doctor"),
    "train",
)
TOTAL = Line("Total due 41.20", Box(0.1, 0.5, 0.6, 0.55), 0.98)
TITLE = Line("Brennock Ropeworks invoice", Box(0.1, 0.1, 0.7, 0.16), 0.97)
DUES = Line("Harbour dues were paid in May", Box(0.1, 0.3, 0.8, 0.34), 0.9)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def blank(path: Path, *, pages: int = 1) -> Path:
    """A picture whose pages differ in one pixel, so that they are not the same picture."""
    images = [Image.new("RGB", (200, 100), "white") for _ in range(pages)]
    for number, image in enumerate(images):
        image.putpixel((0, 0), (number, len(path.stem), 0))
    images[0].save(path, **({"save_all": True, "append_images": images[1:]} if pages > 1 else {}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, three pages."""
    scans = tmp_path / "scans"
    scans.mkdir()
    blank(scans / "invoice.png")
    blank(scans / "ledger.tif", pages=2)
    return scans


def scripted() -> ScriptedReader:
    return ScriptedReader(
        {
            ("invoice.png", 1): [TITLE, TOTAL],
            ("ledger.tif", 1): DUES,
            ("ledger.tif", 2): {"flags": ["blank"]},
        }
    )


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with Store.open(path) as opened:
        ingest(folder, opened, scripted())
    return path


# Help and usage


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Examples:\n" in result.stdout
    assert f"  kosmos-loader {command}" in result.stdout
    assert all(len(line) <= 100 for line in result.stdout.splitlines())


def test_the_commands_are_those_of_the_help_and_none_is_cut_short() -> None:
    help_text = run("--help").stdout
    listed = help_text.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert tuple(line.split()[0] for line in listed) == COMMANDS
    assert not any(line.endswith("...") for line in listed)


def test_no_arguments_show_the_help() -> None:
    assert "Commands:" in run().output


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert run("--version").stdout == f"kosmos-loader {version('kosmos-loader')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["read"],
        ["read", "a.png", "--formt", "json"],
        ["read", "a.png", "--format", "xml"],
        ["nothing"],
        ["search", "x"],
        ["index", "a.png", "--store", "s", "--on-error", "ignore"],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error" in result.stderr or "Usage" in result.stderr


@pytest.mark.parametrize("more", [[], ["--ocr", "existing"]])
def test_an_unknown_reader_is_a_usage_error(folder: Path, more: list[str]) -> None:
    result = run("read", folder, "--reader", "tesseract", *more)
    assert result.exit_code == 2
    assert result.stderr == (
        "error: no reader is called 'tesseract'; choose one of auto, kosmos, rapidocr\n"
    )


def failing(error: BaseException) -> typer.Typer:
    failing_app = typer.Typer(cls=terminal.Commands)

    @failing_app.command()
    def one() -> None:
        typer.echo("a result")
        raise error

    @failing_app.command()
    def two() -> None:
        """A second command, so that there is a group."""

    return failing_app


CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.KosmosLoaderError)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_our_errors_end_with_one_line_and_their_exit_code(
    kind: type[errors.KosmosLoaderError],
) -> None:
    result = CliRunner().invoke(failing(kind("x.pdf is odd; do that")), ["one"])
    assert result.exit_code == kind.exit_code
    assert result.stdout == "a result\n"
    assert result.stderr == "error: x.pdf is odd; do that\n"


def test_an_interrupt_ends_with_130_and_without_a_traceback() -> None:
    result = CliRunner().invoke(failing(KeyboardInterrupt()), ["one"])
    assert result.exit_code == 130
    assert result.stderr == "interrupted; what was done is kept\n"


# Reading


def read(paths: Path | list[Path], reader: ScriptedReader, form: Format, out: Path) -> str:
    """What `read` writes with this reader in the place of the named ones."""
    files = find_files(paths)
    write_readings(reader.read(open_pages(files)), files, form, out=out)
    return out.read_text("utf-8")


def test_markdown_of_one_page_stands_alone(folder: Path, tmp_path: Path) -> None:
    text = read(folder / "invoice.png", scripted(), Format.markdown, tmp_path / "out.md")
    assert text.startswith(("Brennock", "# Brennock"))
    assert "Total due 41.20" in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert "<!--" not in text


def test_markdown_of_several_pages_says_which_is_which(folder: Path, tmp_path: Path) -> None:
    text = read(folder, scripted(), Format.markdown, tmp_path / "out.md")
    titles = [line for line in text.splitlines() if line.startswith("<!--")]
    assert titles == [
        f"<!-- {folder / 'invoice.png'}, page 1 -->",
        f"<!-- {folder / 'ledger.tif'}, page 1 -->",
        f"<!-- {folder / 'ledger.tif'}, page 2 -->",
    ]


def test_json_is_one_object_a_page_with_lines_and_blocks(folder: Path, tmp_path: Path) -> None:
    text = read(folder, scripted(), Format.json, tmp_path / "out.jsonl")
    first, second, third = map(json.loads, text.splitlines())
    assert list(first) == [
        *("source", "page", "width", "height", "reader", "flags", "error", "markdown"),
        *("lines", "blocks"),
    ]
    assert first["source"] == str(folder / "invoice.png")
    assert (first["page"], first["width"], first["height"]) == (1, 200, 100)
    assert (first["reader"], first["flags"], first["error"]) == ("scripted", [], None)
    assert first["lines"][1] == {
        "text": "Total due 41.20",
        "box": [0.1, 0.5, 0.6, 0.55],
        "confidence": 0.98,
    }
    for block in first["blocks"]:
        assert list(block) == ["kind", "level", "markdown", "boxes"]
    boxes = [box for block in first["blocks"] for box in block["boxes"]]
    assert [1, 0.1, 0.5, 0.6, 0.55] in boxes
    assert second["page"] == 1
    assert (third["page"], third["flags"], third["blocks"]) == (2, ["blank"], [])


def test_json_tells_what_joining_the_two_readings_found(folder: Path, tmp_path: Path) -> None:
    alone = ScriptedReader([{"markdown": "Text that stands in no line."}] * 3)
    pages = map(json.loads, read(folder, alone, Format.json, tmp_path / "out.jsonl").splitlines())
    assert [page["flags"] for page in pages] == [["unplaced"]] * 3


def test_chunks_are_one_object_each_with_text_and_metadata(folder: Path, tmp_path: Path) -> None:
    text = read(folder, scripted(), Format.chunks, tmp_path / "out.jsonl")
    chunks = list(map(json.loads, text.splitlines()))
    assert all(list(chunk) == ["text", "metadata"] for chunk in chunks)
    assert [chunk["metadata"]["page"] for chunk in chunks] == [1, 1]
    assert "dues" in chunks[-1]["text"]


def test_a_page_that_failed_is_a_json_line_and_its_neighbours_follow(
    folder: Path, tmp_path: Path
) -> None:
    reader = ScriptedReader([ReadingError("too dark; scan it again"), DUES])
    with pytest.raises(SomeFailed, match=r"ledger\.tif, page 1: too dark"):
        read(folder / "ledger.tif", reader, Format.json, tmp_path / "out.jsonl")
    bad, good = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert bad["error"] == {"type": "reading", "message": "too dark; scan it again"}
    assert (bad["page"], bad["markdown"], bad["lines"], bad["blocks"]) == (1, "", [], [])
    assert good["error"] is None


def test_reading_goes_on_after_a_bad_file_and_names_it(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(SomeFailed, match=r"corrupt: .*bad\.png"):
        read(folder, scripted(), Format.json, tmp_path / "out.jsonl")
    pages = list(map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines()))
    assert [(Path(page["source"]).name, page["page"]) for page in pages] == [
        ("bad.png", 0),
        ("invoice.png", 1),
        ("ledger.tif", 1),
        ("ledger.tif", 2),
    ]
    assert pages[0]["error"]["type"] == "corrupt"


def test_the_only_file_ends_with_its_own_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(CorruptFile):
        read(bad, scripted(), Format.markdown, tmp_path / "out.md")


@pytest.mark.parametrize("form", [Format.markdown, Format.json, Format.chunks])
def test_results_go_to_stdout_without_an_out_file(
    folder: Path, form: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    files = find_files(folder)
    write_readings(scripted().read(open_pages(files)), files, form)
    printed = capsys.readouterr()
    assert "Harbour dues were paid in May" in printed.out
    assert printed.err == ""


def test_a_missing_file_is_named_before_a_reader_is_loaded(tmp_path: Path) -> None:
    result = run("read", tmp_path / "no.pdf")
    assert result.exit_code == 3
    assert result.stderr == f"error: {tmp_path / 'no.pdf'} does not exist; check the path\n"


def test_an_out_file_that_cannot_be_written_is_a_usage_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="cannot write"):
        read(folder, scripted(), Format.json, tmp_path / "no folder" / "out.jsonl")


@pytest.mark.parametrize("command", ["read", "draw"])
def test_a_file_to_read_is_never_written_to(folder: Path, command: str) -> None:
    scan, link = folder / "invoice.png", folder / "link.png"
    link.hardlink_to(scan)
    before = scan.read_bytes()
    for out in (scan, link):
        result = run(command, scan, "-o", out)
        assert (result.exit_code, scan.read_bytes()) == (2, before)
        assert "would be overwritten" in result.stderr


def test_an_out_file_stays_where_nothing_was_read(tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.png", tmp_path / "out.md"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    out.write_text("of last week")
    with pytest.raises(CorruptFile):
        read(bad, scripted(), Format.markdown, out)
    assert out.read_text() == "of last week"
    assert sorted(tmp_path.iterdir()) == [bad, out]


def test_an_out_file_is_replaced_where_it_is_and_keeps_its_rights(
    folder: Path, tmp_path: Path
) -> None:
    out, link = tmp_path / "out.md", tmp_path / "link.md"
    out.write_text("of last week")
    out.chmod(0o640)
    link.symlink_to(out)
    assert "Total due" in read(folder / "invoice.png", scripted(), Format.markdown, link)
    assert (link.is_symlink(), out.stat().st_mode & 0o777) == (True, 0o640)
    # a page without text is a result too
    blank_page = ScriptedReader([{"flags": ["blank"]}])
    assert read(folder / "invoice.png", blank_page, Format.chunks, out) == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_what_is_no_regular_file_is_written_to_as_it_stands(folder: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    taken = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    files = find_files(folder / "invoice.png")
    write_readings(scripted().read(open_pages(files)), files, Format.markdown, out=pipe)
    assert b"Total due 41.20" in os.read(taken, 10_000)
    os.close(taken)
    assert pipe.is_fifo()


# Searching and asking


def test_search_prints_hits_with_place_and_score(store: Path, folder: Path) -> None:
    result = run("search", "harbour dues", "--store", store, "-k", "1")
    assert result.exit_code == 0
    assert f"{folder / 'ledger.tif'}, page 1" in result.stdout
    assert "Harbour dues were paid in May" in result.stdout


def test_search_json_has_the_promised_keys(store: Path, folder: Path) -> None:
    hits = json.loads(run("search", "harbour dues", "--store", store, "--json").stdout)
    keys = ["score", "text", "source", "page", "boxes", "chunk_id", "metadata"]
    assert all(list(hit) == keys for hit in hits)
    first = hits[0]
    assert (first["source"], first["page"]) == (str(folder / "ledger.tif"), 1)
    assert first["boxes"] == [[1, 0.1, 0.3, 0.8, 0.34]]
    assert first["metadata"]["chunk_id"] == first["chunk_id"]
    assert first["score"] > 0


def test_filters_are_read_as_numbers_and_words(store: Path, folder: Path) -> None:
    def found(*filters: str) -> set[str]:
        options = [part for text in filters for part in ("--filter", text)]
        result = run("search", "harbour dues total", "--store", store, "--json", *options)
        return {Path(hit["source"]).name for hit in json.loads(result.stdout)}

    assert found() == {"invoice.png", "ledger.tif"}
    assert found("page_count=2") == {"ledger.tif"}
    assert found("page=1", f"source={folder / 'invoice.png'}") == {"invoice.png"}
    assert found("page=7") == set()
    assert found("confidence=0.9") == {"ledger.tif"}
    both = [f"source={folder / name}" for name in ("invoice.png", "ledger.tif")]
    assert found(*both) == {"invoice.png", "ledger.tif"}
    assert found(*both, "page_count=2", "page_count=3") == {"ledger.tif"}


def test_a_heading_that_is_a_number_is_still_a_text(folder: Path, tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as opened:
        ingest(folder / "ledger.tif", opened, scripted())
        [hit] = opened.search("harbour dues")
        opened.add([replace(hit.chunk, chunk_id="below", headings=("1921",))])
    found = run("search", "dues", "--store", tmp_path / "store", "--filter", "headings=1921")
    assert "Harbour dues" in found.stdout


@pytest.mark.parametrize("text", ["page", "=1", "", "page=two"])
def test_a_filter_that_is_none_is_a_usage_error(store: Path, text: str) -> None:
    result = run("search", "x", "--store", store, "--filter", text)
    assert result.exit_code == 2
    assert "--filter" in result.stderr


def test_nothing_found_is_said(store: Path) -> None:
    result = run("search", "x", "--store", store, "--filter", "page=7")
    assert (result.exit_code, result.stdout) == (0, "nothing found\n")


def test_ask_prints_the_answer_with_quote_file_page_and_box(store: Path, folder: Path) -> None:
    result = run("ask", "What is the total due?", "--store", store)
    assert result.exit_code == 0
    assert "Total due 41.20" in result.stdout
    assert f"{folder / 'invoice.png'}, page 1, box 10.0% 50.0% to 60.0% 55.0%" in result.stdout
    assert "no language model configured" in result.stderr


def test_ask_json_has_the_promised_keys(store: Path, folder: Path) -> None:
    result = run("ask", "What is the total due?", "--store", store, "--json")
    answer = json.loads(result.stdout)
    assert list(answer) == [
        *("question", "answer", "model", "abstained", "citations", "unsupported", "hits")
    ]
    assert (answer["model"], answer["abstained"], answer["unsupported"]) == (None, False, [])
    citation = answer["citations"][0]
    assert list(citation) == ["quote", "source", "page", "boxes", "chunk_id"]
    assert "41.20" in citation["quote"]
    assert citation["boxes"] == [[1, 0.1, 0.5, 0.6, 0.55]]
    assert citation["chunk_id"] in {hit["chunk_id"] for hit in answer["hits"]}


def marked(path: Path) -> tuple[int, int, int]:
    """The colour in the middle of the total's box, which lies 47.5 % above the page's foot."""
    with Image.open(path) as picture:
        return picture.convert("RGB").getpixel((70, picture.height - 48))


def test_ask_draws_the_cited_page_with_the_quote_marked(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "total.png"
    result = run("ask", "What is the total due?", "--store", store, "--draw", out)
    assert result.exit_code == 0
    red, green, blue = marked(out)
    assert min(red, green) > blue


def test_ask_never_draws_over_a_file_of_the_store(store: Path, folder: Path) -> None:
    scan = folder / "invoice.png"
    before = scan.read_bytes()
    result = run("ask", "What is the total due?", "--store", store, "--draw", scan)
    assert (result.exit_code, scan.read_bytes()) == (2, before)


def test_a_page_that_changed_since_it_was_indexed_is_not_drawn(
    store: Path, folder: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (200, 100), "red").save(folder / "invoice.png")
    out = tmp_path / "total.png"
    result = run("ask", "What is the total due?", "--store", store, "--draw", out)
    assert result.exit_code == StoreError.exit_code
    assert "Total due 41.20" in result.stdout
    assert "invoice.png has changed since it was read; index it again" in result.stderr
    assert not out.exists()


def test_a_page_that_moved_within_its_file_is_not_drawn(
    store: Path, folder: Path, tmp_path: Path
) -> None:
    with Image.open(folder / "ledger.tif") as ledger:
        pages = []
        for number in (1, 0):
            ledger.seek(number)
            pages.append(ledger.copy())
    pages[0].save(folder / "ledger.tif", save_all=True, append_images=pages[1:])
    out = tmp_path / "dues.png"
    result = run("ask", "harbour dues", "--store", store, "--draw", out)
    assert result.exit_code == StoreError.exit_code
    assert "ledger.tif has changed since it was read" in result.stderr
    assert not out.exists()


def test_a_missing_file_does_not_cost_the_other_drawings(
    store: Path, folder: Path, tmp_path: Path
) -> None:
    (folder / "invoice.png").unlink()
    box, out = TOTAL.box, tmp_path / "cited.png"
    cited = tuple(
        Citation("a quote", str(folder / name), 1, ((1, box),), "")
        for name in ("invoice.png", "ledger.tif")
    )
    with Store.open(store, create=False) as opened:
        answer = Answer("?", "", cited, tuple(opened.search("harbour dues")))
        with pytest.raises(SomeFailed, match=r"not_found: .*invoice\.png"):
            draw_citations(answer, out, opened)
    assert out.exists()


def test_ask_that_finds_nothing_abstains_and_draws_nothing(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "none.png"
    asked = run("ask", "Who won the moon race?", "--store", store, "--json", "--draw", out)
    assert asked.exit_code == 0
    assert json.loads(asked.stdout)["abstained"] is True
    assert not out.exists()
    assert "nothing was drawn" in asked.stderr


def test_a_picture_of_no_known_kind_is_refused_before_any_work(tmp_path: Path) -> None:
    for name in ("page.txt", "page.psd", "page", "no folder/page.png"):
        path = tmp_path / name
        result = run("ask", "x", "--store", tmp_path / "none", "--draw", path)
        assert result.exit_code == 2
        assert str(path) in result.stderr


@pytest.mark.parametrize("option", ["--llm", "--llm-model"])
def test_a_language_model_needs_address_and_name(store: Path, option: str) -> None:
    result = run("ask", "x", "--store", store, option, "something")
    assert result.exit_code == 2
    assert "--llm URL and --llm-model NAME" in result.stderr


@pytest.mark.parametrize("what", [["search", "x"], ["ask", "x"], ["status"], ["verify"]])
def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, what: list[str]) -> None:
    result = run(*what, "--store", tmp_path / "none")
    assert result.exit_code == 13
    assert "no store" in result.stderr
    assert not (tmp_path / "none").exists()


# Care of the store


def test_status_counts_and_lists_files_and_failures(store: Path, folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"")
    with Store.open(store) as opened:
        ingest(folder, opened, scripted())
    text = run("status", "--store", store).stdout
    assert f"2 pages  {folder / 'ledger.tif'}" in text
    assert f"{folder / 'bad.png'}: " in text
    status = json.loads(run("status", "--store", store, "--json").stdout)
    assert status["chunks"] == sum(source["chunks"] for source in status["sources"])
    assert [(failure["type"], failure["page"]) for failure in status["failures"]] == [("empty", 0)]


def test_verify_says_that_a_sound_store_is_sound(store: Path) -> None:
    result = run("verify", "--store", store)
    assert (result.exit_code, result.stdout) == (0, "sound\n")
    assert json.loads(run("verify", "--store", store, "--json").stdout) == []


def test_verify_mends_what_can_be_made_anew(store: Path) -> None:
    with sqlite3.connect(store / "store.sqlite") as connection:
        connection.execute("UPDATE vectors SET crc = 1")
    connection.close()
    found = run("verify", "--store", store)
    assert found.exit_code == 15
    assert f"kosmos-loader verify --store {store} --rebuild" in found.stderr
    mended = run("verify", "--store", store, "--rebuild")
    assert (mended.exit_code, mended.stdout) == (0, "sound\n")


def test_remove_takes_one_file_out(store: Path, folder: Path) -> None:
    result = run("remove", os.path.relpath(folder / "ledger.tif"), "--store", store, "--json")
    assert json.loads(result.stdout) == {"source": str(folder / "ledger.tif"), "chunks": 1}
    status = json.loads(run("status", "--store", store, "--json").stdout)
    assert [source["source"] for source in status["sources"]] == [str(folder / "invoice.png")]
    assert (folder / "ledger.tif").exists()
    assert status["readings"] == 1


def test_remove_of_what_is_not_there_is_an_error(store: Path) -> None:
    result = run("remove", "nothing.pdf", "--store", store)
    assert result.exit_code == 3
    assert "nothing.pdf is not in the store" in result.stderr


def test_remove_clears_the_failure_of_a_name_that_is_no_utf8(store: Path, folder: Path) -> None:
    name = os.fsdecode(os.fsencode(folder) + b"/odd\xff.png")
    with Store.open(store) as opened:
        opened.record_failure(name, 0, Failure("empty", "no bytes"))
    assert run("remove", name, "--store", store).exit_code == 0
    with Store.open(store) as opened:
        assert opened.failures() == []


def test_one_of_a_thing_is_not_said_in_the_plural(folder: Path, tmp_path: Path) -> None:
    with Store.open(tmp_path / "one") as opened:
        report = ingest(folder / "ledger.tif", opened, scripted())
    said = shapes.report_text(report, "one").splitlines()[0]
    assert said == "1 file, 2 pages (0 of them read before), 1 chunk in one"
    assert (
        "removed 1 chunk of"
        in run("remove", folder / "ledger.tif", "--store", tmp_path / "one").stdout
    )


# Drawing


@pytest.mark.parametrize("blocks", [True, False])
def test_a_reading_is_drawn(folder: Path, tmp_path: Path, blocks: bool) -> None:
    page = next(open_pages(folder / "invoice.png"))
    [reading] = scripted().read([page])
    draw_reading(page, reading, tmp_path / "page.png", blocks=blocks)
    with Image.open(tmp_path / "page.png") as picture:
        assert picture.size == (200, 100)
        assert (np.asarray(picture.convert("RGB")) < 250).any()


def test_a_page_that_failed_is_not_drawn(folder: Path, tmp_path: Path) -> None:
    page = next(open_pages(folder / "invoice.png"))
    [reading] = ScriptedReader([ReadingError("too dark")]).read([page])
    with pytest.raises(ReadingError, match="too dark"):
        draw_reading(page, reading, tmp_path / "page.png")


# The program itself


def program(*arguments: str | Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kosmos_loader", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_heed_interrupts,  # noqa: PLW1509 - nothing here runs threads
    )


def _heed_interrupts() -> None:
    # a run of the tests in the background of a shell ignores them, and its children with it
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_closed_pipe_ends_the_program_quietly(store: Path) -> None:
    with program("status", "--store", store) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode != 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["status", "--store", "STORE"], ["--help"], ["--version"]])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_under_stdout_is_one_line(
    store: Path, arguments: list[str], unbuffered: str
) -> None:
    named = [str(store) if argument == "STORE" else argument for argument in arguments]
    command = [sys.executable, "-m", "kosmos_loader", *named]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, env=environment, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"error: cannot write the results")
    assert ended.stderr.count(b"\n") == 1


@pytest.mark.parametrize("command", ["index letter.png", "search total", "status"])
def test_a_store_without_a_name_is_refused(tmp_path: Path, command: str) -> None:
    found = run(*command.split(), "--store", "")
    assert found.exit_code == UsageError.exit_code
    assert "the path is empty" in found.stderr


def test_names_that_are_no_utf8_are_printed_as_escapes(tmp_path: Path) -> None:
    try:
        odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff.png"))
        blank(odd)
    except OSError:
        pytest.skip("this file system takes no such names")
    with Store.open(tmp_path / "store") as opened:
        ingest(odd, opened, ScriptedReader([TOTAL]))
    with program("search", "total", "--store", tmp_path / "store", "--json") as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)[0]["source"].endswith("odd\udcff.png")


@pytest.fixture
def drawn_page(tmp_path: Path) -> Path:
    """A page that a real reader can read."""
    page = Image.new("RGB", (700, 260), "white")
    font = ImageFont.load_default(36)
    draw = ImageDraw.Draw(page)
    draw.text((40, 40), "Merrowick Harbour Trust", fill="black", font=font)
    draw.text((40, 120), "Mooring fee 48.50 pounds", fill="black", font=font)
    path = tmp_path / "scans" / "receipt.png"
    path.parent.mkdir()
    page.save(path)
    return path


@pytest.mark.slow
def test_a_drawn_page_is_read_indexed_asked_and_drawn(drawn_page: Path, tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    store, bad = tmp_path / "store", drawn_page.with_name("bad.pdf")
    bad.write_bytes(b"%PDF-1.7\n nothing of a PDF follows")

    read_it = run("-q", "read", drawn_page, "--reader", "rapidocr")
    assert read_it.exit_code == 0
    assert "Mooring fee 48.50 pounds" in read_it.stdout
    assert read_it.stderr == ""

    indexed = run("index", drawn_page.parent, "--store", store, "--reader", "rapidocr", "--json")
    assert indexed.exit_code == 17
    report = json.loads(indexed.stdout)
    assert list(report) == [
        *("files", "pages", "reused", "chunks", "unchanged", "vanished", "interrupted"),
        *("failed", "flagged"),
    ]
    assert (report["files"], report["pages"]) == (2, 1)
    assert [Path(failed["source"]).name for failed in report["failed"]] == ["bad.pdf"]
    assert "bad.pdf" in indexed.stderr

    asked = run("ask", "What is the mooring fee?", "--store", store, "--draw", tmp_path / "a.png")
    assert asked.exit_code == 0
    assert "48.50" in asked.stdout
    assert (tmp_path / "a.png").exists()

    drawn = run("draw", drawn_page, "--lines", "-o", tmp_path / "b.png", "--reader", "rapidocr")
    assert drawn.exit_code == 0
    assert (tmp_path / "b.png").exists()

    stopped = run(
        *("index", drawn_page.parent, "--store", store, "--reader", "rapidocr"),
        *("--on-error", "stop"),
    )
    assert stopped.exit_code == CorruptFile.exit_code


@pytest.mark.slow
def test_doctor_names_libraries_reader_and_reason() -> None:
    pytest.importorskip("rapidocr")
    found = json.loads(run("-q", "doctor", "--json").stdout)
    assert found["libraries"]["pillow"] == Image.__version__
    assert found["reader"]["name"] in ("rapidocr", "kosmos-2.5")
    assert found["reader"]["why"]
    assert found["fts5"] is True
    assert (found["kernels"] is None) == (found["extras"]["kosmos"]["torch"] is None)
    for extra, libraries in found["extras"].items():
        missing = f"pip install 'kosmos-loader[{extra}]'" in found["missing"]
        assert missing == (None in libraries.values())
    text = run("-q", "doctor").stdout
    assert "reader" in text
    assert f"kernels          {found['kernels'] or 'none'}" in text


def kept_readings(store: Path) -> int:
    try:
        with Store.open(store, create=False) as opened:
            return opened.stats()["readings"]
    except errors.StoreError:  # not made yet
        return 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_ends_an_index_run_with_130_and_a_sound_store(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    scans = blank(tmp_path / "many.tif", pages=400)
    store = tmp_path / "store"
    with program("index", scans, "--store", store, "--reader", "rapidocr") as process:
        while process.poll() is None and kept_readings(store) < 2:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert run("verify", "--store", store).exit_code == 0


# Streams that are not there


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sh closes the streams")
def test_streams_that_are_closed_cost_nothing_but_what_they_would_have_shown(store: Path) -> None:
    command = [sys.executable, "-m", "kosmos_loader", "status", "--store", str(store)]
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert ("chunks" in done.stdout) == (closed == "2>&-")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize(("term", "shown"), [("xterm", True), ("dumb", False)])
def test_a_bar_needs_a_terminal_that_can_move_its_cursor(term: str, shown: bool) -> None:
    import pty

    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from kosmos_loader.archive.progress import has_terminal; print(has_terminal())",
            ],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": term},
            text=True,
            check=True,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.stdout == f"{shown}\n"


def test_a_summary_of_very_many_failures_names_the_first_and_where_all_of_them_are() -> None:
    failed = [CorruptFile(f"file {number} is cut") for number in range(250)]
    with pytest.raises(SomeFailed) as raised:
        terminal.conclude(failed, files=300, succeeded=True, listed="kosmos-loader status")
    first, *named, last = str(raised.value).splitlines()
    assert first == "250 files or pages failed, all others are done"
    assert len(named) == 200
    assert last == "  and 50 more; all of them: kosmos-loader status"
    with pytest.raises(SomeFailed) as raised:
        terminal.conclude(failed, files=300, succeeded=True)
    assert len(str(raised.value).splitlines()) == 251


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signals can be masked here")
def test_a_process_that_is_starting_leaves_ctrl_c_to_the_one_that_started_it() -> None:
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0,))
    start(process)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
