"""The seam to a language model, and the one model behind it that we bring: any OpenAI-compatible
server.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from kosmos_loader.errors import ChatError, UsageError, require

ChatModel = Callable[[list[dict[str, str]]], str]
"""Messages (`{"role": "system" | "user", "content": ...}`) to the text that a model replies.

A `name` attribute, where it has one, becomes `Answer.model`. With a `stream` method, from the same
messages to an iterator of text, it is heard by `answer_stream` while it writes.
"""


class OpenAIChat:
    """A chat model behind an OpenAI-compatible server (vLLM, llama.cpp, Ollama, a hosted one).

    `url` is the base of its API, `http://localhost:8000/v1`; a path that is missing is taken as
    `/v1`. The key comes from `api_key`, else from the environment (`KOSMOS_LOADER_API_KEY`, then
    `OPENAI_API_KEY`); local servers need none. A request that is not answered within `timeout`
    seconds is tried once more. `temperature=None` leaves it to the server, for models that take no
    other than their own.

    Calling it, and going through `stream`, raises `ChatError` for whatever goes wrong, saying what
    to do.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        temperature: float | None = 0.0,
    ) -> None:
        self.name = model
        self.url = _base_url(url)
        self._key = api_key or _key_from_environment()
        self._timeout = timeout
        self._options = {} if temperature is None else {"temperature": temperature}
        self._openai: Any = require("openai", extra="chat")

    def __repr__(self) -> str:
        return f"OpenAIChat({self.url!r}, {self.name!r})"

    def __call__(self, messages: list[dict[str, str]]) -> str:
        """The text that the model replies to `messages`."""
        with self._asking(messages) as completion:
            return self._text_of(completion)

    def stream(self, messages: list[dict[str, str]]) -> Iterator[str]:
        """The text that the model replies to `messages`, in pieces as it writes them.

        From a server that does not stream it comes as one piece.
        """
        with self._asking(messages, stream=True) as chunks:
            last = None
            is_empty = True
            try:
                if "json" in chunks.response.headers.get("content-type", ""):
                    yield self._text_of(self._completion(chunks.response.read()))
                    return
                for last in chunks:
                    piece = _piece_of(last)
                    is_empty = is_empty and not piece
                    yield piece
            except self._broken_off() as error:
                if isinstance(error, self._openai.APITimeoutError):
                    raise
                raise ChatError(f"{self.url} broke off in its reply; ask again") from error
            if is_empty:
                self._text_of(last)  # says what is wrong with it

    @contextmanager
    def _asking(self, messages: list[dict[str, str]], **options: bool) -> Iterator[Any]:
        """What the client makes of the reply; errors of the server come out as `ChatError`."""
        openai = self._openai
        try:
            # a client for each call: nothing stays open between questions
            with openai.OpenAI(
                base_url=self.url, api_key=self._key, timeout=self._timeout, max_retries=1
            ) as client:
                yield client.chat.completions.create(
                    model=self.name, messages=messages, **self._options, **options
                )
        except openai.OpenAIError as error:
            raise ChatError(self._explained(error)) from error
        except self._refused() as error:
            raise ChatError(f"{self.url} is no address ({error}); correct it") from error
        except (ValueError, RecursionError) as error:
            raise ChatError(
                f"{self.url} answers with something else than JSON ({error}); is it the base of an "
                "OpenAI-compatible API, ending in /v1?"
            ) from error

    def _broken_off(self) -> tuple[type[Exception], ...]:
        """What is raised where a connection ends in the middle of a reply."""
        # whose errors older clients let through
        return (self._openai.APIConnectionError, *(library.HTTPError for library in _libraries()))

    def _refused(self) -> tuple[type[Exception], ...]:
        """What is raised for an address to which no request can be sent."""
        return tuple(library.InvalidURL for library in _libraries())

    def _completion(self, body: bytes) -> Any:
        data = json.loads(body)
        completion = self._openai.types.chat.ChatCompletion
        return completion.construct(**data) if isinstance(data, dict) else None

    def _text_of(self, completion: Any) -> str:
        choices = getattr(completion, "choices", None)
        choice = choices[0] if isinstance(choices, list) and choices else None
        # a choice without a message is a reply without text
        if choice is None or not hasattr(choice, "finish_reason"):
            raise ChatError(
                f"{self.url} answers, but not as a chat model does; is it the base of an "
                "OpenAI-compatible API, ending in /v1?"
            )
        text = _joined(getattr(getattr(choice, "message", None), "content", None))
        if not text:
            raise ChatError(
                f"{self.name} replied with no text (finish_reason {choice.finish_reason!r}); ask "
                "again or choose another model"
            )
        return text

    def _explained(self, error: Exception) -> str:
        openai = self._openai
        match error:
            case openai.APITimeoutError():
                return (
                    f"{self.url} did not answer within {self._timeout:g} s; try again, or give it "
                    "more time with OpenAIChat(timeout=...)"
                )
            case openai.APIConnectionError():
                return f"no server can be reached at {self.url}; start it or correct the address"
            case openai.APIStatusError(status_code=401 | 403):
                return (
                    f"{self.url} refuses the API key; set KOSMOS_LOADER_API_KEY (or OPENAI_API_KEY)"
                )
            case openai.APIStatusError(status_code=404):
                return f"{self.url} knows no model {self.name!r}, or is no such API; check both"
            case openai.APIStatusError(status_code=429):
                return f"{self.url} takes no more requests for now (or the quota is used up); wait"
            case openai.APIStatusError(status_code=status) if status >= 500:
                return (
                    f"{self.url} failed (HTTP {status}); look at the server's log, then try again"
                )
            case openai.APIStatusError(status_code=status):
                return f"{self.url} refuses the request (HTTP {status}): {error}"
            case _:
                return f"the chat model at {self.url} failed: {error}"


def _libraries() -> list[ModuleType]:
    """The client's own library for HTTP."""
    return [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]


def _piece_of(chunk: Any) -> str:
    """The text in one piece of a streamed reply; the last ones may hold none."""
    choices = getattr(chunk, "choices", None)
    delta = getattr(choices[0], "delta", None) if isinstance(choices, list) and choices else None
    return _joined(getattr(delta, "content", None))


def _joined(content: object) -> str:
    """The text of a reply, which a server may send in parts; parts of another kind say nothing."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return "".join(text for text in texts if isinstance(text, str))


def _key_from_environment() -> str:
    names = ("KOSMOS_LOADER_API_KEY", "OPENAI_API_KEY")
    # the client insists on a key, and local servers look at none
    return next((os.environ[name] for name in names if os.environ.get(name)), "none")


def _base_url(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        is_address = parts.scheme in ("http", "https") and parts.netloc and parts.port != 0
    except ValueError:  # of a port that is no number, or a bracket that is not closed
        is_address = False
    if not is_address:
        raise UsageError(
            f"{url!r} is no address of a chat model; give one like http://localhost:8000/v1"
        )
    if parts.query or parts.fragment:
        raise UsageError(
            f"{url!r} ends in a query, which cannot be passed on; leave it out (on Azure, end the "
            "address in /openai/v1), or give a function of your own as the chat model"
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"
