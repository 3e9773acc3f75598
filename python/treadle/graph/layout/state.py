"""This module knows where the values of a graph lie while its layout changes.

A value may be virtual: the new graph does not have it, but another one of which it is a Transpose.
A Transpose node is written only when somebody needs the value as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.graph.ir import Graph, Node
from treadle.graph.layout.orders import Order, inverse, is_identity, keeps_memory, then
from treadle.graph.patterns import constant_target
from treadle.graph.shapes import NOTHING, Known, describe, of_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class State:
    """A State has the graph that is being written, and where values of the old one lie in it."""

    def __init__(
        self, graph: Graph, known: dict[str, Known], outer: Mapping[str, np.ndarray]
    ) -> None:
        self.graph = graph
        self.known = known
        self.constants = {**outer, **graph.constants}
        self.written: list[Node] = []
        self._places: dict[str, tuple[str, Order]] = {}
        self._transposed: dict[tuple[str, Order], str] = {}
        self._present: set[str] = set()
        self._names = 0

    def shape(self, name: str) -> tuple[int | str, ...] | None:
        """Return what is known of a value's shape."""
        return self.known.get(name, NOTHING).shape

    def rank(self, name: str) -> int | None:
        """Return a value's rank if it is known."""
        return self.known.get(name, NOTHING).rank

    def place(self, name: str) -> tuple[str, Order] | None:
        """Return (u, p) where a value is the Transpose p of u, or None where it is itself."""
        return self._places.get(name)

    def is_virtual(self, name: str) -> bool:
        """Return whether a value is known as a Transpose only."""
        return name in self._places and name not in self._present

    def new_name(self, label: str) -> str:
        """Return a name that no value has."""
        name = label
        while name in self.known or name in self.constants:
            self._names += 1
            name = f"{label}.{self._names}"
        self.known[name] = NOTHING
        return name

    def constant(self, label: str, array: np.ndarray) -> str:
        """Add a constant."""
        name = self.new_name(label)
        array = np.ascontiguousarray(array) if array.ndim else array
        self.graph.constants[name] = self.constants[name] = array
        self.known[name] = of_array(array)
        return name

    def write(self, node: Node) -> None:
        """Append a node to the new graph."""
        describe(node, self.known)
        self.written.append(node)

    def add(
        self, op: str, inputs: Sequence[str], attributes: dict[str, Any], label: str, name: str
    ) -> str:
        """Append a node of one output, whose name begins with a label; return the output."""
        output = self.new_name(label)
        self.write(Node(op, list(inputs), [output], attributes, name))
        return output

    def set_virtual(self, name: str, source: str, order: Order) -> None:
        """Say that a value is a Transpose of another one."""
        place = self._places.get(source)
        if place is not None:
            source, order = place[0], then(place[1], order)
        self._places[name] = (source, order)

    def move(self, name: str, order: Order) -> str:
        """Return the Transpose of a value, by a node where there is none yet."""
        source, whole = self._places.get(name, (name, tuple(range(len(order)))))
        whole = then(whole, order)
        if is_identity(whole):
            return source
        found = self._transposed.get((source, whole))
        if found is None:
            array = self.constants.get(source)
            if array is not None:
                found = self.constant(f"{source}.moved", array.transpose(whole))
            else:
                found = self._write_transpose(source, whole, self.new_name(f"{source}.moved"))
            self._transposed[source, whole] = found
        return found

    def cost(self, name: str, order: Order) -> int:
        """Return whether `move` would have to write a node that copies: 1, else 0."""
        source, whole = self._places.get(name, (name, tuple(range(len(order)))))
        whole = then(whole, order)
        if is_identity(whole) or (source, whole) in self._transposed or source in self.constants:
            return 0
        shape = self.shape(source)
        return int(shape is None or not keeps_memory(whole, shape))

    def need(self, name: str) -> str:
        """Make sure that the new graph has a value as the old one had it; return its name."""
        if name in self._places and name not in self._present:
            source, order = self._places[name]
            twin = self._transposed.get((source, order))
            if is_identity(order):
                self.write(Node("Identity", [source], [name]))
            elif twin is not None:
                self.write(Node("Identity", [twin], [name]))
            else:
                self._write_transpose(source, order, name)
                self._transposed[source, order] = name
            self._present.add(name)
        return name

    def _write_transpose(self, source: str, order: Order, output: str) -> str:
        shape = self.shape(source)
        if shape is not None and keeps_memory(order, shape):
            target = constant_target(shape, [shape[axis] for axis in order])
            if target is not None:
                wanted = self.constant(f"{output}.shape", target)
                self.write(Node("Reshape", [source, wanted], [output]))
                return output
        self.write(Node("Transpose", [source], [output], {"perm": list(order)}))
        return output

    def moved_constant(self, name: str, order: Order) -> str | None:
        """Return a constant that broadcasts against u as a given one does against v.

        v is the Transpose ``order`` of u. Returns None where the constant has too many axes.
        """
        array = self.constants[name]
        rank = len(order)
        if array.ndim > rank:
            return None
        if array.size == 1:
            return name
        wide = array.reshape((1,) * (rank - array.ndim) + array.shape)
        back = inverse(order)
        key = (name, back)
        if key not in self._transposed:
            self._transposed[key] = self.constant(f"{name}.moved", wide.transpose(back))
        return self._transposed[key]
