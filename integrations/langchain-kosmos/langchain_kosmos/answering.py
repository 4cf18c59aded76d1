"""`cited_answer`: a question and documents to an answer whose citations are checked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from langchain_core.callbacks import CallbackManagerForChainRun
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor

from kosmos_loader.answering import FLOOR, AnswerStream, answer, answer_stream
from kosmos_loader.document import Answer, Chunk, Hit
from kosmos_loader.errors import UsageError

Question = str | Mapping[str, Any]
"""The question, or `{"question": ..., "documents": [...]}`."""


def cited_answer(
    model: Runnable[Any, Any] | None = None,
    *,
    retriever: BaseRetriever | None = None,
    floor: float = FLOOR,
) -> Runnable[Question, Answer]:
    """A runnable that answers a question from documents, with citations that are checked.

    ```python
    chain = cited_answer(model, retriever=retriever)
    answer = chain.invoke("What did the roof cost?")
    print(answer.text, answer.citations[0].regions)
    ```

    It is given a question, which the `retriever` finds documents for, or a dict with `question` and
    `documents`. `model` is any LangChain chat model, or a runnable made of one; without it, the
    passages that answer best are quoted. What comes out, and `floor`, are those of
    `kosmos_loader.answer`.

    Streamed, it gives answers whose text grows as the model writes and each citation is checked;
    the last one is whole, with its citations. Callbacks see the calls of retriever and model.
    `UsageError` where the question or the documents are missing, and for a model that is none.
    """
    if not isinstance(model, Runnable | None):
        raise UsageError(
            f"the model is a chat model as init_chat_model of LangChain makes it, not {model!r:.80}"
        )
    return _CitedAnswer(model, retriever, floor)


class _CitedAnswer(Runnable[Question, Answer]):
    def __init__(
        self, model: Runnable[Any, Any] | None, retriever: BaseRetriever | None, floor: float
    ) -> None:
        self.name = "cited_answer"
        self._model = model
        self._retriever = retriever
        self._floor = floor

    def invoke(
        self,
        input: Question,  # noqa: A002 - the name that LangChain passes it under
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Answer:
        return self._call_with_config(self._answered, input, config, **kwargs)

    def stream(
        self,
        input: Question,  # noqa: A002 - as above
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Answer]:
        return self._transform_stream_with_config(iter([input]), self._growing, config, **kwargs)

    async def astream(
        self,
        input: Question,  # noqa: A002 - as above
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Answer]:
        answers = self.stream(input, config, **kwargs)
        while (given := await run_in_executor(config, next, answers, None)) is not None:
            yield given

    def _answered(
        self,
        asked: Question,
        run_manager: CallbackManagerForChainRun,  # noqa: ARG002 - LangChain passes both
        config: RunnableConfig,
    ) -> Answer:
        question, hits = self._hits(asked, config)
        return answer(question, hits, chat=self._chat(config), floor=self._floor)

    def _growing(
        self,
        asked: Iterator[Question],
        run_manager: CallbackManagerForChainRun,  # noqa: ARG002 - as above
        config: RunnableConfig,
    ) -> Iterator[Answer]:
        for each in asked:
            question, hits = self._hits(each, config)
            stream = answer_stream(question, hits, chat=self._chat(config), floor=self._floor)
            yield from _snapshots(stream, question, hits)

    def _hits(self, asked: Question, config: RunnableConfig) -> tuple[str, tuple[Hit, ...]]:
        given = asked if isinstance(asked, Mapping) else {"question": asked}
        question, documents = given.get("question"), given.get("documents")
        if not isinstance(question, str):
            raise UsageError('ask with a text, or with {"question": text, "documents": [...]}')
        if documents is None and self._retriever is not None:
            documents = self._retriever.invoke(question, config)
        if documents is None:
            raise UsageError(
                "there is nothing to answer from; make it with cited_answer(model, retriever=...) "
                'or ask with {"question": text, "documents": [...]}'
            )
        return question, tuple(map(_hit, documents))

    def _chat(self, config: RunnableConfig) -> _Chat | None:
        return None if self._model is None else _Chat(self._model, config)


class _Chat:
    """A LangChain chat model as the `ChatModel` of `kosmos_loader`."""

    def __init__(self, model: Runnable[Any, Any], config: RunnableConfig) -> None:
        self.name = _name(model)
        self._model = model
        self._config = config

    def __call__(self, messages: list[dict[str, str]]) -> str:
        return _text(self._model.invoke(messages, self._config))

    def stream(self, messages: list[dict[str, str]]) -> Iterator[str]:
        return map(_text, self._model.stream(messages, self._config))


def _snapshots(stream: AnswerStream, question: str, hits: tuple[Hit, ...]) -> Iterator[Answer]:
    text = ""
    for piece in stream:
        text += piece
        yield Answer(question, text, (), hits)
    yield stream.answer


def _hit(document: Document) -> Hit:
    if not isinstance(document, Document):
        raise UsageError(f"documents are LangChain's Document, not {document!r:.80}")
    metadata = document.metadata
    chunk = Chunk.from_metadata(document.page_content, metadata, chunk_id=document.id)
    score = metadata.get("score")
    return Hit(chunk, float(score) if isinstance(score, int | float) else 0.0)


def _text(reply: Any) -> str:
    return str(reply.text) if isinstance(reply, BaseMessage) else str(reply)


def _name(model: Runnable[Any, Any]) -> str:
    names = (getattr(model, attribute, None) for attribute in ("model_name", "model"))
    return next((name for name in names if isinstance(name, str) and name), model.get_name())
