"""Inference of dtypes and shapes: sizes that are known, symbols, and elements of shapes."""

import numpy as np
import pytest

from treadle.graph import Graph, Node, Value, vocabulary
from treadle.graph.shapes import RULES, dims, infer


def known(nodes, inputs=(("x", "float32", ("n", 6, 8)),), constants=None):
    arrays = {name: np.asarray(array) for name, array in (constants or {}).items()}
    return infer(Graph([Value(*one) for one in inputs], [], nodes, arrays))


def shape_of(op, *constants, attributes=None, shape=("n", 6, 8), dtype="float32"):
    """The inferred shape of one node over x and constants."""
    names = [f"c{index}" for index in range(len(constants))]
    values = dict(zip(names, constants, strict=True))
    names = ["" if value is None else name for name, value in values.items()]
    values = {name: value for name, value in values.items() if value is not None}
    node = Node(op, ["x", *names], ["y"], attributes or {})
    return known([node], [("x", dtype, shape)], values)["y"].shape


@pytest.mark.parametrize(
    ("op", "constants", "attributes", "expected"),
    [
        ("Relu", (), {}, ("x.0", 6, 8)),
        ("Add", (np.zeros((5, 1, 1, 8), "f"),), {}, (5, "x.0", 6, 8)),
        ("Reshape", ([0, -1],), {}, ("x.0", 48)),
        ("Reshape", ([-1, 48],), {}, ("x.0", 48)),
        ("Reshape", ([-1, 4],), {}, ("12*x.0", 4)),
        ("Reshape", ([2, 0, -1],), {}, None),
        ("Flatten", (), {"axis": 2}, ("6*x.0", 8)),
        ("Transpose", (), {}, (8, 6, "x.0")),
        ("Transpose", (), {"perm": [1, 0, 2]}, (6, "x.0", 8)),
        ("Unsqueeze", ([0, -1],), {}, (1, "x.0", 6, 8, 1)),
        ("Slice", ([1], [2**63 - 1], [2], [3]), {}, ("x.0", 6, 3)),
        ("Slice", ([-1], [-(2**63) + 1], [0], [-1]), {}, ("x.0", 6, 8)),
        ("Gather", (np.zeros((2, 3), "i8"),), {"axis": 1}, ("x.0", 2, 3, 8)),
        ("Gather", (np.int64(0),), {"axis": 2}, ("x.0", 6)),
        ("Pad", ([0, 0, 1, 3, 0, 2],), {}, ("x.0+3", 6, 11)),
        ("Tile", ([2, 1, 3],), {}, ("2*x.0", 6, 24)),
        ("Expand", ([4, 1, 1, 8],), {}, (4, "x.0", 6, 8)),
        ("ReduceMean", ([-1],), {"keepdims": 0}, ("x.0", 6)),
        ("ReduceMean", (), {}, (1, 1, 1)),
        ("ReduceMean", (), {"noop_with_empty_axes": 1}, ("x.0", 6, 8)),
        ("ArgMax", (), {"axis": 1, "keepdims": 0}, ("x.0", 8)),
        ("MatMul", (np.zeros((8, 3), "f"),), {}, ("x.0", 6, 3)),
        ("MatMul", (np.zeros(8, "f"),), {}, ("x.0", 6)),
        ("Conv", (np.zeros((4, 6, 3), "f"),), {"pads": [1, 1], "strides": [2]}, ("x.0", 4, 4)),
        ("Conv", (np.zeros((4, 6, 3), "f"),), {"auto_pad": "SAME_UPPER"}, ("x.0", 4, 8)),
        ("MaxPool", (), {"kernel_shape": [3], "strides": [2], "ceil_mode": 1}, ("x.0", 6, 4)),
        ("GlobalAveragePool", (), {}, ("x.0", 6, 1)),
        ("ConvTranspose", (np.zeros((6, 2, 2), "f"),), {"strides": [2]}, ("x.0", 2, 16)),
        ("treadle.Linear", (np.zeros((3, 8), "f"),), {}, ("x.0", 6, 3)),
        ("treadle.Conv", (np.zeros((4, 3, 8), "f"),), {}, ("x.0", 4, 4)),
        ("treadle.Magnitude", (), {}, ("x.0", 6, 4)),
        ("LSTM", (np.zeros((1, 8, 8), "f"), np.zeros((1, 8, 2), "f")), {}, ("x.0", 1, 6, 2)),
        ("Resize", (None, None, [1, 6, 16]), {}, (1, 6, 16)),
    ],
)
def test_shapes(op, constants, attributes, expected):
    found = shape_of(op, *constants, attributes=attributes)
    if expected is None:
        assert found[:2] == (2, 6)
        assert isinstance(found[2], str)
    else:
        assert found == expected


def test_convolution_of_symbols():
    """Windows over equal sizes are equal; padding that keeps the size keeps the symbol."""
    weight = {"w": np.zeros((4, 6, 3), "f")}
    nodes = [
        Node("Conv", ["x", "w"], ["a"], {"pads": [1, 1]}),
        Node("Conv", ["x", "w"], ["b"], {"pads": [1, 1], "strides": [2]}),
        Node("Conv", ["x", "w"], ["c"], {"pads": [0, 2], "strides": [2]}),
        Node("Conv", ["x", "w"], ["d"], {"strides": [2]}),
    ]
    found = known(nodes, [("x", "float32", (1, 6, "t"))], weight)
    assert found["a"].shape == (1, 4, "x.2")
    assert found["b"].shape == found["c"].shape != found["d"].shape


def test_elements_of_shapes_are_followed():
    """Batch and time come back through Shape, Gather, Cast, Mul and Concat."""
    nodes = [
        Node("Shape", ["x"], ["s"]),
        Node("Gather", ["s", "zero"], ["batch"], {"axis": 0}),
        Node("Cast", ["batch"], ["cast"], {"to": 7}),
        Node("Unsqueeze", ["cast", "axes"], ["u"]),
        Node("Mul", ["u", "two"], ["double"]),
        Node("Concat", ["double", "hole"], ["target"], {"axis": 0}),
        Node("Reshape", ["x", "target"], ["y"]),
        Node("ConstantOfShape", ["target2"], ["zeros"], {"value": np.zeros(1, "f")}),
        Node("Concat", ["u", "two"], ["target2"], {"axis": 0}),
    ]
    nodes[-1], nodes[-2] = nodes[-2], nodes[-1]
    constants = {
        "zero": np.int64(0),
        "axes": np.array([0]),
        "two": np.array([2]),
        "hole": np.array([-1]),
    }
    found = known(nodes, constants=constants)
    assert found["target"].elements == ("2*x.0", -1)
    assert found["y"].shape[0] == "2*x.0"
    assert found["zeros"].shape == ("x.0", 2)


def test_two_inputs_never_share_a_symbol():
    """A file may call two sizes "n" that a caller makes different."""
    inputs = [("x", "float32", ("n", 4)), ("y", "float32", ("n", 4))]
    found = known([Node("Add", ["x", "y"], ["z"])], inputs)
    assert found["x"].shape[0] != found["y"].shape[0]
    assert found["z"].shape[0] not in (found["x"].shape[0], found["y"].shape[0])


def test_names_that_read_as_arithmetic():
    found = known([], [("a+b", "float32", ("n",)), ("a", "float32", ("n",))])
    assert found["a+b"].shape == ("input0.0",)


def test_branches_must_agree():
    def branch(name, size):
        constant = {f"{name}c": np.zeros((size, 3), "f")}
        return Graph([], [Value(f"{name}c", "float32", None)], [], constant)

    inputs = [("c", "bool", ())]
    for size, expected in ((2, (2, 3)), (4, None)):
        attributes = {"then_branch": branch("t", 2), "else_branch": branch("e", size)}
        found = known([Node("If", ["c"], ["y"], attributes)], inputs)
        assert (found["y"].dtype, found["y"].shape) == ("float32", expected)


def test_malformed_nodes_are_no_errors():
    """Operators say what is wrong when they run; inference only knows nothing."""
    for op in RULES:
        for shape in (None, (), ("n",), (2, 3), (1, 2, 3, 4)):
            for count in (0, 1, 2, 4):
                inputs = [("x", "float32", shape), ("i", "int64", (2,))]
                node = Node(op, ["x", "i", "x", "i"][:count], ["y", "z"], {"axis": 7, "perm": [5]})
                known([node], inputs)


def test_expressions_stay_short():
    """A file of sixty squares must not make a string of 2 ** 60 letters."""
    nodes = [Node("Shape", ["x"], ["s0"])]
    nodes += [Node("Mul", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(60)]
    found = known(nodes, [("x", "float32", ("n", "m"))])
    assert all(len(str(size)) <= dims.MOST_LETTERS for size in found["s60"].elements)


def test_all_of_the_vocabulary_has_rules():
    assert set(vocabulary.OPERATORS) <= set(RULES)


@pytest.mark.parametrize("seed", range(20))
def test_arithmetic_of_sizes(seed):
    """Expressions of equal spelling have equal values, whatever the symbols stand for."""
    random = np.random.default_rng(seed)
    spelled = {}
    values = [{"n": int(a), "m": int(b)} for a, b in random.integers(1, 50, (8, 2))]
    terms = [("n", [v["n"] for v in values]), ("m", [v["m"] for v in values]), (3, [3] * 8)]
    for _ in range(120):
        (a, av), (b, bv) = (terms[int(i)] for i in random.integers(0, len(terms), 2))
        kind = int(random.integers(3))
        if kind == 0:
            term = dims.add(a, b), [x + y for x, y in zip(av, bv, strict=True)]
        elif kind == 1:
            term = dims.multiply([a, b]), [x * y for x, y in zip(av, bv, strict=True)]
        else:
            divisor = int(random.integers(1, 5))
            term = dims.floor_divide(a, divisor), [x // divisor for x in av]
        if len(str(term[0])) > 60:
            continue
        assert spelled.setdefault(str(term[0]), term[1]) == term[1]
        terms.append(term)
