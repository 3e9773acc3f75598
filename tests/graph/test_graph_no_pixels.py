"""Images without a pixel in a graph, where they are results of other nodes.

A value of no numbers has no address there. CI runs these under the sanitizers, which see what is
counted from it.
"""

import itertools

import numpy as np
import pytest

from treadle.graph.ir import Graph, Node, Value
from treadle.graph.model import Model
from treadle.graph.program import run_node

EMPTY = [(0, 3), (3, 0), (0, 0)]


def run(op, x, *weights, **attributes):
    """Run a node on |x|, which the graph computes. Its weights are values, too."""
    given = {"x": x} | {f"w{i}": weight for i, weight in enumerate(weights)}
    inputs = [Value(name, str(array.dtype), None) for name, array in given.items()]
    node = Node(op, ["a", *list(given)[1:]], ["y"], attributes, "the_node")
    nodes = [Node("Abs", ["x"], ["a"]), node]
    model = Model(Graph(inputs, [Value("y", "float32", None)], nodes, {}), single=True)
    return model(**given)


@pytest.mark.parametrize("shape", EMPTY, ids=str)
@pytest.mark.parametrize(
    ("channels", "outputs", "group"), [(6, 8, 1), (40, 9, 1), (6, 4, 2), (8, 8, 8), (6, 12, 6)]
)
def test_convolutions_of_padding_are_their_bias(isa, shape, channels, outputs, group):
    rng = np.random.default_rng(0)
    bias = rng.standard_normal(outputs).astype(np.float32)
    x = np.zeros((2, channels, *shape), np.float32)
    for taps, strides, dilations in (((3, 2), (1, 1), (1, 1)), ((3, 5), (2, 1), (2, 1))):
        weight = rng.standard_normal((outputs, channels // group, *taps)).astype(np.float32)
        options = {"strides": strides, "dilations": dilations, "group": group, "pads": [4] * 4}
        y = run("Conv", x, weight, bias, **{k: np.array(v).tolist() for k, v in options.items()})
        assert y.size > 0
        np.testing.assert_array_equal(y, np.broadcast_to(bias[:, None, None], y.shape))


@pytest.mark.parametrize("channels", [3, 40])
def test_pools_of_padding(isa, channels):
    """The largest of no number is -inf, and an average without one is 0."""
    for shape in EMPTY:
        x = np.zeros((2, *shape, channels), np.float32)
        options = {"kernel_shape": [4, 4], "pads": [2, 2, 2, 2]}
        for op, wanted in (("treadle.MaxPool", -np.inf), ("treadle.AveragePool", 0)):
            (y,) = run_node(Node(op, ["x"], ["y"], options, "the_node"), [x])
            assert y.shape == (2, *(n + 1 for n in shape), channels)
            np.testing.assert_array_equal(y, wanted)
            np.testing.assert_array_equal(run(op, x, **options), wanted)


def test_padding_of_nothing():
    for shape in itertools.product((0, 2), (0, 3), (0, 4)):
        pads = np.array([1, 0, 2, 0, 3, 1])
        y = run("Pad", np.zeros(shape, np.float32), pads)
        assert y.shape == tuple(np.add(shape, [1, 3, 3]))
        assert not y.any()


@pytest.mark.parametrize("op", ["SpaceToDepth", "DepthToSpace"])
def test_blocks_of_nothing(op):
    """The sizes of images without a number are bounded as those of others are."""

    def blocks(size, *shape):
        node = Node(op, ["x"], ["y"], {"blocksize": size}, "the_node")
        return run_node(node, [np.zeros(shape, np.float32)])[0].shape

    assert blocks(2, 0, 4, 2, 6) == ((0, 16, 1, 3) if op == "SpaceToDepth" else (0, 1, 4, 12))
    large = (0, 2**40, 0, 0) if op == "SpaceToDepth" else (0, 0, 2**40, 0)
    assert blocks(1, *large) == large
    for size in (2**17, 2**24):
        with pytest.raises(ValueError, match="blocks of"):
            blocks(size, *large)


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization", "Softmax"])
def test_rows_of_nothing(isa, op):
    """Rows without an element take no time, however many there are."""
    weights = () if op == "Softmax" else (np.zeros(0, np.float32),)
    for shape in ((2, 0), (0, 0), (2**40, 0)):
        (y,) = run_node(
            Node(op, ["x", "w"][: 1 + len(weights)], ["y"], {}, "the_node"),
            [np.zeros(shape, np.float32), *weights],
        )
        assert y.shape == shape
