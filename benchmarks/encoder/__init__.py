"""The kind "encoder": all-MiniLM-L6-v2 over token ids, and from sentences to embeddings."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from ..backends import Prepared
from ..data import Array
from . import reference, text
from .cases import QUERIES, EncoderCase, grid, narrow
from .checkpoint import Model, load, missing
from .limits import bar, buffer_sizes, bytes_read, flops, limit_seconds, tightest

__all__ = [
    "bar",
    "buffer_sizes",
    "bytes_read",
    "flops",
    "grid",
    "limit_seconds",
    "missing",
    "narrow",
    "tightest",
]

PEERS = ("torch", "onnxruntime", "openvino", "ctranslate2", "sentence_transformers")
GROUPS = {
    "encoder": "MiniLM-L6, batch x tokens",
    "encode": "From sentences to embeddings, tokenisation included",
}
NOTE = (
    "`batch x tokens` of all-MiniLM-L6-v2, or so many short sentences; `lognormal`: 32 rows of "
    "different lengths. *Limit* is what reading the weights once and multiplying the tokens that are "
    "no padding would take on this machine at least"
)
UNIT = "ms"
PROBE = 64  # sentences that are encoded to be checked


def describe() -> dict[str, Any]:
    """What text the sentences come from."""
    return {} if missing() else {"text": text.about(QUERIES)}


def arguments(case: EncoderCase) -> tuple[Model, Any]:
    """The model, and ids [B, S] (0 is padding) or sentences."""
    model = load()
    if case.sentences:
        return model, list(text.sentences(case.B))
    rng = np.random.default_rng(6)
    ids = rng.integers(1000, len(model.words), (case.B, case.S))
    ids[np.arange(case.S) >= np.array(case.rows)[:, None]] = 0
    return model, ids


def expected(case: EncoderCase, given: tuple[Model, Any]) -> reference.Expected:
    """The float64 answer for some rows."""
    model, inputs = given
    if case.sentences:
        return reference.expected_embeddings(model, inputs[:PROBE])
    return reference.expected_states(model, inputs, case.rows, case.dtype)


def answer(case: EncoderCase, prepared: Prepared) -> Array:
    """Hidden states [B, S, H] or embeddings [PROBE, H]."""
    got: Array = prepared.outputs((prepared.probe or prepared.run)())
    return got


def error(want: reference.Expected, got: Array, prepared: Prepared) -> float:
    """Largest absolute difference."""
    return reference.worst_error(want, got)


def backend(name: str) -> ModuleType:
    """The module in `backends.encoder`."""
    return importlib.import_module(f"..backends.encoder.{name}", __package__)
