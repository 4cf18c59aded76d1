"""The benchmark of the engine: its traces, its lanes and its arithmetic, on a model of no size."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the kosmos extra")
transformers = pytest.importorskip("transformers", reason="needs the kosmos extra")
pytest.importorskip("matplotlib", reason="brings the typefaces of drawn pages")

import engine as benchmark  # noqa: E402 - needs torch
import lanes  # noqa: E402
import models  # noqa: E402
import roofline  # noqa: E402
import stages  # noqa: E402
import traces  # noqa: E402

from kosmos_loader.document import Line  # noqa: E402
from kosmos_loader.engine.drafting import Vocabulary  # noqa: E402
from kosmos_loader.markup import parse_ocr  # noqa: E402
from kosmos_loader.pages import open_pages  # noqa: E402
from kosmos_loader.readers.reference import ReferenceEngine  # noqa: E402

SCRIPT = Path(benchmark.__file__)
EVERYWHERE = ("plain", "shared", "draft", "joint")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reference() -> ReferenceEngine:
    return models.reference_of("tiny", device="cpu", dtype="fp32", limit=900)


@pytest.fixture(scope="module")
def tokenizer(reference: ReferenceEngine) -> Any:
    return reference.processor.tokenizer


@pytest.fixture(scope="module")
def cases(reference: ReferenceEngine) -> models.Cases:
    return models.cases_of("tiny", reference, pages=4, seed=3, level=3, tokens=100)


def accounts(
    reference: ReferenceEngine, cases: list[traces.Case], *, slots: int = 2
) -> dict[str, lanes.Account]:
    return {mode: lanes.Fast(reference, mode=mode, slots=slots).read(cases) for mode in EVERYWHERE}


# traces


def test_the_stand_in_tokenizer_cuts_as_drafting_expects_and_loses_nothing(tokenizer: Any) -> None:
    vocabulary = Vocabulary.of(tokenizer)
    text = "\n\n".join(passage.markdown for passage in traces.passages())
    tokens = vocabulary.encode(text)
    assert vocabulary.decode(tokens) == text
    assert vocabulary.spell(text) == tokens
    words = [word for word in map(vocabulary.text, tokens) if word.strip().isalpha()]
    assert max(map(len, words)) == traces.CUT
    assert statistics.mean(map(len, words)) > 4


def test_a_trace_says_what_stands_on_the_page(reference: ReferenceEngine, tokenizer: Any) -> None:
    for sheet in traces.sheets(3, tokens=300, tokenizer=tokenizer, seed=1):
        case = traces.case_of(sheet, tokenizer, max_patches=256, limit=2000)
        assert case.trace is not None
        texts = {
            task: tokenizer.decode(tokens[:-1], clean_up_tokenization_spaces=False)
            for task, tokens in case.trace.items()
        }
        assert texts["md"] == sheet.markdown
        width, height = traces.size_of(sheet.page, 256)
        found = parse_ocr(texts["ocr"], width=width, height=height)
        assert [line.text for line in found.lines] == [line.text for line in sheet.lines]
        for line, true in zip(found.lines, sheet.lines, strict=True):
            sides = zip(line.box.as_tuple(), true.box.as_tuple(), strict=True)
            assert max(abs(one - other) for one, other in sides) < 2.5 / min(width, height)
        assert all(tokens[-1] == tokenizer.eos_token_id for tokens in case.trace.values())
        assert [page.pixels.min() for page in (sheet.page, case.page)] == [0, 0]


def test_pages_have_the_length_that_was_asked_for_in_the_mean(tokenizer: Any) -> None:
    sheets = traces.sheets(10, tokens=400, tokenizer=tokenizer)
    lengths = [
        len(traces.case_of(sheet, tokenizer, max_patches=4096, limit=2000).trace["ocr"])  # type: ignore[index]
        for sheet in sheets
    ]
    assert 340 < statistics.mean(lengths) < 500
    assert 340 < statistics.mean(lengths[:5]) < 500
    assert max(lengths) > 2 * min(lengths)


def test_as_many_words_are_changed_as_were_asked_for() -> None:
    text = "\n".join(passage.markdown for passage in traces.passages())
    words = re.findall("[A-Za-z]{2,}", text)
    assert traces.changed(text, 0.0, seed=1) == text
    for share in (0.05, 0.5):
        found = re.findall("[A-Za-z]{2,}", traces.changed(text, share, seed=1))
        others = sum(one != other for one, other in zip(found, words, strict=True))
        assert share * 0.7 < others / len(words) < share * 1.3


# lanes


def test_every_lane_writes_the_traces(reference: ReferenceEngine, cases: models.Cases) -> None:
    pages = cases(0.05, True)
    wanted = {
        place: {task: list(tokens) for task, tokens in (case.trace or {}).items()}
        for place, case in enumerate(pages)
    }
    assert len({len(tokens["ocr"]) for tokens in wanted.values()}) > 2
    found = accounts(reference, pages)
    found["hf"] = lanes.Generate(reference, batch=1).read(pages)
    found["hf-batched"] = lanes.Generate(reference, batch=3).read(pages)
    for account in found.values():
        assert account.written == wanted
        assert account.first_line is not None


def test_without_traces_the_lanes_write_what_the_model_says(
    reference: ReferenceEngine, cases: models.Cases
) -> None:
    limited = ReferenceEngine(
        reference.model,
        reference.processor,
        prompts=reference.prompts,
        limit=12,
        max_patches=reference.max_patches,
        batch_size=1,
    )
    pages = [traces.Case(case.page) for case in cases(0.0, False)[:3]]
    wanted = lanes.Generate(limited, batch=1).read(pages).written
    assert all(len(tokens) == 12 for page in wanted.values() for tokens in page.values())
    for account in accounts(limited, pages).values():
        assert account.written == wanted


def test_passes_are_counted_for_each_sequence(
    reference: ReferenceEngine, cases: models.Cases
) -> None:
    pages = cases(0.02, False)
    found = accounts(reference, pages)
    lengths = [[len(case.trace[task]) for case in pages] for task in ("ocr", "md")]  # type: ignore[index]
    for mode in ("plain", "shared"):
        assert found[mode].sequence_passes == found[mode].tokens == sum(map(sum, lengths))
        assert not found[mode].drafted
    for mode in ("draft", "joint"):
        account = found[mode]
        assert account.sequence_passes < 0.8 * account.tokens
        assert 0 < account.right.total() < account.drafted.total()
        # behind an end token that was drafted stands one more, which nobody wants
        assert 0 <= account.sequence_passes + account.right.total() - account.tokens <= 8
    batched = lanes.Generate(reference, batch=3).read(pages)
    idle = sum(3 * max(row[:3]) + max(row[3:]) for row in lengths)
    assert batched.sequence_passes == idle > batched.tokens


def test_what_is_read_of_the_cache_is_counted(
    reference: ReferenceEngine, cases: models.Cases
) -> None:
    page = max(cases(0.0, False), key=lambda case: len((case.trace or {})["ocr"]))
    pages = [page]
    found = accounts(reference, pages, slots=1)
    prefix = reference.model.config.latent_query_num + 3
    ocr, md = sorted((len(tokens) for tokens in (page.trace or {}).values()), reverse=True)
    own = sum(range(1, ocr + 1)) + sum(range(1, md + 1))
    assert found["plain"].attended == prefix * (ocr + md) + own
    assert found["shared"].attended == prefix * ocr + own
    assert found["joint"].attended < found["draft"].attended < found["plain"].attended
    alone = lanes.Generate(reference, batch=1).read(pages)
    # the first token of each task comes from the prompt's own pass
    assert alone.attended == found["plain"].attended - 2 * (prefix + 1)
    assert len(alone.encoded) == 2
    assert found["joint"].encoded == alone.encoded[:1]


def test_drafts_are_right_less_often_where_words_differ(
    reference: ReferenceEngine, cases: models.Cases
) -> None:
    lane = lanes.Fast(reference, mode="joint", slots=4)
    same, other = (lane.read(cases(share, False)) for share in (0.0, 0.4))
    assert other.sequence_passes > same.sequence_passes
    assert other.right["md"] / other.drafted["md"] < same.right["md"] / same.drafted["md"]


def test_a_text_layer_saves_passes(reference: ReferenceEngine, cases: models.Cases) -> None:
    lane = lanes.Fast(reference, mode="joint", slots=4)
    without, layered = (lane.read(cases(0.02, layer)) for layer in (False, True))
    assert layered.sequence_passes < 0.8 * without.sequence_passes


def test_warming_up_cuts_the_traces_and_keeps_their_end(cases: models.Cases) -> None:
    case = cases(0.0, False)[0]
    short = case.cut(8)
    assert case.trace is not None
    assert short.trace is not None
    for task, tokens in case.trace.items():
        assert short.trace[task] == (*tokens[:7], tokens[-1])
    assert case.cut(10_000).trace == case.trace
    assert traces.Case(case.page).cut(8).trace is None


# rooflines


def test_the_released_geometry_reads_and_computes_what_was_counted_by_hand() -> None:
    with torch.device("meta"):
        config = models.released_config()
        model = transformers.Kosmos2_5ForConditionalGeneration(config).to(torch.bfloat16)
    assert sum(weight.numel() for weight in model.parameters()) == 1_374_646_272
    geometry = roofline.geometry_of(model)
    assert geometry.token_bytes == 147_456
    assert geometry.weight_bytes == pytest.approx(1.69e9, rel=0.01)
    assert geometry.encode_flops(4096) == pytest.approx(9.23e12, rel=0.01)
    # 64 sequences, each with a prefix of 2052 and 500 of its own: 5.99 ms at 4.3 TB/s
    device = roofline.Device(bandwidth=4.3e12, flops=790e12)
    read = geometry.decode_bytes(1, 64 * 2552)
    assert device.seconds(read, 0.0) == pytest.approx(5.99e-3, rel=0.01)


def test_a_roofline_is_the_speed_at_which_its_bytes_could_be_read(
    reference: ReferenceEngine, cases: models.Cases
) -> None:
    bench = benchmark.Bench(reference, cases, batch=2, hf_pages=2)
    found = bench.rounds([benchmark.MODES["joint"]], 2)
    device = roofline.Device(bandwidth=1e9, flops=1e30)
    (row,) = benchmark.rows_of(found, bench, device)
    assert len(row["rounds"]) == 2
    assert row["roofline_pages_per_s"] * row["decode_gb_per_page"] == pytest.approx(1.0)
    assert row["roofline_share"] == row["pages_per_s"] / row["roofline_pages_per_s"]
    assert row["decode_bandwidth_share"] > 0
    (unknown,) = benchmark.rows_of(found, bench, None)
    assert unknown["roofline_pages_per_s"] is None


# the command


def test_the_trained_model_writes_the_same_tokens_in_every_mode() -> None:
    asked = ["--model", "nano", "--pages", "2", "--rounds", "1", "--batch", "2", "--no-stages"]
    document = benchmark.measured(benchmark.arguments([*asked, "--modes", "hf,joint,plain"]))
    rows = {row["mode"]: row for row in document["modes"]}
    assert list(rows) == ["hf", "joint", "plain"]
    assert all(row["equal_tokens"] == row["equal_pages"] == 1.0 for row in rows.values())
    assert rows["hf"]["ratio_to_hf"] == 1.0
    assert rows["joint"]["tokens_per_step"] > 1.2 > rows["plain"]["tokens_per_step"] == 1.0
    assert rows["joint"]["passes"] < rows["plain"]["passes"] < rows["hf"]["passes"]
    assert document["dtype"] == "float32"


def test_agreement_ends_at_the_first_difference() -> None:
    truth = lanes.Account({0: {"ocr": [1, 2, 3, 4]}, 1: {"ocr": [5, 6]}})
    other = lanes.Account({0: {"ocr": [1, 2, 9, 4]}, 1: {"ocr": [5, 6]}})
    found = benchmark._agreement(other, truth)
    assert found == {"equal_tokens": pytest.approx(4 / 6), "equal_pages": 0.5}


@pytest.mark.parametrize("wrong", [["--modes", "hf,fastest"], ["--pages", "0"]])
def test_what_cannot_be_meant_is_refused(wrong: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit):
        benchmark.arguments(wrong)
    assert "fastest" in (said := capsys.readouterr().err) or "at least 1" in said


@pytest.mark.slow
def test_the_command_prints_json_with_every_mode() -> None:
    few = ["--pages", "2", "--rounds", "1", "--tokens", "8", "--limit", "16", "--batch", "2"]
    shown = subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            "--model",
            "tiny",
            *few,
            "--threads",
            "1",
            "--no-stages",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(shown.stdout)
    assert [row["mode"] for row in document["modes"]] == list(benchmark.MODES)
    for row in document["modes"]:
        assert row["pages_per_s"] > 0
        assert row["tokens_per_s"] > 0
        assert row["tokens_per_step"] > 0
        assert row["tokens_per_page"]["ocr"] <= 8 * traces.SPREAD[1]
    assert {"torch", "transformers"} <= document["versions"].keys()


def test_the_page_for_the_raster_says_what_the_trace_says(tokenizer: Any) -> None:
    def letters(lines: tuple[Line, ...]) -> str:
        return "".join("".join(line.text for line in lines).split())

    (sheet,) = traces.sheets(1, tokens=200, tokenizer=tokenizer, seed=2)
    (page,) = open_pages(stages.pdf_of(sheet.lines))
    assert letters(page.text_layer) == letters(sheet.lines)
    assert page.pixels.min() < 64


@pytest.mark.slow
def test_each_stage_takes_time() -> None:
    found = {row["stage"]: row["cpu_ms_per_page"] for row in stages.measured(rounds=1, tokens=60)}
    assert {"raster, 300 dpi", "patches, 300 dpi", "schedule and draft (joint)"} <= found.keys()
    assert all(spent > 0 for spent in found.values())
