"""The way back through a module: a recurrent net, or a sequence of layers that holds one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle._inputs.arrays import to_float32, to_pair
from treadle._inputs.sequence import prepare
from treadle.inspection import flow
from treadle.inspection.layers import Net
from treadle.layers.activation_layers import ActivationLayer
from treadle.layers.elementwise import Identity
from treadle.layers.embedding import Embedding
from treadle.layers.linear import Linear
from treadle.layers.recurrent_stack import Recurrent
from treadle.layers.sequential import Sequential

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from treadle._inputs.types import ArrayLike, Float
    from treadle.inspection.flow import Gradients
    from treadle.layers.module import Module


class Way(NamedTuple):
    """A call that was made, and the way back from its output."""

    output: Any
    y: Float
    """The part of the output that a loss sees: without the final states."""
    x: Float
    """The input whose gradient `back` returns: vectors, also where the call was given ids."""
    back: Callable[[Float], tuple[Float, list[Gradients]]]
    steps: int
    """The axis of y that is time."""
    lengths: Any = None
    """[B] or None."""


def recurrent(function: str, module: Recurrent, x: ArrayLike, **call: Any) -> Way:
    """Call a recurrent net; ``call`` has the arguments of its call beside x."""
    output = module(x, **call)  # type: ignore[operator]
    state, reset = call.get("state"), call.get("reset_state")
    if module.mode == "lstm":
        h, c = (None, None) if state is None else to_pair(function, "state", state)
        reset_h, reset_c = (None, None)
        if reset is not None:
            reset_h, reset_c = to_pair(function, "reset_state", reset)
    else:
        (h, c), (reset_h, reset_c) = (state, None), (reset, None)
    lengths, mask, resets = (call.get(name) for name in ("lengths", "mask", "resets"))
    inputs, unbatched = prepare(module._sizes, x, (h, c), lengths, mask, resets, (reset_h, reset_c))
    net = Net(module._spec, module._packed.parameters, module._suffixes())

    def back(dy: Float) -> tuple[Float, list[Gradients]]:
        dx, found = flow.backward(net, inputs, dy[:, None] if unbatched else dy)
        if not unbatched:
            return dx, found
        hidden = [g._replace(hidden=g.hidden[:, 0]) for g in found]
        return dx[:, 0], [g if g.cell is None else g._replace(cell=g.cell[:, 0]) for g in hidden]

    shown = inputs.x[:, 0] if unbatched else inputs.x
    return Way(output, output[0], shown, back, int(inputs.batch_first), inputs.lengths)


def sequential(function: str, module: Sequential, x: ArrayLike) -> Way:
    """Call a sequence of layers: embeddings, recurrent nets, linear layers and activations."""
    backs: list[Callable[[Float], tuple[Float, list[Gradients]]]] = []
    steps, first, value = 0, None, x
    for name, child in _flat(function, module):
        if isinstance(child, Embedding):
            if backs:
                raise TypeError(f"{function}: {name} is an Embedding behind other layers")
            value = child(value)
            continue
        value = to_float32(function, "x", value)
        first = value if first is None else first
        if isinstance(child, Recurrent):
            way = recurrent(function, child, value)
            value, steps = way.y, way.steps
            backs.append(_named(f"{name}.", way.back))
        else:
            backs.append(_back(child, value))
            value = child(value)  # type: ignore[operator]
    y = to_float32(function, "x", value)

    def back(dy: Float) -> tuple[Float, list[Gradients]]:
        found: list[Gradients] = []
        for one in reversed(backs):
            dy, gradients = one(dy)
            found = gradients + found
        return dy, found

    return Way(module(x), y, y if first is None else first, back, steps)


def _flat(function: str, module: Sequential, prefix: str = "") -> Iterator[tuple[str, Module]]:
    """Yield the layers of a sequence that have a way back, with their names."""
    for name, child in module._children:
        if isinstance(child, Sequential):
            yield from _flat(function, child, f"{prefix}{name}.")
        elif isinstance(child, Embedding | Recurrent | Linear | ActivationLayer):
            yield f"{prefix}{name}", child
        elif not isinstance(child, Identity):
            raise TypeError(
                f"{function}: {prefix}{name} is of type {type(child).__name__}, expected an "
                "Embedding, RNN, LSTM, GRU, Linear or an activation"
            )


def _named(
    prefix: str, back: Callable[[Float], tuple[Float, list[Gradients]]]
) -> Callable[[Float], tuple[Float, list[Gradients]]]:
    """Return a way back whose gradients have a prefix before their places."""

    def named(dy: Float) -> tuple[Float, list[Gradients]]:
        dx, found = back(dy)
        return dx, [gradients._replace(place=prefix + gradients.place) for gradients in found]

    return named


def _back(child: Module, x: Float) -> Callable[[Float], tuple[Float, list[Gradients]]]:
    """Return the way back through a linear layer or an activation that was given x."""
    if isinstance(child, ActivationLayer):
        steep = flow.slope(child._activation(), x)
        return lambda dy: (dy * steep, [])
    weight, activation = child.state_dict()["weight"], child._configuration["activation"]
    if activation in (None, "linear"):
        return lambda dy: (np.matmul(dy, weight), [])
    plain = np.matmul(x, weight.T) + child.state_dict().get("bias", np.float32(0))
    curve = flow.slope(activation, plain)
    return lambda dy: (np.matmul(dy * curve, weight), [])
