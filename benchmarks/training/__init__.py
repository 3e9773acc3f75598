"""The kind "training": recurrent nets forward and backward, with the gradients of everything."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

from ..backends import Prepared
from ..data import Array, Weights
from . import reference
from .cases import TrainingCase, grid
from .limits import bar, buffer_sizes, bytes_read, flops, limit_seconds, tightest
from .reference import arguments

__all__ = [
    "arguments",
    "bar",
    "buffer_sizes",
    "bytes_read",
    "flops",
    "grid",
    "limit_seconds",
    "tightest",
]

PEERS = ("torch", "jax")
GROUPS = {
    "train": "Forward and backward",
    "train-ragged": "Forward and backward, ragged batches",
}
NOTE = (
    "`T x B x I x H`, forward and backward, with the gradients of the input and of all weights; weft "
    "runs as `weft.torch`'s modules and packs the weights in every call, as it does after a step of an "
    "optimizer. *Limit* is what three products of the forward pass's size would take on this machine at "
    "least"
)
UNIT = "ms"


def missing() -> str:
    """weft trains through PyTorch's autograd here, as its users do."""
    return "" if importlib.util.find_spec("torch") else "no torch: pip install weft[torch]"


def describe() -> dict[str, Any]:
    """Nothing that the cases do not say."""
    return {}


def expected(case: TrainingCase, given: tuple[list[Weights], Array, Array]) -> reference.Expected:
    """The float64 gradients."""
    return reference.expected(case, *given)


def answer(case: TrainingCase, prepared: Prepared) -> reference.Gradients:
    """The gradients of one call."""
    got: reference.Gradients = prepared.outputs(prepared.run())
    return got


def error(want: reference.Expected, got: reference.Gradients, prepared: Prepared) -> float:
    """Largest difference, relative to the largest element of its gradient."""
    return reference.worst_error(want.gradients, got)


def backend(name: str) -> ModuleType:
    """The module in `backends.training`."""
    return importlib.import_module(f"..backends.training.{name}", __package__)
