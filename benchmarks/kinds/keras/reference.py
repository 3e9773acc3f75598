"""This module makes the answer that every peer is held to: Keras' own in float64, on PyTorch.

A fit is checked by the loss of its epoch and by the weights after it, a call by the results of
several samples, a step by the results of a sequence. As elsewhere the tolerance comes from a second
run in float32, here of Keras itself: a peer may be twice as far off as that, plus 4 eps. The error
is relative to the largest element of each array.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.dtypes import Array
from ...core.errors import EPS
from .cases import KerasCase
from .data import KerasInputs, Order
from .ways import REFERENCE
from .worker import forget, worker


@dataclass(frozen=True)
class Expected:
    """The arrays of the answer, and the error that is allowed."""

    values: list[Array]
    tolerance: float


def expected(case: KerasCase, inputs: KerasInputs) -> Expected:
    """Return the reference answer."""
    keras = worker(REFERENCE, 1)
    exact, plain = (
        keras.build(Order(case, inputs, floatx=floatx))() for floatx in ("float64", "float32")
    )
    forget(REFERENCE)
    return Expected(exact, 2 * worst_error(exact, plain) + 4 * EPS)


def worst_error(want: list[Array], got: list[Array]) -> float:
    """Return the largest difference, relative to the largest element of its array.

    It is infinite for an array that is missing, has another shape or is not finite.
    """
    if len(want) != len(got):
        return float("inf")
    worst = 0.0
    for right, mine in zip(want, got, strict=True):
        if mine.shape != right.shape or not np.isfinite(mine).all():
            return float("inf")
        worst = max(worst, float(np.abs(mine - right).max() / np.abs(right).max()))
    return worst
