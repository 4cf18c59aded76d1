"""What counts the size of a chunk, as a field of a component."""

from __future__ import annotations

from typing import Annotated, Any

from llama_index.core.bridge.pydantic import (
    BeforeValidator,
    PlainSerializer,
    WithJsonSchema,
)

from kosmos_loader.chunking import Length

CHARACTERS = "characters"


def _counter(saved: Any) -> Any:
    return len if saved == CHARACTERS else saved


def _name(length: Length) -> str:
    """What tells one from another in a saved component and in the cache of a pipeline."""
    if length is len:
        return CHARACTERS
    kind = length if hasattr(length, "__qualname__") else type(length)
    parts = (getattr(kind, "__module__", None), kind.__qualname__)
    called = ".".join(part for part in parts if part)
    model = getattr(length, "name_or_path", None) or getattr(length, "name", None)
    return f"{called}:{model}" if isinstance(model, str) else called


ChunkLength = Annotated[
    Length,
    BeforeValidator(_counter),
    PlainSerializer(_name, return_type=str),
    WithJsonSchema({"type": "string"}),
]
"""`len`, or what `kosmos_loader.chunk` takes as `length`. Anything but `len` is saved by its name,
and has to be given again when the component is loaded: `from_dict(data, chunk_length=...)`."""
