"""These functions convolve, each with an activation that is applied to a tile in registers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from treadle._inputs import checks
from treadle._inputs.arrays import to_dense
from treadle._public import published
from treadle._storage import formats
from treadle.layers import convolution, transposed
from treadle.layers.convolution import Convolution, Sizes
from treadle.layers.linear import epilogue
from treadle.layers.transposed import TransposedConvolution

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.activation import Activation


@published("treadle.functional")
def conv1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    activation: Activation = None,
    dtype: Any = "float32",
) -> Float:
    """Compute a cross-correlation over time, ``torch.nn.functional.conv1d``, then an activation.

    With C channels in, D channels out, J taps, groups g, and x zero outside of its T steps::

        y[b, d, t] = act(bias[d] + sum_{c, j} weight[d, c, j] x[b, c', s])
        s = stride t + dilation j - padding

    c' being the c-th channel of the group of d. x [B, C, T] or [C, T], weight [D, C/g, J],
    bias [D], y [B, D, (T + 2 padding - dilation (J - 1) - 1) // stride + 1]. ``padding`` may be
    "valid" (0) or "same" (as many steps out as in; stride 1), as in PyTorch. ``dtype`` is the dtype
    of the products, as in `linear`.

    Each window is a row of a product, and none is copied. An x whose memory has the channels last
    (a view ``x.transpose(0, 2, 1)`` of [B, T, C]) is read as it is, and so is y then laid out. The
    weight is packed in every call; `treadle.Conv1d` packs it once.

    Raises
    ------
    ValueError
        For sizes that do not fit or an unknown dtype.
    TypeError
        For arrays of another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x = np.arange(5, dtype=np.float32).reshape(1, 1, 5)
    >>> treadle.functional.conv1d(x, [[[1.0, 0.0, -1.0]]], padding=1)
    array([[[-1., -2., -2., -2.,  3.]]], dtype=float32)
    """
    options = stride, padding, dilation, groups
    return _conv("conv1d", (x, weight, bias), options, activation, dtype)


@published("treadle.functional")
def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    activation: Activation = None,
    dtype: Any = "float32",
) -> Float:
    """Compute a cross-correlation over images, ``torch.nn.functional.conv2d``, then an activation.

    With C channels in, D channels out, P x Q taps, groups g, and x zero outside of its H rows and
    W columns::

        y[b, d, i, j] = act(bias[d] + sum_{c, p, q} weight[d, c, p, q] x[b, c', i', j'])
        i' = stride i + dilation p - padding, and likewise j'

    c' being the c-th channel of the group of d. x [B, C, H, W] or [C, H, W],
    weight [D, C/g, P, Q], bias [D], y [B, D, H', W'] with
    H' = (H + 2 padding - dilation (P - 1) - 1) // stride + 1, likewise W'. ``stride``, ``padding``
    and ``dilation`` are an integer, or one for each axis; ``padding`` may be "valid" (0) or "same"
    (as many outputs as inputs; stride 1), as in PyTorch. ``dtype`` is the dtype of the products, as
    in `linear`.

    Each window is a row of a product, and none is copied. An x whose memory has the channels last
    (a view ``x.transpose(0, 3, 1, 2)`` of [B, H, W, C]) is read as it is, and so is y then laid
    out. The weight is packed in every call; `treadle.Conv2d` packs it once.

    Raises
    ------
    ValueError
        For sizes that do not fit or an unknown dtype.
    TypeError
        For arrays of another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    >>> treadle.functional.conv2d(x, np.ones((1, 1, 2, 2), np.float32))
    array([[[ 8., 12.],
            [20., 24.]]], dtype=float32)
    """
    options = stride, padding, dilation, groups
    return _conv("conv2d", (x, weight, bias), options, activation, dtype)


@published("treadle.functional")
def conv_transpose1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
    *,
    activation: Activation = None,
    dtype: Any = "float32",
) -> Float:
    """Compute ``torch.nn.functional.conv_transpose1d``, then an activation.

    With C channels in, D channels out, J taps and groups g::

        y[b, d, t] = act(bias[d] + sum_{c, j} weight[c, d, j] x[b, c, s])

    over the j and s for which stride s + dilation j - padding is t, and the channels c of the group
    of d. x [B, C, T] or [C, T], weight [C, D/g, J], bias [D], y [B, D, T'] with
    T' = (T - 1) stride - 2 padding + dilation (J - 1) + output_padding + 1. ``dtype`` is the dtype
    of the products, as in `linear`.

    Each output is a product of its own, over the steps that reach it; nothing is scattered, and the
    bits depend neither on the batch nor on the number of threads.

    Raises
    ------
    ValueError
        For sizes that do not fit or an unknown dtype.
    TypeError
        For arrays of another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.conv_transpose1d([[1.0, 2.0]], [[[1.0, 10.0, 100.0]]], stride=2)
    array([[  1.,  10., 102.,  20., 200.]], dtype=float32)
    """
    options = stride, padding, output_padding, groups, dilation
    return _conv_transpose("conv_transpose1d", (x, weight, bias), options, activation, dtype)


@published("treadle.functional")
def conv_transpose2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    activation: Activation = None,
    dtype: Any = "float32",
) -> Float:
    """Compute ``torch.nn.functional.conv_transpose2d``, then an activation.

    With C channels in, D channels out, P x Q taps and groups g::

        y[b, d, i, j] = act(bias[d] + sum_{c, p, q} weight[c, d, p, q] x[b, c, i', j'])

    over the p and i' for which stride i' + dilation p - padding is i, likewise q and j', and the
    channels c of the group of d. x [B, C, H, W] or [C, H, W], weight [C, D/g, P, Q], bias [D],
    y [B, D, H', W'] with H' = (H - 1) stride - 2 padding + dilation (P - 1) + output_padding + 1,
    likewise W'. ``stride``, ``padding``, ``output_padding`` and ``dilation`` are an integer, or one
    for each axis. ``dtype`` is the dtype of the products, as in `linear`.

    Each output is a product of its own, over the pixels that reach it; nothing is scattered, and
    the bits depend neither on the batch nor on the number of threads.

    Raises
    ------
    ValueError
        For sizes that do not fit or an unknown dtype.
    TypeError
        For arrays of another dtype than float32 and bfloat16.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> x = np.arange(1, 3, dtype=np.float32).reshape(1, 1, 2)
    >>> treadle.functional.conv_transpose2d(x, np.ones((1, 1, 2, 2), np.float32), stride=2)
    array([[[1., 1., 2., 2.],
            [1., 1., 2., 2.]]], dtype=float32)
    """
    options = stride, padding, output_padding, groups, dilation
    return _conv_transpose("conv_transpose2d", (x, weight, bias), options, activation, dtype)


def _conv(
    name: str, arrays: tuple[Any, Any, Any], options: Any, activation: Activation, dtype: Any
) -> Float:
    function = f"treadle.functional.{name}"
    n = int(name[-2])
    dtype = checks.dtype(function, "dtype", dtype)
    x, weight, bias = arrays
    weight = _weight(function, weight, ("D", "C/g"), n)
    stride, padding, dilation, groups = options
    stride = convolution.sizes(function, "stride", stride, n)
    dilation = convolution.sizes(function, "dilation", dilation, n)
    groups = checks.integer(function, "groups", groups)
    outputs, per_group, *taps = weight.shape
    if 0 in (per_group, *taps) or outputs % groups:
        raise ValueError(
            f"{function}: weight has shape {weight.shape}, expected [{_letters('D, C/g', n)}], "
            f"none of them 0 and D a multiple of groups = {groups}"
        )
    axes = convolution.axes_of(function, tuple(taps), stride, padding, dilation)
    shape = Convolution(per_group * groups, outputs, groups, axes)
    bias = _bias(function, bias, outputs)
    taken = convolution.channels(function, x, partial(shape.fits, function), n)
    then = epilogue(function, activation)
    stored = weight if dtype == "float32" else formats.encode(weight, dtype)
    return shape.run(function, shape.pack(function, stored, bias, dtype), taken, then)


def _conv_transpose(
    name: str, arrays: tuple[Any, Any, Any], options: Any, activation: Activation, dtype: Any
) -> Float:
    function = f"treadle.functional.{name}"
    n = int(name[-2])
    dtype = checks.dtype(function, "dtype", dtype)
    x, weight, bias = arrays
    weight = _weight(function, weight, ("C", "D/g"), n)
    stride, padding, output_padding, groups, dilation = options
    groups = checks.integer(function, "groups", groups)
    inputs, per_group, *taps = weight.shape
    if 0 in (inputs, per_group, *taps) or inputs % groups:
        raise ValueError(
            f"{function}: weight has shape {weight.shape}, expected [{_letters('C, D/g', n)}], "
            f"none of them 0 and C a multiple of groups = {groups}"
        )
    named = {"stride": stride, "padding": padding, "output_padding": output_padding}
    axes = transposed.axes_of(function, tuple(taps), named | {"dilation": dilation})
    shape = TransposedConvolution(inputs, per_group * groups, groups, axes)
    bias = _bias(function, bias, shape.outputs)
    taken = convolution.channels(function, x, partial(shape.fits, function), n)
    then = epilogue(function, activation)
    stored = weight if dtype == "float32" else formats.encode(weight, dtype, groups=groups)
    return shape.run(function, shape.pack(function, stored, bias, dtype), taken, then)


def _weight(function: str, weight: ArrayLike, first: tuple[str, str], n: int) -> Float:
    axes = (*first, *_TAPS[n])
    fits = checks.fits(function, "weight", (None,) * len(axes), axes)
    return to_dense(function, "weight", weight, fits)


_TAPS = {1: ("J",), 2: ("P", "Q")}


def _letters(first: str, n: int) -> str:
    return ", ".join((first, *_TAPS[n]))


def _bias(function: str, bias: ArrayLike | None, outputs: int) -> Float | None:
    if bias is None:
        return None
    return to_dense(function, "bias", bias, checks.fits(function, "bias", (outputs,), "D"))
