"""This module keeps what a module's source asks about sizes, ``if x.shape[1] > 512``.

A recorded program has one way, that of the example. The model asks again when it runs, and refuses
sizes that would take another way.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from treadle.torch.capture_builder import _OWN, FUNCTION
from treadle.torch.capture_recurrent import recording

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from treadle.torch.capture_builder import Builder


class Condition(NamedTuple):
    """A Condition on sizes has whether it was true for the example, and where it stands."""

    node: Any
    """PyTorch's symbolic node of it."""
    true: bool
    file: str
    line: int


@contextmanager
def conditions_kept() -> Iterator[list[Condition]]:
    """Collect the conditions that this thread looks at, outside of PyTorch's own source."""
    found: list[Condition] = []
    before = torch.SymBool.__bool__

    def look(self: Any) -> bool:
        true = bool(before(self))
        if recording():
            frame = sys._getframe(1)
            file = frame.f_code.co_filename
            if not file.startswith((*_OWN, "<string>")):  # PyTorch also makes source
                found.append(Condition(self.node, true, file, frame.f_lineno))
        return true

    torch.SymBool.__bool__ = look
    try:
        yield found
    finally:
        torch.SymBool.__bool__ = before


def required(
    builder: Builder, values: Mapping[Any, Any], conditions: list[Condition], result: Any
) -> Any:
    """Return a result that is there only if all conditions are as they were for the example."""
    if not isinstance(result, str):
        return result
    sizes = _Sizes(builder, values)
    seen: set[tuple[Any, bool]] = set()
    for condition in conditions:
        env = condition.node.shape_env
        found = env.replace(condition.node.expr)
        if (found, condition.true) in seen or (found.is_Boolean and found.is_Atom):
            continue
        seen.add((found, condition.true))
        where = f"{Path(condition.file).name}:{condition.line}"
        try:
            holds = sizes.value(found)
        except LookupError as error:
            raise NotImplementedError(
                f"{FUNCTION}: the module looks at a size in a way that cannot be captured "
                f"({error}): {where}"
            ) from None
        if not condition.true:
            holds = builder.emit("Not", holds)
        message = (
            f"the sizes of the inputs take another way at {where} than those of the example with "
            f"which the module was captured ({found} is {not condition.true})"
        )
        builder.place = f"{where}"
        result = builder.emit("treadle.Require", result, holds, message=message)
    return result


class _Sizes:
    """This class computes expressions of sizes in the graph, as values [1]."""

    def __init__(self, builder: Builder, values: Mapping[Any, Any]) -> None:
        self.builder = builder
        self.known: dict[Any, str] = {}
        for node, value in values.items():
            fake = node.meta.get("val")
            if not isinstance(fake, torch.Tensor) or not isinstance(value, str):
                continue
            for axis, size in enumerate(fake.shape):
                found = size.node.expr if isinstance(size, torch.SymInt) else None
                if getattr(found, "is_Symbol", False) and found not in self.known:
                    self.known[found] = builder.once("Shape", value, start=axis, end=axis + 1)

    def value(self, found: Any) -> str:
        """Return the value of an expression. Raises LookupError for what is not known."""
        kind, emit = type(found).__name__, self.builder.emit
        if found.is_Integer:
            return self.builder.integers([int(found)])
        if found.is_Symbol:
            return self.known[found]
        if kind in ("Unequality", "Not"):
            parts = [self.value(part) for part in found.args]
            return emit("Not", emit("Equal", *parts) if len(parts) == 2 else parts[0])
        if kind == "FloorDiv":
            first, second = (self.value(part) for part in found.args)
            rest = emit("Mod", first, second)
            return emit("Div", emit("Sub", first, rest), second)
        op = _OPERATORS.get(kind)
        if op is None:
            raise LookupError(f"{found}")
        parts = [self.value(part) for part in found.args]
        value = parts[0]
        for part in parts[1:]:
            value = emit(op, value, part)
        return value


# The names of sympy's classes, and of PyTorch's, with the operators that compute them.
_OPERATORS = {
    "Add": "Add", "Mul": "Mul", "Mod": "Mod", "PythonMod": "Mod", "Max": "Max", "Min": "Min",
    "Equality": "Equal", "LessThan": "LessOrEqual", "StrictLessThan": "Less",
    "GreaterThan": "GreaterOrEqual", "StrictGreaterThan": "Greater", "And": "And", "Or": "Or",
    "CleanDiv": "Div",
}  # fmt: skip
