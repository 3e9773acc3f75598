"""This module makes a forward and a backward pass through autograd, for PyTorch's modules and
treadle's.

No gradient is there before a call (`zero_grad(set_to_none=True)`, PyTorch's default), so that none
is added to. The backward pass starts from dy: a loss whose gradient dy is would cost the same for
all.

Before each call of a module one element of each layer's input weights moves by its last bit, back
and forth. An optimizer changes the weights between two calls, and who keeps something made from
them (treadle packs them) has to notice and to make it anew; otherwise a benchmark would time what
training never has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ....core.dtypes import Array
from ....core.kind import Prepared
from ..reference import Gradients

LEARNING = torch.inference_mode(False)  # torch.py enters inference mode, for the other kinds


def prepare(
    leaves: dict[str, torch.Tensor],
    forward: Callable[[], torch.Tensor],
    dy: Array,
    before: Callable[[], None] = lambda: None,
) -> Prepared[Gradients]:
    """Return a call.

    `forward()` is y, made of the leaves, whose gradients are wanted; `before` comes before it.
    """
    d_y = torch.from_numpy(dy)
    tensors = list(leaves.values())

    def run() -> Any:
        with LEARNING:
            before()
            for tensor in tensors:
                tensor.grad = None
            forward().backward(d_y)
        return leaves

    def gradients(_: Any) -> Gradients:
        return {name: tensor.grad.numpy() for name, tensor in leaves.items()}

    return Prepared(run, gradients)


def prepare_module(
    make: Callable[[], Any],
    x: Array,
    dy: Array,
    forward: Callable[[Any, torch.Tensor], torch.Tensor] = lambda module, x: module(x)[0],
) -> Prepared[Gradients]:
    """Return a call of a module: `make()` is the module, `forward(module, x)` is y."""
    with LEARNING:
        module = make().train()
        leaf = torch.from_numpy(x.copy()).requires_grad_()
        leaves = {"x": leaf, **dict(module.named_parameters())}
        return prepare(leaves, lambda: forward(module, leaf), dy, Step(module))


def prepare_attention(
    attend: Callable[..., torch.Tensor], inputs: tuple[Array, ...], dy: Array
) -> Prepared[Gradients]:
    """Return a call of attention; `attend(q, k, v)` is y."""
    with LEARNING:
        leaves = {
            name: torch.from_numpy(part).requires_grad_()
            for name, part in zip("qkv", inputs, strict=True)
        }
        return prepare(leaves, lambda: attend(*leaves.values()), dy)


class Step:
    """A step changes the weights, as an optimizer does, but hardly."""

    def __init__(self, module: Any) -> None:
        named = module.named_parameters()
        self._first = [p.detach().view(-1).numpy() for name, p in named if "weight_ih" in name]
        here = np.array([weights[0] for weights in self._first])
        self._values = here, np.nextafter(here, np.float32(0))
        self._turn = 0

    def __call__(self) -> None:
        self._turn ^= 1
        for weights, value in zip(self._first, self._values[self._turn], strict=True):
            weights[0] = value
