"""This module makes the answer that every peer is held to: gradients in NumPy, in float64.

As for the results of a forward pass the tolerance comes from a second run in float32 with the
errors put in that any implementation may have: those of activations and of sums, here also of the
sums over time and batch that the gradients of weights are. Gradients differ in size, so an error is
relative to the largest element of its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.dtypes import Array
from ...core.errors import EPS, Exact, Plain

# The gradient of each input of the call by its name, in the same shape.
Gradients = dict[str, Array]


@dataclass(frozen=True)
class Expected:
    """The float64 gradients of the part that is picked, and the error that is allowed."""

    gradients: Gradients
    picked: Any  # an index
    tolerance: float


def expected(gradients: Callable[[Exact], Gradients], picked: Any) -> Expected:
    """Return the reference; `gradients(error)` has the errors that `error` puts in."""
    exact = gradients(Exact())
    plain = gradients(Plain())
    return Expected(exact, picked, 2 * worst_error(exact, plain) + 4 * EPS)


def worst_error(want: Gradients, got: Gradients, picked: Any = ...) -> float:
    """Return the largest difference, relative to the largest element of its gradient.

    It is infinite for a gradient that is missing, has another shape or is not finite.
    """
    worst = 0.0
    for name, right in want.items():
        whole = got.get(name)
        if whole is None or not np.isfinite(whole).all():
            return float("inf")
        mine = whole[picked]
        if mine.shape != right.shape:
            return float("inf")
        worst = max(worst, float(np.abs(mine - right).max() / np.abs(right).max()))
    return worst
