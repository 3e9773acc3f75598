"""This module says what a case of attention is, and draws its inputs.

The letters are B batch, N heads, S queries, K keys, E head size; Nk heads of keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...dtypes import FLOAT32, Array

EXP_ULPS = 20  # units in the last place by which PyTorch's exp_u20 is off, as it is meant to be

AttentionInputs = tuple[Array, Array, Array]  # q, k, v


@dataclass(frozen=True)
class AttentionCase:
    """One shape of attention.

    `lengths` has the tokens of each row, of S and K alike, or of K alone when S is 1.
    """

    group: str
    B: int
    N: int
    S: int
    K: int
    E: int
    reason: str
    Nk: int = 0  # 0: as many as N
    causal: bool = False
    lengths: tuple[int, ...] = field(default=(), repr=False)
    goal: bool = False  # whether this is a shape of the speed goal, which has a target
    quick: bool = False

    kind = "attention"
    dtype = FLOAT32

    @property
    def name(self) -> str:
        """``attention/1x12x512x512x64-causal``: group, B x N x S x K x E, then the rest."""
        text = f"{self.group}/{self.B}x{self.N}x{self.S}x{self.K}x{self.E}"
        if self.kv_heads != self.N:
            text += f"-gqa{self.kv_heads}"
        if self.causal:
            text += "-causal"
        return text + ("-padded" if self.lengths else "")

    @property
    def kv_heads(self) -> int:
        """The number of heads of k and v."""
        return self.Nk or self.N

    @property
    def decoding(self) -> bool:
        """Tell whether the case decodes: one query attends to the keys of a cache."""
        return self.S == 1

    @property
    def key_lengths(self) -> tuple[int, ...]:
        """The number of keys of each row."""
        return self.lengths or (self.K,) * self.B

    @property
    def query_lengths(self) -> tuple[int, ...]:
        """The number of queries of each row."""
        return (self.S,) * self.B if self.decoding or not self.lengths else self.lengths

    def pairs(self) -> int:
        """The number of pairs (query, key) of one head that take part, over the whole batch."""
        total = 0
        for queries, keys in zip(self.query_lengths, self.key_lengths, strict=True):
            if self.causal:
                total += sum(min(i + 1, keys) for i in range(queries))
            else:
                total += queries * keys
        return total


def make_inputs(case: AttentionCase, seed: int = 4) -> AttentionInputs:
    """Return q [B, N, S, E], k and v [B, Nk, K, E], standard normal."""
    rng = np.random.default_rng(seed)

    def draw(heads: int, length: int) -> Array:
        return rng.standard_normal((case.B, heads, length, case.E), dtype=np.float32)

    return draw(case.N, case.S), draw(case.kv_heads, case.K), draw(case.kv_heads, case.K)


def mask(case: AttentionCase) -> Array:
    """Return True where a query may attend: [B, 1, 1, K], or [B, 1, S, K] when causal."""
    found = np.arange(case.K) < np.array(case.key_lengths)[:, None, None, None]
    return found & np.tri(case.S, case.K, dtype=bool) if case.causal else found
