"""This module runs recurrent nets by their formulas in NumPy, in the dtype and with the rounding
errors that an `Exact` describes.
"""

from __future__ import annotations

import numpy as np

from ...dtypes import Array
from ...errors import Exact
from .case import NetCase
from .data import Outputs, Weights


def sigmoid(a: Array) -> Array:
    """Return 1 / (1 + exp(-a)), by a form that cannot overflow."""
    return 0.5 * np.tanh(0.5 * a) + 0.5


def run(
    case: NetCase, weights: list[Weights], x: Array, lengths: Array | None, error: Exact
) -> Outputs:
    """Run the net over x [T, B, I] from the zero state."""
    states_h, states_c = [], []
    layer_input: Array = x.astype(error.dtype)
    for layer in range(case.L):
        outputs = []
        for direction in range(case.D):
            w = weights[layer * case.D + direction]
            y, h, c = _direction(case, w, layer_input, lengths, direction == 1, error)
            outputs.append(y)
            states_h.append(h)
            states_c.append(c)
        layer_input = np.concatenate(outputs, axis=-1)
    lstm = case.cell == "lstm"
    return Outputs(layer_input, np.stack(states_h), np.stack(states_c) if lstm else None)


def _direction(
    case: NetCase, w: Weights, x: Array, lengths: Array | None, reverse: bool, error: Exact
) -> tuple[Array, Array, Array]:
    """Run one direction of a layer over x [T, B, I]; return y and the last h and c."""
    ih, hh, b_ih, b_hh = (part.astype(error.dtype) for part in w[:4])
    ih, hh = error.weights(ih), error.weights(hh)
    hr = None if w.hr is None else error.weights(w.hr.astype(error.dtype))
    steps, batch, _ = x.shape
    from_input = error.kept(error.inputs(x) @ ih.T + b_ih)
    h = np.zeros((batch, case.output_size), error.dtype)
    c = np.zeros((batch, case.H), error.dtype)
    y = np.zeros((steps, batch, case.output_size), error.dtype)
    terms = ih.shape[1] + hh.shape[1]
    for t in reversed(range(steps)) if reverse else range(steps):
        from_state = error.total(error.inputs(h) @ hh.T, terms, from_input[t]) + b_hh
        new_h, new_c = _cell(case, hr, from_input[t], from_state, h, c, error)
        if lengths is None:
            h, c = new_h, new_c
            y[t] = h
        else:
            live = (t < lengths)[:, None]
            h, c = np.where(live, new_h, h), np.where(live, new_c, c)
            y[t] = np.where(live, h, 0)
    return y, h, c


def _cell(
    case: NetCase,
    hr: Array | None,
    from_input: Array,
    from_state: Array,
    h: Array,
    c: Array,
    error: Exact,
) -> tuple[Array, Array]:
    """Return the new h and c, given the input part and the state part of the pre-activations."""
    with_error = error.activation
    if case.cell == "rnn":
        a = from_input + from_state
        return with_error(np.maximum(a, 0) if case.nonlinearity == "relu" else np.tanh(a)), c
    if case.cell == "lstm":
        i, f, g, o = np.split(from_input + from_state, 4, axis=-1)
        c = error.kept(with_error(sigmoid(f)) * c + with_error(sigmoid(i)) * with_error(np.tanh(g)))
        h = error.kept(with_error(sigmoid(o)) * with_error(np.tanh(c)))
        return (h if hr is None else error.total(error.inputs(h) @ hr.T, case.H)), c
    (fr, fz, fn), (br, bz, bn) = (np.split(a, 3, axis=-1) for a in (from_input, from_state))
    z = with_error(sigmoid(fz + bz))
    n = with_error(np.tanh(fn + with_error(sigmoid(fr + br)) * bn))
    return error.kept((1 - z) * n + z * h), c
