"""BatchNormalization that no convolution could take in becomes a factor and a summand.

y = x s + t    with s = scale / sqrt(variance + epsilon) and t = bias - mean s
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.ir import Node
from treadle.graph.patterns import finite, rounded

if TYPE_CHECKING:
    from treadle.graph.view import View


def fuse(view: View) -> int:
    """Replace every BatchNormalization of constants; return how many."""
    return sum(_replace(view, node) for node in view.nodes("BatchNormalization"))


def _replace(view: View, node: Node) -> bool:
    x = node.inputs[0]
    rank = view.known(x).rank
    arrays = [view.constant(name) for name in node.inputs[1:5]]
    wide = [a.astype(np.float64) for a in arrays if a is not None and a.dtype == np.float32]
    if len(wide) != 4 or rank is None or rank < 2 or not view.is_float(x):
        return False
    if len(node.outputs) > 1 or node.attributes.get("training_mode", 0):
        return False
    if any(array.shape != wide[0].shape or array.ndim != 1 for array in wide):
        return False
    scale, bias, mean, variance = wide
    spread = variance + node.attributes.get("epsilon", 1e-5)
    if not (spread > 0).all():
        return False
    factor = scale / np.sqrt(spread)
    axes = (-1, *[1] * (rank - 2))
    factors = rounded(factor).reshape(axes)
    summands = rounded(bias - mean * factor).reshape(axes)
    if not finite(factors, summands):
        return False
    label = node.outputs[0]
    scaled = view.new_name(f"{label}.scaled")
    multiply = Node("Mul", [x, view.add_constant(f"{label}.scale", factors)], [scaled])
    add = Node("Add", [scaled, view.add_constant(f"{label}.shift", summands)], [label])
    multiply.name = add.name = node.name
    view.replace([node], [multiply, add], node)
    return True
