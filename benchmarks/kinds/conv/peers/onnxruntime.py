"""ONNX Runtime runs a model of Conv and Relu, which it fuses, bound to fixed memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.peers.onnxruntime import settings
from ..case import ConvCase, ConvInputs


def variants(case: ConvCase, threads: int) -> tuple[str, ...]:
    """Return the only way."""
    return ("Conv",)


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(case: ConvCase, inputs: ConvInputs, threads: int, variant: str) -> Prepared[Array]:
    """Make a session with bound memory."""
    x, weight, bias = inputs
    y = np.zeros((case.B, case.D, *case.outputs), np.float32)
    pads = [*case.padding, *case.padding]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], strides=list(case.stride), pads=pads),
        helper.make_node("Relu", ["c"], ["y"]),
    ]

    def value(name: str, array: Array) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)

    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph(nodes, "case", [value("x", x)], [value("y", y)], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), settings(threads), providers=["CPUExecutionProvider"]
    )
    share = onnxruntime.OrtValue.ortvalue_from_numpy
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", share(x))
    binding.bind_ortvalue_output("y", share(y))
    run = session.run_with_iobinding

    def bound(keep: Any = x) -> Array:
        # A binding does not keep its NumPy arrays alive; the default argument does.
        run(binding)
        return y

    return Prepared(bound, lambda found: found)
