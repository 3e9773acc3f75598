"""This module computes how many zeros lie around the input of a convolution.

ONNX's convolutions name them (pads), leave them out (auto_pad VALID), ask for an output for each
stride of the input (auto_pad SAME_UPPER and SAME_LOWER) or, transposed, for outputs of a size
(output_shape). The last two depend on the size of the input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from treadle._storage.json import short
from treadle.layers.convolution import Axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle.graph.shapes.dims import Dim

SAME = ("SAME_UPPER", "SAME_LOWER")
NAMED = ("NOTSET", "", "VALID")
CHOICES = [*NAMED, *SAME]


class Windows(NamedTuple):
    """Windows are the axes of a convolution.

    Where the zeros depend on a size that is not known, ``open`` is true, and the axes have none.
    """

    axes: tuple[Axis, ...]
    open: bool


def conv_windows(
    where: str, attributes: dict[str, Any], taps: Sequence[int], sizes: Sequence[Dim] = ()
) -> Windows:
    """Return the windows of a convolution over an input of these sizes, if they are known.

    Raises ValueError, which begins with ``where``, for attributes that do not fit the taps.

    >>> conv_windows("a node", {"auto_pad": "SAME_UPPER", "strides": [2]}, [3], [8]).axes
    (Axis(taps=3, stride=2, dilation=1, before=0, after=1),)
    """
    axes, auto = _named(where, attributes, taps), attributes.get("auto_pad", "NOTSET")
    if auto not in SAME:
        return Windows(axes, False)
    padded = []
    for axis, size in zip(axes, sizes or [""] * len(axes), strict=True):
        if axis.stride == 1:
            zeros = axis.span - 1
        elif isinstance(size, str):
            return Windows(axes, True)
        else:
            zeros = (-(-size // axis.stride) - 1) * axis.stride + axis.span - size
        padded.append(_padded(axis, auto, max(0, zeros)))
    return Windows(tuple(padded), False)


def transposed_windows(
    where: str, attributes: dict[str, Any], taps: Sequence[int], sizes: Sequence[Dim] = ()
) -> Windows:
    """Return the windows of the convolution that is transposed, as `conv_windows` does.

    Where more outputs are wanted than the taps reach, ``after`` is less than zero.

    >>> transposed_windows("a node", {"output_shape": [9], "strides": [2]}, [3], [4]).axes
    (Axis(taps=3, stride=2, dilation=1, before=0, after=0),)
    """
    axes, auto = _named(where, attributes, taps), attributes.get("auto_pad", "NOTSET")
    extra = _sizes(where, attributes, "output_padding", len(axes), 0)
    if attributes.get("output_shape"):
        wanted = _sizes(where, attributes, "output_shape", len(axes), 1)
        reached = []
        for axis, size in zip(axes, sizes or [""] * len(axes), strict=True):
            if isinstance(size, str):
                return Windows(axes, True)
            reached.append((size - 1) * axis.stride + axis.span)
        padded = []
        for axis, reach, more, want in zip(axes, reached, extra, wanted, strict=True):
            found = _padded(axis, auto, max(0, reach + more - want))
            padded.append(found._replace(after=reach - found.before - want))
        return Windows(tuple(padded), False)
    if auto in SAME:
        axes = tuple(
            _padded(axis, auto, max(0, axis.span + more - axis.stride))
            for axis, more in zip(axes, extra, strict=True)
        )
    ends = zip(axes, extra, strict=True)
    return Windows(tuple(axis._replace(after=axis.after - more) for axis, more in ends), False)


def _named(where: str, attributes: dict[str, Any], taps: Sequence[int]) -> tuple[Axis, ...]:
    """Return the axes with the zeros that the attributes name, or none."""
    count, auto = len(taps), attributes.get("auto_pad", "NOTSET")
    if auto not in CHOICES:
        raise ValueError(f"{where}: auto_pad is {short(auto)}, expected one of {short(CHOICES)}")
    strides = _sizes(where, attributes, "strides", count, 1)
    dilations = _sizes(where, attributes, "dilations", count, 1)
    named = attributes if auto in ("NOTSET", "") else {}
    pads = _sizes(where, named, "pads", 2 * count, 0)
    parts = zip(taps, strides, dilations, pads[:count], pads[count:], strict=True)
    return tuple(Axis(*part) for part in parts)


def _sizes(where: str, attributes: dict[str, Any], name: str, count: int, least: int) -> list[int]:
    """Return an attribute of so many integers, which are ``least`` where it is absent."""
    sizes = attributes.get(name)
    if sizes is None:
        return [least] * count
    right = isinstance(sizes, list) and len(sizes) == count
    if not right or not all(type(size) is int and size >= least for size in sizes):
        raise ValueError(
            f"{where}: {name} is {short(sizes)}, expected {count} integers from {least} on"
        )
    return list(sizes)


def _padded(axis: Axis, auto: str, zeros: int) -> Axis:
    """Share out zeros between both ends: an odd one lies behind with SAME_UPPER, else before."""
    small, large = zeros // 2, zeros - zeros // 2
    before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
    return axis._replace(before=before, after=after)
