"""Whether the cited boxes hold the answer, and whether nothing is cited where there is none.

    python benchmarks/citation.py [--sets receipts,archive] [--reader rapidocr|kosmos|truth]
                                  [--chat none,oracle,liar] [--llm URL --llm-model NAME]
                                  [--limit N] [--cache DIR] [--json] [--out FILE]

Files are read, composed, chunked and indexed; each question is searched and answered, without a
chat model and with others, and what is cited is held against the truth of the page. The questions
to an archive are asked a second time without the document that answers them (kind "dropped").

page_hit_1, page_hit_5  the first hit, or one of five, stands on the right page of the right file
answer_in_box  the cited boxes hold the middle of the answer, on each line that it runs over
box_iou        cited boxes and the lines that hold the answer: what they share of what they cover;
               of the citation and the place that fit best
quote_true     share of citations whose quote is what the transcript has under the cited boxes
quote_precise  share of citations whose quote holds the answer, from the right page
quote_length   characters that were quoted in all
abstained      nothing was answered: right for "dropped" and "unanswerable", wrong for the others
flagged        something in the answer was marked as unsupported, or nothing was answered

Chat models: "none" quotes passages as they are. "oracle" knows the answer and cites the lines that
hold it, if it is shown them: what a perfect model could cite. "liar" cites the same lines for
another answer, and all of its answers should be flagged. `--llm` asks a real one.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import archives
import places
import report
import scoring
import truth
from rapidfuzz.distance import LCSseq

from kosmos_loader.answering import ChatModel, OpenAIChat, answer
from kosmos_loader.document import Answer, Citation, Line
from kosmos_loader.geometry import Box
from kosmos_loader.store import Store

SCORES = ("page_hit_1", "page_hit_5", "answer_in_box", "box_iou", "quote_true", "quote_precise")
SCORES += ("quote_length", "abstained", "flagged")

Transcripts = Mapping[tuple[str, int], Sequence[Line]]
"""The true lines of each page, by file and number."""

SAME = 0.85
"""Share of a quote's characters that the transcript must have, in order; the rest is misread."""

_SHOWN = re.compile(r"^\[(\d+)\] (.*)$")
_TITLE = re.compile(r"^# (.*), page (\d+)(?: › .*| > .*)?$")


class Oracle:
    """A chat model that knows the answer: it cites the shown lines that hold it, and no others."""

    name = "oracle"

    def __init__(self, question: truth.Question) -> None:
        self._question = question

    def said(self) -> str:
        """What it answers."""
        return self._question.answers[0] if self._question.answers else ""

    def __call__(self, messages: list[dict[str, str]]) -> str:
        """The answer and the numbers of its lines, or that it is not there."""
        cited = self._cited(list(_shown(messages[-1]["content"], self._question)))
        if not cited:
            return "NOT FOUND"
        return f"The answer is {self.said()} [{', '.join(map(str, cited))}]."

    def _cited(self, lines: list[tuple[int, str]]) -> list[int]:
        for count in range(1, places.MAX_LINES + 1):
            for start in range(len(lines) - count + 1):
                window = lines[start : start + count]
                text = " ".join(text for _, text in window)
                if scoring.holds_answer(text, self._question.answers):
                    return [number for number, _ in window]
        return []


class Liar(Oracle):
    """One that cites the same lines for an answer that they do not hold."""

    name = "liar"

    def said(self) -> str:
        """The answer with other digits or, where it has none, a number that nobody wrote."""
        known = super().said()
        other = "".join(str((int(c) + 3) % 10) if c in "0123456789" else c for c in known)
        return other if other != known else f"{known} in 7391"


def _shown(prompt: str, question: truth.Question) -> Iterator[tuple[int, str]]:
    """Number and text of the shown lines that stand on the page of the answer."""
    is_right = False
    for row in prompt.splitlines():
        if title := _TITLE.match(row):
            wanted = question.path.name if question.path else None
            is_right = (title[1], int(title[2])) == (wanted, question.page)
        elif is_right and (line := _SHOWN.match(row)):
            yield int(line[1]), line[2]


def asked(
    question: truth.Question, store: Store, chat: ChatModel | None, known: Transcripts
) -> dict[str, Any]:
    """Scores of one question; those that do not apply to it are None."""
    hits = archives.hits_of(question, store)
    reply = answer(question.question, hits, chat=chat)
    row: dict[str, Any] = dict.fromkeys(SCORES)
    row |= {
        "kind": question.kind,
        "question": question.question,
        "answers": list(question.answers),
        "text": reply.text,
        "quotes": [citation.quote for citation in reply.citations],
        "quote_length": float(sum(len(citation.quote) for citation in reply.citations)),
        "quote_true": report.mean(_is_true(citation, known) for citation in reply.citations),
        "abstained": float(reply.abstained),
        "flagged": None
        if chat is None
        else float(bool(reply.abstained or reply.unsupported or not reply.citations)),
    }
    if question.path is None or question.kind == "dropped":
        return row
    if question.kind != "one-page":
        right = [archives.on_page(hit, question) for hit in hits]
        row |= {"page_hit_1": float(any(right[:1])), "page_hit_5": float(any(right))}
    row["quote_precise"] = report.mean(
        _is_precise(citation, question) for citation in reply.citations
    )
    printed = _printed(question, known)
    if printed:
        row["answer_in_box"] = float(_in_box(reply, question, printed))
        row["box_iou"] = _best_iou(reply, question, printed)
    return row


def _printed(question: truth.Question, known: Transcripts) -> list[places.Place]:
    lines = known.get((str(question.path), question.page), ())
    if question.boxes:
        return places.known(question.boxes, lines)
    return places.places(question.answers, lines)


def _cited(citation: Citation, question: truth.Question) -> list[Box]:
    if citation.source != str(question.path):
        return []
    return [box for page, box in citation.regions if page == question.page]


def _in_box(reply: Answer, question: truth.Question, printed: Iterable[places.Place]) -> bool:
    cited = [box for citation in reply.citations for box in _cited(citation, question)]
    return any(places.covers(cited, place) for place in printed)


def _best_iou(reply: Answer, question: truth.Question, printed: Iterable[places.Place]) -> float:
    fits = [
        places.iou(boxes, place.lines)
        for citation in reply.citations
        if (boxes := _cited(citation, question))
        for place in printed
    ]
    return max(fits, default=0.0)


def _is_precise(citation: Citation, question: truth.Question) -> float:
    pages = {citation.page, *(page for page, _ in citation.regions)}
    is_there = citation.source == str(question.path) and question.page in pages
    return float(is_there and scoring.holds_answer(citation.quote, question.answers))


def _is_true(citation: Citation, known: Transcripts) -> float | None:
    """Whether the quote is what is printed under its boxes; None where nobody wrote that down."""
    under: list[str] = []
    for page, box in citation.regions:
        lines = known.get((citation.source, page))
        if lines is None:
            return None
        under += [line.text for line in lines if _touches(box, line.box)]
    quote = scoring.normalised(citation.quote).casefold()
    printed = scoring.normalised(" ".join(under)).casefold()
    return float(LCSseq.similarity(quote, printed) >= SAME * len(quote))


def _touches(box: Box, line: Box) -> bool:
    """Whether either holds the middle of the other: readers cut lines where they like."""
    return places.holds(box, line) or places.holds(line, box)


def dropped(question: truth.Question) -> truth.Question:
    """The question once its document is gone."""
    return truth.Question(
        question.question, question.answers, question.path, question.page, kind="dropped"
    )


Asking = Callable[[truth.Question], dict[str, Any]]


def rows_of(
    questions: Iterable[truth.Question], store: Store, asking: Asking
) -> Iterator[dict[str, Any]]:
    """Each question's scores; of questions to an archive, also those without its document."""
    for question in questions:
        yield asking(question)
        if question.kind != "archive":
            continue
        source = str(question.path)
        gone = store.get(sorted(store.ids(source)))
        store.delete(source=source)
        yield asking(dropped(question))
        store.add(gone)


def summaries(name: str, chat: str, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Means over the questions of each kind, and the questions."""
    return archives.summaries(rows, SCORES, set=name, chat=chat)


def run(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Index the files of a set, ask its questions of each chat model."""
    cases, paths, questions = archives.files_and_questions(name, options.limit)
    reader = archives.chosen_reader(options.reader, cases, options.cache)
    known = {(str(case.path), case.page): case.lines for case in cases if case.lines is not None}
    with archives.indexed(paths, reader, name=name) as store:
        for chat, model in options.chats.items():
            ask = partial(_asked_of, model, store, known)
            yield from summaries(name, chat, list(rows_of(questions, store, ask)))


Model = Callable[[truth.Question], ChatModel | None]
"""The chat model for a question."""


def _asked_of(
    model: Model, store: Store, known: Transcripts, question: truth.Question
) -> dict[str, Any]:
    return asked(question, store, model(question), known)


CHATS: dict[str, Model] = {"none": lambda _: None, "oracle": Oracle, "liar": Liar}


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = archives.parser(
        (__doc__ or "").splitlines()[0], readers=("rapidocr", "kosmos", "truth")
    )
    parser.add_argument(
        "--chat", default=",".join(CHATS), help="chat models (default: %(default)s)"
    )
    parser.add_argument("--llm", help="base URL of an OpenAI-compatible server to ask as well")
    parser.add_argument("--llm-model", help="name of its model")
    options = parser.parse_args()
    options.sets = archives.names_of(options, parser)
    names = options.chat.split(",")
    for name in names:
        if name not in CHATS:
            parser.error(f"no chat model is called {name!r}; choose of {', '.join(CHATS)}")
    options.chats = {name: CHATS[name] for name in names}
    if bool(options.llm) != bool(options.llm_model):
        parser.error("--llm and --llm-model belong together")
    if options.llm:
        model = OpenAIChat(options.llm, options.llm_model)
        options.chats[options.llm_model] = lambda _: model
    return options


def main() -> None:
    """Index, ask, then print one table or its JSON."""
    options = arguments()
    archives.show(run, options, columns=("set", "kind", "chat", "questions", *SCORES))


if __name__ == "__main__":
    main()
