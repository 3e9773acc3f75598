"""This module makes a graph fast: it runs the passes of this room in their order.

fold        what does not depend on the inputs is computed once
simplify    what changes nothing goes
fusions     patterns of several nodes become one operator
layout      convolutions and pooling work channels last
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.fold import fold
from treadle.graph.fusions import AFTER_LAYOUT, BEFORE_LAYOUT
from treadle.graph.ir import Graph, Node, Value, subgraphs
from treadle.graph.layout import relayout
from treadle.graph.shapes import infer
from treadle.graph.simplify import simplify, sweep
from treadle.graph.view import View

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from treadle.graph.fusions import Fusion
    from treadle.graph.shapes import Known

PASSES = ("fold", "simplify", "fusions", "layout")


@dataclass(slots=True)
class Report:
    """A Report counts what the passes did: each fusion by name, and the nodes before and after."""

    changes: Counter[str] = field(default_factory=Counter)
    nodes_before: int = 0
    nodes_after: int = 0


@np.errstate(all="ignore")  # NaN and infinity in weights are the file's business
def optimise(graph: Graph, passes: Iterable[str] = PASSES) -> tuple[Graph, Report]:
    """Return a graph that computes the same faster, and a report. The given graph stays as it is.

    The results of fused operators differ by rounding from those of their parts; errors, NaN and
    infinities are those of the parts.

    >>> from treadle.graph.ir import Graph, Node, Value
    >>> graph = Graph(
    ...     [Value("x", "float32", (2, 3))],
    ...     [Value("y", "float32", (2, 3))],
    ...     [Node("Shape", ["x"], ["s"]), Node("Reshape", ["x", "s"], ["r"]),
    ...      Node("Relu", ["r"], ["y"])],
    ...     {},
    ... )
    >>> better, report = optimise(graph)
    >>> [node.op for node in better.nodes], dict(report.changes)
    (['Relu'], {'folded': 1, 'simplified': 1})
    """
    chosen = set(passes)
    result, report = copied(graph), Report(nodes_before=count(graph))
    known = infer(result)
    if "fold" in chosen:
        report.changes.update(fold(result, known))
    if "simplify" in chosen:
        report.changes["simplified"] += simplify(result, known)
    if "fusions" in chosen:
        report.changes += apply(result, known, BEFORE_LAYOUT)
        report.changes["simplified"] += simplify(result, known)
    if "layout" in chosen:
        report.changes["channels last"] += relayout(result, known)
        report.changes["simplified"] += simplify(result, known)
    if "fusions" in chosen:
        report.changes += apply(result, known, AFTER_LAYOUT)
        sweep(result)
    report.nodes_after = count(result)
    report.changes = +report.changes
    return result, report


def apply(
    graph: Graph,
    known: dict[str, Known],
    fusions: Mapping[str, Fusion],
    outer: Mapping[str, np.ndarray] | None = None,
) -> Counter[str]:
    """Apply fusions to a graph and its subgraphs; return how often each of them was made."""
    changes: Counter[str] = Counter()
    outer = outer or {}
    view = View(graph, known, outer)
    for name, fuse in fusions.items():
        made = fuse(view)
        if made:
            changes[name] += made
            view.sweep()  # what only dead nodes read can be part of the next pattern
    view.finish()
    constants = {**outer, **graph.constants}
    for node in graph.nodes:
        for sub in subgraphs(node):
            changes += apply(sub, known, fusions, constants)
    return changes


def copied(graph: Graph) -> Graph:
    """Return a copy of a graph that shares the arrays of its constants."""
    nodes = [
        Node(
            node.op,
            list(node.inputs),
            list(node.outputs),
            {
                name: copied(value) if isinstance(value, Graph) else value
                for name, value in node.attributes.items()
            },
            node.name,
        )
        for node in graph.nodes
    ]
    inputs = [Value(value.name, value.dtype, value.shape) for value in graph.inputs]
    outputs = [Value(value.name, value.dtype, value.shape) for value in graph.outputs]
    return Graph(inputs, outputs, nodes, dict(graph.constants))


def count(graph: Graph) -> int:
    """Return the number of nodes of a graph and its subgraphs."""
    inner = (
        value
        for node in graph.nodes
        for value in node.attributes.values()
        if isinstance(value, Graph)
    )
    return len(graph.nodes) + sum(count(sub) for sub in inner)
