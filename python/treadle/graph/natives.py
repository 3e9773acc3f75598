"""This module packs the constant weights of treadle's own operators into native layers.

A packer takes a node and a function that looks up constants, and returns the attributes that the
native operator reads, with the native layer among them, and the node's inputs that are left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from treadle import _core
from treadle._storage.json import short
from treadle.layers.activation import parse
from treadle.layers.recurrent_spec import RecurrentSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.graph.ir import Node

    # Returns a constant by its name, or None for a name that is no constant or is empty.
    Lookup = Callable[[str], Any]


class Packed(NamedTuple):
    """A node as its native operator takes it."""

    attributes: dict[str, Any]
    inputs: list[str]


def pack(function: str, node: Node, lookup: Lookup) -> Packed:
    """Return a node's native attributes and inputs. Raises ValueError or TypeError."""
    packer = _PACKERS.get(node.op)
    return packer(function, node, lookup) if packer else Packed(node.attributes, node.inputs)


def native_activation(function: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of the activation that a product ends with, none for the identity."""
    name = attributes.get("activation")
    if name is None:
        return {}
    given = [attributes[key] for key in ("alpha", "beta") if key in attributes]
    kind, alpha, beta = parse(function, "activation", (name, *given))
    return {} if kind == "linear" else {"activation": kind, "alpha": alpha, "beta": beta}


def _constant(function: str, node: Node, lookup: Lookup, i: int) -> Any:
    """Return input i, which must be a constant, or None where it is absent."""
    name = node.inputs[i] if i < len(node.inputs) else ""
    value = lookup(name) if name else None
    if name and value is None:
        raise ValueError(f"{function}: node {node.name} ({node.op}): input {i} is no constant")
    return value


def _linear(function: str, node: Node, lookup: Lookup) -> Packed:
    weight, bias = (_constant(function, node, lookup, i) for i in (1, 2))
    linear = _core.Linear(function, weight, bias, node.attributes.get("dtype", "float32"))
    attributes = {"linear": linear} | native_activation(function, node.attributes)
    return Packed(attributes, [node.inputs[0], *node.inputs[3:4]])


def _recurrent(function: str, node: Node, lookup: Lookup) -> Packed:
    attributes = dict(node.attributes)
    names, first = attributes.pop("weights", None), attributes.pop("batch_first", 0)
    for key in ("activation", "recurrent_activation", "output_activation", "dtype"):
        if isinstance(attributes.get(key), list):
            attributes[key] = tuple(attributes[key])
    where = f"{function}: node {node.name} ({node.op})"
    unknown = set(attributes) - set(RecurrentSpec._fields)
    required = {"mode", "input_size", "hidden_size"} - set(attributes)
    if unknown or required or not isinstance(names, list) or not all(map(_is_weight, names)):
        raise ValueError(f"{where}: the attributes are {short(node.attributes)}")
    spec = RecurrentSpec(**attributes)
    places = spec.num_layers * spec.directions
    weights: dict[int, dict[str, Any]] = {}
    for i, name in enumerate(names):
        layer, _, rest = name.partition(".")
        place = int(layer) * spec.directions + rest.startswith("reverse.")
        arrays = weights.setdefault(place, {})
        arrays[rest.removeprefix("reverse.")] = _constant(function, node, lookup, 4 + i)
    if sorted(weights) != list(range(places)):
        raise ValueError(f"{where}: the weights are {short(names)}, expected {places} parts")
    packed = spec.pack(function, [weights[place] for place in range(places)])
    native = {"recurrent": packed, "batch_first": int(bool(first))}
    return Packed(native, node.inputs[:4])


def _is_weight(name: object) -> bool:
    """Say whether a text is the name of a weight, such as ``0.reverse.bias_hh``."""
    return isinstance(name, str) and name.partition(".")[0].isdecimal() and len(name) < 100


_PACKERS: dict[str, Callable[[str, Node, Lookup], Packed]] = {
    "treadle.Linear": _linear,
    "treadle.Recurrent": _recurrent,
}
