"""This module says how fast the machine could run a program of Keras.

Counted are the products of the recurrent layers, as the kinds "recurrent" and "training" count
them: forward and, of a fit, three times that for each batch. The embedding, the last layer of one
output and the optimizer are not counted.
"""

from __future__ import annotations

from ...core.kind import Bandwidth
from ...core.models.recurrent import work
from ...core.target import Target
from .cases import FIT, KerasCase


def flops(case: KerasCase) -> int:
    """Return the FLOPs of all products."""
    once = work.flops(case.net)
    return 3 * case.steps * once if case.group == FIT else once


def bytes_read(case: KerasCase) -> int:
    """Return the bytes of weights that are read, on the way there and back."""
    once = work.bytes_read(case.net)
    return 2 * case.steps * once if case.group == FIT else once


def buffer_sizes(case: KerasCase) -> list[int]:
    """Return the sizes whose read bandwidth `limit_seconds` asks for."""
    return work.buffer_sizes(case.net)


def limit_seconds(case: KerasCase, peak: float, bandwidth: Bandwidth) -> float:
    """Return the limit, with `peak` in FLOP/s and `bandwidth(bytes)` in bytes/s."""
    once = work.limit_seconds(case.net, peak, bandwidth)
    if case.group != FIT:
        return once
    return case.steps * (2 * once + work.flops(case.net) / peak)


def tightest(case: KerasCase, peak: float, bandwidth: Bandwidth) -> int | None:
    """Return the size whose reading is most of the limit; None means that FMA is."""
    return work.tightest(case.net, peak, bandwidth)


def target(case: KerasCase, limit: float, peak: float, bandwidth: Bandwidth) -> Target | None:
    """Hold a model from a file against the clock; targets.py has the targets against Keras."""
    if not case.target_us:
        return None
    return Target(f"{case.target_us:g} us", case.target_us * 1e-6)
