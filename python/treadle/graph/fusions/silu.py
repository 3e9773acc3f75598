"""x Sigmoid(x) becomes treadle.Silu (Hendrycks and Gimpel, arXiv:1606.08415; Swish with beta 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.graph.ir import Node

if TYPE_CHECKING:
    from treadle.graph.view import View


def fuse(view: View) -> int:
    """Fuse every SiLU; return how many."""
    count = 0
    for node in view.nodes("Swish"):
        if node.attributes.get("alpha", 1.0) == 1.0 and view.is_float(node.inputs[0]):
            new = Node("treadle.Silu", [node.inputs[0]], [node.outputs[0]], {}, node.name)
            view.replace([node], [new], node)
            count += 1
    for node in view.nodes("Mul"):
        for x, gate in (node.inputs, node.inputs[::-1]):
            sigmoid = view.maker(gate, "Sigmoid")
            if sigmoid is None or sigmoid.inputs[0] != x or view.only_reader(gate) is not node:
                continue
            if view.is_float(x):
                new = Node("treadle.Silu", [x], [node.outputs[0]], {}, node.name)
                view.replace([node, sigmoid], [new], node)
                count += 1
                break
    return count
