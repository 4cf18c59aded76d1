"""Running headers and footers: kept, but marked."""

from __future__ import annotations

from collections.abc import Sequence

from kosmos_loader.structure.layout import Row
from kosmos_loader.structure.marks import PAGE_NUMBER


def running_lines(rows: Sequence[Row], body: float) -> dict[int, str]:
    """id(row) -> "header" or "footer" for the outermost rows that look like running lines."""
    if len(rows) < 5:
        return {}
    ordered = sorted(rows, key=lambda r: r.y0)
    found = {}
    if _is_running(ordered[0], ordered[1].y0 - ordered[0].y1, body):
        found[id(ordered[0])] = "header"
    last = max(rows, key=lambda r: r.y1)
    above = max((r.y1 for r in rows if r is not last and r.y1 <= last.y0 + 0.5 * body), default=0.0)
    if id(last) not in found and _is_running(last, last.y0 - above, body):
        found[id(last)] = "footer"
    return found


def _is_running(row: Row, gap: float, body: float) -> bool:
    if PAGE_NUMBER.fullmatch(row.text.strip()):
        return True
    apart = gap > 1.5 * body
    words = row.text.split()
    numbered = any(PAGE_NUMBER.fullmatch(end) for end in (words[0], words[-1], *_tails(row)))
    small = row.height < 0.9 * body
    # a title at one end and a date at the other
    ends = len(row.items) > 1 and row.items[-1].x0 - row.items[0].x1 > 10 * body
    # a running line is one short row, not larger than the text, set off from it
    return (
        apart and row.height < 1.15 * body and len(row.text) < 100 and (numbered or small or ends)
    )


def _tails(row: Row) -> list[str]:
    """Texts at the outer ends of a row, where page numbers stand."""
    return [
        row.items[0].line.text,
        row.items[-1].line.text,
        " ".join(row.text.split()[-2:]),
        " ".join(row.text.split()[-4:]),
    ]
