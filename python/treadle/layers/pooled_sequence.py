"""This module puts a sequence of layers into a pool: a call takes rows of equal length together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.arrays import to_dense
from treadle._inputs.checks import fits
from treadle.layers.build import configuration
from treadle.layers.pooled_held import HeldPool
from treadle.layers.stream_state import Part, StateLayout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from treadle import _core
    from treadle._inputs.types import AnyArray, ArrayLike, Int
    from treadle.layers.module import Module
    from treadle.layers.sequence_stream import SequenceRunner

_FORMAT = "treadle.sequence_stream/1"


class PooledSequence:
    """A PooledSequence streams a sequence: frames [N, I] or [N, T, I], or ids [N] or [N, T]."""

    def __init__(self, function: str, module: Module, runner: SequenceRunner) -> None:
        if runner.delays:
            raise ValueError(
                f"{function}: {runner.delays[0]} is a Conv1d over several frames, whose streams "
                "do not return a frame for each: expected layers without, or one stream of the "
                "sequence (Sequential.stream)"
            )
        self._function, self._module, self._runner = function, module, runner
        self._digest = ""
        self.layout = StateLayout(
            {
                name: Part("float32", array.shape[1:], array.shape[1:])
                for name, array in runner.begin(1).items()
            },
            _FORMAT,
        )

    def __repr__(self) -> str:
        return repr(self._module)

    def fingerprint(self) -> str:
        """Return the digest of configuration and weights that an exported state has."""
        if not self._digest:
            import hashlib  # which takes milliseconds, and no other import needs it

            digest = hashlib.sha256()
            for name, module in self._runner.modules.items():
                own = module._packed.fingerprint(configuration(module))
                digest.update(f"{name} {type(module).__name__} {own}".encode())
            self._digest = digest.hexdigest()
        return self._digest

    def bind(self, slots: _core.StreamSlots) -> HeldPool:
        """Return the object that takes streams of these slots through the sequence."""
        return HeldPool(slots, self)

    def several(self, native: HeldPool, ids: Int, frames: Sequence[ArrayLike]) -> list[Any]:
        return native.several(ids, frames)

    def given(self, function: str, value: ArrayLike) -> Mapping[str, AnyArray]:
        """Return the arrays of a state by the names of the layers, checked."""
        given = self.layout.named(function, value)
        return {
            name: to_dense(
                function, f"state: {name}", given[name],
                fits(function, f"state: {name}", part.shape, "LH"),
            )
            for name, part in self.layout.parts.items()
        }  # fmt: skip

    def shown(self, parts: Mapping[str, AnyArray]) -> Any:
        """Return the arrays of a state by the names of the layers."""
        return dict(parts)

    def call(
        self, frames: Any, states: Mapping[str, AnyArray], rows: int
    ) -> tuple[Any, Mapping[str, AnyArray], int]:
        runner, x = self._runner, self._runner.converted(frames)
        letters = "BTF" if "F" in runner.inputs else "BT"
        single = x.ndim == len(letters) - 1
        if x.ndim not in (len(letters) - 1, len(letters)) or x.shape[0] != rows:
            raise ValueError(
                f"{self._function}: frames has shape {x.shape}, expected "
                f"[{', '.join(letters.replace('T', '')).replace('B', 'N')}] or "
                f"[{', '.join(letters).replace('B', 'N')}] with N = {rows}"
            )
        if single:
            x = np.expand_dims(x, 1)
        count = rows * x.shape[1]
        x = x.transpose([letters.index(axis) for axis in runner.inputs])
        y, new = runner.run(x, states)
        y = np.asarray(y).transpose([runner.outputs.index(axis) for axis in "BTF"])
        return np.ascontiguousarray(y[:, 0] if single else y), new, count

    def groups(self, frames: Sequence[ArrayLike]) -> list[tuple[list[int], Any]]:
        found: dict[Any, list[int]] = {}
        arrays = [self._runner.converted(frame) for frame in frames]
        for number, array in enumerate(arrays):
            found.setdefault((array.shape, array.dtype), []).append(number)
        return [(rows, np.stack([arrays[row] for row in rows])) for rows in found.values()]

    def row(self, results: Any, frame: ArrayLike, row: int) -> Any:
        return results[row]
