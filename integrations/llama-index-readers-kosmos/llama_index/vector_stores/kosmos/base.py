"""`KosmosVectorStore`: a folder of nodes with their vectors, as a LlamaIndex vector store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr, model_validator
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.readers.kosmos.fields import only_known
from llama_index.vector_stores.kosmos.filters import Filter, filter_of
from llama_index.vector_stores.kosmos.nodes import entry_of, node_of

from kosmos_loader.embedding import GivenVectors
from kosmos_loader.errors import StoreNotFound, UsageError
from kosmos_loader.store import Found, Store

POOL = 4
"""Of how many times `similarity_top_k` nearest nodes MMR chooses, as in LlamaIndex's own stores."""

COPIED = 1000
"""Nodes that `persist` holds in memory at a time."""


class KosmosVectorStore(BasePydanticVectorStore):
    """Nodes and their vectors in a folder: SQLite holds them, FAISS finds them.

    ```python
    from llama_index.core import StorageContext, VectorStoreIndex
    from llama_index.vector_stores.kosmos import KosmosVectorStore

    with KosmosVectorStore(folder="store") as vectors:
        context = StorageContext.from_defaults(vector_store=vectors)
        index = VectorStoreIndex.from_documents(documents, storage_context=context)

    index = VectorStoreIndex.from_vector_store(KosmosVectorStore(folder="store"))
    ```

    A node that is added again replaces itself; what was added is on disk when the call returns;
    nothing is pickled. One process may write to a folder at a time, from its first write until
    `close`, and many may read. The store is made at the first `add`, for vectors as long as its.
    A folder made by `kosmos-loader index` can be asked too: by words (`TEXT_SEARCH`), or by
    vectors of the embedder it was made with.

    Filters know every `FilterOperator` and nest with AND, OR and NOT; they are applied before the
    search, so that `similarity_top_k` nodes come back whenever so many pass. Query modes:

    - `DEFAULT`: by vector; the similarity is the cosine, 0 where it is negative.
    - `TEXT_SEARCH`, `SPARSE`: by the words of the question (BM25), no embedding is needed.
    - `HYBRID`, `SEMANTIC_HYBRID`: both, joined by reciprocal ranks; 1.0 is first in both. `alpha`
      is what vectors count against words (`Store.find`): 0 is words alone, 1 vectors alone, 0.5
      and None both alike.
    - `MMR`: near the question and unlike one another; `mmr_threshold` is 1 for the nearest, 0 for
      the most unlike; of `mmr_prefetch_k` nearest, else of `mmr_prefetch_factor` (4) times as many
      as are wanted.

    Raises `KosmosLoaderError`s.
    """

    stores_text: bool = True
    folder: str | None = Field(
        default=None,
        description="Where the store is, or is to be made; None keeps it in a temporary folder"
        " until it is closed.",
    )
    embedding_name: str | None = Field(
        default=None,
        description="What the vectors are called, such as the embedding model's name; a store made"
        " under another name is refused. None takes any.",
    )

    _store: Store | None = PrivateAttr(default=None)
    _turn: Lock = PrivateAttr(default_factory=Lock)

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        embedding_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        where = None if folder is None else str(folder)
        super().__init__(**{"folder": where, "embedding_name": embedding_name, **kwargs})

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        return only_known(cls, data)

    def model_post_init(self, context: Any, /) -> None:
        """Open the store in `folder`, if there is one."""
        super().model_post_init(context)
        self._found()

    @classmethod
    def from_params(
        cls, folder: str | Path | None = None, embedding_name: str | None = None
    ) -> Self:
        """As the constructor."""
        return cls(folder, embedding_name=embedding_name)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex saves it."""
        return "KosmosVectorStore"

    @property
    def client(self) -> Store | None:
        """The store itself; None as long as nothing was added to a new one."""
        return self._found()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others write; what is asked of it afterwards opens the folder again."""
        with self._turn:
            store, self._store = self._store, None
            if store is not None:
                store.close()

    def __getstate__(self) -> dict[Any, Any]:
        """Folder and name: a copy in another process opens the store there."""
        if self.folder is None:
            raise UsageError("a temporary store cannot be pickled; give it a folder")
        return BaseModel.__getstate__(self) | {"__pydantic_private__": None}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """The same store under other fields: its folder has one writer."""
        return self.model_copy()

    # Adding and deleting

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Add `nodes`, replacing those whose ids are there; their ids, in order.

        `UsageError` for a node without an embedding, `StoreMismatch` for an embedding of another
        length than those in the store.
        """
        del kwargs  # what LlamaIndex passes on for other stores
        if not nodes:
            return []
        vectors = [_vector(node) for node in nodes]
        self._opened(len(vectors[0])).put(map(entry_of, nodes), vectors=vectors)
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete all nodes of a document; none where there is none."""
        del delete_kwargs
        if (store := self._found()) is not None:
            store.delete(doc_id=ref_doc_id)

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Delete the nodes with these ids that pass the filters; ids that are not there are passed
        over.

        `UsageError` where neither is given, since `clear` deletes everything.
        """
        del delete_kwargs
        where = _filter(node_ids, filters)
        if where is None:
            raise UsageError(
                "delete_nodes(node_ids=..., filters=...) says what goes; to delete everything call "
                "clear()"
            )
        if (store := self._found()) is not None:
            store.delete(filter=where)

    def clear(self) -> None:
        """Delete all nodes."""
        if (store := self._found()) is not None:
            store.clear()

    def persist(self, persist_path: str, fs: Any = None) -> None:
        """Copy a temporary store to the folder `persist_path`; one in a folder is on disk already.

        Nodes that another one left there are gone then.

        `UsageError` where it would have to be written to another file system than the local one.
        """
        store = self._found()
        if self.folder is not None or store is None:
            return
        if fs is not None and "file" not in fs.protocol:
            raise UsageError("a store lies on a local disk; persist it there and copy the folder")
        ids = sorted(store.ids())
        with Store.open(persist_path, embedder=GivenVectors(store.dim, store.embedder_name)) as to:
            for start in range(0, len(ids), COPIED):
                entries = store.entries(ids[start : start + COPIED])
                vectors = store.vectors(entry.id for entry in entries)
                to.put(entries, vectors=[vectors[entry.id] for entry in entries])
            to.delete(to.ids().difference(ids))  # last: what is there is not lost before

    # Finding

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
    ) -> list[BaseNode]:
        """The nodes with these ids, in their order, that pass the filters; all where neither is
        given.
        """
        if (store := self._found()) is None:
            return []
        names = sorted(store.ids(filter=_filter(node_ids, filters)))
        entries = {entry.id: entry for entry in store.entries(names)}
        wanted = entries if node_ids is None else [one for one in node_ids if one in entries]
        return [node_of(entries[name]) for name in wanted]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes that answer `query` best, best first, with their similarities, 0..1."""
        store = self._found()
        found = [] if store is None else _asked(store, query, kwargs)
        return VectorStoreQueryResult(
            nodes=[node_of(entry) for entry, _ in found],
            similarities=[score for _, score in found],
            ids=[entry.id for entry, _ in found],
        )

    # Without blocking the event loop

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """As `add`, in a thread."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """As `delete`, in a thread."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """As `delete_nodes`, in a thread."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aclear(self) -> None:
        """As `clear`, in a thread."""
        await asyncio.to_thread(self.clear)

    async def aget_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
    ) -> list[BaseNode]:
        """As `get_nodes`, in a thread."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """As `query`, in a thread."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    # The store behind it

    def _found(self) -> Store | None:
        """The store, if there is one yet."""
        with self._turn:
            if self._store is None or self._store.is_closed:  # by a copy
                self._store = self._existing()
            return self._store

    def _opened(self, dim: int) -> Store:
        """The store, made for vectors of `dim` numbers if there is none yet."""
        with self._turn:
            if self._store is None or self._store.is_closed:  # by a copy
                self._store = self._existing()
            if self._store is None:
                self._store = self._new(dim)
            return self._store

    def _existing(self) -> Store | None:
        if self.folder is None:
            return None
        try:
            store = Store.open(self.folder, create=False)
        except StoreNotFound:
            return None
        if self.embedding_name is None:
            return store
        with store:
            given = GivenVectors(store.dim, self.embedding_name)
        return Store.open(self.folder, embedder=given, create=False)

    def _new(self, dim: int) -> Store:
        given = GivenVectors(dim, self.embedding_name or "given")
        if self.folder is None:
            return Store.temporary(embedder=given)
        return Store.open(self.folder, embedder=given)


def _vector(node: BaseNode) -> Sequence[float]:
    if node.embedding is None:
        raise UsageError(
            f"node {node.node_id} has no embedding; let an index or a pipeline with an embedding "
            "model add it"
        )
    return node.embedding


def _filter(
    node_ids: Sequence[str] | None,
    filters: MetadataFilters | None,
    doc_ids: Sequence[str] | None = None,
) -> Filter | None:
    """All of these in one; None where there is nothing to hold."""
    parts: list[Filter] = []
    if node_ids is not None:
        parts.append({"$ids": list(node_ids)})
    if doc_ids is not None:
        parts.append({"$doc_ids": list(doc_ids)})
    if filters is not None and filters.filters:
        parts.append(filter_of(filters))
    return {"$and": parts} if parts else None


def _asked(store: Store, query: VectorStoreQuery, options: dict[str, Any]) -> list[Found]:
    # a retriever passes an empty list of ids where it means any
    where = _filter(query.node_ids or None, query.filters, query.doc_ids or None)
    k, words, vector = _wanted(query), query.query_str, query.query_embedding
    match _meant(query):
        case VectorStoreQueryMode.DEFAULT:
            return store.find(None, k, where, mode="dense", vector=vector)
        case VectorStoreQueryMode.SPARSE | VectorStoreQueryMode.TEXT_SEARCH:
            return store.find(words, k, where, mode="lexical")
        case VectorStoreQueryMode.HYBRID:
            alpha = 0.5 if query.alpha is None else query.alpha
            return store.find(words, k, where, mode="hybrid", vector=vector, alpha=alpha)
        case VectorStoreQueryMode.MMR:
            threshold = options.get("mmr_threshold", query.mmr_threshold)
            pool = options.get("mmr_prefetch_k") or options.get("mmr_prefetch_factor", POOL) * k
            how: dict[str, Any] = {
                "pool": int(pool),
                "balance": 0.5 if threshold is None else threshold,
            }
            return store.find_diverse(None, k, where, vector=vector, **how)
        case mode:
            raise UsageError(
                f"query mode {mode.value!r} is not known here; choose one of default, hybrid, "
                "text_search, sparse and mmr"
            )


_BOTH = (VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SEMANTIC_HYBRID)
_BY_WORDS = (VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.TEXT_SEARCH)


def _wanted(query: VectorStoreQuery) -> int:
    """How many nodes are asked for in its mode, whatever `alpha` makes of that."""
    mode = VectorStoreQueryMode(query.mode)
    own = query.hybrid_top_k if mode in _BOTH else query.sparse_top_k if mode in _BY_WORDS else None
    return own or query.similarity_top_k


def _meant(query: VectorStoreQuery) -> VectorStoreQueryMode:
    """The mode, where `alpha` says that only one side of a hybrid search counts, that side's."""
    mode = VectorStoreQueryMode(query.mode)
    if mode not in _BOTH:
        return mode
    if query.alpha == 0:
        return VectorStoreQueryMode.TEXT_SEARCH
    return VectorStoreQueryMode.DEFAULT if query.alpha == 1 else VectorStoreQueryMode.HYBRID
