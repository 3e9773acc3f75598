"""What follows a packed product moves into it: a residual that is added, then an activation.

    y = activation(product + bias + residual)

The products are treadle.Linear, treadle.Conv and, without a residual, treadle.ConvTranspose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.graph.ir import Node
from treadle.graph.patterns import clip_limits, close

if TYPE_CHECKING:
    from treadle.graph.view import View

PRODUCTS = ("treadle.Linear", "treadle.Conv", "treadle.ConvTranspose")
# The operators that are activations of the same parameters, with the name and the defaults.
ACTIVATIONS: dict[str, tuple[str, tuple[float, ...]]] = {
    "Sigmoid": ("sigmoid", ()),
    "Tanh": ("tanh", ()),
    "Relu": ("relu", ()),
    "HardSigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "LeakyRelu": ("leaky_relu", (0.01,)),
    "Elu": ("elu", (1.0,)),
    "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()),
    "treadle.Silu": ("silu", ()),
}


def fuse(view: View) -> int:
    """Move every residual and activation into its product; return how many."""
    count = 0
    for node in view.nodes(*PRODUCTS):
        current = node
        if current.op != "treadle.ConvTranspose":
            added = _residual(view, current)
            count += added is not None
            current = added or current
        count += _activation(view, current)
    return count


def _residual(view: View, node: Node) -> Node | None:
    """Take in an Add of a value of the same shape."""
    name = node.outputs[0]
    add = view.only_reader(name, "Add")
    if add is None or len(node.inputs) > 3 or "activation" in node.attributes:
        return None
    other = add.inputs[1] if add.inputs[0] == name else add.inputs[0]
    shape = view.known(name).shape
    if shape is None or shape != view.known(other).shape or not view.is_float(other):
        return None
    if view.constant(other) is not None:
        return None
    inputs = [*node.inputs, *[""] * (3 - len(node.inputs)), other]
    new = Node(node.op, inputs, [add.outputs[0]], node.attributes, node.name)
    view.replace([node, add], [new], add)
    return new


def _activation(view: View, node: Node) -> bool:
    reader = view.only_reader(node.outputs[0])
    if reader is None or "activation" in node.attributes:
        return False
    found = _activation_of(view, reader)
    if found is None or len(reader.outputs) != 1 or reader.inputs[0] != node.outputs[0]:
        return False
    new = Node(node.op, node.inputs, reader.outputs, {**node.attributes, **found}, node.name)
    view.replace([node, reader], [new], reader)
    return True


def _activation_of(view: View, node: Node) -> dict[str, object] | None:
    """Return the attributes activation, alpha and beta that do what a node does, or None."""
    if node.op == "Gelu":
        tanh = node.attributes.get("approximate", "none") == "tanh"
        return {"activation": "gelu_tanh" if tanh else "gelu"}
    if node.op == "Clip":
        limits = clip_limits(view, node)
        if limits is None or not -float("inf") < limits[0] <= limits[1] < float("inf"):
            return None
        return {"activation": "clip", "alpha": limits[0], "beta": limits[1]}
    if node.op == "treadle.HardSwish":
        plain = close(node.attributes["alpha"], 1 / 6) and close(node.attributes["beta"], 0.5)
        return {"activation": "hard_swish"} if plain else None
    if node.op not in ACTIVATIONS:
        return None
    name, defaults = ACTIVATIONS[node.op]
    keys = ("alpha", "beta")[: len(defaults)]
    numbers = {
        key: float(node.attributes.get(key, default))
        for key, default in zip(keys, defaults, strict=True)
    }
    return {"activation": name, **numbers}
