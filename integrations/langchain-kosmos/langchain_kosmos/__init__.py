"""LangChain documents from scanned pages, each with its place on the paper."""

from langchain_kosmos.answering import cited_answer
from langchain_kosmos.document_loaders import KosmosBlobParser, KosmosLoader
from langchain_kosmos.retrievers import KosmosRetriever
from langchain_kosmos.vectorstores import KosmosFAISS

__all__ = ["KosmosBlobParser", "KosmosFAISS", "KosmosLoader", "KosmosRetriever", "cited_answer"]
