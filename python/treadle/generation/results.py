"""A search's results: the sequences it found, and how good they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from treadle._public import published

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle._inputs.types import Float, Int


@published("treadle.generation")
@dataclass(frozen=True, eq=False)
class SearchResult:
    """Sequences that a search found: N = num_return_sequences for each of B prompts, best first.

    Parameters
    ----------
    sequences
        [B N, T], int64: prompts and new tokens, the end token included. Behind them stands
        ``pad_token_id``, or an end token where it is None. A beam search puts an end token there
        where ``pad_token_id`` is 0, too, as Transformers does.
    lengths
        [B N]: the number of tokens of each sequence, its prompt included.
    sequences_scores
        [B N], the score of each hypothesis of a beam search, else None.
    scores
        With ``output_scores``, for every new token an array [R, V]: what the options and the hook
        made of the logits (of their log-softmax in a beam search). R is B N, or B num_beams. Rows
        of sentences that have ended are NaN.
    logits
        With ``output_logits``, the logits themselves in the form of ``scores``.
    beam_indices
        [B N, T'] for a beam search: the row of ``scores`` that each new token extended, then -1.

    Examples
    --------
    >>> import numpy as np, treadle.generation
    >>> class Table:
    ...     def step(self, tokens):
    ...         return np.eye(4, dtype=np.float32)[(tokens + 1) % 4]
    ...     def reorder(self, rows):
    ...         pass
    >>> config = treadle.generation.GenerationConfig(eos_token_id=3, pad_token_id=0)
    >>> start = [np.array([0]), np.array([0, 1, 2])]
    >>> found = treadle.generation.search(Table(), Table().step(np.array([0, 2])), start, config)
    >>> found.sequences, found.lengths
    (array([[0, 1, 2, 3],
           [0, 1, 2, 3]]), array([4, 4]))
    """

    sequences: Int
    lengths: Int
    sequences_scores: Float | None = None
    scores: tuple[Float, ...] | None = None
    logits: tuple[Float, ...] | None = None
    beam_indices: Int | None = None


def padded(sequences: Sequence[Int], filler: int) -> tuple[Int, Int]:
    """Return sequences as the rows of one array, and their lengths."""
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    rows = np.full((len(sequences), int(lengths.max(initial=0))), filler, np.int64)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows, lengths


class Record:
    """Arrays [R, V] of all steps, of which each gets only the rows that were live."""

    def __init__(self, wanted: bool, rows: int) -> None:
        self._steps: list[Float] | None = [] if wanted else None
        self._rows = rows

    def add(self, live: Int, values: Float) -> None:
        """Keep a copy of the values of the live rows."""
        if self._steps is not None:
            step = np.full((self._rows, values.shape[1]), np.nan, np.float32)
            step[live] = values
            self._steps.append(step)

    @property
    def steps(self) -> tuple[Float, ...] | None:
        """The arrays, or None if nobody wanted them."""
        return None if self._steps is None else tuple(self._steps)
