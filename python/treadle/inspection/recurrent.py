"""Traces of recurrent nets: the gates and states of every layer, direction, step and unit.

Each layer runs once more, as a net of its own that saves its gates. Outputs have the same bits in
whatever company they are computed, so that these are the gates of the plain call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.inspection.layers import Layer, Net, layers, steps_that_run, time_first
from treadle.layers.elementwise import activated

if TYPE_CHECKING:
    import numpy.typing as npt

    from treadle._inputs.sequence import SequenceInputs
    from treadle._inputs.types import Float
    from treadle.inspection.result import Trace
    from treadle.layers.activation import Activation

FUNCTION = "treadle.trace"
AXES = ("time", "batch", "unit")


def record(
    trace: Trace, net: Net, inputs: SequenceInputs, without: tuple[str, ...] = (), prefix: str = ""
) -> None:
    """Record the gates and states of all layers; the axes in ``without`` are of size 1 and go."""
    x, runs = inputs.x, steps_that_run(inputs)
    place = tuple(AXES.index(axis) for axis in without)
    axes = tuple(axis for axis in AXES if axis not in without)
    for layer in layers(FUNCTION, net):
        y, _, _, saved = layer.native.run(layer.inputs(inputs, x), save=True)
        ordered = time_first(y, inputs.batch_first)
        for d, direction in enumerate(layer.directions):
            found = _gates(layer, saved[d])
            size = layer.spec.state_size
            found["states.hidden"] = ordered[..., d * size : (d + 1) * size]
            if layer.spec.mode == "lstm":
                found["states.cell"] = saved[d][..., 4 * layer.spec.hidden_size :]
            for name, array in found.items():
                full = f"{prefix}layer{layer.number}.{direction}.{name}"
                trace.add(full, _only(array, runs).squeeze(place), axes)
        x = y


def _only(array: Float, runs: npt.NDArray[np.bool_]) -> Float:
    """Return a copy of [T, B, H] with NaN where a step did not run."""
    return np.where(runs[..., None], array, np.float32(np.nan))


def _gates(layer: Layer, saved: Float) -> dict[str, Float]:
    """Return the gates after activation, each [T, B, H], from what a direction has saved."""
    spec, done = layer.spec, layer.native.saves_activated
    H = spec.hidden_size

    def gate(place: int, activation: Activation) -> Float:
        found: Float = saved[..., place * H : (place + 1) * H]
        if done:
            return found
        if spec.clip is not None:
            found = np.clip(found, -np.float32(spec.clip), np.float32(spec.clip))
        return activated(FUNCTION, found, activation)

    gates, candidate = spec.recurrent_activation, spec.activation
    if spec.mode == "lstm":
        entrance = gate(0, gates)
        return {
            "gates.input": entrance,
            "gates.forget": 1 - entrance if spec.input_forget else gate(1, gates),
            "gates.cell": gate(2, candidate),
            "gates.output": gate(3, gates),
        }
    if spec.mode == "gru":
        return {
            "gates.reset": gate(1, gates),
            "gates.update": gate(2, gates),
            "gates.new": gate(0, candidate),
        }
    return {}
