"""Question and hits to an answer that can be checked: words of the pages, each with its boxes.

Without a chat model nothing is composed: the lines that match the question best are quoted as they
stand (`quoting.py`). With one, the model is shown numbered lines and must cite their numbers; every
citation is checked against the line that it names before anyone sees it, and what does not hold is
dropped and said (`writing.py`).

Text of a page is data. It reaches a model only as numbered lines between two marks that it cannot
forge, so a page that carries "ignore your instructions" changes nothing but what is quoted.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

from kosmos_loader.answering.chat import ChatModel, OpenAIChat
from kosmos_loader.answering.lines import Passage
from kosmos_loader.answering.prompt import NOT_FOUND
from kosmos_loader.answering.quotes import locate
from kosmos_loader.answering.quoting import NO_MODEL, quoted
from kosmos_loader.answering.streaming import AnswerStream
from kosmos_loader.answering.writing import UNSUPPORTED, written
from kosmos_loader.checks import check_callable, check_number, check_text
from kosmos_loader.document import Answer, Chunk, Citation, Hit
from kosmos_loader.errors import UsageError

__all__ = [
    "FLOOR",
    "NOT_FOUND",
    "NO_MODEL",
    "UNSUPPORTED",
    "AnswerStream",
    "ChatModel",
    "OpenAIChat",
    "answer",
    "answer_stream",
    "cite",
]

FLOOR = 0.5
"""Share of what a question names that the cited page must hold."""


def answer(
    question: str,
    hits: Iterable[Hit],
    *,
    chat: ChatModel | None = None,
    floor: float = FLOOR,
) -> Answer:
    """An answer to `question` from the chunks in `hits`, with citations.

    Without `chat`, the text is the one to three best-matching passages (a table row, a sentence, or
    what stands in one row of the page, as a rule not above 300 characters each), best first.
    `floor` is the share of what the question names that must be found on the page that is cited, so
    that no answer is taken from a page about something else; below it the answer abstains. Named
    are the question's words other than "what", "the", "receipt" and the like. Rare words count
    more, numbers and dates twice; a page that lacks a whole date, a long number or most names of
    the question counts half.

    With `chat`, the text is the model's, its citations numbered `[1]`, `[2]` in order. A citation
    that names no line, or whose quote is not in the line it names, is dropped. A sentence that
    cites nothing that holds, and a number or date that is not in the words its sentence cites, stay
    in the text and are named in `unsupported` and `notes`. A text in which no citation holds is
    kept, without citations and with the note `UNSUPPORTED`. `floor` is not used: the model says
    itself that the lines do not answer, and then the answer abstains. It is not called where `hits`
    is empty.

    `Citation.start` and `end` point into the text of the chunk; `quote` is that piece of text
    without its markdown marks.

    `UsageError` where the question is empty or an argument is of a wrong type, `ChatError` where
    the model replies with no text; what `chat` itself raises passes through.
    """
    return AnswerStream(_answered(question, hits, chat, floor=floor, streams=False)).answer


def answer_stream(
    question: str,
    hits: Iterable[Hit],
    *,
    chat: ChatModel | None = None,
    floor: float = FLOOR,
) -> AnswerStream:
    """The answer that `answer` gives, its text piece by piece while the model writes.

    The text comes as soon as it is checked: a citation when its bracket is closed, what may still
    become "not found" or a citation a little later. Any chat model will do; one with a method
    `stream`, from messages to an iterator of text, such as `OpenAIChat`, is heard while it writes.

    What a reasoning model says to itself is left out from `<think>` to `</think>`. Where a model
    writes only the closing tag, what came before it is left out as far as it was not given yet: all
    of it by `answer`, which waits for the whole reply, and little of it here. Let the server part
    the reasoning from the reply then (vLLM: `--reasoning-parser`).

    `UsageError` where the question is empty or an argument is of a wrong type, at once; other
    errors come while it is iterated.
    """
    return AnswerStream(_answered(question, hits, chat, floor=floor, streams=True))


def _answered(
    question: str,
    hits: Iterable[Hit],
    chat: ChatModel | None,
    *,
    floor: float,
    streams: bool,
) -> Generator[str, None, Answer]:
    check_text(question, "question")
    check_callable(chat, "chat")
    check_number(floor, "floor")
    if not (question and question.strip()):
        raise UsageError("the question is empty; ask something")
    found = tuple(hits)
    if chat is not None and found:
        return written(question, found, chat, streams=streams)
    return _at_once(question, found, floor)


def _at_once(question: str, hits: tuple[Hit, ...], floor: float) -> Generator[str, None, Answer]:
    if hits:
        given = quoted(question, hits, floor=floor)
    else:
        notes = ("nothing was found; is the store empty?",)
        given = Answer(question, Answer.SILENT, (), hits, abstained=True, notes=notes)
    yield given.text
    return given


def cite(quote: str, chunk: Chunk) -> Citation | None:
    """The citation of `quote` in `chunk`, None where its text does not hold these words.

    White space, case, markdown marks, dashes and quotation marks make no difference. From eight
    characters on, one in ten may differ, as a machine misreads it; a digit may not, and a number is
    a whole number of the page, its minus included. No word may be left out, added or more than half
    another one, no "not" (or "never", "without" and the like) be misread, and no word be its
    contrary, or another number, month or direction, however near in letters: "paid" is not quoted
    from "unpaid", nor "million" from "billion". `Citation.regions` are the lines that hold the
    quote, on each page that it runs over.
    """
    found = locate(quote, chunk.text, 0, len(chunk.text))
    return Passage(chunk, *found).citation if found else None
