"""This module measures the targets of Keras' programs that are no comparison with the machine.

They are comparisons with Keras on PyTorch and on JAX in the same run. Beside them it says what of a
fit is Keras' own: the same fit with a layer that does nearly nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from ...core.comparisons import EFFORT
from ...core.dtypes import FLOAT32
from ...core.kind import OURS
from ...core.measure import take_turns
from ...core.target import Result
from .cases import CALL, EMPTY, FIT, PREDICT, KerasCase, grid
from .data import Order, arguments
from .worker import forget, worker

TORCH, JAX = "keras_torch", "keras_jax"
PROGRAM = next(case for case in grid() if case.group == FIT)  # the first is the tutorial's
OF_PROGRAM, OF_OTHERS = 6.0, 5.0  # times as fast as Keras on PyTorch
HELD = (FIT, PREDICT, CALL)


def run(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure every target; `result` is the run that has just been made."""
    if dtype != FLOAT32:
        return
    for case in result["cases"]:
        if case.get("kind") == "keras" and case["group"] in HELD:
            yield from against(case)
    if any(case["name"] == PROGRAM.name for case in result["cases"]):
        yield from own_loop(result["threads"])


def against(case: dict[str, Any]) -> Iterator[Result]:
    """Compare a case with Keras on PyTorch, and the tutorial's program with JAX, too."""
    program = case["name"] == PROGRAM.name
    wanted = {TORCH: OF_PROGRAM if program else OF_OTHERS}
    if program:
        wanted[JAX] = 1.0
    found = case["results"]
    for name, least in wanted.items():
        if name in found and OURS in found:
            value = found[name]["median_us"] / found[OURS]["median_us"]
            text = f"{value:.2f}x as fast, target {least:g}x"
            yield Result(
                f"against {name}, {case['name']}", text, value >= least, value, least, "keras"
            )


def own_loop(threads: int) -> Iterator[Result]:
    """Measure what of the tutorial's fit is Keras' own loop on PyTorch.

    This is no target: treadle cannot change it, and it is part of both sides of the comparisons.
    """
    whole, empty = times(PROGRAM, threads)
    share = empty / whole
    text = (
        f"{empty * 1e3:.1f} of {whole * 1e3:.1f} ms ({share:.0%}) with a layer that does nothing; "
        f"treadle's part is {(whole - empty) * 1e3:.1f} ms"
    )
    yield Result(f"Keras' own loop, {PROGRAM.name}", text, True, share, 1.0, "keras")


def times(case: KerasCase, threads: int) -> tuple[float, float]:
    """Return the seconds of a fit that treadle runs, and of the same with an empty layer."""
    inputs = arguments(case)
    ours = worker(OURS, threads)
    runs: dict[str, Callable[[], Any]] = {
        "whole": ours.build(Order(case, inputs)),
        "empty": ours.build(Order(dataclasses.replace(case, cell=EMPTY), inputs)),
    }
    found = take_turns(runs, EFFORT)
    forget(OURS)
    return found["whole"].median, found["empty"].median
