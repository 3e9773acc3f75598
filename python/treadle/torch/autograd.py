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
    Ends: TypeAlias = tuple[Any, TensorLike, TensorLike | None]
    """y (None of a step), h_n and c_n (None but for an LSTM)."""
    Results: TypeAlias = tuple[Any, TensorLike, TensorLike | None, TensorLike | None]
    """The `Ends` and what is saved for the backward pass, None if nothing is. The y of a step is
    what the backward pass reads, None if it reads none."""
    How: TypeAlias = tuple[bool, bool]
    """(copies, step), as `run_layer` describes them."""
    _Call: TypeAlias = tuple[RecurrentLayer, PlacedWeights, Rows, How, Results]
    """The arguments of `_Run` that are no tensors of the caller."""


_unwrapped = torch._C._functorch.unwrap_if_dead
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
    step: bool

    @property
    def saved_tensors(self) -> tuple[Any, ...]: ...
    @property
    def needs_input_grad(self) -> tuple[bool, ...]: ...
    def save_for_backward(self, *tensors: TensorLike | None) -> None: ...
    def set_materialize_grads(self, value: bool) -> None: ...


class _Run(torch.autograd.Function):
    """The function of autograd that makes (y, h_n, c_n) from x, h, c and the weights.

    The results are those of a call that has run already.
    """

    @staticmethod
    def forward(
        ctx: _Context,
        call: _Call,
        x: TensorLike,
        h: TensorLike | None,
        c: TensorLike | None,
        *tensors: TensorLike,
    ) -> tuple[TensorLike | None, ...]:
        ctx.layer, weights, (lengths, mask, ctx.batch_first), (copies, ctx.step), results = call
        y, h_n, c_n, saved = results
        ctx.weights = weakref.ref(weights)
        ctx.save_for_backward(
            x,
            h,
            c,
            y.clone() if copies else y,
            saved,
            None if lengths is None else torch.from_numpy(lengths),
            None if mask is None else torch.from_numpy(mask),
            *tensors,
        )
        ctx.set_materialize_grads(False)
        return None if ctx.step else y, h_n, c_n

    @staticmethod
    def backward(ctx: _Context, *upstream: TensorLike | None) -> tuple[TensorLike | None, ...]:
        # Hooks may have made other tensors of those that were saved.
        x, h, c, y, saved, lengths, mask, *tensors = ctx.saved_tensors
        wanted, layer = ctx.needs_input_grad[1:], ctx.layer
        placed = ctx.weights()
        reason = of_backward(upstream)
        seen = reason is None and watched(upstream)
        dense = lengths is None and mask is None and not layer.has_to_pack
        if reason is None and not seen and dense and placed is not None:
            # The native layer gives its form alone: the weights are those that were saved.
            found = placed.unpacked(layer).native.backward_tensors(
                *((x, h, c, y, saved), upstream, tuple(tensors), wanted),
                *(ctx.step, ctx.batch_first),
            )
            if found is not None:
                return None, *found
        given = x, h, c
        if ctx.step:
            x, h, c, y = (_with_axes(tensor) for tensor in (x, h, c, y))
            upstream = tuple(_with_axes(tensor) for tensor in upstream)
        own = (x, h, c, *tensors)
        if y is None:
            y = x.new_zeros((*x.shape[:2], layer.proj_size or layer.hidden_size))
        if saved is None:
            T, B = (x.shape[1], x.shape[0]) if ctx.batch_first else x.shape[:2]
            saved = x.new_zeros((layer.directions, T, B, 0))
        if reason is not None:
            rows = lengths, mask, ctx.batch_first
            grads: list[Any] = _gradients_of_formula(layer, rows, own, wanted, upstream, reason)
        elif seen:
            dx, dh, dc, *rest = torch.ops.treadle.recurrent_backward(
                *(x, h, c, tensors, lengths, mask, y, saved),
                *upstream,
                *layer.form,
                ctx.batch_first,
            )
            grads = [dx, dh, dc, *rest]
        else:
            grads = _gradients_of_arrays(
                placed if placed is not None and placed.lie_in(tuple(tensors)) else None,
                *(layer, own, (lengths, mask, ctx.batch_first), (y, saved), upstream, wanted),
            )
        grads = [grad if want else None for grad, want in zip(grads, wanted, strict=True)]
        for i, tensor in enumerate(given if ctx.step else ()):
            grads[i] = None if grads[i] is None else grads[i].reshape(tensor.shape)
        return None, *grads


# The method of the class that torch.autograd.Function derives from. `Function.apply` first looks at
# every argument for tensors that a function transform has left behind: here there are none.
_apply = super(torch.autograd.Function, _Run).apply


def _forward(
    found: NativeLayer, states: States, x: TensorLike, rows: Rows, step: bool, save: bool
) -> Results:
    """Run a native layer on tensors of any layout."""
    h: Any
    c: Any
    (h, c), (lengths, mask, batch_first) = states, rows
    if lengths is None and mask is None:
        follow_threads()
        results = found.native.run_tensors(x, h, c, step, batch_first, save)
        if results is not None:
            return results
    shape = x.shape
    if step:
        x, h, c = (_with_axes(tensor) for tensor in (x, h, c))
    h = None if h is None else h.contiguous()
    c = None if c is None else c.contiguous()
    arrays = found.native.run(sequence_inputs(with_dense_rows(x), h, c, rows), save=save)
    tensors: list[Any] = [None if a is None else torch.from_numpy(a) for a in arrays]
    y, h_n, c_n, saved = (*tensors, None)[:4]
    if step:
        y, h_n = (tensor.reshape((*shape[:-1], tensor.shape[-1])) for tensor in (y, h_n))
        c_n = None if c_n is None else c_n.reshape(h_n.shape)
    return y, h_n, c_n, saved


def _with_axes(tensor: Any) -> Any:
    """Give a tensor of a step, [B, I] or [I], or None the axes of a sequence of one step."""
    return tensor if tensor is None else tensor.reshape((1,) * (3 - tensor.dim()) + tensor.shape)


def _gradients_of_arrays(
    placed: PlacedWeights | None,
    layer: RecurrentLayer,
    own: tuple[Any, ...],
    rows: Rows,
    results: tuple[TensorLike, TensorLike],
    upstream: tuple[TensorLike | None, ...],
    wanted: tuple[bool, ...],
) -> list[TensorLike | None]:
    """Return the gradients of x, h, c and the weights, from tensors of any layout."""
    (x, h, c, *tensors), (lengths, mask, batch_first), (y, saved) = own, rows, results
    weights = LayerWeights(layer, tensors) if placed is None else placed
    grads = {
        name: None if grad is None else shared_array(grad.contiguous())
        for name, grad in zip(RESULTS, upstream, strict=True)
    }
    gradients = backward(
        weights.unpacked(layer).native,
        weights,
        sequence_inputs(
            with_dense_rows(x),
            None if h is None else h.contiguous(),
            None if c is None else c.contiguous(),
            (shared_array(lengths), shared_array(mask), batch_first),
        ),
        (shared_array(with_dense_rows(y)), shared_array(saved.contiguous())),
        grads,
        wanted,
    )
    return [None if gradient is None else torch.from_numpy(gradient) for gradient in gradients]


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


def run_layer(
    found: NativeLayer,
    weights: PlacedWeights | None,
    tensors: tuple[TensorLike, ...],
    states: States,
    x: TensorLike,
    rows: Rows,
    how: How = (False, False),
) -> Ends:
    """Run a layer, recorded for autograd if a gradient is wanted: (y, h_n, c_n or None).

    ``tensors`` hold the memory of the ``weights``, both left out (None and an empty tuple) where no
    gradient is wanted. ``states`` are h and c. ``how`` is (copies, step): with ``copies`` the
    backward pass reads a copy of y, so that y may be changed in place. A ``step`` is that of a
    cell: x is [B, I] or [I], states have no axis for layers and directions; h_n is the result, and
    y is None or no part of it.
    """
    x, (h, c) = _unwrapped(x), (None if s is None else _unwrapped(s) for s in states)
    if weights is not None and learns((*tensors, x, h, c)):
        results = _forward(found, (h, c), x, rows, how[1], save=True)
        return _record((found.layer, weights, rows, how, results), tensors, (h, c), x)
    return _forward(found, (h, c), x, rows, how[1], save=False)[:3]


def run_short(
    found: NativeLayer,
    weights: PlacedWeights,
    tensors: tuple[TensorLike, ...],
    states: States,
    x: TensorLike,
    batch_first: bool,
    how: How,
) -> Ends | None:
    """Do as `run_layer` does on tensors that are taken as they are; return None for others."""
    follow_threads()
    save = learns((*tensors, x, *states))
    results = found.native.run_tensors(x, *states, how[1], batch_first, save)
    if results is None or not save:
        return None if results is None else results[:3]
    call = found.layer, weights, (None, None, batch_first), how, results
    return _record(call, tensors, states, x)


def _record(call: _Call, tensors: tuple[TensorLike, ...], states: States, x: TensorLike) -> Ends:
    """Record a call for autograd: its results (y, h_n, c_n) as those of a function."""
    y, h_n, c_n = _apply(call, x, *states, *tensors)
    return y, h_n, c_n


def learns(tensors: tuple[TensorLike | None, ...]) -> bool:
    """Tell whether a call on these tensors is recorded for autograd."""
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    return False
