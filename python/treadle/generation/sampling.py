"""Sampling: which tokens remain, and which of them a number between 0 and 1 picks.

A number u picks the first token, in the order of token ids, up to which the probabilities sum to
more than u. Sums run over the tokens one after the other in float64, so that a row has the same
result among any others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle._inputs.arrays import viewed
from treadle.generation.best import best

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, ArrayLike, Float, Int
    from treadle.generation.config import GenerationConfig

_NAME = "treadle.generation.search"


def warp(config: GenerationConfig, scores: Float, least: int) -> Float:
    """Apply temperature, top_k, top_p and min_p to scores [R, V]: -inf where a token falls out.

    At least ``least`` tokens of each row remain.
    """
    if config.temperature != 1:
        with np.errstate(over="ignore"):
            scores /= np.float32(config.temperature)
    if config.top_k > 0:
        k = min(max(config.top_k, least), scores.shape[1])
        last = best(scores, k)[1][:, -1:]
        scores[scores < last] = -np.inf
    if config.top_p < 1:
        _keep_top_p(scores, config.top_p, least)
    if config.min_p is not None:
        _keep_min_p(scores, config.min_p, least)
    return scores


def _keep_top_p(scores: Float, top_p: float, least: int) -> None:
    tokens, values = _remaining(scores)
    order = np.argsort(values, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(_weights(values), order, axis=1), axis=1, dtype=np.float64)
    remove = sums <= (1 - top_p) * sums[:, -1:]
    remove[:, -least:] = False
    row, place = np.nonzero(remove)
    token = tokens[row, order[row, place]]
    scores[row, token] = -np.inf


def _keep_min_p(scores: Float, min_p: float, least: int) -> None:
    tokens, values = _remaining(scores)
    weights = _weights(values)
    remove = weights < np.float32(min_p) * weights.max(axis=1, keepdims=True)
    kept = best(values, min(least, values.shape[1]))[0]
    np.put_along_axis(remove, kept, False, axis=1)
    row, place = np.nonzero(remove)
    scores[row, tokens[row, place]] = -np.inf


def _remaining(scores: Float) -> tuple[Int, Float]:
    """Return the tokens [R, C] whose scores are not -inf, in their order, and their scores.

    A row with fewer than C of them ends with tokens of score -inf.
    """
    remains = scores > -np.inf
    counts = np.count_nonzero(remains, axis=1)
    width = int(counts.max(initial=1))
    if width == scores.shape[1]:
        return np.broadcast_to(np.arange(width), scores.shape), scores
    row, token = np.nonzero(remains)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Rows that are shorter point at a token that has fallen out, or else at the last one.
    spare = np.argmin(remains, axis=1)
    tokens = np.repeat(spare[:, None], width, axis=1)
    tokens[row, place] = token
    values = np.full(tokens.shape, -np.inf, np.float32)
    values[row, place] = scores[row, token]
    return tokens, values


def _weights(values: Float) -> Float:
    """Return exp(value - largest of the row), which is 0 where a score is -inf."""
    top = values.max(axis=1, keepdims=True)
    result: Float = np.exp(values - top)
    return result


def draw(scores: Float, uniform: AnyArray) -> Int:
    """Return the token of each row [R, V] that the numbers ``uniform`` [R] pick."""
    tokens, values = _remaining(scores)
    place = _pick(_weights(values), uniform)
    drawn: Int = np.take_along_axis(tokens, place[:, None], axis=1)[:, 0]
    return drawn


def draw_several(scores: Float, uniform: AnyArray) -> tuple[Int, Float]:
    """Return K different places of each row [R, M], and their scores, in the order of the draws.

    Each of the numbers ``uniform`` [R, K] picks among the places that are left. Where no place with
    a probability is left, the first of the others is taken.
    """
    weights = _weights(scores)
    taken = np.zeros(scores.shape, np.bool_)
    rows = np.arange(len(scores))
    chosen = np.empty(uniform.shape, np.int64)
    for k in range(uniform.shape[1]):
        place = _pick(weights, uniform[:, k])
        place = np.where(weights.any(axis=1), place, np.argmin(taken, axis=1))
        chosen[:, k] = place
        weights[rows, place] = 0
        taken[rows, place] = True
    return chosen, np.take_along_axis(scores, chosen, axis=1)


def _pick(weights: Float, uniform: AnyArray) -> Int:
    sums = np.cumsum(weights, axis=1, dtype=np.float64)
    total = sums[:, -1]
    # The product may round up to the total, which no sum exceeds.
    level = np.minimum(uniform * total, np.nextafter(total, 0))
    place: Int = np.argmax(sums > level[:, None], axis=1)
    return place


class Uniform:
    """Numbers in [0, 1) for the steps of a search: those of the caller, or of random streams.

    Every sequence has a stream of its own, which does not depend on the other sequences.
    """

    def __init__(self, config: GenerationConfig, sentences: int, each: int, width: int = 0) -> None:
        """Seed a stream for each of the sentences' ``each`` sequences; a draw has ``width``."""
        self._shape = (sentences * each, *((width,) if width else ()))
        self._size = width or None
        self._given: AnyArray | None = None
        seeds = config.seed
        if isinstance(seeds, tuple) and len(seeds) != sentences:
            raise ValueError(
                f"{_NAME}: config.seed has {len(seeds)} numbers, expected one for each of the "
                f"{sentences} prompts"
            )
        self._streams = []
        fresh = np.random.SeedSequence()
        for i in range(sentences):
            seed = seeds[i] if isinstance(seeds, tuple) else seeds
            for j in range(each):
                sequence = fresh.spawn(1)[0] if seed is None else np.random.SeedSequence([seed, j])
                self._streams.append(np.random.Generator(np.random.PCG64(sequence)))

    def give(self, uniform: ArrayLike, steps: int) -> None:
        """Use the caller's numbers, [rows, steps] or, for a beam search, [rows, steps, width].

        Raises
        ------
        ValueError
            For another shape, and for numbers outside [0, 1).
        """
        array = np.asarray(uniform)
        if array.dtype != np.float64:
            array = viewed(_NAME, "uniform", uniform).astype(np.float64)
        expected = (self._shape[0], steps, *self._shape[1:])
        same = array.ndim == len(expected) and array.shape[::2] == expected[::2]
        if not same or array.shape[1] < steps:
            raise ValueError(
                f"{_NAME}: uniform has shape {array.shape}, expected {expected}: numbers for every "
                "sequence and every new token that it may get"
            )
        if not ((array >= 0) & (array < 1)).all():
            raise ValueError(f"{_NAME}: uniform has numbers outside [0, 1)")
        self._given = array

    def draw(self, live: Int, step: int) -> AnyArray:
        """Return the numbers of a step for the sequences ``live``."""
        if self._given is not None:
            given: AnyArray = self._given[live, step]
            return given
        numbers = [self._streams[row].random(self._size) for row in live]
        return np.array(numbers, np.float64).reshape(len(live), *self._shape[1:])
