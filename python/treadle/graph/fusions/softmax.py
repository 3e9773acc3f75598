"""Softmax of a matrix that a value was made into becomes Softmax over the value's last axis.

Before opset 13, Softmax took all axes from one on together, as Flatten, Softmax and Reshape back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.graph.ir import Node

if TYPE_CHECKING:
    from treadle.graph.view import View


def fuse(view: View) -> int:
    """Fuse every such Softmax; return how many."""
    return sum(_fuse(view, node) for node in view.nodes("Softmax", "LogSoftmax"))


def _fuse(view: View, node: Node) -> bool:
    flat = view.maker(node.inputs[0], "Flatten")
    back = view.only_reader(node.outputs[0], "Reshape")
    if flat is None or back is None or node.attributes.get("axis", -1) not in (-1, 1):
        return False
    x = flat.inputs[0]
    known = view.known(x)
    if known.rank is None or flat.attributes.get("axis", 1) not in (-1, known.rank - 1):
        return False
    if known.shape != view.known(back.outputs[0]).shape:
        return False
    if view.only_reader(flat.outputs[0]) is not node:
        return False
    new = Node(node.op, [x], back.outputs, {"axis": -1}, node.name)
    view.replace([flat, node, back], [new], back)
    return True
