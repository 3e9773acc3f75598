"""A trace as one SVG inside HTML: no script, no address, no style sheet, every text escaped.

Heat maps are PNG pictures within the SVG, a pixel for a value. The file format is that of the PNG
specification (W3C, 2003): a signature and chunks with their length, name and CRC-32.
"""

from __future__ import annotations

import base64
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
_WIDTH, _GAP, _TITLE, _LABELS, _LEFT = 640, 14, 18, 62, 60


class _Panel(NamedTuple):
    """One heat map: a title, the values as rows of a picture, and words for its two axes."""

    title: str
    name: str
    values: Float
    columns: str
    rows: str
    by_token: tuple[bool, bool]
    """Whether the columns are steps with a token each, and the rows."""


def html(trace: Trace) -> str:
    """Return a fragment of HTML that shows a trace: its first sequence, its first names."""
    panels = [panel for name in trace for panel in _panels(trace, name)][: MOST_PANELS + 1]
    left_out = len(panels) > MOST_PANELS
    parts: list[str] = []
    top = 24.0
    for panel in panels[:MOST_PANELS]:
        drawn, height = _drawn(panel, trace.tokens, top)
        parts.append(drawn)
        top += height
    note = f"{len(trace)} arrays" + (f", the first {MOST_PANELS} shown" if left_out else "")
    heading = _text(4, 15, f"{short(trace.title, 80)}: {note}", "start", 12, "bold")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH + _LEFT + 90}" '
        f'height="{top:.0f}" viewBox="0 0 {_WIDTH + _LEFT + 90} {top:.0f}" '
        'font-family="sans-serif" role="img">'
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


def _drawn(panel: _Panel, tokens: tuple[str, ...] | None, top: float) -> tuple[str, float]:
    """Return a panel as SVG, and its height."""
    values = panel.values[:MOST_ROWS, :MOST_COLUMNS]
    rows, columns = values.shape
    low, high = limits(panel.name, values)
    pixel = min(_WIDTH / columns, 40.0)
    width = pixel * columns
    height = rows * min(max(3.0, min(pixel, 14.0)), 260.0 / rows)
    y = top + _TITLE
    cut = "" if values.size == panel.values.size else ", the first values"
    image = base64.b64encode(png(colored(values, low, high))).decode()
    box = f'x="{_LEFT}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    right = _LEFT + width + 6
    parts = [
        _text(_LEFT, top + 13, short(panel.title, 100) + cut, "start", 11, "bold"),
        f'<image {box} preserveAspectRatio="none" style="image-rendering:pixelated" ',
        f'href="data:image/png;base64,{image}"/>',
        f'<rect {box} fill="none" stroke="#404040" stroke-width="0.5"/>',
        _text(_LEFT - 6, y + height / 2 + 3, panel.rows, "end", 10),
        _text(right, y + 9, f"max {high:.3g}", "start", 9),
        _text(right, y + max(height, 21), f"min {low:.3g}", "start", 9),
    ]
    known = panel.by_token[0] and columns <= MOST_TOKENS
    words = tokens if known and tokens is not None and len(tokens) == columns else ()
    below = 16.0
    for i, word in enumerate(words):
        x = _LEFT + (i + 0.5) * pixel
        parts.append(
            f'<g transform="translate({x:.1f} {y + height + 6:.1f}) rotate(-45)">'
            f"{_text(0, 6, short(word, 12), 'end', 9)}</g>"
        )
        below = float(_LABELS)
    if not words:
        parts.append(_text(_LEFT + width / 2, y + height + 12, panel.columns, "middle", 10))
    return "".join(parts), _TITLE + height + below + _GAP


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
