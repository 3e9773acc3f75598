"""LSTM and GRU over 500 steps: how far the outputs are from float64, relative to their size.

The error is |y - y'| / |y'| over all outputs of a seed (Euclidean norms), y' from float64 with the same
float32 weights (PyTorch's initialisation) and inputs (standard normal). Rounding both to the dtype is
part of the error.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np

from ..backends import Unsupported
from ..cases import Case
from ..data import Array, make_input, make_weights
from ..dtypes import FLOAT32
from ..errors import Exact
from ..reference import run

STEPS, ROWS, SIZE = 500, 8, 128
DTYPES = ("bfloat16", "int8")


def measure(backends: dict[str, ModuleType], seeds: Iterable[int]) -> list[dict[str, Any]]:
    """Of each cell, dtype and backend the error of each seed; of several variants the most exact."""
    seeds = list(seeds)
    rows: list[dict[str, Any]] = []
    for cell in ("lstm", "gru"):
        exact = {seed: _exact(_case(cell, FLOAT32), seed) for seed in seeds}
        for dtype in DTYPES:
            for name, module in backends.items():
                found = _backend(module, _case(cell, dtype), exact)
                if found is not None:
                    rows.append({"cell": cell, "dtype": dtype, "backend": name, **found})
    return rows


def _case(cell: str, dtype: str) -> Case:
    return Case(cell, "accuracy", STEPS, ROWS, SIZE, SIZE, "a long recurrence", dtype=dtype)


def _numbers(case: Case, seed: int) -> tuple[Any, Array]:
    return make_weights(case, 2 * seed), make_input(case, 2 * seed + 1)


def _exact(case: Case, seed: int) -> Array:
    weights, x = _numbers(case, seed)
    return run(case, weights, x, None, Exact()).y


def _backend(module: ModuleType, case: Case, exact: dict[int, Array]) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = []
    try:
        for variant in module.variants(case, 1):
            errors = [_error(module, case, variant, seed, y) for seed, y in exact.items()]
            found.append({"variant": variant, "errors": errors, "mean": float(np.mean(errors))})
    except Unsupported:
        return None
    finally:
        module.release()
    return min(found, key=lambda entry: float(entry["mean"]))


def _error(module: ModuleType, case: Case, variant: str, seed: int, exact: Array) -> float:
    prepared = module.prepare(case, *_numbers(case, seed), 1, variant)
    y = prepared.outputs(prepared.run()).y
    return float(np.linalg.norm(y - exact) / np.linalg.norm(exact))
