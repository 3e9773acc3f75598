"""The kind "training": recurrent nets and attention, forward and backward, with every gradient."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

from ..backends import Prepared
from . import attention, recurrent, reference
from .cases import TrainingCase, grid
from .limits import AnyCase, bar, buffer_sizes, bytes_read, flops, limit_seconds, tightest

__all__ = [
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
    "train": "Recurrent nets, forward and backward",
    "train-ragged": "Recurrent nets, ragged batches",
    "train-attention": "Attention, forward and backward",
}
NOTE = (
    "`T x B x I x H` of a recurrent net or `B x N x S x K x E` of attention, forward and backward, "
    "with the gradients of the inputs and of all weights; treadle runs as `treadle.torch` and packs "
    "the weights in every call, as it does after a step of an optimizer. *Limit* is what three times "
    "the products of the forward pass would take on this machine at least"
)
UNIT = "ms"


def missing() -> str:
    """treadle trains through PyTorch's autograd here, as its users do."""
    return "" if importlib.util.find_spec("torch") else "no torch: pip install treadle[torch]"


def narrow() -> list[Any]:
    """Only float32."""
    return []


def describe() -> dict[str, Any]:
    """Nothing that the cases do not say."""
    return {}


def _part(case: AnyCase) -> ModuleType:
    return recurrent if isinstance(case, TrainingCase) else attention


def arguments(case: AnyCase) -> tuple[Any, Any]:
    """(weights, x) or (q, k, v), and dy."""
    found: tuple[Any, Any] = _part(case).arguments(case)
    return found


def expected(case: AnyCase, given: tuple[Any, Any]) -> reference.Expected:
    """The float64 gradients."""
    part = _part(case)
    return reference.expected(lambda error: part.gradients(case, *given, error), part.picked(case))


def answer(case: AnyCase, prepared: Prepared) -> reference.Gradients:
    """The gradients of one call."""
    got: reference.Gradients = prepared.outputs(prepared.run())
    return got


def error(want: reference.Expected, got: reference.Gradients, prepared: Prepared) -> float:
    """Largest difference, relative to the largest element of its gradient."""
    return reference.worst_error(want.gradients, got, want.picked)


def backend(name: str) -> ModuleType:
    """The module in `backends.training`."""
    return importlib.import_module(f"..backends.training.{name}", __package__)
