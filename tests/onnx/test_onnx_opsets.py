"""Operators of every opset from 7 on become their newest form, and what is none is refused."""

import numpy as np
import pytest

from support import onnx_files as files
from treadle.onnx import schemas
from treadle.onnx.external_data import ExternalData
from treadle.onnx.importer import Importer
from treadle.onnx.protobuf import Wire
from treadle.onnx.reader import read_model


def graph_of(data):
    """The graph of a model; every operator of the table is supported."""
    model, others = read_model(Wire(data, "test")), ExternalData("test", None)
    return Importer(model, "test", others, schemas.SCHEMAS.__contains__).graph()


def upgraded(opset, op, inputs=("x",), outputs=("y",), constants=None, domain="", **attributes):
    """The nodes that one node becomes, inputs that are constants as arrays."""
    node = files.node(op, inputs, outputs, "n", domain, **attributes)
    data = files.simple(
        node,
        opset=opset,
        constants=constants or {},
        inputs=["x", "x2"],
        outputs=[n for n in outputs if n][:1],
        opsets=[(domain, 1)] if domain else [],
    )
    graph = graph_of(data)

    def seen(name):
        array = graph.constants.get(name)
        return name if array is None else (array.dtype.name, array.tolist())

    return [(n.op, [seen(i) for i in n.inputs], n.outputs, n.attributes) for n in graph.nodes]


INTS = "int64"
CHANGES = {
    "squeeze": (11, "Squeeze", {"axes": [0, 2]}, ["x", (INTS, [0, 2])], {}),
    "squeeze all": (11, "Squeeze", {}, ["x"], {}),
    "unsqueeze": (12, "Unsqueeze", {"axes": [1]}, ["x", (INTS, [1])], {}),
    "sum": (11, "ReduceSum", {"axes": [1], "keepdims": 0}, ["x", (INTS, [1])], {"keepdims": 0}),
    "mean": (13, "ReduceMean", {"axes": [-1]}, ["x", (INTS, [-1])], {}),
    "clip": (6 + 1, "Clip", {"min": 0.5}, ["x", ("float32", 0.5)], {}),
    "clip max": (10, "Clip", {"max": 6.0}, ["x", "", ("float32", 6.0)], {}),
    "pad": (
        10,
        "Pad",
        {"pads": [0, 1, 0, 2], "value": 1.5, "mode": "constant"},
        ["x", (INTS, [0, 1, 0, 2]), ("float32", 1.5)],
        {"mode": "constant"},
    ),
    "slice": (
        9,
        "Slice",
        {"starts": [0], "ends": [2**63 - 1], "axes": [1]},
        ["x", (INTS, [0]), (INTS, [2**63 - 1]), (INTS, [1])],
        {},
    ),
    "split": (12, "Split", {"axis": 1, "split": [1, 2]}, ["x", (INTS, [1, 2])], {"axis": 1}),
    "split equally": (11, "Split", {"axis": 1}, ["x"], {"axis": 1, "num_outputs": 2}),
    "topk": (9, "TopK", {"k": 3, "axis": 0}, ["x", (INTS, [3])], {"axis": 0}),
    "cast": (9, "Cast", {"to": 7}, ["x"], {"to": 7}),
    "cast to half": (13, "Cast", {"to": 10}, ["x"], {"to": 1}),
    "cast with saturate": (19, "Cast", {"to": 16, "saturate": 0}, ["x"], {"to": 1}),
    "norm": (
        9,
        "BatchNormalization",
        {"epsilon": 1.0, "momentum": 0.5},
        ["x", "x2", "x2", "x2", "x2"],
        {"epsilon": 1.0},
    ),
    "softmax": (11, "Softmax", {"axis": -1}, ["x"], {"axis": -1}),
    "new softmax": (13, "Softmax", {"axis": 0}, ["x"], {"axis": 0}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_older_forms(name):
    opset, op, attributes, inputs, expected = CHANGES[name]
    given = [i for i in inputs if i in ("x", "x2")]
    outputs = ("y", "z") if op in ("Split", "TopK") else ("y",)
    (found,) = upgraded(opset, op, given, outputs, **attributes)
    assert found == (op, inputs, list(outputs), expected)


@pytest.mark.parametrize("opset", [7, 9])
def test_upsample(opset):
    scales = [1.0, 2.0]
    if opset == 7:
        (found,) = upgraded(7, "Upsample", scales=scales, mode="linear")
    else:
        constants = {"s": np.array(scales, np.float32)}
        (found,) = upgraded(9, "Upsample", ["x", "s"], constants=constants, mode="linear")
    assert found[:2] == ("Resize", ["x", "", ("float32", scales)])
    assert found[3] == {
        "mode": "linear",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }


def test_resize():
    constants = {"s": np.ones(2, np.float32), "roi": np.zeros(0, np.float32)}
    (found,) = upgraded(10, "Resize", ["x", "s"], constants=constants)
    assert found[1] == ["x", "", ("float32", [1, 1])]
    constants["sizes"] = np.array([2, 2])
    constants["none"] = np.zeros(0, np.float32)
    (found,) = upgraded(11, "Resize", ["x", "roi", "none", "sizes"], constants=constants)
    assert found[1] == ["x", "", "", ("int64", [2, 2])]


def test_softmax_over_all_further_axes():
    found = upgraded(11, "LogSoftmax", axis=1)
    assert [op for op, *_ in found] == ["Flatten", "LogSoftmax", "Shape", "Reshape"]
    assert found[0][3] == {"axis": 1}
    assert found[1][3] == {"axis": -1}
    assert found[3][2] == ["y"]


def test_dropout():
    assert upgraded(7, "Dropout", ratio=0.5) == [("Identity", ["x"], ["y"], {})]
    constants = {"ratio": np.float32(0.5), "training": np.array(False)}
    found = upgraded(13, "Dropout", ["x", "ratio", "training"], ["y", "mask"], constants)
    assert [op for op, *_ in found] == ["Identity", "Shape", "ConstantOfShape"]
    assert found[2][2] == ["mask"]
    constants["training"] = np.array(True)
    with pytest.raises(ValueError, match=r"node 'n' \(Dropout\) is in training mode"):
        upgraded(13, "Dropout", ["x", "ratio", "training"], ["y"], constants)


def test_group_norm_of_opset_18():
    found = upgraded(18, "GroupNormalization", ["x", "x2", "x2"], num_groups=2, epsilon=0.5)
    assert [op for op, *_ in found] == ["Reshape", "InstanceNormalization", "Shape", "Reshape"]
    assert found[0][1] == ["x", ("int64", [0, 2, -1])]
    assert found[1][3] == {"epsilon": 0.5}
    (found,) = upgraded(21, "GroupNormalization", ["x", "x2", "x2"], num_groups=2)
    assert found[0] == "GroupNormalization"


MICROSOFT = {
    "FusedConv": (
        ["x", "x2", "", "x"],
        {"activation": "LeakyRelu", "activation_params": [0.5], "group": 2},
        [("Conv", {"group": 2}), ("Add", {}), ("LeakyRelu", {"alpha": 0.5})],
    ),
    "FusedGemm": (
        ["x", "x2"],
        {"activation": "Relu", "transB": 1, "activation_alpha": 0.0},
        [("Gemm", {"transB": 1}), ("Relu", {})],
    ),
    "FusedMatMul": (["x", "x2"], {"alpha": 0.5}, [("MatMul", {}), ("Mul", {})]),
    "Gelu": (["x"], {}, [("Gelu", {})]),
    "FastGelu": (["x", "x2"], {}, [("Add", {}), ("Gelu", {"approximate": "tanh"})]),
    "BiasGelu": (["x", "x2"], {}, [("Add", {}), ("Gelu", {})]),
    "QuickGelu": (["x"], {"alpha": 2.0}, [("Mul", {}), ("Sigmoid", {}), ("Mul", {})]),
    "SkipLayerNormalization": (
        ["x", "x2", "x"],
        {"epsilon": 0.5},
        [("Add", {}), ("LayerNormalization", {"epsilon": 0.5})],
    ),
    "DynamicQuantizeMatMul": (
        ["x", "x2", "x"],
        {},
        ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul", "Identity"],
    ),
    "MatMulIntegerToFloat": (
        ["x", "x2", "x", "x2", "", "", "x"],
        {},
        ["MatMulInteger", "Cast", "Mul", "Mul", "Add"],
    ),
}


@pytest.mark.parametrize("op", MICROSOFT)
def test_operators_of_onnx_runtime(op):
    inputs, attributes, expected = MICROSOFT[op]
    found = upgraded(17, op, inputs, domain="com.microsoft", **attributes)
    if isinstance(expected[0], str):
        assert [op for op, *_ in found] == expected
    else:
        assert [(op, attributes) for op, _, _, attributes in found] == expected
    assert found[-1][2] == ["y"]


@pytest.mark.parametrize("opset", [6, 29, 0, -1])
def test_opsets_out_of_range(opset):
    with pytest.raises(ValueError, match=rf"has the opset {opset}, expected 7 to 28"):
        graph_of(files.simple(files.node("Relu", ["x"], ["y"]), opset=opset))


def test_opset_must_be_said():
    graph = files.graph([files.node("Relu", ["x"], ["y"])], [files.value("x")], [files.value("y")])
    with pytest.raises(ValueError, match="does not say the version of its operators"):
        graph_of(files.message((1, 8), (7, graph)))


def test_unsupported_operators_are_named_at_once():
    nodes = [
        files.node("NonMaxSuppression", ["x"], ["a"], "first"),
        files.node("NonMaxSuppression", ["a"], ["b"], "second"),
        files.node("Relu", ["b"], ["c"]),
        files.node("Normalizer", ["c"], ["d"], "last", "ai.onnx.ml"),
        files.node("treadle.Linear", ["d"], ["y"], "own"),
    ]
    with pytest.raises(ValueError, match="needs operators that treadle has not") as error:
        graph_of(files.simple(*nodes, opsets=[("ai.onnx.ml", 3)]))
    assert str(error.value).endswith(
        "NonMaxSuppression (2 nodes, the first 'first'), ai.onnx.ml.Normalizer (1 node, 'last'), "
        "treadle.Linear (1 node, 'own')"
    )


WRONG = {
    "unknown attribute": (("Relu", ["x"], ["y"]), {"alpha": 1.0}, "has the attribute 'alpha'"),
    "kind": (("LeakyRelu", ["x"], ["y"]), {"alpha": 1}, "alpha of kind int, expected float"),
    "kind of an old one": (("Squeeze", ["x"], ["y"]), {"axes": "0"}, "attribute axes of a wrong"),
    "required": (("Concat", ["x"], ["y"]), {}, "lacks the attribute axis"),
    "inputs": (("Add", ["x"], ["y"]), {}, "has 1 inputs, expected 2"),
    "many inputs": (("Relu", ["x", "x"], ["y"]), {}, "has 2 inputs, expected 1"),
    "absent input": (("Add", ["", "x"], ["y"]), {}, "lacks one of its first 2 inputs"),
    "outputs": (("Relu", ["x"], ["y", "z"]), {}, "has 2 outputs, expected 1"),
    "missing": (("Add", ["x", "z"], ["y"]), {}, "reads 'z', which no input"),
    "circle": (("Add", ["x", "y"], ["y"]), {}, "reads 'y', which only a later node"),
    "twice": (("Split", ["x"], ["y", "y"]), {}, "defines 'y' twice"),
    "input made again": (("Relu", ["x"], ["x"]), {}, "defines 'x' twice"),
    "no output": (("Relu", ["x"], ["z"]), {}, "an output reads 'y', which no input"),
    "dtype": (("Cast", ["x"], ["y"]), {"to": 8}, "makes the dtype string, expected"),
    "unknown dtype": (("Cast", ["x"], ["y"]), {"to": 99}, "the unknown code 99"),
    "spatial": (("BatchNormalization", ["x"] * 5, ["y"]), {"spatial": 0}, "has spatial = 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_nodes(name):
    node, attributes, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        graph_of(files.simple(files.node(*node, **attributes), opset=8))


def test_scan_of_opset_8():
    with pytest.raises(ValueError, match="is a Scan of opset 8, expected one of opset 9"):
        upgraded(8, "Scan", num_scan_inputs=1)


def test_schemas_are_onnx():
    """Every line of the table is what the package onnx says of the operator."""
    onnx = pytest.importorskip("onnx")
    kinds = {
        "INT": "int",
        "FLOAT": "float",
        "STRING": "str",
        "TENSOR": "tensor",
        "GRAPH": "graph",
        "INTS": "ints",
        "FLOATS": "floats",
        "STRINGS": "strs",
    }
    many = {2**31 - 1: schemas._MANY}
    for op, schema in schemas.SCHEMAS.items():
        theirs = onnx.defs.get_schema(op, schemas.NEWEST_OPSET)
        assert schema.inputs[0] == theirs.min_input, op
        assert schema.inputs[1] <= many.get(theirs.max_input, theirs.max_input), op
        assert schema.outputs[0] == theirs.min_output, op
        assert schema.outputs[1] <= many.get(theirs.max_output, theirs.max_output), op
        attributes = {n: kinds[a.type.name] for n, a in theirs.attributes.items()}
        assert schema.attributes.items() <= attributes.items(), op
        required = [n for n, a in theirs.attributes.items() if a.required]
        assert sorted(schema.required) == sorted(required), op


def test_tables_of_numbers_are_arrays():
    """An attribute with a tensor becomes an array."""
    value = ("tensor", files.tensor("", np.array([2.5], np.float32)))
    ((_, _, _, attributes),) = upgraded(18, "ConstantOfShape", value=value)
    assert attributes["value"].tolist() == [2.5]
