"""This module reads a model file of ONNX: its messages as plain Python objects.

The classes have the names and fields of the format (https://github.com/onnx/onnx, onnx.proto), as
far as running a model needs them: documentation, metadata, training and the shapes of values in
between are skipped. Numbers of tensors stay in the file until `TensorProto.array` is asked for
them. A graph may hold graphs (the branches of If, the bodies of Loop and Scan), which are read to a
limited depth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from treadle._storage.json import short
from treadle.onnx.protobuf import Part
from treadle.onnx.tensors import TensorProto

if TYPE_CHECKING:
    from treadle.onnx.protobuf import Field, Wire

MOST_GRAPHS_IN_GRAPHS = 16
# AttributeProto.AttributeType: the names under which values of attributes are checked.
KINDS = {
    1: "float",
    2: "int",
    3: "str",
    4: "tensor",
    5: "graph",
    6: "floats",
    7: "ints",
    8: "strs",
}
_OTHER_KINDS = {
    9: "tensors",
    10: "graphs",
    11: "sparse tensor",
    12: "sparse tensors",
    13: "type",
    14: "types",
}
# The kinds of values beside tensors, by their field of TypeProto.
_TYPES = {4: "a sequence", 5: "a map", 7: "an opaque value", 8: "a sparse tensor", 9: "an optional"}


@dataclass(slots=True)
class ValueInfoProto:
    """This is an input or output: ``kind`` is "tensor", another kind, or "" where none is given.

    ``shape`` has a number, the name of a symbolic size, or None for each dimension; None: no rank.
    """

    name: str
    kind: str = ""
    dtype: int = 0
    shape: list[int | str | None] | None = None


@dataclass(slots=True)
class AttributeProto:
    """This is an attribute: ``kind`` is one of `KINDS`, or perhaps "" where ``reference`` names an
    attribute of the function around it.
    """

    name: str
    kind: str
    value: Any
    reference: str


@dataclass(slots=True)
class NodeProto:
    op_type: str = ""
    domain: str = ""
    overload: str = ""
    name: str = ""
    input: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    attribute: list[AttributeProto] = field(default_factory=list)


@dataclass(slots=True)
class GraphProto:
    name: str = ""
    node: list[NodeProto] = field(default_factory=list)
    initializer: list[TensorProto] = field(default_factory=list)
    input: list[ValueInfoProto] = field(default_factory=list)
    output: list[ValueInfoProto] = field(default_factory=list)


@dataclass(slots=True)
class FunctionProto:
    name: str = ""
    domain: str = ""
    overload: str = ""
    input: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    attribute: list[str] = field(default_factory=list)
    attribute_proto: list[AttributeProto] = field(default_factory=list)
    node: list[NodeProto] = field(default_factory=list)
    opset_import: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class ModelProto:
    ir_version: int = 0
    producer_name: str = ""
    producer_version: str = ""
    opset_import: dict[str, int] = field(default_factory=dict)
    graph: GraphProto | None = None
    functions: list[FunctionProto] = field(default_factory=list)


def read_model(wire: Wire) -> ModelProto:
    """Read a whole model. Raises ValueError for what is malformed."""
    model = ModelProto()
    for f in wire.fields(Part(0, len(wire.data)), "the model"):
        number = f[0]
        if number == 1:
            model.ir_version = wire.integer(f, "the model's ir_version")
        elif number == 2:
            model.producer_name = wire.text(f, "the model's producer_name")
        elif number == 3:
            model.producer_version = wire.text(f, "the model's producer_version")
        elif number == 7:
            if model.graph is not None:
                raise ValueError(f"{wire.where}: the model has two graphs, expected one")
            model.graph = _graph(wire, wire.part(f, "the graph"), 0)
        elif number == 8:
            _opset(wire, f, model.opset_import)
        elif number == 25:
            model.functions.append(_function(wire, wire.message(f, "a function")))
    return model


def _opset(wire: Wire, f: Field, into: dict[str, int]) -> None:
    domain, version = "", 0
    for part in wire.fields(wire.part(f, "an opset"), "an opset"):
        if part[0] == 1:
            domain = wire.text(part, "an opset's domain")
        elif part[0] == 2:
            version = wire.integer(part, "an opset's version")
    domain = "" if domain == "ai.onnx" else domain
    if into.get(domain, version) != version:
        raise ValueError(
            f"{wire.where} names two versions of the operators {short(domain)}, {into[domain]} and "
            f"{version}, expected one"
        )
    into[domain] = version


def _graph(wire: Wire, part: Part, depth: int) -> GraphProto:
    if depth > MOST_GRAPHS_IN_GRAPHS:
        raise ValueError(
            f"{wire.where} has graphs within graphs to a depth of more than "
            f"{MOST_GRAPHS_IN_GRAPHS}, expected at most that"
        )
    graph = GraphProto()
    for f in wire.fields(part, "a graph"):
        number = f[0]
        if number == 1:
            graph.node.append(_node(wire, wire.message(f, "a node"), depth))
        elif number == 2:
            graph.name = wire.text(f, "a graph's name")
        elif number == 5:
            graph.initializer.append(_tensor(wire, wire.message(f, "an initializer")))
        elif number == 11:
            graph.input.append(_value_info(wire, wire.message(f, "an input")))
        elif number == 12:
            graph.output.append(_value_info(wire, wire.message(f, "an output")))
        elif number == 15:
            raise ValueError(
                f"{wire.where}: graph {short(graph.name)} has sparse tensors, expected none"
            )
    return graph


def _node(wire: Wire, part: Part, depth: int) -> NodeProto:
    node = NodeProto()
    for f in wire.fields(part, "a node"):
        number = f[0]
        if number == 1:
            node.input.append(wire.text(f, "an input of a node"))
        elif number == 2:
            node.output.append(wire.text(f, "an output of a node"))
        elif number == 3:
            node.name = wire.text(f, "a node's name")
        elif number == 4:
            node.op_type = wire.text(f, "a node's op_type")
        elif number == 5:
            node.attribute.append(_attribute(wire, wire.message(f, "an attribute"), depth))
        elif number == 7:
            domain = wire.text(f, "a node's domain")
            node.domain = "" if domain == "ai.onnx" else domain
        elif number == 8:
            node.overload = wire.text(f, "a node's overload")
    return node


def _attribute(wire: Wire, part: Part, depth: int) -> AttributeProto:
    name = reference = ""
    code = 0
    single: dict[str, Any] = {}
    floats: list[Field] = []
    ints: list[Field] = []
    strs: list[str] = []
    for f in wire.fields(part, "an attribute"):
        number = f[0]
        if number == 1:
            name = wire.text(f, "an attribute's name")
        elif number == 2:
            single["float"] = wire.float32(f, "an attribute's f")
        elif number == 3:
            single["int"] = wire.integer(f, "an attribute's i")
        elif number == 4:
            single["str"] = wire.text(f, "an attribute's s")
        elif number == 5:
            single["tensor"] = _tensor(wire, wire.message(f, "an attribute's tensor"))
        elif number == 6:
            single["graph"] = _graph(wire, wire.message(f, "an attribute's graph"), depth + 1)
        elif number == 7:
            floats.append(f)
        elif number == 8:
            ints.append(f)
        elif number == 9:
            strs.append(wire.text(f, "an attribute's strings"))
        elif number == 20:
            code = wire.integer(f, "an attribute's type")
        elif number == 21:
            reference = wire.text(f, "an attribute's ref_attr_name")
    if floats:
        single["floats"] = wire.fixed(floats, "<f4", "an attribute's floats").tolist()
    if ints:
        single["ints"] = wire.signed(ints, "an attribute's ints")
    if strs:
        single["strs"] = strs
    return _checked_attribute(wire, AttributeProto(name, "", None, reference), code, single)


def _checked_attribute(
    wire: Wire, attribute: AttributeProto, code: int, found: dict[str, Any]
) -> AttributeProto:
    """Set the kind and the value: what the type says, or what is there where none is given."""
    what = f"{wire.where}: attribute {short(attribute.name)}"
    if attribute.reference:
        attribute.kind = KINDS.get(code, "")
        return attribute
    if code == 0 and len(found) == 1:
        attribute.kind, attribute.value = next(iter(found.items()))
        return attribute
    if code in _OTHER_KINDS:  # of no operator that treadle runs: whoever checks the node says so
        attribute.kind = _OTHER_KINDS[code]
        return attribute
    if code not in KINDS:
        raise ValueError(f"{what} has the type {code}, expected one of 1 to 14")
    attribute.kind = kind = KINDS[code]
    others = [other for other in found if other != kind]
    if others:
        raise ValueError(f"{what} of type {kind} has {others[0]} too, expected {kind} only")
    # A writer may leave out a number 0 and an empty text or list.
    empty = {"float": 0.0, "int": 0, "str": "", "floats": [], "ints": [], "strs": []}
    if kind not in found and kind not in empty:
        raise ValueError(f"{what} of type {kind} has no {kind}, expected one")
    attribute.value = found.get(kind, empty.get(kind))
    return attribute


def _tensor(wire: Wire, part: Part) -> TensorProto:
    tensor = TensorProto(wire, "", [], 0, None, {}, None)
    dims: list[Field] = []
    typed: dict[int, list[Field]] = {}
    external: dict[str, str] = {}
    place = 0
    for f in wire.fields(part, "a tensor"):
        number = f[0]
        if number == 1:
            dims.append(f)
        elif number == 2:
            tensor.dtype = wire.integer(f, "a tensor's data_type")
        elif number in (4, 5, 7, 10, 11):
            typed.setdefault(number, []).append(f)
        elif number == 8:
            tensor.name = wire.text(f, "a tensor's name")
        elif number == 9:
            tensor.raw = wire.part(f, "a tensor's raw_data")
        elif number == 13:
            key, value = _entry(wire, wire.part(f, "a tensor's external_data"))
            external[key] = value
        elif number == 14:
            place = wire.integer(f, "a tensor's data_location")
    if dims:
        tensor.dims = wire.signed(dims, "a tensor's dims")
    tensor.typed = typed
    if place == 1:
        tensor.external = external
    elif place != 0:
        raise ValueError(
            f"{wire.where}: tensor {short(tensor.name)} has the data_location {place}, expected 0 "
            "or 1"
        )
    return tensor


def _entry(wire: Wire, part: Part) -> tuple[str, str]:
    key = value = ""
    for f in wire.fields(part, "an entry"):
        if f[0] == 1:
            key = wire.text(f, "an entry's key")
        elif f[0] == 2:
            value = wire.text(f, "an entry's value")
    return key, value


def _value_info(wire: Wire, part: Part) -> ValueInfoProto:
    info = ValueInfoProto("")
    for f in wire.fields(part, "a value"):
        if f[0] == 1:
            info.name = wire.text(f, "a value's name")
        elif f[0] == 2:
            for t in wire.fields(wire.part(f, "a value's type"), "a type"):
                if t[0] == 1:
                    info.kind = "tensor"
                    _tensor_type(wire, wire.part(t, "a tensor's type"), info)
                elif t[0] in _TYPES:
                    info.kind = _TYPES[t[0]]
    return info


def _tensor_type(wire: Wire, part: Part, info: ValueInfoProto) -> None:
    for f in wire.fields(part, "a tensor's type"):
        if f[0] == 1:
            info.dtype = wire.integer(f, "a type's elem_type")
        elif f[0] == 2:
            info.shape = []
            for d in wire.fields(wire.part(f, "a shape"), "a shape"):
                if d[0] == 1:
                    info.shape.append(_dimension(wire, wire.part(d, "a dimension")))


def _dimension(wire: Wire, part: Part) -> int | str | None:
    size: int | str | None = None
    for f in wire.fields(part, "a dimension"):
        if f[0] == 1:
            value = wire.integer(f, "a dimension's dim_value")
            size = value if value >= 0 else None  # some exporters write -1 for an unknown size
        elif f[0] == 2:
            size = wire.text(f, "a dimension's dim_param") or None
    return size


def _function(wire: Wire, part: Part) -> FunctionProto:
    function = FunctionProto()
    texts = {4: function.input, 5: function.output, 6: function.attribute}
    for f in wire.fields(part, "a function"):
        number = f[0]
        if number == 1:
            function.name = wire.text(f, "a function's name")
        elif number in texts:
            texts[number].append(wire.text(f, "a name in a function"))
        elif number == 7:
            function.node.append(_node(wire, wire.message(f, "a node"), 0))
        elif number == 9:
            _opset(wire, f, function.opset_import)
        elif number == 10:
            function.domain = wire.text(f, "a function's domain")
        elif number == 11:
            function.attribute_proto.append(_attribute(wire, wire.message(f, "an attribute"), 0))
        elif number == 13:
            function.overload = wire.text(f, "a function's overload")
    return function
