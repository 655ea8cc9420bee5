"""Tables of numbers, as Sphinx nodes."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from docutils import nodes

Cell = str | nodes.Node


def table(
    header: Sequence[str], rows: Sequence[Sequence[Cell]], *, texts: int = 1, caption: Sequence[Cell] = ()
) -> nodes.table:
    """A table whose first columns hold text, and the others numbers.

    Args:
        header: the columns' names.
        rows: the cells, row by row.
        texts: how many columns hold text.
        caption: text and nodes in a row, below the table.
    """
    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=1) for _ in header]
    group += nodes.thead("", _row(header, texts))
    group += nodes.tbody("", *(_row(row, texts) for row in rows))
    whole = nodes.table("", classes=["figures"])
    if caption:
        whole += nodes.title("", "", *map(_inline, caption))
    whole += group
    return whole


def figure(value: float) -> str:
    """A number with three significant digits, never in powers of ten; whole numbers as they are."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{Decimal(f'{value:#.3g}'):f}".rstrip(".")


def _row(cells: Sequence[Cell], texts: int) -> nodes.row:
    row = nodes.row()
    for number, cell in enumerate(cells):
        entry = nodes.entry(classes=[] if number < texts else ["figure"])
        entry += nodes.paragraph("", "", _inline(cell))
        row += entry
    return row


def _inline(cell: Cell) -> nodes.Node:
    return nodes.Text(cell) if isinstance(cell, str) else cell
