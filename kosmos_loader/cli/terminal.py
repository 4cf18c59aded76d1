"""What is said beside the results: errors, log and progress on stderr; and files written to."""

from __future__ import annotations

import errno
import io
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from kosmos_loader.errors import AllFailed, KosmosLoaderError, SomeFailed, UsageError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from kosmos_loader.archive import Step
    from kosmos_loader.document import Reading

Progress = Callable[["Step"], None]

INTERRUPTED = 130
"""Exit code of a program that SIGINT ended, as shells give it."""

log = logging.getLogger("kosmos_loader")


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Commands(TyperGroup):
    """Ends our errors with one line on stderr and the exit code of their class."""

    def invoke(self, ctx: Any) -> Any:
        """The result of the command that was called."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a broken pipe shows here, where typer ends it quietly
        except KosmosLoaderError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            typer.echo("interrupted; what was done is kept", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            _tell_full(error)
            raise typer.Exit(1) from error
        return result


@contextmanager
def last_door() -> Iterator[None]:
    """What ends a program before its command runs: Ctrl-C, and help for a full disk."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        _tell_full(error)
        sys.exit(1)


def _tell_full(error: OSError) -> None:
    # typer ends a broken pipe itself, and anything else is unforeseen
    if error.errno not in _FULL:
        raise error
    _give_up_stdout()
    typer.echo(f"error: cannot write the results ({error.strerror}); make room", err=True)


def _give_up_stdout() -> None:
    """Drop what stdout holds back; else the interpreter would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123  a device, not a path
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def open_standard_streams() -> None:
    """Let what is written to a stream that was closed (`2>&-`) go nowhere.

    Else the first file that is opened gets its number, and what is said goes into the store.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  a device, for good


class _Stderr(logging.Handler):
    """Writes to what `sys.stderr` is at the time, so that a progress bar stays in one piece."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), file=sys.stderr)


def log_to_stderr(level: int) -> None:
    """Show what the package logs at `level` and above."""
    log = logging.getLogger("kosmos_loader")
    log.handlers[:] = [_Stderr()]
    log.setLevel(level)
    log.propagate = False


def keep_all_letters() -> None:
    """Write what stdout cannot encode (the odd bytes of a file name) as escapes, and go on."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def check_picture(path: Path) -> None:
    """Raise `UsageError` where no picture can be written to `path`, before any work is done."""
    from PIL import Image

    # Pillow also reads formats that it cannot write
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise UsageError(f"{path} is no name of a picture; end it with .png or .jpg")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"cannot write to {path}: there is no folder {path.absolute().parent}")


def check_not_a_source(path: Path | None, sources: Iterable[str | Path]) -> None:
    """Raise `UsageError` where writing to `path` would destroy one of `sources`."""
    if path is None:
        return
    with writing(path):
        is_source = path.is_file() and any(
            Path(source).exists() and path.samefile(source) for source in sources
        )
    if is_source:
        raise UsageError(f"{path} is a file to read and would be overwritten; give another name")


@contextmanager
def output(path: Path | None) -> Iterator[Callable[[str], object]]:
    """What writes text to the file at `path`, or to stdout.

    What stood at `path` gives way at the end, and stays where an error comes before any text.
    `UsageError` where the file cannot be written to.
    """
    if path is None:
        yield sys.stdout.write
        return
    is_sound = False
    with writing(path):
        part = _beside(path)
        stream = part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")

    def write(text: str) -> None:
        nonlocal is_sound
        is_sound = False
        with writing(path):
            stream.write(text)
        is_sound = True

    try:
        yield write
        is_sound = True
    finally:
        try:
            with writing(path):
                stream.close()
                if is_sound:
                    _put(part, path)
        finally:
            if part != path:
                part.unlink(missing_ok=True)


@contextmanager
def output_at(path: Path) -> Iterator[Path]:
    """Where to write what is to stand at `path`; it is put there if the block ends without error.

    `UsageError` where the file cannot be written to.
    """
    with writing(path):
        part = _beside(path)
    try:
        with writing(path):
            yield part
            _put(part, path)
    finally:
        if part != path:
            part.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A new name in the folder of `path`; `path` itself where that is a pipe or a device."""
    target = Path(os.path.realpath(path))
    # /dev/stdout is a link to what may be a regular file, which others write to
    is_device = path.absolute().parts[1:2] in (("dev",), ("proc",))
    if is_device or (target.exists() and not target.is_file()):
        return path
    return target.with_name(f".kosmos-loader-{os.getpid()}{target.suffix}")


def _put(part: Path, path: Path) -> None:
    if part == path:
        return
    target = Path(os.path.realpath(path))
    if target.exists():
        shutil.copymode(target, part)
    part.replace(target)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """The door through which errors of the disk under `path` become ours."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write to {path} ({error.strerror or error})") from error


def progress(*, shown: bool = True) -> AbstractContextManager[Progress | None]:
    """A bar on stderr where that is a terminal, else a line in the log every so often.

    Gives what is to be called after every page; nothing where only errors are to be said.
    """
    from kosmos_loader.archive import progress_bar

    return progress_bar() if shown and log.isEnabledFor(logging.INFO) else nullcontext()


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, so that what is in hand can be finished; a second one raises.

    Outside the main thread, where no signals are to be had, it never was.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = False

    def press(_number: int, _frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        # not through sys.stderr, whose buffer may be in the middle of a line
        os.write(2, b"\nfinishing the pages in hand; press Ctrl-C again to stop at once\n")

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


class Watched:
    """Readings on their way: shows progress, keeps what failed and counts the others."""

    def __init__(
        self, readings: Iterable[Reading], files: Sequence[Path], step: Progress | None
    ) -> None:
        self._readings = readings
        self._places = {str(file): place for place, file in enumerate(files, start=1)}
        self._step = step
        self.failed: list[KosmosLoaderError] = []
        self.read = 0

    def __iter__(self) -> Iterator[Reading]:
        from kosmos_loader.archive import Step
        from kosmos_loader.loading import error_in

        files = len(self._places)
        for reading in self._readings:
            if reading.error is None:
                self.read += 1
            else:
                self.failed.append(error_in(reading))
            yield reading
            if self._step is not None:
                page = reading.page
                place = self._places.get(page.source, files)
                self._step(Step(page.source, page.number, page.count, place, files))


NAMED = 200
"""Failures that a summary names where all of them are listed somewhere else."""


def conclude(
    failed: Sequence[KosmosLoaderError],
    *,
    files: int,
    succeeded: bool,
    done: str = "read",
    listed: str | None = None,
) -> None:
    """Raise what a run ends with: its one error, or a summary that names what failed.

    That is everything, or the first of it where `listed` is a command that lists them all.
    """
    if not failed:
        return
    if files == 1 and not succeeded:
        raise failed[0]
    count = "1 file or page" if len(failed) == 1 else f"{len(failed)} files or pages"
    rest = "all others are done" if succeeded else f"nothing was {done}"
    named = failed if listed is None else failed[:NAMED]
    lines = [f"  {error.kind}: {error}" for error in named]
    if len(named) < len(failed):
        lines.append(f"  and {len(failed) - len(named)} more; all of them: {listed}")
    message = "\n".join([f"{count} failed, {rest}", *lines])
    raise SomeFailed(message) if succeeded else AllFailed(message)
