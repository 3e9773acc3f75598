"""This module runs LSTM and GRU over 500 steps and measures the relative error of the outputs.

The error is |y - y'| / |y'| over all outputs of a seed (Euclidean norms), y' from float64 with the
same float32 weights (PyTorch's initialisation) and inputs (standard normal). Rounding both to the
dtype is part of the error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...core.dtypes import FLOAT32, LOW_PRECISION, Array
from ...core.errors import Exact
from ...core.kind import Peer, Unsupported
from ...core.models.recurrent.case import NetCase
from ...core.models.recurrent.data import NetInputs, Outputs, make_input, make_weights
from ...core.models.recurrent.formulas import run

NetPeer = Peer[NetCase, NetInputs, Outputs]

STEPS, ROWS, SIZE = 500, 8, 128


def measure(peers: dict[str, NetPeer], seeds: Iterable[int]) -> list[dict[str, Any]]:
    """Return the error of each seed for each cell, dtype and peer, in its most exact variant."""
    seeds = list(seeds)
    rows: list[dict[str, Any]] = []
    for cell in ("lstm", "gru"):
        exact = {seed: _exact(_case(cell, FLOAT32), seed) for seed in seeds}
        for dtype in LOW_PRECISION:
            for name, peer in peers.items():
                found = _errors(peer, _case(cell, dtype), exact)
                if found is not None:
                    rows.append({"cell": cell, "dtype": dtype, "backend": name, **found})
    return rows


def _case(cell: str, dtype: str) -> NetCase:
    return NetCase(cell, "accuracy", STEPS, ROWS, SIZE, SIZE, "a long recurrence", dtype=dtype)


def _numbers(case: NetCase, seed: int) -> NetInputs:
    return make_weights(case, 2 * seed), make_input(case, 2 * seed + 1)


def _exact(case: NetCase, seed: int) -> Array:
    weights, x = _numbers(case, seed)
    return run(case, weights, x, None, Exact()).y


def _errors(peer: NetPeer, case: NetCase, exact: dict[int, Array]) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = []
    try:
        for variant in peer.variants(case, 1):
            errors = [_error(peer, case, variant, seed, y) for seed, y in exact.items()]
            found.append({"variant": variant, "errors": errors, "mean": float(np.mean(errors))})
    except Unsupported:
        return None
    finally:
        peer.release()
    return min(found, key=lambda entry: float(entry["mean"]))


def _error(peer: NetPeer, case: NetCase, variant: str, seed: int, exact: Array) -> float:
    prepared = peer.prepare(case, _numbers(case, seed), 1, variant)
    y = prepared.outputs(prepared.run()).y
    return float(np.linalg.norm(y - exact) / np.linalg.norm(exact))
