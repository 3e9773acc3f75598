"""PyTorch runs F.conv2d and relu under inference_mode, with the channels first, or last in memory.

With the channels last, x and the weight lie so from the beginning, which a user can do once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import conv2d

from ....core.dtypes import Array
from ....core.kind import Prepared
from ..case import ConvCase, ConvInputs


def variants(case: ConvCase, threads: int) -> tuple[str, ...]:
    """Return the two layouts."""
    return ("contiguous", "channels last")


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(case: ConvCase, inputs: ConvInputs, threads: int, variant: str) -> Prepared[Array]:
    """Make the call ready in one of the layouts."""
    x, weight, bias = (torch.from_numpy(part) for part in inputs)
    if variant == "channels last":
        x, weight = (part.contiguous(memory_format=torch.channels_last) for part in (x, weight))

    def run() -> Any:
        return conv2d(x, weight, bias, case.stride, case.padding).relu_()

    return Prepared(run, lambda y: y.contiguous().numpy())
