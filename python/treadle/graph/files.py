"""Whole models are saved as safetensors, with their graph as JSON in the metadata.

The description has the graph's inputs, outputs, nodes and constants, subgraphs within their nodes.
What is read may be hostile: a description is checked field by field, no name in it is ever looked
up anywhere but among the operators, and constants are as large as their bytes in the file.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from treadle._storage import formats, safetensors
from treadle._storage.files import checked_path, replaced
from treadle._storage.json import short
from treadle.graph.ir import Graph, Node, Value
from treadle.graph.plan import MOST_DEPTH
from treadle.graph.summary import Table, read_table
from treadle.layers.files import GRAPH_FORMAT

if TYPE_CHECKING:
    from io import BufferedIOBase

    from treadle._storage.files import Path
    from treadle._storage.safetensors import Header

ABOUT = ("graph", "single", "time", "table")
# Constants of these dtypes are stored with the bits of another one, which safetensors has.
_SAME_BITS = {"uint16": "int16", "uint32": "int32", "uint64": "int64"}
_DTYPES = frozenset(
    (
        *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
        *("float16", "bfloat16", "float32", "float64"),
    )
)


class About(NamedTuple):
    """This tuple has what a file says of a model beside its graph, as `treadle.Model` has it."""

    single: bool = False
    time: dict[str, int] | None = None
    table: Table | None = None


def write(path: Path, graph: Graph, model: About) -> None:
    """Write a graph to a file, all or nothing. Raises TypeError and OSError."""
    writer = _Writer()
    about = {
        "graph": writer.described(graph),
        "single": model.single,
        "time": model.time,
        "table": None if model.table is None else model.table.written(),
    }
    layout = {key: (array.dtype.name, array.shape) for key, array in writer.arrays.items()}
    with replaced(checked_path("treadle.save", path)) as file:
        safetensors.write(file, layout, GRAPH_FORMAT, about, writer.arrays.items())


def read(file: BufferedIOBase, header: Header) -> tuple[Graph, About]:
    """Return the graph of a file whose header has been read, and what it says beside that.

    Raises ValueError. That the graph makes sense is for its operators to find out.
    """
    about = safetensors.read_about(header, GRAPH_FORMAT, ABOUT)
    reader = _Reader(file, header)
    if not isinstance(about["single"], bool):
        raise reader.wrong("single", about["single"])
    graph = reader.graph(about["graph"], 0)
    reader.finish()
    time = about["time"]
    if time is not None and not _is_time(graph, time):
        raise reader.wrong("time", time)
    table = None if about["table"] is None else read_table(header.where, about["table"])
    return graph, About(about["single"], time, table)


def _is_time(graph: Graph, value: object) -> bool:
    """Return whether a value names axes of inputs of a graph."""
    ranks = {one.name: len(one.shape or ()) for one in graph.inputs}
    return isinstance(value, dict) and all(
        type(axis) is int and 0 <= axis < ranks.get(name, 0) for name, axis in value.items()
    )


class _Writer:
    """A _Writer describes graphs, and collects their constants under their names in the file."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def described(self, graph: Graph) -> dict[str, Any]:
        return {
            "inputs": [[v.name, v.dtype, _listed(v.shape)] for v in graph.inputs],
            "outputs": [[v.name, v.dtype, _listed(v.shape)] for v in graph.outputs],
            "nodes": [
                {
                    "op": node.op,
                    "inputs": node.inputs,
                    "outputs": node.outputs,
                    "attributes": {k: self.attribute(v) for k, v in node.attributes.items()},
                    "name": node.name,
                }
                for node in graph.nodes
            ],
            "constants": {name: self.constant(value) for name, value in graph.constants.items()},
        }

    def attribute(self, value: Any) -> Any:
        if isinstance(value, Graph):
            return {"graph": self.described(value)}
        if isinstance(value, np.ndarray):
            return {"array": self.constant(value)}
        if isinstance(value, list | tuple):
            return [self.attribute(item) for item in value]
        if isinstance(value, float | np.floating):
            number = float(value)
            return number if math.isfinite(number) else {"float": str(number)}
        if isinstance(value, bool | np.bool_ | np.integer):
            return int(value)
        return value

    def constant(self, value: Any) -> dict[str, Any]:
        key = f"constant{len(self.arrays)}"
        if isinstance(value, formats.Int8):
            self.arrays |= formats.arrays(key, value)
            return {"tensor": key, "dtype": "quantized"}
        dtype = value.dtype.name
        stored = np.ascontiguousarray(value).reshape(value.shape)
        self.arrays[key] = stored.view(_SAME_BITS[dtype]) if dtype in _SAME_BITS else stored
        return {"tensor": key, "dtype": dtype}


def _listed(shape: Any) -> Any:
    return None if shape is None else list(shape)


class _Reader:
    """A _Reader makes graphs of descriptions. It raises ValueError for what no `_Writer` writes."""

    def __init__(self, file: BufferedIOBase, header: Header) -> None:
        self.file, self.header = file, header
        self.unread = set(header.tensors)

    def wrong(self, what: str, found: object) -> ValueError:
        return ValueError(f"{self.header.where}: {what} is {short(found)}")

    def finish(self) -> None:
        if self.unread:
            raise self.wrong("a tensor that nothing reads", min(self.unread))

    def fields(self, what: str, value: object, names: tuple[str, ...]) -> list[Any]:
        if not isinstance(value, dict) or set(value) != set(names):
            raise self.wrong(what, value)
        return [value[name] for name in names]

    def graph(self, value: object, depth: int) -> Graph:
        if depth > MOST_DEPTH:
            raise self.wrong("the depth of a graph", depth)
        names = ("inputs", "outputs", "nodes", "constants")
        inputs, outputs, nodes, constants = self.fields("a graph", value, names)
        if not isinstance(nodes, list) or not isinstance(constants, dict):
            raise self.wrong("a graph", value)
        return Graph(
            self.values(inputs),
            self.values(outputs),
            [self.node(node, depth) for node in nodes],
            {name: self.constant(item) for name, item in constants.items()},
        )

    def values(self, entries: object) -> list[Value]:
        if not isinstance(entries, list):
            raise self.wrong("a list of values", entries)
        return [self.value(entry) for entry in entries]

    def value(self, entry: object) -> Value:
        if not isinstance(entry, list) or len(entry) != 3:
            raise self.wrong("a value", entry)
        name, dtype, shape = entry
        if not isinstance(name, str) or not isinstance(dtype, str) or not self.is_shape(shape):
            raise self.wrong("a value", entry)
        if dtype and dtype not in _DTYPES:
            raise self.wrong("the dtype of a value", dtype)
        return Value(name, dtype, None if shape is None else tuple(shape))

    @staticmethod
    def is_shape(shape: object) -> bool:
        return shape is None or (
            isinstance(shape, list)
            and all(
                size is None or isinstance(size, str) or (type(size) is int and 0 <= size < 2**63)
                for size in shape
            )
        )

    def node(self, value: object, depth: int) -> Node:
        names = ("op", "inputs", "outputs", "attributes", "name")
        op, inputs, outputs, attributes, name = self.fields("a node", value, names)
        texts = [op, name]
        for listed in (inputs, outputs):
            if not isinstance(listed, list):
                raise self.wrong("a node", value)
            texts += listed
        if not all(isinstance(text, str) for text in texts) or not isinstance(attributes, dict):
            raise self.wrong("a node", value)
        read = {key: self.attribute(item, depth) for key, item in attributes.items()}
        return Node(op, inputs, outputs, read, name)

    def attribute(self, value: object, depth: int) -> Any:
        if isinstance(value, list):
            if any(isinstance(item, list | dict) and "float" not in item for item in value):
                raise self.wrong("an attribute", value)
            return [self.attribute(item, depth) for item in value]
        if isinstance(value, dict) and len(value) == 1:
            ((kind, content),) = value.items()
            if kind == "graph":
                return self.graph(content, depth + 1)
            if kind == "array":
                return self.constant(content)
            if kind == "float" and content in ("inf", "-inf", "nan"):
                return float(content)
        if isinstance(value, str | float) or (type(value) is int and -(2**63) <= value < 2**63):
            return value
        raise self.wrong("an attribute", value)

    def constant(self, value: object) -> Any:
        key, dtype = self.fields("a constant", value, ("tensor", "dtype"))
        if not isinstance(key, str) or key not in self.unread or not isinstance(dtype, str):
            raise self.wrong("a constant", value)
        header = self.header
        self.unread.discard(key)
        entry = header.tensors[key]
        if dtype == "quantized":
            scale = f"{key}.scale"
            if len(entry.shape) != 2 or scale not in self.unread:
                raise self.wrong("a constant", value)
            self.unread.discard(scale)
            layout = formats.layout(key, entry.shape, "int8")
            parts = []
            for name, (kind, shape) in layout.items():
                safetensors.check_tensor(header, name, shape, (safetensors.named(kind),))
                parts.append(safetensors.read(self.file, header, name))
            return formats.joined(parts)
        stored = _SAME_BITS.get(dtype, dtype)
        if dtype not in _DTYPES or dtype in ("float16", "bfloat16"):
            raise self.wrong("the dtype of a constant", dtype)
        safetensors.check_tensor(header, key, entry.shape, (safetensors.named(stored),))
        return safetensors.read(self.file, header, key).view(dtype)
