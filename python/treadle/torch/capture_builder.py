"""This module turns the recorded operators of PyTorch into a graph, one after the other.

A table has a function for each operator, by its name (``aten.linear``) or by the name of an
overload (``aten.max.dim``). It gets the arguments of a `Call` by the names of PyTorch's schema,
adds nodes by `Builder.emit`, and returns the name of a value, or a tuple of names where the
operator returns a tuple. A size that is known only when the graph runs is a value int64 [1].
"""

from __future__ import annotations

import operator
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import treadle
from treadle.graph.ir import Node
from treadle.torch.tensors import shared_array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


# float16 and bfloat16 are widened. float64 is rounded where a module makes it by itself; weights
# and inputs of float64 are refused before.
DTYPES: dict[Any, str] = {
    torch.float32: "float32",
    torch.float16: "float32",
    torch.bfloat16: "float32",
    torch.float64: "float32",
    torch.bool: "bool",
    torch.uint8: "uint8",
    torch.int8: "int8",
    torch.int16: "int16",
    torch.int32: "int32",
    torch.int64: "int64",
}
_ONNX = {
    "float32": 1, "uint8": 2, "int8": 3, "int16": 5, "int32": 6, "int64": 7, "bool": 9,
}  # fmt: skip
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)\n\s*([^\n]*)')
_OWN = tuple(str(Path(str(package.__file__)).parent) for package in (torch, treadle))

Result = str | tuple["str | None", ...] | None
Handler = "Callable[[Call], Result]"
FUNCTION = "treadle.torch.capture"
TABLE: dict[str, Any] = {}
"""The functions of all operators that can be captured, by the names of operators or overloads."""


class Final(Exception):
    """This error has nothing to do with sizes."""


class Missing(Final, NotImplementedError):
    """This error says that an operator is not in the table."""


class Choice(Final, ValueError):
    """This error says that the module's way depends on numbers."""


def captures(*names: str) -> Callable[[Any], Any]:
    """Return a decorator that enters a function into the table."""

    def enter(function: Any) -> Any:
        for name in names:
            TABLE[name] = function
        return function

    return enter


def key_of(target: Any) -> str | None:
    """Return the entry of the table for the target of a recorded node, or None."""
    if isinstance(target, torch._ops.OpOverload):
        name = str(target)
        short = name.rpartition(".")[0]
    else:
        short = name = f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', target)}"
        if target in (operator.getitem,):
            short = name = "getitem"
    return next((key for key in (name, short) if key in TABLE), None)


def place(node: Any) -> str:
    """Return the line of the user's source that a recorded node comes from: "file.py:3 in f"."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    for file, line, function, _ in reversed(frames):
        if not file.startswith(_OWN):
            return f"{Path(file).name}:{line} in {function}"
    return ""


def source(node: Any) -> str:
    """Return the place of a recorded node with its line of source, for messages."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    for file, line, function, text in reversed(frames):
        if not file.startswith(_OWN):
            return f"{file}:{line} in {function}: {text.strip()}"
    return "a place that PyTorch does not tell"


def dtype_of(tensor: Any) -> str:
    """Return the graph's dtype of a tensor."""
    if tensor.dtype not in DTYPES:
        raise NotImplementedError(f"values of {tensor.dtype} are not supported")
    return DTYPES[tensor.dtype]


class Builder:
    """A Builder has what is written of a graph so far, and writes the rest."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.place = ""
        self._names: set[str] = set()
        self._small: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._weights: dict[tuple[Any, ...], str] = {}
        self._makers: dict[str, Node] = {}
        self._made: dict[tuple[Any, ...], str] = {}

    def name(self, wish: str) -> str:
        """Return a name that nothing has yet."""
        found, number = wish, 1
        while found in self._names or not found:
            found, number = f"{wish}_{number}", number + 1
        self._names.add(found)
        return found

    def emit(self, op: str, *inputs: str | None, **attributes: Any) -> str:
        """Add a node with one output, and return the name of the output."""
        return self.emit_all(op, inputs, 1, **attributes)[0]

    def emit_all(
        self, op: str, inputs: Sequence[str | None], outputs: int, **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with some outputs, and return their names."""
        given = ["" if name is None else name for name in inputs]
        while given and not given[-1]:
            given.pop()
        names = [self.name(op.rpartition(".")[2].lower()) for _ in range(outputs)]
        node = Node(op, given, names, attributes, self.place)
        self.nodes.append(node)
        for name in names:
            self._makers[name] = node
        return tuple(names)

    def maker(self, name: str | None) -> Node | None:
        """Return the node that makes a value, or None for inputs and constants."""
        return self._makers.get(name or "")

    def constant(self, value: Any, dtype: str | None = None) -> str:
        """Return the name of a constant; small ones of the same content are one."""
        array = np.ascontiguousarray(np.asarray(value, dtype)).reshape(np.shape(value))
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self._small:
            name = self.name("constant")
            self.constants[name] = array
            self._small[key] = name
        return self._small[key]

    def integers(self, values: Sequence[int]) -> str:
        """Return a constant int64 vector."""
        return self.constant(np.array(list(values), np.int64).reshape(-1))

    def weight(self, name: str, tensor: Any) -> str:
        """Return the constant of a tensor of the module, which is copied; one tensor is one
        constant, however often the module has it."""
        dtype = DTYPES.get(tensor.dtype)
        if dtype is None or tensor.dtype is torch.float64:
            raise ValueError(
                f"treadle.torch.capture: {name} is {tensor.dtype}, expected float32, bfloat16, "
                "float16, integers or bool (module.float() rounds it)"
            )
        if not tensor.is_cpu or tensor.layout is not torch.strided:
            raise ValueError(
                f"treadle.torch.capture: {name} is a {tensor.layout} tensor on {tensor.device}, "
                "expected a plain tensor on the CPU (module.cpu() moves it)"
            )
        own = tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype
        if own not in self._weights or tensor.numel() == 0:
            cast = tensor.detach().to(getattr(torch, dtype))
            array = np.array(shared_array(cast.contiguous()), copy=True).reshape(tensor.shape)
            self._weights[own] = self.name(name)
            self.constants[self._weights[own]] = array
        return self._weights[own]

    def cast(self, name: str, found: str, wanted: str | None) -> str:
        """Return a value as another dtype."""
        if wanted is None or found == wanted:
            return name
        if name in self.constants and self.constants[name].size <= 64:
            return self.constant(self.constants[name].astype(wanted))
        return self.emit("Cast", name, to=_ONNX[wanted])

    def once(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Return the output of a node that is added at its first use."""
        key = op, inputs, tuple(sorted(attributes.items()))
        if key not in self._made:
            self._made[key] = self.emit(op, *inputs, **attributes)
        return self._made[key]


class Call:
    """A Call is a recorded operator with its arguments, and the builder that it is written to."""

    def __init__(self, builder: Builder, node: Any, values: dict[Any, Any]) -> None:
        self.builder, self.node, self.values = builder, node, values
        self.emit = builder.emit
        self.arguments = dict(node.kwargs)
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            self.arguments |= dict(enumerate(node.args))
            return
        for index, argument in enumerate(schema.arguments):
            if index < len(node.args):
                self.arguments[argument.name] = node.args[index]
            elif argument.name not in self.arguments:
                self.arguments[argument.name] = (
                    argument.default_value if argument.has_default_value() else None
                )

    def __getitem__(self, name: str | int) -> Any:
        """Return an argument as PyTorch recorded it."""
        return self.arguments[name]

    def get(self, name: str, otherwise: Any = None) -> Any:
        return self.arguments.get(name, otherwise)

    @property
    def result(self) -> Any:
        """The fake tensor of the result, or the first one of a tuple."""
        found = self.node.meta["val"]
        return found[0] if isinstance(found, tuple | list) else found

    @property
    def dtype(self) -> str:
        """The graph's dtype of the result."""
        return dtype_of(self.result)

    def fake(self, name: str | Any) -> Any:
        """Return the fake tensor, or the number, of an argument."""
        found = self.arguments[name] if isinstance(name, str) else name
        return found.meta["val"] if isinstance(found, torch.fx.Node) else found

    def has(self, name: str) -> bool:
        return self.arguments.get(name) is not None

    def shape(self, name: str | Any) -> tuple[Any, ...]:
        return tuple(self.fake(name).shape)

    def rank(self, name: str | Any) -> int:
        return len(self.shape(name))

    def axis(self, name: str = "dim", of: str | Any = "self", extra: int = 0) -> int:
        """Return an axis that an argument names, from 0 on."""
        axis = self.arguments[name]
        rank = self.rank(of) + extra
        return int(axis) % max(rank, 1)

    def axes(self, name: str = "dim", of: str = "self") -> list[int]:
        """Return the axes that an argument names; all where it names none."""
        found = self.arguments[name]
        rank = self.rank(of)
        if found is None or (not isinstance(found, int) and not found):
            return list(range(rank))
        found = [found] if isinstance(found, int) else found
        return [int(axis) % max(rank, 1) for axis in found]

    def value(self, name: str | Any, dtype: str | None = None) -> str:
        """Return the value of an argument, a tensor or a number, as a dtype."""
        found = self.arguments[name] if isinstance(name, str) else name
        if isinstance(found, torch.fx.Node):
            value, fake = self.values[found], found.meta["val"]
            if isinstance(fake, torch.Tensor):
                return self.builder.cast(value, dtype_of(fake), dtype)
            own = "float32" if isinstance(fake, torch.SymFloat | float) else "int64"
            if isinstance(fake, torch.SymBool | bool):
                own = "bool"
            number = self.emit("Reshape", value, self.builder.integers([]))
            return self.builder.cast(number, own, dtype)
        if dtype is None:
            dtype = {bool: "bool", int: "int64", float: "float32"}[type(found)]
        return self.builder.constant(np.array(_within(found, dtype), dtype))

    def optional(self, name: str, dtype: str | None = None) -> str | None:
        """Return the value of an argument, or None where it is None."""
        return self.value(name, dtype) if self.has(name) else None

    def constant(self, name: str) -> bool:
        """Tell whether an argument is a constant of the module."""
        found = self.arguments[name]
        return found is None or self.values[found] in self.builder.constants

    def refuse(self, why: str) -> NotImplementedError:
        """Return the error for what the operator is asked for, to be raised."""
        return NotImplementedError(refusal(self.node, why))


def refusal(node: Any, why: str) -> str:
    """Return a message: which operation cannot be captured, where it is, and why."""
    return f"treadle.torch.capture: {node.target} cannot be captured: {why}\n  {source(node)}"


def _within(number: Any, dtype: str) -> Any:
    """Return a number that fits into a dtype: what lies beyond float32 becomes infinite."""
    if dtype == "float32":
        with np.errstate(over="ignore"):
            return np.float32(number)
    return number
