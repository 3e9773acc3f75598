"""Nodes of every operator with whatever inputs and attributes: each runs or is refused.

The files are well formed as files; what they say of shapes, ranks, dtypes and attributes is drawn
by chance, near what the operator expects often enough that its code is reached.
"""

from contextlib import suppress

import numpy as np
import pytest

from support import onnx_files as files
from treadle.graph.model import Model
from treadle.graph.program import OPERATORS
from treadle.onnx.load import read_graph
from treadle.onnx.schemas import SCHEMAS

WORDS = (
    *("constant", "reflect", "edge", "wrap", "linear", "nearest", "cubic", "SAME_UPPER"),
    *("SAME_LOWER", "VALID", "NOTSET", "forward", "reverse", "bidirectional", "Tanh", "Sigmoid"),
    *("Relu", "HardSigmoid", "add", "mul", "none", "tanh", "DCR", "CRD", "asymmetric", "floor"),
    *("align_corners", "half_pixel", "pytorch_half_pixel", "tf_crop_and_resize", "ceil", ""),
    *("ij,jk->ik", "...ij->...ji", "ii->i", "ij->", "i,i", "abc,cd->abd", "round_prefer_floor"),
    *("not_larger", "stretch", "not_smaller", "LEFT", "nonsense"),
)
INTS = (-(2**63), -(2**31), -3, -2, -1, 0, 0, 1, 1, 1, 2, 2, 3, 4, 7, 11, 2**31, 2**62, 2**63 - 1)
FLOATS = (0.0, 1.0, -1.0, 0.5, 1e-5, 1e30, float("inf"), float("nan"))
DTYPES = ("float32",) * 8 + ("int64",) * 4 + ("int32", "bool", "uint8", "int8", "float64", "uint16")
NODES = 40


def numbers(rng, choices, most):
    """A list of a random length of random choices."""
    return [choices[int(i)] for i in rng.integers(len(choices), size=int(rng.integers(1, most)))]


def attribute(rng, kind):
    small = INTS[4:14] if rng.random() < 0.8 else INTS
    if kind == "int":
        return int(rng.choice(np.array(small, object)))
    if kind == "ints":
        return [int(n) for n in numbers(rng, small, 5)]
    if kind == "float":
        return float(rng.choice(FLOATS))
    if kind == "floats":
        return [float(n) for n in numbers(rng, FLOATS, 4)]
    if kind == "str":
        return str(rng.choice(WORDS))
    if kind == "strs":
        return [str(n) for n in numbers(rng, WORDS[11:16], 4)]
    if kind == "tensor":
        return ("tensor", files.tensor("", array(rng, "float32", 1)))
    body = files.graph(
        [files.node("Identity", ["x0"], ["b"])],
        [files.value("i", "int64", ()), files.value("k", "bool", ())][: int(rng.integers(3))],
        [files.value("b"), files.value("x0")][: int(rng.integers(1, 3))],
    )
    return ("graph", body)


def array(rng, dtype, rank, shape=None):
    if shape is None:
        shape = rng.integers(0 if rng.random() < 0.2 else 1, 5, size=rank)
    if dtype in ("float32", "float64"):
        values = rng.normal(size=shape)
    elif dtype == "bool":
        values = rng.random(shape) < 0.5
    else:
        values = rng.integers(0 if dtype[0] == "u" else -2, 5, size=shape)
        if dtype == "int64" and rng.random() < 0.1:
            values = np.array(rng.choice(np.array(INTS, object), size=shape), np.int64)
    return np.asarray(values).astype(dtype)


def drawn(op, rng):
    """A model of one node, and arrays for its inputs."""
    schema = SCHEMAS[op]
    least, most = schema.inputs
    inputs = int(rng.integers(least, min(most, least + 6, 8) + 1))
    outputs = int(rng.integers(schema.outputs[0], min(schema.outputs[1], 3) + 1)) or 1
    main = str(rng.choice(DTYPES))
    rank = int(rng.integers(0, 5))
    same = rng.random() < 0.5
    shape = rng.integers(1, 4, size=rank)
    names, constants, given, values = [], {}, [], []
    for i in range(inputs):
        if i >= least and rng.random() < 0.2:
            names.append("")
            continue
        dtype = main if rng.random() < 0.7 else str(rng.choice(DTYPES))
        own = rank if rng.random() < 0.6 else int(rng.integers(0, 5))
        if i > 0 and rng.random() < 0.4:  # many operators take sizes or axes behind the first
            dtype, own = "int64", 1
        made = array(rng, dtype, own, shape if same and own == rank else None)
        names.append(f"x{i}")
        if i > 0 and rng.random() < 0.5:
            constants[f"x{i}"] = made
        else:
            given.append(made)
            values.append(files.value(f"x{i}", dtype, None))
    attributes = {
        name: attribute(rng, kind)
        for name, kind in schema.attributes.items()
        if name in schema.required or rng.random() < 0.4
    }
    made = [f"y{i}" for i in range(outputs)]
    node = files.node(op, names, made, **attributes)
    graph = files.graph([node], values, [files.value(n, "float32", None) for n in made], constants)
    return files.model(graph, opset=23), given


@pytest.mark.parametrize("op", SCHEMAS)
def test_any_node(op):
    """Only the documented errors, whatever a node is given; CI looks at memory meanwhile."""
    rng = np.random.default_rng([*op.encode()])
    with np.errstate(all="ignore"):
        for _ in range(NODES):
            data, given = drawn(op, rng)
            with suppress(ValueError, TypeError, MemoryError):
                graph, _ = read_graph(data, "test", None)
                results = Model(graph)(*given)
                assert list(results) == [value.name for value in graph.outputs]


def test_some_nodes_run():
    """What is drawn reaches operators, and is not refused throughout."""
    ran = 0
    for op in OPERATORS & SCHEMAS.keys():
        rng = np.random.default_rng([*op.encode()])
        for _ in range(NODES):
            data, given = drawn(op, rng)
            with suppress(ValueError, TypeError, MemoryError), np.errstate(all="ignore"):
                Model(read_graph(data, "test", None)[0])(*given)
                ran += 1
                break
    assert ran > 0.4 * len(OPERATORS & SCHEMAS.keys())
