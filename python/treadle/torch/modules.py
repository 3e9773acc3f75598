"""torch.nn's recurrent modules on treadle's kernels: the same parameters, state_dict and results.

Each class derives from PyTorch's and differs from it in ``forward`` alone: parameters, state_dict,
hooks, pickling and copying are PyTorch's own, and ``isinstance(m, torch.nn.LSTM)`` is true.
torch.compile does not let torch.nn.LSTM, GRU and RNN into a graph; `treadle.torch.dynamo` tells it
that these classes may pass.

PyTorch's ``forward`` runs with the same parameters where treadle cannot, and a warning says so once
for each class and reason: for tensors that are not float32 or not on the CPU, under autocast
(PyTorch casts, treadle does not) and torch.jit's tracing. In a graph of torch.compile, torch.export
or make_fx, and under any mode of PyTorch (FLOP counters, fake tensors), a layer is one operator,
which the graph keeps and the mode sees; a PackedSequence runs PyTorch's ``forward`` there. For
torch.func's transforms, forward-mode derivatives, batches of gradients and second derivatives
(create_graph=True) a formula of PyTorch's operators runs, `treadle.torch.formula`, and a warning
says so. torch.jit.script compiles PyTorch's module with the same parameters.

Beside PyTorch's arguments there is ``lengths``, integers [B] in any order: the steps of a padded
batch that count, as with a PackedSequence, without packing or sorting.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from treadle._inputs.arrays import to_int64
from treadle._public import published
from treadle.torch import dynamo, ops
from treadle.torch.autograd import run_layer, run_short
from treadle.torch.fallback import fall_back, obstacle, undisturbed, watched
from treadle.torch.tensors import plain_states
from treadle.torch.tools import ForTools, node_of
from treadle.torch.weight_cache import layer_of, weights_of

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike
    from treadle.torch.autograd import Rows
    from treadle.torch.tensors import State, TensorLike
    from treadle.torch.weight_cache import ModuleWeights, PlacedWeights, RecurrentLayer


# PyTorch's names of modes, each with treadle's name and the activation of its candidate.
_MODES = {
    "LSTM": ("lstm", "tanh"),
    "GRU": ("gru", "tanh"),
    "RNN_TANH": ("rnn", "tanh"),
    "RNN_RELU": ("rnn", "relu"),
}


class _LayerTensors(NamedTuple):
    """The weights of one layer in one call."""

    tensors: tuple[TensorLike, ...]
    placed: PlacedWeights | None
    """Their arrays, where `ModuleWeights.find` has found them."""


class _Sequence(ForTools, torch.nn.RNNBase):
    """The base class of LSTM, GRU and RNN."""

    theirs: type[torch.nn.Module]
    """PyTorch's class, for its ``forward``."""
    _name: str
    """The name that errors begin with."""
    # PyTorch sets these.
    mode: str
    input_size: int
    hidden_size: int
    proj_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    bidirectional: bool
    dropout: float
    training: bool
    _parameters: dict[str, TensorLike]
    _all_weights: list[list[str]]
    _flat_weights: list[TensorLike]
    _flat_weights_names: list[str]

    def forward(
        self,
        input: TensorLike | PackedSequence,
        hx: State | None = None,
        *,
        lengths: ArrayLike | None = None,
    ) -> tuple[TensorLike | PackedSequence, State]:
        """Run as torch.nn's class of the same name does: (y, h_n), or (y, (h_n, c_n)) for an LSTM.

        input    float32 [T, B, I], [B, T, I] with batch_first, [T, I], or a PackedSequence
        hx       h_0 [D*L, B, H], for an LSTM (h_0, c_0); zero when left out
        lengths  integers [B] in 0..T, in any order: row b ends after lengths[b] steps. Its output
                 is zero from there on, and its final state is the state at its end

        Raises RuntimeError for a shape of input or state that does not fit (as PyTorch does;
        ValueError for a number of axes), ValueError for lengths that do not fit or beside a
        PackedSequence, TypeError for lengths that are no integers. The backward pass raises
        RuntimeError where a tensor that it needs has been changed in place.
        """
        if lengths is None and undisturbed():
            found = self._short(input, hx)
            if found is not None:
                return found
        if isinstance(input, torch.fx.Proxy):
            return node_of(self, input, hx, lengths=lengths)
        packed_input = isinstance(input, PackedSequence)
        if lengths is not None and packed_input:
            raise ValueError(
                f"{self._name}: lengths are given with a PackedSequence, which has its own"
            )
        lstm = self.mode == "LSTM"
        states = () if hx is None else hx if isinstance(hx, tuple) else (hx,)
        compiling = watched((input.data if packed_input else input, *states))
        cache = None if compiling else weights_of(self)
        layers = self._layers(cache)
        # Weights that an earlier call has placed had no obstacle then, and have none now.
        new = [tensor for own in layers if own.placed is None for tensor in own.tensors]
        reason = obstacle((input.data if packed_input else input, *states, *new))
        if reason is None and packed_input and compiling:
            reason = "a PackedSequence is being compiled or transformed"
        if reason is None and isinstance(hx, tuple) and not lstm:
            reason = "an argument is of type tuple"
        if reason is None and lstm and len(states) == 1:
            reason = "the state is no pair"  # PyTorch says what is wrong with it
        if reason is not None:
            fall_back(self, reason)
            if lengths is not None:
                return self._with_lengths(input, hx, lengths)
            return self.theirs.forward(self, input, hx)
        if packed_input:
            return self._packed(input, states, layers, cache)
        return self._padded(input, states, layers, (lengths, None, self.batch_first), cache)

    def _short(self, input: TensorLike, hx: State | None) -> tuple[TensorLike, State] | None:
        """Run one layer on plain tensors with weights that an earlier call has placed.

        This is the usual call in a short time. It returns None for any other.
        """
        lstm = self.mode == "LSTM"
        states = plain_states(input, hx, lstm)
        tensors = tuple(self._parameters.values())
        flat = self._flat_weights
        same = len(tensors) == len(flat) and all(map(operator.is_, tensors, flat))
        if states is None or self.num_layers != 1 or not same:
            return None
        cache = weights_of(self)
        placed, shape = cache.find(0, tensors), input.shape
        if placed is None or len(shape) != 3:
            return None
        native = cache.get(0, self._layer(self.input_size), placed, shape[0] * shape[1])
        options = self.batch_first, (self._copies(0), False)
        found: Any = run_short(native, placed, tensors, states, input, *options)
        return found and (found[0], found[1:] if lstm else found[1])

    def _copies(self, index: int) -> bool:
        """Tell whether the caller may change the y of a layer in place, as with PyTorch's.

        That is so for the last layer, but for that of a plain LSTM.
        """
        return index == self.num_layers - 1 and (self.mode != "LSTM" or self.proj_size > 0)

    def _layer(self, input_size: int) -> RecurrentLayer:
        """Return the form of a layer."""
        mode, activation = _MODES[self.mode]
        sizes = input_size, self.hidden_size, self.proj_size
        return layer_of(self._name, mode, *sizes, self.bias, 1 + self.bidirectional, activation)

    def _layers(self, cache: ModuleWeights | None) -> list[_LayerTensors]:
        """Return the tensors of each layer, direction by direction, as they are now."""
        own, D = self._parameters, 1 + self.bidirectional
        if cache is not None and not all(map(operator.is_, own.values(), self._flat_weights)):
            own = self._flat()
        result = []
        for index in range(self.num_layers):
            tensors: tuple[TensorLike, ...] = ()
            for names in self._all_weights[index * D : index * D + D]:
                tensors += tuple([own[n] if n in own else getattr(self, n) for n in names])
            placed = None if cache is None else cache.find(index, tensors)
            result.append(_LayerTensors(tensors, placed))
        return result

    def _flat(self) -> dict[str, TensorLike]:
        """Return the tensors that PyTorch's forward would take, by name, but for computed ones.

        PyTorch runs on the list ``_flat_weights``, which programs that drop out weights write to,
        and makes the list anew where a parameter is another object than before.
        """
        names, own = self._flat_weights_names, self._parameters
        if len(self._flat_weights) != len(names) or any(n not in own for n in names):
            return own
        if self._weights_have_changed():
            self._init_flat_weights()
        return dict(zip(names, self._flat_weights, strict=True))

    def _with_lengths(
        self, input: TensorLike, hx: State | None, lengths: ArrayLike
    ) -> tuple[TensorLike, State]:
        """Run PyTorch's forward on a padded batch with ``lengths``.

        PyTorch wants at least one step of every row: a row without any goes along with a step of
        zeros, and its results are put right afterwards.
        """
        if input.dim() not in (2, 3):
            return self.theirs.forward(self, input, hx)  # PyTorch says what is wrong
        lstm, unbatched = self.mode == "LSTM", input.dim() == 2
        states = () if hx is None else tuple(hx) if lstm or isinstance(hx, tuple) else (hx,)
        if unbatched:
            input, states = input.unsqueeze(1), tuple(s.unsqueeze(1) for s in states)
        rows = 0 if self.batch_first and not unbatched else 1  # the axis of the batch
        T, B = input.shape[1 - rows], input.shape[rows]
        lengths = torch.as_tensor(to_int64(self._name, "lengths", lengths))
        if lengths.shape != (B,) or (lengths < 0).any() or (lengths > T).any():
            raise ValueError(
                f"{self._name}: lengths are {lengths.tolist()}, expected [B] of 0 to T "
                f"with B = {B}, T = {T}"
            )
        empty = (lengths == 0).to(input.device)[:, None]
        outer = empty[:, None] if rows == 0 else empty
        data = pack_padded_sequence(
            input.masked_fill(outer, 0), lengths.clamp(min=1), rows == 0, enforce_sorted=False
        )
        y, ends = self.theirs.forward(
            self, data, (states if lstm else states[0]) if states else None
        )
        y = pad_packed_sequence(y, rows == 0, total_length=T)[0].masked_fill(outer, 0)
        starts = states or (None, None)
        ends = [
            end.masked_fill(empty, 0) if start is None else end.where(~empty, start.to(end.dtype))
            for start, end in zip(starts, ends if lstm else (ends,), strict=False)
        ]
        if unbatched:
            y, ends = y.squeeze(1), [end.squeeze(1) for end in ends]
        return y, tuple(ends) if lstm else ends[0]

    def _packed(
        self,
        input: PackedSequence,
        states: tuple[TensorLike, ...],
        layers: list[_LayerTensors],
        cache: ModuleWeights | None,
    ) -> tuple[PackedSequence, State]:
        """Run a packed sequence as a padded batch, its rows in the caller's order, and pack y."""
        self.check_input(input.data, input.batch_sizes)
        x, lengths = pad_packed_sequence(input)
        y, state = self._padded(x, states, layers, (lengths, None, False), cache, shown=False)
        if input.sorted_indices is not None:
            y = y.index_select(1, input.sorted_indices)
            lengths = lengths[input.sorted_indices]
        data = pack_padded_sequence(y, lengths)
        return data._replace(
            sorted_indices=input.sorted_indices, unsorted_indices=input.unsorted_indices
        ), state

    def _padded(
        self,
        x: TensorLike,
        states: tuple[TensorLike, ...],
        layers: list[_LayerTensors],
        rows: Rows,
        cache: ModuleWeights | None,
        shown: bool = True,
    ) -> tuple[TensorLike, State]:
        """Run a padded batch; ``shown`` says whether the caller gets the y of the last layer."""
        lengths, _, batch_first = rows
        name, D, H, P = self._name, 1 + self.bidirectional, self.hidden_size, self.proj_size
        shape = x.shape
        if len(shape) not in (2, 3):
            raise ValueError(f"{name}: input has {len(shape)} dimensions, expected 2 or 3")
        unbatched = len(shape) == 2
        if unbatched:
            x, states = x.unsqueeze(1), tuple(s.unsqueeze(1) for s in states)
            shape, batch_first = x.shape, False
        if shape[2] != self.input_size:
            raise RuntimeError(
                f"{name}: input has size {shape[2]}, expected input_size = {self.input_size}"
            )
        for state, size in zip(states, (P or H, H), strict=False):
            expected = (len(layers) * D, shape[0 if batch_first else 1], size)
            if state.shape != expected:
                raise RuntimeError(
                    f"{name}: hx has shape {tuple(state.shape)}, expected {expected}"
                )
        if lengths is not None and not (cache is None and isinstance(lengths, torch.Tensor)):
            compiling = torch.compiler.is_compiling()
            lengths = torch.as_tensor(lengths) if compiling else to_int64(name, "lengths", lengths)
        inputs, rows = self.input_size, (lengths, None, batch_first)
        hs: list[TensorLike] = []
        cs: list[TensorLike] = []
        for index, own in enumerate(layers):
            if index and self.dropout:
                x = torch.nn.functional.dropout(x, self.dropout, self.training)
            layer = self._layer(inputs)
            h, c = (*[s[index * D : (index + 1) * D] for s in states], None, None)[:2]
            if cache is None:
                x, h_n, c_n = ops.run_layer(layer, own.tensors, (h, c), x, rows)
                if shown and self._copies(index) and torch.is_grad_enabled():
                    x = x.clone()
            else:
                placed = own.placed
                if placed is None:
                    placed = cache.place(index, layer, own.tensors)
                native = cache.get(index, layer, placed, shape[0] * shape[1])
                how = shown and self._copies(index), False
                x, h_n, c_n = run_layer(native, placed, own.tensors, (h, c), x, rows, how)
            inputs = D * (P or H)
            hs.append(h_n)
            if c_n is not None:
                cs.append(c_n)
        ends = [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in (hs, cs) if parts]
        if unbatched:
            x, ends = x.squeeze(1), [end.squeeze(1) for end in ends]
        return x, tuple(ends) if self.mode == "LSTM" else ends[0]


@published("treadle.torch")
class LSTM(_Sequence, torch.nn.LSTM):
    """torch.nn.LSTM on treadle's kernels, forward and backward.

    It is made as PyTorch's is: ``LSTM(input_size, hidden_size, ...)``. The formula is that of
    `treadle.LSTM`; constructor, parameters and state_dict are PyTorch's.
    Shapes, in the letters T time, B batch, I input, H hidden, P projection (else P = H), D
    directions, L layers::

        input [T, B, I] (batch_first: [B, T, I]; unbatched: [T, I]; or a PackedSequence)
        hx    (h_0 [D*L, B, P], c_0 [D*L, B, H]), unbatched without B; zero when left out
        y     [T, B, D*P], and the pair of final states like hx

    all of one dtype: float32 runs on treadle, PyTorch's other dtypes run on PyTorch. `forward` says
    what ``lengths`` are and which errors are raised.

    Examples
    --------
    >>> import torch, treadle.torch
    >>> m = treadle.torch.LSTM(8, 16, num_layers=2)
    >>> y, (h_n, c_n) = m(torch.zeros(5, 3, 8), lengths=[5, 2, 4])
    >>> y.sum().backward()
    >>> m.weight_hh_l1.grad.shape
    torch.Size([64, 16])
    """

    theirs = torch.nn.LSTM
    _name = "treadle.torch.LSTM"


@published("treadle.torch")
class GRU(_Sequence, torch.nn.GRU):
    """torch.nn.GRU on treadle's kernels, forward and backward.

    It is made as PyTorch's is: ``GRU(input_size, hidden_size, ...)``. The formula is that of
    `treadle.GRU`; constructor, parameters and state_dict are PyTorch's.
    Shapes and dtypes as in `LSTM`, with h_0 [D*L, B, H] for hx and the final state for the second
    result.

    Examples
    --------
    >>> import torch, treadle.torch
    >>> theirs, ours = torch.nn.GRU(8, 16), treadle.torch.GRU(8, 16)
    >>> ours.load_state_dict(theirs.state_dict())
    <All keys matched successfully>
    """

    theirs = torch.nn.GRU
    _name = "treadle.torch.GRU"


@published("treadle.torch")
class RNN(_Sequence, torch.nn.RNN):
    """torch.nn.RNN on treadle's kernels, forward and backward.

    It is made as PyTorch's is: ``RNN(input_size, hidden_size, ...)``. The formula is that of
    `treadle.RNN`; constructor, parameters and state_dict are PyTorch's.
    Shapes and dtypes as in `LSTM`, with h_0 [D*L, B, H] for hx and the final state for the second
    result.

    Examples
    --------
    >>> import torch, treadle.torch
    >>> treadle.torch.RNN(8, 16, nonlinearity="relu")(torch.zeros(5, 3, 8))[0].shape
    torch.Size([5, 3, 16])
    """

    theirs = torch.nn.RNN
    _name = "treadle.torch.RNN"


CLASSES: dict[type, type] = {
    torch.nn.LSTM: LSTM,
    torch.nn.GRU: GRU,
    torch.nn.RNN: RNN,
}

dynamo.let_pass(_Sequence)
