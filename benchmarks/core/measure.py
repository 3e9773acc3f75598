"""This module times calls that take turns, A B C D A B C D ..., so that a disturbance hits all.

A turn is one call that is not counted (it brings the weights back into the cache) and then as many
calls as last `Effort.sample` seconds. Reported are the median over the turns and the quartiles.
What cannot live in this process with the others takes its turns in its own (`Remote`), while this
one waits.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

LONG_CALL = 0.03  # seconds; such a call warms itself up
SLOW_CALL = 0.25  # seconds; one is enough for an estimate
VERY_LONG_CALL = 3.0  # seconds; such a call is made twice and no more, and both count


@dataclass(frozen=True)
class Effort:
    """An effort says how long to measure."""

    sample: float  # seconds of one turn
    total: float  # seconds of all turns of one backend in one case
    least: int = 3  # turns
    most: int = 25


FULL = Effort(sample=0.005, total=0.25)
QUICK = Effort(sample=0.002, total=0.05)


@dataclass(frozen=True)
class Timing:
    """A timing has seconds per call."""

    median: float
    q1: float
    q3: float
    least: float
    turns: int
    calls: int  # per turn

    @staticmethod
    def of(samples: list[float], calls: int) -> Timing:
        """Make a timing from the seconds per call of each turn."""
        q1, median, q3 = (float(q) for q in np.percentile(samples, (25, 50, 75)))
        return Timing(median, q1, q3, min(samples), len(samples), calls)


@dataclass(frozen=True)
class Remote:
    """A call in another process, which has a clock of its own: the way there is not counted."""

    call: Callable[[], Any]
    seconds: Callable[[int], float]  # per call, of so many calls in a row

    def __call__(self) -> Any:
        """Make the call and return its answer."""
        return self.call()


def once(run: Callable[[], Any], calls: int = 1) -> float:
    """Return the seconds per call of `calls` calls in a row."""
    if isinstance(run, Remote):
        return run.seconds(calls)
    loop = itertools.repeat(None, calls)
    start = time.perf_counter()
    for _ in loop:
        run()
    return (time.perf_counter() - start) / calls


def estimate(run: Callable[[], Any], enough: float = 0.001) -> float:
    """Return the seconds per call, roughly: the best of tries of at least `enough` seconds."""
    first = once(run)  # and whatever is put off until the first call
    if first > SLOW_CALL:
        return first
    calls, spent = 1, once(run)
    while spent * calls < enough and calls < 1 << 20:
        calls *= 4
        spent = once(run, calls)
    if spent * calls < LONG_CALL:
        spent = min(spent, once(run, calls), once(run, calls))
    return spent


def nothing(_: Any) -> None:
    """Do nothing; this is the default of the two hooks of `take_turns`."""


def take_turns(
    runs: dict[str, Callable[[], Any]],
    effort: Effort,
    each_round: Callable[[int], None] = nothing,
    each_turn: Callable[[str], None] = nothing,
) -> dict[str, Timing]:
    """Time every run; `each_round(number)` and `each_turn(name)` are called before, untimed."""
    guesses = {}
    for name, run in runs.items():
        each_turn(name)
        guesses[name] = estimate(run)
    calls = {name: max(1, round(effort.sample / guess)) for name, guess in guesses.items()}
    slowest = max(guesses[name] * calls[name] for name in runs)
    turns = int(min(max(effort.total / slowest, effort.least), effort.most))
    samples: dict[str, list[float]] = {name: [] for name in runs}
    if slowest > VERY_LONG_CALL:
        turns = 1
        samples = {name: [guess] for name, guess in guesses.items()}
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for turn in range(turns):
            each_round(turn)
            for name, run in runs.items():
                each_turn(name)
                if guesses[name] < LONG_CALL:
                    once(run)
                samples[name].append(once(run, calls[name]))
    finally:
        if was_enabled:
            gc.enable()
    return {name: Timing.of(found, calls[name]) for name, found in samples.items()}
