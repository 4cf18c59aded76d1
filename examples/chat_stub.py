"""A chat server that speaks the API of OpenAI and has no model, for the notebooks.

It answers with the line of the pages that has the most words in common with the question, and cites
it by its number, as a model that is asked by `kosmos_loader` does. That is enough to see the whole
line work, offline and alike on every machine.

```python
model = ChatOpenAI(base_url=start(), model="stub", api_key="none")
```
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def reply_to(messages: list[dict[str, Any]]) -> str:
    """What the server says to `messages`."""
    asked = messages[-1]["content"]
    pages, _, question = asked.rpartition("Question:")
    wanted = set(words(question))
    lines = re.findall(r"^\[(\d+)\] (.+)$", pages, re.MULTILINE)
    if not lines or not wanted:
        return "NOT FOUND"
    number, line = max(lines, key=lambda numbered: len(wanted & set(words(numbered[1]))))
    return f'The page says "{line}" [{number}].'


def words(text: str) -> list[str]:
    """The words of `text`, small."""
    return re.findall(r"\w+", text.lower())


class Handler(BaseHTTPRequestHandler):
    """Answers requests for chat completions, whole or streamed."""

    def do_POST(self) -> None:
        """Answer one request."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = reply_to(request["messages"])
        if request.get("stream"):
            self._head("text/event-stream")
            for piece in re.findall(r"\S+\s*", text):
                self._event(
                    {**COMPLETION, "object": "chat.completion.chunk"} | choice("delta", piece)
                )
            self.wfile.write(b"data: [DONE]\n\n")
            return
        self._head("application/json")
        completion = {**COMPLETION, "usage": USAGE} | choice("message", text)
        self.wfile.write(json.dumps(completion).encode())

    def _head(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

    def log_message(self, *args: object) -> None:
        """Say nothing on stderr."""


COMPLETION = {"id": "stub", "object": "chat.completion", "created": 0, "model": "stub"}
USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def choice(kind: str, text: str) -> dict[str, Any]:
    """The part of a completion that holds its text."""
    message = {"role": "assistant", "content": text}
    reason = "stop" if kind == "message" else None
    return {"choices": [{"index": 0, kind: message, "finish_reason": reason}]}


def start() -> str:
    """Start the server, which runs as long as the program does; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"
