"""The forward pass of a step: by plain calls, or on CUDA as a captured graph (`graphs.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from kosmos_loader.engine.attention import MaskedAttention
from kosmos_loader.engine.cache import Cache
from kosmos_loader.engine.kernels import Machine, why_plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kosmos_loader.engine.model import Kosmos


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """The N tokens of a step, those of a row together, rows in their order."""

    rows: NDArray[np.int64]
    """[R]: the rows that are fed, each once."""

    counts: NDArray[np.int64]
    """[R]: how many tokens each gets."""

    ids: NDArray[np.int64]
    """[N]"""

    positions: NDArray[np.int64]
    """[N]: counted from the beginning of the prompt."""

    tags: NDArray[np.int32]
    """[N]: whose tokens of the row they are."""


class Steps(Protocol):
    """Runs steps on one cache: their keys and values are in it afterwards."""

    def logits(self, batch: Batch) -> Tensor:
        """[N, vocabulary]: how likely each token is after each of the step."""

    def predictions(self, batch: Batch) -> Tensor:
        """[N]: the likeliest."""


class PlainSteps:
    """Steps one operation after the other, in the shape that they have: any device."""

    def __init__(self, model: Kosmos, cache: Cache) -> None:
        self.model = model
        self.cache = cache

    def logits(self, batch: Batch) -> Tensor:
        """[N, vocabulary]."""
        attention = MaskedAttention(self.cache)
        layout = attention.layout(batch.rows, batch.counts, batch.tags)
        return self.model.logits(
            self._tensor(batch.ids),
            self._tensor(batch.positions),
            lambda *states: attention(layout, *states),
        )

    def predictions(self, batch: Batch) -> Tensor:
        """[N]."""
        return self.logits(batch).argmax(-1)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.cache.device)


def are_graphed(model: Kosmos) -> bool:
    """Whether steps are graphs on the device of `model`, which run while the host goes on."""
    machine = Machine.of(model.tokens.device)
    return why_plain(machine, model.tokens.dtype, model.head_size) is None


def steps_on(model: Kosmos, cache: Cache) -> Steps:
    """The fastest that the device of both can do."""
    if not are_graphed(model):
        return PlainSteps(model, cache)
    from kosmos_loader.engine.graphs import CudaGraphs, GraphedSteps
    from kosmos_loader.engine.split_kv import SplitAttention

    return GraphedSteps(
        model, cache, attention=SplitAttention(cache), capture=CudaGraphs(cache.device)
    )
