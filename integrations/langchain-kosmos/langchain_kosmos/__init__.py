"""LangChain documents from scanned pages, each with its place on the paper."""

from langchain_kosmos.document_loaders import KosmosLoader

__all__ = ["KosmosLoader"]
