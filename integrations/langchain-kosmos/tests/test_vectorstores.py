"""`KosmosFAISS`: LangChain's standard suite in three settings, and what the suite does not ask."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_core.vectorstores import VectorStore
from langchain_kosmos import KosmosFAISS, KosmosLoader, KosmosRetriever
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from typer.testing import CliRunner

from kosmos_loader import Chunk, HashEmbedder, Store, chunk, compose, open_pages
from kosmos_loader.archive import ingest
from kosmos_loader.cli import app
from kosmos_loader.errors import StoreMismatch, StoreNotFound, UsageError
from kosmos_loader.store import Entry
from kosmos_loader.testing import ScriptedReader
from kosmos_loader.testing.loaders import LINE, TITLE, book, scripted

# The standard suite


class TestTemporary(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:
        with KosmosFAISS.open(embedding=self.get_embeddings()) as vectors:
            yield vectors


class TestOnDisk(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        with KosmosFAISS.open(tmp_path / "store", embedding=self.get_embeddings()) as vectors:
            yield vectors


class Reopened(VectorStore):
    """Opens its folder for every call and closes it again."""

    def __init__(self, folder: Path, embedding: Embeddings) -> None:
        self.folder = folder
        self.embedding = embedding

    @contextmanager
    def opened(self) -> Iterator[KosmosFAISS]:
        with KosmosFAISS.open(self.folder, embedding=self.embedding) as vectors:
            yield vectors

    def add_texts(self, texts: Iterable[str], *args: Any, **kwargs: Any) -> list[str]:
        with self.opened() as vectors:
            return vectors.add_texts(texts, *args, **kwargs)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        with self.opened() as vectors:
            return vectors.delete(ids, **kwargs)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        with self.opened() as vectors:
            return vectors.get_by_ids(ids)

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        with self.opened() as vectors:
            return vectors.similarity_search(query, k, **kwargs)

    @classmethod
    def from_texts(cls, *args: Any, **kwargs: Any) -> Reopened:
        raise NotImplementedError


class TestReopenedBetweenCalls(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> VectorStore:
        return Reopened(tmp_path / "store", self.get_embeddings())


# What it does besides

PLACES = {
    "north": [0.0, 1.0],
    "north-east": [1.0, 1.0],
    "east": [1.0, 0.0],
    "south": [0.0, -1.0],
}


class Compass(Embeddings):
    """Vectors in the plane, for texts that are directions; `asked` counts the texts."""

    def __init__(self) -> None:
        self.asked = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked += len(texts)
        return [PLACES[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return PLACES.get(text, [1.0, 1.0])


@pytest.fixture
def compass() -> Iterator[KosmosFAISS]:
    metadatas = [{"row": row, "cold": row < 2} for row, _ in enumerate(PLACES)]
    vectors = KosmosFAISS.from_texts(list(PLACES), Compass(), metadatas, ids=list(PLACES))
    with vectors:
        yield vectors


def ids(documents: Iterable[Document]) -> list[str | None]:
    return [document.id for document in documents]


def test_scores_are_cosines_nearest_first(compass: KosmosFAISS) -> None:
    found = compass.similarity_search_with_score("north", k=4)
    assert ids(document for document, _ in found) == ["north", "north-east", "east", "south"]
    assert [score for _, score in found] == pytest.approx([1, math.sqrt(0.5), 0, 0], abs=1e-6)
    assert compass.similarity_search_with_relevance_scores("north", k=4) == found
    near = compass.similarity_search_with_relevance_scores("north", k=4, score_threshold=0.5)
    assert ids(document for document, _ in near) == ["north", "north-east"]


def test_searches_by_vector_are_those_of_its_text(compass: KosmosFAISS) -> None:
    vector = PLACES["east"]
    assert ids(compass.similarity_search_by_vector(vector, k=2)) == ["east", "north-east"]
    by_text = compass.similarity_search_with_score("east", k=4)
    assert compass.similarity_search_with_score_by_vector(vector, k=4) == by_text
    assert compass.similarity_search("east", k=4) == [document for document, _ in by_text]


def test_marginal_relevance_goes_from_the_nearest_to_the_most_unlike(compass: KosmosFAISS) -> None:
    near = compass.max_marginal_relevance_search("north", k=2, lambda_mult=1)
    assert ids(near) == ["north", "north-east"]
    unlike = compass.max_marginal_relevance_search("north", k=2, lambda_mult=0)
    assert ids(unlike) == ["north", "south"]
    by_vector = compass.max_marginal_relevance_search_by_vector([0.0, 1.0], k=2, lambda_mult=0)
    assert by_vector == unlike
    few = compass.max_marginal_relevance_search("north", k=2, fetch_k=2, lambda_mult=0)
    assert ids(few) == ["north", "north-east"]


SEARCHES: list[Callable[..., Any]] = [
    lambda vectors, **how: vectors.similarity_search("north", **how),
    lambda vectors, **how: vectors.similarity_search("north", mode="hybrid", **how),
    lambda vectors, **how: [d for d, _ in vectors.similarity_search_with_score("north", **how)],
    lambda vectors, **how: [
        d for d, _ in vectors.similarity_search_with_relevance_scores("north", **how)
    ],
    lambda vectors, **how: vectors.similarity_search_by_vector([0.0, 1.0], **how),
    lambda vectors, **how: vectors.max_marginal_relevance_search("north", **how),
    lambda vectors, **how: vectors.max_marginal_relevance_search_by_vector([0.0, 1.0], **how),
    lambda vectors, **how: vectors.as_retriever(search_kwargs=how).invoke("north"),
    lambda vectors, **how: vectors.as_retriever(search_type="mmr", search_kwargs=how).invoke(
        "north"
    ),
]


@pytest.mark.parametrize("search", SEARCHES)
def test_every_search_takes_a_filter_that_costs_no_hits(
    compass: KosmosFAISS, search: Callable[..., list[Document]]
) -> None:
    assert set(ids(search(compass, k=2, filter={"cold": False}))) == {"east", "south"}
    assert ids(search(compass, k=4, filter={"row": {"$gte": 3}})) == ["south"]
    assert search(compass, k=4, filter={"row": 9}) == []


@pytest.mark.parametrize("search", SEARCHES)
def test_a_function_as_filter_is_refused_with_what_to_do(
    compass: KosmosFAISS, search: Callable[..., list[Document]]
) -> None:
    with pytest.raises(UsageError, match=r"a filter is a dict here.*\$gte"):
        search(compass, filter=lambda metadata: metadata["row"] > 1)


def test_what_no_search_takes_is_refused(compass: KosmosFAISS) -> None:
    with pytest.raises(UsageError, match="takes no fetch_k"):
        compass.similarity_search("north", fetch_k=50)


def test_ids_may_be_given_for_some_texts_only(compass: KosmosFAISS) -> None:
    given = compass.add_texts(["north", "south"], ids=["n2", None])
    assert given[0] == "n2"
    assert given[1] not in (None, "", "n2")
    documents = [Document("east", id="e2"), Document("east")]
    added = compass.add_documents(documents)
    assert added[0] == "e2"
    assert len({*given, *added}) == 4
    assert ids(compass.get_by_ids([*given, *added])) == [*given, *added]


@pytest.mark.parametrize("lists", [{"ids": ["a"]}, {"metadatas": [{}, {}, {}]}])
def test_lists_of_other_lengths_are_refused(compass: KosmosFAISS, lists: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="there are 2 texts"):
        compass.add_texts(["north", "south"], **lists)
    assert len(compass.store) == 4


def test_one_text_or_metadata_that_is_no_dict_is_refused(compass: KosmosFAISS) -> None:
    before = len(compass.store)
    with pytest.raises(UsageError, match="brackets"):
        compass.add_texts("north")
    with pytest.raises(UsageError, match="list of dicts"):
        compass.add_texts(["north"], ["page 1"])
    assert len(compass.store) == before


def test_a_copy_shares_the_store_and_a_pickled_one_opens_its_folder(tmp_path: Path) -> None:
    embedding = HashEmbedder(64)
    with KosmosFAISS.open(tmp_path / "store", embedding=embedding) as vectors:
        vectors.add_texts(["north"], ids=["n"])
        retriever = KosmosRetriever(vectorstore=vectors, k=1)
        copied = copy.deepcopy(retriever)
        copied.vectorstore.add_texts(["south"], ids=["s"])
        assert len(vectors.get_by_ids(["n", "s"])) == 2
        assert [found.id for found in copied.invoke("south")] == ["s"]
        elsewhere = pickle.loads(pickle.dumps(retriever))  # noqa: S301 - made here
        assert [found.id for found in elsewhere.invoke("north")] == ["n"]
        elsewhere.vectorstore.close()
    with (
        KosmosFAISS.open(embedding=embedding) as vectors,
        pytest.raises(UsageError, match="folder"),
    ):
        pickle.dumps(vectors)


def test_nodes_of_llamaindex_come_without_what_its_stores_add(tmp_path: Path) -> None:
    added = {"_node_content": '{"id_": "n"}', "_node_type": "TextNode"}
    with Store.open(tmp_path / "store") as store:
        store.put([Entry("n", "The quay wall.", {"page": 3, **added})])
    with KosmosFAISS.open(tmp_path / "store") as vectors:
        (document,) = vectors.similarity_search("quay", k=1)
        assert document.metadata == {"page": 3}


def test_a_store_whose_texts_cannot_be_embedded_is_closed(tmp_path: Path) -> None:
    with pytest.raises(KeyError) as kept:
        KosmosFAISS.from_texts(["nowhere"], Compass(), folder=tmp_path / "store")
    with KosmosFAISS.from_texts(["north"], Compass(), folder=tmp_path / "store") as vectors:
        assert len(vectors.store) == 1
    assert kept.value.args == ("nowhere",)


def test_no_text_is_embedded_twice() -> None:
    embedding = Compass()
    with KosmosFAISS.from_texts(list(PLACES), embedding, ids=list(PLACES)) as vectors:
        assert embedding.asked == 4
        vectors.add_texts(["north", "east"], [{"new": 1}, {"new": 1}], ids=["north", "south"])
        assert embedding.asked == 5
        assert [d.metadata for d in vectors.get_by_ids(["north", "south"])] == [{"new": 1}] * 2
        assert vectors.similarity_search("east", k=2, filter={"new": 1})[0].id == "south"


def test_vectors_that_are_there_already_are_taken() -> None:
    embedding = Compass()
    with KosmosFAISS.open(embedding=embedding) as vectors:
        vectors.add_embeddings([("up", [0.0, 2.0]), ("right", [3.0, 0.0])], ids=["u", "r"])
        assert embedding.asked == 0
        assert [d.page_content for d in vectors.similarity_search("north", k=1)] == ["up"]


def test_documents_are_deleted_by_id_and_by_filter(compass: KosmosFAISS) -> None:
    assert compass.delete(["north", "no such"]) is True
    assert compass.delete(filter={"row": {"$lt": 2}}) is True
    assert compass.store.ids() == {"east", "south"}
    assert compass.delete([]) is True
    with pytest.raises(UsageError, match="clear"):
        compass.delete()
    assert len(compass.store) == 2


def test_no_id_answers_for_another_after_delete_and_add() -> None:
    with KosmosFAISS.from_texts(["north", "south"], Compass(), ids=["a", "b"]) as vectors:
        vectors.delete(["a"])
        vectors.add_texts(["east"], ids=["c"])
        assert ids(vectors.similarity_search("south", k=1)) == ["b"]
        assert ids(vectors.similarity_search("east", k=1)) == ["c"]


def test_metadata_of_any_json_come_back_as_they_were() -> None:
    metadata = {"list": [1, "two", {"three": 3.0}], "none": None, "dict": {"ä": True}, "n": 2**40}
    with KosmosFAISS.from_texts(["north"], Compass(), [metadata], ids=["n"]) as vectors:
        assert vectors.get_by_ids(["n"]) == [Document("north", id="n", metadata=metadata)]
        with pytest.raises(UsageError):
            vectors.add_texts(["east"], [{"when": object()}])


def test_a_temporary_store_is_gone_when_it_is_closed() -> None:
    with KosmosFAISS.open(embedding=Compass()) as vectors:
        folder = vectors.store.folder
        assert folder.is_dir()
    assert not folder.exists()


def test_its_embedding_is_the_one_it_was_given(tmp_path: Path) -> None:
    embedding = Compass()
    with KosmosFAISS.open(tmp_path, embedding=embedding) as vectors:
        assert vectors.embeddings is embedding
    with KosmosFAISS.open(tmp_path) as vectors:  # it has words to search for, but no embedding
        assert vectors.embeddings is None


def test_without_an_embedding_it_is_the_one_of_the_store() -> None:
    with KosmosFAISS.open() as vectors:
        assert isinstance(vectors.store, Store)
        assert vectors.embeddings is vectors.store.embedder
        assert vectors.embeddings is not None
        assert len(vectors.embeddings.embed_query("quay wall")) == vectors.store.dim


def test_another_embedding_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with KosmosFAISS.from_texts(["north"], Compass(), ids=["n"], folder=tmp_path / "s") as vectors:
        assert len(vectors.store) == 1
    with pytest.raises(StoreMismatch, match="Compass"):
        KosmosFAISS.open(tmp_path / "s", embedding=DeterministicFakeEmbedding(size=2))
    with pytest.raises(StoreNotFound):
        KosmosFAISS.open(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


def test_from_documents_adds_to_what_is_in_the_folder(tmp_path: Path) -> None:
    for name in ("north", "south"):
        documents = [Document(name, id=name)]
        with KosmosFAISS.from_documents(documents, Compass(), folder=tmp_path) as vectors:
            assert ids(vectors.similarity_search(name, k=1)) == [name]
    with KosmosFAISS.open(tmp_path) as vectors:
        assert vectors.store.ids() == {"north", "south"}


def test_an_option_spelt_wrong_does_not_make_a_store_temporary(tmp_path: Path) -> None:
    documents = [Document("north", id="n")]
    with pytest.raises(UsageError, match="not foldr"):
        KosmosFAISS.from_documents(documents, Compass(), foldr=tmp_path)


# Async


class Slow(Compass):
    """Waits until the loop has gone on."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()

    def wait(self) -> None:
        assert self.goes_on.wait(30), "the loop stood still"
        self.goes_on.clear()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.wait()
        return super().embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        if text != "dimension":  # how a store finds out how long the vectors are
            self.wait()
        return super().embed_query(text)


async def test_the_loop_goes_on_while_an_embedding_is_slow() -> None:
    embedding = Slow()

    async def alive(call: Any) -> Any:
        async def let_go() -> None:
            await asyncio.sleep(0.01)
            embedding.goes_on.set()

        result, _ = await asyncio.gather(call, let_go())
        return result

    texts = list(PLACES)
    vectors = await alive(KosmosFAISS.afrom_texts(texts, embedding, ids=texts))
    documents = [Document("north", id="n")]
    assert await alive(vectors.aadd_documents(documents)) == ["n"]
    for search in (
        vectors.asimilarity_search("east", k=1),
        vectors.amax_marginal_relevance_search("east", k=1),
        vectors.as_retriever(search_kwargs={"k": 1}).ainvoke("east"),
    ):
        assert ids(await alive(search)) == ["east"]
    [(document, score)] = await alive(vectors.asimilarity_search_with_score("east", k=1))
    assert (document.id, score) == ("east", pytest.approx(1))
    vectors.close()


async def test_async_calls_give_what_the_others_do(compass: KosmosFAISS) -> None:
    how: dict[str, Any] = {"k": 2, "filter": {"cold": True}}
    vector = PLACES["north"]
    assert await compass.asimilarity_search("north", **how) == compass.similarity_search(
        "north", **how
    )
    assert await compass.asimilarity_search_by_vector(
        vector, **how
    ) == compass.similarity_search_by_vector(vector, **how)
    assert await compass.amax_marginal_relevance_search_by_vector(
        vector, **how
    ) == compass.max_marginal_relevance_search_by_vector(vector, **how)
    assert await compass.asimilarity_search_with_relevance_scores(
        "north", **how
    ) == compass.similarity_search_with_relevance_scores("north", **how)
    assert await compass.adelete(["north"]) is True
    assert await compass.aget_by_ids(["north"]) == []


async def test_many_calls_at_once_do_no_harm(compass: KosmosFAISS) -> None:
    adding = [compass.aadd_texts(["north"], [{"row": row}], ids=[f"n{row}"]) for row in range(8)]
    searching = [compass.asimilarity_search("south", k=1) for _ in range(8)]
    found = (await asyncio.gather(*adding, *searching))[8:]
    assert [ids(documents) for documents in found] == [["south"]] * 8
    assert len(compass.store) == 12


# With the loader, LangChain's index and the command line


def indexed(path: Path, vectors: KosmosFAISS, records: InMemoryRecordManager) -> dict[str, int]:
    return dict(
        index(
            KosmosLoader(path, reader=scripted()),
            records,
            vectors,
            cleanup="incremental",
            source_id_key="source",
            key_encoder="sha256",
        )
    )


@pytest.fixture
def records() -> InMemoryRecordManager:
    manager = InMemoryRecordManager("kosmos")
    manager.create_schema()
    return manager


def test_indexing_a_loader_adds_skips_and_deletes(
    tmp_path: Path, records: InMemoryRecordManager
) -> None:
    path = book(tmp_path / "book.tif", 3)
    with KosmosFAISS.open(tmp_path / "store") as vectors:
        counts = {"num_added": 3, "num_updated": 0, "num_skipped": 0, "num_deleted": 0}
        assert indexed(path, vectors, records) == counts
        counts = {"num_added": 0, "num_updated": 0, "num_skipped": 3, "num_deleted": 0}
        assert indexed(path, vectors, records) == counts
        book(path, 2)
        counts = indexed(path, vectors, records)
        assert counts["num_deleted"] == counts["num_added"] + 1
        assert len(vectors.store) == 2
        assert vectors.store.verify() == []


async def test_indexing_asynchronously_counts_alike(
    tmp_path: Path, records: InMemoryRecordManager
) -> None:
    loader = KosmosLoader(book(tmp_path / "book.tif", 3), reader=scripted())
    with KosmosFAISS.open() as vectors:
        for added, skipped in ((3, 0), (0, 3)):
            counts = await aindex(loader, records, vectors, cleanup="full", key_encoder="sha256")
            assert (counts["num_added"], counts["num_skipped"]) == (added, skipped)


def chunks_and_documents(tmp_path: Path) -> tuple[list[Chunk], list[Document]]:
    path = book(tmp_path / "book.tif", 2)
    script = {1: [TITLE, LINE], 2: LINE}
    readings = ScriptedReader(script).read(open_pages(path))
    documents = KosmosLoader(path, reader=ScriptedReader(script)).load()
    return list(chunk(map(compose, readings))), documents


def test_a_store_of_chunks_gives_the_documents_of_the_loader(tmp_path: Path) -> None:
    chunks, documents = chunks_and_documents(tmp_path)
    with Store.open(tmp_path / "store") as store:
        store.add(chunks)
    with KosmosFAISS.open(tmp_path / "store", create=False) as vectors:
        assert vectors.get_by_ids([str(document.id) for document in documents]) == documents
        assert documents[0] in vectors.similarity_search("harbour", k=2)


def test_what_came_from_a_loader_is_embedded_with_its_headings(tmp_path: Path) -> None:
    chunks, documents = chunks_and_documents(tmp_path)
    assert documents[-1].metadata["headings"] == "CHAPTER ONE"
    with KosmosFAISS.from_documents(documents, HashEmbedder()) as ours, Store.temporary() as theirs:
        theirs.add(chunks)
        for mode in ("dense", "lexical", "hybrid"):
            expected = [(h.chunk.chunk_id, h.score) for h in theirs.search("chapter", mode=mode)]
            found = ours.similarity_search_with_score("chapter", k=5, mode=mode)
            assert [(document.id, score) for document, score in found] == expected
            assert expected


def test_hits_of_a_store_filled_here_know_their_place(tmp_path: Path) -> None:
    chunks, documents = chunks_and_documents(tmp_path)
    with KosmosFAISS.from_documents(documents, HashEmbedder(), folder=tmp_path / "s"):
        pass
    with Store.open(tmp_path / "s") as store:
        hits = {hit.chunk.chunk_id: hit.chunk for hit in store.search("harbour", k=5)}
    for piece in chunks:
        assert hits[piece.chunk_id].boxes() == piece.boxes()
        assert hits[piece.chunk_id].metadata() == piece.metadata()


def test_the_command_line_searches_and_asks_what_was_filled_here(tmp_path: Path) -> None:
    _, documents = chunks_and_documents(tmp_path)
    with KosmosFAISS.open(tmp_path / "s") as vectors:
        vectors.add_documents(documents)
    found = json.loads(run("search", "harbour", "--store", tmp_path / "s", "--json"))
    assert {hit["chunk_id"] for hit in found} == set(ids(documents))
    told = run("ask", "What did the harbour master write?", "--store", tmp_path / "s", "--json")
    [citation, *_] = json.loads(told)["citations"]
    assert citation["quote"] == "The harbour master wrote it down."
    assert citation["boxes"] == [[1, 0.1, 0.2, 0.9, 0.22]]


def test_the_command_line_searches_by_words_where_the_embedding_is_not_there(
    tmp_path: Path,
) -> None:
    _, documents = chunks_and_documents(tmp_path)
    embedding = DeterministicFakeEmbedding(size=6)
    with KosmosFAISS.from_documents(documents, embedding, folder=tmp_path / "s"):
        pass
    for command in (("search", "harbour", "-k", "1"), ("ask", "What did the harbour master do?")):
        done = CliRunner().invoke(app, [*command, "--store", str(tmp_path / "s")])
        assert done.exit_code == 0
        assert "The harbour master wrote it down." in done.stdout
        assert "note: by words alone, without embedder" in done.stderr


def test_what_was_ingested_is_searched_here(tmp_path: Path) -> None:
    path = book(tmp_path / "book.tif", 3)
    with Store.open(tmp_path / "s") as store:
        ingest(path, store, scripted())
    documents = KosmosLoader(path, reader=scripted()).load()
    with KosmosFAISS.open(tmp_path / "s") as vectors:
        assert vectors.similarity_search("page 2", k=1, mode="hybrid") == [documents[1]]
        vectors.add_documents(documents)
        assert len(vectors.store) == 3


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout
