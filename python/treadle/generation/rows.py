"""The live rows of a search: the tokens of each, and how far each may go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle._inputs.types import Int

# This id stands where a row has no token: before prompts that are shorter than others.
NO_TOKEN = -1


class Rows:
    """Token ids [R, P + n] of R live rows: prompts of up to P tokens, then n new tokens.

    Prompts end in the same column; `NO_TOKEN` stands before the shorter ones.
    """

    def __init__(self, prompts: Sequence[Int], limits: Sequence[int]) -> None:
        self.prompt_lengths = np.array([len(prompt) for prompt in prompts], np.int64)
        self.limits = np.array(limits, np.int64)
        self.count = 0
        self._width = int(self.prompt_lengths.max(initial=0))
        self._tokens = np.full((len(prompts), self._width + 8), NO_TOKEN, np.int64)
        for i, prompt in enumerate(prompts):
            self._tokens[i, self._width - len(prompt) : self._width] = prompt

    def __len__(self) -> int:
        """R, the number of live rows."""
        return len(self._tokens)

    @property
    def tokens(self) -> Int:
        """All tokens [R, P + n], a view."""
        return self._tokens[:, : self._width + self.count]

    @property
    def new_tokens(self) -> Int:
        """The new tokens [R, n], a view."""
        return self._tokens[:, self._width : self._width + self.count]

    @property
    def lengths(self) -> Int:
        """The number of tokens of each row, those of its prompt included."""
        return self.prompt_lengths + self.count

    def take(self, rows: Int) -> None:
        """Make row r what row ``rows[r]`` was."""
        self._tokens = self._tokens[rows]
        self.prompt_lengths = self.prompt_lengths[rows]
        self.limits = self.limits[rows]

    def append(self, tokens: Int) -> None:
        """Put a token behind those of each row."""
        end = self._width + self.count
        if end == self._tokens.shape[1]:
            more = np.full((len(self), max(end, 8)), NO_TOKEN, np.int64)
            self._tokens = np.concatenate([self._tokens, more], axis=1)
        self._tokens[:, end] = tokens
        self.count += 1
