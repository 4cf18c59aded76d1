from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import kosmos_loader
from kosmos_loader import errors

HEAVY = (
    "torch",
    "transformers",
    "faiss",
    "onnxruntime",
    "rapidocr",
    "langchain_core",
    "llama_index",
    "openai",
)


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import kosmos_loader",
        "import kosmos_loader.cli",
        "import kosmos_loader.testing",
        "from kosmos_loader import KosmosPageReader, RapidOCRPageReader, Store, open_pages",
    ],
)
def test_importing_loads_neither_torch_nor_faiss_nor_a_framework(statement: str) -> None:
    assert not modules_after(statement) & set(HEAVY)


def test_public_names_are_sorted_complete_and_importable() -> None:
    assert kosmos_loader.__all__ == sorted(kosmos_loader.__all__, key=str.casefold)
    for name in kosmos_loader.__all__:
        assert callable(getattr(kosmos_loader, name)), name
        assert getattr(kosmos_loader, name).__doc__, name
        assert name in dir(kosmos_loader)


@pytest.mark.parametrize("order", ["compose", "kosmos_loader.compose"])
def test_compose_is_the_function_whichever_was_imported_first(order: str) -> None:
    first = "from kosmos_loader import compose" if order == "compose" else f"import {order}"
    code = f"{first}; from kosmos_loader import compose, Store; assert callable(compose), compose"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = kosmos_loader.nonsense


def classes() -> list[type[errors.KosmosLoaderError]]:
    found = [value for _, value in inspect.getmembers(errors, inspect.isclass)]
    return [c for c in found if issubclass(c, errors.KosmosLoaderError)]


def test_every_error_has_an_exit_code_of_its_own_and_stands_in_the_tree() -> None:
    concrete = [c for c in classes() if c is not errors.SourceError]
    codes = [c.exit_code for c in concrete]
    assert len(set(codes)) == len(codes)
    assert len({c.kind for c in concrete}) == len(concrete)
    for cls in classes():
        assert cls.__name__ in (errors.__doc__ or "")
        assert cls.__doc__


def test_a_missing_library_names_the_extra_that_brings_it() -> None:
    with pytest.raises(errors.MissingExtra, match=r"kosmos-loader\[ray\]"):
        errors.require("no_such_library", extra="ray")
    with pytest.raises(ImportError):
        errors.require("no_such_library", extra="ray")


def test_the_version_is_the_one_that_is_installed() -> None:
    metadata = importlib.import_module("importlib.metadata")
    assert metadata.version("kosmos-loader") == kosmos_loader.__version__
