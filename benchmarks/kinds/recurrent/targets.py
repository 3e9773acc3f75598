"""This module measures the targets of recurrent nets that are no comparison of a case with the
machine.

In float32 they are two threads against one, ragged batches against padded ones, and memory over
many steps; import time and installed size of the package are measured with them. In bfloat16 and
int8 a step is held against the same step in float32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

import treadle

from ...core import machine
from ...core.comparisons import EFFORT, gain_of_two, ours, resident
from ...core.dtypes import FLOAT32
from ...core.measure import take_turns
from ...core.package import import_time, installed_size
from ...core.target import Result
from .cases import grid, low_precision

TWO_THREADS = 1.7  # times faster, H >= 256
TWO_DIRECTIONS = 1.8  # times faster, bidirectional, H >= 256
NEVER_SLOWER = 0.97  # one, less what two measurements of the same thing may differ
RAGGED = 1.1
STEPS = 1_000_000
GROWTH_KB = 256  # what the allocator may still round up after the first steps

# Shapes for two threads, of every group; below H = 256 they only must not be slower.
PARALLEL = (
    "lstm/step/1x1x64x64",
    "lstm/step/1x1x128x128",
    "lstm/step/1x1x256x256",
    "lstm/step/1x1x512x512",
    "gru/step/1x1x512x512",
    "rnn/step/1x1x1024x1024",
    "lstm/chunk/4x1x128x128",
    "lstm/sequence/100x1x1x50",
    "lstm/sequence/100x1x64x128",
    "gru/sequence/100x1x64x128",
    "lstm/sequence/500x1x256x256",
    "gru/sequence/500x1x256x256",
    "lstm/batch/50x32x256x256",
    "gru/batch/50x32x256x256",
    "rnn/batch/50x32x256x256",
    "lstm/batch/25x64x512x512",
    "lstm/bidirectional/63x1x24x32-bi",
    "lstm/bidirectional/100x1x256x256-bi",
    "lstm/bidirectional/100x1x512x512-bi",
    "gru/bidirectional/128x1x384x256-bi",
    "lstm/stacked/160x1x40x256-3layers",
    "lstm/stacked/300x1x60x128-2layers-bi",
    "lstm/stacked/100x1x4x64-3layers",
    "lstm/deepbench/25x1x1024x1024",
)

# In low precision a step may take this share of the float32 time: from H = 256 on, and from H =
# 1024 on.
STEP = {"bfloat16": 0.65, "int8": 0.45}
LARGE_STEP = {"bfloat16": 0.5, "int8": 0.3}


def run(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure every target in this dtype."""
    if dtype != FLOAT32:
        yield from steps(dtype)
        return
    yield from two_threads()
    yield from ragged()
    yield from import_time()
    yield from installed_size()
    yield from memory_growth()


def two_threads() -> Iterator[Result]:
    """Compare two threads with one; they take turns. A machine with one CPU yields nothing."""
    if len(machine.allowed()) < 2:
        return
    named = {case.name: case for case in grid()}
    before = treadle.get_num_threads()
    try:
        for name in PARALLEL:
            case = named[name]
            wanted = NEVER_SLOWER
            if case.H >= 256:
                wanted = TWO_DIRECTIONS if case.D == 2 else TWO_THREADS
            one, two = (seconds * 1e6 for seconds in gain_of_two(case))
            gain = one / two
            text = f"{one:.1f} us with one, {two:.1f} us with two: {gain:.2f}x, target {wanted}x"
            yield Result(f"two threads, {name}", text, gain >= wanted, gain, wanted)
    finally:
        treadle.set_num_threads(before)


def ragged() -> Iterator[Result]:
    """Compare ragged time with the share of the padded time that its work is, on one thread."""
    treadle.set_num_threads(1)
    for case in grid():
        if not case.lengths:
            continue
        runs = {"ragged": ours(case), "padded": ours(dataclasses.replace(case, lengths=()))}
        timed = take_turns(runs, EFFORT)
        share = sum(case.lengths) / (case.B * case.T)
        value = timed["ragged"].median / timed["padded"].median
        wanted = RAGGED * share
        text = f"{value:.3f} of the padded time, target {wanted:.3f} (work {share:.3f})"
        yield Result(f"ragged, {case.name}", text, value <= wanted, value, wanted)


def memory_growth() -> Iterator[Result]:
    """Watch resident memory over a million steps of a stream, with and without `out`, on Linux."""
    if not machine.TELLS_MEMORY:
        return
    stream = treadle.LSTM(32, 32).stream()
    x = np.zeros((1, 32), np.float32)
    out = np.zeros((1, 32), np.float32)

    def steps(count: int) -> None:
        for _ in range(count // 2):
            stream.step(x, out)
            stream.step(x)

    steps(10_000)
    before = resident()
    steps(STEPS)
    value = (resident() - before) / 1024
    text = f"{value:.0f} KB over {STEPS:,} steps, target {GROWTH_KB} KB"
    yield Result("memory growth", text, value <= GROWTH_KB, value, GROWTH_KB)


def steps(dtype: str) -> Iterator[Result]:
    """Measure the share of the float32 time that a step takes, on one thread."""
    before = treadle.get_num_threads()
    treadle.set_num_threads(1)
    try:
        for case in low_precision():
            if not case.carried or case.H < 256:
                continue
            low = dataclasses.replace(case, dtype=dtype)
            timed = take_turns({FLOAT32: ours(case), dtype: ours(low)}, EFFORT)
            value = timed[dtype].median / timed[FLOAT32].median
            wanted = (LARGE_STEP if case.H >= 1024 else STEP)[dtype]
            text = f"{value:.2f} of the float32 time ({timed[FLOAT32].median * 1e6:.2f} us), "
            text += f"target {wanted}"
            name = f"time of {low.name}"
            yield Result(name, text, value <= wanted, value, wanted, "recurrent", dtype)
    finally:
        treadle.set_num_threads(before)
