"""Rows whose items stand in columns, as pipe tables with a box for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from kosmos_loader.geometry import overlap
from kosmos_loader.structure.layout import Item, Row
from kosmos_loader.structure.marks import YEAR, is_number
from kosmos_loader.structure.writing import Writer


@dataclass(frozen=True, slots=True)
class Table:
    """Rows `first` to `last` of a region, sorted into cells."""

    first: int
    """Index of the table's first row in its region."""

    last: int
    cells: list[list[list[Item]]]
    """[row][column] -> items."""

    has_header: bool


def tables(rows: list[Row], em: float) -> list[Table]:
    """Runs of rows whose items stand in columns."""
    tables = []
    index = 0
    while index < len(rows):
        run = _run_of_cells(rows, index, em)
        table = _as_table(rows, index, run, em) if run - index >= 3 else None
        if table is None:
            index += 1
        else:
            tables.append(table)
            index = table.last + 1
    return tables


def _run_of_cells(rows: list[Row], start: int, em: float) -> int:
    """End (exclusive) of the run of rows with several items that starts at `start`."""
    if len(rows[start].items) < 2:
        return start
    end = last = start
    while end < len(rows) and end - last <= 2:
        gap = rows[end].y0 - rows[end - 1].y1 if end > start else 0.0
        if gap > 3 * em:
            break
        if len(rows[end].items) >= 2:
            last = end
        end += 1
    return last + 1


def _as_table(rows: list[Row], start: int, end: int, em: float) -> Table | None:
    """The table that the rows from `start` to `end` make, shortened from below until it is one."""
    while end - start >= 3:
        columns = _columns(rows[start:end], em)
        cells = [_cells(row, columns) for row in rows[start:end]] if columns else []
        if cells and _is_table(cells):
            merged = _with_wrapped_cells(rows[start:end], cells, em)
            return Table(start, end - 1, merged, _has_header(merged))
        end -= 1
    return None


def _columns(rows: Sequence[Row], em: float) -> list[tuple[float, float]]:
    """Horizontal extents of the columns: what the items of most rows leave free is between them."""
    several = [row for row in rows if len(row.items) >= 2]
    merged: list[list[float]] = []
    for x0, x1 in sorted((item.x0, item.x1) for row in several for item in row.items):
        if merged and x0 < merged[-1][1] - 0.2 * em:
            merged[-1][1] = max(merged[-1][1], x1)
        else:
            merged.append([x0, x1])
    return [(x0, x1) for x0, x1 in merged]


def _cells(row: Row, columns: Sequence[tuple[float, float]]) -> list[list[Item]]:
    cells: list[list[Item]] = [[] for _ in columns]
    for item in row.items:
        shares = [overlap(item.x0, item.x1, x0, x1) for x0, x1 in columns]
        cells[shares.index(max(shares))].append(item)
    return cells


def _is_table(cells: list[list[list[Item]]]) -> bool:
    """Three columns filled in most rows, or two with names above them and numbers in the last.

    A form's "label: value" rows, a receipt's totals and a letter's tabulated lines stay text,
    which is how they are asked for and quoted.
    """
    columns = len(cells[0])
    filled = [sum(bool(cell) for cell in row) for row in cells]
    if columns < 2 or median(filled) < 2 or len(cells) < 3:
        return False
    # a cell with several items means that columns were thrown together
    crowded = sum(len(cell) > 1 for row in cells for cell in row)
    if crowded > 0.15 * sum(filled):
        return False
    if columns >= 3:
        return median(filled) >= 3 and sum(n >= 3 for n in filled) >= max(3, 0.5 * len(cells))
    numbers = [is_number(row[-1][0].line.text) for row in cells[1:] if row[-1]]
    labels = [row[0][-1].line.text.rstrip().endswith(":") for row in cells if row[0]]
    named = all(row and not is_number(row[0].line.text) for row in cells[0])
    return (
        len(cells) >= 4
        and named
        and len(numbers) >= 3
        and sum(numbers) >= 0.7 * len(numbers)
        and sum(labels) < 0.5 * len(labels)
    )


def _has_header(cells: list[list[list[Item]]]) -> bool:
    """The first row names the columns: no number but a year stands above a column of numbers."""
    for column in range(len(cells[0])):
        below = [is_number(row[column][0].line.text) for row in cells[1:] if row[column]]
        head = cells[0][column]
        if not head or not below or YEAR.fullmatch(head[0].line.text.strip()):
            continue
        if sum(below) > 0.5 * len(below) and is_number(head[0].line.text):
            return False
    return True


def _with_wrapped_cells(
    rows: Sequence[Row], cells: list[list[list[Item]]], em: float
) -> list[list[list[Item]]]:
    """Rows of one cell that stand close under their row are its second line."""
    pitches = [b.y0 - a.y0 for a, b in pairwise(rows)]
    usual = median(pitches)
    merged = [cells[0]]
    for pitch, row in zip(pitches, cells[1:], strict=True):
        filled = [column for column, cell in enumerate(row) if cell]
        wraps = len(filled) == 1 and merged[-1][filled[0]] and pitch <= max(usual, 1.5 * em)
        if wraps and len(merged) > 1 and not is_number(row[filled[0]][0].line.text):
            above = merged[-1]
            merged[-1] = [[*a, *b] for a, b in zip(above, row, strict=True)]
        else:
            merged.append(row)
    return merged


def write_table(table: Table, page: int) -> Writer:
    """A pipe table; where no row names the columns, the header is empty."""
    writer = Writer(page)
    columns = len(table.cells[0])
    if table.has_header:
        _write_cells(writer, table.cells[0])
    else:
        writer.mark("|" + "  |" * columns)
    writer.mark("\n|" + " --- |" * columns)
    for row in table.cells[1 if table.has_header else 0 :]:
        writer.mark("\n")
        _write_cells(writer, row)
    return writer


def _write_cells(writer: Writer, row: list[list[Item]]) -> None:
    writer.mark("|")
    for cell in row:
        for item in cell:
            writer.mark(" ")
            writer.piece(item.line.text.replace("|", "\\|").replace("\n", " "), item.line)
        writer.mark(" |" if cell else "  |")
