"""A checkpoint with a larger vision tower that reads, to begin with, what the smaller one reads.

New layers and units write nothing at first, as their last matrices are zero, so training goes on
from where it was (Chen, Goodfellow and Shlens 2016, Net2Net, with layers that begin as identities).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from kosmos_loader.errors import UsageError, require
from kosmos_loader.training.loop import load_model, save_model


def deepen(
    checkpoint: str | Path, out: str | Path, *, layers: int, feed_forward: int, seed: int = 0
) -> None:
    """Write `checkpoint` to the folder `out` with `layers` of `feed_forward` units in its tower.

    The tower is the one that sees the page; all else is left as it is. New weights depend on `seed`
    alone. `UsageError` for fewer layers or units than there are, `ModelError` where `checkpoint`
    cannot be read.
    """
    transformers = require("transformers", extra="kosmos")
    torch = require("torch", extra="kosmos")
    small, processor = load_model(checkpoint)
    had = small.config.vision_config
    if layers < had.num_hidden_layers or feed_forward < had.intermediate_size:
        raise UsageError(
            f"the vision tower has {had.num_hidden_layers} layers of {had.intermediate_size} "
            "units already; give no fewer"
        )
    config = small.config.to_dict()
    config["vision_config"] |= {"num_hidden_layers": layers, "intermediate_size": feed_forward}
    large = transformers.Kosmos2_5ForConditionalGeneration(
        transformers.Kosmos2_5Config.from_dict(config)
    )
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in large.vision_model.encoder.layer:
            _start(layer, chance)
        there = small.state_dict()
        for name, weight in large.state_dict().items():
            if name in there:
                _take_over(weight, there[name])
    save_model(large, processor, Path(out))


def _start(layer: Any, chance: Any) -> None:
    """Weights of a layer that gives what it is given."""
    for name, weight in layer.named_parameters():
        if weight.ndim == 1:
            continue  # the gain of a norm, which is 1
        if name.endswith(("output.weight", "wo.weight")):
            weight.zero_()
        else:
            weight.normal_(0.0, 1 / math.sqrt(weight.shape[1]), generator=chance)


def _take_over(weight: Any, old: Any) -> None:
    """Put `old` where it stood; what is beside it stays."""
    weight[tuple(slice(0, size) for size in old.shape)] = old.to(weight.dtype)
