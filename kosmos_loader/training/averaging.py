"""One checkpoint out of several that went on from one another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kosmos_loader.errors import UsageError, require
from kosmos_loader.training.loop import load_model, save_model


def average(checkpoints: Sequence[str | Path], out: str | Path, *, half: bool = False) -> None:
    """Write to the folder `out` a checkpoint whose weights are the means of those of `checkpoints`.

    Models that one run came to at different times, or that were each trained on from the one
    before, lie in one valley of the loss, and their mean often nearer to its floor than any of them
    (Izmailov et al. 2018, Averaging Weights Leads to Wider Optima). Models that were trained apart
    do not: their mean reads nothing. One that is named several times counts as often. `half` writes
    float16. Processor and tokenizer are those of the first.

    `UsageError` for no checkpoint and for sizes that differ, `ModelError` where one cannot be read.
    """
    torch = require("torch", extra="kosmos")
    if not checkpoints:
        raise UsageError("no checkpoint to average; give the folders of two or more")
    first, *others = checkpoints
    mean, processor = load_model(first)
    sums = {name: weight.double() for name, weight in mean.state_dict().items()}
    for checkpoint in others:
        weights = load_model(checkpoint)[0].state_dict()
        shapes, wanted = ({n: w.shape for n, w in part.items()} for part in (weights, sums))
        if shapes != wanted:
            raise UsageError(f"{checkpoint} has other sizes than {first}; average like models")
        for name, weight in weights.items():
            sums[name] += weight
    mean.load_state_dict({name: weight / len(checkpoints) for name, weight in sums.items()})
    save_model(mean, processor, Path(out), dtype=torch.float16 if half else None)
