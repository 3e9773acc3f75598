"""This module measures the targets of convolutions that are no comparison of one case with the
machine: no peer is faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...core.comparisons import against_peers
from ...core.dtypes import FLOAT32
from ...core.target import Result

GEOMETRIC_MEAN = 1.0


def run(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure every target; `result` is the run that has just been made. Only float32 has some."""
    if dtype != FLOAT32:
        return
    cases = [case for case in result["cases"] if case.get("kind") == "conv"]
    yield from against_peers("conv", cases, GEOMETRIC_MEAN)
