"""This module names the formats in which weights are multiplied.

Every kind of cases runs in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FLOAT32 = "float32"
BYTES = {FLOAT32: 4, "bfloat16": 2, "int8": 1}  # of a weight; scales are not counted
DTYPES = tuple(BYTES)
LOW_PRECISION = tuple(dtype for dtype in DTYPES if dtype != FLOAT32)


def parse(text: str) -> tuple[str, ...]:
    """Split a list at its commas and return each format once."""
    names = tuple(dict.fromkeys(filter(None, text.split(","))))
    if not names or set(names) - set(DTYPES):
        raise ValueError(f"treadle bench: --dtype {text}: expected some of {', '.join(DTYPES)}")
    return names


def suffix(dtype: str) -> str:
    """Return the end of the name of a case in this format."""
    return "" if dtype == FLOAT32 else f"/{dtype}"
