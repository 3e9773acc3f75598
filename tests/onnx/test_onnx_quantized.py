"""Quantised models give the numbers of ONNX Runtime: what its tools write, in small.

ONNX Runtime fuses quantised operators into kernels of integers unless that is turned off: both ways
are compared. Rounding to a level may fall on either side where a number lies in the middle, so that
single results differ by a level; a wrong zero point, scale or axis makes all of them differ.
"""

import numpy as np
import pytest

from treadle.graph.model import Model
from treadle.onnx.load import read_graph

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
helper = onnx.helper


def compare(nodes, inputs, constants, outputs, level=0.0, fused=True):
    """Run a model both ways. Results agree to 1e-5 of the largest, and at most one in fifty lies
    one level further."""
    code = helper.np_dtype_to_tensor_dtype
    values = [helper.make_tensor_value_info(n, code(a.dtype), a.shape) for n, a in inputs.items()]
    results = [helper.make_value_info(n, onnx.TypeProto()) for n in outputs]
    arrays = [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "g", values, results, arrays)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    found = Model(read_graph(data, "test", None)[0])(**inputs)
    levels = onnxruntime.GraphOptimizationLevel
    for chosen in (levels.ORT_DISABLE_ALL, *[levels.ORT_ENABLE_ALL] * fused):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = chosen
        options.intra_op_num_threads = 1  # on several, rows of a batch get scales of their own
        expected = onnxruntime.InferenceSession(data, options).run(outputs, inputs)
        for name, wanted in zip(outputs, expected, strict=True):
            result = found[name]
            assert result.dtype == wanted.dtype
            if wanted.dtype.kind == "f":
                error, tolerance = np.abs(result - wanted), 1e-5 * np.abs(wanted).max()
                assert error.max() <= tolerance + level, (name, error.max())
                assert (error > tolerance).mean() <= 0.02 * (level > 0), name
            else:
                np.testing.assert_array_equal(result, wanted, err_msg=name)


def codes(rng, dtype, *shape):
    info = np.iinfo(dtype)
    return rng.integers(info.min + 1, info.max + 1, size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("each", [False, True], ids=["scale", "scales"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_quantized_lstm(isa, dtype, each, direction):
    rng = np.random.default_rng(0)
    d = 2 if direction == "bidirectional" else 1
    for t, b, i, h in ((1, 1, 5, 7), (6, 3, 16, 32), (4, 2, 40, 17)):
        scales = (d, 4 * h) if each else (d,)
        zero = 0 if dtype == "int8" else 128
        constants = {
            "w": codes(rng, dtype, d, i, 4 * h),
            "r": codes(rng, dtype, d, h, 4 * h),
            "b": rng.normal(size=(d, 8 * h)).astype(np.float32),
            "ws": rng.uniform(0.002, 0.01, size=scales).astype(np.float32),
            "wz": np.full(scales, zero, dtype),
            "rs": rng.uniform(0.002, 0.01, size=scales).astype(np.float32),
            "rz": np.full(scales, zero, dtype),
        }
        names = ["x", "w", "r", "b", "", "h", "c", "", "ws", "wz", "rs", "rz"]
        if not each and t == 1:
            names[5] = names[6] = ""
        node = helper.make_node(
            "DynamicQuantizeLSTM",
            names,
            ["y", "h_n", "c_n"],
            domain="com.microsoft",
            hidden_size=h,
            direction=direction,
        )
        inputs = {
            "x": rng.normal(size=(t, b, i)).astype(np.float32),
            "h": rng.normal(size=(d, b, h)).astype(np.float32),
            "c": rng.normal(size=(d, b, h)).astype(np.float32),
        }
        given = {name: array for name, array in inputs.items() if name in names}
        compare([node], given, constants, ["y", "h_n", "c_n"], fused=False)


def test_dynamic_quantization_of_a_product(isa):
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=1),
        helper.make_node("Mul", ["s", "ws"], ["scale"]),
        helper.make_node("Mul", ["f", "scale"], ["y"]),
    ]
    constants = {
        "w": codes(rng, "int8", 33, 20),
        "wz": np.zeros((), np.int8),
        "ws": np.array(0.01, np.float32),
    }
    x = rng.normal(size=(3, 5, 33)).astype(np.float32)
    compare(nodes, {"x": x}, constants, ["y", "q", "s", "z", "i"])


def test_dynamic_quantization_of_a_convolution(isa):
    rng = np.random.default_rng(2)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("ConvInteger", ["q", "w", "z", "wz"], ["i"], pads=[1, 1, 1, 1]),
        helper.make_node("Cast", ["i"], ["f"], to=1),
        helper.make_node("Mul", ["f", "s"], ["y"]),
    ]
    constants = {"w": codes(rng, "uint8", 6, 4, 3, 3), "wz": np.array(120, np.uint8)}
    x = rng.normal(size=(2, 4, 9, 7)).astype(np.float32)
    compare(nodes, {"x": x}, constants, ["y", "i"])


@pytest.mark.parametrize("op", ["Conv", "MatMul", "Gemm"])
def test_quantized_and_dequantized(isa, op):
    """QDQ, as static quantization writes it: levels of the input, weights of 8 bits by channel."""
    rng = np.random.default_rng(3)
    shape, axis = {"Conv": ((6, 4, 3, 3), 0), "MatMul": ((33, 6), 1), "Gemm": ((6, 33), 0)}[op]
    constants = {
        "w": codes(rng, "int8", *shape),
        "ws": rng.uniform(0.002, 0.01, size=6).astype(np.float32),
        "wz": np.zeros(6, np.int8),
        "xs": np.array(0.03, np.float32),
        "xz": np.array(117, np.uint8),
        "ys": np.array(0.1, np.float32),
        "yz": np.array(3, np.uint8),
    }
    attributes = {"transB": 1} if op == "Gemm" else {}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=axis),
        helper.make_node(op, ["xd", "wd"], ["f"], **attributes),
        helper.make_node("QuantizeLinear", ["f", "ys", "yz"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "ys", "yz"], ["y"]),
    ]
    x = rng.normal(size=(2, 4, 9, 7) if op == "Conv" else (5, 33)).astype(np.float32)
    compare(nodes, {"x": x}, constants, ["y", "xq"], 0.1001)
