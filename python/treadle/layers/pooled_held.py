"""This module steps pools whose model Python calls: streams are held while the model runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from treadle import _core

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from treadle._inputs.types import AnyArray, ArrayLike, Int
    from treadle.layers.stream_state import StateLayout

    States = Mapping[str, AnyArray]


class Runner(Protocol):
    """A Runner is a model as `HeldPool` calls it."""

    layout: StateLayout

    def call(self, frames: Any, states: States, rows: int) -> tuple[Any, States, int]:
        """Run with a frame and a state for each row: the results, the new states, and how many
        frames there were.
        """

    def groups(self, frames: Sequence[ArrayLike]) -> list[tuple[list[int], Any]]:
        """Return the frames of several streams as those of a few calls, each with its streams."""

    def row(self, results: Any, frame: ArrayLike, row: int) -> Any:
        """Return the part of results that belongs to a row, whose frame this was."""


class HeldPool:
    """A HeldPool makes the steps of a pool.

    No other call uses a stream from before its state is read until the new state is there; when the
    model raises, no state has changed.
    """

    def __init__(self, slots: _core.StreamSlots, runner: Runner) -> None:
        self._slots, self._runner = slots, runner

    def step(self, ids: Int, frames: Any) -> Any:
        layout = self._runner.layout
        with self._held(ids) as held:
            states = layout.split(held.get())
            results, new, count = self._runner.call(frames, states, len(ids))
            held.set(layout.joined(new, len(ids)), count)
        return results

    def push(self, id: int, frame: ArrayLike) -> Any:
        return self.several(np.array([id], np.int64), [frame])[0]

    def several(self, ids: Int, frames: Sequence[ArrayLike]) -> list[Any]:
        runner, total = self._runner, 0
        found: list[Any] = [None] * len(frames)
        groups = runner.groups(frames)
        with self._held(ids) as held:
            states = held.get()
            for rows, stacked in groups:
                own = runner.layout.split(states[rows])
                results, new, count = runner.call(stacked, own, len(rows))
                states[rows] = runner.layout.joined(new, len(rows))
                total += count
                for place, row in enumerate(rows):
                    found[row] = runner.row(results, frames[row], place)
            held.set(states, total)
        return found

    @contextmanager
    def _held(self, ids: Int) -> Iterator[_core.HeldStreams]:
        held = _core.HeldStreams(self._slots, ids)
        try:
            yield held
        finally:
            held.release()
