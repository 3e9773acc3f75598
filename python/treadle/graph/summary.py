"""This module prints the table of a model's layers as Keras prints it.

Keras has its tables drawn by rich (https://rich.readthedocs.io): columns with a share of the line,
which lose as many characters as the line lacks. The rows are kept in the file of a model.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from treadle._storage.json import short

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")
_MOST_ROWS = 100_000


class Row(NamedTuple):
    """A Row is a layer: its name, its class, its output's shape, how many numbers its weights have,
    and the tensors that it is called with, "" where the layers form a chain.
    """

    name: str
    kind: str
    shape: str
    weights: int
    connected: str


class Table(NamedTuple):
    """A Table has what `treadle.Model.summary` prints: the model's name, a row for each layer, how
    many numbers all weights have, and how many of these no training changes.
    """

    name: str
    rows: tuple[Row, ...]
    total: int
    fixed: int

    def written(self) -> dict[str, Any]:
        """Return the table as JSON has it."""
        return {**self._asdict(), "rows": [list(row) for row in self.rows]}

    def text(self, line_length: int | None = None) -> str:
        """Return the lines that Keras prints, of the terminal's width at most.

        Raises ValueError for a line that is too short for the columns.
        """
        connected = any(row.connected for row in self.rows)
        headers = ["Layer (type)", "Output Shape", "Param #"] + ["Connected to"] * connected
        shares = (0.3, 0.56, 0.74, 1.0) if connected else (0.45, 0.80, 1.0)
        if line_length is None:
            import shutil  # it loads all formats of archives

            wide = shutil.get_terminal_size().columns - 4
            line_length = min(108 if connected else 88, wide)
        widths = _widths(shares, line_length)
        cells = [
            [f"{row.name} ({row.kind})", row.shape, f"{row.weights:,}", row.connected][
                : len(headers)
            ]
            for row in self.rows
        ]
        lines = [f'Model: "{self.name}"', *_drawn(headers, cells, widths)]
        for label, count in (
            ("Total", self.total),
            ("Trainable", self.total - self.fixed),
            ("Non-trainable", self.fixed),
        ):
            lines.append(f" {label} params: {count:,} ({_bytes(4 * count)})")
        return "\n".join(lines) + "\n"


def read_table(where: str, value: object) -> Table:
    """Return the table that `Table.written` wrote. Raises ValueError for anything else."""
    if not isinstance(value, dict) or set(value) != set(Table._fields):
        raise ValueError(f"{where}: the table of layers is {short(value)}")
    rows = value["rows"]
    if not isinstance(rows, list) or len(rows) > _MOST_ROWS or not all(map(_is_row, rows)):
        raise ValueError(f"{where}: the rows of the table of layers are {short(rows)}")
    if not isinstance(value["name"], str) or not _is_count(value["total"], value["fixed"]):
        raise ValueError(f"{where}: the table of layers is {short(value)}")
    listed = tuple(Row(*row) for row in rows)
    return Table(value["name"], listed, value["total"], value["fixed"])


def _is_row(value: object) -> bool:
    if not isinstance(value, list) or len(value) != len(Row._fields):
        return False
    return _is_count(value[3]) and all(isinstance(value[i], str) for i in (0, 1, 2, 4))


def _is_count(*values: object) -> bool:
    return all(type(value) is int and 0 <= value < 2**63 for value in values)


def _widths(shares: Sequence[float], line_length: int) -> list[int]:
    """Return the width of each column without the space at both its sides."""
    widths, current = [], 0
    for share in shares:
        width = int(share * line_length) - current
        if width < 4:
            raise ValueError(
                f"treadle.Model.summary: line_length is {line_length}, expected more for "
                f"{len(shares)} columns"
            )
        widths.append(width)
        current += width
    excess = sum(width + 2 for width in widths) + len(widths) + 1 - line_length
    result, left = [], len(widths)
    for width in widths:
        taken = round(excess / left)
        result.append(width - taken)
        excess -= taken
        left -= 1
    return result


def _drawn(
    headers: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]
) -> list[str]:
    """Return the lines of a table: a heavy frame around its head, and lines between its rows."""

    def border(left: str, line: str, between: str, right: str) -> str:
        return left + between.join(line * (width + 2) for width in widths) + right

    lines = [border("┏", "━", "┳", "┓")]
    lines += _row(headers, widths, "┃")
    lines.append(border("┡", "━", "╇", "┩"))
    for number, row in enumerate(rows):
        if number:
            lines.append(border("├", "─", "┼", "┤"))
        lines += _row(row, widths, "│")
    lines.append(border("└", "─", "┴", "┘"))
    return lines


def _row(cells: Sequence[str], widths: Sequence[int], edge: str) -> list[str]:
    """Return the lines of one row; the third column ends at its right side."""
    parts = [_wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)]
    lines = []
    for number in range(max(map(len, parts))):
        texts = [part[number] if number < len(part) else "" for part in parts]
        padded = [
            text.rjust(width) if column == 2 else text.ljust(width)
            for column, (text, width) in enumerate(zip(texts, widths, strict=True))
        ]
        lines.append(edge + edge.join(f" {text} " for text in padded) + edge)
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines between its words; a word that is too long loses its end."""
    lines, line = [], ""
    for word in text.split(" "):
        candidate = f"{line} {word}" if line else word
        if len(candidate) <= width:
            line = candidate
            continue
        if line:
            lines.append(line)
        line = word
    return [one if len(one) <= width else f"{one[: width - 1]}…" for one in (*lines, line)]


def _bytes(count: int) -> str:
    """Return a number of bytes in the largest unit that it has one of.

    >>> _bytes(40800)
    '39.84 KB'
    """
    size, unit = float(count), 0
    while size / 1024 >= 1 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{math.floor(size * 100 + 0.5) / 100:.2f} {_UNITS[unit]}"
