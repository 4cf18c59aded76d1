"""The letters of the archive: a surveyor's report, a carbon copy and a fax."""

from __future__ import annotations

from archive_scan import Scan
from archive_sheet import A4, A5, LETTER, Face, Flow, Frame, Sheet

TYPEWRITER = Face("cmtt10", 12)
MONO = Face("DejaVuSansMono", 10)
MONO_BOLD = Face("DejaVuSansMono-Bold", 10)
SERIF_BOLD = Face("DejaVuSerif-Bold", 17)
SERIF = Face("DejaVuSerif", 9)

HOLES = ((11.0, 108.5), (11.0, 188.5))
"""Where a European binder wants them on A4, in millimetres."""


def letter() -> list[Scan]:
    """A typed report of 1978: two sheets, and the blank back of the second."""
    first = Sheet(A4, dpi=170, kind="letter")
    second = Sheet(A4, dpi=170, kind="letter")
    back = Sheet(A4, dpi=170, kind="blank")

    first.put(105, 24, "TALLOWBY & QUARLE", SERIF_BOLD, anchor="ms", role="heading")
    first.put(105, 30, "Marine Surveyors and Valuers", SERIF, anchor="ms")
    first.put(105, 35, "7 Capstan Row, Merrowick · Telephone 0555 0118", SERIF, anchor="ms")
    first.rule(25, 38.5, 185, 38.5)
    first.blocks += [
        "# TALLOWBY & QUARLE",
        "Marine Surveyors and Valuers\n7 Capstan Row, Merrowick · Telephone 0555 0118",
    ]
    first.put(25, 52, "Our ref. OT/412", TYPEWRITER)
    first.put(185, 52, "14 March 1978", TYPEWRITER, anchor="rs")
    first.blocks.append("Our ref. OT/412\n14 March 1978")

    second.running(25, 22, "Mrs H. Brinkmoor", TYPEWRITER)
    second.running(105, 22, "- 2 -", TYPEWRITER, anchor="ms")
    second.running(185, 22, "14 March 1978", TYPEWRITER, anchor="rs")

    frames = [Frame(first, 25, 58, 160, 230), Frame(second, 25, 30, 160, 278)]
    text = Flow(frames, TYPEWRITER, leading=1.32)
    text.stack(
        "Mrs Hedda Brinkmoor",
        "Secretary, Merrowick Harbour Trust",
        "The Custom House",
        "Merrowick",
    )
    text.space()
    text.paragraph("Dear Mrs Brinkmoor,")
    text.heading("THE NORTH MOLE: REPORT OF OUR INSPECTION", TYPEWRITER)
    width = first.width_of("THE NORTH MOLE: REPORT OF OUR INSPECTION", TYPEWRITER)
    first.rule(25, text.frame.y, 25 + width, text.frame.y)
    text.space()
    text.paragraph(
        "As your trustees asked us in January, we inspected the North Mole on 27 and 28 February. "
        "The weather was calm on both days, and at low water we could walk along the whole of the "
        "outer face. This letter gives our find~ings; the sounding chart and the photo~graphs are "
        "enclosed."
    )
    text.paragraph(
        "The masonry above the water line is sound. The granite blocks have hardly moved since "
        "they were laid, and the pointing that was renewed in 1969 is holding well. We counted "
        "nine loose coping stones, all of them near the second flight of steps, and these can be "
        "bedded again by the Trust's own men."
    )
    text.paragraph(
        "Below the water line the picture is less happy. Over a length of 46 metres, begin~ning at "
        "the lamp, the tide has washed the rubble from under the footing. At the worst place our "
        "diver, Mr Pellowick, could reach in with his whole arm. Above this hollow a crack has "
        "opened; it is 11 milli~metres wide at the top and runs down to the eighth course."
    )
    text.paragraph(
        "We have fixed three glass gauges across the crack. If any of them should break before "
        "the repair is begun, please tele~phone us at once, at whatever hour."
    )
    text.paragraph(
        "We advise the Trust to under~pin the hollow length with concrete in bags, placed by "
        "divers during the neap tides of May and June. We put the cost of this work at 38,400 "
        "pounds, to which a tenth should be added for days lost to bad weather. To wait another "
        "winter would, in our judgment, double it."
    )
    text.paragraph(
        "Until the work is done, Berth 4 should be closed to vessels of more than 60 tonnes, and "
        "no crane should stand within five metres of the edge. The excursion steamer may go on "
        "using the inner steps."
    )
    text.paragraph("Three firms are, in our opinion, able to do the work:")
    text.items(
        "Dunstrop Marine Works, Kessing",
        "Ambervane Brothers, Port Hollin",
        "Thistlewray & Son, Merrowick",
        marks=["1.", "2.", "3."],
    )
    text.paragraph(
        "Our fee for the inspection, 615 pounds, covers the diver and his boat. The account will "
        "follow under separate cover."
    )
    text.paragraph("Yours sincerely,")
    second.squiggle(27, text.frame.y + 9, 46, seed="Osmund Tarvey")
    text.space(3.5)
    text.stack("Osmund Tarvey", "for Tallowby & Quarle")
    text.space()
    text.paragraph("Encl.: 1 sounding chart, 4 photographs")

    return [
        Scan.of(first, seed="letter 1")
        .worn(0.45).on_paper(234).folded(0.33, 0.66).holed(*HOLES)
        .skewed(1.5).speckled(160, light=90).shaded("left", 0.12).blurred(0.6),
        Scan.of(second, seed="letter 2")
        .worn(0.45).on_paper(236).folded(0.33, 0.66).holed(*HOLES)
        .skewed(-0.8).speckled(130, light=90).shaded("right", 0.10).blurred(0.6),
        Scan.of(back, seed="letter 3")
        .on_paper(233).bled(second, 0.06).folded(0.34, 0.67)
        .skewed(0.6).speckled(110).shaded("left", 0.12).blurred(0.9),
    ]  # fmt: skip


def carbon_copy() -> list[Scan]:
    """The second carbon copy of a notice of 1952, so pale that it can only just be read."""
    sheet = Sheet(A5, dpi=200, kind="notice")
    sheet.title(74, 24, "MERROWICK HARBOUR TRUST", MONO_BOLD.at(12), anchor="ms")
    sheet.put(18, 36, "To the Keeper, Kessing Point Light", MONO)
    sheet.put(130, 44, "3 November 1952", MONO, anchor="rs")
    sheet.blocks += ["To the Keeper, Kessing Point Light", "3 November 1952"]
    text = Flow([Frame(sheet, 18, 50, 112, 190)], MONO, leading=1.42)
    text.heading("WINTER ORDERS", MONO_BOLD.at(11))
    text.items(
        "From tonight the fog signal will sound one blast every 40 seconds. The old interval "
        "of 90 seconds is with~drawn.",
        "The supply boat will call every second Thurs~day, begin~ning on 13 November, if the "
        "swell allows a landing.",
        "The winter allowance is three tons of coal and 85 gallons of paraffin. It will not "
        "be increased.",
        "The spare mantle is to be kept in the tin chest under the stairs, and not in the "
        "lantern room.",
        marks=["1.", "2.", "3.", "4."],
    )
    text.paragraph(
        "Any failure of the lamp is to be reported by rocket: two green for a failure of the "
        "light, one red if a boat is needed."
    )
    text.space()
    text.stack("C. Thistlewray", "Harbour Master")
    return [
        Scan.of(sheet, seed="carbon copy")
        .speckled(60).blurred(0.7).worn(0.25).faded(150).on_paper(218, mottle=8)
        .skewed(-0.7, lid=230).shaded("bottom", 0.05).blurred(0.5)
    ]  # fmt: skip


def fax() -> list[Scan]:
    """A fax of 1991 in the fine mode of group 3 machines: 204 by 196 dots to the inch."""
    sheet = Sheet(LETTER, dpi=204, kind="fax")
    sheet.running(12, 8, "12-APR-1991  09:47", MONO.at(9))
    sheet.running(88, 8, "DUNSTROP MARINE WORKS", MONO.at(9))
    sheet.running(158, 8, "0555 0177", MONO.at(9))
    sheet.running(204, 8, "P.01", MONO.at(9), anchor="rs")
    sans, bold = Face("DejaVuSans", 11.5), Face("DejaVuSans-Bold", 11.5)
    sheet.title(25, 34, "FAX", bold.at(34))
    sheet.put(190, 34, "Dunstrop Marine Works, Kessing", bold, anchor="rs")
    sheet.blocks.append("Dunstrop Marine Works, Kessing")
    sheet.rule(25, 38, 190, 38, width=0.6)
    rows = [
        ("To:", "The Harbour Master, Merrowick"),
        ("From:", "Lorne Dunstrop, towage"),
        ("Subject:", "Arrival of the dredger Mudlark II"),
        ("Pages:", "1"),
    ]
    for number, (label, value) in enumerate(rows):
        sheet.put(25, 47 + 7 * number, label, bold)
        sheet.put(52, 47 + 7 * number, value, sans)
    sheet.blocks.append("\n".join(f"{label} {value}" for label, value in rows))
    sheet.rule(25, 73, 190, 73, width=0.6)
    text = Flow([Frame(sheet, 25, 79, 165, 260)], sans, leading=1.45)
    text.paragraph(
        "Because of the gale warning our tug Corrie Belle could not leave Port Hollin yester~day. "
        "She will now bring the dredger on Tuesday 16 April and be off your entrance at high "
        "water, 05:20."
    )
    text.paragraph("For the tow and the stay we shall need:")
    text.items(
        "40 metres of quay on the east side, clear of trawlers",
        "shore power, three-phase, 63 ampere",
        "fresh water, about 12 cubic metres",
        "lodging for a crew of five until 3 May",
    )
    text.paragraph(
        "The dredger draws 2.6 metres. Please let us know if there is less than 3 metres at the "
        "quay at low water, and we shall wait in Kessing Bay for the next tide."
    )
    text.paragraph("Kindly confirm by five o'clock this afternoon.")
    text.paragraph("Regards,")
    sheet.squiggle(27, text.frame.y + 8, 38, seed="Lorne Dunstrop")
    text.space(3.5)
    text.paragraph("Lorne Dunstrop")
    return [
        Scan.of(sheet, seed="fax")
        .worn(0.3, cell=6).squeezed((204, 196)).skewed(-0.9, lid=255).blurred(0.8)
        .speckled(260, largest=1.3).streaked(9).bilevel(165)
    ]  # fmt: skip
