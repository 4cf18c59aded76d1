"""What is published works: wheels of the three packages, tested in an environment of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "kosmos_loader": ROOT,
    "langchain_kosmos": ROOT / "integrations" / "langchain-kosmos",
    "llama_index_readers_kosmos": ROOT / "integrations" / "llama-index-readers-kosmos",
}
INTEGRATIONS = [name for name in PACKAGES if name != "kosmos_loader"]

ABOUT_SOURCES = ("test_package*.py", "test_readme.py")
"""Tests that look at the files of a checkout, which no wheel holds."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="programs of an environment lie elsewhere"),
]

WHERE = """
import importlib, pathlib, sys

for name in sys.argv[1:]:
    module = importlib.import_module(name)
    print(pathlib.Path(module.__file__ or list(module.__path__)[0]).resolve())
"""


def python(program: Path, *arguments: str | Path, cwd: Path) -> str:
    """What `program` prints; without what pytest itself keeps in the environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYT")}
    done = subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env={**kept, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each package."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheels")
    for name, source in PACKAGES.items():
        python(
            Path(sys.executable),
            *("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"),
            *("--disable-pip-version-check", "--wheel-dir", folder, source),
            cwd=folder,
        )
        assert list(folder.glob(f"{name}-*.whl")), name
    return {name: next(folder.glob(f"{name}-*.whl")) for name in PACKAGES}


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment in which the wheels are installed.

    What they need is taken from where this test runs. A line in a .pth file adds that folder but
    not what its own .pth files add, among them the sources of the packages themselves.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    program = folder / "bin" / "python"
    python(
        Path(sys.executable),
        *("-m", "pip", "--disable-pip-version-check", "--python", program),
        *("install", "--quiet", "--no-deps", "--no-index", *wheels.values()),
        cwd=folder,
    )
    print_paths = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(python(program, "-c", print_paths, cwd=folder).strip())
    (packages / "what_they_need.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return program


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder outside of the repository, with its settings of pytest."""
    assert ROOT not in tmp_path.resolve().parents
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(settings.replace('pythonpath = ["benchmarks"]', ""))
    return tmp_path


def test_wheels_hold_the_package_its_types_and_the_licence(wheels: dict[str, Path]) -> None:
    modules = {
        "kosmos_loader": ["kosmos_loader/store/__init__.py", "kosmos_loader/testing/loaders.py"],
        "langchain_kosmos": ["langchain_kosmos/vectorstores.py"],
        "llama_index_readers_kosmos": ["llama_index/readers/kosmos/base.py"],
    }
    for name, wheel in wheels.items():
        held = zipfile.ZipFile(wheel).namelist()
        assert set(modules[name]) < set(held)
        assert any(path.endswith("/py.typed") for path in held)
        assert any(path.endswith("/licenses/LICENSE") for path in held)
        strays = [path for path in held if "test_" in path or "__pycache__" in path]
        assert strays == [], name


def test_llama_index_stays_a_namespace(wheels: dict[str, Path]) -> None:
    """Files such as `llama_index/readers/__init__.py` would hide LlamaIndex's other packages."""
    held = zipfile.ZipFile(wheels["llama_index_readers_kosmos"]).namelist()
    folders = [path.removesuffix("/__init__.py") for path in held if path.endswith("__init__.py")]
    assert "llama_index/readers/kosmos" in folders
    assert [folder for folder in folders if folder.count("/") < 2] == []
    ours = {path.split("/")[0] for path in held if ".dist-info" not in path}
    assert ours == {"llama_index"}


def test_what_is_imported_is_what_was_installed(installed: Path, elsewhere: Path) -> None:
    names = ("kosmos_loader", "langchain_kosmos", "llama_index.readers.kosmos", "faiss")
    *ours, theirs = python(installed, "-c", WHERE, *names, cwd=elsewhere).splitlines()
    environment = installed.parent.parent
    assert all(environment in Path(path).parents for path in ours)
    assert environment not in Path(theirs).parents
    command = installed.parent / "kosmos-loader"
    assert "index" in python(command, "--help", cwd=elsewhere)


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_the_tests_of_an_integration_pass_from_the_wheels(
    name: str, installed: Path, elsewhere: Path
) -> None:
    tests = elsewhere / "tests"
    left_out = shutil.ignore_patterns("__pycache__", *ABOUT_SOURCES)
    shutil.copytree(PACKAGES[name] / "tests", tests, ignore=left_out)
    told = python(
        installed,
        *("-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", tests),
        cwd=elsewhere,
    )
    assert " passed" in told
    assert "failed" not in told
