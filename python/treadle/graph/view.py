"""This module gives passes a view of a graph: who makes a value, who reads it, what it is.

A pass looks for a pattern through a `View` and replaces its nodes by others. The view stays right
after a replacement, so that one walk through the nodes is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.graph.ir import Graph, Node, subgraphs
from treadle.graph.shapes import NOTHING, Known, describe, of_array

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np


# How many inputs the operators have that fusions look for, the first of these present. Other nodes
# of these operators are malformed: fusions do not see them, and their operators say so.
_COUNTS = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "MatMul", "Reshape", "Unsqueeze"), (2, 2)),
    **dict.fromkeys(("Sigmoid", "Tanh", "Relu", "Erf", "Sqrt", "Reciprocal", "Softmax"), (1, 1)),
    **dict.fromkeys(("LogSoftmax", "HardSigmoid", "HardSwish", "Swish", "Gelu", "Cast"), (1, 1)),
    **dict.fromkeys(("Flatten", "Transpose", "LeakyRelu", "Elu", "Softplus", "Softsign"), (1, 1)),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), (2, 3)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (3, 8)),
    "BatchNormalization": (5, 5),
    "Clip": (1, 3),
    "ReduceMean": (1, 2),
    "STFT": (2, 4),
    "Slice": (3, 5),
    "Split": (1, 2),
    "Where": (3, 3),
}


def is_well_formed(node: Node) -> bool:
    """Return whether a node has as many inputs and outputs as its operator, where that is known."""
    least, most = _COUNTS.get(node.op, (0, len(node.inputs)))
    return bool(node.outputs) and least <= len(node.inputs) <= most and all(node.inputs[:least])


def reads(node: Node) -> Iterator[str]:
    """Yield the names that a node reads, and all names that its subgraphs mention."""
    yield from (name for name in node.inputs if name)
    for graph in subgraphs(node):
        yield from (value.name for value in graph.outputs)
        for inner in graph.nodes:
            yield from reads(inner)


class View:
    """A view of a graph, in which nodes can be found and replaced.

    Parameters
    ----------
    graph : Graph
        The graph to look at. Subgraphs have views of their own.
    known : dict of str to Known
        What is known about the values, from `treadle.graph.shapes.infer`.
    outer : mapping of str to numpy.ndarray
        The constants of the graphs around this one.
    """

    def __init__(
        self, graph: Graph, known: dict[str, Known], outer: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.graph = graph
        self._known = known
        self._outer = outer or {}
        self._nodes: list[Node | None] = list(graph.nodes)
        self._places = {node: place for place, node in enumerate(graph.nodes)}
        self._makers: dict[str, Node] = {}
        self._readers: dict[str, list[Node]] = {}
        self._kept = {value.name for value in graph.outputs}
        self._made = 0
        for node in graph.nodes:
            self._enter(node)

    def _enter(self, node: Node) -> None:
        for name in node.outputs:
            if name:
                self._makers[name] = node
        for name in reads(node):
            self._readers.setdefault(name, []).append(node)

    def _leave(self, node: Node) -> None:
        for name in node.outputs:
            self._makers.pop(name, None)
        for name in reads(node):
            self._readers[name].remove(node)

    def __contains__(self, node: Node) -> bool:
        """Return whether a node is still part of the graph."""
        return node in self._places

    def nodes(self, *ops: str) -> Iterator[Node]:
        """Yield the nodes of these operators (of all, without any) that are there when reached."""
        for node in list(self._nodes):
            if node is None or node not in self._places or not is_well_formed(node):
                continue
            if not ops or node.op in ops:
                yield node

    def constant(self, name: str) -> np.ndarray | None:
        """Return a constant, also one of the graphs around, or None."""
        found = self.graph.constants.get(name)
        return self._outer.get(name) if found is None else found

    def constants(self) -> dict[str, np.ndarray]:
        """Return all the constants that a subgraph of this graph can read."""
        return {**self._outer, **self.graph.constants}

    def number(self, name: str, dtype: str = "float32") -> float | None:
        """Return the number in a constant of one element, or None."""
        array = self.constant(name)
        if array is None or array.size != 1 or array.dtype.name != dtype:
            return None
        return float(array.reshape(-1)[0])

    def integers(self, name: str) -> list[int] | None:
        """Return the numbers in a constant of integers, or None."""
        array = self.constant(name)
        if array is None or array.dtype.kind not in "iu":
            return None
        return [int(number) for number in array.reshape(-1)]

    def known(self, name: str) -> Known:
        """Return what is known about a value."""
        return self._known.get(name, NOTHING)

    def is_float(self, name: str) -> bool:
        """Return whether a value is known to be float32."""
        return self.known(name).dtype == "float32"

    def maker(self, name: str, *ops: str) -> Node | None:
        """Return the node that makes a value, if its operator is one of these."""
        node = self._makers.get(name)
        if node is None or not is_well_formed(node):
            return None
        return node if not ops or node.op in ops else None

    def readers(self, name: str) -> list[Node]:
        """Return the nodes that read a value, one of them twice if it reads it twice."""
        return list(self._readers.get(name, ()))

    def is_kept(self, name: str) -> bool:
        """Return whether a value is an output of the graph."""
        return name in self._kept

    def only_reader(self, name: str, *ops: str) -> Node | None:
        """Return the node that alone reads a value, once and as an input, if it is one of ops."""
        readers = self._readers.get(name, ())
        if len(readers) != 1 or name in self._kept or name not in readers[0].inputs:
            return None
        seen = is_well_formed(readers[0]) and (not ops or readers[0].op in ops)
        return readers[0] if seen else None

    def is_private(self, nodes: Iterable[Node], result: str) -> bool:
        """Return whether nobody outside of nodes reads what they make, but for one result."""
        group = set(nodes)
        return all(
            name == result
            or (name not in self._kept and all(r in group for r in self._readers.get(name, ())))
            for node in group
            for name in node.outputs
            if name
        )

    def place(self, node: Node) -> int:
        """Return a number that is larger for nodes that are executed later."""
        return self._places[node]

    def add_constant(self, label: str, array: np.ndarray) -> str:
        """Add a constant under a new name that begins with a label."""
        name = label
        while name in self._known or name in self._makers or self.constant(name) is not None:
            self._made += 1
            name = f"{label}.{self._made}"
        self.graph.constants[name] = array
        self._known[name] = of_array(array)
        return name

    def new_name(self, label: str) -> str:
        """Return a name for a new value."""
        name = label
        while name in self._known or name in self._makers or self.constant(name) is not None:
            self._made += 1
            name = f"{label}.{self._made}"
        self._known[name] = NOTHING
        return name

    def replace(self, old: Iterable[Node], new: Iterable[Node], at: Node) -> None:
        """Put new nodes, in their order, at the place of a node, and take old ones out.

        The node at that place is among the old ones.
        """
        place = self._places[at]
        for node in old:
            self._leave(node)
            self._nodes[self._places.pop(node)] = None
        added = list(new)
        if len(added) == 1:
            self._nodes[place] = added[0]
        else:
            self._nodes[place : place + 1] = added
            for index, other in enumerate(self._nodes[place:], place):
                if other is not None:
                    self._places[other] = index
        for index, node in enumerate(added, place):
            self._places[node] = index
            self._enter(node)
            describe(node, self._known)

    def sweep(self) -> None:
        """Take out nodes whose outputs nobody reads."""
        for node in sorted(self._places, key=self._places.__getitem__, reverse=True):
            if not any(name in self._kept or self._readers.get(name) for name in node.outputs):
                self._leave(node)
                self._nodes[self._places.pop(node)] = None

    def finish(self) -> None:
        """Write the nodes back into the graph."""
        self.graph.nodes[:] = [node for node in self._nodes if node is not None]
