"""Draws the example archive: eleven files of scanned-looking pages, with the truth about them.

    python examples/make_archive.py [--out DIR] [--only FILE]

Everything on the pages is invented and drawn here. The same library versions draw the same bytes.
`archive_letters.py`, `archive_tables.py` and `archive_prints.py` lay the pages out on clean sheets
(`archive_sheet.py`), `archive_scan.py` makes them look scanned, `archive_questions.py` asks about
them. Needs Pillow, numpy and matplotlib, whose fonts are used.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive_letters import carbon_copy, fax, letter
from archive_prints import catalogue_card, minutes, mooring_form, newsletter
from archive_questions import QUESTIONS, UNANSWERABLE, Question
from archive_scan import Scan
from archive_tables import cash_book, inventory, invoice, receipt

ARCHIVE = Path(__file__).parent / "archive"
EPOCH = time.gmtime(0)
"""Written as the date of each PDF: the time of drawing would make every run another file."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Document:
    """A file of the archive and what draws its pages."""

    name: str
    pages: Callable[[], list[Scan]]
    quality: int | None = None
    """Of the JPEG compression, for files that have one."""


DOCUMENTS = (
    Document("carbon-copy-1952.jpg", carbon_copy, quality=55),
    Document("cash-book-1931.tif", cash_book),
    Document("catalogue-card.png", catalogue_card),
    Document("fax-1991.tif", fax),
    Document("inventory-2003.pdf", inventory, quality=40),
    Document("invoice-2019.jpg", invoice, quality=20),
    Document("letter-1978.pdf", letter, quality=40),
    Document("minutes-1984.pdf", minutes),
    Document("mooring-form-2008.png", mooring_form),
    Document("newsletter-1996.pdf", newsletter, quality=40),
    Document("receipt-2021.jpg", receipt, quality=60),
)


def main() -> None:
    """Draws all files, or one of them, into a folder."""
    parser = argparse.ArgumentParser(description="Draws the example archive.")
    parser.add_argument("--out", type=Path, default=ARCHIVE, help="folder to write to")
    parser.add_argument(
        "--only", choices=[document.name for document in DOCUMENTS], help="draw this file only"
    )
    options = parser.parse_args()
    truth = options.out / "truth"
    truth.mkdir(parents=True, exist_ok=True)
    pages: dict[str, list[Json]] = {}
    for document in DOCUMENTS:
        if options.only not in (None, document.name):
            continue
        scans = document.pages()
        save(options.out / document.name, scans, quality=document.quality)
        pages[document.name] = [page_truth(number, scan) for number, scan in enumerate(scans, 1)]
        write_truth(truth / f"{document.name}.json", document.name, pages[document.name])
        print(options.out / document.name)
    if options.only is None:
        write_questions(options.out / "questions.json", pages)
        print(options.out / "questions.json")


def save(path: Path, scans: Sequence[Scan], *, quality: int | None) -> None:
    """Writes the pages in the format that the name of `path` asks for."""
    first, *rest = [scan.image for scan in scans]
    dpi = scans[0].dpi
    jpeg = {} if quality is None else {"quality": quality}
    match path.suffix:
        case ".pdf":
            first.save(
                path,
                save_all=True,
                append_images=rest,
                dpi=dpi,
                **jpeg,
                creationDate=EPOCH,
                modDate=EPOCH,
            )
        case ".tif":
            first.save(path, save_all=True, append_images=rest, dpi=dpi, compression="group4")
        case ".png":
            first.save(path, dpi=dpi, optimize=True)
        case _:
            first.save(path, dpi=dpi, **jpeg, optimize=True)


def page_truth(number: int, scan: Scan) -> Json:
    """What stands on a page and where, as the README of the archive describes it."""
    width, height = scan.image.size
    return {
        "page": number,
        "kind": scan.kind,
        "width": width,
        "height": height,
        "angle": round(scan.angle, 2),
        "lines": [
            {"text": line.text, "box": box, "role": line.role}
            for line, box in zip(scan.lines, scan.boxes(), strict=True)
        ],
        "markdown": scan.markdown,
    }


def write_truth(path: Path, name: str, pages: Sequence[Json]) -> None:
    """JSON with a row for each line of the page, so that changes can be read."""
    blocks = []
    for page in pages:
        fields = [
            f'   "{key}": {_rows(value) if key == "lines" else _json(value)}'
            for key, value in page.items()
        ]
        blocks.append("  {\n" + ",\n".join(fields) + "\n  }")
    body = ",\n".join(blocks)
    path.write_text(f'{{"file": {_json(name)}, "pages": [\n{body}\n]}}\n', encoding="utf-8")


def write_questions(path: Path, pages: dict[str, list[Json]]) -> None:
    """The questions, each with the boxes of the lines that answer it."""
    asked = [
        question_truth(f"q{number:02}", question, pages[question.file][question.page - 1])
        for number, question in enumerate(QUESTIONS, 1)
    ]
    silent = [
        {"id": f"u{number:02}", "question": question}
        for number, question in enumerate(UNANSWERABLE, 1)
    ]
    path.write_text(
        f'{{"questions": {_rows(asked)},\n"unanswerable": {_rows(silent)}}}\n', encoding="utf-8"
    )


def question_truth(name: str, question: Question, page: Json) -> Json:
    """A question with the boxes of its lines; each of them must stand on the page just once."""
    boxes = []
    for text in question.lines:
        whole = [line["box"] for line in page["lines"] if text == line["text"]]
        [box] = whole or [line["box"] for line in page["lines"] if text in line["text"]]
        boxes.append(box)
    return {
        "id": name,
        "question": question.text,
        "answers": list(question.answers),
        "file": question.file,
        "page": question.page,
        "box": boxes,
    }


def _rows(values: Sequence[Json]) -> str:
    return "[\n    " + ",\n    ".join(map(_json, values)) + "]" if values else "[]"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
