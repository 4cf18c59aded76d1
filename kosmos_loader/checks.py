"""What arguments have to be: `UsageError`, saying what to give, where they are something else."""

from __future__ import annotations

import math
import operator
import reprlib
from numbers import Real

from kosmos_loader.errors import UsageError


def check_whole(value: object, name: str) -> None:
    """Refuse what is no whole number; bounds are for the caller to check."""
    try:
        operator.index(value)  # type: ignore[arg-type]  # whether it can be is what is asked
    except TypeError as error:
        raise UsageError(f"{name} is {_shown(value)}; give a whole number") from error
    if isinstance(value, bool):
        raise UsageError(f"{name} is {value}; give a whole number")


def check_number(value: object, name: str) -> None:
    """Refuse what is no number."""
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        raise UsageError(f"{name} is {_shown(value)}; give a number")


def check_text(value: object, name: str) -> None:
    """Refuse what is neither text nor None."""
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{name} is {_shown(value)}; give text")


def check_callable(value: object, name: str) -> None:
    """Refuse what is neither a callable nor None."""
    if value is not None and not callable(value):
        raise UsageError(f"{name} is {_shown(value)}; give a function, or None")


def _shown(value: object) -> str:
    return reprlib.repr(value)
