"""What users of `langchain_kosmos` write, for mypy to check and never to be run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from langchain_core.document_loaders import BaseBlobParser, BaseLoader
from langchain_core.documents import Document
from langchain_core.documents.base import Blob
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever
from langchain_kosmos import (
    KosmosBlobParser,
    KosmosFAISS,
    KosmosLoader,
    KosmosRetriever,
    cited_answer,
)

from kosmos_loader import Answer, HashEmbedder, RapidOCRPageReader, Store
from kosmos_loader.store import Mode


def loads(paths: list[Path]) -> list[Document]:
    one: BaseLoader = KosmosLoader("scans/")
    several = KosmosLoader(
        (path for path in paths),
        reader=RapidOCRPageReader(),
        mode="chunks",
        pages="1-3",
        password="secret",
        chunk_size=448,
        chunk_overlap=32,
        chunk_length=str.split,
        heading_size=64,
        on_error="document",
    )
    KosmosLoader("a.pdf", mode="lines")  # type: ignore[arg-type]
    KosmosLoader("a.pdf", on_error="ignore")  # type: ignore[arg-type]
    KosmosLoader(3)  # type: ignore[arg-type]
    parser: BaseBlobParser = KosmosBlobParser(reader="rapidocr", mode="page")
    return [*one.load(), *several.lazy_load(), *parser.parse(Blob.from_path("a.pdf"))]


def stores(embedding: Embeddings, documents: list[Document]) -> VectorStore:
    with KosmosFAISS.open("store", embedding=embedding, create=False) as vectors:
        assert_type(vectors, KosmosFAISS)
        assert_type(vectors.add_documents(documents), list[str])
        assert_type(vectors.add_texts(["a", "b"], [{"n": 1}, {}], ids=["a", None]), list[str])
        assert_type(vectors.add_embeddings([("a", [0.0, 1.0])]), list[str])
        assert_type(vectors.delete(["a"]), bool)
        assert_type(vectors.delete(filter={"page": {"$gte": 2}}), bool)
        assert_type(vectors.get_by_ids(["a"]), list[Document])
        assert_type(vectors.store, Store)
        vectors.delete(filter="page > 2")  # type: ignore[arg-type]
    KosmosFAISS.open(embedding=HashEmbedder())
    KosmosFAISS.open(embedding="text-embedding-3")  # type: ignore[arg-type]
    return KosmosFAISS.from_documents(documents, embedding, folder=Path("store"))


def searches(vectors: KosmosFAISS) -> None:
    mode: Mode = "hybrid"
    assert_type(vectors.similarity_search("roof", 3, {"page": 1}, mode=mode), list[Document])
    assert_type(vectors.similarity_search_with_score("roof"), list[tuple[Document, float]])
    assert_type(vectors.similarity_search_by_vector([0.0, 1.0], k=2), list[Document])
    assert_type(
        vectors.max_marginal_relevance_search("roof", fetch_k=30, lambda_mult=0.3), list[Document]
    )
    assert_type(vectors.as_retriever(search_type="mmr"), VectorStoreRetriever)
    vectors.similarity_search("roof", mode="fuzzy")  # type: ignore[arg-type]


async def searches_without_blocking(vectors: KosmosFAISS) -> None:
    assert_type(await vectors.asimilarity_search("roof", filter={"page": 1}), list[Document])
    assert_type(await vectors.aadd_texts(["a"]), list[str])
    assert_type(await vectors.aget_by_ids(["a"]), list[Document])


def answers(model: BaseChatModel, vectors: KosmosFAISS) -> None:
    retriever: BaseRetriever = KosmosRetriever(vectorstore=vectors, k=5, before=1, after=1)
    assert_type(retriever.invoke("What did the roof cost?", k=2), list[Document])
    chain = cited_answer(model, retriever=retriever)
    answer = chain.invoke("What did the roof cost?")
    assert_type(answer, Answer)
    for growing in chain.stream({"question": "And the floor?"}):
        assert_type(growing, Answer)
    cited_answer().invoke({"question": "And the floor?", "documents": [Document("x")]})
    cited_answer(model.with_retry(), retriever=retriever).invoke("And the floor?")


def indexes(vectors: KosmosFAISS) -> int:
    counts = index(
        KosmosLoader("scans/"),
        InMemoryRecordManager("scans"),
        vectors,
        cleanup="incremental",
        source_id_key="source",
        key_encoder="sha256",
    )
    return counts["num_added"]
