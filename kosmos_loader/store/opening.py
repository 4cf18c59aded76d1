"""What is in a folder, and whether an embedder fits the store there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kosmos_loader.durable import is_temporary
from kosmos_loader.embedding import Embeddings, dimension_of, name_of, named
from kosmos_loader.errors import StoreCorrupt, StoreError, StoreMismatch, UsageError
from kosmos_loader.store import database, index, manifest
from kosmos_loader.store.database import Meta, new_meta

LOCK = "lock"
"""The file that the writer locks."""

_OURS = (index.NAME, manifest.NAME, LOCK)


def store_is_in(folder: Path, *, alone: bool) -> bool:
    """Whether there is a store in `folder`.

    `StoreCorrupt` where one was, and where something else is and a store would have to be `alone`
    in it, `StoreError`.
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise StoreError(f"{folder} is a file; a store is a folder")
    if (folder / database.NAME).exists():
        return True
    if manifest.read(folder) is not None:
        raise StoreCorrupt(
            f"{folder} was a store, but {database.NAME} is gone; restore it from a backup, or "
            "index the files again into a new folder"
        )
    found = [path for path in folder.iterdir() if not is_temporary(path)]
    strangers = sorted(path.name for path in found if path.name not in _OURS)
    if strangers and alone:
        raise StoreError(
            f"{folder} holds other things ({', '.join(strangers[:3])}); choose a folder that is "
            "empty or does not exist yet"
        )
    return False


def maker(embedder: Embeddings) -> Callable[[], Meta]:
    """What says, once a store has to be made, what it is made as."""

    def meta() -> Meta:
        name = name_of(embedder)
        try:
            dim = dimension_of(embedder)
        except OSError as error:  # else the store would be blamed for it
            raise StoreError(
                f"{name} cannot embed ({error}); mend that, or use another embedder"
            ) from error
        if dim < 1:
            raise StoreError(f"{name} returned a vector of {dim} numbers; use another embedder")
        return new_meta(dim=dim, embedder=name)

    return meta


def check_embedder(embedder: object) -> None:
    """`UsageError` for what cannot embed: the name of a model, or a class."""
    methods = (getattr(embedder, name, None) for name in ("embed_documents", "embed_query"))
    if isinstance(embedder, type) or not all(map(callable, methods)):
        raise UsageError(
            "an embedder is an object with embed_documents and embed_query, such as HashEmbedder() "
            f"or any embeddings of LangChain, not {embedder!r:.80}"
        )


def fitting(embedder: Embeddings | None, meta: Meta, folder: Path) -> Embeddings | None:
    """The embedder to use; `StoreMismatch` where it is not the one that made the store."""
    if embedder is None:
        return named(meta.embedder)
    dim = getattr(embedder, "dim", meta.dim)
    if (name_of(embedder), dim) != (meta.embedder, meta.dim):
        raise StoreMismatch(
            f"the store in {folder} was made with embedder {meta.embedder!r} ({meta.dim} numbers a "
            f"vector), not with {name_of(embedder)!r} ({dim}); open it with the first, or index "
            "the files again into a new folder"
        )
    return embedder
