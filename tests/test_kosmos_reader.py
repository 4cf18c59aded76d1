from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from kosmos_loader.document import Failure, Page, PageInfo, Reading, pixel_digest
from kosmos_loader.errors import ModelError, UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.readers.base import PageReader
from kosmos_loader.readers.kosmos import (
    KosmosPageReader,
    Output,
    in_parts,
    is_blank,
    reading_from,
    weights_digest,
)
from kosmos_loader.testing import tiny_kosmos

torch = pytest.importorskip("torch", reason="needs the kosmos extra")
transformers = pytest.importorskip("transformers", reason="needs the kosmos extra")


def page_of(image: Image.Image, number: int = 1) -> Page:
    pixels = np.asarray(image.convert("RGB"))
    height, width = pixels.shape[:2]
    digest = pixel_digest(pixels)
    return Page("file", "doc", number, 9, width, height, 72.0, digest, pixels=pixels)


def written_page(number: int, width: int, height: int) -> Page:
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for row in range(8, height - 8, 14):
        draw.text((8, row), f"Line {row} of page {number}", fill="black")
    return page_of(image, number)


PAGES = [written_page(1, 200, 300), written_page(2, 300, 160), written_page(3, 120, 500)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_kosmos(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def reader(folder: Path) -> KosmosPageReader:
    return KosmosPageReader(folder, device="cpu", max_new_tokens=40)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def plain_generate(folder: Path, page: Page, prompt: str) -> tuple[str, bool, tuple[int, int]]:
    """The page's output as a user of transformers gets it: text, whether it ended, resized size."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    inputs = processor(images=page.image, text=prompt, max_patches=64, return_tensors="pt")
    size = (int(inputs.pop("width")), int(inputs.pop("height")))
    ids = model.generate(**inputs, max_new_tokens=40, do_sample=False)
    new = ids[0, inputs["input_ids"].shape[1] :].tolist()
    assert len(set(new)) > 10, "an output of one repeated token would make the comparison vacuous"
    return processor.tokenizer.decode(new), processor.tokenizer.eos_token_id in new, size


def test_a_reading_is_what_plain_generate_gives(folder: Path, reader: KosmosPageReader) -> None:
    for page, reading in zip(PAGES, reader.read(PAGES), strict=True):
        ocr, ocr_ended, size = plain_generate(folder, page, "<ocr>")
        md, md_ended, _ = plain_generate(folder, page, "<md>")
        outputs = {"ocr": Output(ocr, ended=ocr_ended), "md": Output(md, ended=md_ended)}
        names = {"reader": reader.name, "version": reader.version}
        assert reading == reading_from(page, outputs, size=size, **names)
        assert reading.markdown


def test_pages_of_different_sizes_read_together_as_they_read_alone(
    folder: Path, reader: KosmosPageReader
) -> None:
    together = KosmosPageReader(folder, device="cpu", max_new_tokens=40, batch_size=3)
    alone = [reading for page in PAGES for reading in reader.read([page])]
    assert list(together.read(PAGES)) == alone
    assert len({reading.markdown for reading in alone}) == len(PAGES)


def test_a_task_that_is_not_asked_for_leaves_nothing(
    folder: Path, reader: KosmosPageReader
) -> None:
    (both,) = reader.read(PAGES[:1])
    (ocr,) = KosmosPageReader(folder, tasks=["ocr"], device="cpu", max_new_tokens=40).read(
        PAGES[:1]
    )
    (md,) = KosmosPageReader(folder, tasks=["md"], device="cpu", max_new_tokens=40).read(PAGES[:1])
    assert (ocr.lines, ocr.markdown, ocr.rejected) == (both.lines, None, both.rejected)
    assert (md.lines, md.markdown, md.rejected) == ((), both.markdown, 0)
    assert both.rejected > 0


class Dictated(KosmosPageReader):
    """Writes the same for every page, so that only what is made of it differs."""

    OCR = "<bbox><x_16><y_32><x_48><y_64></bbox>Total\n"

    def _generate(self, patches: Any, prompt: Mapping[str, Any]) -> list[Output]:
        return [Output(self.OCR, ended=True)] * len(patches)


def test_boxes_are_counted_in_the_pixels_of_their_own_page(folder: Path) -> None:
    dictated = Dictated(folder, tasks=["ocr"], device="cpu", batch_size=3)
    # 64 patches: 9 rows x 6 columns, 5 x 10 and 16 x 3, of 16 pixels each
    sizes = [(96, 144), (160, 80), (48, 256)]
    for reading, (width, height) in zip(dictated.read(PAGES), sizes, strict=True):
        (line,) = reading.lines
        assert line.text == "Total"
        assert line.box == Box(16 / width, 32 / height, 48 / width, 64 / height).clipped()


def test_output_becomes_lines_markdown_flags_and_a_count() -> None:
    outputs = {
        "ocr": Output("Head\n" + Dictated.OCR + "<bbox><x_1></bbox>x\n", ended=True),
        "md": Output("# Title\n\n\n\ntext", ended=True),
    }
    reading = reading_from(PAGES[0], outputs, size=(64, 64), reader="r", version="1")
    assert [line.text for line in reading.lines] == ["Head", "Total", "x"]
    assert reading.markdown == "# Title\n\ntext"
    assert (reading.rejected, reading.flags, reading.error) == (1, (), None)
    assert Reading.from_dict(reading.to_dict()) == reading


LOOP = "| total | 0.00 |\n" * 60


@pytest.mark.parametrize(
    ("ocr", "md", "flags"),
    [
        (Output(Dictated.OCR, ended=True), Output("text", ended=True), ()),
        (Output(Dictated.OCR, ended=False), Output("text", ended=True), ("truncated",)),
        (Output(Dictated.OCR, ended=True), Output("text", ended=False), ("truncated",)),
        (Output(Dictated.OCR, ended=True), Output(LOOP, ended=True), ("repetition",)),
        (Output(Dictated.OCR, ended=True), Output(LOOP, ended=False), ("truncated", "repetition")),
        (Output("", ended=True), Output(" \n", ended=True), ("blank",)),
    ],
)
def test_what_went_wrong_becomes_flags(ocr: Output, md: Output, flags: tuple[str, ...]) -> None:
    outputs = {"ocr": ocr, "md": md}
    reading = reading_from(PAGES[0], outputs, size=(64, 64), reader="r", version="1")
    assert reading.flags == flags


def test_a_loop_that_never_ends_is_cut_and_one_that_ends_is_kept() -> None:
    for ended, rows in [(False, 1), (True, 60)]:
        output = {"md": Output("# Ledger\n" + LOOP, ended=ended)}
        reading = reading_from(PAGES[0], output, size=(64, 64), reader="r", version="1")
        assert reading.markdown == "# Ledger\n" + "\n".join(["| total | 0.00 |"] * rows)


def test_the_end_token_ends_an_output(reader: KosmosPageReader) -> None:
    tokenizer = reader.processor.tokenizer
    ids = tokenizer.encode("<bbox><x_1>é</s>")
    assert reader._output([*ids, tokenizer.pad_token_id]) == Output("<bbox><x_1>é", ended=True)
    assert reader._output(ids[:-1]) == Output("<bbox><x_1>é", ended=False)


def test_no_more_is_written_than_the_context_holds(folder: Path) -> None:
    assert KosmosPageReader(folder, device="cpu").max_new_tokens == 512 - 20


def with_shuffled_ids(source: Path, target: Path) -> Path:
    """The same tokenizer and model with every token but <pad> under another id.

    The model counts positions from the id of <pad>, so that one is part of the model.
    """
    shutil.copytree(source, target)
    path = target / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    size = len(tokenizer["model"]["vocab"]) + sum(
        token["content"] not in tokenizer["model"]["vocab"] for token in tokenizer["added_tokens"]
    )
    new = np.insert(np.random.default_rng(3).permutation(np.delete(range(size), 1)), 1, 1).tolist()
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {token: new[old] for token, old in vocabulary.items()}
    for token in tokenizer["added_tokens"]:
        # what is added to a vocabulary is part of it here, since its ids no longer come last
        tokenizer["model"]["vocab"][token["content"]] = token["id"] = new[token["id"]]
    tokenizer["added_tokens"].sort(key=lambda token: token["id"])
    path.write_text(json.dumps(tokenizer), "utf-8")
    model = transformers.Kosmos2_5ForConditionalGeneration.from_pretrained(source)
    order = torch.tensor(new).argsort()
    for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        weight.data = weight.data[order].clone()
    for config in (model.config, model.config.text_config, model.generation_config):
        config.bos_token_id, config.eos_token_id = new[0], new[2]
    model.save_pretrained(target)
    return target


def test_token_ids_come_from_the_tokenizer(
    folder: Path, reader: KosmosPageReader, tmp_path: Path
) -> None:
    shuffled = KosmosPageReader(
        with_shuffled_ids(folder, tmp_path / "shuffled"), device="cpu", max_new_tokens=40
    )
    prompts = [r._prompts["ocr"]["input_ids"].tolist() for r in (shuffled, reader)]
    assert prompts[0] != prompts[1]
    for here, there in zip(shuffled.read(PAGES), reader.read(PAGES), strict=True):
        assert (here.lines, here.markdown) == (there.lines, there.markdown)
    tokenizer = shuffled.processor.tokenizer
    assert tokenizer.eos_token_id != reader.processor.tokenizer.eos_token_id
    assert shuffled._output(tokenizer.encode("text</s>more")) == Output("text", ended=True)
    assert shuffled.model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_row_numbers_above_256_stay_whole_in_bf16(tmp_path: Path) -> None:
    folder = tiny_kosmos(tmp_path, max_patches=512)
    reader = KosmosPageReader(folder, dtype="bf16", device="cpu", max_new_tokens=2)
    numbers: list[int] = []
    reader.model.vision_model.embeddings.row_embedder.register_forward_pre_hook(
        lambda module, arguments: numbers.extend(arguments[0].unique().tolist())
    )
    (reading,) = reader.read([written_page(1, 30, 6000)])
    assert reading.error is None
    assert sorted(set(numbers)) == [*range(max(numbers) + 1)]
    assert max(numbers) > 256
    assert reader.model.dtype == torch.bfloat16


@pytest.mark.parametrize("size", [(2, 900), (900, 2), (1, 64)])
def test_a_strip_too_long_for_the_row_numbers_is_read(
    reader: KosmosPageReader, size: tuple[int, int]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    (reading,) = reader.read([page_of(Image.fromarray(noise))])
    assert reading.error is None
    assert reading.markdown


def test_height_and_width_of_bf16_and_fp32_readings_agree(folder: Path) -> None:
    dictated = [Dictated(folder, dtype=d, tasks=["ocr"], device="cpu") for d in ("bf16", "fp32")]
    here, there = (next(iter(reader.read(PAGES))).lines for reader in dictated)
    assert here == there


FONT = ImageFont.load_default(40)


def scan_of_nothing(width: int = 1240, height: int = 1754) -> Image.Image:
    """Noise and uneven light, and not a letter."""
    chance = np.random.default_rng(5)
    light = np.linspace(250, 205, width)[None] + np.linspace(0, -20, height)[:, None]
    noise = chance.normal(0, 6, (height, width))
    return Image.fromarray(np.clip(light + noise, 0, 255).astype(np.uint8))


def speckled() -> Image.Image:
    image = Image.new("L", (1406, 1988), 235)
    chance = np.random.default_rng(6)
    for x, y in chance.integers(0, 1400, (120, 2)).tolist():
        size = chance.integers(1, 6)
        ImageDraw.Draw(image).ellipse((x, y, x + size, y + size), fill=40)
    return image


def bleeding() -> Image.Image:
    """What is on the other side of the sheet, mirrored and faint."""
    image = with_word(Image.new("L", (1240, 1754), 230), "the other side", fill=216)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def with_word(image: Image.Image, word: str, *, fill: int = 0) -> Image.Image:
    ImageDraw.Draw(image).text((600, 1600), word, fill=fill, font=FONT)
    return image


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (1240, 1754), "white"),
        Image.new("RGB", (1240, 1754), (240, 230, 200)),
        Image.new("RGB", (7, 3), "white"),
        Image.new("RGB", (1, 5000), "white"),
        Image.new("RGB", (600, 900), "black"),
        scan_of_nothing(),
        speckled(),
        bleeding(),
    ],
    ids=["white", "cream", "tiny", "strip", "black", "scan", "specks", "bleed-through"],
)
def test_a_page_without_ink_is_blank(image: Image.Image) -> None:
    assert is_blank(image)


@pytest.mark.parametrize(
    "image",
    [
        with_word(Image.new("L", (1240, 1754), 255), "7"),
        with_word(Image.new("L", (1240, 1754), 0), "7", fill=255),
        with_word(scan_of_nothing(), "12"),
        with_word(speckled(), "1"),
        with_word(Image.new("L", (1240, 1754), 235), "faint words", fill=190),
        with_word(Image.new("L", (1240, 1754), 255), "soft").filter(ImageFilter.GaussianBlur(3)),
        PAGES[1].image,
    ],
    ids=["page number", "white on black", "in a scan", "among specks", "faint", "blurred", "text"],
)
def test_a_page_with_a_word_on_it_is_not_blank(image: Image.Image) -> None:
    assert not is_blank(image)


class Unasked(KosmosPageReader):
    """Fails when it is asked."""

    def _ask(self, pages: Sequence[Page]) -> list[Reading]:
        raise AssertionError("the model was asked about a page that needs no reading")


def test_blank_and_failed_pages_are_not_shown_to_the_model(folder: Path) -> None:
    blank = page_of(Image.new("RGB", (300, 400), "white"), 4)
    broken = Page("file", "doc", 5, 9, 0, 0, 72.0, error=Failure("corrupt", "no pixels"))
    readings = list(Unasked(folder, device="cpu", batch_size=2).read([blank, broken]))
    assert [reading.flags for reading in readings] == [("blank",), ()]
    assert [reading.lines for reading in readings] == [(), ()]
    assert [reading.error for reading in readings] == [None, Failure("corrupt", "no pixels")]
    assert [reading.page for reading in readings] == [blank.info, broken.info]


def test_pages_of_all_kinds_come_back_in_order(folder: Path, reader: KosmosPageReader) -> None:
    blank = page_of(Image.new("RGB", (300, 400), "white"), 4)
    broken = Page("file", "doc", 5, 9, 0, 0, 72.0, error=Failure("corrupt", "no pixels"))
    pages = [broken, PAGES[0], blank, PAGES[1], PAGES[2]]
    together = KosmosPageReader(folder, device="cpu", max_new_tokens=40, batch_size=4)
    readings = list(together.read(pages))
    assert [reading.page.number for reading in readings] == [5, 1, 4, 2, 3]
    assert [reading for reading in readings if reading.lines] == list(reader.read(PAGES))


def test_no_more_pages_are_pulled_than_a_batch_holds(folder: Path) -> None:
    pulled: list[int] = []

    def pages() -> Iterator[Page]:
        for page in PAGES * 2:
            pulled.append(page.number)
            yield page

    readings = Dictated(folder, device="cpu", batch_size=2).read(pages())
    assert pulled == []
    counts = [(next(readings).page.number, len(pulled)) for _ in range(3)]
    assert counts == [(1, 2), (2, 2), (3, 4)]


def reading_of(page: Page) -> Reading:
    return Reading(page.info, "r", "1")


def failed(page: Page, error: Exception) -> Reading:
    return Reading.failed(page, "r", "1", Failure.of(error))


def test_a_batch_that_is_too_large_is_read_in_parts() -> None:
    sizes: list[int] = []

    def work(pages: Sequence[Page]) -> list[Reading]:
        sizes.append(len(pages))
        if len(pages) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [reading_of(page) for page in pages]

    pages = [written_page(number, 64, 64) for number in range(1, 8)]
    readings = in_parts(pages, work, failed)
    assert [reading.page.number for reading in readings] == [1, 2, 3, 4, 5, 6, 7]
    assert not any(reading.error for reading in readings)
    assert sizes == [7, 3, 1, 2, 4, 2, 2]


def test_a_page_that_never_fits_costs_no_other_page() -> None:
    def work(pages: Sequence[Page]) -> list[Reading]:
        if any(page.number == 2 for page in pages):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [reading_of(page) for page in pages]

    readings = in_parts(PAGES, work, failed)
    assert [reading.error is None for reading in readings] == [True, False, True]
    assert in_parts([], work, failed) == []


class Fragile(KosmosPageReader):
    """Runs out of memory on page 2."""

    def _ask(self, pages: Sequence[Page]) -> list[Reading]:
        if any(page.number == 2 for page in pages):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [reading_of(page) for page in pages]


def test_a_page_that_fails_says_what_to_do(folder: Path) -> None:
    readings = list(Fragile(folder, device="cpu", batch_size=3).read(PAGES))
    error = readings[1].error
    assert error is not None
    assert error.type == "reading"
    assert "page 2" in error.message
    assert "batch_size" in error.message
    assert (readings[0].error, readings[2].error) == (None, None)


def test_the_released_geometry_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        model = transformers.Kosmos2_5ForConditionalGeneration(transformers.Kosmos2_5Config())
    # parameters() counts the output layer once: it is the token embedding
    assert sum(weight.numel() for weight in model.parameters()) == 1_374_646_272


def test_it_is_a_page_reader(reader: KosmosPageReader) -> None:
    assert isinstance(reader, PageReader)
    assert reader.name == "kosmos-2.5"


def test_the_version_follows_whatever_changes_a_reading(folder: Path, tmp_path: Path) -> None:
    other = tiny_kosmos(tmp_path, seed=1)
    options = {"device": "cpu", "max_new_tokens": 40}
    versions = [
        KosmosPageReader(folder, **options).version,
        KosmosPageReader(other, **options).version,
        KosmosPageReader(folder, dtype="bf16", **options).version,
        KosmosPageReader(folder, tasks=["md"], **options).version,
        KosmosPageReader(folder, device="cpu", max_new_tokens=41).version,
    ]
    assert len(set(versions)) == len(versions)
    assert KosmosPageReader(folder, tasks=["md", "ocr"], **options).version == versions[0]


def test_the_digest_sees_a_change_of_any_weight_and_no_change_of_place(
    folder: Path, copy: Path
) -> None:
    assert weights_digest(copy) == weights_digest(folder)
    model = transformers.Kosmos2_5ForConditionalGeneration.from_pretrained(copy)
    model.text_model.lm_head.weight.data *= 1.001
    model.save_pretrained(copy)
    assert weights_digest(copy) != weights_digest(folder)


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "slow"},
        {"dtype": "int8"},
        {"device": "nowhere"},
        {"tasks": []},
        {"tasks": ["ocr", "chat"]},
        {"tasks": "md"},
        {"batch_size": 0},
        {"max_new_tokens": 0},
        {"revision": "main"},
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        KosmosPageReader(folder, **options)


def refusal(model: str | Path) -> str:
    with pytest.raises(ModelError) as caught:
        KosmosPageReader(model, device="cpu")
    return str(caught.value)


@pytest.mark.parametrize("model", ["/no/such/folder", "no/such/folder", "./none", "none"])
def test_a_folder_that_is_not_there_is_named(model: str) -> None:
    assert "no model folder" in refusal(model)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert "config.json" in refusal(tmp_path)


def test_a_model_of_another_architecture_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "bert"}')
    message = refusal(copy)
    assert "'bert'" in message
    assert "'kosmos-2.5'" in message


def test_weights_that_may_carry_code_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "safetensors" in refusal(copy)


def test_damaged_weights_are_refused(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "could not be loaded" in refusal(copy)


def test_missing_weights_are_not_made_up(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["image_to_text_projection.dense.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert "image_to_text_projection.dense.weight" in refusal(copy)


def test_a_tokenizer_without_the_prompts_is_refused(copy: Path) -> None:
    path = copy / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace('"<md>"', '"<ma>"'), "utf-8")
    assert "<md>" in refusal(copy)


def test_a_processor_of_another_model_is_refused(copy: Path) -> None:
    path = copy / "processor_config.json"
    config = json.loads(path.read_text("utf-8")) | {"num_image_tokens": 15}
    path.write_text(json.dumps(config), "utf-8")
    assert "15" in refusal(copy)


def test_loading_and_reading_are_silent_and_leave_settings_alone(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    settings = transformers.utils.logging
    before = settings.get_verbosity(), settings.is_progress_bar_enabled()
    with caplog.at_level(logging.DEBUG):
        list(KosmosPageReader(folder, device="cpu", max_new_tokens=4).read(PAGES[:1]))
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert (settings.get_verbosity(), settings.is_progress_bar_enabled()) == before


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
def test_a_hub_id_without_a_network_says_what_to_do(tmp_path: Path) -> None:
    code = """
from kosmos_loader.readers.kosmos import KosmosPageReader
try:
    KosmosPageReader("microsoft/kosmos-2.5", revision="abc")
except Exception as error:
    print(type(error).__name__, error)
"""
    told = run(code, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert told.startswith("ModelError microsoft/kosmos-2.5 at revision abc could not be fetched")
    assert "give the folder" in told


def test_without_torch_the_extra_is_named() -> None:
    code = """
import sys
sys.modules["torch"] = None
from kosmos_loader.readers.kosmos import KosmosPageReader
try:
    KosmosPageReader("anything")
except Exception as error:
    print(type(error).__name__, error)
"""
    told = run(code)
    assert told.startswith("MissingExtra")
    assert "kosmos-loader[kosmos]" in told


def test_page_info_is_all_that_a_reading_keeps_of_a_page(reader: KosmosPageReader) -> None:
    (reading,) = reader.read(PAGES[:1])
    assert type(reading.page) is PageInfo
