"""The hypotheses of a beam search that have ended: the best of every sentence, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from treadle.generation.best import best

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle._inputs.types import Bool, Float, Int

# The score of a hypothesis that does not exist, as in Transformers.
IMPOSSIBLE = np.float32(-1e9)


class Hypothesis(NamedTuple):
    """A sequence that has ended."""

    tokens: Int
    """Its tokens, those of the prompt included."""
    trail: Int | None
    """The row of the search that each of its new tokens extended, if that is recorded."""


class Hypotheses:
    """Up to num_beams ended hypotheses for each of S sentences, the best first.

    ``scores`` [S, num_beams] are `IMPOSSIBLE` and ``ended`` is False where there is none yet.
    """

    def __init__(self, sentences: int, beams: int) -> None:
        self.scores: Float = np.full((sentences, beams), IMPOSSIBLE, np.float32)
        self.ended: Bool = np.zeros((sentences, beams), np.bool_)
        self._found: list[list[Hypothesis | None]] = [[None] * beams for _ in range(sentences)]

    def add(self, scores: Float, ended: Bool, make: Callable[[int, int], Hypothesis]) -> None:
        """Add those of candidates [S, K] that have ended and are better than what is there.

        ``make(s, k)`` is the k-th candidate of sentence s. It is asked only for those that stay.
        """
        beams = self.scores.shape[1]
        offered = np.concatenate(
            [self.scores, scores + np.where(ended, np.float32(0), IMPOSSIBLE)], axis=1
        )
        places, self.scores = best(offered, beams)
        self.ended = np.take_along_axis(np.concatenate([self.ended, ended], axis=1), places, axis=1)
        for s in np.flatnonzero((places != np.arange(beams)).any(axis=1)):
            before = self._found[s]
            self._found[s] = [
                before[place] if place < beams else make(int(s), int(place) - beams)
                for place in places[s]
            ]

    def of(self, sentence: int) -> list[Hypothesis | None]:
        """Return the hypotheses of a sentence, the best first."""
        return self._found[sentence]

    def take(self, sentences: Int) -> None:
        """Keep only these sentences."""
        self.scores, self.ended = self.scores[sentences], self.ended[sentences]
        self._found = [self._found[s] for s in sentences]
