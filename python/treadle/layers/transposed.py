"""This module checks the sizes of transposed convolutions in one and two dimensions, and runs them.

The sizes are those of the convolution that is transposed: its outputs are the inputs here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle import _core
from treadle.layers import convolution
from treadle.layers.convolution import LETTERS, Axis, Convolution

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, Float
    from treadle.layers.linear import Epilogue


class TransposedConvolution(NamedTuple):
    """A TransposedConvolution has the checked sizes of one, and nothing of its numbers."""

    inputs: int
    outputs: int
    groups: int
    axes: tuple[Axis, ...]

    def pack(self, function: str, weight: Float, bias: Float | None) -> _core.ConvTranspose:
        """Pack a weight [C, D/g, taps..] and its bias [D]."""
        # [g, C/g, D/g, taps..] becomes [g, D/g, taps.., C/g].
        parts = weight.reshape(self.groups, self.inputs // self.groups, *weight.shape[1:])
        matrix = np.ascontiguousarray(np.moveaxis(parts, 1, -1)).reshape(self.outputs, -1)
        return _core.ConvTranspose(function, Convolution(*self).native(), matrix, bias)

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
