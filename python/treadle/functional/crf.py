"""The best tags of a linear-chain conditional random field, by Viterbi's algorithm.

It is NumPy over the rows of a batch: a step is a sum [B, K, K] and its maximum. A row's bits do
not depend on the other rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import to_dense, to_float32
from treadle._inputs.present import moved_to_front, present_steps
from treadle._public import published

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, ArrayLike, Bool, Float, Int

_BLOCK = 1 << 24
"""This many scores of pairs of tags are held at a time, or those of one row if that is more."""

NO_TAG = -1
"""The tag of a step that does not exist."""


@published("treadle.functional")
def crf_decode(
    emissions: ArrayLike,
    transitions: ArrayLike,
    start: ArrayLike | None = None,
    end: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    batch_first: bool = False,
) -> tuple[Int, Float]:
    """Return the tags of the highest score, and that score, of a linear-chain CRF.

    The score of tags y_1 .. y_T is::

        start[y_1] + sum_t emissions[t, y_t] + sum_t transitions[y_(t-1), y_t] + end[y_T]

    Parameters
    ----------
    emissions
        [T, B, K] float32, or [B, T, K] with ``batch_first``, or [T, K] of one sequence. K is the
        number of tags.
    transitions
        [K, K]: ``transitions[i, j]`` is added where the tag j follows the tag i. -inf forbids it.
    start, end
        [K], added for the first tag and for the last one. None stands for zeros.
    lengths
        [B] integers from 0 to T: a row has so many steps.
    mask
        [B, T] bools, also without ``batch_first``; [T] for one sequence. A step whose mask is False
        is left out: the tag before it and the tag behind it follow each other.

    Returns
    -------
    tags
        int64 [T, B], or [B, T] with ``batch_first``, or [T]: numbers from 0 to K - 1, and -1 in
        steps that do not exist. Of several tags with the same score the lowest number is taken.
    scores
        float32 [B], or a number for one sequence. A row without steps has the score 0.

    Raises
    ------
    ValueError
        For a shape or a length that does not fit.
    TypeError
        For another dtype.

    Notes
    -----
    It takes O(T B K^2) time. `treadle.torch.CRF` trains the scores. NaN in a row's scores makes
    that row's score NaN and its tags meaningless; other rows are not touched.

    References
    ----------
    Lafferty, McCallum and Pereira, Conditional random fields, ICML 2001; Viterbi, Error bounds for
    convolutional codes, 1967.

    Examples
    --------
    >>> import treadle
    >>> emissions = [[2.0, 1.0], [0.5, 1.0], [2.0, 1.0]]
    >>> treadle.functional.crf_decode(emissions, [[0.0, 0.0], [0.0, 0.0]])
    (array([0, 1, 0]), np.float32(5.0))
    >>> tags, score = treadle.functional.crf_decode(emissions, [[1.0, -1.0], [-1.0, 1.0]])
    >>> tags, float(score)
    (array([0, 0, 0]), 6.5)
    """
    function = "treadle.functional.crf_decode"
    checks.flag(function, "batch_first", batch_first)
    x = to_float32(function, "emissions", emissions, lambda a: _fits(function, a, batch_first))
    tags = x.shape[-1]
    pairs = checks.fits(function, "transitions", (tags, tags), "KK")
    single = checks.fits
    following = to_dense(function, "transitions", transitions, pairs)
    ends = [
        np.zeros(tags, np.float32)
        if value is None
        else to_dense(function, name, value, single(function, name, (tags,), "K"))
        for name, value in (("start", start), ("end", end))
    ]
    unbatched = x.ndim == 2
    x = x[None] if unbatched else x if batch_first else x.swapaxes(0, 1)
    rows = None if unbatched else x.shape[0]
    present = present_steps(function, x.shape[1], rows, lengths, mask)
    found, scores = viterbi(x, following, (ends[0], ends[1]), present)
    if unbatched:
        return found[0], scores[0]
    return found if batch_first else np.ascontiguousarray(found.T), scores


def _fits(function: str, array: AnyArray, batch_first: bool) -> None:
    """Raise ValueError unless emissions have a shape that `crf_decode` takes."""
    letters = "TK" if array.ndim == 2 else "BTK" if batch_first else "TBK"
    checks.shape(function, "emissions", array, (None,) * len(letters), letters)
    if array.shape[-1] == 0:
        raise ValueError(f"{function}: emissions has shape {array.shape}, expected K of 1 or more")


def viterbi(
    x: AnyArray, transitions: AnyArray, ends: tuple[AnyArray, AnyArray], present: Bool
) -> tuple[Int, AnyArray]:
    """Return the best tags [B, T] and their scores [B] of emissions [B, T, K].

    All arrays of floats have one dtype, that of the scores. ``ends`` is (start, end).
    """
    rows, steps, tags = x.shape
    found = np.full((rows, steps), NO_TAG, np.int64)
    scores = np.zeros(rows, x.dtype)
    each = max(1, _BLOCK // (tags * tags))
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf is NaN, which the score shows
        for first in range(0, rows, each):
            block = slice(first, first + each)
            _decode(x[block], transitions, ends, present[block], found[block], scores[block])
    return found, scores


def _decode(
    x: AnyArray,
    transitions: AnyArray,
    ends: tuple[AnyArray, AnyArray],
    present: Bool,
    found: Int,
    scores: AnyArray,
) -> None:
    """Write the tags and the scores of some rows."""
    counts, order = present.sum(1), moved_to_front(present)
    rows, most = np.arange(len(x)), int(counts.max(initial=0))
    if most == 0:
        return
    start, end = ends
    best = start + x[rows, order[:, 0]]
    came_from = np.zeros((most, len(x), x.shape[2]), np.intp)
    for step in range(1, most):
        sums = best[:, :, None] + transitions
        came_from[step] = sums.argmax(1)
        following = sums.max(1) + x[rows, order[:, step]]
        best = np.where((step < counts)[:, None], following, best)
    best = best + end
    tag = best.argmax(1)
    scores[...] = np.where(counts > 0, best.max(1), 0)
    for step in range(most - 1, -1, -1):
        inside = rows[step < counts]
        found[inside, order[inside, step]] = tag[inside]
        tag[inside] = came_from[step, inside, tag[inside]]
