"""Steps of one recurrent cell, one behind the other, become one treadle.Recurrent over time.

    for t in range(T): h = cell(x[:, t], h)

is how many modules are written; exporters and `treadle.torch.capture` unroll the loop. The steps
have the same weights and options, each reads the states that the step before it made, and their
inputs are parts of one value that follow each other along an axis. States h that others read are
parts of y. The bits are those of the steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from treadle.graph.ir import Node

if TYPE_CHECKING:
    from treadle.graph.view import View


class _Frame(NamedTuple):
    """A _Frame is what a step reads: the source at a place of an axis."""

    source: str
    axis: int
    at: int


def fuse(view: View) -> int:
    """Join all steps of each loop; return how many steps became part of another operator."""
    return sum(_fuse(view, node) for node in view.nodes("treadle.Recurrent"))


def _fuse(view: View, first: Node) -> int:
    frame = _frame(view, first)
    if frame is None or not _is_step(first):
        return 0
    steps = [first]
    while (after := _next(view, steps[-1], frame._replace(at=frame.at + len(steps)))) is not None:
        steps.append(after)
    if len(steps) < 2:
        return 0
    _replace(view, steps, frame)
    return len(steps) - 1


def _is_step(node: Node) -> bool:
    """Return whether a node is one layer without y."""
    return _is_plain(node) and not node.outputs[0] and any(node.outputs[1:])


def _is_plain(node: Node) -> bool:
    """Return whether a node is one layer forward in time, without lengths and a mask."""
    plain = {"direction": "forward", "num_layers": 1, "batch_first": 0, "continued": 0}
    weights = len(node.attributes["weights"])
    return (
        all(node.attributes.get(key, value) == value for key, value in plain.items())
        and not node.inputs[3]
        and not any(node.inputs[4 + weights :])
    )


def _next(view: View, node: Node, frame: _Frame) -> Node | None:
    """Return the step behind a node, which reads a frame."""
    states = [*node.outputs[1:], "", ""][:2]
    for other in view.readers(states[0]):
        if (
            other.op == "treadle.Recurrent"
            and other.attributes == node.attributes
            and other.inputs[1:4] == [*states, ""]
            and other.inputs[4:] == node.inputs[4:]
            and _is_step(other)
            and _frame(view, other) == frame
        ):
            private = not states[1] or view.only_reader(states[1]) is other
            return other if private else None
    return None


def _frame(view: View, node: Node) -> _Frame | None:
    """Return what a step reads, [1, B, I]."""
    name = node.inputs[0]
    axes = None
    front = view.maker(name, "Unsqueeze")
    if front is not None:
        if view.integers(front.inputs[1]) not in ([0], [-3]):
            return None
        name = front.inputs[0]
        gather = view.maker(name, "Gather")
        if gather is not None:
            return _gathered(view, gather)
        squeeze = view.maker(name, "Squeeze")
        if squeeze is None or len(squeeze.inputs) < 2:
            return None
        axes = view.integers(squeeze.inputs[1])
        if axes is None or len(axes) != 1:
            return None
        name = squeeze.inputs[0]
    cut = view.maker(name, "Slice", "Split")
    layer = view.maker(name, "treadle.Recurrent") if axes is None else None
    if layer is not None:
        return _last(view, layer, name)
    frame = None if cut is None else (_sliced if cut.op == "Slice" else _split)(view, cut, name)
    axis = 0 if axes is None else axes[0] % 3
    return frame if frame is not None and frame.axis == axis else None


def _last(view: View, node: Node, name: str) -> _Frame | None:
    """Return the last frame of a layer's y, which is its final state."""
    shape = view.known(node.outputs[0]).shape
    if not _is_plain(node) or shape is None or node.outputs[1:2] != [name]:
        return None
    return _at(shape, node.outputs[0], 0, -1)


def _gathered(view: View, node: Node) -> _Frame | None:
    array, shape = view.constant(node.inputs[1]), view.known(node.inputs[0]).shape
    axis = node.attributes.get("axis", 0)
    if array is None or array.ndim or shape is None or len(shape) != 3 or not -3 <= axis < 2:
        return None
    return _at(shape, node.inputs[0], axis % 3, int(array))


def _at(shape: tuple[int | str, ...], source: str, axis: int, at: int) -> _Frame | None:
    """Return a frame, or None where its place is not known or beyond the end."""
    size = shape[axis]
    if isinstance(size, int):
        at = at + size if at < 0 else at if at < size else -1
    return _Frame(source, axis, at) if axis < 2 and at >= 0 else None


def _sliced(view: View, node: Node, name: str) -> _Frame | None:
    del name
    shape, numbers = view.known(node.inputs[0]).shape, [view.integers(n) for n in node.inputs[1:]]
    if shape is None or len(shape) != 3 or len(numbers) < 3:
        return None
    if any(one is None or len(one) != 1 for one in numbers):
        return None
    begin, end, axis, *step = (one[0] for one in numbers if one)
    if step not in ([], [1]) or end != begin + 1 or begin < 0 or not -3 <= axis < 3:
        return None
    return _at(shape, node.inputs[0], axis % 3, begin)


def _split(view: View, node: Node, name: str) -> _Frame | None:
    shape, axis = view.known(node.inputs[0]).shape, node.attributes.get("axis", 0)
    if shape is None or len(shape) != 3 or not -3 <= axis < 3:
        return None
    sizes = {(view.known(one).shape or (0, 0, 0))[axis] for one in node.outputs}
    if sizes != {1}:
        return None
    return _at(shape, node.inputs[0], axis % 3, node.outputs.index(name))


def _stacked(view: View, steps: list[Node]) -> tuple[Node, int] | None:
    """Return the Concat of the states of all steps, in their order, and its axis."""
    for axis in (0, 1):
        names = [_with_axis(view, node.outputs[1], axis) for node in steps]
        for node in view.readers(names[0]):
            joins = node.op == "Concat" and node.inputs == names
            if joins and node.attributes.get("axis") in (axis, axis - 3):
                return node, axis
    return None


def _with_axis(view: View, h: str, axis: int) -> str:
    """Return the value that is a state [1, B, H] with the axis of size 1 at another place."""
    if axis == 0:
        return h
    for squeeze in view.readers(h):
        if squeeze.op != "Squeeze" or view.integers(squeeze.inputs[-1]) not in ([0], [-3]):
            continue
        for node in view.readers(squeeze.outputs[0]):
            if node.op == "Unsqueeze" and view.integers(node.inputs[1]) in ([1], [-2]):
                return node.outputs[0]
    return ""


def _is_read(view: View, h: str, known: set[Node]) -> bool:
    """Return whether others read a state than the steps and their Concat."""

    def leads_there(node: Node) -> bool:
        if node in known or node.op not in ("Squeeze", "Unsqueeze"):
            return node in known
        if view.is_kept(node.outputs[0]):
            return False
        return all(leads_there(after) for after in view.readers(node.outputs[0]))

    return view.is_kept(h) or not all(leads_there(node) for node in view.readers(h))


def _replace(view: View, steps: list[Node], frame: _Frame) -> None:
    first, last, name = steps[0], steps[-1], steps[0].name
    label = next(output for output in last.outputs if output)
    new: list[Node] = []

    def number(text: str, value: int) -> str:
        return view.add_constant(f"{label}.{text}", np.array([value], np.int64))

    def add(op: str, inputs: list[str], output: str, **attributes: object) -> str:
        output = output or view.new_name(f"{label}.{op.lower()}")
        new.append(Node(op, inputs, [output], dict(attributes), name))
        return output

    x, shape = frame.source, view.known(frame.source).shape or ()
    if not isinstance(shape[frame.axis], int):  # a Gather refuses frames beyond the end
        places = np.arange(frame.at, frame.at + len(steps))
        x = add("Gather", [x, view.add_constant(f"{label}.at", places)], "", axis=frame.axis)
    elif frame.at or shape[frame.axis] != len(steps):
        cut = [number("begin", frame.at), number("end", frame.at + len(steps))]
        x = add("Slice", [x, *cut, number("axis", frame.axis)], "")
    stack = _stacked(view, steps)
    known = {*steps, *([] if stack is None else [stack[0]])}
    states = [(at, node.outputs[1]) for at, node in enumerate(steps[:-1])]
    read = [(at, h) for at, h in states if _is_read(view, h, known)]
    batch_first = int(frame.axis == 1 and not read and (stack is None or stack[1] == 1))
    if frame.axis == 1 and not batch_first:
        x = add("Transpose", [x], "", perm=[1, 0, 2])
    y = "" if not read and stack is None else view.new_name(f"{label}.y")
    if stack is not None and stack[1] == batch_first:
        y = stack[0].outputs[0]
    attributes = {**first.attributes, "batch_first": batch_first}
    outputs = [y, *last.outputs[1:]]
    new.append(Node("treadle.Recurrent", [x, *first.inputs[1:]], outputs, attributes, name))
    if stack is not None and y != stack[0].outputs[0]:
        add("Transpose", [y], stack[0].outputs[0], perm=[1, 0, 2])
    for at, h in read:
        add("Slice", [y, number("at", at), number("to", at + 1), number("time", 0)], h)
    gone = [*steps, stack[0]] if stack is not None else steps
    view.replace(gone, new, first)
