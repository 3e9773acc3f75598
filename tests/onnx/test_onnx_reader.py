"""Model files of ONNX become graphs: tensors in every form, names, functions, warnings."""

import warnings
from contextlib import suppress

import numpy as np
import pytest

import treadle.onnx
from support import onnx_files as files
from treadle.onnx.load import read_graph
from treadle.onnx.protobuf import Part, Wire

RNG = np.random.default_rng(0)


def graph_of(data):
    """The graph of a model; a warning would be an error."""
    graph, messages = read_graph(data, "test", None)
    assert messages == []
    return graph


def constant(tensor):
    """The array that a model has for a TensorProto with the name c."""
    data = files.simple(files.node("Add", ["x", "c"], ["y"]), constants=[tensor])
    return graph_of(data).constants["c"]


def test_structure():
    data = files.simple(
        files.node("Add", ["x", "c"], ["s"], "first"),
        files.node("Concat", ["s", "", "x"], ["y"], axis=-1),
        constants={"c": np.arange(3, dtype=np.float32), "unused": np.zeros(5)},
    )
    graph = graph_of(data)
    assert [(v.name, v.dtype, v.shape) for v in graph.inputs] == [("x", "float32", ("B", 3))]
    assert [(v.name, v.dtype, v.shape) for v in graph.outputs] == [("y", "float32", None)]
    assert [(n.op, n.inputs, n.outputs, n.name) for n in graph.nodes] == [
        ("Add", ["x", "c"], ["s"], "first"),
        ("Concat", ["s", "", "x"], ["y"], "Concat 1"),
    ]
    assert graph.nodes[1].attributes == {"axis": -1}
    assert list(graph.constants) == ["c"]


@pytest.mark.parametrize("name", files.CODES)
@pytest.mark.parametrize("form", ["raw", "packed", "single"])
def test_dtypes(name, form):
    """Raw bytes, packed numbers and single ones give the same array, float16 as float32."""
    if name == "bool":
        values = np.array([[True, False, True]])
    elif name == "bfloat16":
        values = (RNG.normal(size=(1, 3)).astype("f4").view("u4") >> 16).astype(np.uint16)
    elif "float" in name:
        values = RNG.normal(size=(1, 3)).astype(name)
    else:
        info = np.iinfo(name)
        values = np.array([[info.min, info.max, 7]], name)
    head = [(1, 1), (1, 3), (2, files.CODES[name]), (8, "c")]
    if form == "raw":
        tensor = files.message(*head, (9, values.astype(values.dtype.newbyteorder("<")).tobytes()))
    else:
        number = {"float32": 4, "float64": 10, "int64": 7, "uint64": 11, "uint32": 11}.get(name, 5)
        bits = values.view(np.uint16) if name == "float16" else values
        numbers = bits.reshape(-1).tolist()
        if form == "packed" and number in (4, 10):
            content = [(number, values.astype(f"<{values.dtype.kind}{values.itemsize}").tobytes())]
        elif form == "packed":
            content = [(number, b"".join(files.varint(int(n)) for n in numbers))]
        elif number == 10:
            key = files.varint(10 << 3 | 1)
            tensor = files.message(*head) + b"".join(
                key + np.array(n, "<f8").tobytes() for n in numbers
            )
            content = None
        else:
            content = [(number, float(n) if number == 4 else int(n)) for n in numbers]
        if content is not None:
            tensor = files.message(*head, *content)
    expected = values
    if name == "bfloat16":
        expected = (values.astype(np.uint32) << 16).view(np.float32)
    elif name == "float16":
        expected = values.astype(np.float32)
    array = constant(tensor)
    assert array.dtype == expected.dtype
    assert array.dtype.isnative
    assert array.flags.aligned
    assert array.flags.c_contiguous
    assert np.array_equal(array, expected)


def test_many_packed_numbers():
    """More numbers than are decoded at a time, of one to ten bytes."""
    numbers = RNG.integers(-(2**63), 2**63 - 1, 60_000) >> RNG.integers(0, 63, 60_000)
    packed = b"".join(files.varint(int(n)) for n in numbers)
    assert len(packed) > 2**17
    tensor = files.message((1, numbers.size), (2, 7), (8, "c"), (7, packed))
    assert np.array_equal(constant(tensor), numbers)


def test_empty_and_scalar_tensors():
    assert constant(files.tensor("c", np.zeros((0, 3), np.float32))).shape == (0, 3)
    assert constant(files.tensor("c", np.float32(2.5))).shape == ()
    assert constant(files.message((1, 0), (2, 7), (8, "c"))).shape == (0,)


def test_bools_are_zero_or_one():
    array = constant(files.message((1, 3), (2, 9), (8, "c"), (9, b"\0\x02\xff")))
    assert array.view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value": ("tensor", files.tensor("", np.array([3, 4])))}, np.array([3, 4])),
        ({"value_float": 2.5}, np.float32(2.5)),
        ({"value_floats": [1.5, 2.0]}, np.array([1.5, 2], np.float32)),
        ({"value_int": -3}, np.array(-3)),
        ({"value_ints": [1, -(2**63)]}, np.array([1, -(2**63)])),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_constant_nodes(attributes, expected):
    data = files.simple(
        files.node("Constant", [], ["c"], **attributes), files.node("Add", ["x", "c"], ["y"])
    )
    graph = graph_of(data)
    assert [n.op for n in graph.nodes] == ["Add"]
    array = graph.constants["c"]
    assert array.dtype == expected.dtype
    assert np.array_equal(array, expected)


def test_unused_constants_may_be_anything():
    strings = files.message((1, 1), (2, 8), (6, "text"), (8, "s"))
    data = files.simple(files.node("Relu", ["x"], ["y"]), constants=[strings])
    assert graph_of(data).constants == {}
    data = files.simple(files.node("Add", ["x", "s"], ["y"]), constants=[strings])
    with pytest.raises(ValueError, match="tensor 's' has the dtype string, expected one of"):
        graph_of(data)


def branch(name, op):
    """A graph whose names are those of the other branch, and of the graph around them."""
    return files.graph([files.node(op, ["x"], ["a"])], [], [files.value("a")], name=name)


def test_names_of_subgraphs_become_unique():
    condition = files.value("condition", "bool", ())
    branches = {
        "then_branch": ("graph", branch("then", "Relu")),
        "else_branch": ("graph", branch("else", "Neg")),
    }
    outer = files.graph(
        [files.node("If", ["condition"], ["y"], **branches), files.node("Abs", ["y"], ["a"])],
        [condition, files.value("x")],
        [files.value("a")],
    )
    graph = graph_of(files.model(outer))
    node = graph.nodes[0]
    names = [node.attributes[k].nodes[0].outputs[0] for k in ("then_branch", "else_branch")]
    assert len({*names, "a"}) == 3
    assert [node.attributes[k].outputs[0].name for k in ("then_branch", "else_branch")] == names
    assert node.attributes["then_branch"].nodes[0].inputs == ["x"]
    assert graph.outputs[0].name == "a"  # what users see keeps its name


def test_a_branch_may_hand_on_what_is_around_it():
    inner = files.graph([], [], [files.value("x")])
    outer = files.graph(
        [
            files.node(
                "If", ["c"], ["y"], then_branch=("graph", inner), else_branch=("graph", inner)
            )
        ],
        [files.value("c", "bool", ()), files.value("x")],
        [files.value("y")],
    )
    body = graph_of(files.model(outer)).nodes[0].attributes["then_branch"]
    assert [(n.op, n.inputs) for n in body.nodes] == [("Identity", ["x"])]
    assert body.outputs[0].name == body.nodes[0].outputs[0] != "x"


def test_constants_listed_as_inputs_are_constants():
    data = files.model(
        files.graph(
            [files.node("Add", ["x", "c"], ["y"])],
            [files.value("c", "float32", (3,)), files.value("x")],
            [files.value("y")],
            {"c": np.zeros(3, np.float32)},
        )
    )
    assert [v.name for v in graph_of(data).inputs] == ["x"]


def attribute_reference(name, refers, kind):
    """An AttributeProto that stands for one of the function's call."""
    return files.message((1, name), (20, kind), (21, refers))


def test_functions_are_taken_apart():
    scaled = files.node("LeakyRelu", ["a"], ["b"], "leaky") + files.field(
        5, attribute_reference("alpha", "slope", 1)
    )
    twice = [files.node("F", ["p", "q"], ["m"], domain="own"), files.node("Neg", ["m"], ["r"])]
    functions = [
        files.function("F", ["a", "absent"], ["b"], [scaled], attributes=["slope"]),
        files.function("G", ["p", "q"], ["r"], twice),
    ]
    nodes = [
        files.node("F", ["x"], ["b"], "outer", "own", slope=0.5),
        files.node("G", ["b", "x"], ["y"], domain="own"),
    ]
    data = files.simple(*nodes, functions=functions, opsets=[("own", 1)])
    graph = graph_of(data)
    assert [n.op for n in graph.nodes] == ["LeakyRelu", "LeakyRelu", "Neg"]
    assert [n.attributes for n in graph.nodes] == [{"alpha": 0.5}, {}, {}]
    assert graph.nodes[0].inputs == ["x"]
    assert graph.nodes[0].outputs == graph.nodes[1].inputs == ["b"]
    assert graph.nodes[1].outputs == graph.nodes[2].inputs
    assert graph.nodes[2].outputs == ["y"]
    assert graph.nodes[0].name == "outer/leaky"


def gru(producer, **attributes):
    weights = {"w": np.zeros((1, 6, 3), "f4"), "r": np.zeros((1, 6, 2), "f4")}
    node = files.node("GRU", ["x", "w", "r"], ["y"], "net", hidden_size=2, **attributes)
    return files.simple(node, constants=weights, producer=producer)


@pytest.mark.parametrize(
    ("producer", "attributes", "warned"),
    [
        ("pytorch", {}, True),
        ("pytorch", {"linear_before_reset": 0}, True),
        ("pytorch", {"linear_before_reset": 1}, False),
        ("tf2onnx", {}, False),
    ],
)
def test_gru_of_pytorch(producer, attributes, warned):
    messages = read_graph(gru(producer, **attributes), "file", None)[1]
    assert bool(messages) == warned
    if warned:
        assert "node 'net' (GRU) applies its reset gate before the product" in messages[0]


def test_fields_of_numbers():
    wire = Wire(files.message((1, 3), (2, "ab"), (3, 1.5), (2**29 - 1, 2**64 - 1)), "file")
    found = list(wire.fields(Part(0, len(wire.data)), "a message"))
    assert [(number, kind) for number, kind, _, _ in found] == [
        (1, 0),
        (2, 2),
        (3, 5),
        (536870911, 0),
    ]
    assert wire.integer(found[0], "n") == 3
    assert wire.text(found[1], "t") == "ab"
    assert wire.float32(found[2], "f") == 1.5
    assert wire.integer(found[3], "n") == -1


def test_load_says_what_another_file_is(tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    with pytest.raises(ValueError, match="expected a model of ONNX, is an HDF5 file"):
        treadle.onnx.load(path)
    with pytest.raises(TypeError, match="path is of type int, expected a path"):
        treadle.onnx.load(3)
    with pytest.raises(ValueError, match="not a regular file"):
        treadle.onnx.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        treadle.onnx.load(tmp_path / "nothing.onnx")


def test_load_warns_once(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(gru("pytorch"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with suppress(ValueError):  # of a program without GRUs
            treadle.onnx.load(path)
    assert [w.category for w in caught] == [UserWarning]
    assert caught[0].filename == __file__
