"""The kind "recurrent": RNN, LSTM and GRU. Its questions are answered by cases, data and limits."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from .backends import Prepared
from .cases import GROUPS as NAMES
from .cases import Case, grid, narrow
from .data import Array, Outputs, Weights, make_input, make_weights
from .limits import bar, buffer_sizes, bytes_read, flops, limit_seconds, tightest
from .reference import CARRIED_STEPS, Expected, worst_error
from .reference import expected as _expected

__all__ = [
    "bar",
    "buffer_sizes",
    "bytes_read",
    "flops",
    "grid",
    "limit_seconds",
    "narrow",
    "tightest",
]

PEERS = ("torch", "onnxruntime", "openvino", "jax")
TITLES = (
    "Single steps, state carried from call to call",
    "Short chunks",
    "Sequences, B = 1",
    "Batches",
    "Bidirectional",
    "Stacked",
    "Ragged batches",
    "DeepBench",
)
GROUPS = dict(zip(NAMES, TITLES, strict=True))
NOTE = (
    "`T x B x I x H`. *Limit* is what reading the weights and multiplying would take on this machine "
    "at least"
)
UNIT = "us"


def missing() -> str:
    """Nothing is needed but treadle."""
    return ""


def describe() -> dict[str, Any]:
    """Nothing that the cases do not say."""
    return {}


def arguments(case: Case) -> tuple[list[Weights], Array]:
    """Weights and x."""
    return make_weights(case), make_input(case)


def expected(case: Case, given: tuple[list[Weights], Array]) -> Expected:
    """The float64 answer."""
    return _expected(case, *given)


def answer(case: Case, prepared: Prepared) -> Outputs:
    """The answer of one call, or of the first steps of a case that carries its state."""
    if not case.carried:
        got: Outputs = prepared.outputs(prepared.run())
        return got
    steps = [prepared.outputs(prepared.run()).y for _ in range(CARRIED_STEPS)]
    return Outputs(np.concatenate(steps))


def error(want: Expected, got: Outputs, prepared: Prepared) -> float:
    """Largest absolute difference."""
    return worst_error(want, got, prepared.beyond_lengths)


def backend(name: str) -> ModuleType:
    """The module in `backends`."""
    return importlib.import_module(f".backends.{name}", __package__)
