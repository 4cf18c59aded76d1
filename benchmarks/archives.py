"""The archives that are asked: their files and questions, their readers, and a store of each."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import report
import truth

from kosmos_loader.archive import ingest
from kosmos_loader.document import Hit, Page, Reading
from kosmos_loader.readers.base import PageReader, choose_reader
from kosmos_loader.store import Store
from kosmos_loader.testing import ScriptedReader

SETS: dict[str, tuple[Callable[[], Iterable[truth.Case]], Callable[[], Iterable[truth.Question]]]]
SETS = {
    "receipts": (truth.receipts, truth.receipt_questions),
    "archive": (truth.archive, truth.archive_questions),
}


class Remembered:
    """A reader whose readings are kept in a folder."""

    def __init__(self, reader: PageReader, folder: Path) -> None:
        self.name, self.version = reader.name, reader.version
        self._reader = reader
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """The kept reading of the same pixels by the same version, or a new one."""
        for page in pages:
            key = f"{page.digest} {self.name} {self.version}"
            kept = (
                self._folder / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.json"
            )
            if page.error is None and kept.exists():
                reading = Reading.from_dict(json.loads(kept.read_text(encoding="utf-8")))
                yield replace(reading, page=page.info)
                continue
            (reading,) = self._reader.read([page])
            if reading.error is None:
                kept.write_text(json.dumps(reading.to_dict()), encoding="utf-8")
            yield reading


def transcripts(cases: Iterable[truth.Case]) -> PageReader:
    """A reader that knows what is written."""
    return ScriptedReader(
        {
            (str(case.path), case.page): {"lines": case.lines or (), "angle": case.angle}
            for case in cases
        },
        name="truth",
    )


def chosen_reader(name: str, cases: Iterable[truth.Case], cache: Path | None) -> PageReader:
    """The reader called `name`, "truth" for the transcripts; its readings kept in `cache`."""
    if name == "truth":
        return transcripts(cases)
    reader = choose_reader(name)
    return Remembered(reader, cache) if cache else reader


@contextmanager
def indexed(paths: Iterable[Path], reader: PageReader, *, name: str) -> Iterator[Store]:
    """A store with what `reader` reads of the files `paths`, gone afterwards."""
    with tempfile.TemporaryDirectory() as folder, Store.open(folder) as store:
        done = ingest([str(path) for path in paths], store, reader)
        print(f"{name}: {done.pages} pages, {done.chunks} chunks", file=sys.stderr)
        yield store


def hits_of(question: truth.Question, store: Store) -> list[Hit]:
    """What is found for `question`: five chunks, of its file alone if it is about one file."""
    within = {"source": str(question.path)} if question.kind == "one-page" else None
    return store.search(question.question, k=5, filter=within)


def on_page(hit: Hit, question: truth.Question) -> bool:
    """Whether `hit` stands on the page that holds the answer."""
    pages = {page for page, _ in hit.chunk.boxes()} or {hit.chunk.page}
    return hit.chunk.source == str(question.path) and question.page in pages


def parser(description: str, *, readers: tuple[str, ...]) -> argparse.ArgumentParser:
    """The options that the scripts share."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--sets", default=",".join(SETS), help="which archives (default: %(default)s)"
    )
    made.add_argument("--reader", choices=readers, default=readers[0])
    made.add_argument("--limit", type=int, help="files of each set")
    made.add_argument("--cache", type=Path, help="folder for readings")
    made.add_argument("--json", action="store_true", help="print JSON, with each question, instead")
    made.add_argument("--out", type=Path, help="write the JSON to this file too")
    return made


def names_of(options: argparse.Namespace, made: argparse.ArgumentParser) -> list[str]:
    """The sets that were asked for."""
    names: list[str] = options.sets.split(",")
    for name in names:
        if name not in SETS:
            made.error(f"no set is called {name!r}; choose of {', '.join(SETS)}")
    return names


def files_and_questions(
    name: str, limit: int | None
) -> tuple[list[truth.Case], list[Path], list[truth.Question]]:
    """Cases, files and questions of a set, the first `limit` files of it."""
    cases_of, questions_of = SETS[name]
    cases = list(cases_of())
    paths = list(dict.fromkeys(case.path for case in cases))[:limit]
    return cases, paths, [q for q in questions_of() if q.path is None or q.path in paths]


def summaries(
    rows: list[dict[str, Any]], scores: Sequence[str], **facts: str
) -> Iterator[dict[str, Any]]:
    """Means of `scores` over the questions of each kind, and the questions."""
    for kind in dict.fromkeys(row["kind"] for row in rows):
        same = [row for row in rows if row["kind"] == kind]
        means = {score: report.mean(row[score] for row in same) for score in scores}
        yield {**facts, "kind": kind, "questions": len(same), **means, "detail": same}


Run = Callable[[str, argparse.Namespace], Iterator[dict[str, Any]]]
"""The summaries of a set."""


def show(run: Run, options: argparse.Namespace, *, columns: Sequence[str]) -> None:
    """Print what `run` finds of the sets asked for as one table or its JSON."""
    facts = report.header("kosmos-loader", "rapidocr", "onnxruntime", "faiss-cpu")
    results: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for name in options.sets:
        if not any(SETS[name][0]()):
            skipped[name] = "its pages are not on this machine"
            print(f"{name} is left out: {skipped[name]}", file=sys.stderr)
            continue
        results.extend(run(name, options))
    report.show(
        facts | {"sets": results, "skipped": skipped},
        rows=results,
        columns=columns,
        as_json=options.json,
        out=options.out,
    )
