"""These rules let operators work on values as they lie: on u instead of v, its Transpose p.

A rule gets a node of which some input is virtual. It writes a node over the sources and says of
which order the outputs are, or returns False: then its inputs are made as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.ir import Node
from treadle.graph.layout.orders import Order, inverse, keeps_memory, to_first, with_new, without
from treadle.graph.layout.reshape import reshape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle.graph.layout.state import State

UNARY = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Celu", "Cos"),
    *("Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity"),
    *("IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round"),
    *("Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish"),
    *("Tan", "Tanh", "ThresholdedRelu", "treadle.HardSwish", "treadle.Silu"),
)
ELEMENTWISE = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Mean", "Sum", "Mod", "PRelu", "Where"),
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Clip"),
)
REDUCTIONS = (
    *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
)


def _finish(node: Node, state: State, inputs: Sequence[str], order: Order) -> bool:
    """Write a node over sources; all of its outputs are of one order."""
    names = [state.new_name(f"{name}.moved") if name else "" for name in node.outputs]
    state.write(Node(node.op, list(inputs), names, node.attributes, node.name))
    for name, source in zip(node.outputs, names, strict=True):
        if name:
            state.set_virtual(name, source, order)
    return True


def _copy(node: Node, **attributes: object) -> Node:
    changed = {**node.attributes, **attributes}
    return Node(node.op, node.inputs, node.outputs, changed, node.name)


def unary(node: Node, state: State) -> bool:
    """Let an operator on each element read u."""
    place = state.place(node.inputs[0])
    return place is not None and _finish(node, state, [place[0], *node.inputs[1:]], place[1])


def elementwise(node: Node, state: State) -> bool:
    """Let an operator on elements of values that broadcast read them in one order."""
    places = [state.place(name) for name in node.inputs]
    orders = list(dict.fromkeys(place[1] for place in places if place is not None))
    keep = sum(
        state.cost(name, tuple(range(len(place[1]))))
        for name, place in zip(node.inputs, places, strict=True)
        if place is not None
    )
    best: tuple[int, Order] | None = None
    for order in orders:
        cost = _cost(node, state, order)
        if cost is not None and (best is None or cost < best[0]):
            best = cost, order
    if best is None or best[0] > keep:
        return False
    if best[0] == keep and keep and best[1] != to_first(len(best[1])):
        return False
    order = best[1]
    inputs = []
    for name in node.inputs:
        if not name:
            inputs.append("")
        elif name in state.constants and state.place(name) is None:
            moved = state.moved_constant(name, order)
            assert moved is not None
            inputs.append(moved)
        else:
            inputs.append(state.move(name, inverse(order)))
    return _finish(node, state, inputs, order)


def _cost(node: Node, state: State, order: Order) -> int | None:
    """Return how many copies it takes to bring all inputs into an order; None if it cannot be."""
    total = 0
    for name in node.inputs:
        if not name:
            continue
        array = state.constants.get(name)
        if array is not None and state.place(name) is None:
            if array.ndim > len(order):
                return None
        elif state.rank(name) != len(order):
            return None
        else:
            total += state.cost(name, inverse(order))
    return total


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError
    return axis % rank


def softmax(node: Node, state: State) -> bool:
    """Let Softmax, LogSoftmax and Hardmax read u, if their axis is the last of u."""
    source, order = state.place(node.inputs[0]) or ("", ())
    axis = order[_axis(node.attributes.get("axis", -1), len(order))]
    if axis != len(order) - 1:
        return False
    return _finish(_copy(node, axis=axis), state, [source], order)


def concat(node: Node, state: State) -> bool:
    """Let Concat read its values as they lie, if all are of one order."""
    places = [state.place(name) for name in node.inputs]
    first = next(place for place in places if place is not None)
    order = first[1]
    if any(state.rank(name) != len(order) for name in node.inputs):
        return False
    keep = sum(
        state.cost(name, tuple(range(len(place[1]))))
        for name, place in zip(node.inputs, places, strict=True)
        if place is not None
    )
    if sum(state.cost(name, inverse(order)) for name in node.inputs) > keep:
        return False
    axis = order[_axis(node.attributes.get("axis", 0), len(order))]
    inputs = [state.move(name, inverse(order)) for name in node.inputs]
    return _finish(_copy(node, axis=axis), state, inputs, order)


def split(node: Node, state: State) -> bool:
    """Let Split cut u."""
    source, order = state.place(node.inputs[0]) or ("", ())
    axis = order[_axis(node.attributes.get("axis", 0), len(order))]
    return _finish(_copy(node, axis=axis), state, [source, *node.inputs[1:]], order)


def _moved_axes(state: State, name: str, order: Order) -> list[int] | None:
    """Return the axes of v that a constant has, or None."""
    array = state.constants.get(name)
    if array is None or array.dtype.kind not in "iu":
        return None
    return [_axis(int(axis), len(order)) for axis in array.reshape(-1)]


def slice_(node: Node, state: State) -> bool:
    """Let Slice along constant axes cut u."""
    source, order = state.place(node.inputs[0]) or ("", ())
    starts = state.constants.get(node.inputs[1])
    if len(node.inputs) < 3:
        return False
    if len(node.inputs) > 3 and node.inputs[3]:
        axes = _moved_axes(state, node.inputs[3], order)
    else:
        axes = None if starts is None else list(range(starts.size))
    if axes is None:
        return False
    moved = np.array([order[axis] for axis in axes], np.int64)
    name = state.constant(f"{node.outputs[0]}.axes", moved)
    return _finish(node, state, [source, *node.inputs[1:3], name, *node.inputs[4:]], order)


def pad(node: Node, state: State) -> bool:
    """Let Pad write around u."""
    source, order = state.place(node.inputs[0]) or ("", ())
    if len(node.inputs) > 3 and node.inputs[3]:
        axes = _moved_axes(state, node.inputs[3], order)
    else:
        axes = list(range(len(order)))
    if axes is None:
        return False
    name = state.constant(
        f"{node.outputs[0]}.axes", np.array([order[axis] for axis in axes], np.int64)
    )
    value = node.inputs[2] if len(node.inputs) > 2 else ""
    return _finish(node, state, [source, node.inputs[1], value, name], order)


def reduce_(node: Node, state: State) -> bool:
    """Let a reduction over constant axes read u."""
    source, order = state.place(node.inputs[0]) or ("", ())
    if len(node.inputs) < 2 or not node.inputs[1]:
        return False
    axes = _moved_axes(state, node.inputs[1], order)
    if not axes:
        return False
    moved = np.array([order[axis] for axis in axes], np.int64)
    name = state.constant(f"{node.outputs[0]}.axes", moved)
    after = order if node.attributes.get("keepdims", 1) else without(order, axes)
    return _finish(node, state, [source, name], after)


def arg(node: Node, state: State) -> bool:
    """Let ArgMax and ArgMin read u."""
    source, order = state.place(node.inputs[0]) or ("", ())
    axis = _axis(node.attributes.get("axis", 0), len(order))
    after = order if node.attributes.get("keepdims", 1) else without(order, [axis])
    return _finish(_copy(node, axis=order[axis]), state, [source], after)


def squeeze(node: Node, state: State) -> bool:
    """Let Squeeze along constant axes read u."""
    source, order = state.place(node.inputs[0]) or ("", ())
    axes = _moved_axes(state, node.inputs[1], order) if len(node.inputs) > 1 else None
    if not axes:
        return False
    moved = np.array([order[axis] for axis in axes], np.int64)
    name = state.constant(f"{node.outputs[0]}.axes", moved)
    return _finish(node, state, [source, name], without(order, axes))


def unsqueeze(node: Node, state: State) -> bool:
    """Let Unsqueeze give u new axes where v gets them."""
    source, order = state.place(node.inputs[0]) or ("", ())
    array = state.constants.get(node.inputs[1])
    if array is None:
        return False
    rank = len(order) + array.size
    new = [_axis(int(axis), rank) for axis in array.reshape(-1)]
    if len(set(new)) != len(new):
        return False
    return _finish(node, state, [source, node.inputs[1]], with_new(order, new))


def gather(node: Node, state: State) -> bool:
    """Let Gather of constant indices of rank 0 or 1 read u."""
    place, indices = state.place(node.inputs[0]), state.constants.get(node.inputs[1])
    if place is None or indices is None or indices.ndim > 1:
        return False
    source, order = place
    axis = _axis(node.attributes.get("axis", 0), len(order))
    after = order if indices.ndim else without(order, [axis])
    return _finish(_copy(node, axis=order[axis]), state, [source, node.inputs[1]], after)


def shape(node: Node, state: State) -> bool:
    """Let Shape return the sizes of u, in another order."""
    source, order = state.place(node.inputs[0]) or ("", ())
    axes = order[node.attributes.get("start", 0) : node.attributes.get("end", None)]
    sizes = state.add("Shape", [source], {}, f"{node.outputs[0]}.sizes", node.name)
    indices = state.constant(f"{node.outputs[0]}.axes", np.array(axes, np.int64))
    state.write(Node("Gather", [sizes, indices], node.outputs, {"axis": 0}, node.name))
    return True


def size(node: Node, state: State) -> bool:
    """Let Size count u."""
    source, _ = state.place(node.inputs[0]) or ("", ())
    state.write(Node("Size", [source], node.outputs, {}, node.name))
    return True


def over_last(node: Node, state: State) -> bool:
    """Let an operator over the last axis, such as treadle.Linear, read u if it stays last."""
    source, order = state.place(node.inputs[0]) or ("", ())
    last = len(order) - 1
    if not order or order[-1] != last or any(state.is_virtual(n) for n in node.inputs[1:] if n):
        return False
    if len(node.inputs) > 3 and node.inputs[3]:
        return False
    if node.attributes.get("axis", -1) not in (-1, last):
        return False
    return len(node.outputs) == 1 and _finish(node, state, [source, *node.inputs[1:]], order)


def recurrent(node: Node, state: State) -> bool:
    """Let treadle.Recurrent read u, since it takes both [T, B, I] and [B, T, I]."""
    source, order = state.place(node.inputs[0]) or ("", ())
    shape = state.shape(source)
    first = bool(node.attributes.get("batch_first", 0))
    if order == (1, 0, 2):
        first = not first
    elif not (shape is not None and order and keeps_memory(order, shape)):
        return False
    else:  # a Reshape, which is no copy
        source, order = state.move(node.inputs[0], (0, 1, 2)), (0, 1, 2)
    rest = [state.need(name) if name else "" for name in node.inputs[1:]]
    outputs = list(node.outputs)
    if outputs[0] and order == (1, 0, 2):
        outputs[0] = state.new_name(f"{outputs[0]}.moved")
        state.set_virtual(node.outputs[0], outputs[0], order)
    attributes = {**node.attributes, "batch_first": int(first)}
    state.write(Node(node.op, [source, *rest], outputs, attributes, node.name))
    return True


RULES: dict[str, Callable[[Node, State], bool]] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(REDUCTIONS, reduce_),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), softmax),
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Pad": pad,
    "ArgMax": arg,
    "ArgMin": arg,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Gather": gather,
    "Shape": shape,
    "Size": size,
    "Reshape": reshape,
    "Flatten": reshape,
    **dict.fromkeys(("treadle.Linear", "treadle.Magnitude", "LayerNormalization"), over_last),
    "treadle.Recurrent": recurrent,
}
