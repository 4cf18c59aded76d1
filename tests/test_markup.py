from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos_loader.document import Line
from kosmos_loader.errors import UsageError
from kosmos_loader.geometry import Box
from kosmos_loader.markup import find_repetition, format_ocr, parse_markdown, parse_ocr

RECEIPT = (
    "<bbox><x_53><y_573><x_69><y_606></bbox>1\n"
    "<bbox><x_79><y_573><x_464><y_612></bbox>[REG] BLACK SAKURA\n"
    "<bbox><x_690><y_569><x_810><y_606></bbox>45,455\n"
    "<bbox><x_17><y_1056><x_836><y_1108></bbox>Card Payment 50,000\n"
)
SIZE = {"width": 848, "height": 1216}


def texts(output: str) -> list[str]:
    return [line.text for line in parse_ocr(output, **SIZE).lines]


def flags(output: str) -> list[tuple[str, ...]]:
    return [line.flags for line in parse_ocr(output, **SIZE).lines]


def test_lines_come_with_boxes_in_fractions_of_the_resized_page() -> None:
    parsed = parse_ocr(RECEIPT, **SIZE)
    assert [line.text for line in parsed.lines] == [
        "1",
        "[REG] BLACK SAKURA",
        "45,455",
        "Card Payment 50,000",
    ]
    assert parsed.lines[1].box == Box(79 / 848, 573 / 1216, 464 / 848, 612 / 1216)
    assert (parsed.rejected, parsed.truncated) == (0, False)
    assert not any(line.flags for line in parsed.lines)


@pytest.mark.parametrize(
    "output",
    [
        RECEIPT.replace("><", "> <").replace("</bbox>", "</bbox> "),
        RECEIPT.replace("\n", "\r\n"),
        RECEIPT.replace("\n", " "),
        RECEIPT.strip(),
        "<ocr>" + RECEIPT,
        "<s><image><s><s><s></image><ocr>" + RECEIPT + "</s><pad><pad>",
        "<s> <image> <s> <s> </image> <ocr> " + RECEIPT + " </s>",
        "\n\n" + RECEIPT + "</s>",
    ],
    ids=["spaces", "crlf", "no newlines", "stripped", "prompt", "all", "all spaced", "end"],
)
def test_every_way_of_decoding_gives_the_same_lines(output: str) -> None:
    assert parse_ocr(output, **SIZE) == parse_ocr(RECEIPT, **SIZE)


def test_text_before_the_first_box_is_kept_without_a_place() -> None:
    parsed = parse_ocr("<ocr>ACME Ltd\nInvoice\n" + RECEIPT, **SIZE)
    assert [line.text for line in parsed.lines[:3]] == ["ACME Ltd", "Invoice", "1"]
    assert all(line.flags == ("degenerate",) for line in parsed.lines[:2])
    assert parsed.lines[0].box == Box(0, 0, 0, 0)
    assert parsed.lines[2:] == parse_ocr(RECEIPT, **SIZE).lines


def test_an_output_without_any_box_keeps_its_text() -> None:
    assert texts("Only text\n\nand more") == ["Only text", "and more"]
    assert parse_ocr("", **SIZE).lines == ()


def test_boxes_are_clipped_to_the_page() -> None:
    (line,) = parse_ocr("<bbox><x_800><y_0><x_4095><y_20></bbox>edge", **SIZE).lines
    assert line.box == Box(800 / 848, 0, 1, 20 / 1216)
    assert line.flags == ()


@pytest.mark.parametrize(
    ("box", "sides"),
    [
        ("<x_60><y_20><x_10><y_40>", (10, 20, 60, 40)),
        ("<x_10><y_40><x_60><y_20>", (10, 20, 60, 40)),
        ("<x_10><y_20><x_10><y_40>", (10, 20, 10, 40)),
        ("<x_900><y_20><x_950><y_40>", (848, 20, 848, 40)),
    ],
    ids=["right to left", "bottom up", "no width", "beside the page"],
)
def test_a_degenerate_box_is_kept_as_a_flagged_line(box: str, sides: tuple[float, ...]) -> None:
    (line,) = parse_ocr(f"<bbox>{box}</bbox>text", **SIZE).lines
    assert line.text == "text"
    assert line.flags == ("degenerate",)
    assert line.box.scaled(848, 1216) == pytest.approx(sides)


@pytest.mark.parametrize(
    "malformed",
    [
        "<bbox><x_1><y_2><x_3></bbox>",
        "<bbox></bbox>",
        "<bbox><y_1><x_2><y_3><x_4></bbox>",
        "<bbox><x_1><y_2><x_3><y_4><x_5></bbox>",
        "<bbox><x_1><y_2><x_3><y_4>",
        "<x_1><y_2><x_3><y_4></bbox>",
        "</bbox>",
    ],
)
def test_a_malformed_box_is_counted_and_its_text_kept_where_it_came(malformed: str) -> None:
    good = "<bbox><x_1><y_2><x_30><y_4></bbox>good\n"
    parsed = parse_ocr(f"{good}{malformed}lost\n{good}", **SIZE)
    assert [line.text for line in parsed.lines] == ["good", "lost", "good"]
    assert [line.flags for line in parsed.lines] == [(), ("degenerate",), ()]
    assert parsed.lines[1].box.area == 0
    assert parsed.lines[1].box.y0 == parsed.lines[0].box.y1
    assert parsed.rejected == 1


def test_a_box_without_text_is_counted() -> None:
    parsed = parse_ocr("<bbox><x_1><y_2><x_3><y_4></bbox>\n" + RECEIPT, **SIZE)
    assert parsed.rejected == 1
    assert parsed.lines == parse_ocr(RECEIPT, **SIZE).lines


@pytest.mark.parametrize(
    "text",
    [
        "<b>bold</b> & <p class='x'>",
        "if a < b and c > d",
        "-> <-",
        "<x> <y> <bb> bbox",
        "List<Map<K,V>>",
        "<s>struck</s> out",
        "<x_> <y_a>",
        "ends in <",
    ],
)
def test_angle_brackets_in_the_text_of_a_page_stay(text: str) -> None:
    box = "<bbox><x_1><y_2><x_3><y_4></bbox>"
    assert texts(f"{box}{text}\n{box}next\n</s>") == [text, "next"]
    assert texts(f"{box}next\n{box}{text}") == ["next", text]


def test_a_size_that_no_page_has_is_refused() -> None:
    with pytest.raises(UsageError):
        parse_ocr(RECEIPT, width=0, height=1216)


@pytest.mark.parametrize("spaced", [False, True])
def test_an_output_cut_off_anywhere_keeps_the_lines_that_were_complete(spaced: bool) -> None:
    output = "ACME\n" + RECEIPT + "<bbox><x_1><y_2><x_3></bbox>lost\n" + RECEIPT + "</s>"
    if spaced:
        output = output.replace("><", "> <")
    whole = parse_ocr(output, **SIZE).lines
    for end in range(len(output)):
        parsed = parse_ocr(output[:end], **SIZE)
        lines = parsed.lines
        complete = len(lines) if output[:end].endswith("\n") else len(lines) - 1
        assert lines[: max(0, complete)] == whole[: max(0, complete)]
        if len(lines) > complete >= 0:
            assert lines[-1].box == whole[complete].box
            assert whole[complete].text.startswith(lines[-1].text)


def test_an_output_that_stops_inside_a_box_says_so() -> None:
    start = RECEIPT.index("<bbox>", 1)
    for end in range(start + 1, RECEIPT.index("</bbox>", start) + len("</bbox>")):
        parsed = parse_ocr(RECEIPT[:end], **SIZE)
        assert parsed.truncated
        assert [line.text for line in parsed.lines] == ["1"]
        assert parsed.rejected == 0
    assert not parse_ocr(RECEIPT[:start], **SIZE).truncated


tags = ["<bbox>", "</bbox>", "<x_3>", "<y_40>", "<x_99999999999>", "<s>", "</s>", "<ocr>", "<bb"]
marks = ["<bbox><x_1><y_2><x_3><y_4></bbox>", "<", "\n", " ", "a", "é", "|", "```", "<br>", "    "]
pieces = st.sampled_from(tags + marks)
outputs = st.lists(st.one_of(pieces, st.text(max_size=3)), max_size=30).map("".join)


@given(outputs)
def test_no_output_makes_the_parsers_raise(output: str) -> None:
    parsed = parse_ocr(output, width=64, height=64)
    assert all(line.text == line.text.strip() != "" for line in parsed.lines)
    assert "\n" not in "".join(line.text for line in parsed.lines)
    cleaned = parse_markdown(output)
    assert cleaned == cleaned.rstrip()
    find_repetition(output)


sides = st.floats(0, 1)
words = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=20)
boxes = st.tuples(sides, sides, sides, sides).map(
    lambda s: Box(min(s[0], s[2]), min(s[1], s[3]), max(s[0], s[2]), max(s[1], s[3]))
)


@given(st.lists(st.tuples(words, boxes), max_size=8), st.integers(16, 4096), st.integers(16, 4096))
def test_formatted_lines_come_back_within_one_pixel(
    written: list[tuple[str, Box]], width: int, height: int
) -> None:
    lines = [Line(text, box) for text, box in written]
    parsed = parse_ocr(format_ocr(lines, width=width, height=height), width=width, height=height)
    assert parsed.rejected == 0
    assert [line.text for line in parsed.lines] == [line.text for line in lines]
    for back, line in zip(parsed.lines, lines, strict=True):
        there = back.box.scaled(width, height)
        assert there == pytest.approx(line.box.scaled(width, height), abs=1 + 1e-6)


@given(st.lists(st.tuples(words, boxes), min_size=1, max_size=5), st.data())
def test_lines_before_a_cut_are_those_of_the_whole_output(
    written: list[tuple[str, Box]], data: st.DataObject
) -> None:
    output = format_ocr([Line(text, box) for text, box in written], **SIZE)
    end = data.draw(st.integers(0, len(output)))
    cut, whole = parse_ocr(output[:end], **SIZE).lines, parse_ocr(output, **SIZE).lines
    complete = output[:end].count("\n")
    assert cut[:complete] == whole[:complete]
    assert len(cut) <= complete + 1


def test_what_was_parsed_is_formatted_as_it_was_written() -> None:
    assert format_ocr(parse_ocr(RECEIPT, **SIZE).lines, **SIZE) == RECEIPT


@pytest.mark.parametrize(
    ("written", "cleaned"),
    [
        ("<md># Title\n\nText</s>", "# Title\n\nText"),
        ("<s><image><s></image><md># Title\n</s><pad><pad>", "# Title"),
        ("one</s>two", "one"),
        ("<s>old price</s> new price</s><pad>", "<s>old price</s> new price"),
        ("a\n\n\n\n\nb", "a\n\nb"),
        ("a\r\n\r\n\r\nb", "a\n\nb"),
        ("a  \nb\t\n \n \nc", "a\nb\n\nc"),
        ("\n\n  \na\n\n", "a"),
        ("one<br>two<br/>three<BR />four", "one\ntwo\nthree\nfour"),
        ("one<br><br><br>two", "one\n\ntwo"),
        ("- a\n    - b<br>c\n        - d", "- a\n    - b\n    c\n        - d"),
        ("| a<br>b | c |\n|---|---|\n| d | e |", "| a<br>b | c |\n|---|---|\n| d | e |"),
        ("- a\n  - b\n\n    deep\n      - c", "- a\n  - b\n\n    deep\n      - c"),
        (
            "    first line is code\n\n\n    so is this",
            "    first line is code\n\n\n    so is this",
        ),
        ("<md>\n    code", "    code"),
        ("```py\na = 1  \n\n\n\n    b<br>\n```\nend", "```py\na = 1  \n\n\n\n    b<br>\n```\nend"),
        ("~~~\n```\n\n\n\n~~~\n\n\n\nend", "~~~\n```\n\n\n\n~~~\n\nend"),
        ("```\nnever closed\n\n\n\nx", "```\nnever closed\n\n\n\nx"),
        ("a ```b``` c\n\n\n\nd", "a ```b``` c\n\nd"),
        ("```b```\n\n\n\nd", "```b```\n\nd"),
        ("", ""),
        ("\\[REG\\] e<sup>2</sup>", "\\[REG\\] e<sup>2</sup>"),
    ],
)
def test_markdown_is_cleaned(written: str, cleaned: str) -> None:
    assert parse_markdown(written) == cleaned


@given(st.lists(st.sampled_from([*marks, "- ", "~~~", "``", "\t"]), max_size=30).map("".join))
def test_cleaning_markdown_twice_changes_nothing_more(output: str) -> None:
    once = parse_markdown(output)
    assert parse_markdown(once) == once


LEDGER = "| Date | Text | Amount |\n|---|---|---|\n"


@pytest.mark.parametrize(
    "output",
    [
        "",
        "a",
        "Contents\n\nPreface " + "." * 240 + " 7",
        "Sign here " + "_" * 250,
        LEDGER + "| 0 | 0 | 0 |\n" * 40,
        "Coffee 2.50\n" * 15,
        "|" + "-" * 60 + "|" + "-" * 60 + "|\n",
        "".join(f"<bbox><x_5><y_{20 * i}><x_60><y_{20 * i + 15}></bbox>0.00\n" for i in range(60)),
        "<bbox><x_1><y_2><x_800><y_4></bbox>" + ". " * 120,
        RECEIPT * 3,
    ],
    ids=[
        "empty", "letter", "leaders", "rule", "same rows", "same article", "table rule",
        "column of zeros", "leaders in a line", "three times",
    ],
)  # fmt: skip
def test_what_repeats_on_real_pages_is_no_loop(output: str) -> None:
    assert find_repetition(output) is None


@pytest.mark.parametrize(
    ("head", "passage", "times"),
    [
        ("# Title\n\n", "The end is near. ", 60),
        ("Text ", "a", 900),
        (RECEIPT, "<bbox><x_50><y_658><x_69><y_693></bbox>1\n", 5),
        ("", RECEIPT, 5),
        ("One\n", "| total | 0.00 |\n", 60),
        ("One\n", "A sentence of some length that comes again. " * 3 + "\n", 12),
    ],
)
def test_a_loop_is_cut_behind_its_first_copies(head: str, passage: str, times: int) -> None:
    for cut in range(min(3, len(passage))):
        output = head + passage * times
        kept = find_repetition(output[: len(output) - cut] + "\ufffd")
        assert kept is not None
        assert len(head + passage) <= kept <= len(head + passage * 2)
        assert output.startswith(output[:kept])


def test_a_loop_of_lines_is_cut_at_the_end_of_a_line() -> None:
    head = "<bbox><x_1><y_1><x_9><y_9></bbox>Coffee\n"
    output = head + "<bbox><x_5><y_658><x_69><y_693></bbox>Toffee\n" * 20
    assert output[: find_repetition(output)].endswith("Toffee\n")


def test_loops_of_token_ids_are_found_by_counts_alone() -> None:
    output = list(range(100)) + [7, 8, 9] * 50
    assert find_repetition(output, covered=120) == 103
    assert find_repetition(output, covered=200) is None
    assert find_repetition(list(range(3000))) is None
