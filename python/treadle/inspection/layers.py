"""One layer of a recurrent net, as a native net of its own that saves its gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle._inputs.sequence import SequenceInputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from treadle import _core
    from treadle._inputs.types import Float
    from treadle.layers.recurrent_spec import RecurrentSpec

DIRECTIONS = {
    "forward": ("forward",),
    "reverse": ("reverse",),
    "bidirectional": ("forward", "reverse"),
}


class Net(NamedTuple):
    """A recurrent net of several layers: what it is, and its parameters in their stored form."""

    spec: RecurrentSpec
    parameters: Mapping[str, Any]
    suffixes: list[tuple[int, str]]
    """The number of the layer and the end of the parameters' names, for each direction."""


@dataclass
class Layer:
    """One layer of a net, all directions."""

    number: int
    spec: RecurrentSpec
    weights: list[dict[str, Any]]
    """The arrays of each direction by name."""
    native: _core.RecurrentStack

    @property
    def directions(self) -> tuple[str, ...]:
        """The names of the directions."""
        return DIRECTIONS[self.spec.direction]

    def inputs(self, whole: SequenceInputs, x: Float) -> SequenceInputs:
        """Return the inputs of this layer: x from the layer below, and its part of the states."""
        first = self.number * self.spec.directions
        own = slice(first, first + self.spec.directions)
        states = {
            name: None if value is None else np.ascontiguousarray(value[own])
            for name in ("h_0", "c_0", "reset_h", "reset_c")
            for value in (getattr(whole, name),)
        }
        return SequenceInputs(
            x,
            **states,
            lengths=whole.lengths,
            mask=whole.mask,
            resets=whole.resets,
            batch_first=whole.batch_first,
        )


def layers(function: str, net: Net) -> Iterator[Layer]:
    """Yield the layers of a net, each packed when its turn comes."""
    spec = net.spec
    names = spec.shapes()
    for number in range(spec.num_layers):
        own = spec._replace(
            num_layers=1,
            input_size=spec.directions * spec.state_size if number else spec.input_size,
            dtype=spec.dtype if isinstance(spec.dtype, str) else spec.dtype[number],
        )
        weights = [
            {name: net.parameters[name + suffix] for name in names}
            for layer, suffix in net.suffixes
            if layer == number
        ]
        yield Layer(number, own, weights, own.pack(function, weights))


def time_first(array: Float, batch_first: bool) -> Float:
    """Return [T, B, ...] of an array that may have the batch before the time."""
    return array.swapaxes(0, 1) if batch_first else array


def steps_that_run(inputs: SequenceInputs) -> npt.NDArray[np.bool_]:
    """Return which steps of which rows are computed, as bool [T, B]."""
    rows, steps = (0, 1) if inputs.batch_first else (1, 0)
    T, B = inputs.x.shape[steps], inputs.x.shape[rows]
    runs = np.ones((T, B), np.bool_)
    if inputs.lengths is not None:
        runs &= np.arange(T)[:, None] < inputs.lengths
    if inputs.mask is not None:
        runs &= inputs.mask.T
    return runs
