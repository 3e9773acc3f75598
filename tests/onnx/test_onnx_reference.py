"""Operators with random shapes and attributes, in old and new opsets, against onnx.reference.

The package's own node tests have a few fixed sizes. Here sizes, axes, strides, pads and modes are
drawn, inputs are constants or not, and older opsets are read as the reference reads them.
"""

import numpy as np
import pytest

from support import onnx_node_tests
from treadle.graph.model import Model
from treadle.onnx.load import read_graph

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
DRAWS = 12


def floats(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def pick(rng, *choices):
    return choices[int(rng.integers(len(choices)))]


def some_axes(rng, rank):
    axes = rng.permutation(rank)[: int(rng.integers(1, rank + 1))]
    return [int(a) - rank * int(rng.integers(2)) for a in axes]


def window(rng, dims, dilated=True):
    """Attributes of a window that slides over so many axes."""
    kernel = [int(rng.integers(1, 4)) for _ in range(dims)]
    found = {"kernel_shape": kernel, "strides": [int(rng.integers(1, 4)) for _ in range(dims)]}
    if dilated and rng.random() < 0.5:
        found["dilations"] = [int(rng.integers(1, 3)) for _ in range(dims)]
    if rng.random() < 0.6:
        found["pads"] = [int(rng.integers(0, k)) for k in kernel * 2]
    elif rng.random() < 0.4:
        found["auto_pad"] = pick(rng, "SAME_UPPER", "VALID")
        found.pop("dilations", None)
    return found


def conv(rng):
    dims, groups = pick(rng, 1, 2), pick(rng, 1, 1, 2, 3)
    attributes = window(rng, dims)
    depth = pick(rng, 1, 2)
    x = floats(rng, pick(rng, 1, 2), groups * depth, *rng.integers(7, 12, size=dims))
    w = floats(rng, groups * pick(rng, 1, 2, 17), depth, *attributes["kernel_shape"])
    bias = [floats(rng, len(w))] if rng.random() < 0.5 else []
    return [x, w, *bias], {**attributes, "group": groups}


def conv_transpose(rng):
    dims = pick(rng, 1, 2)
    attributes = window(rng, dims)
    attributes.pop("auto_pad", None)
    x = floats(rng, 1, 3, *rng.integers(2, 6, size=dims))
    if "pads" not in attributes:
        # The reference reads output_shape with auto_pad alone, and where strides are longer than
        # the taps makes more outputs than ONNX Runtime and treadle.
        attributes["auto_pad"] = pick(rng, "SAME_UPPER", "SAME_LOWER")
        attributes["strides"] = [int(rng.integers(1, k + 1)) for k in attributes["kernel_shape"]]
        if rng.random() < 0.5:
            attributes["output_shape"] = [
                (n - 1) * s + int(rng.integers(1, k + 1))
                for n, s, k in zip(
                    x.shape[2:], attributes["strides"], attributes["kernel_shape"], strict=True
                )
            ]
    if rng.random() < 0.3:
        attributes["output_padding"] = [int(rng.integers(s)) for s in attributes["strides"]]
    return [x, floats(rng, 3, pick(rng, 1, 4), *attributes["kernel_shape"])], attributes


def pool(rng, average=False):
    dims = pick(rng, 1, 2)
    attributes = window(rng, dims, dilated=False)
    if average:
        attributes["count_include_pad"] = pick(rng, 0, 1)
    return [floats(rng, 2, pick(rng, 1, 3, 17), *rng.integers(6, 11, size=dims))], attributes


def gemm(rng):
    m, n, k = (int(i) for i in rng.integers(1, 20, size=3))
    left, right = int(rng.integers(2)), int(rng.integers(2))
    a = floats(rng, *((k, m) if left else (m, k)))
    b = floats(rng, *((n, k) if right else (k, n)))
    c = [floats(rng, *pick(rng, (n,), (m, n), (m, 1), (1, n), ()))] if rng.random() < 0.8 else []
    attributes = {"transA": left, "transB": right, "alpha": pick(rng, 1.0, 0.5)}
    return [a, b, *c], {**attributes, "beta": pick(rng, 1.0, -2.0)} if c else attributes


def matmul(rng):
    k = int(rng.integers(1, 20))
    left, right = pick(
        rng,
        ((3, k), (k, 4)),
        ((2, 3, k), (k, 5)),
        ((2, 1, 3, k), (4, k, 2)),
        ((k,), (k, 3)),
        ((2, 3, k), (k,)),
        ((5, 1, k), (1, k, 17)),
    )
    return [floats(rng, *left), floats(rng, *right)], {}


def recurrent(gates, states):
    def draw(rng):
        directions = pick(rng, "forward", "reverse", "bidirectional")
        d = 2 if directions == "bidirectional" else 1
        t, b, i, h = (int(n) for n in rng.integers(1, 6, size=4))
        inputs = [floats(rng, t, b, i), floats(rng, d, gates * h, i), floats(rng, d, gates * h, h)]
        if rng.random() < 0.7:
            inputs.append(floats(rng, d, 2 * gates * h))
            if rng.random() < 0.6:
                inputs += [None, *[floats(rng, d, b, h) for _ in range(states)]]
        attributes = {"hidden_size": h, "direction": directions}
        if gates == 3:
            attributes["linear_before_reset"] = pick(rng, 0, 1)
        return inputs, attributes

    return draw


def reduction(rng):
    rank = pick(rng, 1, 2, 3, 4)
    x = np.abs(floats(rng, *rng.integers(1, 5, size=rank))) + 0.1
    return [x, ints(*some_axes(rng, rank))], {"keepdims": pick(rng, 0, 1)}


def old_reduction(rng):
    (x, axes), attributes = reduction(rng)
    return [x], {**attributes, "axes": axes.tolist()}


def with_axis(rng):
    rank = pick(rng, 1, 2, 3)
    return [floats(rng, *rng.integers(1, 20, size=rank))], {"axis": int(rng.integers(-rank, rank))}


def slices(rng):
    rank = pick(rng, 1, 2, 3)
    axes = some_axes(rng, rank)
    n = len(axes)
    steps = [pick(rng, 1, 1, 2, -1, -2) for _ in axes]
    inputs = [ints(*rng.integers(-8, 9, size=n)), ints(*rng.integers(-8, 9, size=n))]
    return [floats(rng, *rng.integers(1, 7, size=rank)), *inputs, ints(*axes), ints(*steps)], {}


def old_slices(rng):
    (x, starts, ends, axes, _), _ = slices(rng)
    names = {"starts": starts, "ends": ends, "axes": axes}
    return [x], {name: value.tolist() for name, value in names.items()}


def pads(rng):
    rank = pick(rng, 1, 2, 3)
    mode = pick(rng, "constant", "reflect", "edge")
    x = floats(rng, *rng.integers(4, 7, size=rank))
    counts = ints(*rng.integers(0, 4, size=2 * rank))
    value = [np.float32(2.5)] if mode == "constant" else []
    return [x, counts, *value], {"mode": mode}


def old_pads(rng):
    rank = pick(rng, 2, 3)
    counts = [int(n) for n in rng.integers(0, 3, size=2 * rank)]
    return [floats(rng, *[4] * rank)], {"pads": counts, "value": 1.5}


def resize(rng):
    x = floats(rng, 1, pick(rng, 1, 3), *rng.integers(2, 6, size=2))
    mode = pick(rng, "nearest", "linear")
    places = pick(rng, "asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel")
    attributes = {"mode": mode, "coordinate_transformation_mode": places}
    if mode == "nearest":
        attributes["nearest_mode"] = pick(rng, "floor", "ceil", "round_prefer_floor")
    sizes = ints(1, x.shape[1], *rng.integers(2, 10, size=2))
    return [x, None, None, sizes], attributes


def upsample(rng):
    scales = np.array([1, 1, pick(rng, 1, 2, 3), pick(rng, 1, 2)], np.float32)
    return [floats(rng, 1, 2, 3, 4), scales], {"mode": "nearest"}


def gather(rng):
    rank = pick(rng, 1, 2, 3)
    x = floats(rng, *rng.integers(2, 6, size=rank))
    axis = int(rng.integers(-rank, rank))
    shape = rng.integers(1, 4, size=pick(rng, 0, 1, 2))
    indices = rng.integers(-x.shape[axis], x.shape[axis], size=shape)
    return [x, np.asarray(indices, np.int64)], {"axis": axis}


# Shapes that broadcast to each other.
SHAPES = (
    *(((3, 4), (4,)), ((2, 1, 5), (3, 1)), ((), (2, 3)), ((2, 3), (2, 3)), ((1,), (4,))),
    *(((2, 3, 17), (2, 1, 1)), ((3, 0), (1, 1))),
)


def broadcast(rng):
    shapes = pick(rng, *SHAPES)
    return [floats(rng, *shapes[0]), floats(rng, *shapes[1])], {}


def positive(rng):
    (x,), _ = elementwise(rng)
    return [np.abs(x) + np.float32(0.1)], {}


def elementwise(rng):
    return [3 * floats(rng, *rng.integers(1, 20, size=pick(rng, 0, 1, 2, 3)))], {}


def norm(rng):
    rank = pick(rng, 2, 3)
    x = floats(rng, *rng.integers(2, 20, size=rank))
    axis = pick(rng, -1, rank - 1, 1)
    shape = x.shape[axis % rank :]
    return [x, floats(rng, *shape), floats(rng, *shape)], {"axis": axis, "epsilon": 1e-3}


def channels(rng, inputs):
    shape = (2, pick(rng, 1, 3, 17), *rng.integers(2, 6, size=pick(rng, 1, 2)))
    x = floats(rng, *shape)
    others = [floats(rng, shape[1]) for _ in range(inputs - 1)]
    if inputs == 5:
        others[-1] = np.abs(others[-1]) + 0.1
    return [x, *others], {"epsilon": 1e-3}


def split(rng):
    return [floats(rng, 4, pick(rng, 2, 4, 6))], {"axis": pick(rng, 1, -1)}


def top(rng):
    x = rng.permutation(40).astype(np.float32).reshape(2, 4, 5)
    axis = int(rng.integers(-3, 3))
    count = ints(int(rng.integers(1, 1 + x.shape[axis])))
    return [x, count], {"axis": axis, "largest": pick(rng, 0, 1)}


def where(rng):
    (x, y), _ = broadcast(rng)
    return [rng.random(pick(rng, x.shape, y.shape)) < 0.5, x, y], {}


def expand(rng):
    return [floats(rng, 3, 1), ints(*pick(rng, (3, 4), (2, 3, 1), (1,), (2, 1, 5)))], {}


def scatter(rng):
    x = floats(rng, 3, 5)
    indices = np.stack([rng.permutation(5)[:2] for _ in range(2)])
    return [x, indices.astype(np.int64), floats(rng, 2, 2)], {"axis": pick(rng, 1, -1)}


def einsum(rng):
    equation, *shapes = pick(
        rng,
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("bij,bkj->bik", (2, 3, 4), (2, 5, 4)),
        ("...ij,jk->...ik", (2, 3, 4), (4, 5)),
        ("ij->ji", (2, 3)),
    )
    return [floats(rng, *shape) for shape in shapes], {"equation": equation}


# op, opset, what draws its inputs and attributes, and how many outputs it has.
CASES = [
    ("Conv", 22, conv, 1),
    ("Conv", 7, conv, 1),
    ("ConvTranspose", 22, conv_transpose, 1),
    ("MaxPool", 22, pool, 1),
    ("AveragePool", 22, lambda rng: pool(rng, average=True), 1),
    ("GlobalAveragePool", 7, lambda rng: (channels(rng, 1)[0], {}), 1),
    ("Gemm", 13, gemm, 1),
    ("MatMul", 13, matmul, 1),
    ("RNN", 22, recurrent(1, 1), 2),
    ("GRU", 22, recurrent(3, 1), 2),
    ("LSTM", 22, recurrent(4, 2), 3),
    ("LSTM", 7, recurrent(4, 2), 3),
    *[(f"Reduce{n}", 18, reduction, 1) for n in ("Mean", "Max", "Min", "L1", "L2", "Prod")],
    ("ReduceSumSquare", 18, reduction, 1),
    ("ReduceSum", 13, reduction, 1),
    ("ReduceSum", 11, old_reduction, 1),
    ("ReduceMean", 13, old_reduction, 1),
    ("Softmax", 13, with_axis, 1),
    ("Softmax", 11, with_axis, 1),
    ("LogSoftmax", 13, with_axis, 1),
    ("ArgMax", 13, with_axis, 1),
    ("Slice", 13, slices, 1),
    ("Slice", 9, old_slices, 1),
    ("Pad", 18, pads, 1),
    ("Pad", 10, old_pads, 1),
    ("Resize", 18, resize, 1),
    ("Resize", 10, upsample, 1),
    ("Upsample", 9, upsample, 1),
    ("Gather", 13, gather, 1),
    *[(op, 14, broadcast, 1) for op in ("Add", "Sub", "Mul", "Div", "Equal", "Less", "Max")],
    *[(op, 14, elementwise, 1) for op in ("Relu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Floor")],
    *[(op, 14, elementwise, 1) for op in ("Erf", "Softplus", "HardSigmoid", "HardSwish", "Elu")],
    *[(op, 14, positive, 1) for op in ("Sqrt", "Log", "Reciprocal")],
    ("LayerNormalization", 17, norm, 1),
    ("BatchNormalization", 15, lambda rng: channels(rng, 5), 1),
    ("BatchNormalization", 9, lambda rng: channels(rng, 5), 1),
    ("InstanceNormalization", 6 + 1, lambda rng: channels(rng, 3), 1),
    ("Split", 11, split, 2),
    ("TopK", 11, top, 2),
    ("Where", 16, where, 1),
    ("Expand", 13, expand, 1),
    ("ScatterElements", 16, scatter, 1),
    ("Scatter", 9, scatter, 1),
    ("Einsum", 12, einsum, 1),
]


def model_of(op, opset, inputs, attributes, outputs, constants):
    """A model of one node; inputs at the positions `constants` are constants."""
    names = ["" if array is None else f"x{i}" for i, array in enumerate(inputs)]
    made = [f"y{i}" for i in range(outputs)]
    node = onnx.helper.make_node(op, names, made, **attributes)
    code = onnx.helper.np_dtype_to_tensor_dtype
    values, arrays = [], []
    for i, array in enumerate(inputs):
        if array is None:
            continue
        if i in constants:
            arrays.append(onnx.numpy_helper.from_array(np.asarray(array), f"x{i}"))
        else:
            array = np.asarray(array)
            values.append(
                onnx.helper.make_tensor_value_info(f"x{i}", code(array.dtype), array.shape)
            )
    results = [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in made]
    graph = onnx.helper.make_graph([node], op, values, results, arrays)
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def expected_of(model, given):
    """The results of onnx.reference, or of ONNX Runtime for opsets that the former reads as new."""
    if model.opset_import[0].version >= 13:
        return reference.ReferenceEvaluator(model).run(None, given)
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, given)


@pytest.mark.parametrize("case", CASES, ids=[f"{op}-{opset}" for op, opset, *_ in CASES])
def test_against_the_reference(case):
    """Sums of up to some hundred terms in another order: to 1e-5 of the largest result."""
    op, opset, draw, outputs = case
    if not onnx_node_tests.known(op):
        pytest.skip(f"treadle has no {op}")
    for number in range(DRAWS):
        rng = np.random.default_rng([number, opset, *op.encode()])
        inputs, attributes = draw(rng)
        constants = {i for i in range(1, len(inputs)) if number % 2 == 0}
        model = model_of(op, opset, inputs, attributes, outputs, constants)
        given = {
            f"x{i}": np.asarray(array)
            for i, array in enumerate(inputs)
            if array is not None and i not in constants
        }
        found = Model(read_graph(model.SerializeToString(), op, None)[0])(**given)
        for (name, result), wanted in zip(
            found.items(), map(np.asarray, expected_of(model, given)), strict=True
        ):
            about = f"{name} {number} {attributes}"
            assert result.shape == wanted.shape, about
            assert result.dtype == wanted.dtype, about
            if result.dtype.kind == "f" and result.size:
                largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=1)
                np.testing.assert_allclose(result, wanted, 0, 1e-5 * largest, err_msg=about)
            else:
                assert np.array_equal(result, wanted), about
