"""This module lets Keras' recurrent layers run on treadle's kernels, forward and backward.

Keras' layers do all around their loop over time: states, dropout, casts, what is returned. The loop
is the method ``inner_loop``, which `Recurrent` replaces. Where treadle cannot run, Keras' own loop
does, and a warning says so once for each class and reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras.layers import StackedRNNCells

from treadle.keras import loop
from treadle.keras.backend import Unable
from treadle.keras.cells import described, dropped_out, inner_cells, weights_of
from treadle.keras.low_precision import dtype_of, refuse_training
from treadle.keras.quantize import Quantized
from treadle.torch.fallback import fall_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.torch.tensors import TensorLike


class Recurrent(Quantized):
    """The mixin that stands before one of Keras' recurrent layers."""

    # Keras sets these.
    cell: Any
    return_sequences: bool
    go_backwards: bool
    stateful: bool
    zero_output_for_mask: bool

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Any, Any, Any]:
        """Return (the last output [B, H], all outputs [B, T, H], the states), as Keras does.

        sequences      [B, T, I] in any order of memory
        initial_state  [B, H] of each state; of stacked cells a list for each cell
        mask           [B, T]: where False, a step is left out, and the output before is repeated
                       (with ``zero_output_for_mask``: is zero)
        """
        theirs: Callable[..., tuple[Any, Any, Any]] = super().inner_loop  # type: ignore[misc]
        if getattr(sequences, "is_meta", False):  # the shapes of results are wanted, only
            return theirs(sequences, initial_state, mask, training=training)
        refuse_training(self, bool(training))
        try:
            return self._run(sequences, initial_state, mask, bool(training))
        except Unable as reason:
            fall_back(type(self).__name__, str(reason), "Keras' own code", "treadle.keras")
        return theirs(sequences, initial_state, mask, training=training)

    def _run(
        self, x: TensorLike, initial_state: Any, mask: Any, training: bool
    ) -> tuple[Any, Any, Any]:
        """Run the cells one after the other. Raises Unable where the kernels cannot run."""
        if not hasattr(x, "shape") or len(x.shape) != 3:
            raise Unable("its input is no tensor [B, T, I]")
        mask = loop.mask_of(mask, x)
        if self.go_backwards:
            x, mask = x.flip(1), None if mask is None else mask.flip(1)
        cells = inner_cells(self.cell)
        states = initial_state if isinstance(initial_state, (list, tuple)) else [initial_state]
        starts = states if type(self.cell) is StackedRNNCells else [states]
        ends = []
        for cell, start in zip(cells, starts, strict=True):
            layer = described(f"treadle.keras.{type(self).__name__}", cell)
            x = dropped_out(cell, x, training)
            h, c = self._starts(cell, start, x.shape[0])
            given = x, [h] if c is None else [h, c], mask
            x, h, c = loop.run(cell, layer, [weights_of(cell)], given, dtype_of(self))
            end = [h[0]] if c is None else [h[0], c[0]]
            ends.append(end if isinstance(start, (list, tuple)) else end[0])
        last = end[0]
        if mask is not None:
            hidden = ~(mask[:, -1:] if self.zero_output_for_mask else mask.any(1, keepdim=True))
            last = last.masked_fill(hidden, 0)
            if self.zero_output_for_mask and self.return_sequences:
                x = x.masked_fill(~mask.unsqueeze(2), 0)
        outputs = x if self.return_sequences else last.unsqueeze(1)
        return last, outputs, ends if type(self.cell) is StackedRNNCells else ends[0]

    def _starts(self, cell: Any, start: Any, B: int) -> tuple[TensorLike, TensorLike | None]:
        """Return the states [1, B, H] that a cell starts with: h, and the c of an LSTMCell."""
        parts = list(start) if isinstance(start, (list, tuple)) else [start]
        if any(tuple(part.shape) != (B, cell.units) for part in parts):
            raise Unable(f"its initial_state is not [B, H] with B = {B}, H = {cell.units}")
        # Keras writes the last state of a stateful layer where the first one still lies.
        h, c = (*[(p.clone() if self.stateful else p).unsqueeze(0) for p in parts], None)[:2]
        return h, c
