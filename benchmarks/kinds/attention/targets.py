"""This module measures the targets of attention that are no comparison of one case with the
machine.

They are the geometric mean and the losses over the cases that were run with peers, causal attention
against the full square, and two threads against one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import treadle

from ...core.comparisons import EFFORT, against_peers, ours, two_threads
from ...core.dtypes import FLOAT32
from ...core.measure import take_turns
from ...core.models.attention.case import AttentionCase
from ...core.target import Result
from .cases import grid

GEOMETRIC_MEAN = 1.25
CAUSAL = 0.56  # of the time of the full square; the triangle is half
CAUSAL_PAIR = ("attention/1x12x2048x2048x64-causal", "attention/1x12x2048x2048x64")
TWO_THREADS = 1.8
PARALLEL = (
    "attention/1x12x32x32x32",
    "attention/1x12x128x128x64",
    "attention/1x12x512x512x64",
    "attention/1x12x2048x2048x64-causal",
    "attention/8x12x512x512x64-padded",
)


def run(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure every target; `result` is the run that has just been made. Only float32 has some."""
    if dtype != FLOAT32:
        return
    cases = [case for case in result["cases"] if case.get("kind") == "attention"]
    yield from against_peers("attention", cases, GEOMETRIC_MEAN)
    yield from causal()
    yield from two_threads("attention", _named(PARALLEL), TWO_THREADS)


def _named(names: tuple[str, ...]) -> list[AttentionCase]:
    cases = {case.name: case for case in grid()}
    return [cases[name] for name in names]


def causal() -> Iterator[Result]:
    """Compare the triangle with the square; they take turns on one thread."""
    treadle.set_num_threads(1)
    pair = _named(CAUSAL_PAIR)
    timed = take_turns({case.name: ours(case) for case in pair}, EFFORT)
    part, whole = (timed[name].median for name in CAUSAL_PAIR)
    value = part / whole
    text = f"{value:.3f} of the time of the full square, target {CAUSAL}"
    yield Result(f"causal, {CAUSAL_PAIR[0]}", text, value <= CAUSAL, value, CAUSAL, "attention")
