"""The documentation says what the code does, and its programs run."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import kosmos_loader
from kosmos_loader import errors
from kosmos_loader.archive import Report
from kosmos_loader.cli import app, shapes
from kosmos_loader.compose import compose
from kosmos_loader.document import (
    FLAGS,
    REASONS,
    Answer,
    Box,
    Chunk,
    Citation,
    Failure,
    Hit,
    Line,
    PageInfo,
    Reading,
    Unsupported,
)
from kosmos_loader.store import FailedPage

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md")])
COMMANDS: list[str] = sorted(get_command(app).commands)  # type: ignore[attr-defined]


def blocks_of(page: Path, language: str) -> list[tuple[str, bool]]:
    """The blocks of code of a page in `language`, and whether each is to be run."""
    pattern = rf"^(<!-- not run: [^\n]*-->\n)?```{language}\n(.*?)^```$"
    found = re.finditer(pattern, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [(match[2], match[1] is None) for match in found]


def section(page: str, heading: str) -> str:
    """The part of a page under a heading of the second level."""
    return re.split(r"^## ", page.split(f"\n## {heading}\n")[1], flags=re.MULTILINE)[0]


def keys(table: str) -> list[str]:
    """The names in the first column of a table."""
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_is_made_from_the_code_is_up_to_date() -> None:
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_has_a_section() -> None:
    page = text_of("cli.md")
    assert len(COMMANDS) >= 9
    for command in COMMANDS:
        assert f"\n## {command}\n" in page, command


def test_every_error_stands_in_the_table_of_exit_codes() -> None:
    table = section(text_of("cli.md"), "Exit codes")
    found = [value for _, value in inspect.getmembers(errors, inspect.isclass)]
    ours = [cls for cls in found if issubclass(cls, errors.KosmosLoaderError)]
    assert len(ours) >= 18
    for cls in ours:
        assert f"| {cls.exit_code} | `{cls.__name__}` | `{cls.kind}` |" in table, cls


def test_every_public_name_stands_on_the_api_page() -> None:
    page = text_of("api.md")
    for name in kosmos_loader.__all__:
        assert f"\n## {name}\n" in page, name


def test_metadata_keys_flags_and_reasons_are_those_of_the_code() -> None:
    page = text_of("concepts.md")
    assert keys(section(page, "Metadata")) == list(CHUNK.metadata())
    assert keys(section(page, "Flags")) == list(FLAGS)
    assert keys(section(page, "Answers")) == list(REASONS)


INFO = PageInfo("/scans/letter.jpg", "d", 1, 1, 1240, 1754, 150.0)
BOX = Box(0.1, 0.2, 0.3, 0.25)
READING = Reading(INFO, "rapidocr", "1", (Line("Dear Sir", BOX, 0.99),))
CHUNK = Chunk(
    "Dear Sir", (), INFO.source, "d", "c", page=1, page_end=1, page_count=1,
    page_width=1240, page_height=1754,
)  # fmt: skip
HIT = Hit(CHUNK, 1.0)
ANSWER = Answer(
    "Who?", "Dear Sir [1], in 1978", (Citation("Dear Sir", INFO.source, 1, ((1, BOX),), "c"),),
    (HIT,), "small", unsupported=(Unsupported(17, 21, "unquoted"),),
)  # fmt: skip
REPORT = Report(1, 1, 1, 0, (FailedPage("a", 0, Failure("corrupt", "x")),), (("a", 3, ("blank",)),))


def shape(value: Any) -> Any:
    """The keys of a JSON value, and of what is in it."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items() if key not in ("metadata", "hits")}
    if isinstance(value, list):
        return [shape(value[0])] if value and isinstance(value[0], dict) else "list"
    return "value"


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("read", shapes.page_json(READING)),
        ("index", shapes.report_json(REPORT)),
        ("search", shapes.hit_json(HIT)),
        ("ask", shapes.answer_json(ANSWER)),
    ],
)
def test_json_that_is_shown_has_the_keys_that_are_printed(command: str, printed: Any) -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", section(text_of("cli.md"), command), re.DOTALL)
    assert compose(READING)
    assert shape(json.loads(shown)) == shape(printed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles_and_imports_what_exists(page: Path) -> None:
    for program, _ in blocks_of(page, "python"):
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kosmos_loader"):
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    assert hasattr(module, alias.name), alias.name


def test_options_that_are_shown_exist() -> None:
    """Every `--option` of every `kosmos-loader` command line in the pages."""
    known = get_command(app).commands  # type: ignore[attr-defined]
    checked = 0
    for page in PAGES:
        shell = "".join(program for program, _ in blocks_of(page, "")).replace("\\\n", " ")
        for command, rest in re.findall(r"^ *kosmos-loader (\w+)(.*)$", shell, re.MULTILINE):
            assert command in known, (page.name, command)
            options = {o for p in known[command].params for o in [*p.opts, *p.secondary_opts]}
            used = set(re.findall(r"(?<=\s)--?[a-z][\w-]*", rest))
            assert used <= options, (page.name, command, used - options)
            checked += 1
    assert checked > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(run for _, run in blocks_of(page, "python"))],
    ids=lambda page: page.name,
)
def test_python_runs_as_it_is_shown(page: Path, tmp_path: Path) -> None:
    """The programs of a page one after another, in a folder with the example archive.

    In a process of their own, so that what they load (a framework, torch) stays there.
    """
    for module in ("rapidocr", "langchain_kosmos", "llama_index.readers.kosmos"):
        pytest.importorskip(module)
    (tmp_path / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    program = "\n".join(program for program, run in blocks_of(page, "python") if run)
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_links_lead_to_files_that_exist() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target:
                assert (page.parent / target).exists(), (page.name, target)


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    built = list(tmp_path.rglob("*.html"))
    assert len(built) >= len(list(DOCS.glob("*.md")))
    for path in built:
        html = path.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe)[^>]+src=\"?(https?:[^\s\">]+)", html)
        fetched += re.findall(r"<link[^>]+stylesheet[^>]+href=\"?(https?:[^\s\">]+)", html)
        assert not fetched, (path.name, fetched)
