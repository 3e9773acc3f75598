"""Channels last: the same results, with the Transposes that cannot be avoided and no others."""

import numpy as np
import pytest

from reference import graph as reference
from reference.graph import graph_of
from support.graphs import assert_same, laid_out, numbers, operators
from treadle.graph import Graph, Node, Value
from treadle.graph.layout import orders, relayout
from treadle.graph.shapes import infer
from treadle.graph.simplify import simplify

RANDOM = np.random.default_rng(17)
IMAGE = ("n", 4, 8, 6)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype("f")


def conv(x, y, weight="w", **attributes):
    return Node("Conv", [x, weight], [y], attributes)


def same(name, x, y, *rest, **attributes):
    return Node(name, [x, *rest], [y], attributes)


SAME = {"pads": [1, 1, 1, 1]}
WEIGHTS = {"w": normal(4, 4, 3, 3), "p": normal(4, 4, 1, 1)}


def transposes(nodes, constants=None, shape=IMAGE, outputs=("y",)):
    """How many Transposes are left between two that the graph's borders need."""
    graph = graph_of(nodes, [("x", shape)], list(outputs), {**WEIGHTS, **(constants or {})})
    result = laid_out(graph)
    assert_same(graph, result)
    return operators(result).count("Transpose")


def between(*nodes):
    """A convolution before and one behind nodes from a to b."""
    return [conv("x", "a", **SAME), *nodes, conv("b", "y", **SAME)]


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([same("Relu", "a", "b")], {}),
        ([same("Sigmoid", "a", "s"), same("Mul", "a", "b", "s")], {}),
        ([same("Add", "a", "b", "k")], {"k": normal(4, 1, 1)}),
        ([same("Mul", "k", "b", "a")], {"k": normal(1, 4, 1, 1)}),
        ([same("Add", "a", "b", "k")], {"k": normal(8, 1)}),
        ([same("Add", "a", "b", "k")], {"k": normal(6)}),
        ([same("Add", "a", "b", "k")], {"k": np.float32(2)}),
        ([same("Clip", "a", "b", "k", "")], {"k": np.float32(0)}),
        ([same("MaxPool", "a", "b", kernel_shape=[2, 2])], {}),
        ([same("AveragePool", "a", "b", kernel_shape=[3, 2], strides=[2, 1])], {}),
        ([same("Resize", "a", "b", "", "k")], {"k": np.float32([1, 1, 2, 2])}),
        ([same("Resize", "a", "b", "", "", "k")], {"k": np.array([1, 4, 16, 12])}),
        ([same("InstanceNormalization", "a", "b", "k", "k")], {"k": normal(4)}),
        ([same("Pad", "a", "b", "k")], {"k": np.array([0, 0, 1, 2, 0, 0, 3, 0])}),
        ([same("Pad", "a", "b", "k", "", "i")], {"k": np.array([1, 3]), "i": np.array([-1])}),
        ([same("Slice", "a", "b", "k", "e", "i")],
         {"k": np.array([1, 0]), "e": np.array([7, 5]), "i": np.array([2, 3])}),
        ([same("Concat", "a", "c", "a", axis=1), same("Slice", "c", "b", "k", "e", "i")],
         {"k": np.array([2]), "e": np.array([6]), "i": np.array([1])}),
        ([Node("Split", ["a"], ["c", "d"], {"axis": 1, "num_outputs": 2}),
          same("Concat", "d", "b", "c", axis=-3)], {}),
        ([same("ReduceMean", "a", "c", "i"), same("Mul", "a", "b", "c")],
         {"i": np.array([2, 3])}),
        ([same("GlobalAveragePool", "a", "c"), conv("c", "d", "p"), same("Sigmoid", "d", "e"),
          same("Mul", "a", "b", "e")], {}),
        ([same("GlobalMaxPool", "a", "c"), same("Squeeze", "c", "d", "i"),
          same("Unsqueeze", "d", "e", "i"), same("Mul", "e", "b", "a")],
         {"i": np.array([2, 3])}),
        ([conv("a", "c", **SAME), same("Add", "a", "b", "c")], {}),
        ([same("Transpose", "a", "c", perm=[0, 2, 3, 1]), same("Exp", "c", "d"),
          same("Transpose", "d", "b", perm=[0, 3, 1, 2])], {}),
        ([Node("ConvTranspose", ["a", "w", "k"], ["b"], {"strides": [2, 2]})], {"k": normal(4)}),
    ],
)  # fmt: skip
def test_nothing_is_transposed_within(nodes, constants):
    """A Transpose before the first convolution and one behind the last are all."""
    assert transposes(between(*nodes), constants) == 2


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        # to the front and back again, which is needed
        ([same("Softmax", "a", "b", axis=3)], 4),
        ([same("Transpose", "a", "b", perm=[0, 1, 3, 2])], 3),
        # the graph's own input comes channels first: one Transpose serves both of its readers
        ([same("Add", "a", "b", "x")], 2),
    ],
)
def test_what_must_be_transposed(nodes, expected):
    assert transposes(between(*nodes), shape=("n", 4, 6, 6)) == expected


def test_outputs_come_as_the_file_says():
    """An output within the net is transposed for the caller alone."""
    nodes = between(same("Relu", "a", "b"))
    assert transposes(nodes, outputs=("y", "b")) == 3


def test_one_transpose_serves_many():
    nodes = [
        conv("x", "a", **SAME),
        same("Softmax", "a", "c", axis=2),
        same("Softmax", "a", "d", axis=3),
        same("Concat", "c", "y", "d", axis=1),
    ]
    assert transposes(nodes) == 2


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_softmax_of_channels_stays_channels_last(axis):
    expected = 2 if axis == 1 else 4
    assert transposes(between(same("Softmax", "a", "b", axis=axis))) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ([0, 4, -1], 0),  # channels stay apart
        ([0, -1], 1),  # channels are mixed with places
        ([0, 4, 4, 2, 6], 1),  # one axis becomes two
        ([-1, 8, 6], 1),  # rows of the batch are mixed with channels
    ],
)
def test_reshape(target, expected):
    """What follows a convolution reads the channels last: Transpose, then a product."""
    nodes = [
        conv("x", "a", **SAME),
        same("Reshape", "a", "b", "t"),
        same("Exp", "b", "c"),
    ]
    rank = len(target)
    order = [0, *range(2, rank), 1] if rank > 2 else [0, 1]
    nodes.append(same("Transpose", "c", "y", perm=order))
    constants = {"t": np.array(target)}
    graph = graph_of(nodes, [("x", IMAGE)], ["y"], {**WEIGHTS, **constants})
    result = laid_out(graph)
    assert_same(graph, result)
    inside = operators(result).count("Transpose") - 1  # that before the convolution
    assert inside == expected + (expected and rank > 2)


def test_sequences_of_one_dimension():
    """silero's net: Unsqueeze, an STFT, convolutions, and the last place."""
    constants = {
        "one": np.array([1]),
        "stft": normal(6, 1, 8),
        "w1": normal(5, 6, 3),
        "w2": normal(7, 5, 3),
        "last": np.int64(-1),
    }
    nodes = [
        same("Unsqueeze", "x", "a", "one"),
        conv("a", "b", "stft", strides=[4]),
        conv("b", "c", "w1", pads=[1, 1]),
        same("Relu", "c", "d"),
        conv("d", "e", "w2", pads=[1, 1], strides=[2]),
        same("Gather", "e", "y", "last", axis=2),
    ]
    for shape in (("n", "t"), ("n", 40)):
        graph = graph_of(nodes, [("x", shape)], ["y"], constants)
        result = laid_out(graph)
        assert_same(graph, result, inputs={"x": normal(3, 40)})
        assert "Transpose" not in operators(result)


def test_shape_of_a_value_that_lies_otherwise():
    """Shape gives the sizes of the value, not those of what lies in memory."""
    nodes = [
        conv("x", "a", **SAME),
        same("Shape", "a", "y"),
        same("Shape", "a", "z", start=1, end=3),
        same("Size", "a", "s"),
    ]
    assert transposes(nodes, shape=("n", 4, "h", "w"), outputs=("y", "z", "s")) == 1


def test_recurrent_layers_take_either_order():
    weights = {"ih": normal(3, 4), "hh": normal(3, 3)}
    names = ["0.weight_ih", "0.weight_hh"]
    attributes = {"mode": "rnn", "hidden_size": 3, "input_size": 4, "weights": names, "bias": 0}
    nodes = [
        conv("x", "a", "k", pads=[1, 1]),
        same("Transpose", "a", "b", perm=[2, 0, 1]),
        Node("treadle.Recurrent", ["b", "", "", "", "ih", "hh"], ["c"], attributes),
        same("Transpose", "c", "d", perm=[1, 2, 0]),
        conv("d", "y", "k3", pads=[1, 1]),
    ]
    constants = {**weights, "k": normal(4, 4, 3), "k3": normal(2, 3, 3)}
    graph = graph_of(nodes, [("x", ("n", 4, "t"))], ["y"], constants)
    known = infer(graph)
    relayout(graph, known)
    simplify(graph, known)
    assert operators(graph) == [
        "Transpose", "treadle.Conv", "treadle.Recurrent", "treadle.Conv", "Transpose",
    ]  # fmt: skip
    assert graph.nodes[2].attributes["batch_first"] == 1


@pytest.mark.parametrize(
    ("node", "shape", "constants"),
    [
        (Node("Conv", ["x", "w"], ["y"]), IMAGE, {"w": normal(4, 4, 3)}),  # ranks differ
        (Node("GlobalMaxPool", ["x"], ["y"]), None, {}),
        (Node("Conv", ["x", "w"], ["y"]), (2, 4, 5, 5, 5), {"w": normal(4, 4, 3, 3, 3)}),
        (Node("Conv", ["x", "w"], ["y"], {"kernel_shape": [2, 2]}), IMAGE, WEIGHTS),
        (Node("Resize", ["x", "", "s"], ["y"], {"axes": [2]}), IMAGE, {"s": np.float32([2])}),
        (Node("MaxPool", ["x"], ["y", "i"], {"kernel_shape": [2, 2]}), IMAGE, {}),
    ],
)
def test_what_has_no_form_with_channels_last_stays(node, shape, constants):
    graph = graph_of([node], [("x", shape)], ["y", "i"][: len(node.outputs)], constants)
    relayout(graph, infer(graph))
    assert operators(graph) == [node.op]


def test_a_weight_that_is_an_input():
    graph = graph_of([conv("x", "y", "v")], [("x", IMAGE), ("v", (4, 4, 3, 3))], ["y"])
    assert operators(laid_out(graph)) == ["Conv"]


def test_branches():
    """Branches read a value as the file has it; convolutions within work channels last."""
    then = Graph(
        [],
        [Value("t", "float32", None)],
        [conv("a", "u", **SAME), same("Relu", "u", "s"), conv("s", "t", **SAME)],
        {},
    )
    other = Graph([], [Value("e", "float32", None)], [same("Exp", "a", "e")], {})
    nodes = [
        conv("x", "a", **SAME),
        Node("If", ["c"], ["y"], {"then_branch": then, "else_branch": other}),
    ]
    graph = graph_of(nodes, [("x", IMAGE), ("c", (), "bool")], ["y"], WEIGHTS)
    result = laid_out(graph)
    branch = result.nodes[-1].attributes["then_branch"]
    assert operators(branch) == ["Transpose", "treadle.Conv", "Relu", "treadle.Conv", "Transpose"]
    for condition in (True, False):
        assert_same(graph, result, inputs={**numbers(graph), "c": np.array(condition)})


def test_malformed_nodes_are_left_to_their_operators():
    for node in (
        same("Concat", "a", "y", "a", axis=9),
        same("Squeeze", "a", "y", "i"),
        same("Slice", "a", "y", "i"),
        same("Gather", "a", "y", "i", axis=7),
        same("Unsqueeze", "a", "y", "i"),
        same("Split", "a", "y", axis=-9),
        same("Softmax", "a", "y", axis=12),
        same("Transpose", "a", "y", perm=[0, 0, 1, 1]),
    ):
        graph = graph_of(
            [conv("x", "a"), node], [("x", IMAGE)], ["y"], {**WEIGHTS, "i": np.array([9, 9])}
        )
        relayout(graph, infer(graph))
        assert graph.nodes[-1].op == node.op
        assert graph.nodes[-1].inputs == node.inputs


# ---- random nets -------------------------------------------------------------------------------


def random_net(random):
    """A net of random layers over [n, 4, 8, 6] and values of its shape or one place of it."""
    full, one, nodes, constants = ["x"], [], [], {**WEIGHTS, "axes": np.array([2, 3])}
    for number in range(int(random.integers(3, 12))):
        name, kind = f"v{number}", int(random.integers(9))
        a, b = (full[int(i)] for i in random.integers(0, len(full), 2))
        if kind == 0:
            nodes.append(conv(a, name, **SAME))
        elif kind == 1:
            nodes.append(same("Tanh", a, name))
        elif kind == 2:
            nodes.append(same("Mul", a, name, b))
        elif kind == 3:
            constants[f"k{number}"] = normal(*[(4, 1, 1), (8, 1), (6,), (1, 4, 8, 6)][number % 4])
            nodes.append(same("Add", a, name, f"k{number}"))
        elif kind == 4:
            nodes.append(same("GlobalAveragePool", a, name))
            one.append(name)
            continue
        elif kind == 5 and one:
            nodes.append(same("Mul", one[int(random.integers(len(one)))], name, a))
        elif kind == 6:
            nodes.append(
                Node("Split", [a], [f"{name}a", f"{name}b"], {"axis": 1, "num_outputs": 2})
            )
            nodes.append(same("Concat", f"{name}b", name, f"{name}a", axis=1))
        elif kind == 7:
            nodes.append(same("Transpose", a, f"{name}t", perm=[0, 2, 3, 1]))
            nodes.append(same("Softmax", f"{name}t", f"{name}s", axis=-1))
            nodes.append(same("Transpose", f"{name}s", name, perm=[0, 3, 1, 2]))
        elif kind == 8:
            nodes.append(same("ReduceMax", a, f"{name}r", "axes", keepdims=0))
            nodes.append(same("Unsqueeze", f"{name}r", f"{name}u", "axes"))
            nodes.append(same("Sub", a, name, f"{name}u"))
        else:
            nodes.append(same("Relu", a, name))
        full.append(name)
    return graph_of(nodes, [("x", IMAGE)], [full[-1]], constants)


@pytest.mark.parametrize("seed", range(60))
def test_random_nets(seed):
    graph = random_net(np.random.default_rng(seed))
    assert_same(graph, laid_out(graph))


@pytest.mark.parametrize("seed", range(20))
def test_orders(seed):
    random = np.random.default_rng(seed)
    u = random.standard_normal([2, 3, 4, 5])
    p, q = (tuple(int(i) for i in random.permutation(4)) for _ in range(2))
    v = u.transpose(p)
    assert v.transpose(orders.inverse(p)).shape == u.shape
    np.testing.assert_array_equal(v.transpose(q), u.transpose(orders.then(p, q)))
    axes = [int(a) for a in random.permutation(4)[:2]]
    kept = u.mean(tuple(p[axis] for axis in axes)).transpose(orders.without(p, axes))
    np.testing.assert_allclose(kept, v.mean(tuple(axes)))
    new = tuple(int(a) for a in random.permutation(6)[:2])
    wide = np.expand_dims(u, new).transpose(orders.with_new(p, new))
    np.testing.assert_array_equal(wide, np.expand_dims(v, new))
    assert reference.OPERATORS["Transpose"]({"perm": list(p)}, u).shape == v.shape
