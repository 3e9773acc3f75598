"""This module runs a recurrent layer on treadle's kernels for PyTorch's autograd, on tensors.

`run_layer` is what the modules call. `sequence_inputs` and `backward` know nothing of graphs; the
operators of `treadle.torch.ops` use them too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from treadle._inputs.sequence import SequenceInputs
from treadle.torch.tensors import shared_array
from treadle.torch.weight_cache import LayerWeights

if TYPE_CHECKING:
    from typing import TypeAlias

    from treadle import _core
    from treadle._inputs.types import ArrayLike, Float
    from treadle.torch.tensors import TensorLike
    from treadle.torch.weight_cache import PackedLayer, PlacedWeights

    # These are plain tuples, since a named tuple takes a quarter of a microsecond of every call.
    States: TypeAlias = tuple[TensorLike | None, TensorLike | None]
    """(h, c): None for zeros, and for the c of a layer that has none."""
    Rows: TypeAlias = tuple[ArrayLike | None, bool]
    """(lengths, batch_first): the steps of each row, and how rows lie in x."""


RESULTS = ("y", "h_n", "c_n")
"""The names of the results, by which a backward pass takes their gradients."""


def sequence_inputs(
    x: TensorLike, h: TensorLike | None, c: TensorLike | None, rows: Rows
) -> SequenceInputs:
    """Return arrays that share the memory of tensors whose last axes are contiguous."""
    return SequenceInputs(
        shared_array(x), shared_array(h), shared_array(c), rows[0], batch_first=rows[1]
    )


def backward(
    native: _core.RecurrentStack,
    weights: LayerWeights,
    inputs: SequenceInputs,
    results: tuple[Float, Float],
    grads: dict[str, Float | None],
    want_x: bool = True,
) -> list[Float | None]:
    """Return the gradients of x, h and c (None where there is none), then those of the weights.

    ``results`` are y and what the forward pass has saved, ``grads`` the gradients of `RESULTS`,
    None for zeros. The gradients of the weights are in the order of ``weights.arrays``.
    """
    y, saved = results
    found = native.backward(
        inputs,
        weights=weights.named,
        y=y,
        saved=saved,
        grads=grads,
        want_x=want_x,
    )
    flat = [
        own[name]
        for arrays, own in zip(weights.named, found["weights"], strict=True)
        for name in arrays
    ]
    return [found["x"], found["h_0"], found["c_0"], *flat]


class _Context(Protocol):
    """PyTorch's context of a call, with what `_Run` leaves in it."""

    weights: PlacedWeights
    packed: PackedLayer
    rows: Rows
    saved: Float

    @property
    def saved_tensors(self) -> tuple[TensorLike, ...]: ...
    @property
    def needs_input_grad(self) -> tuple[bool, ...]: ...
    def save_for_backward(self, *tensors: TensorLike | None) -> None: ...
    def set_materialize_grads(self, value: bool) -> None: ...


class _Run(torch.autograd.Function):
    """The function of autograd that makes (y, h_n, c_n or None) from x, h, c and the weights."""

    @staticmethod
    def forward(
        ctx: _Context,
        weights: PlacedWeights,
        packed: PackedLayer,
        rows: Rows,
        x: TensorLike,
        h: TensorLike | None,
        c: TensorLike | None,
        *tensors: TensorLike,
    ) -> tuple[TensorLike | None, ...]:
        inputs = sequence_inputs(x, h, c, rows)
        y, h_n, c_n, ctx.saved = packed.native.run(inputs, save=True)
        results = _tensors(y, h_n, c_n)
        ctx.weights, ctx.packed, ctx.rows = weights, packed, rows
        # PyTorch raises where one of these has been changed in place before the backward pass.
        ctx.save_for_backward(x, h, c, results[0], *tensors)
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx: _Context, *upstream: TensorLike | None) -> tuple[TensorLike | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True; once_differentiable would let it pass
            raise RuntimeError(
                "treadle.torch has no second derivatives (create_graph=True): use torch.nn's "
                "module, for an accelerated model after treadle.torch.restore(model)"
            )
        x, h, c, y, *tensors = ctx.saved_tensors
        packed, placed = ctx.packed, ctx.weights
        lie_there = placed.lie_in(tensors)
        weights = placed if lie_there else LayerWeights(packed.layer, tensors)
        grads = {
            name: None if grad is None else shared_array(grad.contiguous())
            for name, grad in zip(RESULTS, upstream, strict=True)
        }
        wanted = ctx.needs_input_grad[3:]  # without those of weights, packed and rows
        gradients = backward(
            packed.native,
            weights,
            sequence_inputs(x, h, c, ctx.rows),
            (shared_array(y), ctx.saved),
            grads,
            wanted[0],
        )
        return (
            None,
            None,
            None,
            *[
                torch.from_numpy(gradient) if want else None
                for gradient, want in zip(gradients, wanted, strict=True)
            ],
        )


def _tensors(
    y: Float, h_n: Float, c_n: Float | None
) -> tuple[TensorLike, TensorLike, TensorLike | None]:
    """Return the results of a forward pass as tensors; c_n is None but for an LSTM."""
    tensor = torch.from_numpy
    return tensor(y), tensor(h_n), None if c_n is None else tensor(c_n)


def run_layer(
    packed: PackedLayer,
    weights: PlacedWeights,
    tensors: tuple[TensorLike, ...],
    states: States,
    x: TensorLike,
    rows: Rows,
) -> tuple[TensorLike, TensorLike, TensorLike | None]:
    """Run a layer, recorded for autograd if a gradient is wanted: (y, h_n, c_n or None).

    ``tensors`` hold the memory of the weights, ``states`` are h and c.
    """
    h, c = states
    x = x if x.stride(-1) == 1 else x.contiguous()
    h = None if h is None else h.contiguous()
    c = None if c is None else c.contiguous()
    if torch.is_grad_enabled():
        for tensor in (x, h, c, *tensors):
            if tensor is not None and tensor.requires_grad:
                y, h_n, c_n = _Run.apply(weights, packed, rows, x, h, c, *tensors)
                return y, h_n, c_n
    return _tensors(*packed.native.run(sequence_inputs(x, h, c, rows)))
