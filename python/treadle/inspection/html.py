"""A trace as one SVG inside HTML: no script, no address, no style sheet, every text escaped.

Heat maps are PNG pictures within the SVG, a pixel for a value. The file format is that of the PNG
specification (W3C, 2003): a signature and chunks with their length, name and CRC-32.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from treadle.inspection.colors import colored, limits
from treadle.inspection.words import short

if TYPE_CHECKING:
    import numpy.typing as npt

    from treadle._inputs.types import Float
    from treadle.inspection.result import Trace

MOST_PANELS, MOST_COLUMNS, MOST_ROWS, MOST_TOKENS = 12, 256, 256, 64
_WIDTH, _HEIGHT, _GAP, _TITLE, _LABELS, _LEFT = 360, 170, 14, 18, 62, 64
_COLUMNS, _COLUMN = 2, 500  # panels side by side, and their width with what stands around them


class _Panel(NamedTuple):
    """One heat map: a title, the values as rows of a picture, and words for its two axes."""

    title: str
    name: str
    values: Float
    columns: str
    rows: str
    by_token: tuple[bool, bool]
    """True for columns that are steps with a token each, and for such rows."""


def html(trace: Trace) -> str:
    """Return a fragment of HTML that shows a trace: its first sequence, its first names."""
    panels = [panel for name in trace for panel in _panels(trace, name)][: MOST_PANELS + 1]
    left_out = len(panels) > MOST_PANELS
    parts: list[str] = []
    top, tallest = 24.0, 0.0
    for number, panel in enumerate(panels[:MOST_PANELS]):
        column = number % _COLUMNS
        if column == 0:
            top, tallest = top + tallest, 0.0
        drawn, height = _drawn(panel, trace.tokens, (column * _COLUMN + _LEFT, top))
        parts.append(drawn)
        tallest = max(tallest, height)
    top, width = top + tallest, _COLUMNS * _COLUMN
    count = f"{len(trace)} array" + "s" * (len(trace) != 1)
    note = f", the first {MOST_PANELS} shown" if left_out else ""
    heading = _text(4, 15, f"{short(trace.title, 80)}: {count}{note}", "start", 12, "bold")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top:.0f}" '
        f'viewBox="0 0 {width} {top:.0f}" font-family="sans-serif" role="img">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{heading}{"".join(parts)}</svg>'
    )


def page(trace: Trace) -> str:
    """Return a whole HTML page that shows a trace."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(short(trace.title, 80))}</title></head>\n"
        f"<body>{html(trace)}</body></html>\n"
    )


def _panels(trace: Trace, name: str) -> list[_Panel]:
    """Return the heat maps of an array: of its first sequence and the mean over heads."""
    array, axes = trace[name], trace.axes(name)
    if "batch" in axes:
        if not array.shape[axes.index("batch")]:
            return []
        array = np.take(array, 0, axes.index("batch"))
        axes = tuple(axis for axis in axes if axis != "batch")
    title = name
    if "head" in axes:
        array = np.asarray(array.mean(axes.index("head")))
        axes = tuple(axis for axis in axes if axis != "head")
        title += ", mean over heads"
    if axes == ("query", "key"):
        panel = _Panel(title, name, array, "key", "query", (True, True))
    elif len(axes) == 2 and axes[0] == "time":
        panel = _Panel(title, name, array.T, "step", axes[1], (True, False))
    elif len(axes) == 1:
        panel = _Panel(title, name, array[None], axes[0], "", (axes == ("time",), False))
    else:
        return []
    return [panel] if panel.values.size else []


def _drawn(
    panel: _Panel, tokens: tuple[str, ...] | None, place: tuple[float, float]
) -> tuple[str, float]:
    """Return a panel as SVG, with the corner of its picture at a place, and its height."""
    values = panel.values[:MOST_ROWS, :MOST_COLUMNS]
    rows, columns = values.shape
    low, high = limits(panel.name, values)
    left, top = place
    pixel = min(_WIDTH / columns, 40.0)
    width = pixel * columns
    row = pixel if all(panel.by_token) else max(3.0, min(pixel, 14.0))
    height = rows * min(row, (_WIDTH if all(panel.by_token) else _HEIGHT) / rows)
    y = top + _TITLE
    cut = "" if values.size == panel.values.size else ", the first values"
    # Viewers that smooth pictures do so at the borders of larger squares only.
    squares = (math.ceil(height / rows), math.ceil(pixel))
    colors = colored(values, low, high).repeat(squares[0], 0).repeat(squares[1], 1)
    image = base64.b64encode(png(colors)).decode()
    box = f'x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    right = left + width + 6
    parts = [
        _text(left, top + 13, short(panel.title, 60) + cut, "start", 11, "bold"),
        f'<image {box} preserveAspectRatio="none" style="image-rendering:pixelated" ',
        f'href="data:image/png;base64,{image}"/>',
        f'<rect {box} fill="none" stroke="#404040" stroke-width="0.5"/>',
        _text(right, y + 9, f"max {high:.3g}", "start", 9),
        _text(right, y + max(height, 21), f"min {low:.3g}", "start", 9),
    ]
    below = _words(panel, tokens, columns, 0)
    beside = _words(panel, tokens, rows, 1)
    for i, word in enumerate(below):
        x = left + (i + 0.5) * pixel
        parts.append(
            f'<g transform="translate({x:.1f} {y + height + 6:.1f}) rotate(-45)">'
            f"{_text(0, 6, short(word, 12), 'end', 9)}</g>"
        )
    for i, word in enumerate(beside):
        middle = y + (i + 0.5) * height / rows + 3
        parts.append(_text(left - 4, middle, short(word, 10), "end", 9))
    if not beside:
        parts.append(_text(left - 6, y + height / 2 + 3, panel.rows, "end", 10))
    if not below:
        parts.append(_text(left + width / 2, y + height + 12, panel.columns, "middle", 10))
    return "".join(parts), _TITLE + height + (_LABELS if below else 16) + _GAP


def _words(panel: _Panel, tokens: tuple[str, ...] | None, count: int, axis: int) -> tuple[str, ...]:
    """Return the tokens of an axis if it has one for each of its values and room for them."""
    fits = panel.by_token[axis] and count <= (MOST_TOKENS, MOST_TOKENS // 2)[axis]
    return tokens if fits and tokens is not None and len(tokens) == count else ()


def _text(x: float, y: float, text: str, anchor: str, size: int, weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="#202020">{escape(text)}</text>'
    )


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture [height, width, 3] as a PNG file."""
    height, width, _ = pixels.shape

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    filtered = np.zeros((height, 1 + 3 * width), np.uint8)  # no filter: a zero before each row
    filtered[:, 1:] = pixels.reshape(height, 3 * width)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(filtered.tobytes(), 9))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")
