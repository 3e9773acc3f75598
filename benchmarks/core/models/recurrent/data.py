"""This module draws the numbers of a case: its weights and its input."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...dtypes import Array
from .case import NetCase


class Weights(NamedTuple):
    """The weights of one layer and direction in PyTorch's layout: gates i, f, g, o or r, z, n."""

    ih: Array  # [G*H, I]
    hh: Array  # [G*H, H or P]
    b_ih: Array  # [G*H]
    b_hh: Array  # [G*H]
    hr: Array | None = None  # [P, H]


class Outputs(NamedTuple):
    """The results of a backend in PyTorch's shapes; h or c is None if the backend lacks it."""

    y: Array  # [T, B, D*Hout]
    h: Array | None = None  # [L*D, B, Hout]
    c: Array | None = None  # [L*D, B, H]


NetInputs = tuple[list[Weights], Array]  # the weights of each layer and direction, and x


def make_weights(case: NetCase, seed: int = 1) -> list[Weights]:
    """Draw weights as PyTorch does, U(-1/sqrt(H), 1/sqrt(H)): L*D entries, layer by layer."""
    rng = np.random.default_rng(seed)
    bound = case.H**-0.5

    def draw(*shape: int) -> Array:
        return (rng.random(shape, dtype=np.float32) * 2 - 1) * np.float32(bound)

    rows = case.gates * case.H
    return [
        Weights(
            draw(rows, case.input_size(layer)),
            draw(rows, case.output_size),
            draw(rows),
            draw(rows),
            draw(case.P, case.H) if case.P else None,
        )
        for layer in range(case.L)
        for _ in range(case.D)
    ]


def make_input(case: NetCase, seed: int = 2) -> Array:
    """Draw x [T, B, I] from the standard normal distribution."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((case.T, case.B, case.I), dtype=np.float32)


def state_dict(case: NetCase, weights: list[Weights]) -> dict[str, Array]:
    """Return the weights under PyTorch's names, which are treadle's, too."""
    named: dict[str, Array] = {}
    for index, w in enumerate(weights):
        layer, direction = divmod(index, case.D)
        suffix = f"l{layer}" + ("_reverse" if direction else "")
        named[f"weight_ih_{suffix}"], named[f"weight_hh_{suffix}"] = w.ih, w.hh
        named[f"bias_ih_{suffix}"], named[f"bias_hh_{suffix}"] = w.b_ih, w.b_hh
        if w.hr is not None:
            named[f"weight_hr_{suffix}"] = w.hr
    return named
