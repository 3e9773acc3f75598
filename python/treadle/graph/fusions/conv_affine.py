"""Conv, then a factor and a summand for each channel, becomes Conv with other weights.

BatchNormalization is such a factor and summand; so are Mul, Div, Add and Sub with a constant that
is one number or one for each channel:

    s (w * x + b) + t  =  (s w) * x + (s b + t)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle.graph.ir import Node
from treadle.graph.patterns import finite, rounded

if TYPE_CHECKING:
    from treadle.graph.view import View

OPS = ("BatchNormalization", "Mul", "Div", "Add", "Sub")
Pair = tuple[np.ndarray, np.ndarray]


def fuse(view: View) -> int:
    """Fold the affine nodes behind every Conv and ConvTranspose; return how many."""
    count = 0
    for node in view.nodes("Conv", "ConvTranspose"):
        conv = node
        while (better := _fold_one(view, conv)) is not None:
            conv = better
            count += 1
    return count


def _fold_one(view: View, conv: Node) -> Node | None:
    weight = view.constant(conv.inputs[1])
    has_bias = len(conv.inputs) > 2 and conv.inputs[2] != ""
    bias = view.constant(conv.inputs[2]) if has_bias else None
    reader = view.only_reader(conv.outputs[0], *OPS)
    if weight is None or weight.dtype != np.float32 or weight.ndim < 3 or reader is None:
        return None
    if has_bias and (bias is None or bias.dtype != np.float32 or bias.ndim != 1):
        return None
    group = conv.attributes.get("group", 1)
    channels = weight.shape[0] if conv.op == "Conv" else weight.shape[1] * group
    if (bias is not None and bias.size != channels) or group < 1 or weight.shape[0] % group:
        return None
    affine = _affine(view, reader, conv.outputs[0], channels, weight.ndim)
    if affine is None:
        return None
    scale, shift = affine
    new_weight = _scaled(weight, scale, conv, group)
    old = np.zeros(channels) if bias is None else bias.astype(np.float64)
    new_bias = rounded(scale * old + shift)
    if not finite(new_weight, new_bias):
        return None
    names = [
        view.add_constant(f"{reader.outputs[0]}.weight", new_weight),
        view.add_constant(f"{reader.outputs[0]}.bias", new_bias),
    ]
    fused = Node(
        conv.op, [conv.inputs[0], *names], [reader.outputs[0]], dict(conv.attributes), conv.name
    )
    view.replace([conv, reader], [fused], reader)
    return fused


def _scaled(weight: np.ndarray, scale: np.ndarray, conv: Node, group: int) -> np.ndarray:
    wide = weight.astype(np.float64)
    taps = [1] * (weight.ndim - 2)
    result: np.ndarray
    if conv.op == "Conv":  # [D, C / g, taps..]
        result = wide * scale.reshape(-1, 1, *taps)
        return rounded(result)
    parts = wide.reshape(group, weight.shape[0] // group, *weight.shape[1:])  # [g, C/g, D/g, ..]
    result = parts * scale.reshape(group, 1, weight.shape[1], *taps)
    return rounded(result.reshape(weight.shape))


def _affine(view: View, node: Node, x: str, channels: int, rank: int) -> Pair | None:
    """Return the factors and summands [D] of a node over x, in float64."""
    if node.op == "BatchNormalization":
        return _batch_norm(view, node, x, channels)
    place = 1 - node.inputs.index(x)
    array = view.constant(node.inputs[place])
    if array is None or array.dtype != np.float32 or (node.op == "Div" and place == 0):
        return None
    numbers = _by_channel(array, channels, rank)
    if numbers is None:
        return None
    ones, zeros = np.ones(channels), np.zeros(channels)
    if node.op == "Mul":
        return numbers, zeros
    if node.op == "Div":
        return (1 / numbers, zeros) if (numbers != 0).all() else None
    if node.op == "Add":
        return ones, numbers
    return (ones, -numbers) if place == 1 else (-ones, numbers)


def _batch_norm(view: View, node: Node, x: str, channels: int) -> Pair | None:
    if node.inputs[0] != x or node.attributes.get("training_mode", 0) or len(node.outputs) > 1:
        return None
    wide = []
    for name in node.inputs[1:]:
        array = view.constant(name)
        if array is None or array.dtype != np.float32 or array.shape != (channels,):
            return None
        wide.append(array.astype(np.float64))
    if len(wide) != 4:
        return None
    scale, bias, mean, variance = wide
    spread = variance + node.attributes.get("epsilon", 1e-5)
    if not (spread > 0).all():
        return None
    factor = scale / np.sqrt(spread)
    return factor, bias - mean * factor


def _by_channel(array: np.ndarray, channels: int, rank: int) -> np.ndarray | None:
    """Return a constant as [D] if it is one number, or one for each channel."""
    if array.ndim > rank:
        return None
    if array.size == 1:
        return np.full(channels, float(array.reshape(-1)[0]))
    expected = (channels, *[1] * (rank - 2))
    if array.shape in (expected, (1, *expected)):
        return array.reshape(-1).astype(np.float64)
    return None
