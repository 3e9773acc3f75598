"""This module finds the spans of tokens that are most probably an answer.

    p(i, j) = softmax(start)[i] softmax(end)[j],  i <= j < i + longest

The softmax runs over the tokens of the context and the one that stands for "no answer".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from treadle.transformers.pipelines.ranking import best

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, Bool, Float, Int


class Spans(NamedTuple):
    """The most probable spans of a row of tokens, the best one first."""

    starts: Int
    ends: Int
    """The last tokens of the spans."""
    scores: AnyArray
    null: float
    """The probability that there is no answer."""


def best_spans(logits: tuple[Float, Float], context: Bool, longest: int, count: int) -> Spans:
    """Return ``count`` spans of a row, or fewer; ``logits`` are those of starts and ends [S].

    ``context`` [S] tells which tokens may be in an answer. The row's first token stands for "no
    answer".
    """
    kept = context.copy()
    kept[0] = True
    start, end = (_softmax(values.astype(np.float64), kept) for values in logits)
    null = float(start[0] * end[0])
    start, end = np.where(context, start, 0.0), np.where(context, end, 0.0)
    longest = min(longest, len(start))
    behind = np.concatenate([end, np.zeros(longest - 1)])
    # [S, longest]: the column is the length of the span less one.
    scores = start[:, None] * np.lib.stride_tricks.sliding_window_view(behind, longest)
    chosen = best(scores.reshape(-1), count)
    chosen = chosen[scores.reshape(-1)[chosen] > 0]
    starts, more = np.divmod(chosen, longest)
    return Spans(starts, starts + more, scores.reshape(-1)[chosen], null)


def _softmax(values: AnyArray, kept: Bool) -> AnyArray:
    numerators = np.exp(values - values[kept].max(), out=np.zeros_like(values), where=kept)
    result: AnyArray = numerators / numerators.sum()
    return result
