"""This module packs the constant weights of treadle's own operators into native layers.

A packer takes a node and a function that looks up constants, and returns the attributes that the
native operator reads, with the native layer among them, and the node's inputs that are left.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle import _core
from treadle._storage.json import short
from treadle.graph.padding import conv_windows, transposed_windows
from treadle.layers.activation import parse
from treadle.layers.convolution import Convolution
from treadle.layers.recurrent_spec import RecurrentSpec
from treadle.layers.transposed import TransposedConvolution

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle.graph.ir import Node

    # Returns a constant by its name, or None for a name that is no constant or is empty.
    Lookup = Callable[[str], Any]


class Packed(NamedTuple):
    """A Packed is a node as its native operator takes it."""

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
    if name == "hard_swish":  # the native one has no other parameters than 1/6 and 1/2
        usual = [1 / 6, 1 / 2][: len(given)]
        if not np.allclose(given, usual, rtol=1e-6):
            raise ValueError(f"{function}: hard_swish has the parameters {short(given)}")
        given = []
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


class _Kernel(NamedTuple):
    """A _Kernel is the weight of a convolution, with what it or the node says of its sizes.

    A weight that has been rounded is the matrix of the product, and no longer tells its taps.
    """

    weight: Any
    bias: Any
    matrix: bool
    taps: list[int]
    outputs: int
    groups: int
    columns: int  # the weights of an output
    dtype: str


def _kernel(function: str, node: Node, lookup: Lookup) -> _Kernel:
    weight, bias = (_constant(function, node, lookup, i) for i in (1, 2))
    own, where = node.attributes, f"{function}: node {node.name} ({node.op})"
    groups: Any = own.get("group", 1)
    matrix = len(weight.shape) == 2
    taps: Any = own.get("kernel_shape") if matrix else list(weight.shape[1:-1])
    outputs: Any = own.get("outputs") if matrix else weight.shape[0]
    if not matrix and node.op == "treadle.ConvTranspose" and type(groups) is int:
        outputs = weight.shape[-1] * groups
    axes = len(taps) if isinstance(taps, list) else 0
    if axes not in (1, 2) or not all(type(n) is int and n > 0 for n in (*taps, groups, outputs)):
        raise ValueError(f"{where}: the taps are {short(taps)}, expected one axis or two")
    numbers = math.prod(weight.shape)
    columns = numbers // outputs
    if columns < 1 or columns % math.prod(taps) or numbers % outputs or outputs % groups:
        raise ValueError(f"{where}: the weight {weight.shape} does not fit the taps {taps}")
    dtype = own.get("dtype", "float32")
    return _Kernel(weight, bias, matrix, taps, outputs, groups, columns, dtype)


def _conv(function: str, node: Node, lookup: Lookup) -> Packed:
    kernel = _kernel(function, node, lookup)
    windows = conv_windows(
        f"{function}: node {node.name} ({node.op})", node.attributes, kernel.taps
    )
    inputs = kernel.columns // math.prod(kernel.taps) * kernel.groups
    shape = Convolution(inputs, kernel.outputs, kernel.groups, windows.axes)
    weight = kernel.weight
    if not kernel.matrix:
        weight = np.ascontiguousarray(weight).reshape(kernel.outputs, kernel.columns)
    kind = "depthwise" if shape.is_depthwise() else "conv"
    packed: dict[str, Any] = {kind: shape.pack_matrix(function, weight, kernel.bias, kernel.dtype)}
    if windows.open:  # each call pads x as its size asks for
        packed["auto_pad"] = node.attributes["auto_pad"]
    attributes = packed | native_activation(function, node.attributes)
    return Packed(attributes, [node.inputs[0], *node.inputs[3:4]])


def transposed_matrix(weight: Any, groups: int) -> Any:
    """Return the weight [C, taps.., D/g] of a transposed convolution as the matrix [D, J C/g]."""
    inputs, *taps, outputs = weight.shape
    parts = weight.reshape(groups, inputs // groups, math.prod(taps), outputs)
    return np.ascontiguousarray(parts.transpose(0, 3, 2, 1)).reshape(groups * outputs, -1)


def _conv_transpose(function: str, node: Node, lookup: Lookup) -> Packed:
    kernel = _kernel(function, node, lookup)
    where = f"{function}: node {node.name} ({node.op})"
    groups, weight = kernel.groups, kernel.weight
    if not kernel.matrix and weight.shape[0] % groups:
        raise ValueError(f"{where}: the weight {weight.shape} does not fit {groups} groups")
    windows = transposed_windows(where, node.attributes, kernel.taps)
    if windows.open:
        raise ValueError(f"{where}: output_shape needs the size of x, give pads and output_padding")
    inputs = kernel.columns // math.prod(kernel.taps) * groups
    shape = TransposedConvolution(inputs, kernel.outputs, groups, windows.axes)
    matrix = weight if kernel.matrix else transposed_matrix(weight, groups)
    packed = {"transposed": shape.pack_matrix(function, matrix, kernel.bias, kernel.dtype)}
    return Packed(packed | native_activation(function, node.attributes), node.inputs[:1])


class RecurrentParts(NamedTuple):
    """A node of a recurrent net, read: what it is, its weights, and the inputs of a call.

    ``weights`` has the arrays of each layer, one direction after the other. ``inputs`` are the
    names of x, h0, c0 and lengths, and of a mask behind them where there is one.
    """

    spec: RecurrentSpec
    weights: list[dict[str, Any]]
    inputs: list[str]
    flags: dict[str, int]


def recurrent_parts(function: str, node: Node, lookup: Lookup) -> RecurrentParts:
    """Read a node treadle.Recurrent. Raises ValueError for one that is malformed."""
    attributes = dict(node.attributes)
    names = attributes.pop("weights", None)
    flags = {k: int(bool(attributes.pop(k, 0))) for k in ("batch_first", "broadcast", "continued")}
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
    mask = node.inputs[4 + len(names) :]
    if len(mask) > 1:
        raise ValueError(f"{where}: {len(node.inputs)} inputs, expected {5 + len(names)} at most")
    ordered = [weights[place] for place in range(places)]
    return RecurrentParts(spec, ordered, [*node.inputs[:4], *mask], flags)


def _recurrent(function: str, node: Node, lookup: Lookup) -> Packed:
    parts = recurrent_parts(function, node, lookup)
    native = {"recurrent": parts.spec.pack(function, parts.weights)}
    return Packed(native | parts.flags, parts.inputs)


def _is_weight(name: object) -> bool:
    """Say whether a text is the name of a weight, such as ``0.reverse.bias_hh``."""
    return isinstance(name, str) and name.partition(".")[0].isdecimal() and len(name) < 100


_PACKERS: dict[str, Callable[[str, Node, Lookup], Packed]] = {
    "treadle.Conv": _conv,
    "treadle.ConvTranspose": _conv_transpose,
    "treadle.Linear": _linear,
    "treadle.Recurrent": _recurrent,
}
