"""How fast a store adds, searches, filters, deletes and opens, next to the FAISS stores of others.

    python benchmarks/store.py [--sizes 10000,100000,1000000] [--dim 384] [--questions N]
                               [--systems kosmos,langchain,llamaindex] [--folder DIR]
                               [--json] [--out FILE]

All systems are given the same vectors (in clusters, of length 1), texts of 40 words whose
frequencies fall as Zipf's law has it, and questions: a vector of the same clusters, and five words
of a text. `langchain` is langchain_community's FAISS with a flat L2 index, `llamaindex` the
FaissMapVectorStore over IndexIDMap2 of a flat index: both keep vectors in memory, exactly, and are
written when asked to; the second keeps no texts. Those that are not installed are left out. Each
size and system has a process to build its store, a fresh one to search it and a third one to
change it. Set OMP_NUM_THREADS to say how many threads FAISS has.

add_s           entries added a second, vectors given, with all that makes them safe on the disk;
                for the others, in memory
save_s          what closing takes after that, and for the others saving
build_mb        peak memory of the process that adds
open_s          opening in a fresh process, libraries imported
first_s         the same with a first search
dense_ms        median of a search by vector for 10
recall          share of the true 10 nearest among them
hybrid_ms       median of a search by vector and words
filter_ms       median of a search by vector with a filter on metadata that keeps 1 in 100
filter_recall   share of the true 10 nearest of those; langchain looks at its 20 first hits (its
                default) or, in `langchain-all`, at all
search_mb       peak memory of the process that opens and searches
delete_s        deleting 1,000 by id
one_more_s      opening, adding one more and closing or saving
folder_mb       size on the disk

A second table has the same in time of the processor, which others at work on the machine change
less: a search in it takes what it would take there alone, with one thread.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import report
from numpy.typing import NDArray

from kosmos_loader.embedding import GivenVectors
from kosmos_loader.store import Entry, Store

Matrix = NDArray[np.float32]

K = 10
GROUPS = 100
BATCH = 8192
DELETED = 1000
CLUSTER = 200
"""Vectors that lie around one centre, in the mean."""

COMMON = (
    *("the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "as", "was", "with", "be"),
    *("by", "on", "are", "or", "from", "at", "which", "but", "have", "an", "had", "they", "you"),
    *("were", "their", "we", "can", "has", "will", "would", "been", "who", "when", "there"),
)
"""The most frequent words of the texts."""

TIMES = (
    *("add_s", "save_s", "open_s", "first_s", "dense_ms", "hybrid_ms", "filter_ms"),
    *("delete_s", "one_more_s"),
)
COLUMNS = (
    *("size", "system", "add_s", "save_s", "build_mb", "open_s", "first_s", "dense_ms", "recall"),
    *("hybrid_ms", "filter_ms", "filter_recall", "search_mb", "delete_s", "one_more_s"),
    "folder_mb",
)


class Item(NamedTuple):
    """What is added."""

    name: str
    text: str
    group: int


class Question(NamedTuple):
    """What is searched for, with the numbers of the true nearest: of all, and of the group."""

    vector: Matrix
    text: str
    group: int
    nearest: list[int]
    nearest_of_group: list[int]


# What is added and searched for


def clustered(count: int, dim: int, seed: int, clusters: int) -> Matrix:
    """[count, dim]: vectors of length 1 around `clusters` centres, which all seeds share."""
    fixed = np.random.default_rng(clusters)
    centres = fixed.standard_normal((clusters, dim), np.float32)
    chance = np.random.default_rng(seed)
    vectors = centres[chance.integers(0, clusters, count)]
    vectors += chance.standard_normal((count, dim), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


class Corpus:
    """The items of a benchmark and their vectors, in a file that is read a batch at a time."""

    def __init__(self, folder: Path, size: int, dim: int) -> None:
        self.size, self.dim = size, dim
        self._path = folder / f"vectors-{size}.f32"
        self._questions = folder / f"questions-{size}.json"

    def make(self, questions: int) -> None:
        """Write vectors and questions."""
        clusters = max(1, self.size // CLUSTER)
        with self._path.open("wb") as file:
            for start in range(0, self.size, BATCH):
                part = clustered(min(BATCH, self.size - start), self.dim, start + 1, clusters)
                file.write(part.tobytes())
        asked = clustered(questions, self.dim, self.size + 1, clusters)
        best = [[(-1.0, -1)] * K for _ in asked]
        in_group = [[(-1.0, -1)] * K for _ in asked]
        for start, part in self.vectors():
            scores = asked @ part.T
            for place, row in enumerate(scores):
                best[place] = _best(best[place], row, start, np.arange(len(row)))
                of_group = np.arange((place - start) % GROUPS, len(row), GROUPS)
                in_group[place] = _best(in_group[place], row, start, of_group)
        some, chance = texts(1, BATCH), random.Random(1)
        rows = [
            {
                "vector": vector.tolist(),
                "text": " ".join(chance.sample(chance.choice(some).split(), 5)),
                "group": place % GROUPS,
                "nearest": [number for _, number in best[place]],
                "nearest_of_group": [number for _, number in in_group[place] if number >= 0],
            }
            for place, vector in enumerate(asked)
        ]
        self._questions.write_text(json.dumps(rows))

    def vectors(self) -> Iterator[tuple[int, Matrix]]:
        """The number of the first, and the vectors of a batch."""
        with self._path.open("rb") as file:
            start = 0
            while data := file.read(BATCH * 4 * self.dim):
                part = np.frombuffer(data, np.float32).reshape(-1, self.dim)
                yield start, part
                start += len(part)

    def batches(self) -> Iterator[tuple[list[Item], Matrix]]:
        """All items, with their vectors."""
        for start, part in self.vectors():
            written = enumerate(texts(start + 1, len(part)), start)
            yield [Item(f"e{n}", text, n % GROUPS) for n, text in written], part

    def questions(self) -> list[Question]:
        """What is asked."""
        rows = json.loads(self._questions.read_text())
        return [Question(**row | {"vector": np.array(row["vector"], np.float32)}) for row in rows]


def _best(
    before: list[tuple[float, int]], row: Matrix, start: int, among: NDArray[np.int64]
) -> list[tuple[float, int]]:
    if not len(among):
        return before
    top = among[np.argsort(-row[among])[:K]]
    return sorted([*before, *((float(row[n]), start + int(n)) for n in top)], reverse=True)[:K]


def texts(seed: int, count: int) -> list[str]:
    """Texts of 40 words by Zipf's law."""
    words = [*COMMON, *(word(n) for n in range(30_000))]
    shares = 1 / np.arange(1, len(words) + 1)
    edges = np.cumsum(shares / shares.sum())
    places = np.searchsorted(edges, np.random.default_rng(seed).random((count, 40)))
    return [" ".join(words[min(place, len(words) - 1)] for place in row) for row in places.tolist()]


def word(number: int) -> str:
    """A word that can be spoken: another one for each number below 81 ** 4."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvwxyz" for vowel in "aeiou"]
    digits = [(number * 7919 + 12_345) // 81**place % 81 for place in range(4)]
    return "".join(syllables[digit] for digit in digits)


# The systems


class System(Protocol):
    """A store that is measured."""

    def add(self, items: list[Item], vectors: Matrix) -> None:
        """Add items."""

    def save(self) -> None:
        """Put on the disk what is not there yet."""

    def dense(self, question: Question) -> list[str]:
        """Names of the nearest."""

    def filtered(self, question: Question) -> list[str]:
        """Names of the nearest of the question's group."""

    def delete(self, names: list[str]) -> None:
        """Delete items."""


class Kosmos:
    """Our store."""

    modules = ("kosmos_loader.store", "faiss")

    def __init__(self, folder: Path, dim: int) -> None:
        self._store = Store.open(folder, embedder=GivenVectors(dim))

    def add(self, items: list[Item], vectors: Matrix) -> None:
        """As `System.add`."""
        entries = [Entry(item.name, item.text, {"group": item.group}) for item in items]
        self._store.put(entries, vectors=vectors)

    def save(self) -> None:
        """As `System.save`."""
        self._store.close()

    def dense(self, question: Question) -> list[str]:
        """As `System.dense`."""
        found = self._store.find(k=K, vector=question.vector, mode="dense")
        return [entry.id for entry, _ in found]

    def hybrid(self, question: Question) -> list[str]:
        """Names of the best by vector and words."""
        found = self._store.find(question.text, K, vector=question.vector)
        return [entry.id for entry, _ in found]

    def filtered(self, question: Question) -> list[str]:
        """As `System.filtered`."""
        kept = {"group": question.group}
        found = self._store.find(k=K, filter=kept, vector=question.vector, mode="dense")
        return [entry.id for entry, _ in found]

    def delete(self, names: list[str]) -> None:
        """As `System.delete`."""
        self._store.delete(names)


class LangChain:
    """langchain_community's FAISS."""

    modules = ("langchain_community.vectorstores", "langchain_core.embeddings", "faiss")

    def __init__(self, folder: Path, dim: int) -> None:
        import faiss
        from langchain_community.docstore.in_memory import InMemoryDocstore
        from langchain_community.vectorstores import FAISS
        from langchain_core.embeddings import DeterministicFakeEmbedding

        self._folder = folder
        embedding = DeterministicFakeEmbedding(size=dim)
        if folder.exists():
            self._store = FAISS.load_local(
                str(folder), embedding, allow_dangerous_deserialization=True
            )
        else:
            self._store = FAISS(embedding, faiss.IndexFlatL2(dim), InMemoryDocstore(), {})

    def add(self, items: list[Item], vectors: Matrix) -> None:
        """As `System.add`."""
        self._store.add_embeddings(
            zip([item.text for item in items], vectors.tolist(), strict=True),
            metadatas=[{"group": item.group} for item in items],
            ids=[item.name for item in items],
        )

    def save(self) -> None:
        """As `System.save`."""
        self._store.save_local(str(self._folder))

    def dense(self, question: Question) -> list[str]:
        """As `System.dense`."""
        found = self._store.similarity_search_with_score_by_vector(question.vector.tolist(), k=K)
        return [str(document.id) for document, _ in found]

    def filtered(self, question: Question) -> list[str]:
        """As `System.filtered`, among the 20 nearest of all."""
        return self._filtered(question)

    def filtered_in_all(self, question: Question) -> list[str]:
        """As `System.filtered`."""
        return self._filtered(question, fetch_k=self._store.index.ntotal)

    def _filtered(self, question: Question, **options: int) -> list[str]:
        found = self._store.similarity_search_with_score_by_vector(
            question.vector.tolist(), k=K, filter={"group": question.group}, **options
        )
        return [str(document.id) for document, _ in found]

    def delete(self, names: list[str]) -> None:
        """As `System.delete`."""
        self._store.delete(names)


class LlamaIndex:
    """LlamaIndex's FaissMapVectorStore."""

    modules = ("llama_index.vector_stores.faiss", "faiss")

    def __init__(self, folder: Path, dim: int) -> None:
        import faiss
        from llama_index.vector_stores.faiss import FaissMapVectorStore

        self._path = folder / "vectors.json"
        if folder.exists():
            self._store = FaissMapVectorStore.from_persist_path(str(self._path))
        else:
            index = faiss.IndexIDMap2(faiss.IndexFlatIP(dim))
            self._store = FaissMapVectorStore(faiss_index=index)

    def add(self, items: list[Item], vectors: Matrix) -> None:
        """As `System.add`."""
        from llama_index.core.schema import TextNode

        self._store.add(
            [
                TextNode(id_=item.name, text=item.text, embedding=vector)
                for item, vector in zip(items, vectors.tolist(), strict=True)
            ]
        )

    def save(self) -> None:
        """As `System.save`."""
        self._store.persist(str(self._path))

    def dense(self, question: Question) -> list[str]:
        """As `System.dense`."""
        from llama_index.core.vector_stores import VectorStoreQuery

        asked = VectorStoreQuery(query_embedding=question.vector.tolist(), similarity_top_k=K)
        return list(self._store.query(asked).ids or [])

    def delete(self, names: list[str]) -> None:
        """As `System.delete`."""
        self._store.delete_nodes(names)


SYSTEMS: dict[str, Any] = {"kosmos": Kosmos, "langchain": LangChain, "llamaindex": LlamaIndex}


# What a process measures


class Clock:
    """Seconds since it was made, by the clock and of the processor."""

    def __init__(self) -> None:
        self._began = self._now()

    @staticmethod
    def _now() -> NDArray[np.float64]:
        return np.array([time.perf_counter(), time.process_time()])

    def seconds(self) -> NDArray[np.float64]:
        """[2]"""
        return self._now() - self._began


def build(system: Callable[[], System], corpus: Corpus) -> dict[str, float]:
    """Add everything and save it."""
    store, spent = system(), np.zeros(2)
    for items, vectors in corpus.batches():
        clock = Clock()
        store.add(items, vectors)
        spent += clock.seconds()
    row = {**_both("add_s", corpus.size / spent), **_both("save_s", _seconds(store.save))}
    return row | {"build_mb": _peak()}


def search(system: Callable[[], Any], corpus: Corpus) -> dict[str, float]:
    """Open and ask everything, in every way that there is."""
    questions = corpus.questions()
    clock = Clock()
    store = system()
    row = _both("open_s", clock.seconds())
    store.dense(questions[0])
    row |= _both("first_s", clock.seconds())
    row |= _asked("dense_ms", "recall", store.dense, questions, "nearest")
    if hasattr(store, "hybrid"):
        row |= _asked("hybrid_ms", "_", store.hybrid, questions, "nearest")
    near = "nearest_of_group"
    if hasattr(store, "filtered"):
        row |= _asked("filter_ms", "filter_recall", store.filtered, questions, near)
    if hasattr(store, "filtered_in_all"):
        # Every document is fetched and looked at each time: a few questions tell.
        row |= _asked("all_ms", "all_recall", store.filtered_in_all, questions[:3], near)
    return row | {"search_mb": _peak()}


def change(system: Callable[[], System], corpus: Corpus) -> dict[str, float]:
    """Delete a thousand; then, opened anew, add one more."""
    store = system()
    store.dense(corpus.questions()[0])
    names = [f"e{n}" for n in random.Random(2).sample(range(corpus.size), DELETED)]
    row = _both("delete_s", _seconds(lambda: store.delete(names)))
    store.save()

    def one_more() -> None:
        reopened = system()
        reopened.add([Item("more", "one more", 0)], corpus.questions()[0].vector.reshape(1, -1))
        reopened.save()

    return row | _both("one_more_s", _seconds(one_more))


STEPS: dict[str, Callable[[Any, Corpus], dict[str, float]]]
STEPS = {"build": build, "search": search, "change": change}


def _asked(
    time_name: str,
    recall_name: str,
    ask: Callable[[Question], list[str]],
    questions: list[Question],
    truth: str,
) -> dict[str, float]:
    """Median milliseconds, and the mean share of the true nearest that was found."""
    times, shares = [], []
    for question in questions:
        clock = Clock()
        names = ask(question)
        times.append(1000 * clock.seconds())
        nearest = {f"e{number}" for number in getattr(question, truth)}
        shares.append(len(nearest.intersection(names)) / len(nearest))
    return {**_both(time_name, np.median(times, axis=0)), recall_name: statistics.mean(shares)}


def _seconds(work: Callable[[], object]) -> NDArray[np.float64]:
    clock = Clock()
    work()
    return clock.seconds()


def _both(name: str, times: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(times[0]), f"{name}_cpu": float(times[1])}


def _peak() -> float:
    """Megabytes that this process has held at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


# The processes, one after another


def measured(name: str, corpus: Corpus, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of one system."""
    home = folder / f"{name}-{corpus.size}"
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"size": corpus.size, "system": name}
    for step in STEPS:
        print(f"{name}, {corpus.size}: {step}", file=sys.stderr)
        row |= _in_a_process(name, step, corpus, folder, home)
        if step == "build":
            row["folder_mb"] = sum(path.stat().st_size for path in home.iterdir()) / 1e6
    yield row
    if "all_ms" in row:
        pairs = [("all_ms", "filter_ms"), ("all_ms_cpu", "filter_ms_cpu")]
        pairs += [("all_recall", "filter_recall")]
        named = {"size": corpus.size, "system": f"{name}-all"}
        yield dict.fromkeys(COLUMNS) | named | {new: row[old] for old, new in pairs}


def _in_a_process(
    name: str, step: str, corpus: Corpus, folder: Path, home: Path
) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, "--process", name, step, str(home)]
    command += ["--folder", str(folder), "--sizes", str(corpus.size), "--dim", str(corpus.dim)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return row


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="10000,100000,1000000", help="default: %(default)s")
    parser.add_argument("--dim", type=int, default=384, help="default: %(default)s")
    parser.add_argument("--questions", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="where the stores are made (and left)")
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    parser.add_argument("--out", type=Path, help="write the JSON to this file too")
    parser.add_argument("--process", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sizes = [int(size) for size in options.sizes.split(",")]
    options.systems = options.systems.split(",")
    for name in options.systems:
        if name not in SYSTEMS:
            parser.error(f"no system is called {name!r}; choose of {', '.join(SYSTEMS)}")
    if min(options.sizes) < DELETED:
        parser.error(f"a store of fewer than {DELETED} is too small to be measured")
    return options


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _run(options: argparse.Namespace, folder: Path) -> None:
    facts = report.header(
        *("kosmos-loader", "faiss-cpu", "langchain-community", "llama-index-vector-stores-faiss")
    )
    facts["threads"] = os.environ.get("OMP_NUM_THREADS", "as many as cores")
    skipped = [name for name in options.systems if not _is_installed(SYSTEMS[name].modules[0])]
    for name in skipped:
        print(f"{name} is left out: {SYSTEMS[name].modules[0]} is missing", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    for size in options.sizes:
        corpus = Corpus(folder, size, options.dim)
        corpus.make(options.questions)
        for name in options.systems:
            if name not in skipped:
                rows.extend(measured(name, corpus, folder))
    report.show(
        facts | {"dim": options.dim, "rows": rows, "skipped": skipped},
        rows=rows,
        columns=COLUMNS,
        as_json=options.json,
        out=options.out,
    )
    if not options.json:
        spent = ([row["size"], row["system"], *_spent(row)] for row in rows)
        print("\nTime of the processor:\n\n" + report.table(("size", "system", *TIMES), spent))


def _spent(row: dict[str, Any]) -> list[float | None]:
    return [row.get(f"{name}_cpu") for name in TIMES]


def main() -> None:
    """Build, search and change a store of each system and size, then print one table."""
    options = arguments()
    if options.process:
        name, step, home = options.process
        corpus = Corpus(options.folder, options.sizes[0], options.dim)
        for module in SYSTEMS[name].modules:
            importlib.import_module(module)
        row = STEPS[step](lambda: SYSTEMS[name](Path(home), options.dim), corpus)
        print(json.dumps(row))
        return
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        _run(options, options.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        _run(options, Path(folder))


if __name__ == "__main__":
    main()
