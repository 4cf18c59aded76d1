"""An answer without a language model: the lines that match the question best, as they stand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import PurePath

from kosmos_loader.answering.kinds import Kind, ends_address, kind_asked, may_be_address
from kosmos_loader.answering.lines import Line, Passage, is_label, lines_of, trimmed
from kosmos_loader.answering.words import Term, Words, terms_of
from kosmos_loader.chunking import sentence_ends
from kosmos_loader.document import Answer, Hit

MAX_QUOTES = 3
MARGIN = 0.12
"""How much worse than the best line another one may score and still be quoted."""

MAX_QUOTE = 300
"""Characters of one quoted passage."""

NO_MODEL = "no language model configured; showing matching passages"


def quoted(question: str, hits: tuple[Hit, ...], *, floor: float) -> Answer:
    """The passages of `hits` that answer `question` best; nothing below `floor`."""
    terms, kind = terms_of(question), kind_asked(question)
    if kind is None and all(term.is_generic for term in terms):
        return _silence(question, hits, "the question names nothing to look for")
    evidence = _Evidence(hits, terms, kind)
    ranked = evidence.ranked(floor)
    if not ranked:
        share = f"{evidence.best_coverage:.0%} of what is asked, the floor is {floor:.0%}"
        return _silence(question, hits, f"the best page holds {share}")
    passages = evidence.best_passages(ranked)
    text = "\n".join(f"{passage.shown} [{n}]" for n, passage in enumerate(passages, 1))
    citations = tuple(passage.citation for passage in passages)
    return Answer(question, text, citations, hits, notes=(NO_MODEL,))


def _silence(question: str, hits: tuple[Hit, ...], reason: str) -> Answer:
    notes = (NO_MODEL, reason)
    return Answer(question, Answer.SILENT, (), hits, abstained=True, notes=notes)


class _Evidence:
    """The lines of the hits, and how well each of them answers a question."""

    def __init__(self, hits: Sequence[Hit], terms: Sequence[Term], kind: Kind | None) -> None:
        self._kind = kind
        self._terms = terms
        self._known = [date for term in terms for date in term.dates]
        # a question that names a page and nothing on it asks about the page as a whole
        self._is_about_page = all(t.is_generic or t.is_name or t.is_exact for t in terms)
        # "the shop on this receipt" stands beside no name or address of a shop
        self._beside = [t for t in terms if kind is None or kind.is_sure or not t.is_generic]
        found = [(hit.score, line) for hit in hits for line in lines_of(hit.chunk)]
        self._scores = [score for score, _ in found]
        self._lines = [line for _, line in found]
        self._words = [Words(line.text) for line in self._lines]
        self._heads = {
            (line.start, line.chunk.chunk_id): words
            for line, words in zip(self._lines, self._words, strict=True)
            if line.is_head
        }
        self._has_kind = [
            kind is not None and kind.is_in(line.shown, words, known=self._known)
            for line, words in zip(self._lines, self._words, strict=True)
        ]
        self._weights = self._weigh(hits)
        self._line_weights = self._weigh_for_lines()
        self._around = self._count_around()
        self._neighbours = self._find_neighbours()
        self._pages = self._found_on_pages(hits)

    @property
    def best_coverage(self) -> float:
        """The largest share of what the question names that a page holds."""
        return max((self._coverage(at) for at in range(len(self._lines))), default=0.0)

    def ranked(self, floor: float) -> list[tuple[float, int]]:
        """Score and number of the lines on pages that reach `floor`, the best first."""
        reaching = (at for at in range(len(self._lines)) if self._coverage(at) >= floor)
        scored = ((self._score(at), at) for at in reaching)
        return sorted(scored, key=lambda pair: (-pair[0], pair[1]))

    def best_passages(self, ranked: Sequence[tuple[float, int]]) -> list[Passage]:
        """The best passage, and up to two others that are nearly as good."""
        best_score, best = ranked[0]
        passages = [self._passage(best)]
        for score, at in ranked[1:]:
            if len(passages) == MAX_QUOTES or score < best_score - MARGIN:
                break
            passage = self._passage(at)
            is_new = not any(passage.says_the_same_as(other) for other in passages)
            if is_new and self._is_as_good(at, passage, than=(best, passages[0])):
                passages.append(passage)
        return passages

    def _is_as_good(self, at: int, passage: Passage, *, than: tuple[int, Passage]) -> bool:
        """Whether what the best passage has of the question's words, this one has as well.

        To look like an answer is not enough, and the row of another ship is no answer.
        """
        best, best_passage = than
        words, wanted = Words(passage.text), Words(best_passage.text)
        particular = (term for term in self._terms if term.is_exact or term.is_name)
        lacks = any(wanted.match(term) > 0.5 > words.match(term) for term in particular)
        return not lacks and self._share_beside(at) >= 0.8 * self._share_beside(best)

    def _coverage(self, at: int) -> float:
        """Weighted share of what the question names that the page of line `at` holds, 0..1."""
        named = [term for term in self._terms if not term.is_generic]
        if not named:
            may_be_any = self._kind is not None and not self._kind.is_sure
            return 1.0 if self._has_kind[at] or may_be_any else 0.0
        found = self._on_page(at)
        return self._share(named, found) * (0.5 if self._is_another(found) else 1.0)

    def _is_another(self, found: dict[Term, float]) -> bool:
        """Whether a page is about something else, though most of its words are the same.

        The same shop on another day, or another shop on the same day.
        """
        names = [term for term in self._terms if term.is_name]
        missed = any(term.is_condition and not found[term] for term in self._terms)
        return missed or (bool(names) and self._share(names, found) < 0.5)

    # --- what is found where

    def _weigh(self, hits: Sequence[Hit]) -> dict[Term, float]:
        """How much each term says: rare ones more, numbers and dates most, generic ones little."""
        weights: dict[Term, float] = {}
        texts = [Words(hit.chunk.embedded_text) for hit in hits]
        for term in self._terms:
            holding = sum(words.match(term) > 0.5 for words in texts)
            weight = math.log(1 + len(texts) / max(holding, 0.5))
            weights[term] = weight * (2.0 if term.is_exact else 0.3 if term.is_generic else 1.0)
        return weights

    def _weigh_for_lines(self) -> dict[Term, float]:
        """The weights by which lines of a page compete.

        A name tells which page is meant more than which line of it, and what is asked for is the
        label of what is looked for.
        """
        return {
            term: weight * (3.0 if self._is_focus(term) else 0.4 if term.is_name else 1.0)
            for term, weight in self._weights.items()
        }

    def _is_focus(self, term: Term) -> bool:
        # "date" in "the date of the letter" is looked for as a kind, and need not be written there
        return term.is_focus and (self._kind is None or not self._kind.asked.search(term.word))

    def _share(
        self,
        terms: Sequence[Term],
        found: dict[Term, float],
        weights: dict[Term, float] | None = None,
    ) -> float:
        weights = weights or self._weights
        total = sum(weights[term] for term in terms)
        return sum(weights[term] * found[term] for term in terms) / total if total else 0.0

    def _found_on_pages(self, hits: Sequence[Hit]) -> dict[tuple[str, int], dict[Term, float]]:
        """How surely each term is on each page, its headings and its file's name counting less."""
        pages: dict[tuple[str, int], dict[Term, float]] = {}
        for hit in hits:
            chunk = hit.chunk
            title = PurePath(chunk.source).stem.replace("_", " ").replace("-", " ")
            text, above = Words(chunk.text), Words("\n".join([*chunk.headings, title]))
            # a passage that runs over two pages is on both
            for page in {chunk.page, *(span.page for span in chunk.spans)}:
                found = pages.setdefault((chunk.doc_id, page), dict.fromkeys(self._terms, 0.0))
                for term in self._terms:
                    found[term] = max(found[term], text.match(term), 0.7 * above.match(term))
        return {key: self._with_other_pages(key, pages) for key in pages}

    def _with_other_pages(
        self, key: tuple[str, int], pages: dict[tuple[str, int], dict[Term, float]]
    ) -> dict[Term, float]:
        document = [found for (doc_id, _), found in pages.items() if doc_id == key[0]]
        own = pages[key]
        return {t: max(own[t], 0.7 * max(found[t] for found in document)) for t in self._terms}

    def _on_page(self, at: int) -> dict[Term, float]:
        line = self._lines[at]
        return self._pages[line.chunk.doc_id, line.page]

    # --- how well a line answers

    def _score(self, at: int) -> float:
        score = 0.4 * self._share(self._terms, self._on_page(at)) + 0.6 * self._share_beside(at)
        score += 0.05 * self._scores[at]
        kind, line = self._kind, self._lines[at]
        # names of columns and sections stand above answers, unless a name is asked for
        score -= 0.3 * line.is_head + 0.1 * (line.is_heading and (kind is None or kind.is_sure))
        if kind is None:
            return score
        text = line.text
        if self._is_about_page:
            above, below = self._around[at]
            score += kind.bonus_of_place(text, above=above, below=below)
        if self._has_kind[at]:
            return score + 0.25 + self._label_bonus(at, kind) + kind.bonus(text)
        is_above = kind.is_sure and line.is_heading
        return score if kind.may_be_in(text) and not is_above else 0.65 * score

    def _share_beside(self, at: int) -> float:
        """Weighted share of what the question names that stands in line `at` or about it."""
        found = {term: self._found_beside(at, term) for term in self._beside}
        return self._share(self._beside, found, self._line_weights)

    def _found_beside(self, at: int, term: Term) -> float:
        """How surely `term` is in the line or beside it, or with less weight above or below it."""
        found = [self._words[at].match(term)]
        found += [
            share * self._words[other].match(term) for other, share in self._neighbours[at].items()
        ]
        head = self._lines[at].head
        if head is not None:
            found.append(0.5 * self._heads[head.start, head.chunk.chunk_id].match(term))
        return max(found)

    def _find_neighbours(self) -> list[dict[int, float]]:
        """For each line those beside, above and below it, and how much of each counts for it."""
        neighbours: list[dict[int, float]] = []
        section: int | None = None
        for at, line in enumerate(self._lines):
            near = range(max(0, at - 6), min(len(self._lines), at + 7))
            above_and_below = (n for n in near if n != at and self._share_chunk(n, at))
            shares = {n: {-1: 0.6, 1: 0.3}.get(n - at, 0.15) for n in above_and_below}
            if section is not None and self._share_chunk(section, at):
                shares[section] = max(0.4, shares.get(section, 0.0))
            section = at if line.is_heading else section
            neighbours.append(shares)
        for a, b in self._beside_each_other():
            neighbours[a][b] = neighbours[b][a] = 0.9
        return neighbours

    def _beside_each_other(self) -> Iterator[tuple[int, int]]:
        """Pairs of lines that share a row of a page."""
        tops: dict[tuple[str, int], list[tuple[float, int]]] = {}
        for at, line in enumerate(self._lines):
            for page, (top, _) in line.extents.items():
                tops.setdefault((line.chunk.doc_id, page), []).append((top, at))
        for (_, page), of_page in tops.items():
            of_page.sort()
            for n, (_, upper) in enumerate(of_page):
                bottom = self._lines[upper].extents[page][1]
                for top, lower in islice(of_page, n + 1, None):
                    if top >= bottom:
                        break
                    if self._lines[upper].is_beside(self._lines[lower]):
                        yield upper, lower

    def _label_bonus(self, at: int, kind: Kind) -> float:
        if kind.labels.search(self._lines[at].text):
            return kind.label_bonus
        is_below = at > 0 and self._share_chunk(at, at - 1)
        is_labelled = is_below and kind.labels.search(self._lines[at - 1].text)
        return 0.5 * kind.label_bonus if is_labelled else 0.0

    def _count_around(self) -> list[tuple[int, int]]:
        """For each line how many of its page stand above and below, as far as the hits show it."""
        pages: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for at, line in enumerate(self._lines):
            # what runs over from the page before stands first
            order = line.chunk.order if line.page == line.chunk.page else 0
            pages.setdefault((line.chunk.doc_id, line.page), []).append((order, at))
        around = [(0, 0)] * len(self._lines)
        for of_page in pages.values():
            of_page.sort()
            # what stands before the first chunk that was found is unknown, and surely some lines
            unknown = 10 * of_page[0][0]
            for above, (_, at) in enumerate(of_page):
                around[at] = (unknown + above, len(of_page) - above - 1)
        return around

    def _share_chunk(self, a: int, b: int) -> bool:
        return self._lines[a].chunk is self._lines[b].chunk

    # --- what is quoted with a line

    def _passage(self, at: int) -> Passage:
        """The row, the sentence or the address that line `at` is part of."""
        line = self._lines[at]
        if line.is_row:
            return line
        sentence = self._sentence(line)
        if sentence is not None:
            return sentence if sentence.text else line
        first = last = at
        while (new := self._extended(first, -1)) != first and self._length(new, last) <= MAX_QUOTE:
            first = new
        while (new := self._extended(last, 1)) != last and self._length(first, new) <= MAX_QUOTE:
            last = new
        passage = Passage(line.chunk, self._lines[first].start, self._lines[last].end)
        # a line may be words alone and the mark of a heading behind others
        return passage if passage.text else line

    def _length(self, first: int, last: int) -> int:
        return self._lines[last].end - self._lines[first].start

    def _sentence(self, line: Line) -> Passage | None:
        """The sentence that `line` is part of, None where the paragraph is not running text."""
        start, end = line.paragraph
        text = line.chunk.text[start:end]
        if not _is_prose(text):
            return None
        sentences = [
            Passage(line.chunk, *trimmed(line.chunk.text, start + a, start + b))
            for a, b in pairwise([0, *sentence_ends(text), len(text)])
            if start + a < line.end and start + b > line.start
        ]
        best = max(sentences, key=self._worth)
        return best if best.end - best.start <= MAX_QUOTE else None

    def _worth(self, passage: Passage) -> float:
        words = Words(passage.text)
        has_kind = self._kind is not None and self._kind.is_in(
            passage.text, words, known=self._known
        )
        found = {term: words.match(term) for term in self._terms}
        return self._share(self._terms, found) + 0.25 * has_kind

    def _extended(self, edge: int, step: int) -> int:
        """How far a quote goes on from line `edge` upwards (-1) or downwards (1)."""
        new = edge + step
        if not self._is_neighbour(new, edge):
            return edge
        if self._lines[new].is_beside(self._lines[edge]):
            return new
        if is_label(self._lines[min(new, edge)].text):
            return new
        match self._kind.name if self._kind else "":
            case "company":
                return new if self._has_kind[new] and self._has_kind[edge] else edge
            case "address":
                return self._extended_address(edge, step)
            case _:
                return edge

    def _extended_address(self, edge: int, step: int) -> int:
        # downwards, a line or two that look like nothing may stand before the post code
        for hops in range(1, 4 if step > 0 else 2):
            new = edge + step * hops
            if not self._is_neighbour(new, edge) or not may_be_address(
                self._lines[new].text, self._words[new]
            ):
                return edge
            if self._has_kind[new]:
                return new
            upper, lower = (self._lines[at].text for at in sorted((new, edge)))
            if step > 0 and hops == 1 and ends_address(upper, lower):
                return new
        return edge

    def _is_neighbour(self, new: int, edge: int) -> bool:
        inside = 0 <= new < len(self._lines) and self._share_chunk(new, edge)
        return inside and not self._lines[new].is_row


def _is_prose(text: str) -> bool:
    """Whether `text` is running text: several words, most of their letters small."""
    letters = [character for character in text if character.isalpha()]
    small = sum(character.islower() for character in letters)
    return len(text.split()) >= 6 and small > 0.6 * len(letters)
