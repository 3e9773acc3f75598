"""This module lowers a graph to a native program: it gives every value a slot of the program.

A slot holds one value after another: it is free again after the last node that reads its value.
Values that a subgraph reads from the graphs around it become inputs of its program, behind its own:
the node hands them over, behind its own inputs, and counts them in its attribute ``captures``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle import _core
from treadle.graph.ir import Graph, Node
from treadle.graph.natives import pack
from treadle.graph.vocabulary import FUSED_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MOST_DEPTH = 16  # graphs within graphs
_ABSENT = -1
_FIRST_CONSTANT = -2  # constants are counted downwards from here


def lower(function: str, graph: Graph) -> _core.Program:
    """Return the native program of a graph. Errors begin with ``function``.

    Raises ValueError for a node that reads what is not there, or that its operator refuses, and for
    graphs that are nested more than 16 deep.
    """
    return _Lowering(function, graph, {}, [], 0).program()


class _Lowering:
    """A _Lowering is the plan of one graph while it is made.

    ``outer`` has the constants of the graphs around it, ``captured`` the names of their other
    values that this graph reads.
    """

    def __init__(
        self,
        function: str,
        graph: Graph,
        outer: Mapping[str, np.ndarray],
        captured: list[str],
        depth: int,
    ) -> None:
        if depth > MOST_DEPTH:
            raise ValueError(f"{function}: graphs are nested more than {MOST_DEPTH} deep")
        self.function = function
        self.graph = graph
        self.depth = depth
        self.constants = {**outer, **graph.constants}
        self.places: dict[str, int] = {}
        self.kept: list[np.ndarray] = []  # the constants that the program reads as it runs
        self.free: list[int] = []
        self.slots = 0
        self.inputs = [value.name for value in graph.inputs] + captured
        for name in self.inputs:
            self.places[name] = self.slot()

    def slot(self) -> int:
        if self.free:
            return self.free.pop()
        self.slots += 1
        return self.slots - 1

    def place(self, name: str, reader: str) -> int:
        """Return the place of a value, and give a constant one when it is first read."""
        if not name:
            return _ABSENT
        if name not in self.places:
            value = self.constants.get(name)
            if value is None:
                raise ValueError(
                    f"{self.function}: {reader} reads {name!r:.100}, which is not there"
                )
            self.places[name] = _FIRST_CONSTANT - len(self.kept)
            self.kept.append(value)
        return self.places[name]

    def program(self) -> _core.Program:
        lowered = [self.lowered(node) for node in self.graph.nodes]
        last = _last_reads(inputs for _, inputs in lowered)
        for value in self.graph.outputs:
            last.pop(value.name, None)
        wanted = {name for _, inputs in lowered for name in inputs}
        wanted |= {value.name for value in self.graph.outputs}
        nodes = []
        for number, (attributes, inputs) in enumerate(lowered):
            node = self.graph.nodes[number]
            reader = f"node {node.name} ({node.op})"
            reads = [self.place(name, reader) for name in inputs]
            writes, after = [], []
            for name in node.outputs:
                if not name or name not in wanted:
                    writes.append(_ABSENT)
                    continue
                if name in self.places or name in self.constants:
                    raise ValueError(f"{self.function}: {reader} makes {name!r:.100} once more")
                self.places[name] = self.slot()
                writes.append(self.places[name])
            for name in dict.fromkeys(inputs):
                if name and last.get(name) == number and self.places[name] >= 0:
                    after.append(self.places[name])
            self.free += after
            nodes.append(
                {
                    "op": node.op,
                    "name": node.name,
                    "inputs": reads,
                    "outputs": writes,
                    "last": after,
                    "attributes": attributes,
                }
            )
        outputs = [self.place(value.name, "the graph's output") for value in self.graph.outputs]
        plan = {
            "inputs": len(self.inputs),
            "slots": self.slots,
            "outputs": outputs,
            "constants": [np.require(value, requirements=["C", "A"]) for value in self.kept],
            "nodes": nodes,
        }
        return _core.Program(self.function, plan)

    def lowered(self, node: Node) -> tuple[dict[str, Any], list[str]]:
        """Return the attributes of a node, with programs for its graphs, and all that it reads."""
        if node.op in FUSED_ONLY:
            raise ValueError(
                f"{self.function}: node {node.name} ({node.op}) needs {FUSED_ONLY[node.op]}"
            )
        attributes, inputs = pack(self.function, node, self.constants.get)
        graphs = {k: v for k, v in attributes.items() if isinstance(v, Graph)}
        if not graphs:
            return attributes, inputs
        captured: list[str] = []
        for graph in graphs.values():
            captured += [n for n in captures(graph) if n not in captured]
        constants = {n: self.constants[n] for n in captured if n in self.constants}
        handed = [name for name in captured if name not in constants]
        programs = {
            name: _Lowering(self.function, graph, constants, handed, self.depth + 1).program()
            for name, graph in graphs.items()
        }
        return {**attributes, **programs, "captures": len(handed)}, [*inputs, *handed]


def captures(graph: Graph) -> list[str]:
    """Return the names that a graph and its subgraphs read from the graphs around them."""
    own = {value.name for value in graph.inputs} | set(graph.constants)
    found: dict[str, None] = {}
    for node in graph.nodes:
        for name in _reads(node, captures):
            if name not in own:
                found[name] = None
        own |= set(node.outputs)
    for value in graph.outputs:
        if value.name not in own:
            found[value.name] = None
    return list(found)


def _reads(node: Node, captures: Callable[[Graph], list[str]]) -> list[str]:
    """Return the names that a node reads, those of its subgraphs included."""
    names = [name for name in node.inputs if name]
    for value in node.attributes.values():
        if isinstance(value, Graph):
            names += captures(value)
    return names


def _last_reads(reads: Iterable[list[str]]) -> dict[str, int]:
    """Return the number of the last node that reads each name."""
    return {name: number for number, names in enumerate(reads) for name in names if name}
