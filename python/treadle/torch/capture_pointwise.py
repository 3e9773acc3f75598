"""This module captures PyTorch's elementwise operators: a table, and functions beside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from treadle.torch.capture_builder import DTYPES, captures

if TYPE_CHECKING:
    from treadle.torch.capture_builder import Call

# PyTorch's operators of one tensor that are one of ONNX's.
UNARY = {
    "abs": "Abs", "acos": "Acos", "acosh": "Acosh", "asin": "Asin", "asinh": "Asinh",
    "atan": "Atan", "atanh": "Atanh", "ceil": "Ceil", "cos": "Cos", "cosh": "Cosh", "erf": "Erf",
    "exp": "Exp", "floor": "Floor", "log": "Log", "neg": "Neg", "reciprocal": "Reciprocal",
    "relu": "Relu", "round": "Round", "sigmoid": "Sigmoid", "sign": "Sign", "sin": "Sin",
    "sinh": "Sinh", "sqrt": "Sqrt", "tan": "Tan", "tanh": "Tanh",
}  # fmt: skip
# ... that keep integers as they are, and compute on them as ONNX does.
_OF_INTEGERS = {"Abs", "Neg", "Relu", "Sign"}
_ROUNDING = {"Ceil", "Floor", "Round"}
_BINARY = {"mul": "Mul", "maximum": "Max", "minimum": "Min"}
_COMPARE = {
    "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual",
}  # fmt: skip
_LOGICAL = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}
_BITWISE = {"bitwise_and": "And", "bitwise_or": "Or", "bitwise_xor": "Xor"}


def _unary(name: str, op: str) -> None:
    @captures(f"aten.{name}")
    def run(call: Call) -> str:
        if op in _ROUNDING and call.dtype != "float32":
            return call.value("self")
        if name == "round" and call.get("decimals"):
            raise call.refuse("only whole numbers are rounded to (decimals=0)")
        return call.emit(op, call.value("self", call.dtype))


def common(call: Call, *names: str) -> str:
    """Return the dtype in which PyTorch computes with some arguments."""
    found = call.fake(names[0])
    for name in names[1:]:
        other = call.fake(name)
        found = torch.empty((), dtype=torch.result_type(found, other), device="meta")
        if isinstance(other, torch.Tensor):
            shape = (1,) * max(call.rank(name), call.rank(names[0]))
            found = found.new_empty(shape)
    return DTYPES.get(found.dtype, "float32")


def _binary(name: str, op: str) -> None:
    @captures(f"aten.{name}")
    def run(call: Call) -> str:
        dtype = call.dtype
        if dtype == "bool":
            logic = {"Mul": "And", "Max": "Or", "Min": "And"}[op]
            return call.emit(logic, call.value("self"), call.value("other", "bool"))
        return call.emit(op, call.value("self", dtype), call.value("other", dtype))


def _compare(name: str, op: str) -> None:
    @captures(f"aten.{name}")
    def run(call: Call) -> str:
        dtype = common(call, "self", "other")
        if dtype == "bool" and op != "Equal":
            dtype = "int32"
        return call.emit(op, call.value("self", dtype), call.value("other", dtype))


def _logical(name: str, op: str) -> None:
    @captures(f"aten.{name}")
    def run(call: Call) -> str:
        return call.emit(op, truth(call, "self"), truth(call, "other"))


def _bitwise(name: str, op: str) -> None:
    @captures(f"aten.{name}")
    def run(call: Call) -> str:
        dtype = call.dtype
        name = op if dtype == "bool" else f"Bitwise{op}"
        return call.emit(name, call.value("self", dtype), call.value("other", dtype))


def truth(call: Call, name: str) -> str:
    """Return whether the numbers of an argument are not zero."""
    return call.value(name, "bool")


for _name, _op in UNARY.items():
    _unary(_name, _op)
for _name, _op in _BINARY.items():
    _binary(_name, _op)
for _name, _op in _COMPARE.items():
    _compare(_name, _op)
for _name, _op in _LOGICAL.items():
    _logical(_name, _op)
for _name, _op in _BITWISE.items():
    _bitwise(_name, _op)


def number(call: Call, value: float, dtype: str | None = None) -> str:
    """Return a constant without axes of the result's dtype."""
    return call.builder.constant(np.array(value, dtype or call.dtype))


def _scaled(call: Call, name: str, factor: Any, dtype: str) -> str:
    value = call.value(name, dtype)
    if factor == 1:
        return value
    return call.emit("Mul", value, call.value(factor, dtype))


@captures("aten.add", "aten.sub")
def _add(call: Call) -> str:
    dtype, add = call.dtype, "add" in str(call.node.target)
    if dtype == "bool":
        return call.emit("Or", call.value("self"), call.value("other", "bool"))
    other = _scaled(call, "other", call.get("alpha", 1), dtype)
    return call.emit("Add" if add else "Sub", call.value("self", dtype), other)


@captures("aten.rsub")
def _rsub(call: Call) -> str:
    dtype = call.dtype
    own = _scaled(call, "self", call.get("alpha", 1), dtype)
    return call.emit("Sub", call.value("other", dtype), own)


@captures("aten.ne")
def _ne(call: Call) -> str:
    dtype = common(call, "self", "other")
    equal = call.emit("Equal", call.value("self", dtype), call.value("other", dtype))
    return call.emit("Not", equal)


@captures("aten.div", "aten.true_divide", "aten.floor_divide")
def _div(call: Call) -> str:
    mode = "floor" if "floor_divide" in str(call.node.target) else call.get("rounding_mode")
    dtype = call.dtype
    first, second = call.value("self", dtype), call.value("other", dtype)
    if mode == "floor" and dtype != "float32":
        rest = call.emit("Mod", first, second)
        return call.emit("Div", call.emit("Sub", first, rest), second)
    quotient = call.emit("Div", first, second)
    if mode is None or dtype != "float32":
        return quotient
    return call.emit("Floor", quotient) if mode == "floor" else _trunc(call, quotient)


def _trunc(call: Call, value: str) -> str:
    return call.emit("Mul", call.emit("Sign", value), call.emit("Floor", call.emit("Abs", value)))


@captures("aten.trunc", "aten.fix")
def _truncate(call: Call) -> str:
    value = call.value("self")
    return value if call.dtype != "float32" else _trunc(call, value)


@captures("aten.remainder")
def _remainder(call: Call) -> str:
    dtype = call.dtype
    first, second = call.value("self", dtype), call.value("other", dtype)
    if dtype != "float32":
        return call.emit("Mod", first, second)
    whole = call.emit("Floor", call.emit("Div", first, second))
    return call.emit("Sub", first, call.emit("Mul", whole, second))


@captures("aten.fmod")
def _fmod(call: Call) -> str:
    dtype = call.dtype
    return call.emit("Mod", call.value("self", dtype), call.value("other", dtype), fmod=1)


@captures("aten.pow")
def _pow(call: Call) -> str:
    dtype = call.dtype
    name = "exponent"
    exponent = call[name]
    base = call.value("self", dtype)
    if exponent == 2:
        return call.emit("Mul", base, base)
    if exponent == 0.5 and dtype == "float32":
        return call.emit("Sqrt", base)
    if exponent == -1 and dtype == "float32":
        return call.emit("Reciprocal", base)
    return call.emit("Pow", base, call.value(name, dtype))


@captures("aten.square")
def _square(call: Call) -> str:
    value = call.value("self", call.dtype)
    return call.emit("Mul", value, value)


@captures("aten.rsqrt")
def _rsqrt(call: Call) -> str:
    return call.emit("Reciprocal", call.emit("Sqrt", call.value("self", "float32")))


@captures("aten.exp2")
def _exp2(call: Call) -> str:
    value = call.value("self", "float32")
    return call.emit("Exp", call.emit("Mul", value, number(call, math.log(2))))


@captures("aten.expm1")
def _expm1(call: Call) -> str:
    return call.emit("Sub", call.emit("Exp", call.value("self", "float32")), number(call, 1))


@captures("aten.log2", "aten.log10", "aten.log1p")
def _logarithm(call: Call) -> str:
    name, value = str(call.node.target), call.value("self", "float32")
    if "log1p" in name:
        return call.emit("Log", call.emit("Add", value, number(call, 1)))
    base = math.log(2) if "log2" in name else math.log(10)
    return call.emit("Mul", call.emit("Log", value), number(call, 1 / base))


@captures("aten.logical_not")
def _logical_not(call: Call) -> str:
    return call.emit("Not", truth(call, "self"))


@captures("aten.bitwise_not")
def _bitwise_not(call: Call) -> str:
    return call.emit("Not" if call.dtype == "bool" else "BitwiseNot", call.value("self"))


@captures("aten.isnan")
def _isnan(call: Call) -> str:
    return call.emit("IsNaN", call.value("self", "float32"))


@captures("aten.isinf")
def _isinf(call: Call) -> str:
    return call.emit("IsInf", call.value("self", "float32"))


@captures("aten.isfinite")
def _isfinite(call: Call) -> str:
    value = call.value("self", "float32")
    return call.emit("Not", call.emit("Or", call.emit("IsNaN", value), call.emit("IsInf", value)))


@captures("aten.where")
def _where(call: Call) -> str:
    dtype = call.dtype
    choice = call.value("condition", "bool")
    return call.emit("Where", choice, call.value("self", dtype), call.value("other", dtype))


@captures("aten.masked_fill")
def _masked_fill(call: Call) -> str:
    dtype = call.dtype
    mask = call.value("mask", "bool")
    return call.emit("Where", mask, call.value("value", dtype), call.value("self", dtype))


@captures("aten.clamp", "aten.clip", "aten.hardtanh", "aten.clamp_min", "aten.clamp_max")
def _clamp(call: Call) -> str:
    dtype = call.dtype
    low = call.get("min", call.get("min_val"))
    high = call.get("max", call.get("max_val"))
    value = call.value("self", dtype)
    tensors = any(isinstance(call.fake(x), torch.Tensor) for x in (low, high) if x is not None)
    bounds = [None if x is None else call.value(x, dtype) for x in (low, high)]
    if not tensors:
        return call.emit("Clip", value, *bounds)
    if bounds[0] is not None:
        value = call.emit("Max", value, bounds[0])
    return value if bounds[1] is None else call.emit("Min", value, bounds[1])


@captures("aten.lerp")
def _lerp(call: Call) -> str:
    first, last = call.value("self"), call.value("end")
    part = call.emit("Mul", call.value("weight", "float32"), call.emit("Sub", last, first))
    return call.emit("Add", first, part)


@captures("aten.addcmul", "aten.addcdiv")
def _addc(call: Call) -> str:
    dtype = call.dtype
    op = "Mul" if "addcmul" in str(call.node.target) else "Div"
    product = call.emit(op, call.value("tensor1", dtype), call.value("tensor2", dtype))
    if call["value"] != 1:
        product = call.emit("Mul", product, call.value("value", dtype))
    return call.emit("Add", call.value("self", dtype), product)
