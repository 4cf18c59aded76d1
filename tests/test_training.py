from __future__ import annotations

import json
import logging
import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from kosmos_loader.cli.train import train as train_command
from kosmos_loader.document import Line, PageInfo, Reading
from kosmos_loader.errors import EmptyFile, ModelError, SourceNotFound, UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.markup import format_ocr
from kosmos_loader.readers.kosmos import KosmosPageReader
from kosmos_loader.testing import nano_kosmos, tiny_kosmos
from kosmos_loader.testing.drawn import LEVELS, draw_page, drawn_pages
from kosmos_loader.training import (
    FINE_TUNING,
    DrawnExamples,
    Example,
    FolderExamples,
    Plan,
    Run,
    Sizes,
    Truth,
    average,
    double_latents,
    enlarge,
    make_heard,
    score,
    train,
)
from kosmos_loader.training.examples import IGNORED, Batch, Examples, pack, prompt_prefix
from kosmos_loader.training.loop import (
    load_model,
    picture_tokens,
    predictions,
    save_model,
    tokens_of,
)
from kosmos_loader.training.scores import align
from kosmos_loader.training.scratch import new_model, new_processor

torch = pytest.importorskip("torch", reason="needs the kosmos extra")
transformers = pytest.importorskip("transformers", reason="needs the kosmos extra")
safetensors = pytest.importorskip("safetensors.torch", reason="needs the kosmos extra")
load_file = safetensors.load_file
pytest.importorskip("matplotlib", reason="brings the typefaces of drawn pages")

SIZES = Sizes(
    rows=2,
    columns=4,
    width=32,
    heads=2,
    layers=2,
    feed_forward=64,
    vision_layers=1,
    vision_feed_forward=32,
    coordinates=64,
    context=400,
)
PLAN = Plan(steps=6, batch=2, warmup=2, decay=2, save_every=2, evaluate_every=100)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights_of(model: Any) -> dict[str, Any]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def equal(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Killed(Exception):
    """What stops a run from outside."""


class KilledAt:
    """Drawn pages that end the run when a step's are asked for."""

    levels = 3

    def __init__(self, step: int) -> None:
        self.step = step
        self.pages = DrawnExamples(0)

    def batch(self, step: int, size: int, *, level: int) -> list[Example]:
        if step == self.step:
            raise Killed
        return self.pages.batch(step, size, level=level)


def test_the_prompt_is_what_the_processor_writes(tmp_path: Path) -> None:
    run = Run(tmp_path, plan=PLAN, start=SIZES)
    written = run.processor(images=Image.new("RGB", (40, 40)), text="<ocr>", return_tensors="pt")
    ids, mask = prompt_prefix(run.processor)
    task = run.processor.tokenizer.convert_tokens_to_ids("<ocr>")
    assert written["input_ids"].tolist() == [[*ids, task]]
    assert written["image_embeds_position_mask"].tolist() == [[*mask, 0]]


def test_the_end_and_every_token_of_both_tasks_is_predicted(tmp_path: Path) -> None:
    run = Run(tmp_path, plan=PLAN, start=SIZES)
    drawn = draw_page(0, 0)
    [example] = DrawnExamples(0).batch(0, 1, level=2)
    batch = pack([example], run.processor, max_patches=SIZES.patches, context=SIZES.context)
    for task, text in enumerate(
        [format_ocr(drawn.lines, width=48, height=32), drawn.markdown], start=1
    ):
        labels = batch.labels[0][batch.tasks[0] == task]
        assert run.processor.tokenizer.decode(labels) == text + "</s>"


def test_a_task_behind_the_shared_picture_sees_what_it_sees_alone(tmp_path: Path) -> None:
    run = Run(tmp_path, plan=PLAN, start=SIZES)
    examples = DrawnExamples(0).batch(0, 3, level=2)
    together = run.pack(examples)
    with torch.no_grad():
        logits, _, tasks = predictions(
            run.model, picture_tokens(run.model, together.patches), together
        )
        prefix, mask = prompt_prefix(run.processor)
        for task in (1, 2):
            alone = []
            for row in range(3):
                ids = [*prefix, *together.ids[row][together.tasks[row] == task].tolist()]
                kinds = [*mask, *[0] * (len(ids) - len(mask))]
                written = run.model(
                    input_ids=torch.tensor([ids]),
                    flattened_patches=together.patches[row : row + 1],
                    image_embeds_position_mask=torch.tensor([kinds]),
                    attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                ).logits[0, len(prefix) :]
                alone.append(written)
            assert torch.allclose(logits[tasks == task], torch.cat(alone), atol=1e-4)


def test_a_task_too_long_for_the_context_is_cut_off(tmp_path: Path) -> None:
    run = Run(tmp_path, plan=PLAN, start=SIZES)
    example = Example(draw_page(0, 0).pixels, None, "x" * 900)
    batch = pack([example], run.processor, max_patches=SIZES.patches, context=50)
    assert batch.ids.shape[1] == 50
    assert int(batch.positions.max()) == 50 + 1


def test_a_page_without_truth_for_a_task_is_not_trained_on_it(tmp_path: Path) -> None:
    run = Run(tmp_path, plan=PLAN, start=SIZES)
    pixels = draw_page(0, 0).pixels
    batch = run.pack([Example(pixels, None, "text"), Example(pixels, None, "longer text")])
    assert set(batch.tasks.unique().tolist()) == {0, 2}
    _, told = run.loss(batch, tokens_of(batch))
    assert "md" in told
    assert "ocr" not in told


def test_the_loss_on_a_fixed_batch_falls(tmp_path: Path) -> None:
    class SamePages(DrawnExamples):
        def batch(self, step: int, size: int, *, level: int) -> list[Example]:
            return super().batch(0, size, level=0)

    told: list[dict[str, Any]] = []
    plan = replace(PLAN, steps=60, decay=10, batch=4, learning_rate=5e-3, save_every=100)
    train(tmp_path, SamePages(0), plan=plan, start=SIZES, report=told.append)
    assert told[-1]["loss"] < 0.5 * told[0]["loss"]
    assert told[-1]["ocr"] > told[0]["ocr"] + 0.3


@pytest.mark.parametrize(
    "changes", [{"optimizer": "muon"}, {"optimizer": "adamw"}, {"bf16": True}], ids=str
)
def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    plan = replace(PLAN, glyph_steps=1, glyph_weight=0.2, pass_mark=0.0, **changes)
    whole = Run(tmp_path / "whole", plan=plan, start=SIZES)
    whole.train(KilledAt(-1), report=lambda _: None)

    with pytest.raises(Killed):
        train(tmp_path / "killed", KilledAt(5), plan=plan, start=SIZES)
    resumed = Run(tmp_path / "killed", plan=plan, start=SIZES)
    assert resumed.progress.step == 4
    resumed.train(KilledAt(-1), report=lambda _: None)

    assert equal(weights_of(whole.model), weights_of(resumed.model))
    assert whole.progress.level == resumed.progress.level > 0
    assert told_by(tmp_path / "whole") == told_by(tmp_path / "killed")
    assert [entry["step"] for entry in told_by(tmp_path / "killed")] == [1, 2, 3, 4, 5, 6]


CHILD = """
import json, sys, time, torch
from kosmos_loader.training import DrawnExamples, Plan, Sizes, train

folder, plan, sizes = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])

class NeverAtTheEnd(DrawnExamples):
    def batch(self, step, size, *, level):
        if step == plan["steps"] - 1:
            time.sleep(100)
            raise SystemExit("nobody killed this run")
        return super().batch(step, size, level=level)

torch.set_num_threads(1)
train(folder, NeverAtTheEnd(0), plan=Plan(**plan), start=Sizes(**sizes))
"""


@pytest.mark.slow
def test_a_process_that_was_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    plan = replace(PLAN, steps=12, save_every=1, glyph_steps=1, glyph_weight=0.2, pass_mark=0.0)
    pages = DrawnExamples(0)
    whole = Run(tmp_path / "whole", plan=plan, start=SIZES)
    whole.train(pages, report=lambda _: None)

    killed = tmp_path / "killed"
    settings = [json.dumps(asdict(part)) for part in (plan, SIZES)]
    with subprocess.Popen([sys.executable, "-c", CHILD, str(killed), *settings]) as child:
        # wherever it is after a first state: in a step, or in the middle of the next state
        while not (killed / "state.pt").exists() and child.poll() is None:
            time.sleep(0.002)
        time.sleep(0.2)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    resumed = Run(killed, plan=plan, start=SIZES)
    assert 0 < resumed.progress.step < plan.steps
    resumed.train(pages, report=lambda _: None)

    assert equal(weights_of(whole.model), weights_of(resumed.model))
    written = [load_file(run.model_folder / "model.safetensors") for run in (whole, resumed)]
    assert equal(*written)
    assert told_by(tmp_path / "whole") == told_by(killed)


def told_by(run: Path) -> list[dict[str, Any]]:
    """The log of a run, without what the clock says."""
    clock = ("seconds", "pages_per_s")
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    return [{name: entry[name] for name in entry if name not in clock} for entry in entries]


def test_a_finished_run_is_prolonged_by_a_plan_with_more_steps(tmp_path: Path) -> None:
    train(tmp_path, DrawnExamples(0), plan=replace(PLAN, steps=2), start=SIZES)
    run = Run(tmp_path, plan=replace(PLAN, steps=3), start=SIZES)
    assert run.progress.step == 2
    run.train(DrawnExamples(0), report=lambda _: None)
    assert run.progress.step == 3


def test_a_state_that_was_half_written_is_swept_away(tmp_path: Path) -> None:
    left = tmp_path / ".state.pt.abc123.tmp"
    left.write_bytes(b"half")
    train(tmp_path, DrawnExamples(0), plan=replace(PLAN, steps=1), start=SIZES)
    assert not left.exists()
    assert (tmp_path / "state.pt").exists()


def test_a_run_of_another_model_or_seed_is_refused(tmp_path: Path) -> None:
    train(tmp_path, DrawnExamples(0), plan=replace(PLAN, steps=1), start=SIZES)
    with pytest.raises(ModelError, match="another folder"):
        Run(tmp_path, plan=PLAN, start=replace(SIZES, feed_forward=96))
    with pytest.raises(UsageError, match="seed 0"):
        Run(tmp_path, plan=replace(PLAN, seed=1), start=SIZES)


def test_training_from_a_checkpoint_leaves_a_frozen_vision_tower_alone(tmp_path: Path) -> None:
    start = tiny_kosmos(tmp_path / "start")
    plan = replace(PLAN, steps=2, optimizer="adamw", freeze_vision=True, recompute=True)
    run = Run(tmp_path / "run", plan=plan, start=start)
    before = weights_of(run.model)
    run.train(DrawnExamples(0), report=lambda _: None)
    after = weights_of(run.model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("vision_model") for name in moved)
    assert any(name.startswith("text_model") for name in moved)
    assert any(name.startswith("image_to_text_projection") for name in moved)


@pytest.fixture
def shallow(tmp_path: Path) -> Path:
    processor = new_processor(SIZES)
    folder = tmp_path / "shallow"
    save_model(new_model(SIZES, processor.tokenizer, seed=0), processor, folder)
    return folder


def features_of(folder: Path) -> Any:
    """What the vision tower makes of a page, with the resampler's own norm."""
    model, processor = load_model(folder)
    page = next(drawn_pages(1)).page()
    patches = processor.image_processor(page.pixels, return_tensors="pt")["flattened_patches"]
    with torch.no_grad():
        return picture_tokens(model, patches)


def test_a_checkpoint_with_more_layers_and_units_reads_what_it_read(
    tmp_path: Path, shallow: Path
) -> None:
    enlarge(shallow, tmp_path / "large", layers=3, feed_forward=48)
    config = load_model(tmp_path / "large")[0].config.vision_config
    assert (config.num_hidden_layers, config.intermediate_size, config.hidden_size) == (3, 48, 32)
    before, after = features_of(shallow), features_of(tmp_path / "large")
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)


def test_a_wider_tower_sees_nearly_what_it_saw(tmp_path: Path, shallow: Path) -> None:
    enlarge(shallow, tmp_path / "large", layers=2, width=48)
    config = load_model(tmp_path / "large")[0].config.vision_config
    assert (config.num_hidden_layers, config.intermediate_size, config.hidden_size) == (2, 32, 48)
    before, after = features_of(shallow), features_of(tmp_path / "large")
    near = torch.nn.functional.cosine_similarity(before, after, dim=-1)
    assert near.min() > 0.95


def test_new_units_of_a_wider_tower_see_what_the_old_ones_do_not(
    tmp_path: Path, shallow: Path
) -> None:
    enlarge(shallow, tmp_path / "large", width=48)
    weights = load_model(tmp_path / "large")[0].vision_model.embeddings.patch_projection.weight
    old, new = weights.detach().unflatten(1, (256, 3)).split([32, 16])
    assert torch.equal(new[..., 0], new[..., 1])
    assert torch.equal(new[..., 1], new[..., 2])
    assert (old.mean(-1) @ new[..., 0].T).abs().max() < 1e-4
    assert torch.linalg.matrix_rank(new[..., 0]) == 16


def test_a_tower_wider_than_a_patch_has_pixels_is_widened_too(tmp_path: Path) -> None:
    sizes = replace(SIZES, width=256, heads=2)
    processor = new_processor(sizes)
    save_model(new_model(sizes, processor.tokenizer, seed=0), processor, tmp_path / "wide")
    enlarge(tmp_path / "wide", tmp_path / "wider", width=272)
    assert features_of(tmp_path / "wider").isfinite().all()


def test_all_weights_of_an_enlarged_checkpoint_can_be_trained(
    tmp_path: Path, shallow: Path
) -> None:
    enlarge(shallow, tmp_path / "large", layers=2, feed_forward=48, width=48)
    before = weights_of(load_model(tmp_path / "large")[0].vision_model)
    train(tmp_path / "on", DrawnExamples(0), plan=PLAN, start=tmp_path / "large")
    after = weights_of(load_model(tmp_path / "on" / "model")[0].vision_model)
    assert not [name for name in before if torch.equal(before[name], after[name])]


def test_new_units_are_made_heard_and_nothing_else_is_read(tmp_path: Path, shallow: Path) -> None:
    enlarge(shallow, tmp_path / "large", width=48)
    model, processor = load_model(tmp_path / "large")
    [layer] = model.vision_model.encoder.layer
    with torch.no_grad():
        for matrix in (layer.attention.query, layer.attention.value, layer.mlp.wi_0):
            matrix.weight[:, 32:].normal_(0.0, 0.1)
    save_model(model, processor, tmp_path / "faint")
    loud = 9.0  # more than they can be in a tower that has not been trained
    make_heard(tmp_path / "faint", tmp_path / "heard", units=32, share=loud, level=2)
    torch.testing.assert_close(
        features_of(tmp_path / "faint"), features_of(tmp_path / "heard"), atol=1e-4, rtol=1e-4
    )
    before, after = (
        load_model(tmp_path / name)[0].vision_model.encoder.layer[0] for name in ("faint", "heard")
    )
    raised = after.pre_mlp_layer_norm.weight / before.pre_mlp_layer_norm.weight
    assert raised[:32].eq(1).all()
    assert raised[32:].gt(1).all()
    columns = (layer.mlp.wi_0.weight for layer in (before, after))
    torch.testing.assert_close(next(columns) / raised, next(columns))


@pytest.mark.parametrize("units", [0, 32, 48])
def test_only_units_that_a_tower_was_widened_by_are_made_heard(
    tmp_path: Path, shallow: Path, units: int
) -> None:
    with pytest.raises(UsageError, match="the vision tower is 32 wide; give fewer units"):
        make_heard(shallow, tmp_path / "heard", units=units)


@pytest.fixture
def attentive(shallow: Path) -> Path:
    """A checkpoint each of whose picture tokens looks at few patches, as trained ones do."""
    model, processor = load_model(shallow)
    with torch.no_grad():
        model.image_to_text_projection.x_attn.k_proj.weight *= 100
    save_model(model, processor, shallow)
    return shallow


def looks_of(folder: Path) -> Any:
    """[heads, picture tokens, patches]: what share of its attention to a page goes where."""
    model, processor = load_model(folder)
    page = next(drawn_pages(1)).page()
    patches = processor.image_processor(page.pixels, return_tensors="pt")["flattened_patches"]
    projection = model.image_to_text_projection
    attention = projection.x_attn
    with torch.no_grad():
        features = model.vision_model(flattened_patches=patches).last_hidden_state
        dense = projection.dense(torch.nn.functional.normalize(features, dim=-1))
        queries, keys = (
            part.unflatten(-1, (attention.num_heads, -1)).transpose(0, 1)
            for part in (attention.q_proj(projection.latent_query), attention.k_proj(dense[0]))
        )
        return (queries @ keys.transpose(1, 2) * attention.scaling).softmax(-1)


def test_doubled_picture_tokens_look_with_each_half_of_the_heads_where_the_other_looked(
    tmp_path: Path, attentive: Path
) -> None:
    double_latents(attentive, tmp_path / "double", level=2)
    had, looks = looks_of(attentive), looks_of(tmp_path / "double")
    assert looks.shape == (2, 2 * had.shape[1], 8)
    torch.testing.assert_close(looks[:, ::2], had)

    def apart(looks: Any) -> float:
        return float((looks - had.roll(1, dims=0)).abs().sum(-1).mean())

    assert apart(looks[:, 1::2]) < 0.5 * apart(had)


def test_a_checkpoint_with_doubled_picture_tokens_is_read_with_and_trained(
    tmp_path: Path, shallow: Path
) -> None:
    double_latents(shallow, tmp_path / "double", level=2)
    model, processor = load_model(tmp_path / "double")
    assert processor.num_image_tokens == model.config.latent_query_num == 2 * SIZES.latents
    before, after = (weights_of(load_model(folder)[0]) for folder in (shallow, tmp_path / "double"))
    for weights in (before, after):
        del weights["image_to_text_projection.latent_query"]
    assert equal(before, after)
    trained = train(tmp_path / "on", DrawnExamples(0), plan=PLAN, start=tmp_path / "double")
    reader = KosmosPageReader(trained, device="cpu", max_new_tokens=8)
    [reading] = reader.read([next(drawn_pages(1)).page()])
    assert reading.error is None


def test_picture_tokens_of_an_odd_number_of_heads_cannot_be_doubled(tmp_path: Path) -> None:
    sizes = replace(SIZES, heads=1, per_latent=1)
    processor = new_processor(sizes)
    save_model(new_model(sizes, processor.tokenizer, seed=0), processor, tmp_path / "odd")
    with pytest.raises(UsageError, match="has 1 heads, which have no halves"):
        double_latents(tmp_path / "odd", tmp_path / "double")


def test_an_average_lies_in_the_middle_and_is_read_like_any_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", plan=replace(PLAN, steps=2), start=SIZES)
    run.save()
    shutil.copytree(run.model_folder, tmp_path / "early")
    run.train(DrawnExamples(0), report=lambda _: None)
    average([tmp_path / "early", run.model_folder], tmp_path / "mean")
    early, late, mean = (
        load_file(folder / "model.safetensors")
        for folder in (tmp_path / "early", run.model_folder, tmp_path / "mean")
    )
    assert not equal(early, late)
    assert mean.keys() == late.keys()
    for name, weight in mean.items():
        torch.testing.assert_close(weight, (early[name] + late[name]) / 2)
    assert load_model(tmp_path / "mean")[0].state_dict().keys() == run.model.state_dict().keys()


def test_an_average_is_of_like_models(tmp_path: Path) -> None:
    Run(tmp_path / "a", plan=PLAN, start=SIZES).save()
    Run(tmp_path / "b", plan=PLAN, start=replace(SIZES, vision_layers=2)).save()
    with pytest.raises(UsageError, match="other sizes"):
        average([tmp_path / "a" / "model", tmp_path / "b" / "model"], tmp_path / "mean")
    with pytest.raises(UsageError, match="two or more"):
        average([], tmp_path / "mean")
    average([tmp_path / "a" / "model"], tmp_path / "half", half=True)
    weights = load_file(tmp_path / "half" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}


def test_a_share_of_the_last_level_is_set_close() -> None:
    def pages(close: float, level: int) -> list[bytes]:
        examples = DrawnExamples(3, levels=11, close=close)
        return [example.pixels.tobytes() for example in examples.batch(0, 12, level=level)]

    assert pages(0.5, 10) == pages(0.5, 10)
    half, all_of_them = (
        sum(a != b for a, b in zip(pages(0.0, 10), pages(close, 10), strict=True))
        for close in (0.5, 1.0)
    )
    assert 0 < half < all_of_them
    assert pages(0.0, 9) == pages(1.0, 9)
    with pytest.raises(UsageError, match=r"close is 1\.5; it is a share"):
        DrawnExamples(3, close=1.5)


@pytest.mark.parametrize("sizes", [{"layers": 0}, {"feed_forward": 16}, {"width": 31}])
def test_a_vision_tower_is_not_made_smaller(
    tmp_path: Path, shallow: Path, sizes: dict[str, int]
) -> None:
    with pytest.raises(UsageError, match="1 layers of 32 units already and is 32 wide"):
        enlarge(shallow, tmp_path / "large", **sizes)


def test_recomputed_activations_give_the_same_gradients(tmp_path: Path) -> None:
    found = []
    for name, recompute in (("kept", False), ("recomputed", True)):
        run = Run(tmp_path / name, plan=replace(PLAN, recompute=recompute), start=SIZES)
        batch = run.pack(DrawnExamples(0).batch(0, 2, level=0))
        loss, _ = run.loss(batch, tokens_of(batch))
        loss.backward()
        found.append([weight.grad for weight in run.model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


def test_computing_in_bf16_keeps_weights_in_float32_and_nearly_the_loss(tmp_path: Path) -> None:
    losses = []
    for name, bf16 in (("float32", None), ("bf16", True)):
        run = Run(tmp_path / name, plan=replace(PLAN, bf16=bf16), start=SIZES, device="cpu")
        batch = run.pack(DrawnExamples(0).batch(0, 2, level=0))
        loss, _ = run.loss(batch, tokens_of(batch))
        loss.backward()
        assert all(
            weight.dtype == weight.grad.dtype == torch.float32 for weight in run.model.parameters()
        )
        losses.append(loss.item())
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_accumulated_parts_make_the_step_of_their_pages_together(tmp_path: Path) -> None:
    class Mixed(DrawnExamples):
        """Long pages and short ones, and one of four without lines."""

        def batch(self, step: int, size: int, *, level: int) -> list[Example]:
            pages = super().batch(step, size, level=level)
            numbers = range(step * size, step * size + size)
            return [
                replace(page, lines=None if n % 4 == 1 else page.lines, markdown="ab" * 20 * n)
                for n, page in zip(numbers, pages, strict=True)
            ]

    found = []
    for name, batch, accumulate in (("one", 4, 1), ("four", 1, 4)):
        run = Run(
            tmp_path / name, plan=replace(PLAN, batch=batch, accumulate=accumulate), start=SIZES
        )
        gradients: list[torch.Tensor] = []
        run.model.text_model.lm_head.weight.register_hook(gradients.append)
        told = run.step(Mixed(0))
        found.append((sum(gradients), told))
    (one, of_one), (four, of_four) = found
    assert torch.allclose(one, four, atol=1e-6)
    assert of_four == pytest.approx(of_one, rel=1e-4)


def test_what_training_writes_is_read_by_transformers_and_by_our_reader(tmp_path: Path) -> None:
    folder = train(tmp_path, DrawnExamples(0), plan=replace(PLAN, steps=2), start=SIZES)
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors"}
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    assert type(model).__name__ == "Kosmos2_5ForConditionalGeneration"
    reader = KosmosPageReader(folder, max_new_tokens=5)
    [reading] = reader.read([draw_page(0, 0).page()])
    assert reading.error is None


def test_held_out_pages_are_read_while_training_runs(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    plan = replace(PLAN, steps=2, evaluate_every=1, evaluate_pages=1)
    train(
        tmp_path,
        DrawnExamples(0),
        plan=plan,
        start=replace(SIZES, context=60),
        held_out=DrawnExamples(99),
        report=told.append,
    )
    assert [set(entry["held_out"]) for entry in told] == [{"ocr", "md"}] * 2
    assert all(entry["pages_per_s"] > 0 for entry in told)


def test_levels_rise_when_enough_tokens_are_right(tmp_path: Path) -> None:
    run = Run(tmp_path, plan=replace(PLAN, steps=30, pass_mark=0.0), start=SIZES)
    run.train(DrawnExamples(0, levels=3), report=lambda _: None)
    assert run.progress.level == 2
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    levels = [json.loads(line)["level"] for line in log]
    assert set(levels[5:]) == {0, 1, 2}


def test_review_is_the_share_of_steps_on_levels_below(tmp_path: Path) -> None:
    levels = {}
    for review in (0.0, 1.0):
        plan = replace(PLAN, steps=4, pass_mark=0.0, review=review)
        run = Run(tmp_path / str(review), plan=plan, start=SIZES)
        run.progress.level = 2
        run.train(DrawnExamples(0, levels=3), report=lambda _: None)
        log = (run.folder / "log.jsonl").read_text().splitlines()
        levels[review] = {json.loads(line)["level"] for line in log}
    assert levels[0.0] == {2}
    assert levels[1.0] <= {0, 1}


def test_a_lucky_step_ends_no_level(tmp_path: Path) -> None:
    class AllRight(Run):
        def loss(self, batch: Any, whole: Mapping[str, int]) -> tuple[Any, dict[str, float]]:
            return super().loss(batch, whole)[0], {"loss": 0.0, "ocr": 1.0, "md": 1.0}

    run = AllRight(tmp_path, plan=replace(PLAN, steps=30, pass_mark=0.9), start=SIZES)
    pages = DrawnExamples(0, levels=3)
    levels = []
    while run.progress.step < 22:
        run.step(pages)
        levels.append(run.progress.level)
    assert levels == [0] * 21 + [1]


def test_drawn_pages_of_every_shape_reach_the_model_unscaled() -> None:
    processor = new_processor(Sizes())
    for width, height in {shape for level in LEVELS for shape in level.shapes}:
        found = processor.image_processor(
            images=Image.new("RGB", (width, height)), return_tensors="pt"
        )
        assert (int(found["width"][0]), int(found["height"][0])) == (width, height)


def test_each_picture_token_learns_the_characters_of_its_own_place() -> None:
    """On a narrower page the places stay, though the patches come in their turn."""
    drawn = draw_page(0, 0, level=replace(LEVELS[2], characters=(15, 15)))
    whole = Example(drawn.pixels, drawn.lines, drawn.markdown, drawn.glyphs)
    cut = {width: replace(whole, pixels=drawn.pixels[:, :width]) for width in (240, 224)}
    processor = new_processor(Sizes())
    for width, narrow in cut.items():
        packed = pack([whole, narrow], processor, max_patches=160, context=640)
        wide, slim = packed.glyphs.unflatten(1, (10, 16))
        columns = width // 16
        assert slim.any()
        assert torch.equal(slim[:, :columns], wide[:, :columns])
        assert not slim[:, columns:].any()


@pytest.mark.parametrize(
    "wrong",
    [
        *({"steps": 0}, {"steps": 1.5}, {"optimizer": "sgd"}, {"accumulate": 0}, {"warmup": -1}),
        *({"learning_rate": math.inf}, {"learning_rate": -1.0}, {"evaluate_pages": 0}),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Plan(**wrong)


def test_a_short_run_reaches_its_rate_too() -> None:
    plan = replace(FINE_TUNING, steps=300)
    assert max(map(plan.rate, range(300))) == pytest.approx(plan.learning_rate, rel=0.01)


def test_a_start_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "start"
    shutil.copytree(nano_kosmos(), folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: w for name, w in weights.items() if not name.startswith("vision_model")}
    safetensors.save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks .* of the model's weights"):
        Run(tmp_path / "run", plan=PLAN, start=folder)


def test_gradients_that_are_not_finite_teach_nothing(tmp_path: Path) -> None:
    class Endless(Run):
        def loss(self, batch: Batch, whole: Mapping[str, int]) -> tuple[Any, dict[str, float]]:
            loss, told = super().loss(batch, whole)
            return loss * math.inf, told

    run = Endless(tmp_path, plan=replace(PLAN, steps=50), start=SIZES)
    before = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    with pytest.raises(ModelError, match="10 steps in a row are not finite"):
        run.train(DrawnExamples(0), report=lambda _: None)
    assert all(torch.equal(weight, before[name]) for name, weight in run.model.state_dict().items())


def test_an_evaluation_that_fails_costs_no_steps(tmp_path: Path) -> None:
    class Narrow(Run):
        def evaluate(self, held_out: Examples) -> Any:
            raise MemoryError

    plan = replace(PLAN, save_every=2, evaluate_every=2)
    pages = DrawnExamples(0)
    with pytest.raises(MemoryError):
        Narrow(tmp_path, plan=plan, start=SIZES).train(pages, held_out=pages, report=lambda _: None)
    run = Run(tmp_path, plan=replace(plan, evaluate_pages=1), start=SIZES)
    assert run.progress.step == 2
    run.train(pages, held_out=pages, report=lambda _: None)
    log = told_by(tmp_path)
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5, 6]
    assert ["held_out" in entry for entry in log] == [False, False, False, True, False, True]


def test_a_run_that_ended_before_it_was_saved_leaves_no_steps_in_the_log(tmp_path: Path) -> None:
    plan = replace(PLAN, save_every=100, steps=6)
    with pytest.raises(Killed):
        Run(tmp_path, plan=plan, start=SIZES).train(KilledAt(3), report=lambda _: None)
    Run(tmp_path, plan=plan, start=SIZES).train(KilledAt(-1), report=lambda _: None)
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2, 3, 4, 5, 6]


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
@pytest.mark.parametrize("room", [100_000, 300_000])  # for no weights, and for weights alone
def test_a_full_disk_is_told_and_what_was_saved_stays(tmp_path: Path, room: int) -> None:
    import resource

    run = Run(tmp_path, plan=PLAN, start=SIZES)
    run.train(KilledAt(-1), report=lambda _: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    run.progress.step += 1
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        with pytest.raises(ModelError, match=r"step 7 could not be written .* make room"):
            run.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Run(tmp_path, plan=PLAN, start=SIZES).progress.step == 6
    run.save()
    assert Run(tmp_path, plan=PLAN, start=SIZES).progress.step == 7


def test_a_run_that_began_with_other_weights_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = tiny_kosmos(tmp_path / "start")
    other = tiny_kosmos(tmp_path / "other")
    Run(tmp_path / "run", plan=PLAN, start=start).save()
    logging.getLogger("kosmos_loader").propagate = True
    with caplog.at_level("WARNING", logger="kosmos_loader"):
        Run(tmp_path / "run", plan=PLAN, start=start)
        assert not caplog.text
        Run(tmp_path / "run", plan=PLAN, start=other)
    assert f"began with {start} and not with {other}" in caplog.text


def test_a_start_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"give the folder of a KOSMOS-2\.5"):
        Run(tmp_path / "run", plan=PLAN, start=tmp_path)


# Own pages


def write_truth(folder: Path, *objects: dict[str, Any]) -> None:
    lines = [json.dumps({"source": "/away/a.png", "page": 1, **o}) for o in objects]
    (folder / "truth.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    for number, name in enumerate("abc"):
        Image.fromarray(draw_page(0, number).pixels).save(folder / f"{name}.png")
    return folder


LINE = {"text": "seven boxes", "box": [0.1, 0.2, 0.5, 0.3], "confidence": None}


def test_own_pages_are_images_with_the_json_that_read_writes(own: Path) -> None:
    write_truth(
        own,
        {"lines": [LINE], "markdown": "seven boxes"},
        {"source": "/away/b.png", "lines": [], "markdown": "# b"},
        {"source": "/away/c.png", "error": {"type": "reading", "message": "no"}, "lines": [LINE]},
    )
    pages = FolderExamples(own)
    assert len(pages) == 2
    assert pages.page(0).lines == (Line("seven boxes", Box(0.1, 0.2, 0.5, 0.3)),)
    assert pages.page(0).markdown == "seven boxes"
    assert pages.page(1).lines is None
    assert (pages.page(1).pixels == draw_page(0, 1).pixels).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"lines": [{"text": "a", "box": [10, 20, 300, 40]}]},
        {"lines": [{"text": "a", "box": ["a", "b", "c", "d"]}]},
        {"lines": [{"text": "a", "box": [0, 0, True, 1]}]},
        {"lines": [{"text": "a", "box": [0, 0, math.inf, 1]}]},
        {"lines": [{"text": "half \ud800", "box": [0, 0, 1, 1]}]},
        {"markdown": "a", "page": 1.9},
        {"markdown": "a", "page": math.inf},
    ],
)
def test_truth_that_cannot_be_meant_is_refused_before_training(
    own: Path, wrong: dict[str, Any]
) -> None:
    write_truth(own, wrong)
    with pytest.raises(UsageError, match="line 1 is no page"):
        FolderExamples(own)


def test_lines_whose_text_was_deleted_are_no_truth_and_boxes_stay_on_the_page(own: Path) -> None:
    deleted = {"text": "", "box": [0.1, 0.1, 0.2, 0.2]}
    write_truth(own, {"lines": [deleted, {"text": "b", "box": [-0.01, 0, 1.02, 0.5]}]})
    assert FolderExamples(own).page(0).lines == (Line("b", Box(0, 0, 1, 0.5)),)


def test_each_held_out_page_is_read_once(own: Path, tmp_path: Path) -> None:
    class Counting(FolderExamples):
        asked = 0

        def page(self, place: int) -> Example:
            self.asked += 1
            return super().page(place)

    write_truth(own, *({"source": f"/away/{name}.png", "markdown": name} for name in "abc"))
    pages = Counting(own)
    Run(tmp_path / "run", plan=PLAN, start=SIZES).evaluate(pages)
    assert pages.asked == 3


def test_what_is_left_out_of_own_pages_is_said(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_truth(own, {"markdown": "a"}, {"lines": [], "markdown": ""})
    logger = logging.getLogger("kosmos_loader")
    logger.propagate = True
    with caplog.at_level("WARNING", logger="kosmos_loader"):
        FolderExamples(own)
    assert "line 2 holds no truth" in caplog.text


def test_a_page_that_cannot_be_opened_costs_no_other(
    own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_truth(
        own,
        *({"source": f"/away/{name}.png", "markdown": name} for name in "abc"),
        {"source": "/away/a.png", "page": 9, "markdown": "no such page"},
    )
    pages = FolderExamples(own)
    (own / "b.png").write_bytes(b"no picture")
    logging.getLogger("kosmos_loader").propagate = True
    with caplog.at_level("WARNING", logger="kosmos_loader"):
        seen = {example.markdown for example in pages.batch(0, 4)}
    assert seen == {"a", "c"}
    assert "b.png" in caplog.text
    assert "a.png" in caplog.text
    for name in "ac":
        (own / f"{name}.png").unlink()
    with pytest.raises(EmptyFile, match=r"no page of .* can be opened"):
        pages.batch(0, 1)


def test_each_own_page_comes_once_before_any_comes_again(own: Path) -> None:
    write_truth(
        own, *({"source": f"/away/{name}.png", "markdown": name} for name in ("a", "b", "c"))
    )
    pages = FolderExamples(own, seed=1)
    seen = [example.markdown for step in range(2) for example in pages.batch(step, 3)]
    assert sorted(map(str, seen[:3])) == sorted(map(str, seen[3:])) == ["a", "b", "c"]
    assert seen == [e.markdown for step in range(2) for e in pages.batch(step, 3)]


@pytest.mark.parametrize(
    ("objects", "error"),
    [
        ([], EmptyFile),
        ([{"source": "/away/none.png", "markdown": "x"}], SourceNotFound),
        ([{"source": None, "markdown": "x"}], UsageError),
        ([{"lines": [{"text": "x"}]}], UsageError),
        ([{"lines": [{"text": "x", "box": [1, 1, 0, 0]}]}], UsageError),
        ([{"lines": [{"text": 5, "box": [0, 0, 1, 1]}]}], UsageError),
        ([{"lines": {"text": "x"}}], UsageError),
        ([{"markdown": 5}], UsageError),
        ([{"page": "one", "markdown": "x"}], UsageError),
        ([{"page": -1, "markdown": "x"}], UsageError),
    ],
)
def test_own_pages_that_cannot_be_used_are_refused(
    own: Path, objects: list[dict[str, Any]], error: type[Exception]
) -> None:
    write_truth(own, *objects)
    with pytest.raises(error):
        FolderExamples(own)


def test_text_with_line_separators_of_unicode_is_learnt_as_it_is(own: Path) -> None:
    text = "one\u2028two\u2029three\x85four"
    truth = {"source": "/away/a.png", "markdown": text}
    (own / "x.json").write_text(json.dumps(truth, ensure_ascii=False) + "\n", "utf-8")
    assert FolderExamples(own).page(0).markdown == text


def test_truth_that_is_no_utf_8_is_refused(own: Path) -> None:
    (own / "x.json").write_bytes(b'{"source": "\xff"}')
    with pytest.raises(UsageError, match=r"x\.json, line 1"):
        FolderExamples(own)


@pytest.mark.parametrize("device", ["banana", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(tmp_path: Path, device: str) -> None:
    with pytest.raises(UsageError, match="device"):
        Run(tmp_path / "run", plan=PLAN, start=SIZES, device=device)


def test_a_run_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(UsageError, match="cannot be made a folder"):
        Run(tmp_path / "run", plan=PLAN, start=SIZES)


@pytest.mark.parametrize("kept", [0, 1000])
def test_a_state_that_was_cut_is_told_and_a_line_of_the_log_left_out(
    tmp_path: Path, kept: int
) -> None:
    run = Run(tmp_path, plan=replace(PLAN, steps=1), start=SIZES)
    run.train(DrawnExamples(0), report=lambda _: None)
    whole = (tmp_path / "log.jsonl").read_text()
    (tmp_path / "log.jsonl").write_text(whole + '{"step"\n')
    Run(tmp_path, plan=replace(PLAN, steps=1), start=SIZES)
    assert (tmp_path / "log.jsonl").read_text() == whole
    state = tmp_path / "state.pt"
    state.write_bytes(state.read_bytes()[:kept])
    with pytest.raises(ModelError, match="take it away to train on from the start"):
        Run(tmp_path, plan=replace(PLAN, steps=1), start=SIZES)


def test_broken_truth_is_refused_with_file_and_line(own: Path) -> None:
    (own / "x.json").write_text("{")
    with pytest.raises(UsageError, match=r"x\.json, line 1"):
        FolderExamples(own)


def test_the_command_trains_on_own_pages_and_prints_where_the_model_is(
    own: Path, tmp_path: Path
) -> None:
    write_truth(own, {"lines": [LINE], "markdown": "seven boxes"})
    start = tiny_kosmos(tmp_path / "start")
    app = typer.Typer()
    app.command()(train_command)
    result = CliRunner().invoke(
        app,
        f"{tmp_path / 'run'} --from {start} --pages {own} --steps 1 --accumulate 1".split(),
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(tmp_path / "run" / "model")]
    assert "step 1/1" in result.stderr


def test_levels_of_drawn_pages_do_not_go_with_own_ones(own: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(train_command)
    for option in ("--levels 3", "--close 0"):
        result = CliRunner().invoke(
            app, f"{tmp_path / 'run'} --from scratch --pages {own} {option}".split()
        )
        assert isinstance(result.exception, UsageError)
        assert not (tmp_path / "run").exists()


# Scores


def reading_of(*texts: str, markdown: str | None = None) -> Reading:
    info = PageInfo("a", "a", 1, 1, 100, 100, 72.0)
    lines = tuple(Line(t, Box(0.1, 0.1 * i, 0.5, 0.1 * i + 0.1)) for i, t in enumerate(texts))
    return Reading(info, "r", "1", lines=lines, markdown=markdown)


def test_a_perfect_reading_scores_one() -> None:
    reading = reading_of("one line", "two", markdown="# one\n\ntwo")
    truth = Truth(reading.lines, reading.markdown, width=100, height=100)
    scores = score([truth], [reading])
    assert scores.to_dict() == {
        "ocr": {
            "character_accuracy": 1.0,
            "exact_lines": 1.0,
            "box_error_px": 0.0,
            "near_boxes": 1.0,
        },
        "md": {"character_accuracy": 1.0, "exact_blocks": 1.0},
    }


def test_a_missed_line_costs_itself_and_not_its_neighbours() -> None:
    whole = reading_of("first line", "second one", "third text")
    missed = replace(whole, lines=(whole.lines[0], whole.lines[2]))
    scores = score([Truth(whole.lines, None, width=100, height=100)], [missed])
    assert scores.md is None
    assert scores.ocr is not None
    assert scores.ocr.exact_lines == pytest.approx(2 / 3)
    assert scores.ocr.near_boxes == pytest.approx(2 / 3)
    assert scores.ocr.box_error_px == 0.0


def test_a_moved_box_is_counted_in_pixels_of_the_page() -> None:
    whole = reading_of("first line")
    moved = replace(whole.lines[0], box=Box(0.13, 0.0, 0.5, 0.1))
    scores = score(
        [Truth(whole.lines, None, width=100, height=100)], [replace(whole, lines=(moved,))]
    )
    assert scores.ocr is not None
    assert scores.ocr.box_error_px == pytest.approx(3.0)
    assert scores.ocr.near_boxes == 0.0


def test_where_no_line_is_found_no_box_is_off() -> None:
    whole = reading_of("first line")
    scores = score([Truth(whole.lines, None, width=100, height=100)], [replace(whole, lines=())])
    assert scores.ocr is not None
    assert scores.ocr.box_error_px is None
    assert scores.ocr.near_boxes == 0.0


def test_texts_are_aligned_in_order() -> None:
    assert align(["abc", "def", "ghi"], ["abc", "ghj"]) == [(0, 0), (2, 1)]
    assert align([], ["x"]) == []


def test_ignored_places_have_no_label() -> None:
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORED
