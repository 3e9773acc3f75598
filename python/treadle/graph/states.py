"""This module finds the state of a model: the outputs that a next call takes as inputs.

A state is an input and an output of the same dtype and shape. Files name them in many ways
(``state`` and ``stateN``, ``h`` and ``hn``, ``in_cache0`` and ``out_cache0``); names are compared
without the words that tell an input from an output, and a name counts only if it says state, or if
the input is the initial state of a recurrent node. Such an input without a name that tells is
paired with the only other output of its shape. Everything else is for the caller to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from treadle._inputs.checks import shown
from treadle.graph.inputs import described, signature

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from treadle._inputs.types import AnyArray
    from treadle.graph.ir import Graph, Value


class Runs(Protocol):
    """This protocol is what a stream needs of a model."""

    @property
    def inputs(self) -> tuple[Value, ...]: ...
    @property
    def outputs(self) -> tuple[Value, ...]: ...
    def __call__(self, *args: Any, **named: Any) -> Any: ...


class State(NamedTuple):
    """A State is an array that is carried: an input, an output, the axis of the batch or None."""

    input: Value
    output: Value
    axis: int | None

    def shape(self, rows: int) -> tuple[int, ...]:
        """Return the shape for so many rows; all other sizes are known."""
        sizes = list(self.input.shape or ())
        if self.axis is not None:
            sizes[self.axis] = rows
        return tuple(int(size or 0) for size in sizes)

    def zeros(self, rows: int) -> AnyArray:
        """Return the first state of so many rows."""
        dtype = "float32" if self.input.dtype == "bfloat16" else self.input.dtype
        return np.zeros(self.shape(rows), dtype)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row, without the axis of the batch."""
        sizes = self.shape(1)
        return sizes if self.axis is None else sizes[: self.axis] + sizes[self.axis + 1 :]


# Words that tell the input of a state from its output, or number the step.
_SIDES = {
    *("in", "input", "inputs", "out", "output", "outputs", "new", "next", "n", "prev", "previous"),
    *("past", "present", "old", "init", "initial", "last", "final", "cur", "current", "updated"),
}
# Words that say that an array is carried. A single letter counts only if it is all of a name.
_STATES = re.compile(
    r"state|hidden|cell|cache|carry|memory|context|ctx|buffer|rnn|gru|lstm"
    r"|\bbuf\b|\bmem\b|^[hc]( \d+)?$"
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_RECURRENT = {"RNN": (5,), "GRU": (5,), "LSTM": (5, 6), "treadle.Recurrent": (1, 2)}
_MOVES = ("Reshape", "Squeeze", "Unsqueeze", "Slice", "Gather", "Split", "Transpose", "Identity")


def find_states(
    function: str, model: Runs, state: Mapping[str, str] | None, graph: Graph | None = None
) -> list[State]:
    """Return the states of a model, given as {input: output} or found; an empty list for none.

    Raises TypeError or ValueError for what is no state, with what was found.
    """
    pairs = _given(function, model, state) if state is not None else _found(model, graph)
    batch = _batch_names(model, {one.name for one, _ in pairs})
    return [_state(function, one, other, batch) for one, other in pairs]


def no_state(model: Runs) -> str:
    """Return the message that a model has no state that can be found."""
    return (
        f"no state is found among the inputs {signature(model.inputs)} and the outputs "
        f'{signature(model.outputs)}: name it as state={{"input": "output"}}'
    )


def batch_names(states: Iterable[State]) -> set[str] | None:
    """Return the names that the shapes of states give to the size of the batch, or None where no
    state has a batch.
    """
    states = list(states)
    if all(one.axis is None for one in states):
        return None
    sizes = [
        one.input.shape[one.axis] for one in states if one.axis is not None and one.input.shape
    ]
    return {size for size in sizes if isinstance(size, str)}


def batch_axis(value: Value, batch: set[str] | None) -> int | None:
    """Return the axis of the batch of an input or output beside the states, or None.

    It is the axis with the name of the states' batch. Where nothing bears a name it is the first,
    and where no state has a batch only a first axis of one row.
    """
    shape = value.shape
    if batch is None:
        return 0 if shape and shape[0] == 1 else None
    if shape is None:
        return 0
    for axis, size in enumerate(shape):
        if isinstance(size, str) and size in batch:
            return axis
    if not shape or (isinstance(shape[0], int) and shape[0] != 1):
        return None
    return None if batch and shape[0] is not None else 0


def _given(function: str, model: Runs, state: Any) -> list[tuple[Value, Value]]:
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in state.items()
    ):
        raise TypeError(
            f"{function}: state is {shown(state)}, expected a dict from names of inputs to names "
            "of outputs"
        )
    inputs = {value.name: value for value in model.inputs}
    outputs = {value.name: value for value in model.outputs}
    pairs: list[tuple[Value, Value]] = []
    used: dict[str, str] = {}
    for name, other in state.items():
        if name not in inputs:
            raise ValueError(
                f"{function}: state: there is no input {name!r:.100}, expected some of "
                f"{signature(model.inputs)}"
            )
        if other not in outputs:
            raise ValueError(
                f"{function}: state: there is no output {other!r:.100}, expected some of "
                f"{signature(model.outputs)}"
            )
        if other in used:
            raise ValueError(
                f"{function}: state: the output {other!r} is the next state of {used[other]!r} and "
                f"of {name!r}, expected one of them"
            )
        used[other] = name
        one, two = inputs[name], outputs[other]
        if not _agree(one, two):
            raise ValueError(
                f"{function}: state: the input {name!r} is {described(one)} and the output "
                f"{other!r} is {described(two)}, expected the same dtype and shape"
            )
        pairs.append((one, two))
    return pairs


def _found(model: Runs, graph: Graph | None) -> list[tuple[Value, Value]]:
    """Return the inputs and outputs whose names belong together, where there is no doubt."""
    outputs: dict[str, list[Value]] = {}
    for value in model.outputs:
        outputs.setdefault(_key(value.name), []).append(value)
    inputs: dict[str, list[Value]] = {}
    for value in model.inputs:
        inputs.setdefault(_key(value.name), []).append(value)
    pairs = []
    for key, ones in inputs.items():
        fitting = [o for o in outputs.get(key, ()) if len(ones) == 1 and _agree(ones[0], o)]
        says_state = bool(_STATES.search(ones[0].name.lower()) or _STATES.search(key))
        if len(fitting) == 1 and (says_state or _begins_recurrence(graph, ones[0].name)):
            pairs.append((ones[0], fitting[0]))
    return pairs + _by_shape(model, graph, pairs)


def _by_shape(
    model: Runs, graph: Graph | None, pairs: list[tuple[Value, Value]]
) -> list[tuple[Value, Value]]:
    """Return the first states of recurrent nodes with the only other output of their shape."""
    named = {one.name for one, _ in pairs}
    made = {other.name for _, other in pairs}
    inputs = [
        value
        for value in model.inputs
        if value.name not in named and _begins_recurrence(graph, value.name)
    ]
    outputs = [value for value in model.outputs if value.name not in made]
    found = []
    for one in inputs:
        others = [other for other in outputs if other.shape and _agree(one, other)]
        if len(others) == 1 and sum(_agree(value, others[0]) for value in inputs) == 1:
            found.append((one, others[0]))
    return found


def _key(name: str) -> str:
    """Return what a name says without the words of inputs and outputs.

    >>> [_key(n) for n in ("state", "stateN", "h_0", "hn", "in_cache0", "out_cache0", "input_2")]
    ['state', 'state', 'h', 'h', 'cache 0', 'cache 0', '2']
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    words = [word[0] if re.fullmatch("[hc]n", word) else word for word in words]
    kept = [word for word in words if word not in _SIDES]
    if len(kept) == 2 and kept[0] in ("h", "c") and kept[1] == "0":
        kept = kept[:1]
    return " ".join(kept)


def _begins_recurrence(graph: Graph | None, name: str) -> bool:
    """Return whether an input is only moved before it is the first state of a recurrent node."""
    if graph is None:
        return False
    reached, found = {name}, False
    for node in graph.nodes:
        for place, read in enumerate(node.inputs):
            if read not in reached:
                continue
            if place in _RECURRENT.get(node.op, ()):
                found = True
            elif place == 0 and node.op in _MOVES:
                reached.update(filter(None, node.outputs))
            else:
                return False
    return found


def _agree(one: Value, other: Value) -> bool:
    """Return whether dtypes and shapes of a state's input and output can be the same."""
    if one.dtype != other.dtype:
        return False
    if one.shape is None or other.shape is None:
        return True
    return len(one.shape) == len(other.shape) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(one.shape, other.shape, strict=True)
    )


def _batch_names(model: Runs, states: Iterable[str]) -> set[str]:
    """Return the names that inputs beside the states give to their first axis."""
    known = set(states)
    return {
        value.shape[0]
        for value in model.inputs
        if value.name not in known and value.shape and isinstance(value.shape[0], str)
    }


def _state(function: str, one: Value, other: Value, batch: set[str]) -> State:
    """Return a state with the axis of its batch. Raises ValueError where sizes are unknown."""
    if one.shape is None:
        raise ValueError(
            f"{function}: the state {one.name!r} has no known shape in the model, so that it "
            "cannot begin as zeros"
        )
    free = [axis for axis, size in enumerate(one.shape) if not isinstance(size, int)]
    named = [axis for axis in free if one.shape[axis] in batch]
    axes: Sequence[int] = named if len(named) == 1 else free
    if len(free) > 1:
        raise ValueError(
            f"{function}: the state {one.name!r} is {described(one)}, expected one size that calls "
            "choose at most, that of the batch"
        )
    return State(one, other, axes[0] if axes else None)
