"""OpenVINO runs a model of a convolution, a bias and relu, float32 asked for.

The settings are those of core/peers/openvino.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from openvino import opset13 as operators

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.peers.openvino import settings
from ..case import ConvCase, ConvInputs


def variants(case: ConvCase, threads: int) -> tuple[str, ...]:
    """Return the only way."""
    return ("operator",)


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(case: ConvCase, inputs: ConvInputs, threads: int, variant: str) -> Prepared[Array]:
    """Make an infer request on fixed tensors."""
    x, weight, bias = inputs
    parameter = operators.parameter(list(x.shape), np.float32)
    around = list(case.padding)
    found = operators.convolution(
        parameter, operators.constant(weight), list(case.stride), around, around, [1, 1]
    )
    added = operators.add(found, operators.constant(bias.reshape(1, -1, 1, 1)))
    model = openvino.Model([operators.relu(added)], [parameter], "case")
    request = openvino.Core().compile_model(model, "CPU", settings(threads)).create_infer_request()
    request.set_input_tensor(0, openvino.Tensor(x, shared_memory=True))
    y = np.zeros((case.B, case.D, *case.outputs), np.float32)
    request.set_output_tensor(0, openvino.Tensor(y, shared_memory=True))

    def run(keep: Any = x) -> Array:
        request.infer(share_outputs=True)
        return y

    return Prepared(run, lambda _: y)
