"""MatMul and Gemm with a constant matrix become treadle.Linear, with the bias that follows.

    MatMul(x, W) + b        Gemm(x, W, b) = alpha x W' + beta b

x has any number of axes, W two; b is a constant of the last axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.ir import Node
from treadle.graph.patterns import finite, rounded

if TYPE_CHECKING:
    from treadle.graph.view import View


def fuse(view: View) -> int:
    """Turn every product with a constant into treadle.Linear; return how many."""
    count = 0
    for node in view.nodes("MatMul", "Gemm"):
        found = _gemm(view, node) if node.op == "Gemm" else _matmul(view, node)
        if found is not None:
            count += 1
            _add_bias(view, found)
    return count


def _matmul(view: View, node: Node) -> Node | None:
    x, name = node.inputs
    weight = view.constant(name)
    rank = view.known(x).rank
    if weight is None or weight.ndim != 2 or weight.dtype != np.float32:
        return None
    if not rank or not view.is_float(x) or view.constant(x) is not None:
        return None
    return _linear(view, node, x, weight.T, None)


def _gemm(view: View, node: Node) -> Node | None:
    x, name, *rest = node.inputs
    weight, attributes = view.constant(name), node.attributes
    if weight is None or weight.ndim != 2 or weight.dtype != np.float32:
        return None
    if attributes.get("transA", 0) or not view.is_float(x) or view.constant(x) is not None:
        return None
    if view.known(x).rank != 2:
        return None
    weight = weight if attributes.get("transB", 0) else weight.T
    bias = view.constant(rest[0]) if rest and rest[0] else None
    if rest and rest[0]:
        rows = weight.shape[0]
        if bias is None or bias.dtype != np.float32 or bias.size not in (1, rows):
            return None
        if bias.ndim > 2 or bias.shape[-1:] not in ((), (1,), (rows,)):
            return None
        beta = np.float64(attributes.get("beta", 1.0))
        bias = rounded(beta * np.broadcast_to(bias.reshape(-1), (rows,)))
    alpha = attributes.get("alpha", 1.0)
    scaled = weight if alpha == 1 else rounded(np.float64(alpha) * weight)
    if not finite(scaled) or (bias is not None and not finite(bias)):
        return None
    return _linear(view, node, x, scaled, bias)


def _linear(
    view: View, node: Node, x: str, weight: np.ndarray, bias: np.ndarray | None
) -> Node | None:
    if 0 in weight.shape:
        return None
    label = node.outputs[0]
    inputs = [x, view.add_constant(f"{label}.weight", np.ascontiguousarray(weight))]
    if bias is not None:
        inputs.append(view.add_constant(f"{label}.bias", bias))
    new = Node("treadle.Linear", inputs, [label], {}, node.name)
    view.replace([node], [new], node)
    return new


def _add_bias(view: View, node: Node) -> None:
    """Take in an Add of a constant [N] that alone reads the product."""
    add = view.only_reader(node.outputs[0], "Add")
    rank = view.known(node.outputs[0]).rank
    weight = view.constant(node.inputs[1])
    if add is None or len(node.inputs) > 2 or weight is None or rank is None:
        return
    first, second = add.inputs
    bias = view.constant(second if first == node.outputs[0] else first)
    rows = weight.shape[0]
    if bias is None or bias.dtype != np.float32 or bias.ndim > rank or bias.size not in (1, rows):
        return
    if bias.size != 1 and bias.shape[-1] != rows:
        return
    flat = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (rows,)))
    name = view.add_constant(f"{add.outputs[0]}.bias", flat)
    new = Node("treadle.Linear", [*node.inputs, name], add.outputs, node.attributes, node.name)
    view.replace([node, add], [new], add)
