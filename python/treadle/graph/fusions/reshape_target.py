"""Reshape to a computed shape becomes Reshape to a constant, where that says the same.

Exporters take sizes out of Shape and put them together again. A size that the input has at the same
place is written as 0, and one other symbol as -1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.graph.ir import Node
from treadle.graph.patterns import constant_target

if TYPE_CHECKING:
    from treadle.graph.view import View


def fuse(view: View) -> int:
    """Give constants to Reshape; return how often."""
    return sum(_replace(view, node) for node in view.nodes("Reshape"))


def _replace(view: View, node: Node) -> bool:
    if len(node.inputs) < 2 or view.constant(node.inputs[1]) is not None:
        return False
    wanted = view.known(node.inputs[1]).elements
    shape, result = view.known(node.inputs[0]).shape, view.known(node.outputs[0]).shape
    if wanted is None or shape is None or result is None or 0 in result:
        return False
    target = constant_target(shape, result)
    if target is None:
        return False
    name = view.add_constant(f"{node.outputs[0]}.shape", target)
    view.replace(
        [node], [Node("Reshape", [node.inputs[0], name], node.outputs, {}, node.name)], node
    )
    return True
