"""This module has the targets of single cases; core/models/attention/work.py has their limits."""

from __future__ import annotations

from ...core.limits import Limit, Rates
from ...core.models.attention.case import AttentionCase
from ...core.models.attention.work import flops
from ...core.target import Target

LONG, LONG_SHARE = 512, 0.85
SHORT, SHORT_SHARE = 128, 0.75
DECODE_SHARE = 0.85


def target(case: AttentionCase, limit: Limit, rates: Rates) -> Target | None:
    """Return the project's target for the shapes of the speed goal, and None for the others.

    Decoding from memory is bound by its bandwidth, unless many heads share few keys: then the
    target is the same share of the multiply-adds.
    """
    if not case.goal or case.causal:  # causal: held against the full one, in targets.py
        return None
    if case.decoding:
        return Target(f"{DECODE_SHARE:.0%} of bandwidth", limit.work / DECODE_SHARE)
    share = LONG_SHARE if case.S >= LONG else SHORT_SHARE if case.S >= SHORT else 0.0
    return Target(f"{share:.0%} of peak", flops(case) / rates.peak / share) if share else None
