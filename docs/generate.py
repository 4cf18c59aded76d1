"""Writes anew what in docs/ is made from the code: the help of the commands, exit codes, the API.

python docs/generate.py           writes
python docs/generate.py --check   ends with 1 where a page is old, and names it
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

import kosmos_loader
from kosmos_loader import errors, testing
from kosmos_loader.cli import app

DOCS = Path(__file__).resolve().parent
END = "<!-- end -->"
PROGRAM = "kosmos-loader"

# --- the command line ----------------------------------------------------------------------------


def help_of(command: str) -> str:
    """The help of a command, or of the program, on a terminal of 100 columns."""
    words = [] if command == PROGRAM else [command]
    plain = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    shown = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "kosmos_loader", *words, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | plain,
        timeout=60,
    )
    lines = [line.rstrip() for line in shown.stdout.strip().splitlines()]
    return "\n".join(["```", *lines, "```"])


def exit_codes() -> str:
    """The table of exit codes, a class of errors before those below it."""
    found = [value for _, value in inspect.getmembers(errors, inspect.isclass)]
    ours = [cls for cls in found if issubclass(cls, errors.KosmosLoaderError)]
    rows = ["| Code | Error | Kind | Meaning |", "|---|---|---|---|"]
    rows.append("| 0 | | | all of it was done |")
    for cls in sorted(ours, key=lambda cls: (cls.exit_code, len(cls.__mro__))):
        meaning = " ".join((cls.__doc__ or "").split())
        rows.append(f"| {cls.exit_code} | `{cls.__name__}` | `{cls.kind}` | {meaning} |")
    rows.append("| 130 | | | interrupted; what was done is kept |")
    return "\n".join(rows)


# --- the API -------------------------------------------------------------------------------------


def api() -> str:
    """All public names, then the fakes for tests."""
    entries = [entry(name, getattr(kosmos_loader, name)) for name in kosmos_loader.__all__]
    entries.append(f"## kosmos_loader.testing\n\n{documented(testing)}")
    entries += [
        entry(name, getattr(testing, name), level="###")
        for name in testing.__all__
        if name not in kosmos_loader.__all__
    ]
    return "\n\n".join(entries)


def entry(name: str, thing: Any, *, level: str = "##") -> str:
    """A heading, how it is called, what it is, its fields and its methods."""
    parts = [f"{level} {name}"]
    if dataclasses.is_dataclass(thing):
        parts += [documented(thing), "\n".join(described_fields(name, thing))]
    elif isinstance(thing, type) and not _is_constructed(thing):
        parts.append(documented(thing))
    else:
        parts += [signature(name, thing), documented(thing)]
    for member, value in vars(thing).items() if isinstance(thing, type) else ():
        called = f"{name}.{member}"
        if member.startswith("_"):
            continue
        if isinstance(value, property):
            parts += [f"{level}# {called}", documented(value)]
        elif inspect.isfunction(value) or isinstance(value, classmethod):
            function = value.__func__ if isinstance(value, classmethod) else value
            parts += [f"{level}# {called}", signature(called, function), documented(function)]
    return "\n\n".join(part for part in parts if part)


def _is_constructed(thing: type) -> bool:
    """Whether users call the class: no seam, no error, and nothing that has `open` for it."""
    is_seam = "_is_protocol" in vars(thing)
    return not (is_seam or issubclass(thing, BaseException) or "open" in vars(thing))


def documented(thing: Any) -> str:
    """The docstring of `thing`."""
    return inspect.cleandoc(inspect.getdoc(thing) or "")


class _Verbatim:
    """An annotation as it is written."""

    def __init__(self, text: object) -> None:
        self._text = text if isinstance(text, str) else inspect.formatannotation(text)

    def __repr__(self) -> str:
        return self._text


def signature(name: str, thing: Callable[..., Any]) -> str:
    """`name(...) -> type` as in the code, an argument a line where that is long."""
    found = inspect.signature(thing)
    parameters = [
        _as_written(parameter)
        for name, parameter in found.parameters.items()
        if name not in ("self", "cls")
    ]
    arguments = _with_stars(parameters)
    returned = found.return_annotation
    arrow = "" if returned in (found.empty, "None") else f" -> {_Verbatim(returned)!r}"
    line = f"{name}({', '.join(arguments)}){arrow}"
    if len(line) > 88:
        inner = "".join(f"    {argument},\n" for argument in arguments)
        line = f"{name}(\n{inner}){arrow}"
    return f"```py\n{line}\n```"


def _as_written(parameter: inspect.Parameter) -> inspect.Parameter:
    kind, default = parameter.annotation, parameter.default
    if kind is not parameter.empty:
        parameter = parameter.replace(annotation=_Verbatim(kind))
    if inspect.isbuiltin(default):
        parameter = parameter.replace(default=_Verbatim(default.__name__))
    return parameter


def _with_stars(parameters: list[inspect.Parameter]) -> list[str]:
    """The parameters as they are written, a star before those that are named."""
    shown = [str(parameter) for parameter in parameters]
    named = [p.kind is p.KEYWORD_ONLY for p in parameters]
    if True in named and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        shown.insert(named.index(True), "*")
    return shown


def described_fields(name: str, cls: type) -> Iterator[str]:
    """The fields of a dataclass with their types, defaults and descriptions, as a list."""
    parent = next((base for base in cls.__bases__ if getattr(base, "__annotations__", None)), None)
    if parent is not None:
        yield f"All of `{parent.__name__}`, and:\n"
    elif cls.__doc__:
        yield f"Fields of `{name}`:\n"
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - for the type checker
    for statement, after in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign):
            kind = ast.unparse(statement.annotation)
            about = _description(after)
            if not kind.startswith("ClassVar"):
                yield f"- `{ast.unparse(statement.target)}: {kind}`" + (about and f": {about}")


def _description(statement: ast.stmt | None) -> str:
    match statement:
        case ast.Expr(value=ast.Constant(value=str() as text)):
            return " ".join(text.split())
        case _:
            return ""


# --- pages ---------------------------------------------------------------------------------------


def made() -> dict[str, dict[str, str]]:
    """For each page, what belongs behind which marks."""
    helps = {f"help: {name}": help_of(name) for name in (PROGRAM, *commands())}
    return {"cli.md": helps | {"exit codes": exit_codes()}, "api.md": {"api": api()}}


def commands() -> list[str]:
    """The commands of the program, in the order of its help."""
    return list(get_command(app).commands)  # type: ignore[attr-defined]


def with_sections(page: str) -> str:
    """The page of the command line, with a section for each command that has none yet."""
    for name in commands():
        if f"\n## {name}\n" not in page:
            section = f"## {name}\n\n<!-- help: {name} -->\n{END}\n\n"
            page = page.replace("## Exit codes\n", f"{section}## Exit codes\n")
    return page


def filled(page: str, parts: dict[str, str]) -> str:
    """`page` with each part between its mark and the next end mark."""
    for mark, part in parts.items():
        opening = f"<!-- {mark} -->\n"
        if page.count(opening) != 1:
            sys.exit(f"a page lacks {opening.strip()}")
        before, rest = page.split(opening)
        page = f"{before}{opening}{part}\n{rest[rest.index(END) :]}"
    return page


def main() -> None:
    """Write the pages, or say which are old."""
    old = []
    for name, parts in made().items():
        path = DOCS / name
        page = path.read_text(encoding="utf-8")
        new = filled(with_sections(page) if name == "cli.md" else page, parts)
        if new != page:
            old.append(name)
        if new != page and "--check" not in sys.argv:
            path.write_text(new, encoding="utf-8")
    if old and "--check" in sys.argv:
        sys.exit(f"{', '.join(old)}: old; write anew with: python docs/generate.py")


if __name__ == "__main__":
    main()
