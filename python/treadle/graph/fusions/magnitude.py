"""The magnitude of an STFT that is a convolution becomes treadle.Magnitude.

    sqrt(re^2 + im^2)    where re is the first half of the channels and im the second half

Both halves may be cut along other axes, in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.ir import Node
from treadle.graph.layout.orders import to_first, to_last

if TYPE_CHECKING:
    from treadle.graph.view import View

Cut = tuple[int, int, int]  # begin, end, step


@dataclass(slots=True)
class _Half:
    """A _Half is a squared part of a value: which value, what of its axes, and the nodes."""

    x: str
    cuts: dict[int, Cut]
    nodes: list[Node]


def fuse(view: View) -> int:
    """Fuse every magnitude; return how many."""
    return sum(_fuse(view, node) for node in view.nodes("Sqrt"))


def _fuse(view: View, root: Node) -> bool:
    add = view.maker(root.inputs[0], "Add")
    squares = [] if add is None else [view.maker(name, "Pow", "Mul") for name in add.inputs]
    halves = [_half(view, square) for square in squares if square is not None]
    found = [half for half in halves if half is not None]
    if add is None or len(found) != 2 or add.inputs[0] == add.inputs[1]:
        return False
    first, second = sorted(found, key=lambda half: half.cuts.get(1, (0, 0, 1)))
    known = view.known(first.x)
    channels = known.shape[1] if known.shape and len(known.shape) > 2 else None
    if first.x != second.x or not isinstance(channels, int) or not view.is_float(first.x):
        return False
    if not _halve(channels, first.cuts.pop(1, None), second.cuts.pop(1, None)):
        return False
    group = list(dict.fromkeys([root, add, *first.nodes, *second.nodes]))
    if first.cuts != second.cuts or not view.is_private(group, root.outputs[0]):
        return False
    view.replace(group, _magnitude(view, root, first), root)
    return True


def _halve(channels: int, first: Cut | None, second: Cut | None) -> bool:
    """Return whether two cuts of the channels are their first and their second half."""
    if first is None or second is None or channels % 2:
        return False
    half = channels // 2
    ends = min(first[1], channels), min(second[1], channels)
    return (first[0], second[0], *ends, first[2], second[2]) == (0, half, half, channels, 1, 1)


def _magnitude(view: View, root: Node, half: _Half) -> list[Node]:
    label, new, x = root.outputs[0], [], half.x
    rank = len(view.known(x).shape or ())
    if half.cuts:
        sliced = view.new_name(f"{label}.sliced")
        columns = zip(*half.cuts.values(), strict=True)
        begins, ends, steps = (np.array(column, np.int64) for column in columns)
        arrays = (begins, ends, np.array(list(half.cuts), np.int64), steps)
        names = [view.add_constant(f"{label}.cut", array) for array in arrays]
        new.append(Node("Slice", [x, *names], [sliced], {}, root.name))
        x = sliced
    last, result = view.new_name(f"{label}.last"), view.new_name(f"{label}.magnitude")
    return [
        *new,
        Node("Transpose", [x], [last], {"perm": list(to_last(rank))}, root.name),
        Node("treadle.Magnitude", [last], [result], {}, root.name),
        Node("Transpose", [result], [label], {"perm": list(to_first(rank))}, root.name),
    ]


def _half(view: View, square: Node) -> _Half | None:
    """Take a squared half apart: up to two Slices, of different axes."""
    name, exponent = square.inputs
    if not (name == exponent if square.op == "Mul" else view.number(exponent) == 2):
        return None
    half = _Half(name, {}, [square])
    for _ in range(2):
        node = view.maker(half.x, "Slice")
        cuts = None if node is None else _cuts(view, node)
        if node is None or cuts is None or set(cuts) & set(half.cuts):
            break
        half = _Half(node.inputs[0], {**half.cuts, **cuts}, [*half.nodes, node])
        if 1 in half.cuts:
            return half
    return None


def _cuts(view: View, node: Node) -> dict[int, Cut] | None:
    """Return begin, end and step of each axis of a Slice by constants."""
    numbers = [view.integers(name) for name in node.inputs[1:]]
    found = [one for one in numbers if one is not None]
    rank = view.known(node.inputs[0]).rank
    if len(numbers) < 3 or len(found) != len(numbers) or rank is None:
        return None
    begins, ends, axes, *rest = found
    steps = rest[0] if rest else [1] * len(axes)
    if not len(begins) == len(ends) == len(axes) == len(steps):
        return None
    if any(not -rank <= axis < rank for axis in axes) or min(*begins, *ends, *steps, 0) < 0:
        return None
    places = [axis % rank for axis in axes]
    cuts = zip(begins, ends, steps, strict=True)
    return dict(zip(places, cuts, strict=True)) if len(set(places)) == len(places) else None
