"""all-MiniLM-L6-v2 on every peer; see backends/__init__.py for the functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ...data import Array
from ...encoder.cases import EncoderCase
from ...encoder.checkpoint import Model
from .. import Prepared

ROWS = "row by row"


def with_rows(case: EncoderCase, *variants: str) -> tuple[str, ...]:
    """The variants, and row by row where a peer may choose."""
    if case.B == 1 or case.one_call or case.sentences:
        return variants
    return (*variants, ROWS)


def by_rows(
    prepare: Callable[..., Prepared],
    case: EncoderCase,
    model: Model,
    ids: Array,
    threads: int,
    variant: str,
) -> Prepared:
    """One call per row, cut to its length."""
    runs = []
    for row, length in enumerate(case.rows):
        single = dataclasses.replace(case, B=1, S=length, lengths=())
        runs.append(prepare(single, model, ids[row : row + 1, :length].copy(), threads, variant))

    def outputs(results: list[Any]) -> Array:
        y = np.zeros((case.B, case.S, model.hidden), np.float32)
        for row, (call, result) in enumerate(zip(runs, results, strict=True)):
            y[row, : case.rows[row]] = call.outputs(result)[0]
        return y

    return Prepared(lambda: [call.run() for call in runs], outputs)
