"""One recurrent layer for autograd: tensors in, tensors out, weft's kernels in between."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import torch

from weft import _core


class Layer(NamedTuple):
    """What a layer of one or two directions is made of, beside its weights."""

    function: str
    mode: str
    input_size: int
    hidden_size: int
    proj_size: int
    directions: int
    activation: str

    def pack(self, weights: list[tuple[Any, ...]]) -> _core.Recurrent:
        candidate = (self.activation, 0.0, 0.0)
        return _core.Recurrent(
            self.function,
            self.mode,
            self.input_size,
            self.hidden_size,
            self.proj_size,
            1,
            "bidirectional" if self.directions == 2 else "forward",
            weights,
            {
                "activations": {"f": ("sigmoid", 0.0, 0.0), "g": candidate, "h": candidate},
                "clip": 0.0,
                "input_forget": False,
                "reset_after": True,
            },
        )


class Packed:
    """The packed weights of a module's layers, packed anew whenever a weight has changed.

    Whatever wrote to them (an optimizer, load_state_dict, ``.data``), the values tell: versions of
    tensors do not count writes to ``.data``.
    """

    _MOST = 256  # layers; the one packed first is forgotten

    def __init__(self) -> None:
        self._layers: dict[Any, tuple[list[Any], _core.Recurrent]] = {}

    def get(self, index: Any, layer: Layer, weights: list[tuple[Any, ...]]) -> _core.Recurrent:
        arrays = [a for entry in weights for a in entry if a is not None]
        known = self._layers.get(index)
        if known is not None and _core.same_bits(arrays, known[0]):
            return known[1]
        native = layer.pack(weights)
        self._layers[index] = [a.copy() for a in arrays], native
        if len(self._layers) > self._MOST:
            self._layers.pop(next(iter(self._layers)))
        return native


_PACKED: weakref.WeakKeyDictionary[Any, Packed] = weakref.WeakKeyDictionary()


def packed(module: Any) -> Packed:
    """That of a module, kept beside it: copies and pickles of the module know nothing of it."""
    found = _PACKED.get(module)
    if found is None:
        found = _PACKED[module] = Packed()
    return found


def array(tensor: Any) -> Any:
    return None if tensor is None else tensor.detach().numpy()


def entries(directions: int, weights: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peepholes of each direction."""
    count = len(weights) // directions
    arrays = [None if w is None else array(w.contiguous()) for w in weights]
    return [
        (*arrays[d * count : (d + 1) * count], *[None] * (6 - count)) for d in range(directions)
    ]


def forward(
    native: _core.Recurrent, x: Any, h: Any, c: Any, lengths: Any, batch_first: bool, save: bool
) -> list[Any]:
    """Tensors: y, h_n, c_n and what is saved, None for what is absent."""
    rows = (lengths, None, None, None, None, batch_first)
    arrays = native.run(array(x), array(h), array(c), *rows, save)
    tensors = [None if a is None else torch.from_numpy(a) for a in arrays]
    return tensors if save else [*tensors, None]


def backward(
    native: _core.Recurrent,
    weights: list[tuple[Any, ...]],
    x: Any,
    y: Any,
    h: Any,
    c: Any,
    lengths: Any,
    batch_first: bool,
    saved: Any,
    dy: Any,
    dh_n: Any,
    dc_n: Any,
    want_x: bool = True,
) -> list[Any]:
    """Arrays: the gradients of x, h, c and the weights, None for what is absent."""
    rows = (lengths, None, None, None, None, batch_first)
    dx, parts, dh, dc, _, _ = native.backward(
        weights, x, y, h, c, *rows, saved, dy, dh_n, dc_n, want_x
    )
    count = 4 if parts[0][4] is None else 5  # with weight_hr; there are no peepholes here
    return [dx, dh, dc, *(gradient for part in parts for gradient in part[:count])]


class _Run(torch.autograd.Function):
    """(y, h_n, c_n or None) of one layer."""

    @staticmethod
    def forward(
        ctx: Any,
        native: _core.Recurrent,
        directions: int,
        lengths: Any,
        batch_first: bool,
        x: Any,
        h: Any,
        c: Any,
        *weights: Any,
    ) -> Any:
        *results, kept = forward(native, x, h, c, lengths, batch_first, True)
        ctx.native, ctx.directions, ctx.kept = native, directions, array(kept)
        ctx.lengths, ctx.batch_first = lengths, batch_first
        # PyTorch raises where one of these has been changed in place before the backward pass.
        ctx.save_for_backward(x, h, c, results[0], *weights)
        ctx.set_materialize_grads(False)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, dy: Any, dh_n: Any, dc_n: Any) -> Any:
        if torch.is_grad_enabled():  # create_graph=True; once_differentiable would let it pass
            raise RuntimeError(
                "weft.torch has no second derivatives (create_graph=True): use torch.nn's module, "
                "for an accelerated model after weft.torch.restore(model)"
            )
        x, h, c, y, *weights = ctx.saved_tensors
        dy, dh_n, dc_n = (None if d is None else array(d.contiguous()) for d in (dy, dh_n, dc_n))
        gradients = backward(
            ctx.native,
            entries(ctx.directions, tuple(weights)),
            array(x),
            array(y),
            array(h),
            array(c),
            ctx.lengths,
            ctx.batch_first,
            ctx.kept,
            dy,
            dh_n,
            dc_n,
            ctx.needs_input_grad[4],
        )
        tensors = [
            torch.from_numpy(a) if wanted else None
            for a, wanted in zip(gradients, ctx.needs_input_grad[4:], strict=True)
        ]
        return None, None, None, None, *tensors


def run(
    native: _core.Recurrent,
    directions: int,
    lengths: Any,
    batch_first: bool,
    x: Any,
    h: Any,
    c: Any,
    weights: tuple[Any, ...],
) -> tuple[Any, Any, Any]:
    """One layer, with a graph for autograd where a gradient is wanted."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    h, c = (None if state is None else state.contiguous() for state in (h, c))
    given = (x, h, c, *weights)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given):
        return _Run.apply(native, directions, lengths, batch_first, *given)
    y, h_n, c_n, _ = forward(native, x, h, c, lengths, batch_first, False)
    return y, h_n, c_n


def step(
    module: Any, index: int, layer: Layer, weights: tuple[Any, ...], *call: Any
) -> tuple[Any, Any, Any]:
    """A module's layer: ``call`` is lengths, batch_first, x, h, c of `run`."""
    native = packed(module).get(index, layer, entries(layer.directions, weights))
    lengths, batch_first, x, h, c = call
    return run(native, layer.directions, lengths, batch_first, x, h, c, weights)
