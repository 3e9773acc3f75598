"""The kind "training" times recurrent nets and attention forward and backward."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any, cast

from ...core.kind import Peer, Prepared
from ...core.target import Result
from . import attention, recurrent, reference
from .cases import AnyCase, TrainingCase, TrainingInputs, grid, missing, words
from .limits import buffer_sizes, bytes_read, flops, limit, target
from .reference import Gradients

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

PEERS: tuple[str, ...] = ("torch", "jax")
GROUPS = {
    "train": "Recurrent nets, forward and backward",
    "train-ragged": "Recurrent nets, ragged batches",
    "train-attention": "Attention, forward and backward",
}
NOTE = (
    "`T x B x I x H` of a recurrent net or `B x N x S x K x E` of attention, forward and backward, "
    "with the gradients of the inputs and of all weights; treadle runs as `treadle.torch` and "
    "packs the weights in every call, as it does after a step of an optimizer. *Limit* is the "
    "least time that this machine would need for three times the products of the forward pass"
)
UNIT = "ms"


def low_precision() -> list[AnyCase]:
    """Return nothing: training is timed in float32 only."""
    return []


def absent(case: AnyCase) -> str:
    """Return an empty text: where the kind can run, each of its cases can."""
    return ""


def describe() -> dict[str, Any]:
    """Return nothing: the cases say everything."""
    return {}


def arguments(case: AnyCase) -> TrainingInputs:
    """Return (weights, x) or (q, k, v), and dy."""
    if isinstance(case, TrainingCase):
        return recurrent.arguments(case)
    return attention.arguments(case)


def expected(case: AnyCase, inputs: TrainingInputs) -> reference.Expected:
    """Return the float64 gradients."""
    if isinstance(case, TrainingCase):
        net = case
        return reference.expected(
            lambda error: recurrent.gradients(net, *inputs, error), recurrent.picked(net)
        )
    heads = case
    return reference.expected(
        lambda error: attention.gradients(heads, *inputs, error), attention.picked(heads)
    )


def answer(case: AnyCase, prepared: Prepared[Gradients]) -> Gradients:
    """Return the gradients of one call."""
    return prepared.outputs(prepared.run())


def error(want: reference.Expected, got: Gradients, prepared: Prepared[Gradients]) -> float:
    """Return the largest difference, relative to the largest element of its gradient."""
    return reference.worst_error(want.gradients, got, want.picked)


def measure_targets(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure the targets that are no comparison of one case with the machine."""
    from . import targets

    return targets.run(result, dtype)


def peer(name: str) -> Peer[AnyCase, TrainingInputs, Gradients]:
    """Import the module in `peers` of that name."""
    module = importlib.import_module(f".peers.{name}", __package__)
    return cast("Peer[AnyCase, TrainingInputs, Gradients]", module)
