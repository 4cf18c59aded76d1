"""Answers that come piece by piece: the same answer, however the reply is cut."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from kosmos_loader.answering import NO_MODEL, AnswerStream, answer, answer_stream
from kosmos_loader.answering.marks import parts
from kosmos_loader.document import Answer, Chunk, Hit, Span
from kosmos_loader.errors import ChatError, UsageError
from kosmos_loader.geometry import Box

LINES = ("Dues paid 41.20", "The schooner Mary Ellen lay at Berth 4", "Total due 603.00 [sic]")


def hits() -> list[Hit]:
    spans, at = [], 0
    for number, line in enumerate(LINES):
        spans.append(Span(at, at + len(line), 1, Box(0.1, number / 10, 0.9, number / 10 + 0.05)))
        at += len(line) + 1
    chunk = Chunk(
        "\n".join(LINES), tuple(spans), "/scans/a.png", "d", "c", page=1, page_end=1, page_count=1,
        page_width=1000, page_height=1400,
    )  # fmt: skip
    return [Hit(chunk, 0.5)]


class Streaming:
    """A chat model that writes these pieces, and counts how many were taken."""

    name = "streaming"

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.taken = 0
        self.is_closed = False

    def __call__(self, messages: list[dict[str, str]]) -> str:
        return "".join(self.pieces)

    def stream(self, messages: list[dict[str, str]]) -> Iterator[str]:
        try:
            for piece in self.pieces:
                self.taken += 1
                yield piece
        finally:
            self.is_closed = True


def streamed(*pieces: str) -> tuple[list[str], Answer]:
    stream = answer_stream("What was paid?", hits(), chat=Streaming(*pieces))
    return list(stream), stream.answer


def test_text_comes_while_the_model_writes_with_citations_that_are_checked() -> None:
    chat = Streaming(
        "Dues of ", "41.20 were", ' paid [1: "Dues', ' paid"]', ". More [9]", " later."
    )
    stream = answer_stream("What was paid?", hits(), chat=chat)
    assert next(stream) == "Dues of"
    assert chat.taken == 1
    assert next(stream) == " 41.20 were"
    assert chat.taken == 2
    # nothing of a citation before its bracket is closed
    assert next(stream) == " paid"
    assert next(stream) == " [1]"
    assert chat.taken == 4
    assert "".join(stream) == ". More later."
    assert stream.answer.text == "Dues of 41.20 were paid [1]. More later."
    assert stream.answer.citations[0].quote == "Dues paid"
    assert "there is no line 9" in stream.answer.notes[0]
    assert stream.answer.model == "streaming"


def test_the_answer_can_be_had_without_taking_the_pieces_and_again() -> None:
    stream = answer_stream("What was paid?", hits(), chat=Streaming("Dues", " [1]."))
    assert next(stream) == "Dues"
    assert stream.answer.text == "Dues [1]."
    assert stream.answer is stream.answer
    assert list(stream) == []


def test_a_model_that_does_not_stream_is_heard_at_its_end() -> None:
    stream = answer_stream("What was paid?", hits(), chat=lambda _: "Dues [1].")
    assert "".join(stream) == stream.answer.text == "Dues [1]."


def test_without_a_model_the_passages_come_at_once() -> None:
    stream = answer_stream("Where did the Mary Ellen lie?", hits())
    assert "".join(stream) == stream.answer.text
    assert stream.answer == answer("Where did the Mary Ellen lie?", hits())
    assert NO_MODEL in stream.answer.notes


def test_an_answer_that_is_not_streamed_asks_the_model_once_and_whole() -> None:
    chat = Streaming("Dues [1].")
    assert answer("What was paid?", hits(), chat=chat).text == "Dues [1]."
    assert chat.taken == 0


@pytest.mark.parametrize(
    "pieces", [["NOT ", "FOUND"], ["not", " found: nothing", " of ropes"], ["*", "*NOT FOUND**\n"]]
)
def test_silence_is_not_streamed_before_it_is_sure(pieces: list[str]) -> None:
    shown, given = streamed(*pieces)
    assert shown == [Answer.SILENT]
    assert given.abstained
    assert given.text == Answer.SILENT


def test_what_only_begins_like_silence_is_shown() -> None:
    shown, given = streamed("Not f", "ound before 1931", " [1", "].")
    assert "".join(shown) == given.text == "Not found before 1931 [1]."
    assert not given.abstained


def test_thoughts_are_not_shown() -> None:
    shown, given = streamed("<th", "ink>Line [1]", " or [2]?</thin", "k>", "\n\nDues [1]", ".")
    assert "".join(shown) == given.text == "Dues [1]."


def test_thoughts_whose_beginning_is_in_the_prompt_are_shown_as_far_as_they_were_given() -> None:
    """DeepSeek-R1 and its like: holding every reply back for them would end all streaming."""
    shown, given = streamed("Line [1] or [2]?\n</thin", "k>", "\n\nDues [1]", ".")
    assert "".join(shown) == given.text
    assert given.text.endswith("Dues [1].")
    assert "think" not in given.text
    shown, given = streamed("Line [1] or [2]?\n</think>\n\nDues", " [1].")
    assert "".join(shown) == given.text == "Dues [1]."


def test_a_bracket_that_is_no_citation_holds_nothing_up() -> None:
    chat = Streaming("Black [sic] tea", " and more of it")
    stream = answer_stream("What?", hits(), chat=chat)
    assert next(stream) == "Black [sic] tea"
    assert chat.taken == 1


@pytest.mark.parametrize("loop", ["[", "[1", '[1: "', " ", "\t ", ". "])
def test_a_model_that_repeats_a_bracket_for_ever_is_read_at_once(loop: str) -> None:
    began = time.process_time()
    assert "".join(map(str, parts([f"It was [2]. {loop * 20_000}x"])))
    assert time.process_time() - began < 2


def test_a_citation_that_is_never_closed_is_shown_in_the_end() -> None:
    shown, given = streamed("Dues [1: and so on", " for ever", " and ever")
    assert "".join(shown) == given.text
    assert given.text == "Dues: and so on for ever and ever"


def test_an_empty_question_is_refused_at_once() -> None:
    with pytest.raises(UsageError):
        answer_stream(" ", hits())


@pytest.mark.parametrize("pieces", [[], [""], [" \n"], ["<think>hm", "</think> "]])
def test_no_text_is_an_error_while_it_is_heard_and_stays_one(pieces: list[str]) -> None:
    stream = answer_stream("What?", hits(), chat=Streaming(*pieces))
    for _ in range(2):
        with pytest.raises(ChatError, match="no text"):
            "".join(stream)
    with pytest.raises(ChatError, match="no text"):
        _ = stream.answer


def test_an_error_in_the_middle_comes_after_the_text_before_it() -> None:
    def breaking() -> Iterator[str]:
        yield "Dues were "
        raise ChatError("the line is dead")

    chat = Streaming()
    chat.stream = lambda _: breaking()  # type: ignore[method-assign]
    stream = answer_stream("What?", hits(), chat=chat)
    assert next(stream) == "Dues were"
    with pytest.raises(ChatError, match="dead"):
        next(stream)


def test_a_stream_that_is_given_up_closes_that_of_the_model() -> None:
    chat = Streaming("Dues ", "were ", "paid.")
    stream = answer_stream("What?", hits(), chat=chat)
    next(stream)
    assert not chat.is_closed
    del stream
    assert chat.is_closed


def test_a_question_without_hits_is_answered_with_silence() -> None:
    stream = answer_stream("What?", [], chat=Streaming("Dues."))
    assert isinstance(stream, AnswerStream)
    assert "".join(stream) == Answer.SILENT
    assert stream.answer.abstained


pieces_of_replies = st.sampled_from(
    [
        *("[1]", "[2", ", 3]", "[", "]", "]]", "[[", "1", "9", '"Dues paid"', ': "', '"', "“", "”"),
        *(" ", "  ", "\n", ".", ",", "!", "Dues paid", "not", " found", "NOT FOUND", "_", "sic"),
        *("<think>", "</think>", "<thi", "nk>", "<", "and", " or ", "line ", "†a］", "【2】", "^"),
        *("-", "'", "x" * 250, "[1: " + "y" * 700, "[l", "[3:", "，", "\t", "The total is 603.00"),
    ]
)
replies = st.lists(pieces_of_replies | st.text(max_size=4), max_size=14)


@settings(max_examples=150)
@given(replies)
@example(['[1: "Dues', ' paid ] x" and', ' more", 2]', " ."])
@example(["[3†a］", " b]", " [12 o'clock", "]", " ", ".", " "])
@example(["[1: " + "y" * 700, "[1: " + "y" * 700, "[1: " + "y" * 700, '"Dues paid"', "]"])
def test_the_answer_is_the_same_however_its_reply_is_cut(pieces: list[str]) -> None:
    pieces = ["Yes", *pieces]
    # thoughts without a beginning are told only by their end, when they may have been shown
    tag = re.search(r"</?think(?:ing)?>", "".join(pieces), re.IGNORECASE)
    assume(tag is None or not tag.group().startswith("</"))
    whole = answer("What?", hits(), chat=Streaming(*pieces))
    for cut in (pieces, list("".join(pieces))):
        stream = answer_stream("What?", hits(), chat=Streaming(*cut))
        shown = "".join(stream)
        assert shown == stream.answer.text == whole.text
        assert stream.answer == whole


@settings(max_examples=100)
@given(st.lists(st.sampled_from(["not", " ", "_", "found", "NOT FOUND", "*", "a", "[1]", "\n"])))
def test_silence_is_the_same_however_its_reply_is_cut(pieces: list[str]) -> None:
    pieces = [*pieces, "not" if not "".join(pieces).strip() else ""]
    whole = answer("What?", hits(), chat=Streaming(*pieces))
    stream = answer_stream("What?", hits(), chat=Streaming(*"".join(pieces)))
    assert "".join(stream) == whole.text
    assert stream.answer == whole
