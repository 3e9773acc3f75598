"""This module captures the sizes of PyTorch's tensors, where they are known only in a run.

A size is an int where it is known, and a value int64 [1] otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from treadle.torch.capture_builder import captures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle.torch.capture_builder import Call


def same(first: Any, second: Any) -> bool:
    """Tell whether two sizes are known to be equal."""
    return bool(expression(first) == expression(second))


def expression(size: Any) -> Any:
    """Return an int, or the expression of a symbolic size."""
    size = size.meta["val"] if isinstance(size, torch.fx.Node) else size
    if isinstance(size, torch.SymInt):
        found = size.node.expr
        return int(found) if found.is_Integer else found
    return size


def known(size: Any) -> bool:
    """Tell whether a size is an int."""
    return isinstance(expression(size), int)


def size_of(call: Call, tensor: Any, axis: int) -> Any:
    """Return a size of a recorded tensor: an int, or the name of a value [1]."""
    size = expression(call.shape(tensor)[axis])
    if isinstance(size, int):
        return size
    return call.builder.once("Shape", call.value(tensor), start=axis, end=axis + 1)


def one(call: Call, size: Any) -> str:
    """Return a size as a value int64 [1]: an int, a name of a value, or a recorded size."""
    if isinstance(size, str):
        return size
    found = expression(size)
    if isinstance(found, int):
        return call.builder.integers([found])
    value: str = call.values[size]
    return value


def vector(call: Call, sizes: Sequence[Any]) -> str:
    """Return sizes as one value int64 [n]."""
    if all(not isinstance(size, str) and known(size) for size in sizes):
        return call.builder.integers([int(expression(size)) for size in sizes])
    return call.builder.emit("Concat", *[one(call, size) for size in sizes], axis=0)


def number(call: Call, size: Any) -> str:
    """Return a size as a value int64 without axes."""
    if not isinstance(size, str) and known(size):
        return call.builder.constant(np.array(expression(size), np.int64))
    return call.builder.once("Reshape", one(call, size), call.builder.integers([]))


def reshape(call: Call, value: str, before: Sequence[Any], after: Sequence[Any]) -> str:
    """Return a value in another shape, by sizes that need no computation where that is possible.

    Reshape reads 0 as "the size of this axis", and -1 as "what remains".
    """
    if len(before) == len(after) and all(map(same, before, after)):
        return value
    sizes: list[Any] = []
    unknown: list[int] = []
    for axis, size in enumerate(after):
        if known(size):
            sizes.append(int(expression(size)))
        elif axis < len(before) and same(before[axis], size):
            sizes.append(0)
        else:
            unknown.append(axis)
            sizes.append(-1)
    if any(known(size) and expression(size) == 0 for size in after):
        # No element is there, and -1 would have no meaning.
        full = [0 if n else size for n, size in zip(map(known, after), sizes, strict=True)]
        if unknown:
            return call.emit("Reshape", value, vector(call, _recorded(call, after)), allowzero=1)
        return call.emit("Reshape", value, call.builder.integers(full), allowzero=0)
    if len(unknown) > 1:
        full = list(_recorded(call, after))
        return call.emit("Reshape", value, vector(call, full))
    return call.emit("Reshape", value, call.builder.integers(sizes))


def _recorded(call: Call, sizes: Sequence[Any]) -> list[Any]:
    """Return sizes with the recorded nodes that made them, which are arguments of the call."""
    nodes: list[Any] = []
    for argument in call.arguments.values():
        nodes += argument if isinstance(argument, list | tuple) else [argument]
    nodes = [node for node in nodes if isinstance(node, torch.fx.Node)]
    found: list[Any] = []
    for size in sizes:
        match = size
        if not known(size):
            match = next((n for n in nodes if _is_size(n) and same(n, size)), None)
            match = match if match is not None else _from_tensors(call, nodes, size)
        found.append(match)
    return found


def _is_size(node: Any) -> bool:
    return isinstance(node.meta.get("val"), torch.SymInt)


def _from_tensors(call: Call, nodes: Sequence[Any], size: Any) -> str:
    """Return a symbolic size from a tensor among the arguments, or a product of its sizes."""
    for node in nodes:
        fake = node.meta.get("val")
        if not isinstance(fake, torch.Tensor):
            continue
        for axis, own in enumerate(fake.shape):
            if same(own, size):
                return str(size_of(call, node, axis))
    for node in nodes:
        fake = node.meta.get("val")
        if isinstance(fake, torch.Tensor):
            for first in range(fake.dim()):
                for last in range(first + 2, fake.dim() + 1):
                    if same(math.prod(fake.shape[first:last]), size):
                        part = call.builder.once("Shape", call.value(node), start=first, end=last)
                        return call.emit("ReduceProd", part, keepdims=1)
    raise call.refuse(f"its size {size} cannot be computed")


@captures("aten.sym_size.int")
def _sym_size(call: Call) -> str:
    return one(call, size_of(call, call["self"], call.axis()))


@captures("aten.sym_numel.default")
def _sym_numel(call: Call) -> str:
    return call.emit("ReduceProd", call.emit("Shape", call.value("self")), keepdims=1)


def _operand(call: Call, index: int, dtype: str) -> str:
    """Return an operand of arithmetic with sizes as a value [1]."""
    found = call[index]
    if isinstance(found, torch.fx.Node):
        fake = found.meta["val"]
        own = "float32" if isinstance(fake, torch.SymFloat | float) else "int64"
        own = "bool" if isinstance(fake, torch.SymBool | bool) else own
        return call.builder.cast(call.values[found], own, dtype)
    return call.builder.constant(np.array([found], dtype))


def _kind(call: Call, *indices: int) -> str:
    fakes = [call.fake(call[index]) for index in indices]
    return "float32" if any(isinstance(f, torch.SymFloat | float) for f in fakes) else "int64"


def _binary(op: str, name: str) -> None:
    @captures(f"_operator.{name}")
    def run(call: Call) -> str:
        dtype = _kind(call, 0, 1)
        return call.emit(op, _operand(call, 0, dtype), _operand(call, 1, dtype))


for _op, _name in {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Equal": "eq", "Less": "lt", "LessOrEqual": "le",
    "Greater": "gt", "GreaterOrEqual": "ge", "Pow": "pow",
}.items():  # fmt: skip
    _binary(_op, _name)


@captures("_operator.ne")
def _ne(call: Call) -> str:
    dtype = _kind(call, 0, 1)
    equal = call.emit("Equal", _operand(call, 0, dtype), _operand(call, 1, dtype))
    return call.emit("Not", equal)


@captures("_operator.and_")
def _and(call: Call) -> str:
    return call.emit("And", _operand(call, 0, "bool"), _operand(call, 1, "bool"))


@captures("_operator.or_")
def _or(call: Call) -> str:
    return call.emit("Or", _operand(call, 0, "bool"), _operand(call, 1, "bool"))


@captures("_operator.not_", "torch.sym_not")
def _not(call: Call) -> str:
    return call.emit("Not", _operand(call, 0, "bool"))


@captures("_operator.neg")
def _neg(call: Call) -> str:
    return call.emit("Neg", _operand(call, 0, _kind(call, 0)))


@captures("_operator.floordiv")
def _floordiv(call: Call) -> str:
    dtype = _kind(call, 0, 1)
    first, second = _operand(call, 0, dtype), _operand(call, 1, dtype)
    if dtype == "float32":
        return call.emit("Floor", call.emit("Div", first, second))
    # ONNX's Div of integers rounds towards zero, Python's // downwards.
    rest = call.emit("Mod", first, second)
    return call.emit("Div", call.emit("Sub", first, rest), second)


@captures("_operator.mod")
def _mod(call: Call) -> str:
    if _kind(call, 0, 1) == "float32":
        raise call.refuse("a remainder of numbers that are no integers is not supported")
    return call.emit("Mod", _operand(call, 0, "int64"), _operand(call, 1, "int64"))


@captures("_operator.truediv", "torch.sym_truediv")
def _truediv(call: Call) -> str:
    return call.emit("Div", _operand(call, 0, "float32"), _operand(call, 1, "float32"))


@captures("torch.sym_float")
def _sym_float(call: Call) -> str:
    return _operand(call, 0, "float32")


@captures("torch.sym_int", "math.trunc")
def _sym_int(call: Call) -> str:
    return _operand(call, 0, "int64")


@captures("math.ceil")
def _ceil(call: Call) -> str:
    value = call.emit("Ceil", _operand(call, 0, "float32"))
    return call.builder.cast(value, "float32", "int64")


@captures("math.floor")
def _floor(call: Call) -> str:
    value = call.emit("Floor", _operand(call, 0, "float32"))
    return call.builder.cast(value, "float32", "int64")


@captures("torch.sym_max", "torch.sym_min")
def _sym_extreme(call: Call) -> str:
    dtype = _kind(call, 0, 1)
    op = "Max" if "max" in call.node.target.__name__ else "Min"
    return call.emit(op, _operand(call, 0, dtype), _operand(call, 1, dtype))


@captures("torch.sym_ite")
def _sym_ite(call: Call) -> str:
    dtype = _kind(call, 1, 2)
    choice = _operand(call, 0, "bool")
    return call.emit("Where", choice, _operand(call, 1, dtype), _operand(call, 2, dtype))


@captures("aten.item.default", "aten._local_scalar_dense.default")
def _item(call: Call) -> str:
    """Turn a number of a tensor into a size [1], or a number [1]."""
    fake = call.node.meta["val"]
    wanted = "float32" if isinstance(fake, torch.SymFloat | float) else "int64"
    wanted = "bool" if isinstance(fake, torch.SymBool | bool) else wanted
    return call.emit("Reshape", call.value("self", wanted), call.builder.integers([1]))
