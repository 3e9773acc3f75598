"""ModelStream: a whole model whose state is carried from call to call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle import _core
from treadle._inputs.arrays import to_rows
from treadle._inputs.checks import integer, shown
from treadle.graph.inputs import converted, described, signature
from treadle.graph.states import batch_axis, batch_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle._inputs.types import AnyArray, ArrayLike
    from treadle.graph.states import Runs, State


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
        model: Runs,
        states: Sequence[State],
        batch_size: int,
        *,
        initial: Mapping[str, ArrayLike] | None = None,
        single: bool = False,
    ) -> None:
        self._function, self._model, self._single = function, model, single
        self._batch_size = integer(function, "batch_size", batch_size)
        self._states = list(states)
        for one in states:
            if one.axis is None and batch_size != 1:
                raise ValueError(
                    f"{function}: batch_size is {batch_size}, expected 1 for a model whose state "
                    f"{one.input.name!r} is {described(one.input)}"
                )
        carried = {one.input.name for one in states}
        self._inputs = [value for value in model.inputs if value.name not in carried]
        self._batch = batch_names(states)
        self._lock = _core.StreamSlots(function, 1, 0)  # whose only stream is in one call at a time
        self._id = np.array([self._lock.open()], np.int64)
        self._arrays = self._zeros()
        self._initial = dict(self._arrays)
        if initial is not None:
            self._initial = self._arrays = self._given("initial", initial)

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
        given = self._named(args, named)
        held = _core.HeldStreams(self._lock, self._id)
        try:
            results = self._model(**given, **self._arrays)
            self._arrays = self._next(results)
        finally:
            held.release()
        taken = {one.output.name for one in self._states}
        kept = {name: array for name, array in results.items() if name not in taken}
        return next(iter(kept.values())) if self._single and len(kept) == 1 else kept

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
        held = _core.HeldStreams(self._lock, self._id)
        try:
            self._arrays = {
                one.input.name: _mixed(
                    self._arrays[one.input.name], new[one.input.name], chosen, one
                )
                for one in self._states
            }
        finally:
            held.release()

    @property
    def state(self) -> dict[str, AnyArray]:
        """Copies of the state by the names of its inputs. Assignment replaces it."""
        return {name: array.copy() for name, array in self._arrays.items()}

    @state.setter
    def state(self, value: Mapping[str, ArrayLike]) -> None:
        self.reset(state=value)

    # -- checks -----------------------------------------------------------------------------------

    def _named(self, args: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs by name. Raises TypeError for other names than those of the model."""
        names = [value.name for value in self._inputs]
        if len(args) > len(names):
            raise TypeError(
                f"{self._function}: {len(args)} inputs are given, expected "
                f"{signature(self._inputs)}"
            )
        given = dict(zip(names, args, strict=False))
        for name, value in named.items():
            if name not in names:
                carried = " (the stream carries it)" * (name in self.carried)
                raise TypeError(
                    f"{self._function}: there is no input {name!r:.100}{carried}, expected "
                    f"{signature(self._inputs)}"
                )
            if name in given:
                raise TypeError(f"{self._function}: {name} is given twice")
            given[name] = value
        missing = [name for name in names if name not in given]
        if missing:
            raise TypeError(
                f"{self._function}: {', '.join(missing)} is missing, expected "
                f"{signature(self._inputs)}"
            )
        return {value.name: self._row_input(value, given[value.name]) for value in self._inputs}

    def _row_input(self, value: Any, given: Any) -> AnyArray:
        """Return an input as an array with a row for each row of the state."""
        array = converted(self._function, value, given)
        axis = batch_axis(value, self._batch)
        if axis is not None and axis < array.ndim and array.shape[axis] != self._batch_size:
            raise ValueError(
                f"{self._function}: {value.name} has shape {array.shape}, expected "
                f"B = {self._batch_size} on axis {axis}"
            )
        return array

    def _next(self, results: Any) -> dict[str, AnyArray]:
        if not isinstance(results, dict):
            results = {self._model.outputs[0].name: results}
        new = {}
        for one in self._states:
            array, before = results[one.output.name], self._arrays[one.input.name]
            if array.shape != before.shape or array.dtype != before.dtype:
                raise ValueError(
                    f"{self._function}: the output {one.output.name!r} is {array.dtype} "
                    f"{array.shape} and cannot be the next {one.input.name!r}, which is "
                    f"{before.dtype} {before.shape}"
                )
            new[one.input.name] = array
        return new

    def _given(self, name: str, state: Any) -> dict[str, AnyArray]:
        """Return copies of the arrays of a whole state, checked."""
        names = [one.input.name for one in self._states]
        if not isinstance(state, Mapping) or set(state) != set(names):
            found = sorted(map(str, state)) if isinstance(state, Mapping) else shown(state)
            raise (ValueError if isinstance(state, Mapping) else TypeError)(
                f"{self._function}: {name} is {found}, expected a dict with the arrays {names}"
            )
        arrays = {}
        for one in self._states:
            array = converted(self._function, one.input, state[one.input.name])
            expected = one.shape(self._batch_size)
            if array.shape != expected:
                raise ValueError(
                    f"{self._function}: {name}: {one.input.name} has shape {array.shape}, "
                    f"expected {expected}"
                )
            arrays[one.input.name] = array.copy()
        return arrays

    def _zeros(self) -> dict[str, AnyArray]:
        return {one.input.name: one.zeros(self._batch_size) for one in self._states}

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
