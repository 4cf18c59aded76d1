"""How fast KOSMOS-2.5 reads pages: transformers' `generate`, and our engine in each of its modes.

    python benchmarks/engine.py --model nano [--device cpu|cuda] [--pages N] [--rounds N]
                                [--batch N] [--modes hf,joint] [--json] [--out FILE]
    python benchmarks/engine.py --model full --device cuda --pages 64 --hf-pages 8
    python benchmarks/engine.py --model full --pages 1 --tokens 8 --limit 16 --modes joint

All modes read the same pages in one process, from pixels to text, both tasks. The rounds of the
modes are interleaved, and what warms up is not measured. `hf` is page by page, `hf-batched` and our
modes hold `--batch` pages at once. Times are medians over the rounds; ratios are those of a round.

`nano` is the small checkpoint of `tests/assets` on drawn pages, and reads. `full` has the released
geometry and random weights, `tiny` the same with next to no weights: they compute everything and
are then made to write traces (`traces.py`), `--tokens` of `<ocr>` on a page in the mean and three
quarters of it of `<md>`. In `joint` and `draft` 2 % of the words of `<md>` are others than those of
`<ocr>`, in `joint-0` none, in `joint-5` 5 %; in `joint-layer` the page brings a text layer, 2 % of
its words other ones and its boxes a little off (on drawn pages, the lines as they were drawn).

A second table has the stages on the host. `full` is for GPUs: on a CPU give it one page and a few
tokens, as in the last line above.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import models
import report
import stages
import torch
from lanes import Account, Fast, Generate, Lane
from roofline import Device, Geometry, geometry_of
from traces import Case

from kosmos_loader.readers.kosmos import DTYPES, MAX_NEW_TOKENS
from kosmos_loader.readers.reference import ReferenceEngine

COLUMNS = (
    "mode",
    "pages",
    "batch",
    "pages_per_s",
    "range",
    "tokens_per_s",
    "tokens_per_step",
    "accepted",
    "ratio_to_hf",
    "first_line_s",
    "peak_memory_gb",
    "roofline_pages_per_s",
    "roofline_share",
    "equal_tokens",
)


@dataclass(frozen=True, slots=True)
class Mode:
    """A row of the table."""

    name: str
    engine: str | None = None
    """Mode of our engine, None for `generate`."""

    words_changed: float = 0.0
    layer: bool = False


MODES = {
    mode.name: mode
    for mode in (
        Mode("hf"),
        Mode("hf-batched"),
        Mode("plain", "plain"),
        Mode("shared", "shared"),
        Mode("draft", "draft", 0.02),
        Mode("joint", "joint", 0.02),
        Mode("joint-0", "joint", 0.0),
        Mode("joint-5", "joint", 0.05),
        Mode("joint-layer", "joint", 0.02, layer=True),
    )
}
USUAL = ("hf", "hf-batched", "plain", "shared", "draft", "joint")
"""What is run without `--modes`; with traces, all are."""


@dataclass(frozen=True)
class Round:
    """One mode in one round."""

    pages: int
    seconds: float
    first_line: float
    peak_bytes: int | None
    account: Account

    @property
    def pages_per_s(self) -> float:
        """Pages a second."""
        return self.pages / self.seconds


@dataclass
class Bench:
    """A model, its pages and the modes to be measured on them."""

    reference: ReferenceEngine
    cases: models.Cases
    batch: int
    hf_pages: int
    lanes: dict[str, int] = field(default_factory=dict)
    """Pages that a mode held at once in the end."""

    def rounds(self, modes: Sequence[Mode], count: int) -> dict[str, list[Round]]:
        """`count` rounds of each of `modes`, interleaved."""
        found: dict[str, list[Round]] = {mode.name: [] for mode in modes}
        for number in range(count):
            for mode in modes:
                done = self.measured(mode)
                found[mode.name].append(done)
                print(
                    f"round {number + 1} of {count}, {mode.name}: {done.pages} pages in "
                    f"{done.seconds:.1f} s",
                    file=sys.stderr,
                )
        return found

    def measured(self, mode: Mode) -> Round:
        """Reads the pages once, in a lane that is made and warmed up for it."""
        cases = self.cases(mode.words_changed, mode.layer)
        if not mode.engine:
            # a batch that is not full would be no batch
            cases = cases[: self.hf_pages if mode.name == "hf" else max(self.hf_pages, self.batch)]
        _free()  # what the lane before held, before this one looks how much there is
        lane = self._lane(mode)
        lane.warm_up(cases)
        with Memory(self.reference.model.device) as memory:
            began = time.perf_counter()
            account = lane.read(cases)
            _wait()
            seconds = time.perf_counter() - began
        self.lanes[mode.name] = lane.together
        assert account.first_line is not None  # noqa: S101 - pages were read
        return Round(len(cases), seconds, account.first_line - began, memory.peak, account)

    def _lane(self, mode: Mode) -> Lane:
        if mode.engine:
            return Fast(self.reference, mode=mode.engine, slots=self.batch)
        return Generate(self.reference, batch=1 if mode.name == "hf" else self.batch)


class Memory:
    """The most memory that was held inside: what torch allocates on CUDA, else resident memory."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.peak: int | None = None

    def __enter__(self) -> Self:
        _free()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            _reset_peak()
        _wait()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated()
        else:
            self.peak = _peak()


def _free() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _reset_peak() -> None:
    try:
        REFERENCES.write_text("5")  # proc(5): resets the peak resident size
    except OSError:
        return


def _peak() -> int | None:
    """Peak resident size in bytes; None where the system does not tell."""
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return sizes[0] if sizes else None


# --- rows of the table


def rows_of(
    found: Mapping[str, list[Round]], bench: Bench, device: Device | None
) -> Iterator[dict[str, Any]]:
    """A row for each mode; rooflines where `device` is known."""
    geometry = geometry_of(bench.reference.model)
    truth = found["hf"][0].account if "hf" in found else None
    for name, rounds in found.items():
        mode, account = MODES[name], rounds[0].account
        speeds = [done.pages_per_s for done in rounds]
        ratios = [
            speed / other.pages_per_s
            for speed, other in zip(speeds, found.get("hf", ()), strict=False)
        ]
        peaks = [done.peak_bytes for done in rounds if done.peak_bytes is not None]
        traced = bench.cases(mode.words_changed, mode.layer)[0].trace is not None
        yield {
            "mode": name,
            "pages": rounds[0].pages,
            "batch": bench.lanes[name],
            "words_changed": mode.words_changed if traced else None,
            "text_layer": mode.layer,
            "pages_per_s": statistics.median(speeds),
            "range": f"{min(speeds):.3g}-{max(speeds):.3g}",
            "rounds": speeds,
            "tokens_per_s": statistics.median(d.account.tokens / d.seconds for d in rounds),
            "tokens_per_page": _tokens_per_page(account),
            "tokens_per_step": account.tokens / account.sequence_passes,
            "passes": account.passes,
            "accepted": _share(account.right.total(), account.drafted.total()),
            "accepted_by_task": {
                task: _share(account.right[task], drafted)
                for task, drafted in account.drafted.items()
            },
            "ratio_to_hf": statistics.median(ratios) if ratios else None,
            "ratios": ratios,
            "first_line_s": statistics.median(done.first_line for done in rounds),
            "peak_memory_gb": max(peaks) / 1e9 if peaks else None,
            **_roofline(rounds, geometry, device),
            **(_agreement(account, truth) if truth and not traced else NO_AGREEMENT),
        }


def _tokens_per_page(account: Account) -> dict[str, float]:
    pages = account.written.values()
    return {task: statistics.mean(len(page[task]) for page in pages) for task in next(iter(pages))}


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _roofline(
    rounds: Sequence[Round], geometry: Geometry, device: Device | None
) -> dict[str, float | None]:
    """What `device` could do with the schedule of `rounds`, and how much of it was reached."""
    account = rounds[0].account
    read = geometry.decode_bytes(account.passes, account.attended)
    computed = sum(map(geometry.encode_flops, account.encoded))
    facts: dict[str, float | None] = {
        "decode_gb_per_page": read / rounds[0].pages / 1e9,
        "encode_tflop_per_page": computed / rounds[0].pages / 1e12,
        "encode_s": statistics.median(d.account.seconds["encode"] for d in rounds) or None,
        "decode_s": statistics.median(d.account.seconds["decode"] for d in rounds) or None,
        "roofline_pages_per_s": None,
        "roofline_share": None,
        "decode_bandwidth_share": None,
    }
    if device is None:
        return facts
    best = rounds[0].pages / device.seconds(read, computed)
    facts["roofline_pages_per_s"] = best
    facts["roofline_share"] = statistics.median(d.pages_per_s for d in rounds) / best
    if facts["decode_s"]:
        facts["decode_bandwidth_share"] = read / device.bandwidth / facts["decode_s"]
    return facts


NO_AGREEMENT = {"equal_tokens": None, "equal_pages": None}


def _agreement(account: Account, truth: Account) -> dict[str, float]:
    """The share of the tokens of `hf` before the first difference, and of pages without one."""
    same = whole = equal = 0
    for place, tasks in truth.written.items():
        for task, wanted in tasks.items():
            same += _common(account.written[place][task], wanted)
            whole += len(wanted)
        equal += account.written[place] == tasks
    return {"equal_tokens": same / whole, "equal_pages": equal / len(truth.written)}


def _common(found: Sequence[int], wanted: Sequence[int]) -> int:
    for place, (one, other) in enumerate(zip(found, wanted, strict=False)):
        if one != other:
            return place
    return min(len(found), len(wanted))


def forcing_seconds(reference: ReferenceEngine, cases: Sequence[Case]) -> float | None:
    """Seconds a token that forcing a trace costs `hf`, None where nothing is forced."""
    if cases[0].trace is None:
        return None
    model = reference.model
    lane = Generate(reference, batch=1)
    forcing = lane.forcing([cases[0].trace["ocr"]], 1, model.device)
    ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    scores = torch.zeros(1, model.config.text_config.vocab_size, device=model.device)
    spent = []
    for _ in range(50):
        _wait()
        began = time.perf_counter()
        forcing(ids, scores)
        _wait()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


# --- the command


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """All that is measured, as it goes into the JSON."""
    if options.threads:
        torch.set_num_threads(options.threads)
    reference = models.reference_of(
        options.model, device=options.device, dtype=options.dtype, limit=options.limit
    )
    cases = models.cases_of(
        options.model,
        reference,
        pages=options.pages,
        seed=options.seed,
        level=options.level,
        tokens=options.tokens,
    )
    traced = options.model in models.TRACED
    names = options.modes or (tuple(MODES) if traced else USUAL)
    bench = Bench(reference, cases, options.batch, min(options.hf_pages, options.pages))
    found = bench.rounds([MODES[name] for name in names], options.rounds)
    on_device = options.device == "cuda"
    device = Device(options.bandwidth, options.flops) if on_device else None
    rows = list(rows_of(found, bench, device))
    forcing = forcing_seconds(reference, cases(0.0, False))
    hf = next((row for row in rows if row["mode"] == "hf"), None)
    return {
        "model": options.model,
        "weights": sum(weight.numel() for weight in reference.model.parameters()),
        "device": torch.cuda.get_device_name() if on_device else "cpu",
        "dtype": str(reference.model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "attention_of_hf": reference.model.config._attn_implementation,  # noqa: SLF001 - no other
        "bandwidth": options.bandwidth if on_device else None,
        "flops": options.flops if on_device else None,
        "forcing_share_of_hf": forcing * hf["tokens_per_s"] if forcing and hf else None,
        "modes": rows,
        "stages": stages.measured() if options.stages else [],
    }


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", choices=("tiny", "nano", "full"), default="nano")
    parser.add_argument("--pages", type=_count, default=64)
    parser.add_argument("--rounds", type=_count, default=3)
    parser.add_argument("--batch", type=_count, default=32, help="pages held at once")
    parser.add_argument("--hf-pages", type=_count, default=64, help="that hf reads at most")
    parser.add_argument("--modes", type=_modes, help=f"of {','.join(MODES)}")
    parser.add_argument("--dtype", choices=("auto", *DTYPES), default="auto")
    parser.add_argument("--threads", type=_count, help="of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--level", type=_count, default=3, help="of drawn pages, for nano")
    parser.add_argument("--tokens", type=_count, help="of <ocr> on a page, for tiny and full")
    parser.add_argument(
        "--limit",
        type=_count,
        default=MAX_NEW_TOKENS,
        help="tokens that room is made for in each task, as in the reader",
    )
    parser.add_argument("--bandwidth", type=float, default=4.3e12, help="of CUDA, bytes a second")
    parser.add_argument("--flops", type=float, default=790e12, help="of CUDA, operations a second")
    parser.add_argument(
        "--stages", action=argparse.BooleanOptionalAction, default=True, help="on the host"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    parser.add_argument("--out", type=Path, help="write the JSON to this file too")
    return parser.parse_args(given)


def _count(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _modes(value: str) -> list[str]:
    names = [name.strip() for name in value.split(",") if name.strip()]
    for name in names:
        if name not in MODES:
            raise argparse.ArgumentTypeError(
                f"no mode is called {name!r}; choose of {','.join(MODES)}"
            )
    return names


def main() -> None:
    """Measure, then print the tables or their JSON."""
    options = arguments()
    document = report.header("torch", "transformers") | measured(options)
    rows, parts = document["modes"], document["stages"]
    report.show(document, rows=rows, columns=COLUMNS, as_json=options.json, out=options.out)
    if options.json:
        return
    print(f"\n{document['model']} on {document['device']}, {document['dtype']}")
    if parts:
        columns = tuple(parts[0])
        print("\n" + report.table(columns, ([row[name] for name in columns] for row in parts)))


if __name__ == "__main__":
    main()
