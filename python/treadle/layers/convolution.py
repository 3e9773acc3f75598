"""This module checks the sizes of convolutions in one and two dimensions, and runs them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import laid, viewed
from treadle._storage import formats
from treadle.layers.configuration import Entry

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, ArrayLike, Float
    from treadle._storage.formats import Stored
    from treadle.layers.linear import Epilogue

LETTERS = {1: "T", 2: "HW"}  # of the axes behind the channels, by their number
# An integer for every axis, or one for each.
Sizes: TypeAlias = "int | tuple[int, ...]"
Native: TypeAlias = "_core.Conv | _core.Depthwise"


class Axis(NamedTuple):
    """An Axis has the sizes of a convolution along one axis."""

    taps: int
    stride: int
    dilation: int
    before: int  # zeros that x begins and ends with
    after: int

    @property
    def span(self) -> int:
        """The number of places of x that the taps reach over."""
        return self.dilation * (self.taps - 1) + 1


class Convolution(NamedTuple):
    """A Convolution has the checked sizes of a convolution: everything but its numbers."""

    inputs: int
    outputs: int
    groups: int
    axes: tuple[Axis, ...]

    def pack(self, function: str, weight: Stored, bias: Float | None, dtype: str) -> Native:
        """Pack a weight [D, C/g, taps..], in the form of ``dtype``, and its bias [D]."""
        matrix = weight if self.is_depthwise() else formats.matrix(weight)
        return self.pack_matrix(function, matrix, bias, dtype)

    def pack_matrix(self, function: str, matrix: Stored, bias: Float | None, dtype: str) -> Native:
        """Pack the matrix of a product, in the form of ``dtype``, and its bias [D].

        Where each channel has taps of its own there is no product: only the weight is rounded.
        """
        if not self.is_depthwise():
            return _core.Conv(function, self.native(), matrix, bias, dtype)
        taps = np.ascontiguousarray(formats.decode(matrix)).reshape(self.outputs, self.taps)
        return _core.Depthwise(function, self.native(), taps, bias)

    @property
    def taps(self) -> int:
        """The number of places of a channel that an output reads."""
        return math.prod(axis.taps for axis in self.axes)

    def is_depthwise(self) -> bool:
        """Return whether each channel has taps of its own."""
        return self.groups == self.inputs > 1

    def native(self) -> dict[str, Any]:
        """Return the sizes in the form that native code takes."""
        vertical, horizontal = (Axis(1, 1, 1, 0, 0), *self.axes)[-2:]
        return {
            "inputs": self.inputs,
            "outputs": self.outputs,
            "groups": self.groups,
            "vertical": vertical._asdict(),
            "horizontal": horizontal._asdict(),
        }

    def fits(self, function: str, x: AnyArray) -> None:
        """Raise ValueError unless x has the shape [B, C, T] or [C, T], or [B, C, H, W] or
        [C, H, W], and the taps reach over no more than it has.
        """
        fits_channels(function, x, self.inputs, len(self.axes))
        letters = LETTERS[len(self.axes)]
        for letter, size, axis in zip(letters, x.shape[-len(letters) :], self.axes, strict=True):
            if size + axis.before + axis.after < axis.span:
                raise ValueError(
                    f"{function}: x has shape {x.shape} with {letter} = {size}, expected {letter} "
                    f"with the padding ({axis.before} + {axis.after}) of at least {axis.span}, the "
                    "span of the taps"
                )

    def run(self, function: str, native: Native, x: tuple[Float, bool], then: Epilogue) -> Float:
        """Run over what `channels` has returned; return y with as many axes as x."""
        return run(function, native, x, then, len(self.axes))


def fits_channels(function: str, x: AnyArray, inputs: int, axes: int) -> None:
    """Raise ValueError unless x has ``inputs`` channels before its last ``axes`` axes, and perhaps
    a batch before them.
    """
    letters, rest = LETTERS[axes], (None,) * axes
    if x.ndim != axes + 2:
        checks.shape(function, "x", x, (inputs, *rest), "C" + letters)
    elif x.shape[1] != inputs:
        checks.shape(function, "x", x, (None, inputs, *rest), "BC" + letters)


def channels(function: str, value: ArrayLike, fits: Any, axes: int) -> tuple[Float, bool]:
    """Return x as float32, and whether its memory is contiguous with the channels last.

    Such an x is not copied. Any other is laid out with a contiguous last axis.
    """
    array = viewed(function, "x", value)
    fits(array)
    if array.dtype.kind == "f" and not array.flags.c_contiguous:
        flags = np.moveaxis(array, -1 - axes, -1).flags
        if flags.c_contiguous and flags.aligned and array.dtype.isnative:
            return array, True
    return laid(array), False


def run(
    function: str,
    native: Native | _core.ConvTranspose,
    x: tuple[Float, bool],
    then: Epilogue,
    axes: int,
) -> Float:
    """Run a convolution over what `channels` has returned: over planes, or over channels that lie
    last, as those of the result then do.
    """
    array, last = x
    alone, single = array.ndim == axes + 1, axes == 1
    if alone:
        array = array[None]
    if single:
        array = array[:, :, None]
    if last:
        array = array.transpose(0, 2, 3, 1)
    y = native.run(function, array, then, last)
    if last:
        y = y.transpose(0, 3, 1, 2)
    if single:
        y = y[:, :, 0]
    return y[0] if alone else y


def sizes(function: str, name: str, value: Any, axes: int, least: int = 1) -> tuple[int, ...]:
    """Check an integer for every axis, or a tuple or list of one for each; return one for each."""
    if isinstance(value, tuple | list) and len(value) == axes and axes > 1:
        return tuple(checks.integer(function, name, one, least) for one in value)
    if isinstance(value, tuple | list):
        raise TypeError(
            f"{function}: {name} is {checks.shown(value)}, expected an integer"
            + f" or {axes} of them" * (axes > 1)
        )
    return (checks.integer(function, name, value, least),) * axes


def axes_of(
    function: str,
    taps: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Any,
    dilation: tuple[int, ...],
) -> tuple[Axis, ...]:
    """Return the axes of a convolution; ``padding`` is that of a call.

    Raises TypeError or ValueError for a padding that is no integer (or one for each axis), "valid"
    or "same".
    """
    if not isinstance(padding, str):
        zeros = [(n, n) for n in sizes(function, "padding", padding, len(taps), least=0)]
    elif padding == "valid":
        zeros = [(0, 0)] * len(taps)
    elif padding == "same":
        if any(one != 1 for one in stride):
            shown = stride[0] if len(set(stride)) == 1 else stride
            raise ValueError(
                f'{function}: padding is "same" with stride {shown}, expected stride 1'
            )
        extents = [d * (j - 1) for d, j in zip(dilation, taps, strict=True)]
        zeros = [
            (n // 2, n - n // 2) for n in extents
        ]  # as in PyTorch, an odd zero goes to the end
    else:
        raise ValueError(
            f"{function}: padding is {checks.shown(padding)}, "
            'expected an integer >= 0, "valid" or "same"'
        )
    return tuple(
        Axis(j, s, d, *around)
        for j, s, d, around in zip(taps, stride, dilation, zeros, strict=True)
    )


class PerAxis(Entry):
    """This entry is an integer for every axis, or one for each; for a single axis an integer, which
    PyTorch also takes as a tuple of one.
    """

    __slots__ = ("axes", "least")

    def __init__(self, axes: int, least: int = 1) -> None:
        super().__init__()
        self.axes, self.least = axes, least

    def _checked(self, function: str, name: str, value: Any) -> Sizes:
        if self.axes == 1 and isinstance(value, tuple | list) and len(value) == 1:
            value = value[0]
        found = sizes(function, name, value, self.axes, self.least)
        return found[0] if len(set(found)) == 1 else found


class Padding(PerAxis):
    """This entry is one or more numbers of zeros, "valid" or "same"."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> Any:
        if isinstance(value, str):
            axes_of(function, (1,), (1,), value, (1,))
            return value
        return super()._checked(function, name, value)


class PaddingMode(Entry):
    """This entry names the numbers outside of x, which must be zeros."""

    __slots__ = ()

    def _checked(self, function: str, name: str, value: Any) -> str:
        if value != "zeros":
            raise ValueError(
                f"{function}: {name} is {checks.shown(value)}, expected 'zeros': pad x with "
                "numpy.pad first"
            )
        return "zeros"
