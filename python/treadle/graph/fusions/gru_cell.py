"""One step of a GRU that an exporter took apart becomes one step of treadle.Recurrent.

    r = sigmoid(W_r x + U_r h + b_r)                z = sigmoid(W_z x + U_z h + b_z)
    n = tanh(W_n x + b_n + r (U_n h + b_m))         or, the reset before the product,
    n = tanh(W_n x + b_n + U_n (r h))
    h' = (1 - z) n + z h                            [B, H]

(Cho et al., arXiv:1406.1078; PyTorch's reset follows the product.) h' may be written as
n + z (h - n), and z may be what takes the new instead of the old, (1 - z) h + z n: then it is the
sigmoid of the negative sum. The candidate may be a relu. `treadle.graph.gates` reads the products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.gates import Constants, Sum, gate_of, private, step, sum_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from treadle.graph.ir import Node
    from treadle.graph.view import View

CANDIDATES = ("Tanh", "Relu")


@dataclass(slots=True)
class _Cell:
    """A _Cell has the sums of a step and the nodes that compute it."""

    h: str
    reset: Sum
    update: Sum
    candidate: Sum  # without the part of h where the reset follows the product
    product: Sum  # that part, or the product of r h
    reset_after: bool
    keep: bool  # z takes the old state
    activation: str
    nodes: list[Node]


def fuse(view: View) -> int:
    """Fuse every step of a GRU; return how many."""
    constants = Constants(view)
    return sum(_fuse(view, node, constants) for node in view.nodes("Add"))


def _fuse(view: View, add: Node, constants: Constants) -> bool:
    for z, new, old, nodes in _mixtures(view, add):
        for n, h, keep in ((new, old, True), (old, new, False)):
            cell = _cell(view, z, n, h, keep, [add, *nodes])
            if cell is not None and _replace(view, cell, add, constants):
                return True
    return False


def _mixtures(view: View, add: Node) -> Iterator[tuple[str, str, str, list[Node]]]:
    """Yield (z, a, b, the nodes) where the sum is (1 - z) a + z b."""
    for first, second in (add.inputs, add.inputs[::-1]):
        scaled = view.maker(second, "Mul")
        for z, other in () if scaled is None else (scaled.inputs, scaled.inputs[::-1]):
            if scaled is None or view.maker(z, "Sigmoid", "Split", "Slice") is None:
                continue
            difference = view.maker(other, "Sub")
            if difference is not None and difference.inputs[1] == first:
                yield z, first, difference.inputs[0], [scaled, difference]
            rest = view.maker(first, "Mul")
            for one, a in () if rest is None else (rest.inputs, rest.inputs[::-1]):
                minus = view.maker(one, "Sub")
                if rest and minus is not None and minus.inputs[1] == z and _is_one(view, minus, z):
                    yield z, a, other, [scaled, rest, minus]


def _is_one(view: View, minus: Node, gate: str) -> bool:
    """Return whether a Sub is 1 - gate, of the gate's shape."""
    array, rank = view.constant(minus.inputs[0]), view.known(gate).rank
    fits = array is not None and rank is not None and array.ndim <= rank
    return fits and view.number(minus.inputs[0]) == 1


def _cell(view: View, z: str, n: str, h: str, keep: bool, nodes: list[Node]) -> _Cell | None:
    last = view.maker(n, *CANDIDATES)
    shape = view.known(h).shape
    if last is None or shape is None or len(shape) != 2 or not view.is_float(h):
        return None
    update, candidate = gate_of(view, z), sum_of(view, last.inputs[0])
    found = None if candidate is None else _reset(view, candidate, h)
    if update is None or candidate is None or found is None:
        return None
    reset, product, between = found
    nodes = [*nodes, last, between]
    for one in (update, reset, candidate, product):
        nodes += one.nodes
    after, activation = bool(candidate.others), last.op.lower()
    cell = _Cell(h, reset, update, candidate, product, after, keep, activation, nodes)
    return cell if _sizes_fit(cell, shape[1]) else None


def _reset(view: View, candidate: Sum, h: str) -> tuple[Sum, Sum, Node] | None:
    """Return the reset gate, the candidate's product with h, and the node that multiplies by r.

    A product of r h is taken out of the candidate's terms.
    """
    if len(candidate.others) > 1:
        return None
    for name in [*candidate.others] or [*candidate.terms]:
        scaled = view.maker(name, "Mul")
        for gate, other in () if scaled is None else (scaled.inputs, scaled.inputs[::-1]):
            reset = gate_of(view, gate)
            if reset is None or scaled is None:
                continue
            if candidate.others:
                product = sum_of(view, other)
                if product is not None and not product.others and set(product.terms) == {h}:
                    return reset, product, scaled
            elif other == h:
                return reset, Sum({h: candidate.terms.pop(name)}), scaled
    return None


def _sizes_fit(cell: _Cell, hidden: int | str) -> bool:
    """Return whether all gates read the same inputs and the state, and have H rows."""
    inputs = set(cell.candidate.terms)
    sums = (cell.reset, cell.update, cell.candidate, cell.product)
    return (
        bool(inputs)
        and cell.h not in inputs
        and set(cell.reset.terms) == set(cell.update.terms) == inputs | {cell.h}
        and all(one.size == hidden for one in sums)
        and all(array.shape[0] == hidden for one in sums for array in one.terms.values())
        and all(one.bias is None or one.bias.size == hidden for one in sums)
    )


def _replace(view: View, cell: _Cell, add: Node, constants: Constants) -> bool:
    group = private(view, cell.nodes, add.outputs[0])
    if group is None:
        return False
    label, name = add.outputs[0], cell.product.nodes[0].name if cell.product.nodes else add.name
    inputs, hidden = list(cell.candidate.terms), cell.product.terms[cell.h].shape[1]
    sign = np.float32(1 if cell.keep else -1)

    def rows(*arrays: np.ndarray) -> np.ndarray:
        r, z, n = arrays
        return np.concatenate([r, sign * z, n])

    def bias(total: Sum) -> np.ndarray:
        return np.zeros(hidden, np.float32) if total.bias is None else total.bias

    gates = (cell.reset, cell.update, cell.candidate)
    weights = {
        "0.weight_ih": np.concatenate(
            [rows(*(one.terms[source] for one in gates)) for source in inputs], 1
        ),
        "0.weight_hh": rows(*(one.terms[cell.h] for one in (*gates[:2], cell.product))),
    }
    biased = any(one.bias is not None for one in (*gates, cell.product))
    if biased:
        weights["0.bias_ih"] = rows(*(bias(one) for one in gates))
        zero = np.zeros(hidden, np.float32)
        weights["0.bias_hh"] = rows(zero, zero, bias(cell.product))
    attributes = {
        "mode": "gru",
        "activation": [cell.activation],
        "reset_after": int(cell.reset_after),
    }
    new = step(view, inputs, cell.h, weights, attributes, (label, name, constants))
    if new is None:
        return False
    view.replace(group, new, add)
    return True
