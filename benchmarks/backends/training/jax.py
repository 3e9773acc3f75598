"""JAX: one jitted function, the net of ../jax.py and its vector-Jacobian product (jax.vjp).

Variants are the two layouts of a weight. Ragged batches run to the end, with a loss that does not look
beyond the lengths: no mask in the loop, and the same gradients where there is one direction only.
b_ih and b_hh are one parameter where their gradients are the same. value_and_grad of sum(y dy), and
taking the products of the weights' gradients out of the loop, made nothing faster (0.10).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...data import Array, Weights, state_dict
from ...training.cases import TrainingCase
from .. import Prepared
from ..jax import functions, parameters, release

__all__ = ["prepare", "release", "variants"]


def variants(case: TrainingCase, threads: int) -> tuple[str, ...]:
    """Two layouts of the weights."""
    return ("rows", "columns")


def prepare(
    case: TrainingCase, weights: list[Weights], x: Array, dy: Array, threads: int, variant: str
) -> Prepared:
    """A compiled function and its arguments on the device."""
    import jax

    padded = dataclasses.replace(case, lengths=()) if case.D == 1 else case
    _, sequence = functions(padded, variant)
    lengths = np.array(case.lengths or (case.T,) * case.B, np.int32)

    def train(params: Any, x: Any, dy: Any) -> Any:
        _, back = jax.vjp(lambda params, x: sequence(params, x, lengths)[0], params, x)
        return back(dy)

    compiled = jax.jit(train)
    given = jax.device_put(([parameters(case, w, variant) for w in weights], x, dy))

    def outputs(result: Any) -> dict[str, Array]:
        params, d_x = result
        found = [_weights(case, d, variant) for d in params]
        return {"x": np.asarray(d_x)} | state_dict(case, found)

    return Prepared(lambda: jax.block_until_ready(compiled(*given)), outputs)


def _weights(case: TrainingCase, found: dict[str, Any], variant: str) -> Weights:
    """The gradients of a layer and direction, as PyTorch has them."""

    def rows(matrix: Any) -> Array:
        return np.asarray(matrix) if variant == "rows" else np.asarray(matrix).T

    b_ih = b_hh = np.asarray(found["b"])
    if case.cell == "gru":
        b_hh = np.concatenate([b_ih[: 2 * case.H], np.asarray(found["bn"])])
    return Weights(rows(found["ih"]), rows(found["hh"]), b_ih, b_hh)
