"""This module defines the graph: what a whole model is before it becomes a native program.

A graph is a list of nodes in the order of execution. A node takes values by name and makes values
by name, as in ONNX (https://onnx.ai/onnx/repo-docs/IR.html), whose operators it uses in their
newest form. Readers of files and of modules make graphs, the other modules of this room change
them, and the native program runs what they have become.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Shape = tuple[int | str | None, ...]


@dataclass(slots=True)
class Value:
    """A value is an input or an output of a graph.

    Attributes
    ----------
    name : str
        The name is unique over the graph and all its subgraphs.
    dtype : str
        The dtype is NumPy's name of it: ``"float32"``, ``"int64"``, ``"bool"``, ... Files may also
        say ``"float16"`` and ``"bfloat16"``, which are computed in float32.
    shape : tuple of int, str and None, or None
        The shape has a number for a known size, a str for a symbolic size and None for an unknown
        size; it is None where not even the rank is known.

    Examples
    --------
    >>> from treadle.graph.ir import Value
    >>> Value("x", "float32", ("batch", 16)).shape
    ('batch', 16)
    """

    name: str
    dtype: str
    shape: Shape | None


@dataclass(slots=True, eq=False)
class Node:
    """A node is one operation of a graph.

    Attributes
    ----------
    op : str
        The operator is ONNX's name of the default domain in its newest form (opset 23), or
        ``"treadle.X"`` for one that fusions and the layout make.
    inputs : list of str
        The inputs are names of values; ``""`` stands for an absent one.
    outputs : list of str
        The outputs are names of values; ``""`` stands for an unused one.
    attributes : dict
        The attributes are int, float, str, lists of these, arrays and graphs (the branches of If,
        the bodies of Loop and Scan).
    name : str
        The name says to people where the node comes from: the file's name of the node, or
        ``"file.py:12 in forward"``.

    Examples
    --------
    >>> from treadle.graph.ir import Node
    >>> Node("Softmax", ["x"], ["y"], {"axis": -1}).name
    ''
    """

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""


@dataclass(slots=True, eq=False)
class Graph:
    """A graph is a program: inputs, constants, nodes in the order of execution, outputs.

    Names are unique over a graph and all its subgraphs. A subgraph (an attribute of If, Loop or
    Scan) reads names of the graphs around it freely.

    Attributes
    ----------
    inputs, outputs : list of Value
        The inputs and outputs keep their order, since callers may give inputs by position.
    nodes : list of Node
        A node stands behind all nodes whose outputs it reads.
    constants : dict of str to numpy.ndarray
        The constants are values known when the graph is made, weights most of all.

    Examples
    --------
    >>> from treadle.graph.ir import Graph, Node, Value
    >>> x, y = Value("x", "float32", ("batch", 3)), Value("y", "float32", ("batch", 3))
    >>> graph = Graph([x], [y], [Node("Relu", ["x"], ["y"])], {})
    >>> [node.op for node in graph.nodes]
    ['Relu']
    """

    inputs: list[Value]
    outputs: list[Value]
    nodes: list[Node]
    constants: dict[str, np.ndarray]


def subgraphs(node: Node) -> list[Graph]:
    """Return the graphs among the attributes of a node."""
    return [value for value in node.attributes.values() if isinstance(value, Graph)]
