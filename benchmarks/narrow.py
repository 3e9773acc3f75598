"""The bars of bfloat16 and int8 that are not a comparison of one case with the machine.

Steps of the recurrent nets against the same step in float32, taking turns; the encoder against the
peers of the run. (In limits.py: of the peak, and against the clock.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import treadle

from .bar import EFFORT, Result, against_peers, ours
from .cases import narrow
from .dtypes import FLOAT32
from .measure import take_turns
from .summary import section_of

# Of the float32 time, one step, B = 1: from H = 256, and H = 1024.
STEP = {"bfloat16": 0.65, "int8": 0.45}
LARGE_STEP = {"bfloat16": 0.5, "int8": 0.3}
GEOMETRIC_MEAN = 1.3


def run(kind: str, dtype: str, result: dict[str, Any]) -> Iterator[Result]:
    """Every bar of a kind in a dtype; `result` is the run that has just been made."""
    if kind == "recurrent":
        yield from steps(dtype)
    if kind == "encoder":
        cases = [case for case in result["cases"] if section_of(case) == f"{kind}-{dtype}"]
        yield from against_peers(kind, cases, GEOMETRIC_MEAN, dtype)


def steps(dtype: str) -> Iterator[Result]:
    """The share of the float32 time that a step takes, on one thread."""
    before = treadle.get_num_threads()
    treadle.set_num_threads(1)
    try:
        for case in narrow():
            if not case.carried or case.H < 256:
                continue
            low = dataclasses.replace(case, dtype=dtype)
            timed = take_turns({FLOAT32: ours(case), dtype: ours(low)}, EFFORT)
            value = timed[dtype].median / timed[FLOAT32].median
            wanted = (LARGE_STEP if case.H >= 1024 else STEP)[dtype]
            text = f"{value:.2f} of the float32 time ({timed[FLOAT32].median * 1e6:.2f} us), "
            text += f"bar {wanted}"
            name = f"time of {low.name}"
            yield Result(name, text, value <= wanted, value, wanted, "recurrent", dtype)
    finally:
        treadle.set_num_threads(before)
