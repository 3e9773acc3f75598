"""This module writes the recurrent nets as functions for JAX, with weights in two layouts."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dtypes import Array
from .case import NetCase
from .data import Weights


def parameters(case: NetCase, w: Weights, variant: str) -> dict[str, Array]:
    """Return the weights of a layer by name.

    Both biases are added up, except in the GRU's candidate, which multiplies one of them by r.
    """

    def stored(matrix: Array) -> Array:
        return matrix if variant == "rows" else np.ascontiguousarray(matrix.T)

    found = {"ih": stored(w.ih), "hh": stored(w.hh), "b": w.b_ih + w.b_hh}
    if case.cell == "gru":
        apart = 2 * case.H
        found["b"] = np.concatenate([w.b_ih[:apart] + w.b_hh[:apart], w.b_ih[apart:]])
        found["bn"] = w.b_hh[apart:]
    if w.hr is not None:
        found["hr"] = stored(w.hr)
    return found


def functions(case: NetCase, variant: str) -> tuple[Any, Any]:
    """Return a step (params, x, states) and a sequence (params, x, lengths), to be jitted."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    sigmoid, tanh = jax.nn.sigmoid, jnp.tanh
    squash = jax.nn.relu if case.nonlinearity == "relu" else tanh
    contracted = 1 if variant == "rows" else 0

    def product(a: Any, matrix: Any) -> Any:
        return lax.dot_general(a, matrix, (((a.ndim - 1,), (contracted,)), ((), ())))

    def cell(p: Any, fed: Any, state: Any) -> Any:
        back = product(state[0], p["hh"])
        if case.cell == "rnn":
            return (squash(fed + back),)
        if case.cell == "lstm":
            i, f, g, o = jnp.split(fed + back, 4, axis=-1)
            c = sigmoid(f) * state[1] + sigmoid(i) * tanh(g)
            h = sigmoid(o) * tanh(c)
            return (product(h, p["hr"]) if "hr" in p else h, c)
        (fr, fz, fn), (br, bz, bn) = jnp.split(fed, 3, -1), jnp.split(back, 3, -1)
        z = sigmoid(fz + bz)
        n = tanh(fn + sigmoid(fr + br) * (bn + p["bn"]))
        return ((1 - z) * n + z * state[0],)

    def step(params: Any, x: Any, states: Any) -> Any:
        new = []
        for p, state in zip(params, states, strict=True):
            new.append(cell(p, product(x, p["ih"]) + p["b"], state))
            x = new[-1][0]
        return x, new

    def direction(p: Any, x: Any, lengths: Any, reverse: bool) -> Any:
        flat = product(x.reshape(case.T * case.B, -1), p["ih"]) + p["b"]
        start = [jnp.zeros((case.B, case.output_size), x.dtype)]
        if case.cell == "lstm":
            start.append(jnp.zeros((case.B, case.H), x.dtype))

        def body(state: Any, at: Any) -> Any:
            fed, t = at
            new = cell(p, fed, state)
            if not case.lengths:
                return new, new[0]
            live = (t < lengths)[:, None]
            held = tuple(jnp.where(live, a, b) for a, b in zip(new, state, strict=True))
            return held, jnp.where(live, new[0], 0)

        fed = flat.reshape(case.T, case.B, -1)
        return lax.scan(body, tuple(start), (fed, jnp.arange(case.T)), reverse=reverse)

    def sequence(params: Any, x: Any, lengths: Any) -> Any:
        states = []
        for layer in range(case.L):
            outputs = []
            for d in range(case.D):
                last, y = direction(params[layer * case.D + d], x, lengths, d == 1)
                states.append(last)
                outputs.append(y)
            x = jnp.concatenate(outputs, -1) if case.D == 2 else outputs[0]
        return x, states

    return step, sequence
