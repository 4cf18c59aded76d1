"""One engine process a device: the readings of one, whatever happens to a process."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from kosmos_loader.cli import app
from kosmos_loader.document import Failure, Page, Reading
from kosmos_loader.errors import ModelError, UsageError
from kosmos_loader.readers.base import choose_reader
from kosmos_loader.readers.devices import DeviceEngines, _receive
from kosmos_loader.readers.kosmos import KosmosPageReader
from kosmos_loader.testing import tiny_kosmos

# looked for and not imported, since the processes that tests start import this module too
pytestmark = pytest.mark.skipif(
    not (find_spec("torch") and find_spec("transformers")), reason="needs the kosmos extra"
)

OPTIONS: dict[str, Any] = {"batch_size": 2, "max_new_tokens": 24}
ROOM = 2 * (2 + 2)
"""Pages that two processes hold, which read two each side by side."""


def page_of(number: int) -> Page:
    size = (100 + 37 * (number % 5), 250 - 41 * (number % 4))
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for row in range(8, size[1] - 8, 14):
        draw.text((8, row), f"Line {row} of page {number}", fill="black")
    return Page("file", "doc", number, 99, *size, 72.0, pixels=np.asarray(image))


BLANK = Page("file", "doc", 98, 99, 50, 50, 72.0, pixels=np.full((50, 50, 3), 255, np.uint8))
BROKEN = Page("file", "doc", 99, 99, 0, 0, 72.0, error=Failure("corrupt", "no pixels"))
PAGES = [page_of(number) for number in range(1, 13)]


class Deadly:
    """Kills the process that it comes to."""

    def __reduce__(self) -> tuple[Any, ...]:
        return signal.raise_signal, (signal.SIGKILL,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_kosmos(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[Reading]:
    """Of `PAGES`, as one device reads them."""
    return list(KosmosPageReader(folder, device="cpu", **OPTIONS).read(PAGES))


@pytest.fixture(scope="module")
def reader(folder: Path) -> Iterator[KosmosPageReader]:
    """Two processes; tests leave them reading."""
    reader = KosmosPageReader(folder, devices=["cpu", "cpu"], **OPTIONS)
    yield reader
    reader.close()
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_two_processes_read_what_one_device_does_in_the_same_order(
    reader: KosmosPageReader, expected: list[Reading]
) -> None:
    pulled: list[int] = []

    def pages() -> Iterator[Page]:
        for page in [BLANK, *PAGES, BROKEN, *PAGES]:
            pulled.append(page.number)
            yield page

    processes = multiprocessing.active_children()
    assert len(processes) == 2
    found = reader.read(pages())
    assert pulled == []
    blank = next(found)
    assert (blank.page, blank.flags, len(pulled)) == (BLANK.info, ("blank",), 1)
    ahead = []
    readings = []
    for reading in found:
        readings.append(reading)
        ahead.append(len(pulled) - len(readings) - 1)
    assert readings[12].error == BROKEN.error
    assert readings[:12] == readings[13:] == expected
    assert len({reading.markdown for reading in expected}) > 6
    assert max(ahead) <= ROOM + 4  # with readings that wait for one before them
    assert multiprocessing.active_children() == processes


@pytest.mark.slow
def test_generators_side_by_side_share_the_processes(
    reader: KosmosPageReader, expected: list[Reading]
) -> None:
    there, back = reader.read(PAGES), reader.read(reversed(PAGES))
    for reading, mirrored in zip(expected, reversed(expected), strict=True):
        assert next(there) == reading
        assert next(back) == mirrored
    assert [*there, *back] == []
    assert len(multiprocessing.active_children()) == 2


@pytest.mark.slow
def test_a_generator_that_is_closed_in_the_middle_ends_the_processes(
    reader: KosmosPageReader, expected: list[Reading]
) -> None:
    # before one is killed: a process that still starts, in the place of another, reads no page yet
    found = reader.read(PAGES)
    assert next(found) == expected[0]
    found.close()
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_page_that_kills_two_processes_fails_and_those_beside_it_are_read(
    reader: KosmosPageReader, expected: list[Reading]
) -> None:
    deadly = replace(PAGES[0], document_info={"title": Deadly()})
    unsendable = replace(PAGES[0], document_info={"title": lambda: 0})
    found = list(reader.read([*PAGES[:3], deadly, *PAGES[3:6], unsendable, *PAGES[6:]]))
    killed, unsent = found.pop(3), found.pop(6)
    assert found == expected
    assert killed.page == unsent.page == PAGES[0].info
    assert killed.error is not None
    assert killed.error.type == "reading"
    assert "two processes ended as they read it, the last by signal 9" in killed.error.message
    assert unsent.error is not None
    assert "pickle" in unsent.error.message


def busy(pipe: Any) -> None:
    """A process whose engine would go on for a minute."""
    threading.Thread(target=_receive, args=(pipe, SimpleQueue()), daemon=True).start()
    time.sleep(60)


@pytest.mark.slow
def test_a_process_ends_with_the_one_that_it_reads_for_whatever_it_is_at() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=busy, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    ours.close()
    process.join(timeout=30)
    assert process.exitcode == 0


@pytest.mark.slow
def test_what_a_reader_cannot_be_made_for_is_raised_and_leaves_no_process() -> None:
    others = multiprocessing.active_children()  # those of the reader above
    with pytest.raises(UsageError, match="no engine is called 'slow'"):
        DeviceEngines(["cpu", "cpu"], engine="slow")
    with pytest.raises(ModelError, match=r"cpu ended as it started \(signal 9\)"):
        DeviceEngines(["cpu"], model=Deadly())
    assert set(multiprocessing.active_children()) <= set(others)


@pytest.mark.parametrize(
    "options",
    [
        {"devices": []},
        {"devices": "cpu"},
        {"devices": ["cpu"], "device": "cpu"},
        {"devices": ["cpu", "nowhere"]},
        {"devices": ["cpu", "meta"]},
    ],
)
def test_devices_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="device"):
        KosmosPageReader(**options)


def test_the_command_line_names_one_device_or_several(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "1.png")

    def said(device: str) -> str:
        command = ["read", str(tmp_path / "1.png"), "--reader", "kosmos", "--device", device]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == UsageError.exit_code
        return done.stderr

    assert "no device is called 'nowhere'" in said("nowhere")
    assert "no device is called 'anywhere'" in said("cpu,anywhere")
    with pytest.raises(UsageError, match="RapidOCR"):
        choose_reader("rapidocr", device="cuda:0")
