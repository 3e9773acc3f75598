"""Traces of recurrent nets: the gates and states of every layer, direction, step and unit.

Each layer runs once more, as a net of its own that saves its gates. Outputs have the same bits in
whatever company they are computed, so that these are the gates of the plain call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.inspection.choice import Choice
from treadle.inspection.layers import Net, layers, steps_that_run, time_first
from treadle.layers.elementwise import activated

if TYPE_CHECKING:
    import numpy.typing as npt

    from treadle import _core
    from treadle._inputs.sequence import SequenceInputs
    from treadle._inputs.types import Float
    from treadle.inspection.result import Trace
    from treadle.layers.activation import Activation
    from treadle.layers.recurrent_spec import RecurrentSpec

FUNCTION = "treadle.trace"
AXES = ("time", "batch", "unit")


def record(
    trace: Trace,
    net: Net,
    inputs: SequenceInputs,
    without: tuple[str, ...] = (),
    prefix: str = "",
    choice: Choice | None = None,
) -> None:
    """Record the gates and states of the chosen layers, under names that begin with ``prefix``.

    The axes in ``without`` are of size 1 and go.
    """
    choice = Choice() if choice is None else choice
    choice.check(net.spec.num_layers)
    x, runs = inputs.x, steps_that_run(inputs)
    place = tuple(AXES.index(axis) for axis in without)
    axes = tuple(axis for axis in AXES if axis not in without)
    for layer in layers(FUNCTION, net):
        if not choice.layer(layer.number):
            x = layer.native.run(layer.inputs(inputs, x))[0]
            continue
        y, _, _, saved = layer.native.run(layer.inputs(inputs, x), save=True)
        ordered = time_first(y, inputs.batch_first)
        for d, direction in enumerate(layer.directions):
            found = gates(layer.spec, layer.native, saved[d])
            size = layer.spec.state_size
            found["states.hidden"] = ordered[..., d * size : (d + 1) * size]
            if layer.spec.mode == "lstm":
                found["states.cell"] = saved[d][..., 4 * layer.spec.hidden_size :]
            for name, array in found.items():
                full = f"{prefix}layer{layer.number}.{direction}.{name}"
                trace.add(full, only(array, runs).squeeze(place), axes)
        x = y


def only(array: Float, runs: npt.NDArray[np.bool_]) -> Float:
    """Return a copy of [T, B, H] with NaN where a step did not run."""
    return np.where(runs[..., None], array, np.float32(np.nan))


def gates(spec: RecurrentSpec, native: _core.RecurrentStack, saved: Float) -> dict[str, Float]:
    """Return the gates after activation, each [T, B, H], from what a direction has saved."""
    done, H = native.saves_activated, spec.hidden_size

    def gate(place: int, activation: Activation) -> Float:
        found: Float = saved[..., place * H : (place + 1) * H]
        if done:
            return found
        if spec.clip is not None:
            found = np.clip(found, -np.float32(spec.clip), np.float32(spec.clip))
        return activated(FUNCTION, found, activation)

    opening, candidate = spec.recurrent_activation, spec.activation
    if spec.mode == "lstm":
        entrance = gate(0, opening)
        return {
            "gates.input": entrance,
            "gates.forget": 1 - entrance if spec.input_forget else gate(1, opening),
            "gates.cell": gate(2, candidate),
            "gates.output": gate(3, opening),
        }
    if spec.mode == "gru":
        return {
            "gates.reset": gate(1, opening),
            "gates.update": gate(2, opening),
            "gates.new": gate(0, candidate),
        }
    return {}
