# The classes of treadle._core for whole models. This file has their types; there is no such module.
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

_Float: TypeAlias = npt.NDArray[np.float32]
# A matrix in the form of a dtype (formats.py): float32, the bits of bfloat16, or int8 with scales.
_Weight: TypeAlias = _Float | npt.NDArray[np.uint16] | tuple[npt.NDArray[np.int8], _Float]
_Activation: TypeAlias = tuple[str, float, float]

@final
class Conv:
    """Packed weights of a convolution in one or two dimensions. Immutable, safe to use from several
    threads.

    ``shape`` has inputs, outputs and groups, and for the axes ``vertical`` and ``horizontal`` a
    dict of taps, stride, dilation, before and after. ``weight`` is the matrix [D, J C/g] of the
    product, J taps; in int8 it is [D J, C/g] where `taps_are_rows`.
    """

    def __init__(
        self,
        function: str,
        shape: Mapping[str, Any],
        weight: _Weight,
        bias: _Float | None,
        dtype: str = "float32",
    ) -> None: ...
    @staticmethod
    def taps_are_rows(inputs: int, groups: int) -> bool: ...
    def run(
        self,
        function: str,
        x: _Float,
        activation: _Activation | None = None,
        channels_last: bool = False,
    ) -> _Float:
        """Return y [B, D, H', W'] of x [B, C, H, W], or of x [B, H, W, C] y [B, H', W', D]."""

    @property
    def weight_bytes(self) -> int: ...
    @property
    def isa(self) -> str: ...

@final
class Depthwise:
    """As `Conv`, for as many groups as channels: weight [D, J] in float32."""

    def __init__(
        self, function: str, shape: Mapping[str, Any], weight: _Float, bias: _Float | None
    ) -> None: ...
    def run(
        self,
        function: str,
        x: _Float,
        activation: _Activation | None = None,
        channels_last: bool = False,
    ) -> _Float: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def isa(self) -> str: ...

@final
class ConvTranspose:
    """Packed weights of a transposed convolution: the matrix [D, J C/g], or in int8 [D J, C/g];
    ``shape`` is that of `Conv`. Immutable, safe to use from several threads.
    """

    def __init__(
        self,
        function: str,
        shape: Mapping[str, Any],
        weight: _Weight,
        bias: _Float | None,
        dtype: str = "float32",
    ) -> None: ...
    def with_after(self, function: str, vertical: int, horizontal: int) -> ConvTranspose:
        """Return the same weights for other sizes: ``after`` of `Conv`'s axes."""

    def run(
        self,
        function: str,
        x: _Float,
        activation: _Activation | None = None,
        channels_last: bool = False,
    ) -> _Float: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def isa(self) -> str: ...

@final
class Program:
    """A graph in the order in which it runs, with packed weights. Immutable, safe to use from
    several threads. ``plan`` is what `treadle.graph.plan` makes: inputs (their number), slots,
    outputs (places), constants (arrays) and nodes (op, name, inputs, outputs, last, attributes). A
    place is a slot, -1 for nothing, or -2 - i for constant i.
    """

    def __init__(self, function: str, plan: Mapping[str, Any]) -> None: ...
    def run(self, function: str, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Return the outputs, as new arrays."""

    def profile(
        self, function: str, inputs: Sequence[npt.NDArray[Any]]
    ) -> tuple[list[npt.NDArray[Any]], list[float]]:
        """As `run`, and the seconds that each node took."""

    @property
    def constant_bytes(self) -> int: ...

@final
class PlainInputs:
    """The names, dtypes and shapes of a program's inputs. ``None`` stands for what is not known."""

    def __init__(self, inputs: Sequence[tuple[str, str, Sequence[int | None] | None]]) -> None: ...
    def run(
        self, program: Program, function: str, args: tuple[Any, ...], named: dict[str, Any]
    ) -> list[npt.NDArray[Any]] | None:
        """Return the outputs, or None where an argument is not such an array as it is."""

def operators() -> list[str]:
    """Return the names of the operators that a program can have."""
