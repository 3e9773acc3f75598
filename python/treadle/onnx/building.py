"""This module holds a graph in the making: its names, nodes and constants.

A name is unique over a graph and all graphs in it, whatever a file calls its values: `Scope` knows
what a name of the file is called in the graph, and where it is visible. `Call` is a node on its way
from an old form to the newest one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from treadle._storage.json import short
from treadle.graph.ir import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle._inputs.types import AnyArray


class Names:
    """This class keeps the names that a graph and the graphs in it have taken."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def take(self, wish: str) -> str:
        """Return the wish where it is free, and else the wish with a number behind it."""
        name = wish
        while name in self._taken:
            self._taken[wish] = self._taken.get(wish, 0) + 1
            name = f"{wish}.{self._taken[wish]}"
        self._taken[name] = 0
        return name


@dataclass(slots=True)
class Scope:
    """A Scope says what names of a graph of the file stand for, within that of the graph around.

    ``declared`` has the graph's names of all values of the file's graph, ``defined`` those that are
    known where the reader is, ``waiting`` the constants that nothing has used yet.
    """

    names: Names
    outer: Scope | None = None
    declared: dict[str, str] = field(default_factory=dict)
    defined: set[str] = field(default_factory=set)
    waiting: dict[str, Callable[[], AnyArray]] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, AnyArray] = field(default_factory=dict)

    def declare(self, name: str) -> None:
        """Take a name for a value. Raises KeyError for one that there is already."""
        if name in self.declared:
            raise KeyError(name)
        self.declared[name] = self.names.take(name)

    def wait(self, name: str, array: Callable[[], AnyArray]) -> None:
        """Define a constant of a declared name, which is made when it is first used."""
        self.defined.add(name)
        self.waiting[name] = array

    def find(self, name: str) -> str:
        """Return what a name stands for. Raises LookupError that says why it stands for nothing."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.declared:
                if name not in scope.defined:
                    raise LookupError(
                        f"{short(name)}, which only a later node or none computes; nodes must "
                        "stand in the order of execution, without circles"
                    )
                found = scope.declared[name]
                if name in scope.waiting:
                    scope.constants[found] = scope.waiting.pop(name)()
                return found
            scope = scope.outer
        raise LookupError(
            f"{short(name)}, which no input, no constant and no node of this name defines"
        )

    def constant(self, found: str) -> AnyArray | None:
        """Return the constant of this name in the graph or the graphs around it, or None."""
        scope: Scope | None = self
        while scope is not None:
            if found in scope.constants:
                return scope.constants[found]
            scope = scope.outer
        return None


@dataclass(slots=True)
class Call:
    """A Call is a node with the graph's names of values, still in the form of its opset."""

    scope: Scope
    op: str
    version: int
    """The opset of the node's domain."""
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    name: str
    what: str
    """Function, file and node, the beginning of every message."""

    def error(self, problem: str) -> ValueError:
        return ValueError(f"{self.what} {problem}")

    def has(self, position: int) -> bool:
        """Return whether there is an input at a position."""
        return position < len(self.inputs) and self.inputs[position] != ""

    def take(self, name: str, kind: type, default: Any) -> Any:
        """Return an attribute, which the newest form has not, and drop it."""
        value = self.attributes.pop(name, default)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.error(f"has the attribute {name} of a wrong kind, expected {kind.__name__}")
        return value

    def set_input(self, position: int, name: str) -> None:
        self.inputs += [""] * (position + 1 - len(self.inputs))
        self.inputs[position] = name

    def constant(self, array: AnyArray, hint: str) -> str:
        """Add a constant to the graph and return its name."""
        name = self.scope.names.take(f"{self.outputs[0] if self.outputs else self.op}/{hint}")
        self.scope.constants[name] = array
        return name

    def compute(
        self, op: str, inputs: Sequence[str], attributes: dict[str, Any] | None = None
    ) -> str:
        """Add a node of one output, in its newest form, and return the name of the output."""
        output = self.scope.names.take(f"{self.outputs[0] if self.outputs else self.op}/{op}")
        self.emit(op, inputs, [output], attributes)
        return output

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """Add a node in its newest form; inputs and outputs that are absent at the end go."""
        ins, outs = list(inputs), list(outputs)
        while ins and ins[-1] == "":
            ins.pop()
        while outs and outs[-1] == "":
            outs.pop()
        self.scope.nodes.append(Node(op, ins, outs, dict(attributes or {}), self.name))
