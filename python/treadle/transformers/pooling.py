"""Pooling makes one vector of the tokens of a sentence, as sentence-transformers' Pooling does.

With x [n, H] the tokens of a sentence and w_t = t + 1:

cls                   x_0
mean                  sum_t x_t / n
mean_sqrt_len_tokens  sum_t x_t / sqrt(n)
max                   max_t x_t
weightedmean          sum_t w_t x_t / sum_t w_t
lasttoken             x_{n-1}

Several modes are concatenated in the order of the configuration. A sentence without tokens, which
only a tokenizer without special tokens produces, is zero. One sentence at a time, so that its bits
do not depend on the others.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.transformers.directory import read_flag, read_json, wrong
from treadle.transformers.settings import POOLING, check_entries

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle._inputs.types import Float, Int


def _weighted_mean(x: Float, start: int) -> Float:
    weights = np.arange(start + 1, start + len(x) + 1, dtype=np.float32)
    mean: Float = (x * weights[:, None]).sum(axis=0) / weights.sum()
    return mean


# Each mode is a function of tokens x [n, H], n > 0, and of the number of prompt tokens before x.
_MODES: dict[str, Callable[[Float, int], Float]] = {
    "cls": lambda x, start: x[0],
    "max": lambda x, start: x.max(axis=0),
    "mean": lambda x, start: x.sum(axis=0) / np.float32(len(x)),
    "mean_sqrt_len_tokens": lambda x, start: x.sum(axis=0) / np.sqrt(np.float32(len(x))),
    "weightedmean": _weighted_mean,
    "lasttoken": lambda x, start: x[-1],
}
# The entries of configurations before sentence-transformers 5.7, in their order of concatenation.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


class Pooling:
    """A pooling has one or several modes, and includes the tokens of a prompt or not."""

    def __init__(self, modes: tuple[str, ...] = ("mean",), *, include_prompt: bool = True) -> None:
        self.modes = modes
        self.include_prompt = include_prompt

    def __call__(self, x: Float, offsets: Int, prompt: int = 0) -> Float:
        """Pool x [M, H], the tokens of B sentences, to [B, H * number of modes]."""
        size = x.shape[1]
        skip = 0 if self.include_prompt else prompt
        pooled = np.zeros((len(offsets) - 1, size * len(self.modes)), np.float32)
        bounds = offsets.tolist()
        for row, (start, stop) in enumerate(pairwise(bounds)):
            part = x[start + skip : stop]
            if len(part):
                for i, mode in enumerate(self.modes):
                    pooled[row, i * size : (i + 1) * size] = _MODES[mode](part, skip)
        return pooled


def read_pooling(function: str, directory: str, hidden_size: int) -> Pooling:
    """Read a Pooling module's config.json, of the present form or of the older one."""
    entries = read_json(function, directory, "config.json")
    where = f"{function}: {directory}/config.json"
    check_entries(where, entries, POOLING)
    size = entries.get("embedding_dimension", entries.get("word_embedding_dimension", hidden_size))
    if size != hidden_size:
        raise wrong(where, "embedding_dimension", size, f"{hidden_size}, the model's hidden_size")
    include = read_flag(where, entries, "include_prompt", default=True)
    return Pooling(_modes(where, entries), include_prompt=include)


def _modes(where: str, entries: dict[str, Any]) -> tuple[str, ...]:
    modes = entries.get("pooling_mode")
    if modes is None:
        chosen = tuple(m for n, m in _FLAGS.items() if read_flag(where, entries, n, default=False))
        return chosen or ("mean",)
    modes = [modes] if isinstance(modes, str) else modes
    if not (isinstance(modes, list) and modes and all(m in _MODES for m in map(str, modes))):
        raise wrong(where, "pooling_mode", modes, f"one or more of {', '.join(_MODES)}")
    if len(set(map(str, modes))) != len(modes):
        raise wrong(where, "pooling_mode", modes, "each one once")
    return tuple(map(str, modes))
