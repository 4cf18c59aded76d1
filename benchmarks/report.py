"""What stands above and around every benchmark table: command, machine, versions, date."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def header(*packages: str) -> dict[str, Any]:
    """Command, date, machine, and versions of Python and of `packages` (tesseract among them)."""
    script = Path(sys.argv[0])
    return {
        "command": shlex.join(["python", f"{script.parent.name}/{script.name}", *sys.argv[1:]]),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{_cpu()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in packages},
    }


def show(
    document: Mapping[str, Any],
    *,
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    as_json: bool,
    out: Path | None,
) -> None:
    """Print the table of `rows` under the header, or the whole `document` as JSON; keep it too."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    if out:
        out.write_text(text + "\n", encoding="utf-8")
    if as_json:
        print(text)
        return
    print(headline(document))
    print(table(columns, ([row[column] for column in columns] for row in rows)))


def headline(facts: Mapping[str, Any]) -> str:
    """The header as the lines above a table."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"$ {facts['command']}\n{facts['date']}; {facts['machine']}\n{versions}\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A markdown table that also reads well as it is; None is shown as a dash."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are there; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def cpu_seconds() -> float:
    """Seconds of CPU that this process, its threads and its finished children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _version(name: str) -> str:
    if name == "tesseract":
        if shutil.which(name) is None:
            return "not installed"
        shown = subprocess.run([name, "--version"], capture_output=True, text=True, check=True)
        return shown.stdout.split()[1]
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
