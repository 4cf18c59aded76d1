"""The README has the headings of LangChain's loader pages, and its programs run as shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from langchain_core.language_models import GenericFakeChatModel
from PIL import Image, ImageDraw, ImageFont

from kosmos_loader import HashEmbedder

README = Path(__file__).parents[1] / "README.md"

pytestmark = pytest.mark.skipif(not README.is_file(), reason="the README is not beside the tests")


def test_its_headings_are_those_of_langchains_loader_pages() -> None:
    headings = re.findall(r"^#+ (.+)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [
        *("langchain-kosmos", "Overview", "Integration details", "Loader features", "Setup"),
        *("Initialization", "Load", "Lazy load", "End-to-end example", "API reference"),
    ]


@pytest.mark.slow
def test_its_programs_run_as_they_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rapidocr")
    page = Image.new("RGB", (900, 300), "white")
    font = ImageFont.load_default(size=48)
    ImageDraw.Draw(page).text((60, 120), "The roof cost 615 pounds.", "black", font)
    (tmp_path / "scans").mkdir()
    page.save(tmp_path / "scans" / "roof.png")
    monkeypatch.chdir(tmp_path)
    programs = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(programs) == 4
    names = {
        "embeddings": HashEmbedder(),
        "model": GenericFakeChatModel(messages=iter(['615 pounds [1: "cost 615 pounds"].'])),
    }
    for program in programs:
        exec(program, names)  # noqa: S102 - what a reader of it would run
    names["vectors"].close()
    told = capsys.readouterr().out
    assert "615 pounds [1]." in told
    assert f"cost 615 pounds {tmp_path / 'scans' / 'roof.png'} ((1, Box(" in told
