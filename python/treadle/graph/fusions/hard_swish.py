"""x HardSigmoid(x) and x Clip(x + b, 0, m) / m become treadle.HardSwish, and what lacks the factor
x becomes HardSigmoid (Howard et al., arXiv:1905.02244).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.graph.ir import Node
from treadle.graph.patterns import (
    Product,
    clip_limits,
    close,
    plus_number,
    product,
    scalars_keep_shape,
)

if TYPE_CHECKING:
    from treadle.graph.view import View


def fuse(view: View) -> int:
    """Fuse every hard swish and hard sigmoid; return how many."""
    count = 0
    for node in view.nodes("HardSwish"):
        if view.is_float(node.inputs[0]):
            attributes = {"alpha": 1 / 6, "beta": 0.5}
            new = Node("treadle.HardSwish", node.inputs, node.outputs, attributes, node.name)
            view.replace([node], [new], node)
            count += 1
    for node in reversed(list(view.nodes("Mul", "Div"))):
        if node in view and (found := product(view, node)) is not None:
            count += _fuse(view, node, found)
    return count


def _fuse(view: View, root: Node, found: Product) -> int:
    for factor in found.factors:
        sigmoid = _hard_sigmoid(view, factor, found.coefficient)
        if sigmoid is None:
            continue
        x, alpha, beta, nodes = sigmoid
        others = list(found.factors)
        others.remove(factor)
        if others not in ([], [x]) or not view.is_float(x):
            continue
        if not others and nodes[0].op == "HardSigmoid":
            continue
        group = [*found.nodes, *nodes]
        if not view.is_private(group, root.outputs[0]) or not scalars_keep_shape(view, group, x):
            continue
        op = "treadle.HardSwish" if others else "HardSigmoid"
        attributes = {"alpha": alpha, "beta": beta}
        view.replace(group, [Node(op, [x], [root.outputs[0]], attributes, root.name)], root)
        return 1
    return 0


def _hard_sigmoid(
    view: View, name: str, coefficient: float
) -> tuple[str, float, float, list[Node]] | None:
    """Return (x, alpha, beta, nodes) where coefficient times a value is a hard sigmoid of x."""
    node = view.maker(name, "HardSigmoid", "Clip")
    if node is None:
        return None
    if node.op == "HardSigmoid":
        if coefficient != 1:
            return None
        alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
        return node.inputs[0], alpha, beta, [node]
    limits, summand = clip_limits(view, node), plus_number(view, node.inputs[0])
    if limits is None or summand is None or limits[0] != 0 or not 0 < limits[1] < float("inf"):
        return None
    x, number, add = summand
    if not close(coefficient, 1 / limits[1]):
        return None
    return x, 1 / limits[1], number / limits[1], [node, add]
