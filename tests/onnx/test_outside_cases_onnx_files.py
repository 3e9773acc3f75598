"""Damaged and hostile model files of ONNX: each is read or refused, and takes little memory."""

import tracemalloc
from contextlib import suppress

import numpy as np
import pytest

from support import onnx_files as files
from support import onnx_mutations
from treadle.onnx import importer, protobuf
from treadle.onnx.load import read_graph


def read(data):
    return read_graph(data, "test", None)[0]


def lengths(depth, number, inner=b""):
    """A message within messages, each the given field of the one around it."""
    parts = [inner]
    size = len(inner)
    for _ in range(depth):
        head = files.varint(number << 3 | 2) + files.varint(size)
        parts.append(head)
        size += len(head)
    return b"".join(reversed(parts))


def nested_ifs(depth):
    """If nodes within the branches of If nodes."""
    graph = files.graph([], [], [files.value("c", "bool", ())])
    for _ in range(depth):
        branches = {"then_branch": ("graph", graph), "else_branch": ("graph", graph[:2])}
        node = files.node("If", ["c"], ["y"], then_branch=branches["then_branch"])
        graph = files.graph([node], [], [files.value("y")])
    return files.model(graph)


def calls(depth, width):
    """Functions that call the next one several times each: exponential when taken apart."""
    functions = []
    for i in range(depth):
        op = {"domain": "own"} if i + 1 < depth else {}
        name = f"F{i + 1}" if i + 1 < depth else "Relu"
        nodes = [files.node(name, ["x"], [f"y{j}"], **op) for j in range(width)]
        functions.append(files.function(f"F{i}", ["x"], ["y0"], nodes))
    call = files.node("F0", ["x"], ["y"], domain="own")
    return files.simple(call, functions=functions, opsets=[("own", 1)])


RECURSIVE = files.function("F", ["x"], ["y"], [files.node("F", ["x"], ["y"], domain="own")])
RELU = files.node("Relu", ["x"], ["y"])


def with_tensor(*fields):
    """A model whose constant has these fields."""
    tensor = files.message((8, "c"), *fields)
    return files.simple(files.node("Add", ["x", "c"], ["y"]), constants=[tensor])


HOSTILE = {
    "empty": (b"", "has no graph"),
    "text": (b"not a model at all, but text", "expected"),
    "zeros": (bytes(1000), "has a field 0 at byte 0"),
    "wire type": (b"\x0b\x08", "has the wire type 3 at byte 0"),
    "length beyond the end": (
        b"\x3a\xff\xff\xff\xff\x0f",
        "claims 4294967295 bytes for its field 7",
    ),
    "length of 2**64": (b"\x3a" + b"\xff" * 9 + b"\x01", "claims 18446744073709551615 bytes"),
    "endless number": (b"\x08" + b"\xff" * 100, "a number without an end"),
    "number cut short": (b"\x08\x80", "a number without an end"),
    "key alone": (b"\x08", "ends within its field"),
    "float cut short": (b"\x15\0\0", "ends within its field"),
    "number for a message": (files.message((7, 5)), "has the wire type varint, expected bytes"),
    "name that is no text": (files.message((2, b"\xff\xfe")), "is not UTF-8"),
    "two graphs": (files.message((7, b""), (7, b"")), "has two graphs"),
    "no outputs": (files.model(files.graph([], [], [])), "has the outputs []"),
    "deep messages": (lengths(10**5, 7), "expected"),
    "deep graphs": (nested_ifs(17), "graphs within graphs to a depth of more than 16"),
    "function of itself": (
        files.simple(
            files.node("F", ["x"], ["y"], domain="own"),
            functions=[RECURSIVE],
            opsets=[("own", 1)],
        ),
        "called at a depth of 24",
    ),
    "sizes of 2**62": (with_tensor((1, 2**62), (1, 4), (2, 1)), "expected less than"),
    "negative size": (with_tensor((1, -1), (2, 1)), "sizes >= 0"),
    "size of 2**63": (with_tensor((1, 2**63), (2, 1)), "sizes >= 0"),
    "zero times 2**62": (with_tensor((1, 0), (1, 2**62), (2, 1)), "expected less than"),
    "nine sizes": (with_tensor(*[(1, 1)] * 9, (2, 1), (9, bytes(4))), "expected at most 8"),
    "bytes missing": (with_tensor((1, 2**40), (2, 1), (9, bytes(8))), "has 8 bytes, expected"),
    "bytes left over": (with_tensor((1, 1), (2, 1), (9, bytes(8))), "has 8 bytes, expected 4"),
    "numbers missing": (with_tensor((1, 2**40), (2, 7), (7, b"\1")), "has 1 numbers, expected"),
    "numbers too large": (with_tensor((1, 1), (2, 3), (5, 128)), r"outside of \[-128, 127\]"),
    "halves too large": (with_tensor((1, 1), (2, 10), (5, -1)), r"outside of \[0, 65535\]"),
    "packed number cut short": (with_tensor((1, 1), (2, 7), (7, b"\x80")), "without an end|has 0"),
    "packed number too long": (
        with_tensor((1, 1), (2, 7), (7, b"\x80" * 10 + b"\1")),
        "without an end",
    ),
    "floats cut short": (with_tensor((1, 1), (2, 1), (4, bytes(3))), "expected a multiple of 4"),
    "strings": (with_tensor((1, 1), (2, 8), (6, "text")), "the dtype string"),
    "int4": (with_tensor((1, 2), (2, 22), (9, b"\1")), "the dtype int4"),
    "dtype of 99": (with_tensor((1, 2), (2, 99), (9, b"\1")), "of the unknown code 99"),
    "data somewhere": (with_tensor((1, 1), (2, 1), (14, 2)), "has the data_location 2"),
    "sparse tensors": (
        files.model(files.graph([RELU], [files.value("x")], [files.value("y")]) + b"\x7a\0"),
        "has sparse tensors",
    ),
    "string input": (
        files.model(files.graph([RELU], [files.value("x", 8)], [files.value("y")])),
        "input 'x' has the dtype string",
    ),
    "sequence": (
        files.model(
            files.graph([RELU], [files.message((1, "x"), (2, b"\x22\0"))], [files.value("y")])
        ),
        "input 'x' is a sequence, expected a tensor",
    ),
    "input without a name": (
        files.model(files.graph([RELU], [files.value("")], [files.value("y")])),
        "an input has no name",
    ),
    "one input twice": (
        files.model(files.graph([RELU], [files.value("x")] * 2, [files.value("y")])),
        "defines 'x' twice",
    ),
    "one output twice": (
        files.model(files.graph([RELU], [files.value("x")], [files.value("y")] * 2)),
        "has the outputs",
    ),
    "attribute of two kinds": (
        files.simple(
            files.node("Flatten", ["x"], ["y"])
            + files.field(5, files.message((1, "axis"), (3, 1), (2, 1.0), (20, 2)))
        ),
        "has float too, expected int only",
    ),
    "attribute without a value": (
        files.simple(
            files.node("ConstantOfShape", ["x"], ["y"])
            + files.field(5, files.message((1, "value"), (20, 4)))
        ),
        "of type tensor has no tensor",
    ),
    "attribute of a type of 77": (
        files.simple(RELU + files.field(5, files.message((1, "a"), (20, 77)))),
        "has the type 77",
    ),
    "attribute twice": (
        files.simple(
            files.node("Flatten", ["x"], ["y"], axis=1) + files.field(5, files.attribute("axis", 1))
        ),
        "has the attribute 'axis' twice",
    ),
    "reference outside of a function": (
        files.simple(RELU + files.field(5, files.message((1, "a"), (21, "b")))),
        "expected a node within one",
    ),
    "two opsets": (
        files.simple(RELU, opsets=[("ai.onnx", 17)]),
        "names two versions of the operators",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name):
    data, words = HOSTILE[name]
    with pytest.raises(ValueError, match=words.replace("[]", r"\[\]")):
        read(data)


def test_the_limit_of_nested_graphs_is_met():
    """Messages nested 10**5 deep where graphs can nest: refused at the limit, not by the stack."""
    inner = b""
    for _ in range(2000):
        attribute = files.message((1, "g"), (6, inner), (20, 5))
        inner = files.message((1, files.message((4, "If"), (5, attribute))))
    with pytest.raises(ValueError, match="depth of more than 16"):
        read(files.message((7, inner)))


BOMBS = {
    "fields": b"\x18\1" * 2**17,
    "nodes": files.message((7, b"\x0a\0" * 2**16)),
    "inputs": files.message((7, b"\x5a\0" * 2**16)),
    "constants": files.message((7, b"\x2a\0" * 2**16)),
    "sizes": with_tensor(*[(1, 1)] * 2**16, (2, 1)),
    "numbers": with_tensor((1, 2**18), (2, 7), (7, b"\0" * 2**18)),
    "names": files.message((7, files.message((1, b"\x0a\0" * 2**17)))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_memory_follows_the_size_of_the_file(name, monkeypatch):
    """However many messages a file has of two bytes each, a limit is met before memory is.

    Here the limits are a sixteenth of what they are, since counting memory takes long.
    """
    assert protobuf.MOST_MESSAGES == 2**18
    monkeypatch.setattr(protobuf, "MOST_MESSAGES", 2**14)
    data = BOMBS[name]
    tracemalloc.start()
    try:
        with suppress(ValueError):
            read(data)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 32 * len(data) + 2**23, peak / len(data)


def feature_rich():
    """A small model with a branch, a loop's body, a function and constants of every kind."""
    branch = files.graph([files.node("Relu", ["s"], ["r"])], [], [files.value("r")])
    other = files.graph(
        [
            files.node("Constant", [], ["k"], value=("tensor", files.tensor("", np.float32(2)))),
            files.node("Mul", ["s", "k"], ["r"]),
        ],
        [],
        [files.value("r")],
    )
    function = files.function(
        "F", ["a"], ["b"], [files.node("Neg", ["a"], ["n"]), files.node("Exp", ["n"], ["b"])]
    )
    packed = files.message((1, 2), (2, 7), (8, "axes"), (7, b"\0\xff" + b"\xff" * 8 + b"\1"))
    nodes = [
        files.node("F", ["x"], ["f"], domain="own"),
        files.node("Add", ["f", "w"], ["s"], "sum"),
        files.node("If", ["c"], ["i"], then_branch=("graph", branch), else_branch=("graph", other)),
        files.node("Concat", ["i", "x"], ["t"], axis=-1),
        files.node("ReduceMean", ["t", "axes"], ["y"], keepdims=1),
    ]
    graph = files.graph(
        nodes,
        [files.value("x", "float32", ("B", 3)), files.value("c", "bool", ())],
        [files.value("y", "float32", None)],
        [files.tensor("w", np.ones(3, np.float32)), packed],
    )
    return files.model(graph, functions=[function], opsets=[("own", 1)])


@pytest.mark.parametrize("seed", range(8))
def test_mutations(seed):
    """Single bytes, lengths and whole pieces changed: nothing but the documented errors."""
    rng = np.random.default_rng(seed)
    original = feature_rich()
    for _ in range(150):
        onnx_mutations.use(onnx_mutations.mutated(original, rng))


def test_every_cut():
    """A file that ends early is refused wherever it ends."""
    data = feature_rich()
    read(data)
    for end in range(len(data)):
        try:
            graph = read(data[:end])
        except ValueError:
            continue
        assert [v.name for v in graph.outputs] == ["y"]  # the graph was complete


def test_exponential_functions(monkeypatch):
    """Functions that call the next one several times are taken apart to the limit of nodes."""
    assert importer.MOST_NODES == 2**17
    monkeypatch.setattr(importer, "MOST_NODES", 2000)
    with pytest.raises(ValueError, match="has more than 2000 nodes, functions included"):
        read(calls(12, 8))
