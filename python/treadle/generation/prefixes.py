"""The streaming of a beam search: what all hypotheses that can still win begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from treadle._inputs.types import Bool, Int
    from treadle.generation.streaming import Stream

_NOTHING = np.empty(0, np.int64)


class Prefixes:
    """Puts tokens of B sentences into a stream as soon as nothing can change them.

    The sequence that wins is the best that has ended so far, or continues an open one. So what
    these begin with is certain.
    """

    def __init__(self, stream: Stream, sentences: int) -> None:
        self._stream = stream
        self._put = [0] * sentences

    def update(
        self,
        finished: Mapping[int, Int],
        live: Int,
        open_ones: Sequence[Int],
        ended_ones: Sequence[Int | None],
    ) -> None:
        """Put what has become certain in a step.

        ``finished`` are the new tokens of sentences whose search is over; for every sentence of
        ``live``, ``open_ones`` are those of its open hypotheses [num_beams, n], and ``ended_ones``
        those of the best that has ended.
        """
        fresh = [_NOTHING] * len(self._put)
        for sentence, tokens in finished.items():
            fresh[sentence] = tokens[self._put[sentence] :]
        for sentence, rows, ended in zip(live, open_ones, ended_ones, strict=True):
            start = self._put[sentence]
            agreed = _leading((rows[:, start:] == rows[:1, start:]).all(axis=0))
            certain = rows[0, start : start + agreed]
            if ended is not None:
                shared = min(len(certain), len(ended) - start)
                certain = certain[: _leading(certain[:shared] == ended[start : start + shared])]
            fresh[sentence] = certain
        most = max(map(len, fresh))
        if most == 0:
            return
        block = np.full((len(fresh), most), -1, np.int64)
        for sentence, tokens in enumerate(fresh):
            block[sentence, : len(tokens)] = tokens
            self._put[sentence] += len(tokens)
        self._stream.put(block[0] if len(block) == 1 else block)


def _leading(same: Bool) -> int:
    """Return how many values at the beginning are True."""
    return len(same) if same.all() else int(np.argmin(same))
