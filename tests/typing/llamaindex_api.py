"""What users of `llama-index-readers-kosmos` write, for mypy to check and never to be run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from llama_index.core import SimpleDirectoryReader, StorageContext, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import NodeParser
from llama_index.core.readers.base import BasePydanticReader
from llama_index.core.schema import BaseNode, Document, NodeWithScore
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.node_parser.kosmos import KosmosNodeParser
from llama_index.readers.kosmos import KosmosDocument, KosmosReader
from llama_index.vector_stores.kosmos import KosmosVectorStore

from kosmos_loader import Answer, Chunk, Hit, RapidOCRPageReader, Store, answer
from kosmos_loader.document import Block


def loads(paths: list[Path]) -> list[Document]:
    one: BasePydanticReader = KosmosReader()
    several = KosmosReader(
        reader=RapidOCRPageReader(),
        mode="page",
        pages="1-3",
        password="secret",
        chunk_size=448,
        chunk_overlap=32,
        chunk_length=str.split,
        heading_size=64,
        on_error="document",
    )
    for document in several.lazy_load_data(paths, extra_info={"shelf": "B 12"}):
        assert_type(document, Document)
        if isinstance(document, KosmosDocument):
            assert_type(document.blocks, tuple[Block, ...])
    reading = SimpleDirectoryReader("scans", file_extractor={".pdf": KosmosReader(mode="single")})
    assert_type(KosmosReader.from_dict(several.to_dict()), KosmosReader)
    return one.load_data("letter.pdf") + reading.load_data(num_workers=2)


async def loads_beside_the_event_loop(path: str) -> list[Document]:
    reader = KosmosReader()
    async for document in await reader.alazy_load_data(path):
        assert_type(document, Document)
    for document in await reader.alazy_load_data(path):
        assert_type(document, Document)
    return await reader.aload_data(path)


def parses(documents: list[Document]) -> list[BaseNode]:
    parser: NodeParser = KosmosNodeParser(chunk_size=800, chunk_overlap=80, chunk_length=len)
    pipeline = IngestionPipeline(transformations=[parser, MockEmbedding(embed_dim=8)])
    return [*parser.get_nodes_from_documents(documents), *pipeline.run(documents=documents)]


def indexes(documents: list[Document]) -> list[NodeWithScore]:
    with KosmosVectorStore("store", embedding_name="bge-small-en-v1.5") as vectors:
        context = StorageContext.from_defaults(vector_store=vectors)
        index = VectorStoreIndex.from_documents(documents, storage_context=context)
        return index.as_retriever(similarity_top_k=3).retrieve("What did the roof cost?")


def searches(nodes: list[BaseNode]) -> VectorStoreQueryResult:
    vectors: BasePydanticVectorStore = KosmosVectorStore(Path("store"))
    vectors.add(nodes)
    filters = MetadataFilters(filters=[MetadataFilter(key="page", value=3)])
    vectors.delete_nodes(["a", "b"], filters)
    kept = KosmosVectorStore.from_params("store")
    assert_type(kept.client, Store | None)
    assert_type(kept.get_nodes(filters=filters), list[BaseNode])
    return vectors.query(
        VectorStoreQuery(
            query_str="roof", query_embedding=[0.1, 0.2], mode=VectorStoreQueryMode.HYBRID
        )
    )


async def searches_beside_the_event_loop(nodes: list[BaseNode]) -> list[str]:
    vectors = KosmosVectorStore()
    ids = await vectors.async_add(nodes)
    assert_type(await vectors.aquery(VectorStoreQuery()), VectorStoreQueryResult)
    await vectors.adelete("letter")
    await vectors.adelete_nodes(ids)
    await vectors.aclear()
    return ids


def answers(found: list[NodeWithScore]) -> Answer:
    hits = (Hit(Chunk.from_metadata(hit.text, hit.metadata), hit.get_score()) for hit in found)
    return answer("What did the roof cost?", hits)
