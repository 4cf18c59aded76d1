"""LlamaIndex documents from scanned pages, each with its place on the paper."""

from llama_index.readers.kosmos.base import KosmosReader

__all__ = ["KosmosReader"]
