"""The first state of a decoder: (h,), or (h, c) of an LSTM, as its recurrent layer takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.layers.cells import Cell

if TYPE_CHECKING:
    from treadle._inputs.types import Float, Int
    from treadle.layers.recurrent_base import RecurrentBase

    State = tuple[Float, ...]


def blank(recurrent: RecurrentBase, rows: int) -> State:
    """Return zeros for so many rows."""
    spec = recurrent._spec
    sizes = (spec.state_size, spec.hidden_size) if spec.mode == "lstm" else (spec.state_size,)
    return _laid(recurrent, [np.zeros((spec.num_layers, rows, n), np.float32) for n in sizes])


def carried(recurrent: RecurrentBase, final: Any, directions: int) -> State:
    """Return the final state of an encoder, whose directions lie side by side in each layer."""
    given = final if isinstance(final, tuple) else (final,)
    parts = []
    for part in given[: 2 if recurrent.mode == "lstm" else 1]:
        rows, size = part.shape[1:]
        layers = len(part) // directions
        each = part.reshape(layers, directions, rows, size).transpose(0, 2, 1, 3)
        parts.append(each.reshape(layers, rows, directions * size))
    return _laid(recurrent, parts)


def bridged(recurrent: RecurrentBase, numbers: Float) -> State:
    """Return the state that a bridge has computed: of each row h of all layers, then c of all."""
    spec = recurrent._spec
    sizes = (spec.state_size, spec.hidden_size) if spec.mode == "lstm" else (spec.state_size,)
    ends = np.cumsum([spec.num_layers * size for size in sizes])[:-1]
    return _laid(
        recurrent,
        [
            part.reshape(len(part), spec.num_layers, size).swapaxes(0, 1)
            for part, size in zip(np.split(numbers, ends, axis=1), sizes, strict=True)
        ],
    )


def summary(memory: Float, lengths: Int, final: Any, directions: int) -> Float:
    """Return what a bridge reads of each row: the final h of an encoder's top layer, or, where no
    layer is recurrent, the mean of the positions.
    """
    if final is not None:
        h = final[0] if isinstance(final, tuple) else final
        top: Float = h[-directions:].transpose(1, 0, 2)
        return top.reshape(len(top), directions * top.shape[2])
    if memory.ndim == 2:
        return memory
    means = np.zeros((len(memory), memory.shape[2]), np.float32)
    for row, count in enumerate(lengths.tolist()):  # one by one, so that none depends on others
        if count:
            means[row] = memory[row, :count].sum(axis=0, dtype=np.float32) / np.float32(count)
    return means


def _laid(recurrent: RecurrentBase, parts: list[Float]) -> State:
    """Return parts [L, B, H] as the layer takes them: cells have no axis of layers."""
    if isinstance(recurrent, Cell):
        parts = [part[0] for part in parts]
    return tuple(np.ascontiguousarray(part) for part in parts)
