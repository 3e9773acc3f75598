"""Recurrent layers one behind the other become one stack of treadle.Recurrent.

The second layer reads what the first one writes and nobody else reads it. Both have the same
options, lengths and mask, and both have initial states or none. Final states that are read must be
put together by one Concat, as exporters write PyTorch's h_n.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.ir import Node

if TYPE_CHECKING:
    from treadle.graph.view import View

# What may differ between the layers of a stack.
OWN = ("input_size", "num_layers", "weights")


def fuse(view: View) -> int:
    """Join every layer with the one before it; return how many."""
    return sum(_join(view, node) for node in view.nodes("treadle.Recurrent"))


def _join(view: View, second: Node) -> bool:
    first = view.maker(second.inputs[0], "treadle.Recurrent")
    if first is None or first.outputs[0] != second.inputs[0] or not _fit(first, second):
        return False
    if view.only_reader(first.outputs[0]) is not second or first.inputs[3] != second.inputs[3]:
        return False
    if masks(first) != masks(second):
        return False
    pairs = list(zip(first.inputs[1:3], second.inputs[1:3], strict=True))
    if any(bool(a) != bool(b) for a, b in pairs):
        return False
    finals = _finals(view, first, second)
    if finals is None:
        return False
    new: list[Node] = []
    states = [_joined(view, a, b, second, new) if a else "" for a, b in pairs]
    layers = first.attributes.get("num_layers", 1)
    shifted = [_shifted(name, layers) for name in second.attributes["weights"]]
    attributes = {
        **first.attributes,
        "num_layers": layers + second.attributes.get("num_layers", 1),
        "weights": [*first.attributes["weights"], *shifted],
    }
    weights = [name for node in (first, second) for name in own_weights(node)]
    inputs = [first.inputs[0], *states, first.inputs[3], *weights, *masks(first)]
    outputs = [second.outputs[0], "", ""]
    gone, later = [first, second], []
    for place, concat in enumerate(finals, 1):
        if concat is None:
            continue
        outputs[place] = concat.outputs[0]
        gone.append(concat)
        if len(concat.inputs) > 2:  # it joins the final states of other layers, too
            outputs[place] = view.new_name(f"{concat.outputs[0]}.stack")
            at = concat.inputs.index(first.outputs[place])
            joined = [*concat.inputs[:at], outputs[place], *concat.inputs[at + 2 :]]
            later.append((concat, joined))
            gone.pop()
    stack = Node("treadle.Recurrent", inputs, outputs, attributes, first.name)
    for concat, joined in later:
        changed = Node("Concat", joined, concat.outputs, concat.attributes, concat.name)
        view.replace([concat], [changed], concat)
    view.replace(gone, [*new, stack], second)
    return True


def own_weights(node: Node) -> list[str]:
    """Return the names of the inputs that are a node's weights."""
    return node.inputs[4 : 4 + len(node.attributes["weights"])]


def masks(node: Node) -> list[str]:
    """Return the input that is a node's mask, in a list that is empty where it has none."""
    return [name for name in node.inputs[4 + len(node.attributes["weights"]) :] if name]


def _fit(first: Node, second: Node) -> bool:
    """Return whether two layers have the same options, and one reads what the other writes."""
    options = [
        {key: value for key, value in node.attributes.items() if key not in OWN}
        for node in (first, second)
    ]
    directions = 2 if first.attributes.get("direction") == "bidirectional" else 1
    width = first.attributes.get("proj_size", 0) or first.attributes["hidden_size"]
    same = options[0] == options[1] and not first.attributes.get("broadcast", 0)
    return same and second.attributes["input_size"] == directions * width


def _finals(view: View, first: Node, second: Node) -> list[Node | None] | None:
    """Return the Concat of each final state, None for one that nobody reads; None if impossible."""
    result: list[Node | None] = []
    for place in (1, 2):
        names = [
            node.outputs[place] if place < len(node.outputs) else "" for node in (first, second)
        ]
        read = [name for name in names if name and (view.readers(name) or view.is_kept(name))]
        if not read:
            result.append(None)
            continue
        concat = view.only_reader(names[0], "Concat") if len(read) == 2 else None
        if concat is None or view.only_reader(names[1]) is not concat:
            return None
        at = concat.inputs.index(names[0])
        if concat.inputs[at + 1 : at + 2] != [names[1]] or concat.attributes.get("axis") not in (
            0,
            -3,
        ):
            return None
        result.append(concat)
    return result


def _joined(view: View, a: str, b: str, node: Node, new: list[Node]) -> str:
    """Return the initial states of both layers: a Concat, or a larger part of what both are of."""
    parts = [_part(view, name) for name in (a, b)]
    label = view.new_name(f"{a}.stack")
    if parts[0] and parts[1] and parts[0][0] == parts[1][0] and parts[0][2] == parts[1][1]:
        source, begin, end = parts[0][0], parts[0][1], parts[1][2]
        shape = view.known(source).shape
        if shape is not None and begin == 0 and end == shape[0]:
            return source
        names = [
            view.add_constant(f"{label}.cut", np.array([number], np.int64))
            for number in (begin, end, 0)
        ]
        new.append(Node("Slice", [source, *names], [label], {}, node.name))
        return label
    new.append(Node("Concat", [a, b], [label], {"axis": 0}, node.name))
    return label


def _part(view: View, name: str) -> tuple[str, int, int] | None:
    """Return (source, begin, end) of a Slice of axis 0 by steps of 1."""
    node = view.maker(name, "Slice")
    if node is None or len(node.inputs) < 4:
        return None
    numbers = [view.integers(one) for one in node.inputs[1:]]
    if any(one is None or len(one) != 1 for one in numbers):
        return None
    begin, end, axis, *step = (one[0] for one in numbers if one)
    size = (view.known(node.inputs[0]).shape or ("",))[0]
    if axis not in (0, -3) or step not in ([], [1]) or not isinstance(size, int):
        return None
    return (node.inputs[0], begin, min(end, size)) if 0 <= begin < end else None


def _shifted(name: str, layers: int) -> str:
    layer, _, rest = name.partition(".")
    return f"{int(layer) + layers}.{rest}"
