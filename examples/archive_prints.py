"""The printed matter of the archive: a newsletter, minutes, a filled form and a catalogue card."""

from __future__ import annotations

from archive_scan import Scan
from archive_sheet import A4, B5, Column, Face, Flow, Frame, Sheet

ROMAN = Face("STIXGeneral", 11.5)
ROMAN_BOLD = Face("STIXGeneralBol", 14)
ROMAN_ITALIC = Face("STIXGeneralItalic", 11)
SERIF = Face("DejaVuSerif", 10)
SERIF_BOLD = Face("DejaVuSerif-Bold", 10)
SANS = Face("DejaVuSans", 9)
SANS_BOLD = Face("DejaVuSans-Bold", 9)
PEN = Face("DejaVuSans-Oblique", 12)
TYPEWRITER = Face("DejaVuSansMono", 10)


def newsletter() -> list[Scan]:
    """A club newsletter of 1996: two pages of two columns, justified and hyphenated."""
    front = Sheet(B5, dpi=180, kind="newsletter")
    inside = Sheet(B5, dpi=180, kind="newsletter")
    front.title(91, 29, "The Merrowick Lantern", ROMAN_BOLD.at(32), anchor="ms")
    front.put(15, 38, "Newsletter of the Friends of the Harbour", ROMAN_ITALIC)
    front.put(167, 38, "Number 27, Spring 1996", ROMAN_ITALIC, anchor="rs")
    front.blocks.append("Newsletter of the Friends of the Harbour\nNumber 27, Spring 1996")
    front.rule(15, 41, 167, 41, width=0.5)
    front_text = Flow(
        [Frame(front, 15, 43, 73, 240), Frame(front, 94, 43, 73, 240)], ROMAN, justified=True
    )
    _front_page(front_text)
    front.running(91, 249, "1", ROMAN, anchor="ms")

    inside.running(15, 17, "The Merrowick Lantern", ROMAN_ITALIC)
    inside.running(167, 17, "Spring 1996", ROMAN_ITALIC, anchor="rs")
    inside.rule(15, 19.5, 167, 19.5)
    inside_text = Flow(
        [Frame(inside, 15, 21, 73, 240), Frame(inside, 94, 21, 73, 240)], ROMAN, justified=True
    )
    _inside_page(inside_text)
    inside.running(91, 249, "2", ROMAN, anchor="ms")
    return [
        Scan.of(front, seed="newsletter 1")
        .worn(0.15, cell=8).on_paper(238).bled(inside, 0.09)
        .skewed(-0.6).speckled(80).shaded("left", 0.14).blurred(0.5),
        Scan.of(inside, seed="newsletter 2")
        .worn(0.15, cell=8).on_paper(238).bled(front, 0.09)
        .skewed(0.9).speckled(80).shaded("right", 0.14).blurred(0.5),
    ]  # fmt: skip


def _front_page(text: Flow) -> None:
    text.heading("The old crane turns again", ROMAN_BOLD)
    text.paragraph(
        "After eleven years of silence the steam crane on Fish Quay has lifted its first load. On "
        "Satur~day 2 March, before some four hundred people, it raised a granite block of three "
        "tons from the quay and set it down again with~out spilling the glass of water that stood "
        "on it."
    )
    text.paragraph(
        "The resto~ration took six winters and more than nine thou~sand hours of unpaid work. The "
        "boiler was re~tubed at Port Hollin, the jib was cut from a single larch given by the "
        "Dun~marrow estate, and every one of the 212 brass oil cups was turned by our member "
        "Wilmot Pell, who is eighty-one."
    )
    text.paragraph(
        "The crane will be in steam on the first Sun~day of every month from May to Septem~ber, "
        "between ten and four. Drivers are still wanted; the course lasts three week~ends and is "
        "free of charge."
    )
    text.heading("Ferry times from April", ROMAN_BOLD)
    text.paragraph(
        "The ferry to Kessing Point begins its summer service on 6 April. A single crossing costs "
        "1.40, and child~ren under twelve travel free."
    )
    text.items(
        "Monday to Friday: 7.15, 9.00, 12.30 and 17.45",
        "Saturday: 9.00, 11.00, 14.00 and 18.30",
        "Sunday: 10.30 and 15.00, only in calm weather",
    )
    text.heading("A word from the chair", ROMAN_BOLD)
    text.paragraph(
        "When I took the chair in 1989 we were thirty-four members with a leaking shed. Today we "
        "are 317, and the shed has a roof. I thank all who climbed ladders, baked cakes or wrote "
        "to the news~paper on our behalf."
    )
    text.paragraph(
        "One task remains. The archive of the harbour lies in forty-two tea chests in the loft of "
        "the Custom House, and mice have found it. We should like to have it sorted, copied and "
        "put on dry shelves before the winter of 1998. If you can read old hand~writing, or if "
        "you merely like dust, please come to the loft on any Tues~day evening."
    )
    text.paragraph("Idony Marsh")
    text.heading("New bells for the buoys", ROMAN_BOLD)
    text.paragraph(
        "The buoys at the entrance have had new bells since January. They were cast by the Hollin "
        "Foundry and weigh 68 kilo~grams each. Skippers report that the new note, a clear G, "
        "carries nearly two miles against the wind. The old bells, cracked by frost, may be seen "
        "in the tea room."
    )
    text.heading("Wanted", ROMAN_BOLD)
    text.items(
        "a pair of kitchen scales for the tea room",
        "photo~graphs of the frozen harbour, to be copied and given back",
        "somebody who can tune a concer~tina",
    )
    text.paragraph("Offers please to Morwen Tice, 0555 0133, in the evening.")


def _inside_page(text: Flow) -> None:
    text.heading("Seals in the bay", ROMAN_BOLD)
    text.paragraph(
        "Our volun~teers counted the seals of Kessing Bay at low water on 14 January. They found "
        "163 grey seals, among them 29 pups; last year there were 148. For the first time a small "
        "group rested on the sand bar north of the mole, where they can be watched from the steps "
        "without being dis~turbed."
    )
    text.paragraph(
        "Please keep dogs on the lead there until the end of March, and do not touch pups that "
        "seem to be alone: the mother is nearly always near."
    )
    text.heading("Sixty years of the tea room", ROMAN_BOLD)
    text.paragraph(
        "The tea room in the old signal house opened in June 1936 with four tables and one kettle. "
        "It has been run by three gene~rations of the same family, and the recipe of the ginger "
        "loaf has never left the house. For the anni~ver~sary Tamsin Oddwell, who has the kitchen "
        "now, will bake it at the price of 1936 on the second Satur~day in June."
    )
    text.heading("Dates for your diary", ROMAN_BOLD)
    text.items(
        "27 April: work party at the boat shed, from nine o'clock; bring gloves",
        "18 May: guided walk to the powder tower with Ruan Thistlewray",
        "8 June: birthday of the tea room, with the Dunmarrow brass band",
        "29 June: general meeting in the Custom House, half past seven",
    )
    text.heading("Book corner", ROMAN_BOLD)
    text.paragraph(
        "Lorne Amber~vane's album of harbour photo~graphs, Glass and Salt, is out at last. It "
        "shows ninety of his grand~father's plates, each with a note on the ships and people in "
        "it. Members pay 9.50 at the harbour office instead of 12.00; all pro~ceeds go to the "
        "lifeboat."
    )
    text.heading("How to join", ROMAN_BOLD)
    text.paragraph(
        "Member~ship costs 8 a year, or 5 for pensioners and students. Forms lie in the tea room "
        "and at the harbour office, which is open on week~days from nine to noon. The Lantern "
        "appears in spring and autumn. Contri~butions for number 28 should reach the editor, "
        "Petroc Hallane, by 15 August."
    )
    text.heading("The powder tower", ROMAN_BOLD)
    text.paragraph(
        "Few visitors know that the round tower behind the Custom House once held the gun~powder "
        "of the whole coast. It was built in 1761 with walls more than two metres thick, and "
        "nobody was let in who had iron nails in his shoes. A cat was kept there against the rats; "
        "her wages, a penny a week, stand in the accounts until 1822. The key hangs at the harbour "
        "office."
    )
    text.heading("A letter", ROMAN_BOLD)
    text.paragraph(
        "Dear Lantern, in your last number you called the sloop in the picture on page three the "
        "Good Intent. She is the Patience, which was wrecked off Dun~marrow in 1911, all hands "
        "being saved. My grand~mother had mended her sails the week before, and spoke of it all "
        "her life."
    )
    text.paragraph("Elowen Sprake, Kessing")


def minutes() -> list[Scan]:
    """Minutes of 1984 with numbered headings, copied on an office scanner in black and white."""
    first = Sheet(A4, dpi=170, kind="minutes")
    second = Sheet(A4, dpi=170, kind="minutes")
    first.title(25, 30, "Merrowick Harbour Trust", SERIF_BOLD.at(17))
    first.put(25, 38, "Minutes of the meeting of the trustees on 6 June 1984", SERIF.at(11.5))
    first.blocks.append("Minutes of the meeting of the trustees on 6 June 1984")
    first.rule(25, 41.5, 185, 41.5, width=0.4)
    for number, sheet in enumerate((first, second), start=1):
        footer = f"Minutes, 6 June 1984, page {number} of 2"
        sheet.running(185, 285, footer, SERIF.at(9), anchor="rs")

    text = Flow(
        [Frame(first, 25, 44, 160, 272), Frame(second, 25, 22, 160, 272)],
        SERIF.at(11),
        leading=1.42,
    )
    chapter, section = SERIF_BOLD.at(12.5), SERIF_BOLD.at(11)
    text.heading("1. Attendance", chapter)
    text.paragraph(
        "Present: Hedda Brinkmoor (in the chair), Barnaby Quarle, Ilse Dunstrop, Josse Pellowick, "
        "Captain Aldous Wray. Apologies were received from Dr Maud Lindqvarn, who is abroad until "
        "July."
    )
    text.heading("2. Minutes of the last meeting", chapter)
    text.paragraph("The minutes of 7 March were approved with one correction: for brig read barge.")
    text.heading("3. Dredging of the inner basin", chapter)
    text.heading("3.1 Tenders", section, level=3)
    text.paragraph(
        "Three tenders had come in. Dunstrop Marine Works asked 61,200, Thistlewray & Son 58,000 "
        "and Ambervane Brothers 52,750. Ilse Dunstrop declared an interest and left the room. It "
        "was resolved to accept the lowest tender, on condi~tion that work does not begin before "
        "the herring season has ended."
    )
    text.heading("3.2 Disposal of the silt", section, level=3)
    text.paragraph(
        "Captain Wray reported that about 9,000 cubic metres will have to be moved. The county "
        "allows it to be dropped two miles south of Kessing Point, in more than 30 metres of "
        "water. The trustees asked for samples to be tested for lead first."
    )
    text.heading("3.3 Berths during the work", section, level=3)
    text.paragraph(
        "While the dredger is in the basin, yachts may lie at the visitors' pontoon free of "
        "charge. The pilot boat keeps its place."
    )
    text.heading("4. Harbour dues for 1985", chapter)
    text.paragraph("The following yearly dues were agreed by four votes to one:")
    _table(text, [62, 24, 24], DUES)
    text.heading("5. Safety", chapter)
    text.paragraph("After the accident on the slipway the following measures take effect at once:")
    text.items(
        "The winch may be worked only by two persons, one of whom watches the cable.",
        "Life-jackets are to be worn on all work boats, also in harbour.",
        "The ladder at Berth 2, which lacks three rungs, is closed until it has been repaired.",
        "A first-aid box is to hang in the signal house, and its contents are to be checked "
        "every quarter by the Harbour Master.",
        marks=["1.", "2.", "3.", "4."],
    )
    text.heading("6. Any other business", chapter)
    text.heading("6.1 Weather station", section, level=3)
    text.paragraph(
        "The weather station at Kessing Point asks for a contri~bution to a new anemo~meter. A "
        "grant of 350 was approved."
    )
    text.heading("6.2 Regatta", section, level=3)
    text.paragraph(
        "The sailing school will hold its regatta on 11 and 12 August. The outer basin will be "
        "closed to motor vessels on both days from eight until six."
    )
    text.heading("7. Next meeting", chapter)
    text.paragraph(
        "The trustees will meet again on 5 September 1984 at half past seven in the Custom House. "
        "The meeting closed at 9.50 in the evening."
    )
    text.heading("8. Things to be done", chapter)
    _table(text, [98, 40, 22], ACTIONS)
    text.space(3)
    second.squiggle(26, text.frame.y, 42, seed="Hedda Brinkmoor")
    text.space(0.5)
    text.stack("Hedda Brinkmoor", "Secretary")
    return [
        Scan.of(first, seed="minutes 1")
        .worn(0.2, cell=5).on_paper(240).skewed(0.6, lid=255)
        .speckled(200, largest=1.2, light=120).blurred(0.6).bilevel(150),
        Scan.of(second, seed="minutes 2")
        .worn(0.2, cell=5).on_paper(240).skewed(-0.5, lid=255)
        .speckled(200, largest=1.2, light=120).blurred(0.6).bilevel(150),
    ]  # fmt: skip


DUES = [
    ["Class of vessel", "1984", "1985"],
    ["Rowing boat", "14", "15"],
    ["Yacht up to 8 metres", "62", "68"],
    ["Yacht over 8 metres", "95", "106"],
    ["Fishing vessel", "120", "124"],
    ["Excursion steamer", "410", "455"],
]
ACTIONS = [
    ["What", "Who", "Until"],
    ["Write to the two firms whose tenders failed", "Secretary", "15 June"],
    ["Have the silt tested for lead", "Captain Wray", "30 June"],
    ["Mend the ladder at Berth 2", "Harbour Master", "20 June"],
    ["Print the new list of dues", "Barnaby Quarle", "1 October"],
]


def _table(text: Flow, widths: list[float], rows: list[list[str]]) -> None:
    """A table without upright rules in the run of the text; columns of numbers stand right."""
    columns = [
        Column(width, "right" if cell.isdigit() else "left")
        for width, cell in zip(widths, rows[1], strict=True)
    ]
    frame = text.frame
    frame.y += 1.5
    frame.y = 2.5 + frame.sheet.table(
        frame.x,
        frame.y,
        columns,
        rows,
        face=SERIF,
        head=SERIF_BOLD,
        step=6.8,
        upright_rules=False,
    )


def mooring_form() -> list[Scan]:
    """A form of 2008, printed and filled in by hand, saved as a PNG of few grey levels."""
    sheet = Sheet(A4, dpi=150, kind="form")
    sheet.title(18, 24, "Application for a Mooring", SANS_BOLD.at(19))
    sheet.put(192, 24, "Form M 3, season 2008", SANS.at(10.5), anchor="rs")
    sheet.blocks.append("Form M 3, season 2008")

    sheet.title(18, 37, "1. Applicant", SANS_BOLD.at(12.5), level=2)
    _fields(sheet, 40, [("Surname:", "Varnhollow", 87), ("First name:", "Merle", 87)])
    _fields(sheet, 55, [("Date of birth:", "9 May 1961", 60), ("Telephone:", "0555 0142", 114)])
    _fields(sheet, 70, [("Address:", "14 Netmakers' Lane, Kessing", 174)])

    sheet.title(18, 95, "2. Vessel", SANS_BOLD.at(12.5), level=2)
    _fields(sheet, 98, [("Name of vessel:", "Grey Plover", 100), ("Sail number:", "KB 219", 74)])
    _fields(sheet, 113, [("Type of vessel:", "gaff cutter", 100), ("Year built:", "1937", 74)])
    _fields(
        sheet,
        128,
        [
            ("Length overall in metres:", "7.80", 58),
            ("Beam in metres:", "2.45", 58),
            ("Draught in metres:", "1.35", 58),
        ],
    )
    sheet.put(18, 153, "Engine (tick one):", SANS.at(11))
    sheet.blocks.append("Engine (tick one):")
    _ticks(sheet, 153, [("none", False), ("petrol", False), ("diesel", True)], x=62)

    sheet.title(18, 167, "3. Mooring wanted", SANS_BOLD.at(12.5), level=2)
    _ticks(
        sheet,
        175,
        [("inner basin", False), ("north pool", True), ("visitors' pontoon", False)],
        x=18,
    )

    sheet.title(18, 190, "4. Insurance", SANS_BOLD.at(12.5), level=2)
    _fields(sheet, 193, [("Company:", "Capstan Mutual", 100), ("Policy number:", "CM-77310", 74)])
    _fields(
        sheet, 208, [("Insured until:", "31 December 2008", 100), ("Signed on:", "22 Feb 2008", 74)]
    )

    sheet.frame(18, 236, 192, 276, width=0.6)
    sheet.title(22, 244, "For office use only", SANS_BOLD.at(11), level=2)
    _fields(sheet, 249, [("Mooring given:", "N 17", 80), ("Yearly fee:", "264.00", 86)], x=22)
    sheet.put(22, 271, "Entered in the register by:", SANS.at(11))
    sheet.put_by_hand(76, 271, "P. Hallane", PEN)
    sheet.blocks.append("Entered in the register by: P. Hallane")
    return [Scan.of(sheet, seed="form").on_paper(243, mottle=0, grain=0).skewed(0.4, lid=255)
            .speckled(40).blurred(0.5).posterised(8)]  # fmt: skip


def _fields(sheet: Sheet, y: float, fields: list[tuple[str, str, float]], *, x: float = 18) -> None:
    """A row of boxes 13 mm high, each with a printed label and a value written by hand."""
    for label, value, width in fields:
        sheet.frame(x, y, x + width, y + 13)
        sheet.put(x + 2, y + 4.6, label, SANS.at(10))
        sheet.put_by_hand(x + 4, y + 11, value, PEN)
        sheet.blocks.append(f"{label} {value}")
        x += width


def _ticks(sheet: Sheet, y: float, choices: list[tuple[str, bool]], *, x: float) -> None:
    rows = []
    for label, ticked in choices:
        sheet.frame(x, y - 3.6, x + 4, y + 0.4, width=0.35)
        if ticked:
            sheet.rule(x + 0.5, y - 3.1, x + 3.5, y - 0.1, width=0.5)
            sheet.rule(x + 3.7, y - 3.6, x + 0.3, y + 0.3, width=0.5)
        sheet.put(x + 6.5, y, label, SANS.at(11), role="item")
        rows.append(f"- [{'x' if ticked else ' '}] {label}")
        x += 46
    sheet.blocks.append("\n".join(rows))


def catalogue_card() -> list[Scan]:
    """A typed card of a picture library, with a hole for the rod of its drawer."""
    sheet = Sheet((125, 75), dpi=200, kind="card")
    sheet.put(8, 11, "MHT 0863", Face("DejaVuSansMono-Bold", 12), role="heading")
    sheet.put(117, 11, "Picture Library", SANS.at(10), anchor="rs")
    sheet.blocks += ["# MHT 0863", "Picture Library"]
    sheet.rule(8, 14, 117, 14)
    rows = [
        ("Title:", "Launch of the pilot cutter Sandpiper"),
        ("Taken:", "2 August 1926, Quarle's slip"),
        ("By:", "Lucan Ambervane"),
        ("Format:", "glass plate, 16.5 by 21.6 cm"),
        ("Shelf:", "cabinet C, drawer 5"),
    ]
    for number, (label, value) in enumerate(rows):
        sheet.put(8, 21 + 6.4 * number, label, TYPEWRITER)
        sheet.put(28, 21 + 6.4 * number, value, TYPEWRITER)
    sheet.blocks.append("\n".join(f"{label} {value}" for label, value in rows))
    sheet.put(8, 55.5, "Plate cracked at the lower left corner.", TYPEWRITER)
    sheet.put(8, 61, "Lend the print, never the plate.", TYPEWRITER)
    sheet.blocks.append("Plate cracked at the lower left corner. Lend the print, never the plate.")
    return [
        Scan.of(sheet, seed="card")
        .worn(0.3, cell=18).on_paper(226, mottle=9, grain=1.2).holed((62.5, 69))
        .skewed(-1.2, lid=250).speckled(40).blurred(0.5).posterised(64)
    ]  # fmt: skip
