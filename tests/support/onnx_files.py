"""Models of ONNX as bytes, written without the package onnx, so that they can be malformed, too."""

import struct

import numpy as np

# TensorProto.DataType by NumPy's name
CODES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
    "bfloat16": 16,
}


def varint(value):
    """The bytes of a number; a negative one as int64 has it."""
    value %= 2**64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number, value):
    """A field: of an int a varint, of a float four bytes, of a str or bytes a length and those."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(*fields):
    """A message of fields (number, value)."""
    return b"".join(field(number, value) for number, value in fields)


def tensor(name, array):
    """A TensorProto with raw data."""
    array = np.asarray(array)
    dims = [(1, n) for n in array.shape]
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return message(*dims, (2, CODES[array.dtype.name]), (8, name), (9, data))


def attribute(name, value):
    """An AttributeProto of a Python value; a graph or a tensor is given as ("graph", bytes)."""
    if isinstance(value, tuple):
        kind, data = value
        return message((1, name), (*((6, data) if kind == "graph" else (5, data)),)) + field(
            20, 5 if kind == "graph" else 4
        )
    if isinstance(value, float):
        return message((1, name), (2, value), (20, 1))
    if isinstance(value, int):
        return message((1, name), (3, value), (20, 2))
    if isinstance(value, str):
        return message((1, name), (4, value), (20, 3))
    numbers = {float: (7, 6), int: (8, 7), str: (9, 8)}
    number, kind = numbers[type(value[0])]
    return message((1, name), *[(number, v) for v in value], (20, kind))


def node(op, inputs, outputs, name="", domain="", **attributes):
    """A NodeProto."""
    return message(
        *[(1, n) for n in inputs],
        *[(2, n) for n in outputs],
        (3, name),
        (4, op),
        *[(5, attribute(k, v)) for k, v in attributes.items()],
        (7, domain),
    )


def value(name, dtype="float32", shape=()):
    """A ValueInfoProto of a tensor; a size is a number, a name or None, a shape may be None."""
    code = dtype if isinstance(dtype, int) else CODES[dtype]
    kinds = {int: 1, str: 2}
    fields = [(1, code)]
    if shape is not None:
        dims = [message() if n is None else message((kinds[type(n)], n)) for n in shape]
        fields.append((2, message(*[(1, d) for d in dims])))
    return message((1, name), (2, message((1, message(*fields)))))


def graph(nodes, inputs, outputs, constants=(), name="g"):
    """A GraphProto of messages; constants are a dict of arrays or messages."""
    if isinstance(constants, dict):
        constants = [tensor(n, a) for n, a in constants.items()]
    return message(
        *[(1, n) for n in nodes],
        (2, name),
        *[(5, c) for c in constants],
        *[(11, i) for i in inputs],
        *[(12, o) for o in outputs],
    )


def model(graph, opset=18, producer="", functions=(), opsets=()):
    """A ModelProto of a graph."""
    imports = [message((1, d), (2, v)) for d, v in (("", opset), *opsets)]
    return message(
        (1, 8),
        (2, producer),
        (7, graph),
        *[(8, i) for i in imports],
        *[(25, f) for f in functions],
    )


def function(name, inputs, outputs, nodes, domain="own", attributes=(), opset=18):
    """A FunctionProto."""
    return message(
        (1, name),
        *[(4, n) for n in inputs],
        *[(5, n) for n in outputs],
        *[(6, n) for n in attributes],
        *[(7, n) for n in nodes],
        (9, message((1, ""), (2, opset))),
        (10, domain),
    )


def simple(*nodes, opset=18, inputs=("x",), outputs=("y",), constants=(), **options):
    """A model of nodes with float32 inputs and outputs of rank 2."""
    shape = ("B", 3)
    return model(
        graph(
            nodes,
            [value(n, "float32", shape) for n in inputs],
            [value(n, "float32", None) for n in outputs],
            constants,
        ),
        opset,
        **options,
    )
