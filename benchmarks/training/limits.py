"""How fast the machine could train, and the bars.

Forward and backward are three products of the size of the forward one: the forward pass, the gradients
of x and of h (the same weights, the other way round, read as often), and those of the weights. The
first two take what ../limits.py says of a forward pass, each; the third reads no weights and has all
rows at once, so that its FLOPs are its limit. Packing the weights, which change from call to call,
gates, and what is saved and read again are not counted.
"""

from __future__ import annotations

from collections.abc import Callable

from .. import limits as forward
from ..limits import Bar, buffer_sizes, tightest
from .cases import TrainingCase

__all__ = ["bar", "buffer_sizes", "bytes_read", "flops", "limit_seconds", "tightest"]

SHARE = 0.8


def flops(case: TrainingCase) -> int:
    """Of the three products."""
    return 3 * forward.flops(case)


def bytes_read(case: TrainingCase) -> int:
    """Bytes of weights read on the way there and back."""
    return 2 * forward.bytes_read(case)


def limit_seconds(case: TrainingCase, peak: float, bandwidth: Callable[[int], float]) -> float:
    """The limit; `peak` in FLOP/s, `bandwidth(bytes)` in bytes/s."""
    return 2 * forward.limit_seconds(case, peak, bandwidth) + forward.flops(case) / peak


def bar(
    case: TrainingCase, limit: float, peak: float, bandwidth: Callable[[int], float]
) -> Bar | None:
    """The project's bar for large batches; ragged ones are held against padded ones, in bars.py."""
    if case.lengths or case.B < 32 or case.H < 256:
        return None
    return Bar(f"{SHARE:.0%} of peak", flops(case) / peak / SHARE)
