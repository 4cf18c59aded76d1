"""`kosmos-loader train`: a small KOSMOS-2.5 from scratch, or any on your own pages."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kosmos_loader.cli.terminal import INTERRUPTED
from kosmos_loader.errors import UsageError

if TYPE_CHECKING:
    from kosmos_loader.training import Examples, Plan

SCRATCH = "scratch"


class Recipe(StrEnum):
    """Whose values hold where none are given."""

    scratch = "scratch"
    fine_tuning = "fine-tuning"


def train(
    run: Annotated[Path, typer.Argument(help="Folder of the run.", metavar="RUN")],
    *,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            help='Folder or hub id of the weights to start from, or "scratch" for a small model.',
            metavar="DIR_OR_ID",
        ),
    ],
    recipe: Annotated[
        Recipe | None,
        typer.Option("--recipe", help="What is not given; by default as --from suggests."),
    ] = None,
    pages: Annotated[
        Path | None,
        typer.Option(
            "--pages",
            help="Folder of images with truth as `read --format json` writes it; else drawn pages.",
            metavar="DIR",
        ),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option("--held-out", help="Such a folder to evaluate on.", metavar="DIR"),
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option("--levels", help="Levels of drawn pages to go through, 3 if not said.", min=1),
    ] = None,
    close: Annotated[
        float | None,
        typer.Option(
            "--close", help="Share of the last level with type set close.", min=0.0, max=1.0
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps in all.", min=1)] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Pages at a time.", min=1)] = None,
    accumulate: Annotated[
        int | None, typer.Option("--accumulate", help="Times BATCH pages make a step.", min=1)
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Highest learning rate.", min=0.0)
    ] = None,
    warmup: Annotated[
        int | None, typer.Option("--warmup", help="Steps in which the rate rises.", min=0)
    ] = None,
    decay: Annotated[
        int | None, typer.Option("--decay", help="Last steps, in which the rate falls.", min=0)
    ] = None,
    glyph_steps: Annotated[
        int | None,
        typer.Option("--glyph-steps", help="First steps, of drawn characters alone.", min=0),
    ] = None,
    glyph_weight: Annotated[
        float | None,
        typer.Option("--glyph-weight", help="Weight of that beside the reading.", min=0.0),
    ] = None,
    pass_mark: Annotated[
        float | None,
        typer.Option("--pass-mark", help="Share of right tokens that ends a level.", min=0.0),
    ] = None,
    review: Annotated[
        float | None,
        typer.Option("--review", help="Share of steps on levels below.", min=0.0, max=1.0),
    ] = None,
    freeze_vision: Annotated[
        bool | None,
        typer.Option("--freeze-vision/--train-vision", help="Leave the vision tower as it is."),
    ] = None,
    recompute: Annotated[
        bool | None,
        typer.Option("--recompute/--keep-activations", help="Trade time for memory."),
    ] = None,
    bf16: Annotated[
        bool | None,
        typer.Option("--bf16/--float32", help="What to compute in; bf16 on CUDA if not said."),
    ] = None,
    half: Annotated[
        bool | None, typer.Option("--half/--full", help="Write the model as float16.")
    ] = None,
    evaluate_every: Annotated[
        int | None, typer.Option("--evaluate-every", help="Steps between evaluations.", min=1)
    ] = None,
    evaluate_pages: Annotated[
        int | None, typer.Option("--evaluate-pages", help="Held-out pages to read then.", min=1)
    ] = None,
    save_every: Annotated[
        int | None, typer.Option("--save-every", help="Steps between saved states.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of weights and pages.", min=0)] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train KOSMOS-2.5 on drawn pages or on your own.

    The model is written to RUN/model. The same command goes on with a run that was interrupted,
    with more --steps it prolongs one. Other values than those given are the recipe's of
    docs/fine-tuning.md, for a small model from scratch or for fine-tuning.
    """
    from kosmos_loader.testing.drawn import HELD_OUT
    from kosmos_loader.training import DrawnExamples, FolderExamples, Sizes
    from kosmos_loader.training import train as run_training

    if held_out is not None and pages is None:
        raise UsageError("--held-out belongs to --pages; drawn pages hold out their own")
    if pages is not None and (levels is not None or close is not None):
        raise UsageError("--levels and --close are of drawn pages; they do not go with --pages")
    examples: Examples
    unseen: Examples | None
    if pages is None:
        levels = 3 if levels is None else levels
        examples = DrawnExamples(seed, levels=levels, close=close or 0.0)
        unseen = DrawnExamples(seed + HELD_OUT, levels=levels)
    else:
        examples = FolderExamples(pages, seed=seed)
        unseen = FolderExamples(held_out) if held_out is not None else None
    changes = {
        "steps": steps,
        "batch": batch,
        "accumulate": accumulate,
        "learning_rate": rate,
        "warmup": warmup,
        "decay": decay,
        "glyph_steps": glyph_steps,
        "glyph_weight": glyph_weight,
        "pass_mark": pass_mark,
        "review": review,
        "freeze_vision": freeze_vision,
        "recompute": recompute,
        "bf16": bf16,
        "half": half,
        "evaluate_every": evaluate_every,
        "evaluate_pages": evaluate_pages,
        "save_every": save_every,
    }
    if recipe is None:
        recipe = Recipe.scratch if start == SCRATCH else Recipe.fine_tuning
    plan = _plan(recipe, changes, seed)
    try:
        model = run_training(
            run,
            examples,
            plan=plan,
            start=Sizes() if start == SCRATCH else start,
            held_out=unseen,
            device=device,
            report=lambda entry: _tell(entry, plan.steps),
        )
    except KeyboardInterrupt:
        typer.echo(
            "interrupted; the same command goes on from what was saved last, "
            f"{plan.save_every} steps back at most",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(model)


def _plan(recipe: Recipe, changes: dict[str, Any], seed: int) -> Plan:
    from kosmos_loader.training import FINE_TUNING, SCRATCH_TRAINING

    values = {Recipe.scratch: SCRATCH_TRAINING, Recipe.fine_tuning: FINE_TUNING}[recipe]
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(values, seed=seed, **given)


def _tell(entry: dict[str, Any], steps: int) -> None:
    """One line on stderr every tenth step, and at every evaluation."""
    scores = entry.get("held_out")
    if entry["step"] % 10 and entry["step"] != steps and not scores:
        return
    parts = [f"step {entry['step']}/{steps}", f"level {entry['level'] + 1}"]
    parts += [
        f"{name} {entry[name]:.4f}" for name in ("loss", "glyphs", "ocr", "md") if name in entry
    ]
    parts.append(f"{entry['pages_per_s']:.1f} pages/s")
    for task, values in (scores or {}).items():
        if values is not None:
            found = {name: value for name, value in values.items() if value is not None}
            told = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
            parts.append(f"held out {task}: {told}")
    typer.echo("  ".join(parts), file=sys.stderr)
