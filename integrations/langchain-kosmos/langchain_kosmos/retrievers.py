"""`KosmosRetriever`: what a store finds by words and by vectors, as a LangChain retriever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict

from kosmos_loader.errors import UsageError
from kosmos_loader.store import Mode
from langchain_kosmos.vectorstores import KosmosFAISS, checked, document_of


class KosmosRetriever(BaseRetriever):
    """Retrieves by words and by vectors together, and what stands around a hit where that is asked.

    Setup:
        `pip install langchain-kosmos`

    Instantiate:
        ```python
        from langchain_kosmos import KosmosFAISS, KosmosRetriever

        vectors = KosmosFAISS.open("store", embedding=embeddings)
        retriever = KosmosRetriever(vectorstore=vectors, k=5)
        ```

    Usage:
        ```python
        retriever.invoke("What did the roof cost?")
        retriever.invoke("What did the roof cost?", k=2, filter={"kind": "table"})
        ```

    Every field but `vectorstore` can also be given to `invoke`. `metadata["score"]` of a document
    says how well it fits, 0 to 1 (`kosmos_loader.Store.search`). With `before` or `after`, so many
    chunks before and after each hit, in the order of its file, come with it, each document once:
    hits best first, what stands around a hit in reading order with it. A neighbour has no score;
    its `metadata["neighbour_of"]` is the id of the hit.
    """

    model_config = ConfigDict(extra="forbid")

    vectorstore: KosmosFAISS
    k: int = 4
    filter: Any = None
    """A dict, as for `KosmosFAISS`."""

    mode: Mode = "hybrid"
    before: int = 0
    after: int = 0

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - as LangChain has it
        **fields: Any,
    ) -> list[Document]:
        return list(_documents(query, self._changed(fields)))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **fields: Any
    ) -> list[Document]:
        return await run_in_executor(
            None, self._get_relevant_documents, query, run_manager=run_manager.get_sync(), **fields
        )

    def _changed(self, fields: Mapping[str, Any]) -> KosmosRetriever:
        """The same retriever with other `fields`, checked as those of the constructor are."""
        if not fields:
            return self
        unknown = fields.keys() - _CHANGEABLE
        if unknown:
            raise UsageError(
                f"no search takes {', '.join(sorted(unknown))}; give any of "
                f"{', '.join(sorted(_CHANGEABLE))}"
            )
        own = {name: getattr(self, name) for name in _CHANGEABLE}
        return KosmosRetriever(vectorstore=self.vectorstore, **{**own, **fields})


_CHANGEABLE = frozenset(KosmosRetriever.model_fields) - {"vectorstore", "name", "tags", "metadata"}


def _documents(query: str, how: KosmosRetriever) -> Iterator[Document]:
    store = how.vectorstore.store
    found = store.find(query, how.k, checked(how.filter), mode=how.mode)
    told = {entry.id for entry, _ in found}
    for hit, score in found:
        for entry in store.around(hit.id, before=how.before, after=how.after):
            if entry.id == hit.id:
                yield document_of(entry, score=score)
            elif entry.id not in told:
                told.add(entry.id)
                yield document_of(entry, neighbour_of=hit.id)
