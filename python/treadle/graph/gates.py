"""This module takes the sums apart that the gates of a recurrent cell are functions of.

    sum = W_1 x_1 + W_2 x_2 + .. + bias     [B, H]

Exporters write the products of a cell as one for all gates, which is then cut, as one for each
gate, or as one for a row [x, h]. `sum_of` reads all of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.graph.ir import Node
from treadle.graph.patterns import finite, rounded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from treadle.graph.view import View

MOST_DEPTH = 8


@dataclass(slots=True)
class Sum:
    """A Sum has the weight [H, K] of each value [B, K] that is multiplied, and the bias.

    `others` are values of which nothing is known but that they are added. `nodes` compute the sum.
    """

    terms: dict[str, np.ndarray] = field(default_factory=dict)
    bias: np.ndarray | None = None
    others: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)

    @property
    def size(self) -> int | None:
        """The number of outputs, H, if a product or a bias says it."""
        sizes = [array.shape[0] for array in self.terms.values()]
        return sizes[0] if sizes else None if self.bias is None else self.bias.size

    def part(self, begin: int, end: int, node: Node) -> Sum:
        """Return the outputs [begin, end), which a node cuts out."""
        terms = {name: array[begin:end] for name, array in self.terms.items()}
        bias = None if self.bias is None else self.bias[begin:end]
        return Sum(terms, bias, [], [*self.nodes, node])

    def __add__(self, other: Sum) -> Sum:
        """Return the sum of two sums of the same size."""
        terms = dict(self.terms)
        for name, array in other.terms.items():
            terms[name] = rounded(np.float64(terms[name]) + array) if name in terms else array
        biases = [one.bias for one in (self, other) if one.bias is not None]
        bias = rounded(np.float64(biases[0]) + biases[1]) if len(biases) > 1 else None
        return Sum(
            terms,
            bias if bias is not None or not biases else biases[0],
            self.others + other.others,
            self.nodes + other.nodes,
        )


def sum_of(view: View, name: str, depth: int = MOST_DEPTH) -> Sum | None:
    """Take a value [B, H] apart, or return None where it is not made of products.

    A value that is no sum of products is one of the others; None says that what is cut out of a sum
    cannot be told.
    """
    array = view.constant(name)
    if array is not None:
        row = array.ndim in (1, 2) and array.size == array.shape[-1]
        return Sum(bias=array.reshape(-1)) if row and array.dtype == np.float32 else None
    node = view.maker(name, "Add", "treadle.Linear", "Split", "Slice")
    if node is None or depth == 0:
        return Sum(others=[name])
    if node.op == "treadle.Linear":
        return _product(view, node)
    if node.op == "Add":
        first, second = (sum_of(view, one, depth - 1) for one in node.inputs)
        if first is None or second is None:
            return None
        sizes = {one.size for one in (first, second)} - {None}
        if len(sizes) > 1:
            return None
        total = first + second
        total.nodes.append(node)
        return total
    return _part(view, node, name, sum_of(view, node.inputs[0], depth - 1))


def gate_of(view: View, name: str) -> Sum | None:
    """Return the sum whose sigmoid a value is, or a part of; or None if it is none."""
    node = view.maker(name, "Sigmoid", "Split", "Slice")
    if node is None:
        return None
    if node.op == "Sigmoid":
        total = sum_of(view, node.inputs[0])
        if total is None or total.others:
            return None
        total.nodes.append(node)
        return total
    if view.maker(node.inputs[0], "Sigmoid") is None:
        return None
    return _part(view, node, name, gate_of(view, node.inputs[0]))


def _part(view: View, node: Node, name: str, whole: Sum | None) -> Sum | None:
    """Return what a Split or Slice cuts out of a sum."""
    if whole is None or whole.others or whole.size is None:
        return None
    borders = (_split if node.op == "Split" else _slice)(view, node, name, whole.size)
    return None if borders is None else whole.part(*borders, node)


def _product(view: View, node: Node) -> Sum | None:
    """Return the terms of a treadle.Linear, one for each part of a row that a Concat joins."""
    weight = view.constant(node.inputs[1])
    plain = len(node.inputs) < 4 and "activation" not in node.attributes
    if weight is None or not plain or view.known(node.inputs[0]).rank != 2:
        return None
    bias = view.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    joined = view.maker(node.inputs[0], "Concat")
    parts = [] if joined is None else joined.inputs
    sizes = [(view.known(one).shape or ("",))[-1] for one in parts]
    if (
        joined is None
        or joined.attributes.get("axis") not in (1, -1)
        or not all(isinstance(size, int) for size in sizes)
        or sum(int(size) for size in sizes) != weight.shape[1]
    ):
        return Sum({node.inputs[0]: weight}, bias, [], [node])
    total = Sum(bias=bias, nodes=[node, joined])
    begin = 0
    for name, size in zip(parts, sizes, strict=True):
        total = total + Sum({name: weight[:, begin : begin + int(size)]})
        begin += int(size)
    return total


def _split(view: View, node: Node, name: str, size: int) -> tuple[int, int] | None:
    """Return what of the axis 1 an output of a Split is."""
    if node.attributes.get("axis", 0) not in (1, -1):
        return None
    count = len(node.outputs)
    if len(node.inputs) > 1 and node.inputs[1]:
        sizes = view.integers(node.inputs[1])
    else:
        each = -(-size // count)
        sizes = [each] * (count - 1) + [size - each * (count - 1)]
    if sizes is None or len(sizes) != count or sum(sizes) != size or min(sizes) < 0:
        return None
    at = node.outputs.index(name)
    return sum(sizes[:at]), sum(sizes[: at + 1])


def _slice(view: View, node: Node, name: str, size: int) -> tuple[int, int] | None:
    """Return what of the axis 1 a Slice is."""
    del name
    numbers = [view.integers(one) for one in node.inputs[1:]]
    if len(numbers) < 3 or any(one is None or len(one) != 1 for one in numbers):
        return None
    begin, end, axis, *step = (one[0] for one in numbers if one)
    begin, end = (min(n + size if n < 0 else n, size) for n in (begin, end))
    return (begin, end) if axis in (1, -1) and step in ([], [1]) and 0 <= begin < end else None


def private(view: View, nodes: Iterable[Node], result: str) -> list[Node] | None:
    """Return the nodes without Concats that others read too, or None where others read the rest."""
    group = list(dict.fromkeys(nodes))
    members = set(group)
    group = [
        node
        for node in group
        if node.op != "Concat"
        or (
            not view.is_kept(node.outputs[0])
            and all(reader in members for reader in view.readers(node.outputs[0]))
        )
    ]
    return group if view.is_private(group, result) else None


class Constants:
    """Constants adds arrays to a graph, equal ones once: equal steps share their weights."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._names: dict[tuple[tuple[int, ...], bytes], str] = {}

    def add(self, label: str, array: np.ndarray) -> str:
        """Return the name of a constant of float32."""
        import hashlib  # OpenSSL takes milliseconds to load, and few models have such constants

        array = np.ascontiguousarray(array)
        key = (array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._names:
            self._names[key] = self._view.add_constant(label, array)
        return self._names[key]


def step(
    view: View,
    sources: list[str],
    h: str,
    weights: dict[str, np.ndarray],
    attributes: dict[str, Any],
    made: tuple[str, str, Constants],
) -> list[Node] | None:
    """Return the nodes of one step of treadle.Recurrent, or None where it cannot be made.

    The sources are the inputs [B, K] that weight_ih multiplies; several of them are joined, if they
    are known to have the same number of rows. `made` has the name of h', the nodes' name and the
    graph's constants.
    """
    label, name, constants = made
    rows = {(view.known(one).shape or (None,))[0] for one in sources}
    if (len(sources) > 1 and (len(rows) != 1 or None in rows)) or not finite(*weights.values()):
        return None
    names = [constants.add(f"{label}.{key}", array) for key, array in weights.items()]
    inner = {key: view.new_name(f"{label}.{key}") for key in ("inputs", "x", "h", "h_n")}
    front = view.add_constant(f"{label}.axis", np.array([0], np.int64))
    joined = [Node("Concat", sources, [inner["inputs"]], {"axis": 1}, name)][: len(sources) - 1]
    x = inner["inputs"] if joined else sources[0]
    sizes = {
        "input_size": weights["0.weight_ih"].shape[1],
        "hidden_size": weights["0.weight_hh"].shape[1],
        "bias": int("0.bias_ih" in weights),
        "broadcast": 1,
        "weights": list(weights),
    }
    return [
        *joined,
        Node("Unsqueeze", [x, front], [inner["x"]], {}, name),
        Node("Unsqueeze", [h, front], [inner["h"]], {}, name),
        Node(
            "treadle.Recurrent",
            [inner["x"], inner["h"], "", "", *names],
            ["", inner["h_n"]],
            {**attributes, **sizes},
            name,
        ),
        Node("Squeeze", [inner["h_n"], front], [label], {}, name),
    ]
