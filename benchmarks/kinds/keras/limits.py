"""This module says how fast the machine could run a program of Keras.

Counted are the products of the recurrent layers, as the kinds "recurrent" and "training" count
them: forward and, of a fit, three times that for each batch. The embedding, the last layer of one
output and the optimizer are not counted, and of a fit one call.
"""

from __future__ import annotations

from ...core.limits import Limit, Rates, both_ways, limit_of, repeated
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
    """Return the sizes whose read bandwidth `limit` asks for."""
    return work.buffer_sizes(case.net)


def limit(case: KerasCase, rates: Rates) -> Limit:
    """Return the limit."""
    if case.group != FIT:
        return work.limit(case.net, rates)
    passes = repeated(both_ways(work.passes(case.net)), case.steps)
    return limit_of(passes, rates, case.steps * work.chain(case.net, rates))


def target(case: KerasCase, limit: Limit, rates: Rates) -> Target | None:
    """Hold a model from a file against the clock; targets.py has the targets against Keras."""
    if not case.target_us:
        return None
    return Target(f"{case.target_us:g} us", case.target_us * 1e-6)
