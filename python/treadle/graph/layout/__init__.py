"""This package makes a graph work channels last, with as few Transposes as possible.

ONNX's convolutions read [B, C, spatial..]; the engine's read [B, spatial.., C]. `channels` turns
the operators, with a Transpose before and behind. No Transpose is written at first, neither these
nor those of the file: `state` only remembers that a value is a Transpose of another one, and
`through` lets the operators between work on that one. What is left in the end is written where
somebody needs it: at the graph's outputs, and before operators that no rule knows. A Transpose
that only moves axes of size 1 becomes a Reshape, which copies nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.graph.ir import Graph, Node, subgraphs
from treadle.graph.layout.channels import channels_last
from treadle.graph.layout.state import State
from treadle.graph.layout.through import RULES
from treadle.graph.view import reads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from treadle.graph.shapes import Known

__all__ = ["relayout"]


def relayout(
    graph: Graph, known: dict[str, Known], outer: Mapping[str, np.ndarray] | None = None
) -> int:
    """Change the layout of a graph and its subgraphs; return how many operators are turned.

    >>> import numpy as np
    >>> from treadle.graph.ir import Graph, Node, Value
    >>> from treadle.graph.shapes import infer
    >>> weight = np.zeros((8, 8, 3, 3), np.float32)
    >>> graph = Graph(
    ...     [Value("x", "float32", ("n", 8, 9, 9))],
    ...     [Value("y", "float32", None)],
    ...     [
    ...         Node("Conv", ["x", "w"], ["a"]),
    ...         Node("Sigmoid", ["a"], ["b"]),
    ...         Node("Conv", ["b", "w"], ["y"]),
    ...     ],
    ...     {"w": weight},
    ... )
    >>> relayout(graph, infer(graph))
    2
    >>> [node.op for node in graph.nodes]
    ['Transpose', 'treadle.Conv', 'Sigmoid', 'treadle.Conv', 'Transpose']
    """
    state = State(graph, known, outer or {})
    turned = 0
    for node in graph.nodes:
        if subgraphs(node):
            for name in reads(node):
                state.need(name)
        for sub in subgraphs(node):
            for name in [value.name for value in sub.outputs] + [
                n for m in sub.nodes for n in reads(m)
            ]:
                state.need(name)
            turned += relayout(sub, known, state.constants)
        if _transpose(node, state):
            continue
        if channels_last(node, state):
            turned += 1
            continue
        rule = RULES.get(node.op)
        virtual = any(state.is_virtual(name) for name in node.inputs if name)
        if rule is not None and virtual and _applies(node, state, rule):
            continue
        for name in node.inputs:
            if name:
                state.need(name)
        state.write(node)
    for value in graph.outputs:
        state.need(value.name)
    graph.nodes = state.written
    return turned


def _applies(node: Node, state: State, rule: Callable[[Node, State], bool]) -> bool:
    try:
        return rule(node, state)
    except (IndexError, ValueError):
        return False  # a malformed node, of which its operator says what is wrong


def _transpose(node: Node, state: State) -> bool:
    """Remember a Transpose instead of writing it."""
    if node.op != "Transpose" or node.inputs[0] in state.constants:
        return False
    rank = state.rank(node.inputs[0])
    order = node.attributes.get("perm")
    if rank is None or order is None or sorted(order) != list(range(rank)):
        return False
    state.set_virtual(node.outputs[0], node.inputs[0], tuple(order))
    return True
