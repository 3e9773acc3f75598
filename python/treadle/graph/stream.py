"""This module defines ModelStream: a whole model whose state is carried from call to call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from treadle._inputs.arrays import to_rows
from treadle._inputs.checks import integer, shown
from treadle.graph.inputs import Inputs, converted, described
from treadle.graph.states import batch_axis, batch_names
from treadle.layers.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle._inputs.types import AnyArray, ArrayLike
    from treadle.graph.ir import Value
    from treadle.graph.model import Model
    from treadle.graph.states import State


class ModelStream:
    """A model and its state for B independent rows: ``model.stream(batch_size)``.

    `step` runs the model once: the outputs that are the next state become the inputs of the next
    step. The state begins as zeros, or as what ``initial`` gives. When a step raises, the state is
    unchanged. Two threads on one stream take turns.

    Shapes are those of the model's inputs and outputs, with B where they have the batch.

    Examples
    --------
    >>> import numpy as np
    >>> from treadle.graph.ir import Graph, Node, Value
    >>> from treadle.graph.model import Model
    >>> x, h, y, hn = (Value(name, "float32", ("batch", 2)) for name in ("x", "h", "y", "hn"))
    >>> nodes = [Node("Softmax", ["h"], ["y"]), Node("Softmax", ["x"], ["hn"])]
    >>> s = Model(Graph([x, h], [y, hn], nodes, {})).stream()
    >>> s.carried
    {'h': 'hn'}
    >>> y = s.step(x=np.ones((1, 2), np.float32))
    >>> s.state["h"]
    array([[0.5, 0.5]], dtype=float32)
    >>> s.reset(rows=[0])
    """

    def __init__(
        self,
        function: str,
        model: Model,
        states: Sequence[State],
        batch_size: int,
        *,
        initial: Mapping[str, ArrayLike] | None = None,
        single: bool = False,
    ) -> None:
        self._function, self._model = function, model
        self._batch_size = integer(function, "batch_size", batch_size)
        self._states = list(states)
        for one in states:
            if one.axis is None and batch_size != 1:
                raise ValueError(
                    f"{function}: batch_size is {batch_size}, expected 1 for a model whose state "
                    f"{one.input.name!r} is {described(one.input)}"
                )
        carried = {one.input.name for one in states}
        made = {one.output.name for one in states}
        inputs = [value for value in model.inputs if value.name not in carried]
        outputs = [value.name for value in model.outputs]
        batch = batch_names(states)
        self._gather = Inputs(function, inputs)
        self._names = self._gather.names
        axes = [(i, value, batch_axis(value, batch)) for i, value in enumerate(inputs)]
        self._axes = [(i, value, axis) for i, value, axis in axes if axis is not None]
        self._shared = [(i, value) for i, value, axis in axes if axis is None]
        self._last: dict[str, tuple[int, AnyArray]] = {}  # an integer of the last step as an array
        # The places of the model's inputs among the stream's, then the states.
        order = [*self._names, *(one.input.name for one in states)]
        self._order = [order.index(value.name) for value in model.inputs]
        # The places of states and of kept outputs among the outputs of the model.
        self._outs = [outputs.index(one.output.name) for one in states]
        self._kept = [(name, i) for i, name in enumerate(outputs) if name not in made]
        self._single = single and len(self._kept) == 1
        self._turns = Turns(function)
        self._arrays = [one.zeros(batch_size) for one in states]
        if initial is not None:
            self._arrays = self._given("initial", initial)
        self._initial = list(self._arrays)
        self._forms = [(array.shape, array.dtype) for array in self._arrays]

    @property
    def batch_size(self) -> int:
        """The number of independent rows B."""
        return self._batch_size

    @property
    def carried(self) -> dict[str, str]:
        """The inputs that are the state, and the outputs that they come from."""
        return {one.input.name: one.output.name for one in self._states}

    def step(self, *args: ArrayLike, **named: ArrayLike) -> Any:
        """Run the model once and carry its state; return its outputs, without the state's, by name,
        or the only output where the model returns that.

        The inputs are given by name, or in order, without those of the state. Raises TypeError or
        ValueError for inputs that do not fit, and for an output that cannot be the next state; the
        state is unchanged then.
        """
        given = list(args)
        if named or len(args) != len(self._names):
            given = self._ordered(args, named)
        for place, value, axis in self._axes:
            array = given[place]
            if type(array) is not np.ndarray:
                array = given[place] = converted(self._function, value, array)
            if axis < array.ndim and array.shape[axis] != self._batch_size:
                self._refuse_rows(value, axis, array)
        for place, value in self._shared:
            if type(number := given[place]) is int:
                given[place] = self._scalar(value, number)
        turn = self._turns.take()
        try:
            given += self._arrays
            results = self._model._run(tuple([given[place] for place in self._order]), {})
            self._arrays = self._next(results)
        finally:
            turn.release()
        if self._single:
            return results[self._kept[0][1]]
        return {name: results[i] for name, i in self._kept}

    def reset(
        self, rows: ArrayLike | None = None, state: Mapping[str, ArrayLike] | None = None
    ) -> None:
        """Set the states of all rows, or of ``rows``, to the beginning or to their part of
        ``state``.

        ``rows`` is an integer, a sequence of integers in 0..B-1, or bool [B]; ``state`` has arrays
        as the property has. Raises ValueError or TypeError for what does not fit.
        """
        new = self._initial if state is None else self._given("state", state)
        if rows is None:
            chosen = np.ones(self._batch_size, np.bool_)
        else:
            chosen = np.zeros(self._batch_size, np.bool_)
            chosen[self._rows(rows)] = True
        turn = self._turns.take()
        try:
            self._arrays = [
                _mixed(old, begin, chosen, one)
                for old, begin, one in zip(self._arrays, new, self._states, strict=True)
            ]
        finally:
            turn.release()

    @property
    def state(self) -> dict[str, AnyArray]:
        """Copies of the state by the names of its inputs. Assignment replaces it."""
        arrays = self._arrays
        return {one.input.name: a.copy() for one, a in zip(self._states, arrays, strict=True)}

    @state.setter
    def state(self, value: Mapping[str, ArrayLike]) -> None:
        self.reset(state=value)

    # -- checks -----------------------------------------------------------------------------------

    def _ordered(self, args: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
        """Return inputs by position and by name in their order."""
        later = self._names[len(args) :]
        fits = len(args) + len(named) == len(self._names)
        if not fits or not all(map(named.__contains__, later)):
            self._gather.gathered(args, named)  # raises
        return [*args, *map(named.__getitem__, later)]

    def _scalar(self, value: Value, number: int) -> AnyArray:
        """Return an integer such as a sample rate as an array, the one of the step before."""
        last = self._last.get(value.name)
        if last is None or last[0] != number:
            array = converted(self._function, value, number)
            last = self._last[value.name] = (number, array)
        return last[1]

    def _refuse_rows(self, value: Value, axis: int, array: AnyArray) -> NoReturn:
        """Raise ValueError for an input that has not a row for each row of the state."""
        raise ValueError(
            f"{self._function}: {value.name} has shape {array.shape}, expected "
            f"B = {self._batch_size} on axis {axis}"
        )

    def _next(self, results: list[AnyArray]) -> list[AnyArray]:
        new = [results[i] for i in self._outs]
        for array, (shape, dtype) in zip(new, self._forms, strict=True):
            if array.shape != shape or array.dtype != dtype:
                self._refuse_next(new)
        return new

    def _refuse_next(self, new: list[AnyArray]) -> NoReturn:
        """Raise ValueError for outputs that cannot be the next states."""
        wrong = [
            (one, array)
            for one, array, form in zip(self._states, new, self._forms, strict=True)
            if (array.shape, array.dtype) != form
        ]
        (one, array), before = wrong[0], self._arrays[self._states.index(wrong[0][0])]
        raise ValueError(
            f"{self._function}: the output {one.output.name!r} is {array.dtype} {array.shape} and "
            f"cannot be the next {one.input.name!r}, which is {before.dtype} {before.shape}"
        )

    def _given(self, name: str, state: Any) -> list[AnyArray]:
        """Return copies of the arrays of a whole state, checked."""
        names = [one.input.name for one in self._states]
        if not isinstance(state, Mapping) or set(state) != set(names):
            found = sorted(map(str, state)) if isinstance(state, Mapping) else shown(state)
            raise (ValueError if isinstance(state, Mapping) else TypeError)(
                f"{self._function}: {name} is {found}, expected a dict with the arrays {names}"
            )
        arrays = []
        for one in self._states:
            array = converted(self._function, one.input, state[one.input.name])
            expected = one.shape(self._batch_size)
            if array.shape != expected:
                raise ValueError(
                    f"{self._function}: {name}: {one.input.name} has shape {array.shape}, "
                    f"expected {expected}"
                )
            arrays.append(array.copy())
        return arrays

    def _rows(self, rows: ArrayLike) -> AnyArray:
        count = self._batch_size

        def fits(array: AnyArray) -> None:
            if array.ndim > 1 or array.size > count:
                raise ValueError(
                    f"{self._function}: rows has shape {array.shape}, expected [N] with N at most "
                    f"B = {count}"
                )

        array = to_rows(self._function, "rows", rows, fits)
        if array.dtype == np.bool_:
            if array.shape != (count,):
                raise ValueError(
                    f"{self._function}: rows has shape {array.shape}, expected [B] with B = {count}"
                )
            return array
        if array.size and not 0 <= int(array.min()) <= int(array.max()) < count:
            raise ValueError(
                f"{self._function}: rows are {array.tolist()}, expected 0 to B - 1 with B = {count}"
            )
        return array

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(f"{self._function}: a stream cannot be pickled or copied")

    def __repr__(self) -> str:
        return f"ModelStream({self._model!r}, batch_size={self._batch_size})"


def _mixed(old: AnyArray, new: AnyArray, rows: AnyArray, state: State) -> AnyArray:
    """Return a state whose chosen rows are new."""
    if rows.all():
        return new.copy()
    result = old.copy()
    if state.axis is not None:
        np.moveaxis(result, state.axis, 0)[rows] = np.moveaxis(new, state.axis, 0)[rows]
    return result
