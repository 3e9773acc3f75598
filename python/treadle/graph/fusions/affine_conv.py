"""A factor and a summand before a convolution move into it, as far as its padding allows.

Without padding    w * (s x + t)  =  (s w) * x + t sum(w)
With padding       w * (s x + t)  =  (s w) * (x + t / s), since what is padded is 0 on both sides

The factor and the summand are one number each. All readers of s x + t are such convolutions. With
padding, the summand stays, but for one that is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.ir import Node
from treadle.graph.patterns import finite, rounded

if TYPE_CHECKING:
    from treadle.graph.view import View


# A smaller factor could leave weights below the smallest normal number, and t / s beyond the
# largest: what they multiply to would be lost.
LEAST = 1e-6


@dataclass(slots=True)
class _Affine:
    """An _Affine is s x + t, with the nodes that compute it."""

    x: str
    scale: float
    shift: float
    nodes: list[Node]


def fuse(view: View) -> int:
    """Move factors and summands of one number into the convolutions behind; return how many."""
    count = 0
    for node in view.nodes("Mul", "Add"):
        found = _affine(view, node)
        if found is not None:
            count += _move(view, found, node)
    return count


def _affine(view: View, last: Node) -> _Affine | None:
    """Return s x + t where a node ends it: Mul and Add, or one of them."""
    readers = view.readers(last.outputs[0])
    if not readers or any(reader.op != "Conv" for reader in readers):
        return None
    result = _Affine("", 1.0, 0.0, [])
    node: Node | None = last
    if last.op == "Add":
        step = _step(view, last)
        if step is None:
            return None
        result = _Affine(step[0], 1.0, step[1], [last])
        node = view.maker(result.x, "Mul") if view.only_reader(result.x) is last else None
    if node is not None:
        step = _step(view, node)
        if step is not None:
            result = _Affine(step[0], step[1], result.shift, [*result.nodes, node])
    return result if result.nodes and result.scale != 0 else None


def _step(view: View, node: Node) -> tuple[str, float] | None:
    """Return the value and the number of a Mul or Add with one number."""
    for place in (0, 1):
        number, value = view.number(node.inputs[place]), node.inputs[1 - place]
        array, rank = view.constant(node.inputs[place]), view.known(value).rank
        if number is None or array is None or rank is None or array.ndim > rank:
            continue
        if np.isfinite(number) and view.is_float(value) and view.constant(value) is None:
            return value, number
    return None


def _move(view: View, found: _Affine, last: Node) -> bool:
    name = last.outputs[0]
    convs = view.readers(name)
    if not view.is_private(found.nodes, name) or view.is_kept(name):
        return False
    padded = [_padded(conv) for conv in convs]
    summand = found.shift / found.scale if any(padded) else 0.0
    if summand and (found.scale == 1 or not LEAST <= abs(found.scale) <= 1 / LEAST):
        return False  # nothing would be gained, or digits would be lost
    new = [_moved(view, conv, found, bool(summand)) for conv in convs]
    if any(one is None for one in new) or not np.isfinite(np.float32(summand)):
        return False
    x, before = found.x, []
    if summand:
        shift = view.add_constant(f"{name}.shift", np.array([summand], np.float32))
        x = view.new_name(f"{name}.shifted")
        before = [Node("Add", [found.x, shift], [x], {}, last.name)]
    view.replace(found.nodes, before, last)
    for conv, parts in zip(convs, new, strict=True):
        assert parts is not None
        names = [
            view.add_constant(f"{conv.outputs[0]}.{label}", array)
            for label, array in zip(("weight", "bias"), parts, strict=True)
        ]
        fused = Node("Conv", [x, *names], conv.outputs, conv.attributes, conv.name)
        view.replace([conv], [fused], conv)
    return True


def _padded(conv: Node) -> bool:
    auto = conv.attributes.get("auto_pad", "NOTSET")
    return auto not in ("NOTSET", "VALID", "") or (
        auto != "VALID" and any(conv.attributes.get("pads") or ())
    )


def _moved(
    view: View, conv: Node, found: _Affine, shifted: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the weight and the bias of a convolution that takes the affine step in."""
    weight = view.constant(conv.inputs[1])
    has_bias = len(conv.inputs) > 2 and conv.inputs[2] != ""
    bias = view.constant(conv.inputs[2]) if has_bias else None
    if (
        weight is None
        or weight.dtype != np.float32
        or weight.ndim < 3
        or (has_bias and bias is None)
    ):
        return None
    if conv.inputs[0] in conv.inputs[1:]:
        return None
    channels = weight.shape[0]
    if bias is not None and (bias.dtype != np.float32 or bias.shape != (channels,)):
        return None
    wide = weight.astype(np.float64)
    total = np.zeros(channels) if bias is None else bias.astype(np.float64)
    if not shifted:
        total = total + found.shift * wide.reshape(channels, -1).sum(1)
    new, new_bias = rounded(wide * found.scale), rounded(total)
    return (new, new_bias) if finite(new, new_bias) else None
