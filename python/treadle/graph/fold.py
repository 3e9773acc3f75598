"""This module computes what does not depend on the inputs, once, before a graph runs.

Nodes over constants become constants: their operators run natively. The sizes of values whose
shapes are known become constants too, and an If whose condition has become one gives way to its
branch. A Loop or Scan is not unrolled. Results are kept while all of them together are at most
four times as large as the constants that the graph came with, so that no file makes a graph large
by naming a size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.ir import Graph, Node, subgraphs
from treadle.graph.program import OPERATORS, run_node
from treadle.graph.shapes import NOTHING, describe, of_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from treadle.graph.shapes import Known

    Run = Callable[[Node, Sequence[np.ndarray | None]], list[np.ndarray]]

GROWTH = 4
LEAST_BYTES = 1 << 16
# The results of these may be larger than what they read. They run only if their size is known.
GROWING = frozenset(
    (
        *("ConstantOfShape", "Expand", "Tile", "Range", "OneHot", "Pad", "Resize", "EyeLike"),
        *("Gather", "GatherND", "GatherElements", "MatMul", "Gemm", "Conv", "ConvTranspose"),
        *("Add", "Sub", "Mul", "Div", "Where", "Einsum"),
    )
)


@dataclass(slots=True)
class _Folding:
    """A _Folding is one pass: what is known, the bytes that may still be added, and the counts."""

    known: dict[str, Known]
    run: Run
    bytes: int
    folded: int = 0
    inlined: int = 0

    def graph(self, graph: Graph, outer: dict[str, np.ndarray]) -> None:
        constants = {**outer, **graph.constants}
        own = dict(graph.constants)
        self.known.update((name, of_array(array)) for name, array in graph.constants.items())
        nodes: list[Node] = []
        for node in self.walk(graph.nodes, constants, own):
            found = self.constant_outputs(node, constants)
            if found is None:
                nodes.append(node)
                continue
            self.folded += 1
            for name, array in found.items():
                self.bytes -= array.nbytes
                own[name] = constants[name] = array
                self.known[name] = of_array(array)
        graph.nodes, graph.constants = nodes, own

    def walk(
        self,
        nodes: Iterable[Node],
        constants: dict[str, np.ndarray],
        own: dict[str, np.ndarray],
    ) -> Iterator[Node]:
        """Yield nodes with what is known of them, and those of a chosen branch for its If."""
        for node in nodes:
            branch = self.chosen(node, constants)
            if branch is None:
                for graph in subgraphs(node):
                    for value in graph.inputs:
                        self.known[value.name] = replace(NOTHING, dtype=value.dtype or None)
                    self.graph(graph, constants)
                describe(node, self.known)
                yield node
                continue
            self.inlined += 1
            constants.update(branch.constants)
            own.update(branch.constants)
            self.known.update((name, of_array(array)) for name, array in branch.constants.items())
            yield from self.walk(branch.nodes, constants, own)
            for name, value in zip(node.outputs, branch.outputs, strict=False):
                if name:
                    identity = Node("Identity", [value.name], [name], {}, node.name)
                    yield from self.walk([identity], constants, own)

    def chosen(self, node: Node, constants: dict[str, np.ndarray]) -> Graph | None:
        """Return the branch that an If takes in every call, or None."""
        if node.op != "If" or not node.inputs:
            return None
        condition = constants.get(node.inputs[0])
        if condition is None or condition.size != 1 or condition.dtype != np.bool_:
            return None
        name = "then_branch" if condition.reshape(-1)[0] else "else_branch"
        branch = node.attributes.get(name)
        if not isinstance(branch, Graph) or len(branch.outputs) != len(node.outputs):
            return None
        return branch

    def constant_outputs(
        self, node: Node, constants: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray] | None:
        """Return the outputs of a node if they are known in every call and small enough."""
        outputs = [name for name in node.outputs if name]
        if subgraphs(node) or not outputs:
            return None
        known = [self.known.get(name, NOTHING) for name in outputs]
        if all(_numbers(one) is not None for one in known):
            return {
                name: np.array(one.elements, one.dtype).reshape([int(d) for d in one.shape or ()])
                for name, one in zip(outputs, known, strict=True)
            }
        if node.op not in OPERATORS or any(name and name not in constants for name in node.inputs):
            return None
        sizes = [_bytes(one) for one in known]
        if node.op in GROWING and None in sizes:
            return None
        if sum(size or 0 for size in sizes) > self.bytes:
            return None
        arrays = [constants[name] if name else None for name in node.inputs]
        try:
            results = self.run(node, arrays)
        except (ValueError, TypeError, MemoryError):
            return None  # the node says what is wrong when it runs, if it ever does
        if sum(array.nbytes for array in results) > self.bytes:
            return None
        return dict(zip(outputs, results, strict=True))


def _numbers(known: Known) -> tuple[int, ...] | None:
    """Return the elements of a value if all are known numbers."""
    if known.elements is None or known.dtype is None or known.shape is None:
        return None
    numbers = tuple(element for element in known.elements if isinstance(element, int))
    return numbers if len(numbers) == len(known.elements) else None


def _bytes(known: Known) -> int | None:
    """Return the bytes of a value of known shape."""
    if known.shape is None or known.dtype is None:
        return None
    total = np.dtype(known.dtype).itemsize
    for size in known.shape:
        if not isinstance(size, int):
            return None
        total *= size
    return total


def fold(graph: Graph, known: dict[str, Known], run: Run = run_node) -> dict[str, int]:
    """Compute constants in a graph and its subgraphs; return how many nodes and Ifs are gone.

    ``known`` is what `treadle.graph.shapes.infer` found, and is kept right. ``run`` computes a
    node.

    >>> import numpy as np
    >>> from treadle.graph.ir import Graph, Node, Value
    >>> from treadle.graph.shapes import infer
    >>> graph = Graph(
    ...     [Value("x", "float32", (2, 3))],
    ...     [Value("y", "int64", None)],
    ...     [Node("Shape", ["x"], ["y"])],
    ...     {},
    ... )
    >>> fold(graph, infer(graph)), graph.constants["y"]
    ({'folded': 1, 'inlined': 0}, array([2, 3]))
    """
    budget = GROWTH * _constant_bytes(graph) + LEAST_BYTES
    folding = _Folding(known, run, budget)
    folding.graph(graph, {})
    return {"folded": folding.folded, "inlined": folding.inlined}


def _constant_bytes(graph: Graph) -> int:
    """Return the bytes of the constants of a graph and its subgraphs."""
    total = sum(array.nbytes for array in graph.constants.values())
    inner = (sub for node in graph.nodes for sub in subgraphs(node))
    return total + sum(_constant_bytes(sub) for sub in inner)
