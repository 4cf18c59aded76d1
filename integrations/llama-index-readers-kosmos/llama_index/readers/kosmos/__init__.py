"""LlamaIndex documents from scanned pages, each with its place on the paper."""

from llama_index.readers.kosmos.base import KosmosReader
from llama_index.readers.kosmos.documents import KosmosDocument, LazyDocuments

__all__ = ["KosmosDocument", "KosmosReader", "LazyDocuments"]
