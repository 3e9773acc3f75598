"""This module has the targets of single cases; core/models/recurrent/work.py has their limits."""

from __future__ import annotations

from ...core.dtypes import FLOAT32
from ...core.limits import Limit, Rates
from ...core.models.recurrent.case import NetCase
from ...core.models.recurrent.work import flops
from ...core.target import CALL_ALLOWANCE, Target

STEP_FACTOR = 1.3
SEQUENCE_SHARE = 0.8
BATCH_SHARE = 0.9
# In bfloat16 and int8, the share of the peak for B >= 32 and H >= 256, quantisation included.
LOW_PRECISION_SHARE = {"bfloat16": 0.85, "int8": 0.7}
INT8_STEP = 3e-6  # seconds of one step, LSTM, H = 128


def target(case: NetCase, limit: Limit, rates: Rates) -> Target | None:
    """Return the project's target for this case; None where it only has to beat the peers.

    The allowance of a step is for the call from Python: it comes to the time of the products.
    """
    if case.dtype != FLOAT32:
        return _low_precision_target(case, rates.peak)
    if case.lengths:
        return None  # held against its own padded time, in targets.py
    if case.B == 1 and case.T > 1:
        return Target(f"{SEQUENCE_SHARE:.0%} of limit", limit.seconds / SEQUENCE_SHARE)
    if case.B >= 16 and case.H >= 256:
        return Target(f"{BATCH_SHARE:.0%} of peak", flops(case) / (BATCH_SHARE * rates.peak))
    if case.T == case.B == case.L == 1 and case.I == case.H and 32 <= case.H <= 1024:
        allowed = STEP_FACTOR * limit.work + CALL_ALLOWANCE
        return Target(f"{STEP_FACTOR:g} x products + {CALL_ALLOWANCE * 1e6:g} us", allowed)
    return None


def _low_precision_target(case: NetCase, peak: float) -> Target | None:
    """Steps are held against float32, in targets.py, and one also against the clock."""
    if case.B >= 32 and case.H >= 256:
        share = LOW_PRECISION_SHARE[case.dtype]
        return Target(f"{share:.0%} of peak", flops(case) / (share * peak))
    if case.dtype == "int8" and case.carried and (case.cell, case.H) == ("lstm", 128):
        return Target(f"{INT8_STEP * 1e6:g} us", INT8_STEP)
    return None
