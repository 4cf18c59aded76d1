"""The ways of running KOSMOS-2.5 that stand side by side: `generate`, and our engine in its modes.

All take pages with pixels and end with text. Each says what it wrote, in how many passes, and what
its schedule read on the way.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import transformers
from traces import Case

from kosmos_loader.engine.pages import FastEngine
from kosmos_loader.engine.request import END, Feed, Request
from kosmos_loader.engine.runner import Runner
from kosmos_loader.readers.checkpoint import quiet_transformers
from kosmos_loader.readers.reference import ReferenceEngine, text_of

WARM_TOKENS = 32
"""Tokens of each task that are written to warm up on the CPU, where pages bring traces."""

Tokens = dict[str, list[int]]


@dataclass
class Account:
    """What a lane did."""

    written: dict[int, Tokens] = field(default_factory=dict)
    """Tokens by the place of the page and by task, the end token included."""

    sequence_passes: int = 0
    """Passes times sequences in them, those that have ended and go on all the same included."""

    passes: int = 0
    """Forward passes of the decoder, those for the prefix not counted."""

    attended: int = 0
    """Tokens whose keys and values these passes read."""

    encoded: list[int] = field(default_factory=list)
    """Patches of each page that was encoded, once for each time."""

    drafted: Counter[str] = field(default_factory=Counter)
    """Tokens drafted, by task."""

    right: Counter[str] = field(default_factory=Counter)
    """Drafted tokens that were kept, by task."""

    first_line: float | None = None
    """When the first line of any page was complete, on the clock of `time.perf_counter`."""

    seconds: Counter[str] = field(default_factory=Counter)
    """Seconds of the device in "encode" and "decode", where the lane can tell."""

    @property
    def tokens(self) -> int:
        """Tokens written in all."""
        return sum(len(ids) for page in self.written.values() for ids in page.values())


class Lane(Protocol):
    """A way of running the model."""

    together: int
    """Pages read side by side."""

    def warm_up(self, cases: Sequence[Case]) -> None:
        """Runs some of `cases`; nothing of it is measured."""

    def read(self, cases: Sequence[Case]) -> Account:
        """Reads `cases` to the end."""


# --- transformers


class Generate:
    """`generate` of transformers on batches of pages, one task after the other."""

    def __init__(self, reference: ReferenceEngine, *, batch: int) -> None:
        self.reference = reference
        self.together = batch
        self.tokenizer = reference.processor.tokenizer
        self.bbox = self.tokenizer.convert_tokens_to_ids("<bbox>")

    def warm_up(self, cases: Sequence[Case]) -> None:
        """A batch for a few tokens; batches are halved until the memory suffices."""
        while True:
            try:
                self._read(cases[: self.together], Account(), most=4)
            except torch.OutOfMemoryError:
                if self.together == 1:
                    raise
            else:
                return
            torch.cuda.empty_cache()
            self.together //= 2

    def read(self, cases: Sequence[Case]) -> Account:
        """Reads `cases` to the end."""
        account = Account()
        self._read(cases, account, most=self.reference.limit)
        return account

    def _read(self, cases: Sequence[Case], account: Account, *, most: int) -> None:
        reference = self.reference
        places = list(enumerate(cases))
        for first in range(0, len(places), self.together):
            group = places[first : first + self.together]
            found = [reference.patches(case.page) for _, case in group]
            patches = torch.stack([pixels for pixels, _ in found]).to(reference.model.device)
            for task, prompt in reference.prompts.items():
                forced = [case.trace[task] for _, case in group if case.trace]
                rows = self._rows(patches, prompt, forced, account, most)
                for (place, _), row in zip(group, rows, strict=True):
                    account.written.setdefault(place, {})[task] = row
                    text_of(self.tokenizer, row)
                self._charge(account, rows, [size for _, size in found], prompt)

    def _rows(
        self,
        patches: Any,
        prompt: Mapping[str, Any],
        forced: Sequence[Sequence[int]],
        account: Account,
        most: int,
    ) -> list[list[int]]:
        inputs = {
            name: row.to(patches.device).expand(patches.shape[0], -1)
            for name, row in prompt.items()
        }
        start = inputs["input_ids"].shape[1]
        options: dict[str, Any] = {}
        if forced:
            forcing = self.forcing(forced, start, patches.device)
            options["logits_processor"] = transformers.LogitsProcessorList([forcing])
        watch = None
        if account.first_line is None:
            watch = _FirstLine(start, self.bbox)
            options["stopping_criteria"] = transformers.StoppingCriteriaList([watch])
        with torch.inference_mode(), quiet_transformers():
            ids = self.reference.model.generate(
                **inputs, flattened_patches=patches, max_new_tokens=most, **options
            )
        rows: list[list[int]] = ids[:, start:].tolist()
        if watch is not None:
            account.first_line = watch.when or time.perf_counter()
        end = self.tokenizer.eos_token_id
        return [row[: row.index(end) + 1] if end in row else row for row in rows]

    def forcing(self, forced: Sequence[Sequence[int]], start: int, device: Any) -> Forcing:
        """What makes `generate` write `forced` behind a prompt of `start` tokens."""
        longest = max(map(len, forced))
        end = self.tokenizer.eos_token_id
        padded = [[*tokens, *[end] * (longest - len(tokens))] for tokens in forced]
        return Forcing(torch.tensor(padded, device=device), start)

    def _charge(
        self,
        account: Account,
        rows: Sequence[Sequence[int]],
        sizes: Sequence[tuple[int, int]],
        prompt: Mapping[str, Any],
    ) -> None:
        """Enters what the schedule of a batch is: all rows go on until the longest ends."""
        longest, count = max(map(len, rows)), len(rows)
        start = prompt["input_ids"].shape[1]
        account.sequence_passes += longest * count
        # the first token comes from the pass of the prompt, which reads the weights as well
        account.passes += longest
        account.attended += count * sum(start + step for step in range(1, longest))
        account.encoded += [width * height // 256 for width, height in sizes]


class Forcing(transformers.LogitsProcessor):
    """Makes `generate` write a trace: all that it computes stands, but for the last choice."""

    def __init__(self, tokens: Any, start: int) -> None:
        self.tokens = tokens
        self.start = start

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """`scores` with one likely token in each row."""
        step = input_ids.shape[1] - self.start
        scores = torch.full_like(scores, -torch.inf)
        return scores.scatter_(1, self.tokens[:, step : step + 1], 0.0)


class _FirstLine(transformers.StoppingCriteria):
    """Stops nothing, and knows when the first row has a whole line: when the next box begins."""

    def __init__(self, start: int, bbox: int) -> None:
        self.start = start
        self.bbox = bbox
        self.when: float | None = None

    def __call__(self, input_ids: Any, *_: Any, **__: Any) -> Any:
        """False for each row."""
        if self.when is None and int((input_ids[0, self.start :] == self.bbox).sum()) > 1:
            self.when = time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


# --- our engine


class Fast:
    """Our engine in one of its modes."""

    def __init__(self, reference: ReferenceEngine, *, mode: str, slots: int) -> None:
        self.fast = FastEngine(
            reference.model,
            reference.processor,
            prompts=reference.prompts,
            limit=reference.limit,
            max_patches=reference.max_patches,
            slots=slots,
            mode=mode,
        )
        self.together = self.fast.slots

    def warm_up(self, cases: Sequence[Case]) -> None:
        """On CUDA as many pages as are held, to their end, since graphs are captured by the shape
        of a step; else two pages for a few tokens.
        """
        if self.fast.kosmos.tokens.is_cuda:
            self.read(cases[: self.together])
        else:
            self.read([case.cut(WARM_TOKENS) for case in cases[:2]])

    def read(self, cases: Sequence[Case]) -> Account:
        """Reads `cases` to the end; raises what a page failed with."""
        account = Account()
        session = self.fast.session()
        watched = [Watched(runner, cases, self.fast, account) for runner in session.runners]
        for engine, runner in zip(session.engines, watched, strict=True):
            engine.runner = runner
        try:
            for place, case in enumerate(cases):
                session.add(place, case.page)
                while session.is_full:
                    _check(session.advance())
            while session.engine.has_work:
                _check(session.advance())
            account.seconds = sum((own.stopwatch.seconds() for own in watched), Counter())
        finally:
            session.close()
        end = self.fast.tokenizer.eos_token_id
        for place, request in (item for own in watched for item in own.requests.items()):
            account.encoded.append(int(request.patches.pixels.shape[0]))
            account.written[place] = {
                s.task: [*s.tokens, *([end] if s.finish == END else [])] for s in request.sequences
            }
            account.sequence_passes += sum(s.steps for s in request.sequences)
        self.together = sum(own.slots for own in watched)
        return account


def _check(outcomes: Sequence[tuple[Any, Any]]) -> None:
    for _, outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


class Watched:
    """The engine's runner with an account of what it does.

    Where pages bring traces it runs the model and says what the traces say; without a `runner` it
    says only that.
    """

    def __init__(
        self, runner: Runner | None, cases: Sequence[Case], fast: FastEngine, account: Account
    ) -> None:
        self.runner = runner
        self.cases = cases
        self.account = account
        self.slots = runner.slots if runner else len(cases)
        self.prefix = fast.kosmos.prefix
        self.end = fast.tokenizer.eos_token_id
        self.bbox = fast.vocabulary.bbox
        self.requests: dict[Any, Request] = {}
        self.stopwatch = Stopwatch(fast.kosmos.tokens.device)

    def admit(self, requests: Sequence[Request]) -> None:
        """As the runner does."""
        self.requests |= {request.key: request for request in requests}
        if requests and self.runner:
            with self.stopwatch.running("encode"):
                self.runner.admit(requests)

    def move(self, moves: Sequence[tuple[int, int]]) -> None:
        """As the runner does."""
        if self.runner:
            self.runner.move(moves)

    def launch(self, feeds: Sequence[Feed]) -> tuple[Sequence[Feed], Any]:
        """As the runner does."""
        account = self.account
        account.passes += 1
        account.attended += self.prefix * len({feed.row for feed in feeds})
        account.attended += sum(feed.place + len(feed.tokens) for feed in feeds)
        if not self.runner:
            return feeds, None
        with self.stopwatch.running("decode"):
            return feeds, self.runner.launch(feeds)

    def read_back(self, launched: tuple[Sequence[Feed], Any]) -> list[list[int]]:
        """What the model predicts, or what the trace says that it does."""
        feeds, own = launched
        predicted = self.runner.read_back(own) if self.runner else []
        if self.cases[0].trace is None:
            return predicted
        return [self._told(feed) for feed in feeds]

    def _told(self, feed: Feed) -> list[int]:
        trace = self.cases[feed.request.key].trace
        assert trace is not None  # noqa: S101 - all cases bring traces or none does
        count = len(feed.tokens)
        told = trace[feed.sequence.task][feed.place : feed.place + count]
        return [*told, *[self.end] * (count - len(told))]

    def keep(self, feeds: Sequence[Feed], kept: Sequence[int]) -> None:
        """As the runner does."""
        account = self.account
        for feed, count in zip(feeds, kept, strict=True):
            if len(feed.tokens) > 1:
                account.drafted[feed.sequence.task] += len(feed.tokens) - 1
                account.right[feed.sequence.task] += count - 1
        if account.first_line is None and any(map(self._has_line, feeds)):
            account.first_line = time.perf_counter()
        if self.runner:
            with self.stopwatch.running("decode"):
                self.runner.keep(feeds, kept)

    def _has_line(self, feed: Feed) -> bool:
        sequence = feed.sequence
        if sequence.task != "ocr":
            return False
        return sequence.is_finished or sequence.tokens.count(self.bbox) > 1

    def resize(self, slots: int) -> None:
        """As the runner does."""
        self.slots = slots
        if self.runner:
            self.runner.resize(slots)


class Stopwatch:
    """Seconds of a device by what it did: by its own events on CUDA, else by the clock."""

    def __init__(self, device: Any) -> None:
        self.is_cuda = device.type == "cuda"
        self._events: list[tuple[str, Any, Any]] = []
        self._seconds: Counter[str] = Counter()

    @contextmanager
    def running(self, what: str) -> Iterator[None]:
        """Counts the time inside as that of `what`."""
        if not self.is_cuda:
            began = time.perf_counter()
            yield
            self._seconds[what] += time.perf_counter() - began
            return
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        yield
        ended.record()
        self._events.append((what, began, ended))

    def seconds(self) -> Counter[str]:
        """Seconds so far; waits for the device."""
        if self.is_cuda:
            torch.cuda.synchronize()
        for what, began, ended in self._events:
            self._seconds[what] += began.elapsed_time(ended) / 1000
        self._events.clear()
        return self._seconds
