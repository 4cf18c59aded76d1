"""A KOSMOS-2.5 as it lies on disk or on the hub: found, checked, loaded.

This module is the one door to transformers: its errors come out as ours, and its logging and
warnings stay inside.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from kosmos_loader import markup
from kosmos_loader.errors import ModelError, UsageError, require
from kosmos_loader.readers.base import DEFAULT_MODEL

TASKS = {"ocr": markup.OCR_PROMPT, "md": markup.MD_PROMPT}
MODEL_TYPE = "kosmos-2.5"

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")

# Configuration and tokenizer, and weights that hold no code.
_FILES = ("*.json", "*.txt", "*.jinja", "*.safetensors")


def folder_of(model: str | Path, revision: str | None) -> Path:
    """The local folder of `model`, downloaded from the hub where it is none."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UsageError(f"{folder} is a folder and has no revision; leave revision out")
    elif folder.exists() or not _HUB_ID.fullmatch(str(model)):
        raise ModelError(
            f"there is no model folder {folder}; give a folder that holds config.json and "
            f"*.safetensors, or a hub id such as {DEFAULT_MODEL}"
        )
    else:
        folder = _downloaded(str(model), revision)
    _check_files(folder)
    return folder


def _downloaded(model: str, revision: str | None) -> Path:
    hub = require("huggingface_hub", extra="kosmos")
    try:
        found = hub.snapshot_download(model, revision=revision, allow_patterns=list(_FILES))
    except Exception as error:  # the hub's errors share no base; all mean the same here
        version = f" at revision {revision}" if revision else ""
        raise ModelError(
            f"{model}{version} could not be fetched from the hub ({_first_line(error)}); check the "
            "name and the network, or download it elsewhere and give the folder as the model"
        ) from error
    return Path(found)


def _check_files(folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind = config.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{folder} holds no readable config.json ({_first_line(error)}); give the folder of a "
            "KOSMOS-2.5 as the hub holds it"
        ) from error
    if kind != MODEL_TYPE:
        raise ModelError(f"{folder} holds a model of type {kind!r}, and this reads {MODEL_TYPE!r}")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} holds no *.safetensors, and weights in other formats are not loaded since "
            "they can carry code; convert them with save_pretrained of transformers"
        )


def load(folder: Path, *, dtype: Any, device: Any) -> tuple[Any, Any]:
    """Model and processor of `folder`, in evaluation mode, set to greedy decoding."""
    transformers = require("transformers", extra="kosmos")
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet_transformers():
            processor = transformers.AutoProcessor.from_pretrained(folder, **local)
            model, report = transformers.Kosmos2_5ForConditionalGeneration.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **local
            )
            model = model.to(device).eval()
    except Exception as error:  # torch, transformers, tokenizers, safetensors: no common base
        raise ModelError(
            f"the model in {folder} could not be loaded ({type(error).__name__}: "
            f"{_first_line(error)}); download it again, or free memory if that is what is short"
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{folder} lacks {len(missing)} of the model's weights, {missing[0]} among them; "
            "download it again"
        )
    _check_fit(folder, model.config, processor)
    tokenizer = processor.tokenizer
    model.generation_config = transformers.GenerationConfig(
        do_sample=False,
        num_beams=1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    # The patches go in as float32, whose first two columns are row and column numbers: bf16 knows
    # no odd number above 256. What must be of the model's type is only what the projection takes.
    model.vision_model.embeddings.patch_projection.register_forward_pre_hook(_in_weight_dtype)
    return model, processor


def _in_weight_dtype(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (arguments[0].to(module.weight.dtype), *arguments[1:])


def _check_fit(folder: Path, config: Any, processor: Any) -> None:
    """`ModelError` where tokenizer or processor belong to another model."""
    tokenizer = processor.tokenizer
    known = tokenizer.get_vocab()
    wrong = None
    if unknown := [prompt for prompt in TASKS.values() if prompt not in known]:
        wrong = f"its tokenizer does not know {' and '.join(unknown)}"
    elif len(tokenizer) > config.text_config.vocab_size:
        wrong = f"its tokenizer knows {len(tokenizer)} tokens, {config.text_config.vocab_size} fit"
    elif tokenizer.eos_token_id is None:
        wrong = "its tokenizer has no end token"
    elif tokenizer.pad_token_id != config.text_config.pad_token_id:
        wrong = "its tokenizer and its config.json name different padding tokens"
    elif processor.num_image_tokens != config.latent_query_num:
        wrong = (
            f"it places {processor.num_image_tokens} picture tokens, {config.latent_query_num} come"
        )
    if wrong:
        raise ModelError(
            f"the parts of {folder} do not belong together: {wrong}; download it again"
        )


def prompt_of(processor: Any, text: str) -> dict[str, Any]:
    """Token ids and masks, [1, length] each, of a page's place followed by `text`.

    The processor makes them for a picture only; any will do, since all take the same place.
    """
    with quiet_transformers():
        inputs = processor(
            images=Image.new("RGB", (16, 16)), text=text, max_patches=1, return_tensors="pt"
        )
    names = ("input_ids", "attention_mask", "image_embeds_position_mask")
    return {name: inputs[name] for name in names}


def room_behind(model: Any, prompts: Mapping[str, Any]) -> int:
    """New tokens that the trained context leaves behind the longest prompt."""
    longest: int = max(prompt["input_ids"].shape[1] for prompt in prompts.values())
    room: int = model.config.text_config.max_position_embeddings - longest
    if room < 1:
        raise ModelError(f"a prompt of {longest} tokens fills the model's context")
    return room


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def weights_digest(folder: Path) -> str:
    """12 hex digits that change with the configuration, the tokenizer and the weights in `folder`.

    Of each tensor 4 KiB are read, so that the digest of 5 GB takes no time worth mentioning:
    training changes every tensor it touches nearly everywhere.
    """
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(folder.glob("*.json")):
        digest.update(path.name.encode() + path.read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            # the format: length of the header, header as JSON, tensors
            header = file.read(int.from_bytes(file.read(8), "little"))
            digest.update(header)
            for entry in json.loads(header).values():
                if "data_offsets" in entry:
                    start, end = entry["data_offsets"]
                    file.seek(8 + len(header) + max(start, (start + end) // 2 - 2048))
                    digest.update(file.read(min(4096, end - start)))
    return digest.hexdigest()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Holds back what transformers logs, warns and draws, and puts its settings back."""
    logging = require("transformers.utils.logging", extra="kosmos")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def patches_seen(model: Any, processor: Any) -> int:
    """How many patches of a page `model` was made to see."""
    return int(
        min(model.config.vision_config.max_num_patches, processor.image_processor.max_patches)
    )


def torch_device(name: str) -> Any:
    """The `torch.device` of that name; "auto" is CUDA where there is any. `UsageError`."""
    torch = require("torch", extra="kosmos")
    there = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if there else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"no device is called {name!r}; give 'cuda', 'cpu' or 'auto'") from error
    if device.type == "cuda" and not there:
        raise UsageError("there is no CUDA device here; give device='cpu' or 'auto'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"there is no device {name} here; there are {torch.cuda.device_count()}, from 0"
        )
    return device
