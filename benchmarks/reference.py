"""The answer every backend is held to: the formulas in NumPy, and how far off one may be.

The tolerance is derived, not chosen. A recurrence amplifies rounding by an amount that depends on
the weights and on T, so no fixed number is right: `expected` runs the formulas in float64, and once
more with the errors put in that every implementation in the case's dtype may have (errors.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cases import Case
from .data import Array, Outputs, Weights
from .errors import Exact, errors_of, tolerance

CARRIED_STEPS = 4  # steps taken from the zero state to check a case that carries its state
BUDGET = 2e8  # multiply-adds of the reference; a larger case is checked in part


def sigmoid(a: Array) -> Array:
    """1 / (1 + exp(-a)), in the form that cannot overflow."""
    return 0.5 * np.tanh(0.5 * a) + 0.5


def run(
    case: Case, weights: list[Weights], x: Array, lengths: Array | None, error: Exact
) -> Outputs:
    """The net over x [T, B, I] from the zero state."""
    states_h, states_c = [], []
    fed: Array = x.astype(error.dtype)
    for layer in range(case.L):
        outputs = []
        for direction in range(case.D):
            w = weights[layer * case.D + direction]
            y, h, c = _direction(case, w, fed, lengths, direction == 1, error)
            outputs.append(y)
            states_h.append(h)
            states_c.append(c)
        fed = np.concatenate(outputs, axis=-1)
    lstm = case.cell == "lstm"
    return Outputs(fed, np.stack(states_h), np.stack(states_c) if lstm else None)


def _direction(
    case: Case, w: Weights, x: Array, lengths: Array | None, reverse: bool, error: Exact
) -> tuple[Array, Array, Array]:
    ih, hh, b_ih, b_hh = (part.astype(error.dtype) for part in w[:4])
    ih, hh = error.weights(ih), error.weights(hh)
    hr = None if w.hr is None else error.weights(w.hr.astype(error.dtype))
    steps, batch, _ = x.shape
    begun = error.kept(error.inputs(x) @ ih.T + b_ih)
    h = np.zeros((batch, case.output_size), error.dtype)
    c = np.zeros((batch, case.H), error.dtype)
    y = np.zeros((steps, batch, case.output_size), error.dtype)
    terms = ih.shape[1] + hh.shape[1]
    for t in reversed(range(steps)) if reverse else range(steps):
        back = error.total(error.inputs(h) @ hh.T, terms, begun[t]) + b_hh
        new_h, new_c = _cell(case, hr, begun[t], back, h, c, error)
        if lengths is None:
            h, c = new_h, new_c
            y[t] = h
        else:
            live = (t < lengths)[:, None]
            h, c = np.where(live, new_h, h), np.where(live, new_c, c)
            y[t] = np.where(live, h, 0)
    return y, h, c


def _cell(
    case: Case, hr: Array | None, begun: Array, back: Array, h: Array, c: Array, error: Exact
) -> tuple[Array, Array]:
    off = error.activation
    if case.cell == "rnn":
        a = begun + back
        return off(np.maximum(a, 0) if case.nonlinearity == "relu" else np.tanh(a)), c
    if case.cell == "lstm":
        i, f, g, o = np.split(begun + back, 4, axis=-1)
        c = error.kept(off(sigmoid(f)) * c + off(sigmoid(i)) * off(np.tanh(g)))
        h = error.kept(off(sigmoid(o)) * off(np.tanh(c)))
        return (h if hr is None else error.total(error.inputs(h) @ hr.T, case.H)), c
    (fr, fz, fn), (br, bz, bn) = (np.split(a, 3, axis=-1) for a in (begun, back))
    z = off(sigmoid(fz + bz))
    n = off(np.tanh(fn + off(sigmoid(fr + br)) * bn))
    return error.kept((1 - z) * n + z * h), c


@dataclass(frozen=True)
class Expected:
    """The float64 answer for some rows and the first `steps` steps, and the error allowed."""

    outputs: Outputs
    tolerance: float
    steps: int
    rows: Array
    whole: bool  # all steps are covered, so final states can be compared
    lengths: Array | None


def expected(case: Case, weights: list[Weights], x: Array) -> Expected:
    """The reference for as much of the case as `BUDGET` allows.

    Rows are independent, so some of them can stand for all; and what a net of one direction does
    in its first steps does not depend on what follows, so a long sequence is checked at its start.
    The call that is checked is the one that is timed, never a smaller one.
    """
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
    """Largest absolute difference; infinite for a wrong shape or a value that is not finite.

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
