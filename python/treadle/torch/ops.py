"""One recurrent layer as custom operators, which torch.compile and torch.export keep in their graphs.

Eager calls take `treadle.torch.function` instead, whose way is shorter. The arguments are those of a
`Layer`; ``weights`` are weight_ih, weight_hh, bias_ih and bias_hh where there are biases, weight_hr
where there is a projection, of one direction after the other. What is absent in a result is empty.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from treadle.torch.function import Layer, Pack, array, backward, entries, forward, present

_LAYER = "str mode, int hidden_size, int proj_size, bool bias, int directions, str activation"
_FORWARD = (
    f"(Tensor x, Tensor? h, Tensor? c, Tensor[] weights, Tensor? lengths, {_LAYER}, "
    "bool batch_first, bool save) -> (Tensor, Tensor, Tensor, Tensor)"
)
_BACKWARD = (
    "(Tensor x, Tensor? h, Tensor? c, Tensor[] weights, Tensor? lengths, Tensor y, Tensor saved, "
    f"Tensor? dy, Tensor? dh_n, Tensor? dc_n, {_LAYER}, bool batch_first) -> Tensor[]"
)
_SAVED = {"lstm": 5, "gru": 4, "rnn": 0}  # floats for each unit and step

# By the address of the first weight, for an operator does not see its module. The one packed first is
# forgotten. Only copies of weights are kept, so that those of a module that is gone are gone, too.
_PACKS: dict[tuple[int, Layer], Pack] = {}
_MOST = 256


def _native(x: Any, weights: list[Any], layer: tuple[Any, ...]) -> Any:
    mode, hidden_size, proj_size, bias, directions, activation = layer
    own = Layer("treadle.torch", mode, x.shape[2], hidden_size, proj_size, directions, activation)
    arrays = entries(directions, _with_absent(weights, bias, directions))
    key = weights[0].data_ptr(), own
    pack = _PACKS.get(key)
    if pack is None or not pack.is_of(own, present(arrays)):
        pack = _PACKS[key] = Pack(own, arrays)
        if len(_PACKS) > _MOST:
            _PACKS.pop(next(iter(_PACKS)))
    return pack.native, arrays


def _with_absent(weights: list[Any], bias: bool, directions: int) -> tuple[Any, ...]:
    """The weights with None for the biases that a layer does not have."""
    if bias:
        return tuple(weights)
    count = len(weights) // directions
    parts = [weights[d * count : (d + 1) * count] for d in range(directions)]
    return tuple(w for part in parts for w in (*part[:2], None, None, *part[2:]))


def _dense(tensor: Any) -> Any:
    return None if tensor is None else array(tensor.contiguous())


@torch.library.custom_op("treadle::recurrent", mutates_args=(), device_types="cpu", schema=_FORWARD)
def recurrent(
    x: Any, h: Any, c: Any, weights: Any, lengths: Any, *layer: Any
) -> tuple[Any, Any, Any, Any]:
    """(y, h_n, c_n, saved) of one layer."""
    *own, batch_first, save = layer
    native, _ = _native(x, weights, tuple(own))
    x, h, c = (None if tensor is None else tensor.contiguous() for tensor in (x, h, c))
    ends = _dense(lengths)
    *results, kept = forward(native, x, h, c, ends, batch_first, save)
    results.append(None if kept is None else torch.from_numpy(kept))
    if save and ends is not None:  # an operator's results are the same in every run
        kept[:, np.arange(kept.shape[1])[:, None] >= ends] = 0
    y, h_n, c_n, saved = (x.new_empty(0) if tensor is None else tensor for tensor in results)
    return y, h_n, c_n, saved


@recurrent.register_fake
def _(x: Any, h: Any, c: Any, weights: Any, lengths: Any, *layer: Any) -> tuple[Any, ...]:
    mode, H, P, _, D, _, batch_first, save = layer
    S = P or H
    T, B = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
    return (
        x.new_empty((x.shape[0], x.shape[1], D * S)),
        x.new_empty((D, B, S)),
        x.new_empty((D, B, H) if mode == "lstm" else (0,)),
        x.new_empty((D, T, B, _SAVED[mode] * H) if save else (0,)),
    )


@torch.library.custom_op(
    "treadle::recurrent_backward", mutates_args=(), device_types="cpu", schema=_BACKWARD
)
def recurrent_backward(
    x: Any, h: Any, c: Any, weights: Any, lengths: Any, y: Any, saved: Any, dy: Any, dh_n: Any,
    dc_n: Any, *layer: Any,
) -> list[Any]:  # fmt: skip
    """The gradients of x, h, c and the weights."""
    *own, batch_first = layer
    native, arrays = _native(x, weights, tuple(own))
    gradients = backward(
        native, arrays, _dense(x), _dense(y), _dense(h), _dense(c), _dense(lengths), batch_first,
        _dense(saved), _dense(dy), _dense(dh_n), _dense(dc_n) if own[0] == "lstm" else None,
    )  # fmt: skip
    dx, dh, dc, *flat = gradients
    kept = [dx, dh, dc, *(g for g in flat if g is not None)]
    return [x.new_empty(0) if g is None else torch.from_numpy(g) for g in kept]


@recurrent_backward.register_fake
def _(
    x: Any, h: Any, c: Any, weights: Any, lengths: Any, y: Any, saved: Any, dy: Any, dh_n: Any,
    dc_n: Any, *layer: Any,
) -> list[Any]:  # fmt: skip
    mode, H, P, _, D, _, batch_first = layer
    B = x.shape[0 if batch_first else 1]
    states = [x.new_empty((D, B, P or H)), x.new_empty((D, B, H) if mode == "lstm" else (0,))]
    return [x.new_empty(x.shape), *states, *(w.new_empty(w.shape) for w in weights)]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    x, h, c, weights, lengths, *layer = inputs
    y, _, _, saved = output
    ctx.save_for_backward(x, h, c, lengths, y, saved, *weights)
    ctx.layer = layer[:-1]  # without `save`
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dy: Any, dh_n: Any, dc_n: Any, _: Any) -> tuple[Any, ...]:
    x, h, c, lengths, y, saved, *weights = ctx.saved_tensors
    dx, dh, dc, *flat = torch.ops.treadle.recurrent_backward(
        x, h, c, weights, lengths, y, saved, dy, dh_n, dc_n, *ctx.layer
    )
    states = [dh if h is not None else None, dc if c is not None else None]
    return dx, *states, flat, None, *[None] * (len(ctx.layer) + 1)


recurrent.register_autograd(_backward, setup_context=_setup)


def step(layer: Layer, weights: tuple[Any, ...], *call: Any) -> tuple[Any, Any, Any]:
    """(y, h_n, c_n or None), as `treadle.torch.function.step` without a module."""
    lengths, batch_first, x, h, c = call
    given = [w for w in weights if w is not None]
    bias = len(given) == len(weights)
    save = torch.is_grad_enabled()
    own = (layer.mode, layer.hidden_size, layer.proj_size, bias, layer.directions, layer.activation)
    y, h_n, c_n, _ = torch.ops.treadle.recurrent(x, h, c, given, lengths, *own, batch_first, save)
    return y, h_n, c_n if layer.mode == "lstm" else None
