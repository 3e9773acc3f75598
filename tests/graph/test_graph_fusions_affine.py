"""A factor and a summand before a convolution move into it, as far as padding allows."""

import numpy as np
import pytest

from reference.graph import graph_of
from support.graphs import assert_same, fused, numbers, operators
from treadle.graph import Node

RANDOM = np.random.default_rng(21)
IMAGE = [("x", ("n", 4, 6, 5))]
WEIGHTS = {
    "w": RANDOM.integers(-8, 9, (8, 4, 3, 3)).astype("f"),
    "d": RANDOM.integers(-8, 9, (4, 1, 3, 3)).astype("f"),
    "b": np.arange(8, dtype="f"),
    "s": np.float32([0.5]),
    "t": np.float32([3]),
    "zero": np.float32(0),
    "many": np.float32(np.arange(1, 5)).reshape(4, 1, 1),
    "wide": np.ones((1, 1, 1, 1, 1), "f"),
    "huge": np.float32(3e38),
    "tiny": np.float32(1e-38),
}
MUL, ADD = Node("Mul", ["x", "s"], ["m"]), Node("Add", ["m", "t"], ["a"])
PADDED = {"pads": [1, 1, 1, 1]}


def ops(*nodes, outputs=("y",), inputs=IMAGE):
    graph = graph_of(nodes, inputs, list(outputs), WEIGHTS)
    result, _ = fused(graph, "affine + conv")
    assert_same(graph, result)
    return operators(result)


def conv(x, y="y", w="w", **attributes):
    return Node("Conv", [x, w] if w == "d" else [x, w, "b"], [y], attributes)


@pytest.mark.parametrize("flip", [False, True])
def test_without_padding_all_goes(flip):
    mul = Node("Mul", ["s", "x"], ["m"]) if flip else MUL
    add = Node("Add", ["t", "m"], ["a"]) if flip else ADD
    assert ops(mul, add, conv("a")) == ["Conv"]
    assert ops(mul, add, conv("a", auto_pad="VALID")) == ["Conv"]
    assert ops(mul, conv("m")) == ["Conv"]
    assert ops(Node("Add", ["x", "t"], ["a"]), conv("a")) == ["Conv"]
    assert ops(mul, add, conv("a", w="d", group=4)) == ["Conv"]


def test_with_padding_the_summand_stays():
    """What is padded is 0, which a summand in the weights would not be."""
    assert ops(MUL, ADD, conv("a", **PADDED)) == ["Add", "Conv"]
    assert ops(MUL, conv("m", **PADDED)) == ["Conv"]
    assert ops(MUL, ADD, conv("a", w="d", group=4, **PADDED)) == ["Add", "Conv"]


def test_several_convolutions():
    nodes = [MUL, ADD, conv("a"), conv("a", "z", strides=[2, 1])]
    assert ops(*nodes, outputs=("y", "z")) == ["Conv", "Conv"]
    nodes[-1] = conv("a", "z", **PADDED)
    assert ops(*nodes, outputs=("y", "z")) == ["Add", "Conv", "Conv"]


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([MUL, ADD, conv("a"), Node("Exp", ["a"], ["z"])], ["y", "z"]),
        ([MUL, conv("m")], ["y", "m"]),
        ([Node("Add", ["x", "t"], ["a"]), conv("a", **PADDED)], ["y"]),
        ([Node("Mul", ["x", "many"], ["m"]), conv("m")], ["y"]),
        ([Node("Mul", ["x", "zero"], ["m"]), conv("m")], ["y"]),
        ([Node("Mul", ["x", "huge"], ["m"]), conv("m")], ["y"]),  # the weights would overflow
        (
            [Node("Mul", ["x", "tiny"], ["m"]), ADD, conv("a", **PADDED)],
            ["y"],
        ),  # digits would be lost
        ([Node("Mul", ["x", "x"], ["m"]), conv("m")], ["y"]),
    ],
)
def test_what_stays(nodes, outputs):
    assert ops(*nodes, outputs=outputs) == [node.op for node in nodes]


def test_a_number_with_more_axes_stays():
    """It gives the product more axes, which the convolution refuses."""
    graph = graph_of([Node("Mul", ["x", "wide"], ["m"]), conv("m")], IMAGE, ["y"], WEIGHTS)
    assert operators(fused(graph, "affine + conv")[0]) == ["Mul", "Conv"]


def test_a_weight_that_is_no_constant_stays():
    graph = graph_of([MUL, conv("m", w="v")], [*IMAGE, ("v", (8, 4, 3, 3))], ["y"], WEIGHTS)
    assert operators(fused(graph, "affine + conv")[0]) == ["Mul", "Conv"]
    assert numbers(graph)["x"].shape == (2, 4, 6, 5)
