"""This module says how fast the machine could train, and has the targets of single cases.

Forward and backward are three times the products of the forward pass. A recurrent net has the
forward pass, the gradients of x and of h (the same weights, the other way round, read as often),
and those of the weights. The first two take what a forward pass takes, each; the third reads no
weights and has all rows at once, so that its FLOPs are its limit. Attention has two products
forward and four backward. Packing the weights, which change from call to call, gates, softmax,
computing its probabilities again, and what is saved and read again are not counted. The chain of
dependent steps is that of the forward pass: how long a step back waits for the next is not
measured.
"""

from __future__ import annotations

from ...core.limits import Limit, Rates, both_ways, limit_of
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
    """Return the sizes whose read bandwidth `limit` asks for."""
    if isinstance(case, TrainingCase):
        return recurrent.buffer_sizes(case)
    return attention.buffer_sizes(case)


def limit(case: AnyCase, rates: Rates) -> Limit:
    """Return the limit."""
    if isinstance(case, TrainingCase):
        return limit_of(both_ways(recurrent.passes(case)), rates, recurrent.chain(case, rates))
    return limit_of(both_ways(attention.passes(case)), rates)


def target(case: AnyCase, limit: Limit, rates: Rates) -> Target | None:
    """Return the target of a large batch of a recurrent net; targets.py has those of the others."""
    if isinstance(case, AttentionTrainingCase) or case.lengths or case.B < 32 or case.H < 256:
        return None
    return Target(f"{SHARE:.0%} of peak", flops(case) / rates.peak / SHARE)
