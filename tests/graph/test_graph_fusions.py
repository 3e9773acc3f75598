"""Fusions of products and norms: what is fused gives the same, and what must stay stays."""

import numpy as np
import pytest

from reference.graph import graph_of
from support.graphs import assert_same, fused, numbers, only_fused, operators
from treadle.graph import Node

RANDOM = np.random.default_rng(11)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype("f")


def exact(*shape):
    """Powers of two: products with them are not rounded, so that folding is exact."""
    return (2.0 ** RANDOM.integers(-2, 3, shape)).astype("f")


IMAGE = [("x", ("n", 4, 6, 5))]
WEIGHT = RANDOM.integers(-8, 9, (8, 4, 3, 3)).astype("f")


def conv(*rest, weight=WEIGHT, constants=None, outputs=("y",), attributes=None):
    nodes = [Node("Conv", ["x", "w", "b"], ["c"], attributes or {}), *rest]
    given = {"w": weight, "b": np.arange(8, dtype="f"), **(constants or {})}
    return only_fused(nodes, IMAGE, list(outputs), given, ["conv + affine"])


def batch_norm_constants():
    """Statistics whose square root is exact: variance + epsilon is 4."""
    return {
        "s": exact(8),
        "t": np.arange(8, dtype="f"),
        "m": np.arange(8, dtype="f") - 3,
        "v": np.full(8, 3, "f"),
    }


@pytest.mark.parametrize(
    ("op", "constant"),
    [
        ("Mul", exact(8, 1, 1)),
        ("Mul", exact(1, 8, 1, 1)),
        ("Mul", exact(1)),
        ("Div", exact(8, 1, 1)),
        ("Add", exact(8, 1, 1)),
        ("Add", exact()),
        ("Sub", exact(8, 1, 1)),
    ],
)
def test_conv_takes_in_factors_and_summands(op, constant):
    assert conv(Node(op, ["c", "k"], ["y"]), constants={"k": constant}) == ["Conv"]
    if op != "Div":
        assert conv(Node(op, ["k", "c"], ["y"]), constants={"k": constant}) == ["Conv"]


def test_conv_takes_in_a_chain():
    nodes = [
        Node("BatchNormalization", ["c", "s", "t", "m", "v"], ["d"], {"epsilon": 1.0}),
        Node("Mul", ["d", "k"], ["e"]),
        Node("Add", ["e", "k"], ["y"]),
    ]
    constants = {**batch_norm_constants(), "k": exact(8, 1, 1)}
    assert conv(*nodes, constants=constants) == ["Conv"]


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_groups_have_factors_of_their_own(op, group):
    """A ConvTranspose has its outputs in groups behind each other: [C, D / g, taps..]."""
    shape = (8, 4 // group, 3, 3) if op == "Conv" else (4, 8 // group, 3, 3)
    nodes = [
        Node(op, ["x", "w", "b"], ["c"], {"group": group, "strides": [2, 1]}),
        Node("Mul", ["c", "k"], ["y"]),
    ]
    constants = {
        "w": RANDOM.integers(-8, 9, shape).astype("f"),
        "b": np.arange(8, dtype="f"),
        "k": exact(8, 1, 1),
    }
    assert only_fused(nodes, IMAGE, ["y"], constants, ["conv + affine"]) == [op]


@pytest.mark.parametrize(
    ("rest", "constants", "outputs"),
    [
        ([Node("Mul", ["c", "k"], ["y"])], {"k": exact(5)}, ["y"]),  # along the width
        ([Node("Mul", ["c", "k"], ["y"])], {"k": exact(6, 1)}, ["y"]),
        ([Node("Mul", ["c", "k"], ["y"])], {"k": exact(3, 1, 1, 1, 1)}, ["y"]),  # more axes
        ([Node("Mul", ["c", "k"], ["y"])], {"k": exact(8, 1, 1)}, ["y", "c"]),  # an output
        (
            [Node("Mul", ["c", "k"], ["y"]), Node("Exp", ["c"], ["z"])],
            {"k": exact(8, 1, 1)},
            ["y", "z"],
        ),
        ([Node("Mul", ["c", "c"], ["y"])], {}, ["y"]),
        ([Node("Div", ["k", "c"], ["y"])], {"k": exact(1)}, ["y"]),
        ([Node("Mul", ["c", "k"], ["y"])], {"k": np.float32([3e38])}, ["y"]),  # w k overflows
    ],
)
def test_conv_leaves_the_rest(rest, constants, outputs):
    if any(array.shape in ((5,), (6, 1)) for array in constants.values()):
        attributes = {"pads": [1, 1, 1, 1]}
    else:
        attributes = {}
    found = conv(*rest, constants=constants, outputs=outputs, attributes=attributes)
    assert found == ["Conv", *[node.op for node in rest]]


def test_conv_of_a_weight_that_is_no_constant():
    inputs = [*IMAGE, ("w", (8, 4, 3, 3))]
    nodes = [Node("Conv", ["x", "w"], ["c"]), Node("Mul", ["c", "k"], ["y"])]
    assert only_fused(nodes, inputs, ["y"], {"k": exact(8, 1, 1)}, ["conv + affine"]) == [
        "Conv",
        "Mul",
    ]


def test_a_batch_norm_alone_is_a_factor_and_a_summand():
    node = Node("BatchNormalization", ["x", "s", "t", "m", "v"], ["y"], {"epsilon": 1.0})
    constants = {k: v[:4] for k, v in batch_norm_constants().items()}
    assert only_fused([node], IMAGE, ["y"], constants, ["batch norm"]) == ["Mul", "Add"]
    constants["v"] = np.full(4, -5, "f")  # NaN, which the operator itself must say
    graph = graph_of([node], IMAGE, ["y"], constants)
    assert operators(fused(graph, "batch norm")[0]) == ["BatchNormalization"]


# ---- products ---------------------------------------------------------------------------------

ROWS = [("x", ("n", 3, 6))]


@pytest.mark.parametrize(
    ("bias", "expected"),
    [
        (exact(5), ["treadle.Linear"]),
        (exact(1, 5), ["treadle.Linear"]),
        (exact(1), ["treadle.Linear"]),
        (exact(3, 5), ["treadle.Linear", "Add"]),
        (exact(3, 1), ["treadle.Linear", "Add"]),
        (exact(1, 1, 1, 5), ["treadle.Linear", "Add"]),
    ],
)
@pytest.mark.parametrize("flip", [False, True])
def test_matmul_and_bias(bias, expected, flip):
    operands = ["b", "p"] if flip else ["p", "b"]
    nodes = [Node("MatMul", ["x", "w"], ["p"]), Node("Add", operands, ["y"])]
    constants = {"w": normal(6, 5), "b": bias}
    assert only_fused(nodes, ROWS, ["y"], constants, ["linear"]) == expected


@pytest.mark.parametrize("bias", [None, (5,), (1, 5), (1,), ()])
@pytest.mark.parametrize("trans", [0, 1])
def test_gemm(bias, trans):
    inputs = ["x", "w"] if bias is None else ["x", "w", "b"]
    node = Node("Gemm", inputs, ["y"], {"transB": trans, "alpha": 0.5, "beta": 2.0})
    constants = {"w": normal(*((5, 6) if trans else (6, 5)))}
    if bias is not None:
        constants["b"] = exact(*bias)
    found = only_fused([node], [("x", ("n", 6))], ["y"], constants, ["linear"])
    assert found == ["treadle.Linear"]


@pytest.mark.parametrize(
    ("node", "inputs", "constants"),
    [
        (Node("MatMul", ["x", "w"], ["y"]), ROWS, {"w": normal(2, 6, 5)}),
        (Node("MatMul", ["x", "w"], ["y"]), ROWS, {"w": normal(6)}),
        (Node("MatMul", ["w", "x"], ["y"]), ROWS, {"w": normal(5, 3)}),
        (Node("MatMul", ["x", "w"], ["y"]), [*ROWS, ("w", (6, 5))], {}),
        (Node("MatMul", ["x", "w"], ["y"]), [("x", (2, 6), "int64")], {"w": np.eye(6, dtype=int)}),
        (Node("Gemm", ["x", "w"], ["y"], {"transA": 1}), [("x", (6, 3))], {"w": normal(6, 5)}),
        (Node("Gemm", ["x", "w", "b"], ["y"]), [("x", (3, 6))],
         {"w": normal(6, 5), "b": exact(3, 1)}),
        (Node("Gemm", ["x", "w"], ["y"], {"alpha": 3e38}), [("x", (3, 6))],
         {"w": normal(6, 5) * 9}),
    ],
)  # fmt: skip
def test_products_that_stay(node, inputs, constants):
    graph = graph_of([node], inputs, ["y"], constants)
    assert operators(fused(graph, "linear")[0]) == [node.op]


def test_matmul_that_is_an_output_keeps_its_bias_apart():
    nodes = [Node("MatMul", ["x", "w"], ["p"]), Node("Add", ["p", "b"], ["y"])]
    constants = {"w": normal(6, 5), "b": normal(5)}
    found = only_fused(nodes, ROWS, ["y", "p"], constants, ["linear"])
    assert found == ["treadle.Linear", "Add"]


ACTIVATIONS = [
    ("Relu", {}, 0),
    ("Sigmoid", {}, 0),
    ("Tanh", {}, 0),
    ("HardSigmoid", {"alpha": 0.25}, 0),
    ("LeakyRelu", {"alpha": 0.25}, 0),
    ("Elu", {}, 0),
    ("Softplus", {}, 0),
    ("Gelu", {}, 0),
    ("Gelu", {"approximate": "tanh"}, 0),
    ("treadle.Silu", {}, 0),
    ("treadle.HardSwish", {"alpha": 1 / 6, "beta": 0.5}, 0),
    ("Clip", {}, 2),
]


@pytest.mark.parametrize(("op", "attributes", "limits"), ACTIVATIONS)
@pytest.mark.parametrize("residual", [False, True])
def test_epilogue(op, attributes, limits, residual):
    """activation(product + bias + residual)"""
    nodes = [Node("treadle.Linear", ["x", "w", "b"], ["p"])]
    if residual:
        nodes.append(Node("Add", ["r", "p"], ["q"]))
    last = nodes[-1].outputs[0]
    nodes.append(Node(op, [last, "low", "high"][: 1 + limits], ["y"], attributes))
    constants = {"w": normal(6, 6), "b": normal(6), "low": np.float32(-1), "high": np.float32(1)}
    if residual:  # of the same symbols
        nodes.insert(0, Node("Exp", ["x"], ["r"]))
    found = only_fused(nodes, ROWS, ["y"], constants, ["epilogue"])
    assert found == [*["Exp"] * residual, "treadle.Linear"]


def test_epilogue_of_two_residuals_and_activations():
    """One of each: what follows an activation stays behind it."""
    nodes = [
        Node("treadle.Linear", ["x", "w"], ["p"]),
        Node("Relu", ["p"], ["q"]),
        Node("Add", ["q", "x"], ["r"]),
        Node("Tanh", ["r"], ["y"]),
    ]
    found = only_fused(nodes, ROWS, ["y"], {"w": normal(6, 6)}, ["epilogue"])
    assert found == ["treadle.Linear", "Add", "Tanh"]


@pytest.mark.parametrize(
    ("nodes", "inputs"),
    [
        ([Node("Add", ["p", "r"], ["y"])], [("r", (6,))]),  # broadcasts
        ([Node("Add", ["p", "r"], ["y"])], [("r", ("m", 3, 6))]),  # another symbol
        ([Node("Add", ["p", "p"], ["y"])], []),
        ([Node("Relu", ["p"], ["q"]), Node("Exp", ["p"], ["y"])], []),  # read twice
        ([Node("Clip", ["p", "r"], ["y"])], [("r", ())]),
        ([Node("PRelu", ["p", "r"], ["y"])], [("r", (6,))]),
        ([Node("treadle.HardSwish", ["p"], ["y"], {"alpha": 0.25, "beta": 0.5})], []),
    ],
)
def test_epilogue_leaves_the_rest(nodes, inputs):
    outputs = ["y", "q"] if len(nodes) > 1 else ["y"]
    product = Node("treadle.Linear", ["x", "w"], ["p"])
    graph = graph_of([product, *nodes], [*ROWS, *inputs], outputs, {"w": normal(6, 6)})
    found = operators(fused(graph, "epilogue")[0])
    assert found == ["treadle.Linear", *[node.op for node in nodes]]


def test_epilogue_before_its_residual_is_made():
    """The fused node stands where the Add stood, behind both of what it reads."""
    nodes = [
        Node("treadle.Linear", ["x", "w"], ["p"]),
        Node("Exp", ["x"], ["r"]),
        Node("Add", ["p", "r"], ["y"]),
    ]
    found = only_fused(nodes, ROWS, ["y"], {"w": normal(6, 6)}, ["epilogue"])
    assert found == ["Exp", "treadle.Linear"]


# ---- the same from constants of a graph around, and within branches ----------------------------


def test_fusions_within_branches():
    from treadle.graph import Graph, Value

    then = Graph(
        [],
        [Value("t", "float32", None)],
        [Node("MatMul", ["x", "w"], ["p"]), Node("Relu", ["p"], ["t"])],
        {},
    )
    other = Graph([], [Value("e", "float32", None)], [Node("Exp", ["x"], ["e"])], {})
    node = Node("If", ["c"], ["y"], {"then_branch": then, "else_branch": other})
    graph = graph_of([node], [*ROWS, ("c", (), "bool")], ["y"], {"w": normal(6, 6)})
    result, counts = fused(graph, "linear", "epilogue")
    assert counts == {"linear": 1, "epilogue": 1}
    assert operators(result.nodes[0].attributes["then_branch"]) == ["treadle.Linear"]
    for condition in (True, False):
        inputs = {**numbers(graph), "c": np.array(condition)}
        assert_same(graph, result, inputs=inputs)


def test_a_value_that_a_branch_reads_is_not_taken_in():
    from treadle.graph import Graph, Value

    then = Graph([], [Value("t", "float32", None)], [Node("Exp", ["p"], ["t"])], {})
    other = Graph([], [Value("x", "float32", None)], [], {})
    nodes = [
        Node("treadle.Linear", ["x", "w"], ["p"]),
        Node("Relu", ["p"], ["y"]),
        Node("If", ["c"], ["z"], {"then_branch": then, "else_branch": other}),
    ]
    graph = graph_of(nodes, [*ROWS, ("c", (), "bool")], ["y", "z"], {"w": normal(6, 6)})
    result, _ = fused(graph, "epilogue")
    assert operators(result) == ["treadle.Linear", "Relu", "If"]


def test_malformed_nodes_are_left_to_their_operators():
    """Nodes with too few or too many inputs are seen by no fusion and by no layout."""
    from treadle.graph.fusions import AFTER_LAYOUT, BEFORE_LAYOUT
    from treadle.graph.optimise import optimise

    ops = ("Add", "Mul", "Div", "Conv", "ConvTranspose", "Gemm", "MatMul", "Clip", "LSTM", "Slice")
    ops += ("BatchNormalization", "Softmax", "Sigmoid", "Reshape", "Split", "Sqrt", "ReduceMean")
    for op in ops:
        for count in (0, 1, 2, 9):
            names = ["c", "w", "", "b", "c", "w", "b", "b", "b"][:count]
            nodes = [
                Node("Conv", ["x", "w"], ["c"]),
                Node(op, names, ["d"]),
                Node("Mul", ["d", "b"], ["e"]),
                Node("Sqrt", ["e"], ["y"]),
            ]
            graph = graph_of(nodes, IMAGE, ["y"], {"w": WEIGHT, "b": exact(1)})
            fused(graph, *BEFORE_LAYOUT, *AFTER_LAYOUT)
            optimise(graph, ("simplify", "fusions", "layout"))
