"""JAX: one jitted function, the input product hoisted, lax.scan over time.

Dispatch is synchronous, which takes 10 us off a call that is waited for anyway. Variants are the
two ways to store a weight, `rows` [N, K] and `columns` [K, N]; which is faster depends on the shape.
Weights are arguments and not constants of the program: equally fast when they fit in the cache and
twice as fast when they do not. Unrolling the scan and XLA's flags for vector width, XNNPACK, oneDNN
and fast math made nothing faster (0.10). In bfloat16 everything is; int8 has no recurrent net.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..cases import Case
from ..data import Array, Outputs, Weights
from . import Prepared, Unsupported


def configure(threads: int) -> None:
    """XLA's pool, before the import; its size also follows the processors the process may use."""
    flags = os.environ.get("XLA_FLAGS", "")
    eigen = "true" if threads > 1 else "false"
    os.environ["XLA_FLAGS"] = (
        f"{flags} --xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={threads}"
    ).strip()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


def version() -> str:
    """JAX's version."""
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return str(jax.__version__)


def variants(case: Case, threads: int) -> tuple[str, ...]:
    """Two layouts of the weights."""
    return ("rows", "columns")


def release() -> None:
    """Compiled programs stay in JAX's cache otherwise."""
    import jax

    jax.clear_caches()


def prepare(case: Case, weights: list[Weights], x: Array, threads: int, variant: str) -> Prepared:
    """A compiled function and its arguments on the device."""
    import jax

    if case.dtype == "int8":
        raise Unsupported("JAX quantises nothing by itself")
    step, sequence = functions(case, variant)
    kept = np.dtype(jax.numpy.dtype(case.dtype))
    params = jax.tree.map(lambda a: a.astype(kept), [parameters(case, w, variant) for w in weights])
    x = x.astype(kept)
    if case.carried:
        size = case.output_size
        h = np.zeros((case.L, case.B, size), kept)
        c = np.zeros((case.L, case.B, case.H), kept)
        start = [(h[i], c[i]) if case.cell == "lstm" else (h[i],) for i in range(case.L)]
        first, states = jax.device_put(x[0]), jax.device_put(start)
        params = jax.device_put(params)
        jitted = jax.jit(step)

        def carried() -> Any:
            nonlocal states
            y, states = jitted(params, first, states)
            y.block_until_ready()
            return y

        return Prepared(carried, lambda y: Outputs(np.array(y, np.float32)[None]))
    whole = jax.jit(sequence)
    arguments = jax.device_put((params, x, np.array(case.lengths or (case.T,) * case.B, np.int32)))

    def run() -> Any:
        result = whole(*arguments)
        result[0].block_until_ready()
        return result

    def outputs(result: Any) -> Outputs:
        y, states = result
        parts = [
            np.stack([np.asarray(s[i], np.float32) for s in states]) for i in range(len(states[0]))
        ]
        return Outputs(np.asarray(y, np.float32), *parts)

    return Prepared(run, outputs)


def parameters(case: Case, w: Weights, variant: str) -> dict[str, Array]:
    """Biases are added up except for the GRU's candidate, which multiplies one by r."""

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


def functions(case: Case, variant: str) -> tuple[Any, Any]:
    """A step and a sequence, to be jitted: (params, x, states) and (params, x, lengths)."""
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
