"""From text to vectors: the `Embedder` seam, and `HashEmbedder`, which needs no model.

An embedder has LangChain's own two methods, so any LangChain `Embeddings` fits as it is; what those
lack, `dimension_of` and `name_of` find out. The words that a text is taken apart into here are the
words of the store's lexical index too, so that both searches read a page alike.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache, partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.checks import check_whole
from kosmos_loader.errors import UsageError

Vectors = Sequence[Sequence[float]] | NDArray[Any]
"""[texts, dim]: lists of floats or an array."""

Vector = Sequence[float] | NDArray[Any]
"""[dim]"""


@runtime_checkable
class Embeddings(Protocol):
    """What LangChain calls an `Embeddings`: all that the store needs."""

    def embed_documents(self, texts: list[str]) -> Vectors:
        """One vector for each text, in order."""
        ...

    def embed_query(self, text: str) -> Vector:
        """The vector of a question, comparable with those of `embed_documents`."""
        ...


@runtime_checkable
class Embedder(Embeddings, Protocol):
    """An `Embeddings` that also says how long its vectors are and what it is called.

    `name` changes whenever the same text could get another vector: a store refuses to be opened
    with an embedder of another name. An attribute `rank_weight` (1.0 where there is none) is the
    weight of its ranks when they are joined with those of the lexical search.
    """

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        ...

    @property
    def name(self) -> str:
        """Kind, version and size, as in "hash-v1-1024"."""
        ...


def dimension_of(embedder: Embeddings) -> int:
    """Numbers in a vector of `embedder`; one that does not say is asked to embed a word."""
    stated = getattr(embedder, "dim", None)
    return stated if isinstance(stated, int) else len(embedder.embed_query("dimension"))


def name_of(embedder: Embeddings) -> str:
    """The name of `embedder`; for one that has none, its package, class and model.

    As in "langchain_openai.OpenAIEmbeddings:text-embedding-3-small": modules inside the package
    are left out, since they move between versions.
    """
    stated = getattr(embedder, "name", None)
    if isinstance(stated, str) and stated:
        return stated
    kind = type(embedder)
    called = f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
    models = (getattr(embedder, attribute, None) for attribute in _MODEL_ATTRIBUTES)
    model = next((value for value in models if isinstance(value, str) and value), None)
    return f"{called}:{model}" if model else called


_MODEL_ATTRIBUTES = ("model", "model_name", "model_id", "repo_id", "deployment")


class HashEmbedder:
    """Vectors of hashed character n-grams: no model, no fitting, the same on every machine.

    Words that an OCR engine spelt wrong keep most of their n-grams, and so their place. Each word
    is padded with its borders and gives its n-grams of 3 to 5 characters, and itself with weight 2;
    scripts without spaces give pairs of characters and single ones; numbers joined by punctuation
    (dates, amounts) also count as one word, however they are joined. An n-gram adds +1 or -1 to one
    of `dim` places (signed hashing: Weinberger et al. 2009, arXiv:0902.2206). A word counts
    1 + ln(times it occurs), and the square root of its length, since short words are the common
    ones. Vectors are float32 of length 1; a text without a letter or digit has a vector of zeros.
    """

    rank_weight = 0.1
    """Hashing knows no rare and common words, so its ranks only break near-ties of lexical ones."""

    def __init__(self, dim: int = 1024) -> None:
        _check_dim(dim)
        self._dim = dim

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._dim

    @property
    def name(self) -> str:
        """Version of the hashing, and `dim`."""
        return f"{_HASH_NAME}{self._dim}"

    def embed_documents(self, texts: list[str]) -> NDArray[np.float32]:
        """[texts, dim], float32, each row of length 1 or 0."""
        vectors = np.zeros((len(texts), self._dim), np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self.embed_query(text)
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """[dim], float32, of length 1 or 0."""
        counts = Counter([*words(text), *numbers(text)])
        if not counts:
            return np.zeros(self._dim, np.float32)
        parts = [_hashed(word, self._dim) for word in counts]
        sizes = np.array([len(part) // _FEATURE for part in parts])
        # What the n-grams of a word add has the length of the square root of its letters, and the
        # word itself, which comes last, counts as two of them.
        each = np.sqrt([len(word) for word in counts]) / np.sqrt(sizes + 3)
        tf = [1 + math.log(count) for count in counts.values()]
        weights = np.repeat(each, sizes)
        weights[np.cumsum(sizes) - 1] *= 2
        features = np.frombuffer(b"".join(parts), np.uint32)
        weights[features % 2 == 1] *= -1
        vector = np.bincount(features // 2, weights * np.repeat(tf, sizes), self._dim)
        length = float(np.linalg.norm(vector))
        # Every feature may cancel against another; then there is nothing to scale.
        return (vector / length if length else vector).astype(np.float32)


_HASH_NAME = "hash-v1-"


class GivenVectors:
    """The embedder of a store whose vectors are made elsewhere: it embeds nothing.

    Such a store is given its vectors with `Store.put(entries, vectors=...)` and asked with
    `Store.find(vector=...)`, or by words alone.
    """

    def __init__(self, dim: int, name: str = "given") -> None:
        _check_dim(dim)
        self._dim = dim
        self._name = name

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._dim

    @property
    def name(self) -> str:
        """What the vectors are called: a store refuses to be opened with another name."""
        return self._name

    def embed_documents(self, texts: list[str]) -> NDArray[np.float32]:
        """Nothing: `UsageError`, unless there is no text either."""
        if not texts:
            return np.zeros((0, self._dim), np.float32)
        raise UsageError(
            "the vectors of this store are made elsewhere: put(entries, vectors=...) adds with them"
        )

    def embed_query(self, text: str) -> NDArray[np.float32]:  # noqa: ARG002 - the seam's
        """Nothing: `UsageError`."""
        raise UsageError(
            "the vectors of this store are made elsewhere: give the question's with vector=..., or "
            'search by words with mode="lexical"'
        )


def _check_dim(dim: int) -> None:
    check_whole(dim, "dim")
    if dim < 1:
        raise UsageError(f"a vector needs at least one number, not {dim}")


def named(name: str) -> HashEmbedder | None:
    """The `HashEmbedder` that is called `name`, None where that is no name of one."""
    dim = name.removeprefix(_HASH_NAME)
    if dim == name or not re.fullmatch(r"[1-9][0-9]{0,5}", dim):
        return None
    return HashEmbedder(int(dim))


def words(text: str) -> list[str]:
    """The words of `text` in order: folded, without punctuation, pairs where nothing is spaced.

    Folded means compatibility forms (ligatures, full width), case and the accents of Latin, Greek
    and Cyrillic letters are evened out. A run of Chinese, Japanese, Thai, Lao, Khmer or Burmese
    becomes its overlapping pairs of characters, as in Lucene's CJKBigramFilter.
    """
    spaced = folded(text).translate(_SEPARATORS).split()
    if text.isascii():
        return spaced
    return [word for piece in spaced for word in _unspaced(piece)]


def numbers(text: str) -> list[str]:
    """Numbers joined by punctuation, with hyphens: "23-06-2018" for "23/06/2018", "12-50" too."""
    return ["-".join(words(match)) for match in _NUMBER.findall(folded(text))]


def folded(text: str) -> str:
    """`text` with compatibility forms, case and common accents evened out."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return unicodedata.normalize("NFKC", _ACCENTS.sub("", apart))


# from the first digit of a run: from the others it would look for the same again
_NUMBER = re.compile(r"(?<!\d)\d+(?:[-/.:,][^\W_]+)*[-/.:,]\d+")
_ACCENTS = re.compile("[\u0300-\u036f]")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_WORDS_KEPT = 12_288
"""Words whose features are remembered: 3 MB."""

_FEATURE = 4
"""Bytes of a feature in the cache."""

_LONG = 64
"""Characters from which on a word is not kept in the cache: such words do not come twice."""


class _Separators(dict[int, str]):
    """For `str.translate`: letters, digits and combining marks as they are, all else a space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = character.isalnum() or unicodedata.category(character).startswith("M")
        self[code] = character if kept else " "
        return self[code]


_SEPARATORS = _Separators()


def _unspaced(piece: str) -> Iterator[str]:
    done = 0
    for run in _UNSPACED.finditer(piece):
        if run.start() > done:
            yield piece[done : run.start()]
        yield from _pairs(run.group())
        done = run.end()
    if done < len(piece):
        yield piece[done:]


def is_unspaced(word: str) -> bool:
    """Whether all of `word` is in a script without spaces."""
    return _UNSPACED.fullmatch(word) is not None


def is_pair(word: str) -> bool:
    """Whether `word` is two characters of a script without spaces."""
    return len(word) == 2 and is_unspaced(word)


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(max(1, len(run) - 1))]


def _hashed(word: str, dim: int) -> bytes:
    """Places in the vector to which the n-grams of `word` add, and last the one of `word` itself.

    A uint32 each: twice the place, and one more where it adds a negative number.
    """
    return _kept(dim)(word) if len(word) < _LONG else _features(word, dim)


def _features(word: str, dim: int) -> bytes:
    if _UNSPACED.match(word):
        grams = list(word) if len(word) > 1 else []
    else:
        padded = f"<{word}>"
        grams = [padded[i : i + n] for n in (3, 4, 5) for i in range(len(padded) - n + 1)]
    hashes = [_mixed(zlib.crc32(g.encode("utf-8", "surrogatepass"))) for g in [*grams, f"={word}"]]
    return np.array([h % dim * 2 + (h >> 63 ^ 1) for h in hashes], np.uint32).tobytes()


@cache
def _kept(dim: int) -> Callable[[str], bytes]:
    """`_features`, remembering those of the last words that came.

    Bytes, which Python keeps in memory of its own: small arrays that stay, from malloc, land
    between large ones that go, which then leave holes too small for the next (65 KB a page). And
    few of them: 16,384 words as pairs of arrays are 13 MB, which 10,000 pages fill and 100 do not.
    """
    return lru_cache(maxsize=_WORDS_KEPT)(partial(_features, dim=dim))


def _mixed(crc: int) -> int:
    """64 bits of a checksum: CRC is linear, so like n-grams would collide with like ones."""
    mixed = (crc + 0x9E3779B97F4A7C15) & _WORD
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _WORD
    return mixed ^ (mixed >> 31)


_WORD = (1 << 64) - 1
