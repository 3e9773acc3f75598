"""PyTorch runs the module that was captured; files of ONNX are nothing for it."""

from __future__ import annotations

from typing import Any

import torch

from ....core.dtypes import Array
from ....core.kind import Prepared, Unsupported
from ..cases import CAPTURED, ModelCase
from ..reference import ModelInputs


def variants(case: ModelCase, threads: int) -> tuple[str, ...]:
    """Return the only way."""
    return ("module",)


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(
    case: ModelCase, inputs: ModelInputs, threads: int, variant: str
) -> Prepared[list[Array]]:
    """Return a call of the module that carries its state."""
    if case.group != CAPTURED:
        raise Unsupported("there is no nn.Module of the file")
    module = inputs.module
    x, h, c = (torch.from_numpy(value.copy()) for value in inputs.feeds[0].values())
    state = [h, c]

    def run() -> Any:
        with torch.no_grad():
            y, state[0], state[1] = module(x, *state)
        return y

    return Prepared(run, lambda y: [y.numpy().copy()])
