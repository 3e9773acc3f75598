"""This module draws the inputs of recurrent nets and goes back through time in NumPy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...core.dtypes import Array
from ...core.errors import Exact
from ...core.models.recurrent.data import (
    NetInputs,
    Weights,
    make_input,
    make_weights,
    state_dict,
)
from ...core.models.recurrent.formulas import sigmoid
from .cases import TrainingCase
from .reference import Gradients


def arguments(case: TrainingCase, seed: int = 7) -> tuple[NetInputs, Array]:
    """Return (weights, x), and dy [T, B, D*H], standard normal.

    Dy is 0 where a loss does not look.
    """
    rng = np.random.default_rng(seed)
    dy = rng.standard_normal((case.T, case.B, case.D * case.H), dtype=np.float32)
    if case.lengths:
        dy[np.arange(case.T)[:, None] >= np.array(case.lengths)] = 0
    return (make_weights(case), make_input(case)), dy


class _Step(NamedTuple):
    """One time step on its way back."""

    t: int
    live: Array | None  # [B, 1], None: every row
    h: Array  # before the step
    kept: tuple[Array, ...]


def picked(case: TrainingCase) -> Any:
    """Return an index of everything: the gradient of a weight needs every row and step."""
    return ...


def gradients(case: TrainingCase, inputs: NetInputs, dy: Array, error: Exact) -> Gradients:
    """Return the gradients of sum(y * dy), under PyTorch's names and "x"."""
    weights, x = inputs
    weights = [Weights(*(part.astype(error.dtype) for part in w[:4])) for w in weights]
    fed: list[Array] = [x.astype(error.dtype)]
    traces = []
    for layer in range(case.L):
        passes = [
            _forward(case, weights[layer * case.D + d], fed[-1], d == 1, error)
            for d in range(case.D)
        ]
        fed.append(np.concatenate([y for y, _ in passes], axis=-1))
        traces.append([steps for _, steps in passes])
    d_y: Array = dy.astype(error.dtype)
    found = list(weights)  # each is replaced by its gradients
    for layer in reversed(range(case.L)):
        d_fed = np.zeros_like(fed[layer])
        for d, part in enumerate(np.split(d_y, case.D, axis=-1)):
            index = layer * case.D + d
            more, found[index] = _backward(
                case, weights[index], fed[layer], traces[layer][d], part, error
            )
            d_fed += more
        d_y = d_fed
    return {"x": d_y} | state_dict(case, found)


def _forward(
    case: TrainingCase, w: Weights, x: Array, reverse: bool, error: Exact
) -> tuple[Array, list[_Step]]:
    begun = x @ w.ih.T + w.b_ih
    h = c = np.zeros((case.B, case.H), error.dtype)
    y = np.zeros((case.T, case.B, case.H), error.dtype)
    terms = w.ih.shape[1] + w.hh.shape[1]
    steps = []
    for t in reversed(range(case.T)) if reverse else range(case.T):
        live = t < np.array(case.lengths)[:, None] if case.lengths else None
        if case.cell == "gru":  # the parts meet behind the reset gate
            back = error.total(h @ w.hh.T, terms, begun[t]) + w.b_hh
            new_h, kept = _gru(begun[t], back, h, error)
            new_c = c
        else:
            a = begun[t] + error.total(h @ w.hh.T, terms, begun[t]) + w.b_hh
            new_h, new_c, kept = (_lstm if case.cell == "lstm" else _rnn)(a, c, error)
        steps.append(_Step(t, live, h, kept))
        y[t] = new_h if live is None else np.where(live, new_h, 0)
        h = new_h if live is None else np.where(live, new_h, h)
        c = new_c if live is None else np.where(live, new_c, c)
    return y, steps


def _rnn(a: Array, c: Array, error: Exact) -> tuple[Array, Array, tuple[Array, ...]]:
    h = error.activation(np.tanh(a))
    return h, c, (h,)


def _lstm(a: Array, c: Array, error: Exact) -> tuple[Array, Array, tuple[Array, ...]]:
    i, f, g, o = np.split(a, 4, axis=-1)
    i, f, o = (error.activation(sigmoid(part)) for part in (i, f, o))
    g = error.activation(np.tanh(g))
    new = f * c + i * g
    squashed = error.activation(np.tanh(new))
    return o * squashed, new, (i, f, g, o, c, squashed)


def _gru(fed: Array, back: Array, h: Array, error: Exact) -> tuple[Array, tuple[Array, ...]]:
    (fr, fz, fn), (br, bz, bn) = (np.split(a, 3, axis=-1) for a in (fed, back))
    r, z = error.activation(sigmoid(fr + br)), error.activation(sigmoid(fz + bz))
    n = error.activation(np.tanh(fn + r * bn))
    return (1 - z) * n + z * h, (r, z, n, bn)


def _backward(
    case: TrainingCase, w: Weights, x: Array, steps: list[_Step], dy: Array, error: Exact
) -> tuple[Array, Weights]:
    """Return the gradients of x and of the weights of one layer and direction."""
    rows = (case.T, case.B, case.gates * case.H)
    d_fed, d_back = np.zeros(rows, error.dtype), np.zeros(rows, error.dtype)
    before = np.zeros((case.T, case.B, case.H), error.dtype)
    dh = dc = np.zeros((case.B, case.H), error.dtype)
    backward = {"rnn": _rnn_backward, "lstm": _lstm_backward, "gru": _gru_backward}[case.cell]
    for t, live, h, kept in reversed(steps):
        before[t] = h
        fed, back, direct, new_dc = backward(h, kept, dh + dy[t], dc)
        new_dh = error.total(back @ w.hh, rows[-1]) + direct
        if live is not None:
            fed, back = np.where(live, fed, 0), np.where(live, back, 0)
            new_dh, new_dc = np.where(live, new_dh, dh), np.where(live, new_dc, dc)
        d_fed[t], d_back[t], dh, dc = fed, back, new_dh, new_dc
    many = case.T * case.B
    flat_fed, flat_back = d_fed.reshape(many, -1), d_back.reshape(many, -1)

    def total(sums: Array) -> Array:
        return error.total(sums, many)

    found = Weights(
        total(flat_fed.T @ x.reshape(many, -1)),
        total(flat_back.T @ before.reshape(many, -1)),
        total(flat_fed.sum(0)),
        total(flat_back.sum(0)),
    )
    return error.total(d_fed @ w.ih, rows[-1]), found


# Each function takes h before the step, what was kept, and the gradients of h and c behind the
# step. It returns the gradients of the input part and of the recurrent part of the sums, what goes
# straight to h, and the gradient of c before the step.


def _rnn_backward(h: Array, kept: tuple[Array, ...], dh: Array, dc: Array) -> Any:
    (new,) = kept
    da = dh * (1 - new * new)
    return da, da, np.zeros_like(h), dc


def _lstm_backward(h: Array, kept: tuple[Array, ...], dh: Array, dc: Array) -> Any:
    i, f, g, o, c, squashed = kept
    dc = dc + dh * o * (1 - squashed * squashed)
    parts = (
        dc * g * i * (1 - i),
        dc * c * f * (1 - f),
        dc * i * (1 - g * g),
        dh * squashed * o * (1 - o),
    )
    da = np.concatenate(parts, axis=-1)
    return da, da, np.zeros_like(h), dc * f


def _gru_backward(h: Array, kept: tuple[Array, ...], dh: Array, dc: Array) -> Any:
    r, z, n, bn = kept
    dn = dh * (1 - z) * (1 - n * n)
    dz = dh * (h - n) * z * (1 - z)
    dr = dn * bn * r * (1 - r)
    return np.concatenate((dr, dz, dn), -1), np.concatenate((dr, dz, dn * r), -1), dh * z, dc
