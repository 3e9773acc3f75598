"""ONNX's LSTM, GRU and RNN with constant weights become treadle.Recurrent, packed once.

ONNX's gates are in the order i, o, f, c (LSTM) and z, r, h (GRU); PyTorch's, which
`treadle.layers.recurrent_spec` takes, are i, f, g, o and r, z, n. ONNX's Y is [T, R, B, H] (R
directions); treadle.Recurrent's is [T, B, R H].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.graph.ir import Node

if TYPE_CHECKING:
    from treadle.graph.view import View

# The mode, and for each of PyTorch's gates the place of the gate in ONNX's order.
CELLS = {"LSTM": ("lstm", [0, 2, 3, 1]), "GRU": ("gru", [1, 0, 2]), "RNN": ("rnn", [0])}
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
# ONNX's activations without parameters of the file's own, with ONNX's defaults.
ACTIVATIONS: dict[str, list[Any]] = {
    "tanh": ["tanh"],
    "sigmoid": ["sigmoid"],
    "relu": ["relu"],
    "softsign": ["softsign"],
    "softplus": ["softplus"],
    "hardsigmoid": ["hard_sigmoid", 0.2, 0.5],
    "leakyrelu": ["leaky_relu", 0.01],
    "elu": ["elu", 1.0],
    "thresholdedrelu": ["thresholded_relu", 1.0],
}


def fuse(view: View) -> int:
    """Turn every recurrent node whose weights are constants; return how many."""
    return sum(_lower(view, node) for node in view.nodes("LSTM", "GRU", "RNN"))


def _lower(view: View, node: Node) -> bool:
    arrays = [view.constant(name) for name in node.inputs[1:4]]
    w, r = arrays[0], arrays[1]
    if w is None or r is None or w.ndim != 3 or r.ndim != 3 or not view.is_float(node.inputs[0]):
        return False
    if w.dtype != np.float32 or r.dtype != np.float32 or node.attributes.get("layout", 0):
        return False
    directions, hidden, inputs = w.shape[0], r.shape[2], w.shape[2]
    gates = len(CELLS[node.op][1])
    if w.shape != (directions, gates * hidden, inputs) or r.shape[:2] != w.shape[:2]:
        return False
    attributes = _attributes(node, directions, hidden, inputs)
    weights = None if attributes is None else _weights(view, node, w, r)
    if attributes is None or weights is None:
        return False
    states = _states(view, node, directions, hidden)
    names = [view.add_constant(f"{node.outputs[0]}.{key}", array) for key, array in weights.items()]
    attributes |= {
        "bias": int("0.bias_ih" in weights),
        "peepholes": int("0.peepholes" in weights),
        "weights": list(weights),
    }
    _replace(view, node, [node.inputs[0], *states, *names], attributes)
    return True


def _replace(view: View, node: Node, inputs: list[str], attributes: dict[str, Any]) -> None:
    """Write treadle.Recurrent and what makes ONNX's Y of its y."""
    outputs = [*node.outputs, *[""] * (3 - len(node.outputs))]
    y = outputs[0]
    inner = view.new_name(f"{y or node.outputs[-1]}.y")
    new = [Node("treadle.Recurrent", inputs, [inner, *outputs[1:]], attributes, node.name)]
    if y and attributes["direction"] != "bidirectional":
        axis = view.add_constant(f"{y}.axis", np.array([1], np.int64))
        new.append(Node("Unsqueeze", [inner, axis], [y], {}, node.name))
    elif y:
        shape = view.add_constant(f"{y}.shape", np.array([0, 0, 2, -1], np.int64))
        split = view.new_name(f"{y}.split")
        new.append(Node("Reshape", [inner, shape], [split], {}, node.name))
        new.append(Node("Transpose", [split], [y], {"perm": [0, 2, 1, 3]}, node.name))
    view.replace([node], new, node)


def _attributes(node: Node, directions: int, hidden: int, inputs: int) -> dict[str, Any] | None:
    """Return the attributes of a RecurrentSpec, or None for what it does not have."""
    given = node.attributes
    direction = given.get("direction", "forward")
    if (direction == "bidirectional") != (directions == 2) or directions not in (1, 2):
        return None
    if given.get("activation_alpha") or given.get("activation_beta"):
        return None
    if given.get("hidden_size", hidden) != hidden or not hidden or not inputs:
        return None
    functions = given.get("activations") or DEFAULTS[node.op] * directions
    one = functions[: len(DEFAULTS[node.op])]
    if functions != one * directions or any(name.lower() not in ACTIVATIONS for name in one):
        return None
    activations = [list(ACTIVATIONS[name.lower()]) for name in one]
    clip = given.get("clip", 0.0)
    return {
        "mode": CELLS[node.op][0],
        "input_size": inputs,
        "hidden_size": hidden,
        "direction": direction,
        "activation": activations[0 if node.op == "RNN" else 1],
        **({} if node.op == "RNN" else {"recurrent_activation": activations[0]}),
        **({"output_activation": activations[2]} if node.op == "LSTM" else {}),
        **({"clip": float(clip)} if clip > 0 else {}),
        "input_forget": int(bool(given.get("input_forget", 0))),
        "reset_after": int(bool(given.get("linear_before_reset", 0))),
    }


def _weights(view: View, node: Node, w: np.ndarray, r: np.ndarray) -> dict[str, np.ndarray] | None:
    """Return the weights by name in PyTorch's order, or None where one is no constant."""
    order = CELLS[node.op][1]
    hidden = r.shape[2]
    extra: dict[str, np.ndarray] = {}
    for key, place in (("bias", 3), ("peepholes", 7)):
        if place < len(node.inputs) and node.inputs[place]:
            array = view.constant(node.inputs[place])
            size = (2 * w.shape[1]) if key == "bias" else 3 * hidden
            if array is None or array.dtype != np.float32 or array.shape != (w.shape[0], size):
                return None
            extra[key] = array

    def ordered(rows: np.ndarray) -> np.ndarray:
        parts = rows.reshape(len(order), hidden, *rows.shape[1:])[order]
        return np.ascontiguousarray(parts.reshape(rows.shape))

    result: dict[str, np.ndarray] = {}
    for direction in range(w.shape[0]):
        prefix = "0.reverse." if direction else "0."
        result[f"{prefix}weight_ih"] = ordered(w[direction])
        result[f"{prefix}weight_hh"] = ordered(r[direction])
        if "bias" in extra:
            first, second = np.split(extra["bias"][direction], 2)
            result[f"{prefix}bias_ih"] = ordered(first)
            result[f"{prefix}bias_hh"] = ordered(second)
        if "peepholes" in extra:
            result[f"{prefix}peepholes"] = np.ascontiguousarray(extra["peepholes"][direction])
    return result


def _states(view: View, node: Node, directions: int, hidden: int) -> list[str]:
    """Return h0, c0 and lengths; a state that is zero in every call is left out."""
    places = [*node.inputs, *[""] * (8 - len(node.inputs))]
    shape = view.known(node.inputs[0]).shape
    known = shape is not None and len(shape) == 3
    wanted = (directions, shape[1], hidden) if known and shape is not None else None
    states = []
    for name in (places[5], places[6] if node.op == "LSTM" else ""):
        zero = name and view.known(name).shape == wanted is not None and is_zero(view, name)
        states.append("" if zero else name)
    return [*states, places[4]]


def is_zero(view: View, name: str) -> bool:
    """Return whether a value is zeros in every call."""
    for _ in range(8):
        array = view.constant(name)
        if array is not None:
            return not array.any()
        node = view.maker(name)
        if node is None:
            return False
        if node.op == "ConstantOfShape":
            value = node.attributes.get("value")
            return value is None or not np.asarray(value).any()
        if node.op not in (
            "Slice",
            "Reshape",
            "Squeeze",
            "Unsqueeze",
            "Transpose",
            "Expand",
            "Tile",
        ):
            return False
        name = node.inputs[0]
    return False
