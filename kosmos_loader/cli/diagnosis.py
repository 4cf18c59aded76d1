"""What `doctor` finds out: what is installed, which reader is chosen and why."""

from __future__ import annotations

import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kosmos_loader.errors import KosmosLoaderError
from kosmos_loader.readers.base import choose_reader, why_not_kosmos

BASE = (
    "kosmos-loader",
    *("numpy", "pillow", "pypdf", "cryptography", "pypdfium2", "faiss-cpu"),
    *("rapidfuzz", "markdown-it-py", "typer", "rich"),
)
EXTRAS = {
    "kosmos": ("torch", "transformers"),
    "cpu": ("rapidocr", "onnxruntime"),
    "chat": ("openai",),
    "ray": ("ray",),
}


def diagnosis(*, model: str | None = None) -> dict[str, Any]:
    """Plain JSON; `error` under "reader" says why none can be chosen."""
    extras = {extra: {name: _version(name) for name in names} for extra, names in EXTRAS.items()}
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "libraries": {name: _version(name) for name in BASE},
        "extras": extras,
        "missing": [
            f"pip install 'kosmos-loader[{extra}]'"
            for extra, found in extras.items()
            if None in found.values()
        ],
        "sqlite": sqlite3.sqlite_version,
        "fts5": _has_fts5(),
        "cuda": _cuda(),
        "kernels": _kernels(),
        "reader": _reader(model),
    }


def diagnosis_text(found: dict[str, Any]) -> str:
    """`diagnosis` for people."""
    reader = found["reader"]
    lines = [f"{'python':16} {found['python']} on {found['system']}"]
    lines += [f"{name:16} {held or 'missing'}" for name, held in found["libraries"].items()]
    for extra, libraries in found["extras"].items():
        lines += [f"{name:16} {held or 'missing'}  [{extra}]" for name, held in libraries.items()]
    lines += [
        f"{'sqlite':16} {found['sqlite']}, FTS5 {'is there' if found['fts5'] else 'is missing'}",
        f"{'cuda':16} {found['cuda'] or 'no device'}",
        f"{'kernels':16} {found['kernels'] or 'none: torch is missing'}",
        f"{'reader':16} {reader['name'] or 'none'}: {reader['why']}",
    ]
    lines += [f"{'to add':16} {line}" for line in found["missing"]]
    return "\n".join(lines)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _has_fts5() -> bool:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text)")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def _cuda() -> str | None:
    """The first CUDA device, None where torch or the device is missing."""
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _kernels() -> str | None:
    """What KOSMOS-2.5 is computed with on the device it would be read on, None without torch."""
    try:
        import torch
    except ImportError:
        return None
    from kosmos_loader.engine.kernels import kernels_in_use

    if torch.cuda.is_available():
        return kernels_in_use("cuda", torch.bfloat16)
    return kernels_in_use("cpu", torch.float32)


def _reader(model: str | None) -> dict[str, str | None]:
    """The reader that "auto" gives; it is loaded, which is the only proof that it can be."""
    try:
        reader = choose_reader("auto", model=model)
    except KosmosLoaderError as error:
        return {"name": None, "version": None, "why": str(error)}
    why = "CUDA and the weights are there" if model is None else f"{model} was asked for"
    if reader.name == "rapidocr":
        why = why_not_kosmos() or "the weights of KOSMOS-2.5 do not load; see the line above"
    return {"name": reader.name, "version": reader.version, "why": why}
