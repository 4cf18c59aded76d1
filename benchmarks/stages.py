"""What happens to a page on the host, in milliseconds of CPU: from the file to patches, from tokens
to lines, and between two passes of the model.

Pages are those of the traces, about 1000 tokens of `<ocr>` and 750 of `<md>` each, of a model with
the released vocabulary of tags. One thread, the median of several rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import models
import numpy as np
import pypdfium2
import torch
import traces
from lanes import Account, Watched
from PIL import Image

from kosmos_loader.document import Line, Reading
from kosmos_loader.engine.engine import Engine
from kosmos_loader.engine.pages import FastEngine
from kosmos_loader.engine.patches import extract_patches
from kosmos_loader.engine.request import Request
from kosmos_loader.readers.checkpoint import TASKS, prompt_of
from kosmos_loader.readers.outputs import Output, Written, reading_from
from kosmos_loader.readers.reference import text_of

PATCHES = 4096
POINTS = (595, 842)
"""A4."""

PAGES = 4


def measured(*, rounds: int = 5, tokens: int = models.TOKENS["full"]) -> list[dict[str, Any]]:
    """A row for each stage."""
    config = models.released_config()
    tokenizer = traces.word_tokenizer(coordinates=models.COORDINATES["full"])
    processor = models.processor_of(config, tokenizer)
    sheets = traces.sheets(PAGES, tokens=tokens, tokenizer=tokenizer)
    cases = [
        traces.case_of(sheet, tokenizer, max_patches=PATCHES, limit=2044, words_changed=0.02)
        for sheet in sheets
    ]
    stages = {
        **_picture_stages(sheets[0].lines, processor),
        "tokens to text and lines": lambda: [_read(case, tokenizer) for case in cases],
        "schedule (plain)": _scheduled(cases, tokenizer, mode="plain"),
        "schedule and draft (joint)": _scheduled(cases, tokenizer, mode="joint"),
    }
    with _one_thread():
        return [
            {"stage": name, "cpu_ms_per_page": _milliseconds(run, rounds)}
            for name, run in stages.items()
        ]


Stage = Callable[[], Sequence[Any]]
"""Does its work for some pages and gives one thing for each."""


def _picture_stages(lines: Sequence[Line], processor: Any) -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    content = pdf_of(lines)
    for dpi in (150, 300):
        pixels = _raster(content, dpi)
        image = Image.fromarray(pixels)
        found |= {
            f"raster, {dpi} dpi": lambda dpi=dpi: [_raster(content, dpi)],
            f"patches, {dpi} dpi": lambda pixels=pixels: [
                extract_patches(pixels, max_patches=PATCHES)
            ],
            f"patches by transformers, {dpi} dpi": lambda image=image: [
                processor.image_processor(images=image, max_patches=PATCHES, return_tensors="pt")
            ],
        }
    return found


def _milliseconds(run: Stage, rounds: int) -> float:
    run()
    spent = []
    for _ in range(rounds):
        began = time.process_time()
        pages = len(run())
        spent.append((time.process_time() - began) / pages)
    return 1000 * statistics.median(spent)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pdf_of(lines: Sequence[Line]) -> bytes:
    """An A4 page of PDF with `lines` in their places, set in a typeface that every viewer has."""
    width, height = POINTS
    shown = []
    for line in lines:
        size = 0.8 * line.box.height * height
        x, y = line.box.x0 * width, height - line.box.y1 * height
        text = line.text.encode("cp1252", "replace").decode("cp1252")
        text = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        shown.append(f"BT /F {size:.1f} Tf {x:.1f} {y:.1f} Td ({text}) Tj ET")
    content = "\n".join(shown).encode("cp1252")
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d %d]/Contents 4 0 R"
        b"/Resources<</Font<</F 5 0 R>>>>>>" % POINTS,
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    file = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(file))
        file += b"%d 0 obj%s endobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return (
        file
        + b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\n"
        % (
            len(objects) + 1,
            table,
            len(objects) + 1,
        )
        + b"startxref\n%d\n%%%%EOF" % len(file)
    )


def _raster(content: bytes, dpi: int) -> Any:
    with closing(pypdfium2.PdfDocument(content)) as document, closing(document[0]) as page:
        drawn = page.render(scale=dpi / 72, rev_byteorder=True)
        return np.array(drawn.to_numpy())


def _read(case: traces.Case, tokenizer: Any) -> Reading:
    """The reading of a page from its tokens."""
    assert case.trace is not None  # noqa: S101 - these cases have one
    outputs = {
        task: Output(text_of(tokenizer, tokens[:-1]), ended=True)
        for task, tokens in case.trace.items()
    }
    size = traces.size_of(case.page, PATCHES)
    written = Written(outputs, size)
    return reading_from(case.page.info, written, reader="trace", version="1")


def _scheduled(cases: Sequence[traces.Case], tokenizer: Any, *, mode: str) -> Stage:
    """All that the engine does for `cases` but running the model and making the patches."""
    config = models.tiny_config()
    processor = models.processor_of(config, tokenizer)
    fast = FastEngine(
        models.random_model(config, tokenizer, device="cpu", dtype=torch.float32),
        processor,
        prompts={task: prompt_of(processor, text) for task, text in TASKS.items()},
        limit=2044,
        max_patches=PATCHES,
        slots=1,
        mode=mode,
    )
    patches = [fast.patches(case.page) for case in cases]

    def run() -> list[Request]:
        engine = Engine(fast.scheduler(len(cases)), Watched(None, cases, fast, Account()))
        return list(
            engine.read(
                fast.request(place, case.page, patches[place]) for place, case in enumerate(cases)
            )
        )

    return run
