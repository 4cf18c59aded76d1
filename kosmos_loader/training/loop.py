"""The training loop: a run is a folder, and a run that was killed goes on where it was saved."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kosmos_loader.checks import check_whole
from kosmos_loader.durable import replacing, sweep
from kosmos_loader.errors import ModelError, UsageError, require
from kosmos_loader.readers.checkpoint import (
    folder_of,
    load,
    patches_seen,
    quiet_transformers,
    torch_device,
)
from kosmos_loader.training.evaluation import evaluate
from kosmos_loader.training.examples import (
    GLYPH_CLASSES,
    IGNORED,
    TASKS,
    Batch,
    Example,
    Examples,
    pack,
    prompt_prefix,
)
from kosmos_loader.training.scratch import Sizes, new_model, new_processor

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

STATE = "state.pt"
"""All that a run needs to go on."""

Model = Any
"""A `Kosmos2_5ForConditionalGeneration`, of which no types are published."""


_FROM_NOTHING = ("warmup", "decay", "glyph_steps")
_FROM_ONE = ("steps", "batch", "accumulate", "save_every", "evaluate_every", "evaluate_pages")

MOST_SKIPPED = 10
"""Steps in a row whose gradients may not be finite."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train; `SCRATCH_TRAINING` and `FINE_TUNING` are two to start with."""

    steps: int = 2000
    batch: int = 32
    """Pages in a forward pass."""

    accumulate: int = 1
    """Forward passes in a step, which is that of one batch with all their pages: each token of a
    task counts the same, whichever pass it was in."""

    learning_rate: float = 2e-3
    warmup: int = 100
    """Steps in which the rate rises from nothing."""

    decay: int = 500
    """Steps at the end in which it falls to nothing."""

    weight_decay: float = 0.0
    optimizer: str = "muon"
    """"muon": Muon for the matrices between embeddings and AdamW for the rest, which from scratch
    learns several times faster; "adamw": AdamW for all, for a model that can read already."""

    seed: int = 0
    glyph_steps: int = 0
    """Steps at the start in which the picture tokens alone are trained, on which characters lie
    under them; on pages that say so."""

    glyph_weight: float = 0.0
    """Weight of that task beside the others, later."""

    pass_mark: float = 0.96
    """Share of right tokens, in both tasks, at which the next level begins. It is a running share
    that begins at nothing: at 0.96 a level takes 31 steps at least, at 0.84 it takes 18, at 0 one.
    """

    review: float = 0.25
    """Share of the steps on a level below the present one, so that it is not forgotten."""

    freeze_vision: bool = False
    """Leave the vision tower as it is, as microsoft/kosmos-2.5-chat was trained."""

    recompute: bool = False
    """Recompute activations in the backward pass: a fraction of the memory, a third more time."""

    max_patches: int | None = None
    """Patches to see of a page; None for as many as the model was made for."""

    bf16: bool | None = None
    """Compute in bf16 with weights in float32 (autocast); None does so on CUDA alone. On a CPU
    with instructions for bf16 a step takes about two thirds of the time."""

    half: bool = False
    """Write the weights of the model as float16; the run itself keeps float32."""

    save_every: int = 100
    evaluate_every: int = 250
    evaluate_pages: int = 16

    def __post_init__(self) -> None:
        if self.optimizer not in {"muon", "adamw"}:
            raise UsageError(f"no optimizer is called {self.optimizer!r}; choose muon or adamw")
        for least, names in enumerate((_FROM_NOTHING, _FROM_ONE)):
            for name in names:
                check_whole(getattr(self, name), name)
                if getattr(self, name) < least:
                    raise UsageError(f"{name} is {getattr(self, name)}; give {least} or more")
        if not (math.isfinite(self.learning_rate) and self.learning_rate >= 0):
            raise UsageError(f"a learning rate of {self.learning_rate} teaches nothing; give 1e-5")

    def rate(self, step: int) -> float:
        """The learning rate of step `step`, from 0."""
        rise = (step + 1) / max(1, self.warmup)
        # a short run reaches its rate too
        fall = (self.steps - step) / max(1, min(self.decay, self.steps - self.warmup))
        return self.learning_rate * min(1.0, rise, fall)


SCRATCH_TRAINING = Plan(
    steps=4000,
    batch=16,
    learning_rate=5e-3,
    warmup=50,
    decay=800,
    glyph_steps=120,
    glyph_weight=0.2,
)
"""How the training of `tests/assets/kosmos-2.5-nano` began; its README has all of it."""

FINE_TUNING = Plan(
    steps=3000,
    batch=1,
    accumulate=16,
    learning_rate=1e-5,
    warmup=100,
    decay=2900,
    weight_decay=0.01,
    optimizer="adamw",
    freeze_vision=True,
    recompute=True,
    save_every=500,
    evaluate_every=500,
)
"""Where to start with the released weights; what of it was run is said in docs/fine-tuning.md."""


@dataclass
class Progress:
    """Where a run stands."""

    step: int = 0
    level: int = 0
    right: dict[str, float] = field(default_factory=dict)
    """Running share of right tokens by task, at the present level; it begins at nothing."""

    seconds: float = 0.0
    """Spent training, interruptions not counted."""

    pages: int = 0


Report = Callable[[dict[str, Any]], None]


def train(
    run: str | Path,
    examples: Examples,
    *,
    plan: Plan,
    start: str | Path | Sizes,
    held_out: Examples | None = None,
    device: str = "auto",
    report: Report | None = None,
) -> Path:
    """The folder of the trained model, in the released layout: `run`/model.

    `start` is a checkpoint (a folder or a hub id) or the `Sizes` of a new model. Both tasks are
    trained teacher-forced, the picture encoded once for both; held-out pages are read with greedy
    `generate` while it runs. `run` holds the state of the run as well: called again with the same
    arguments, training goes on at the last saved step, on the CPU to the very bits that it would
    have come to without the interruption. A plan with more `steps` prolongs the run.

    Weights are float32; computation is bf16 on CUDA and float32 elsewhere, or as `plan.bf16` says.
    `report` gets a dict for each step that is logged: step, level, loss, ocr and md (share of right
    tokens), rate, pages_per_s, and "held_out" with scores after an evaluation; the same lines stand
    in `run`/log.jsonl. `ModelError` where the weights are not there.
    """
    return Run(run, plan=plan, start=start, device=device).train(
        examples, held_out=held_out, report=report or (lambda _: None)
    )


class Run:
    """A model in training, its optimizers and where it stands."""

    def __init__(
        self, folder: str | Path, *, plan: Plan, start: str | Path | Sizes, device: str = "auto"
    ) -> None:
        torch = require("torch", extra="kosmos")
        self.folder = Path(folder)
        self.plan = plan
        self._start = repr(start) if isinstance(start, Sizes) else str(start)
        self.device = torch_device(device)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{self.folder} cannot be made a folder ({error.strerror}); name another"
            ) from error
        torch.manual_seed(plan.seed)
        with quiet_transformers():
            self.model, self.processor = _begin(start, seed=plan.seed)
        self.model.to(self.device)
        if plan.freeze_vision:
            self.model.vision_model.requires_grad_(False)
        if plan.recompute:
            _recompute(self.model)
        self.model.train()
        self.max_patches = plan.max_patches or patches_seen(self.model, self.processor)
        self.glyph_head = self._glyph_head()
        self.optimizers = _optimizers(self.model, self.glyph_head, plan)
        self.progress = Progress()
        self._skipped = 0
        self._restore()

    def _glyph_head(self) -> nn.Module:
        """Tells from a picture token which characters lie under it; not part of the model."""
        torch = require("torch", extra="kosmos")
        per_latent = max(1, self.max_patches // self.model.config.latent_query_num)
        width = self.model.config.text_config.embed_dim
        head: nn.Module = torch.nn.Linear(width, per_latent * GLYPH_CLASSES, device=self.device)
        return head

    @property
    def model_folder(self) -> Path:
        """Where the model is written, in the released layout."""
        return self.folder / "model"

    def train(
        self, examples: Examples, *, held_out: Examples | None = None, report: Report
    ) -> Path:
        """Trains to the end of the plan; see `train`."""
        plan, progress = self.plan, self.progress
        while progress.step < plan.steps:
            began = time.perf_counter()
            entry = self.step(examples)
            progress.seconds += time.perf_counter() - began
            entry["pages_per_s"] = plan.batch * plan.accumulate / (time.perf_counter() - began)
            entry["seconds"] = progress.seconds
            last = progress.step == plan.steps
            evaluates = progress.step % plan.evaluate_every == 0 or last
            self._log(entry)
            if progress.step % plan.save_every == 0 or last:
                self.save()  # before the evaluation, which takes memory of its own
            if held_out is not None and evaluates:
                entry["held_out"] = self.evaluate(held_out).to_dict()
                self._log_again(entry)
            report(entry)
        if not self.model_folder.exists():
            self.save()
        return self.model_folder

    def evaluate(self, held_out: Examples) -> Any:
        """Scores on the first pages of `held_out`, each once, at the present level."""
        level = min(self.progress.level, held_out.levels - 1)
        count = self.plan.evaluate_pages
        if isinstance(held_out, Sized):
            count = min(count, len(held_out))
        with self._autocast():
            return evaluate(
                *(self.model, self.processor, held_out.batch(0, count, level=level)),
                max_patches=self.max_patches,
                batch=self.plan.batch,
            )

    def _autocast(self) -> AbstractContextManager[None]:
        torch = require("torch", extra="kosmos")
        bf16 = self.device.type == "cuda" if self.plan.bf16 is None else self.plan.bf16
        context: AbstractContextManager[None] = torch.autocast(
            self.device.type, torch.bfloat16, enabled=bf16
        )
        return context

    def step(self, examples: Examples) -> dict[str, Any]:
        """One step: forward and backward over its pages, then the optimizers."""
        torch = require("torch", extra="kosmos")
        plan, progress = self.plan, self.progress
        level = self._level(examples)
        first = progress.step * plan.accumulate
        # packed all at once: how many tokens a step has is known before its first backward pass
        parts = [
            self.pack(examples.batch(place, plan.batch, level=level))
            for place in range(first, first + plan.accumulate)
        ]
        whole = sum((tokens_of(part) for part in parts), Counter())
        told: dict[str, float] = {}
        for part in parts:
            loss, of_part = self.loss(part.to(self.device), whole)
            loss.backward()
            for name, value in of_part.items():
                told[name] = told.get(name, 0.0) + value
        rate = plan.rate(progress.step)
        norm = torch.nn.utils.clip_grad_norm_(self._trained(), 1.0)
        is_finite = bool(torch.isfinite(norm))
        self._count_skipped(is_finite)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
                group["weight_decay"] = plan.weight_decay  # that of the run before is restored
            if is_finite:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.pages += plan.batch * plan.accumulate
        self._rise(level, told, examples)
        return {"step": progress.step, "level": level, "rate": rate, **told}

    def _count_skipped(self, is_finite: bool) -> None:
        """Nothing is learnt from gradients that are not finite; `ModelError` where many are not."""
        self._skipped = 0 if is_finite else self._skipped + 1
        if not is_finite:
            log.warning("step %d teaches nothing: not finite", self.progress.step + 1)
        if self._skipped >= MOST_SKIPPED:
            raise ModelError(
                f"the gradients of {self._skipped} steps in a row are not finite; go on from what "
                f"was saved in {self.folder} with a lower rate, or without bf16"
            )

    def _level(self, examples: Examples) -> int:
        """The present level, or in the steps of review one below it."""
        chance = np.random.default_rng((self.plan.seed, self.progress.step, 1))
        present = min(self.progress.level, examples.levels - 1)
        if present and chance.random() < self.plan.review:
            return int(chance.integers(present))
        return present

    def _rise(self, level: int, told: Mapping[str, float], examples: Examples) -> None:
        progress = self.progress
        if level != progress.level or not told.keys() >= TASKS.keys():
            return
        for task in TASKS:
            # from nothing: had it begun at the first step's share, one lucky step would do
            progress.right[task] = 0.9 * progress.right.get(task, 0.0) + 0.1 * told[task]
        passed = min(progress.right.values()) > self.plan.pass_mark
        if passed and progress.level + 1 < examples.levels:
            progress.level += 1
            progress.right = {}

    def pack(self, pages: list[Example]) -> Batch:
        """`pages` as tensors on the CPU."""
        return pack_for(self.model, self.processor, pages, max_patches=self.max_patches)

    def loss(self, batch: Batch, whole: Mapping[str, int]) -> tuple[Any, dict[str, float]]:
        """What `batch` adds to the loss of a step, and what to tell of it; both are to be summed.

        `whole` has the tokens of each task in the step, as `tokens_of` counts them.
        """
        torch = require("torch", extra="kosmos")
        with self._autocast():
            latents = picture_tokens(self.model, batch.patches)
            glyphs = self._glyph_loss(latents, batch)
            if glyphs is not None and self.progress.step < self.plan.glyph_steps:
                loss, right = glyphs
                return loss, {"loss": loss.item(), "glyphs": right}
            logits, labels, tasks = predictions(self.model, latents, batch)
            losses = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
        # each task counts the same, though boxes make the tokens of "ocr" twice as many
        of_tasks = {name: tasks == number for number, name in enumerate(TASKS, 1) if whole[name]}
        loss = sum(losses[at].sum() / whole[name] for name, at in of_tasks.items()) / len(of_tasks)
        right = logits.argmax(-1) == labels
        told = {"loss": loss.item()}
        told |= {name: right[at].sum().item() / whole[name] for name, at in of_tasks.items()}
        if glyphs is not None and self.plan.glyph_weight:
            loss = loss + self.plan.glyph_weight * glyphs[0]
            told["glyphs"] = glyphs[1]
        return loss, told

    def _glyph_loss(self, latents: Any, batch: Batch) -> tuple[Any, float] | None:
        torch = require("torch", extra="kosmos")
        if batch.glyphs is None or not (self.plan.glyph_steps or self.plan.glyph_weight):
            return None
        logits = self.glyph_head(latents).unflatten(-1, (-1, GLYPH_CLASSES)).flatten(1, 2)
        wanted = batch.glyphs[:, : logits.shape[1]]
        # most patches are empty, and would drown the few that are not
        weight = torch.ones(GLYPH_CLASSES, device=wanted.device)
        weight[0] = 0.05
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), wanted.flatten(), weight
        )
        inked = wanted > 0
        right = (logits.argmax(-1) == wanted)[inked].float().mean().item()
        share = 1 / self.plan.accumulate
        return loss * share, right * share

    def _trained(self) -> Iterator[Any]:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                yield from group["params"]

    def save(self) -> None:
        """Writes the model and the state of the run, each beside the old one and then in place.

        `ModelError` where that fails, as on a full disk; what was saved before stays then.
        """
        with self._on_disk():
            self._write()

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        """The door through which what goes wrong in writing becomes ours."""
        safetensors = require("safetensors", extra="kosmos")
        try:
            yield
        # torch tells of a full disk by a RuntimeError
        except (OSError, RuntimeError, safetensors.SafetensorError) as error:
            raise ModelError(
                f"step {self.progress.step} could not be written to {self.folder} ({error}); make "
                "room there: the same command goes on from what was saved before"
            ) from error

    def _write(self) -> None:
        torch = require("torch", extra="kosmos")
        dtype = torch.float16 if self.plan.half else None
        written = self.folder / "model.new"
        save_model(self.model, self.processor, written, dtype=dtype)
        self.model_folder.mkdir(exist_ok=True)
        for file in written.iterdir():
            file.replace(self.model_folder / file.name)
        written.rmdir()
        state = {
            "start": self._start,
            "plan": asdict(self.plan),
            "progress": asdict(self.progress),
            "model": self.model.state_dict(),
            "glyph_head": self.glyph_head.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "chance": torch.get_rng_state(),
            "chance_cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }
        with replacing(self.folder / STATE) as beside:
            torch.save(state, beside)

    def _restore(self) -> None:
        torch = require("torch", extra="kosmos")
        sweep(self.folder, STATE)
        path = self.folder / STATE
        if not path.exists():
            self._cut_log()
            return
        state = self._state(path)
        if state["plan"]["seed"] != self.plan.seed:
            raise UsageError(
                f"{self.folder} holds a run with seed {state['plan']['seed']}; name another folder"
            )
        if state.get("start", self._start) != self._start:
            log.warning(
                "%s goes on with the run that it holds, which began with %s and not with %s",
                *(self.folder, state["start"], self._start),
            )
        try:
            self.model.load_state_dict(state["model"])
            self.glyph_head.load_state_dict(state["glyph_head"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        except (RuntimeError, ValueError, KeyError) as error:
            raise ModelError(
                f"{path} belongs to another model or optimizer; name another folder for this run"
            ) from error
        torch.set_rng_state(state["chance"].cpu())
        if state["chance_cuda"]:
            torch.cuda.set_rng_state_all([part.cpu() for part in state["chance_cuda"]])
        self.progress = Progress(**state["progress"])
        self._cut_log()

    def _state(self, path: Path) -> dict[str, Any]:
        torch = require("torch", extra="kosmos")
        try:
            state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:  # torch raises any type for a file that it did not write
            raise ModelError(
                f"{path} cannot be read ({type(error).__name__}); take it away to train on from "
                f"the start, or from {self.model_folder} in another folder"
            ) from error
        return state

    @property
    def _log_path(self) -> Path:
        return self.folder / "log.jsonl"

    def _log(self, entry: dict[str, Any]) -> None:
        with self._on_disk(), self._log_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _log_again(self, entry: dict[str, Any]) -> None:
        """Puts `entry` in place of the last line, which said less of the same step."""
        with self._on_disk():
            *kept, _ = self._log_path.read_text("utf-8").splitlines(keepends=True)
            self._log_path.write_text("".join([*kept, json.dumps(entry) + "\n"]), "utf-8")

    def _cut_log(self) -> None:
        """Takes out the steps that will be done again."""
        if not self._log_path.exists():
            return
        written = self._log_path.read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in written if line.endswith("\n") and self._is_done(line)]
        self._log_path.write_text("".join(kept), "utf-8")

    def _is_done(self, line: str) -> bool:
        try:
            return bool(json.loads(line)["step"] <= self.progress.step)
        except (ValueError, LookupError, TypeError):  # a line that was cut
            return False


def pack_for(model: Model, processor: Any, pages: Sequence[Example], *, max_patches: int) -> Batch:
    """`pages` as one batch, its tasks as long as the context of `model`."""
    context = model.config.text_config.max_position_embeddings
    return pack(pages, processor, max_patches=max_patches, context=context)


def picture_tokens(model: Model, patches: Any) -> Any:
    """[B, latents, width]: what the decoder sees of each page, as the model's forward makes it."""
    torch = require("torch", extra="kosmos")
    features = model.vision_model(flattened_patches=patches).last_hidden_state
    return model.image_to_text_projection(torch.nn.functional.normalize(features, dim=-1))[0]


def predictions(model: Model, latents: Any, batch: Batch) -> tuple[Any, Any, Any]:
    """Logits [N, vocabulary], labels [N] and tasks [N] of the N places that have a label."""
    hidden = model.text_model.model(
        input_ids=batch.ids,
        attention_mask=batch.visible,
        image_embeds=latents,
        image_embeds_position_mask=batch.picture,
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    asked = batch.labels != IGNORED
    return model.text_model.lm_head(hidden[asked]), batch.labels[asked], batch.tasks[asked]


def save_model(model: Model, processor: Any, folder: Path, *, dtype: Any = None) -> None:
    """Writes `folder` in the released layout; `dtype` rounds the weights that are written."""
    transformers = require("transformers", extra="kosmos")
    tokenizer = processor.tokenizer
    model.generation_config = transformers.GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    weights = None
    if dtype is not None:
        # tied weights stay one tensor, which is written once
        rounded: dict[int, Any] = {}
        weights = {
            name: rounded.setdefault(weight.data_ptr(), weight.to(dtype))
            for name, weight in model.state_dict().items()
        }
    with quiet_transformers():
        model.save_pretrained(folder, state_dict=weights)
        processor.save_pretrained(folder)
    # safetensors makes its files for their owner alone; the others beside them follow the umask
    mode = (folder / "config.json").stat().st_mode
    for file in folder.glob("*.safetensors"):
        file.chmod(mode)


def tokens_of(batch: Batch) -> Counter[str]:
    """How many tokens of each task `batch` asks for."""
    asked = batch.labels != IGNORED
    of_tasks = {name: batch.tasks[asked] == number for number, name in enumerate(TASKS, 1)}
    return Counter({name: int(places.sum()) for name, places in of_tasks.items()})


def _begin(start: str | Path | Sizes, *, seed: int) -> tuple[Model, Any]:
    if isinstance(start, Sizes):
        processor = new_processor(start)
        return new_model(start, processor.tokenizer, seed=seed), processor
    return load_model(start)


def load_model(start: str | Path) -> tuple[Model, Any]:
    """The model in the folder or of the hub id `start`, in float32, and its processor.

    `ModelError` where there is none, or not all of one.
    """
    torch = require("torch", extra="kosmos")
    model, processor = load(folder_of(start, None), dtype=torch.float32, device="cpu")
    prefix = len(prompt_prefix(processor)[0])
    context = model.config.text_config.max_position_embeddings
    if context <= prefix:
        raise ModelError(f"the picture's {prefix} tokens fill the context of {start}, {context}")
    return model, processor


def _recompute(model: Model) -> None:
    # the newer name, and what transformers called it before
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})


def _optimizers(model: Model, glyph_head: nn.Module, plan: Plan) -> list[Any]:
    """Muon (Jordan et al., kellerjordan.github.io/posts/muon) where the plan says so, and AdamW."""
    torch = require("torch", extra="kosmos")
    embeddings = {
        id(weight)
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding)
        for weight in module.parameters()
    }
    embeddings.add(id(model.image_to_text_projection.latent_query))
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for weight in model.parameters():
        if weight.requires_grad:
            is_matrix = weight.ndim == 2 and id(weight) not in embeddings
            (matrices if is_matrix and plan.optimizer == "muon" else others).append(weight)
    if plan.glyph_steps or plan.glyph_weight:
        others += list(glyph_head.parameters())
    adamw = torch.optim.AdamW(
        others, lr=plan.learning_rate, betas=(0.9, 0.95), weight_decay=plan.weight_decay
    )
    if not matrices:
        return [adamw]
    muon = torch.optim.Muon(
        matrices,
        lr=plan.learning_rate,
        weight_decay=plan.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [muon, adamw]
