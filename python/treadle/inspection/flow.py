"""The way back through a recurrent net, one step at a time, with the gradients of every state.

The native backward pass of a whole sequence hands the gradients of its states from step to step and
keeps none. Here each step is a sequence of its own, which the native passes take forward and back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle import functional
from treadle._inputs.sequence import SequenceInputs
from treadle._storage import formats
from treadle.inspection.layers import Layer, Net, layers, steps_that_run, time_first
from treadle.inspection.recurrent import gates, only

if TYPE_CHECKING:
    import numpy.typing as npt

    from treadle import _core
    from treadle._inputs.types import Float
    from treadle.layers.activation import Activation

FUNCTION = "treadle.inspection.gradient_flow"


class Gradients(NamedTuple):
    """The gradients of the states of one layer in one direction, and the place of these states."""

    place: str
    hidden: Float
    """[T, B, P], NaN where a step did not run."""
    cell: Float | None
    """[T, B, H] of an LSTM."""


class _Step(NamedTuple):
    """A step of a direction that was taken: its inputs, its output and what it has saved."""

    inputs: SequenceInputs
    y: Float
    saved: Float
    c: Float | None


def in_float32(net: Net) -> Net:
    """Return the net of float32 with the numbers that the stored weights stand for."""
    decoded = {name: formats.decode(value) for name, value in net.parameters.items()}
    return net._replace(spec=net.spec._replace(dtype="float32"), parameters=decoded)


def backward(net: Net, inputs: SequenceInputs, dy: Float) -> tuple[Float, list[Gradients]]:
    """Return the gradient of x and those of all states, from the gradient of y.

    ``dy`` has the shape of y, the batch first if the inputs have it so; the gradient of x has the
    shape of x. The states come in the order of the computation.
    """
    all_layers, xs = list(layers(FUNCTION, in_float32(net))), [inputs.x]
    for layer in all_layers[:-1]:
        xs.append(layer.native.run(layer.inputs(inputs, xs[-1]))[0])
    found: list[Gradients] = []
    grad = time_first(dy, inputs.batch_first)
    for layer, x in zip(reversed(all_layers), reversed(xs), strict=True):
        size, own = layer.spec.state_size, layer.inputs(inputs, x)
        parts = [
            _Direction(layer, d, own).backward(grad[..., d * size : (d + 1) * size])
            for d in range(layer.spec.directions)
        ]
        grad = np.sum([dx for dx, _ in parts], axis=0, dtype=np.float32)
        found = [gradients for _, gradients in parts] + found
    return time_first(grad, inputs.batch_first), found


class _Direction:
    """One direction of one layer, forward and back in steps."""

    def __init__(self, layer: Layer, number: int, inputs: SequenceInputs) -> None:
        self._layer, self._number, self._inputs = layer, number, inputs
        self._spec = layer.spec._replace(direction="forward")
        self._weights = [layer.weights[number]]
        self._native: _core.RecurrentStack = self._spec.pack(FUNCTION, self._weights)
        self._x = np.ascontiguousarray(time_first(inputs.x, inputs.batch_first))
        self._runs = steps_that_run(inputs)
        T, B = self._runs.shape
        lengths = np.full(B, T) if inputs.lengths is None else inputs.lengths
        self._exists: npt.NDArray[np.bool_] = np.arange(T)[:, None] < lengths
        self._reverse = layer.directions[number] == "reverse"
        self._order = list(range(T))[:: -1 if self._reverse else 1]

    def backward(self, dy: Float) -> tuple[Float, Gradients]:
        """Return the gradient of x [T, B, I] and those of the states, from that of y [T, B, P]."""
        spec, lstm, (T, B) = self._spec, self._spec.mode == "lstm", self._runs.shape
        steps = self._forward()
        dx = np.zeros((T, B, spec.input_size), np.float32)
        hidden = np.zeros((T, B, spec.state_size), np.float32)
        cell = np.zeros((T, B, spec.hidden_size), np.float32)
        dh, dc = np.zeros_like(hidden[:1]), np.zeros_like(cell[:1])
        repeated = np.zeros_like(dh)  # the gradient of outputs that repeat the one before
        for t in reversed(self._order):
            step, runs = steps[t], self._runs[t][:, None]
            shown = repeated + np.where(self._exists[t][:, None], dy[t], np.float32(0))
            dh = np.where(runs, dh + shown, dh)
            repeated = np.where(runs, np.float32(0), shown)
            hidden[t] = dh[0]
            if lstm:
                with np.errstate(all="ignore"):  # rows that do not run have saved no numbers
                    cell[t] = (dc + self._through_output(step, dh))[0]
            found = self._native.backward(
                step.inputs,
                weights=self._weights,
                y=step.y,
                saved=step.saved,
                grads={"h_n": dh, "c_n": dc if lstm else None},
            )
            dx[t], dh = found["x"][0], found["h_0"]
            dc = found["c_0"] if lstm else dc
            cut = self._cut(t)
            if cut is not None:
                dh, dc = (np.where(cut[:, None], np.float32(0), part) for part in (dh, dc))
        place = f"layer{self._layer.number}.{self._layer.directions[self._number]}"
        return dx, Gradients(
            place, only(hidden, self._runs), only(cell, self._runs) if lstm else None
        )

    def _forward(self) -> dict[int, _Step]:
        """Take the steps and keep them by their time."""
        own, spec, d = self._inputs, self._spec, self._number
        B = self._runs.shape[1]

        def first(given: Float | None, size: int) -> Float:
            return np.zeros((1, B, size), np.float32) if given is None else given[d : d + 1]

        h, fresh_h = (first(part, spec.state_size) for part in (own.h_0, own.reset_h))
        c, fresh_c = (first(part, spec.hidden_size) for part in (own.c_0, own.reset_c))
        lstm, steps = spec.mode == "lstm", {}
        for t in self._order:
            cut = self._cut(t)
            if cut is not None:
                h = np.where(cut[:, None], fresh_h, h)
                c = np.where(cut[:, None], fresh_c, c)
            inputs = SequenceInputs(
                self._x[t : t + 1],
                np.ascontiguousarray(h),
                np.ascontiguousarray(c) if lstm else None,
                self._runs[t].astype(np.int64),
            )
            y, h, c_n, saved = self._native.run(inputs, save=True)
            c = c_n if lstm else c
            steps[t] = _Step(inputs, y, saved, c_n)
        return steps

    def _cut(self, t: int) -> npt.NDArray[np.bool_] | None:
        """Return the rows whose state starts anew before the step at t, or None."""
        border = t + 1 if self._reverse else t
        if self._inputs.resets is None or border == len(self._x):
            return None
        cut: npt.NDArray[np.bool_] = self._inputs.resets[border] & self._exists[border]
        return cut

    def _through_output(self, step: _Step, dh: Float) -> Float:
        """Return the gradient that c gets from h of the same step, by h = o * act(c)."""
        spec, weights = self._spec, self._weights[0]
        c, size = step.saved[0][..., 4 * spec.hidden_size :], spec.hidden_size
        c = np.where(step.inputs.lengths[:, None] > 0, c, np.float32(0))  # type: ignore[index]
        if spec.proj_size:
            dh = np.matmul(dh, weights["weight_hr"])
        output = spec.activation if spec.output_activation is None else spec.output_activation
        gate = gates(spec, self._native, step.saved[0])["gates.output"]
        found: Float = dh * gate * slope(output, c)
        if spec.peepholes:
            bent = functional.rnn(
                c.reshape(1, -1, 1), *_IDENTITY, nonlinearity=output
            )[0].reshape(c.shape)  # fmt: skip
            before = step.saved[0][..., 3 * size : 4 * size]  # what enters the gate o
            peephole = weights["peepholes"][size : 2 * size]
            steepness = slope(spec.recurrent_activation, before, spec.clip)
            found = found + peephole * dh * bent * steepness
        return found


_IDENTITY = (np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32))


def slope(activation: Activation, x: Float, clip: float | None = None) -> Float:
    """Return the derivative of an activation at x, behind a clip if there is one.

    A step of a net of one unit whose weight is 1 is the activation, and its way back the slope.
    """
    flat = np.ascontiguousarray(x, np.float32).reshape(1, -1, 1)
    _, _, saved = functional.rnn_forward(flat, *_IDENTITY, nonlinearity=activation, clip=clip)
    found: dict[str, Any] = functional.rnn_backward(saved, dy=np.ones_like(flat))
    dx: Float = found["x"]
    return dx.reshape(x.shape)
