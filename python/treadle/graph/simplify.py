"""This module removes nodes that change nothing: identities, repetitions, and what nobody reads.

Nothing here changes a bit of a result. `simplify` goes through a graph once: it renames the inputs
of a node as nodes before it were found to be superfluous, looks whether the node is (by its rule
below, or since another node computes the same), and finally removes what is not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.graph.ir import Graph, Node, subgraphs
from treadle.graph.shapes import NOTHING, Known, describe

if TYPE_CHECKING:
    from collections.abc import Callable

# Operators whose outputs differ from call to call.
RANDOM = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial")
) | {"Bernoulli", "Dropout"}
RESHAPES = frozenset(("Reshape", "Squeeze", "Unsqueeze", "Flatten"))
WIDER = {
    ("int32", "int64"),
    ("float32", "float64"),
    ("int8", "int32"),
    ("uint8", "int32"),
    ("int8", "int64"),
    ("uint8", "int64"),
    ("bool", "int32"),
    ("bool", "int64"),
    ("bool", "float32"),
}
# Equal constants of at most so many bytes become one, so that nodes that read them are seen to be
# equal.
MOST_BYTES = 1 << 12


class _Scope:
    """A _Scope has the names and makers of a graph that is being simplified."""

    def __init__(
        self, known: dict[str, Known], constants: dict[str, np.ndarray], alias: dict[str, str]
    ) -> None:
        self.known = known
        self.constants = constants
        self.alias = alias
        self.makers: dict[str, Node] = {}
        self.removed = 0

    def shape(self, name: str) -> tuple[int | str, ...] | None:
        return self.known.get(name, NOTHING).shape

    def maker(self, name: str, *ops: str) -> Node | None:
        node = self.makers.get(name)
        return node if node is not None and node.op in ops else None

    def one_element(self, name: str) -> Any:
        """Return the number in a constant of one element, else None."""
        array = self.constants.get(name)
        return None if array is None or array.size != 1 else array.reshape(-1)[0]

    def number_is(self, name: str, wanted: float, other: str) -> bool:
        """Return whether a constant is one number that adds no axis to the other operand."""
        number, shape = self.one_element(name), self.shape(other)
        array = self.constants.get(name)
        return bool(
            number is not None
            and array is not None
            and number == wanted
            and (array.ndim == 0 or (shape is not None and array.ndim <= len(shape)))
        )


def _transpose(node: Node, scope: _Scope) -> str | None:
    """Compose a Transpose with the one before it."""
    order = node.attributes.get("perm")
    before = scope.maker(node.inputs[0], "Transpose")
    if order is None:
        shape = scope.shape(node.inputs[0])
        if shape is None:
            return None
        order = list(reversed(range(len(shape))))
        node.attributes["perm"] = order
    if before is not None and "perm" in before.attributes:
        first = before.attributes["perm"]
        if len(first) == len(order) and sorted(order) == list(range(len(order))):
            order = [first[axis] for axis in order]
            node.inputs[0], node.attributes = before.inputs[0], {"perm": order}
    return node.inputs[0] if list(order) == list(range(len(order))) else None


def _cast(node: Node, scope: _Scope) -> str | None:
    to = scope.known.get(node.outputs[0], NOTHING).dtype
    of = scope.known.get(node.inputs[0], NOTHING).dtype
    if to is None or of is None:
        return None
    if to == of:
        return node.inputs[0]
    before = scope.maker(node.inputs[0], "Cast")
    if before is not None:
        first = scope.known.get(before.inputs[0], NOTHING).dtype
        if first == to and (first, of) in WIDER:
            return before.inputs[0]
    return None


def _reshape(node: Node, scope: _Scope) -> str | None:
    """Skip a change of shape that another one follows, or that changes nothing."""
    shape = scope.shape(node.outputs[0])
    if shape is not None and shape == scope.shape(node.inputs[0]):
        return node.inputs[0]
    before = scope.maker(node.inputs[0], *RESHAPES)
    if before is None:
        return None
    source = before.inputs[0]
    if shape is not None and shape == scope.shape(source):
        return source
    pairs = {("Squeeze", "Unsqueeze"), ("Unsqueeze", "Squeeze")}
    if (before.op, node.op) in pairs and before.inputs[1:] == node.inputs[1:] != []:
        return source
    if node.op == "Reshape" and not node.attributes.get("allowzero", 0):
        target = scope.constants.get(node.inputs[1])
        if target is not None and target.size and (target != 0).all():
            node.inputs[0] = source  # the number of elements alone decides
    return None


def _same_shape(node: Node, scope: _Scope) -> str | None:
    """Skip an Expand, Tile or Slice that changes nothing."""
    shape = scope.shape(node.inputs[0])
    if shape is None or shape != scope.shape(node.outputs[0]):
        return None
    if node.op == "Slice":
        starts = scope.constants.get(node.inputs[1])
        steps = scope.constants.get(node.inputs[4]) if len(node.inputs) > 4 else None
        plain = starts is not None and not starts.any()
        plain = plain and (
            len(node.inputs) <= 4 or (steps is not None and bool((steps == 1).all()))
        )
        return node.inputs[0] if plain else None
    return node.inputs[0]


def _pad(node: Node, scope: _Scope) -> str | None:
    pads = scope.constants.get(node.inputs[1])
    return node.inputs[0] if pads is not None and pads.size and not pads.any() else None


def _single(node: Node, scope: _Scope) -> str | None:
    """Skip a Concat of one value and a Split into one."""
    del scope
    many = len(node.inputs) if node.op == "Concat" else len(node.outputs)
    alone = many == 1 and (node.op == "Concat" or len(node.inputs) < 2)
    return node.inputs[0] if alone else None


def _by_one(node: Node, scope: _Scope) -> str | None:
    """Skip x * 1, x / 1, x - 0 and x ** 1, which give x to the bit. x + 0 changes -0."""
    wanted = 0.0 if node.op == "Sub" else 1.0
    first, second = node.inputs
    if (
        node.op == "Pow"
        and scope.known.get(first, NOTHING).dtype != scope.known.get(second, NOTHING).dtype
    ):
        return None
    if scope.number_is(second, wanted, first):
        return first
    if node.op == "Mul" and scope.number_is(first, wanted, second):
        return second
    return None


RULES: dict[str, Callable[[Node, _Scope], str | None]] = {
    "Identity": lambda node, scope: node.inputs[0],
    "Transpose": _transpose,
    "Cast": _cast,
    **dict.fromkeys(RESHAPES, _reshape),
    **dict.fromkeys(("Expand", "Tile", "Slice"), _same_shape),
    "Pad": _pad,
    "Concat": _single,
    "Split": _single,
    **dict.fromkeys(("Mul", "Div", "Sub", "Pow"), _by_one),
}


def simplify(graph: Graph, known: dict[str, Known]) -> int:
    """Remove superfluous nodes of a graph and its subgraphs; return how many are gone.

    >>> from treadle.graph.ir import Graph, Node, Value
    >>> from treadle.graph.shapes import infer
    >>> graph = Graph(
    ...     [Value("x", "float32", ("n",))],
    ...     [Value("z", "float32", ("n",))],
    ...     [Node("Identity", ["x"], ["y"]), Node("Relu", ["y"], ["z"])],
    ...     {},
    ... )
    >>> simplify(graph, infer(graph)), graph.nodes[0].inputs
    (1, ['x'])
    """
    before = _count(graph)
    _forward(graph, _Scope(known, {}, {}), top=True)
    _sweep(graph)
    return before - _count(graph)


def _count(graph: Graph) -> int:
    inner = (sub for node in graph.nodes for sub in subgraphs(node))
    return len(graph.nodes) + sum(_count(sub) for sub in inner)


def _forward(graph: Graph, outer: _Scope, top: bool) -> None:
    scope = _Scope(outer.known, {**outer.constants, **graph.constants}, outer.alias)
    _share_constants(graph, scope)
    seen: dict[Any, Node] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        node.inputs = [scope.alias.get(name, name) for name in node.inputs]
        for sub in subgraphs(node):
            _forward(sub, scope, top=False)
        twin = _superfluous(node, scope, seen)
        if twin is not None:
            scope.alias.update(
                (name, other) for name, other in zip(node.outputs, twin, strict=False) if name
            )
            continue
        describe(node, scope.known)
        for name in node.outputs:
            scope.makers[name] = node
        kept.append(node)
    graph.nodes = kept
    if top:
        _keep_output_names(graph, scope)
    else:
        for value in graph.outputs:
            value.name = scope.alias.get(value.name, value.name)


def _superfluous(node: Node, scope: _Scope, seen: dict[Any, Node]) -> list[str] | None:
    """Return the values that are the node's outputs already, or None."""
    rule = RULES.get(node.op)
    if rule is not None and node.inputs and node.inputs[0]:
        try:
            source = rule(node, scope)
        except (IndexError, ValueError, TypeError):
            source = None  # a malformed node, of which its operator says what is wrong
        if source is not None:
            return [source]
    if node.op in RANDOM or subgraphs(node):
        return None
    attributes = sorted(node.attributes.items(), key=lambda item: item[0])
    key = (node.op, *node.inputs, None, *((name, _frozen(value)) for name, value in attributes))
    twin = seen.setdefault(key, node)
    if twin is node or len(twin.outputs) < len(node.outputs):
        return None
    if any(name and not other for name, other in zip(node.outputs, twin.outputs, strict=False)):
        return None
    return twin.outputs


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_frozen(one) for one in value)
    if isinstance(value, np.ndarray):
        return (value.dtype.name, value.shape, value.tobytes())
    return (type(value), value)


def _share_constants(graph: Graph, scope: _Scope) -> None:
    first: dict[Any, str] = {}
    for name, array in graph.constants.items():
        if array.nbytes <= MOST_BYTES:
            twin = first.setdefault((array.dtype.name, array.shape, array.tobytes()), name)
            if twin != name:
                scope.alias[name] = twin


def _keep_output_names(graph: Graph, scope: _Scope) -> None:
    """Give the graph's outputs their names back."""
    own = {name for node in graph.nodes for name in node.outputs}
    outputs = {value.name for value in graph.outputs}
    back: dict[str, str] = {}
    for value in graph.outputs:
        source = scope.alias.get(value.name)
        if source is None:
            continue
        if source in own and source not in outputs and source not in back:
            back[source] = value.name
        else:
            graph.nodes.append(Node("Identity", [back.get(source, source)], [value.name]))
    if back:
        _rename(graph, back)
        for old, new in back.items():
            scope.known[new] = scope.known.get(old, NOTHING)


def _rename(graph: Graph, names: dict[str, str]) -> None:
    for node in graph.nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        node.outputs = [names.get(name, name) for name in node.outputs]
        for sub in subgraphs(node):
            _rename(sub, names)
            for value in sub.outputs:
                value.name = names.get(value.name, value.name)


def _sweep(graph: Graph) -> set[str]:
    """Remove nodes, outputs and constants that nobody reads; return the names that are read."""
    needed = {value.name for value in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if not any(name and name in needed for name in node.outputs):
            continue
        _drop_outputs(node, needed)
        needed.update(name for name in node.inputs if name)
        for sub in subgraphs(node):
            needed |= _sweep(sub)
        kept.append(node)
    graph.nodes = kept[::-1]
    graph.constants = {name: array for name, array in graph.constants.items() if name in needed}
    return needed


def _drop_outputs(node: Node, needed: set[str]) -> None:
    """Leave out the outputs of a node that nobody reads; an If's branches do not make them."""
    wanted = [name in needed for name in node.outputs]
    branches = subgraphs(node)
    if node.op == "If" and all(len(one.outputs) == len(wanted) for one in branches):
        node.outputs = [name for name in node.outputs if name in needed]
        for branch in branches:
            pairs = zip(branch.outputs, wanted, strict=True)
            branch.outputs = [value for value, keep in pairs if keep]
        return
    node.outputs = [name if name in needed else "" for name in node.outputs]
    if branches or node.op == "Split":  # the number of outputs has a meaning
        return
    while len(node.outputs) > 1 and not node.outputs[-1]:
        node.outputs.pop()


def sweep(graph: Graph) -> None:
    """Remove nodes, outputs and constants that nobody reads."""
    _sweep(graph)
