from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kosmos_loader import testing
from kosmos_loader.document import Failure, Line, Page, Reading
from kosmos_loader.errors import CorruptFile, ReadingError
from kosmos_loader.geometry import Box
from kosmos_loader.readers.base import PageReader
from kosmos_loader.testing import ScriptedReader, tiny_kosmos

LINE = Line("Total 7.50", Box(0.1, 0.2, 0.5, 0.25))


def page(number: int, source: str = "/scans/a.pdf") -> Page:
    pixels = np.zeros((4, 3, 3), np.uint8)
    return Page(source, "doc", number, 3, 3, 4, 72.0, f"digest{number}", pixels=pixels)


PAGES = [page(1), page(2), page(3)]


def test_a_script_speaks_of_pages_by_number_digest_or_file_and_number() -> None:
    reader = ScriptedReader(
        {
            1: "by number",
            "digest2": "by digest",
            2: "not asked",
            ("a.pdf", 3): "by name",
            ("/scans/b.pdf", 1): "by path",
        }
    )
    readings = list(reader.read([*PAGES, page(1, "/scans/b.pdf")]))
    told = ["by number", "by digest", "by name", "by path"]
    assert [reading.markdown for reading in readings] == told


def test_a_script_can_be_a_sequence_or_a_function() -> None:
    in_order = ScriptedReader(["one", [LINE], None])
    first, second, third = in_order.read(PAGES)
    assert (first.markdown, first.lines) == ("one", ())
    assert (second.markdown, second.lines) == (None, (LINE,))
    assert third == Reading(PAGES[2].info, "scripted", "1")
    asked = ScriptedReader(lambda page: f"page {page.number}", name="n", version="2").read(PAGES)
    assert [reading.markdown for reading in asked] == ["page 1", "page 2", "page 3"]


def test_a_script_can_set_any_field_of_a_reading() -> None:
    fields = {
        "lines": [LINE],
        "markdown": "x",
        "flags": ["truncated"],
        "rejected": 2,
        "angle": 90.0,
    }
    (reading,) = ScriptedReader([fields], name="n", version="2").read(PAGES[:1])
    assert reading == Reading(
        PAGES[0].info, "n", "2", (LINE,), "x", angle=90.0, flags=("truncated",), rejected=2
    )
    assert Reading.from_dict(reading.to_dict()) == reading


def test_a_script_can_fail_on_a_page_and_the_others_are_read() -> None:
    def script(page: Page) -> str:
        if page.number == 2:
            raise ReadingError("smudged")
        return "fine"

    for reader in (
        ScriptedReader(script),
        ScriptedReader(["fine", ReadingError("smudged"), "fine"]),
        ScriptedReader({1: "fine", 2: Failure("reading", "smudged"), 3: "fine"}),
    ):
        readings = list(reader.read(PAGES))
        assert [reading.markdown for reading in readings] == ["fine", None, "fine"]
        assert readings[1].error == Failure("reading", "smudged")


def test_a_page_that_the_script_does_not_name_fails() -> None:
    for reader in (ScriptedReader({1: "one"}), ScriptedReader(["one"])):
        readings = list(reader.read(PAGES[:2]))
        assert readings[0].error is None
        assert readings[1].error is not None
        assert "page 2" in readings[1].error.message


def test_a_page_that_failed_passes_and_takes_no_part_of_the_script() -> None:
    error = Failure.of(CorruptFile("no pixels"))
    broken = Page("/scans/c.pdf", "doc", 1, 1, 0, 0, 72.0, error=error)
    reader = ScriptedReader(["one"])
    first, second = reader.read([broken, PAGES[0]])
    assert first.error == error
    assert second.markdown == "one"
    assert reader.seen == [PAGES[0].info]


def test_a_scripted_reader_is_a_lazy_page_reader() -> None:
    pulled: list[int] = []

    def pages() -> Iterator[Page]:
        for each in PAGES:
            pulled.append(each.number)
            yield each

    reader = ScriptedReader(["one", "two", "three"])
    assert isinstance(reader, PageReader)
    next(reader.read(pages()))
    assert pulled == [1]


def test_a_tiny_model_has_the_files_of_the_released_one(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the kosmos extra")
    folder = tiny_kosmos(tmp_path / "new" / "folder")
    assert {path.name for path in folder.iterdir()} >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    again = tiny_kosmos(tmp_path / "again")
    other = tiny_kosmos(tmp_path / "other", seed=1)
    weights = [(path / "model.safetensors").read_bytes() for path in (folder, again, other)]
    assert weights[0] == weights[1] != weights[2]


def test_a_tiny_tokenizer_writes_any_text_without_loss(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the kosmos extra")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_kosmos(tmp_path))
    text = "<bbox><x_0><y_1><x_126><y_127></bbox>Zażółć 7 €\n\t| a |  b |\n"
    ids = tokenizer.encode("<ocr>" + text)
    assert tokenizer.decode(ids) == "<ocr>" + text
    assert ids[0] == tokenizer.convert_tokens_to_ids("<ocr>")


def test_the_hash_embedder_is_there() -> None:
    from kosmos_loader.embedding import HashEmbedder

    assert testing.HashEmbedder is HashEmbedder
    with pytest.raises(AttributeError):
        _ = testing.nothing_of_the_kind


def test_importing_the_fakes_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, kosmos_loader.testing, kosmos_loader.markup, kosmos_loader.readers.kosmos\n"
        "print([name for name in ('torch', 'transformers', 'faiss') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
