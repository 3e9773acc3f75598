"""torch.nn's recurrent cells on treadle's kernels: LSTMCell, GRUCell and RNNCell.

A cell is a sequence of one step. As with the sequences of `treadle.torch.modules`, parameters,
hooks and copying are PyTorch's own, and PyTorch's ``forward`` runs for what treadle cannot do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from treadle._public import published
from treadle.torch import ops
from treadle.torch.autograd import run_layer, run_short
from treadle.torch.fallback import fall_back, obstacle, undisturbed, watched
from treadle.torch.tensors import plain_states
from treadle.torch.tools import ForTools, node_of
from treadle.torch.weight_cache import layer_of, weights_of

if TYPE_CHECKING:
    from treadle.torch.autograd import Rows
    from treadle.torch.tensors import State, TensorLike
    from treadle.torch.weight_cache import RecurrentLayer

_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_ROWS: Rows = (None, None, False)
_STEP = (False, True)


class _Cell(ForTools, torch.nn.RNNCellBase):
    """The base of the cells: each call runs a sequence of one step."""

    theirs: type[torch.nn.Module]
    _mode: str
    """treadle's name of the mode."""
    _function: str
    """The name that errors begin with."""
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
        if undisturbed():
            found = self._step(input, hx)
            if found is not None:
                return found
        if isinstance(input, torch.fx.Proxy):
            return node_of(self, input, hx)
        lstm = self._mode == "lstm"
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
        h, c = (*states, None, None)[:2]
        layer = self._layer()
        if cache is None:
            one = (1,) * (3 - len(shape))  # the axis T, and the axis B if x has none
            h, c = (None if s is None else s.reshape((*one, *ends)) for s in (h, c))
            x = input.reshape((*one, *shape))
            _, h_n, c_n = ops.run_layer(layer, tensors, (h, c), x, (None, None, False))
            return h_n.reshape(ends) if c_n is None else (h_n.reshape(ends), c_n.reshape(ends))
        if placed is None:
            placed = cache.place(0, layer, tensors)
        native = cache.get(0, layer, placed, shape[0] if len(shape) == 2 else 1)
        _, h, c = run_layer(native, placed, tensors, (h, c), input, _ROWS, _STEP)
        return h if c is None else (h, c)

    def _step(self, input: TensorLike, hx: State | None) -> State | None:
        """Take a step on plain tensors with weights that an earlier call has placed.

        This is the usual step in a short time. It returns None for any other.
        """
        states = plain_states(input, hx, self._mode == "lstm")
        if states is None:
            return None
        own = self._parameters
        names = _WEIGHTS if self.bias else _WEIGHTS[:2]
        tensors: tuple[Any, ...] = tuple([own.get(name) for name in names])
        cache = weights_of(self)
        placed = cache.find(0, tensors)
        if placed is None:
            return None
        shape = input.shape
        native = cache.get(0, self._layer(), placed, shape[0] if len(shape) == 2 else 1)
        found = run_short(native, placed, tensors, states, input, False, _STEP)
        if found is None:
            return None
        _, h, c = found
        return h if c is None else (h, c)

    def _layer(self) -> RecurrentLayer:
        """Return the form of the layer that the cell is a step of."""
        sizes = self.input_size, self.hidden_size, 0
        activation = self.nonlinearity if self._mode == "rnn" else "tanh"
        return layer_of(self._function, self._mode, *sizes, self.bias, 1, activation)


@published("treadle.torch")
class LSTMCell(_Cell, torch.nn.LSTMCell):
    """torch.nn.LSTMCell on treadle's kernels, forward and backward.

    >>> import torch, treadle.torch
    >>> h, c = treadle.torch.LSTMCell(8, 16)(torch.zeros(3, 8))
    >>> h.shape, c.shape
    (torch.Size([3, 16]), torch.Size([3, 16]))
    """

    theirs = torch.nn.LSTMCell
    _mode, _function = "lstm", "treadle.torch.LSTMCell"


@published("treadle.torch")
class GRUCell(_Cell, torch.nn.GRUCell):
    """torch.nn.GRUCell on treadle's kernels, forward and backward.

    >>> import torch, treadle.torch
    >>> treadle.torch.GRUCell(8, 16)(torch.zeros(8)).shape
    torch.Size([16])
    """

    theirs = torch.nn.GRUCell
    _mode, _function = "gru", "treadle.torch.GRUCell"


@published("treadle.torch")
class RNNCell(_Cell, torch.nn.RNNCell):
    """torch.nn.RNNCell on treadle's kernels, forward and backward.

    >>> import torch, treadle.torch
    >>> treadle.torch.RNNCell(8, 16, nonlinearity="relu")(torch.zeros(3, 8)).shape
    torch.Size([3, 16])
    """

    theirs = torch.nn.RNNCell
    _mode, _function = "rnn", "treadle.torch.RNNCell"


CLASSES: dict[type, type] = {
    torch.nn.LSTMCell: LSTMCell,
    torch.nn.GRUCell: GRUCell,
    torch.nn.RNNCell: RNNCell,
}
