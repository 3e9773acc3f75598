"""One step of an RNN that an exporter took apart becomes one step of treadle.Recurrent.

    h' = act(W x + U h + b)     [B, H], act = tanh or relu

(Elman, 1990, as PyTorch writes it.) Any sum of two products would fit that formula. It is a step if
h is a state: an input of the graph while h' is an output, or what a step with the same U made.
`treadle.graph.gates` reads the products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.gates import Constants, Sum, private, step, sum_of
from treadle.graph.patterns import MOVES

if TYPE_CHECKING:
    from treadle.graph.ir import Node
    from treadle.graph.view import View

ACTIVATIONS = ("Tanh", "Relu")
MOST_MOVES = 8


def fuse(view: View) -> int:
    """Fuse every step of an RNN; return how many."""
    constants = Constants(view)
    found = [(node, _read(view, node)) for node in view.nodes(*ACTIVATIONS)]
    steps = {node.outputs[0]: total for node, total in found if total is not None}
    chosen = [
        (node, total, h)
        for node, total in found
        if total is not None and (h := _state(view, node, steps))
    ]
    return sum(_replace(view, node, total, h, constants) for node, total, h in chosen)


def _read(view: View, node: Node) -> Sum | None:
    """Return the sum of at least two products that a step is a function of."""
    total = sum_of(view, node.inputs[0])
    if total is None or total.others or len(total.terms) < 2:
        return None
    rows = {array.shape[0] for array in total.terms.values()}
    return total if len(rows) == 1 else None


def _state(view: View, node: Node, steps: dict[str, Sum]) -> str:
    """Return which of the values that a step multiplies is its state, or an empty string."""
    own = steps[node.outputs[0]].terms
    states = [name for name, array in own.items() if array.shape[0] == array.shape[1]]
    later = [
        total.terms[node.outputs[0]] for total in steps.values() if node.outputs[0] in total.terms
    ]
    for name in states:
        before = steps.get(name)
        if before is not None and any(_same(own[name], one) for one in before.terms.values()):
            return name
        if any(_same(own[name], one) for one in later):
            return name
        inputs = {value.name for value in view.graph.inputs}
        if _source(view, name) in inputs and _is_returned(view, node.outputs[0]):
            return name
    return ""


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and bool(np.array_equal(first, second))


def _source(view: View, name: str) -> str:
    """Return the value whose numbers a value has in another shape."""
    for _ in range(MOST_MOVES):
        node = view.maker(name, *MOVES, "Identity")
        if node is None:
            break
        name = node.inputs[0]
    return name


def _is_returned(view: View, name: str) -> bool:
    """Return whether a value is an output of the graph, perhaps in another shape."""
    for _ in range(MOST_MOVES):
        if view.is_kept(name):
            return True
        moved = [node for node in view.readers(name) if node.op in (*MOVES, "Identity", "Concat")]
        if not moved:
            break
        name = moved[0].outputs[0]
    return False


def _replace(view: View, node: Node, total: Sum, h: str, constants: Constants) -> bool:
    shape, hidden = view.known(h).shape, total.terms[h].shape[0]
    group = private(view, [node, *total.nodes], node.outputs[0])
    if group is None or shape is None or len(shape) != 2 or shape[1] != hidden:
        return False
    if total.bias is not None and total.bias.size != hidden:
        return False
    inputs = [source for source in total.terms if source != h]
    weights = {
        "0.weight_ih": np.concatenate([total.terms[source] for source in inputs], 1),
        "0.weight_hh": total.terms[h],
    }
    if total.bias is not None:
        weights |= {"0.bias_ih": total.bias, "0.bias_hh": np.zeros(hidden, np.float32)}
    attributes = {"mode": "rnn", "activation": [node.op.lower()]}
    made = (node.outputs[0], total.nodes[0].name, constants)
    new = step(view, inputs, h, weights, attributes, made)
    if new is None:
        return False
    view.replace(group, new, node)
    return True
