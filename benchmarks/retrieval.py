"""How well questions find their page and words: page hit@1 and @5, answer in quote and in box.

    python benchmarks/retrieval.py [--sets receipts,archive] [--reader rapidocr|truth] [--limit N]
                                   [--cache DIR] [--json] [--out FILE]

The whole line without a chat model: files are read, composed, chunked and indexed in a store of
their own, then each question is searched and answered. `--reader truth` takes the transcripts in
place of a reading: what is lost then is lost by search and answer. Readings are kept in `--cache`,
by the page's pixels and the reader's version.

page_hit_1    share of questions whose first hit stands on the right page of the right file
page_hit_5    the same for any of the first five
in_quote      a citation quotes the accepted answer (`scoring.holds_answer`), from the right page
in_box        a cited region holds the middle of the place where the answer is printed
abstained     nothing was answered: right for a question without an answer, wrong for the others
quote_length  characters that were quoted in all; without it, quoting whole pages would win
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import archives
import scoring
import truth

from kosmos_loader.answering import answer
from kosmos_loader.document import Answer
from kosmos_loader.geometry import Box
from kosmos_loader.store import Store

SCORES = ("page_hit_1", "page_hit_5", "in_quote", "in_box", "abstained", "quote_length")


def asked(question: truth.Question, store: Store) -> dict[str, Any]:
    """Scores of one question; those that do not apply to it are None."""
    hits = archives.hits_of(question, store)
    reply = answer(question.question, hits)
    row: dict[str, Any] = dict.fromkeys(SCORES)
    row |= {
        "kind": question.kind,
        "question": question.question,
        "answers": list(question.answers),
        "abstained": float(reply.abstained),
        "quote_length": float(sum(len(citation.quote) for citation in reply.citations)),
        "quotes": [citation.quote for citation in reply.citations],
        "found": [[hit.chunk.source, hit.chunk.page] for hit in hits],
    }
    if question.path is None:
        return row
    if question.kind != "one-page":
        on_page = [archives.on_page(hit, question) for hit in hits]
        row |= {"page_hit_1": float(any(on_page[:1])), "page_hit_5": float(any(on_page))}
    row["in_quote"] = float(_in_quote(reply, question))
    if question.boxes:
        row["in_box"] = float(_in_box(reply, question))
    return row


def _in_quote(reply: Answer, question: truth.Question) -> bool:
    return any(
        scoring.holds_answer(citation.quote, question.answers)
        for citation in reply.citations
        if citation.source == str(question.path)
        and question.page in {citation.page, *(page for page, _ in citation.regions)}
    )


def _in_box(reply: Answer, question: truth.Question) -> bool:
    cited = [
        box
        for citation in reply.citations
        if citation.source == str(question.path)
        for page, box in citation.regions
        if page == question.page
    ]
    return any(_holds(box, place) for box in cited for place in question.boxes)


def _holds(box: Box, place: Box) -> bool:
    x, y = place.center
    return box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1


def run(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Index the files of a set, ask its questions."""
    cases, paths, questions = archives.files_and_questions(name, options.limit)
    reader = archives.chosen_reader(options.reader, cases, options.cache)
    with archives.indexed(paths, reader, name=name) as store:
        rows = [asked(question, store) for question in questions]
    yield from archives.summaries(rows, SCORES, set=name)


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = archives.parser(
        (__doc__ or "").splitlines()[0], readers=("rapidocr", "kosmos", "truth")
    )
    options = parser.parse_args()
    options.sets = archives.names_of(options, parser)
    return options


def main() -> None:
    """Index, ask, then print one table or its JSON."""
    options = arguments()
    archives.show(run, options, columns=("set", "kind", "questions", *SCORES))


if __name__ == "__main__":
    main()
