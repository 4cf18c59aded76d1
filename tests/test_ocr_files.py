"""hOCR, ALTO and PAGE XML: as other programs write them, as we do, and not to be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kosmos_loader.document import Failure, Line, PageInfo, Reading
from kosmos_loader.errors import CorruptFile, FileTooLarge
from kosmos_loader.geometry import Box, Quad, rotated
from kosmos_loader.ocr_files import (
    FoundPage,
    alto,
    beside,
    found_beside,
    hocr,
    ocr_files_of,
    page_xml,
    placed,
    read_ocr_file,
)
from kosmos_loader.ocr_files.bidi import visual_order
from kosmos_loader.ocr_files.turning import orientation_for
from kosmos_loader.ocr_files.writing import allowed, words

WIDTH, HEIGHT = 1000, 1400


def info(number: int = 1, count: int = 1, *, source: str = "/scans/a.png") -> PageInfo:
    return PageInfo(source, "doc", number, count, WIDTH, HEIGHT, 150.0, digest="d")


def reading(*lines: Line, page: PageInfo | None = None) -> Reading:
    return Reading(page or info(), "scripted", "1", lines)


def as_hocr(one: Reading) -> str:
    return "".join(hocr([one]))


WRITERS: dict[str, Callable[[Reading], str]] = {
    "a.hocr": as_hocr,
    "a.alto.xml": alto,
    "a.page.xml": page_xml,
}
FORMATS = pytest.mark.parametrize("name", WRITERS)


def read_back(name: str, text: str) -> tuple[Line, ...]:
    [page] = read_ocr_file(text.encode(), name)
    return placed(page, info())


def pixels(box: Box) -> tuple[float, float, float, float]:
    return box.scaled(WIDTH, HEIGHT)


def lines_of(content: str, name: str = "a.xml") -> tuple[FoundPage, tuple[Line, ...]]:
    [page] = read_ocr_file(content.encode(), name)
    return page, placed(page, info())


# Round trips

TEXTS = st.text(st.characters(exclude_categories=()), max_size=40)
"""Any characters, control characters and halves of surrogate pairs among them."""


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x = sorted(draw(st.lists(st.floats(0, 1), min_size=2, max_size=2)))
    y = sorted(draw(st.lists(st.floats(0, 1), min_size=2, max_size=2)))
    return Box(x[0], y[0], x[1], y[1])


@st.composite
def quads(draw: st.DrawFn) -> Quad:
    """Corners of a line of more than a few pixels that is slanted and inside the page."""
    length, height = draw(st.floats(60, 300)), draw(st.floats(10, 40))
    degrees = draw(st.one_of(st.floats(2, 178), st.floats(-178, -2)))
    x, y = draw(st.floats(320, WIDTH - 320)), draw(st.floats(320, HEIGHT - 320))
    level = [(x, y), (x + length, y), (x + length, y + height), (x, y + height)]
    turned = rotated(level, degrees, about=(x + length / 2, y + height / 2))
    a, b, c, d = ((px / WIDTH, py / HEIGHT) for px, py in turned)
    return a, b, c, d


@st.composite
def lines(draw: st.DrawFn) -> Line:
    text = draw(TEXTS)
    confidence = draw(st.none() | st.floats(0, 1))
    if draw(st.booleans()):
        quad = draw(quads())
        return Line(text, Box.around(quad), confidence, quad)
    return Line(text, draw(boxes()), confidence)


@FORMATS
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(written=st.lists(lines(), max_size=8))
def test_what_is_written_is_read_back(name: str, written: list[Line]) -> None:
    expected = [line for line in written if allowed(line.text)]
    found = read_back(name, WRITERS[name](reading(*written)))
    assert [line.text for line in found] == [allowed(line.text) for line in expected]
    for before, after in zip(expected, found, strict=True):
        sides = zip(pixels(before.box), pixels(after.box), strict=True)
        assert max(abs(a - b) for a, b in sides) <= 0.5 + 1e-6
        if before.confidence is None:
            assert after.confidence is None
        else:
            rounding = 0.005 if name == "a.hocr" else 0.0001
            assert after.confidence == pytest.approx(before.confidence, abs=rounding + 1e-9)
        assert (after.quad is None) == (before.quad is None)
        for corner, again in zip(before.quad or (), after.quad or (), strict=True):
            assert corner[0] * WIDTH == pytest.approx(again[0] * WIDTH, abs=0.5 + 1e-6)
            assert corner[1] * HEIGHT == pytest.approx(again[1] * HEIGHT, abs=0.5 + 1e-6)


def test_control_characters_and_halves_of_pairs_go_and_all_else_stays() -> None:
    assert allowed("a\0b\x1bc\ud800d\uffffe") == "abcde"
    assert allowed("  a \t\r\n b  ") == "a b"
    assert (
        allowed("a\u00a0b\u3000c\u0085d\u200f\U0010fffd")
        == "a\u00a0b\u3000c\u0085d\u200f\U0010fffd"
    )


@FORMATS
def test_a_page_without_lines_is_one_again(name: str) -> None:
    assert read_back(name, WRITERS[name](reading())) == ()


def test_several_pages_of_hocr_come_back_and_a_failed_one_is_left_out() -> None:
    line = Line("text", Box(0.1, 0.1, 0.2, 0.2))
    pages = [info(number, 3) for number in (1, 2, 3)]
    failed = Reading.failed(pages[1], "scripted", "1", Failure("reading", "no"))
    text = "".join(hocr([reading(line, page=pages[0]), failed, reading(line, page=pages[2])]))
    assert [page.number for page in read_ocr_file(text.encode(), "a.hocr")] == [1, 3]
    assert list(hocr([failed])) == []


# What other programs expect

ALTO4 = "{http://www.loc.gov/standards/alto/ns-v4#}"
PAGE2019 = "{http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15}"
XHTML = "{http://www.w3.org/1999/xhtml}"

SAMPLE = reading(
    Line("Report on the exam-", Box(0.1, 0.2, 0.5, 0.22), 0.9),
    Line('ples & "others" <a>', Box(0.1, 0.23, 0.5, 0.25), 0.8),
)


def test_alto_has_the_elements_and_attributes_that_its_schema_requires() -> None:
    root = ET.fromstring(alto(SAMPLE))  # noqa: S314  our own
    assert root.tag == f"{ALTO4}alto"
    assert [child.tag.removeprefix(ALTO4) for child in root] == ["Description", "Layout"]
    assert root.findtext(f".//{ALTO4}MeasurementUnit") == "pixel"
    [page] = root.iter(f"{ALTO4}Page")
    assert {"ID", "PHYSICAL_IMG_NR", "WIDTH", "HEIGHT"} <= set(page.attrib)
    for name in ("TextBlock", "TextLine", "String"):
        for element in root.iter(f"{ALTO4}{name}"):
            assert {"ID", "HPOS", "VPOS", "WIDTH", "HEIGHT"} <= set(element.attrib)
    ids = [element.get("ID") for element in root.iter() if element.get("ID")]
    assert len(ids) == len(set(ids))


def test_alto_names_a_broken_word_whole_at_both_halves() -> None:
    root = ET.fromstring(alto(SAMPLE))  # noqa: S314  our own
    halves = [s.attrib for s in root.iter(f"{ALTO4}String") if "SUBS_TYPE" in s.attrib]
    assert [(h["SUBS_TYPE"], h["CONTENT"], h["SUBS_CONTENT"]) for h in halves] == [
        ("HypPart1", "exam", "examples"),
        ("HypPart2", "ples", "examples"),
    ]
    assert [h.get("CONTENT") for h in root.iter(f"{ALTO4}HYP")] == ["-"]


def test_page_xml_has_the_elements_that_its_schema_requires_in_their_order() -> None:
    root = ET.fromstring(page_xml(SAMPLE))  # noqa: S314  our own
    assert root.tag == f"{PAGE2019}PcGts"
    metadata, page = root
    assert [e.tag.removeprefix(PAGE2019) for e in metadata] == ["Creator", "Created", "LastChange"]
    assert {"imageFilename", "imageWidth", "imageHeight"} <= set(page.attrib)
    order, *regions = page
    refs = [ref.get("regionRef") for ref in order.iter(f"{PAGE2019}RegionRefIndexed")]
    assert refs == [region.get("id") for region in regions]
    for line in root.iter(f"{PAGE2019}TextLine"):
        names = [child.tag.removeprefix(PAGE2019) for child in line]
        assert names == ["Coords", "Baseline", *["Word"] * (len(names) - 3), "TextEquiv"]
    for outline in root.iter(f"{PAGE2019}Coords"):
        pairs = [pair.split(",") for pair in outline.attrib["points"].split()]
        assert len(pairs) >= 3
        assert all(part.isdecimal() for pair in pairs for part in pair)


def test_hocr_has_pages_areas_paragraphs_lines_and_words_with_whole_boxes() -> None:
    root = ET.fromstring(as_hocr(SAMPLE))  # noqa: S314  our own
    metas = {m.get("name"): m.get("content") for m in root.iter(f"{XHTML}meta")}
    assert metas["ocr-system"].startswith("kosmos-loader ")
    used = {e.get("class") for e in root.iter() if e.get("class")}
    assert used == set(metas["ocr-capabilities"].split())
    for element in root.iter():
        if element.get("class"):
            box = element.attrib["title"].partition("bbox ")[2].partition(";")[0].split()
            assert len(box) == 4
            assert all(side.isdecimal() for side in box)


def test_words_share_a_line_by_how_wide_their_letters_usually_are() -> None:
    narrow, wide = words("illi MWMW")
    assert narrow.end - narrow.start < (wide.end - wide.start) / 2
    assert narrow.start == 0.0
    assert wide.end == pytest.approx(1.0)
    assert narrow.end < wide.start


# What other programs write

TESSERACT = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
    "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head><meta name='ocr-system' content='tesseract 5.3.0' /></head>
 <body>
  <div class='ocr_page' id='page_1' title='image "a;b.png"; bbox 0 0 2000 2800; ppageno 0'>
   <div class='ocr_carea' title="bbox 200 200 1000 400"><p class='ocr_par'>
    <span class='ocr_line' title="bbox 200 200 1000 260; baseline 0.05 -12; x_size 40">
     <span class='ocrx_word' title='bbox 200 200 500 260; x_wconf 96'
       ><strong>Caf&eacute;</strong></span>
     <span class='ocrx_word' title='bbox 520 200 1000 260; x_wconf 80'>
       <span class='ocrx_cinfo' title='x_bboxes 520 200 600 260'>n</span>
       <span class='ocrx_cinfo' title='x_bboxes 600 200 700 260'>o</span></span>
     <span class='ocrx_word' title='bbox 0 0 0 0; x_wconf 0'> </span>
    </span>
    <span class='ocr_header' title="bbox 200 300 1000 400">Bare text &amp; more</span>
    </p></div>
  </div>
 </body>
</html>
"""


def test_hocr_of_tesseract_is_read_in_fractions_of_its_own_page() -> None:
    page, found = lines_of(TESSERACT)
    assert [line.text for line in found] == ["Café no", "Bare text & more"]
    assert found[0].box == Box(0.1, 200 / 2800, 0.5, 260 / 2800)
    assert found[0].confidence == pytest.approx((4 * 0.96 + 2 * 0.8) / 6, abs=1e-4)
    assert found[1].confidence is None
    assert (page.software, page.number) == ("tesseract 5.3.0", 1)


def test_a_sloping_baseline_gives_the_line_four_corners_within_its_box() -> None:
    _, found = lines_of(TESSERACT)
    quad = found[0].quad
    assert quad is not None
    (ax, ay), (bx, by) = ((x * WIDTH, y * HEIGHT) for x, y in quad[:2])
    assert math.degrees(math.atan2(by - ay, bx - ax)) == pytest.approx(
        math.degrees(math.atan(0.05))
    )
    assert Box.around(quad).rounded() == found[0].box.rounded()


def test_hocr_that_is_no_xml_is_read_as_html() -> None:
    soup = (
        "<html><head><meta charset=latin-1><br></head><body>"
        "<div class=ocr_page title='bbox 0 0 100 100'>"
        "<p class=ocr_par title='bbox 10 10 50 20'>Fl\xe4che &nbsp; <br>zwei"
    ).encode("latin-1")
    [page] = read_ocr_file(soup, "a.html")
    [line] = placed(page, info())
    assert (line.text, line.box) == ("Fläche \u00a0 zwei", Box(0.1, 0.1, 0.5, 0.2))


ALTO2 = """<?xml version="1.0" encoding="ISO-8859-1"?>
<alto{namespace}><Description><MeasurementUnit>{unit}</MeasurementUnit></Description>
<Layout><Page {size} PC="0.5">
<BottomMargin><TextBlock><TextLine HPOS="100" VPOS="1300" WIDTH="10" HEIGHT="10">
  <String CONTENT="last"/></TextLine></TextBlock></BottomMargin>
<PrintSpace><ComposedBlock><TextBlock HPOS="100" VPOS="140" WIDTH="300" HEIGHT="60">
<TextLine HPOS="100" VPOS="140" WIDTH="200" HEIGHT="28">
  <String CONTENT="Die" WC="0.9"/><SP/><String CONTENT="Ver" WC="0.7"/><String CONTENT="fas"
  SUBS_TYPE="HypPart1" SUBS_CONTENT="Verfassung" WC="0.8"/><HYP CONTENT="&#173;"/></TextLine>
<TextLine><String HPOS="100" VPOS="170" WIDTH="50" HEIGHT="20" CONTENT="sung" CC="0 9 0 0"
  SUBS_TYPE="HypPart2"/><String HPOS="160" VPOS="170" WIDTH="40" HEIGHT="20" CONTENT="und"/>
  </TextLine>
<TextLine><String CONTENT="Frei" SUBS_TYPE="HypPart1" SUBS_CONTENT="Freiheit"/></TextLine>
</TextBlock></ComposedBlock></PrintSpace></Page></Layout></alto>"""


@pytest.mark.parametrize(
    "namespace",
    [
        "",
        ' xmlns="http://schema.ccs-gmbh.com/ALTO"',
        ' xmlns="http://www.loc.gov/standards/alto/ns-v3#"',
    ],
)
def test_alto_is_read_with_any_namespace_and_none(namespace: str) -> None:
    size = f'WIDTH="{WIDTH}" HEIGHT="{HEIGHT}"'
    _, found = lines_of(ALTO2.format(namespace=namespace, unit="pixel", size=size))
    texts = [line.text for line in found]
    assert texts == ["Die Verfas\u00ad", "sung und", "Frei-", "last"]
    assert found[0].box.rounded() == Box(0.1, 0.1, 0.3, 0.12)
    assert found[0].confidence == pytest.approx(0.8)
    assert found[1].box.rounded() == Box(0.1, 170 / HEIGHT, 0.2, 190 / HEIGHT).rounded()
    assert found[1].confidence == pytest.approx(0.75)
    assert found[2].box.rounded() == Box(0.1, 0.1, 0.4, 0.14286)  # that of its block
    assert found[2].confidence == 0.5  # that of the page


@pytest.mark.parametrize(
    ("unit", "per_inch"), [("pixel", 150.0), ("mm10", 254.0), ("inch1200", 1200.0)]
)
def test_units_of_alto_are_those_of_its_page_or_else_of_the_paper(
    unit: str, per_inch: float
) -> None:
    line = '<TextLine HPOS="{}" VPOS="{}" WIDTH="{}" HEIGHT="{}"><String CONTENT="a"/></TextLine>'
    scale = per_inch / 150  # the page has 150 pixels an inch
    text = line.format(*(round(side * scale, 3) for side in (100, 140, 200, 70)))
    size = f'WIDTH="{WIDTH * scale}" HEIGHT="{HEIGHT * scale}"'
    for told in (size, ""):
        xml = (
            f"<alto><Description><MeasurementUnit>{unit}</MeasurementUnit></Description><Layout>"
            f"<Page {told}><PrintSpace><TextBlock>{text}</TextBlock></PrintSpace></Page></Layout>"
            "</alto>"
        )
        _, [found] = lines_of(xml)
        assert found.box.rounded(3) == Box(0.1, 0.1, 0.3, 0.15)


def test_a_page_size_in_pixels_beside_lines_in_millimetres_is_not_believed() -> None:
    xml = (
        "<alto><Description><MeasurementUnit>inch1200</MeasurementUnit></Description><Layout>"
        f'<Page WIDTH="{WIDTH}" HEIGHT="{HEIGHT}"><PrintSpace><TextBlock><TextLine HPOS="800" '
        'VPOS="1120" WIDTH="6400" HEIGHT="112"><String CONTENT="a"/></TextLine></TextBlock>'
        "</PrintSpace></Page></Layout></alto>"
    )
    _, [found] = lines_of(xml)
    assert found.box.rounded(3) == Box(0.1, 0.1, 0.9, 0.11)


def test_alto_orders_its_blocks_by_reference_where_it_does() -> None:
    block = (
        '<TextBlock ID="{0}"><TextLine HPOS="1" VPOS="1" WIDTH="9" HEIGHT="9"><String '
        'CONTENT="{0}"/></TextLine></TextBlock>'
    )
    xml = (
        '<alto><ReadingOrder><OrderedGroup><ElementRef REF="b"/><ElementRef REF="a"/>'
        f'</OrderedGroup></ReadingOrder><Layout><Page WIDTH="10" HEIGHT="10"><PrintSpace>'
        f"{''.join(map(block.format, 'cab'))}</PrintSpace></Page></Layout></alto>"
    )
    _, found = lines_of(xml)
    assert [line.text for line in found] == ["b", "a", "c"]


PAGE = """<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/{year}">
<Metadata><Creator>Transkribus</Creator></Metadata>
<Page imageFilename="a.png" imageWidth="1000" imageHeight="1400">
<ReadingOrder><OrderedGroup id="o"><RegionRefIndexed index="1" regionRef="r1"/>
<UnorderedGroupIndexed index="0"><RegionRef regionRef="r2"/></UnorderedGroupIndexed></OrderedGroup>
</ReadingOrder>
<TextRegion id="r0"><Coords points="0,0 9,0 9,9"/><TextEquiv><Unicode>left out</Unicode></TextEquiv>
</TextRegion>
<TextRegion id="r1"><Coords points="0,0 9,0 9,9"/>
<TextLine id="l1"><Coords points="100,140 300,141 310,170 290,180 100,168"/>
<Baseline points="100,165 200,166 300,165"/>
<Word><Coords points="100,140 300,141 310,170"/>
<TextEquiv conf="0.25"><Unicode>old</Unicode></TextEquiv></Word>
<TextEquiv index="1" conf="0.1"><Unicode>second choice</Unicode></TextEquiv>
<TextEquiv index="0"><Unicode>Corrected  line</Unicode></TextEquiv></TextLine>
<TextRegion id="r3"><TextLine><Coords points="1,1 2,1 2,2"/><Word><Coords points="1,1 2,1 2,2"/>
<TextEquiv conf="0.5"><Unicode>in</Unicode></TextEquiv></Word><Word><Coords points="1,1 2,1 2,2"/>
<TextEquiv conf="1.0"><Unicode>ner</Unicode></TextEquiv></Word></TextLine></TextRegion></TextRegion>
<TableRegion id="r2"><TableCell id="c"><TextLine><Coords points="500,700 700,800 690,820 490,720"/>
<Baseline points="492,718 692,818"/><TextEquiv><Unicode>cell</Unicode></TextEquiv></TextLine>
</TableCell></TableRegion></Page></PcGts>"""


@pytest.mark.parametrize("year", ["2013-07-15", "2017-07-15", "2019-07-15"])
def test_page_xml_is_read_in_its_reading_order_with_corrections_first(year: str) -> None:
    page, found = lines_of(PAGE.format(year=year))
    assert [line.text for line in found] == ["cell", "Corrected line", "in ner", "left out"]
    assert found[1].box.rounded() == Box(0.1, 0.1, 0.31, 180 / HEIGHT).rounded()
    assert (found[1].confidence, found[2].confidence) == (0.25, 0.8)
    assert found[1].quad is None
    assert page.software == "Transkribus"


def test_a_slanted_line_of_page_xml_has_the_corners_of_its_polygon() -> None:
    _, found = lines_of(PAGE.format(year="2019-07-15"))
    assert found[0].quad == tuple(
        (x / WIDTH, y / HEIGHT) for x, y in ((500, 700), (700, 800), (690, 820), (490, 720))
    )


def test_points_of_page_2010_are_elements() -> None:
    points = "".join(f'<Point x="{x}" y="{y}"/>' for x, y in ((1, 1), (5, 1), (5, 3), (1, 3)))
    xml = (
        '<PcGts><Page imageWidth="10" imageHeight="10"><TextRegion><TextLine><Coords>'
        f"{points}</Coords><TextEquiv><Unicode>a</Unicode></TextEquiv></TextLine></TextRegion></Page>"
        "</PcGts>"
    )
    _, [line] = lines_of(xml)
    assert line.box == Box(0.1, 0.1, 0.5, 0.3)


def test_a_line_that_is_given_no_place_is_counted_and_not_lost_in_silence() -> None:
    page, found = lines_of(
        "<alto><Layout><Page><PrintSpace><TextBlock><TextLine><String CONTENT='a'/></TextLine>"
        "</TextBlock></PrintSpace></Page></Layout></alto>"
    )
    assert (page.rejected, found) == (1, ())


# Files not to be trusted

LAUGHS = "".join(
    f'<!ENTITY lol{n} "{f"&lol{n - 1};" * 10}">' if n else '<!ENTITY lol0 "lol">' for n in range(10)
)


@pytest.mark.parametrize(
    "entities",
    [
        LAUGHS,
        '<!ENTITY lol9 SYSTEM "file:///etc/passwd">',
        '<!ENTITY % lol9 SYSTEM "http://example.com/a.dtd"> %lol9;',
    ],
)
@pytest.mark.parametrize("root", ["alto", "PcGts", "html"])
def test_files_that_declare_entities_are_refused(entities: str, root: str) -> None:
    xml = f"<!DOCTYPE {root} [{entities}]><{root} class='ocr_page'>&lol9;</{root}>"
    with pytest.raises(CorruptFile, match="declares the entity"):
        read_ocr_file(xml.encode(), "a.hocr")


def test_an_external_subset_is_not_opened(tmp_path: Path) -> None:
    outside = tmp_path / "a.dtd"
    outside.write_text('<!ENTITY secret "from outside">')
    xml = (
        f'<!DOCTYPE alto SYSTEM "{outside.as_uri()}"><alto><Layout><Page WIDTH="10" HEIGHT="10">'
        '<PrintSpace><TextBlock><TextLine HPOS="1" VPOS="1" WIDTH="2" HEIGHT="2"><String '
        'CONTENT="x"/>&secret;</TextLine></TextBlock></PrintSpace></Page></Layout></alto>'
    )
    _, [line] = lines_of(xml)
    assert line.text == "x"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.alto.xml", b""),
        ("a.xml", b"<alto><Layout><Page>"),
        ("a.xml", b"<alto/>"),
        ("a.xml", b"<PcGts/>"),
        ("a.hocr", b"<html/>"),
        ("a.hocr", b"<div>" * 300 + b"<div class='ocr_page'>"),
        ("a.hocr", b"<div class='ocr_page'><![foo[ x ]]></div>"),
        ("a.page.xml", b"<mets/>"),
        ("a.xml", b'<?xml version="1.0" encoding="klingon"?><alto/>'),
        ("a.xml", b"<alto>\xff\xfe</alto>"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_typed_error(name: str, content: bytes) -> None:
    with pytest.raises(CorruptFile):
        read_ocr_file(content, name)


@settings(max_examples=150)
@given(
    name=st.sampled_from(["a.hocr", "a.alto.xml", "a.page.xml"]),
    cut=st.integers(0, 3000),
    junk=st.binary(max_size=8),
)
def test_a_damaged_file_gives_pages_or_a_typed_error(name: str, cut: int, junk: bytes) -> None:
    whole = WRITERS[name](SAMPLE).encode()
    try:
        for page in read_ocr_file(whole[:cut] + junk + whole[cut + 4 :], name):
            placed(page, info())
    except CorruptFile:
        pass


def test_an_encoding_that_cannot_be_used_is_read_as_utf_8() -> None:
    page = '<meta charset="idna"><div class="ocr_page" title="bbox 0 0 99 99">é</div>'.encode()
    assert len(read_ocr_file(page, "a.hocr")) == 1


@pytest.mark.parametrize("size", ["1e-323 10", "10 1e-320", "inf 10", "1e999 1e999", "nan 1"])
def test_a_page_size_that_is_none_is_not_believed(tmp_path: Path, size: str) -> None:
    (tmp_path / "a.hocr").write_text(
        f'<div class="ocr_page" title="bbox 0 0 {size}"><span class="ocr_line" '
        f'title="bbox 10 10 50 20">word</span></div>'
    )
    page = info(source=str(tmp_path / "a.png"))
    found = found_beside(page)
    assert orientation_for(found, page) == 1
    assert placed(found, page)[0].box == Box(10 / WIDTH, 10 / HEIGHT, 50 / WIDTH, 20 / HEIGHT)


def test_numbers_that_are_none_do_no_harm() -> None:
    page, found = lines_of(
        '<alto><Layout><Page WIDTH="nan" HEIGHT="-1"><PrintSpace><TextBlock><TextLine HPOS="inf" '
        'VPOS="1" WIDTH="2" HEIGHT="2"><String HPOS="1" VPOS="1" WIDTH="2" HEIGHT="2" WC="7" '
        'CONTENT="a"/></TextLine></TextBlock></PrintSpace></Page></Layout></alto>'
    )
    assert found[0].box == Box(1 / WIDTH, 1 / HEIGHT, 3 / WIDTH, 3 / HEIGHT)
    assert (found[0].confidence, page.rejected) == (None, 0)


# Where they lie


def put(path: Path, text: str = "text") -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    line = Line(text, Box(0.1, 0.1, 0.2, 0.2))
    path.write_text(WRITERS["a.hocr" if path.suffix == ".hocr" else "a.alto.xml"](reading(line)))
    return path


@pytest.mark.parametrize(
    "name",
    [
        "scan.hocr",
        "scan.xml",
        "scan.alto.xml",
        "page/scan.xml",
        "ALTO/Scan.XML",
        "scan.tif.xml",
        "hocr/scan.hocr",
    ],
)
def test_ocr_is_found_beside_the_scan_and_in_folders_there(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / name)
    put(tmp_path / "scan2.xml", "of another scan")
    put(tmp_path / "scan.old.xml", "of another scan")
    source = str(tmp_path / "scan.tif")
    assert [file.path for file in ocr_files_of(source)] == [path]
    found = found_beside(info(source=source))
    assert found is not None
    assert found.lines[0].text == "text"


def test_what_people_correct_is_preferred_and_what_is_no_ocr_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "scan.hocr", "hocr")
    (tmp_path / "scan.html").write_text("<html><body>a web page</body></html>")
    (tmp_path / "scan.xml").write_text("<mets><file/></mets>")
    page = info(source=str(tmp_path / "scan.tif"))
    assert found_beside(page).lines[0].text == "hocr"
    (tmp_path / "scan.page.xml").write_text(page_xml(reading(Line("page", Box(0, 0, 1, 1)))))
    assert found_beside(page).lines[0].text == "page"


def test_pages_of_one_file_are_those_of_the_scan_by_place_or_by_number(tmp_path: Path) -> None:
    source = str(tmp_path / "scan.tif")
    pages = [info(number, 3, source=source) for number in (1, 2, 3)]
    written = [reading(Line(f"page {p.number}", Box(0, 0, 1, 1)), page=p) for p in pages]
    (tmp_path / "scan.hocr").write_text("".join(hocr(written)))
    assert [found_beside(page).lines[0].text for page in pages] == ["page 1", "page 2", "page 3"]
    (tmp_path / "scan.hocr").write_text("".join(hocr([written[0], written[2]])))
    texts = [found and found.lines[0].text for found in map(found_beside, pages)]
    assert texts == ["page 1", None, "page 3"]


def test_a_file_of_one_page_goes_before_one_of_all(tmp_path: Path) -> None:
    put(tmp_path / "scan.xml", "all")
    put(tmp_path / "scan_0002.alto.xml", "two")
    source = str(tmp_path / "scan.tif")
    texts = [found_beside(info(n, 3, source=source)) for n in (1, 2, 3)]
    assert [found and found.lines[0].text for found in texts] == ["all", "two", None]


def test_the_ocr_of_a_scan_with_a_number_is_not_of_a_page_of_another(tmp_path: Path) -> None:
    for name in ("scan.png", "scan_1.PNG", "scan-2.tif"):
        (tmp_path / name).touch()
    put(tmp_path / "scan_1.hocr", "of scan_1")
    put(tmp_path / "page" / "scan-2.xml", "of scan-2")
    own = put(tmp_path / "scan.hocr", "of scan")
    assert [file.path for file in ocr_files_of(str(tmp_path / "scan.png"))] == [own]
    assert found_beside(info(source=str(tmp_path / "scan_1.PNG"))).lines[0].text == "of scan_1"
    assert found_beside(info(source=str(tmp_path / "scan-2.tif"))).lines[0].text == "of scan-2"


def test_a_changed_a_new_and_a_vanished_file_are_seen(tmp_path: Path) -> None:
    page = info(source=str(tmp_path / "scan.tif"))
    assert found_beside(page) is None
    path = put(tmp_path / "scan.xml", "first")
    assert found_beside(page).lines[0].text == "first"
    put(path, "second, longer")
    assert found_beside(page).lines[0].text == "second, longer"
    path.unlink()
    assert found_beside(page) is None


def test_a_broken_file_names_itself_and_too_large_a_one_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "scan.xml"
    path.write_bytes(b"<alto><Layout>")
    page = info(source=str(tmp_path / "scan.tif"))
    with pytest.raises(CorruptFile, match=r"scan\.xml cannot be read: it is not well-formed"):
        found_beside(page)
    with path.open("wb") as file:
        file.truncate(beside.LARGEST + 1)  # takes no room on the disk
    with pytest.raises(FileTooLarge, match="split it"):
        found_beside(page)


def test_bytes_and_streams_have_nothing_beside_them() -> None:
    assert found_beside(info(source="bytes:00ff")) is None


# Right-to-left text


@pytest.mark.parametrize(
    ("logical", "visual"),
    [
        ("plain text", "plain text"),
        ("שלום", "םולש"),
        ("שלום עולם", "םלוע םולש"),
        ("abc שלום def", "abc םולש def"),
        ("שלום 12.5 עולם", "םלוע 12.5 םולש"),
        ("שלום abc def!", "!abc def םולש"),
        ("שלום (עולם)", "(םלוע) םולש"),
        ("שלום (abc) עולם", "םלוע (abc) םולש"),
        ("", ""),
    ],
)
def test_text_stands_on_paper_as_the_bidirectional_algorithm_says(
    logical: str, visual: str
) -> None:
    assert visual_order(logical) == visual
