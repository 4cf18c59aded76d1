"""What a store keeps apart from chunks: any text with metadata, and how a search gives it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Entry:
    """A text under an id, with metadata: what LangChain calls a document and LlamaIndex a node."""

    id: str
    """Any text; an entry that is put under an id that is there replaces what was there."""

    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: text, numbers, true, false, None, and lists and dicts of them."""

    doc_id: str = ""
    """What it was made from; `Store.delete(doc_id=...)` deletes all of that."""

    source: str = ""
    """The file it comes from, if any; `Store.sources` and `Store.delete(source=...)` go by it."""

    embedded: str | None = None
    """What the embedder and the index of words are given instead of `text`."""

    @property
    def embedded_text(self) -> str:
        """What the embedder and the index of words are given."""
        return self.text if self.embedded is None else self.embedded


class Found(NamedTuple):
    """An entry that a search found."""

    entry: Entry
    score: float
    """0..1, higher is better; `Store.search` states what it means."""
