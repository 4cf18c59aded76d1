"""An answer while it is being written."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from kosmos_loader.document import Answer


class AnswerStream:
    """The text of an answer in pieces, each checked before it comes, and then the answer.

    Made by `answer_stream`. An iterator of text, to be gone through once; `answer` is there when it
    is at its end. The pieces add up to `answer.text`, citations numbered and those that do not hold
    left out.
    """

    def __init__(self, pieces: Generator[str, None, Answer]) -> None:
        self._pieces = pieces
        self._answer: Answer | None = None
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._error is not None:
            raise self._error
        if self._answer is not None:
            raise StopIteration
        try:
            return next(self._pieces)
        except StopIteration as end:
            self._answer = end.value
            raise
        except Exception as error:
            self._error = error
            raise

    @property
    def answer(self) -> Answer:
        """The answer, once the rest of its text is there; raises what the iteration raises."""
        for _ in self:
            pass
        assert self._answer is not None  # noqa: S101 - for the type checker: the pieces are at their end
        return self._answer
