"""LlamaIndex nodes from pages that were read as one document each, with exact places."""

from llama_index.node_parser.kosmos.base import KosmosNodeParser

__all__ = ["KosmosNodeParser"]
