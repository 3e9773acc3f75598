"""This module measures the targets of generation that compare a run with its peers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...core.comparisons import against_peers
from ...core.dtypes import FLOAT32
from ...core.summary import section_of
from ...core.target import Result

GEOMETRIC_MEAN = 2.0  # times Transformers on torch


def run(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure every target; `result` is the run that has just been made."""
    if dtype == FLOAT32:
        cases = [case for case in result["cases"] if section_of(case) == "generation"]
        yield from against_peers("generation", cases, GEOMETRIC_MEAN)
