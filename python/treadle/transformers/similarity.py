"""This module compares vectors by the functions of sentence-transformers."""

from __future__ import annotations

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
    """Check the name of a function and return it; None means "cosine"."""
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
    a, b = (
        np.atleast_2d(to_dense(function, label, value))
        for label, value in (("embeddings1", first), ("embeddings2", second))
    )
    checks.shape(function, "embeddings1", a, (None, None), ("n", "D"))
    checks.shape(function, "embeddings2", b, (None, a.shape[1]), ("m", "D"))
    if name == "cosine":
        return linear(normalize(a), normalize(b))
    if name == "dot":
        return linear(a, b)
    result = np.empty((len(a), len(b)), np.float32)
    for row, vector in zip(result, a, strict=True):  # one row at a time: [n, m, D] may be large
        difference = b - vector
        if name == "manhattan":
            row[:] = -np.abs(difference).sum(axis=1)
        else:
            row[:] = -np.sqrt((difference * difference).sum(axis=1))
    return result
