"""The package as LlamaIndex and LlamaHub know packages, and the programs of its README."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pypdf
import pytest
from llama_index.node_parser.kosmos import KosmosNodeParser
from llama_index.readers.kosmos import KosmosReader
from llama_index.vector_stores.kosmos import KosmosVectorStore

ROOT = Path(__file__).resolve().parents[1]
ARCHIVE = ROOT.parents[1] / "examples" / "archive"


def test_namespaces_are_shared_with_other_packages() -> None:
    """PEP 420: an `__init__.py` here would hide llama-index-core or other integrations."""
    for folder in ("", "readers", "node_parser", "vector_stores"):
        assert not (ROOT / "llama_index" / folder / "__init__.py").exists()
        assert (ROOT / "llama_index" / folder).is_dir()
    for typed in ("readers", "node_parser", "vector_stores"):
        assert (ROOT / "llama_index" / typed / "kosmos" / "py.typed").exists()


@pytest.mark.parametrize("component", [KosmosReader, KosmosNodeParser, KosmosVectorStore])
def test_a_field_that_is_spelt_wrong_is_refused(component: Callable[..., object]) -> None:
    """A `KosmosVectorStore(fodler=...)` would be a temporary one."""
    with pytest.raises(ValueError, match="has no spelt_wrong; it takes"):
        component(spelt_wrong=1)


def test_llamahub_is_told_where_the_classes_are() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["llamahub"]
    assert hasattr(importlib.import_module(told["import_path"]), "KosmosReader")
    names = {"KosmosReader", "KosmosNodeParser", "KosmosVectorStore"}
    assert set(told["class_authors"]) == names
    readme = (ROOT / "README.md").read_text("utf-8")
    paths = re.findall(r"^\| `(\w+)` \| `(llama_index[\w.]+)` \|", readme, re.MULTILINE)
    assert {name for name, _ in paths} == names
    for name, path in paths:
        assert importlib.import_module(path).__all__.count(name) == 1


@pytest.mark.slow
def test_the_programs_of_the_readme_run(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    if not ARCHIVE.is_dir():
        pytest.skip(f"the example archive is not in {ARCHIVE}")
    letter = pypdf.PdfWriter()
    letter.add_page(pypdf.PdfReader(ARCHIVE / "letter-1978.pdf").pages[1])
    letter.write(tmp_path / "letter.pdf")
    (tmp_path / "scans").mkdir()
    shutil.copy(ARCHIVE / "receipt-2021.jpg", tmp_path / "scans")
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "program.py").write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "Berth 4 should be closed" in done.stdout
