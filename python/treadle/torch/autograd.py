"""This module runs a recurrent layer on treadle's kernels for PyTorch's autograd, on tensors.

`run_layer` is what the modules call. `sequence_inputs` and `backward` know nothing of graphs; the
operators of `treadle.torch.ops` use them too.

All that a backward pass reads is saved by PyTorch's engine: the engine notices where a tensor has
been changed in place, frees the memory when the backward pass is over, and shows what is saved to
the hooks of `torch.autograd.graph` (`save_on_cpu`, and those of gradient checkpointing).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Protocol

import torch

from treadle._inputs.sequence import SequenceInputs
from treadle.torch import formula
from treadle.torch.fallback import fall_back, of_backward, watched
from treadle.torch.tensors import follow_threads, shared_array
from treadle.torch.weight_cache import LayerWeights

if TYPE_CHECKING:
    from typing import TypeAlias

    from treadle import _core
    from treadle._inputs.types import ArrayLike, Float
    from treadle.torch.tensors import TensorLike
    from treadle.torch.weight_cache import NativeLayer, PlacedWeights, RecurrentLayer

    # These are plain tuples, since a named tuple takes a quarter of a microsecond of every call.
    States: TypeAlias = tuple[TensorLike | None, TensorLike | None]
    """(h, c): None for zeros, and for the c of a layer that has none."""
    Rows: TypeAlias = tuple[ArrayLike | None, ArrayLike | None, bool]
    """(lengths, mask, batch_first): the steps of each row, or a mask [B, T]; how rows lie in x."""
    _Call: TypeAlias = tuple[NativeLayer, PlacedWeights, Rows, bool]
    """The arguments of `run_layer` that are no tensors."""


RESULTS = ("y", "h_n", "c_n")
"""The names of the results, by which a backward pass takes their gradients."""


def sequence_inputs(
    x: TensorLike, h: TensorLike | None, c: TensorLike | None, rows: Rows
) -> SequenceInputs:
    """Return arrays that share the memory of tensors whose last axes are contiguous."""
    follow_threads()
    lengths, mask, batch_first = rows
    return SequenceInputs(
        *(shared_array(x), shared_array(h), shared_array(c), lengths, mask),
        batch_first=batch_first,
    )


def backward(
    native: _core.RecurrentStack,
    weights: LayerWeights,
    inputs: SequenceInputs,
    results: tuple[Float, Float],
    grads: dict[str, Float | None],
    wanted: tuple[bool, ...] = (True, True),
) -> list[Float | None]:
    """Return the gradients of x, h and c (None where there is none), then those of the weights.

    ``results`` are y and what the forward pass has saved, ``grads`` the gradients of `RESULTS`,
    None for zeros. The gradients of the weights are in the order of ``weights.arrays``. Those of x
    and h are computed if ``wanted`` says so.
    """
    y, saved = results
    found = native.backward(
        inputs,
        weights=weights.named,
        y=y,
        saved=saved,
        grads=grads,
        want_x=wanted[0],
        want_h=wanted[1],
    )
    flat = [
        own[name]
        for arrays, own in zip(weights.named, found["weights"], strict=True)
        for name in arrays
    ]
    return [found["x"], found["h_0"], found["c_0"], *flat]


class _Context(Protocol):
    """PyTorch's context of a call, with what `_Run` leaves in it."""

    # The context lives as long as the graph, so it keeps nothing large alive. A module holds what
    # this refers to until its weights lie elsewhere.
    layer: RecurrentLayer
    weights: weakref.ref[PlacedWeights]
    batch_first: bool

    @property
    def saved_tensors(self) -> tuple[Any, ...]: ...
    @property
    def needs_input_grad(self) -> tuple[bool, ...]: ...
    def save_for_backward(self, *tensors: TensorLike | None) -> None: ...
    def set_materialize_grads(self, value: bool) -> None: ...


class _Run(torch.autograd.Function):
    """The function of autograd that makes (y, h_n, c_n or None) from x, h, c and the weights."""

    @staticmethod
    def forward(
        ctx: _Context,
        call: _Call,
        x: TensorLike,
        h: TensorLike | None,
        c: TensorLike | None,
        *tensors: TensorLike,
    ) -> tuple[TensorLike | None, ...]:
        found, weights, rows, copies = call
        lengths, mask, batch_first = rows
        y, h_n, c_n, saved = found.native.run(sequence_inputs(x, h, c, rows), save=True)
        results = _tensors(y, h_n, c_n)
        ctx.layer, ctx.batch_first, ctx.weights = found.layer, batch_first, weakref.ref(weights)
        ctx.save_for_backward(
            x,
            h,
            c,
            torch.from_numpy(y.copy()) if copies else results[0],
            torch.from_numpy(saved),
            None if lengths is None else torch.from_numpy(lengths),
            None if mask is None else torch.from_numpy(mask),
            *tensors,
        )
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    def backward(ctx: _Context, *upstream: TensorLike | None) -> tuple[TensorLike | None, ...]:
        # Hooks may have made other tensors of those that were saved.
        x, h, c, y, saved, lengths, mask, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:]
        reason = of_backward(upstream)
        if reason is not None:
            rows = lengths, mask, ctx.batch_first
            own = (x, h, c, *tensors)
            return None, *_gradients_of_formula(ctx.layer, rows, own, wanted, upstream, reason)
        if watched(upstream):
            dx, dh, dc, *rest = torch.ops.treadle.recurrent_backward(
                *(x, h, c, tensors, lengths, mask, y, saved),
                *upstream,
                *ctx.layer.form,
                ctx.batch_first,
            )
            every = zip((dx, dh, dc, *rest), wanted, strict=True)
            return None, *(grad if want else None for grad, want in every)
        placed = ctx.weights()
        if placed is not None and placed.lie_in(tensors):
            weights: LayerWeights = placed
        else:
            weights = LayerWeights(ctx.layer, tensors)
        grads = {
            name: None if grad is None else shared_array(grad.contiguous())
            for name, grad in zip(RESULTS, upstream, strict=True)
        }
        gradients = backward(
            weights.unpacked(ctx.layer).native,
            weights,
            sequence_inputs(
                with_dense_rows(x),
                None if h is None else h.contiguous(),
                None if c is None else c.contiguous(),
                (shared_array(lengths), shared_array(mask), ctx.batch_first),
            ),
            (shared_array(with_dense_rows(y)), shared_array(saved.contiguous())),
            grads,
            wanted,
        )
        return (
            None,
            *[
                torch.from_numpy(gradient) if want else None
                for gradient, want in zip(gradients, wanted, strict=True)
            ],
        )


def _gradients_of_formula(
    layer: RecurrentLayer,
    rows: Rows,
    tensors: tuple[TensorLike | None, ...],
    wanted: tuple[bool, ...],
    upstream: tuple[TensorLike | None, ...],
    reason: str,
) -> list[TensorLike | None]:
    """Return the gradients of x, h, c and the weights by operators that PyTorch differentiates."""
    name = layer.function.removeprefix("treadle.torch.")
    fall_back(name, reason, "a formula of torch's operators")

    def run(*tensors: TensorLike) -> tuple[TensorLike | None, ...]:
        x, h, c, *weights = tensors
        return formula.recurrent(layer, weights, (h, c), x, rows)

    return formula.gradients(run, tensors, wanted, upstream)


def with_dense_rows(tensor: TensorLike) -> TensorLike:
    """Return a tensor whose last axis is contiguous, the given one if it is so."""
    dense = tensor.is_contiguous() or tensor.stride(-1) == 1
    return tensor if dense else tensor.contiguous()


def _tensors(
    y: Float, h_n: Float, c_n: Float | None
) -> tuple[TensorLike, TensorLike, TensorLike | None]:
    """Return the results of a forward pass as tensors; c_n is None but for an LSTM."""
    tensor = torch.from_numpy
    return tensor(y), tensor(h_n), None if c_n is None else tensor(c_n)


def run_layer(
    found: NativeLayer,
    weights: PlacedWeights | None,
    tensors: tuple[TensorLike, ...],
    states: States,
    x: TensorLike,
    rows: Rows,
    copies: bool = False,
) -> tuple[TensorLike, TensorLike, TensorLike | None]:
    """Run a layer, recorded for autograd if a gradient is wanted: (y, h_n, c_n or None).

    ``tensors`` hold the memory of the ``weights``, both left out (None and an empty tuple) where no
    gradient of a weight is wanted. ``states`` are h and c. With ``copies`` the backward
    pass reads a copy of y, so that y may be changed in place.
    """
    h, c = states
    x = with_dense_rows(x)
    h = None if h is None else h.contiguous()
    c = None if c is None else c.contiguous()
    if torch.is_grad_enabled():
        for tensor in (x, h, c, *tensors):
            if tensor is not None and tensor.requires_grad:
                y, h_n, c_n = _Run.apply((found, weights, rows, copies), x, h, c, *tensors)
                return y, h_n, c_n
    return _tensors(*found.native.run(sequence_inputs(x, h, c, rows)))
