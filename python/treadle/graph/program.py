"""This module runs single nodes natively, for constants that are known when a graph is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle import _core
from treadle.graph.ir import Graph, Node, Value
from treadle.graph.plan import lower

if TYPE_CHECKING:
    from collections.abc import Sequence

OPERATORS = frozenset(_core.operators())


def run_node(node: Node, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """Return the outputs of a node for these inputs, None for those that are absent.

    Raises ValueError or TypeError for what the operator refuses, MemoryError for results beyond the
    memory that follows from the inputs.

    Examples
    --------
    >>> import numpy as np
    >>> from treadle.graph.ir import Node
    >>> from treadle.graph.program import run_node
    >>> node = Node("Reshape", ["x", "shape"], ["y"])
    >>> run_node(node, [np.zeros((2, 3), np.float32), np.array([3, -1])])[0].shape
    (3, 2)
    """
    function = "treadle.graph.run_node"
    names = [f"in{i}" if array is not None else "" for i, array in enumerate(arrays)]
    given = [np.require(a, requirements=["C", "A"]) for a in arrays if a is not None]
    own = Node(node.op, names, list(node.outputs), node.attributes, node.name)
    inputs = [Value(name, "", None) for name in names if name]
    outputs = [Value(name, "", None) for name in node.outputs if name]
    return lower(function, Graph(inputs, outputs, [own], {})).run(function, given)
