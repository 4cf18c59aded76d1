"""`KosmosFAISS`: a folder of documents with their vectors, as a LangChain vector store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from uuid import uuid4

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from kosmos_loader.embedding import Embeddings as Embedder
from kosmos_loader.errors import UsageError
from kosmos_loader.loading import embedded_text
from kosmos_loader.store import Entry, Found, Mode, Store

Filter = Mapping[str, Any]


class KosmosFAISS(VectorStore):
    """Documents and their vectors in a folder: SQLite holds them, FAISS finds them.

    Setup:
        `pip install langchain-kosmos`

    Instantiate:
        ```python
        from langchain_kosmos import KosmosFAISS

        with KosmosFAISS.open("store", embedding=embeddings) as vectors: ...
        ```

    Add and delete:
        ```python
        vectors.add_documents(documents)  # those with an id replace what has it
        vectors.delete(ids=["a", "b"])
        vectors.delete(filter={"source": "/scans/letter.pdf"})
        ```

    Search:
        ```python
        vectors.similarity_search("quay wall", k=3, filter={"page": {"$gte": 2}})
        vectors.as_retriever(search_type="mmr")
        ```

    Nothing is pickled, so there is no flag to allow that. What was added is on disk when the call
    returns. The folder is that of `kosmos_loader.Store`: one made by `kosmos-loader index` gives
    the documents of `KosmosLoader`, and the command line searches what is added here. One process
    may write to it at a time, many may read.

    `filter` is a dict: equality, `$gt`, `$gte`, `$lt`, `$lte`, `$ne`, `$in`, `$nin`, `$contains`,
    `$exists`, `$and`, `$or`, `$not` (`kosmos_loader.store.filters`). It is applied before the
    search, so that `k` documents come back whenever so many pass it.

    Scores are cosines, from 1 for the same direction to 0, which also stands for all below it. With
    `mode="hybrid"` or `"lexical"`, which every search by text takes, they are those of
    `Store.search`. Raises `KosmosLoaderError`s.
    """

    def __init__(self, store: Store, *, embedding: Embedder | None = None) -> None:
        self.store = store
        self._embedding = embedding

    @classmethod
    def open(
        cls,
        folder: str | Path | None = None,
        *,
        embedding: Embedder | None = None,
        create: bool = True,
    ) -> Self:
        """The store in `folder`, made there if there is none and `create` is true.

        Without a folder it is kept in a temporary one until it is closed. `embedding` is any
        LangChain `Embeddings`; without it, a new store gets `kosmos_loader.HashEmbedder`, which
        needs no model, and an old one can be searched by words (`mode="lexical"`) if it was made
        with another. Raises `StoreMismatch` where the store was made with another embedding, and
        what else `kosmos_loader.Store.open` does.
        """
        if folder is None:
            return cls(Store.temporary(embedder=embedding), embedding=embedding)
        store = Store.open(folder, embedder=embedding, create=create)
        return cls(store, embedding=embedding)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        folder: str | Path | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store with `texts` in it, in `folder` (`open`); what else is there stays.

        Without a folder it is temporary, so an option that is spelt wrong is a `UsageError`.
        """
        if kwargs:
            raise UsageError(f"from_texts takes metadatas, ids and folder, not {_listed(kwargs)}")
        vectors = cls.open(folder, embedding=embedding)
        try:
            vectors.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            vectors.close()  # nobody else could, and others could not write
            raise
        return vectors

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
        """Let others write; a second time does nothing."""
        self.store.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(self.store, embedding=self._embedding)

    def __reduce__(self) -> tuple[Any, ...]:
        """Folder and embedding: a copy in another process opens the store there."""
        if self.store.is_temporary:
            raise UsageError("a temporary store cannot be pickled; give it a folder")
        return _reopened, (type(self), self.store.folder, self._embedding)

    @property
    def embeddings(self) -> Embeddings | None:
        """What embeds its texts; None for a store that was opened without what it was made with.

        Without one of LangChain's, that is the store's own, which has the same methods.
        """
        return cast("Embeddings | None", self._embedding or self.store.embedder)

    # Adding and deleting

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        **kwargs: Any,  # noqa: ARG002 - LangChain's `index` gives a batch_size
    ) -> list[str]:
        """Add `texts`, replacing what has the same id; the ids of all, in order.

        An id that is None is made up. A text that has not changed is not embedded again.
        """
        return self._put(texts, metadatas, ids)

    def add_embeddings(
        self,
        text_embeddings: Iterable[tuple[str, Sequence[float]]],
        metadatas: Iterable[Mapping[str, Any]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
    ) -> list[str]:
        """Add texts whose vectors are there already, as `add_texts` does."""
        pairs = list(text_embeddings)
        vectors = [vector for _, vector in pairs]
        return self._put([text for text, _ in pairs], metadatas, ids, vectors)

    def _put(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any]] | None,
        ids: Iterable[str | None] | None,
        vectors: Iterable[Sequence[float]] | None = None,
    ) -> list[str]:
        entries = list(_entries(texts, metadatas, ids))
        self.store.put(entries, vectors=vectors)
        return [entry.id for entry in entries]

    def delete(
        self,
        ids: Iterable[str] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002 - the name LangChain's users know
        **kwargs: Any,  # noqa: ARG002 - as LangChain has it
    ) -> bool:
        """Delete the documents with these ids, or those that a filter lets through; True.

        Ids that are not there are passed over. `UsageError` where neither is given, since that is
        rarely meant: `vectors.store.clear()` deletes everything.
        """
        if ids is None and filter is None:
            raise UsageError(
                "delete(ids=...) or delete(filter=...) says what goes; to delete everything call "
                "store.clear() of the vector store"
            )
        self.store.delete(ids, filter=checked(filter))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order, without those that are not there."""
        return [document_of(entry) for entry in self.store.entries(ids)]

    # Searching

    def similarity_search(
        self,
        query: str,
        k: int = 4,
        filter: Filter | None = None,  # noqa: A002 - the name LangChain's users know
        *,
        mode: Mode = "dense",
        **kwargs: Any,
    ) -> list[Document]:
        """The `k` documents nearest to `query`, nearest first."""
        found = self._find(query, k, filter, kwargs, mode=mode)
        return [document_of(entry) for entry, _ in found]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Filter | None = None,  # noqa: A002 - the name LangChain's users know
        *,
        mode: Mode = "dense",
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """The `k` documents nearest to `query`, with their scores."""
        found = self._find(query, k, filter, kwargs, mode=mode)
        return [(document_of(entry), score) for entry, score in found]

    def similarity_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: Filter | None = None,  # noqa: A002 - the name LangChain's users know
        **kwargs: Any,
    ) -> list[Document]:
        """The `k` documents nearest to a vector, nearest first."""
        found = self.similarity_search_with_score_by_vector(embedding, k, filter, **kwargs)
        return [document for document, _ in found]

    def similarity_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: Filter | None = None,  # noqa: A002 - the name LangChain's users know
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """The `k` documents nearest to a vector, with their scores."""
        found = self._find(None, k, filter, kwargs, vector=embedding, mode="dense")
        return [(document_of(entry), score) for entry, score in found]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,  # noqa: A002 - the name LangChain's users know
        **kwargs: Any,
    ) -> list[Document]:
        """`k` of the `fetch_k` nearest documents, near to `query` and unlike one another.

        `lambda_mult` is 1 for the nearest and 0 for the most unlike (Carbonell and Goldstein 1998).
        """
        return self._diverse(query, None, k, fetch_k, lambda_mult, filter, kwargs)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,  # noqa: A002 - the name LangChain's users know
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, near to a vector."""
        return self._diverse(None, embedding, k, fetch_k, lambda_mult, filter, kwargs)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return _as_it_is

    def _find(
        self,
        query: str | None,
        k: int,
        filter: Filter | None,  # noqa: A002 - as above
        others: Mapping[str, Any],
        **how: Any,
    ) -> list[Found]:
        _refuse(others)
        return self.store.find(query, k, checked(filter), **how)

    def _diverse(
        self,
        query: str | None,
        vector: Sequence[float] | None,
        k: int,
        pool: int,
        balance: float,
        filter: Filter | None,  # noqa: A002 - as above
        others: Mapping[str, Any],
    ) -> list[Document]:
        _refuse(others)
        found = self.store.find_diverse(
            query, k, checked(filter), pool=pool, balance=balance, vector=vector
        )
        return [document_of(entry) for entry, _ in found]


def _reopened(kind: type[KosmosFAISS], folder: Path, embedding: Embedder | None) -> KosmosFAISS:
    return kind.open(folder, embedding=embedding, create=False)


def document_of(entry: Entry, **more: Any) -> Document:
    """The document that `entry` of a store stands for, with `more` in its metadata."""
    metadata = {key: value for key, value in entry.metadata.items() if key not in _OF_NODES}
    return Document(entry.text, id=entry.id, metadata={**metadata, **more})


_OF_NODES = frozenset({"_node_content", "_node_type"})
"""What LlamaIndex's stores put into the metadata of a node, its text and relations once more."""


def _entries(
    texts: Iterable[str],
    metadatas: Iterable[Mapping[str, Any]] | None,
    ids: Iterable[str | None] | None,
) -> Iterator[Entry]:
    if isinstance(texts, str):
        raise UsageError("texts is a list of texts and not one; write it in brackets")
    texts = list(texts)
    described = repeat({}, len(texts)) if metadatas is None else list(metadatas)
    named = repeat(None, len(texts)) if ids is None else list(ids)
    try:
        rows = list(zip(texts, described, named, strict=True))
    except ValueError as error:
        raise UsageError(
            f"there are {len(texts)} texts, and not as many metadatas or ids; give one for each"
        ) from error
    for text, metadata, given in rows:
        if not isinstance(metadata, Mapping | None):
            raise UsageError(
                f"metadatas is a list of dicts, one for each text, not {metadata!r:.80}"
            )
        yield Entry(
            id=given or uuid4().hex,
            text=text,
            metadata=dict(metadata or {}),
            doc_id=_word(metadata, "doc_id"),
            source=_word(metadata, "source"),
            embedded=embedded_text(text, metadata),
        )


def _word(metadata: Mapping[str, Any] | None, key: str) -> str:
    value = (metadata or {}).get(key)
    return value if isinstance(value, str) else ""


def checked(filter: Any) -> Filter | None:  # noqa: A002 - as above
    """`filter`, if it is none of the functions that other stores take."""
    if callable(filter):
        raise UsageError(
            "a filter is a dict here and no function: it is applied in the database before the "
            'search, as in filter={"source": "/scans/a.pdf", "page": {"$gte": 2}}'
        )
    return cast("Filter | None", filter)


def _refuse(options: Mapping[str, Any]) -> None:
    if options:
        raise UsageError(
            f"the search takes no {_listed(options)}; it takes k, filter and mode, and needs no "
            "fetch_k, since a filter is applied before it"
        )


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(sorted(options))


def _as_it_is(score: float) -> float:
    return score
