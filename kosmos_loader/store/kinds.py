"""The two kinds of index that a store keeps its vectors in, and the one door to FAISS.

`Flat` keeps vectors as they are and looks at all of them: exact, and nothing to train. `Inverted`
keeps each as one byte a number in the list of the nearest of some hundred centres, and looks at
`nprobe` lists: a fifth of the memory and a small part of the work, for candidates whose true
scores are then taken from SQLite. Vectors can be removed from both, which HNSW cannot do.

FAISS searches with OpenMP threads, which do not survive a fork: a child that searches with more
than one thread after its parent has searched hangs. So a child is set to one thread here.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from kosmos_loader.errors import StoreError
from kosmos_loader.store.vectors import Keys, Matrix

_process = os.getpid()

_ITERATIONS = 10
"""Of k-means, as FAISS has it for inverted indexes."""

_MARGIN = 0.1
"""Room on both sides of the range of a number in the sample, for what is added later."""

_NARROW = 0.1
"""Share of the vectors up to which a filter has all lists looked through."""

_BITMAP = 1 << 28
"""Largest key up to which a selection is a bitmap (of up to 32 MB) and not a set."""


class Kind:
    """Vectors of length 1 under 63-bit keys, in a FAISS index."""

    exact: ClassVar[bool]
    """Whether scores are those of the vectors themselves."""

    def __init__(self, index: Any) -> None:
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def lists(self) -> int:
        """Lists that the vectors lie in; 0 for a flat index."""
        return 0

    def add(self, keys: Keys, vectors: Matrix) -> None:
        """Add vectors [n, dim] under keys [n] that are not there yet."""
        with translated():
            self._index.add_with_ids(vectors, keys)

    def remove(self, keys: Keys) -> None:
        """Remove what is under `keys`; those that are not there are passed over."""
        if not len(keys) or not len(self):
            return
        with translated():
            self._index.remove_ids(library().IDSelectorBatch(keys))

    def search(self, vector: Matrix, k: int, keys: Keys | None = None) -> list[tuple[int, float]]:
        """Up to `k` (key, score) that are near `vector` [dim]; with `keys`, of those only."""
        with translated():
            options = self._options(keys)
            scores, found = self._index.search(vector.reshape(1, -1), k, params=options)
        near = zip(found[0].tolist(), scores[0].tolist(), strict=True)
        return [(key, score) for key, score in near if key >= 0]  # FAISS pads with -1

    def _options(self, keys: Keys | None) -> Any:
        """FAISS's parameters of a search among `keys`."""
        raise NotImplementedError

    def parts(self) -> Iterator[tuple[Keys, Any]]:
        """All keys, a part at a time and in order within it, with what `same` compares."""
        raise NotImplementedError

    def same(self, kept: Any, vectors: Matrix) -> bool:
        """Whether a part is what becomes of `vectors` [n, dim]."""
        raise NotImplementedError

    def write(self, path: Path) -> None:
        """Write the index to a file."""
        with translated():
            library().write_index(self._index, str(path))


class Flat(Kind):
    """All vectors as they are: exact."""

    exact = True

    @classmethod
    def empty(cls, dim: int, *, room: int = 0) -> Self:
        """A flat index without vectors, with memory taken for `room` of them."""
        faiss = library()
        flat = faiss.IndexFlatIP(dim)
        # It would double its memory whenever that is full, and hold old and new for a while.
        flat.codes.resize(4 * dim * room)
        flat.codes.resize(0)
        return cls(faiss.IndexIDMap(flat))

    def _options(self, keys: Keys | None) -> Any:
        """As `Kind._options`."""
        return None if keys is None else library().SearchParameters(sel=_selector(keys))

    def parts(self) -> Iterator[tuple[Keys, Any]]:
        """As `Kind.parts`."""
        if not len(self):
            return
        faiss = library()
        with translated():
            keys = faiss.vector_to_array(self._index.id_map)
            flat = faiss.downcast_index(self._index.index)
        for start in range(0, len(keys), _PART):
            part = keys[start : start + _PART]
            order = np.argsort(part)
            with translated():
                yield part[order], flat.reconstruct_n(start, len(part))[order]

    def same(self, kept: Any, vectors: Matrix) -> bool:
        """As `Kind.same`."""
        return bool(kept.tobytes() == vectors.astype("<f4").tobytes())


_PART = 4096
"""Vectors of a flat index that are compared at a time."""


class Inverted(Kind):
    """One byte a number, in lists around centres: candidates, fast."""

    exact = False

    @classmethod
    def trained(cls, sample: Matrix, lists: int) -> Self:
        """An index without vectors whose centres and ranges fit `sample` [n, dim]."""
        faiss = library()
        dim = sample.shape[1]
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dim),
            dim,
            lists,
            faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
            False,  # codes of the vectors, not of what their centres leave: they can be checked
        )
        index.cp.niter, index.cp.spherical, index.cp.seed = _ITERATIONS, True, 1
        index.cp.min_points_per_centroid = 1  # how many there are is decided where it is called
        index.sq.rangestat_arg = _MARGIN
        with translated():
            index.train(sample)
        return cls(index)

    @property
    def lists(self) -> int:
        """As `Kind.lists`."""
        return int(self._index.nlist)

    @property
    def nprobe(self) -> int:
        """Lists that a search looks into; kept in the file."""
        return int(self._index.nprobe)

    @nprobe.setter
    def nprobe(self, lists: int) -> None:
        self._index.nprobe = lists

    def _options(self, keys: Keys | None) -> Any:
        """As `Kind._options`."""
        if keys is None:
            return library().SearchParametersIVF(nprobe=self.nprobe)
        # The fewer may be found, the further apart they lie, and the less is lost by looking.
        share = len(keys) / max(1, len(self))
        wider = self.lists if share < _NARROW else math.ceil(self.nprobe / share)
        return library().SearchParametersIVF(sel=_selector(keys), nprobe=min(self.lists, wider))

    def parts(self) -> Iterator[tuple[Keys, Any]]:
        """As `Kind.parts`."""
        faiss = library()
        inverted = self._index.invlists
        for place in range(self.lists):
            size = inverted.list_size(place)
            if not size:
                continue
            keys = faiss.rev_swig_ptr(inverted.get_ids(place), size)
            codes = faiss.rev_swig_ptr(inverted.get_codes(place), size * self._index.code_size)
            order = np.argsort(keys)
            yield keys[order], codes.reshape(size, -1)[order]

    def same(self, kept: Any, vectors: Matrix) -> bool:
        """As `Kind.same`."""
        with translated():
            return bool(np.array_equal(self._index.sq.compute_codes(vectors), kept))


class NotAnIndex(Exception):
    """Why a file is not read as an index."""


def read(path: Path, *, dim: int, count: int, lists: int) -> Kind:
    """The index in a file; `NotAnIndex` where it is not of the kind and size that is expected."""
    faiss = library()
    size = path.stat().st_size
    with path.open("rb") as file:
        mark = file.read(4)
    # FAISS can read some dozens of kinds; only two are ever let near its parser.
    if mark != (_INVERTED if lists else _FLAT):
        raise NotAnIndex("it is another kind of index")
    with _limited(faiss, size):
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise NotAnIndex(f"FAISS cannot read it ({error})") from error
    if not _is_flat(index) if not lists else not _is_inverted(index, lists, dim):
        raise NotAnIndex("it is another kind of index")
    if index.d != dim or index.ntotal != count or not index.is_trained:
        raise NotAnIndex(f"it holds {index.ntotal} vectors of {index.d} numbers")
    return Inverted(index) if lists else Flat(index)


_FLAT = b"IxMp"
_INVERTED = b"IwSq"


def _is_flat(index: Any) -> bool:
    faiss = library()
    if type(index) is not faiss.IndexIDMap:
        return False
    inner = faiss.downcast_index(index.index)
    keys = index.id_map.size()
    return isinstance(inner, faiss.IndexFlatIP) and keys == inner.ntotal == index.ntotal


def _is_inverted(index: Any, lists: int, dim: int) -> bool:
    faiss = library()
    if not isinstance(index, faiss.IndexIVFScalarQuantizer):
        return False
    centres = faiss.downcast_index(index.quantizer)
    inverted = faiss.downcast_InvertedLists(index.invlists)
    return (
        (index.nlist, index.code_size, index.by_residual) == (lists, dim, False)
        and index.metric_type == faiss.METRIC_INNER_PRODUCT
        and index.sq.qtype == faiss.ScalarQuantizer.QT_8bit
        and isinstance(centres, faiss.IndexFlatIP)
        and (centres.ntotal, centres.d) == (lists, dim)
        and isinstance(inverted, faiss.ArrayInvertedLists)
        and (inverted.nlist, inverted.code_size) == (lists, dim)
        and inverted.compute_ntotal() == index.ntotal
        and 1 <= index.nprobe <= lists
    )


def least_bytes(*, dim: int, count: int, lists: int) -> int:
    """Bytes of vectors, keys and centres in a file: it is larger by no more than `most_over`."""
    if not lists:
        return count * (4 * dim + 8)
    return count * (dim + 8) + lists * 4 * dim


def most_over(*, dim: int, lists: int) -> int:
    """Bytes that FAISS spends on headers, ranges and the sizes of lists, at most."""
    return 512 + 8 * dim + 16 * lists


def _selector(keys: Keys) -> Any:
    faiss = library()
    top = int(keys.max(initial=0))
    if top >= _BITMAP:
        return faiss.IDSelectorBatch(keys)
    bits = np.zeros(top + 1, np.uint8)
    bits[keys] = 1
    return faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))


@contextlib.contextmanager
def _limited(faiss: Any, size: int) -> Iterator[None]:
    """Let FAISS allocate no more for a file than the file can hold (its issue 5400)."""
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):  # before 1.13
        yield
        return
    before = faiss.get_deserialization_vector_byte_limit()
    faiss.set_deserialization_vector_byte_limit(max(4 * size, 4096))
    try:
        yield
    finally:
        faiss.set_deserialization_vector_byte_limit(before)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """The door through which errors of FAISS, which are RuntimeErrors, become ours."""
    library()  # in a forked child, sets the threads before they are used
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        raise StoreError(
            f"FAISS failed ({error}); verify the store, and rebuild it if the failure stays"
        ) from error


def library() -> Any:
    """FAISS, imported when it is first needed."""
    import faiss

    # Two OpenMP runtimes in one process crash on macOS (pytorch issue 149201).
    if os.getpid() != _process or sys.platform == "darwin":
        faiss.omp_set_num_threads(1)
    return faiss
