"""This module says how much work a convolution is, how fast the machine could do it, and which
share of that is the target.

The multiply-adds of the padding are counted; with few of them, reading x and writing the result is
the limit. Weights stay where they are.
"""

from __future__ import annotations

from ...core.dtypes import BYTES, FLOAT32
from ...core.limits import Limit, Pass, Rates, limit_of
from ...core.target import Target
from .case import ConvCase

SHARE, CHANNELS = 0.75, 32


def flops(case: ConvCase) -> int:
    """Return the FLOPs of the product."""
    height, width = case.outputs
    return 2 * case.B * height * width * case.D * case.C * case.taps[0] * case.taps[1]


def bytes_read(case: ConvCase) -> int:
    """Return the bytes of x and of the result."""
    height, width = case.outputs
    return BYTES[FLOAT32] * case.B * (case.C * case.H * case.W + case.D * height * width)


def buffer_sizes(case: ConvCase) -> list[int]:
    """Return the size whose bandwidth counts."""
    return [bytes_read(case)]


def limit(case: ConvCase, rates: Rates) -> Limit:
    """Return the limit."""
    size = bytes_read(case)
    return limit_of([Pass(size, size, flops(case))], rates)


def target(case: ConvCase, limit: Limit, rates: Rates) -> Target | None:
    """Return the target of 3x3 taps over 32 channels or more, and None for the others."""
    if case.taps != (3, 3) or case.C < CHANNELS or case.stride != (1, 1):
        return None
    return Target(f"{SHARE:.0%} of peak", flops(case) / rates.peak / SHARE)
