"""This module measures the targets of whole models that are no comparison of one case with the
machine.

Against the peers of the run it looks for losses and at the geometric means. By themselves it
measures a captured step against the sum of its layers' steps, and the time of importing treadle and
loading a file in a new process.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np

import treadle

from ...core.comparisons import EFFORT, against_peers
from ...core.dtypes import FLOAT32
from ...core.fresh import printed
from ...core.measure import take_turns
from ...core.target import Result
from .cases import CAPTURED, CONVOLUTIONAL, RECURRENT, SILERO, ModelCase, grid
from .files import absent, find
from .reference import arguments

GEOMETRIC_MEANS = {RECURRENT: 1.5, CONVOLUTIONAL: 1.0}
CAPTURED_FACTOR = 1.15
LOAD_MS = 30.0
LOADED = "silero_vad.onnx"

# A new process, which has NumPy already, prints the seconds of import and load.
LOADING = """
import sys, time, numpy
start = time.perf_counter()
import treadle.onnx
treadle.onnx.load(sys.argv[1])
print(time.perf_counter() - start)
if "onnx" in sys.modules:
    raise SystemExit("the package onnx was imported")
"""


def run(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure every target; `result` is the run that has just been made."""
    if dtype != FLOAT32:
        return
    cases = [case for case in result["cases"] if case.get("kind") == "models"]
    for group in GEOMETRIC_MEANS:
        yield from against(group, [case for case in cases if case["group"] == group])
    for case in grid():
        if case.group == CAPTURED and not absent(case):
            yield from captured_step(case)
    yield from loading()


def against(group: str, cases: list[dict[str, Any]]) -> Iterator[Result]:
    """Check that no case of a group was lost, and the geometric mean."""
    for found in against_peers("models", cases, GEOMETRIC_MEANS[group]):
        yield dataclasses.replace(found, name=f"{found.name}, {group}")


def captured_step(case: ModelCase) -> Iterator[Result]:
    """Compare a captured step with the steps of its layers, one after the other."""
    from .peers import treadle as ours

    inputs = arguments(case)
    step = ours.prepare(case, inputs, 1, "stream").run
    runs = {"model": step, **layer_steps(inputs.module)}
    timed = take_turns(runs, EFFORT)
    whole = timed["model"].median
    layers = sum(timing.median for name, timing in timed.items() if name != "model")
    value = whole / layers
    text = f"{whole * 1e6:.2f} us, {value:.2f}x its layers, target {CAPTURED_FACTOR}x"
    passed = value <= CAPTURED_FACTOR
    yield Result(f"a step, {case.name}", text, passed, value, CAPTURED_FACTOR, "models")


def layer_steps(module: Any) -> dict[str, Callable[[], Any]]:
    """Return the calls of treadle's own layers that make a step of the character model."""
    layers = (module.embedding, module.lstm, module.linear)
    embedding, lstm, linear = (cast(Any, treadle.from_torch(layer)) for layer in layers)
    x = np.array([7], np.int64)
    row = embedding(x)
    stream = lstm.stream(1)
    y = stream.step(row)
    return {
        "embedding": lambda: embedding(x),
        "lstm": lambda: stream.step(row),
        "linear": lambda: linear(y),
    }


def loading(tries: int = 11) -> Iterator[Result]:
    """Measure the time of `import treadle.onnx` and a load, beyond NumPy's import."""
    path = find(SILERO, LOADED)
    if path is None:
        return
    times = [float(printed(LOADING, str(path))) for _ in range(tries)]
    value = statistics.median(times) * 1e3
    text = f"{value:.1f} ms, {min(times) * 1e3:.1f} at least, target {LOAD_MS:g} ms beyond NumPy"
    name = f"import treadle.onnx and load {LOADED}"
    yield Result(name, text, value < LOAD_MS, value, LOAD_MS, "models")
