"""A memory is all that an encoder has read; a decoder attends to it.

With a query q of the decoder, the positions m_s of a sequence of S and their keys k_s::

    score_s = q . m_s                             dot
    score_s = q . (W m_s)                         general: k_s = W m_s
    score_s = v . tanh(W_q q + W_m m_s + b)       additive: k_s = W_m m_s + b
    context = sum_s softmax(score)_s m_s

The keys are computed once for a sequence. A query's numbers have the same bits alone and beside
others, for one step or many, and whether the probabilities are asked for or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle import _core
from treadle.layers.attention import MAX_HEAD_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from treadle._core import AttentionOptions
    from treadle._inputs.types import Float, Int
    from treadle.layers.linear import Linear


@dataclass(frozen=True)
class Memory:
    """The positions of B sequences, their keys for attention, and how many each sequence has."""

    values: Float
    """[B, S, M], padded with zeros up to a multiple of the heads that attention cuts them into."""
    keys: Float
    """[B, S, A]"""
    lengths: Int
    """[B]"""

    def rows(self, chosen: Int) -> Memory:
        """Return the memory of some of the rows, which may be named several times."""
        return Memory(self.values[chosen], self.keys[chosen], self.lengths[chosen])


class MemoryAttention:
    """The attention to a memory, by the score that its name says."""

    def __init__(
        self, function: str, score: str, size: int, products: Mapping[str, Linear]
    ) -> None:
        self._function, self._score, self._size = function, score, size
        self._products = products
        # A head of the kernel has at most MAX_HEAD_SIZE numbers: longer values are cut into heads.
        self._heads = -(-size // MAX_HEAD_SIZE)

    def remember(self, values: Float, lengths: Int) -> Memory:
        """Return the memory of positions [B, S, M]."""
        project: Any = self._products.get("attention_memory")
        keys = values if project is None else project(values)
        short = -self._size % self._heads
        if short:
            values = np.pad(values, ((0, 0), (0, 0), (0, short)))
        return Memory(values, keys, lengths)

    def attend(self, memory: Memory, queries: Float) -> tuple[Float, Float]:
        """Return the context [B, T, M] of queries [B, T, H] and the probabilities [B, T, S]."""
        B, T = queries.shape[:2]
        S, heads = memory.values.shape[1], self._heads
        options: AttentionOptions = {"scale": 1.0, "key_lengths": memory.lengths}
        if self._score != "additive" and memory.keys.shape[2] <= MAX_HEAD_SIZE:
            q, k = queries[:, None], memory.keys[:, None]
        else:
            scores = self._scores(memory, queries)[:, None]
            options["mask"] = np.broadcast_to(scores, (B, heads, T, S))
            q, k = np.zeros((B, 1, T, 1), np.float32), np.zeros((B, 1, S, 1), np.float32)
        q, k = (np.broadcast_to(x, (B, heads, *x.shape[2:])) for x in (q, k))
        size = memory.values.shape[2] // heads
        v = memory.values.reshape(B, S, heads, size).transpose(0, 2, 1, 3)
        joined = np.empty((B, T, heads, size), np.float32)
        # Asked for probabilities, the kernel computes a query alone as it does beside others.
        probabilities = np.empty((B, heads, T, S), np.float32)
        out = joined.transpose(0, 2, 1, 3)
        _core.attention(self._function, q, k, v, options, out, probabilities)
        return joined.reshape(B, T, heads * size)[:, :, : self._size], probabilities[:, 0]

    def _scores(self, memory: Memory, queries: Float) -> Float:
        """Return the scores [B, T, S] of what the kernel has no product for, zero where a sequence
        has no position.
        """
        B, T = queries.shape[:2]
        scores = np.zeros((B, T, memory.keys.shape[1]), np.float32)
        rows, places = np.nonzero(np.arange(scores.shape[2]) < memory.lengths[:, None])
        keys = memory.keys[rows, places]
        if self._score == "additive":
            project: Any = self._products["attention_query"]
            total: Any = self._products["attention_score"]
            queries = project(queries)
            for step in range(T):
                hidden = _core.apply("tanh", (keys + queries[rows, step]).reshape(-1))
                scores[rows, step, places] = total(hidden.reshape(keys.shape))[:, 0]
            return scores
        ones = _core.Linear(self._function, np.ones((1, keys.shape[1]), np.float32), None)
        for step in range(T):
            terms = ones.run(self._function, keys * queries[rows, step])
            scores[rows, step, places] = terms[:, 0]
        return scores
