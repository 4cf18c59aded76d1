"""KOSMOS-2.5 as a page reader.

Lv et al., "KOSMOS-2.5: A Multimodal Literate Model", arXiv 2309.11419. The model sees a page as at
most 4,096 patches of 16 x 16 pixels and answers two prompts: text lines with boxes, and markdown.
It is run by our engine, or by transformers' own `generate`, which is slow and what the engine is
measured by.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kosmos_loader.document import Failure, Page, PageInfo, Reading
from kosmos_loader.errors import ReadingError, UsageError, require
from kosmos_loader.readers.base import DEFAULT_MODEL
from kosmos_loader.readers.blank import is_blank
from kosmos_loader.readers.checkpoint import (
    TASKS,
    folder_of,
    load,
    patches_seen,
    prompt_of,
    room_behind,
    torch_device,
    weights_digest,
)
from kosmos_loader.readers.devices import DeviceEngines
from kosmos_loader.readers.outputs import Outcome, Written, reading_from
from kosmos_loader.readers.reference import ReferenceEngine

ENGINES = ("fast", "reference")
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

MAX_NEW_TOKENS = 2044
"""The context of 4,096 tokens that the model was trained on, less the prompt of 2,052."""

CODE_VERSION = 2
"""Raised whenever the same weights and pixels come out as another reading."""


@dataclass(eq=False, slots=True)
class _Place:
    """A page's place in the order of the readings."""

    page: PageInfo
    reading: Reading | None


class KosmosPageReader:
    """Reads pages with KOSMOS-2.5: lines with boxes (task "ocr") and markdown (task "md").

    `model` is a local folder or a hub id, of which only safetensors and no code are loaded;
    `revision` pins a commit of the hub. `dtype` "auto" is bf16 on CUDA and fp32 on the CPU;
    `device` "auto" is CUDA where it is there. `engine` "fast" is our own, "reference" is the
    `generate` of transformers; in fp32 both write the same tokens, in half precision they part
    where two tokens are nearly as likely.

    `batch_size` pages are read side by side. By default the fast engine holds as many as the memory
    has room for (up to 64 on CUDA, 16 on the CPU), the reference 4 on CUDA and 1 on the CPU; where
    memory does not suffice, fewer are.

    `devices` (["cuda:0", "cuda:1"]) is in place of `device`: each gets a process with the model in
    it, and `batch_size` is that of each; where one is named twice, its memory is shared, and
    `batch_size` is better given. They read the same as one device does, and a page that ends its
    process twice is a failed reading. The processes are there when the reader is; they end when it
    is closed or deleted, or when what `read` gave is closed before its end, and are started anew
    for pages that come later. They are spawned, so a script needs the usual
    `if __name__ == "__main__"`; only one thread at a time may use such a reader.

    The reading of a page is flagged "blank" where there is nothing to read, "truncated" where the
    model did not end within `max_new_tokens` (at most what its context leaves), and "repetition"
    where it wrote the same over and over: if it never ended, the copies are cut off. The fast
    engine stops when it sees such copies; the reference writes on and may get out of them.

    `MissingExtra` where torch or transformers are not installed, `ModelError` where the weights are
    not there or are not those of a KOSMOS-2.5, `UsageError` for an argument that cannot be meant.
    """

    name = "kosmos-2.5"

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        *,
        engine: str = "fast",
        dtype: str = "auto",
        device: str = "auto",
        devices: Sequence[str] | None = None,
        revision: str | None = None,
        tasks: Sequence[str] = ("ocr", "md"),
        batch_size: int | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        _check("engine", engine, ENGINES)
        _check("dtype", dtype, ("auto", *DTYPES))
        if not tasks or isinstance(tasks, str):
            raise UsageError(f"tasks is {tasks!r}; give a list with 'ocr', 'md' or both")
        for task in tasks:
            _check("task", task, TASKS)
        if max_new_tokens < 1 or (batch_size is not None and batch_size < 1):
            raise UsageError("max_new_tokens and batch_size must be at least 1")
        torch = require("torch", extra="kosmos")
        require("transformers", extra="kosmos")
        self.devices = _devices(device, devices)
        self.device = self.devices[0]
        if dtype == "auto":
            dtype = "bf16" if self.device.type == "cuda" else "fp32"
        folder = folder_of(model, revision)
        self.dtype = getattr(torch, DTYPES[dtype])
        self.tasks = tuple(task for task in TASKS if task in tasks)
        self.engine: Any
        if devices is not None:
            self._start_processes(
                model=folder,
                engine=engine,
                dtype=dtype,
                tasks=self.tasks,
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
            )
            return
        loaded, self.processor = load(folder, dtype=self.dtype, device=self.device)
        prompts = {task: prompt_of(self.processor, TASKS[task]) for task in self.tasks}
        self.max_new_tokens = min(max_new_tokens, room_behind(loaded, prompts))
        self.max_patches = patches_seen(loaded, self.processor)
        self.version = (
            f"{weights_digest(folder)}-{dtype}-{'+'.join(self.tasks)}"
            f"-{self.max_new_tokens}-{engine}-{CODE_VERSION}"
        )
        shared: dict[str, Any] = {
            "prompts": prompts,
            "limit": self.max_new_tokens,
            "max_patches": self.max_patches,
        }
        if engine == "reference":
            self.batch_size = batch_size or (4 if self.device.type == "cuda" else 1)
            self.engine = ReferenceEngine(
                loaded, self.processor, **shared, batch_size=self.batch_size
            )
            return
        from kosmos_loader.engine.pages import FastEngine

        self.engine = FastEngine(loaded, self.processor, **shared, slots=batch_size)
        self.batch_size = self.engine.slots

    def _start_processes(self, **options: Any) -> None:
        self.engine = DeviceEngines([str(device) for device in self.devices], **options)
        facts = self.engine.facts
        self.version = facts.version
        self.batch_size = facts.batch_size
        self.max_new_tokens = facts.max_new_tokens
        self.max_patches = facts.max_patches

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """Readings of `pages`, one each, in order.

        At most `batch_size` pages are held; with `devices`, twice as many of each. What is blank,
        failed or read before its turn waits as a reading.
        """
        line: deque[_Place] = deque()
        session = self.engine.session()
        try:
            for page in pages:
                place = _Place(page.info, self._without_model(page))
                line.append(place)
                if place.reading is None:
                    session.add(place, page)
                while session.is_full:
                    self._settle(session.advance())
                yield from _read(line)
            while line:
                self._settle(session.advance())
                yield from _read(line)
        finally:
            session.close()

    def close(self) -> None:
        """Ends the processes of `devices`; of one device, it frees what is kept between readings.

        The reader can be used all the same, and takes both up again.
        """
        self.engine.close()

    def _without_model(self, page: Page) -> Reading | None:
        """The reading of a page that the model need not see.

        A blank page is not shown to it: a decoder has to write something, and on an empty page it
        makes it up.
        """
        if page.error is not None:
            return Reading.failed(page, self.name, self.version, page.error)
        if is_blank(page.image):
            return Reading(page.info, self.name, self.version, flags=("blank",))
        return None

    def _settle(self, outcomes: Iterable[Outcome]) -> None:
        """Puts what came of pages into their places."""
        for place, outcome in outcomes:
            assert isinstance(place, _Place)  # noqa: S101 - the keys are our own
            place.reading = self._reading(place.page, outcome)

    def _reading(self, page: PageInfo, outcome: Written | Exception) -> Reading:
        if isinstance(outcome, Written):
            return reading_from(page, outcome, reader=self.name, version=self.version)
        reason = ReadingError(
            f"KOSMOS-2.5 failed on page {page.number} ({type(outcome).__name__}: {outcome}); read "
            "it with a smaller batch_size, on the CPU, or with the rapidocr reader"
        )
        return Reading.failed(page, self.name, self.version, Failure.of(reason))


def _read(line: deque[_Place]) -> Iterator[Reading]:
    """Takes the readings that are there from the head of `line`."""
    while line and (reading := line[0].reading) is not None:
        line.popleft()
        yield reading


def _check(what: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise UsageError(f"no {what} is called {value!r}; choose one of {', '.join(known)}")


def _devices(one: str, several: Sequence[str] | None) -> tuple[Any, ...]:
    if several is None:
        return (torch_device(one),)
    if one != "auto" or not several or isinstance(several, str):
        raise UsageError(
            f"devices is {several!r} and device {one!r}; give a list of devices and no device"
        )
    found = tuple(torch_device(name) for name in several)
    if len({device.type for device in found}) > 1:
        raise UsageError(f"devices of different kinds read differently: {', '.join(several)}")
    return found
