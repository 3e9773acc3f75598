"""This module times PyTorch's recurrent modules against those of treadle.torch at one row and step.

Nothing is packed there: the weights are read where they lie, and nobody may have changed them
unseen. A step without gradients runs under `torch.no_grad()`; one with gradients is a forward and a
backward pass, after a step of an optimizer as in the cases. The two modules have the same weights
and take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...core import peers
from ...core.kind import OURS
from ...core.measure import QUICK, take_turns

MODULES = ("RNNCell", "GRUCell", "LSTMCell", "RNN", "GRU", "LSTM")
SIZES = (16, 64, 256, 512, 1024)  # input and hidden


def first(result: Any) -> Any:
    """Return the first tensor of a result: y, or the new h."""
    return first(result[0]) if isinstance(result, tuple) else result


def step(module: Any, x: Any, learns: bool) -> Callable[[], Any]:
    """Return a call that takes one step, and with gradients goes back through it."""
    import torch

    from .peers import autograd

    leaves, optimizer = list(module.parameters()), autograd.Step(module)

    def both() -> None:
        optimizer()
        for leaf in leaves:
            leaf.grad = None
        first(module(x)).sum().backward()

    def without() -> Any:
        with torch.no_grad():
            return module(x)

    return both if learns else without


def pair(name: str, size: int) -> tuple[dict[str, Any], Any]:
    """Return PyTorch's module and treadle's, with the same weights, and one row of input."""
    import torch

    import treadle.torch

    theirs = getattr(torch.nn, name)(size, size)
    ours = getattr(treadle.torch, name)(size, size)
    ours.load_state_dict(theirs.state_dict())
    shape = (1, size) if name.endswith("Cell") else (1, 1, size)
    return {"torch": theirs, OURS: ours}, torch.randn(shape)


def ratios(
    names: tuple[str, ...] = MODULES, sizes: tuple[int, ...] = SIZES
) -> Iterator[tuple[str, bool, int, float]]:
    """Yield the module, whether it learns, its size, and PyTorch's time divided by treadle's."""
    import treadle

    from .peers import autograd

    peers.start("torch", 1)
    treadle.set_num_threads(1)
    with autograd.LEARNING:
        for name in names:
            for size in sizes:
                modules, x = pair(name, size)
                for learns in (False, True):
                    runs = {who: step(module, x, learns) for who, module in modules.items()}
                    times = take_turns(runs, QUICK)
                    yield name, learns, size, times["torch"].median / times[OURS].median
