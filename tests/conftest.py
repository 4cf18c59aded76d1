"""What all tests share: golden files, rewritten by the call that checks them; no GPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# An example takes as long as the machine has other work; no test asserts absolute times.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Read when triton is first imported, which transformers may do: the engine's kernels then run in
# its interpreter, on the CPU. TRITON_INTERPRET=0 runs them on a GPU.
os.environ.setdefault("TRITON_INTERPRET", "1")

GOLDEN = Path(__file__).parent / "golden"

Golden = Callable[[str, str], None]
"""Compares a text with the golden file of a name, or writes it there."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="write the files of tests/golden anew instead of comparing with them",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden(name, text)` fails where `text` is not what tests/golden/NAME holds.

    With `--rewrite-golden` it writes the file, and the diff is for a person to read.
    """

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--rewrite-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"no {path}; write it with: pytest --rewrite-golden"
        assert text == path.read_text(encoding="utf-8")

    return check
