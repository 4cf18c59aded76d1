from __future__ import annotations

import pytest

from kosmos_loader.document import PageInfo, Reading
from kosmos_loader.geometry import Box
from kosmos_loader.readers.outputs import Output, Written, reading_from

PAGE = PageInfo("file", "doc", 1, 9, 200, 300, 72.0)
OCR = "<bbox><x_16><y_32><x_48><y_64></bbox>Total\n"
LOOP = "| total | 0.00 |\n" * 60


def reading_of(outputs: dict[str, Output], *, size: tuple[int, int] = (64, 64)) -> Reading:
    return reading_from(PAGE, Written(outputs, size), reader="r", version="1")


def test_output_becomes_lines_markdown_flags_and_a_count() -> None:
    reading = reading_of(
        {
            "ocr": Output("Head\n" + OCR + "<bbox><x_1></bbox>x\n", ended=True),
            "md": Output("# Title\n\n\n\ntext", ended=True),
        }
    )
    assert (reading.page, reading.reader, reading.reader_version) == (PAGE, "r", "1")
    assert [line.text for line in reading.lines] == ["Head", "Total", "x"]
    assert reading.markdown == "# Title\n\ntext"
    assert (reading.rejected, reading.flags, reading.error) == (1, (), None)
    assert Reading.from_dict(reading.to_dict()) == reading


def test_a_task_that_was_not_asked_for_leaves_nothing() -> None:
    lines, text = Output(OCR, ended=True), Output("text", ended=True)
    ocr, md = reading_of({"ocr": lines}), reading_of({"md": text})
    assert ([line.text for line in ocr.lines], ocr.markdown) == (["Total"], None)
    assert (md.lines, md.markdown) == ((), "text")


@pytest.mark.parametrize(("width", "height"), [(96, 144), (160, 80), (48, 256)])
def test_boxes_are_counted_in_the_pixels_of_the_resized_page(width: int, height: int) -> None:
    (line,) = reading_of({"ocr": Output(OCR, ended=True)}, size=(width, height)).lines
    assert line.text == "Total"
    assert line.box == Box(16 / width, 32 / height, 48 / width, 64 / height).clipped()


@pytest.mark.parametrize(
    ("ocr", "md", "flags"),
    [
        (Output(OCR, ended=True), Output("text", ended=True), ()),
        (Output(OCR, ended=False), Output("text", ended=True), ("truncated",)),
        (Output(OCR, ended=True), Output("text", ended=False), ("truncated",)),
        (Output(OCR, ended=True), Output(LOOP, ended=True), ("repetition",)),
        (Output(OCR, ended=True), Output(LOOP, ended=False), ("truncated", "repetition")),
        (Output("", ended=True), Output(" \n", ended=True), ("blank",)),
    ],
)
def test_what_went_wrong_becomes_flags(ocr: Output, md: Output, flags: tuple[str, ...]) -> None:
    assert reading_of({"ocr": ocr, "md": md}).flags == flags


def test_a_loop_that_never_ends_is_cut_and_one_that_ends_is_kept() -> None:
    for ended, rows in [(False, 1), (True, 60)]:
        reading = reading_of({"md": Output("# Ledger\n" + LOOP, ended=ended)})
        assert reading.markdown == "# Ledger\n" + "\n".join(["| total | 0.00 |"] * rows)


def test_a_loop_reads_the_same_wherever_it_was_stopped() -> None:
    """An engine may stop a loop as soon as it is seen."""
    ends = [LOOP[:-1], LOOP, LOOP + "| tot", LOOP * 2]
    assert len({reading_of({"md": Output("# Ledger\n" + end, ended=False)}) for end in ends}) == 1
