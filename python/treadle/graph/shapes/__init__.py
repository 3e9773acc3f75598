"""This package infers dtypes and shapes before a graph runs, as far as they can be known.

`infer` goes through the nodes with the rules of `movement`, `arithmetic` and `windows`. A size that
only a call knows is a symbol (`dims`); equal symbols are equal sizes. What is inferred decides
which fusions are exact. It is never trusted for memory: operators check what they get.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from treadle.graph.ir import Graph, subgraphs
from treadle.graph.shapes import arithmetic, movement, windows
from treadle.graph.shapes.site import NOTHING, Known, Site, of_array

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.graph.ir import Node

__all__ = ["NOTHING", "RULES", "Known", "infer", "of_array"]

RULES: dict[str, Callable[[Site], None]] = {
    **movement.RULES,
    **arithmetic.RULES,
    **windows.RULES,
}
MALFORMED = (IndexError, TypeError, ValueError, AttributeError, ZeroDivisionError)
COMPUTED = {"float16": "float32", "bfloat16": "float32"}


def infer(graph: Graph) -> dict[str, Known]:
    """Return what is known about each value of a graph and of its subgraphs, by name.

    The fixed sizes of the graph's inputs are believed, since a model checks them in each call. Two
    inputs never share a symbol, whatever the file calls their sizes.

    >>> import numpy as np
    >>> from treadle.graph.ir import Graph, Node, Value
    >>> graph = Graph(
    ...     [Value("x", "float32", ("n", 3))],
    ...     [Value("y", "float32", None)],
    ...     [Node("Transpose", ["x"], ["y"], {"perm": [1, 0]})],
    ...     {},
    ... )
    >>> infer(graph)["y"].shape
    (3, 'x.0')
    """
    known: dict[str, Known] = {}
    for index, value in enumerate(graph.inputs):
        shape = value.shape
        sizes = None
        # A name with signs of arithmetic would read as an expression.
        label = value.name if value.name.isidentifier() else f"input{index}"
        if shape is not None:
            sizes = tuple(
                size if isinstance(size, int) else f"{label}.{axis}"
                for axis, size in enumerate(shape)
            )
        known[value.name] = Known(COMPUTED.get(value.dtype, value.dtype), sizes)
    _go_through(graph, known)
    return known


def _go_through(graph: Graph, known: dict[str, Known]) -> None:
    known.update((name, of_array(array)) for name, array in graph.constants.items())
    for node in graph.nodes:
        for branch in subgraphs(node):
            for value in branch.inputs:
                known[value.name] = Known(COMPUTED.get(value.dtype, value.dtype), None)
            _go_through(branch, known)
        describe(node, known)


def describe(node: Node, known: dict[str, Known]) -> None:
    """Add what is known about the outputs of a node, whose graphs have been gone through.

    A rule reads inputs and attributes as a well-formed node has them. Of a malformed one nothing is
    known here: its operator says what is wrong with it.
    """
    if node.op == "If":
        chosen = subgraphs(node)
        if len(chosen) == 2:
            _merge(node, chosen, known)
        return
    rule = RULES.get(node.op)
    if rule is not None:
        with suppress(*MALFORMED):
            rule(Site(node, known))


def _merge(node: Node, chosen: list[Graph], known: dict[str, Known]) -> None:
    """Keep of an If what both branches agree on."""
    for index, name in enumerate(node.outputs):
        first, second = (
            known.get(branch.outputs[index].name, NOTHING)
            if index < len(branch.outputs)
            else NOTHING
            for branch in chosen
        )
        if first == second:
            known[name] = first
        elif first.dtype == second.dtype:
            known[name] = Known(first.dtype, first.shape if first.shape == second.shape else None)
