"""Markdown and lines joined on real and drawn pages, judged by what is known to stand there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from rapidfuzz.distance import Levenshtein

from kosmos_loader.align import align
from kosmos_loader.align.plain import plain_blocks
from kosmos_loader.compose import compose
from kosmos_loader.document import Block, Line, PageInfo, Reading
from kosmos_loader.geometry import Box, intersection
from kosmos_loader.pages import open_pages

ARCHIVE = Path(__file__).parents[1] / "examples" / "archive"


@cache
def archive() -> dict[str, list[dict[str, Any]]]:
    """The pages of the archive's truth with the name of their file, by kind."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((ARCHIVE / "truth").glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        for page in data["pages"]:
            if page["lines"]:
                kinds.setdefault(page["kind"], []).append({**page, "file": data["file"]})
    return kinds


KINDS = tuple(archive())


def truth_of(page: dict[str, Any]) -> Reading:
    """What stands on a page, as if both readings of it were without a slip."""
    info = PageInfo(page["file"], "d", page["page"], 1, page["width"], page["height"], 150.0)
    lines = tuple(Line(line["text"], Box(*line["box"])) for line in page["lines"])
    return Reading(info, "truth", "1", lines, page["markdown"], angle=page["angle"])


def shown(blocks: Sequence[Block]) -> str:
    """Blocks as a person can review them: each piece of markdown behind its box."""
    rows: list[str] = []
    for block in blocks:
        rows.append(" ".join([f"== {block.kind}", *([str(block.level)] if block.level else [])]))
        done = 0
        for span in block.spans:
            rows += marks(block.markdown[done : span.start])
            box = " ".join(f"{side:.3f}" for side in span.box.as_tuple())
            rows.append(f"[{box}] {json.dumps(block.markdown[span.start : span.end])}")
            done = span.end
        rows += [*marks(block.markdown[done:]), ""]
    return "\n".join(rows)


def marks(text: str) -> list[str]:
    return [f"{'':25} {json.dumps(text)}"] if text.strip() else []


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_each_kind_is_joined_as_it_was(
    kind: str, golden: Callable[[str, str], None]
) -> None:
    golden(f"align/{kind}.txt", shown(compose(truth_of(archive()[kind][0]))))


@pytest.mark.parametrize("kind", KINDS)
def test_every_character_of_the_truth_finds_a_line_that_holds_it(kind: str) -> None:
    for page in archive()[kind]:
        reading = truth_of(page)
        found = align(reading)
        # the ticks of a form ("- [x]") stand in no line
        assert found.support == 1 or page["kind"] == "form"
        held = {box for block in found.blocks for _, box in block.regions}
        assert held == {line.box for line in reading.lines}


def characters(blocks: Sequence[Block]) -> Iterator[tuple[str, Box | None]]:
    """The characters of the markdown's blocks that are no marks, and their boxes."""
    for block in blocks:
        if block.kind in ("header", "footer", "other"):
            continue
        boxes: list[Box | None] = [None] * len(block.markdown)
        for span in block.spans:
            boxes[span.start : span.end] = [span.box] * (span.end - span.start)
        for plain in plain_blocks(block.markdown):
            for character, start in zip(plain.text, plain.starts, strict=True):
                if not character.isspace():
                    yield character, boxes[start]


def near(found: Box | None, right: Box | None) -> bool:
    """Whether two boxes show the same place; one reader's line may be two of another."""
    if found is None or right is None:
        return False
    shared = intersection(found, right)
    return shared is not None and shared.area >= 0.5 * min(found.area, right.area)


def right_places(found: Sequence[Block], right: Sequence[Block]) -> list[bool]:
    """For each character that both have whether its box is the right one."""
    ours, theirs = list(characters(found)), list(characters(right))
    ops = Levenshtein.opcodes("".join(c for c, _ in ours), "".join(c for c, _ in theirs))
    return [
        near(ours[op.src_start + i][1], theirs[op.dest_start + i][1])
        for op in ops
        if op.tag in ("equal", "replace")
        for i in range(op.src_end - op.src_start)
    ]


def share(places: Sequence[bool]) -> float:
    return sum(places) / len(places)


@pytest.mark.slow
def test_lines_of_another_reader_give_the_right_boxes_to_the_truth() -> None:
    pytest.importorskip("rapidocr", reason="needs the cpu extra")
    from kosmos_loader.readers.rapidocr import RapidOCRPageReader

    reader = RapidOCRPageReader(threads=1)
    places: list[bool] = []
    for kind in ("receipt", "minutes", "newsletter"):
        page = archive()[kind][0]
        numbered = str(page["page"])
        [reading] = reader.read(open_pages(ARCHIVE / page["file"], pages=numbered))
        found = align(replace(reading, markdown=page["markdown"]))
        places += right_places(found.blocks, align(truth_of(page)).blocks)
    assert len(places) > 3000
    assert share(places) >= 0.95


@pytest.mark.slow
def test_both_readings_of_the_small_model_join_on_held_out_pages() -> None:
    pytest.importorskip("torch", reason="needs the kosmos extra")
    pytest.importorskip("transformers", reason="needs the kosmos extra")
    pytest.importorskip("matplotlib", reason="brings the typefaces of drawn pages")
    from kosmos_loader.readers.kosmos import KosmosPageReader
    from kosmos_loader.testing import nano_kosmos
    from kosmos_loader.testing.drawn import HELD_OUT, drawn_pages

    drawn = list(islice(drawn_pages(HELD_OUT), 8))
    reader = KosmosPageReader(nano_kosmos(), device="cpu", batch_size=8, max_new_tokens=300)
    pages = [page.page(number=number) for number, page in enumerate(drawn, start=1)]
    places: list[bool] = []
    for truth, reading in zip(drawn, reader.read(pages), strict=True):
        known = Reading(reading.page, "truth", "1", truth.lines, truth.markdown)
        places += right_places(compose(reading), align(known).blocks)
    assert len(places) > 250
    assert share(places) >= 0.97
