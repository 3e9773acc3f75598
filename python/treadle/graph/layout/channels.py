"""These rules turn ONNX's operators over [B, C, spatial..] into those over [B, spatial.., C]."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.graph.layout.orders import to_first, to_last
from treadle.graph.padding import conv_windows, transposed_windows
from treadle.graph.view import is_well_formed

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.graph.ir import Node
    from treadle.graph.layout.state import State

    Rule = Callable[[Node, State, int], list[str] | None]

# Attributes that say what the weight's shape says as well.
REDUNDANT = ("kernel_shape",)


def _weights(node: Node, state: State, rank: int) -> list[str] | None:
    """Return the moved weight, [D, taps.., C / g] or [C, taps.., D / g], and the bias."""
    weight = state.constants.get(node.inputs[1])
    if weight is None or weight.ndim != rank or weight.dtype != np.float32 or rank > 4:
        return None
    kernel = node.attributes.get("kernel_shape")
    if kernel and list(kernel) != list(weight.shape[2:]):
        return None
    rest = [name for name in node.inputs[2:] if name]
    if any(name not in state.constants for name in rest):
        return None
    moved = state.constant(f"{node.inputs[1]}.last", weight.transpose(to_last(rank)))
    return [moved, *rest]


def _transposed_weights(node: Node, state: State, rank: int) -> list[str] | None:
    """Return what `_weights` does, or None where the padding needs a size that is not known."""
    shape = state.shape(node.inputs[0])
    unknown = shape is None or not all(isinstance(size, int) for size in shape[2:])
    if node.attributes.get("output_shape") and unknown:
        return None
    return _weights(node, state, rank)


def _with_pads(node: Node, state: State) -> dict[str, Any]:
    """Return the attributes of a convolution, with pads in the place of what they follow from.

    Nothing changes where they follow from no size, or one that is not known. Of a malformed node
    nothing is changed either: packing it says what is wrong with it.
    """
    attributes = {k: v for k, v in node.attributes.items() if k not in REDUNDANT}
    shape, weight = state.shape(node.inputs[0]), state.constants[node.inputs[1]]
    find = transposed_windows if node.op == "ConvTranspose" else conv_windows
    if shape is None:
        return attributes
    taps = weight.shape[2:]
    with suppress(ValueError):
        axes, unsettled = find("", attributes, taps, shape[2:])
        if unsettled or not find("", attributes, taps).open:
            return attributes
        for name in ("auto_pad", "output_shape", "output_padding"):
            attributes.pop(name, None)
        attributes["pads"] = [axis.before for axis in axes] + [max(a.after, 0) for a in axes]
        if any(axis.after < 0 for axis in axes):
            attributes["output_padding"] = [max(-axis.after, 0) for axis in axes]
    return attributes


def _plain(node: Node, state: State, rank: int) -> list[str] | None:
    """Return no further inputs: pooling."""
    del state
    return [] if len([name for name in node.outputs if name]) == 1 and rank <= 4 else None


def _global(node: Node, state: State, rank: int) -> list[str] | None:
    del node, state
    return [] if rank >= 3 else None


def _resize(node: Node, state: State, rank: int) -> list[str] | None:
    """Return roi, scales and sizes in the order of the axes."""
    if node.attributes.get("axes") or rank > 4:
        return None
    result = []
    for place, name in enumerate(node.inputs[1:], 1):
        array = state.constants.get(name) if name else None
        if not name or (array is not None and array.size == 0):
            result.append("")
            continue
        if array is None or array.shape != ((2 * rank if place == 1 else rank),):
            return None
        parts = array.reshape(-1, rank)[:, list(to_last(rank))]
        result.append(state.constant(f"{name}.last", parts.reshape(-1)))
    return result


def _by_channel(node: Node, state: State, rank: int) -> list[str] | None:
    """Return scale and bias of InstanceNormalization."""
    for name in node.inputs[1:]:
        state.need(name)
    return list(node.inputs[1:]) if rank >= 3 else None


RULES: dict[str, tuple[str, Rule]] = {
    "Conv": ("treadle.Conv", _weights),
    "ConvTranspose": ("treadle.ConvTranspose", _transposed_weights),
    "MaxPool": ("treadle.MaxPool", _plain),
    "AveragePool": ("treadle.AveragePool", _plain),
    "GlobalAveragePool": ("treadle.GlobalAveragePool", _global),
    "GlobalMaxPool": ("treadle.GlobalMaxPool", _global),
    "Resize": ("treadle.Resize", _resize),
    "InstanceNormalization": ("treadle.InstanceNormalization", _by_channel),
}


def _rank(node: Node, state: State) -> int | None:
    """Return the rank of x; where nothing else says it, that of the weight or the windows."""
    rank = state.rank(node.inputs[0])
    if rank is None and node.op in ("Conv", "ConvTranspose"):
        weight = state.constants.get(node.inputs[1])
        return None if weight is None else weight.ndim
    if rank is None and node.attributes.get("kernel_shape"):
        return len(node.attributes["kernel_shape"]) + 2
    return rank


def channels_last(node: Node, state: State) -> bool:
    """Write a node over channels as one over channels last, if it can be one."""
    found = RULES.get(node.op)
    if found is None or not is_well_formed(node):
        return False
    rank = _rank(node, state)
    if rank is None or rank < 3:
        return False
    op, rule = found
    rest = rule(node, state, rank)
    if rest is None:
        return False
    x = state.move(node.inputs[0], to_last(rank))
    convolves = op in ("treadle.Conv", "treadle.ConvTranspose")
    attributes = _with_pads(node, state) if convolves else dict(node.attributes)
    output = state.add(op, [x, *rest], attributes, f"{node.outputs[0]}.last", node.name)
    state.set_virtual(node.outputs[0], output, to_first(rank))
    return True
