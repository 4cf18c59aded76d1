"""What KOSMOS-2.5 wrote for a page, whichever way it was run, and the reading it makes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kosmos_loader import markup
from kosmos_loader.document import FLAGS, Line, Page, PageInfo, Reading


@dataclass(frozen=True, slots=True)
class Output:
    """What the model wrote for one task on one page."""

    text: str
    """Decoded with its tags, without the end token."""

    ended: bool
    """Whether the end token came within the limit."""


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote for one page."""

    outputs: Mapping[str, Output]
    """By task: "ocr", "md"."""

    size: tuple[int, int]
    """Width and height of the resized page in pixels, which boxes are counted in."""


Outcome = tuple[Hashable, Written | Exception]
"""The key under which a page was added, and what came of it."""


class Session(Protocol):
    """Pages on their way through the model; ended by `close`, whatever is still under way."""

    @property
    def is_full(self) -> bool:
        """Whether `advance` is due before another page is added."""

    def add(self, key: Hashable, page: Page) -> None:
        """Takes a page with pixels."""

    def advance(self) -> list[Outcome]:
        """Goes on with the pages that were added; those that are done, in any order."""

    def close(self) -> None:
        """Frees what the session holds."""


def reading_from(page: PageInfo, written: Written, *, reader: str, version: str) -> Reading:
    """The reading that the outputs of the tasks make together."""
    outputs = written.outputs
    loops = {task: markup.find_repetition(output.text) for task, output in outputs.items()}
    texts = {
        task: output.text if output.ended else output.text[: loops[task]]
        for task, output in outputs.items()
    }
    lines: tuple[Line, ...] = ()
    rejected = 0
    if "ocr" in texts:
        width, height = written.size
        parsed = markup.parse_ocr(texts["ocr"], width=width, height=height)
        lines, rejected = parsed.lines, parsed.rejected
    markdown = markup.parse_markdown(texts["md"]) if "md" in texts else None
    told = {
        "blank": not any(text.strip() for text in texts.values()),
        "truncated": not all(output.ended for output in outputs.values()),
        "repetition": any(loop is not None for loop in loops.values()),
    }
    flags = tuple(flag for flag in FLAGS if told.get(flag, False))
    return Reading(
        page, reader, version, lines=lines, markdown=markdown, flags=flags, rejected=rejected
    )
