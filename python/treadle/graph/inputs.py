"""This module turns what a caller gives a model into the arrays that its program reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from treadle import _core
from treadle._inputs.arrays import copied, to_bool, to_dense, to_int64
from treadle._inputs.checks import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from treadle._inputs.types import AnyArray
    from treadle.graph.ir import Value

# Files may use these dtypes for numbers that are float32 in a program.
WIDENED = ("float16", "bfloat16")


class Inputs:
    """This class takes the inputs of many calls of a model. Errors begin with ``function``."""

    def __init__(self, function: str, values: Sequence[Value]) -> None:
        self.function = function
        self.values = list(values)
        self.names = [value.name for value in values]
        # Inputs that a program reads as they are need no Python. Nothing is plain where a dtype is
        # widened.
        self.plain = None
        if all(value.dtype and value.dtype not in WIDENED for value in values):
            self.plain = _core.PlainInputs([_described(value) for value in values])

    def run(
        self, program: _core.Program, args: tuple[Any, ...], named: dict[str, Any]
    ) -> list[AnyArray]:
        """Return the outputs of a program. Raises what `gathered` raises."""
        if self.plain is not None:
            results = self.plain.run(program, self.function, args, named)
            if results is not None:
                return results
        return program.run(self.function, self.gathered(args, named))

    def gathered(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> list[AnyArray]:
        """Return an array for every input, from arguments by position and by name.

        Raises TypeError for an input that is missing, unknown or given twice, or of another dtype,
        and ValueError for one of another shape.
        """
        given = list(args)
        if named:
            given += [named[name] for name in self.names[len(args) :] if name in named]
        if len(given) != len(self.names) or len(given) != len(args) + len(named):
            self._refuse(args, named)
        pairs = zip(self.values, given, strict=True)
        return [converted(self.function, value, array) for value, array in pairs]

    def _refuse(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> NoReturn:
        function, expected = self.function, signature(self.values)
        if len(args) > len(self.names):
            raise TypeError(f"{function}: {len(args)} inputs are given, expected {expected}")
        for name in named:
            if name not in self.names:
                raise TypeError(f"{function}: there is no input {name!r}, expected {expected}")
            if name in self.names[: len(args)]:
                raise TypeError(f"{function}: {name} is given twice, by position and by name")
        missing = [name for name in self.names[len(args) :] if name not in named]
        raise TypeError(f"{function}: {', '.join(missing)} is missing, expected {expected}")


def _described(value: Value) -> tuple[str, str, list[int | None] | None]:
    """Return the name, the dtype and the known sizes of a value."""
    if value.shape is None:
        return value.name, value.dtype, None
    return value.name, value.dtype, [s if isinstance(s, int) else None for s in value.shape]


def converted(function: str, value: Value, given: Any) -> AnyArray:
    """Return what was given for an input as a contiguous array of the program's dtype."""
    name, dtype = value.name, value.dtype

    def fits(array: AnyArray) -> None:
        if not _fits(value, array.shape):
            raise ValueError(
                f"{function}: {name} has shape {array.shape}, expected {described(value)}"
            )

    if dtype in WIDENED and getattr(given, "dtype", None) == np.float16:
        array = np.asarray(given)
        fits(array)
        return array.astype(np.float32, order="C")
    if dtype == "float32" or dtype in WIDENED:
        return to_dense(function, name, given, fits)
    if dtype == "bool":
        return to_bool(function, name, given, fits)
    if dtype == "float64":
        array = np.asarray(given)
        if array.dtype.kind not in "f" or array.dtype.itemsize not in (4, 8):
            raise TypeError(f"{function}: {name} is {shown(given)}, expected {described(value)}")
        fits(array)
        return copied(array, np.dtype(np.float64))
    if isinstance(given, int) and not isinstance(given, bool):
        given = np.array(given)
    array = to_int64(function, name, given, fits)
    limits = np.iinfo(dtype)
    if array.size and not limits.min <= int(array.min()) <= int(array.max()) <= limits.max:
        raise ValueError(f"{function}: {name} holds numbers beyond {dtype}")
    return array.astype(dtype, copy=False)


def returned(value: Value, array: AnyArray) -> AnyArray:
    """Return an output of a program in the dtype that the model promises. bfloat16, which NumPy
    does not have, is returned as float32.
    """
    return array.astype(np.float16) if value.dtype == "float16" else array


def signature(values: Sequence[Value]) -> str:
    """Describe inputs or outputs in one line.

    >>> from treadle.graph.ir import Value
    >>> signature([Value("x", "float32", ("batch", 512)), Value("sr", "int64", ())])
    'x: float32 [batch, 512], sr: int64 []'
    """
    return ", ".join(f"{value.name}: {described(value)}" for value in values)


def described(value: Value) -> str:
    """Describe the dtype and the shape of an input or output."""
    if value.shape is None:
        return value.dtype
    sizes = ", ".join("?" if size is None else str(size) for size in value.shape)
    return f"{value.dtype} [{sizes}]"


def _fits(value: Value, shape: tuple[int, ...]) -> bool:
    """Say whether a shape has the known sizes of a value."""
    if value.shape is None:
        return True
    return len(shape) == len(value.shape) and all(
        expected == size
        for expected, size in zip(value.shape, shape, strict=True)
        if isinstance(expected, int)
    )
