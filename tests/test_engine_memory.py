"""How many pages are held at once: sized by the memory that is really there."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the kosmos extra")

from kosmos_loader.engine.cache import MOST_SLOTS, RowShape, slots_that_fit  # noqa: E402
from kosmos_loader.engine.memory import available_memory, free_memory  # noqa: E402
from kosmos_loader.engine.request import Request  # noqa: E402
from kosmos_loader.engine.runner import (  # noqa: E402
    PATCHES_TOGETHER,
    OutOfMemory,
    alike,
    memory_guarded,
)

GB = 1 << 30


def system(root: Path, files: dict[str, str]) -> Path:
    """A machine of which 20 GB are available, and `files`."""
    meminfo = f"MemFree: 1024 kB\nMemAvailable: {20 * GB // 1024} kB\n"
    for name, text in {"proc/meminfo": meminfo, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root


def test_what_is_kept_for_files_counts_as_free(tmp_path: Path) -> None:
    assert available_memory(system(tmp_path, {})) == 20 * GB


def test_a_container_has_what_its_group_leaves(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": f"{8 * GB}\n",
        "sys/fs/cgroup/memory.current": f"{5 * GB}\n",
        "sys/fs/cgroup/memory.stat": f"anon {2 * GB}\ninactive_file {3 * GB}\n",
    }
    assert available_memory(system(tmp_path, files)) == 6 * GB


def test_the_tightest_of_the_groups_around_a_process_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/user.slice/job.scope\n",
        "sys/fs/cgroup/user.slice/job.scope/memory.max": "max\n",
        "sys/fs/cgroup/user.slice/job.scope/memory.current": f"{GB}\n",
        "sys/fs/cgroup/user.slice/memory.max": f"{4 * GB}\n",
        "sys/fs/cgroup/user.slice/memory.current": f"{5 * GB}\n",
    }
    assert available_memory(system(tmp_path, files)) == 0


def test_groups_of_the_first_version_count_too(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/docker/0123\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{3 * GB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GB}\n",
    }
    assert available_memory(system(tmp_path, files)) == 2 * GB


def test_a_system_that_says_nothing_is_taken_to_have_some(tmp_path: Path) -> None:
    assert available_memory(tmp_path) >= GB // 4
    assert free_memory(torch.device("cpu")) > 0


def test_slots_are_what_the_memory_holds_and_no_more_than_are_asked_for() -> None:
    size = RowShape(layers=24, heads=16, head_size=96, capacity=2051 + 2 * 2044, itemsize=2).bytes
    assert slots_that_fit(10 * size, size, device="cuda") == 9
    assert slots_that_fit(10 * size, size, device="cuda", wanted=4) == 4
    assert slots_that_fit(10 * size, size, device="cuda", wanted=40) == 9
    assert slots_that_fit(0, size, device="cuda") == 1
    assert slots_that_fit(999 * size, size, device="cuda") == MOST_SLOTS["cuda"]
    assert slots_that_fit(999 * size, size, device="mps") == MOST_SLOTS["cpu"]


def test_a_lack_of_memory_is_told_from_other_errors() -> None:
    with pytest.raises(OutOfMemory, match="allocate"), memory_guarded():
        torch.empty(1 << 60)
    with pytest.raises(RuntimeError, match="shape"), memory_guarded():
        torch.zeros(2).view(3)


class Patches:
    padding = 0

    def __init__(self, count: int) -> None:
        self.pixels = torch.empty(count, 1)


@pytest.mark.parametrize(("patches", "together"), [(4096, 4), (3700, 4), (9, 8), (20_000, 1)])
def test_no_more_pages_are_encoded_at_once_than_their_patches_and_prefixes_allow(
    patches: int, together: int
) -> None:
    asked = [Request(number, Patches(patches), ()) for number in range(9)]
    groups = alike(asked, 2048)
    assert [request for group in groups for request in group] == asked
    assert max(map(len, groups)) == together == PATCHES_TOGETHER // max(patches, 2048) or 1
