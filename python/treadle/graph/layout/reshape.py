"""This rule lets a Reshape work on a value as it lies, where every new axis is made of neighbours.

v is the Transpose p of u. If v's axes fall into groups of neighbours, each of which becomes one new
axis, and the axes of each group are neighbours in u too, then u can be reshaped instead, and the
new axes are ordered as their groups were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.graph.ir import Node
from treadle.graph.layout.orders import Order, keeps_memory
from treadle.graph.patterns import constant_target
from treadle.graph.shapes import dims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle.graph.layout.state import State
    from treadle.graph.shapes.dims import Dim


def reshape(node: Node, state: State) -> bool:
    """Let Reshape and Flatten work on u."""
    source, order = state.place(node.inputs[0]) or ("", ())
    shape, result = state.shape(source), state.shape(node.outputs[0])
    if shape is None or result is None:
        return False
    moved = [shape[axis] for axis in order]
    if keeps_memory(order, shape):
        return _write(node, state, source, result, tuple(range(len(result))))
    groups = _groups(moved, result)
    if groups is None:
        return False
    # Axes of size 1 may lie anywhere. The others must follow each other as u has them.
    real = [[order[axis] for axis in group if moved[axis] != 1] for group in groups]
    keys = [
        axes[0] if axes else _at(order, group) for axes, group in zip(real, groups, strict=True)
    ]
    places = sorted(range(len(groups)), key=keys.__getitem__)
    found = [axis for index in places for axis in real[index]]
    if found != sorted(found):
        return False
    target = [result[index] for index in places]
    back = tuple(places.index(index) for index in range(len(groups)))
    return _write(node, state, source, target, back)


def _at(order: Order, group: list[int]) -> int:
    """Return where a new axis of size 1 is put: where its first axis lies, or at the end."""
    return order[group[0]] if group else len(order)


def _groups(shape: Sequence[Dim], result: Sequence[Dim]) -> list[list[int]] | None:
    """Return for each new axis the old ones whose product it is, in turn, or None."""
    groups: list[list[int]] = []
    place = 0
    for size in result:
        group: list[int] = []
        while dims.multiply([shape[axis] for axis in group]) != size:
            if place == len(shape):
                return None
            group.append(place)
            place += 1
        groups.append(group)
    while place < len(shape) and shape[place] == 1 and groups:
        groups[-1].append(place)
        place += 1
    return groups if place == len(shape) else None


def _write(node: Node, state: State, source: str, target: Sequence[Dim], back: Order) -> bool:
    """Write a Reshape of u; the value is the Transpose `back` of it."""
    shape = state.shape(source)
    array = None if shape is None else constant_target(shape, target)
    if array is None:
        return False
    name = state.constant(f"{node.outputs[0]}.shape", array)
    output = state.new_name(f"{node.outputs[0]}.moved")
    state.write(Node("Reshape", [source, name], [output], {}, node.name))
    state.set_virtual(node.outputs[0], output, back)
    return True
