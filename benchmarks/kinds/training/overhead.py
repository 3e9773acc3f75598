"""This module measures what a call of treadle.torch costs more than the same call with NumPy
arrays.

The net is so small that its kernels take next to nothing. Without gradients `treadle.torch.LSTM`
stands against `treadle.LSTM`, with frozen weights: to enter `torch.no_grad()` takes 2 us of
PyTorch's own. With them its forward and its backward pass stand against `functional.lstm_forward`
and `lstm_backward`, and all of them pack the weights anew. A backward pass cannot be called twice:
its time is that of both passes less that of the first. What PyTorch's autograd takes of it is told
by a Function that takes and returns as many tensors and does nothing. These are differences of
small numbers, so each is the least over its turns: the same instructions run every time, and a
disturbance can only add to them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...core import peers
from ...core.measure import Effort, take_turns
from ...core.models.recurrent.data import make_input, make_weights, state_dict
from .cases import TrainingCase

TINY = TrainingCase("lstm", "overhead", 1, 1, 16, 16, "next to no work")
EFFORT = Effort(sample=0.005, total=1.0, least=25, most=100)


class Spent(NamedTuple):
    """The seconds more through PyTorch than with arrays, and in an empty autograd.Function."""

    more: float
    autograd: float


def seconds() -> dict[str, Spent]:
    """Return what each call takes through PyTorch."""
    import torch

    import treadle.torch

    from ...core.models.recurrent.torch import module_of
    from .peers import autograd

    peers.start("torch", 1)
    treadle.set_num_threads(1)
    weights, x = make_weights(TINY), make_input(TINY)
    named = list(state_dict(TINY, weights).values())
    arrays = treadle.LSTM(TINY.I, TINY.H)
    arrays.load_state_dict(state_dict(TINY, weights))
    dy = np.ones((TINY.T, TINY.B, TINY.H), np.float32)

    def numpy_both() -> Any:
        *_, saved = treadle.functional.lstm_forward(x, *named)
        return treadle.functional.lstm_backward(saved, dy)

    with autograd.LEARNING:
        module = module_of(TINY, weights, treadle.torch)
        leaf, d_y = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)
        leaves = [leaf, *module.parameters()]
        step = autograd.Step(module)

        frozen = module_of(TINY, weights, treadle.torch).requires_grad_(False)
        constant = torch.from_numpy(x)

        def without() -> Any:
            return frozen(constant)

        def forward() -> Any:
            step()
            return module(leaf)

        def both() -> None:
            y, _ = forward()
            for tensor in leaves:
                tensor.grad = None
            y.backward(d_y)

        class Empty(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *tensors: Any) -> Any:
                ctx.save_for_backward(*tensors)
                ctx.set_materialize_grads(False)
                return tuple(torch.empty_like(leaf) for _ in range(3))  # y, h_n, c_n

            @staticmethod
            def backward(ctx: Any, *grads: Any) -> Any:
                return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors)

        def empty_both() -> None:
            for tensor in leaves:
                tensor.grad = None
            Empty.apply(*leaves)[0].backward(d_y)

        runs = {
            "empty forward": lambda: Empty.apply(*leaves),
            "empty both": empty_both,
            "numpy without": lambda: arrays(x),
            "numpy forward": lambda: treadle.functional.lstm_forward(x, *named),
            "numpy both": numpy_both,
            "torch without": without,
            "torch forward": forward,
            "torch both": both,
        }
        times = {name: timing.least for name, timing in take_turns(runs, EFFORT).items()}
    more = {
        part: times[f"torch {part}"] - times[f"numpy {part}"]
        for part in ("without", "forward", "both")
    }
    empty = times["empty forward"]
    return {
        "a call without gradients": Spent(more["without"], 0.0),
        "forward": Spent(more["forward"], empty),
        "backward": Spent(more["both"] - more["forward"], times["empty both"] - empty),
    }
