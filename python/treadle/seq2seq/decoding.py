"""The state of a decoder between two steps, for search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle._public import published
from treadle.layers.turns import Turns

if TYPE_CHECKING:
    from treadle._inputs.types import Float, Int
    from treadle.seq2seq.memory import Memory, MemoryAttention
    from treadle.seq2seq.state import State
    from treadle.seq2seq.structure import DecoderLayers


@published("treadle.seq2seq")
class Decoding:
    """A Decoding is the state of a `treadle.Seq2Seq` that writes several sequences, its live rows.

    ``Seq2Seq.decoding`` makes it. Threads that use one decoding take turns.
    """

    def __init__(
        self,
        decoder: DecoderLayers,
        state: State,
        look: tuple[MemoryAttention, Memory] | None,
        feeds: bool,
    ) -> None:
        self._decoder, self._state, self._look, self._feeds = decoder, state, look, feeds
        # A row reads the memory of the row of x that it began with.
        self._sources: Int = np.arange(state[0].shape[self._axis])
        self._turns = Turns("treadle.Seq2Seq")

    @property
    def rows(self) -> int:
        """The number of live rows."""
        return len(self._sources)

    def read(self, tokens: Int) -> tuple[Float, Float | None]:
        """Extend the rows by tokens [R, T]; return logits [R, T, V] and attention [R, T, S]."""
        turn = self._turns.take()
        try:
            return self._extended(tokens)
        finally:
            turn.release()

    def _extended(self, tokens: Int) -> tuple[Float, Float | None]:
        decoder, state = self._decoder, self._state
        self._check(tokens)
        x = decoder.embedded(tokens)
        probabilities = None
        if self._look is None or not self._feeds:
            features, state = decoder.recur(x, state)
            if self._look is not None:
                attention, memory = self._look
                context, probabilities = attention.attend(memory, features)
                features = np.concatenate([features, context], axis=2)
        else:
            features, probabilities, state = self._fed(x, state, *self._look)
        logits = decoder.logits(features)
        self._state = state  # where a layer raises, the decoding stays what it was
        return logits, probabilities

    def _fed(
        self, x: Float, state: State, attention: MemoryAttention, memory: Memory
    ) -> tuple[Float, Float, State]:
        """Go step by step, each with the context that the state before it asks for."""
        features, looks = [], []
        for step in range(x.shape[1]):
            top = state[0] if state[0].ndim == 2 else state[0][-1]
            context, look = attention.attend(memory, top[:, None])
            given = np.concatenate([x[:, step : step + 1], context], axis=2)
            output, state = self._decoder.recur(given, state)
            features.append(np.concatenate([output, context], axis=2))
            looks.append(look)
        return np.concatenate(features, axis=1), np.concatenate(looks, axis=1), state

    def step(self, tokens: Int) -> Float:
        """Extend the R live rows by tokens [R]; return the logits [R, V] of what follows.

        Raises ValueError for a wrong number of tokens and for one that the embedding does not have.
        """
        tokens = np.asarray(tokens, np.int64)
        logits, _ = self.read(tokens[:, None])
        return logits[:, 0]

    def reorder(self, rows: Int) -> None:
        """Let live row r become what live row rows[r] was; then there are len(rows) live rows.

        Raises ValueError for a row that is not there.
        """
        turn = self._turns.take()
        try:
            self._reordered(np.asarray(rows, np.int64))
        finally:
            turn.release()

    def _reordered(self, rows: Int) -> None:
        count = self.rows
        if rows.ndim != 1 or (rows < 0).any() or (rows >= count).any():
            raise ValueError(
                f"treadle.Seq2Seq: rows are {rows.tolist()!r:.100}, "
                f"expected [R] of 0 to {count - 1}"
            )
        axis = self._axis
        self._state = tuple(part.take(rows, axis) for part in self._state)
        sources = self._sources[rows]
        # The rows of a beam read the same memory: what is there stays if the sources do.
        if self._look is not None and not np.array_equal(sources, self._sources):
            attention, memory = self._look
            self._look = attention, memory.rows(rows)
        self._sources = sources

    @property
    def _axis(self) -> int:
        """The axis of the rows in a state: that of cells has no axis of layers before it."""
        return self._state[0].ndim - 2

    def _check(self, tokens: Int) -> None:
        count = self.rows
        if tokens.ndim != 2 or len(tokens) != count:
            raise ValueError(
                f"treadle.Seq2Seq: tokens has shape {tokens.shape}, expected {count} rows, as x has"
            )
