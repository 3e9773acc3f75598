"""This module holds the graph in the making that a file of Keras becomes: tensors, nodes, names.

A `Tensor` is a value of the graph with what Keras knows of it: dtype, shape and mask. Sizes are
numbers, or names of sizes that calls choose: "batch" for the first axis, "time" for the second one
where the model says None, and names of their own for what layers make of these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from treadle.graph.ir import Graph, Node, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle._inputs.types import AnyArray

Size: TypeAlias = int | str
Shape: TypeAlias = tuple[Size, ...]

BATCH, TIME = "batch", "time"
MOST_RANK = 8
# Models within models are written once for each call: few layers may call each other very often.
MOST_NODES = MOST_CALLS = 2**17


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor is a value of the graph.

    ``mask`` is the bool [B, T] of the same steps that Keras attaches to a tensor, or None.
    """

    name: str
    dtype: str
    shape: Shape
    mask: Tensor | None = None

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def masked(self, mask: Tensor | None) -> Tensor:
        """Return the tensor with another mask, or without one."""
        return replace(self, mask=mask)


def text(shape: Sequence[Size]) -> str:
    """Describe a shape.

    >>> text(("batch", 3))
    '[batch, 3]'
    """
    return f"[{', '.join(map(str, shape))}]"


class Builder:
    """A Builder writes nodes and constants of one graph under names that are unique.

    ``where`` begins all messages: the function and the file. ``version`` is Keras' major version
    that wrote the file, whose layers may mean something else than those of another one.
    """

    def __init__(self, where: str, version: int = 3) -> None:
        self.where, self.version = where, version
        self.nodes: list[Node] = []
        self.constants: dict[str, AnyArray] = {}
        self.inputs: list[Value] = []
        self._taken: dict[str, int] = {}
        self._shared: dict[tuple[int, str], str] = {}
        self._kept: list[Any] = []
        self._calls = 0

    def count_call(self) -> None:
        """Count a call of a layer. Raises ValueError for more than a model may have."""
        self._calls += 1
        if self._calls > MOST_CALLS or len(self.nodes) > MOST_NODES:
            raise ValueError(
                f"{self.where} has more than {MOST_CALLS} calls of layers or {MOST_NODES} nodes, "
                "those of models within models included"
            )

    def name(self, wish: str) -> str:
        """Return the wish where it is free, and else the wish with a number behind it."""
        name = wish
        while name in self._taken:
            self._taken[wish] += 1
            name = f"{wish}.{self._taken[wish]}"
        self._taken[name] = 0
        return name

    def symbol(self, wish: str) -> str:
        """Return the name of a size that is not known before a call and is none of the others."""
        return self.name(wish)

    def input(self, name: str, dtype: str, shape: Shape) -> Tensor:
        """Add an input of the graph."""
        taken = self.name(name)
        for size in shape:
            if isinstance(size, str):
                self._taken.setdefault(size, 0)
        self.inputs.append(Value(taken, dtype, shape))
        return Tensor(taken, dtype, shape)

    def constant(self, array: AnyArray, label: str) -> Tensor:
        """Add a constant."""
        name = self.name(label)
        self.constants[name] = np.ascontiguousarray(array).reshape(array.shape)
        return Tensor(name, array.dtype.name, array.shape)

    def weight(self, array: AnyArray, label: str, made: AnyArray | None = None) -> Tensor:
        """Add a constant of a layer's weight, once for all calls of the layer.

        ``made`` is what the node reads in its place: the weight in another order.
        """
        key = (id(array), label)
        if key not in self._shared:
            self._kept.append(array)  # so that its id stays its own
            self._shared[key] = self.constant(array if made is None else made, label).name
        name = self._shared[key]
        stored = self.constants[name]
        return Tensor(name, stored.dtype.name, stored.shape)

    def node(
        self,
        op: str,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[str],
        attributes: dict[str, Any],
        label: str,
    ) -> None:
        """Add a node."""
        names = ["" if one is None else one.name for one in inputs]
        while names and not names[-1]:
            names.pop()
        self.nodes.append(Node(op, names, list(outputs), attributes, label))

    def graph(self, outputs: Sequence[tuple[str, Tensor]]) -> Graph:
        """Return the graph with these outputs, under these names where they are free."""
        values = []
        for name, tensor in outputs:
            own = self.name(name)
            self.node("Identity", [tensor], [own], {}, name)
            values.append(Value(own, tensor.dtype, tensor.shape))
        return Graph(self.inputs, values, self.nodes, self.constants)
