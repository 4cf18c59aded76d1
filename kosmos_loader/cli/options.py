"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """What `read` prints."""

    markdown = "markdown"
    json = "json"
    chunks = "chunks"
    hocr = "hocr"
    alto = "alto"
    page = "page"
    pdf = "pdf"


class Ocr(StrEnum):
    """What becomes of the OCR that pages already have."""

    again = "again"
    auto = "auto"
    existing = "existing"


class OnError(StrEnum):
    """What `index` does with a page or file that cannot be read."""

    skip = "skip"
    stop = "stop"


class Embedder(StrEnum):
    """What turns text into vectors."""

    hash = "hash"


Paths = Annotated[list[str], typer.Argument(help="Files, folders or patterns.", metavar="PATH")]
SomePaths = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files, folders or patterns. With --retry-failed, what it is confined to.",
        metavar="PATH",
    ),
]
PageTimeout = Annotated[
    float | None,
    typer.Option(
        "--page-timeout",
        help="Seconds after which a page is given up (RapidOCR only; 600 unless told, 0 for no "
        "limit).",
        min=0.0,
        metavar="SECONDS",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Draw and read on a Ray cluster: auto for the one this machine belongs to (or else "
        "this machine alone), or HOST:PORT of its head. auto as --reader is KOSMOS-2.5 there with "
        "--ray-gpus or --model, else RapidOCR.",
        metavar="auto|ADDRESS",
    ),
]
RayWorkers = Annotated[
    int | None,
    typer.Option(
        "--ray-workers",
        help="Processes of the cluster that read; as many as fit, unless told.",
        min=1,
        metavar="N",
    ),
]
RayGpus = Annotated[
    float | None,
    typer.Option(
        "--ray-gpus", help="GPUs of each of them, 0.5 for two on one GPU.", min=0.0, metavar="N"
    ),
]


def _folder(given: str) -> Path:
    if not given.strip():  # as of a variable that is not set, and Path("") is the current folder
        raise typer.BadParameter("the path is empty; name a folder")
    return Path(given)


StoreFolder = Annotated[
    Path, typer.Option("--store", help="Folder of the store.", metavar="DIR", parser=_folder)
]
ReaderName = Annotated[
    str,
    typer.Option(
        "--reader",
        help="auto, kosmos or rapidocr. auto is KOSMOS-2.5 on a GPU or with --model or --device, "
        "else RapidOCR.",
        metavar="NAME",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", help="Folder or hub id of the KOSMOS-2.5 weights.", metavar="DIR_OR_ID"
    ),
]
DeviceName = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Where KOSMOS-2.5 runs: cuda, cpu or several, cuda:0,cuda:1, a process each.",
        metavar="NAME",
    ),
]
ExistingText = Annotated[
    Ocr,
    typer.Option(
        "--ocr",
        help="The OCR that pages already have, beside the file (hOCR, ALTO, PAGE) or in the PDF: "
        "read the page again, take what is good enough and read the others (auto), or take what "
        "exists and read nothing.",
    ),
]
PageRange = Annotated[
    str | None, typer.Option("--pages", help='Pages by number: "1-3,7,10-".', metavar="RANGE")
]
Password = Annotated[
    str | None, typer.Option("--password", help="Opens encrypted files.", metavar="PASSWORD")
]
ChunkSize = Annotated[
    int, typer.Option("--chunk-size", help="Characters of a chunk at most.", min=1, metavar="N")
]
HowMany = Annotated[int, typer.Option("-k", help="How many passages to find.", min=1, metavar="K")]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        help="Only chunks with this metadata, e.g. page=2 or kind=table. Repeatable: a key that is "
        "given twice takes either value, and all keys have to fit.",
        metavar="KEY=VALUE",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def examples(*commands: str) -> str:
    """What stands at the end of a command's help, line by line."""
    # this character keeps typer from filling the paragraph
    return "\n".join(["\b", "Examples:", *(f"  kosmos-loader {command}" for command in commands)])
