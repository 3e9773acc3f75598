"""The bars that are not a comparison of one case with the machine or with a peer.

    python -m treadle.benchmarks.bars      # or: treadle bench --bars

For the recurrent nets: two threads against one, ragged against padded, memory over many steps, and
of the package: import time, installed size. Those of another kind are in its `bars.py`; what compares
with peers needs a run with peers.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import treadle

from . import machine, narrow
from .bar import EFFORT, Result, gain_of_two, ours, resident
from .cases import grid
from .dtypes import DTYPES, FLOAT32
from .kinds import KINDS
from .measure import take_turns
from .progress import Progress

TWO_THREADS = 1.7  # times faster, H >= 256
TWO_DIRECTIONS = 1.8  # times faster, bidirectional, H >= 256
NEVER_SLOWER = 0.97  # one, less what two measurements of the same thing may differ
RAGGED = 1.1
IMPORT_MS = 50.0
INSTALLED_MB = 8.0
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


def run(
    progress: Progress, result: dict[str, Any], names: Sequence[str], dtypes: Sequence[str]
) -> list[dict[str, Any]]:
    """Every bar of these kinds in these dtypes, as dictionaries for the JSON; `result`: what was run
    before.
    """
    found = []
    for name, dtype in itertools.product(names, dtypes):
        bars = _of_kind(name, result) if dtype == FLOAT32 else narrow.run(name, dtype, result)
        for entry in bars:
            found.append(dataclasses.asdict(entry))
            progress.show(entry.name)
    progress.clear()
    return found


def _of_kind(name: str, result: dict[str, Any]) -> Iterator[Result]:
    if name == "recurrent":
        measured = (two_threads(), ragged(), import_time(), installed_size(), memory_growth())
        return itertools.chain.from_iterable(measured)
    module = importlib.import_module(f".{name}.bars", __package__)
    found: Iterator[Result] = module.run(result)
    return found


def two_threads() -> Iterator[Result]:
    """Two threads against one, taking turns. Nothing on a machine with one CPU."""
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
            text = f"{one:.1f} us with one, {two:.1f} us with two: {gain:.2f}x, bar {wanted}x"
            yield Result(f"two threads, {name}", text, gain >= wanted, gain, wanted)
    finally:
        treadle.set_num_threads(before)


def ragged() -> Iterator[Result]:
    """Ragged time against the share of the padded time that its work is, on one thread."""
    treadle.set_num_threads(1)
    for case in grid():
        if not case.lengths:
            continue
        runs = {"ragged": ours(case), "padded": ours(dataclasses.replace(case, lengths=()))}
        timed = take_turns(runs, EFFORT)
        share = sum(case.lengths) / (case.B * case.T)
        value = timed["ragged"].median / timed["padded"].median
        wanted = RAGGED * share
        text = f"{value:.3f} of the padded time, bar {wanted:.3f} (work {share:.3f})"
        yield Result(f"ragged, {case.name}", text, value <= wanted, value, wanted)


def import_time(tries: int = 11) -> Iterator[Result]:
    """`import treadle` in a new process that has imported NumPy."""
    code = (
        "import time, numpy; start = time.perf_counter(); import treadle; "
        "print(time.perf_counter() - start)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
        for _ in range(tries)
    ]
    value = statistics.median(times) * 1e3
    text = f"{value:.1f} ms beyond NumPy, bar {IMPORT_MS:g} ms"
    yield Result("import treadle", text, value < IMPORT_MS, value, IMPORT_MS)


def installed_size() -> Iterator[Result]:
    """Every file of the installed package."""
    folder = Path(treadle.__file__).parent
    value = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
    text = f"{value:.2f} MB, bar {INSTALLED_MB:g} MB"
    yield Result("installed size", text, value < INSTALLED_MB, value, INSTALLED_MB)


def memory_growth() -> Iterator[Result]:
    """Resident memory over a million steps of a stream, with and without `out`."""
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
    text = f"{value:.0f} KB over {STEPS:,} steps, bar {GROWTH_KB} KB"
    yield Result("memory growth", text, value <= GROWTH_KB, value, GROWTH_KB)


def main() -> int:
    """Print every bar; 1 when one is missed."""
    missed = 0
    for entry in run(Progress(sys.stderr), {"cases": []}, KINDS, DTYPES):
        missed += not entry["passed"]
        print(f"{'ok' if entry['passed'] else 'MISSED':>6}  {entry['name']}: {entry['text']}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
