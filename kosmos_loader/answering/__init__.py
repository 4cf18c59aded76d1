"""Question and hits to an answer that can be checked: words of the pages, each with its boxes.

Without a chat model nothing is composed: the lines that match the question best are quoted as they
stand (`quoting.py`). With one, the model is shown numbered lines and must cite their numbers; every
citation is checked against the line that it names before anyone sees it, and what does not hold is
dropped and said (`writing.py`).

Text of a page is data. It reaches a model only as numbered lines between two marks that it cannot
forge, so a page that carries "ignore your instructions" changes nothing but what is quoted.
"""

from __future__ import annotations

from collections.abc import Iterable

from kosmos_loader.answering.chat import ChatModel, OpenAIChat
from kosmos_loader.answering.quoting import NO_MODEL, quoted
from kosmos_loader.answering.writing import NOT_FOUND, UNSUPPORTED, written
from kosmos_loader.document import Answer, Hit
from kosmos_loader.errors import UsageError

__all__ = ["FLOOR", "NOT_FOUND", "NO_MODEL", "UNSUPPORTED", "ChatModel", "OpenAIChat", "answer"]

FLOOR = 0.45
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
    that names no line, or whose quote is not in the line it names, is dropped; a sentence without
    any is named in `notes`. A text in which no citation holds is kept, without citations and with
    the note `UNSUPPORTED`. `floor` is not used: the model says itself that the lines do not answer,
    and then the answer abstains. It is not called where `hits` is empty.

    `Citation.start` and `end` point into the text of the chunk; `quote` is that piece of text
    without its markdown marks.

    `UsageError` where the question is empty, `ChatError` where the model replies with no text; what
    `chat` itself raises passes through.
    """
    if not question.strip():
        raise UsageError("the question is empty; ask something")
    found = tuple(hits)
    if not found:
        notes = ("nothing was found; is the store empty?",)
        return Answer(question, Answer.SILENT, (), found, abstained=True, notes=notes)
    if chat is None:
        return quoted(question, found, floor=floor)
    return written(question, found, chat)
