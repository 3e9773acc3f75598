"""The sequences that a stack of layers goes on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.arrays import to_int64

if TYPE_CHECKING:
    from treadle import _core
    from treadle._inputs.types import ArrayLike, Int
    from treadle.layers.decoder_stack import DecoderStack


class DecoderState:
    """The keys and values of R live rows, their lengths, and the memory that they see.

    A stack makes it (`DecoderStack.start`) and extends it. A call that raises changes nothing.
    Threads that use one state wait for each other.
    """

    def __init__(self, stack: DecoderStack, native: _core.DecoderState) -> None:
        self.stack = stack
        self.native = native

    @property
    def lengths(self) -> Int:
        """The number of tokens in each row, a new array [R]."""
        return np.array(self.native.lengths, np.int64)

    @property
    def capacity(self) -> int:
        """The number of tokens of a row for which there is room before the state has to grow."""
        return self.native.capacity

    @property
    def bytes(self) -> int:
        """The bytes of keys, values, memory and buffers."""
        return self.native.bytes

    def reorder(self, rows: ArrayLike) -> None:
        """Make row r what row ``rows[r]`` was, for as many rows as there are numbers.

        Repeats (beams) are copied; rows that are absent leave the batch. A row that only moves is
        not touched.

        Raises
        ------
        TypeError, ValueError
            For anything but numbers of live rows.
        """
        function = "DecoderState.reorder"
        self.native.reorder(function, to_int64(function, "rows", rows))

    def truncate(self, lengths: ArrayLike) -> None:
        """Forget the newest tokens: row r keeps its first ``lengths[r]``.

        Raises
        ------
        TypeError, ValueError
            For a length that a row does not have.
        """
        function = "DecoderState.truncate"
        self.native.truncate(function, to_int64(function, "lengths", lengths))

    def copy(self) -> DecoderState:
        """Return a state that goes its own way from here; the memory is not copied."""
        return DecoderState(self.stack, self.native.copy())

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> DecoderState:
        return self.copy()

    def __repr__(self) -> str:
        return f"DecoderState({len(self.lengths)} rows, capacity={self.capacity})"
