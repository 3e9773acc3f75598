"""The products linear and conv1d, each with functions applied while a tile is in registers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_dense, to_float32
from treadle._storage import formats
from treadle.layers.conv import Convolution, padding_of
from treadle.layers.linear import epilogue, fits_rows, multiplied

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float
    from treadle._storage.formats import Stored
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
    as it is read, and the rest stays float32. The weight is packed in every call; `treadle.Linear`
    packs it once.

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
    weight = to_dense(
        function, "weight", weight, checks.fits(function, "weight", (None,) * 2, "NK")
    )
    outputs, inputs = weight.shape
    x = to_float32(function, "x", x, partial(fits_rows, function, inputs))
    bias = _bias(function, bias, outputs, "N")
    if residual is not None:
        shape = (*x.shape[:-1], outputs)
        residual = to_float32(
            function, "residual", residual, checks.fits(function, "residual", shape)
        )
    then = epilogue(function, activation)
    native = _core.Linear(function, _stored(weight, dtype), bias, dtype)
    return multiplied(function, native, x, (outputs, inputs), then, residual)


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
    the convolution is a product over rows that lie ``stride * C`` apart, and no window is copied.
    Each group is a separate product, so that a convolution with very many groups is slow. The
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
    function = "treadle.functional.conv1d"
    dtype = checks.dtype(function, "dtype", dtype)
    axes = checks.fits(function, "weight", (None, None, None), ("D", "C/g", "J"))
    weight = to_dense(function, "weight", weight, axes)
    stride = checks.integer(function, "stride", stride)
    dilation = checks.integer(function, "dilation", dilation)
    groups = checks.integer(function, "groups", groups)
    outputs, per_group, taps = weight.shape
    if taps == 0 or per_group == 0 or outputs % groups:
        raise ValueError(
            f"{function}: weight has shape {weight.shape}, expected [D, C/g, J], none of them 0 "
            f"and D a multiple of groups = {groups}"
        )
    bias = _bias(function, bias, outputs, "D")
    shape = Convolution(
        per_group * groups,
        outputs,
        taps,
        stride,
        *padding_of(function, padding, stride, taps, dilation),
        dilation,
        groups,
    )
    x = to_float32(function, "x", x, partial(shape.fits, function))
    then = epilogue(function, activation)
    native = shape.pack(function, _stored(formats.matrix(weight), dtype), bias, dtype)
    return shape.run(function, native, x, then)


def _stored(weight: Stored, dtype: str) -> Stored:
    return weight if dtype == "float32" else formats.encode(weight, dtype)


def _bias(function: str, bias: ArrayLike | None, outputs: int, letter: str) -> Float | None:
    if bias is None:
        return None
    return to_dense(function, "bias", bias, checks.fits(function, "bias", (outputs,), letter))
