from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kosmos_loader.errors import ModelError, UsageError
from kosmos_loader.readers.checkpoint import (
    TASKS,
    folder_of,
    load,
    prompt_of,
    quiet_transformers,
    room_behind,
    weights_digest,
)
from kosmos_loader.testing import tiny_kosmos

torch = pytest.importorskip("torch", reason="needs the kosmos extra")
transformers = pytest.importorskip("transformers", reason="needs the kosmos extra")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_kosmos(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[Any, Any]:
    return loaded_from(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def loaded_from(model: str | Path) -> tuple[Any, Any]:
    return load(folder_of(model, None), dtype=torch.float32, device="cpu")


def refusal(model: str | Path) -> str:
    with pytest.raises(ModelError) as caught:
        loaded_from(model)
    return str(caught.value)


@pytest.mark.parametrize("model", ["/no/such/folder", "no/such/folder", "./none", "none"])
def test_a_folder_that_is_not_there_is_named(model: str) -> None:
    assert "no model folder" in refusal(model)


def test_a_folder_has_no_revision(folder: Path) -> None:
    assert folder_of(folder, None) == folder
    with pytest.raises(UsageError, match="revision"):
        folder_of(folder, "main")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert "config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert "config.json" in refusal(tmp_path)


def test_a_model_of_another_architecture_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "bert"}')
    message = refusal(copy)
    assert "'bert'" in message
    assert "'kosmos-2.5'" in message


def test_weights_that_may_carry_code_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "safetensors" in refusal(copy)


def test_damaged_weights_are_refused(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "could not be loaded" in refusal(copy)


def test_missing_weights_are_not_made_up(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["image_to_text_projection.dense.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert "image_to_text_projection.dense.weight" in refusal(copy)


def test_a_tokenizer_without_the_prompts_is_refused(copy: Path) -> None:
    path = copy / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace('"<md>"', '"<ma>"'), "utf-8")
    assert "<md>" in refusal(copy)


def test_a_processor_of_another_model_is_refused(copy: Path) -> None:
    path = copy / "processor_config.json"
    config = json.loads(path.read_text("utf-8")) | {"num_image_tokens": 15}
    path.write_text(json.dumps(config), "utf-8")
    assert "15" in refusal(copy)


def test_another_padding_token_is_refused(copy: Path) -> None:
    path = copy / "config.json"
    config = json.loads(path.read_text("utf-8"))
    config["pad_token_id"] = config["text_config"]["pad_token_id"] = 5
    path.write_text(json.dumps(config), "utf-8")
    assert "padding" in refusal(copy)


def test_decoding_is_greedy_and_ends_as_the_tokenizer_says(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    assert not model.training
    assert not model.generation_config.do_sample
    assert model.generation_config.eos_token_id == processor.tokenizer.eos_token_id


def test_a_prompt_is_a_place_for_the_page_and_the_task(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    prompts = {task: prompt_of(processor, text) for task, text in TASKS.items()}
    for task, prompt in prompts.items():
        assert {row.shape for row in prompt.values()} == {(1, 20)}
        assert processor.tokenizer.decode(prompt["input_ids"][0, -1:]) == TASKS[task]
        assert (prompt["image_embeds_position_mask"] == 1).sum() == model.config.latent_query_num
    ocr, md = (prompts[task]["input_ids"] for task in ("ocr", "md"))
    assert torch.equal(ocr[:, :-1], md[:, :-1])


def test_no_more_is_written_than_the_context_holds(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    assert room_behind(model, {"ocr": prompt_of(processor, TASKS["ocr"])}) == 512 - 20


def test_a_prompt_that_fills_the_context_is_refused(loaded: tuple[Any, Any]) -> None:
    with pytest.raises(ModelError, match="context"):
        room_behind(loaded[0], {"ocr": {"input_ids": torch.zeros(1, 512)}})


def test_the_digest_sees_a_change_of_any_weight_and_no_change_of_place(
    folder: Path, copy: Path
) -> None:
    assert weights_digest(copy) == weights_digest(folder)
    with quiet_transformers():
        model = transformers.Kosmos2_5ForConditionalGeneration.from_pretrained(copy)
        model.text_model.lm_head.weight.data *= 1.001
        model.save_pretrained(copy)
    assert weights_digest(copy) != weights_digest(folder)


def test_the_digest_sees_a_change_of_the_tokenizer(folder: Path, copy: Path) -> None:
    path = copy / "tokenizer.json"
    path.write_text(path.read_text("utf-8") + " ", "utf-8")
    assert weights_digest(copy) != weights_digest(folder)


def test_the_released_geometry_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        model = transformers.Kosmos2_5ForConditionalGeneration(transformers.Kosmos2_5Config())
    # parameters() counts the output layer once: it is the token embedding
    assert sum(weight.numel() for weight in model.parameters()) == 1_374_646_272


def test_loading_is_silent_and_leaves_settings_alone(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    settings = transformers.utils.logging
    before = settings.get_verbosity(), settings.is_progress_bar_enabled()
    with caplog.at_level(logging.DEBUG):
        _, processor = loaded_from(folder)
        prompt_of(processor, TASKS["ocr"])
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert (settings.get_verbosity(), settings.is_progress_bar_enabled()) == before


def test_a_hub_id_without_a_network_says_what_to_do(tmp_path: Path) -> None:
    code = """
from kosmos_loader.readers.checkpoint import folder_of
try:
    folder_of("microsoft/kosmos-2.5", "abc")
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    start = "ModelError microsoft/kosmos-2.5 at revision abc could not be fetched"
    assert done.stdout.startswith(start)
    assert "give the folder" in done.stdout
