"""The answer every backend is held to: gradients in NumPy, float64, and how far off one may be.

As for the results of a forward pass (../reference.py) the tolerance comes from a second run in float32
with the errors put in that any implementation may have: those of activations and of sums, here also of
the sums over time and batch that the gradients of weights are. Gradients differ in size, so an error
is relative to the largest element of its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import Array
from ..errors import EPS, Exact, Plain

# What the call was given by name -> its gradient, in the same shape.
Gradients = dict[str, Array]


@dataclass(frozen=True)
class Expected:
    """The float64 gradients, of the part of each that is picked, and the error allowed."""

    gradients: Gradients
    picked: Any  # an index
    tolerance: float


def expected(gradients: Callable[[Exact], Gradients], picked: Any) -> Expected:
    """The reference; `gradients(error)` are those with the errors that `error` puts in."""
    exact = gradients(Exact())
    plain = gradients(Plain())
    return Expected(exact, picked, 2 * worst_error(exact, plain) + 4 * EPS)


def worst_error(want: Gradients, got: Gradients, picked: Any = ...) -> float:
    """Largest difference, relative to the largest element of its gradient; infinite for a gradient
    that is missing, has another shape or is not finite."""
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
