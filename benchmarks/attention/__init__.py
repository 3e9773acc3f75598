"""The kind "attention": scaled dot-product attention, whole sequences and decoding."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, NamedTuple

from ..backends import Prepared
from ..data import Array
from . import reference
from .cases import AttentionCase, grid
from .limits import bar, buffer_sizes, bytes_read, flops, limit_seconds, tightest
from .reference import make_inputs as arguments

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

PEERS = ("torch", "onnxruntime", "openvino", "jax")
GROUPS = {"attention": "Attention", "decode": "Decoding: one query against a cache"}
NOTE = (
    "`B x N x S x K x E`: batch, heads, queries, keys, head size; `gqa8`: 8 heads of keys and values; "
    "`padded`: half of the tokens are padding. *Limit* is what the products that a mask leaves would "
    "take on this machine at least, when decoding what reading keys and values would"
)
UNIT = "ms"


class Wanted(NamedTuple):
    """A reference and its case."""

    case: AttentionCase
    reference: reference.Expected

    @property
    def tolerance(self) -> float:
        """The error allowed."""
        return self.reference.tolerance


def missing() -> str:
    """Nothing is needed but treadle."""
    return ""


def narrow() -> list[Any]:
    """Only float32."""
    return []


def describe() -> dict[str, Any]:
    """Nothing that the cases do not say."""
    return {}


def expected(case: AttentionCase, given: tuple[Array, Array, Array]) -> Wanted:
    """The float64 answer for some queries."""
    return Wanted(case, reference.expected(case, given))


def answer(case: AttentionCase, prepared: Prepared) -> Array:
    """The answer of one call, [B, N, S, E]."""
    got: Array = prepared.outputs(prepared.run())
    return got


def error(want: Wanted, got: Array, prepared: Prepared) -> float:
    """Largest absolute difference."""
    return reference.worst_error(want.case, want.reference, got)


def backend(name: str) -> ModuleType:
    """The module in `backends.attention`."""
    return importlib.import_module(f"..backends.attention.{name}", __package__)
