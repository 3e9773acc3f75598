"""The kind "encoder" times all-MiniLM-L6-v2 over token ids, and from sentences to embeddings."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from ...core.dtypes import Array
from ...core.kind import Peer, Prepared
from ...core.models.minilm import text
from ...core.models.minilm.case import EncoderCase
from ...core.models.minilm.checkpoint import EncoderInputs, load, missing
from ...core.target import Result
from . import reference
from .cases import PROBE, QUERIES, grid, low_precision, words
from .limits import buffer_sizes, bytes_read, flops, limit, target

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

PEERS: tuple[str, ...] = (
    "torch",
    "onnxruntime",
    "openvino",
    "ctranslate2",
    "sentence_transformers",
)
GROUPS = {
    "encoder": "MiniLM-L6, batch x tokens",
    "encode": "From sentences to embeddings, tokenisation included",
}
NOTE = (
    "`batch x tokens` of all-MiniLM-L6-v2, or so many short sentences; `lognormal`: 32 rows of "
    "different lengths. *Limit* is the least time that this machine would need to read the weights "
    "once and multiply the tokens that are no padding"
)
UNIT = "ms"


def absent(case: EncoderCase) -> str:
    """Return an empty text: where the kind can run, each of its cases can."""
    return ""


def describe() -> dict[str, Any]:
    """Return what text the sentences come from."""
    return {} if missing() else {"text": text.about(QUERIES)}


def arguments(case: EncoderCase) -> EncoderInputs:
    """Return the model, and ids [B, S] (0 is padding) or sentences."""
    model = load()
    if case.sentences:
        return model, list(text.sentences(case.B))
    rng = np.random.default_rng(6)
    ids = rng.integers(1000, len(model.words), (case.B, case.S))
    ids[np.arange(case.S) >= np.array(case.rows)[:, None]] = 0
    return model, ids


def expected(case: EncoderCase, inputs: EncoderInputs) -> reference.Expected:
    """Return the float64 answer for some rows."""
    model, texts = inputs
    if case.sentences:
        return reference.expected_embeddings(model, texts[:PROBE])
    return reference.expected_states(model, texts, case.rows, case.dtype)


def answer(case: EncoderCase, prepared: Prepared[Array]) -> Array:
    """Return hidden states [B, S, H] or embeddings [PROBE, H]."""
    return prepared.outputs((prepared.probe or prepared.run)())


def error(want: reference.Expected, got: Array, prepared: Prepared[Array]) -> float:
    """Return the largest absolute difference."""
    return reference.worst_error(want, got)


def measure_targets(result: dict[str, Any], dtype: str) -> Iterator[Result]:
    """Measure the targets that are no comparison of one case with the machine."""
    from . import targets

    return targets.run(result, dtype)


def peer(name: str) -> Peer[EncoderCase, EncoderInputs, Array]:
    """Import the module in `peers` of that name."""
    module = importlib.import_module(f".peers.{name}", __package__)
    return cast("Peer[EncoderCase, EncoderInputs, Array]", module)
