"""What PyTorch's modules and weft's have in common: a forward and a backward pass through autograd.

No gradient is there before a call (`zero_grad(set_to_none=True)`, PyTorch's default), so none is added to.
The backward pass starts from dy: a loss whose gradient dy is would cost the same for all.

Before each call one element of each layer's input weights moves by its last bit, back and forth. An
optimizer changes the weights between two calls, and who keeps something made from them (weft packs
them) has to notice and to make it anew; otherwise a benchmark would time what training never has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ...data import Array
from .. import Prepared

LEARNING = torch.inference_mode(False)  # torch.py enters inference mode, for the other kinds


def prepare(
    make: Callable[[], Any],
    x: Array,
    dy: Array,
    forward: Callable[[Any, torch.Tensor], torch.Tensor] = lambda module, x: module(x)[0],
    outputs: Callable[[torch.Tensor], Array] = torch.Tensor.numpy,
) -> Prepared:
    """`make()` is the module, `forward(module, x)` is y, `outputs` makes the gradient of x an array."""
    with LEARNING:
        module = make().train()
        leaf = torch.from_numpy(x.copy()).requires_grad_()
        d_y = torch.from_numpy(dy)
        leaves = [leaf, *module.parameters()]
        step = Step(module)

    def run() -> Any:
        with LEARNING:
            step()
            for tensor in leaves:
                tensor.grad = None
            forward(module, leaf).backward(d_y)
        return module

    def gradients(_: Any) -> dict[str, Array]:
        found = {name: value.grad.numpy() for name, value in module.named_parameters()}
        return {"x": outputs(leaf.grad)} | found  # type: ignore[arg-type]

    return Prepared(run, gradients)


class Step:
    """What an optimizer's step is to who looks at the weights: they have changed, but hardly."""

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
