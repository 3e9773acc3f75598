"""JAX runs one jitted function: the input product is hoisted, and lax.scan goes over time.

The variants are the two ways to store a weight, `rows` [N, K] and `columns` [K, N]; which is faster
depends on the shape. Weights are arguments and not constants of the program: that is equally fast
when they fit in the cache and twice as fast when they do not. Unrolling the scan made nothing
faster (0.10). In bfloat16 everything is bfloat16; int8 has no recurrent net.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ....core.kind import Prepared, Unsupported
from ....core.models.recurrent.case import NetCase
from ....core.models.recurrent.data import NetInputs, Outputs
from ....core.models.recurrent.jax import functions, parameters
from ....core.peers.jax import release

__all__ = ["prepare", "release", "variants"]


def variants(case: NetCase, threads: int) -> tuple[str, ...]:
    """Return the two layouts of the weights."""
    return ("rows", "columns")


def prepare(case: NetCase, inputs: NetInputs, threads: int, variant: str) -> Prepared[Outputs]:
    """Compile a function and put its arguments on the device."""
    import jax

    weights, x = inputs

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
