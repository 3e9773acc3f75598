"""Rules that forbid or force tokens: they apply to all scores, or to those of the best tokens.

A step of a search needs the k best tokens of a row that remain. They are among its k + n best
tokens if at most n tokens of a row are forbidden, so that nothing has to read the other scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from treadle.generation.best import best

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle._inputs.types import Bool, Float, Int
    from treadle.generation.rows import Rows

    Where: TypeAlias = Callable[[Rows], Bool]
    Pairs: TypeAlias = Callable[[Rows], tuple[Int, Int]]

# Finding the best k of a row takes time in k^2: rules about more tokens read all scores.
MOST_TOKENS = 256


class TokenRule:
    """The base of the rules that forbid or force tokens, which run in place."""

    few = True
    """False if so many tokens may be forbidden that all scores are read faster."""

    def __call__(self, rows: Rows, scores: Float) -> None:
        """Apply the rule to the scores [R, V] of all tokens."""
        raise NotImplementedError

    def most(self, rows: Rows) -> int:
        """Return a number of tokens that the rule forbids or forces in no row more than."""
        raise NotImplementedError

    def narrow(self, rows: Rows, ids: Int, scores: Float) -> bool:
        """Apply the rule to the best tokens ``ids`` [R, k] and their scores.

        Returns whether anything has changed.
        """
        raise NotImplementedError


class Forbidden(TokenRule):
    """Forbid the same tokens in every row, or in the rows that ``where`` finds."""

    def __init__(self, tokens: Sequence[int], where: Where | None = None) -> None:
        self._tokens, self._where = np.unique(np.array(tokens, np.int64)), where
        self.few = len(self._tokens) <= MOST_TOKENS

    def __call__(self, rows: Rows, scores: Float) -> None:
        """Put -inf for the tokens in scores [R, V]."""
        if self._where is None:
            scores[:, self._tokens] = -np.inf
            return
        chosen = np.flatnonzero(self._where(rows))
        if len(chosen):
            scores[chosen[:, None], self._tokens] = -np.inf

    def most(self, rows: Rows) -> int:
        """Return the number of tokens, or 0 where no row forbids them."""
        anywhere = self._where is None or self._where(rows).any()
        return len(self._tokens) if anywhere else 0

    def narrow(self, rows: Rows, ids: Int, scores: Float) -> bool:
        """Put -inf for the tokens among the best ones."""
        here = None if self._where is None else self._where(rows)
        if here is not None and not here.any():
            return False
        # One token is what Marian forbids at every step; isin takes ten times as long.
        hit = ids == self._tokens[0] if len(self._tokens) == 1 else np.isin(ids, self._tokens)
        if here is not None:
            hit &= here[:, None]
        if not hit.any():
            return False
        scores[hit] = -np.inf
        return True


class ForbiddenNext(TokenRule):
    """Forbid tokens that depend on those of the row: ``find`` returns pairs of rows and tokens."""

    def __init__(self, find: Pairs, few: bool) -> None:
        self._find, self.few = find, few

    def __call__(self, rows: Rows, scores: Float) -> None:
        """Put -inf for each pair in scores [R, V]."""
        row, token = self._find(rows)
        # A prompt may have tokens beyond the vocabulary of the scores.
        kept = token < scores.shape[1]
        scores[row[kept], token[kept]] = -np.inf

    def most(self, rows: Rows) -> int:
        """Return the largest number of pairs that a row has."""
        return int(np.bincount(self._find(rows)[0]).max(initial=0))

    def narrow(self, rows: Rows, ids: Int, scores: Float) -> bool:
        """Put -inf for the pairs among the best tokens."""
        row, token = self._find(rows)
        if not len(row):
            return False
        size = max(int(token.max()), int(ids.max())) + 1
        hit = np.isin(ids + size * np.arange(len(ids))[:, None], token + size * row)
        scores[hit] = -np.inf
        return bool(hit.any())


class Forced(TokenRule):
    """Leave only some tokens, with scores of 0, in the rows that ``where`` finds."""

    def __init__(self, tokens: Sequence[int], where: Where) -> None:
        self._tokens, self._where = np.unique(np.array(tokens, np.int64)), where
        self.few = len(self._tokens) <= MOST_TOKENS

    def __call__(self, rows: Rows, scores: Float) -> None:
        """Put 0 for the tokens and -inf for all others in scores [R, V]."""
        chosen = np.flatnonzero(self._where(rows))
        if len(chosen):
            scores[chosen] = -np.inf
            scores[chosen[:, None], self._tokens] = 0

    def most(self, rows: Rows) -> int:
        """Return the number of tokens, or 0 where no row is forced."""
        return len(self._tokens) if self._where(rows).any() else 0

    def narrow(self, rows: Rows, ids: Int, scores: Float) -> bool:
        """Put the tokens in the place of the best ones, and the first others behind them."""
        chosen = np.flatnonzero(self._where(rows))
        if not len(chosen):
            return False
        count, width = len(self._tokens), ids.shape[1]
        others = np.setdiff1d(np.arange(width), self._tokens)
        ids[chosen] = np.concatenate([self._tokens, others])[:width]
        scores[chosen] = np.where(np.arange(width) < count, np.float32(0), np.float32(-np.inf))
        return True


def first_of(ids: Int, scores: Float, k: int) -> tuple[Int, Float]:
    """Return the k best of tokens ``ids`` [R, K], whose scores rules have changed.

    They are in the order of `best` over all tokens: the best first, of equal ones the lower id.
    """
    order = np.argsort(ids, axis=1)
    ids = np.take_along_axis(ids, order, axis=1)
    places, scores = best(np.take_along_axis(scores, order, axis=1), k)
    return np.take_along_axis(ids, places, axis=1), scores
