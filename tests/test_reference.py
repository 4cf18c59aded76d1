from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kosmos_loader.document import Page
from kosmos_loader.readers.checkpoint import TASKS, load, prompt_of
from kosmos_loader.readers.outputs import Output, Written
from kosmos_loader.readers.reference import ReferenceEngine, in_parts, patch_budget, text_of
from kosmos_loader.testing import tiny_kosmos

torch = pytest.importorskip("torch", reason="needs the kosmos extra")
pytest.importorskip("transformers", reason="needs the kosmos extra")


def written_page(number: int, width: int, height: int) -> Page:
    image = Image.new("RGB", (width, height), "white")
    for row in range(8, height - 8, 14):
        ImageDraw.Draw(image).text((8, row), f"Line {row} of page {number}", fill="black")
    return Page("file", "doc", number, 9, width, height, 72.0, pixels=np.asarray(image))


PAGES = [written_page(1, 200, 300), written_page(2, 300, 160), written_page(3, 120, 500)]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_kosmos(tmp_path_factory.mktemp("tiny"))


def new_engine(
    folder: Path,
    *,
    limit: int = 20,
    max_patches: int = 64,
    batch_size: int = 2,
    dtype: Any = torch.float32,
) -> ReferenceEngine:
    model, processor = load(folder, dtype=dtype, device="cpu")
    return ReferenceEngine(
        model,
        processor,
        prompts={task: prompt_of(processor, text) for task, text in TASKS.items()},
        limit=limit,
        max_patches=max_patches,
        batch_size=batch_size,
    )


@pytest.fixture
def engine(folder: Path) -> ReferenceEngine:
    return new_engine(folder)


class Dictated:
    """A model that writes `rows`, whatever it is shown."""

    def __init__(self, model: Any, rows: Sequence[Sequence[int]]) -> None:
        self.config = model.config
        self.device = model.device
        self.rows = rows

    def generate(self, *, input_ids: Any, **inputs: Any) -> Any:
        return torch.cat([input_ids, torch.tensor(self.rows)], dim=1)


def test_pages_of_different_sizes_are_written_together_as_alone(engine: ReferenceEngine) -> None:
    together = engine.write(PAGES)
    assert together == [written for page in PAGES for written in engine.write([page])]
    texts = [written.outputs["md"].text for written in together]
    assert len(set(texts)) == len(PAGES)


def test_the_size_is_that_of_the_resized_page_in_any_precision(folder: Path) -> None:
    # 64 patches: 9 rows x 6 columns, 5 x 10 and 16 x 3, of 16 pixels each
    sizes = [(96, 144), (160, 80), (48, 256)]
    for dtype in (torch.float32, torch.bfloat16):
        written = new_engine(folder, limit=1, dtype=dtype).write(PAGES)
        assert [page.size for page in written] == sizes


def test_the_end_token_ends_an_output(engine: ReferenceEngine) -> None:
    tokenizer = engine.processor.tokenizer
    ids = tokenizer.encode("<bbox><x_1>é</s>")
    engine.model = Dictated(engine.model, [[*ids, tokenizer.pad_token_id], [*ids[:-1], 0, 0]])
    for task in TASKS:
        ended, cut = (written.outputs[task] for written in engine.write(PAGES[:2]))
        assert ended == Output("<bbox><x_1>é", ended=True)
        assert cut == Output("<bbox><x_1>é<s><s>", ended=False)


def test_text_keeps_its_tags_and_blanks(engine: ReferenceEngine) -> None:
    tokenizer = engine.processor.tokenizer
    text = "<bbox><x_1><y_2></bbox> a  b .\n\n é"
    assert text_of(tokenizer, tokenizer.encode(text, add_special_tokens=False)) == text


def test_patches_are_padded_to_the_same_number(engine: ReferenceEngine) -> None:
    for page, count in zip(PAGES, [54, 50, 48], strict=True):
        patches, _ = engine.patches(page)
        assert patches.shape == (64, 770)
        assert (patches.abs().sum(dim=-1) > 0).tolist() == [True] * count + [False] * (64 - count)


@pytest.mark.parametrize(
    ("width", "height", "budget"), [(200, 300, 64), (2, 127, 64), (2, 128, 63), (64, 1, 63)]
)
def test_only_a_strip_is_given_fewer_patches(
    engine: ReferenceEngine, width: int, height: int, budget: int
) -> None:
    page = written_page(1, width, height)
    assert patch_budget(page, 64, engine.model.config) == budget


def test_row_numbers_above_256_stay_whole_in_bf16(tmp_path: Path) -> None:
    folder = tiny_kosmos(tmp_path, max_patches=512)
    engine = new_engine(folder, limit=2, max_patches=512, dtype=torch.bfloat16)
    numbers: list[int] = []
    engine.model.vision_model.embeddings.row_embedder.register_forward_pre_hook(
        lambda module, arguments: numbers.extend(arguments[0].unique().tolist())
    )
    engine.write([written_page(1, 30, 6000)])
    assert sorted(set(numbers)) == [*range(max(numbers) + 1)]
    assert max(numbers) > 256
    assert engine.model.dtype == torch.bfloat16


def test_a_session_gathers_a_batch_and_gives_it_back_with_its_keys(
    engine: ReferenceEngine,
) -> None:
    session = engine.session()
    assert session.advance() == []
    for key, page in zip("ab", PAGES, strict=False):
        assert not session.is_full
        session.add(key, page)
    assert session.is_full
    assert session.advance() == [*zip("ab", engine.write(PAGES[:2]), strict=True)]
    assert not session.is_full
    session.add("c", PAGES[2])
    session.close()
    assert session.advance() == []


def written(page: Page) -> Written:
    return Written({}, (page.number, 1))


def test_a_batch_that_is_too_large_is_read_in_parts() -> None:
    sizes: list[int] = []

    def write(pages: Sequence[Page]) -> list[Written]:
        sizes.append(len(pages))
        if len(pages) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [written(page) for page in pages]

    pages = [written_page(number, 64, 64) for number in range(1, 8)]
    assert in_parts(pages, write) == [written(page) for page in pages]
    assert sizes == [7, 3, 1, 2, 4, 2, 2]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("none left"), ValueError("odd"), KeyError(7)]
)
def test_a_page_that_never_fits_costs_no_other_page(error: Exception) -> None:
    def write(pages: Sequence[Page]) -> list[Written]:
        if any(page.number == 2 for page in pages):
            raise error
        return [written(page) for page in pages]

    assert in_parts(PAGES, write) == [written(PAGES[0]), error, written(PAGES[2])]
    assert in_parts([], write) == []
