"""JAX runs one jitted function, a net or attention and its vector-Jacobian product (jax.vjp).

The nets are those of core/models/recurrent/jax.py; variants are the two layouts of a weight. Ragged
batches run to the end, with a loss that does not look beyond the lengths: no mask in the loop, and
the same gradients where there is one direction only. b_ih and b_hh are one parameter where their
gradients are the same. value_and_grad of sum(y dy), and taking the products of the weights'
gradients out of the loop, made nothing faster (0.10). Attention is jax.nn.dot_product_attention in
its own layout [B, S, N, E].
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.models.recurrent.data import Weights, state_dict
from ....core.models.recurrent.jax import functions, parameters
from ....core.peers.jax import release
from ..cases import AnyCase, AttentionTrainingCase, TrainingCase, TrainingInputs
from ..reference import Gradients

__all__ = ["prepare", "release", "variants"]


def variants(case: AnyCase, threads: int) -> tuple[str, ...]:
    """Return the two layouts of the weights, or the one way to attend."""
    attention = isinstance(case, AttentionTrainingCase)
    return ("dot_product_attention",) if attention else ("rows", "columns")


def prepare(
    case: AnyCase, inputs: TrainingInputs, threads: int, variant: str
) -> Prepared[Gradients]:
    """Compile a function and put its arguments on the device."""
    given, dy = inputs
    if isinstance(case, AttentionTrainingCase):
        return _attention(case, given, dy)
    return _net(case, given, dy, variant)


def _net(case: TrainingCase, inputs: Any, dy: Array, variant: str) -> Prepared[Gradients]:
    import jax

    weights, x = inputs
    padded = dataclasses.replace(case, lengths=()) if case.D == 1 else case
    _, sequence = functions(padded, variant)
    lengths = np.array(case.lengths or (case.T,) * case.B, np.int32)

    def train(params: Any, x: Any, dy: Any) -> Any:
        _, back = jax.vjp(lambda params, x: sequence(params, x, lengths)[0], params, x)
        return back(dy)

    compiled = jax.jit(train)
    given = jax.device_put(([parameters(case, w, variant) for w in weights], x, dy))

    def outputs(result: Any) -> Gradients:
        params, d_x = result
        found = [_weights(case, d, variant) for d in params]
        return {"x": np.asarray(d_x)} | state_dict(case, found)

    return Prepared(lambda: jax.block_until_ready(compiled(*given)), outputs)


def _attention(
    case: AttentionTrainingCase, inputs: tuple[Array, Array, Array], dy: Array
) -> Prepared[Gradients]:
    import jax

    def attend(q: Any, k: Any, v: Any) -> Any:
        return jax.nn.dot_product_attention(q, k, v, is_causal=case.causal)

    def train(inputs: Any, dy: Any) -> Any:
        _, back = jax.vjp(attend, *inputs)
        return back(dy)

    def other_layout(array: Array) -> Array:
        return np.ascontiguousarray(array.swapaxes(1, 2))

    compiled = jax.jit(train)
    given = jax.device_put(([other_layout(part) for part in inputs], other_layout(dy)))

    def outputs(result: Any) -> Gradients:
        return {n: np.asarray(d).swapaxes(1, 2) for n, d in zip("qkv", result, strict=True)}

    return Prepared(lambda: jax.block_until_ready(compiled(*given)), outputs)


def _weights(case: TrainingCase, found: dict[str, Any], variant: str) -> Weights:
    """Return the gradients of a layer and direction, as PyTorch has them."""

    def rows(matrix: Any) -> Array:
        return np.asarray(matrix) if variant == "rows" else np.asarray(matrix).T

    b_ih = b_hh = np.asarray(found["b"])
    if case.cell == "gru":
        b_hh = np.concatenate([b_ih[: 2 * case.H], np.asarray(found["bn"])])
    return Weights(rows(found["ih"]), rows(found["hh"]), b_ih, b_hh)
