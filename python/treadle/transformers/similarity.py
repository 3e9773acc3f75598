"""This module compares vectors by the functions of sentence-transformers."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import to_dense
from treadle.functional import linear
from treadle.transformers.modules import normalize

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Float

_FUNCTIONS = ("cosine", "dot", "euclidean", "manhattan")


def check(where: str, name: object) -> str:
    """Check the name of a function and return it; None means "cosine".

    An entry of sentence-transformers' SimilarityFunction has its name as a value.
    """
    name = name.value if isinstance(name, Enum) else name
    if name is None:
        return "cosine"
    if name not in _FUNCTIONS:
        raise ValueError(
            f"{where}: similarity_fn_name is {checks.shown(name)}, "
            f"expected one of {', '.join(_FUNCTIONS)}"
        )
    return str(name)


def compare(function: str, name: str, first: ArrayLike, second: ArrayLike) -> Float:
    """[n, D] and [m, D] -> [n, m]: a.b / |a||b|, a.b, -|a - b| or -sum |a_i - b_i|."""
    a, b = _rows(function, first, second)
    if name == "cosine":
        return linear(normalize(a), normalize(b))
    if name == "dot":
        return linear(a, b)
    result = np.empty((len(a), len(b)), np.float32)
    for row, vector in zip(result, a, strict=True):  # one row at a time: [n, m, D] may be large
        row[:] = _distances(name, b - vector)
    return result


def compare_pairs(function: str, name: str, first: ArrayLike, second: ArrayLike) -> Float:
    """[n, D] and [n, D] -> [n], a row with the row of its number, by the same functions.

    Two vectors [D] give one number.
    """
    a, b = _rows(function, first, second)
    if np.ndim(first) == np.ndim(second) == 1:
        number: Float = compare(function, name, a, b)[0, 0]
        return number
    if len(a) != len(b):
        raise ValueError(
            f"{function}: embeddings1 has {len(a)} rows and embeddings2 {len(b)}, expected as many"
        )
    if name in ("euclidean", "manhattan"):
        return _distances(name, a - b)
    if name == "cosine":
        a, b = normalize(a), normalize(b)
    products: Float = (a * b).sum(axis=1)
    return products


def _rows(function: str, first: ArrayLike, second: ArrayLike) -> tuple[Float, Float]:
    """Check two collections of vectors of one size; a vector [D] is one row."""
    a, b = (
        np.atleast_2d(to_dense(function, label, _stacked(function, label, value)))
        for label, value in (("embeddings1", first), ("embeddings2", second))
    )
    checks.shape(function, "embeddings1", a, (None, None), ("n", "D"))
    checks.shape(function, "embeddings2", b, (None, a.shape[1]), ("m", "D"))
    return a, b


def _stacked(function: str, name: str, value: ArrayLike) -> ArrayLike:
    """Make one array of a list of vectors, as encode(..., convert_to_numpy=False) returns them."""
    if not isinstance(value, list | tuple) or not value or not hasattr(value[0], "shape"):
        return value
    rows = [to_dense(function, name, row) for row in value]
    if len({row.shape for row in rows}) > 1:
        raise ValueError(f"{function}: {name} holds vectors of several sizes, expected one size")
    return np.stack(rows)


def _distances(name: str, differences: Float) -> Float:
    """Return minus the lengths of rows, by the sum of magnitudes or of squares."""
    if name == "manhattan":
        sums: Float = -np.abs(differences).sum(axis=1)
        return sums
    lengths: Float = -np.sqrt((differences * differences).sum(axis=1))
    return lengths
