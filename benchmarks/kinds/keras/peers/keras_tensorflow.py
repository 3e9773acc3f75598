"""Keras on TensorFlow, in a worker."""

from __future__ import annotations

from ....core.dtypes import Array
from ....core.kind import Prepared
from .. import ways, worker
from ..cases import KerasCase
from ..data import KerasInputs, Order
from .apart import prepared

WAY = "keras_tensorflow"


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
    return prepared(WAY, threads, Order(case, inputs, variant))
