"""`ask` and `draw` on the command line: answers as they come, what is doubtful, quotes on pages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from kosmos_loader.answering import answer, answer_stream
from kosmos_loader.archive import ingest
from kosmos_loader.cli import app, print_stream, shapes
from kosmos_loader.cli.drawings import draw_citations, draw_quote
from kosmos_loader.document import Answer, Citation, Line
from kosmos_loader.errors import ChatError, ReadingError, UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.pages import open_pages
from kosmos_loader.store import Store
from kosmos_loader.testing import ScriptedReader

FIRST = Line(
    "We put the cost of the work at 38,400 pounds, to which a tenth", Box(0.1, 0.9, 0.9, 0.94)
)
SECOND = Line("should be added for days lost to bad weather.", Box(0.1, 0.1, 0.7, 0.14))


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    """A letter of two pages."""
    pages = [Image.new("RGB", (200, 300), shade) for shade in ("white", "#fefefe")]
    path = tmp_path / "scans" / "letter.tif"
    path.parent.mkdir()
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


@pytest.fixture
def store(letter: Path, tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with Store.open(path) as opened:
        ingest(letter, opened, ScriptedReader([FIRST, SECOND]))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def asked(store: Path, reply: str) -> Answer:
    with Store.open(store, create=False) as opened:
        return answer("What does it cost?", opened.search("cost"), chat=lambda _: reply)


# --- What is doubtful -----------------------------------------------------------------------


def test_what_no_citation_bears_out_is_listed_below_the_citations(store: Path) -> None:
    given = asked(store, "It costs 38,500 pounds [1]. Nobody minds.")
    text = shapes.answer_text(given)
    assert text.startswith(f"{given.text}\n\n[1] “We put")
    assert text.endswith(
        "\n\n[?] “38,500”\n    a number or date that is not in the words its sentence cites"
        "\n\n[?] “Nobody minds.”\n    a sentence without a citation that holds"
    )


def test_json_names_what_no_citation_bears_out_and_where_it_stands(store: Path) -> None:
    given = asked(store, "It costs 38,500 pounds [1]. Nobody minds.")
    listed = shapes.answer_json(given)["unsupported"]
    assert listed == [
        {"text": "38,500", "reason": "unquoted", "start": 9, "end": 15},
        {"text": "Nobody minds.", "reason": "uncited", "start": 28, "end": 41},
    ]


# --- Answers as they come -------------------------------------------------------------------


def test_a_stream_prints_what_the_whole_answer_prints(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(store, create=False) as opened:
        hits = opened.search("cost")
    reply = "It costs 38,500 pounds [1]. Nobody minds."
    found = print_stream(answer_stream("What does it cost?", hits, chat=lambda _: reply))
    assert capsys.readouterr().out == shapes.answer_text(found) + "\n"
    assert found == answer("What does it cost?", hits, chat=lambda _: reply)


def test_an_error_in_a_stream_stands_on_a_line_of_its_own(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Breaking:
        def __call__(self, messages: list[dict[str, str]]) -> str:
            return ""

        def stream(self, messages: list[dict[str, str]]) -> Iterator[str]:
            yield "It costs"
            raise ChatError("broke off")

    with Store.open(store, create=False) as opened:
        stream = answer_stream("What does it cost?", opened.search("cost"), chat=Breaking())
    with pytest.raises(ChatError):
        print_stream(stream)
    assert capsys.readouterr().out == "It costs\n"


class _Handler(BaseHTTPRequestHandler):
    go_on: threading.Event

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert content["stream"] is True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self._write("It costs 38,400 pounds")
        self.go_on.wait(20)
        self._write(" [1].")

    def _write(self, text: str) -> None:
        event: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": text}}]}
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *args: Any) -> None:
        """Say nothing on stderr."""


@contextmanager
def server() -> Iterator[tuple[str, threading.Event]]:
    """The address of a chat model that stops in the middle, and what lets it go on."""
    go_on = threading.Event()
    handler = type("Handler", (_Handler,), {"go_on": go_on})
    with HTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}/v1", go_on
        finally:
            go_on.set()
            serving.shutdown()
            thread.join()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no pseudo-terminals here")
def test_on_a_terminal_the_answer_is_seen_while_the_model_writes(store: Path) -> None:
    pytest.importorskip("openai")
    terminal, end = os.openpty()
    with server() as (url, go_on):
        command = ["ask", "What does it cost?", "--store", str(store)]
        with subprocess.Popen(
            [sys.executable, "-m", "kosmos_loader", *command, "--llm", url, "--llm-model", "small"],
            stdout=end,
            stderr=subprocess.PIPE,
        ) as process:
            os.close(end)
            seen = os.read(terminal, 10_000)
            assert seen == b"It costs 38,400 pounds"
            go_on.set()
            assert process.stderr is not None
            assert process.stderr.read() == b""
        seen += drained(terminal)
    assert process.returncode == 0
    assert seen.replace(b"\r\n", b"\n").startswith(b"It costs 38,400 pounds [1].\n\n[1] ")


def drained(terminal: int) -> bytes:
    """The rest of what was written to a pseudo-terminal, which is then closed."""
    rest = b""
    try:
        while piece := os.read(terminal, 10_000):
            rest += piece
    except OSError:  # Linux has this for the end
        pass
    finally:
        os.close(terminal)
    return rest


# --- Quotes on their pages ------------------------------------------------------------------


def tinted(path: Path) -> list[tuple[int, int]]:
    """Where, in steps of 10 pixels, the picture is as yellow as a marker."""
    with Image.open(path) as picture:
        rgb = picture.convert("RGB")
        places = [(x, y) for x in range(0, rgb.width, 10) for y in range(0, rgb.height, 10)]
        return [at for at in places if is_yellow(*rgb.getpixel(at))]


def is_yellow(red: int, green: int, blue: int) -> bool:
    return min(red, green) > blue + 80


def test_a_quote_over_two_pages_is_drawn_in_one_picture(
    store: Path, letter: Path, tmp_path: Path
) -> None:
    regions = ((1, FIRST.box), (2, SECOND.box))
    citation = Citation("a tenth should be added", str(letter), 1, regions, "c")
    with Store.open(store, create=False) as opened:
        given = Answer("What?", "A tenth [1]", (citation,), tuple(opened.search("cost")))
        draw_citations(given, tmp_path / "out.png", opened)
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.width > 400
        strip = picture.height - 300
    left = [y - strip for x, y in tinted(tmp_path / "out.png") if x < 200 and y > strip]
    right = [y - strip for x, y in tinted(tmp_path / "out.png") if x > 212 and y > strip]
    assert min(left) > 250
    assert max(right) < 60
    assert not (tmp_path / "out-2.png").exists()


def test_words_of_a_page_are_drawn_as_a_citation(letter: Path, tmp_path: Path) -> None:
    out = tmp_path / "quote.png"
    [page] = open_pages(letter, pages=2)
    [reading] = ScriptedReader([SECOND]).read([page])
    draw_quote(page, reading, out, "days lost to bad weathor")
    with Image.open(out) as picture:
        strip = picture.height - 300
    places = [(x, y - strip) for x, y in tinted(out) if y > strip]
    assert places
    assert all(15 <= x <= 145 and 25 <= y <= 45 for x, y in places)


def test_words_that_were_not_read_are_not_drawn(letter: Path, tmp_path: Path) -> None:
    [page] = open_pages(letter, pages=1)
    [reading] = ScriptedReader([FIRST]).read([page])
    with pytest.raises(UsageError, match=r"was not read on page 1 .*read .* --pages 1"):
        draw_quote(page, reading, tmp_path / "quote.png", "39,400 pounds")
    [failed] = ScriptedReader([ReadingError("too dark")]).read([page])
    with pytest.raises(ReadingError, match="too dark"):
        draw_quote(page, failed, tmp_path / "quote.png", "pounds")
    assert not (tmp_path / "quote.png").exists()


@pytest.mark.slow
def test_the_command_draws_a_quote(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    archive = Path(__file__).parents[1] / "examples" / "archive"
    out = tmp_path / "berth.png"
    result = run(
        *("draw", archive / "letter-1978.pdf", "--page", "2", "--reader", "rapidocr"),
        *("--quote", "Berth 4 should be closed to vessels of more than 60 tonnes", "-o", out),
    )
    assert result.exit_code == 0, result.stderr
    assert len(tinted(out)) > 0
