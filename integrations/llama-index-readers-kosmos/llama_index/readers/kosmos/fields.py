"""What the components of this package refuse: fields that they do not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.bridge.pydantic import BaseModel

from kosmos_loader.errors import UsageError


def only_known(component: type[BaseModel], data: Any) -> Any:
    """`data`; `UsageError` where it names a field that `component` does not have.

    In a validator, so it comes as pydantic's `ValidationError`. LlamaIndex would pass over a field
    that is spelt wrong, and a store without its folder is gone when the program ends.
    """
    if not isinstance(data, Mapping):
        return data
    unknown = data.keys() - component.model_fields.keys() - {"class_name"}  # as in to_dict()
    if unknown:
        raise UsageError(
            f"{component.__name__} has no {', '.join(sorted(map(str, unknown)))}; it takes "
            f"{', '.join(component.model_fields)}"
        )
    return data
