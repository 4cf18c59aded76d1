"""The notebooks of examples/ run from top to bottom and show what they say."""

from __future__ import annotations

import ast
import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))

RUNNER = """
import ast, json, sys

names = {"__name__": "__main__"}
for number, source in enumerate(json.load(sys.stdin)):
    tree, value = ast.parse(source), None
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"cell {number}", "exec"), names)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    shown = {"type": type(value).__name__, "repr": repr(value), "html": "", "size": []}
    if hasattr(value, "_repr_html_"):
        shown["html"] = value._repr_html_()
    if hasattr(value, "_repr_png_") and value._repr_png_():
        shown["size"] = list(value.size)
    print("\\n" + json.dumps(shown))
"""
"""What a notebook does: cells one after another, the value of a last expression shown."""


def cells_of(notebook: Path, kind: str) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == kind]


def shown_by(notebook: Path) -> list[dict[str, Any]]:
    """What each cell of code shows, run in a process of their own in the notebook's folder."""
    sources = ["".join(cell["source"]) for cell in cells_of(notebook, "code")]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(sources),
        cwd=notebook.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"type"')]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    kept = json.loads(notebook.read_text(encoding="utf-8"))
    assert (kept["nbformat"], kept["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in kept["cells"]]
    assert len(set(ids)) == len(ids)
    assert cells_of(notebook, "markdown")
    for cell in cells_of(notebook, "code"):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        ast.parse("".join(cell["source"]))


def test_there_is_a_notebook() -> None:
    names = {"langchain_rag.ipynb", "llamaindex_rag.ipynb", "pages_and_boxes.ipynb"}
    assert names <= {path.name for path in NOTEBOOKS}


@pytest.mark.slow
def test_pages_and_boxes_shows_a_question_answered_with_its_quote_on_the_page() -> None:
    pytest.importorskip("rapidocr")
    shown = shown_by(EXAMPLES / "pages_and_boxes.ipynb")
    kinds = [cell["type"] for cell in shown]
    assert [kind for kind in kinds if kind in ("Page", "Chunk", "Answer")] == [
        *("Page", "Chunk", "Answer", "Answer")
    ]
    page, chunk, found, checked = (cell["html"] for cell in shown if cell["html"])
    assert len(pictures(page)) == 1
    assert len(pictures(chunk)) == 2
    assert "Berth 4 should be closed" in found
    for html in (found, checked):
        [picture] = pictures(html)
        yellow = [place for place in placed(picture) if is_yellow(*picture.getpixel(place))]
        # the quote stands in the upper quarter of the second page, and nowhere else is it marked
        assert yellow
        assert all(0.1 < y / picture.height < 0.4 for _, y in yellow)
    assert [cell["size"][0] for cell in shown if cell["size"]] == [900, 900, 1600]
    assert ("651", "unquoted") in ast.literal_eval(shown[-2]["repr"])


@pytest.mark.slow
def test_langchain_rag_answers_through_a_chat_model_with_the_cited_box_on_its_page() -> None:
    for module in ("rapidocr", "langchain_kosmos", "langchain_openai"):
        pytest.importorskip(module)
    shown = shown_by(EXAMPLES / "langchain_rag.ipynb")
    counts, cited, last = (cell["repr"] for cell in shown if cell["type"] == "tuple")
    added, again = ast.literal_eval(counts)
    assert added["num_added"] == again["num_skipped"] > 0
    assert again["num_added"] == 0
    [said] = [ast.literal_eval(cell["repr"]) for cell in shown if cell["type"] == "str"]
    assert "Berth 4 should be closed" in said
    assert said.endswith("[1].")
    # the line of the page that the truth of the example archive has for this question
    box = r"\(\((\d+), Box\(x0=(.+), y0=(.+), x1=(.+), y1=(.+)\)\),\)"
    [(page, *sides)] = re.findall(box, cited)
    assert page == "2"
    assert [float(side) for side in sides] == pytest.approx([0.112, 0.155, 0.827, 0.173], abs=0.01)
    assert [cell["size"][0] for cell in shown if cell["size"]] == [900]
    assert ast.literal_eval(last) == (1, "receipt-2021.jpg")


@pytest.mark.slow
def test_llamaindex_rag_answers_through_a_chat_model_with_the_cited_box_on_its_page() -> None:
    for module in ("rapidocr", "llama_index.readers.kosmos"):
        pytest.importorskip(module)
    shown = shown_by(EXAMPLES / "llamaindex_rag.ipynb")
    loaded, filtered, _ = (ast.literal_eval(c["repr"]) for c in shown if c["type"] == "list")
    assert loaded[-1] == ("receipt-2021.jpg", 1)
    assert [page for page, _, _ in filtered] == [2, 2]
    [said] = [ast.literal_eval(cell["repr"]) for cell in shown if cell["type"] == "str"]
    assert "Berth 4 should be closed" in said
    assert said.endswith("[1].")
    [cited] = [cell["repr"] for cell in shown if cell["type"] == "tuple"]
    box = r"\(\((\d+), Box\(x0=(.+), y0=(.+), x1=(.+), y1=(.+)\)\),\)"
    [(page, *sides)] = re.findall(box, cited)
    assert page == "2"
    assert [float(side) for side in sides] == pytest.approx([0.112, 0.155, 0.827, 0.173], abs=0.01)
    assert [cell["size"][0] for cell in shown if cell["size"]] == [900]
    assert shown[-1]["repr"] == "True"


def pictures(html: str) -> list[Image.Image]:
    """The pictures inside, decoded."""
    found = re.findall(r'src="data:image/jpeg;base64,([\w+/=]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for data in found]


def placed(picture: Image.Image) -> list[tuple[int, int]]:
    """Every fifth place of a picture in both directions."""
    return [(x, y) for x in range(0, picture.width, 5) for y in range(0, picture.height, 5)]


def is_yellow(red: int, green: int, blue: int) -> bool:
    return min(red, green) > blue + 80
