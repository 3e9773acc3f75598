"""treadle itself runs `Conv2d` with its relu, on arrays with the channels first."""

from __future__ import annotations

import functools

import numpy as np

import treadle

from ....core.dtypes import Array
from ....core.kind import Prepared
from ..case import ConvCase, ConvInputs


def variants(case: ConvCase, threads: int) -> tuple[str, ...]:
    """Return the only way."""
    return ("Conv2d",)


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(case: ConvCase, inputs: ConvInputs, threads: int, variant: str) -> Prepared[Array]:
    """Pack the weights."""
    x, weight, bias = inputs
    layer = treadle.Conv2d(
        case.C, case.D, case.taps, case.stride, case.padding, activation="relu", seed=0
    )
    layer.load_state_dict({"weight": weight, "bias": bias})
    return Prepared(functools.partial(layer, x), np.asarray)
