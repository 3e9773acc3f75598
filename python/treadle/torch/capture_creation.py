"""This module captures PyTorch's operators that make tensors: constants, ranges, fillings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from treadle.torch.capture_builder import captures
from treadle.torch.capture_sizes import expression, known, vector

if TYPE_CHECKING:
    from treadle.torch.capture_builder import Call

_MOST = 4096  # the largest constant that is written out, in numbers


def filled(call: Call, sizes: Any, value: Any) -> str:
    """Return a tensor of some sizes, a list or a value int64 [n], filled with a number."""
    dtype = call.dtype
    number = not isinstance(value, torch.fx.Node)
    if number and not isinstance(sizes, str) and all(map(known, sizes)):
        counts = [int(expression(size)) for size in sizes]
        if np.prod(counts, dtype=float) <= _MOST:
            return call.builder.constant(np.full(counts, value, dtype))
    shape = sizes if isinstance(sizes, str) else vector(call, sizes)
    if number:
        return call.emit("ConstantOfShape", shape, value=np.array([value], dtype))
    return call.emit("Expand", call.value(value, dtype), shape)


@captures(
    "aten.zeros.default", "aten.ones.default", "aten.full.default", "aten.empty.memory_format"
)
def _made(call: Call) -> str:
    value = call.get("fill_value", int("ones" in str(call.node.target)))
    return filled(call, call["size"], value)


@captures("aten.new_zeros", "aten.new_ones", "aten.new_full", "aten.new_empty")
def _new(call: Call) -> str:
    value = call.get("fill_value", int("ones" in str(call.node.target)))
    return filled(call, call["size"], value)


@captures("aten.zeros_like", "aten.ones_like", "aten.full_like", "aten.empty_like")
def _like(call: Call) -> str:
    value = call.get("fill_value", int("ones" in str(call.node.target)))
    if all(map(known, call.shape("self"))):
        return filled(call, call.shape("self"), value)
    return filled(call, call.builder.once("Shape", call.value("self")), value)


@captures("aten.fill")
def _fill(call: Call) -> str:
    shape = call.builder.once("Shape", call.value("self"))
    return call.emit("Expand", call.value("value", call.dtype), shape)


@captures("aten.copy")
def _copy(call: Call) -> str:
    if call.shape("src") == call.shape("self"):
        return call.value("src", call.dtype)
    shape = call.builder.once("Shape", call.value("self"))
    return call.emit("Expand", call.value("src", call.dtype), shape)


@captures("aten.scalar_tensor")
def _scalar_tensor(call: Call) -> str:
    return call.value("s", call.dtype)


@captures("aten.arange")
def _arange(call: Call) -> str:
    start, end, step = call.get("start", 0), call["end"], call.get("step", 1)
    start, step = 0 if start is None else start, 1 if step is None else step
    plain = all(isinstance(x, int | float) for x in (start, end, step))
    if plain and (end - start) / step <= _MOST:
        return call.builder.constant(np.arange(start, end, step).astype(call.dtype))
    dtype = "float32" if call.dtype == "float32" else "int64"
    found = call.emit("Range", *[call.value(x, dtype) for x in (start, end, step)])
    return call.builder.cast(found, dtype, call.dtype)


@captures("aten.linspace")
def _linspace(call: Call) -> str:
    start, end, steps = call["start"], call["end"], call["steps"]
    if not all(isinstance(x, int | float) for x in (start, end, steps)):
        raise call.refuse("its arguments are known only in a run")
    return call.builder.constant(np.linspace(start, end, steps).astype(call.dtype))


@captures("aten.eye")
def _eye(call: Call) -> str:
    if not known(call["n"]) or not known(call.get("m", 0) or 0):
        raise call.refuse("its sizes are known only in a run")
    m = call.get("m")
    return call.builder.constant(np.eye(call["n"], m, dtype=call.dtype))
