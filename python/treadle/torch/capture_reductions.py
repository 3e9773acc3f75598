"""This module captures PyTorch's reductions and cumulative sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.torch.capture_builder import captures
from treadle.torch.capture_pointwise import number, truth
from treadle.torch.capture_sizes import expression, known, size_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle.torch.capture_builder import Call

_REDUCE = {
    "mean": "ReduceMean", "sum": "ReduceSum", "prod": "ReduceProd", "amax": "ReduceMax",
    "amin": "ReduceMin", "logsumexp": "ReduceLogSumExp",
}  # fmt: skip


def reduced(call: Call, op: str, value: str, axes: Sequence[int], keep: bool) -> str:
    """Reduce axes of a value by one of ONNX's operators."""
    if not call.rank("self"):
        return value
    return call.emit(op, value, call.builder.integers(axes), keepdims=int(keep))


def _axes(call: Call) -> list[int]:
    return call.axes() if "dim" in call.arguments else list(range(call.rank("self")))


def _reduce(name: str, op: str) -> None:
    @captures(f"aten.{name}")
    def run(call: Call) -> str:
        value = call.value("self", call.dtype)
        return reduced(call, op, value, _axes(call), bool(call.get("keepdim")))


for _name, _op in _REDUCE.items():
    _reduce(_name, _op)


@captures("aten.max.default", "aten.min.default")
def _extreme(call: Call) -> str:
    op = "ReduceMax" if "max" in str(call.node.target) else "ReduceMin"
    return reduced(call, op, call.value("self"), range(call.rank("self")), False)


@captures("aten.max.other", "aten.min.other")
def _extreme_of_two(call: Call) -> str:
    op = "Max" if "max" in str(call.node.target) else "Min"
    return call.emit(op, call.value("self", call.dtype), call.value("other", call.dtype))


@captures("aten.max.dim", "aten.min.dim")
def _extreme_and_place(call: Call) -> tuple[str, str]:
    most = "max" in str(call.node.target)
    value, axis, keep = call.value("self"), call.axis(), int(call["keepdim"])
    if not call.rank("self"):
        return value, call.builder.constant(np.array(0, np.int64))
    found = reduced(call, "ReduceMax" if most else "ReduceMin", value, [axis], bool(keep))
    op = "ArgMax" if most else "ArgMin"
    return found, call.emit(op, value, axis=axis, keepdims=keep)


@captures("aten.argmax", "aten.argmin")
def _place(call: Call) -> str:
    op = "ArgMax" if "argmax" in str(call.node.target) else "ArgMin"
    value = call.value("self")
    if not call.rank("self"):
        return call.builder.constant(np.array(0, np.int64))
    if call.has("dim"):
        return call.emit(op, value, axis=call.axis(), keepdims=int(call["keepdim"]))
    flat = call.emit("Reshape", value, call.builder.integers([-1]))
    return call.emit(op, flat, axis=0, keepdims=0)


@captures("aten.any", "aten.all")
def _truths(call: Call) -> str:
    op = "ReduceMax" if "any" in str(call.node.target) else "ReduceMin"
    value = call.builder.cast(truth(call, "self"), "bool", "int32")
    found = reduced(call, op, value, _axes(call), bool(call.get("keepdim")))
    return call.builder.cast(found, "int32", "bool")


@captures("aten.count_nonzero")
def _count_nonzero(call: Call) -> str:
    value = call.builder.cast(truth(call, "self"), "bool", "int64")
    return reduced(call, "ReduceSum", value, _axes(call), False)


def _moments(call: Call) -> tuple[str, str]:
    """Return the variance and the mean over some axes."""
    axes, keep = _axes(call), bool(call.get("keepdim"))
    value = call.value("self", "float32")
    mean = reduced(call, "ReduceMean", value, axes, True)
    away = call.emit("Sub", value, mean)
    squares = call.emit("Mul", away, away)
    correction = call.get("correction", int(call.get("unbiased", True)))
    correction = 1 if correction is None else correction
    total = reduced(call, "ReduceSum" if correction else "ReduceMean", squares, axes, keep)
    if correction:
        total = call.emit("Div", total, _degrees(call, axes, correction))
    if not keep and call.rank("self"):
        mean = call.emit("Squeeze", mean, call.builder.integers(axes))
    return total, mean


def _degrees(call: Call, axes: Sequence[int], correction: Any) -> str:
    """Return how many numbers some axes have, less the correction, but not below zero."""
    sizes = [call.shape("self")[axis] for axis in axes]
    if all(map(known, sizes)):
        count = int(np.prod([expression(size) for size in sizes], dtype=np.int64))
        return number(call, max(count - correction, 0), "float32")
    count_value = call.builder.integers([1])
    for axis in axes:
        size = size_of(call, call["self"], axis)
        size = size if isinstance(size, str) else call.builder.integers([size])
        count_value = call.emit("Mul", count_value, size)
    count_value = call.emit("Reshape", count_value, call.builder.integers([]))
    count_value = call.builder.cast(count_value, "int64", "float32")
    rest = call.emit("Sub", count_value, number(call, correction, "float32"))
    return call.emit("Max", rest, number(call, 0, "float32"))


@captures("aten.var")
def _var(call: Call) -> str:
    return _moments(call)[0]


@captures("aten.std")
def _std(call: Call) -> str:
    return call.emit("Sqrt", _moments(call)[0])


@captures("aten.var_mean")
def _var_mean(call: Call) -> tuple[str, str]:
    return _moments(call)


@captures("aten.std_mean")
def _std_mean(call: Call) -> tuple[str, str]:
    variance, mean = _moments(call)
    return call.emit("Sqrt", variance), mean


@captures("aten.linalg_vector_norm", "aten.norm.ScalarOpt_dim", "aten.norm.Scalar",
          "aten.frobenius_norm.dim")  # fmt: skip
def _norm(call: Call) -> str:
    order = call.get("ord", call.get("p", 2))
    order = 2 if order is None else order
    axes, keep = _axes(call), bool(call.get("keepdim"))
    value = call.value("self", "float32")
    if order == 2:
        return reduced(call, "ReduceL2", value, axes, keep)
    size = call.emit("Abs", value)
    if order == 1:
        return reduced(call, "ReduceSum", size, axes, keep)
    if order in (float("inf"), float("-inf")):
        return reduced(call, "ReduceMax" if order > 0 else "ReduceMin", size, axes, keep)
    if order == 0:
        raise call.refuse("the norm of order 0 is not supported; use count_nonzero")
    powers = call.emit("Pow", size, number(call, order, "float32"))
    total = reduced(call, "ReduceSum", powers, axes, keep)
    return call.emit("Pow", total, number(call, 1 / order, "float32"))


@captures("aten.cumsum")
def _cumsum(call: Call) -> str:
    value = call.value("self", call.dtype)
    if not call.rank("self"):
        return value
    axis = call.builder.constant(np.array(call.axis(), np.int64))
    return call.emit("CumSum", value, axis)
