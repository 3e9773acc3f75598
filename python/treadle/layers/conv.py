"""Conv1d and Conv2d: convolutions with weights that are packed once."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from treadle._inputs import checks
from treadle._public import published
from treadle.layers.configuration import Integer
from treadle.layers.convolution import (
    Convolution,
    Native,
    Padding,
    PaddingMode,
    PerAxis,
    Sizes,
    axes_of,
    channels,
    sizes,
)
from treadle.layers.linear import Product
from treadle.layers.module import layer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from treadle._inputs.types import AnyArray, ArrayLike, Float
    from treadle.layers.activation import Activation
    from treadle.layers.build import Shapes
    from treadle.layers.configuration import Entries
    from treadle.layers.linear import Epilogue


def _entries(axes: int) -> Entries:
    return {
        **Product._entries,
        "in_channels": Integer(),
        "out_channels": Integer(),
        "kernel_size": PerAxis(axes),
        "stride": PerAxis(axes),
        "padding": Padding(axes, least=0),
        "dilation": PerAxis(axes),
        "groups": Integer(),
        "padding_mode": PaddingMode(),
    }


class Conv(Product):
    """The base of Conv1d and Conv2d, which differ in the number of their axes."""

    _axes: ClassVar[int]
    _convolution: Convolution
    _fits: Callable[[AnyArray], None]
    _derived = Product._derived | {"_convolution", "_fits"}

    def _check_configuration(self) -> None:
        own, function = self._configuration, self._function
        for name in ("in_channels", "out_channels"):
            if own[name] % own["groups"]:
                raise ValueError(
                    f"{function}: {name} is {own[name]}, "
                    f"expected a multiple of groups = {own['groups']}"
                )
        taps, stride, dilation = (
            sizes(function, name, own[name], self._axes)
            for name in ("kernel_size", "stride", "dilation")
        )
        self.__dict__["_convolution"] = Convolution(
            own["in_channels"],
            own["out_channels"],
            own["groups"],
            axes_of(function, taps, stride, own["padding"], dilation),
        )
        self.__dict__["_fits"] = partial(self._convolution.fits, function)
        if self._columns() > checks.MAX_SIZE:
            raise ValueError(
                f"{function}: kernel_size is {own['kernel_size']}, "
                "expected less than 2**31 weights an output"
            )
        super()._check_configuration()

    def _columns(self) -> int:
        """Return the number of weights of an output."""
        return prod(self._weight()[1:])

    def _weight(self) -> tuple[int, ...]:
        """Return the shape of the weight."""
        shape = self._convolution
        taps = (axis.taps for axis in shape.axes)
        return (shape.outputs, shape.inputs // shape.groups, *taps)

    def _shapes(self) -> Shapes:
        shapes: Shapes = {"weight": self._weight()}
        bias = self._configuration["bias"]
        return shapes | ({"bias": (self._convolution.outputs,)} if bias else {})

    def _stored_as(self, name: str, shape: tuple[int, ...]) -> str:
        return self._dtype if name == "weight" else "float32"

    def _isa(self, name: str, value: Any) -> str | None:
        isa: str | None = self._packed.native.isa if name == "weight" else None
        return isa

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        return 0.0, self._columns() ** -0.5

    def _pack(self, parameters: Mapping[str, Any]) -> Native:
        return self._convolution.pack(
            self._function, parameters["weight"], parameters.get("bias"), self._dtype
        )

    def _run(self, x: ArrayLike, then: Epilogue) -> Float:
        taken = channels(self._function, x, self._fits, self._axes)
        return self._convolution.run(self._function, self._packed.native, taken, then)


@published("treadle")
@layer
class Conv1d(Conv):
    """``torch.nn.Conv1d``: a cross-correlation over time, with the weights packed once.

    With C = in_channels, D = out_channels, J = kernel_size, g = groups, and x zero outside of its T
    steps::

        y[b, d, t] = act(bias[d] + sum_{c, j} weight[d, c, j] x[b, c', s])
        s = stride t + dilation j - padding

    c' being the c-th channel of the group of d. ``padding`` is a number of zeros at both ends,
    "valid" (0) or "same" (as many steps out as in; stride 1). ``padding_mode`` must be "zeros".
    ``dtype`` is the format of weight and x in the products: "float32", "bfloat16" or "int8"; sums,
    bias and activation are float32, and so is x where each channel has taps of its own (g = C).
    ``activation`` is any of `treadle.layers.activation`, and None by default; the other arguments
    are PyTorch's.

    Shapes: x [B, C, T] or [C, T], weight [D, C/g, J], bias [D], y [B, D, S] or [D, S] with
    S = (T + 2 padding - dilation (J - 1) - 1) // stride + 1. ``seed`` makes the initial parameters
    repeatable: they are uniform between -(C/g J)^-1/2 and (C/g J)^-1/2, as in PyTorch.

    The batch is one product in native code, over windows that are not copied. A sequence's result
    has the same bits alone and in any batch, whatever the number of threads. An x whose memory has
    the channels last is read as it is, and so is y then laid out.

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

    _axes = 1
    _entries: ClassVar[Entries] = _entries(1)

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


@published("treadle")
@layer
class Conv2d(Conv):
    """``torch.nn.Conv2d``: a cross-correlation over images, with the weights packed once.

    With C = in_channels, D = out_channels, (P, Q) = kernel_size, g = groups, and x zero outside of
    its H rows and W columns::

        y[b, d, i, j] = act(bias[d] + sum_{c, p, q} weight[d, c, p, q] x[b, c', i', j'])
        i' = stride i + dilation p - padding, and likewise j'

    c' being the c-th channel of the group of d. ``kernel_size``, ``stride``, ``padding`` and
    ``dilation`` are an integer, or one for each axis. ``padding`` is a number of zeros at both
    ends, "valid" (0) or "same" (as many outputs as inputs; stride 1). ``padding_mode`` must be
    "zeros". ``dtype`` is the format of weight and x in the products: "float32", "bfloat16" or
    "int8"; sums, bias and activation are float32, and so is x where each channel has taps of its
    own (g = C). ``activation`` is any of `treadle.layers.activation`, and None by default; the
    other arguments are PyTorch's.

    Shapes: x [B, C, H, W] or [C, H, W], weight [D, C/g, P, Q], bias [D], y [B, D, H', W'] or
    [D, H', W'] with H' = (H + 2 padding - dilation (P - 1) - 1) // stride + 1, likewise W'.
    ``seed`` makes the initial parameters repeatable: they are uniform between -(C/g P Q)^-1/2 and
    (C/g P Q)^-1/2, as in PyTorch.

    The batch is one product in native code, over windows that are not copied. An image's result has
    the same bits alone and in any batch, whatever the number of threads. An x whose memory has the
    channels last (a transposed view, PyTorch's ``channels_last``) is read as it is, and so is y
    then laid out.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.
    MemoryError
        For sizes beyond the machine.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> conv = treadle.Conv2d(3, 16, 3, stride=2, padding=1, activation="relu", seed=0)
    >>> conv(np.zeros((8, 3, 32, 100), np.float32)).shape
    (8, 16, 16, 50)
    """

    _axes = 2
    _entries: ClassVar[Entries] = _entries(2)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        activation: Activation = None,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self._initialize(locals())
