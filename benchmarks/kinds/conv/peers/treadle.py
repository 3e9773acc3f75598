"""treadle itself runs `Conv2d` with its relu, with the channels first, or last in memory.

With the channels last, x lies so from the beginning, as in PyTorch's second variant.
"""

from __future__ import annotations

import functools

import numpy as np

import treadle

from ....core.dtypes import Array
from ....core.kind import Prepared
from ..case import ConvCase, ConvInputs


def variants(case: ConvCase, threads: int) -> tuple[str, ...]:
    """Return the two layouts."""
    return ("contiguous", "channels last")


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(case: ConvCase, inputs: ConvInputs, threads: int, variant: str) -> Prepared[Array]:
    """Pack the weights, and lay x out."""
    x, weight, bias = inputs
    if variant == "channels last":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    layer = treadle.Conv2d(
        case.C, case.D, case.taps, case.stride, case.padding, activation="relu", seed=0
    )
    layer.load_state_dict({"weight": weight, "bias": bias})
    return Prepared(functools.partial(layer, x), np.asarray)
