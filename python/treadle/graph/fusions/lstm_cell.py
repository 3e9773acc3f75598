"""One step of an LSTM that an exporter took apart becomes one step of treadle.Recurrent.

    gates = product(x) + product(h) + bias        [B, 4 H], cut into four parts of H
    c' = sigmoid(f) c + sigmoid(i) tanh(g)        h' = sigmoid(o) tanh(c')

(Hochreiter and Schmidhuber, 1997; Gers et al., 2000, as PyTorch and TensorFlow write it.) Which of
the parts is which follows from what is done with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.ir import Node

if TYPE_CHECKING:
    from treadle.graph.view import View


@dataclass(slots=True)
class _Cell:
    """A _Cell has the names of the parts of a step, its states and its nodes."""

    c: str = ""
    new_c: str = ""
    new_h: str = ""
    keep: Node = field(default_factory=lambda: Node("", [], []))
    gates: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)


def fuse(view: View) -> int:
    """Fuse every step of an LSTM; return how many."""
    return sum(_fuse(view, node) for node in view.nodes("Split"))


def _fuse(view: View, split: Node) -> bool:
    cell = _find(view, split)
    parts = None if cell is None else _products(view, split.inputs[0])
    if cell is None or parts is None:
        return False
    products, bias, adds = parts
    hidden = view.known(split.outputs[0]).shape
    size = hidden[1] if hidden and len(hidden) == 2 else None
    shape = view.known(cell.c).shape
    if shape is None or len(shape) != 2 or shape[1] != size or not view.is_float(cell.c):
        return False
    order = [list(split.outputs).index(cell.gates[gate]) for gate in "ifgo"]
    if not isinstance(size, int) or any(p[1].shape[0] != 4 * size for p in products):
        return False
    states = [p for p in products if p[1].shape[1] == size]
    if not states:
        return False
    state = states[0]  # where both could be the state, either is right: they are summed
    other = products[1] if state is products[0] else products[0]
    group = [split, *adds, *(p[2] for p in products), *cell.nodes]
    outputs = {cell.new_h, cell.new_c}
    if not _is_private(view, group, outputs):
        return False
    _replace(view, (other, state, bias), cell, order, group)
    return True


# x, weight [4 H, K] and the node of a product.
_Product = tuple[str, np.ndarray, Node]


def _is_private(view: View, group: list[Node], outputs: set[str]) -> bool:
    names = {name for node in group for name in node.outputs if name} - outputs
    members = set(group)
    return not any(
        view.is_kept(name) or any(reader not in members for reader in view.readers(name))
        for name in names
    )


def _products(view: View, name: str) -> tuple[list[_Product], np.ndarray | None, list[Node]] | None:
    """Take a sum of two products and perhaps a constant apart."""
    products: list[_Product] = []
    bias: np.ndarray | None = None
    adds: list[Node] = []
    pending = [name]
    while pending:
        one = pending.pop()
        node = view.maker(one, "Add", "treadle.Linear")
        array = view.constant(one)
        if array is not None and bias is None and array.ndim == 1 and array.dtype == np.float32:
            bias = array
        elif node is not None and node.op == "Add" and len(adds) < 3:
            adds.append(node)
            pending += node.inputs
        elif node is not None and node.op == "treadle.Linear" and len(products) < 2:
            weight = view.constant(node.inputs[1])
            plain = len(node.inputs) < 4 and "activation" not in node.attributes
            if weight is None or not plain or view.known(node.inputs[0]).rank != 2:
                return None
            products.append((node.inputs[0], weight, node))
        else:
            return None
    rows = {weight.shape[0] for _, weight, _ in products}
    if bias is not None and rows != {bias.size}:
        return None
    two = len(products) == 2 and products[0][2] is not products[1][2]
    return (products, bias, adds) if two else None


def _find(view: View, split: Node) -> _Cell | None:
    """Follow the four parts of a Split to the new states."""
    if len(split.outputs) != 4 or not all(split.outputs):
        return None
    if split.attributes.get("axis", 0) not in (1, -1) or view.known(split.inputs[0]).rank != 2:
        return None
    sizes = {view.known(name).shape for name in split.outputs}
    activated: dict[str, tuple[str, Node]] = {}
    for name in split.outputs:
        node = view.only_reader(name, "Sigmoid", "Tanh")
        if node is None or len(sizes) != 1:
            return None
        activated[node.outputs[0]] = (name, node)
    candidates = [name for name, (_, node) in activated.items() if node.op == "Tanh"]
    if len(candidates) != 1:
        return None
    multiply = view.only_reader(candidates[0], "Mul")
    add = None if multiply is None else view.only_reader(multiply.outputs[0], "Add")
    if multiply is None or add is None:
        return None
    cell = _Cell(new_c=add.outputs[0])
    cell.nodes = [node for _, node in activated.values()] + [multiply, add]
    cell.gates["g"] = activated[candidates[0]][0]
    i = _other(multiply, candidates[0])
    keep = view.maker(_other(add, multiply.outputs[0]), "Mul")
    if i not in activated or keep is None:
        return None
    forget = next((name for name in keep.inputs if name in activated), "")
    tanh = [node for node in view.readers(cell.new_c) if node.op == "Tanh"]
    out = view.only_reader(tanh[0].outputs[0], "Mul") if len(tanh) == 1 else None
    if not forget or out is None:
        return None
    o = _other(out, tanh[0].outputs[0])
    cell.c, cell.new_h, cell.keep = _other(keep, forget), out.outputs[0], keep
    if {i, forget, o, candidates[0]} != set(activated) or cell.c in activated:
        return None
    cell.gates |= {"i": activated[i][0], "f": activated[forget][0], "o": activated[o][0]}
    cell.nodes += [keep, tanh[0], out]
    return cell


def _other(node: Node, name: str) -> str:
    return node.inputs[1] if node.inputs[0] == name else node.inputs[0]


def _replace(
    view: View,
    found: tuple[_Product, _Product, np.ndarray | None],
    cell: _Cell,
    order: list[int],
    group: list[Node],
) -> None:
    (x, w, linear), (h, r, linear_h), bias = found
    label = cell.new_h

    def ordered(rows: np.ndarray) -> np.ndarray:
        size = rows.shape[0] // 4
        parts = rows.reshape(4, size, *rows.shape[1:])[order]
        return np.ascontiguousarray(parts.reshape(rows.shape))

    total = np.zeros(w.shape[0])
    for node in (linear, linear_h):
        array = view.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        total = total if array is None else total + array
    total = total if bias is None else total + bias
    weights = {
        "0.weight_ih": ordered(w),
        "0.weight_hh": ordered(r),
        "0.bias_ih": ordered(total.astype(np.float32)),
        "0.bias_hh": np.zeros(w.shape[0], np.float32),
    }
    names = [view.add_constant(f"{label}.{key}", array) for key, array in weights.items()]
    front = view.add_constant(f"{label}.axis", np.array([0], np.int64))
    inner = {key: view.new_name(f"{label}.{key}") for key in ("x", "h", "c", "h_n", "c_n", "y")}
    attributes = {
        "mode": "lstm",
        "input_size": w.shape[1],
        "hidden_size": r.shape[1],
        "broadcast": 1,
        "weights": list(weights),
    }
    name = linear.name
    new = [
        Node("Unsqueeze", [x, front], [inner["x"]], {}, name),
        Node("Unsqueeze", [h, front], [inner["h"]], {}, name),
        Node("Unsqueeze", [cell.c, front], [inner["c"]], {}, name),
        Node(
            "treadle.Recurrent",
            [inner["x"], inner["h"], inner["c"], "", *names],
            [inner["y"], inner["h_n"], inner["c_n"]],
            attributes,
            name,
        ),
        Node("Squeeze", [inner["h_n"], front], [cell.new_h], {}, name),
        Node("Squeeze", [inner["c_n"], front], [cell.new_c], {}, name),
    ]
    # Here all that the step reads has been made, and nobody has read what it makes.
    last = max((linear, linear_h, cell.keep), key=view.place)
    view.replace(group, new, last)
