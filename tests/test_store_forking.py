"""Threads inside SQLite, and a process that forks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kosmos_loader.store.forking import Gate


def began(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


class Inside:
    """A thread inside `gate` until it is let go."""

    def __init__(self, gate: Gate) -> None:
        self.is_in, self.go = threading.Event(), threading.Event()
        self._gate = gate
        self.thread = began(self._stay)
        self.is_in.wait(10)

    def _stay(self) -> None:
        with self._gate.passed():
            self.is_in.set()
            self.go.wait(10)

    def leave(self) -> None:
        self.go.set()
        self.thread.join(10)


def test_shutting_waits_for_a_thread_that_is_inside() -> None:
    gate = Gate(patience=10.0)
    other = Inside(gate)
    shutting = began(gate.shut)
    shutting.join(0.1)
    assert shutting.is_alive()
    other.leave()
    shutting.join(10)
    assert not shutting.is_alive()


def test_shutting_does_not_wait_for_ever() -> None:
    gate = Gate(patience=0.05)
    other = Inside(gate)
    gate.shut()
    assert other.thread.is_alive()
    other.leave()
    gate.open()


def test_shutting_does_not_wait_for_the_thread_that_shuts() -> None:
    gate = Gate(patience=60.0)
    with gate.passed(), gate.passed():
        gate.shut()
        gate.open()


def test_nobody_comes_in_while_it_is_shut() -> None:
    gate = Gate()
    gate.shut()
    other = threading.Event()

    def pass_it() -> None:
        with gate.passed():
            other.set()

    waiting = began(pass_it)
    assert not other.wait(0.1)
    gate.open()
    waiting.join(10)
    assert other.is_set()


def test_the_thread_that_shuts_it_may_pass_since_it_may_have_to_close_a_store() -> None:
    gate = Gate()

    def shut_and_pass() -> None:
        gate.shut()
        with gate.passed():
            pass
        gate.open()

    forking = began(shut_and_pass)
    forking.join(10)
    assert not forking.is_alive()


def test_a_thread_that_is_inside_passes_again_while_it_is_being_shut() -> None:
    gate = Gate(patience=10.0)
    shutting = threading.Thread(target=gate.shut, daemon=True)
    with gate.passed():
        shutting.start()
        shutting.join(0.1)
        with gate.passed():
            assert shutting.is_alive()
    shutting.join(10)
    assert not shutting.is_alive()


def test_two_threads_may_fork_one_after_the_other() -> None:
    gate = Gate()
    gate.shut()
    second = began(gate.shut)
    second.join(0.1)
    assert second.is_alive()
    gate.open()
    second.join(10)
    assert not second.is_alive()


def test_in_a_child_no_other_thread_is_inside() -> None:
    gate = Gate(patience=0.05)
    other = Inside(gate)
    with gate.passed():
        gate.shut()
        gate.open_in_child()
        with gate.passed():
            pass
    other.leave()


FORKING = """
import faulthandler, os, sys, threading
from pathlib import Path
from kosmos_loader.store import Store
folder = Path(sys.argv[1])
store = Store.open(folder, create=True)
over = threading.Event()
def connect():
    while not over.is_set():
        with Store.open(folder) as other:
            len(other)
threads = [threading.Thread(target=connect) for _ in range(3)]
for thread in threads:
    thread.start()
ends = []
for _ in range(30):
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(20, exit=True)
        with Store.open(folder) as own:
            os._exit(len(own) + len(store))
    ends.append(os.waitpid(child, 0)[1])
over.set()
for thread in threads:
    thread.join()
print(*ends)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_children_forked_while_threads_connect_can_connect_too(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKING, str(tmp_path / "store")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["0"] * 30, done.stderr
