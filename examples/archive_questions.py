"""What somebody might ask the archive, and the lines that answer."""

from __future__ import annotations

from typing import NamedTuple


class Question(NamedTuple):
    """A question that exactly one page of the archive answers."""

    text: str
    answers: tuple[str, ...]
    """What is accepted; the first stands on the page in these words."""

    file: str
    page: int
    lines: tuple[str, ...]
    """The lines of the page that hold the answer: whole, or a part that no other line has."""


QUESTIONS = (
    Question(
        "How wide is the crack in the North Mole?",
        ("11 millimetres", "11 mm"),
        "letter-1978.pdf",
        1,
        ("11 millimetres wide",),
    ),
    Question(
        "Which berth did the surveyors want closed to vessels over 60 tonnes?",
        ("Berth 4",),
        "letter-1978.pdf",
        2,
        ("Berth 4",),
    ),
    Question(
        "What did Tallowby & Quarle charge for their inspection?",
        ("615 pounds", "615"),
        "letter-1978.pdf",
        2,
        ("615 pounds",),
    ),
    Question(
        "By what date did the rope invoice have to be paid?",
        ("3 July 2019",),
        "invoice-2019.jpg",
        1,
        ("3 July 2019",),
    ),
    Question(
        "How many cylindrical fenders did the sailing school buy?",
        ("16",),
        "invoice-2019.jpg",
        1,
        ("16",),
    ),
    Question(
        "What is the total of the invoice from Brennock Ropeworks, with VAT?",
        ("1,647.84", "1647.84"),
        "invoice-2019.jpg",
        1,
        ("1,647.84",),
    ),
    Question(
        "How many grey seals were counted in the bay in January?",
        ("163",),
        "newsletter-1996.pdf",
        2,
        ("163 grey seals",),
    ),
    Question(
        "What does a single crossing on the ferry cost?",
        ("1.40",),
        "newsletter-1996.pdf",
        1,
        ("1.40, and",),
    ),
    Question(
        "In which month and year did the tea room open?",
        ("June 1936",),
        "newsletter-1996.pdf",
        2,
        ("in June 1936",),
    ),
    Question(
        "How much did the painting of the buoys cost in 1931?",
        ("8.85",),
        "cash-book-1931.tif",
        1,
        ("8.85",),
    ),
    Question(
        "What award did the Trust receive for the salvage of a lighter?",
        ("145.00", "145"),
        "cash-book-1931.tif",
        2,
        ("145.00",),
    ),
    Question(
        "What is the sail number of the Grey Plover?",
        ("KB 219",),
        "mooring-form-2008.png",
        1,
        ("KB 219",),
    ),
    Question(
        "Which company insures the gaff cutter of Merle Varnhollow?",
        ("Capstan Mutual",),
        "mooring-form-2008.png",
        1,
        ("Capstan Mutual",),
    ),
    Question(
        "What yearly fee was entered for mooring N 17?",
        ("264.00", "264"),
        "mooring-form-2008.png",
        1,
        ("264.00",),
    ),
    Question(
        "What would a new lens for the telescope cost?",
        ("185 euros", "185"),
        "inventory-2003.pdf",
        1,
        ("cost 185",),
    ),
    Question(
        "In which year was the heliograph in the collection made?",
        ("1901",),
        "inventory-2003.pdf",
        2,
        ("1901",),
    ),
    Question(
        "At how much is the tide gauge by the Hollin Foundry valued?",
        ("2,300", "2300"),
        "inventory-2003.pdf",
        2,
        ("2,300",),
    ),
    Question(
        "How often did the fog signal at Kessing Point have to sound from that winter on?",
        ("every 40 seconds", "40 seconds"),
        "carbon-copy-1952.jpg",
        1,
        ("every 40 seconds",),
    ),
    Question(
        "Where was the lighthouse keeper to store the spare mantle?",
        ("tin chest under the stairs", "in the tin chest under the stairs"),
        "carbon-copy-1952.jpg",
        1,
        ("The spare mantle", "chest under the stairs"),
    ),
    Question(
        "How much water does the dredger Mudlark II draw?",
        ("2.6 metres", "2.6 m"),
        "fax-1991.tif",
        1,
        ("draws 2.6 metres",),
    ),
    Question(
        "What are the harbour dues of a fishing vessel in 1985?",
        ("124",),
        "minutes-1984.pdf",
        1,
        ("124",),
    ),
    Question(
        "On what date did the trustees mean to hold their next meeting after June 1984?",
        ("5 September 1984", "5 September"),
        "minutes-1984.pdf",
        2,
        ("5 September 1984",),
    ),
    Question(
        "Who took the picture of the launch of the Sandpiper?",
        ("Lucan Ambervane",),
        "catalogue-card.png",
        1,
        ("Lucan Ambervane",),
    ),
    Question(
        "What was the price of the crab chowder at the Barnacle Pantry?",
        ("8.90",),
        "receipt-2021.jpg",
        1,
        ("8.90",),
    ),
)

UNANSWERABLE = (
    "What did the new organ of the parish church cost?",
    "Who won the chess tournament at Dunmarrow?",
    "How many sheep were sold at the autumn fair?",
    "In which year did the railway to Kessing close?",
    "What is the name of the lifeboat's coxswain?",
    "Which colour are the doors of the fire station?",
)
"""Questions to which nothing in the archive is an answer."""
