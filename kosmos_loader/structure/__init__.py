"""From boxed lines to reading order and markdown blocks, for readers that give lines only.

Everything is measured in the *upright frame*: pixel coordinates of the page turned back by the
reading's angle, so that text runs from left to right; and in ems, the median height of the page's
lines. Nothing here looks at pixels or knows a language; thresholds are stated beside their use.

```
lines ──layout──▶ rows by region ──tables, prose, running──▶ pieces ──▶ blocks
```
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kosmos_loader.document import Block, Line, Reading
from kosmos_loader.structure.layout import Row, layout
from kosmos_loader.structure.prose import Heading, Measures, Piece, measure, prose
from kosmos_loader.structure.running import running_lines
from kosmos_loader.structure.tables import tables, write_table
from kosmos_loader.structure.writing import Writer, write_row


def reading_order(
    lines: Iterable[Line], *, width: int, height: int, angle: float = 0.0
) -> list[Line]:
    """`lines` in the order in which a person reads them.

    `width` and `height` are the page's pixels, `angle` the degrees by which its text is turned
    clockwise (as in `Reading.angle`). No line is lost or added.
    """
    rows = [row for rows in layout(lines, width, height, angle) for row in rows]
    return [item.line for row in rows for item in row.items]


def blocks(reading: Reading) -> list[Block]:
    """Headings, paragraphs, lists, tables, running headers and footers of a reading's lines.

    Every line with text is in exactly one block, but for bullets, which become marks. Blocks come
    in reading order and carry the boxes of their lines (of their cells, in a table) as spans.
    """
    page = reading.page
    written = (line for line in reading.lines if line.text.strip())
    regions = layout(written, page.width, page.height, reading.angle)
    if not regions:
        return []
    rows = [row for region in regions for row in region]
    body = _body_height(rows)
    edges = running_lines(rows, body)
    caps = _mostly_capitals(rows)
    pieces: list[Piece] = []
    for region in regions:
        inner = [row for row in region if id(row) not in edges]
        pieces += [Piece(edges[id(r)], _running(r, page.number)) for r in region if id(r) in edges]
        if inner:
            pieces += _flow(inner, measure(inner, body, caps=caps), page.number)
    # running headers come first and footers last, wherever a column put them
    rank = {"header": 0, "footer": 2}
    pieces.sort(key=lambda piece: rank.get(piece.kind, 1))
    levels = _heading_levels([piece.heading for piece in pieces if piece.heading])
    return [
        _as_block(piece, levels, reading=reading, order=order) for order, piece in enumerate(pieces)
    ]


def _heading_levels(headings: Sequence[Heading]) -> dict[Heading, int]:
    """1..6: by section number, else by size (a sixth smaller is a level lower), else below."""
    sizes: list[float] = []
    for size in sorted({h.size for h in headings if h.size and not h.depth}, reverse=True):
        if not sizes or size < 0.85 * sizes[-1]:
            sizes.append(size)
    levels = {}
    for heading in headings:
        if heading.depth:
            level = heading.depth + 1
        elif heading.size:
            level = 1 + sum(heading.size < 0.85 * size for size in sizes)
        else:
            level = max(2, len(sizes) + 1)
        levels[heading] = min(6, level)
    return levels


def _as_block(piece: Piece, levels: dict[Heading, int], *, reading: Reading, order: int) -> Block:
    writer = piece.writer
    level = levels[piece.heading] if piece.heading else 0
    mark = "#" * level + " " if level else ""
    return Block(
        page=reading.page,
        kind=piece.kind,
        markdown=mark + writer.text,
        spans=tuple(span.shifted(len(mark)) for span in writer.spans),
        level=level,
        order=order,
        confidence=writer.confidence,
        reader=reading.reader,
        reader_version=reading.reader_version,
        flags=reading.flags,
    )


def _body_height(rows: Sequence[Row]) -> float:
    """Height of most of the text: the median over characters, not over rows."""
    heights = sorted((i.height, len(i.line.text)) for row in rows for i in row.items)
    half, seen = sum(n for _, n in heights) / 2, 0
    for height, letters in heights:
        seen += letters
        if seen >= half:
            return max(1.0, height)
    return max(1.0, heights[-1][0])


def _mostly_capitals(rows: Sequence[Row]) -> bool:
    return sum(row.text.isupper() for row in rows) > 0.3 * len(rows)


def _flow(rows: list[Row], measures: Measures, page: int) -> list[Piece]:
    """Blocks of one region, from top to bottom."""
    built: list[Piece] = []
    start = 0
    for table in tables(rows, measures.em):
        built += prose(rows[start : table.first], measures, page, table=rows[table.first :])
        built.append(Piece("table", write_table(table, page)))
        start = table.last + 1
    return [*built, *prose(rows[start:], measures, page)]


def _running(row: Row, page: int) -> Writer:
    writer = Writer(page)
    write_row(writer, row)
    return writer
