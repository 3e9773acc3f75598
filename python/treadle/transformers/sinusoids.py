"""Positions as sines and cosines of fixed frequencies (Vaswani et al. 2017, arXiv:1706.03762).

    x[p, i] = sin(p f_i) in the first half of the numbers,  cos(p f_i) in the second

Marian has f_i = 10000^(-2 i / H), fairseq f_i = 10000^(-i / (H / 2 - 1)), computed in float32 as
models are trained with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from treadle._inputs.types import Float


def marian(count: int, hidden: int) -> Float:
    """Compute the rows of positions 0..count - 1, [count, H]."""
    places = np.arange(count, dtype=np.float64)[:, None]
    half = (hidden + 1) // 2
    angles = places / np.power(10000.0, 2.0 * np.arange(half) / hidden)
    table = np.empty((count, hidden), np.float32)
    table[:, :half] = np.sin(angles)
    table[:, half:] = np.cos(angles[:, : hidden - half])
    return table


def fairseq(count: int, hidden: int, first: int) -> Float:
    """Compute the rows of positions first..first + count - 1, [count, H]; an odd H ends in 0."""
    half = hidden // 2
    step = np.float32(np.log(10000) / max(half - 1, 1))
    frequencies = np.exp(np.arange(half).astype(np.float32) * -step)
    places = np.arange(first, first + count).astype(np.float32)[:, None]
    angles = places * frequencies
    table = np.zeros((count, hidden), np.float32)
    table[:, :half], table[:, half : 2 * half] = np.sin(angles), np.cos(angles)
    return table
