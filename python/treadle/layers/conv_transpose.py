"""ConvTranspose1d and ConvTranspose2d: convolutions that enlarge, with weights packed once."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from treadle._inputs import checks
from treadle._public import published
from treadle.layers import convolution, transposed
from treadle.layers.configuration import Integer
from treadle.layers.convolution import PaddingMode, PerAxis, Sizes, channels, sizes
from treadle.layers.linear import Product
from treadle.layers.module import layer
from treadle.layers.transposed import TransposedConvolution

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from treadle import _core
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
        "padding": PerAxis(axes, least=0),
        "output_padding": PerAxis(axes, least=0),
        "groups": Integer(),
        "dilation": PerAxis(axes),
        "padding_mode": PaddingMode(),
    }


class ConvTranspose(Product):
    """The base of ConvTranspose1d and ConvTranspose2d, which differ in the number of axes."""

    _axes: ClassVar[int]
    _convolution: TransposedConvolution
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
        taps = sizes(function, "kernel_size", own["kernel_size"], self._axes)
        if prod(taps) * own["in_channels"] // own["groups"] > checks.MAX_SIZE:
            raise ValueError(
                f"{function}: kernel_size is {own['kernel_size']}, "
                "expected less than 2**31 weights an output"
            )
        self.__dict__["_convolution"] = TransposedConvolution(
            own["in_channels"],
            own["out_channels"],
            own["groups"],
            transposed.axes_of(function, taps, own),
        )
        self.__dict__["_fits"] = partial(self._convolution.fits, function)
        super()._check_configuration()

    def _weight(self) -> tuple[int, ...]:
        """Return the shape of the weight."""
        shape = self._convolution
        taps = (axis.taps for axis in shape.axes)
        return (shape.inputs, shape.outputs // shape.groups, *taps)

    def _shapes(self) -> Shapes:
        shapes: Shapes = {"weight": self._weight()}
        bias = self._configuration["bias"]
        return shapes | ({"bias": (self._convolution.outputs,)} if bias else {})

    def _stored_as(self, name: str, shape: tuple[int, ...]) -> str:
        return self._dtype if name == "weight" else "float32"

    def _groups(self, name: str) -> int:
        return self._convolution.groups if name == "weight" else 0

    def _isa(self, name: str, value: Any) -> str | None:
        isa: str | None = self._packed.native.isa if name == "weight" else None
        return isa

    def _initial(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        return 0.0, prod(self._weight()[1:]) ** -0.5

    def _pack(self, parameters: Mapping[str, Any]) -> _core.ConvTranspose:
        return self._convolution.pack(
            self._function, parameters["weight"], parameters.get("bias"), self._dtype
        )

    def __call__(self, x: ArrayLike, output_size: Sizes | None = None) -> Float:
        """Return the layer's output as a new array, by the formula and the shapes of the class.

        ``output_size`` asks for outputs of that size, an integer for every axis or one for each, in
        the place of output_padding: a convolution whose stride is more than 1 makes the same of
        several sizes, and this says which of them to go back to. The batch and the channels may
        come before them, as in a shape.

        Raises ValueError for a shape that does not fit and for a size that the convolution does
        not lead back from, TypeError for another dtype than float32 and bfloat16.
        """
        if output_size is None:
            return self._run(x, self._epilogue)
        function, own = self._function, self._convolution
        fits = partial(convolution.fits_channels, function, inputs=own.inputs, axes=self._axes)
        taken = channels(function, x, fits, self._axes)
        sized = own.sized(function, taken[0].shape, output_size)
        vertical, horizontal = (0, *(axis.after for axis in sized.axes))[-2:]
        native = self._packed.native.with_after(function, vertical, horizontal)
        return sized.run(function, native, taken, self._epilogue)

    def _run(self, x: ArrayLike, then: Epilogue) -> Float:
        taken = channels(self._function, x, self._fits, self._axes)
        return self._convolution.run(self._function, self._packed.native, taken, then)


@published("treadle")
@layer
class ConvTranspose1d(ConvTranspose):
    """``torch.nn.ConvTranspose1d``: a convolution over time that enlarges, its weights packed once.

    With C = in_channels, D = out_channels, J = kernel_size and g = groups::

        y[b, d, t] = act(bias[d] + sum_{c, j} weight[c, d', j] x[b, c, s])

    over the j and s for which stride s + dilation j - padding is t, and the channels c of the group
    of d, in which d is the d'-th. ``padding_mode`` must be "zeros". ``dtype`` is the format of
    weight and x in the products: "float32", "bfloat16" or "int8"; sums, bias and activation are
    float32, and so is x where each channel has taps of its own (g = C). ``activation`` is any of
    `treadle.layers.activation`, and None by default; the other arguments are PyTorch's.

    Shapes: x [B, C, T] or [C, T], weight [C, D/g, J], bias [D], y [B, D, T'] or [D, T'] with
    T' = (T - 1) stride - 2 padding + dilation (J - 1) + output_padding + 1. ``seed`` makes the
    initial parameters repeatable: they are uniform between -(D/g J)^-1/2 and (D/g J)^-1/2, as in
    PyTorch.

    Each output is a product of its own, over the steps that reach it; nothing is scattered. A
    sequence's result has the same bits alone and in any batch, whatever the number of threads. An x
    whose memory has the channels last is read as it is, and so is y then laid out.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value, such as an output_padding that is neither less
        than the stride nor less than the dilation.
    MemoryError
        For sizes beyond the machine.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> conv = treadle.ConvTranspose1d(64, 40, 4, stride=2, padding=1, seed=0)
    >>> conv(np.zeros((8, 64, 50), np.float32)).shape
    (8, 40, 100)
    >>> conv(np.zeros((8, 64, 50), np.float32), output_size=101).shape
    (8, 40, 101)
    """

    _axes = 1
    _entries: ClassVar[Entries] = _entries(1)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int = 1,
        padding_mode: str = "zeros",
        *,
        activation: Activation = None,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self._initialize(locals())


@published("treadle")
@layer
class ConvTranspose2d(ConvTranspose):
    """``torch.nn.ConvTranspose2d``: a convolution that enlarges images, its weights packed once.

    With C = in_channels, D = out_channels, (P, Q) = kernel_size and g = groups::

        y[b, d, i, j] = act(bias[d] + sum_{c, p, q} weight[c, d', p, q] x[b, c, i', j'])

    over the p and i' for which stride i' + dilation p - padding is i, likewise q and j', and the
    channels c of the group of d, in which d is the d'-th. ``kernel_size``, ``stride``, ``padding``,
    ``output_padding`` and ``dilation`` are an integer, or one for each axis. ``padding_mode`` must
    be "zeros". ``dtype`` is the format of weight and x in the products: "float32", "bfloat16" or
    "int8"; sums, bias and activation are float32, and so is x where each channel has taps of its
    own (g = C). ``activation`` is any of `treadle.layers.activation`, and None by default; the
    other arguments are PyTorch's.

    Shapes: x [B, C, H, W] or [C, H, W], weight [C, D/g, P, Q], bias [D], y [B, D, H', W'] or
    [D, H', W'] with H' = (H - 1) stride - 2 padding + dilation (P - 1) + output_padding + 1,
    likewise W'. ``seed`` makes the initial parameters repeatable: they are uniform between
    -(D/g P Q)^-1/2 and (D/g P Q)^-1/2, as in PyTorch.

    Each output is a product of its own, over the pixels that reach it; nothing is scattered. An
    image's result has the same bits alone and in any batch, whatever the number of threads. An x
    whose memory has the channels last (a transposed view, PyTorch's ``channels_last``) is read as
    it is, and so is y then laid out.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value, such as an output_padding that is neither less
        than the stride nor less than the dilation.
    MemoryError
        For sizes beyond the machine.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> conv = treadle.ConvTranspose2d(16, 3, 4, stride=2, padding=1, activation="sigmoid", seed=0)
    >>> conv(np.zeros((8, 16, 14, 50), np.float32)).shape
    (8, 3, 28, 100)
    >>> conv(np.zeros((8, 16, 14, 50), np.float32), output_size=(28, 101)).shape
    (8, 3, 28, 101)
    """

    _axes = 2
    _entries: ClassVar[Entries] = _entries(2)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        *,
        activation: Activation = None,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self._initialize(locals())
