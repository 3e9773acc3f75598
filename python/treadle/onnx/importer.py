"""This module makes a graph of a model file: names made unique, functions taken apart, operators
checked and brought into their newest form.

Everything that the file says is checked here but the shapes and dtypes of values, which operators
check when they run: what a name stands for, the order of nodes, numbers of inputs and outputs,
attributes and their kinds. Operators that treadle has not are collected, and named all at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._storage.json import short
from treadle.graph.ir import Graph, Node, Value
from treadle.onnx import schemas
from treadle.onnx.building import Call, Names, Scope
from treadle.onnx.contrib import CONTRIB, SAME
from treadle.onnx.opsets import RULES, upgrade
from treadle.onnx.tensors import DTYPES, dtype_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle._inputs.types import AnyArray
    from treadle.onnx.external_data import ExternalData
    from treadle.onnx.reader import (
        AttributeProto,
        FunctionProto,
        GraphProto,
        ModelProto,
        NodeProto,
        ValueInfoProto,
    )

MOST_NODES = 2**17
_MOST_DEPTH = 24  # of graphs and functions within each other
_MICROSOFT = "com.microsoft"
# What the attributes of Constant become.
_CONSTANTS = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}


@dataclass(slots=True)
class _Frame:
    """A _Frame is what nodes of a graph or function share: opsets, attributes of its call."""

    opsets: dict[str, int]
    attributes: dict[str, AttributeProto] | None = None
    """The attributes that a function was called with; None in a graph that is no function's."""
    depth: int = 0
    label: str = ""


@dataclass(slots=True)
class Importer:
    """An Importer reads one model. `graph` is its only method for others.

    ``supported`` tells whether the program has an operator of the graph.
    """

    model: ModelProto
    where: str
    files: ExternalData
    supported: Callable[[str], bool]
    warnings: list[str] = field(default_factory=list)
    _names: Names = field(default_factory=Names)
    _count: int = 0
    _missing: dict[str, list[str]] = field(default_factory=dict)
    _functions: dict[tuple[str, str, str], FunctionProto] = field(default_factory=dict)

    def graph(self) -> Graph:
        """Return the model's graph. Raises ValueError."""
        if self.model.graph is None:
            raise ValueError(f"{self.where} has no graph, expected a model of ONNX")
        for function in self.model.functions:
            key = (function.domain, function.name, function.overload)
            if key in self._functions:
                raise ValueError(f"{self.where} has the function {short(function.name)} twice")
            self._functions[key] = function
        self._check_opsets(self.model.opset_import)
        graph = self._graph(self.model.graph, None, _Frame(self.model.opset_import))
        names = [value.name for value in graph.outputs]
        if len(set(names)) < len(names) or not names:
            raise ValueError(
                f"{self.where} has the outputs {short(names)}, expected at least one, each once"
            )
        if self._missing:
            raise ValueError(f"{self.where} needs operators that treadle has not: {self._list()}")
        return graph

    def _list(self) -> str:
        parts = []
        for op, nodes in sorted(self._missing.items()):
            count = f"{len(nodes)} node{'s' * (len(nodes) > 1)}"
            parts.append(f"{op} ({count}, {'the first ' * (len(nodes) > 1)}{nodes[0]})")
        rest = f" and {len(parts) - 50} more" if len(parts) > 50 else ""
        return ", ".join(parts[:50]) + rest

    def _check_opsets(self, opsets: dict[str, int]) -> None:
        version = opsets.get("")
        oldest, newest = schemas.OLDEST_OPSET, schemas.NEWEST_OPSET
        if version is not None and not oldest <= version <= newest:
            raise ValueError(
                f"{self.where} has the opset {version}, expected {oldest} to {newest}; "
                "onnx.version_converter changes a model's opset"
            )

    def _graph(self, proto: GraphProto, outer: Scope | None, frame: _Frame) -> Graph:
        scope = Scope(self._names, outer)
        for tensor in proto.initializer:
            self._declare(scope, tensor.name, "constant")
            scope.wait(tensor.name, partial(tensor.array, self.files))
        # Files of early versions list constants among the inputs, too: they stay constants.
        given = [info for info in proto.input if info.name not in scope.waiting]
        for info in given:
            self._declare(scope, info.name, "input")
            scope.defined.add(info.name)
        self._declare_outputs(scope, proto.node)
        inputs = [self._value(info, scope.declared[info.name], outer is None) for info in given]
        for i, node in enumerate(proto.node):
            self._node(node, i, scope, frame)
        outputs = []
        for info in proto.output:
            name = self._find(scope, info.name, f"{self.where}: an output")
            if info.name not in scope.declared:  # of a graph around this one
                own = self._names.take(name)
                scope.nodes.append(Node("Identity", [name], [own], {}, "an output"))
                name = own
            outputs.append(self._value(info, name, outer is None, output=True))
        return Graph(inputs, outputs, scope.nodes, scope.constants)

    def _declare_outputs(self, scope: Scope, nodes: list[NodeProto]) -> None:
        for node in nodes:
            for name in node.output:
                if name:
                    self._declare(scope, name, "output of a node")

    def _declare(self, scope: Scope, name: str, what: str) -> None:
        if name == "":
            raise ValueError(f"{self.where}: an {what} has no name, expected one")
        try:
            scope.declare(name)
        except KeyError:
            raise ValueError(
                f"{self.where} defines {short(name)} twice, the second time as an {what}; expected "
                "one definition of each name"
            ) from None

    def _find(self, scope: Scope, name: str, what: str) -> str:
        try:
            return scope.find(name)
        except LookupError as error:
            raise ValueError(f"{what} reads {error.args[0]}") from None

    def _value(self, info: ValueInfoProto, name: str, border: bool, output: bool = False) -> Value:
        """Return an input or output. At the border of the model its dtype stays the file's."""
        what = f"{self.where}: {'output' if output else 'input'} {short(info.name)}"
        if info.kind not in ("tensor", ""):
            raise ValueError(f"{what} is {info.kind}, expected a tensor")
        dtype = DTYPES.get(info.dtype, "")
        if dtype == "" and (info.dtype != 0 or (border and not output)):
            raise ValueError(
                f"{what} has the dtype {dtype_name(info.dtype)}, expected one of "
                f"{', '.join(DTYPES.values())}"
            )
        if dtype in ("float16", "bfloat16") and not border:
            dtype = "float32"
        shape = None if info.shape is None else tuple(info.shape)
        if shape is not None and len(shape) > 8:
            raise ValueError(f"{what} has {len(shape)} dimensions, expected at most 8")
        return Value(name, dtype, shape)

    def _node(self, node: NodeProto, index: int, scope: Scope, frame: _Frame) -> None:
        self._count += 1
        if self._count > MOST_NODES:
            raise ValueError(f"{self.where} has more than {MOST_NODES} nodes, functions included")
        name = node.name or f"{node.op_type} {index}"
        name = f"{frame.label}{name}"
        what = f"{self.where}: node {short(name)} ({short(node.op_type)[1:-1]})"
        inputs = [n and self._find(scope, n, what) for n in node.input]
        outputs = [n and scope.declared[n] for n in node.output]
        attributes = self._attributes(node, frame, what)
        function = self._functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            self._inline(function, inputs, outputs, attributes, scope, replace(frame, label=name))
            scope.defined.update(n for n in node.output if n)
        elif not (node.domain == "" and node.op_type == "Constant"):
            version = self._version(node, frame, what)
            call = Call(scope, node.op_type, version, inputs, outputs, {}, name, what)
            self._call(call, node.domain, attributes, frame)
            made = set(call.outputs)  # not those that running a model never has
            scope.defined.update(n for n in node.output if n and scope.declared[n] in made)
        else:
            self._constant(node, scope, attributes, what)

    def _version(self, node: NodeProto, frame: _Frame, what: str) -> int:
        version = frame.opsets.get(node.domain)
        if version is None:
            if node.domain == "":
                raise ValueError(f"{what}: the file does not say the version of its operators")
            return 1
        return version

    def _attributes(self, node: NodeProto, frame: _Frame, what: str) -> dict[str, AttributeProto]:
        """Return the attributes by name, those of the function's call in the place of their
        references."""
        found: dict[str, AttributeProto] = {}
        for attribute in node.attribute:
            value: AttributeProto | None = attribute
            if attribute.reference:
                if frame.attributes is None:
                    raise ValueError(
                        f"{what} refers to the attribute {short(attribute.reference)} of a "
                        "function, expected a node within one"
                    )
                value = frame.attributes.get(attribute.reference)
                if value is None:
                    continue
            if attribute.name in found or value is None:
                raise ValueError(f"{what} has the attribute {short(attribute.name)} twice")
            found[attribute.name] = value
        return found

    def _call(
        self, call: Call, domain: str, given: dict[str, AttributeProto], frame: _Frame
    ) -> None:
        known = domain == "" and (call.op in schemas.SCHEMAS or call.op in RULES)
        known = known or (domain == _MICROSOFT and call.op in (*CONTRIB, *SAME))
        if not known:
            self._unsupported(call, f"{domain}.{call.op}" if domain else call.op)
            return
        kinds = {name: attribute.kind for name, attribute in given.items()}
        for name, attribute in given.items():
            call.attributes[name] = self._decoded(attribute, call, frame)
        if domain == _MICROSOFT and call.op in CONTRIB:
            CONTRIB[call.op](call)
            return
        if upgrade(call):
            return
        for name in [name for name in kinds if name not in call.attributes]:
            del kinds[name]
        for name, value in call.attributes.items():
            kinds.setdefault(name, "str" if isinstance(value, str) else "int")
        problem = schemas.problem(call.op, len(call.inputs), len(call.outputs), kinds)
        if problem is not None:
            raise call.error(problem)
        least = schemas.SCHEMAS[call.op].inputs[0]
        if not all(call.inputs[:least]):
            raise call.error(f"lacks one of its first {least} inputs, expected all of them")
        if call.op == "GRU":
            self._check_gru(call)
        self._emit(call)

    def _emit(self, call: Call) -> None:
        if self.supported(call.op):
            call.emit(call.op, call.inputs, call.outputs, call.attributes)
        else:
            self._unsupported(call, call.op)

    def _unsupported(self, call: Call, op: str) -> None:
        self._missing.setdefault(short(op)[1:-1], []).append(short(call.name))

    def _check_gru(self, call: Call) -> None:
        """Warn of a file by an exporter that writes PyTorch's GRU as another one
        (https://github.com/pytorch/pytorch/issues/189225)."""
        model = self.model
        if model.producer_name == "pytorch" and call.attributes.get("linear_before_reset", 0) == 0:
            self.warnings.append(
                f"{call.what} applies its reset gate before the product "
                "(linear_before_reset=0), which no GRU of PyTorch does: PyTorch "
                f"{short(model.producer_version)[1:-1]} wrote it wrongly (pytorch issue 189225), "
                "and results differ from the module's. treadle computes what the file says; "
                "treadle.from_torch or an export with dynamo=False gives what the module computes"
            )

    def _decoded(self, attribute: AttributeProto, call: Call, frame: _Frame) -> Any:
        """Return the value of an attribute: tensors as arrays, graphs as the graph's."""
        if attribute.kind == "tensor":
            return attribute.value.array(self.files)
        if attribute.kind == "graph":
            if frame.depth >= _MOST_DEPTH:
                raise call.error(f"has a graph at a depth of {_MOST_DEPTH}, expected less")
            inner = replace(frame, depth=frame.depth + 1)
            return self._graph(attribute.value, call.scope, inner)
        return attribute.value

    def _constant(
        self, node: NodeProto, scope: Scope, given: dict[str, AttributeProto], what: str
    ) -> None:
        if len(node.output) != 1 or not node.output[0] or node.input or len(given) != 1:
            raise ValueError(f"{what} has not one output and one attribute, expected both")
        ((label, attribute),) = given.items()
        kind, value = attribute.kind, attribute.value
        if label == "value" and kind == "tensor":
            scope.wait(node.output[0], partial(value.array, self.files))
        elif label in _CONSTANTS and label == f"value_{kind}":
            scope.wait(node.output[0], partial(np.array, value, _CONSTANTS[label]))
        else:
            scope.wait(node.output[0], partial(_refuse, f"{what} is {label} ({kind})"))

    def _inline(
        self,
        function: FunctionProto,
        inputs: list[str],
        outputs: list[str],
        given: dict[str, AttributeProto],
        scope: Scope,
        frame: _Frame,
    ) -> None:
        """Put the nodes of a function in the place of a call of it."""
        what = f"{self.where}: {short(frame.label)}, function {short(function.name)}"
        if frame.depth >= _MOST_DEPTH:
            raise ValueError(
                f"{what} is called at a depth of {_MOST_DEPTH} functions and graphs, perhaps by "
                "itself; expected less"
            )
        if len(inputs) > len(function.input) or len(outputs) > len(function.output):
            raise ValueError(
                f"{what} has {len(inputs)} inputs and {len(outputs)} outputs, expected at most "
                f"{len(function.input)} and {len(function.output)}"
            )
        defaults = {a.name: a for a in function.attribute_proto}
        opsets = {**self.model.opset_import, **function.opset_import}
        self._check_opsets(opsets)
        inner_frame = _Frame(opsets, {**defaults, **given}, frame.depth + 1, f"{frame.label}/")
        # The function sees none of the names around it; its nodes and constants go there.
        inner = Scope(self._names, None, nodes=scope.nodes, constants=scope.constants)
        for name, argument in zip_longest(function.input, inputs, fillvalue=""):
            inner.declared[name] = argument
            inner.defined.add(name)
        self._declare_outputs(inner, function.node)
        for name, result in dict(zip(function.output, outputs, strict=False)).items():
            if result and name in inner.declared and name not in function.input:
                inner.declared[name] = result
        for i, node in enumerate(function.node):
            self._node(node, i, inner, inner_frame)
        for name, result in zip(function.output, outputs, strict=False):
            if not result:
                continue
            found = self._find(inner, name, what)
            if found != result:
                scope.nodes.append(Node("Identity", [found], [result], {}, frame.label))


def _refuse(problem: str) -> AnyArray:
    raise ValueError(f"{problem}, expected a tensor of numbers")
