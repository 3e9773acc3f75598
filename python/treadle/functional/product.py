"""The product linear, with functions applied while a tile is in registers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_dense, to_float32
from treadle._public import published
from treadle._storage import formats
from treadle.layers.linear import epilogue, fits_rows, multiplied

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float
    from treadle._storage.formats import Stored
    from treadle.layers.activation import Activation


@published("treadle.functional")
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


def _stored(weight: Stored, dtype: str) -> Stored:
    return weight if dtype == "float32" else formats.encode(weight, dtype)


def _bias(function: str, bias: ArrayLike | None, outputs: int, letter: str) -> Float | None:
    if bias is None:
        return None
    return to_dense(function, "bias", bias, checks.fits(function, "bias", (outputs,), letter))
