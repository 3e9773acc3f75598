"""The bars of attention that are not a comparison of one case with the machine or with a peer.

Geometric mean and losses over the cases that were run with peers, causal against full, two threads
against one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..bar import Result, against_peers, two_threads
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


def run(result: dict[str, Any]) -> Iterator[Result]:
    """Every bar; `result` is the run that has just been made."""
    cases = [case for case in result["cases"] if case.get("kind") == "attention"]
    yield from against_peers("attention", cases, GEOMETRIC_MEAN)
    yield from causal()
    yield from two_threads("attention", _named(PARALLEL), TWO_THREADS)


def _named(names: tuple[str, ...]) -> list[Any]:
    cases = {case.name: case for case in grid()}
    return [cases[name] for name in names]


def causal() -> Iterator[Result]:
    """The triangle against the square, taking turns on one thread."""
    import treadle

    from ..bar import EFFORT, ours
    from ..measure import take_turns

    treadle.set_num_threads(1)
    pair = _named(CAUSAL_PAIR)
    timed = take_turns({case.name: ours(case) for case in pair}, EFFORT)
    part, whole = (timed[name].median for name in CAUSAL_PAIR)
    value = part / whole
    text = f"{value:.3f} of the time of the full square, bar {CAUSAL}"
    yield Result(f"causal, {CAUSAL_PAIR[0]}", text, value <= CAUSAL, value, CAUSAL)
