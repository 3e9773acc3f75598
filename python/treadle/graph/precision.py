"""This module rounds the weights of a graph's products to bfloat16 or int8, and brings them back.

Products and recurrent layers have an attribute ``dtype``, and their weights are then in the form in
which that dtype is stored (`treadle._storage.formats`). All else stays float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle import _core
from treadle._storage import formats
from treadle.graph.ir import Graph, Node, subgraphs
from treadle.graph.natives import transposed_matrix
from treadle.graph.view import reads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MATRICES = ("weight_ih", "weight_hh", "weight_hr")


def weights_of(node: Node) -> list[int]:
    """Return which inputs of a node are the matrices of its products: none for most operators."""
    if node.op in ("treadle.Linear", "treadle.Conv", "treadle.ConvTranspose"):
        return [1]
    if node.op == "treadle.Recurrent":
        names = node.attributes["weights"]
        return [4 + i for i, name in enumerate(names) if name.rpartition(".")[2] in MATRICES]
    return []


def products(graph: Graph) -> Iterator[Node]:
    """Yield the nodes of a graph and its subgraphs that have a dtype."""
    for node in graph.nodes:
        if weights_of(node):
            yield node
        for sub in subgraphs(node):
            yield from products(sub)


def retyped(graph: Graph, dtype: str, keep: Callable[[Node], bool]) -> None:
    """Round the weights of all products but those of which ``keep`` is true, in place."""
    _retype(graph, dtype, keep, {})
    _drop_unread(graph)


def _retype(
    graph: Graph, dtype: str, keep: Callable[[Node], bool], scope: dict[str, Graph]
) -> None:
    scope = {**scope, **dict.fromkeys(graph.constants, graph)}
    for node in graph.nodes:
        for sub in subgraphs(node):
            _retype(sub, dtype, keep, scope)
        before = node.attributes.get("dtype", "float32")
        if not weights_of(node) or keep(node) or before == dtype:
            continue
        for i in weights_of(node):
            name = node.inputs[i]
            owner = scope[name]
            rounded = f"{name}.{dtype}"  # another node may read the weight as it is
            matrix = _matrix(node, owner.constants[name], dtype)
            if rounded not in owner.constants:
                constants: dict[str, Any] = owner.constants
                constants[rounded] = formats.encode(matrix, dtype)
                scope[rounded] = owner
            node.inputs[i] = rounded
        node.attributes["dtype"] = dtype


def _matrix(node: Node, value: Any, dtype: str) -> Any:
    """Return a weight as the matrix that is rounded to a dtype.

    That of a convolution no longer tells the taps, which become an attribute of the node: it is
    [D, taps C/g], or [D taps, C/g] in int8 where each tap has scales of its own. That of a
    transposed one, [C, taps.., D/g] before, is the same.
    """
    if node.op not in ("treadle.Conv", "treadle.ConvTranspose"):
        return value
    own, transposed = node.attributes, node.op == "treadle.ConvTranspose"
    groups = own.get("group", 1)
    if len(value.shape) > 2:
        own["kernel_shape"] = [int(size) for size in value.shape[1:-1]]
        own["outputs"] = int(value.shape[-1] * groups if transposed else value.shape[0])
    rows = formats.decode(value) if len(value.shape) == 2 else value
    if transposed and len(value.shape) > 2:
        rows = transposed_matrix(value, groups)
    outputs, taps = own["outputs"], math.prod(own["kernel_shape"])
    inputs = value.size // (outputs * taps) * groups
    split = dtype == "int8" and (transposed or _core.Conv.taps_are_rows(inputs, groups))
    return np.ascontiguousarray(rows).reshape(outputs * taps if split else outputs, -1)


def _drop_unread(graph: Graph) -> None:
    """Remove the constants that nothing reads."""
    mentioned = {name for node in graph.nodes for name in reads(node)}
    mentioned |= {value.name for value in graph.outputs}
    graph.constants = {k: v for k, v in graph.constants.items() if k in mentioned}
