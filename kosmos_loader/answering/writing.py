"""An answer by a chat model: numbered lines in, a text out whose citations are checked.

The model sees each line of the hits with a number (`prompt.py`) and cites numbers: `[3]`, `[3, 4]`,
`[3-5]`, or with the words it rests on, `[3: "the words"]` or `"the words" [3]` (`marks.py`). A
number stands for the whole line. Words are looked up in the line that they are said to be in, and
may run over into the line before or after (`quotes.py`). What is not there is dropped, and what
rests on nothing is named (`support.py`).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from kosmos_loader.answering.chat import ChatModel
from kosmos_loader.answering.lines import Line, Passage
from kosmos_loader.answering.marks import Item, Mark, parts
from kosmos_loader.answering.prompt import messages, shown_lines
from kosmos_loader.answering.quotes import locate
from kosmos_loader.answering.reply import polished, spoken, unless_silent
from kosmos_loader.answering.support import unsupported
from kosmos_loader.document import Answer, Citation, Hit, Unsupported
from kosmos_loader.errors import ChatError

MAX_RANGE = 20
"""Lines that one citation may name; more points at nothing."""

UNSUPPORTED = "no citation in this answer could be verified: treat it as unsupported"

_QUOTED_BEFORE = re.compile(r"[\"“„«‟]([^\"“”„«»‟]{2,600})[\"”»‟“][\s.,;:]*$")


def written(
    question: str, hits: tuple[Hit, ...], chat: ChatModel, *, streams: bool
) -> Generator[str, None, Answer]:
    """What `chat` answers to `question` from `hits`, with the citations that hold.

    Yields the text of the answer in pieces, each as soon as it is checked; where `streams` is false
    or `chat` does not stream, the model has ended by then.
    """
    lines, left_out = shown_lines(hits)
    name = _name(chat)
    prompt = messages(question, lines)
    stream = getattr(chat, "stream", None) if streams else None
    reply: Iterable[object] = [chat(prompt)] if stream is None else stream(prompt)
    check = _Check(lines)
    text = ""
    for piece in polished(check.rendered(unless_silent(parts(_heard(reply, name))))):
        text += piece
        if piece:
            yield piece
    notes = [f"{left_out} lines did not fit into the prompt"] if left_out else []
    if check.is_silent:
        yield Answer.SILENT
        notes = ["the model found no answer in the lines", *notes]
        return Answer(question, Answer.SILENT, (), hits, name, abstained=True, notes=tuple(notes))
    resting = unsupported(text, check.citations, question=question)
    notes = [*check.notes(text, resting), *notes]
    citations = tuple(check.citations)
    return Answer(question, text, citations, hits, name, notes=tuple(notes), unsupported=resting)


def _name(chat: ChatModel) -> str:
    return str(getattr(chat, "name", None) or getattr(chat, "__name__", type(chat).__name__))


def _heard(reply: Iterable[object], name: str) -> Iterator[str]:
    """What is said aloud in `reply`; `ChatError` where that is nothing."""
    is_empty = True
    for piece in spoken(_texts(reply, name)):
        is_empty = is_empty and not piece.strip()
        yield piece
    if is_empty:
        raise _no_text(name)


def _texts(reply: Iterable[object], name: str) -> Iterator[str]:
    for piece in reply:
        if not isinstance(piece, str):
            raise _no_text(name)
        yield piece


def _no_text(name: str) -> ChatError:
    return ChatError(f"{name} replied with no text; ask again or choose another model")


@dataclass
class _Check:
    """Looks up what a reply cites, and numbers what holds."""

    lines: Sequence[Line]
    citations: list[Citation] = field(default_factory=list)
    is_silent: bool = False
    """Whether the reply was that the lines do not answer the question."""

    _dropped: list[str] = field(default_factory=list)

    def rendered(self, reply: Iterable[str | Mark | None]) -> Iterator[str]:
        """The text of a reply, its citations renumbered, without those that do not hold."""
        before = ""
        for part in reply:
            match part:
                case None:
                    self.is_silent = True
                case str():
                    before += part
                    yield part
                case Mark():
                    yield self._renumbered(part, before)
                    before = ""

    def notes(self, text: str, resting: Sequence[Unsupported]) -> list[str]:
        """What the reader of `text`, of which `resting` rests on nothing, should know."""
        notes = []
        if self._dropped:
            count = _counted(len(self._dropped), "citation")
            notes.append(f"{count} dropped: {_listed(self._dropped)}")
        if not self.citations:
            return [*notes, UNSUPPORTED]
        uncited = [part for part in resting if part.reason == "uncited"]
        if uncited:
            says = _listed([f'"{_shortened(text[part.start : part.end])}"' for part in uncited])
            notes.append(f"{_counted(len(uncited), 'sentence')} without a citation: {says}")
        numbers = [
            text[part.start : part.end]
            for part in resting
            if part.reason == "unquoted" and not any(_holds(sentence, part) for sentence in uncited)
        ]
        if numbers:
            count = _counted(len(numbers), "number")
            notes.append(f"{count} not in the words that are cited: {_listed(numbers)}")
        return notes

    def _renumbered(self, mark: Mark, before: str) -> str:
        """The mark as it is shown, after the text `before` it."""
        items = mark.items
        if mark.unread:
            self._dropped.append(f"{_shortened(mark.unread)} cannot be read")
        quoted = _QUOTED_BEFORE.search(before.rsplit("\n", 1)[-1])
        if quoted and not any(item.quote for item in items):
            items = self._with_quote(items, quoted.group(1))
        passages = [passage for item in items for passage in self._passages(item) if passage.text]
        numbers = sorted({self._number(passage) for passage in passages})
        return f" [{', '.join(map(str, numbers))}]" if numbers else ""

    def _with_quote(self, items: list[Item], quote: str) -> list[Item]:
        """`items`, the quote before the mark given to those that hold it, to all if none does."""
        quoting = [replace(item, quote=quote) for item in items]
        holding = [self._is_there(item) and self._find(item) is not None for item in quoting]
        if not any(holding):
            return quoting
        return [q if holds else i for q, i, holds in zip(quoting, items, holding, strict=True)]

    def _is_there(self, item: Item) -> bool:
        return 1 <= item.first <= item.last <= len(self.lines)

    def _passages(self, item: Item) -> list[Passage]:
        """What `item` points at; nothing, and a reason for the notes, where it does not hold."""
        if not self._is_there(item):
            self._dropped.append(f"there {'is' if item.first == item.last else 'are'} no {item}")
            return []
        if item.last - item.first >= MAX_RANGE:
            self._dropped.append(f"{item} are too many to point at")
            return []
        if item.quote is None:
            of_chunks = self._by_chunk(item.first, item.last).values()
            return [Passage(of[0].chunk, of[0].start, of[-1].end) for of in of_chunks]
        passage = self._find(item)
        if passage is None:
            verb = "does" if item.first == item.last else "do"
            self._dropped.append(f'{item} {verb} not hold "{_shortened(item.quote)}"')
            return []
        return [passage]

    def _find(self, item: Item) -> Passage | None:
        """The words of `item` in its lines, or partly in the line before or after them."""
        quote = item.quote or ""
        around = self._by_chunk(item.first - 1, item.last + 1)
        for chunk_id, lines in self._by_chunk(item.first, item.last).items():
            chunk, start, end = lines[0].chunk, lines[0].start, lines[-1].end
            near = around[chunk_id]
            found = locate(quote, chunk.text, start, end)
            found = found or locate(quote, chunk.text, near[0].start, near[-1].end)
            if found is not None and found[0] < end and start < found[1]:
                return Passage(chunk, *found)
        return None

    def _by_chunk(self, first: int, last: int) -> dict[str, list[Line]]:
        """Lines `first` to `last`, as far as there are any, by the ids of their chunks."""
        chunks: dict[str, list[Line]] = {}
        for line in self.lines[max(0, first - 1) : last]:
            chunks.setdefault(line.chunk.chunk_id, []).append(line)
        return chunks

    def _number(self, passage: Passage) -> int:
        citation = passage.citation
        if citation not in self.citations:
            self.citations.append(citation)
        return self.citations.index(citation) + 1


def _holds(sentence: Unsupported, part: Unsupported) -> bool:
    return sentence.start <= part.start and part.end <= sentence.end


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _listed(things: Sequence[str]) -> str:
    rest = [f"and {len(things) - 5} more"] if len(things) > 5 else []
    return "; ".join([*things[:5], *rest])


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:79] + "…"
