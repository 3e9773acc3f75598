"""This module finds the largest of many scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, Int


def best(scores: AnyArray, count: int | None) -> Int:
    """Return the places of the ``count`` largest scores [n], or of all, the largest first.

    Equal scores keep their order.
    """
    if count is None or count >= scores.size:
        return np.argsort(-scores, kind="stable")
    least = np.partition(scores, scores.size - count)[scores.size - count]
    among = np.flatnonzero(scores >= least)
    return among[np.argsort(-scores[among], kind="stable")][:count]
