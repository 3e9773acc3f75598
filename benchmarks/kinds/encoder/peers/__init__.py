"""Each peer has a module for all-MiniLM-L6-v2; all of them can also run a batch row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.models.minilm.case import ROWS, EncoderCase
from ....core.models.minilm.checkpoint import EncoderInputs

# The function of that name of a peer: (case, inputs, threads, variant).
Prepare = Callable[[EncoderCase, EncoderInputs, int, str], Prepared[Array]]


def with_rows(case: EncoderCase, *variants: str) -> tuple[str, ...]:
    """Return the variants, and row by row where a peer may choose."""
    if case.B == 1 or case.one_call or case.sentences:
        return variants
    return (*variants, ROWS)


def by_rows(
    prepare: Prepare,
    case: EncoderCase,
    inputs: EncoderInputs,
    threads: int,
    variant: str,
) -> Prepared[Array]:
    """Make one call per row, cut to its length."""
    model, ids = inputs
    runs = []
    for row, length in enumerate(case.rows):
        single = dataclasses.replace(case, B=1, S=length, lengths=())
        runs.append(prepare(single, (model, ids[row : row + 1, :length].copy()), threads, variant))

    def outputs(results: list[Any]) -> Array:
        y = np.zeros((case.B, case.S, model.hidden), np.float32)
        for row, (call, result) in enumerate(zip(runs, results, strict=True)):
            y[row, : case.rows[row]] = call.outputs(result)[0]
        return y

    return Prepared(lambda: [call.run() for call in runs], outputs)


if TYPE_CHECKING:  # a type checker holds every peer to the protocol here
    from ....core.kind import Peer
    from . import ctranslate2, onnxruntime, openvino, sentence_transformers, torch, treadle

    _PEERS: tuple[Peer[EncoderCase, EncoderInputs, Array], ...] = (
        treadle,
        torch,
        onnxruntime,
        openvino,
        ctranslate2,
        sentence_transformers,
    )
