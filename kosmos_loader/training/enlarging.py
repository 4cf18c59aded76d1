"""A checkpoint with a larger vision tower that reads, to begin with, what the smaller one reads.

New layers and units of the feed-forward write nothing at first, as their last matrices are zero; of
a wider stream, what is new is seen by no layer yet. So training goes on from where it was (Chen,
Goodfellow and Shlens 2016, Net2Net, with layers that begin as identities). `make_heard` is for the
units of a wider stream that hundreds of steps have left faint.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from kosmos_loader.errors import UsageError, require
from kosmos_loader.readers.checkpoint import patches_seen
from kosmos_loader.training.examples import DrawnExamples
from kosmos_loader.training.loop import load_model, pack_for, save_model

CHANNELS = 3

LOUDNESS = 3.0
"""Of the new patterns, against the old ones: what they show is faint."""

_WRITING = ("output.weight", "wo.weight")
"""The ends of the names of the matrices that write into the stream; all others read from it."""


def enlarge(
    checkpoint: str | Path,
    out: str | Path,
    *,
    layers: int | None = None,
    feed_forward: int | None = None,
    width: int | None = None,
    seed: int = 0,
) -> None:
    """Write `checkpoint` to the folder `out` with a larger vision tower; all else is as it was.

    The tower is the one that sees the page. It gets `layers` layers with `feed_forward` units each,
    which change nothing that is read until they are trained, and `width` units between the layers;
    None leaves each as it is. The heads stay as wide as they were.

    A patch of 16 x 16 pixels has 256 grey levels, of which a tower less wide than that can keep
    only the coarser patterns: the new units see patterns of grey that the old ones do not. They
    change the length of what the layers see a little, and so a wider tower may read a letter
    differently before it is trained.

    New weights depend on `seed` alone. `UsageError` for a smaller tower than there is, `ModelError`
    where `checkpoint` cannot be read.
    """
    transformers = require("transformers", extra="kosmos")
    torch = require("torch", extra="kosmos")
    small, processor = load_model(checkpoint)
    had = small.config.vision_config
    asked = {"num_hidden_layers": layers, "intermediate_size": feed_forward, "hidden_size": width}
    sizes = {n: getattr(had, n) if size is None else size for n, size in asked.items()}
    if any(size < getattr(had, name) for name, size in sizes.items()):
        raise UsageError(
            f"the vision tower has {had.num_hidden_layers} layers of {had.intermediate_size} "
            f"units already and is {had.hidden_size} wide; give no less"
        )
    config = small.config.to_dict()
    config["vision_config"] |= sizes
    large = transformers.Kosmos2_5ForConditionalGeneration(
        transformers.Kosmos2_5Config.from_dict(config)
    )
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        _start(large, chance)
        there = small.state_dict()
        for name, weight in large.state_dict().items():
            if name in there:
                _take_over(weight, there[name])
        if sizes["hidden_size"] > had.hidden_size:
            _widen(large, had.hidden_size, chance)
    save_model(large, processor, Path(out))


def make_heard(
    checkpoint: str | Path, out: str | Path, *, units: int, share: float = 0.6, level: int = 10
) -> None:
    """Write `checkpoint` to the folder `out`, its newer units heard, reading what it read.

    A stream that `enlarge` has widened from `units` units carries far less in the new ones than in
    the old ones, which grow from layer to layer: behind a norm they are so faint that training
    takes long to use them. Where they are fainter than `share` of the old ones (root mean square,
    on 16 drawn pages of `level`), the gains of the norm are raised to that and the columns of the
    matrices that read them divided by as much. What is read stays the same but for rounding; a step
    of training changes it more, as its length is the same for all columns.

    `UsageError` where the tower is not wider than `units`, `ModelError` where `checkpoint` cannot
    be read.
    """
    torch = require("torch", extra="kosmos")
    model, processor = load_model(checkpoint)
    vision = model.vision_model
    width = model.config.vision_config.hidden_size
    if not 0 < units < width:
        raise UsageError(
            f"the vision tower is {width} wide; give fewer units than that, not {units}"
        )
    pages = DrawnExamples(0, levels=level + 1).batch(0, 16, level=level)
    batch = pack_for(model, processor, pages, max_patches=patches_seen(model, processor))
    norms = [pair for layer in vision.encoder.layer for pair in _readers(layer)]
    factors: list[Any] = []

    def listen(_norm: Any, _given: Any, out: Any) -> None:
        old, new = (part.square().mean().sqrt() for part in out.split([units, width - units], -1))
        factors.append((share * old / new).clamp(min=1.0))

    hooks = [norm.register_forward_hook(listen) for norm, _ in norms]
    with torch.no_grad():
        vision(flattened_patches=batch.patches)
        for hook in hooks:
            hook.remove()
        for factor, (norm, read) in zip(factors, norms, strict=True):
            norm.weight[units:] *= factor
            for matrix in read:
                matrix.weight[:, units:] /= factor
    save_model(model, processor, Path(out))


def _readers(layer: Any) -> list[tuple[Any, list[Any]]]:
    """The norms of a layer in the order in which they are used, and the matrices that read each."""
    attention, mlp = layer.attention, layer.mlp
    return [
        (layer.pre_attention_layer_norm, [attention.query, attention.key, attention.value]),
        (layer.pre_mlp_layer_norm, [mlp.wi_0, mlp.wi_1]),
    ]


def _start(model: Any, chance: Any) -> None:
    """Weights of layers that give what they are given; all else is taken over."""
    for layer in model.vision_model.encoder.layer:
        for name, weight in layer.named_parameters():
            if weight.ndim == 1:
                continue  # the gain of a norm, which is 1
            if name.endswith(_WRITING):
                weight.zero_()
            else:
                weight.normal_(0.0, 1 / math.sqrt(weight.shape[1]), generator=chance)


def _take_over(weight: Any, old: Any) -> None:
    """Put `old` where it stood; what is beside it stays."""
    weight[tuple(slice(0, size) for size in old.shape)] = old.to(weight.dtype)


def _widen(model: Any, had: int, chance: Any) -> None:
    """The units behind the first `had` see new patterns of a patch, and are seen by nothing."""
    vision = model.vision_model
    width = model.config.vision_config.hidden_size
    for weight in [
        vision.embeddings.row_embedder.weight,
        vision.embeddings.column_embedder.weight,
        model.image_to_text_projection.dense.weight,
    ]:
        weight[:, had:] = 0.0
    patterns = vision.embeddings.patch_projection
    patterns.bias[had:] = 0.0
    patterns.weight[had:] = _unseen(patterns.weight[:had], width - had, chance)
    for name, weight in vision.encoder.named_parameters():
        if weight.ndim == 2:
            (weight[had:] if name.endswith(_WRITING) else weight[:, had:]).zero_()
    # a root mean square over more units, of which the new ones are small, is smaller
    for name, gain in vision.named_parameters():
        if name.endswith("norm.weight"):
            gain[:had] *= math.sqrt(had / width)


def _unseen(seen: Any, count: int, chance: Any) -> Any:
    """[count, pixels * 3]: patterns of grey at right angles to all of `seen`."""
    torch = require("torch", extra="kosmos")
    pixels = seen.shape[1] // CHANNELS
    grey = seen.unflatten(1, (pixels, CHANNELS)).mean(2)
    new = torch.randn(count, pixels, generator=chance)
    if len(seen) + count <= pixels:  # else there is no room for so many
        known = torch.linalg.qr(grey.T)[0]  # [pixels, patterns]
        new -= new @ known @ known.T
    new *= LOUDNESS * seen.norm(dim=1).mean() / new.norm(dim=1, keepdim=True) / math.sqrt(CHANNELS)
    return new.repeat_interleave(CHANNELS, dim=1)
