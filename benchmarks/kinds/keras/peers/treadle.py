"""treadle itself is Keras on PyTorch after treadle.keras.accelerate, in a worker.

A file of Keras is run by treadle.keras.load, in a worker that has no Keras.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from ....core.dtypes import Array
from ....core.kind import OURS, Prepared
from .. import ways
from ..cases import FILE, KerasCase
from ..data import LENGTH, KerasInputs, Order
from ..worker import forget, worker
from .apart import prepared


def variants(case: KerasCase, threads: int) -> tuple[str, ...]:
    """Return what a user can write."""
    return (ways.WITHOUT,) if case.group == FILE else ways.variants(case, OURS)


def release() -> None:
    """Drop what the workers have built."""
    forget(OURS)
    forget(ways.WITHOUT)


def prepare(
    case: KerasCase, inputs: KerasInputs, threads: int, variant: str
) -> Prepared[list[Array]]:
    """Let the worker build the program, or load the file that Keras saves."""
    if case.group != FILE:
        return prepared(OURS, threads, Order(case, inputs, variant))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.keras")
        whole = case if case.T > 1 else dataclasses.replace(case, T=LENGTH)  # to be streamed
        worker(ways.REFERENCE, 1).save(Order(whole, inputs), path)
        return prepared(ways.WITHOUT, threads, Order(case, inputs, path=path))
