"""The kind "recurrent" times RNN, LSTM and GRU: steps, chunks, sequences and batches."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from ...core.kind import Peer, Prepared
from ...core.models.recurrent.case import NetCase
from ...core.models.recurrent.data import NetInputs, Outputs, make_input, make_weights
from ...core.models.recurrent.work import (
    buffer_sizes,
    bytes_read,
    flops,
    limit,
)
from ...core.target import Result
from .cases import GROUPS as NAMES
from .cases import grid, low_precision, words
from .limits import target
from .reference import CARRIED_STEPS, Expected, expected, worst_error

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

PEERS: tuple[str, ...] = ("torch", "onnxruntime", "openvino", "jax")
TITLES = (
    "Single steps, state carried from call to call",
    "Short chunks",
    "Sequences, B = 1",
    "Batches",
    "Bidirectional",
    "Stacked",
    "Ragged batches",
    "DeepBench",
    "Pools: streams that come and go, a step of each in one call",
    "Drawn at random, so that nobody has chosen them: T to 1000, B to 256, I and H to 2048",
)
GROUPS = dict(zip(NAMES, TITLES, strict=True))
NOTE = (
    "`T x B x I x H`. *Limit* is the least time that this machine would need to read the weights "
    "and multiply"
)
UNIT = "us"


def missing() -> str:
    """Return an empty text: nothing is needed but treadle."""
    return ""


def absent(case: NetCase) -> str:
    """Return an empty text: where the kind can run, each of its cases can."""
    return ""


def describe() -> dict[str, Any]:
    """Return nothing: the cases say everything."""
    return {}


def arguments(case: NetCase) -> NetInputs:
    """Return the weights and x."""
    return make_weights(case), make_input(case)


def answer(case: NetCase, prepared: Prepared[Outputs]) -> Outputs:
    """Return the answer of one call, or of the first steps of a case that carries its state."""
    if not case.carried:
        return prepared.outputs(prepared.run())
    steps = [prepared.outputs(prepared.run()).y for _ in range(CARRIED_STEPS)]
    return Outputs(np.concatenate(steps))


def error(want: Expected, got: Outputs, prepared: Prepared[Outputs]) -> float:
    """Return the largest absolute difference."""
    return worst_error(want, got, prepared.beyond_lengths)


def measure_targets(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure the targets that are no comparison of one case with the machine."""
    from . import targets

    return targets.run(result, dtype)


def peer(name: str) -> Peer[NetCase, NetInputs, Outputs]:
    """Import the module in `peers` of that name."""
    module = importlib.import_module(f".peers.{name}", __package__)
    return cast("Peer[NetCase, NetInputs, Outputs]", module)
