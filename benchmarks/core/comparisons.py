"""This module has the comparisons that the targets of several kinds need."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import treadle

from . import machine, registry
from .dtypes import FLOAT32, suffix
from .kind import OURS
from .measure import Effort, take_turns
from .registry import AnyCase
from .summary import geometric_mean
from .target import Result

EFFORT = Effort(sample=0.005, total=0.2, least=5, most=21)


def ours(case: AnyCase) -> Callable[[], Any]:
    """Return the call of treadle for a case."""
    kind = registry.of(case)
    peer = kind.peer(OURS)
    variant = peer.variants(case, 1)[-1]  # the leanest comes last
    return peer.prepare(case, kind.arguments(case), 1, variant).run


def resident() -> int:
    """Return the bytes of memory that the process has now. Needs `machine.TELLS_MEMORY`."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def gain_of_two(case: AnyCase) -> tuple[float, float]:
    """Return the seconds with one thread and with two, which take turns."""
    call = ours(case)
    runs = {"1": call, "2": call}
    timed = take_turns(runs, EFFORT, each_turn=lambda name: treadle.set_num_threads(int(name)))
    return timed["1"].median, timed["2"].median


def two_threads(kind: str, cases: list[AnyCase], wanted: float) -> Iterator[Result]:
    """Compare two threads with one. A machine with one CPU yields nothing."""
    if len(machine.allowed()) < 2:
        return
    before = treadle.get_num_threads()
    try:
        for case in cases:
            one, two = gain_of_two(case)
            gain = one / two
            text = f"{one * 1e3:.3f} ms with one, {two * 1e3:.3f} ms with two: {gain:.2f}x, "
            text += f"target {wanted}x"
            yield Result(f"two threads, {case.name}", text, gain >= wanted, gain, wanted, kind)
    finally:
        treadle.set_num_threads(before)


def never_slower(
    group: str, cases: list[dict[str, Any]], kind: str, dtype: str = FLOAT32
) -> Iterator[Result]:
    """Check that no case was lost. A run without peers yields nothing."""
    compared = [case for case in cases if "speedup" in case]
    if compared:
        least = min(compared, key=lambda case: case["speedup"])
        value = least["speedup"]
        text = f"{value:.2f}x at least ({least['name']}), target 1x"
        name = f"never slower than a peer, {group}"
        yield Result(name, text, value >= 1, value, 1.0, kind, dtype)


def against_peers(
    kind: str, cases: list[dict[str, Any]], wanted: float, dtype: str = FLOAT32
) -> Iterator[Result]:
    """Check that no case was lost, and the geometric mean. A run without peers yields nothing."""
    group = kind + suffix(dtype)
    yield from never_slower(group, cases, kind, dtype)
    compared = [case for case in cases if "speedup" in case]
    if compared:
        value = geometric_mean(compared)
        text = f"{value:.2f}x over {len(compared)} cases, target {wanted}x"
        name = f"geometric mean, {group}"
        yield Result(name, text, value >= wanted, value, wanted, kind, dtype)


def times_faster(
    case: dict[str, Any], wanted: float, peers: tuple[str, ...], kind: str, dtype: str = FLOAT32
) -> Iterator[Result]:
    """Compare a case with the fastest of some peers; without any of them, yield nothing."""
    times = {n: entry["median_us"] for n, entry in case["results"].items() if n in peers}
    if not times:
        return
    peer = min(times, key=times.__getitem__)
    value = times[peer] / case["results"][OURS]["median_us"]
    text = f"{value:.2f}x as fast as {peer}, target {wanted}x"
    name = f"times faster, {case['name']}"
    yield Result(name, text, value >= wanted, value, wanted, kind, dtype)


def geometric_mean_of(
    peer: str, cases: list[dict[str, Any]], wanted: float, kind: str, dtype: str = FLOAT32
) -> Iterator[Result]:
    """Compare with one peer over all cases that it ran; without any, yield nothing."""
    times = [
        case["results"][peer]["median_us"] / case["results"][OURS]["median_us"]
        for case in cases
        if {peer, OURS} <= case["results"].keys()
    ]
    if times:
        value = statistics.geometric_mean(times)
        text = f"{value:.2f}x over {len(times)} cases, target {wanted}x"
        name = f"geometric mean against {peer}, {kind}{suffix(dtype)}"
        yield Result(name, text, value >= wanted, value, wanted, kind, dtype)
