"""The kind "attention" times scaled dot-product attention, whole sequences and decoding."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from ...core.dtypes import Array
from ...core.kind import Peer, Prepared
from ...core.models.attention.case import AttentionCase, AttentionInputs
from ...core.models.attention.case import make_inputs as arguments
from ...core.models.attention.work import (
    buffer_sizes,
    bytes_read,
    flops,
    limit,
)
from ...core.target import Result
from . import reference
from .cases import grid, words
from .limits import target

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
GROUPS = {"attention": "Attention", "decode": "Decoding: one query against a cache"}
NOTE = (
    "`B x N x S x K x E`: batch, heads, queries, keys, head size; `gqa8`: 8 heads of keys and "
    "values; `padded`: half of the tokens are padding. *Limit* is the least time that "
    "this machine would need for the products that a mask leaves or, when decoding, for reading "
    "keys and values"
)
UNIT = "ms"


class Wanted(NamedTuple):
    """A case and its reference answer."""

    case: AttentionCase
    reference: reference.Expected

    @property
    def tolerance(self) -> float:
        """The largest error that is allowed."""
        return self.reference.tolerance


def missing() -> str:
    """Return an empty text: nothing is needed but treadle."""
    return ""


def low_precision() -> list[AttentionCase]:
    """Return nothing: attention by itself is timed in float32 only."""
    return []


def absent(case: AttentionCase) -> str:
    """Return an empty text: where the kind can run, each of its cases can."""
    return ""


def describe() -> dict[str, Any]:
    """Return nothing: the cases say everything."""
    return {}


def expected(case: AttentionCase, inputs: AttentionInputs) -> Wanted:
    """Return the float64 answer for some queries."""
    return Wanted(case, reference.expected(case, inputs))


def answer(case: AttentionCase, prepared: Prepared[Array]) -> Array:
    """Return the answer of one call, [B, N, S, E]."""
    return prepared.outputs(prepared.run())


def error(want: Wanted, got: Array, prepared: Prepared[Array]) -> float:
    """Return the largest absolute difference."""
    return reference.worst_error(want.case, want.reference, got)


def measure_targets(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure the targets that are no comparison of one case with the machine."""
    from . import targets

    return targets.run(result, dtype)


def peer(name: str) -> Peer[AttentionCase, AttentionInputs, Array]:
    """Import the module in `peers` of that name."""
    module = importlib.import_module(f".peers.{name}", __package__)
    return cast("Peer[AttentionCase, AttentionInputs, Array]", module)
