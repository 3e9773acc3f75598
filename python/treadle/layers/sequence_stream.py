"""This module streams whole sequences of layers: each layer that remembers has a state.

Recurrent layers remember h and c. A convolution remembers the inputs that its next windows begin
with, and returns a frame as soon as its window is there: the outputs of a stream, one behind the
other, are those of the whole sequence. All other layers must work on each frame alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.arrays import to_float32, to_int64, to_rows
from treadle._inputs.checks import integer
from treadle.layers.activation_layers import ActivationLayer
from treadle.layers.batch_norm import BatchNorm1d
from treadle.layers.build import blueprint
from treadle.layers.conv import Conv1d
from treadle.layers.elementwise import Identity, LogSoftmax, Softmax, Transpose
from treadle.layers.embedding import Embedding
from treadle.layers.linear import Linear
from treadle.layers.module import LAYERS
from treadle.layers.norm import LayerNorm
from treadle.layers.recurrent_stack import Recurrent
from treadle.layers.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from treadle._inputs.types import AnyArray, ArrayLike
    from treadle.layers.module import Module

    Children = list[tuple[str, Module]]
    Plan = list[tuple[str, Callable[[Any], Any]]]
    States = Mapping[str, AnyArray]

# The axes of an array, in order: B batch, T time, F features.
_LAYOUTS = ("BTF", "TBF", "BFT")
_LAYOUTS_OF_IDS = ("BT", "TB")


class SequenceRunner:
    """A SequenceRunner computes a sequence of layers from the next frames and a state.

    ``inputs`` and ``outputs`` are the axes of what goes in and out, as letters of B, T and F. A
    state is a dict of arrays with the rows of the batch first: "0.h" [B, L, H], "0.c", and "0.tail"
    [B, C, n] of a convolution, whose n changes.
    """

    def __init__(self, function: str, children: Children, plan: Plan) -> None:
        self.function = function
        self.inputs, self.outputs = _layout(function, children)
        self.modules = dict(children)
        self._plan = plan
        self.delays = [
            name
            for name, module in children
            if isinstance(module, Conv1d) and (_span(module) > 1 or module.stride > 1)
        ]

    def converted(self, x: ArrayLike) -> AnyArray:
        """Return frames as an array: float32, or int64 where the first layer takes ids."""
        convert = to_float32 if "F" in self.inputs else to_int64
        return convert(self.function, "x", x)

    def begin(self, rows: int) -> dict[str, AnyArray]:
        """Return the first state of so many rows."""
        states: dict[str, AnyArray] = {}
        for name, module in self.modules.items():
            if isinstance(module, Recurrent):
                for part, shape in parts_of(module).items():
                    states[f"{name}.{part}"] = np.zeros((rows, *shape), np.float32)
            elif name in self.delays:
                states[f"{name}.tail"] = np.zeros((rows, module.in_channels, 0), np.float32)
                states[f"{name}.skip"] = np.zeros((rows, 1), np.int64)
        return states

    def run(self, x: Any, states: States) -> tuple[Any, dict[str, AnyArray]]:
        """Run the next frames; return the results and the new state."""
        new: dict[str, AnyArray] = {}
        for name, step in self._plan:
            module = self.modules.get(name)
            try:
                if isinstance(module, Recurrent):
                    x = _recur(name, module, x, states, new)
                elif name in self.delays:
                    x = _convolve(name, module, step, x, states, new)
                elif isinstance(module, Conv1d) and x.shape[2] == 0:
                    x = np.empty((len(x), module.out_channels, 0), np.float32)
                else:
                    x = step(x)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{self.function}: {name}: {error}") from error
        return x, new


class SequenceStream:
    """A SequenceStream carries the state of a sequence for B rows: ``sequence.stream(B)``.

    `run` takes the next frames, with the axes that the sequence takes, and returns its next
    outputs: one behind the other they are those of the whole sequence, bit for bit. `step` takes
    one frame without the axis of time. A convolution returns a frame when its window is there, so
    that the first calls may return fewer frames; a sequence that has one has no `step`. When a call
    raises, the state is unchanged. Two threads on one stream take turns.

    Examples
    --------
    >>> import numpy as np, treadle
    >>> model = treadle.Sequential(treadle.LSTM(4, 8, seed=0), treadle.Linear(8, 2, seed=0))
    >>> stream, x = model.stream(), np.ones((5, 1, 4), np.float32)  # [T, B, I], as the LSTM takes
    >>> y = np.concatenate([stream.step(x[0])[None], stream.run(x[1:])])
    >>> bool(np.all(y == model(x)))
    True
    """

    def __init__(self, runner: SequenceRunner, batch_size: int) -> None:
        self._runner, self._function = runner, runner.function
        self._batch_size = integer(runner.function, "batch_size", batch_size)
        self._turns = Turns(runner.function)
        self._states = runner.begin(batch_size)

    @property
    def batch_size(self) -> int:
        """The number of independent rows B."""
        return self._batch_size

    def step(self, x: ArrayLike) -> AnyArray:
        """Take one frame: [B, I] -> [B, H], or ids [B] -> [B, H]."""
        if self._runner.delays:
            raise ValueError(
                f"{self._function}: {self._runner.delays[0]} is a Conv1d over several frames, "
                "which has not one output for each: use run"
            )
        rank = len(self._runner.inputs) - 1
        x = self._runner.converted(x)
        if x.ndim != rank:
            raise ValueError(
                f"{self._function}: x has shape {x.shape}, expected "
                f"[{', '.join(self._runner.inputs.replace('T', ''))}]"
            )
        y = self.run(np.expand_dims(x, self._runner.inputs.index("T")))
        return y.squeeze(self._runner.outputs.index("T"))

    def run(self, x: ArrayLike) -> AnyArray:
        """Take the next frames, in the axes that the sequence takes; return the next outputs.

        Raises TypeError or ValueError as the layers do, with the name of the one that refuses.
        """
        x = self._runner.converted(x)
        axes, rows = self._runner.inputs, self._batch_size
        if x.ndim != len(axes) or x.shape[axes.index("B")] != rows:
            raise ValueError(
                f"{self._function}: x has shape {x.shape}, expected [{', '.join(axes)}] with "
                f"B = {rows}"
            )
        turn = self._turns.take()
        try:
            y, self._states = self._runner.run(x, self._states)
        finally:
            turn.release()
        result: AnyArray = y
        return result

    @property
    def state(self) -> dict[str, AnyArray]:
        """Copies of the states of all layers by name, the rows of the batch first."""
        return {name: array.copy() for name, array in self._states.items()}

    def reset(self, rows: ArrayLike | None = None) -> None:
        """Set the states of all rows, or of ``rows`` (integers, or bool [B]), to the beginning.

        Rows cannot begin anew one by one where a convolution over several frames has begun.
        """
        chosen = np.ones(self._batch_size, np.bool_)
        if rows is not None:
            chosen = _chosen(self._function, rows, self._batch_size)
        new = self._runner.begin(self._batch_size)
        if not chosen.all() and self._runner.delays:
            raise ValueError(
                f"{self._function}: {self._runner.delays[0]} is a Conv1d over several frames, "
                "which all rows begin together: reset all rows"
            )
        turn = self._turns.take()
        try:
            self._states = {
                name: np.where(chosen.reshape(-1, *[1] * (array.ndim - 1)), new[name], array)
                if not chosen.all()
                else new[name]
                for name, array in self._states.items()
            }
        finally:
            turn.release()

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(f"{self._function}: a stream cannot be pickled or copied")


def parts_of(module: Recurrent) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the state of one row: h [L, P] and, of an LSTM, c [L, H]."""
    spec = module._spec
    parts: dict[str, tuple[int, ...]] = {"h": (spec.num_layers, spec.state_size)}
    if module.mode == "lstm":
        parts["c"] = (spec.num_layers, spec.hidden_size)
    return parts


def _recur(name: str, module: Any, x: Any, states: States, new: dict[str, AnyArray]) -> AnyArray:
    parts = [f"{name}.{part}" for part in parts_of(module)]
    begin = [np.ascontiguousarray(states[part].swapaxes(0, 1)) for part in parts]
    y, end = module(x, begin[0] if len(begin) == 1 else tuple(begin))
    for part, array in zip(parts, end if isinstance(end, tuple) else (end,), strict=True):
        new[part] = array.swapaxes(0, 1)
    result: AnyArray = y
    return result


def _convolve(
    name: str, module: Any, step: Callable[[Any], Any], x: Any, states: States,
    new: dict[str, AnyArray],
) -> AnyArray:  # fmt: skip
    """Run a convolution over what it remembers and the next frames."""
    tail, skip = states[f"{name}.tail"], int(states[f"{name}.skip"][0, 0])
    skipped = min(skip, x.shape[2])  # a stride beyond the window passes over frames
    x = np.concatenate([tail, x[:, :, skipped:]], axis=2)
    outputs = (
        (x.shape[2] - _span(module)) // module.stride + 1 if x.shape[2] >= _span(module) else 0
    )
    used = outputs * module.stride
    new[f"{name}.tail"] = x[:, :, min(used, x.shape[2]) :].copy()
    left = skip - skipped + max(0, used - x.shape[2])
    new[f"{name}.skip"] = np.full_like(states[f"{name}.skip"], left)
    if not outputs:
        return np.empty((len(x), module.out_channels, 0), np.float32)
    result: AnyArray = step(x)
    return result


def _span(module: Conv1d) -> int:
    """Return how many frames the window of a convolution reaches over."""
    return module._convolution.axes[0].span


def _chosen(function: str, rows: ArrayLike, count: int) -> AnyArray:
    def fits(array: AnyArray) -> None:
        if (
            array.ndim > 1
            or array.size > count
            or (array.dtype == np.bool_ and array.size != count)
        ):
            raise ValueError(
                f"{function}: rows has shape {array.shape}, expected [N] with N at most B = {count}"
            )

    array = to_rows(function, "rows", rows, fits)
    if array.dtype == np.bool_:
        return array
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < count:
        raise ValueError(
            f"{function}: rows are {array.tolist()}, expected 0 to B - 1 with B = {count}"
        )
    chosen = np.zeros(count, np.bool_)
    chosen[array] = True
    return chosen


# -- the axes of time -----------------------------------------------------------------------------


class _Unfit(Exception):
    """This error says that a layer does not take an array with these axes."""


def _layout(function: str, children: Children) -> tuple[str, str]:
    """Return the axes of a sequence's input and output. Raises ValueError where none are right."""
    ids = bool(children) and isinstance(children[0][1], Embedding)
    if not children:
        raise ValueError(f"{function}: a sequence of no layers has no stream")
    furthest, why = -1, ""
    for axes in _LAYOUTS_OF_IDS if ids else _LAYOUTS:
        now = axes
        for number, (name, module) in enumerate(children):
            try:
                now = _through(module, now)
            except _Unfit as unfit:
                if number > furthest:
                    furthest, why = number, f"{name}: {unfit}"
                break
        else:
            return axes, now
    raise ValueError(f"{function}: {why}")


def _through(module: Module, axes: str) -> str:
    """Return the axes of a layer's output, and refuse a layer that does not stream."""
    if LAYERS.get(type(module).__name__) is not type(module):
        raise _Unfit(f"a {type(module).__name__} is no layer of treadle, expected layers it knows")
    if isinstance(module, Recurrent):
        if module._spec.direction != "forward":
            raise _Unfit(f"the layer has {module._spec.direction}=True, expected False")
        return _expect(axes, "BTF" if module.batch_first else "TBF", "the layer takes")
    if isinstance(module, Conv1d):
        axis = module._convolution.axes[0]
        if axis.before or axis.after:
            raise _Unfit(
                "the Conv1d pads both ends, and a stream does not know its end: expected padding=0"
            )
        return _expect(axes, "BFT", "the Conv1d takes")
    if isinstance(module, BatchNorm1d):
        return _expect(axes, "BFT", "the BatchNorm1d takes")
    if isinstance(module, Embedding):
        if "F" in axes:
            raise _Unfit("an Embedding that is not the first layer cannot stream")
        return axes + "F"
    if isinstance(module, ActivationLayer | Identity):
        return axes
    if isinstance(module, Transpose):
        turned, one, two = list(axes), module.dim0, module.dim1
        if not all(-len(axes) <= dim < len(axes) for dim in (one, two)):
            raise _Unfit(f"the Transpose({one}, {two}) is of other axes than [{', '.join(axes)}]")
        turned[one], turned[two] = turned[two], turned[one]
        return "".join(turned)
    if isinstance(module, Softmax | LogSoftmax):
        dim = module.dim
        if not -len(axes) <= dim < len(axes) or axes[dim] != "F":
            raise _Unfit("the softmax is over another axis than that of the features")
        return axes
    if isinstance(module, Linear) or (
        isinstance(module, LayerNorm) and len(module.normalized_shape) == 1
    ):
        if not axes.endswith("F"):
            raise _Unfit(f"the layer works along the last axis of [{', '.join(axes)}]")
        return axes
    raise _Unfit(
        f"a {type(module).__name__} is not known to work on each frame alone; layers that do, "
        "recurrent layers and Conv1d stream"
    )


def _expect(axes: str, expected: str, what: str) -> str:
    if axes != expected:
        raise _Unfit(f"{what} [{', '.join(expected)}] and would get [{', '.join(axes)}]")
    return axes


def flattened(children: Iterable[tuple[str, Module]], inside: str = "") -> Children:
    """Return the layers of a sequence and of the sequences in it, with names such as "1.0".

    The layers keep the weights that they have now, also after ``load_state_dict``.
    """
    result: Children = []
    for name, module in children:
        inner = getattr(module, "_children", None)
        if inner is None:
            kept = blueprint(type(module), module._configuration)
            kept.__dict__["_packed"] = module._packed
            result.append((inside + name, kept))
        else:
            result += flattened(inner, f"{inside}{name}.")
    return result
