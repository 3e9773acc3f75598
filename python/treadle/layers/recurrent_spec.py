"""This module describes a recurrent net without its weights, and packs it into its native form.

Modules, cells, functions and guests describe the net that they run as a `RecurrentSpec` and hand it
weights by name. Nothing else constructs a native recurrent net or knows the shapes of its weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from treadle import _core
from treadle.layers.activation import parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from treadle.layers.activation import Activation
    from treadle.layers.build import Shapes

# The numbers of gates, G. PyTorch's order of a weight's rows is i, f, g, o (LSTM) or r, z, n (GRU).
GATES = _core.gate_counts()


class RecurrentSpec(NamedTuple):
    """A recurrent net: L layers of one mode, with every option that the kernels have.

    mode                "rnn", "lstm" or "gru"
    input_size          I
    hidden_size         H
    proj_size           P of an LSTM with a projection, else 0
    num_layers          L
    direction           "forward", "reverse" or "bidirectional"
    bias                there are bias_ih and bias_hh
    peepholes           an LSTM's gates see the cell state (ONNX's input P)
    activation          the activation of the candidate, which is the only one of an RNN
    recurrent_activation  the activation of the gates
    output_activation   act in an LSTM's h = o * act(c); None: the same as ``activation``
    clip                the pre-activations of all gates stay in [-clip, clip]; None: they are free
    input_forget        an LSTM's f is 1 - i
    reset_after         a GRU's reset gate follows the product with h
    dtype               the dtype of the matrices: "float32", "bfloat16" or "int8"; or a tuple with
                        that of each layer
    """

    mode: str
    input_size: int
    hidden_size: int
    proj_size: int = 0
    num_layers: int = 1
    direction: str = "forward"
    bias: bool = True
    peepholes: bool = False
    activation: Activation = "tanh"
    recurrent_activation: Activation = "sigmoid"
    output_activation: Activation = None
    clip: float | None = None
    input_forget: bool = False
    reset_after: bool = True
    dtype: str | tuple[str, ...] = "float32"

    @property
    def directions(self) -> int:
        """The number of directions, D."""
        return 2 if self.direction == "bidirectional" else 1

    @property
    def state_size(self) -> int:
        """The size of h: P with a projection, else H."""
        return self.proj_size or self.hidden_size

    def shapes(self, layer: int = 0) -> Shapes:
        """Return the shapes of a direction's arrays in PyTorch's order, peepholes last."""
        hidden, state = self.hidden_size, self.state_size
        rows = GATES[self.mode] * hidden
        inputs = self.directions * state if layer else self.input_size
        shapes: Shapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, state)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, hidden)
        if self.peepholes:
            shapes["peepholes"] = (3 * hidden,)
        return shapes

    def pack(
        self, function: str, weights: Sequence[Mapping[str, Any]], *, packed: bool = True
    ) -> _core.RecurrentStack:
        """Pack the native net from the arrays of each layer, one direction after the other.

        Without ``packed`` the net keeps the arrays and reads them in every call, as they are then.
        Its results have the same bits.

        The matrices are in the form of the dtype; an array that the net does not have is None or is
        left out. Raises ValueError for an unknown activation, and TypeError or ValueError for an
        array that does not fit. Errors begin with ``function``.
        """
        candidate = parse(function, "activation", self.activation)
        output = candidate
        if self.output_activation is not None:
            output = parse(function, "output_activation", self.output_activation)
        gates = parse(function, "recurrent_activation", self.recurrent_activation)
        return _core.RecurrentStack(
            function,
            [dict(arrays) for arrays in weights],
            mode=self.mode,
            input_size=self.input_size,
            hidden_size=self.hidden_size,
            proj_size=self.proj_size,
            num_layers=self.num_layers,
            direction=self.direction,
            # These are ONNX's letters: f for the gates, g for the candidate, h for the output.
            activations={"f": gates, "g": candidate, "h": output},
            clip=0.0 if self.clip is None else self.clip,
            input_forget=self.input_forget,
            reset_after=self.reset_after,
            dtype=self.dtype if isinstance(self.dtype, str) else list(self.dtype),
            packed=packed,
        )
