"""Colours of values, for pictures that are made without Matplotlib.

Both scales are told apart in print and by the colour-blind: signed values go from blue over nearly
white to red (ColorBrewer's RdBu), others from white to dark blue (its Blues). A value that is not
there is grey.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from treadle._inputs.types import Float

_RDBU = ("#2166ac", "#67a9cf", "#d1e5f0", "#f7f7f7", "#fddbc7", "#ef8a62", "#b2182b")
_BLUES = ("#f7fbff", "#c6dbef", "#6baed6", "#2171b5", "#08306b")
MISSING = "#bdbdbd"


def rgb(code: str) -> list[int]:
    """Return the three parts of a colour, each from 0 to 255."""
    return [int(code[i : i + 2], 16) for i in (1, 3, 5)]


def colored(values: Float, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Return the colours [..., 3] of values between two limits; a low one below zero means signed.

    Values beyond the limits have the colours of the limits.
    """
    anchors = np.array([rgb(code) for code in (_RDBU if low < 0 else _BLUES)], np.float64)
    missing = np.isnan(values)
    span = high - low or 1.0
    part = np.clip((np.where(missing, low, values).astype(np.float64) - low) / span, 0.0, 1.0)
    place = part * (len(anchors) - 1)
    before = np.minimum(place.astype(np.intp), len(anchors) - 2)
    share = (place - before)[..., None]
    colors = anchors[before] * (1 - share) + anchors[before + 1] * share
    colors[missing] = rgb(MISSING)
    found: npt.NDArray[np.uint8] = np.rint(colors).astype(np.uint8)
    return found


def limits(name: str, values: Float) -> tuple[float, float]:
    """Return the limits of the colours of an array: those of its quantity, or those of its values.

    Gates that open and close, and probabilities, are from 0 to 1 unless an activation leads beyond.
    """
    finite = values[np.isfinite(values)]
    least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    is_gate = ".gates." in name and not name.endswith(("gates.cell", "gates.new"))
    if name.endswith("probabilities") or (is_gate and least >= 0):
        return 0.0, max(most, 1.0)
    most = max(abs(least), abs(most)) or 1.0
    return -most, most
