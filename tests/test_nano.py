"""The small KOSMOS-2.5 that reads: what it must get right, and that faults show."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pypdf
import pytest
from PIL import Image
from pypdf.generic import DictionaryObject, NameObject, NumberObject, StreamObject
from rapidfuzz.distance import Levenshtein

from kosmos_loader import markup
from kosmos_loader.document import Page, Reading
from kosmos_loader.geometry import Box
from kosmos_loader.pages import open_pages
from kosmos_loader.readers.kosmos import KosmosPageReader
from kosmos_loader.testing import nano_kosmos
from kosmos_loader.testing.drawn import HEIGHT, HELD_OUT, WIDTH, DrawnPage, drawn_pages
from kosmos_loader.training import Scores, Truth, score

torch = pytest.importorskip("torch", reason="needs the kosmos extra")
transformers = pytest.importorskip("transformers", reason="needs the kosmos extra")
pytest.importorskip("matplotlib", reason="brings the typefaces of drawn pages")

pytestmark = pytest.mark.slow

PAGES = 8
ROOM = 300
"""New tokens at most: no page of these needs as many, and one misread may never end."""


def new_reader(engine: str = "reference", *, batch_size: int = PAGES) -> KosmosPageReader:
    return KosmosPageReader(
        nano_kosmos(), engine=engine, device="cpu", batch_size=batch_size, max_new_tokens=ROOM
    )


with_each_engine = pytest.mark.parametrize("engine", ["reference", "fast"])


@pytest.fixture(scope="module")
def drawn() -> list[DrawnPage]:
    return list(islice(drawn_pages(HELD_OUT), PAGES))


@pytest.fixture(scope="module")
def pages(drawn: list[DrawnPage]) -> list[Page]:
    return [page.page(number=number) for number, page in enumerate(drawn, start=1)]


@pytest.fixture(scope="module")
def readings(pages: list[Page]) -> list[Reading]:
    return list(new_reader().read(pages))


def scores_of(drawn: Iterable[DrawnPage], readings: Sequence[Reading]) -> Scores:
    """In pixels of the drawn pages, whatever the size at which they were read."""
    truths = [
        Truth(page.lines, page.markdown, width=page.pixels.shape[1], height=page.pixels.shape[0])
        for page in drawn
    ]
    return score(truths, readings)


def check(scores: Scores) -> None:
    assert scores.ocr is not None
    assert scores.md is not None
    assert scores.ocr.character_accuracy >= 0.985
    assert scores.ocr.exact_lines >= 0.93
    assert scores.ocr.near_boxes >= 0.97
    assert scores.md.character_accuracy >= 0.96
    assert scores.md.exact_blocks >= 0.8


def test_held_out_pages_are_read(drawn: list[DrawnPage], readings: list[Reading]) -> None:
    assert not any(reading.error or reading.flags or reading.rejected for reading in readings)
    check(scores_of(drawn, readings))


def test_the_fast_engine_reads_the_same(pages: list[Page], readings: list[Reading]) -> None:
    found = list(new_reader("fast").read(pages))
    assert [(r.lines, r.markdown) for r in found] == [(r.lines, r.markdown) for r in readings]


# Sizes other than the one that was trained on


@with_each_engine
@pytest.mark.parametrize("times", [2, 3])
def test_an_enlarged_page_is_read_through_the_resizing(
    engine: str, times: int, drawn: list[DrawnPage]
) -> None:
    large = [enlarged(page, times) for page in drawn]
    scores = scores_of(drawn, list(new_reader(engine).read(large)))
    assert scores.ocr is not None
    assert scores.md is not None
    assert scores.ocr.character_accuracy >= 0.93
    assert scores.ocr.near_boxes >= 0.85
    assert scores.md.character_accuracy >= 0.6


@with_each_engine
@pytest.mark.parametrize(("width", "height", "padding"), [(240, 160, 10), (256, 144, 16)])
def test_a_page_that_leaves_patches_empty_is_read(
    engine: str, width: int, height: int, padding: int
) -> None:
    small = list(islice(cut_pages(width, height), PAGES))
    reader = new_reader(engine)
    found = reader.processor.image_processor(images=small[0].page().image, return_tensors="pt")
    assert (int(found["width"][0]), int(found["height"][0])) == (width, height)
    assert int((found["flattened_patches"][0, :, 0] == 0).sum()) == padding
    scores = scores_of(small, list(reader.read(page.page() for page in small)))
    # what stands on the page; a model that never saw a row less adds to it on some
    assert scores.ocr is not None
    assert scores.md is not None
    assert scores.ocr.exact_lines >= 0.9
    assert scores.ocr.near_boxes >= 0.97
    assert scores.md.exact_blocks >= 0.75


@with_each_engine
def test_a_page_reads_alone_as_it_does_among_pages_of_other_sizes(
    engine: str, drawn: list[DrawnPage], pages: list[Page]
) -> None:
    # cut from other pages than the first, which are in the batch as well
    narrow, low = (
        next(islice(cut_pages(*size), PAGES, None)).page() for size in [(240, 160), (256, 144)]
    )
    mixed = [pages[0], narrow, enlarged(drawn[1], 3), low, pages[2]]
    together = list(new_reader(engine).read(mixed))
    alone = list(new_reader(engine, batch_size=1).read(mixed))
    assert [(r.lines, r.markdown) for r in together] == [(r.lines, r.markdown) for r in alone]
    assert len({reading.markdown for reading in together}) == len(mixed)


def enlarged(page: DrawnPage, times: int) -> Page:
    """Each pixel as a square of pixels."""
    pixels = np.kron(page.pixels, np.ones((times, times, 1), np.uint8))
    return replace(page, pixels=pixels).page()


def cut_pages(width: int, height: int) -> Iterator[DrawnPage]:
    """Held-out pages cut to `width` x `height` pixels: those with an empty row below the text."""
    for page in drawn_pages(HELD_OUT):
        boxes = [line.box.scaled(WIDTH, HEIGHT) for line in page.lines]
        if max(x1 for _, _, x1, _ in boxes) > width or max(y1 for *_, y1 in boxes) > height - 16:
            continue
        lines = tuple(
            replace(line, box=Box(x0 / width, y0 / height, x1 / width, y1 / height))
            for line, (x0, y0, x1, y1) in zip(page.lines, boxes, strict=True)
        )
        yield replace(page, pixels=page.pixels[:height, :width].copy(), lines=lines)


# Pages that lie on their side


def as_picture(form: str, orientation: int) -> Callable[[Path, DrawnPage], None]:
    def save(path: Path, page: DrawnPage) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        turns = {3: 2, 6: 1, 8: 3}[orientation]  # anticlockwise, which a viewer takes back
        picture = Image.fromarray(np.rot90(page.pixels, turns))
        picture.save(path, form, exif=exif, quality=95, subsampling=0)

    return save


def as_pdf(rotate: int) -> Callable[[Path, DrawnPage], None]:
    def save(path: Path, page: DrawnPage) -> None:
        pixels = np.rot90(page.pixels, rotate // 90)
        height, width = pixels.shape[:2]
        writer = pypdf.PdfWriter()
        scan = writer.add_blank_page(width, height)
        picture = StreamObject()
        picture.set_data(pixels.tobytes())
        entries = {"/Type": "/XObject", "/Subtype": "/Image", "/ColorSpace": "/DeviceRGB"}
        sides = {"/Width": width, "/Height": height, "/BitsPerComponent": 8}
        picture.update({NameObject(key): NameObject(entry) for key, entry in entries.items()})
        picture.update({NameObject(key): NumberObject(side) for key, side in sides.items()})
        named = DictionaryObject({NameObject("/X"): writer._add_object(picture)})
        scan[NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): named})
        drawing = StreamObject()
        drawing.set_data(f"{width} 0 0 {height} 0 0 cm /X Do".encode())
        scan[NameObject("/Contents")] = writer._add_object(drawing)
        scan.rotate(rotate)
        writer.write(path)

    return save


@pytest.mark.parametrize(
    "save",
    [
        pytest.param(as_picture("PNG", 3), id="png-upside-down"),
        pytest.param(as_picture("PNG", 6), id="png-turned-left"),
        pytest.param(as_picture("PNG", 8), id="png-turned-right"),
        pytest.param(as_pdf(90), id="pdf-rotate-90"),
        pytest.param(as_pdf(180), id="pdf-rotate-180"),
        pytest.param(as_pdf(270), id="pdf-rotate-270"),
    ],
)
def test_a_page_that_was_scanned_on_its_side_is_read_as_the_upright_one(
    save: Callable[[Path, DrawnPage], None],
    drawn: list[DrawnPage],
    readings: list[Reading],
    tmp_path: Path,
) -> None:
    save(tmp_path / "page", drawn[0])
    [page] = open_pages(tmp_path / "page")
    assert np.array_equal(page.pixels, drawn[0].pixels)
    [reading] = new_reader().read([page])
    assert (reading.lines, reading.markdown) == (readings[0].lines, readings[0].markdown)


def test_a_photograph_that_was_taken_on_its_side_is_read(
    drawn: list[DrawnPage], tmp_path: Path
) -> None:
    for number, page in enumerate(drawn):
        as_picture("JPEG", 6)(tmp_path / f"{number}.jpg", page)
    check(scores_of(drawn, list(new_reader().read(open_pages(tmp_path)))))


def test_ten_lines_of_transformers_read_the_same(
    drawn: list[DrawnPage], readings: list[Reading], tmp_path: Path
) -> None:
    readme = (nano_kosmos() / "README.md").read_text("utf-8")
    script = readme.split("```python\n")[1].split("```")[0]
    Image.fromarray(drawn[0].pixels).save(tmp_path / "page.png")
    assert len(script.splitlines()) <= 10
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(nano_kosmos())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    ocr, md = (markup_of(part) for part in done.stdout.split("</s>")[:2])
    assert markup.parse_ocr(ocr, width=WIDTH, height=HEIGHT).lines == readings[0].lines
    assert markup.parse_markdown(md) == readings[0].markdown


def markup_of(written: str) -> str:
    """What follows the task token."""
    return re.split("<ocr>|<md>", written)[-1]


def test_the_benchmark_prints_its_scores_as_json(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "nano.py"
    done = subprocess.run(
        [sys.executable, str(script), "--seed", "0", "--pages", "2", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    printed = json.loads(done.stdout)
    assert printed["ocr"].keys() >= {"character_accuracy", "exact_lines", "box_error_px"}
    assert printed["md"].keys() >= {"character_accuracy", "exact_blocks"}
    assert printed["ocr"]["character_accuracy"] >= 0.9


def test_the_checkpoint_is_small() -> None:
    assert (nano_kosmos() / "model.safetensors").stat().st_size <= 8_000_000


def test_the_checkpoint_has_the_released_special_tokens() -> None:
    tokenizer = transformers.AutoProcessor.from_pretrained(nano_kosmos()).tokenizer
    ids = tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"])
    assert ids == [0, 1, 2, 3]
    known = tokenizer.get_vocab()
    tags = ["<ocr>", "<md>", "<image>", "</image>", "<bbox>", "</bbox>", "<x_0>", "<y_255>"]
    assert all(tag in known for tag in tags)


# Faults: each stands in for a mistake that a loader could make, and must not go unnoticed.


Fault = Callable[[dict[str, Any]], None]


class FaultyPictures:
    """An image processor that gets something wrong."""

    def __init__(self, pictures: Any, fault: Fault, **options: Any) -> None:
        self.pictures = pictures
        self.fault = fault
        self.options = options
        self.max_patches = pictures.max_patches

    def __call__(self, images: Image.Image, **options: Any) -> dict[str, Any]:
        found = dict(self.pictures(images=images, **{**options, **self.options}))
        self.fault(found)
        return found


class FaultyProcessor:
    """A processor whose image processor gets something wrong."""

    def __init__(self, processor: Any, pictures: Any) -> None:
        self.image_processor = pictures
        self.tokenizer = processor.tokenizer


class ExchangedTasks:
    """A model that is asked for the other task."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.config = model.config
        self.device = model.device
        self.ocr, self.md = tokenizer.convert_tokens_to_ids(["<ocr>", "<md>"])

    def generate(self, *, input_ids: Any, **inputs: Any) -> Any:
        other = input_ids.clone()
        other[input_ids == self.ocr] = self.md
        other[input_ids == self.md] = self.ocr
        return self.model.generate(input_ids=other, **inputs)


def right(found: dict[str, Any]) -> None:
    """No fault at all."""


def rows_and_columns_swapped(found: dict[str, Any]) -> None:
    patches = found["flattened_patches"]
    found["flattened_patches"] = torch.cat(
        [patches[..., 1:2], patches[..., :1], patches[..., 2:]], dim=-1
    )


def blue_first(found: dict[str, Any]) -> None:
    patches = found["flattened_patches"]
    pixels = patches[..., 2:].unflatten(-1, (-1, 3)).flip(-1).flatten(-2)
    found["flattened_patches"] = torch.cat([patches[..., :2], pixels], dim=-1)


def boxes_by_the_wrong_side(found: dict[str, Any]) -> None:
    found["width"], found["height"] = found["height"], found["width"]


def row_numbers_rounded(found: dict[str, Any]) -> None:
    """To even ones, as bf16 rounds those above 256."""
    patches = found["flattened_patches"].clone()
    patches[..., 0] = torch.round(patches[..., 0] / 2) * 2
    found["flattened_patches"] = patches


def faulty(fault: Fault, **options: Any) -> KosmosPageReader:
    reader = new_reader()
    pictures = FaultyPictures(reader.processor.image_processor, fault, **options)
    reader.engine.processor = FaultyProcessor(reader.processor, pictures)
    return reader


def test_a_wrapped_processor_without_a_fault_reads_as_before(
    drawn: list[DrawnPage], pages: list[Page], readings: list[Reading]
) -> None:
    found = list(faulty(right).read(pages[:4]))
    check(scores_of(drawn[:4], found))
    assert [(r.lines, r.markdown) for r in found] == [(r.lines, r.markdown) for r in readings[:4]]


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        (rows_and_columns_swapped, {}),
        (boxes_by_the_wrong_side, {}),
        (row_numbers_rounded, {}),
        pytest.param(right, {"do_normalize": False}, id="not_normalised"),
        pytest.param(right, {"max_patches": WIDTH * HEIGHT // 256 - 1}, id="one_patch_fewer"),
    ],
)
def test_a_fault_of_the_processor_shows(
    fault: Fault,
    options: dict[str, Any],
    drawn: list[DrawnPage],
    pages: list[Page],
) -> None:
    scores = scores_of(drawn[:4], list(faulty(fault, **options).read(pages[:4])))
    with pytest.raises(AssertionError):
        check(scores)


def test_exchanged_task_tokens_show(drawn: list[DrawnPage], pages: list[Page]) -> None:
    reader = new_reader()
    reader.engine.model = ExchangedTasks(reader.engine.model, reader.processor.tokenizer)
    with pytest.raises(AssertionError):
        check(scores_of(drawn[:4], list(reader.read(pages[:4]))))


def test_blue_and_red_exchanged_show() -> None:
    """A red word is emphasis and a blue one is not; nothing else on a page depends on colour."""
    coloured = [page for page in islice(drawn_pages(HELD_OUT + 1), 60) if has_colour(page)][:PAGES]
    pages = [page.page(number=number) for number, page in enumerate(coloured, start=1)]
    seen = [emphasis(reading.markdown or "") for reading in new_reader().read(pages)]
    wrong = [emphasis(reading.markdown or "") for reading in faulty(blue_first).read(pages)]
    wanted = [emphasis(page.markdown) for page in coloured]
    assert agreement(seen, wanted) >= 0.8
    assert agreement(wrong, wanted) <= 0.4


def has_colour(page: DrawnPage) -> bool:
    return int(np.ptp(page.pixels.astype(int), axis=2).max()) > 100


def emphasis(markdown: str) -> str:
    """The words between the asterisks."""
    return " ".join(markdown.split("**")[1::2])


def agreement(found: Sequence[str], wanted: Sequence[str]) -> float:
    """Mean likeness, 0..1."""
    likeness = map(Levenshtein.normalized_similarity, found, wanted)
    return sum(likeness) / len(wanted)
