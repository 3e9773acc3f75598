"""torch.nn's recurrent modules on weft's kernels: the same parameters, state_dict and results.

Each class differs from PyTorch's in ``forward`` alone: parameters, state_dict, hooks, pickling and
copying are PyTorch's own. The sequences derive from torch.nn.RNNBase, not from torch.nn.LSTM, GRU and
RNN, which torch.compile does not let into a graph. What weft cannot do runs PyTorch's ``forward`` with
the same parameters, and a warning says so once for each class and reason: tensors that are not float32
or not on the CPU, autocast (PyTorch casts, weft does not), torch.jit's tracing and torch.func's
transforms. Under torch.compile and torch.export a sequence is one operator in the graph, without a
break; a cell or a PackedSequence runs PyTorch's ``forward`` there. There are no second derivatives
(create_graph=True raises RuntimeError), and torch.jit.script refuses these classes: use
`weft.torch.restore` first.

Beside PyTorch's arguments there is ``lengths``, integers [B] in any order: the steps of a padded batch
that count, as with a PackedSequence, without packing or sorting.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from weft._arrays import to_int64
from weft.torch import ops
from weft.torch.function import Layer, step

if TYPE_CHECKING:
    from collections.abc import Iterable

_WARNED: set[tuple[type, str]] = set()


def obstacle(tensors: Iterable[Any]) -> str | None:
    """Why weft cannot run on these tensors, here and now, or None."""
    if not torch.compiler.is_compiling():
        if torch.jit.is_tracing():
            return "it is being traced by torch.jit"
        if torch._C._functorch.maybe_current_level() is not None:
            return "a function transform (torch.func) is at work"
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor):
            return f"an argument is of type {type(tensor).__name__}"
        if not tensor.is_cpu:
            return f"a tensor is on {tensor.device}"
        if tensor.dtype is not torch.float32:
            return f"a tensor is {tensor.dtype}"
        if tensor.layout is not torch.strided:
            return f"a tensor is {tensor.layout}"
        if not torch.compiler.is_compiling() and (tensor.is_neg() or tensor._is_zerotensor()):
            return "a tensor is a lazy view"
    return None


def _fall_back(module: Any, reason: str) -> None:
    """Says once what runs PyTorch's own forward."""
    key = type(module), reason
    if key not in _WARNED and not torch.compiler.is_compiling():
        _WARNED.add(key)
        warnings.warn(
            f"weft.torch.{type(module).__name__}: {reason}; torch's own forward runs instead",
            stacklevel=3,
        )


class _Sequence(torch.nn.RNNBase):
    """What LSTM, GRU and RNN share."""

    theirs: Any
    """PyTorch's class, for its ``forward``."""

    def forward(self: Any, input: Any, hx: Any = None, *, lengths: Any = None) -> Any:
        """As the class of torch.nn of the same name: (y, h_n), for an LSTM (y, (h_n, c_n)).

        input    float32 [T, B, I], [B, T, I] with batch_first, [T, I], or a PackedSequence
        hx       h_0 [D*L, B, H], for an LSTM (h_0, c_0); zero when left out
        lengths  integers [B] in 0..T, in any order: row b ends after lengths[b] steps. Its output
                 is zero from there on, and its final state is the one at its end

        Raises ValueError or RuntimeError for a shape or value that does not fit, TypeError for
        another kind of object.
        """
        packed_input = isinstance(input, PackedSequence)
        name = f"weft.torch.{type(self).__name__}"
        if lengths is not None and packed_input:
            raise ValueError(f"{name}: lengths are given with a PackedSequence, which has its own")
        lstm = self.mode == "LSTM"
        states = () if hx is None else tuple(hx) if lstm and isinstance(hx, tuple) else (hx,)
        weights = self._weights()
        used = (w for layer in weights for w in layer if w is not None)
        reason = obstacle((input.data if packed_input else input, *states, *used))
        if reason is None and packed_input and torch.compiler.is_compiling():
            reason = "a PackedSequence is being compiled"
        if reason is None and lstm and len(states) == 1:
            reason = "the state is no pair"  # PyTorch says what is wrong with it
        if reason is not None:
            if lengths is not None:
                return self._with_lengths(input, hx, lengths, reason)
            _fall_back(self, reason)
            return self.theirs.forward(self, input, hx)
        if packed_input:
            return self._packed(input, states, weights)
        return self._padded(input, states, weights, lengths, self.batch_first)

    def _weights(self: Any) -> list[tuple[Any, ...]]:
        """The tensors of each layer, direction by direction, as they are now."""
        names = ["weight_ih", "weight_hh"] + ["bias_ih", "bias_hh"] * bool(self.bias)
        ends = ("", "_reverse") if self.bidirectional else ("",)
        own = self._parameters
        absent = (None,) * (not self.bias) * 2
        result = []
        for index in range(self.num_layers):
            layer: tuple[Any, ...] = ()
            for end in ends:
                full = [f"{name}_l{index}{end}" for name in names]
                layer += tuple(own[n] if n in own else getattr(self, n) for n in full) + absent
                if self.proj_size:
                    layer += (getattr(self, f"weight_hr_l{index}{end}"),)
            result.append(layer)
        return result

    def _with_lengths(self: Any, input: Any, hx: Any, lengths: Any, reason: str) -> Any:
        """``lengths`` where PyTorch's forward runs, which wants one step at least of each row."""
        _fall_back(self, reason)
        name = f"weft.torch.{type(self).__name__}"
        lengths = torch.as_tensor(to_int64(name, "lengths", lengths))
        if input.dim() != 3 or (lengths < 1).any():
            raise ValueError(
                f"{name}: lengths are {lengths.tolist()} for an input of {input.dim()} dimensions, "
                f"expected at least 1 and a batch where torch's own forward runs ({reason})"
            )
        total = input.shape[1 if self.batch_first else 0]
        data = pack_padded_sequence(input, lengths, self.batch_first, enforce_sorted=False)
        y, state = self.theirs.forward(self, data, hx)
        return pad_packed_sequence(y, self.batch_first, total_length=total)[0], state

    def _packed(
        self: Any, input: PackedSequence, states: tuple[Any, ...], weights: list[tuple[Any, ...]]
    ) -> Any:
        """Rows in the caller's order go through as a padded batch, and back."""
        self.check_input(input.data, input.batch_sizes)
        x, lengths = pad_packed_sequence(input)
        y, state = self._padded(x, states, weights, lengths, False)
        if input.sorted_indices is not None:
            y = y.index_select(1, input.sorted_indices)
            lengths = lengths[input.sorted_indices]
        data = pack_padded_sequence(y, lengths)
        return data._replace(
            sorted_indices=input.sorted_indices, unsorted_indices=input.unsorted_indices
        ), state

    def _padded(
        self: Any,
        x: Any,
        states: tuple[Any, ...],
        weights: list[tuple[Any, ...]],
        lengths: Any,
        batch_first: bool,
    ) -> Any:
        name = f"weft.torch.{type(self).__name__}"
        if x.dim() not in (2, 3):
            raise ValueError(f"{name}: input has {x.dim()} dimensions, expected 2 or 3")
        unbatched = x.dim() == 2
        if unbatched:
            x, states = x.unsqueeze(1), tuple(s.unsqueeze(1) for s in states)
            batch_first = False
        D, H = 1 + self.bidirectional, self.hidden_size
        B, S = x.shape[0 if batch_first else 1], self.proj_size or H
        if x.shape[2] != self.input_size:
            raise RuntimeError(
                f"{name}: input has size {x.shape[2]}, expected input_size = {self.input_size}"
            )
        for state, size in zip(states, (S, H), strict=False):
            expected = (self.num_layers * D, B, size)
            if tuple(state.shape) != expected:
                raise RuntimeError(
                    f"{name}: hx has shape {tuple(state.shape)}, expected {expected}"
                )
        compiling = torch.compiler.is_compiling()
        if lengths is not None:
            lengths = torch.as_tensor(lengths) if compiling else to_int64(name, "lengths", lengths)
        mode = self.mode.partition("_")[0].lower()  # RNN_TANH, RNN_RELU
        activation = "relu" if self.mode == "RNN_RELU" else "tanh"
        finals = []
        for index in range(self.num_layers):
            if index and self.dropout:
                x = torch.nn.functional.dropout(x, self.dropout, self.training)
            layer = Layer(name, mode, x.shape[2], H, self.proj_size, D, activation)
            h, c = (*(s[index * D : (index + 1) * D] for s in states), None, None)[:2]
            call = (layer, weights[index], lengths, batch_first, x, h, c)
            x, *final = ops.step(*call) if compiling else step(self, index, *call)
            finals.append(final)
        ends = [
            parts[0] if len(parts) == 1 else torch.cat(parts)
            for parts in zip(*finals, strict=True)
            if parts[0] is not None
        ]
        if unbatched:
            x, ends = x.squeeze(1), [end.squeeze(1) for end in ends]
        return x, tuple(ends) if self.mode == "LSTM" else ends[0]


class LSTM(_Sequence):
    """torch.nn.LSTM on weft's kernels, forward and backward.

    >>> import torch, weft.torch
    >>> m = weft.torch.LSTM(8, 16, num_layers=2)
    >>> y, (h_n, c_n) = m(torch.zeros(5, 3, 8), lengths=[5, 2, 4])
    >>> y.sum().backward()
    >>> m.weight_hh_l1.grad.shape
    torch.Size([64, 16])
    """

    theirs = torch.nn.LSTM
    check_forward_args = torch.nn.LSTM.check_forward_args
    get_expected_cell_size = torch.nn.LSTM.get_expected_cell_size
    permute_hidden = torch.nn.LSTM.permute_hidden

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__("LSTM", *args, **options)


class GRU(_Sequence):
    """torch.nn.GRU on weft's kernels, forward and backward.

    >>> import torch, weft.torch
    >>> theirs, ours = torch.nn.GRU(8, 16), weft.torch.GRU(8, 16)
    >>> ours.load_state_dict(theirs.state_dict())
    <All keys matched successfully>
    """

    theirs = torch.nn.GRU

    def __init__(self, *args: Any, **options: Any) -> None:
        if "proj_size" in options:
            raise ValueError("weft.torch.GRU: proj_size is given, which only LSTM has")
        super().__init__("GRU", *args, **options)


class RNN(_Sequence):
    """torch.nn.RNN on weft's kernels, forward and backward.

    >>> import torch, weft.torch
    >>> weft.torch.RNN(8, 16, nonlinearity="relu")(torch.zeros(5, 3, 8))[0].shape
    torch.Size([5, 3, 16])
    """

    theirs = torch.nn.RNN

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        **options: Any,
    ) -> None:
        if "proj_size" in options:
            raise ValueError("weft.torch.RNN: proj_size is given, which only LSTM has")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"weft.torch.RNN: nonlinearity is {nonlinearity!r}, expected 'tanh' or 'relu'"
            )
        self.nonlinearity = nonlinearity
        mode = f"RNN_{nonlinearity.upper()}"
        super().__init__(mode, input_size, hidden_size, num_layers, *args, **options)


class _Cell:
    """What the cells share: a sequence of one step."""

    def forward(self: Any, input: Any, hx: Any = None) -> Any:
        """As the class of torch.nn."""
        lstm = isinstance(self, torch.nn.LSTMCell)
        states = () if hx is None else tuple(hx) if lstm else (hx,)
        weights = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        reason = obstacle((input, *states, *(w for w in weights if w is not None)))
        if reason is None and torch.compiler.is_compiling():
            reason = "a cell is being compiled"
        rows = input.dim() if reason is None else 0
        if reason is None and (rows not in (1, 2) or any(s.dim() != rows for s in states)):
            reason = "its arguments do not fit"  # PyTorch says how
        elif reason is None:
            shapes = [(*input.shape[:-1], self.hidden_size)] * len(states)
            fits = [tuple(s.shape) for s in states] == shapes
            if input.shape[-1] != self.input_size or not fits:
                reason = "its arguments do not fit"
        if reason is not None:
            _fall_back(self, reason)
            return super().forward(input, hx)  # type: ignore[misc]
        x = input[None] if rows == 2 else input[None, None]
        h, c = (*(s[None] if rows == 2 else s[None, None] for s in states), None, None)[:2]
        mode = "lstm" if lstm else "gru" if isinstance(self, torch.nn.GRUCell) else "rnn"
        layer = Layer(
            f"weft.torch.{type(self).__name__}",
            mode,
            self.input_size,
            self.hidden_size,
            0,
            1,
            getattr(self, "nonlinearity", "tanh"),
        )
        _, *ends = step(self, 0, layer, weights, None, False, x, h, c)
        row = (0,) if rows == 2 else (0, 0)
        return (ends[0][row], ends[1][row]) if lstm else ends[0][row]


class LSTMCell(_Cell, torch.nn.LSTMCell):
    """torch.nn.LSTMCell on weft's kernels, forward and backward.

    >>> import torch, weft.torch
    >>> h, c = weft.torch.LSTMCell(8, 16)(torch.zeros(3, 8))
    >>> h.shape, c.shape
    (torch.Size([3, 16]), torch.Size([3, 16]))
    """

    theirs = torch.nn.LSTMCell


class GRUCell(_Cell, torch.nn.GRUCell):
    """torch.nn.GRUCell on weft's kernels, forward and backward.

    >>> import torch, weft.torch
    >>> weft.torch.GRUCell(8, 16)(torch.zeros(8)).shape
    torch.Size([16])
    """

    theirs = torch.nn.GRUCell


class RNNCell(_Cell, torch.nn.RNNCell):
    """torch.nn.RNNCell on weft's kernels, forward and backward.

    >>> import torch, weft.torch
    >>> weft.torch.RNNCell(8, 16, nonlinearity="relu")(torch.zeros(3, 8)).shape
    torch.Size([3, 16])
    """

    theirs = torch.nn.RNNCell


CLASSES: dict[type, type] = {
    torch.nn.LSTM: LSTM,
    torch.nn.GRU: GRU,
    torch.nn.RNN: RNN,
    torch.nn.LSTMCell: LSTMCell,
    torch.nn.GRUCell: GRUCell,
    torch.nn.RNNCell: RNNCell,
}
