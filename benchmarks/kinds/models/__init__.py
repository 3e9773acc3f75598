"""The kind "models" times trained model files, whole, as their users call them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, cast

from ...core.dtypes import Array
from ...core.kind import Peer, Prepared
from ...core.target import Result
from .cases import CAPTURED, CONVOLUTIONAL, RECURRENT, ModelCase, grid, low_precision, words
from .files import absent
from .limits import buffer_sizes, bytes_read, flops, limit, target
from .reference import Expected, ModelInputs, arguments, calls, expected, worst_error

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

PEERS: tuple[str, ...] = ("torch", "onnxruntime", "openvino")
GROUPS = {
    RECURRENT: "Files with recurrent layers",
    CONVOLUTIONAL: "Convolutional files",
    CAPTURED: "Captured modules",
}
NOTE = (
    "a call of the model's file from Python, its state carried where it has one; a pool's call "
    "steps all its streams, for which peers get one batch. *Limit* is the least time that this "
    "machine would need to read the weights and multiply"
)
UNIT = "us"


def missing() -> str:
    """Return an empty text: `absent` knows each case."""
    return ""


def describe() -> dict[str, Any]:
    """Return nothing: the cases say everything."""
    return {}


def answer(case: ModelCase, prepared: Prepared[list[Array]]) -> list[Array]:
    """Return the outputs of one call, or of the first calls of a case that carries its state."""
    found: list[Array] = []
    for _ in range(calls(case)):
        found += prepared.outputs(prepared.run())
    return found


def error(want: Expected, got: list[Array], prepared: Prepared[list[Array]]) -> float:
    """Return the largest difference, relative to the largest element of its output."""
    return worst_error(want, got)


def measure_targets(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure the targets that are no comparison of one case with the machine."""
    from . import targets

    return targets.run(result, dtype)


def peer(name: str) -> Peer[ModelCase, ModelInputs, list[Array]]:
    """Import the module in `peers` of that name."""
    module = importlib.import_module(f".peers.{name}", __package__)
    return cast("Peer[ModelCase, ModelInputs, list[Array]]", module)
