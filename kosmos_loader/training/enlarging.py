"""A checkpoint with a larger vision tower that reads, to begin with, what the smaller one reads.

New layers and units of the feed-forward write nothing at first, as their last matrices are zero; of
a wider stream, what is new is seen by no layer yet. So training goes on from where it was (Chen,
Goodfellow and Shlens 2016, Net2Net, with layers that begin as identities). `make_heard` is for the
units of a wider stream that hundreds of steps have left faint. `double_latents` gives the decoder
twice the picture tokens, and needs some steps of training to read again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kosmos_loader.errors import UsageError, require
from kosmos_loader.readers.checkpoint import patches_seen
from kosmos_loader.training.examples import DrawnExamples, Example
from kosmos_loader.training.loop import load_model, pack_for, save_model

log = logging.getLogger(__name__)

CHANNELS = 3

LOUDNESS = 3.0
"""Of the new patterns, against the old ones: what they show is faint."""

FIT_STEPS, FIT_RATE = 400, 0.03
"""Of the new latent queries to the places that they should look at."""

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


def double_latents(checkpoint: str | Path, out: str | Path, *, level: int = 10) -> None:
    """Write `checkpoint` to the folder `out` with two picture tokens for each that it had.

    The latent queries of a trained model share out the page, and so do the heads of each: with half
    of its heads a token sees one patch and with the other half the next, and of what the tower says
    of a patch there comes through what half of the heads carry. Behind each query stands a new one
    whose halves look where those of the old one do, exchanged; together the two carry all. It is
    fitted to the attention of the old one on 96 drawn pages of `level`.

    The text stands farther from the picture then, and a page has two tokens where it had one: it
    has to be trained before it reads again, some tens of steps for the model of `tests/assets`.

    `UsageError` where the heads are odd in number, `ModelError` where `checkpoint` cannot be read.
    """
    transformers = require("transformers", extra="kosmos")
    torch = require("torch", extra="kosmos")
    few, processor = load_model(checkpoint)
    heads = few.config.text_config.attention_heads
    if heads % 2:
        raise UsageError(
            f"the decoder has {heads} heads, which have no halves; give a model with an even number"
        )
    pages = DrawnExamples(0, levels=level + 1).batch(0, 96, level=level)
    with torch.no_grad():
        keys = _latent_keys(few, processor, pages)
    latents = few.image_to_text_projection.latent_query.detach()
    config = few.config.to_dict() | {"latent_query_num": 2 * len(latents)}
    many = transformers.Kosmos2_5ForConditionalGeneration(
        transformers.Kosmos2_5Config.from_dict(config)
    )
    pairs = torch.stack([latents, _exchanged(few, keys)], dim=1)
    there = few.state_dict()
    there["image_to_text_projection.latent_query"] = pairs.flatten(0, 1)
    many.load_state_dict(there)
    processor.num_image_tokens = 2 * len(latents)
    save_model(many, processor, Path(out))


def _latent_keys(model: Any, processor: Any, pages: Sequence[Example]) -> Any:
    """[pages, heads, patches, width]: what the latent queries of `model` find on `pages`."""
    torch = require("torch", extra="kosmos")
    projection = model.image_to_text_projection
    heads = projection.x_attn.num_heads
    patches = patches_seen(model, processor)
    found = []
    for start in range(0, len(pages), 16):
        batch = pack_for(model, processor, pages[start : start + 16], max_patches=patches)
        features = model.vision_model(flattened_patches=batch.patches).last_hidden_state
        features = torch.nn.functional.normalize(features, dim=-1)
        keys = projection.x_attn.k_proj(projection.dense(features))
        found.append(keys.unflatten(-1, (heads, -1)).transpose(1, 2))
    return torch.cat(found)


def _exchanged(model: Any, keys: Any) -> Any:
    """[latents, width]: queries whose halves of heads look where the other half looked."""
    torch = require("torch", extra="kosmos")
    attention = model.image_to_text_projection.x_attn
    old = model.image_to_text_projection.latent_query.detach()

    def looks(latents: Any, keys: Any) -> Any:
        asked = attention.q_proj(latents).unflatten(-1, (attention.num_heads, -1))
        scores = torch.einsum("lhd,nhpd->nhlp", asked * attention.scaling, keys)
        return scores.log_softmax(-1)

    with torch.no_grad():
        wanted = looks(old, keys).exp().roll(attention.num_heads // 2, dims=1)
    new = old.clone().requires_grad_()
    fit = torch.optim.Adam([new], lr=FIT_RATE)
    slower = torch.optim.lr_scheduler.LinearLR(fit, 1.0, 0.02, total_iters=FIT_STEPS)
    for step in range(FIT_STEPS):
        some = slice(step % 4, None, 4)  # each page in its turn
        loss = -(wanted[some] * looks(new, keys[some])).sum(-1).mean()
        (new.grad,) = torch.autograd.grad(loss, [new])
        fit.step()
        slower.step()
    log.info("the exchanged queries look where they should but for %.3f", loss.item())
    return new.detach()


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
