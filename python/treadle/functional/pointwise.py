"""Functions of single rows, which stand between products: layer norm and embeddings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from treadle import _core
from treadle._inputs import checks
from treadle._inputs.arrays import to_dense, to_int64
from treadle._public import published
from treadle.layers.norm import normalized

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float


@published("treadle.functional")
def layer_norm(
    x: ArrayLike,
    normalized_shape: int | Iterable[int],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    residual: ArrayLike | None = None,
) -> Float:
    """Return (x - mean) / sqrt(variance + eps) * weight + bias over the last axes, of x + residual.

    ``x [..., *normalized_shape]``, weight and bias of the normalized shape, residual like x, all
    float32. The variance is that of the population, as in PyTorch.

    Raises
    ------
    ValueError
        For a shape that does not fit.
    TypeError
        For another dtype.

    References
    ----------
    Ba, Kiros and Hinton, Layer normalization, arXiv:1607.06450.

    Examples
    --------
    >>> import treadle
    >>> treadle.functional.layer_norm([[1.0, 3.0]], 2, bias=[0.0, 10.0], eps=0.0)
    array([[-1., 11.]], dtype=float32)
    """
    function = "treadle.functional.layer_norm"
    sizes = checks.sizes(function, "normalized_shape", normalized_shape)
    eps = checks.number(function, "eps", eps, least=0)
    return normalized(function, x, sizes, weight, bias, eps, residual)


@published("treadle.functional")
def embedding_sum(ids: Iterable[ArrayLike], tables: Iterable[ArrayLike]) -> Float:
    """Return the sum of several embeddings, sum_i tables[i][ids[i]], [..., H].

    Parameters
    ----------
    ids
        As many arrays of integers as there are tables, of shapes that broadcast to [...].
    tables
        [V_i, H], float32.

    Raises
    ------
    ValueError
        For an id that is not in 0..V_i - 1 or a shape that does not fit.
    TypeError
        For another dtype.

    Notes
    -----
    A BERT has three tables: of words, positions and types.

    Examples
    --------
    >>> import treadle
    >>> words, positions = [[1.0, 2.0], [3.0, 4.0]], [[10.0, 10.0], [20.0, 20.0]]
    >>> treadle.functional.embedding_sum([[1, 0], [0, 1]], [words, positions])
    array([[13., 14.],
           [21., 22.]], dtype=float32)
    """
    function = "treadle.functional.embedding_sum"
    rows, weights = _items(function, "ids", ids), _items(function, "tables", tables)
    if len(rows) != len(weights) or not weights:
        raise ValueError(
            f"{function}: ids has {len(rows)} arrays and tables {len(weights)}, "
            "expected as many, at least one"
        )
    numbers = [to_int64(function, f"ids[{i}]", value) for i, value in enumerate(rows)]
    arrays: list[Float] = []
    for i, table in enumerate(weights):
        name, hidden = f"tables[{i}]", arrays[0].shape[1] if i else None
        fits = checks.fits(function, name, (None, hidden), "VH")
        arrays.append(to_dense(function, name, table, fits))
    try:
        shape = np.broadcast_shapes(*(n.shape for n in numbers))
    except ValueError:
        raise ValueError(
            f"{function}: ids have shapes {[n.shape for n in numbers]}, expected shapes that "
            "broadcast to one"
        ) from None
    flat = [np.ascontiguousarray(np.broadcast_to(n, shape)).reshape(-1) for n in numbers]
    return _core.embedding_sum(function, arrays, flat).reshape(*shape, arrays[0].shape[1])


def _items(function: str, name: str, values: Iterable[ArrayLike]) -> list[ArrayLike]:
    if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
        raise TypeError(f"{function}: {name} is {checks.shown(values)}, expected a list of arrays")
    return list(values)
