"""This module says which steps of a batch of sequences exist, from lengths and masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import to_bool, to_int64

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Bool, Int


def present_steps(
    function: str,
    steps: int,
    rows: int | None,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
) -> Bool:
    """Return which steps [B, T] exist: those before their row's length that the mask admits.

    ``rows`` is None for a sequence without the axis B, whose lengths are [1] or a number, and whose
    mask is [T].

    Raises
    ------
    ValueError
        For a shape that does not fit or a length that is not in 0..T.
    TypeError
        For lengths that are no integers or a mask that is not of bools.
    """
    batch = 1 if rows is None else rows
    present = np.ones((batch, steps), np.bool_)
    if lengths is not None:
        of_rows = checks.fits(function, "lengths", (batch,), "B")
        ends = to_int64(
            function,
            "lengths",
            lengths,
            lambda a: None if rows is None and not a.ndim else of_rows(a),
        ).reshape(batch)
        wrong = (ends < 0) | (ends > steps)
        if wrong.any():
            raise ValueError(
                f"{function}: lengths holds {ends[wrong][0]}, expected 0 to T with T = {steps}"
            )
        present &= np.arange(steps) < ends[:, None]
    if mask is not None:
        sizes, letters = ((steps,), "T") if rows is None else ((batch, steps), "BT")
        present &= to_bool(function, "mask", mask, checks.fits(function, "mask", sizes, letters))
    return present


def moved_to_front(present: Bool) -> Int:
    """Return for each row the numbers of its steps [B, T]: the present ones first, in order."""
    order: Int = np.argsort(~present, axis=1, kind="stable")
    return order
