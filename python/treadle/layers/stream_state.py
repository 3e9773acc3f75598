"""This module lays out the state of a stream of a pool: in a row of memory, and in bytes.

A pool keeps the state of a stream as a row of float32; parts of another dtype lie in it as their
bytes. Exported states are safetensors with a fingerprint of the model, and hostile by assumption.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle._inputs.checks import shown

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, Float


class Part(NamedTuple):
    """A Part is an array of a state: NumPy's name of its dtype, its shape, its shape in files."""

    dtype: str
    shape: tuple[int, ...]
    stored: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * np.dtype(self.dtype).itemsize


class StateLayout:
    """A StateLayout puts the parts of a state one behind the other in a row of ``width`` floats."""

    __slots__ = ("_places", "form", "parts", "width")

    def __init__(self, parts: Mapping[str, Part], form: str) -> None:
        self.parts = dict(parts)
        self.form = form
        self._places: dict[str, slice] = {}
        self.width = 0
        for name, part in self.parts.items():
            begin, self.width = self.width, self.width + -(-part.nbytes // 4)
            self._places[name] = slice(begin, self.width)

    def named(self, function: str, value: object) -> Mapping[str, Any]:
        """Return a state that callers give, if it is a dict of all parts; arrays are unchecked.

        Raises TypeError or ValueError.
        """
        names = list(self.parts)
        if not isinstance(value, Mapping):
            raise TypeError(f"{function}: state is {shown(value)}, expected a dict with {names}")
        if set(value) != set(names):
            raise ValueError(
                f"{function}: state has {sorted(map(str, value))}, expected the arrays {names}"
            )
        return value

    def split(self, states: Float) -> dict[str, AnyArray]:
        """Return the parts of states [N, width]: arrays [N, *shape], views of float32."""
        rows = len(states)
        result: dict[str, AnyArray] = {}
        for name, part in self.parts.items():
            flat = states[:, self._places[name]]
            if part.dtype != "float32":
                flat = flat.copy()
                inner = np.ascontiguousarray(flat.view(np.uint8)[:, : part.nbytes])
                flat = inner.view(part.dtype) if part.nbytes else np.empty((rows, 0), part.dtype)
            result[name] = flat.reshape(rows, *part.shape)
        return result

    def joined(self, parts: Mapping[str, AnyArray], rows: int) -> Float:
        """Return checked parts [N, *shape] as states [N, width]."""
        # Behind a part of another dtype there may be bytes that nothing sets.
        exact = all(part.dtype == "float32" for part in self.parts.values())
        states = (np.empty if exact else np.zeros)((rows, self.width), np.float32)
        for name, part in self.parts.items():
            place = self._places[name]
            if part.dtype == "float32":
                states[:, place].reshape(rows, *part.shape)[...] = parts[name]
            elif part.nbytes:
                flat = np.ascontiguousarray(parts[name]).reshape(rows, -1)
                states[:, place].view(np.uint8)[:, : part.nbytes] = flat.view(np.uint8)
        return states

    def serialize(self, state: Float, fingerprint: str) -> bytes:
        """Return a state [width] as bytes for `parse`."""
        from treadle._storage import safetensors

        parts = self.split(state[None])
        arrays = {}
        for name, part in self.parts.items():
            array = parts[name]
            shape = part.stored
            if part.dtype != "float32":  # files have the bytes of other dtypes
                array, shape = array.view(np.int8), (part.nbytes,)
            arrays[name] = array.reshape(shape)
        return safetensors.serialize(arrays, self.form, {"fingerprint": fingerprint})

    def parse(self, function: str, data: bytes, fingerprint: str, whose: str) -> Float:
        """Return the state [width] that bytes hold, which are not trusted. Raises ValueError."""
        from treadle._storage import safetensors

        file = io.BytesIO(data)
        header = safetensors.read_header(file, len(data), f"{function}: state")
        about = safetensors.read_about(header, self.form, ("fingerprint",))
        if about["fingerprint"] != fingerprint:
            raise ValueError(
                f"{function}: state was exported from a model with another configuration or other "
                f"weights, expected a state of {whose} with the weights of this pool"
            )
        layout: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name, part in self.parts.items():
            floats = part.dtype == "float32"
            layout[name] = ("float32", part.stored) if floats else ("int8", (part.nbytes,))
        safetensors.check_tensors(header, layout)
        parts: dict[str, AnyArray] = {}
        for name, part in self.parts.items():
            array = safetensors.read(file, header, name).reshape(1, -1)
            if part.dtype == "bool":
                array = array != 0  # a byte of a bool may only be 0 or 1
            elif part.dtype != "float32" and part.nbytes:
                array = array.view(part.dtype)
            parts[name] = array.reshape(1, *part.shape)
        row: Float = self.joined(parts, 1)[0]
        return row
