"""Custom operators run one recurrent layer in the graphs of torch.compile and torch.export.

Eager calls take `treadle.torch.autograd` instead, whose way is shorter. ``weights`` are those of
`RecurrentLayer.names`, of one direction after the other. Where a result has no part, an operator
returns an empty tensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from treadle import _core
from treadle.torch import formula
from treadle.torch.autograd import RESULTS, backward, sequence_inputs
from treadle.torch.fallback import fall_back, refuse_tangents, transform
from treadle.torch.tensors import shared_array
from treadle.torch.weight_cache import LayerWeights, RecurrentLayer, StorageWeights

if TYPE_CHECKING:
    from treadle._inputs.sequence import SequenceInputs
    from treadle._inputs.types import AnyArray
    from treadle.torch.autograd import Rows, States
    from treadle.torch.tensors import TensorLike

_LAYER = (
    "str mode, int hidden_size, int proj_size, bool bias, int directions, str activation, "
    "str recurrent_activation, bool reset_after"
)
_FORWARD = (
    "(Tensor x, Tensor? h, Tensor? c, Tensor[] weights, Tensor? lengths, Tensor? mask, "
    f"{_LAYER}, bool batch_first, bool save) -> (Tensor, Tensor, Tensor, Tensor)"
)
_BACKWARD = (
    "(Tensor x, Tensor? h, Tensor? c, Tensor[] weights, Tensor? lengths, Tensor? mask, "
    "Tensor y, Tensor saved, Tensor? dy, Tensor? dh_n, Tensor? dc_n, "
    f"{_LAYER}, bool batch_first) -> Tensor[]"
)

_PACKED = StorageWeights()


class _Call(NamedTuple):
    """The arguments of the forward operator, in the order of its schema."""

    x: TensorLike
    h: TensorLike | None
    c: TensorLike | None
    weights: list[TensorLike]
    lengths: TensorLike | None
    mask: TensorLike | None
    mode: str
    hidden_size: int
    proj_size: int
    bias: bool
    directions: int
    activation: str
    recurrent_activation: str
    reset_after: bool
    batch_first: bool
    save: bool = True

    @property
    def layer(self) -> RecurrentLayer:
        return RecurrentLayer.of_form("treadle.torch", self.x.shape[2], self[6:14])

    def native(self) -> _core.RecurrentStack:
        """Return the native layer."""
        layer, shape = self.layer, self.x.shape
        weights = LayerWeights(layer, self.weights)
        rows = shape[0] * shape[1]
        return _PACKED.get(layer, self.weights, weights, rows, self.save).native

    def inputs(self) -> SequenceInputs:
        h, c = (None if state is None else state.contiguous() for state in (self.h, self.c))
        rows = _dense(self.lengths), _dense(self.mask), self.batch_first
        return sequence_inputs(self.x.contiguous(), h, c, rows)

    def states(self) -> list[TensorLike]:
        """Allocate h_n, and c_n or an empty tensor, without setting their numbers."""
        x, H, D = self.x, self.hidden_size, self.directions
        B = x.shape[0 if self.batch_first else 1]
        shapes = (D, B, self.proj_size or H), (D, B, H) if self.mode == "lstm" else (0,)
        return [x.new_empty(shape) for shape in shapes]


class _Saved(NamedTuple):
    """The arguments of the backward operator that its forward operator does not have."""

    y: TensorLike
    saved: TensorLike
    dy: TensorLike | None
    dh_n: TensorLike | None
    dc_n: TensorLike | None


def _split(arguments: tuple[Any, ...]) -> tuple[_Call, _Saved]:
    """Split the arguments of the backward operator, which have the order of its schema."""
    return _Call(*arguments[:6], *arguments[11:]), _Saved(*arguments[6:11])


def _dense(tensor: TensorLike | None) -> AnyArray | None:
    return None if tensor is None else shared_array(tensor.contiguous())


@torch.library.custom_op("treadle::recurrent", mutates_args=(), device_types="cpu", schema=_FORWARD)
def recurrent(*arguments: Any) -> tuple[TensorLike, ...]:
    """Run one layer: (y, h_n, c_n, saved)."""
    refuse_tangents("treadle.recurrent")
    call = _Call(*arguments)
    inputs = call.inputs()
    outputs = call.native().run(inputs, save=call.save)
    if call.save:
        # Nothing is saved for steps beyond a row's end or masked. But an operator must return the
        # same numbers in every run, even numbers that nobody reads.
        saved = outputs[3]
        if inputs.lengths is not None:
            saved[:, np.arange(saved.shape[1])[:, None] >= inputs.lengths] = 0
        if inputs.mask is not None:
            saved[:, ~inputs.mask.T] = 0
    found = [call.x.new_empty(0) if a is None else torch.from_numpy(a) for a in outputs]
    return *found, *[call.x.new_empty(0)] * (4 - len(found))


@recurrent.register_fake
def _(*arguments: Any) -> tuple[TensorLike, ...]:
    call = _Call(*arguments)
    x, D, H = call.x, call.directions, call.hidden_size
    T, B = (x.shape[1], x.shape[0]) if call.batch_first else x.shape[:2]
    size = _core.saved_size(
        call.mode, H, activation=call.activation.split(" ")[0], reset_after=call.reset_after
    )
    saved = (D, T, B, size) if call.save else (0,)
    y = x.new_empty((x.shape[0], x.shape[1], D * (call.proj_size or H)))
    return y, *call.states(), x.new_empty(saved)


@torch.library.custom_op(
    "treadle::recurrent_backward", mutates_args=(), device_types="cpu", schema=_BACKWARD
)
def recurrent_backward(*arguments: Any) -> list[TensorLike]:
    """Return the gradients of x, h, c and the weights."""
    call, (y, saved, *upstream) = _split(arguments)
    layer = call.layer
    weights = LayerWeights(layer, call.weights)
    grads = {name: _dense(grad) for name, grad in zip(RESULTS, upstream, strict=True)}
    if call.mode != "lstm":
        grads["c_n"] = None  # PyTorch hands over a gradient of the empty tensor
    gradients = backward(
        weights.unpacked(layer).native,
        weights,
        call.inputs(),
        (shared_array(y.contiguous()), shared_array(saved.contiguous())),
        grads,
    )
    return [call.x.new_empty(0) if g is None else torch.from_numpy(g) for g in gradients]


@recurrent_backward.register_fake
def _(*arguments: Any) -> list[TensorLike]:
    call, _ = _split(arguments)
    return [
        call.x.new_empty(call.x.shape),
        *call.states(),
        *(weight.new_empty(weight.shape) for weight in call.weights),
    ]


class _Context(Protocol):
    """PyTorch's context of a call, with what `_setup` leaves in it."""

    form: tuple[Any, ...]

    @property
    def saved_tensors(self) -> tuple[Any, ...]: ...
    def save_for_backward(self, *tensors: TensorLike | None) -> None: ...
    def set_materialize_grads(self, value: bool) -> None: ...


def _setup(ctx: _Context, inputs: tuple[Any, ...], output: tuple[TensorLike, ...]) -> None:
    x, h, c, weights, lengths, mask, *form, _ = inputs
    y, _, _, saved = output
    ctx.save_for_backward(x, h, c, lengths, mask, y, saved, *weights)
    ctx.form = tuple(form)
    ctx.set_materialize_grads(False)


def _backward(ctx: _Context, *upstream: TensorLike | None) -> tuple[Any, ...]:
    x, h, c, lengths, mask, y, saved, *weights = ctx.saved_tensors
    dx, dh, dc, *rest = torch.ops.treadle.recurrent_backward(
        x, h, c, weights, lengths, mask, y, saved, *upstream[:3], *ctx.form
    )
    states = [dh if h is not None else None, dc if c is not None else None]
    return dx, *states, rest, None, None, *[None] * (len(ctx.form) + 1)


recurrent.register_autograd(_backward, setup_context=_setup)


def run_layer(
    layer: RecurrentLayer,
    weights: tuple[TensorLike, ...],
    states: States,
    x: TensorLike,
    rows: Rows,
) -> tuple[TensorLike, TensorLike, TensorLike | None]:
    """Run a layer by an operator, which modes see and graphs keep: (y, h_n, c_n or None).

    A transform takes `treadle.torch.formula` instead.
    """
    reason = None if torch.compiler.is_compiling() else transform()
    if reason is not None:
        name = layer.function.removeprefix("treadle.torch.")
        fall_back(name, reason, "a formula of torch's operators")
        return formula.recurrent(layer, weights, states, x, rows)
    *found, batch_first = rows
    given = [None if rows is None else torch.as_tensor(rows) for rows in found]
    y, h_n, c_n, _ = torch.ops.treadle.recurrent(
        x, *states, list(weights), *given, *layer.form, batch_first, torch.is_grad_enabled()
    )
    return y, h_n, c_n if layer.mode == "lstm" else None
