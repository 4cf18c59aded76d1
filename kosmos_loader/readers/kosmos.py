"""KOSMOS-2.5 as a page reader, through transformers' own `generate`: the reference path.

Lv et al., "KOSMOS-2.5: A Multimodal Literate Model", arXiv 2309.11419. The model sees a page as at
most 4,096 patches of 16 x 16 pixels and answers two prompts: text lines with boxes, and markdown.
This module is the one door to transformers: its errors come out as ours, and its logging and
warnings stay inside.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

from kosmos_loader import markup
from kosmos_loader.document import FLAGS, Failure, Line, Page, Reading
from kosmos_loader.errors import ModelError, ReadingError, UsageError, require
from kosmos_loader.readers.base import DEFAULT_MODEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENGINES = ("reference",)
TASKS = {"ocr": markup.OCR_PROMPT, "md": markup.MD_PROMPT}
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
MODEL_TYPE = "kosmos-2.5"

MAX_NEW_TOKENS = 2044
"""The context of 4,096 tokens that the model was trained on, less the prompt of 2,052."""

CODE_VERSION = 1
"""Raised whenever the same weights and pixels come out as another reading."""

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")

# Configuration and tokenizer, and weights that hold no code.
_FILES = ("*.json", "*.txt", "*.jinja", "*.safetensors")


@dataclass(frozen=True, slots=True)
class Output:
    """What the model wrote for one task on one page."""

    text: str
    """Decoded with its tags, without the end token."""

    ended: bool
    """Whether the end token came within the limit."""


class KosmosPageReader:
    """Reads pages with KOSMOS-2.5: lines with boxes (task "ocr") and markdown (task "md").

    `model` is a local folder or a hub id, of which only safetensors and no code are loaded;
    `revision` pins a commit of the hub. `dtype` "auto" is bf16 on CUDA and fp32 on the CPU;
    `device` "auto" is CUDA where it is there. `batch_size` pages are read together and held at a
    time, by default 4 on CUDA and 1 on the CPU; where memory does not suffice, fewer are.

    The reading of a page is flagged "blank" where there is nothing to read, "truncated" where the
    model did not end within `max_new_tokens` (at most what its context leaves), and "repetition"
    where it wrote the same over and over: if it never ended, the copies are cut off.

    `MissingExtra` where torch or transformers are not installed, `ModelError` where the weights are
    not there or are not those of a KOSMOS-2.5, `UsageError` for an argument that cannot be meant.
    """

    name = "kosmos-2.5"

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        *,
        engine: str = "reference",
        dtype: str = "auto",
        device: str = "auto",
        revision: str | None = None,
        tasks: Sequence[str] = ("ocr", "md"),
        batch_size: int | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        _check("engine", engine, ENGINES)
        _check("dtype", dtype, ("auto", *DTYPES))
        if not tasks or isinstance(tasks, str):
            raise UsageError(f"tasks is {tasks!r}; give a list with 'ocr', 'md' or both")
        for task in tasks:
            _check("task", task, TASKS)
        if max_new_tokens < 1 or (batch_size is not None and batch_size < 1):
            raise UsageError("max_new_tokens and batch_size must be at least 1")
        torch = require("torch", extra="kosmos")
        require("transformers", extra="kosmos")
        self.device = _device(device)
        on_cuda = self.device.type == "cuda"
        if dtype == "auto":
            dtype = "bf16" if on_cuda else "fp32"
        folder = _folder(model, revision)
        self.dtype = getattr(torch, DTYPES[dtype])
        self.model, self.processor = _load(folder, dtype=self.dtype, device=self.device)
        self.tasks = tuple(task for task in TASKS if task in tasks)
        self.batch_size = batch_size or (4 if on_cuda else 1)
        self._prompts = {task: _prompt(self.processor, TASKS[task]) for task in self.tasks}
        self.max_new_tokens = min(max_new_tokens, _room(self.model, self._prompts))
        self.max_patches: int = min(
            self.processor.image_processor.max_patches,
            self.model.config.vision_config.max_num_patches,
        )
        self.version = (
            f"{weights_digest(folder)}-{dtype}-{'+'.join(self.tasks)}"
            f"-{self.max_new_tokens}-{CODE_VERSION}"
        )

    def read(self, pages: Iterable[Page]) -> Iterator[Reading]:
        """Readings of `pages`, one each, in order; at most `batch_size` pages are held."""
        source = iter(pages)
        while batch := list(islice(source, self.batch_size)):
            yield from self._read_together(batch)

    def _read_together(self, pages: list[Page]) -> list[Reading]:
        readings = [self._without_model(page) for page in pages]
        asked = [page for page, reading in zip(pages, readings, strict=True) if reading is None]
        answers = iter(in_parts(asked, self._ask, self._failed))
        return [reading or next(answers) for reading in readings]

    def _without_model(self, page: Page) -> Reading | None:
        """The reading of a page that the model need not see.

        A blank page is not shown to it: a decoder has to write something, and on an empty page it
        makes it up.
        """
        if page.error is not None:
            return Reading.failed(page, self.name, self.version, page.error)
        if is_blank(page.image):
            return Reading(page.info, self.name, self.version, flags=("blank",))
        return None

    def _failed(self, page: Page, error: Exception) -> Reading:
        reason = ReadingError(
            f"KOSMOS-2.5 failed on page {page.number} ({type(error).__name__}: {error}); read it "
            "with a smaller batch_size, on the CPU, or with the rapidocr reader"
        )
        return Reading.failed(page, self.name, self.version, Failure.of(reason))

    def _ask(self, pages: Sequence[Page]) -> list[Reading]:
        torch = require("torch", extra="kosmos")
        pictures = [self._patches(page) for page in pages]
        patches = torch.stack([patches for patches, _ in pictures]).to(self.device)
        outputs = {task: self._generate(patches, prompt) for task, prompt in self._prompts.items()}
        return [
            reading_from(
                page,
                {task: written[place] for task, written in outputs.items()},
                size=size,
                reader=self.name,
                version=self.version,
            )
            for place, (page, (_, size)) in enumerate(zip(pages, pictures, strict=True))
        ]

    def _patches(self, page: Page) -> tuple[Any, tuple[int, int]]:
        """[max_patches, 770] float32, and width and height of the resized page in pixels.

        Each page is prepared by itself, since width and height differ from page to page.
        """
        torch = require("torch", extra="kosmos")
        pictures = self.processor.image_processor
        found = pictures(images=page.image, max_patches=self._budget(page), return_tensors="pt")
        patches = found["flattened_patches"][0]
        missing = self.max_patches - patches.shape[0]
        padded = torch.nn.functional.pad(patches, (0, 0, 0, missing))
        return padded, (int(found["width"][0]), int(found["height"][0]))

    def _budget(self, page: Page) -> int:
        """Patches for `page`; the last row number has no embedding, and only a strip reaches it."""
        places: int = self.model.config.vision_config.max_num_patches
        strip = max(page.width, page.height) >= places * min(page.width, page.height)
        return min(self.max_patches, places - 1) if strip else self.max_patches

    def _generate(self, patches: Any, prompt: Mapping[str, Any]) -> list[Output]:
        """What the model writes for each picture of `patches`, [batch, max_patches, 770]."""
        torch = require("torch", extra="kosmos")
        inputs = {
            name: row.to(self.device).expand(patches.shape[0], -1) for name, row in prompt.items()
        }
        with torch.inference_mode(), quiet_transformers():
            written = self.model.generate(
                **inputs, flattened_patches=patches, max_new_tokens=self.max_new_tokens
            )
        start = inputs["input_ids"].shape[1]
        return [self._output(row) for row in written[:, start:].tolist()]

    def _output(self, ids: list[int]) -> Output:
        tokenizer = self.processor.tokenizer
        ended = tokenizer.eos_token_id in ids
        kept = ids[: ids.index(tokenizer.eos_token_id)] if ended else ids
        text = tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return Output(text, ended)


def reading_from(
    page: Page,
    outputs: Mapping[str, Output],
    *,
    size: tuple[int, int],
    reader: str,
    version: str,
) -> Reading:
    """The reading that the `outputs` of the tasks ("ocr", "md") make together.

    `size` is width and height of the resized page in pixels, which boxes are counted in.
    """
    loops = {task: markup.find_repetition(output.text) for task, output in outputs.items()}
    texts = {
        task: output.text if output.ended else output.text[: loops[task]]
        for task, output in outputs.items()
    }
    lines: tuple[Line, ...] = ()
    rejected = 0
    if "ocr" in texts:
        parsed = markup.parse_ocr(texts["ocr"], width=size[0], height=size[1])
        lines, rejected = parsed.lines, parsed.rejected
    markdown = markup.parse_markdown(texts["md"]) if "md" in texts else None
    told = {
        "blank": not any(text.strip() for text in texts.values()),
        "truncated": not all(output.ended for output in outputs.values()),
        "repetition": any(loop is not None for loop in loops.values()),
    }
    flags = tuple(flag for flag in FLAGS if told.get(flag, False))
    return Reading(
        page.info,
        reader,
        version,
        lines=lines,
        markdown=markdown,
        flags=flags,
        rejected=rejected,
    )


def in_parts(
    pages: Sequence[Page],
    work: Callable[[Sequence[Page]], list[Reading]],
    give_up: Callable[[Page, Exception], Reading],
) -> list[Reading]:
    """`work(pages)`, in ever smaller parts where it fails, so that no page costs another.

    What a batch fails with is mostly too little memory on the device; a page that fails by itself
    becomes what `give_up` makes of it and its error.
    """
    if not pages:
        return []
    try:
        return work(pages)
    except (RuntimeError, ValueError, MemoryError) as error:
        if len(pages) == 1:
            return [give_up(pages[0], error)]
    # outside the handler, whose traceback holds the tensors of the attempt
    _free_memory()
    half = len(pages) // 2
    return in_parts(pages[:half], work, give_up) + in_parts(pages[half:], work, give_up)


def _free_memory() -> None:
    torch = require("torch", extra="kosmos")
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def is_blank(image: Image.Image) -> bool:
    """Whether there is nothing to read on `image`: no stroke as long as a small letter is high.

    The picture is scaled to about 600 pixels on its longer side (half a millimetre each on A4),
    which takes the noise of a scan away, and compared with its own surroundings, which takes
    shading away. Ink is what then differs by more than 16 of 255: faint bleed-through does not. A
    stroke is four such pixels in a row, which specks are too short for. In doubt the page is not
    blank, since the model can still find it empty.
    """
    grey = image.convert("L")
    grey = grey.reduce(max(1, round(max(grey.size) / 600)))
    near = np.asarray(grey, np.int16)
    around = np.asarray(grey.filter(ImageFilter.BoxBlur(12)), np.int16)
    ink = np.pad(np.abs(near - around) > 16, 4)
    return not (_has_stroke(ink) or _has_stroke(ink.T))


def _has_stroke(ink: NDArray[np.bool_]) -> bool:
    """Whether four pixels in a row are inked, each in this row or a neighbouring one."""
    thick = ink[:-2] | ink[1:-1] | ink[2:]
    return bool((thick[:, :-3] & thick[:, 1:-2] & thick[:, 2:-1] & thick[:, 3:]).any())


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


def _check(what: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise UsageError(f"no {what} is called {value!r}; choose one of {', '.join(known)}")


def _device(name: str) -> Any:
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
    return device


def _folder(model: str | Path, revision: str | None) -> Path:
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


def _load(folder: Path, *, dtype: Any, device: Any) -> tuple[Any, Any]:
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


def _prompt(processor: Any, text: str) -> dict[str, Any]:
    """Token ids and masks, [1, length] each, of a page's place followed by `text`.

    The processor makes them for a picture only; any will do, since all take the same place.
    """
    with quiet_transformers():
        inputs = processor(
            images=Image.new("RGB", (16, 16)), text=text, max_patches=1, return_tensors="pt"
        )
    names = ("input_ids", "attention_mask", "image_embeds_position_mask")
    return {name: inputs[name] for name in names}


def _room(model: Any, prompts: Mapping[str, Any]) -> int:
    """New tokens that the trained context leaves behind the longest prompt."""
    longest: int = max(prompt["input_ids"].shape[1] for prompt in prompts.values())
    room: int = model.config.text_config.max_position_embeddings - longest
    if room < 1:
        raise ModelError(f"a prompt of {longest} tokens fills the model's context")
    return room


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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
