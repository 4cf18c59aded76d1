"""`KosmosRetriever`: LangChain's standard suite, and what stands around a hit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_kosmos import KosmosFAISS, KosmosLoader, KosmosRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests

from kosmos_loader.document import Line, Page
from kosmos_loader.errors import UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.testing import ScriptedReader
from kosmos_loader.testing.loaders import book

WORDS = ("anchor", "barrel", "capstan", "derrick", "engine", "funnel")


def two_words(page: Page) -> Iterator[Line]:
    for row in (0, 1):
        word = WORDS[2 * page.number - 2 + row]
        yield Line(f"The {word} was sold.", Box(0.1, 0.1 + 0.4 * row, 0.9, 0.15 + 0.4 * row), 0.9)


@pytest.fixture
def documents(tmp_path: Path) -> list[Document]:
    """Two on each of three pages."""
    reader = ScriptedReader(lambda page: list(two_words(page)))
    return KosmosLoader(book(tmp_path / "book.tif", 3), reader=reader, chunk_size=25).load()


@pytest.fixture
def vectors(documents: list[Document]) -> Iterator[KosmosFAISS]:
    with KosmosFAISS.open() as opened:
        # the last first: the order in which they came is not that of the pages
        opened.add_documents(documents[::-1])
        yield opened


class TestStandard(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def filled(self, vectors: KosmosFAISS) -> None:
        self.vectors = vectors

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return KosmosRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": self.vectors}

    @property
    def retriever_query_example(self) -> str:
        return "Was the capstan sold?"


def named(documents: list[Document]) -> list[str]:
    return [document.page_content.split()[1] for document in documents]


def test_words_and_vectors_are_searched_together(vectors: KosmosFAISS) -> None:
    found = KosmosRetriever(vectorstore=vectors, k=2).invoke("the capstan")
    assert named(found)[0] == "capstan"
    expected = vectors.similarity_search_with_score("the capstan", k=2, mode="hybrid")
    assert [(document.id, document.metadata["score"]) for document in found] == [
        (document.id, score) for document, score in expected
    ]
    assert found[0].metadata["score"] == pytest.approx(1)


def test_every_field_can_be_given_with_the_question(vectors: KosmosFAISS) -> None:
    retriever = KosmosRetriever(vectorstore=vectors, filter={"page": 2})
    assert sorted(named(retriever.invoke("sold"))) == ["capstan", "derrick"]
    assert len(retriever.invoke("sold", k=1)) == 1
    assert sorted(named(retriever.invoke("sold", filter={"page": {"$ne": 2}}, k=9))) == [
        *("anchor", "barrel", "engine", "funnel")
    ]
    assert named(retriever.invoke("funnel", filter=None, mode="lexical", k=1)) == ["funnel"]
    assert len(retriever.invoke("sold", k=1, after=1)) == 2
    assert len(retriever.invoke("sold")) == 2


@pytest.mark.parametrize(
    ("question", "before", "after", "found"),
    [
        ("derrick", 0, 0, ["derrick"]),
        ("derrick", 1, 1, ["capstan", "derrick", "engine"]),
        ("derrick", 2, 0, ["barrel", "capstan", "derrick"]),
        ("anchor", 2, 1, ["anchor", "barrel"]),
        ("funnel", 1, 9, ["engine", "funnel"]),
    ],
)
def test_what_stands_around_a_hit_comes_with_it_in_reading_order(
    vectors: KosmosFAISS, question: str, before: int, after: int, found: list[str]
) -> None:
    retriever = KosmosRetriever(vectorstore=vectors, k=1, before=before, after=after)
    documents = retriever.invoke(question)
    assert named(documents) == found
    [hit] = [document for document in documents if "score" in document.metadata]
    assert named([hit]) == [question]
    others = [document for document in documents if document is not hit]
    assert all(document.metadata["neighbour_of"] == hit.id for document in others)
    assert all("score" not in document.metadata for document in others)


def test_no_document_comes_twice(vectors: KosmosFAISS) -> None:
    retriever = KosmosRetriever(vectorstore=vectors, k=2, before=1, after=1)
    documents = retriever.invoke("barrel derrick", mode="lexical")
    assert sorted(named(documents)) == sorted(WORDS[:5])
    assert len([document for document in documents if "score" in document.metadata]) == 2


def test_neighbours_are_of_the_same_file(vectors: KosmosFAISS, tmp_path: Path) -> None:
    other = ScriptedReader(lambda _: Line("The gangway was kept.", Box(0.1, 0.1, 0.9, 0.2)))
    vectors.add_documents(KosmosLoader(book(tmp_path / "b.tif", 2), reader=other).load())
    retriever = KosmosRetriever(vectorstore=vectors, k=1, before=9, after=9)
    assert sorted(named(retriever.invoke("derrick"))) == sorted(WORDS)


def test_texts_of_no_file_have_no_neighbours_and_those_of_another_loader_have() -> None:
    with KosmosFAISS.open() as vectors:
        vectors.add_texts(["one apple", "two pears"])
        rows = [{"source": "a.csv", "row": row} for row in range(3)]
        vectors.add_texts(["three plums", "four figs", "five limes"], rows)
        retriever = KosmosRetriever(vectorstore=vectors, k=1, before=1, after=1)
        assert len(retriever.invoke("apple")) == 1
        assert named(retriever.invoke("figs")) == ["plums", "figs", "limes"]


async def test_async_calls_take_the_same_arguments(vectors: KosmosFAISS) -> None:
    retriever = KosmosRetriever(vectorstore=vectors)
    how: dict[str, Any] = {"k": 2, "after": 1, "filter": {"page": {"$lt": 3}}}
    assert await retriever.ainvoke("derrick", **how) == retriever.invoke("derrick", **how)


def test_what_it_does_not_know_is_refused(vectors: KosmosFAISS) -> None:
    retriever = KosmosRetriever(vectorstore=vectors)
    with pytest.raises(UsageError, match=r"no search takes top_k; give any of after, before"):
        retriever.invoke("sold", top_k=3)
    with pytest.raises(UsageError, match="a filter is a dict here"):
        retriever.invoke("sold", filter=lambda metadata: metadata["page"] > 1)
    with pytest.raises(ValueError, match="top_k"):
        KosmosRetriever(vectorstore=vectors, top_k=3)
    with pytest.raises(ValueError, match="mode"):
        retriever.invoke("sold", mode="fuzzy")
    with pytest.raises(UsageError, match="before"):
        retriever.invoke("sold", before=-1)
