"""Search by words: BM25, in which words that an OCR engine misspelt count too.

FTS5 finds chunks that share a word with the question (`postings.py`). Those, and what the dense
search found, are then ranked by BM25 (Robertson and Zaragoza 2009) whose term frequencies count
near matches, after SoftTFIDF (Cohen, Ravikumar and Fienberg 2003): a word that differs in one
letter of five, or that lost the spaces around it, counts a little less than the word itself.
Numbers are compared more strictly: a letter may stand for the digit that it looks like, and a date
or another long number that differs in a character or two counts less than half.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from kosmos_loader.embedding import folded, is_pair, words
from kosmos_loader.store.postings import K1, B, is_part

# Words that questions are made of. Archives hold few sentences, so their rarity there would make
# them count; other languages' are weighed by their rarity alone.
_FUNCTION_WORDS = frozenset(
    words(
        "a about an and any are as at be been but by can could did do does for from had has have "
        "how i in into is it its me much my of on or our s shall should so than that the their "
        "them then there these they this those to us was we were what when where which who whom "
        "whose why will with would you your"
    )
)

_WORDS = 64
"""Words of a question that are searched for; further ones are left to the dense search."""

_RUN = 8
"""Words that a run without spaces may have; longer ones are paths and the like."""

_ALIKE = 0.8
"""Smallest similarity (1 - edit distance / length) at which a word is a misspelling of another."""

_NEAR = 0.8
"""What a word counts that lost its spaces, and a number with a letter for a digit."""

_DISTANT = 0.4
"""What a long number counts at most that differs in a character or two."""

_LONG = 6
"""Characters of a long number: a date yes, an amount no."""

_JOINED = 5
"""Letters that a word needs to be looked for inside others: "total" yes, "of" no."""

_LOOKALIKES = str.maketrans("oiljszbgq", "011152869")


def terms(text: str) -> str:
    """The words of `text` as the index keeps them, with spaces between.

    Scripts without spaces are kept in overlapping pairs of characters, which find parts of two
    characters and more where the trigrams of FTS5 find none under three. One character is found as
    the beginning of a pair; those that only end one stand once more behind the rest.
    """
    every = words(text)
    if text.isascii():
        return " ".join(every)
    pairs = [word for word in every if is_pair(word)]
    begun = {pair[0] for pair in pairs}
    return " ".join([*every, *dict.fromkeys(pair[1] for pair in pairs if pair[1] not in begun)])


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for: words, and runs of words that stood together without spaces."""

    terms: tuple[str, ...]
    """Each a word, or words with spaces between: "total", "23 06 2018", "s b"."""

    @classmethod
    def of(cls, text: str) -> Question:
        """The terms of `text`, each once; function words only where there is nothing else."""
        every = list(dict.fromkeys(words(text)))
        kept = [word for word in every if word not in _FUNCTION_WORDS] or every
        pieces = (" ".join(words(piece)) for piece in folded(text).split())
        runs = [piece for piece in dict.fromkeys(pieces) if 0 < piece.count(" ") < _RUN]
        return cls((*kept[:_WORDS], *runs[:_WORDS]))

    def rank(
        self, texts: Mapping[int, str], frequencies: NDArray[np.float64], total: int
    ) -> list[tuple[int, float]]:
        """(key, score) of the `texts` (words by key) that hold a term or nearly, best first.

        `total` is the number of chunks in the store. A score is the BM25 sum over the most that
        the question can reach: 0..1.
        """
        if not texts or not self.terms:
            return []
        matches = self._matches(list(texts.values()))
        lengths = np.array([1 + text.count(" ") for text in texts.values()], np.float64)
        # How rare a term is does not depend on what only looks a little like it.
        spread = np.maximum(frequencies, (matches > _DISTANT).sum(0))
        idf = np.log1p((max(total, len(texts)) - spread + 0.5) / (spread + 0.5))
        damping = K1 * (1 - B + B * lengths / lengths.mean())
        scores = (idf * matches / (matches + damping[:, None])).sum(1) / idf.sum()
        ranked = sorted(zip(texts, scores.tolist(), strict=True), key=lambda hit: (-hit[1], hit[0]))
        return [(key, score) for key, score in ranked if score > 0]

    def _matches(self, texts: list[str]) -> NDArray[np.float64]:
        """[texts, terms]: how often each text holds each term, near matches counted less."""
        from rapidfuzz import process
        from rapidfuzz.distance import Levenshtein

        split = [text.split() for text in texts]
        every = [word for line in split for word in line]
        places: defaultdict[str, int] = defaultdict(count().__next__)
        columns = np.fromiter(map(places.__getitem__, every), np.int64, len(every))
        vocabulary = list(places)
        alike = process.cdist(
            self.terms,
            vocabulary,
            scorer=Levenshtein.normalized_similarity,
            score_cutoff=_ALIKE,
            dtype=np.float32,
        ).astype(np.float64)
        alike *= alike
        for row, term in enumerate(self.terms):
            if is_part(term):
                alike[row] = [word.startswith(term) for word in vocabulary]
            elif " " in term:
                alike[row] = 0  # no word is a run
            elif _has_digit(term):
                alike[row] = _strictly(term, vocabulary)
        # A text's sum over its words, in one pass for each term however many texts there are.
        rows = np.repeat(np.arange(len(texts)), [len(line) for line in split])
        sums = [np.bincount(rows, each[columns], len(texts)) for each in alike]
        found = np.stack(sums, axis=1).astype(np.float64)
        return np.where(found > 0, found, self._hidden(texts, found))

    def _hidden(self, texts: list[str], found: NDArray[np.float64]) -> NDArray[np.float64]:
        """[texts, terms]: what a term counts where it is no word of its own."""
        hidden = np.zeros_like(found)
        squeezed = "\n".join(texts).replace(" ", "").split("\n")
        plain: list[str] = []
        for column, term in enumerate(self.terms):
            joined, lacking = term.replace(" ", ""), np.flatnonzero(found[:, column] == 0)
            if len(joined) >= _JOINED and _has_digit(joined):
                plain = plain or [text.translate(_LOOKALIKES) for text in squeezed]
                number = joined.translate(_LOOKALIKES)
                hidden[lacking, column] = [_within(number, plain[row]) for row in lacking]
            elif len(joined) >= _JOINED:
                hidden[lacking, column] = [_NEAR * (joined in squeezed[row]) for row in lacking]
            if " " in term:
                counts = [f" {texts[row]} ".count(f" {term} ") for row in lacking]
                hidden[lacking, column] = np.where(counts, counts, hidden[lacking, column])
        return hidden


def _within(number: str, plain: str) -> float:
    """What a number counts inside a text, both without spaces and lookalikes."""
    if number in plain:
        return _NEAR
    if len(number) < _LONG:
        return 0.0
    from rapidfuzz.fuzz import partial_ratio

    similarity: float = partial_ratio(number, plain, score_cutoff=100 * _ALIKE) / 100
    return _DISTANT * similarity * similarity


def _has_digit(term: str) -> bool:
    return any(character.isdigit() for character in term)


def _strictly(term: str, vocabulary: list[str]) -> list[float]:
    """[words]: what each word counts for a number."""
    like = term.translate(_LOOKALIKES)
    return [
        1.0 if word == term else _NEAR if word.translate(_LOOKALIKES) == like else 0.0
        for word in vocabulary
    ]
