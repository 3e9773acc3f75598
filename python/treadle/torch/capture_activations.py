"""This module captures PyTorch's activations and softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.torch.capture_builder import captures
from treadle.torch.capture_pointwise import number

if TYPE_CHECKING:
    from treadle.torch.capture_builder import Call

# PyTorch's activations with ONNX's operators, and where the attributes come from.
_PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "elu": ("Elu", {"alpha": "alpha"}),
    "celu": ("Celu", {"alpha": "alpha"}),
    "leaky_relu": ("LeakyRelu", {"alpha": "negative_slope"}),
    "mish": ("Mish", {}),
    "hardswish": ("HardSwish", {}),
}


def _plain(name: str, op: str, attributes: dict[str, str]) -> None:
    @captures(f"aten.{name}")
    def run(call: Call) -> str:
        found = {own: float(call[theirs]) for own, theirs in attributes.items()}
        value = call.value("self", "float32")
        if name == "elu" and (call.get("scale", 1) != 1 or call.get("input_scale", 1) != 1):
            raise call.refuse("its scale and input_scale are not supported")
        return call.emit(op, value, **found)


for _name, (_op, _attributes) in _PLAIN.items():
    _plain(_name, _op, _attributes)


@captures("aten.selu")
def _selu(call: Call) -> str:
    return call.emit("Selu", call.value("self", "float32"))


@captures("aten.relu6")
def _relu6(call: Call) -> str:
    return call.emit("Clip", call.value("self", "float32"), number(call, 0), number(call, 6))


@captures("aten.hardsigmoid")
def _hardsigmoid(call: Call) -> str:
    return call.emit("HardSigmoid", call.value("self", "float32"), alpha=1 / 6, beta=0.5)


@captures("aten.silu")
def _silu(call: Call) -> str:
    value = call.value("self", "float32")
    return call.emit("Mul", value, call.emit("Sigmoid", value))


@captures("aten.gelu")
def _gelu(call: Call) -> str:
    return call.emit("Gelu", call.value("self", "float32"), approximate=call["approximate"])


@captures("aten.softplus")
def _softplus(call: Call) -> str:
    beta, threshold, value = call["beta"], call["threshold"], call.value("self", "float32")
    scaled = value if beta == 1 else call.emit("Mul", value, number(call, beta))
    soft = call.emit("Softplus", scaled)
    if beta != 1:
        soft = call.emit("Div", soft, number(call, beta))
    if threshold >= 20:  # log(1 + exp(t)) is t there, to float32
        return soft
    linear = call.emit("Greater", scaled, number(call, threshold))
    return call.emit("Where", linear, value, soft)


@captures("aten.log_sigmoid")
def _log_sigmoid(call: Call) -> str:
    value = call.emit("Neg", call.value("self", "float32"))
    return call.emit("Neg", call.emit("Softplus", value))


@captures("aten.threshold")
def _threshold(call: Call) -> str:
    value = call.value("self", call.dtype)
    above = call.emit("Greater", value, call.value("threshold", call.dtype))
    return call.emit("Where", above, value, call.value("value", call.dtype))


@captures("aten.hardshrink")
def _hardshrink(call: Call) -> str:
    value = call.value("self", "float32")
    far = call.emit("Greater", call.emit("Abs", value), call.value("lambd", "float32"))
    return call.emit("Where", far, value, number(call, 0))


@captures("aten.softshrink")
def _softshrink(call: Call) -> str:
    value, lambd = call.value("self", "float32"), float(call["lambd"])
    clipped = call.emit("Clip", value, number(call, -lambd), number(call, lambd))
    return call.emit("Sub", value, clipped)


@captures("aten.prelu")
def _prelu(call: Call) -> str:
    value, slope = call.value("self"), call.value("weight")
    rank, slopes = call.rank("self"), call.shape("weight")
    if rank > 1 and slopes != (1,) and slopes != ():
        ends = call.builder.integers([-1, *[1] * (rank - 2)])
        slope = call.emit("Reshape", slope, ends)
    return call.emit("PRelu", value, slope)


@captures("aten.glu")
def _glu(call: Call) -> str:
    axis = call.axis()
    first, second = call.builder.emit_all(
        "Split", [call.value("self")], 2, axis=axis, num_outputs=2
    )
    return call.emit("Mul", first, call.emit("Sigmoid", second))


@captures("aten.softmax", "aten._softmax")
def _softmax(call: Call) -> str:
    return call.emit("Softmax", call.value("self", "float32"), axis=call.axis())


@captures("aten._safe_softmax")
def _safe_softmax(call: Call) -> str:
    """Compute a softmax that turns a row of nothing but -inf into zeros."""
    axis, value = call.axis(), call.value("self", "float32")
    found = call.emit("Softmax", value, axis=axis)
    most = call.emit("ReduceMax", value, call.builder.integers([axis]), keepdims=1)
    none = call.emit("Equal", most, call.builder.constant(np.array(-np.inf, np.float32)))
    return call.emit("Where", none, number(call, 0), found)


@captures("aten.log_softmax", "aten._log_softmax")
def _log_softmax(call: Call) -> str:
    return call.emit("LogSoftmax", call.value("self", "float32"), axis=call.axis())
