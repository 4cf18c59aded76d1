"""What a run tells while it goes on, and how it is stopped."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from kosmos_loader.archive import Step
from kosmos_loader.cli import terminal
from kosmos_loader.document import Failure


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Of the package, which the command line may have set to print itself."""
    logger = logging.getLogger("kosmos_loader")
    before = logger.propagate, logger.level
    logger.propagate = True
    with caplog.at_level(logging.INFO, "kosmos_loader"):
        yield caplog
    logger.propagate = before[0]
    logger.setLevel(before[1])


def test_pages_a_second_and_the_time_left_count_what_is_read_now(clock: Clock) -> None:
    pace = terminal.Pace(clock)
    assert pace.take(Step("a", 1, 1, 1, 4, reused=True)) == "file 1/4, page 1/1"
    clock.now = 10.0
    told = pace.take(Step("b", 1, 2, 2, 4))
    assert told == "file 2/4, page 1/2, 0.1 pages/s, 0:00:50 left"
    assert pace.done == 1.5
    clock.now = 20.0
    last = Step("b", 2, 2, 2, 4, failure=Failure("reading", "torn"), flags=("blank",))
    told = pace.take(last)
    assert told == "file 2/4, page 2/2, 0.1 pages/s, 0:00:40 left, 1 failed, 1 flagged"


def test_a_file_that_cannot_be_opened_counts_as_done(clock: Clock) -> None:
    pace = terminal.Pace(clock)
    assert pace.take(Step("a", 0, 0, 1, 1, failure=Failure("empty", "x"))).endswith("1 failed")
    assert pace.done == 1


def test_lines_are_logged_every_so_often(clock: Clock, log: pytest.LogCaptureFixture) -> None:
    step = terminal.log_progress(30, clock)
    for number in range(1, 8):
        clock.now += 10
        step(Step("a", number, 10, 1, 1))
    lines = [record.message for record in log.records]
    assert [line.split(", ")[1] for line in lines] == ["page 3/10", "page 6/10"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_the_first_ctrl_c_is_told_and_the_second_raises(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with terminal.interrupts() as stopping:
        assert not stopping()
        os.kill(os.getpid(), signal.SIGINT)
        assert stopping()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert "press Ctrl-C again to stop at once" in capfd.readouterr().err
