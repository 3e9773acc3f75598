"""The kind "generation" times models that translate and continue texts, with beams and without."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, cast

from ...core.dtypes import Array
from ...core.kind import Peer, Prepared
from ...core.target import Result
from . import reference
from .cases import CAUSAL, SEQ2SEQ, GenerationCase, grid, low_precision, words
from .files import missing
from .limits import buffer_sizes, bytes_read, flops, limit, target
from .reference import Expected, Inputs, arguments, expected

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

PEERS: tuple[str, ...] = ("torch", "ctranslate2")
GROUPS = {SEQ2SEQ: "Translation", CAUSAL: "Continuation of prompts"}
NOTE = (
    "`texts x tokens + new tokens`, greedy or with so many beams; weights of that size are drawn. "
    "*Limit* is the least time that this machine would need to read the weights of each step once, "
    "or to multiply them with its rows"
)
UNIT = "ms"


def absent(case: GenerationCase) -> str:
    """Return an empty text: where the kind can run, each of its cases can."""
    return ""


def describe() -> dict[str, Any]:
    """Return nothing: the cases say everything."""
    return {}


def answer(case: GenerationCase, prepared: Prepared[Array]) -> Array:
    """Return the tokens [B, ...] of one call."""
    return prepared.outputs(prepared.run())


def error(want: Expected, got: Array, prepared: Prepared[Array]) -> float:
    """Return how far the tokens of an answer are from the best ones, in logits."""
    return reference.worst_error(want, got)


def measure_targets(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure the targets that are no comparison of one case with the machine."""
    from . import targets

    return targets.run(result, dtype)


def peer(name: str) -> Peer[GenerationCase, Inputs, Array]:
    """Import the module in `peers` of that name."""
    module = importlib.import_module(f".peers.{name}", __package__)
    return cast("Peer[GenerationCase, Inputs, Array]", module)
