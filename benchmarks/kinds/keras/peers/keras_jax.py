"""Keras on JAX, in a worker.

Its fit and predict compile a step without the states of stateful layers, so that each batch begins
at zero (3.15): another result, which is not timed.
"""

from __future__ import annotations

from ....core.dtypes import Array
from ....core.kind import Prepared, Unsupported
from .. import ways, worker
from ..cases import KerasCase
from ..data import KerasInputs, Order
from .apart import prepared

WAY = "keras_jax"


def variants(case: KerasCase, threads: int) -> tuple[str, ...]:
    """Return what a user can write."""
    return ways.variants(case, WAY)


def release() -> None:
    """Drop what the worker has built."""
    worker.forget(WAY)


def prepare(
    case: KerasCase, inputs: KerasInputs, threads: int, variant: str
) -> Prepared[list[Array]]:
    """Let the worker build the program."""
    if case.stateful:
        raise Unsupported("Keras on JAX does not carry states from batch to batch")
    return prepared(WAY, threads, Order(case, inputs, variant))
