"""The accounts of the archive: an invoice, a cash book, an inventory and a receipt."""

from __future__ import annotations

from archive_scan import Scan
from archive_sheet import A4, A4_LANDSCAPE, Column, Face, Flow, Frame, Sheet

SANS = Face("DejaVuSans", 10)
BOLD = Face("DejaVuSans-Bold", 10)
MONO = Face("DejaVuSansMono", 9.5)
MONO_BOLD = Face("DejaVuSansMono-Bold", 9.5)
ROMAN = Face("STIXGeneral", 12)
ITALIC = Face("STIXGeneralItalic", 13)
ROMAN_BOLD = Face("STIXGeneralBol", 12)


def invoice() -> list[Scan]:
    """An invoice of 2019, saved once too often as a small JPEG."""
    goods = [
        ("Mooring line, polyester, 18 mm", 120, "m", 4.35),
        ("Galvanised shackle, 12 mm", 24, "pcs", 6.80),
        ("Fender, cylindrical, 45 cm", 16, "pcs", 21.50),
        ("Splicing by hand, per eye", 30, "pcs", 8.25),
        ("Whipping twine, waxed, 2 mm", 15, "reels", 3.90),
        ("Delivery to Port Hollin", 1, "trip", 38.00),
    ]
    net = sum(count * price for _, count, _, price in goods)
    vat = round(net * 0.2, 2)

    sheet = Sheet(A4, dpi=160, kind="invoice")
    sheet.title(20, 28, "Brennock Ropeworks Ltd", BOLD.at(20))
    sheet.stack(20, 35, ["Long Walk 1, Dunmarrow", "VAT number 000 4417 20"], SANS, step=5)
    sheet.title(190, 60, "INVOICE", BOLD.at(22), level=2, anchor="rs")
    sheet.stack(
        20,
        56,
        ["Pellowick Sailing School", "Boathouse Lane 3", "Port Hollin"],
        SANS.at(11),
        step=5.6,
    )
    facts = [
        ("Invoice number:", "BR-20417"),
        ("Date of invoice:", "3 June 2019"),
        ("Payment due:", "3 July 2019"),
        ("Your order:", "SP-88 of 20 May 2019"),
    ]
    for number, (label, value) in enumerate(facts):
        sheet.put(118, 70 + 6 * number, label, SANS)
        sheet.put(190, 70 + 6 * number, value, BOLD, anchor="rs")
    sheet.blocks.append("\n".join(f"{label} {value}" for label, value in facts))
    rows = [["Pos.", "Description", "Quantity", "Unit", "Unit price", "Amount"]]
    for number, (what, count, unit, price) in enumerate(goods, start=1):
        rows.append([str(number), what, str(count), unit, f"{price:.2f}", f"{count * price:,.2f}"])
    columns = [
        Column(12),
        Column(71),
        Column(23, "right"),
        Column(16),
        Column(24, "right"),
        Column(24, "right"),
    ]
    bottom = sheet.table(20, 102, columns, rows, face=SANS, head=BOLD.at(9.5), step=8.2)
    sums = [
        ("Subtotal", f"{net:,.2f}", SANS),
        ("VAT 20 %", f"{vat:,.2f}", SANS),
        ("Total EUR", f"{net + vat:,.2f}", BOLD.at(11)),
    ]
    for number, (label, value, face) in enumerate(sums, start=1):
        sheet.put(142, bottom + 8 * number, label, face)
        sheet.put(188.4, bottom + 8 * number, value, face, anchor="rs")
        sheet.rule(140, bottom + 8 * number + 2.4, 190, bottom + 8 * number + 2.4)
    sheet.blocks.append("\n".join(f"{label} {value}" for label, value, _ in sums))
    text = Flow([Frame(sheet, 20, bottom + 42, 170, 280)], SANS, leading=1.4)
    text.paragraph(
        "Please pay within 30 days to Kessing Savings Bank, account 40 117 882, and give the "
        "number of the invoice. The goods remain our property until they are paid in full."
    )
    text.paragraph(
        "Rope is measured under load. Claims about the length of a line are accepted within ten "
        "days of delivery; spliced lines cannot be taken back."
    )
    text.paragraph("Thank you for your order. Questions about it: Juna Brennock, 0555 0164.")
    return [
        Scan.of(sheet, seed="invoice")
        .worn(0.15, cell=5).on_paper(244, mottle=3, grain=3.5)
        .skewed(0.5).speckled(70).shaded("top", 0.10).blurred(0.55)
    ]  # fmt: skip


CASH_BOOK = """
Sep 1  | Balance brought down              |    |        |       | 214.60
Sep 2  | Harbour dues, week to 29 August   | 12 | 86.40  |       |
Sep 3  | Dunstrop, lamp oil, two barrels   | 31 |        | 14.06 |
Sep 5  | Wages, boatmen                    | 44 |        | 21.00 |
Sep 7  | Berth rent, barque Halcyon Maud   | 13 | 18.75  |       |
Sep 9  | Thistlewray, repair of crane      | 32 |        | 37.20 |
Sep 9  | Harbour dues, week to 5 September | 12 | 79.15  |       |
Sep 12 | Wages, boatmen                    | 44 |        | 21.00 |
Sep 14 | Sale of old chain                 | 17 | 9.30   |       |
Sep 16 | Harbour dues, week to 12 September| 12 | 91.80  |       |
Sep 17 | Coal for the tug, 6 tons          | 33 |        | 11.40 |
Sep 19 | Wages, boatmen                    | 44 |        | 21.00 |
Sep 21 | Pilotage, steamer Ostra           | 14 | 12.50  |       |
Sep 23 | Harbour dues, week to 19 September| 12 | 68.25  |       |
Sep 24 | Brinkmoor, painting of buoys      | 34 |        | 8.85  |
Sep 26 | Wages, boatmen                    | 44 |        | 21.00 |
Sep 28 | Fine, dumping of ballast          | 18 | 5.00   |       |
Sep 29 | Quarter's salary, Harbour Master  | 45 |        | 62.50 |
Sep 30 | Harbour dues, week to 26 September| 12 | 73.90  |       |
Sep 30 | Postage and telegrams             | 46 |        | 2.15  |
Oct 2  | Berth rent, ketch Two Sisters     | 13 | 11.25  |       |
Oct 3  | Wages, boatmen                    | 44 |        | 21.00 |
Oct 3  | Carried forward                   |    |        |       |
Oct 3  | Brought forward                   |    |        |       |
Oct 5  | Rope for the ferry, Brennock      | 35 |        | 19.60 |
Oct 7  | Harbour dues, week to 3 October   | 12 | 64.35  |       |
Oct 8  | Hire of diver, one day            | 36 |        | 7.75  |
Oct 10 | Wages, boatmen                    | 44 |        | 21.00 |
Oct 12 | Salvage of lighter, award         | 19 | 145.00 |       |
Oct 13 | Ambervane, new rudder for pilot   | 37 |        | 28.45 |
Oct 14 | Harbour dues, week to 10 October  | 12 | 58.70  |       |
Oct 17 | Wages, boatmen                    | 44 |        | 21.00 |
Oct 19 | Glass for the signal house        | 38 |        | 3.35  |
Oct 21 | Harbour dues, week to 17 October  | 12 | 61.05  |       |
Oct 22 | Insurance of the ferry, half year | 47 |        | 33.80 |
Oct 24 | Wages, boatmen                    | 44 |        | 21.00 |
Oct 26 | Weighbridge takings               | 16 | 16.10  |       |
Oct 28 | Harbour dues, week to 24 October  | 12 | 49.95  |       |
Oct 29 | Donation to the widows' fund      | 48 |        | 10.00 |
Oct 31 | Wages, boatmen                    | 44 |        | 21.00 |
Oct 31 | Balance carried down              |    |        |       |
"""


def cash_book() -> list[Scan]:
    """Two facing pages of a cash book of 1931, in black and white; the table runs on."""
    head = ["1931", "Particulars", "Folio", "Received", "Paid", "Balance"]
    pages: list[list[list[str]]] = [[head], [head]]
    balance, page = 0.0, 0
    for entry in CASH_BOOK.strip().splitlines():
        row = [cell.strip() for cell in entry.split("|")]
        received, paid, opening = (float(cell or 0) for cell in row[3:])
        balance += opening + received - paid
        row[5] = f"{balance:.2f}"
        page += row[1] == "Brought forward"
        pages[page].append(row)
    columns = [
        Column(19),
        Column(74),
        Column(15, "right"),
        Column(24, "right"),
        Column(22, "right"),
        Column(24, "right"),
    ]
    left = Sheet(A4, dpi=200, kind="ledger")
    right = Sheet(A4, dpi=200, kind="ledger")
    left.running(18, 20, "62", ROMAN_BOLD)
    left.title(105, 27, "Merrowick Harbour Trust: Cash Book", ROMAN_BOLD.at(17), anchor="ms")
    right.running(105, 27, "Cash Book, continued", ROMAN.at(14), anchor="ms")
    right.running(196, 20, "63", ROMAN_BOLD, anchor="rs")
    for sheet, rows in zip((left, right), pages, strict=True):
        sheet.table(16, 34, columns, rows, face=ITALIC, head=ROMAN_BOLD, step=9.6)
    right.put(16, 228, "Examined and found correct, 4 November 1931. I. Quarle, auditor", ITALIC)
    right.blocks.append("Examined and found correct, 4 November 1931. I. Quarle, auditor")
    return [
        Scan.of(left, seed="cash book 1")
        .worn(0.25).on_paper(225).bled(right, 0.10).skewed(-1.1, lid=255)
        .speckled(300, largest=1.2, light=200).shaded("right", 0.55, reach=0.012).blurred(0.7)
        .bilevel(150),
        Scan.of(right, seed="cash book 2")
        .worn(0.25).on_paper(225).bled(left, 0.10).skewed(0.7, lid=255)
        .speckled(260, largest=1.2, light=200).shaded("left", 0.55, reach=0.012).blurred(0.7)
        .bilevel(150),
    ]  # fmt: skip


INSTRUMENTS = """
No.|Instrument            |Maker             |Made|Material       |Condition  |Kept in    |Value
1  |Marine chronometer    |Lindqvarn, Ostrel |1884|brass, mahogany|runs       |strong room|4,200
2  |Sextant               |Tarvey & Co.      |1907|bronze         |good       |case A     |650
3  |Octant                |unknown           |1790|ebony, ivory   |index loose|case A     |1,150
4  |Tide gauge            |Hollin Foundry    |1866|cast iron      |complete   |gauge house|2,300
5  |Barograph             |Quillmere Brothers|1921|brass, glass   |pen missing|secretary  |480
6  |Sounding machine      |Tarvey & Co.      |1898|steel, brass   |seized     |boat store |900
7  |Station pointer       |Lindqvarn, Ostrel |1875|brass          |good       |case B     |720
8  |Telescope, three draws|Odeline Marsh     |1841|brass, leather |lens split |case B     |310
9  |Ship's bell, Sandpiper|Hollin Foundry    |1926|bell metal     |good       |hall       |540
10 |Azimuth compass       |Quillmere Brothers|1859|brass          |no card    |case C     |390
11 |Heliograph            |unknown           |1901|brass, glass   |complete   |case C     |275
12 |Current meter         |Odeline Marsh     |1934|nickel         |good       |boat store |360
"""


def inventory() -> list[Scan]:
    """A memo of 2003 and the table that goes with it, which lay on its side in the scanner."""
    memo = Sheet(A4, dpi=150, kind="memo")
    memo.title(22, 30, "MEMORANDUM", BOLD.at(18))
    rows = [
        ("To:", "The Trustees"),
        ("From:", "Nerys Quarle, Keeper of the Collection"),
        ("Date:", "5 November 2003"),
        ("Subject:", "Stocktaking of the instruments"),
    ]
    for number, (label, value) in enumerate(rows):
        memo.put(22, 42 + 7 * number, label, BOLD.at(11.5))
        memo.put(48, 42 + 7 * number, value, SANS.at(11.5))
    memo.blocks.append("\n".join(f"{label} {value}" for label, value in rows))
    memo.rule(22, 67, 188, 67, width=0.5)
    text = Flow([Frame(memo, 22, 72, 166, 280)], SANS.at(11.5), leading=1.45)
    text.paragraph(
        "The twelve instruments in our care were examined on 28 and 29 October, with the help of "
        "two students of the Dunmarrow School of Clockmaking. The list is overleaf."
    )
    text.paragraph("Three matters need a decision of the Trustees:")
    text.items(
        "The tele~scope by Odeline Marsh has a split object lens. A new lens would cost 185 "
        "euros; I propose to leave it as it is and to say so on the label.",
        "The sounding machine has seized. The boat store is damp, and I ask for leave to move "
        "both pieces kept there into the Custom House before Christmas.",
        "The insurers want the chrono~meter valued again every five years. The last "
        "valuation, by Mr Corwin Ashpole, dates from 1997.",
        marks=["1.", "2.", "3."],
    )
    text.paragraph(
        "Nothing is missing. The barograph lacks its pen, which was lent to the weather station "
        "at Kessing Point and will come back in spring."
    )
    text.paragraph("Nerys Quarle")

    table = Sheet(A4_LANDSCAPE, dpi=150, kind="table")
    table.title(16, 22, "Inventory of Instruments, November 2003", BOLD.at(15))
    table.put(281, 22, "Values in euros", SANS.at(11), anchor="rs")
    table.blocks.append("Values in euros")
    cells = [[cell.strip() for cell in row.split("|")] for row in INSTRUMENTS.strip().splitlines()]
    columns = [
        Column(11),
        Column(54),
        Column(47),
        Column(17, "right"),
        Column(42),
        Column(33),
        Column(37),
        Column(24, "right"),
    ]
    bottom = table.table(16, 30, columns, cells, face=SANS.at(11), head=BOLD.at(11), step=11)
    total = sum(int(row[7].replace(",", "")) for row in cells[1:])
    table.put(279.4, bottom + 9, f"Sum of the values: {total:,}", BOLD.at(11.5), anchor="rs")
    table.blocks.append(f"Sum of the values: {total:,}")
    return [
        Scan.of(memo, seed="inventory 1")
        .worn(0.1, cell=5).on_paper(246, mottle=3, grain=1.5)
        .skewed(-0.4).speckled(50).blurred(0.5),
        Scan.of(table, seed="inventory 2")
        .worn(0.1, cell=5).on_paper(246, mottle=3, grain=1.5)
        .turned(3).skewed(0.9).speckled(60).shaded("bottom", 0.12).blurred(0.5),
    ]  # fmt: skip


def receipt() -> list[Scan]:
    """A till receipt of 2021, photographed in uneven light."""
    dishes = [
        ("2 Smoked herring roll", 12.80),
        ("1 Crab chowder", 8.90),
        ("1 Seaweed crisps", 3.25),
        ("2 Ginger beer", 6.40),
        ("1 Rhubarb tart", 4.75),
    ]
    food = sum(price for _, price in dishes)
    service = round(food * 0.1, 2)
    sheet = Sheet((80, 150), dpi=200, kind="receipt")
    sheet.title(40, 14, "THE BARNACLE PANTRY", MONO_BOLD.at(13), anchor="ms")
    sheet.stack(40, 20, ["2 Fish Quay, Merrowick", "Tel. 0555 0196"], MONO, step=4.8, anchor="ms")
    rows = [
        ("17/08/2021", "13:42", MONO),
        ("Table 6", "Served by Wenna", MONO),
        *((what, f"{price:.2f}", MONO) for what, price in dishes),
        ("Subtotal", f"{food:.2f}", MONO),
        ("Service 10 %", f"{service:.2f}", MONO),
        ("TOTAL EUR", f"{food + service:.2f}", MONO_BOLD.at(12)),
        ("Cash", "50.00", MONO),
        ("Change", f"{50 - food - service:.2f}", MONO),
    ]
    y = 34.0
    groups = (2, 2 + len(dishes), len(rows))
    for number, (left, right, face) in enumerate(rows):
        if number in groups:
            sheet.rule(6, y - 1.5, 74, y - 1.5, width=0.3)
            y += 5.5
        sheet.put(6, y, left, face)
        sheet.put(74, y, right, face, anchor="rs")
        y += 6.4
    texts = [f"{left} {right}" for left, right, _ in rows]
    starts = (0, *groups)
    sheet.blocks += [
        "\n".join(texts[start:end]) for start, end in zip(starts, groups, strict=False)
    ]
    sheet.rule(6, y - 1.5, 74, y - 1.5, width=0.3)
    sheet.stack(
        40, y + 6, ["Thank you!", "Please do not feed the gulls."], MONO, step=5.4, anchor="ms"
    )
    return [
        Scan.of(sheet, seed="receipt")
        .worn(0.5, cell=22).faded(45).on_paper(228, mottle=26, grain=3)
        .folded(0.48).skewed(-2.2, lid=120).shaded("left", 0.22, reach=0.3)
        .shaded("bottom", 0.18, reach=0.2).speckled(30).blurred(0.8)
    ]  # fmt: skip
