"""A LlamaIndex vector store in a folder: SQLite holds the nodes, FAISS finds them."""

from llama_index.vector_stores.kosmos.base import KosmosVectorStore

__all__ = ["KosmosVectorStore"]
