"""This module puts a recurrent layer or cell into a pool of streams, stepped by native code."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.arrays import to_dense, to_float32, to_pair
from treadle._inputs.checks import fits, shape
from treadle.layers.build import configuration
from treadle.layers.stream import FORMAT
from treadle.layers.stream_state import Part, StateLayout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from treadle import _core
    from treadle._inputs.types import AnyArray, ArrayLike, Float, Int
    from treadle.layers.recurrent_base import RecurrentBase


class PooledRecurrent:
    """A PooledRecurrent has streams of a net that reads forwards; their steps are native calls.

    The exported state of a stream is that of a `treadle.Stream` with one row.
    """

    def __init__(self, function: str, module: RecurrentBase) -> None:
        direction = module._spec.direction
        if direction != "forward":
            raise ValueError(
                f"{function}: the layer has {direction}=True, expected False, since a stream does "
                "not know the future"
            )
        self._module, self._packed, self._function = module, module._packed, function
        spec = module._spec
        with_axis = bool(module._sizes.states)  # the states of cells lack the axis L

        def part(size: int) -> Part:
            layers = spec.num_layers
            return Part("float32", (layers, size) if with_axis else (size,), (layers, 1, size))

        parts = {"h": part(spec.state_size)}
        if module.mode == "lstm":
            parts["c"] = part(spec.hidden_size)
        self.layout = StateLayout(parts, FORMAT)

    def __repr__(self) -> str:
        return repr(self._module)

    def fingerprint(self) -> str:
        """Return the digest of configuration and weights that an exported state has."""
        return self._packed.fingerprint(configuration(self._module))

    def bind(self, slots: _core.StreamSlots) -> _core.StreamPool:
        """Return the native object that takes streams of these slots through the net."""
        native: _core.RecurrentStack = self._packed.native
        inputs = self._module._spec.input_size
        return native.pool(slots, to_float32=partial(_to_frames, inputs))

    def several(
        self, native: _core.StreamPool, ids: Int, frames: Sequence[ArrayLike]
    ) -> list[Float]:
        """Step each stream through a frame [I] or a chunk [T_i, I] of its own, in one call."""
        inputs = self._module._spec.input_size
        each = [
            to_float32(self._function, f"frames[{i}]", frame, partial(_fits_frame, self, i))
            for i, frame in enumerate(frames)
        ]
        lengths = np.array([len(x) if x.ndim == 2 else 1 for x in each], np.int64)
        rows = [x if x.ndim == 2 else x[None] for x in each]
        x = np.concatenate(rows) if rows else np.empty((0, inputs), np.float32)
        y = native.step(ids, x, lengths)
        ends = np.cumsum(lengths).tolist()
        return [
            y[end - len(row) : end] if one.ndim == 2 else y[end - 1]
            for one, row, end in zip(each, rows, ends, strict=True)
        ]

    def given(self, function: str, value: ArrayLike) -> Mapping[str, AnyArray]:
        """Return the arrays of a state as the property `state` has them, checked."""
        names = list(self.layout.parts)
        arrays = [value] if len(names) == 1 else to_pair(function, "state", value)
        result = {}
        for name, array in zip(names, arrays, strict=True):
            sizes = self.layout.parts[name].shape
            letters = "LH"[-len(sizes) :]
            where = "state" if len(names) == 1 else f"state: {name}"
            result[name] = to_dense(function, where, array, fits(function, where, sizes, letters))
        return result

    def shown(self, parts: Mapping[str, AnyArray]) -> Any:
        """Return the arrays of a state as the layer does: h, or (h, c) of an LSTM."""
        return (parts["h"], parts["c"]) if "c" in parts else parts["h"]


def _fits_frame(pooled: PooledRecurrent, number: int, x: AnyArray) -> None:
    inputs = pooled._module._spec.input_size
    name = f"frames[{number}]"
    if x.ndim == 2:
        shape(pooled._function, name, x, (None, inputs), "TI")
    else:
        shape(pooled._function, name, x, (inputs,), "I")


def _to_frames(inputs: int, function: str, name: str, value: ArrayLike) -> Float:
    """Convert frames that are no array of float32: of one stream or several, with or without T."""

    def fits_frames(x: AnyArray) -> None:
        if not 1 <= x.ndim <= 3 or x.shape[-1] != inputs:
            shape(function, name, x, (None, None, inputs), "NTI")

    return to_float32(function, name, value, fits_frames)
