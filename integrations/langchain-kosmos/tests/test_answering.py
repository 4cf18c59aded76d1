"""`cited_answer`: any chat model of LangChain, our answer with its citations."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_kosmos import KosmosLoader, cited_answer

from kosmos_loader.document import Answer, Line
from kosmos_loader.errors import ChatError, UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.testing import ScriptedReader
from kosmos_loader.testing.loaders import book

ROOF = Line("The roof cost 615 pounds.", Box(0.1, 0.1, 0.9, 0.2), 0.9)
QUAY = Line("Berth 4 should be closed.", Box(0.1, 0.4, 0.9, 0.5), 0.9)
QUESTION = "What did the roof cost?"
REPLY = 'It cost 615 pounds [1: "cost 615 pounds"].'


@pytest.fixture
def documents(tmp_path: Any) -> list[Document]:
    reader = ScriptedReader(lambda page: [ROOF, QUAY][page.number - 1])
    return KosmosLoader(book(tmp_path / "book.tif", 2), reader=reader).load()


class Fixed(BaseRetriever):
    """Finds the same documents for every question."""

    documents: list[Document]

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return self.documents


def saying(*replies: str | AIMessage) -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter(replies))


class Listening(BaseChatModel):
    """Keeps what it is asked, and says nothing new."""

    asked: list[list[BaseMessage]] = []  # noqa: RUF012 - a pydantic field, copied for each
    model_name: str = "listener-1"

    @property
    def _llm_type(self) -> str:
        return "listening"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        self.asked.append(messages)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(REPLY))])


class Seeing(BaseCallbackHandler):
    """Counts the calls it sees."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_chain_start(self, *_: Any, **named: Any) -> None:
        self.seen.append(named["name"])

    def on_retriever_start(self, *_: Any, **__: Any) -> None:
        self.seen.append("retriever")

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.seen.append("model")


def test_an_answer_has_citations_with_their_places(documents: list[Document]) -> None:
    given = cited_answer(saying(REPLY)).invoke({"question": QUESTION, "documents": documents})
    assert isinstance(given, Answer)
    assert given.text == "It cost 615 pounds [1]."
    [citation] = given.citations
    assert citation.quote == "cost 615 pounds"
    assert (citation.source, citation.page) == (documents[0].metadata["source"], 1)
    assert citation.regions == ((1, ROOF.box),)
    assert citation.chunk_id == documents[0].id
    assert given.unsupported == ()


def test_a_retriever_finds_the_documents(documents: list[Document]) -> None:
    chain = cited_answer(saying(REPLY, REPLY), retriever=Fixed(documents=documents))
    assert chain.invoke(QUESTION).citations[0].quote == "cost 615 pounds"
    assert len(chain.with_config(tags=["x"]).invoke({"question": QUESTION}).hits) == 2


def test_it_stands_at_the_end_of_a_chain(documents: list[Document]) -> None:
    asked = RunnableLambda(lambda text: {"question": text, "documents": documents})
    chain = asked | cited_answer(saying(REPLY)) | (lambda given: given.citations[0].page)
    assert chain.invoke(QUESTION) == 1


def test_without_a_model_passages_are_quoted(documents: list[Document]) -> None:
    given = cited_answer().invoke({"question": QUESTION, "documents": documents})
    assert given.model is None
    assert [citation.quote for citation in given.citations] == ["The roof cost 615 pounds."]


def test_what_the_pages_do_not_bear_out_is_marked(documents: list[Document]) -> None:
    reply = 'It cost 651 pounds [1: "cost 615 pounds"]. All were glad.'
    given = cited_answer(saying(reply)).invoke({"question": QUESTION, "documents": documents})
    assert [part.reason for part in given.unsupported] == ["unquoted", "uncited"]


def test_the_model_is_shown_numbered_lines_and_named_in_the_answer(
    documents: list[Document],
) -> None:
    model = Listening()
    given = cited_answer(model).invoke({"question": QUESTION, "documents": documents})
    [(system, human)] = model.asked
    assert (system.type, human.type) == ("system", "human")
    assert "[1] The roof cost 615 pounds." in human.text
    assert given.model == "listener-1"
    assert (
        cited_answer(saying(REPLY)).invoke({"question": QUESTION, "documents": documents}).model
        == "GenericFakeChatModel"
    )


def test_a_model_with_retries_or_in_parts_is_taken_too(documents: list[Document]) -> None:
    parts = AIMessage([{"type": "text", "text": REPLY[:20]}, {"type": "text", "text": REPLY[20:]}])
    for model in (saying(REPLY).with_retry(), saying(parts), RunnableLambda(lambda _: REPLY)):
        given = cited_answer(model).invoke({"question": QUESTION, "documents": documents})
        assert given.text == "It cost 615 pounds [1]."


def test_streamed_the_text_grows_and_the_last_answer_is_whole(documents: list[Document]) -> None:
    asked = {"question": QUESTION, "documents": documents}
    answers = list(cited_answer(saying(REPLY)).stream(asked))
    texts = [given.text for given in answers]
    assert len(answers) > 3
    assert all(later.startswith(before) for before, later in pairwise(texts))
    assert answers[-1] == cited_answer(saying(REPLY)).invoke(asked)
    assert not answers[0].citations


def test_in_a_chain_it_streams_too(documents: list[Document]) -> None:
    asked = RunnableLambda(lambda text: {"question": text, "documents": documents})
    answers = list((asked | cited_answer(saying(REPLY))).stream(QUESTION))
    assert len(answers) > 3
    assert answers[-1].citations


async def test_async_calls_give_the_same(documents: list[Document]) -> None:
    asked = {"question": QUESTION, "documents": documents}
    expected = cited_answer(saying(REPLY)).invoke(asked)
    assert await cited_answer(saying(REPLY)).ainvoke(asked) == expected
    streamed = [given async for given in cited_answer(saying(REPLY)).astream(asked)]
    assert len(streamed) > 3
    assert streamed[-1] == expected
    assert cited_answer(saying(REPLY, REPLY)).batch([asked]) == [expected]


@pytest.mark.parametrize("streams", [False, True])
async def test_the_loop_goes_on_while_a_model_thinks(
    documents: list[Document], streams: bool
) -> None:
    goes_on = threading.Event()

    def reply(_: Any) -> str:
        assert goes_on.wait(30), "the loop stood still"
        return REPLY

    async def let_go() -> None:
        await asyncio.sleep(0.01)
        goes_on.set()

    chain = cited_answer(RunnableLambda(reply))
    asked = {"question": QUESTION, "documents": documents}

    async def last() -> Answer:
        if not streams:
            return await chain.ainvoke(asked)
        return [given async for given in chain.astream(asked)][-1]

    given, _ = await asyncio.gather(last(), let_go())
    assert given.citations


@pytest.mark.parametrize("streams", [False, True])
def test_callbacks_see_retriever_and_model_below_it(
    documents: list[Document], streams: bool
) -> None:
    handler = Seeing()
    chain = cited_answer(saying(REPLY), retriever=Fixed(documents=documents))
    if streams:
        assert list(chain.stream(QUESTION, {"callbacks": [handler]}))
    else:
        chain.invoke(QUESTION, {"callbacks": [handler]})
    assert handler.seen == ["cited_answer", "retriever", "model"]


def test_scores_and_documents_of_others_are_taken() -> None:
    others = [
        Document("The roof cost 615 pounds.", metadata={"score": 0.5, "page": "iv", "x": [1]}),
        Document("Nothing.", id="n", metadata={"source": "elsewhere.txt", "score": "best"}),
    ]
    given = cited_answer(saying(REPLY)).invoke({"question": QUESTION, "documents": others})
    assert [hit.score for hit in given.hits] == [0.5, 0.0]
    [citation] = given.citations
    assert (citation.quote, citation.source, citation.regions) == ("cost 615 pounds", "", ())


def test_what_is_missing_is_said() -> None:
    chain = cited_answer(saying(REPLY))
    with pytest.raises(UsageError, match="nothing to answer from"):
        chain.invoke(QUESTION)
    with pytest.raises(UsageError, match='"question"'):
        chain.invoke({"query": QUESTION})
    with pytest.raises(UsageError, match="the question is empty"):
        chain.invoke({"question": " ", "documents": []})
    with pytest.raises(UsageError, match="ask with a text"):
        chain.invoke(None)
    with pytest.raises(UsageError, match="not 'a text'"):
        chain.invoke({"question": QUESTION, "documents": ["a text"]})
    with pytest.raises(UsageError, match="not 'gpt-4'"):
        cited_answer("gpt-4")


def test_no_documents_give_an_answer_that_abstains_without_asking_the_model() -> None:
    model = Listening()
    given = cited_answer(model).invoke({"question": QUESTION, "documents": []})
    assert given.abstained
    assert model.asked == []


def test_a_model_that_says_nothing_is_an_error(documents: list[Document]) -> None:
    with pytest.raises(ChatError):
        cited_answer(saying("")).invoke({"question": QUESTION, "documents": documents})
