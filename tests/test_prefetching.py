"""open_pages_in_processes against open_pages, and what becomes of its processes and its memory."""

from __future__ import annotations

import dataclasses
import io
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pypdf
import pytest
from PIL import Image

from kosmos_loader.document import Page
from kosmos_loader.errors import CorruptFile, EncryptedFile, SourceNotFound, UsageError
from kosmos_loader.pages import open_pages
from kosmos_loader.prefetching import open_pages_in_processes

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def pdf(pages: int, *, drawing: str = "", password: str = "") -> bytes:
    """A PDF whose pages hold their number as text, after `drawing`."""
    writer = pypdf.PdfWriter()
    font = writer._add_object(
        pypdf.generic.DictionaryObject(
            {
                pypdf.generic.NameObject("/Type"): pypdf.generic.NameObject("/Font"),
                pypdf.generic.NameObject("/Subtype"): pypdf.generic.NameObject("/Type1"),
                pypdf.generic.NameObject("/BaseFont"): pypdf.generic.NameObject("/Helvetica"),
            }
        )
    )
    for number in range(1, pages + 1):
        page = writer.add_blank_page(120 + number, 80)
        content = pypdf.generic.DecodedStreamObject()
        content.set_data(f"{drawing} BT /F 12 Tf 9 50 Td (Page {number}) Tj ET".encode())
        fonts = pypdf.generic.DictionaryObject({pypdf.generic.NameObject("/F"): font})
        page[pypdf.generic.NameObject("/Resources")] = pypdf.generic.DictionaryObject(
            {pypdf.generic.NameObject("/Font"): fonts}
        )
        page[pypdf.generic.NameObject("/Contents")] = writer._add_object(content)
    writer.add_metadata({"/Title": "Numbers"})
    if password:
        writer.encrypt(password, algorithm="AES-256")
    stream = io.BytesIO()
    writer.write(stream)
    return stream.getvalue()


def picture(seed: int, width: int = 30) -> Image.Image:
    shape = (20, width, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def tiff(frames: int) -> bytes:
    stream = io.BytesIO()
    first, *others = [picture(seed, 10 + seed % 7) for seed in range(frames)]
    first.save(stream, "TIFF", save_all=True, append_images=others)
    return stream.getvalue()


def told(page: Page) -> tuple[object, ...]:
    """All that a page says, comparable."""
    rest = {f.name: getattr(page, f.name) for f in dataclasses.fields(page) if f.name != "pixels"}
    return rest, page.pixels.shape, page.pixels.tobytes(), page.pixels.flags.writeable


def shared_memory() -> int:
    """Blocks that this process has mapped, and those that it has descriptors of only."""
    mapped = Path("/proc/self/maps").read_text("utf-8").count("memfd:kosmos-loader")
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return max(mapped, sum("memfd:kosmos-loader" in str(link) for link in links))


@pytest.fixture
def mixture(tmp_path: Path) -> list[object]:
    """Sources of every kind, good and bad."""
    (tmp_path / "six.pdf").write_bytes(pdf(6))
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7\n" + pdf(3)[2000:])
    damaged = bytearray(tiff(4))
    damaged[8:400] = bytes(392)
    (tmp_path / "damaged.tif").write_bytes(damaged)
    (tmp_path / "note.txt").write_text("no page", "utf-8")
    for number in range(5):
        picture(number).save(tmp_path / f"{number}.png")
    named = io.BytesIO(pdf(2))
    named.name = "a stream.pdf"
    return [
        tmp_path / "six.pdf",
        tmp_path / "broken.pdf",
        tmp_path / "missing.pdf",
        tmp_path,
        tiff(3),
        named,
        tmp_path / "note.txt",
        pdf(1, password="secret"),
        pdf(5),
    ]


@pytest.mark.slow
def test_pages_are_those_of_open_pages_in_the_same_order_and_fail_in_the_same_places(
    mixture: list[object],
) -> None:
    expected = [told(page) for page in open_pages(mixture)]
    mixture[5].seek(0)
    assert [told(page) for page in open_pages_in_processes(mixture, ahead=5)] == expected
    failures = {page["error"].type for page, *_ in expected if page["error"]}
    assert failures >= {"corrupt", "not_found", "unsupported", "encrypted"}
    assert any(page["text_layer"] for page, *_ in expected)


@pytest.mark.slow
def test_pages_are_picked_and_passwords_tried_as_open_pages_does(mixture: list[object]) -> None:
    options = {"pages": "2,4-", "password": "secret", "max_pixels": 3000}
    expected = [told(page) for page in open_pages(mixture, **options)]
    mixture[5].seek(0)
    found = open_pages_in_processes(mixture, **options, ahead=1)
    assert [told(page) for page in found] == expected
    assert "usage" in {page["error"].type for page, *_ in expected if page["error"]}


@linux
@pytest.mark.slow
def test_memory_goes_with_the_arrays_and_many_kept_pages_do_not_take_all_descriptors(
    tmp_path: Path,
) -> None:
    path = tmp_path / "many.tif"
    path.write_bytes(tiff(150))
    kept = list(open_pages_in_processes(path, workers=1))
    assert [told(page) for page in kept] == [told(page) for page in open_pages(path)]
    assert 100 < shared_memory() < 150
    corner = kept[0].pixels[2:4, 2:4]
    before = corner.copy()
    del kept
    assert shared_memory() == 1
    assert (corner == before).all()
    del corner
    assert shared_memory() == 0


@linux
@pytest.mark.slow
def test_an_iterator_closed_early_ends_its_processes_and_frees_what_was_ahead() -> None:
    taken: list[int] = []

    def sources() -> Iterator[bytes]:
        for number in range(40):
            taken.append(number)
            yield tiff(1)

    pages = open_pages_in_processes(sources(), ahead=6)
    assert not taken
    assert not multiprocessing.active_children()
    first = next(pages)
    workers = multiprocessing.active_children()
    assert 1 <= len(workers) <= 2
    for worker in workers:
        loaded = Path(f"/proc/{worker.pid}/maps").read_text("utf-8")
        assert "libtorch" not in loaded
    assert len(taken) <= 1 + 6
    pages.close()
    assert not multiprocessing.active_children()
    assert shared_memory() == 1
    del first
    assert shared_memory() == 0


@linux
@pytest.mark.slow
def test_a_worker_killed_at_a_page_costs_that_page_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "slow.pdf"
    path.write_bytes(pdf(6, drawing="0 0 m 200 50 -100 50 120 80 c S\n" * 5_000))
    pages = open_pages_in_processes([path, tiff(1)], workers=1, ahead=4)
    first = next(pages)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    found = [first, *pages]
    assert [page.number for page in found] == [1, 2, 3, 4, 5, 6, 1]
    (place,) = [place for place, page in enumerate(found) if page.error]
    lost = found.pop(place)
    assert (lost.number, lost.count, lost.error.type) == (place + 1, 6, "source")
    assert f"page {place + 1} of {path} ended before it was done (signal 9)" in lost.error.message
    expected = [told(page) for page in open_pages([path, tiff(1)])]
    del expected[place]
    assert [told(page) for page in found] == expected


@linux
@pytest.mark.slow
def test_a_worker_that_dies_opening_a_file_costs_that_file_and_no_other(tmp_path: Path) -> None:
    for number in range(3):
        picture(number).save(tmp_path / f"{number}.png")

    def sources() -> Iterator[Path]:
        yield tmp_path / "0.png"
        # with one page ahead, the next file is asked for when the worker has nothing to do
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGSTOP)
        yield tmp_path / "1.png"
        yield tmp_path / "2.png"

    pages = open_pages_in_processes(sources(), workers=1, ahead=1)
    found = [next(pages)]
    (worker,) = multiprocessing.active_children()
    worker.kill()
    found += pages
    assert [page.number for page in found] == [1, 0, 1]
    assert "1.png" in found[1].error.message
    assert told(found[2]) == told(next(open_pages(tmp_path / "2.png")))


@pytest.mark.slow
def test_a_single_file_that_cannot_be_opened_raises_at_the_first_page(tmp_path: Path) -> None:
    with pytest.raises(EncryptedFile, match="give its password"):
        next(open_pages_in_processes(pdf(2, password="secret")))
    with pytest.raises(UsageError, match="has 2 pages, none of those"):
        next(open_pages_in_processes(pdf(2), pages=3))
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7 and no more")
    with pytest.raises(CorruptFile):
        next(open_pages_in_processes(tmp_path / "a.pdf"))
    assert not multiprocessing.active_children()


@linux
@pytest.mark.slow
def test_where_no_memory_can_be_shared_pixels_come_all_the_same() -> None:
    pages = open_pages_in_processes(tiff(3), workers=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # what a process may write is handed down to those it starts
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
        first = next(pages)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    found = [first, *pages]
    assert shared_memory() == 0
    assert [told(page) for page in found] == [told(page) for page in open_pages(tiff(3))]


def run_script(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(script), "utf-8")
    return subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False
    )


@linux
@pytest.mark.slow
def test_a_program_that_ends_amid_the_pages_leaves_nothing_behind(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "1.png")
    done = run_script(
        tmp_path,
        f"""
        import multiprocessing
        from kosmos_loader.prefetching import open_pages_in_processes
        if __name__ == "__main__":
            pages = open_pages_in_processes([{str(tmp_path / "1.png")!r}] * 9, workers=1)
            page = next(pages)
            print(*[worker.pid for worker in multiprocessing.active_children()])
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for _ in range(100):
        if not Path(f"/proc/{done.stdout.strip()}").exists():
            break
        time.sleep(0.05)
    assert not Path(f"/proc/{int(done.stdout)}").exists()


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "1.png")
    done = run_script(
        tmp_path,
        f"""
        from kosmos_loader.prefetching import open_pages_in_processes
        print(next(open_pages_in_processes({str(tmp_path / "1.png")!r})).number)
        """,
    )
    assert done.returncode == 1
    assert "UsageError: a process that should draw pages ended as it started" in done.stderr


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"ahead": 0}, {"max_pixels": 0}, {"pages": "0"}, {"pages": "x"}]
)
def test_arguments_that_cannot_be_meant_are_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        open_pages_in_processes(b"", **options)


def test_a_path_that_is_not_there_and_what_is_no_source_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound):
        open_pages_in_processes(tmp_path / "missing.pdf")
    with pytest.raises(UsageError, match="is no source"):
        open_pages_in_processes(3)
