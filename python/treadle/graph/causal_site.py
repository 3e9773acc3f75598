"""This module has what the rules of streaming work on: a graph that is rewritten, and its nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.graph.ir import Graph, Node, Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from treadle.graph.shapes import Known

# What moves zeros is zero.
_ZERO_MOVES = (
    *("Expand", "Reshape", "Identity", "Tile", "Slice", "Gather", "Transpose", "Unsqueeze"),
    *("Squeeze", "Split", "Cast"),
)


class Refused(Exception):
    """This error says why a node does not stream."""


class Rewriting:
    """A Rewriting is a graph while it is rewritten.

    axes    the axis of time of each value that has one
    lead    how many zeros lie before the first frame of a value, which a convolution takes up
    trail   how many frames of a value lie behind the last one, which a Slice cuts off
    final   the values that depend on a state at the end of all frames
    zeros   the values that are known to be zero
    """

    def __init__(
        self,
        graph: Graph,
        known: dict[str, Known],
        axes: dict[str, int],
        states: Mapping[str, str],
    ) -> None:
        self.graph, self.known = graph, known
        self.axes = dict(axes)
        self.lead: dict[str, int] = {}
        self.trail: dict[str, int] = {}
        self.final: set[str] = set()
        self.given = set(states)
        self.constants: dict[str, Any] = dict(graph.constants)
        self.zeros = {name for name, value in self.constants.items() if _is_zero(value)}
        self.nodes: list[Node] = []
        self.states: dict[str, str] = {}
        self._inputs: list[Value] = []
        self._outputs: list[Value] = []
        self._aliases: dict[str, str] = {}
        self._names = set(known) | {name for node in graph.nodes for name in node.outputs}
        self._batch = self._symbols()

    def _symbols(self) -> dict[Any, str | None]:
        """Return the sizes that calls choose, but for time: those of a batch."""
        found: dict[Any, str | None] = {}
        for value in self.graph.inputs:
            shape, inferred = value.shape, self.known[value.name].shape
            if shape is None or inferred is None:
                continue
            for axis, (size, symbol) in enumerate(zip(shape, inferred, strict=True)):
                if axis != self.axes.get(value.name) and not isinstance(size, int):
                    found[symbol] = size if isinstance(size, str) else None
        return found

    def name(self, label: str) -> str:
        """Return a name that no value has."""
        name, number = label, 0
        while name in self._names:
            number += 1
            name = f"{label}.{number}"
        self._names.add(name)
        return name

    def constant(self, label: str, numbers: Sequence[int]) -> str:
        name = self.name(label)
        self.constants[name] = np.array(numbers, np.int64)
        return name

    def alias(self, name: str, of: str) -> None:
        """Let the readers of a value read another one."""
        self._aliases[name] = self.read(of)

    def read(self, name: str) -> str:
        """Return the name of a value in the new graph."""
        return self._aliases.get(name, name)

    def state(self, label: str, shape: Sequence[Any], made: str) -> str:
        """Add a state of this shape, whose next value is ``made``; return the name of its input."""
        sizes: list[int | str] = []
        for size in shape:
            if isinstance(size, int):
                sizes.append(size)
            elif size in self._batch:
                sizes.append(self._batch[size] or "batch")
            else:
                raise Refused("the size of its state is not known before a call")
        name = self.name(f"{label}.state")
        self._inputs.append(Value(name, "float32", tuple(sizes)))
        self._outputs.append(Value(made, "float32", tuple(sizes)))
        self.states[name] = made
        return name

    def note_zeros(self, node: Node) -> None:
        """Remember what is known to be zero of a node that knows no time."""
        fill = node.attributes.get("value")
        made_of_zeros = node.op in _ZERO_MOVES and node.inputs[0] in self.zeros
        if made_of_zeros or (node.op == "Concat" and all(n in self.zeros for n in node.inputs)):
            self.zeros.update(filter(None, node.outputs))
        if node.op == "ConstantOfShape" and (fill is None or not np.any(fill)):
            self.zeros.update(filter(None, node.outputs))

    def finished(self) -> Graph:
        """Return the new graph, which takes any number of frames."""
        for value in self.graph.outputs:
            if value.name in self._aliases:  # an output keeps its name
                made = self._aliases.pop(value.name)
                self.nodes.append(Node("Identity", [made], [value.name]))
        inputs = [self._relaxed(value) for value in self.graph.inputs] + self._inputs
        outputs = [self._relaxed(value) for value in self.graph.outputs] + self._outputs
        return Graph(inputs, outputs, self.nodes, self.constants)

    def _relaxed(self, value: Value) -> Value:
        """Return an input or output with any number of frames, and with the name of its batch."""
        known = self.known.get(value.name)
        if value.shape is None or known is None or known.shape is None:
            return value
        sizes: list[int | str | None] = list(value.shape)
        for axis, symbol in enumerate(known.shape[: len(sizes)]):
            if symbol in self._batch:
                sizes[axis] = self._batch[symbol] or "batch"
        if value.name in self.axes and isinstance(sizes[self.axes[value.name]], int):
            sizes[self.axes[value.name]] = "time"
        return Value(value.name, value.dtype, tuple(sizes))


def _is_zero(constant: Any) -> bool:
    """Return whether a constant is an array of float zeros; rounded weights are no arrays."""
    return isinstance(constant, np.ndarray) and constant.dtype.kind == "f" and not constant.any()


class CausalSite:
    """A CausalSite is a node of a graph that is rewritten; some of its inputs have frames."""

    def __init__(self, work: Rewriting, node: Node) -> None:
        self.work, self.node = work, node

    def axis(self, place: int) -> int | None:
        """Return the axis of time of an input, or None."""
        name = self.input(place)
        return self.work.axes.get(name) if name else None

    def input(self, place: int) -> str:
        return self.node.inputs[place] if place < len(self.node.inputs) else ""

    def known(self, place: int) -> Known:
        return self.work.known[self.input(place)]

    def rank(self, place: int) -> int:
        """Return the rank of an input, and refuse one that is not known."""
        name = self.input(place)
        rank = self.work.known[name].rank if name in self.work.known else None
        if rank is None:
            raise Refused(f"the rank of {name} is not known")
        return rank

    def integers(self, place: int) -> list[int]:
        """Return the numbers of a constant input, and refuse another one."""
        value = self.work.constants.get(self.input(place))
        if not isinstance(value, np.ndarray):
            raise Refused(f"its input {self.input(place)} is no constant")
        return [int(number) for number in value.reshape(-1)]

    def attribute(self, name: str, otherwise: Any) -> Any:
        return self.node.attributes.get(name, otherwise)

    def only_first(self) -> int:
        """Return the axis of time of the first input, the only one that may have frames."""
        axis = self.axis(0)
        if axis is None or any(self.axis(i) is not None for i in range(1, len(self.node.inputs))):
            raise Refused("another input than the first has frames")
        return axis

    def plain(self) -> int:
        """Refuse zeros before the first frame of an input; return how many frames lie behind the
        last one, which all inputs that have frames must agree about.
        """
        timed = [name for name in self.node.inputs if name in self.work.axes]
        if any(self.work.lead.get(name) for name in timed):
            raise Refused("padding in time comes before it, and no convolution takes that up")
        trails = {self.work.trail.get(name, 0) for name in timed}
        if len(trails) > 1:
            raise Refused("some of its inputs have frames behind the last one, and others do not")
        return trails.pop()

    def emit(self, node: Node) -> None:
        """Add a node to the new graph, which reads what its inputs are there."""
        reads = [self.work.read(name) for name in node.inputs]
        self.work.nodes.append(Node(node.op, reads, node.outputs, node.attributes, node.name))

    def keep(self, axis: int, *, trail: int, lead: int = 0) -> None:
        """Keep the node as it is; its outputs have their frames on this axis."""
        self.emit(self.node)
        for name in filter(None, self.node.outputs):
            self.work.axes[name] = axis
            self.work.trail[name] = trail
            self.work.lead[name] = lead
