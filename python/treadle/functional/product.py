"""The products linear and conv1d, each with functions applied while a tile is in registers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_dense, to_float32
from treadle._storage import formats
from treadle.layers.activation import parse

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float
    from treadle.layers.activation import Activation


def linear(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: Activation = None,
    residual: ArrayLike | None = None,
    dtype: Any = "float32",
) -> Float:
    """Return act(x weight^T + bias) + residual: [..., N] from x [..., K], all float32.

    weight [N, K], bias [N], residual [..., N]; ``activation`` is any of `treadle.activation`. Bias,
    activation and residual are applied to a tile of the product before it is stored. ``dtype`` is
    the dtype of the product: in bfloat16 and int8 the weight is rounded in every call, x is rounded
    as it is read, and the rest stays float32.

    Raises
    ------
    ValueError
        For a shape that does not fit, an unknown activation or dtype.
    TypeError
        For arrays of another dtype.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.linear([[1.0, 2.0]], [[3.0, 4.0]], [0.5])
    array([[11.5]], dtype=float32)
    >>> treadle.functional.linear([[1.0, -2.0]], [[3.0, 4.0]], activation="relu", residual=[[2.0]])
    array([[2.]], dtype=float32)
    """
    function = "treadle.functional.linear"
    dtype = checks.dtype(function, "dtype", dtype)
    x, weight = to_float32(function, "x", x), to_dense(function, "weight", weight)
    checks.shape(function, "weight", weight, (None, None), "NK")
    outputs, inputs = weight.shape
    bias = _bias(function, bias, outputs, "N")
    if x.ndim == 0 or x.shape[-1] != inputs:
        checks.shape(function, "x", x, (None, inputs), ("...", "K"))
    shape = (*x.shape[:-1], outputs)
    rows = math.prod(x.shape[:-1])  # reshape cannot find out -1 when K is 0
    if residual is not None:
        residual = to_float32(function, "residual", residual)
        checks.shape(function, "residual", residual, shape)
        residual = residual.reshape(rows, outputs)
    packed = _packed(function, weight, bias, dtype)
    y = packed.run(function, x.reshape(rows, inputs), _native(function, activation), residual)
    return y.reshape(shape)


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

    With channels last, a window of J steps is one contiguous row and the next window overlaps it:
    the convolution is a product over rows that lie ``stride * C`` apart, and no window is copied
    (with dilation or groups the windows are copied). Each group is a separate product, so that a
    convolution with very many groups is slow.

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
    function = "treadle.functional.conv1d"
    dtype = checks.dtype(function, "dtype", dtype)
    x, weight = to_float32(function, "x", x), to_dense(function, "weight", weight)
    stride = checks.integer(function, "stride", stride)
    dilation = checks.integer(function, "dilation", dilation)
    groups = checks.integer(function, "groups", groups)
    checks.shape(function, "weight", weight, (None, None, None), ("D", "C/g", "J"))
    outputs, per_group, taps = weight.shape
    if taps == 0 or per_group == 0 or outputs % groups:
        raise ValueError(
            f"{function}: weight has shape {weight.shape}, expected [D, C/g, J], none of them 0 "
            f"and D a multiple of groups = {groups}"
        )
    bias = _bias(function, bias, outputs, "D")
    inputs = per_group * groups
    letters = ("B", "C", "T") if x.ndim == 3 else ("C", "T")
    checks.shape(function, "x", x, (None, inputs, None)[3 - len(letters) :], letters)
    before, after = _padding(function, padding, stride, dilation * (taps - 1))
    span = dilation * (taps - 1) + 1
    time = x.shape[-1] + before + after
    if time < span:
        raise ValueError(
            f"{function}: x has shape {x.shape}, expected T with the padding ({before} + {after}) "
            f"of at least {span}, the span of the taps"
        )
    steps = (time - span) // stride + 1
    epilogue = _native(function, activation)
    sequences = x if x.ndim == 3 else x[None]
    y = np.empty((len(sequences), outputs, steps), np.float32)
    width = outputs // groups
    for group in range(groups):
        own = slice(group * width, (group + 1) * width)
        rows = np.ascontiguousarray(weight[own].transpose(0, 2, 1)).reshape(width, taps * per_group)
        packed = _packed(function, rows, None if bias is None else bias[own], dtype)
        channels = sequences[:, group * per_group : (group + 1) * per_group]
        for source, target in zip(channels, y[:, own], strict=True):
            padded = np.zeros((time, per_group), np.float32)
            padded[before : before + x.shape[-1]] = source.T
            target.T[:] = packed.run(
                function, _windows(padded, taps, steps, stride, dilation), epilogue, None
            )
    return y if x.ndim == 3 else y[0]


def _windows(x: Float, taps: int, steps: int, stride: int, dilation: int) -> Float:
    """Return the windows of x [T, C] as rows [steps, taps * C]; a view, except with dilation."""
    row, item = x.strides
    channels = x.shape[1]
    if dilation == 1:
        return np.lib.stride_tricks.as_strided(
            x, (steps, taps * channels), (stride * row, item), writeable=False
        )
    spread = np.lib.stride_tricks.as_strided(
        x, (steps, taps, channels), (stride * row, dilation * row, item), writeable=False
    )
    return np.ascontiguousarray(spread).reshape(steps, taps * channels)


def _padding(function: str, padding: int | str, stride: int, extent: int) -> tuple[int, int]:
    """Return the numbers of zeros before and after x; taps reach over 1 + ``extent`` steps."""
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
    return extent // 2, extent - extent // 2  # as in PyTorch, an odd zero goes to the end


def _packed(function: str, weight: Float, bias: Float | None, dtype: str) -> _core.Linear:
    stored = weight if dtype == "float32" else formats.encode(weight, dtype)
    return _core.Linear(function, stored, bias, dtype)


def _bias(function: str, bias: ArrayLike | None, outputs: int, letter: str) -> Float | None:
    if bias is None:
        return None
    array = to_dense(function, "bias", bias)
    checks.shape(function, "bias", array, (outputs,), letter)
    return array


def _native(function: str, activation: Activation) -> tuple[str, float, float] | None:
    """Return an activation as (name, alpha, beta) for the epilogue, or None for the linear one."""
    parsed = parse(function, "activation", activation)
    return None if parsed[0] == "linear" else parsed
