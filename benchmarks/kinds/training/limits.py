"""This module says how fast the machine could train, and has the targets of single cases.

Forward and backward are three times the products of the forward pass. A recurrent net has the
forward pass, the gradients of x and of h (the same weights, the other way round, read as often),
and those of the weights. The first two take what a forward pass takes, each; the third reads no
weights and has all rows at once, so that its FLOPs are its limit. Attention has two products
forward and four backward. Packing the weights, which change from call to call, gates, softmax,
computing its probabilities again, and what is saved and read again are not counted.
"""

from __future__ import annotations

from ...core.kind import Bandwidth
from ...core.models.attention import work as attention
from ...core.models.recurrent import work as recurrent
from ...core.target import Target
from .cases import AnyCase, AttentionTrainingCase, TrainingCase

SHARE = 0.8


def flops(case: AnyCase) -> int:
    """Return the FLOPs of all products."""
    return 3 * _forward_flops(case)


def _forward_flops(case: AnyCase) -> int:
    if isinstance(case, TrainingCase):
        return recurrent.flops(case)
    return attention.flops(case)


def bytes_read(case: AnyCase) -> int:
    """Return the bytes that are read on the way there and back."""
    if isinstance(case, TrainingCase):
        return 2 * recurrent.bytes_read(case)
    return 2 * attention.bytes_read(case)


def buffer_sizes(case: AnyCase) -> list[int]:
    """Return the sizes whose read bandwidth `limit_seconds` asks for."""
    if isinstance(case, TrainingCase):
        return recurrent.buffer_sizes(case)
    return attention.buffer_sizes(case)


def limit_seconds(case: AnyCase, peak: float, bandwidth: Bandwidth) -> float:
    """Return the limit, with `peak` in FLOP/s and `bandwidth(bytes)` in bytes/s."""
    if isinstance(case, TrainingCase):
        once = recurrent.limit_seconds(case, peak, bandwidth)
    else:
        once = attention.limit_seconds(case, peak, bandwidth)
    return 2 * once + _forward_flops(case) / peak


def tightest(case: AnyCase, peak: float, bandwidth: Bandwidth) -> int | None:
    """Return the size whose reading is most of the limit; None means that FMA is."""
    if isinstance(case, TrainingCase):
        return recurrent.tightest(case, peak, bandwidth)
    return attention.tightest(case, peak, bandwidth)


def target(case: AnyCase, limit: float, peak: float, bandwidth: Bandwidth) -> Target | None:
    """Return the target of a large batch of a recurrent net; targets.py has those of the others."""
    if isinstance(case, AttentionTrainingCase) or case.lengths or case.B < 32 or case.H < 256:
        return None
    return Target(f"{SHARE:.0%} of peak", flops(case) / peak / SHARE)
