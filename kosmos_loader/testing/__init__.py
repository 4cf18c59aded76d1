"""Fakes for tests of whatever is built on this package; they replace a part and patch nothing.

`ScriptedReader` stands in for a reader and says what it is told to, `tiny_kosmos` writes a random
tiny KOSMOS-2.5 for the real one to load, `nano_kosmos` is a small one that can read the pages of
`testing.drawn`, and `HashEmbedder` is an embedder that needs no model.
Importing this module loads none of torch and transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kosmos_loader.document import Failure, Line, Page, PageInfo, Reading
from kosmos_loader.errors import KosmosLoaderError, ModelError, ReadingError
from kosmos_loader.testing.tiny import tiny_kosmos

if TYPE_CHECKING:
    from kosmos_loader.embedding import HashEmbedder

__all__ = ["HashEmbedder", "ScriptedReader", "nano_kosmos", "tiny_kosmos"]

_ASSETS = Path(__file__).parents[2] / "tests" / "assets"

Part = str | Line | Iterable[Line] | Mapping[str, Any] | Exception | Failure | None
"""What a script says about a page: its markdown, a line or lines, fields of `Reading` by name
({"markdown": ..., "lines": ..., "flags": ...}), an error to fail with, or None for nothing."""

Key = int | str | tuple[str, int]
"""A page: by its number, by the digest of its pixels, or by the name or path of its file and its
number."""

Script = Mapping[Any, Part] | Sequence[Part] | Callable[[Page], Part]
"""Parts by `Key`; parts in the order in which pages come; or a function from page to part."""


class ScriptedReader:
    """A `PageReader` that reads what the script says.

    Of a mapping, the entry for file and number goes before the digest, and that before the number.
    A page on which the script says nothing (no entry, or the sequence is used up) fails, so that a
    test sees it; so does one on which the function raises one of our errors. `seen` lists the pages
    that were read, in order, for tests of what is read again and what is not.
    """

    def __init__(self, script: Script, *, name: str = "scripted", version: str = "1") -> None:
        self.script = script
        self.name = name
        self.version = version
        self.seen: list[PageInfo] = []

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """Readings of `pages`, one each, in order; pages are taken one at a time."""
        for page in pages:
            if page.error is not None:
                yield Reading.failed(page, self.name, self.version, page.error)
                continue
            self.seen.append(page.info)
            yield self._reading(page)

    def _reading(self, page: Page) -> Reading:
        try:
            part = self._part(page)
        except KosmosLoaderError as error:
            part = error
        if isinstance(part, Exception):
            part = Failure.of(part)
        if isinstance(part, Failure):
            return Reading.failed(page, self.name, self.version, part)
        return Reading(page.info, self.name, self.version, **_fields(part))

    def _part(self, page: Page) -> Part:
        if callable(self.script):
            return self.script(page)
        if isinstance(self.script, Mapping):
            for key in _keys(page):
                if key in self.script:
                    part: Part = self.script[key]
                    return part
        elif len(self.seen) <= len(self.script):
            return self.script[len(self.seen) - 1]
        raise ReadingError(f"the script says nothing about page {page.number} of {page.source}")


def nano_kosmos() -> Path:
    """The folder with a small KOSMOS-2.5 that reads the pages of `kosmos_loader.testing.drawn`.

    Trained by `kosmos_loader.training`; the README beside it says how, and how well it reads. It
    stands in the repository and not in the installed package: `ModelError` where there is only
    that.
    """
    folder = _ASSETS / "kosmos-2.5-nano"
    if not (folder / "model.safetensors").is_file():
        raise ModelError(
            f"{folder} is not there: the small model comes with a checkout of the repository and "
            "not with the installed package; clone it, or train one with: kosmos-loader train RUN "
            "--from scratch"
        )
    return folder


def _keys(page: Page) -> list[Key]:
    name = Path(page.source).name
    return [(page.source, page.number), (name, page.number), page.digest, page.number]


def _fields(part: str | Line | Iterable[Line] | Mapping[str, Any] | None) -> dict[str, Any]:
    if part is None:
        return {}
    if isinstance(part, str):
        return {"markdown": part}
    if isinstance(part, Line):
        return {"lines": (part,)}
    if isinstance(part, Mapping):
        tuples = {name: tuple(part[name]) for name in ("lines", "flags") if name in part}
        return {**part, **tuples}
    return {"lines": tuple(part)}


def __getattr__(name: str) -> Any:
    if name == "HashEmbedder":
        from kosmos_loader.embedding import HashEmbedder

        return HashEmbedder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
