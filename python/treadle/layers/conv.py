"""Conv1d: a convolution over time with weights that are packed once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_float32
from treadle._storage import formats
from treadle.layers.configuration import Entry, Integer
from treadle.layers.linear import Product
from treadle.layers.module import layer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from treadle._inputs.types import AnyArray, ArrayLike, Float
    from treadle._storage.formats import Stored
    from treadle.layers.activation import Activation
    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries
    from treadle.layers.linear import Epilogue


class Convolution(NamedTuple):
    """The sizes of a convolution, which have been checked: everything but its numbers."""

    inputs: int
    outputs: int
    taps: int
    stride: int
    before: int
    after: int
    dilation: int
    groups: int

    def pack(self, function: str, matrix: Stored, bias: Float | None, dtype: str) -> _core.Conv1d:
        """Pack a weight, as the matrix [D, J * C/g] in the form of ``dtype``, and its bias [D]."""
        return _core.Conv1d(function, self._asdict(), matrix, bias, dtype)

    def fits(self, function: str, x: AnyArray) -> None:
        """Raise ValueError unless x has the shape [B, C, T] or [C, T]."""
        if x.ndim != 3:
            checks.shape(function, "x", x, (self.inputs, None), "CT")
        elif x.shape[1] != self.inputs:
            checks.shape(function, "x", x, (None, self.inputs, None), "BCT")

    def run(self, function: str, native: _core.Conv1d, x: Float, then: Epilogue) -> Float:
        """Run over an x of which `fits` is true; return y [B, D, S] or [D, S]."""
        if x.ndim == 3:
            return native.run(function, x, then)
        y: Float = native.run(function, x[None], then)[0]
        return y


def padding_of(
    function: str, padding: int | str, stride: int, taps: int, dilation: int
) -> tuple[int, int]:
    """Return the numbers of zeros before and after x. Raises TypeError or ValueError for anything
    but an integer, "valid" and "same".
    """
    if not isinstance(padding, str):
        size = checks.integer(function, "padding", padding, least=0)
        return size, size
    if padding == "valid":
        return 0, 0
    if padding != "same":
        raise ValueError(
            f"{function}: padding is {checks.shown(padding)}, "
            'expected an integer >= 0, "valid" or "same"'
        )
    if stride != 1:
        raise ValueError(f'{function}: padding is "same" with stride {stride}, expected stride 1')
    extent = dilation * (taps - 1)
    return extent // 2, extent - extent // 2  # as in PyTorch, an odd zero goes to the end


class _Single(Entry):
    """An integer for the only axis, which PyTorch also takes as a tuple of one integer."""

    __slots__ = ("least",)

    def __init__(self, least: int = 1) -> None:
        super().__init__()
        self.least = least

    def _checked(self, function: str, name: str, value: Any) -> int:
        if isinstance(value, tuple | list) and len(value) == 1:
            value = value[0]
        return checks.integer(function, name, value, self.least)


class _Padding(_Single):
    """A number of zeros, "valid" or "same"."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> Any:
        if isinstance(value, str):
            padding_of(function, value, 1, 1, 1)
            return value
        return super()._checked(function, name, value)


class _PaddingMode(Entry):
    """The numbers outside of x: zeros."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> str:
        if value != "zeros":
            raise ValueError(
                f"{function}: {name} is {checks.shown(value)}, expected 'zeros': pad x with "
                "numpy.pad first"
            )
        return "zeros"


@layer
class Conv1d(Product):
    """``torch.nn.Conv1d``: a cross-correlation over time, with the weights packed once.

    With C = in_channels, D = out_channels, J = kernel_size, g = groups, and x zero outside of its T
    steps::

        y[b, d, t] = act(bias[d] + sum_{c, j} weight[d, c, j] x[b, c', s])
        s = stride t + dilation j - padding

    c' being the c-th channel of the group of d. ``padding`` is a number of zeros at both ends,
    "valid" (0) or "same" (as many steps out as in; stride 1). ``padding_mode`` must be "zeros".
    ``dtype`` is the format of weight and x in the products: "float32", "bfloat16" or "int8"; sums,
    bias and activation are float32. ``activation`` is any of `treadle.layers.activation`, and None
    by default; the other arguments are PyTorch's.

    Shapes: x [B, C, T] or [C, T], weight [D, C/g, J], bias [D], y [B, D, S] or [D, S] with
    S = (T + 2 padding - dilation (J - 1) - 1) // stride + 1. ``seed`` makes the initial parameters
    repeatable: they are uniform between -(C/g J)^-1/2 and (C/g J)^-1/2, as in PyTorch.

    The batch is one product in native code: windows overlap in memory and are not copied. A
    sequence's result has the same bits alone and in any batch, whatever the number of threads. Each
    group is a separate product, so that a depthwise convolution leaves most lanes of a vector idle.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.
    MemoryError
        For sizes beyond the machine.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> conv = treadle.Conv1d(40, 64, 3, padding="same", activation="relu", seed=0)
    >>> conv(np.zeros((8, 40, 100), np.float32)).shape
    (8, 64, 100)
    """

    _convolution: Convolution
    _fits: Callable[[AnyArray], None]
    _derived = Product._derived | {"_convolution", "_fits"}
    _entries: ClassVar[Entries] = {
        **Product._entries,
        "in_channels": Integer(),
        "out_channels": Integer(),
        "kernel_size": _Single(),
        "stride": _Single(),
        "padding": _Padding(least=0),
        "dilation": _Single(),
        "groups": Integer(),
        "padding_mode": _PaddingMode(),
    }

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | str = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        activation: Activation = None,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self._initialize(locals())

    def _check_configuration(self) -> None:
        own, function = self._configuration, self._function
        for name in ("in_channels", "out_channels"):
            if own[name] % own["groups"]:
                raise ValueError(
                    f"{function}: {name} is {own[name]}, "
                    f"expected a multiple of groups = {own['groups']}"
                )
        taps, stride, dilation = own["kernel_size"], own["stride"], own["dilation"]
        before, after = padding_of(function, own["padding"], stride, taps, dilation)
        self.__dict__["_convolution"] = Convolution(
            own["in_channels"],
            own["out_channels"],
            taps,
            stride,
            before,
            after,
            dilation,
            own["groups"],
        )
        self.__dict__["_fits"] = partial(self._convolution.fits, function)
        if self._columns() > checks.MAX_SIZE:
            raise ValueError(
                f"{function}: kernel_size is {taps}, expected less than 2**31 weights an output"
            )
        super()._check_configuration()

    def _columns(self) -> int:
        """Return the number of weights of an output."""
        shape = self._convolution
        return shape.inputs // shape.groups * shape.taps

    def _shapes(self) -> Shapes:
        shape = self._convolution
        weight = (shape.outputs, shape.inputs // shape.groups, shape.taps)
        shapes: Shapes = {"weight": weight}
        return shapes | ({"bias": (shape.outputs,)} if self._configuration["bias"] else {})

    def _stored_as(self, name: str, shape: tuple[int, ...]) -> str:
        return self._dtype if name == "weight" else "float32"

    def _isa(self, name: str, value: Any) -> str | None:
        isa: str | None = self._packed.native.isa if name == "weight" else None
        return isa

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        return 0.0, self._columns() ** -0.5

    def _pack(self, parameters: Mapping[str, Any]) -> _core.Conv1d:
        return self._convolution.pack(
            self._function,
            formats.matrix(parameters["weight"]),
            parameters.get("bias"),
            self._dtype,
        )

    def _run(self, x: ArrayLike, then: Epilogue) -> Float:
        x = to_float32(self._function, "x", x, self._fits)
        return self._convolution.run(self._function, self._packed.native, x, then)
