"""This module computes a recurrent layer and attention from PyTorch's own operators.

It runs where the kernels cannot: a kernel knows numbers alone, but forward-mode derivatives, the
function transforms of torch.func, batches of gradients and second derivatives need operators that
PyTorch can differentiate and batch itself. The results differ from the kernels' in last bits, and
every step of time takes several calls of PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as nn

from treadle._inputs.arrays import to_int64
from treadle.torch.formula_activations import function
from treadle.torch.tensors import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle._inputs.types import ArrayLike
    from treadle.torch.autograd import Rows, States
    from treadle.torch.tensors import TensorLike
    from treadle.torch.weight_cache import RecurrentLayer


def recurrent(
    layer: RecurrentLayer,
    weights: Sequence[TensorLike],
    states: States,
    x: TensorLike,
    rows: Rows,
) -> tuple[TensorLike, TensorLike, TensorLike | None]:
    """Run a layer as `treadle.torch.autograd.run_layer` does: (y, h_n, c_n or None)."""
    lengths, mask, batch_first = rows
    x = x.transpose(0, 1) if batch_first else x
    runs = None
    if lengths is not None:
        runs = _exists(layer.function, lengths, x.shape[0], x.shape[1])
    elif mask is not None:
        runs = torch.as_tensor(mask).transpose(0, 1)[:, :, None]
    if runs is not None:
        # Where a step is left out, 0 x NaN would still reach the gradients of the weights.
        x = x.masked_fill(~runs, 0)
    count, parts = len(layer.names), []
    for d in range(layer.directions):
        own = dict(zip(layer.names, weights[d * count : (d + 1) * count], strict=True))
        start = [None if state is None else state[d] for state in states]
        parts.append(_direction(layer, own, start, x, (runs, mask is not None), d == 1))
    y = torch.cat([y for y, _, _ in parts], 2)
    h_n = torch.stack([h for _, h, _ in parts])
    c_n = torch.stack([c for _, _, c in parts]) if layer.mode == "lstm" else None
    return y.transpose(0, 1) if batch_first else y, h_n, c_n


def _exists(function: str, lengths: ArrayLike, T: int, B: int) -> TensorLike:
    """Return bool [T, B, 1]: which steps of each row count."""
    if not isinstance(lengths, torch.Tensor) or plain(lengths):
        known = to_int64(function, "lengths", lengths)
        if known.shape != (B,) or (B and not 0 <= known.min() <= known.max() <= T):
            raise ValueError(
                f"{function}: lengths are {known.tolist()}, expected [B] of 0 to T "
                f"with B = {B}, T = {T}"
            )
        lengths = torch.from_numpy(known)
    steps: TensorLike = (torch.arange(T)[:, None] < lengths)[:, :, None]
    return steps


def _direction(
    layer: RecurrentLayer,
    weights: dict[str, TensorLike],
    start: Sequence[TensorLike | None],
    x: TensorLike,
    steps: tuple[TensorLike | None, bool],
    backwards: bool,
) -> tuple[TensorLike, TensorLike, TensorLike]:
    """Run one direction: y [T, B, P], and the last h and c.

    ``steps`` are bool [T, B, 1], where the state of a row changes, and whether the output then
    repeats the one before; else it is zero.
    """
    runs, repeats = steps
    T, B, _ = x.shape
    size = layer.proj_size or layer.hidden_size
    h = x.new_zeros((B, size)) if start[0] is None else start[0]
    c = x.new_zeros((B, layer.hidden_size)) if start[1] is None else start[1]
    inputs = nn.linear(x, weights["weight_ih"], weights.get("bias_ih"))
    outputs, output = [], x.new_zeros((B, size))
    for t in reversed(range(T)) if backwards else range(T):
        states = _step(layer, weights, inputs[t], h, c)
        if runs is None:
            h, c = states
            output = h
        else:
            output = torch.where(runs[t], states[0], output if repeats else 0)
            h, c = (torch.where(runs[t], *pair) for pair in zip(states, (h, c), strict=True))
        outputs.append(output)
    if not outputs:
        return x.new_zeros((0, B, size)), h, c
    return torch.stack(outputs[::-1] if backwards else outputs), h, c


def _step(
    layer: RecurrentLayer,
    weights: dict[str, TensorLike],
    inputs: TensorLike,
    h: TensorLike,
    c: TensorLike,
) -> tuple[TensorLike, TensorLike]:
    """Take one step from the input's share of the gates [B, G*H]: the next h and c."""
    act, gate = function(layer.activation), function(layer.recurrent_activation)
    weight, bias = weights["weight_hh"], weights.get("bias_hh")
    gates = nn.linear(h, weight, bias)
    if layer.mode == "lstm":
        i, f, g, o = (inputs + gates).chunk(4, 1)
        c = gate(f) * c + gate(i) * act(g)
        h = gate(o) * act(c)
        return (nn.linear(h, weights["weight_hr"]) if layer.proj_size else h), c
    if layer.mode == "gru":
        (r_x, z_x, n_x), (r_h, z_h, n_h) = inputs.chunk(3, 1), gates.chunk(3, 1)
        r, z = gate(r_x + r_h), gate(z_x + z_h)
        if layer.reset_after:
            n = act(n_x + r * n_h)
        else:
            last = None if bias is None else bias.chunk(3)[2]
            n = act(n_x + nn.linear(r * h, weight.chunk(3)[2], last))
        return n + z * (h - n), c
    return act(inputs + gates), c


def attention(
    given: Sequence[TensorLike],
    mask: TensorLike | None,
    lengths: ArrayLike | None,
    kept: TensorLike | None,
    options: Any,
) -> TensorLike:
    """Attend as `treadle.torch.scaled_dot_product_attention` does, of which the ``options`` are.

    ``kept`` tells which probabilities dropout keeps, as `kept_by_dropout` returns it; without it
    PyTorch draws.
    """
    query, key, value = given
    if options.enable_gqa:
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    scale = query.shape[-1] ** -0.5 if options.scale is None else options.scale
    scores = query @ key.transpose(-2, -1) * scale
    if options.softcap is not None:
        scores = options.softcap * (scores / options.softcap).tanh()
    S, K = scores.shape[-2:]
    if mask is not None and mask.dtype is not torch.bool:
        scores = scores + mask
        mask = None
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    if options.is_causal:
        scores = scores.masked_fill(torch.ones(S, K, dtype=torch.bool).triu(1), -torch.inf)
    if lengths is not None:
        ends = torch.as_tensor(lengths)
        ends = ends.reshape(*ends.shape, *[1] * (scores.dim() - ends.dim()))
        scores = scores.masked_fill(torch.arange(K) >= ends, -torch.inf)
    blind = (scores == -torch.inf).all(-1, keepdim=True)  # such a query's result is zero
    shares = scores.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)
    if kept is not None:
        left = 1 - options.dropout_p
        shares = shares * (kept.reshape(scores.shape) / left if left else 0)
    elif options.dropout_p:
        shares = nn.dropout(shares, options.dropout_p)
    return shares @ value


def gradients(
    run: Callable[..., tuple[TensorLike | None, ...]],
    tensors: Sequence[TensorLike | None],
    wanted: Sequence[bool],
    upstream: Sequence[TensorLike | None],
) -> list[TensorLike | None]:
    """Return the gradients of the tensors that are wanted, None for others.

    ``run`` returns the results whose gradients are ``upstream``, None for zeros. In a backward pass
    with create_graph=True the gradients can be differentiated again.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # These are nodes of their own, so that no gradient takes another way, from x to a weight
        # that x was computed from.
        own = [
            None if t is None else t.view_as(t) if want else t
            for t, want in zip(tensors, wanted, strict=True)
        ]
        results = run(*own)
        ends = [
            (result, grad)
            for result, grad in zip(results, upstream, strict=True)
            if grad is not None and result is not None and result.requires_grad
        ]
        leaves = [t for t, want in zip(own, wanted, strict=True) if want]
        found = torch.autograd.grad(
            [result for result, _ in ends],
            leaves,
            [grad for _, grad in ends],
            create_graph=create_graph,
            allow_unused=True,
        )
    grads = iter(
        torch.zeros_like(t) if g is None else g for g, t in zip(found, leaves, strict=True)
    )
    return [next(grads) if want else None for want in wanted]
