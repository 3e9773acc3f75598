"""This module writes Keras' convolutions as nodes.

Keras has channels last by default and kernels [taps.., I / groups, O]; the nodes have channels
first and weights [O, I / groups, taps..]. Transpositions between them go when a graph is optimised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.keras.building.activations import activated
from treadle.keras.building.builder import Size, Tensor, text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle._inputs.types import AnyArray
    from treadle.keras.building.site import Site


def conv(site: Site) -> Tensor:
    """Return what Conv1D and Conv2D make."""
    kernel = site.weight("kernel")
    weight = np.moveaxis(kernel, (-1, -2), (0, 1))
    x = channels_first(site)
    y = convolved(site, x, site.constant("kernel", weight), site.option("groups"))
    return finished(site, y)


def transposed(site: Site) -> Tensor:
    """Return what Conv1DTranspose and Conv2DTranspose make: outputs that lie a stride apart.

    The whole result has (n - 1) stride + extent elements; the layer cuts off its ends, or adds
    zeros behind it, so that n stride are left, or as many as output_padding says.
    """
    x, kernel = channels_first(site), site.weight("kernel")
    weight = site.constant("kernel", np.moveaxis(kernel, (-1, -2), (0, 1)))
    taps = [int(size) for size in weight.shape[2:]]
    strides, dilations = (numbers(site, name, len(taps)) for name in ("strides", "dilation_rate"))
    given = site.option("output_padding") or [None] * len(taps)
    begins, ends, more, sizes = [], [], [], []
    for i, taps_of in enumerate(taps):
        extent = (taps_of - 1) * dilations[i] + 1
        before, behind = _cut(extent, strides[i], site.option("padding"), given[i])
        begins.append(before)
        ends.append(max(behind, 0))
        more.append(max(-behind, 0))
        size = x.shape[2 + i]
        made: Size = site.builder.symbol(size) if isinstance(size, str) else 0
        if isinstance(size, int):
            made = (size - 1) * strides[i] + extent - before - behind
            if made < 1:
                raise site.error(f"makes nothing of {text(x.shape)}")
        sizes.append(made)
    y = site.emit(
        "ConvTranspose",
        [x, weight, _bias(site)],
        [x.shape[0], weight.shape[1], *sizes],
        kernel_shape=taps,
        strides=strides,
        dilations=dilations,
        pads=[*begins, *ends],
        output_padding=more,
    )
    return finished(site, y)


def _cut(extent: int, stride: int, padding: str, given: int | None) -> tuple[int, int]:
    """Return how many elements go before and behind; a number below 0 says how many are added."""
    if padding == "valid":
        return 0, -(max(extent, stride) - extent if given is None else given)
    kept = stride + extent - 2 if given is None else extent + extent % 2 - 2 + given
    left = min(kept // 2 + kept % 2, extent - 1)
    return extent - 1 - left, extent - 1 - (kept - left)


def depthwise(site: Site) -> Tensor:
    """Return what DepthwiseConv1D and DepthwiseConv2D make: each channel is convolved alone."""
    x = channels_first(site)
    kernel = site.weight(
        "depthwise_kernel" if "depthwise_kernel" in site.layer.weights else "kernel"
    )
    y = _by_channel(site, x, kernel, _bias(site))
    return finished(site, y)


def separable(site: Site) -> Tensor:
    """Return what SeparableConv1D and SeparableConv2D make: each channel is convolved alone, and
    the results of all channels are multiplied by a matrix.
    """
    x = channels_first(site)
    y = _by_channel(site, x, site.weight("depthwise_kernel"), None)
    pointwise = np.moveaxis(site.weight("pointwise_kernel"), (-1, -2), (0, 1))
    weight = site.constant("pointwise_kernel", pointwise)
    shape = [y.shape[0], weight.shape[0], *y.shape[2:]]
    made = site.emit("Conv", [y, weight, _bias(site)], shape, kernel_shape=[1] * (y.rank - 2))
    return finished(site, made)


def _by_channel(site: Site, x: Tensor, kernel: AnyArray, bias: Tensor | None) -> Tensor:
    """Convolve each channel by its kernels; kernel [taps.., I, M]."""
    *taps, inputs, times = kernel.shape
    order = (kernel.ndim - 2, kernel.ndim - 1, *range(kernel.ndim - 2))
    weight = kernel.transpose(order).reshape(inputs * times, 1, *taps)
    constant = site.builder.weight(kernel, f"{site.path}/depthwise_kernel", weight)
    return _convolved(site, x, constant, inputs, bias)


def _bias(site: Site) -> Tensor | None:
    return site.constant("bias") if site.option("use_bias") else None


def convolved(site: Site, x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Return the convolution of x [B, I, spatial..] by weight [O, I / groups, taps..], and bias."""
    return _convolved(site, x, weight, groups, _bias(site))


def _convolved(site: Site, x: Tensor, weight: Tensor, groups: int, bias: Tensor | None) -> Tensor:
    taps = [int(size) for size in weight.shape[2:]]
    spatial = len(taps)
    if x.rank != spatial + 2 or x.shape[1] != int(weight.shape[1]) * groups:
        raise site.error(
            f"takes {int(weight.shape[1]) * groups} channels and {spatial} other axes, and is "
            f"called with {text(x.shape)} (channels first)"
        )
    strides, dilations = (numbers(site, name, spatial) for name in ("strides", "dilation_rate"))
    extents = [d * (k - 1) + 1 for d, k in zip(dilations, taps, strict=True)]
    padding = site.option("padding")
    x, pads = padded(site, x, padding, extents, strides)
    sizes = window_sizes(site, x, extents, strides, pads)
    return site.emit(
        "Conv",
        [x, weight, bias],
        [x.shape[0], weight.shape[0], *sizes],
        kernel_shape=taps,
        strides=strides,
        dilations=dilations,
        pads=pads,
        group=groups,
    )


def numbers(site: Site, option: str, count: int) -> list[int]:
    """Return an option as one number for each axis."""
    given = site.option(option)
    found = [given] * count if isinstance(given, int) else list(given)
    if option == "strides" and site.layer.kind.startswith("Depthwise") and len(found) == 1:
        found *= count
    if len(found) != count or not all(type(one) is int and one > 0 for one in found):
        raise site.error(f"has {option} {given}, expected {count} numbers above 0")
    return found


def channels_first(site: Site) -> Tensor:
    """Return the input with channels first."""
    x = site.floats(site.x)
    if x.rank < 3:
        raise site.error(f"is called with a tensor of {text(x.shape)}, expected channels and more")
    if site.option("data_format") == "channels_first":
        return x
    return site.transpose(x, [0, x.rank - 1, *range(1, x.rank - 1)])


def as_before(site: Site, y: Tensor) -> Tensor:
    """Return an output in the layout of the layer's input."""
    if site.option("data_format") == "channels_first":
        return y
    return site.transpose(y, [0, *range(2, y.rank), 1])


def finished(site: Site, y: Tensor) -> Tensor:
    """Return an output with the activation, in the layout of the layer's input, without a mask."""
    return activated(site, as_before(site, y)).masked(None)


def padded(
    site: Site, x: Tensor, padding: str, extents: Sequence[int], strides: Sequence[int]
) -> tuple[Tensor, list[int]]:
    """Return the pads of a window: all begins, then all ends; and x, padded where that needs sizes.

    With "same" there are as many outputs as inputs over the stride, rounded up, and what must be
    added is shared out between both ends, the odd one behind. "causal" has all of it in front.
    """
    begins, ends = [], []
    for i, (extent, stride) in enumerate(zip(extents, strides, strict=True)):
        size = x.shape[2 + i]
        if padding == "causal":
            begins.append(extent - 1)
            ends.append(0)
            continue
        total = 0
        if padding == "same" and stride == 1:
            total = extent - 1
        elif padding == "same" and isinstance(size, int):
            total = max(0, (-(-size // stride) - 1) * stride + extent - size)
        elif padding == "same":
            x = _padded_by_size(site, x, 2 + i, extent, stride)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return x, [*begins, *ends]


def _padded_by_size(site: Site, x: Tensor, axis: int, extent: int, stride: int) -> Tensor:
    """Pad an axis for "same", by a size that a call chooses."""
    size = site.sizes_of(x, [axis])

    def number(value: int) -> Tensor:
        return site.integers([value], "number")

    above = site.binary("Add", size, number(stride - 1))
    last = site.binary("Sub", site.binary("Div", above, number(stride)), number(1))
    reach = site.binary("Add", site.binary("Mul", last, number(stride)), number(extent))
    missing = site.binary("Sub", reach, size)
    total = site.emit("Max", [missing, number(0)], [1], "int64")
    begin = site.binary("Div", total, number(2))
    pads = site.concat([begin, site.binary("Sub", total, begin)], 0)
    shape = list(x.shape)
    shape[axis] = site.builder.symbol(str(x.shape[axis]))
    value = site.number(-np.inf if "Max" in site.layer.kind else 0.0)
    return site.emit("Pad", [x, pads, value, number(axis)], shape, mode="constant")


def window_sizes(
    site: Site, x: Tensor, extents: Sequence[int], strides: Sequence[int], pads: Sequence[int]
) -> list[Size]:
    """Return the sizes of the axes that a window of these extents goes over."""
    count = len(extents)
    sizes: list[Size] = []
    for i in range(count):
        size, added = x.shape[2 + i], pads[i] + pads[count + i]
        if isinstance(size, int):
            made: Size = (size + added - extents[i]) // strides[i] + 1
            if size + added < extents[i]:
                raise site.error(
                    f"has a window of {extents[i]} over an axis of {size} of {text(x.shape)}"
                )
        elif strides[i] == 1 and added == extents[i] - 1:
            made = size
        else:
            made = site.builder.symbol(size)
        sizes.append(made)
    return sizes


KINDS: dict[str, Callable[[Site], Tensor]] = {
    **dict.fromkeys(("Conv1D", "Conv2D"), conv),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose"), transposed),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), separable),
}
