"""This module makes the answer that every peer is held to, and says how far off one may be.

The tolerance is derived, not chosen. A recurrence amplifies rounding by an amount that depends on
the weights and on T, so no fixed number is right: `expected` runs the formulas in float64, and once
more with the errors put in that every implementation in the case's dtype may have (errors.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.dtypes import Array
from ...core.errors import Exact, errors_of, tolerance
from ...core.models.recurrent.case import NetCase
from ...core.models.recurrent.data import NetInputs, Outputs
from ...core.models.recurrent.formulas import run

CARRIED_STEPS = 4  # steps taken from the zero state to check a case that carries its state
BUDGET = 2e8  # multiply-adds of the reference; a larger case is checked in part


@dataclass(frozen=True)
class Expected:
    """The float64 answer for some rows and the first `steps` steps, and the error allowed."""

    outputs: Outputs
    tolerance: float
    steps: int
    rows: Array
    whole: bool  # all steps are covered, so final states can be compared
    lengths: Array | None


def expected(case: NetCase, inputs: NetInputs) -> Expected:
    """The reference for as much of the case as `BUDGET` allows.

    Rows are independent, so some of them can stand for all; and what a net of one direction does
    in its first steps does not depend on what follows, so a long sequence is checked at its start.
    The call that is checked is the one that is timed, never a smaller one.
    """
    weights, x = inputs
    macs = sum(w.ih.size + w.hh.size for w in weights)
    if case.carried:
        steps = CARRIED_STEPS
        x = np.repeat(x, steps, axis=0)
    else:
        steps = case.T
    rows = max(1, min(case.B, int(BUDGET / (macs * steps))))
    picked = np.unique(np.linspace(0, case.B - 1, rows).round().astype(int))
    if case.D == 1 and not case.carried:
        steps = min(case.T, max(4, int(BUDGET / (macs * len(picked)))))
    part = np.ascontiguousarray(x[:steps, picked])
    lengths = np.minimum(np.array(case.lengths)[picked], steps) if case.lengths else None
    exact = run(case, weights, part, lengths, Exact())
    errors = errors_of(case.dtype)
    plain = run(case, weights, part, lengths, errors)
    error = float(np.abs(plain.y - exact.y).max())
    for mine, right in ((plain.h, exact.h), (plain.c, exact.c)):
        if mine is not None and right is not None:
            error = max(error, float(np.abs(mine - right).max()))
    allowed = tolerance(error, float(np.abs(exact.y).max()), errors)
    whole = case.carried or steps == case.T
    return Expected(exact, allowed, steps, picked, whole, lengths)


def worst_error(want: Expected, got: Outputs, beyond_lengths: bool = True) -> float:
    """Return the largest absolute difference; infinity for a malformed answer.

    `beyond_lengths` False leaves out y beyond each length (a peer that does not zero it).
    """
    y = got.y[: want.steps]
    if y.ndim != 3 or y.shape[1] <= want.rows[-1] or not np.isfinite(got.y).all():
        return float("inf")
    y = y[:, want.rows]
    if y.shape != want.outputs.y.shape:
        return float("inf")
    difference = np.abs(y - want.outputs.y)
    if want.lengths is not None and not beyond_lengths:
        difference[np.arange(want.steps)[:, None] >= want.lengths] = 0
    worst = float(difference.max())
    if want.whole:
        for mine, right in ((got.h, want.outputs.h), (got.c, want.outputs.c)):
            if mine is not None and right is not None:
                if mine.shape[0] != right.shape[0]:
                    return float("inf")
                worst = max(worst, float(np.abs(mine[:, want.rows] - right).max()))
    return worst
