"""This module checks the sizes of transposed convolutions in one and two dimensions, and runs them.

The sizes are those of the convolution that is transposed: its outputs are the inputs here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from treadle import _core
from treadle._storage import formats
from treadle.layers import convolution
from treadle.layers.convolution import LETTERS, Axis, Convolution

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, Float
    from treadle._storage.formats import Stored
    from treadle.layers.linear import Epilogue


class TransposedConvolution(NamedTuple):
    """A TransposedConvolution has the checked sizes of one, and nothing of its numbers."""

    inputs: int
    outputs: int
    groups: int
    axes: tuple[Axis, ...]

    def pack(
        self, function: str, weight: Stored, bias: Float | None, dtype: str
    ) -> _core.ConvTranspose:
        """Pack a weight [C, D/g, taps..], in the form of ``dtype``, and its bias [D]."""
        matrix = formats.matrix(weight, groups=self.groups)
        return self.pack_matrix(function, matrix, bias, dtype)

    def pack_matrix(
        self, function: str, matrix: Stored, bias: Float | None, dtype: str
    ) -> _core.ConvTranspose:
        """Pack the matrix of a product, [D, J C/g] or in int8 [D J, C/g], and its bias [D].

        Where each channel has taps of its own, only the weight is rounded, as in `Convolution`.
        """
        shape = Convolution(*self)
        if shape.is_depthwise():
            matrix, dtype = formats.decode(matrix).reshape(self.outputs, -1), "float32"
        return _core.ConvTranspose(function, shape.native(), matrix, bias, dtype)

    def fits(self, function: str, x: AnyArray) -> None:
        """Raise ValueError unless x has the shape [B, C, T] or [C, T], or [B, C, H, W] or
        [C, H, W], and leads to at least one output.
        """
        n = len(self.axes)
        convolution.fits_channels(function, x, self.inputs, n)
        for letter, size, axis in zip(LETTERS[n], x.shape[-n:], self.axes, strict=True):
            outputs = (size - 1) * axis.stride + axis.span - axis.before - axis.after
            if size == 0 or outputs < 1:
                raise ValueError(
                    f"{function}: x has shape {x.shape} with {letter} = {size}, which makes "
                    f"{outputs} outputs, expected some"
                )

    def sized(
        self, function: str, shape: tuple[int, ...], output_size: Any
    ) -> TransposedConvolution:
        """Return the convolution that makes ``output_size`` out of an x of this shape.

        An output_size is an integer for every spatial axis, or one for each; those of the batch and
        of the channels may come before them, and are not looked at, as in PyTorch. Raises TypeError
        for anything else, and ValueError for a size that no output_padding below the stride leads
        to.
        """
        n = len(self.axes)
        wanted = output_size
        if isinstance(wanted, tuple | list) and len(wanted) in (n, len(shape)):
            wanted = tuple(wanted)[-n:] if n > 1 else wanted[-1]
        axes = []
        for letter, size, axis, want in zip(
            LETTERS[n],
            shape[-n:],
            self.axes,
            convolution.sizes(function, "output_size", wanted, n),
            strict=True,
        ):
            reached = (size - 1) * axis.stride + axis.span - axis.before
            least, most = reached - axis.before, reached - axis.before + axis.stride - 1
            if size == 0 or not least <= want <= most:
                raise ValueError(
                    f"{function}: output_size is {want} for {letter}, expected {max(least, 1)} to "
                    f"{most}, since x has shape {shape}"
                )
            axes.append(axis._replace(after=reached - want))
        return self._replace(axes=tuple(axes))

    def run(
        self, function: str, native: _core.ConvTranspose, x: tuple[Float, bool], then: Epilogue
    ) -> Float:
        """Run over what `convolution.channels` has returned; return y with as many axes as x."""
        return convolution.run(function, native, x, then, len(self.axes))


def axes_of(function: str, taps: tuple[int, ...], options: dict[str, Any]) -> tuple[Axis, ...]:
    """Return the axes of a transposed convolution from PyTorch's stride, padding, output_padding
    and dilation, each an integer or one for each axis. Raises TypeError or ValueError.
    """
    n = len(taps)
    stride, padding, beyond, dilation = (
        convolution.sizes(function, key, options[key], n, least=0 if "padding" in key else 1)
        for key in ("stride", "padding", "output_padding", "dilation")
    )
    for extra, s, d in zip(beyond, stride, dilation, strict=True):
        if extra >= max(s, d):
            raise ValueError(
                f"{function}: output_padding is {extra}, expected less than the stride {s} or the "
                f"dilation {d}"
            )
    return tuple(
        Axis(j, s, d, p, p - extra)
        for j, s, d, p, extra in zip(taps, stride, dilation, padding, beyond, strict=True)
    )
