"""This module runs a whole model in a pool of streams: one run takes rows and their states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.checks import shown
from treadle.graph.inputs import converted, described, signature
from treadle.graph.ir import Graph, Value
from treadle.graph.states import batch_axis, batch_names
from treadle.layers.pooled_held import HeldPool
from treadle.layers.stream_state import Part, StateLayout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle import _core
    from treadle._inputs.types import AnyArray, ArrayLike, Int
    from treadle.graph.model import Model
    from treadle.graph.states import State

_FORMAT = "treadle.model_stream/1"


class PooledModel:
    """A PooledModel streams the rows of a model's batch or, where it has none, single runs."""

    def __init__(
        self,
        function: str,
        model: Model,
        states: Sequence[State],
        fixed: Mapping[str, ArrayLike],
        *,
        single: bool = False,
    ) -> None:
        self._function, self._model, self._states = function, model, list(states)
        self._batch = batch_names(states)
        self._alone = any(one.axis is None for one in states)
        carried = {one.input.name for one in states}
        inputs = {value.name: value for value in model.inputs if value.name not in carried}
        unknown = [name for name in fixed if name not in inputs]
        if unknown:
            raise ValueError(
                f"{function}: fixed has the input {unknown[0]!r:.100}, expected some of "
                f"{signature(list(inputs.values()))}"
            )
        self._fixed = {k: converted(function, inputs[k], v).copy() for k, v in fixed.items()}
        self._inputs = {name: value for name, value in inputs.items() if name not in fixed}
        self._outputs = [
            value
            for value in model.outputs
            if value.name not in {one.output.name for one in states}
        ]
        self._single = single and len(self._outputs) == 1
        parts = {
            one.input.name: Part(str(one.zeros(1).dtype), one.row_shape, one.row_shape)
            for one in states
        }
        self.layout = StateLayout(parts, _FORMAT)
        self._fingerprint = ""

    def __repr__(self) -> str:
        return repr(self._model)

    def fingerprint(self) -> str:
        """Return the digest of graph and constants that an exported state has."""
        if not self._fingerprint:
            import hashlib  # OpenSSL takes milliseconds to load

            digest = hashlib.sha256()
            _digest(digest, self._model.graph)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def bind(self, slots: _core.StreamSlots) -> HeldPool:
        """Return the object that takes streams of these slots through the model."""
        return HeldPool(slots, self)

    def several(self, native: HeldPool, ids: Int, frames: Sequence[ArrayLike]) -> list[Any]:
        return native.several(ids, frames)

    def given(self, function: str, value: ArrayLike) -> Mapping[str, AnyArray]:
        """Return the arrays of the state of one row, checked."""
        given = self.layout.named(function, value)
        result = {}
        for one in self._states:
            name = one.input.name
            whole = one.shape(1)
            row = np.asarray(given[name])
            if row.shape == one.row_shape:
                row = row.reshape(whole)
            array = converted(function, one.input, row)
            if array.shape != whole:
                raise ValueError(
                    f"{function}: state: {name} has shape {array.shape}, expected {one.row_shape}"
                )
            result[name] = array.reshape(one.row_shape)
        return result

    def shown(self, parts: Mapping[str, AnyArray]) -> Any:
        """Return the arrays of the state of one row by the names of the model's inputs."""
        return dict(parts)

    # -- calls ------------------------------------------------------------------------------------

    def call(
        self, frames: Any, states: Mapping[str, AnyArray], rows: int
    ) -> tuple[Any, Mapping[str, AnyArray], int]:
        arrays = self._arrays(frames, rows)
        if self._alone:
            results, new = self._one_by_one(arrays, states, rows)
        else:
            given = {
                one.input.name: np.ascontiguousarray(
                    np.moveaxis(states[one.input.name], 0, one.axis)
                )
                for one in self._states
                if one.axis is not None
            }
            results = self._run({**arrays, **given})
            new = {
                one.input.name: np.moveaxis(self._next(results, one, rows), one.axis or 0, 0)
                for one in self._states
            }
        kept = {value.name: results[value.name] for value in self._outputs}
        return (next(iter(kept.values())) if self._single else kept), new, rows

    def _arrays(self, frames: Any, rows: int) -> dict[str, AnyArray]:
        """Return the inputs of a call, each with a row for each stream."""
        if not isinstance(frames, Mapping):
            if len(self._inputs) != 1:
                raise TypeError(
                    f"{self._function}: frames are {shown(frames)}, expected a dict with "
                    f"{signature(list(self._inputs.values()))}"
                )
            frames = {next(iter(self._inputs)): frames}
        if set(frames) != set(self._inputs):
            raise TypeError(
                f"{self._function}: frames have {sorted(map(str, frames))}, expected "
                f"{signature(list(self._inputs.values()))}"
            )
        arrays = {}
        for name, value in self._inputs.items():
            axis = self._axis(value)
            if self._alone:
                # The model takes one row, and each of these rows has a run of its own.
                array = np.asarray(frames[name])
                if array.ndim < 1 or array.shape[0] != rows:
                    self._refuse(name, array.shape, rows, 0)
                arrays[name] = array
                continue
            array = converted(self._function, value, frames[name])
            if axis is not None and (array.ndim <= axis or array.shape[axis] != rows):
                self._refuse(name, array.shape, rows, axis)
            arrays[name] = array
        return arrays

    def _refuse(self, name: str, shape: tuple[int, ...], rows: int, axis: int) -> None:
        raise ValueError(
            f"{self._function}: {name} has shape {shape}, expected a row for each of the {rows} "
            f"streams on axis {axis} of {described(self._inputs[name])}"
        )

    def _axis(self, value: Value) -> int | None:
        return batch_axis(value, self._batch)

    def _run(self, arrays: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        results = self._model(**self._fixed, **arrays)
        return results if isinstance(results, dict) else {self._model.outputs[0].name: results}

    def _next(self, results: Mapping[str, AnyArray], one: State, rows: int) -> AnyArray:
        array = results[one.output.name]
        if array.shape != one.shape(rows) or array.dtype != self.layout.parts[one.input.name].dtype:
            raise ValueError(
                f"{self._function}: the output {one.output.name!r} is {array.dtype} {array.shape} "
                f"and cannot be the next {one.input.name!r}, which is {described(one.input)}"
            )
        return array

    def _one_by_one(
        self, arrays: Mapping[str, AnyArray], states: Mapping[str, AnyArray], rows: int
    ) -> tuple[dict[str, AnyArray], Mapping[str, AnyArray]]:
        """Run a model that has no batch once for each row."""
        found = []
        for row in range(rows):
            own = {
                name: array[row] if self._axis(self._inputs[name]) is None else array[row : row + 1]
                for name, array in arrays.items()
            }
            state = {
                one.input.name: states[one.input.name][row].reshape(one.shape(1))
                for one in self._states
            }
            found.append(self._run({**own, **state}))
        new = {
            one.input.name: np.stack([self._next(r, one, 1).reshape(one.row_shape) for r in found])
            for one in self._states
        }
        kept = {}
        for value in self._outputs:
            results = [result[value.name] for result in found]
            join = np.stack if self._axis(value) is None else np.concatenate
            kept[value.name] = join(results)
        return kept, new

    def groups(self, frames: Sequence[ArrayLike]) -> list[tuple[list[int], Any]]:
        found: dict[Any, list[int]] = {}
        rows = [self._row_arrays(frame) for frame in frames]
        for number, arrays in enumerate(rows):
            found.setdefault(tuple(array.shape for array in arrays.values()), []).append(number)
        result = []
        for numbers in found.values():
            stacked = {}
            for name, value in self._inputs.items():
                axis = 0 if self._alone else self._axis(value)
                if axis is None:
                    raise ValueError(
                        f"{self._function}: the input {name} is {described(value)}, which is the "
                        "same for all streams: give it by the argument fixed of the pool"
                    )
                stacked[name] = np.stack([rows[number][name] for number in numbers], axis)
            result.append((numbers, stacked))
        return result

    def _row_arrays(self, frame: Any) -> dict[str, AnyArray]:
        """Return the inputs of one stream by name, without the axis of the batch."""
        if not isinstance(frame, Mapping):
            if len(self._inputs) != 1:
                raise TypeError(
                    f"{self._function}: a frame is {shown(frame)}, expected a dict with "
                    f"{signature(list(self._inputs.values()))}"
                )
            frame = {next(iter(self._inputs)): frame}
        if set(frame) != set(self._inputs):
            raise TypeError(
                f"{self._function}: a frame has {sorted(map(str, frame))}, expected "
                f"{signature(list(self._inputs.values()))}"
            )
        return {
            name: np.asarray(converted_row(self._function, self._inputs[name], frame[name]))
            for name in self._inputs
        }

    def row(self, results: Any, frame: ArrayLike, row: int) -> Any:
        if not isinstance(results, dict):
            return self._row_of(self._outputs[0], results, row)
        values = {value.name: value for value in self._outputs}
        return {name: self._row_of(values[name], array, row) for name, array in results.items()}

    def _row_of(self, value: Value, array: AnyArray, row: int) -> AnyArray:
        axis = 0 if self._alone else self._axis(value)
        return array if axis is None or array.ndim <= axis else array.take(row, axis)


def converted_row(function: str, value: Value, frame: Any) -> AnyArray:
    """Return one row of an input, converted as the whole input is."""
    return converted(function, Value(value.name, value.dtype, None), frame)


def _digest(digest: Any, graph: Any) -> None:
    """Add everything to a digest that decides what a state means."""
    digest.update(repr((graph.inputs, graph.outputs)).encode())
    for name, constant in graph.constants.items():
        for part in constant if isinstance(constant, tuple) else (constant,):
            digest.update(f"{name} {part.dtype} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
    for node in graph.nodes:
        digest.update(repr((node.op, node.inputs, node.outputs)).encode())
        for name, value in sorted(node.attributes.items()):
            digest.update(name.encode())
            if isinstance(value, Graph):
                _digest(digest, value)
            elif isinstance(value, np.ndarray):
                digest.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
            else:
                digest.update(repr(value).encode())
