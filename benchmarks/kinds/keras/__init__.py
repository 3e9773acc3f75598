"""The kind "keras" times the programs of Keras' tutorials, each backend in a process of its own."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any, cast

from ...core.dtypes import Array
from ...core.kind import Peer, Prepared
from ...core.target import Result
from .cases import CALL, FILE, FIT, PREDICT, KerasCase, grid, low_precision, words
from .data import KerasInputs, arguments
from .limits import buffer_sizes, bytes_read, flops, limit, target
from .reference import Expected, expected, worst_error

__all__ = [
    "GROUPS",
    "NOTE",
    "PEERS",
    "UNIT",
    "absent",
    "answer",
    "arguments",
    "buffer_sizes",
    "bytes_read",
    "describe",
    "error",
    "expected",
    "flops",
    "grid",
    "limit",
    "low_precision",
    "measure_targets",
    "missing",
    "peer",
    "target",
    "words",
]

PEERS: tuple[str, ...] = ("keras_torch", "keras_jax", "keras_tensorflow")
GROUPS = {
    FIT: "Keras: fit, 32 batches",
    PREDICT: "Keras: predict of one sample",
    CALL: "Keras: model(x) of one sample",
    FILE: "Files of Keras, without Keras",
}
NOTE = (
    "a call of `fit`, `predict` or the model, all of Keras' own code included; treadle is Keras on "
    "PyTorch after `treadle.keras.accelerate`, and for files `treadle.keras.load`. *Limit* is the "
    "least time that this machine would need for the products of the recurrent layers"
)
UNIT = "ms"
NEEDED = ("keras", "torch")


def missing() -> str:
    """Say which package is missing: the reference is Keras on PyTorch, and treadle runs there."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return f"no {absent[0]}: pip install treadle[keras,torch]" if absent else ""


def absent(case: KerasCase) -> str:
    """Return an empty text: where the kind can run, each of its cases can."""
    return ""


def describe() -> dict[str, Any]:
    """Return nothing: the cases say everything."""
    return {}


def answer(case: KerasCase, prepared: Prepared[list[Array]]) -> list[Array]:
    """Return what the worker says the program computes."""
    return prepared.outputs(prepared.run())


def error(want: Expected, got: list[Array], prepared: Prepared[list[Array]]) -> float:
    """Return the largest difference, relative to the largest element of its array."""
    return worst_error(want.values, got)


def measure_targets(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure the targets that are no comparison of one case with the machine."""
    from . import targets

    return targets.run(result, dtype)


def peer(name: str) -> Peer[KerasCase, KerasInputs, list[Array]]:
    """Import the module in `peers` of that name."""
    module = importlib.import_module(f".peers.{name}", __package__)
    return cast("Peer[KerasCase, KerasInputs, list[Array]]", module)
