"""torch.nn's recurrent cells on treadle's kernels: LSTMCell, GRUCell and RNNCell.

A cell is a sequence of one step. As with the sequences of `treadle.torch.modules`, parameters,
hooks and copying are PyTorch's own, and PyTorch's ``forward`` runs for what treadle cannot do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from treadle._public import published
from treadle.torch import ops
from treadle.torch.autograd import run_layer
from treadle.torch.fallback import fall_back, obstacle, watched
from treadle.torch.tools import ForTools, node_of
from treadle.torch.weight_cache import RecurrentLayer, weights_of

if TYPE_CHECKING:
    from treadle.torch.tensors import State, TensorLike

_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _Cell(ForTools, torch.nn.RNNCellBase):
    """The base of the cells: each call runs a sequence of one step."""

    theirs: type[torch.nn.Module]
    # PyTorch sets these.
    input_size: int
    hidden_size: int
    bias: bool
    _parameters: dict[str, TensorLike]

    def forward(self, input: TensorLike, hx: State | None = None) -> State:
        """Take a step as the class of torch.nn does: h, or (h, c) for an LSTMCell.

        input  float32 [B, I] or [I]
        hx     h [B, H] or [H], for an LSTMCell (h, c); zero when left out

        What does not fit runs PyTorch's ``forward``, which says how, as it does for another dtype.
        """
        if isinstance(input, torch.fx.Proxy):
            return node_of(self, input, hx)
        lstm = isinstance(self, torch.nn.LSTMCell)
        states = () if hx is None else tuple(hx) if lstm or isinstance(hx, tuple) else (hx,)
        own, names = self._parameters, _WEIGHTS if self.bias else _WEIGHTS[:2]
        tensors = tuple([own[n] if n in own else getattr(self, n) for n in names])
        cache = None if watched((input, *states)) else weights_of(self)
        placed = None if cache is None else cache.find(0, tensors)
        reason = obstacle((input, *states, *(tensors if placed is None else ())))
        if reason is None and isinstance(hx, tuple) and not lstm:
            reason = "an argument is of type tuple"
        if reason is None:
            shape = input.shape
            ends = (*shape[:-1], self.hidden_size)
            fits = len(shape) in (1, 2) and shape[-1] == self.input_size
            if not fits or len(states) not in (0, 1 + lstm) or any(s.shape != ends for s in states):
                reason = "its arguments do not fit"  # PyTorch's error says more
        if reason is not None:
            fall_back(self, reason)
            return super().forward(input, hx)
        one = (1,) * (3 - len(shape))  # the axis T, and the axis B if x has none
        h, c = (*[s.reshape((*one, *ends)) for s in states], None, None)[:2]
        mode = "lstm" if lstm else "gru" if isinstance(self, torch.nn.GRUCell) else "rnn"
        activation = self.nonlinearity if mode == "rnn" else "tanh"
        layer = RecurrentLayer(
            f"treadle.torch.{type(self).__name__}",
            mode,
            self.input_size,
            self.hidden_size,
            0,
            self.bias,
            1,
            activation,
        )
        x = input.reshape((*one, *shape))
        if cache is None:
            _, h_n, c_n = ops.run_layer(layer, tensors, (h, c), x, (None, None, False))
        else:
            if placed is None:
                placed = cache.place(0, layer, tensors)
            native = cache.get(0, layer, placed, x.shape[1])
            _, h_n, c_n = run_layer(native, placed, tensors, (h, c), x, (None, None, False))
        return h_n.reshape(ends) if c_n is None else (h_n.reshape(ends), c_n.reshape(ends))


@published("treadle.torch")
class LSTMCell(_Cell, torch.nn.LSTMCell):
    """torch.nn.LSTMCell on treadle's kernels, forward and backward.

    >>> import torch, treadle.torch
    >>> h, c = treadle.torch.LSTMCell(8, 16)(torch.zeros(3, 8))
    >>> h.shape, c.shape
    (torch.Size([3, 16]), torch.Size([3, 16]))
    """

    theirs = torch.nn.LSTMCell


@published("treadle.torch")
class GRUCell(_Cell, torch.nn.GRUCell):
    """torch.nn.GRUCell on treadle's kernels, forward and backward.

    >>> import torch, treadle.torch
    >>> treadle.torch.GRUCell(8, 16)(torch.zeros(8)).shape
    torch.Size([16])
    """

    theirs = torch.nn.GRUCell


@published("treadle.torch")
class RNNCell(_Cell, torch.nn.RNNCell):
    """torch.nn.RNNCell on treadle's kernels, forward and backward.

    >>> import torch, treadle.torch
    >>> treadle.torch.RNNCell(8, 16, nonlinearity="relu")(torch.zeros(3, 8)).shape
    torch.Size([3, 16])
    """

    theirs = torch.nn.RNNCell


CLASSES: dict[type, type] = {
    torch.nn.LSTMCell: LSTMCell,
    torch.nn.GRUCell: GRUCell,
    torch.nn.RNNCell: RNNCell,
}
