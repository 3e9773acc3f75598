"""What the bars of every kind share: the result of one, and the measurements that several need."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import treadle

from . import kinds, machine
from .backends import OURS
from .dtypes import FLOAT32, suffix
from .measure import Effort, take_turns
from .summary import geometric_mean

EFFORT = Effort(sample=0.005, total=0.2, least=5, most=21)


@dataclass(frozen=True)
class Result:
    """One bar: what was found, what was wanted."""

    name: str
    text: str
    passed: bool
    value: float
    wanted: float
    kind: str = "recurrent"
    dtype: str = FLOAT32


def ours(case: Any) -> Callable[[], Any]:
    """The call of treadle for a case."""
    kind = kinds.of(case)
    module = kind.backend(OURS)
    variant = module.variants(case, 1)[-1]  # the leanest comes last
    run: Callable[[], Any] = module.prepare(case, *kind.arguments(case), 1, variant).run
    return run


def resident() -> int:
    """Bytes of memory that the process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def gain_of_two(case: Any) -> tuple[float, float]:
    """Seconds with one thread and with two, taking turns."""
    call = ours(case)
    runs = {"1": call, "2": call}
    timed = take_turns(runs, EFFORT, each_turn=lambda name: treadle.set_num_threads(int(name)))
    return timed["1"].median, timed["2"].median


def two_threads(kind: str, cases: list[Any], wanted: float) -> Iterator[Result]:
    """Two threads against one. Nothing on a machine with one CPU."""
    if len(machine.allowed()) < 2:
        return
    before = treadle.get_num_threads()
    try:
        for case in cases:
            one, two = gain_of_two(case)
            gain = one / two
            text = f"{one * 1e3:.3f} ms with one, {two * 1e3:.3f} ms with two: {gain:.2f}x, "
            text += f"bar {wanted}x"
            yield Result(f"two threads, {case.name}", text, gain >= wanted, gain, wanted, kind)
    finally:
        treadle.set_num_threads(before)


def never_slower(
    group: str, cases: list[dict[str, Any]], kind: str, dtype: str = FLOAT32
) -> Iterator[Result]:
    """No case lost; nothing in a run without peers."""
    compared = [case for case in cases if "speedup" in case]
    if compared:
        least = min(compared, key=lambda case: case["speedup"])
        value = least["speedup"]
        text = f"{value:.2f}x at least ({least['name']}), bar 1x"
        name = f"never slower than a peer, {group}"
        yield Result(name, text, value >= 1, value, 1.0, kind, dtype)


def against_peers(
    kind: str, cases: list[dict[str, Any]], wanted: float, dtype: str = FLOAT32
) -> Iterator[Result]:
    """No case lost, and the geometric mean; nothing in a run without peers."""
    group = kind + suffix(dtype)
    yield from never_slower(group, cases, kind, dtype)
    compared = [case for case in cases if "speedup" in case]
    if compared:
        value = geometric_mean(compared)
        text = f"{value:.2f}x over {len(compared)} cases, bar {wanted}x"
        name = f"geometric mean, {group}"
        yield Result(name, text, value >= wanted, value, wanted, kind, dtype)
