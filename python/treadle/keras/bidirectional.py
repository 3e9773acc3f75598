"""This module runs both directions of Keras' Bidirectional side by side, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from treadle.keras import loop
from treadle.keras.backend import Unable
from treadle.keras.cells import described, inner_cells, weights_of
from treadle.keras.low_precision import dtype_of, refuse_training
from treadle.keras.quantize import Quantized
from treadle.keras.recurrent import Recurrent

if TYPE_CHECKING:
    from treadle.torch.tensors import TensorLike
    from treadle.torch.weight_cache import RecurrentLayer


class BothDirections(Quantized):
    """The mixin that stands before Keras' Bidirectional.

    Where its two layers do the same in opposite directions, one call of the kernels does both;
    otherwise each layer runs by itself, as Keras lets it.
    """

    # Keras sets these.
    forward_layer: Any
    backward_layer: Any
    merge_mode: str | None
    return_sequences: bool
    return_state: bool
    compute_dtype: str
    dtype_policy: Any

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None
    ) -> Any:
        """Return the merged output, and with ``return_state`` the states behind it, as Keras does.

        sequences      [B, T, I]
        initial_state  the states [B, H] of the forward layer, then those of the backward layer
        mask           [B, T]: where False, both directions leave a step out
        """
        refuse_training(self, bool(training))
        try:
            return self._side_by_side(sequences, initial_state, mask)
        except Unable:  # each of the layers says why it cannot run, if it cannot
            theirs: Any = super()
            return theirs.call(sequences, initial_state=initial_state, mask=mask, training=training)

    def _side_by_side(self, x: Any, initial_state: Any, mask: Any) -> Any:
        layer = self._layer()
        if getattr(x, "is_meta", True) or len(x.shape) != 3:
            raise Unable("the shapes of results are wanted, only")
        mask = loop.mask_of(mask, x)
        cells = self.forward_layer.cell, self.backward_layer.cell
        states = self._starts(layer, initial_state, x.shape[0])
        weights = [weights_of(cell) for cell in cells]
        y, h, c = loop.run(self, layer, weights, (x, states, mask), dtype_of(self.forward_layer))
        H = layer.hidden_size
        if self.return_sequences:
            if mask is not None:
                y = y.masked_fill(~mask.unsqueeze(2), 0)
            parts = y[:, :, :H], y[:, :, H:]
        else:
            ends = h if mask is None else h.masked_fill(~mask.any(1, keepdim=True), 0)
            parts, y = (ends[0], ends[1]), torch.cat((ends[0], ends[1]), 1)
        dtype = getattr(torch, self.compute_dtype)
        output = self._merged(y.to(dtype), *(part.to(dtype) for part in parts))
        if not self.return_state:
            return output
        both = [state[d].to(dtype) for d in (0, 1) for state in (h, c) if state is not None]
        return (*output, *both) if self.merge_mode is None else (output, *both)

    def _merged(self, both: TensorLike, forward: TensorLike, backward: TensorLike) -> Any:
        """Return the output of both directions, which lie side by side in ``both``."""
        if self.merge_mode == "concat":
            return both
        if self.merge_mode is None:
            return forward, backward
        if self.merge_mode == "mul":
            return forward * backward
        total = forward + backward
        return total / 2 if self.merge_mode == "ave" else total

    def _layer(self) -> RecurrentLayer:
        """Return both layers as one of two directions. Raises Unable where they differ."""
        forward, backward = self.forward_layer, self.backward_layer
        layers = forward, backward
        if not all(type(own).inner_loop is Recurrent.inner_loop for own in layers):
            raise Unable("a layer does not run on treadle")
        if type(forward).call is not type(backward).call or forward.go_backwards:
            raise Unable("the layers are not of one kind")
        for own in layers:
            watched = own._forward_hooks or own._forward_pre_hooks or own.activity_regularizer
            if watched or own.stateful or own.dtype_policy.name != self.dtype_policy.name:
                raise Unable("a layer does more than its loop over time")
            if own.zero_output_for_mask != self.return_sequences:
                raise Unable("a layer repeats its output where a mask leaves a step out")
            cell = own.cell
            if len(inner_cells(cell)) > 1 or cell.dropout or cell.recurrent_dropout:
                raise Unable("each layer drops inputs of its own")
        if dtype_of(forward) != dtype_of(backward):
            raise Unable("the layers have two dtypes")
        name = "treadle.keras.Bidirectional"
        layer, other = (described(name, own.cell, directions=2) for own in layers)
        if layer != other:
            raise Unable("the cells differ")
        return layer

    def _starts(self, layer: RecurrentLayer, given: Any, B: int) -> list[TensorLike]:
        """Return the states [2, B, H] that the call starts with; none where they are zero."""
        if given is None:
            return []
        parts = list(given) if isinstance(given, (list, tuple)) else [given]
        count = 2 if layer.mode == "lstm" else 1
        expected = (B, layer.hidden_size)
        if len(parts) != 2 * count or any(tuple(part.shape) != expected for part in parts):
            raise Unable("the initial_state does not fit")
        return [torch.stack((parts[i], parts[count + i])) for i in range(count)]
