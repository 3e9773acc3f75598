"""The parts of a layer norm become ONNX's LayerNormalization (Ba et al., arXiv:1607.06450).

    m = ReduceMean(x)    d = x - m    v = ReduceMean(d^2)    y = d / sqrt(v + epsilon) scale + bias

The mean is over the last axes, and the scale and the bias are constants that reach over these axes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.ir import Node
from treadle.graph.patterns import plus_number

if TYPE_CHECKING:
    from treadle.graph.view import View

# Parameters that a graph does not have are made up to this size: its shapes may be anybody's.
_MOST = 2**20
# What a pattern is over: x, the first of its last axes, epsilon, and the nodes.
Found = tuple[str, int, float, list[Node]]


def fuse(view: View) -> int:
    """Fuse every layer norm; return how many."""
    return sum(_fuse(view, node) for node in view.nodes("Div", "Mul"))


def _fuse(view: View, normal: Node) -> bool:
    found = _normalised(view, normal)
    if found is None:
        return False
    x, axis, epsilon, nodes = found
    sizes = (view.known(x).shape or ())[axis:]
    if not view.is_float(x) or not sizes or not all(isinstance(size, int) for size in sizes):
        return False
    shape = tuple(int(size) for size in sizes)
    result, scale, bias = normal, None, None
    multiply = view.only_reader(normal.outputs[0], "Mul")
    if multiply is not None:
        scale = _parameter(view, multiply, result.outputs[0], shape)
        if scale is not None:
            nodes, result = [*nodes, multiply], multiply
            add = view.only_reader(result.outputs[0], "Add")
            bias = None if add is None else _parameter(view, add, result.outputs[0], shape)
            if add is not None and bias is not None:
                nodes, result = [*nodes, add], add
    if not view.is_private(nodes, result.outputs[0]):
        return False
    label = result.outputs[0]
    if scale is None:
        if math.prod(shape) > _MOST:
            return False
        scale = np.ones(shape, np.float32)
    inputs = [x, view.add_constant(f"{label}.scale", scale)]
    if bias is not None:
        inputs.append(view.add_constant(f"{label}.bias", bias))
    attributes = {"axis": axis, "epsilon": epsilon}
    new = Node("LayerNormalization", inputs, [label], attributes, normal.name)
    view.replace(nodes, [new], result)
    return True


def _parameter(view: View, node: Node, x: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the constant of a Mul or Add, if it reaches over the normalised axes only."""
    array = view.constant(node.inputs[1] if node.inputs[0] == x else node.inputs[0])
    rank = view.known(x).rank
    if array is None or array.dtype != np.float32 or rank is None or array.ndim > rank:
        return None
    before = max(0, array.ndim - len(shape))
    if any(size != 1 for size in array.shape[:before]):
        return None
    sizes: tuple[int, ...] = array.shape[before:]
    for size, wanted in zip(sizes[::-1], shape[::-1], strict=False):
        if size not in (1, wanted):
            return None
    if array.size < math.prod(shape) and math.prod(shape) > _MOST:
        return None
    return np.ascontiguousarray(np.broadcast_to(array.reshape(sizes), shape))


def _normalised(view: View, node: Node) -> Found | None:
    """Return what a node is over, where it is (x - mean) / sqrt(variance + epsilon)."""
    nodes = [node]
    if node.op == "Div":
        difference, deviation = node.inputs
    else:  # a product with the reciprocal
        pairs = [(a, view.maker(b, "Reciprocal")) for a, b in (node.inputs, node.inputs[::-1])]
        for factor, reciprocal in pairs:
            if reciprocal is not None:
                difference, deviation = factor, reciprocal.inputs[0]
                nodes.append(reciprocal)
                break
        else:
            return None
    root = view.maker(deviation, "Sqrt")
    shifted = None if root is None else plus_number(view, root.inputs[0])
    if root is None or shifted is None or shifted[1] < 0:
        return None
    variance = view.maker(shifted[0], "ReduceMean")
    squares = None if variance is None else view.maker(variance.inputs[0], "Mul", "Pow")
    if variance is None or squares is None:
        return None
    nodes += [root, shifted[2], variance, squares]
    base, exponent = squares.inputs
    squared = base == exponent if squares.op == "Mul" else view.number(exponent) == 2
    return _centred(view, difference, base, nodes, shifted[1]) if squared else None


def _centred(
    view: View, difference: str, base: str, nodes: list[Node], epsilon: float
) -> Found | None:
    """Go on from the squares to x. Exporters may write x - mean twice."""
    first, second = view.maker(difference, "Sub"), view.maker(base, "Sub")
    if first is None or second is None or first.inputs != second.inputs:
        return None
    x = first.inputs[0]
    mean = view.maker(first.inputs[1], "ReduceMean")
    variance = next(node for node in nodes if node.op == "ReduceMean")
    if mean is None or mean.inputs[0] != x:
        return None
    axis = _last_axes(view, mean, x)
    if axis is None or axis != _last_axes(view, variance, x):
        return None
    subtractions = [first] if first is second else [first, second]
    return x, axis, epsilon, [*nodes, *subtractions, mean]


def _last_axes(view: View, node: Node, x: str) -> int | None:
    """Return the first of the axes of a mean, as a negative number, if they are the last ones."""
    axes = view.integers(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
    rank = view.known(x).rank
    if not axes or rank is None or not node.attributes.get("keepdims", 1):
        return None
    places = sorted(axis % rank if -rank <= axis < rank else rank for axis in axes)
    return -len(places) if places == list(range(rank - len(places), rank)) else None
