"""LangChain's standard suite for vector stores on ours and on those that others use.

```
python benchmarks/standard_suite.py [--json] [--out FILE]
```
prints how many of the suite's tests each store passes, and which it fails. Needs langchain-tests;
stores whose package is not installed are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_kosmos import KosmosFAISS
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from report import header, show


class TestKosmosFAISS(VectorStoreIntegrationTests):
    """Ours, in a folder."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        """An empty one."""
        with KosmosFAISS.open(tmp_path, embedding=self.get_embeddings()) as vectors:
            yield vectors


class TestInMemoryVectorStore(VectorStoreIntegrationTests):
    """LangChain's own, which keeps nothing."""

    @pytest.fixture
    def vectorstore(self) -> VectorStore:
        """An empty one."""
        return InMemoryVectorStore(self.get_embeddings())


if find_spec("langchain_community"):

    class TestCommunityFAISS(VectorStoreIntegrationTests):
        """That of langchain-community, in memory."""

        @pytest.fixture
        def vectorstore(self) -> VectorStore:
            """An empty one."""
            import faiss

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # it is being retired
                from langchain_community.docstore import InMemoryDocstore
                from langchain_community.vectorstores import FAISS

            embedding = self.get_embeddings()
            index = faiss.IndexFlatL2(len(embedding.embed_query("dimension")))
            return FAISS(embedding, index, InMemoryDocstore(), {})


class Counting:
    """A pytest plugin that keeps what passed and what failed, by class."""

    def __init__(self) -> None:
        self.passed: dict[str, int] = {}
        self.failed: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one test."""
        _, store, test = report.nodeid.split("::")
        store = store.removeprefix("Test")
        self.failed.setdefault(store, [])
        self.passed.setdefault(store, 0)
        if report.when == "call" and report.passed:
            self.passed[store] += 1
        elif report.failed:
            self.failed[store].append(test)


def counted() -> list[dict[str, Any]]:
    """One row for each store."""
    counting = Counting()
    options = ("asyncio_mode=auto", "asyncio_default_fixture_loop_scope=function")
    settings = [part for option in options for part in ("-o", option)]
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(
            [
                *("-c", os.devnull, "--rootdir", str(Path(__file__).parent), *settings),
                *("--import-mode=importlib", "-q", "--tb=no", "-p", "no:cacheprovider", __file__),
            ],
            plugins=[counting],
        )
    return [
        {
            "store": store,
            "passed": counting.passed[store],
            "tests": counting.passed[store] + len(failed),
            "fails": ", ".join(failed) or None,
        }
        for store, failed in counting.failed.items()
    ]


def main() -> None:
    """Run the suite and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, help="write the JSON there as well")
    given = parser.parse_args()
    rows = counted()
    facts = header("kosmos-loader", "langchain-tests", "langchain-core", "langchain-community")
    columns = ["store", "passed", "tests", "fails"]
    show({**facts, "rows": rows}, rows=rows, columns=columns, as_json=given.json, out=given.out)


if __name__ == "__main__":
    main()
