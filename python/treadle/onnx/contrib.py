"""This module turns operators of the domain com.microsoft into those of ONNX.

Optimizers of ONNX Runtime write them into files
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md). What they fuse is
taken apart here, and fused again where the engine has something faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.onnx.building import Call

# The attributes in which an activation with parameters has them.
_PARAMETERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta")}
_FLOAT32 = 1


def _check(call: Call, inputs: tuple[int, int], outputs: int, **kinds: type) -> dict[str, Any]:
    """Return the attributes, checked as the numbers of inputs and outputs are."""
    least, most = inputs
    if not least <= len(call.inputs) <= most or not all(call.inputs[:least]):
        raise call.error(f"has {len(call.inputs)} inputs, expected {least} to {most}")
    if not 1 <= len(call.outputs) <= outputs:
        raise call.error(f"has {len(call.outputs)} outputs, expected 1 to {outputs}")
    for name, value in call.attributes.items():
        if name not in kinds or not isinstance(value, kinds[name]):
            raise call.error(f"has the attribute {name} = {str(value)[:50]}, which is not known")
    return call.attributes


def _activated(call: Call, x: str, name: str, parameters: list[float]) -> None:
    """Add an activation behind a value, as the node's output."""
    if name == "":
        call.emit("Identity", [x], call.outputs)
    elif name in ("Relu", "Tanh", "Sigmoid"):
        call.emit(name, [x], call.outputs)
    elif name in _PARAMETERS and len(parameters) == len(_PARAMETERS[name]):
        attributes = dict(zip(_PARAMETERS[name], parameters, strict=True))
        call.emit(name, [x], call.outputs, attributes)
    elif name == "Clip" and len(parameters) == 2:
        limits = [call.constant(np.float32(p) * np.ones((), "f4"), "limit") for p in parameters]
        call.emit("Clip", [x, *limits], call.outputs)
    else:
        raise call.error(f"has the activation {name!r:.50} {parameters}, which is not known")


def _fused_conv(call: Call) -> None:
    lists = dict.fromkeys(("dilations", "kernel_shape", "pads", "strides"), list)
    others = {"group": int, "auto_pad": str, "activation": str, "activation_params": list}
    attributes = dict(_check(call, (2, 4), 1, **lists, **others))
    activation = attributes.pop("activation", "")
    parameters = attributes.pop("activation_params", [])
    x = call.compute("Conv", call.inputs[:3], attributes)
    if call.has(3):
        x = call.compute("Add", [x, call.inputs[3]])
    _activated(call, x, activation, parameters)


def _fused_gemm(call: Call) -> None:
    others = {f"activation_{name}": float for name in ("alpha", "beta", "gamma")}
    kinds = {"alpha": float, "beta": float, "transA": int, "transB": int, "activation": str}
    attributes = dict(_check(call, (2, 3), 1, **kinds, **others))
    activation = attributes.pop("activation", "")
    given = [attributes.pop(name) for name in others if name in attributes]
    parameters = given[: len(_PARAMETERS.get(activation, given))]
    _activated(call, call.compute("Gemm", call.inputs, attributes), activation, parameters)


def _fused_matmul(call: Call) -> None:
    attributes = _check(call, (2, 2), 1, alpha=float, transA=int, transB=int)
    sides = [attributes.get("transA", 0), attributes.get("transB", 0)]
    inputs = list(call.inputs)
    constant = call.scope.constant(inputs[1])
    if sides[1] and constant is not None and constant.ndim >= 2:
        swapped = np.ascontiguousarray(constant.swapaxes(-1, -2))
        inputs[1], sides[1] = call.constant(swapped, "transposed"), 0
    if any(sides):
        left, right = ("...ki" if sides[0] else "...ik"), ("...jk" if sides[1] else "...kj")
        x = call.compute("Einsum", inputs, {"equation": f"{left},{right}->...ij"})
    else:
        x = call.compute("MatMul", inputs)
    alpha = call.constant(np.array(attributes.get("alpha", 1.0), "f4"), "alpha")
    call.emit("Mul", [x, alpha], call.outputs)


def _gelu(call: Call) -> None:
    _check(call, (1, 1), 1)
    call.emit("Gelu", call.inputs, call.outputs)


def _bias_gelu(call: Call) -> None:
    _check(call, (2, 2), 1)
    call.emit("Gelu", [call.compute("Add", call.inputs)], call.outputs)


def _fast_gelu(call: Call) -> None:
    _check(call, (1, 2), 1)
    x = call.compute("Add", call.inputs) if call.has(1) else call.inputs[0]
    call.emit("Gelu", [x], call.outputs, {"approximate": "tanh"})


def _quick_gelu(call: Call) -> None:
    alpha = _check(call, (1, 1), 1, alpha=float).get("alpha", 1.702)
    scaled = call.compute("Mul", [call.inputs[0], call.constant(np.array(alpha, "f4"), "alpha")])
    call.emit("Mul", [call.inputs[0], call.compute("Sigmoid", [scaled])], call.outputs)


def _skip_norm(call: Call) -> None:
    epsilon = {"epsilon": _check(call, (3, 5), 4, epsilon=float).get("epsilon", 1e-12)}
    if any(call.outputs[1:3]):
        raise call.error("makes a mean or a deviation, expected the sum and its norm only")
    total = call.compute("Add", call.inputs[:2])
    if call.has(4):
        total = call.compute("Add", [total, call.inputs[4]])
    call.emit("LayerNormalization", [total, *call.inputs[2:4]], call.outputs[:1], epsilon)
    if len(call.outputs) == 4 and call.outputs[3]:
        call.emit("Identity", [total], call.outputs[3:])


def _scaled(call: Call, sums: str, scales: list[str], bias: str) -> None:
    """Turn integer sums into the floats that they stand for."""
    x = call.compute("Cast", [sums], {"to": _FLOAT32})
    x = call.compute("Mul", [x, call.compute("Mul", scales)])
    call.emit(*(("Add", [x, bias]) if bias else ("Identity", [x])), call.outputs)


def _dynamic_matmul(call: Call) -> None:
    _check(call, (3, 5), 1)
    a, b, b_scale, b_zero, bias = [*call.inputs, "", ""][:5]
    output = call.outputs[0]
    codes, scale, zero = (call.scope.names.take(f"{output}/{n}") for n in ("codes", "scale", "0"))
    call.emit("DynamicQuantizeLinear", [a], [codes, scale, zero])
    sums = call.compute("MatMulInteger", [codes, b, zero, b_zero])
    _scaled(call, sums, [scale, b_scale], bias)


def _matmul_to_float(call: Call) -> None:
    _check(call, (4, 7), 1)
    a, b, a_scale, b_scale, a_zero, b_zero, bias = [*call.inputs, "", "", ""][:7]
    _scaled(call, call.compute("MatMulInteger", [a, b, a_zero, b_zero]), [a_scale, b_scale], bias)


def _quantized_lstm(call: Call) -> None:
    """The engine has this operator as it is, under a name of its own."""
    lists = dict.fromkeys(("activations", "activation_alpha", "activation_beta"), list)
    kinds = {"direction": str, "hidden_size": int, "clip": float, "input_forget": int}
    if not 11 <= len(call.inputs) <= 12 or not all(call.inputs[i] for i in (0, 1, 2, 8, 10)):
        raise call.error(f"has {len(call.inputs)} inputs, expected 11 or 12 and the first three")
    attributes = _check(call, (0, 12), 3, **lists, **kinds)
    call.emit("treadle.DynamicQuantizeLSTM", call.inputs, call.outputs, attributes)


CONTRIB: dict[str, Callable[[Call], None]] = {
    "BiasGelu": _bias_gelu,
    "DynamicQuantizeLSTM": _quantized_lstm,
    "DynamicQuantizeMatMul": _dynamic_matmul,
    "FastGelu": _fast_gelu,
    "FusedConv": _fused_conv,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul,
    "Gelu": _gelu,
    "MatMulIntegerToFloat": _matmul_to_float,
    "QuickGelu": _quick_gelu,
    "SkipLayerNormalization": _skip_norm,
}
# Operators of com.microsoft that are ONNX's.
SAME = ("QuantizeLinear", "DequantizeLinear")
